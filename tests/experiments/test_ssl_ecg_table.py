"""SSL-ECG's runs on a fold: what its pretext sees of it, and a pretraining that saw the test.

From the example of a release to rows, without a cluster; its rehearsal's settings, few epochs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from emoray.corpus.build.build import build
from emoray.corpus.catalog import Catalog
from emoray.evaluation.audit import LeakageError
from emoray.evaluation.folds import folds
from emoray.experiments.arms import Arm, ArmStage
from emoray.experiments.experiment import CellRuns, runs_of
from emoray.experiments.graph import At, Graph, still_needed
from emoray.experiments.paper_tables import Reproduction
from emoray.methods.ecg_segments import RECIPES
from emoray.methods.ssl_ecg.method import STAGES
from emoray.rehearsal.release import write_release
from emoray.results import published
from emoray.results.store import ResultRow
from emoray.runtime.storage import Storage
from emoray.signals import EcgRecipe
from emoray.training.data import open_data
from emoray.training.execute import execute
from emoray.training.run import Run
from tests.corpus.in_process import in_process

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]
TENTHS, APART = "random_segments_10fold_same_subjects_same_stimuli", "subjects_apart_same_stimuli"
PAPER = published.load("ssl_ecg")
N_SUBJECTS = 4


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """WESAD's example: five conditions of three segments each, built by SSL-ECG's recipe."""
    raw, out = tmp_path_factory.mktemp("raw"), tmp_path_factory.mktemp("corpus")
    write_release(raw, datasets=["wesad"], n_subjects=N_SUBJECTS, seed=0, duration_s=31.0)
    recipe = RECIPES["ecg"]
    assert isinstance(recipe, EcgRecipe)
    with in_process():
        report = build(raw, out, ecg=recipe, progress=False)
    assert [one.n_segments for one in report.datasets] == [N_SUBJECTS * 5 * 3]
    return Catalog(str(out))


@pytest.fixture(scope="module")
def cells(
    catalog: Catalog, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, tuple[CellRuns, ...]]:
    """The table of WESAD on the first fold of both protocols, and where its runs lie."""
    storage = str(tmp_path_factory.mktemp("runs"))
    found = Reproduction(
        paper=PAPER,
        catalog=catalog,
        storage=storage,
        seeds=(0,),
        folds="rotate",
        rehearsal=True,
        set={"pretext.epochs": 1, "emotion.epochs": 2},
    )
    return storage, found.experiment("table_wesad").cells()


def executed(
    storage: str, runs: Iterable[Run], *, allow_contaminated: bool = False
) -> list[ResultRow]:
    """These runs and those that they start from, one after the other."""
    rows = [
        execute(
            run,
            folder=Storage.at(storage).sub(run.folder_name),
            device=torch.device("cpu"),
            allow_contaminated=allow_contaminated,
        )
        for run in still_needed(runs).values()
    ]
    return [row for row in rows if row is not None]


def test_a_whole_table_runs_and_nothing_of_it_is_contaminated(
    cells: tuple[str, tuple[CellRuns, ...]],
) -> None:
    storage, plan = cells
    assert [(cell.arm.row, cell.protocol, cell.error) for cell in plan] == [
        (row, protocol, "")
        for protocol in (TENTHS, APART)
        for row in ("Fully-Supervised CNN", "Self-Supervised CNN")
    ]
    rows = executed(storage, runs_of(plan).values())
    assert len(rows) == len(plan)
    for row in rows:
        assert {"acc", "f1_of_means", "f1"} <= set(row.scores)
        assert "CONTAMINATED" not in row.audit["verdict"]
        assert ("subjects" in row.audit["verdict"]) is (row.protocol == TENTHS)


def test_the_pretext_of_a_fold_is_drawn_from_its_training_part_alone(
    catalog: Catalog, cells: tuple[str, tuple[CellRuns, ...]]
) -> None:
    index = catalog.dataset("wesad", ("ecg",), STAGES["pretext"].recipes).index
    of_pretext = [run for run in runs_of(cells[1]).values() if run.starts]
    assert [run.protocol for run in of_pretext] == [TENTHS, APART]
    for emotion in of_pretext:
        pretext = emotion.starts["encoder"].run
        assert pretext is not None
        assert (pretext.stage, pretext.protocol, pretext.fold) == (
            *("pretext", emotion.protocol),
            emotion.fold,
        )
        (fold,) = (f for f in folds(emotion.protocol, "wesad", index) if f.name == emotion.fold)
        (rows_N,) = open_data(pretext).learned
        assert sorted(rows_N.tolist()) == fold.train_N.tolist()
        assert not set(rows_N.tolist()) & {*fold.val_N.tolist(), *fold.test_N.tolist()}


@pytest.mark.parametrize("protocol", [TENTHS, APART])
def test_a_pretraining_on_the_whole_dataset_contaminates_it(
    catalog: Catalog, tmp_path: Path, protocol: str
) -> None:
    stages = tuple(
        ArmStage(name, "ssl_ecg", name, replace(STAGES[name].rehearsal(), epochs=1), starts)
        for name, starts in (("pretrain", {}), ("emotion", {"encoder": "pretrain"}))
    )
    graph = Graph(catalog, str(tmp_path), ("wesad",))
    (evaluation,) = PAPER.table("table_wesad").evaluation
    index = catalog.dataset("wesad", ("ecg",), STAGES["emotion"].recipes).index
    first = folds(protocol, "wesad", index)[0].name
    run = graph.run(Arm("contaminated", stages), At(evaluation, protocol, first, 0))
    with pytest.raises(LeakageError, match="subject in pretraining"):
        executed(str(tmp_path), [run])
    (row,) = executed(str(tmp_path), [run], allow_contaminated=True)
    assert "CONTAMINATED: pretraining saw test" in row.audit["verdict"]
