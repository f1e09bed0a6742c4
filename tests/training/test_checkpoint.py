"""A checkpoint comes back whole, or says what is wrong with it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from emoray.storage import Storage
from emoray.training import checkpoint
from emoray.training.checkpoint import HISTORY, CheckpointError, State

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
    with pytest.raises(CheckpointError, match=r"need format 1, got 99"):
        checkpoint.load(folder)


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
