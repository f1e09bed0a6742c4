"""What a run leaves behind so that it can go on, or be used: one folder per checkpoint.

`state.pt` holds tensors and numbers only (loaded with `weights_only`, so that a checkpoint from a
stranger runs no code); `run.json` holds everything a person may want to read. The two are bound:
`state.pt` keeps a digest of what `run.json` said when they were written, so that an account of
whom the weights saw cannot be changed, emptied or exchanged by mistake and still be believed. That
guards against error and self-deception; who writes both files anew can say what they like.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import pickle
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from emoray import methods
from emoray.batches import distributed
from emoray.corpus.fingerprints import Seen, Signals
from emoray.methods.base import Inputs, Stage
from emoray.runtime import config as configs
from emoray.runtime.storage import Storage

STATE_FILE = "state.pt"
RUN_FILE = "run.json"
PREFIX = "step-"
"""Of a checkpoint's folder in a run's, before the steps done, in eight digits."""
FORMAT = 3
"""Raised when an older reader could no longer make sense of the files. Of 1, nothing bound
`run.json` to the weights: whom those saw is anybody's guess. 2 had no key of its run."""

HISTORY = ("loss", "gradient_norm", "learning_rate", "step_s", "wait_s")
"""Columns kept for every step of a run."""


class CheckpointError(ValueError):
    """A checkpoint that cannot be what was asked for; says which file and what differs."""


@dataclass(frozen=True)
class Best:
    """The epoch that scores highest so far."""

    epoch: int
    """Counted from 0."""
    scores: tuple[float, ...]
    """Of every epoch so far."""
    model: Mapping[str, Tensor]
    """Weights after the best one, on the CPU."""


@dataclass(frozen=True)
class State:
    """Where a run stands after `step` steps.

    Masks, augmentations and plan are functions of (seed, step, place in the batch), so no random
    state has to be kept: what is drawn at step 4711 does not depend on how it was reached. Sums do
    depend on threads and workers, in their last bits: with as many of both a run goes on bit for
    bit, with others to rounding.
    """

    step: int
    """Steps done since the start of the run; the next batch is the plan's row `step`."""
    model: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]
    history: Mapping[str, list[float]] = field(default_factory=dict)
    """`HISTORY` columns, one value a step."""
    best: Best | None = None
    """Where epochs are scored."""


def save(folder: Path | Storage, state: State, run: Mapping[str, Any]) -> None:
    """Write a checkpoint: weights first, then what says how long their file is.

    Args:
        folder: made if absent.
        state: tensors may lie on any device.
        run: JSON-able facts: config, corpus digest, what was seen, versions.

    Raises:
        OSError: the disk is full, or cannot be written; says which file it was.
    """
    facts = json.loads(json.dumps({"step": state.step, **run}))
    content = io.BytesIO()  # of a file that cannot be written torch says "unexpected pos"
    history = {name: torch.tensor(v, dtype=torch.float64) for name, v in state.history.items()}
    torch.save(
        {
            "step": state.step,
            "model": dict(state.model),
            "optimizer": dict(state.optimizer),
            "history": history,
            "best": None if state.best is None else asdict(state.best),
            "facts": _digest(facts),
        },
        content,
    )
    whole = {"format": FORMAT, "state_bytes": content.getbuffer().nbytes, **facts}
    place = Storage.at(folder)
    place.write_bytes(STATE_FILE, content.getvalue())
    place.write_bytes(RUN_FILE, (json.dumps(whole, indent=2) + "\n").encode())


def _digest(facts: Mapping[str, Any]) -> str:
    """Of all that a checkpoint says of itself, but for format and length of its files."""
    bound = {name: fact for name, fact in facts.items() if name not in ("format", "state_bytes")}
    return hashlib.sha256(configs.canonical_json(bound).encode()).hexdigest()


def latest_whole(run_folder: Storage) -> str | None:
    """Name of a run's last checkpoint that arrived completely; None where there is none.

    Looks at the files themselves: a checkpoint may have arrived without the cluster living long
    enough to register it, and one that is being copied when a process dies is there in part.
    """
    for name in sorted(run_folder.folders(), reverse=True):
        if name.startswith(PREFIX) and _is_whole(run_folder.sub(name)):
            return name
    return None


