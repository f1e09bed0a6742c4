"""What a stage computes of its segments once: the same on one worker and on two, and after a death.

Of the alignment, whose frozen teacher looks at EEG that no step reads. Shapes: N rows that train, B
rows, P patches, Z width.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from emoray.batches.batch import Batch, Group, Signal
from emoray.batches.feeds import Constants
from emoray.corpus.catalog import Catalog
from emoray.corpus.read import CorpusDataset
from emoray.methods.alignment.config import RECIPES
from emoray.methods.alignment.method import Alignment, EcgClassification
from emoray.runtime.config import set_all, to_dict
from emoray.runtime.storage import Storage
from emoray.training import checkpoint, constants, loop
from emoray.training.data import RunData, open_data
from emoray.training.execute import code_of, execute
from emoray.training.run import Run
from tests.pairs import Pairs, write_pairs
from tests.workers import found_by

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")
SETTINGS: Mapping[str, Any] = {
    "encoder.patch_s": 0.5,
    "encoder.width": 8,
    "encoder.n_hidden": 12,
    "encoder.dropout": 0.2,
    "n_shuffles": 2,
    "epochs": 3,
    "batch_size": 48,
}
N_TRAIN, N_STEPS = 144, 3
"""Rows of three of five people, which are three chunks; steps of an epoch."""


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Of three chunks, and of one that a second worker has no part in."""
    made = {"three": Pairs(n_stimuli=8, n_segments=6), "one": Pairs()}
    return {n: write_pairs(tmp_path_factory.mktemp(n), RECIPES, of) for n, of in made.items()}


def run_on(corpus: Path) -> Run:
    dataset = Catalog(str(corpus)).dataset("dreamer", ("eeg", "ecg"), RECIPES)
    return Run(
        method="alignment",
        stage="align",
        config=to_dict(set_all(Alignment.rehearsal(), SETTINGS)),
        corpus=str(corpus),
        builds=dataset.builds,
        target={"kind": "cut", "rating": "arousal", "above": 3.0},
        protocol="subjects_apart_same_stimuli",
        fold="1_of_5",
        code=code_of("alignment", ("dreamer",), "fold"),
    )


def computed(corpus: Path) -> tuple[RunData, Alignment, Constants]:
    found = open_data(run_on(corpus))
    stage = found.stage()
    assert isinstance(stage, Alignment)
    return found, stage, constants.computed(stage, found, CPU)["dreamer"]


# What is in the table -----------------------------------------------------------------------------


def test_a_row_holds_what_the_stage_says_of_its_segment_alone(corpora: dict[str, Path]) -> None:
    found, stage, table = computed(corpora["three"])
    rows_N = np.sort(found.pools[0].rows_S)
    assert table.rows_N.tolist() == rows_N.tolist()
    assert set(table.values) == {"eeg", "order", "eeg_shuffled"}
    assert {len(values) for values in table.values.values()} == {N_TRAIN}
    of_people = found.dataset.column("subject")[rows_N]
    assert len(set(of_people.tolist())) == 3
    eeg = found.dataset.stream("eeg")
    for place in (0, 63, 64, 130, N_TRAIN - 1):  # either side of a chunk's edge
        row = rows_N[place : place + 1]
        signal = Signal(torch.from_numpy(eeg.gather(row)), eeg.channels, eeg.sfreq)
        alone = stage.constants(Group("dreamer", {"eeg": signal}, torch.from_numpy(row)))
        for name, values in alone.items():
            torch.testing.assert_close(table.values[name][place], values[0], rtol=1e-4, atol=1e-5)
    some = table.of(rows_N[[5, 2, 5]])
    assert torch.equal(some["eeg"], table.values["eeg"][[5, 2, 5]])


def test_whole_numbers_stay_whole_and_nothing_carries_a_gradient(corpora: dict[str, Path]) -> None:
    _, _, table = computed(corpora["one"])
    assert table.values["order"].dtype is torch.int64
    assert table.values["eeg"].dtype is torch.float32
    assert not any(values.requires_grad for values in table.values.values())


def test_a_stage_without_any_reads_nothing(corpora: dict[str, Path]) -> None:
    found, _, _ = computed(corpora["one"])
    stage = EcgClassification(EcgClassification.rehearsal(), found.inputs, {})
    assert not constants.has_constants(stage)
    assert constants.computed(stage, found, CPU) == {}
    batch = Batch(0, (), {})
    assert constants.with_constants(stage, batch) is batch


def test_a_batch_for_timing_has_those_of_its_own_segments(corpora: dict[str, Path]) -> None:
    _, stage, _ = computed(corpora["one"])
    generator = torch.Generator().manual_seed(0)
    shapes = {name: stage.inputs[name] for name in ("eeg", "ecg")}
    signals: Any = {
        name: Signal(torch.randn(3, s.n_chans, s.n_times, generator=generator), s.channels, s.sfreq)
        for name, s in shapes.items()
    }
    group = Group("dreamer", signals, torch.arange(3))
    made = constants.with_constants(stage, Batch(0, (group,), {}))
    want = stage.constants(group)
    assert made.groups[0].constants.keys() == want.keys()
    assert all(torch.equal(made.groups[0].constants[name], want[name]) for name in want)
    assert stage.losses(stage.build(), made).keys() == {"patch", "sequence"}


