"""A checkpoint comes back whole, or says what is wrong with it."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pyarrow import fs
from torch import nn

from emoray.methods.base import InputSpec
from emoray.methods.emod.config import EncoderConfig, FinetuneConfig
from emoray.methods.emod.method import Finetuning
from emoray.runtime.config import to_dict
from emoray.runtime.storage import HashingFile, Storage
from emoray.training import checkpoint
from emoray.training.checkpoint import HISTORY, Best, CheckpointError, FolderCheckpoints, State
from tests.disks import full_disk
from tests.groups import eeg_group, inputs_of

FACTS = {"method": "emod", "config": {"loss": {"d_max": 5.0}}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    module = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(module.parameters())
    module(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    history = {name: [0.5, 0.25] for name in HISTORY}
    state = State(2, module.state_dict(), optimizer.state_dict(), history)
    checkpoint.save(tmp_path / "c", state, FACTS)
    return tmp_path / "c"


def test_a_state_comes_back_bit_for_bit(tmp_path: Path) -> None:
    module = nn.Linear(3, 2).double()
    optimizer = torch.optim.AdamW(module.parameters())
    module(torch.ones(1, 3).double()).sum().backward()
    optimizer.step()
    history = {name: [0.1, 1 / 3] for name in HISTORY}
    state = State(2, module.state_dict(), optimizer.state_dict(), history)
    checkpoint.save(tmp_path, state, FACTS)
    found = checkpoint.load(tmp_path, like=FACTS)
    assert found.step == 2
    assert found.history == history
    for name, weights in module.state_dict().items():
        assert torch.equal(found.model[name], weights)
    moments = found.optimizer["state"][0]["exp_avg"]
    assert torch.equal(moments, optimizer.state_dict()["state"][0]["exp_avg"])


def test_a_checkpoint_of_another_config_is_refused_by_the_field_that_differs(folder: Path) -> None:
    like = {"method": "emod", "config": {"loss": {"d_max": 4.0}}}
    with pytest.raises(CheckpointError, match=r"config\.loss\.d_max needs 4\.0, got 5\.0"):
        checkpoint.load(folder, like=like)


def test_a_checkpoint_of_another_model_is_refused_by_the_parameter_that_differs(
    folder: Path,
) -> None:
    with pytest.raises(
        CheckpointError, match=r"another model: weight needs \(2, 5\), got \(2, 3\)"
    ):
        checkpoint.load_model(folder, nn.Linear(5, 2))
    with pytest.raises(CheckpointError, match=r"bias needs no such parameter, got \(2,\)"):
        checkpoint.load_model(folder, nn.Linear(3, 2, bias=False))


def test_a_cut_off_state_is_refused(folder: Path) -> None:
    path = folder / checkpoint.STATE_FILE
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=r"state\.pt: need a whole checkpoint"):
        checkpoint.load(folder)


def test_a_folder_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"run\.json: need a checkpoint of emoray"):
        checkpoint.load(tmp_path)


def test_a_checkpoint_of_another_format_is_refused(folder: Path) -> None:
    path = folder / checkpoint.RUN_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    with pytest.raises(CheckpointError, match=r"need format 3, got 99"):
        checkpoint.load(folder)


def test_a_checkpoint_whose_account_nothing_binds_is_refused_with_what_to_do(folder: Path) -> None:
    """As the first format was: `run.json` beside a `state.pt` that knows nothing of it."""
    state = torch.load(folder / checkpoint.STATE_FILE, weights_only=True)
    torch.save({k: v for k, v in state.items() if k != "facts"}, folder / checkpoint.STATE_FILE)
    edit(folder, lambda facts: {**facts, "format": 1})
    for read in (checkpoint.describe, checkpoint.load):
        with pytest.raises(CheckpointError, match="whom it saw to its weights: train it again"):
            read(folder)
    edit(folder, lambda facts: {**facts, "format": checkpoint.FORMAT})
    for read in (checkpoint.describe, checkpoint.load):
        with pytest.raises(CheckpointError, match="of whom they saw, was changed since"):
            read(folder)


# Whom it saw -------------------------------------------------------------------------------------

SEEN = {"seed": {"03": ["09"]}, "deap": {"01": ["07"]}}
SIGNALS = {"deap-s01-v1": ["0123456789abcdef"]}


def edit(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """As a person does with an editor: `state.pt` stays as it is."""
    path = folder / checkpoint.RUN_FILE
    path.write_text(json.dumps(change(json.loads(path.read_text())), indent=2))


EDITS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "emptied": lambda facts: {**facts, "seen": {}},
    "dataset renamed": lambda facts: {**facts, "seen": {"dreamer": facts["seen"]["seed"]}},
    "subject gone": lambda facts: {**facts, "seen": {**facts["seen"], "seed": {}}},
    "left out": lambda facts: {name: fact for name, fact in facts.items() if name != "seen"},
    "fingerprint gone": lambda facts: {**facts, "signals": {}},
    "other settings": lambda facts: {**facts, "config": {"loss": {"d_max": 4.0}}},
    "other step": lambda facts: {**facts, "step": 3},
}


@pytest.mark.parametrize("what", EDITS)
def test_an_account_that_was_changed_is_refused_in_one_line(tmp_path: Path, what: str) -> None:
    facts = {**FACTS, "seen": SEEN, "signals": SIGNALS}
    checkpoint.save(tmp_path, state_at(2), facts)
    assert checkpoint.account(tmp_path, checkpoint.describe(tmp_path)) == (SEEN, SIGNALS)
    edit(tmp_path, EDITS[what])
    for read in (checkpoint.describe, checkpoint.load):
        with pytest.raises(CheckpointError, match="was changed since") as raised:
            read(tmp_path)
        assert str(raised.value).startswith(f"{tmp_path / checkpoint.RUN_FILE}: ")
        assert "\n" not in str(raised.value)


def test_another_layout_of_the_same_facts_is_the_same_account(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, state_at(2), {**FACTS, "seen": SEEN, "signals": SIGNALS})
    path = tmp_path / checkpoint.RUN_FILE
    facts = json.loads(path.read_text())
    path.write_text(json.dumps(dict(reversed(facts.items()))))
    assert checkpoint.describe(tmp_path) == facts
    assert checkpoint.load(tmp_path).step == 2


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({}, r"got no 'seen' in run\.json"),
        ({"seen": []}, r"got no 'seen' in run\.json"),
        ({"seen": SEEN}, r"got no 'signals' in run\.json"),
        ({"seen": {}, "signals": {}}, "got nobody"),
        ({"seen": {"seed": {}}, "signals": {}}, "got nobody"),
    ],
)
def test_weights_that_say_nothing_of_whom_they_saw_are_refused(
    tmp_path: Path, facts: dict[str, Any], message: str
) -> None:
    checkpoint.save(tmp_path, state_at(2), facts)
    with pytest.raises(
        CheckpointError, match=f"need an account of whom its weights saw, {message}"
    ):
        checkpoint.account(tmp_path, checkpoint.describe(tmp_path))


def test_weights_of_another_checkpoint_do_not_pass_under_its_account(tmp_path: Path) -> None:
    for name, seen in (("a", SEEN), ("b", {"deap": {"02": ["07"]}})):
        checkpoint.save(tmp_path / name, state_at(2), {"seen": seen, "signals": {}})
    shutil.copy(tmp_path / "a" / checkpoint.STATE_FILE, tmp_path / "b" / checkpoint.STATE_FILE)
    with pytest.raises(CheckpointError, match="was changed since"):
        checkpoint.load(tmp_path / "b")


def test_a_checkpoint_that_arrived_in_part_is_passed_over(folder: Path, tmp_path: Path) -> None:
    runs = Storage.at(tmp_path / "runs")
    assert checkpoint.latest_whole(runs) is None
    for step in (7, 14, 21, 28):
        shutil.copytree(folder, tmp_path / "runs" / f"step-{step:08}")
    state = tmp_path / "runs/step-00000021" / checkpoint.STATE_FILE
    state.write_bytes(state.read_bytes()[:-1])
    (tmp_path / "runs/step-00000028" / checkpoint.RUN_FILE).unlink()
    assert checkpoint.latest_whole(runs) == "step-00000014"


class Payload:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.mark,))


def test_a_checkpoint_that_would_run_code_does_not(folder: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    torch.save({"model": Payload(mark)}, folder / checkpoint.STATE_FILE)
    with pytest.raises(CheckpointError, match=r"need a whole checkpoint"):
        checkpoint.load(folder)
    assert not mark.exists()


# Runs of one process -----------------------------------------------------------------------------


def state_at(step: int, *, best: Best | None = None) -> State:
    history = {name: [0.5] * step for name in HISTORY}
    return State(step, {"weight": torch.full((3,), float(step))}, {"state": {}}, history, best)


def near(folder: Path) -> Storage:
    return Storage.at(folder)


def far(folder: Path) -> Storage:
    """The same as a storage that cannot be mapped, as buckets cannot."""
    return Storage(fs.SubTreeFileSystem(str(folder), fs.LocalFileSystem()), "run")


@pytest.fixture(params=[near, far])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    place: Storage = request.param(tmp_path)
    return place


def checkpoints_of(run: Storage, key: str = "a") -> FolderCheckpoints:
    return FolderCheckpoints(run, {"key": key, "by": "tests"}, like=("key",))


def test_a_run_without_a_checkpoint_begins_anew(run: Storage) -> None:
    assert checkpoints_of(run).latest() is None
    assert checkpoints_of(run.sub("not there yet")).latest() is None


def test_a_run_keeps_its_last_checkpoint_alone(run: Storage) -> None:
    checkpoints = checkpoints_of(run)
    for step in (5, 10, 15):
        checkpoints.save(state_at(step))
        assert run.folders() == [f"step-{step:08}"]
        found = checkpoints_of(run).latest()
        assert found is not None
        assert found.step == step
        assert found.model["weight"].tolist() == [step] * 3
        assert found.history == state_at(step).history


def test_a_checkpoint_saved_again_is_still_there(run: Storage) -> None:
    checkpoints = checkpoints_of(run)
    checkpoints.save(state_at(5))
    checkpoints.save(state_at(5))
    found = checkpoints.latest()
    assert found is not None
    assert found.step == 5


@pytest.mark.parametrize("at", [checkpoint.STATE_FILE, checkpoint.RUN_FILE])
def test_a_write_that_is_interrupted_leaves_the_checkpoint_before(
    run: Storage, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = checkpoints_of(run)
    checkpoints.save(state_at(5))
    with monkeypatch.context() as patch:
        patch.setattr(Storage, "write", interrupted(at))
        with pytest.raises(KeyboardInterrupt):
            checkpoints.save(state_at(10))
    found = checkpoints_of(run).latest()
    assert found is not None
    assert found.step == 5
    checkpoints_of(run).save(state_at(10))
    found = checkpoints_of(run).latest()
    assert found is not None
    assert found.step == 10
    assert run.folders() == ["step-00000010"]


def interrupted(at: str) -> Any:
    """`Storage.write` of a process that ends as it begins to write `at`."""
    write = Storage.write

    @contextlib.contextmanager
    def stopped(self: Storage, name: str, *, n_bytes: int) -> Iterator[HashingFile]:
        if name == at:
            raise KeyboardInterrupt
        with write(self, name, n_bytes=n_bytes) as file:
            yield file

    return stopped


def test_the_checkpoint_of_another_run_is_refused(run: Storage) -> None:
    checkpoints_of(run, "a").save(state_at(5))
    with pytest.raises(CheckpointError, match="another run: key needs 'b', got 'a'"):
        checkpoints_of(run, "b").latest()


def test_the_best_epoch_comes_back_bit_for_bit(run: Storage) -> None:
    weights = {"weight": torch.tensor([0.1, 1 / 3]).double(), "n": torch.tensor(7)}
    best = Best(1, (0.1, 1 / 3, -0.2), weights)
    checkpoints_of(run).save(state_at(5, best=best))
    found = checkpoints_of(run).latest()
    assert found is not None
    assert found.best is not None
    assert (found.best.epoch, found.best.scores) == (1, (0.1, 1 / 3, -0.2))
    assert set(found.best.model) == set(weights)
    for name, tensor in weights.items():
        assert found.best.model[name].dtype == tensor.dtype
        assert torch.equal(found.best.model[name], tensor)


def test_a_checkpoint_on_this_machine_is_read_where_it_lies(folder: Path) -> None:
    with checkpoint.local(Storage.at(folder)) as copy:
        assert copy == folder
    assert folder.exists()


def test_a_checkpoint_elsewhere_is_copied_for_the_time_being(tmp_path: Path) -> None:
    run = far(tmp_path)
    checkpoints_of(run).save(state_at(5))
    with checkpoint.local(run.sub("step-00000005")) as copy:
        assert tmp_path not in copy.parents
        assert checkpoint.load(copy, like={"key": "a"}).step == 5
    assert not copy.exists()
    assert run.folders() == ["step-00000005"]


@pytest.mark.parametrize("name", [checkpoint.STATE_FILE, checkpoint.RUN_FILE])
def test_half_a_checkpoint_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    run = far(tmp_path)
    checkpoints_of(run).save(state_at(5))
    (tmp_path / "run/step-00000005" / name).unlink()
    with (
        pytest.raises(CheckpointError, match=f"need a checkpoint of emoray, got no {name}"),
        checkpoint.local(run.sub("step-00000005")),
    ):
        pass


def test_a_classifier_is_built_again_by_what_its_checkpoint_says(tmp_path: Path) -> None:
    config = FinetuneConfig(
        encoder=EncoderConfig(d_model=8, n_heads=2, n_layers=1, d_feedforward=16),
        head="mlp",
        seed=3,
    )
    spec = InputSpec(("Fz", "Cz"), 100.0, 200, 5)
    inputs = inputs_of(spec)
    module = Finetuning(config, inputs, {}).build()
    with torch.no_grad():
        for tensor in module.state_dict().values():  # no weights that a seed would give
            tensor.add_(0.01)
    facts = {
        "method": "emod",
        "stage": "finetune",
        "config": to_dict(config),
        "inputs": to_dict(inputs),
    }
    checkpoint.save(tmp_path, State(1, module.state_dict(), {}), facts)
    found = checkpoint.load_trained(tmp_path)
    assert not found.training
    group = eeg_group(torch.randn(3, 2, 200), ("Fp1", "Fpz"), 100.0, torch.arange(3))
    with torch.no_grad():
        scores_BK = found([group])
        assert scores_BK.shape == (3, 5)
        assert torch.equal(scores_BK, module.eval()([group]))


def test_a_full_disk_is_told_by_the_file_that_did_not_fit(tmp_path: Path) -> None:
    """Of that torch alone says "unexpected pos 64 vs 0"."""
    large = State(1, {"weight": torch.zeros(50_000)}, {}, {})
    said = r"cannot write {}, which needs 2\d\d,\d\d\d bytes: .*No space left.*; [\d,]+ are free"
    with full_disk(tmp_path / "disk", free_bytes=100_000) as disk:
        with pytest.raises(OSError, match=said.format(disk / "copy" / checkpoint.STATE_FILE)):
            checkpoint.save(disk / "copy", large, {})
        where = disk / "run" / "step-00000001" / checkpoint.STATE_FILE
        with pytest.raises(OSError, match=said.format(where)):
            checkpoints_of(Storage.at(disk / "run")).save(large)


def test_a_sweep_leaves_the_last_whole_checkpoints_alone(run: Storage) -> None:
    for step in (7, 14, 21, 28):
        with tempfile.TemporaryDirectory() as fresh:
            checkpoint.save(Path(fresh), state_at(step), {})
            for file in (checkpoint.STATE_FILE, checkpoint.RUN_FILE):
                whole = Path(fresh, file).read_bytes()
                content = whole if step < 28 else whole[:-10]
                run.sub(f"step-{step:08d}").write_bytes(file, content)
    run.sub("tensorboard").write_bytes("events", b"1")
    checkpoint.sweep(run, keep=2)
    assert run.folders() == ["step-00000014", "step-00000021", "tensorboard"]
    checkpoint.sweep(run, keep=2)
    assert checkpoint.latest_whole(run) == "step-00000021"