def sweep(run_folder: Storage, *, keep: int) -> None:
    """Remove a run's checkpoints but for the last whole ones, and what is there in part."""
    names = [name for name in sorted(run_folder.folders()) if name.startswith(PREFIX)]
    kept = [name for name in names if _is_whole(run_folder.sub(name))][-keep:]
    for name in names:
        if name not in kept:
            run_folder.filesystem.delete_dir(run_folder.path(name))


def _is_whole(folder: Storage) -> bool:
    text = folder.read(RUN_FILE)
    if not text:
        return False
    try:
        expected = json.loads(text).get("state_bytes")
    except ValueError:  # cut off
        return False
    return bool(folder.files().get(STATE_FILE) == expected)


def describe(folder: Path) -> dict[str, Any]:
    """The readable half of a checkpoint, as it was when the weights were written.

    Raises:
        CheckpointError: not a checkpoint, damaged, of another format, or changed since.
    """
    facts = _facts(folder)
    _check_bound(folder, facts, _stored(folder, mmap=True))
    return facts


def _facts(folder: Path) -> dict[str, Any]:
    path = folder / RUN_FILE
    try:
        facts = json.loads(path.read_text())
        version = facts.get("format")
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path}: need a checkpoint of emoray, got {error}") from error
    if version == 1:
        raise CheckpointError(
            f"{path}: need format {FORMAT}, got 1, in which nothing binds the account of whom it "
            "saw to its weights: train it again"
        )
    if version != FORMAT:
        raise CheckpointError(f"{path}: need format {FORMAT}, got {version}")
    return dict(facts)


def _stored(folder: Path, *, mmap: bool = False) -> dict[str, Any]:
    """What `state.pt` holds; with `mmap` nothing of a tensor is read."""
    path = folder / STATE_FILE
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
        if not isinstance(stored, dict):
            raise ValueError(f"{type(stored).__name__} in it")
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        said = str(error).partition("\n")[0]
        raise CheckpointError(f"{path}: need a whole checkpoint, got {said}") from error
    return stored


def _check_bound(folder: Path, facts: Mapping[str, Any], stored: Mapping[str, Any]) -> None:
    if stored.get("facts") != _digest(facts):
        raise CheckpointError(
            f"{folder / RUN_FILE}: need it as it was written beside {STATE_FILE}, got another: "
            "what it says of its weights, and of whom they saw, was changed since"
        )


def account(folder: str | Path | Storage, facts: Mapping[str, Any]) -> tuple[Seen, Signals]:
    """Whom and what a checkpoint's weights saw, and the fingerprints of those recordings.

    Args:
        folder: where it lies, for the message.
        facts: of its `run.json`.

    Raises:
        CheckpointError: it says nothing of it, or that they saw nobody, which no training does.
    """
    seen, signals = facts.get("seen"), facts.get("signals")
    if not isinstance(seen, Mapping) or not isinstance(signals, Mapping):
        absent = "seen" if not isinstance(seen, Mapping) else "signals"
        raise CheckpointError(
            f"{folder}: need an account of whom its weights saw, got no {absent!r} in {RUN_FILE}"
        )
    if not any(shown for subjects in seen.values() for shown in subjects.values()):
        raise CheckpointError(f"{folder}: need an account of whom its weights saw, got nobody")
    return seen, signals


def copy(checkpoint: Storage, to: Storage) -> None:
    """Put a whole checkpoint into another folder as well, beside what lies there; what says how
    long the weights' file is comes last."""
    with local(checkpoint) as folder:
        for name in (STATE_FILE, RUN_FILE):
            to.write_bytes(name, (folder / name).read_bytes())


def load(folder: Path, *, like: Mapping[str, Any] | None = None) -> State:
    """Read a checkpoint back, tensors on the CPU.

    Args:
        folder: as `save` left it.
        like: facts that the checkpoint's `run.json` must agree with, by key.

    Raises:
        CheckpointError: damaged, of another format, of another model, config or corpus, or with
            an account that was changed since.
    """
    facts = _facts(folder)
    for key, wanted in (like or {}).items():
        difference = _difference(wanted, facts.get(key), key)
        if difference:
            raise CheckpointError(f"{folder}: checkpoint of another run: {difference}")
    stored = _stored(folder)
    _check_bound(folder, facts, stored)
    try:
        history = {name: column.tolist() for name, column in stored["history"].items()}
        best = None if stored["best"] is None else Best(**stored["best"])
        return State(stored["step"], stored["model"], stored["optimizer"], history, best)
    except (AttributeError, KeyError, TypeError) as error:
        path = folder / STATE_FILE
        raise CheckpointError(f"{path}: need a whole checkpoint, got {error!r}") from error