# Workers and deaths -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tables:
    """Of each corpus, as this worker has it at last, and how often it asked the stage."""

    corpora: Mapping[str, Path]

    def __call__(self) -> dict[str, Any]:
        asked: list[int] = []
        say = Alignment.constants

        def counted(stage: Alignment, group: Group) -> Mapping[str, Tensor]:
            asked.append(len(group))
            return say(stage, group)

        found: dict[str, Any] = {}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Alignment, "constants", counted)
            for name, corpus in self.corpora.items():
                _, _, table = computed(corpus)
                found[name] = {"values": dict(table.values), "asked": list(asked)}
                asked.clear()
        return found


@pytest.mark.slow
def test_two_workers_share_the_work_and_have_the_table_of_one_to_the_bit(
    corpora: dict[str, Path], tmp_path: Path
) -> None:
    for name in ("alone", "together"):
        (tmp_path / name).mkdir()
    (alone,) = found_by(1, tmp_path / "alone", Tables(corpora))
    first, second = found_by(2, tmp_path / "together", Tables(corpora))
    assert alone["three"]["asked"] == [64, 64, 16]
    assert (first["three"]["asked"], second["three"]["asked"]) == ([64, 16], [64])
    assert alone["one"]["asked"] == first["one"]["asked"] == [36]
    for corpus in corpora:
        want = alone[corpus]["values"]
        for worker in (first, second):
            got = worker[corpus]["values"]
            assert got.keys() == want.keys()
            for name in want:
                assert torch.equal(got[name], want[name]), name
                assert torch.equal(torch.signbit(got[name]), torch.signbit(want[name])), name


@dataclass
class Watched:
    """A run, and what it read and asked."""

    folder: Path
    read: dict[str, Counter[int]]
    """By stream, how often each row was read."""
    asked: list[int]
    """Segments of each call of the teacher."""

    def weights(self) -> Mapping[str, Tensor]:
        last = checkpoint.latest_whole(Storage.at(self.folder))
        assert last is not None
        return checkpoint.load(self.folder / last).model


def executed(corpus: Path, folder: Path, *, dies_at: int | None = None) -> Watched:
    """Run to the end, or until a step that does not come about."""
    watched = Watched(folder, {"eeg": Counter(), "ecg": Counter()}, [])
    gather, say, take_step = CorpusDataset.gather, Alignment.constants, loop.take_step

    def read(self: CorpusDataset, rows: Any, **how: Any) -> Any:
        watched.read[self.manifest.stream].update(np.asarray(rows).tolist())
        return gather(self, rows, **how)

    def counted(stage: Alignment, group: Group) -> Mapping[str, Tensor]:
        watched.asked.append(len(group))
        return say(stage, group)

    def step(stage: Any, parallel: Any, optimizer: Any, batch: Batch, rate: float) -> Any:
        if batch.step == dies_at:
            raise KeyboardInterrupt
        return take_step(stage, parallel, optimizer, batch, rate)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CorpusDataset, "gather", read)
        patch.setattr(Alignment, "constants", counted)
        patch.setattr(loop, "take_step", step)
        assert execute(run_on(corpus), folder=Storage.at(folder), device=CPU) is None
    return watched


@pytest.fixture(scope="module")
def unbroken(corpora: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Watched:
    return executed(corpora["three"], tmp_path_factory.mktemp("unbroken"))


def test_the_teacher_is_asked_once_a_segment_and_its_eeg_read_once(unbroken: Watched) -> None:
    assert unbroken.asked == [64, 64, 16]
    assert set(unbroken.read["eeg"].values()) == {1}
    assert len(unbroken.read["eeg"]) == N_TRAIN
    assert set(unbroken.read["ecg"].values()) == {3}, "more than once an epoch"


def test_a_run_that_died_ends_with_the_same_bits(
    corpora: dict[str, Path], unbroken: Watched, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        executed(corpora["three"], tmp_path, dies_at=N_STEPS + 1)
    again = executed(corpora["three"], tmp_path)
    assert again.asked == [64, 64, 16]  # once more, by the new process
    assert max(again.read["ecg"].values()) == 2  # it went on from the second epoch
    first, second = unbroken.weights(), again.weights()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_in_float64_the_teacher_computes_so_too(corpora: dict[str, Path]) -> None:
    run = run_on(corpora["one"])
    found = open_data(replace(run, config={**run.config, "precision": "float64"}))
    stage = found.stage()
    table = constants.computed(stage, found, CPU)["dreamer"]
    assert table.values["eeg"].dtype is torch.float64
    _, _, single = computed(corpora["one"])
    torch.testing.assert_close(table.values["eeg"].float(), single.values["eeg"])
