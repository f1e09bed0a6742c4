"""The alignment's rows on folds: what its stages share, and what the audit says of its teachers.

From builds of EEG and ECG to rows, without a cluster; its rehearsal's settings, one epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from emoray import methods
from emoray.corpus.catalog import Catalog
from emoray.evaluation.audit import LeakageError
from emoray.evaluation.folds import folds
from emoray.experiments.arms import Arm, ArmStage, recipes_of, streams_of
from emoray.experiments.experiment import Experiment
from emoray.experiments.graph import At, Graph, still_needed
from emoray.experiments.paper_tables import Reproduction
from emoray.methods.alignment.config import EEG, RECIPES
from emoray.methods.alignment.method import Reconstruction
from emoray.methods.ecg_segments import ECG_10_S
from emoray.methods.emod import config as emod
from emoray.methods.pipeline.method import EmodAlignment
from emoray.results import published
from emoray.results.store import ResultRow
from emoray.runtime.config import set_all
from emoray.runtime.storage import Storage
from emoray.signals import EegRecipe
from emoray.training.data import open_data
from emoray.training.execute import execute
from emoray.training.run import Run
from emoray.vocabulary.schema import DataError
from tests.pairs import Pairs, write_pairs

pytestmark = pytest.mark.usefixtures("one_thread")
RANDOM, APART = "random_segments_same_subjects_same_stimuli", "subjects_apart_same_stimuli"
PAPER = published.load("alignment")
AROUSAL = PAPER.table("table_1").evaluation[0]
TINY = emod.EncoderConfig(d_model=8, n_heads=2, n_layers=1, d_feedforward=16)


class Everybodys(Reconstruction):
    """A reconstruction of whole datasets, such as somebody might add."""

    scope = "corpus"


@pytest.fixture(autouse=True)
def everybodys(monkeypatch: pytest.MonkeyPatch) -> None:
    stages = {**methods.get("alignment").STAGES, "everybodys": Everybodys}
    monkeypatch.setattr(methods.get("alignment"), "STAGES", stages)


def one_epoch(method: str, stage: str, **changes: Any) -> Any:
    config = methods.stage(method, stage).rehearsal()
    return set_all(config, {"epochs": 1, "batch_size": 12, **changes})


def chain(*stages: tuple[str, str, Any, Mapping[str, str]]) -> Arm:
    """Stages by the name of each, which others start from."""
    made = [ArmStage(name, method, name, config, starts) for method, name, config, starts in stages]
    return Arm("chain", tuple(made))


def ours(first: str = "reconstruct") -> Arm:
    """A teacher that reconstructs, then learns classes; a student; classes of ECG."""
    return chain(
        ("alignment", first, one_epoch("alignment", first), {}),
        ("alignment", "teach", one_epoch("alignment", "teach"), {"encoder": first}),
        ("alignment", "align", one_epoch("alignment", "align"), {"teacher": "teach"}),
        ("alignment", "classify", one_epoch("alignment", "classify"), {"encoder": "align"}),
    )


def with_emod() -> Arm:
    """EMOD's encoder as teacher."""
    pretrain = emod.Config(encoder=TINY, epochs=1, rounds_per_step=1)
    finetune = emod.FinetuneConfig(encoder=TINY, epochs=1, batch_size=12)
    return chain(
        ("emod", "pretrain", pretrain, {}),
        ("emod", "finetune", finetune, {"encoder": "pretrain"}),
        ("pipeline", "align", one_epoch("pipeline", "align"), {"teacher": "finetune"}),
        ("alignment", "classify", one_epoch("alignment", "classify"), {"encoder": "align"}),
    )


def runs_of(arm: Arm, corpus: Path, protocol: str, pretraining: Sequence[str] = ()) -> list[Run]:
    """On the first fold, each after those that it starts from."""
    graph = Graph(Catalog(str(corpus)), str(corpus.parent / "runs"), pretraining)
    index = graph.dataset([arm], AROUSAL).index
    first = folds(protocol, "dreamer", index, AROUSAL.target)[0].name
    return list(still_needed([graph.run(arm, At(AROUSAL, protocol, first, 0))]).values())


