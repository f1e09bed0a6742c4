"""What a run leaves behind so that it can go on, or be used: one folder per checkpoint.

`state.pt` holds tensors and numbers only (loaded with `weights_only`, so that a checkpoint from a
stranger runs no code); `run.json` holds everything a person may want to read.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from emoray import config as configs
from emoray import methods
from emoray.storage import Storage

STATE_FILE = "state.pt"
RUN_FILE = "run.json"
PREFIX = "step-"
"""Of a checkpoint's folder in a run's, before the steps done, in eight digits."""
FORMAT = 1
"""Raised when an older reader could no longer make sense of the files."""

HISTORY = ("loss", "gradient_norm", "learning_rate", "step_s", "wait_s")
"""Columns kept for every step of a run."""


class CheckpointError(ValueError):
    """A checkpoint that cannot be what was asked for; says which file and what differs."""


@dataclass(frozen=True)
class State:
    """Where a run stands after `step` steps.

    Masks, augmentations and plan are functions of (seed, step, place in the batch), so no random
    state has to be kept: what is drawn at step 4711 does not depend on how it was reached.
    """

    step: int
    """Steps done since the start of the run; the next batch is the plan's row `step`."""
    model: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]
    history: Mapping[str, list[float]] = field(default_factory=dict)
    """`HISTORY` columns, one value a step."""


def save(folder: Path, state: State, run: Mapping[str, Any]) -> None:
    """Write a checkpoint into a folder that a reader does not yet know of.

    Args:
        folder: made if absent.
        state: tensors may lie on any device.
        run: JSON-able facts: config, corpus digest, what was seen, versions.
    """
    folder.mkdir(parents=True, exist_ok=True)
    history = {name: torch.tensor(v, dtype=torch.float64) for name, v in state.history.items()}
    torch.save(
        {
            "step": state.step,
            "model": dict(state.model),
            "optimizer": dict(state.optimizer),
            "history": history,
        },
        folder / STATE_FILE,
    )
    size = (folder / STATE_FILE).stat().st_size
    facts = {"format": FORMAT, "step": state.step, "state_bytes": size, **run}
    (folder / RUN_FILE).write_text(json.dumps(facts, indent=2) + "\n")


def latest_whole(run_folder: Storage) -> str | None:
    """Name of a run's last checkpoint that arrived completely; None where there is none.

    Looks at the files themselves: a checkpoint may have arrived without the cluster living long
    enough to register it, and one that is being copied when a process dies is there in part.
    """
    for name in sorted(run_folder.folders(), reverse=True):
        if name.startswith(PREFIX) and _is_whole(run_folder.sub(name)):
            return name
    return None


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
    """The readable half of a checkpoint.

    Raises:
        CheckpointError: not a checkpoint, or of another format.
    """
    path = folder / RUN_FILE
    try:
        facts: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: need a checkpoint of emoray, got {error}") from error
    if facts.get("format") != FORMAT:
        raise CheckpointError(f"{path}: need format {FORMAT}, got {facts.get('format')}")
    return facts


def load(folder: Path, *, like: Mapping[str, Any] | None = None) -> State:
    """Read a checkpoint back, tensors on the CPU.

    Args:
        folder: as `save` left it.
        like: facts that the checkpoint's `run.json` must agree with, by key.

    Raises:
        CheckpointError: damaged, of another format, or of another model, config or corpus.
    """
    facts = describe(folder)
    for key, wanted in (like or {}).items():
        difference = _difference(wanted, facts.get(key), key)
        if difference:
            raise CheckpointError(f"{folder}: checkpoint of another run: {difference}")
    path = folder / STATE_FILE
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        history = {name: column.tolist() for name, column in stored.pop("history").items()}
    except (OSError, RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
        said = str(error).partition("\n")[0]
        raise CheckpointError(f"{path}: need a whole checkpoint, got {said}") from error
    return State(history=history, **stored)


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


def load_trained(folder: str | Path) -> torch.nn.Module:
    """The module of a checkpoint, built by its own settings, in evaluation mode on the CPU.

    Args:
        folder: one of a run's `step-...` folders.

    Raises:
        CheckpointError: not a checkpoint, damaged, or of a model that this code no longer builds.
    """
    folder = Path(folder).expanduser()
    facts = describe(folder)
    kind = methods.get(facts["method"]).STAGES[facts["stage"]]
    stage = kind(configs.from_dict(kind.config_type, facts["config"]))
    module: torch.nn.Module = stage.build()
    load_model(folder, module)
    return module.eval()


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