@contextlib.contextmanager
def local(folder: Storage) -> Iterator[Path]:
    """A checkpoint's folder on this machine, copied for the time being where it is remote.

    Raises:
        CheckpointError: a file of it is missing.
    """
    if folder.is_local:
        yield Path(folder.root)
        return
    with tempfile.TemporaryDirectory() as copy:
        for name in (RUN_FILE, STATE_FILE):
            content = folder.read(name)
            if content is None:
                raise CheckpointError(f"{folder}: need a checkpoint of emoray, got no {name}")
            Path(copy, name).write_bytes(content)
        yield Path(copy)


def name_of(step: int) -> str:
    """Of the folder of a run's checkpoint after so many steps."""
    return f"{PREFIX}{step:08d}"


class FolderCheckpoints:
    """Checkpoints of a run below a folder: rank 0 writes, all workers wait for it.

    Args:
        folder: the run's own.
        facts: what each says of itself beside its tensors.
        like: which of them the state to go on from must share.
        keep: how many of the last are kept.
    """

    def __init__(
        self, folder: Storage, facts: Mapping[str, Any], *, like: Sequence[str], keep: int = 1
    ) -> None:
        self._folder = folder
        self._facts = facts
        self._like = like
        self._keep = keep

    def latest(self) -> State | None:
        """The last whole state.

        Raises:
            CheckpointError: it is of another run.
        """
        name = latest_whole(self._folder)
        if name is None:
            return None
        with local(self._folder.sub(name)) as copy:
            return load(copy, like={key: self._facts[key] for key in self._like})

    def save(self, state: State) -> None:
        """Keep a state and let go of earlier ones."""
        if distributed.rank() == 0:
            save(self._folder.sub(name_of(state.step)), state, self._facts)
            with contextlib.suppress(OSError):  # the run needs none of what lies there still
                sweep(self._folder, keep=self._keep)
        distributed.barrier()


def load_model(folder: Path, module: torch.nn.Module) -> None:
    """Put a checkpoint's weights into a module of the same architecture.

    Raises:
        CheckpointError: of another model; names the first parameter that differs.
    """
    stored = load(folder).model
    wanted = module.state_dict()
    for name in sorted(set(stored) | set(wanted)):
        need = tuple(wanted[name].shape) if name in wanted else "no such parameter"
        got = tuple(stored[name].shape) if name in stored else "no such parameter"
        if need != got:
            raise CheckpointError(
                f"{folder}: checkpoint of another model: {name} needs {need}, got {got}"
            )
    module.load_state_dict(stored)


def load_trained(location: str | Path) -> torch.nn.Module:
    """The module of a checkpoint, built by its own settings, in evaluation mode on the CPU.

    Args:
        location: one of a run's `step-...` folders: a path, `~` allowed, or the URI that a job
            printed.

    Raises:
        CheckpointError: not a checkpoint, damaged, or of a model that this code no longer builds.
        ValueError: the URI's file system cannot be reached.
    """
    return reload(location).module


@dataclass(frozen=True)
class Reloaded:
    """A trained stage as its checkpoint says it is."""

    stage: Stage
    """Without its starts: their weights are in the module."""
    module: torch.nn.Module
    """In evaluation mode, on the CPU."""
    facts: Mapping[str, Any]
    """Of its `run.json`."""


def reload(location: str | Path) -> Reloaded:
    """As `load_trained`, with the stage and what the checkpoint says of itself."""
    with local(Storage.at(location)) as folder:
        facts = describe(folder)
        kind = methods.stage(facts["method"], facts["stage"])
        inputs = configs.from_dict(Inputs, facts.get("inputs", {}))
        stage = kind(configs.from_dict(kind.config_type, facts["config"]), inputs, {})
        module: torch.nn.Module = stage.build()
        load_model(folder, module)
        return Reloaded(stage, module.eval(), facts)


def _difference(wanted: Any, got: Any, path: str) -> str | None:
    """First place where two JSON values differ, in words; None where they agree."""
    if isinstance(wanted, Mapping) and isinstance(got, Mapping):
        for key in sorted(set(wanted) | set(got)):
            found = _difference(wanted.get(key), got.get(key), f"{path}.{key}")
            if found:
                return found
        return None
    same = json.dumps(wanted, default=list) == json.dumps(got, default=list)
    return None if same else f"{path} needs {wanted!r}, got {got!r}"