def executed(corpus: Path, runs: Iterable[Run], **how: Any) -> list[ResultRow]:
    """Rows of those of them that are scored."""
    rows = []
    for run in runs:
        folder = Storage.at(corpus.parent / "runs").sub(run.folder_name)
        rows.append(execute(run, folder=folder, device=torch.device("cpu"), keep=True, **how))
    return [row for row in rows if row is not None]


# One fold for all stages --------------------------------------------------------------------------


def names_of(run: Run, side: str) -> set[tuple[Any, ...]]:
    """Segments of a run's fold, or those that decide its weights."""
    found = open_data(run)
    rows_N = np.concatenate(found.learned) if side == "learned" else getattr(found.fold, side)
    columns = ("recording", "presentation", "start_s")
    return set(zip(*(found.dataset.column(name)[rows_N].tolist() for name in columns), strict=True))


@pytest.mark.parametrize("protocol", [RANDOM, APART])
def test_no_stage_of_a_row_learns_a_segment_that_the_row_is_tested_on(
    tmp_path: Path, protocol: str
) -> None:
    """Though one stream lacks segments that the other has: random folds of one are others."""
    made = Pairs(n_segments=3, without={"eeg": {4}, "ecg": {1, 9}})
    corpus = write_pairs(tmp_path / "corpus", RECIPES, made)
    runs = runs_of(ours(), corpus, protocol)
    assert [run.stage for run in runs] == ["reconstruct", "teach", "align", "classify"]
    tested = names_of(runs[-1], "test_N")
    assert tested
    for run in runs:
        assert names_of(run, "test_N") == tested, run.stage
        assert not names_of(run, "learned") & tested, run.stage
    assert len({frozenset(run.builds.items()) for run in runs}) == 1


@pytest.mark.slow
@pytest.mark.parametrize("protocol", [RANDOM, APART])
def test_a_row_of_the_paper_is_not_contaminated_by_its_own_fold(
    tmp_path: Path, protocol: str
) -> None:
    corpus = write_pairs(tmp_path / "corpus", RECIPES, Pairs(without={"ecg": {1}}))
    runs = runs_of(ours(), corpus, protocol)
    teach, classify = executed(corpus, runs)
    for row in (teach, classify):
        assert "CONTAMINATED" not in row.audit["verdict"]
        assert ("same subjects" in row.audit["verdict"]) is (protocol == RANDOM)
    assert (teach.stage, classify.stage) == ("teach", "classify")
    assert list(classify.lineage) == [
        "encoder",
        "encoder.teacher",
        "encoder.teacher.encoder",
    ]


def test_an_arm_reads_what_all_its_stages_on_a_fold_read_together() -> None:
    assert streams_of([ours()]) == ("eeg", "ecg")
    assert recipes_of([ours()]) == RECIPES
    assert recipes_of([with_emod()]) == EmodAlignment.recipes
    alone = chain(("alignment", "classify", one_epoch("alignment", "classify"), {}))
    assert (streams_of([alone]), recipes_of([alone])) == (("ecg",), {"ecg": ECG_10_S})
    assert (streams_of([alone, ours()]), recipes_of([alone, ours()])) == (("eeg", "ecg"), RECIPES)
    mixed = chain(
        ("alignment", "teach", one_epoch("alignment", "teach"), {}),
        ("pipeline", "align", one_epoch("pipeline", "align"), {"teacher": "teach"}),
    )
    with pytest.raises(ValueError, match="chain: need one recipe for eeg in all stages"):
        recipes_of([mixed])


def test_rows_of_a_table_are_tested_on_the_same_segments(tmp_path: Path) -> None:
    """A person's ECG is missing: the row that reads EEG alone is not tested on that person."""
    corpus = write_pairs(tmp_path / "corpus", RECIPES, Pairs(without={"ecg": {1}}))
    eeg = chain(("alignment", "teach", one_epoch("alignment", "teach"), {}))
    ecg = chain(("alignment", "classify", one_epoch("alignment", "classify"), {}))
    experiment = Experiment(
        arms=[eeg, ecg, ours()],
        graph=Graph(Catalog(str(corpus)), str(tmp_path / "runs")),
        evaluation=[AROUSAL],
        seeds=[0],
        protocols=[APART],
    )
    runs = [cell.runs[0] for cell in experiment.cells()]
    assert len({tuple(sorted(run.builds)) for run in runs}) == 1
    tested = [open_data(run).fold for run in runs]
    assert all(np.array_equal(fold.test_N, tested[0].test_N) for fold in tested)


# A teacher that saw a test person -----------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("made", "recipes"),
    [(partial(ours, "everybodys"), RECIPES), (with_emod, EmodAlignment.recipes)],
    ids=["everybody's reconstruction", "EMOD's pretraining"],
)
def test_a_teachers_teacher_that_saw_a_test_person_contaminates_the_row(
    tmp_path: Path, made: Callable[[], Arm], recipes: Any
) -> None:
    corpus = write_pairs(tmp_path / "corpus", recipes)
    first, teach, align, classify = runs_of(made(), corpus, APART, ("dreamer",))
    found = open_data(classify)
    assert found.fold is not None
    tested = set(found.dataset.column("subject")[found.fold.test_N])
    executed(corpus, [first])
    for run in (teach, align, classify):
        with pytest.raises(LeakageError, match=f"subject in pretraining.*subject {min(tested)}"):
            executed(corpus, [run])
        executed(corpus, [run], allow_contaminated=True)
    (row,) = executed(corpus, [classify], allow_contaminated=True)
    assert row.verdict.startswith("CONTAMINATED: pretraining saw test segments, test subjects")


@pytest.mark.slow
def test_a_teacher_that_was_pretrained_on_others_contaminates_nothing(tmp_path: Path) -> None:
    corpus = write_pairs(tmp_path / "corpus", EmodAlignment.recipes)
    write_pairs(corpus, {"eeg": EegRecipe()}, Pairs(name="deap", seed=1))
    rows = executed(corpus, runs_of(with_emod(), corpus, APART, ("deap",)))
    assert [row.stage for row in rows] == ["finetune", "classify"]
    assert not any("CONTAMINATED" in row.verdict for row in rows)


@pytest.mark.slow
def test_a_test_recording_under_another_datasets_name_is_found(tmp_path: Path) -> None:
    corpus = write_pairs(tmp_path / "corpus", EmodAlignment.recipes)
    write_pairs(corpus, {"eeg": EegRecipe()}, Pairs(name="deap"))  # the same noise
    pretrain, finetune, *_ = runs_of(with_emod(), corpus, APART, ("deap",))
    executed(corpus, [pretrain])
    with pytest.raises(LeakageError, match=r"signal in pretraining.* = deap-s0"):
        executed(corpus, [finetune])


# What the data must have --------------------------------------------------------------------------


def test_ratings_of_one_class_alone_leave_a_cell_that_says_so(tmp_path: Path) -> None:
    made = Pairs(constant=("arousal",))
    corpus = write_pairs(tmp_path / "corpus", RECIPES, made)
    asked = Reproduction(
        paper=PAPER,
        catalog=Catalog(str(corpus)),
        storage=str(tmp_path / "runs"),
        seeds=(0,),
        rehearsal=True,
    )
    cells = asked.experiment("table_1").cells()
    assert {cell.evaluation.name for cell in cells} == {
        one.name for one in PAPER.table("table_1").evaluation
    }
    for cell in cells:
        if cell.evaluation.name == "dreamer_arousal":
            assert "need segments of two classes or more in train of fold 1_of_5" in cell.error
            assert not cell.runs
        else:
            assert not cell.error
            assert len(cell.runs) == 5


def test_a_dataset_without_ecg_is_refused(tmp_path: Path) -> None:
    corpus = write_pairs(tmp_path / "corpus", {"eeg": EEG})
    graph = Graph(Catalog(str(corpus)), str(tmp_path / "runs"))
    with pytest.raises(DataError, match="ecg"):
        graph.dataset([ours()], AROUSAL)
    with pytest.raises(DataError, match="ecg"):
        graph.dataset([replace(ours(), stages=ours().stages[-1:])], AROUSAL)
