"""Figure 2 of the alignment: its run is its table's, its numbers those of what both networks say.

On a small corpus of EEG and ECG of the same instants, by settings of a rehearsal.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from emoray import methods
from emoray.batches.feeds import in_order
from emoray.corpus.catalog import Catalog
from emoray.evaluation.similarity import Beside, paired_features
from emoray.experiments import similarities
from emoray.experiments.graph import descent, still_needed
from emoray.experiments.options import Reproduce, Where
from emoray.experiments.paper_tables import Reproduction
from emoray.experiments.schedule import Resources
from emoray.experiments.similarities import SimilarityRequest
from emoray.jobs import reproduce
from emoray.methods.alignment.config import RECIPES
from emoray.methods.base import Stage
from emoray.results import published
from emoray.results.paper import PaperSimilarity
from emoray.runtime.storage import Storage
from emoray.training import checkpoint
from emoray.training.data import open_data
from emoray.training.execute import execute, starts_of
from emoray.training.run import Run
from tests.pairs import Pairs, write_pairs

pytestmark = pytest.mark.usefixtures("one_thread")
PAPER = published.load("alignment")
APART = "subjects_apart_same_stimuli"
RANDOM = "random_segments_same_subjects_same_stimuli"
SETTINGS = {"reconstruct.epochs": 1, "teach.epochs": 1, "align.epochs": 2}
CPU = torch.device("cpu")


def figure() -> PaperSimilarity:
    found = PAPER.figures["figure_2"]
    assert isinstance(found, PaperSimilarity)
    return found


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten people, so that two are tested of five folds."""
    return write_pairs(tmp_path_factory.mktemp("corpus"), RECIPES, Pairs(n_subjects=10))


def reproduction(corpus: Path, storage: Path | str, **changes: Any) -> Reproduction:
    fields = {
        "paper": PAPER,
        "catalog": Catalog(str(corpus)),
        "storage": str(storage),
        "seeds": (0,),
        "rehearsal": True,
        "set": SETTINGS,
        **changes,
    }
    return Reproduction(**fields)


@pytest.fixture(scope="module")
def ended(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path]:
    """The figure's run and those that it starts from, one after the other without a cluster."""
    storage = tmp_path_factory.mktemp("runs")
    (run,) = reproduction(corpus, storage).shown(figure())
    for one in still_needed([run]).values():
        execute(one, folder=Storage.at(storage).sub(one.folder_name), device=CPU, keep=True)
    return run, storage


# Which runs ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_figures_run_is_its_tables(corpus: Path, tmp_path: Path) -> None:
    found = reproduction(corpus, tmp_path, seeds=(0, 3))
    runs = found.shown(figure())
    assert [(run.stage, run.fold, run.protocol, run.seed) for run in runs] == [
        ("align", "1_of_5", APART, seed) for seed in (0, 3)
    ]
    table = found.experiment("table1")
    ours = [arm for arm in table.arms if arm.row == "Ours"]
    asked = [one for one in table.evaluation if one.name == "dreamer_arousal"]
    (cell,) = replace(table, arms=ours, evaluation=asked, protocols=(APART,)).cells()
    of_table = {one.key for run in cell.runs for one in descent(run)}
    assert {run.key for run in runs} <= of_table


@pytest.mark.slow
def test_another_protocol_may_be_asked_for_and_no_two(corpus: Path, tmp_path: Path) -> None:
    (run,) = reproduction(corpus, tmp_path, protocols=(RANDOM,)).shown(figure())
    assert run.protocol == RANDOM
    with pytest.raises(ValueError, match="need one protocol for figure2, got"):
        reproduction(corpus, tmp_path, protocols=(RANDOM, APART)).shown(figure())
    with pytest.raises(ValueError, match="need datasets among dreamer; got amigos"):
        reproduction(corpus, tmp_path, datasets=("amigos",)).shown(figure())


# What is compared ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_stage_pairs_what_student_and_teacher_say_of_the_same_time(
    ended: tuple[Run, Path],
) -> None:
    run, _ = ended
    found = open_data(run)
    stage = found.stage(starts_of(run)[0])
    module = stage.build().eval()
    rows_N = np.array([7, 0, 19])
    query_NZ, key_NZ = paired_features(stage, module, found.dataset, rows_N, device=CPU)
    ((teacher, _),) = [
        (checkpoint.reload(origin.location).module, role) for role, origin in run.starts.items()
    ]
    for row, query_Z, key_Z in zip(rows_N, query_NZ, key_NZ, strict=True):
        (group,) = in_order(found.dataset, np.array([row]), batch_size=1, streams=stage.streams)
        with torch.no_grad():
            n_patches = teacher.encoder.n_patches
            ecg_PZ = module.head(module.encoder.patches(group, n_patches))[0]
            eeg_PZ = teacher.encoder.patches(group, n_patches)[0]
        np.testing.assert_allclose(query_Z, np.concatenate(list(ecg_PZ)), atol=1e-5)
        np.testing.assert_allclose(key_Z, np.concatenate(list(eeg_PZ)), atol=1e-5)


def stages() -> list[type[Stage]]:
    return [kind for name in methods.names() for kind in methods.get(name).STAGES.values()]


def test_what_draws_one_stream_to_another_offers_pairs_and_nothing_else_does() -> None:
    """A stage that trains on one of its two streams has the other from a frozen teacher."""
    for kind in stages():
        draws = len(kind.streams) == 2 and kind.streams_each_step is not None
        assert (kind.paired is not Stage.paired) is draws


def test_a_stage_of_one_stream_says_that_it_has_no_pairs() -> None:
    kind = methods.stage("alignment", "reconstruct")
    stage = object.__new__(kind)
    with pytest.raises(ValueError, match="draws one stream to another, got Reconstruction"):
        stage.paired(torch.nn.Identity(), None)  # type: ignore[arg-type]


@pytest.mark.slow
def test_both_arms_are_of_the_test_segments_and_of_their_weights(
    ended: tuple[Run, Path], tmp_path: Path
) -> None:
    run, runs = ended
    request = SimilarityRequest(run, str(runs), str(tmp_path))
    similarities._make(request, Resources())
    found = open_data(run)
    assert found.fold is not None
    rows_N = np.sort(found.fold.test_N)
    stage = found.stage(starts_of(run)[0])
    kept = checkpoint.latest_whole(Storage.at(runs).sub(run.folder_name))
    modules = {"without": stage.build(), "trained": stage.build()}
    checkpoint.load_model(runs / run.folder_name / str(kept), modules["trained"])
    for arm, module in modules.items():
        beside = Beside.load(Storage.at(tmp_path), request.file(arm))
        subjects = [str(found.dataset.column("subject")[row]) for row in rows_N]
        assert list(beside.subjects) == subjects
        assert len(set(subjects)) == 2
        q, k = paired_features(stage, module, found.dataset, rows_N, device=CPU)
        expected = F.cosine_similarity(
            torch.from_numpy(q)[:, None], torch.from_numpy(k)[None], dim=-1
        )
        np.testing.assert_allclose(beside.similarity_NN, expected, atol=1e-5)
    first, second = (Beside.load(Storage.at(tmp_path), request.file(arm)) for arm in modules)
    assert not np.allclose(first.similarity_NN, second.similarity_NN, atol=1e-3)


# The job ------------------------------------------------------------------------------------------


@pytest.mark.ray
@pytest.mark.slow
def test_the_job_runs_what_is_missing_once_and_leaves_a_page(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    # The smallest encoders: a corpus of one's own has the paper's sizes otherwise.
    sizes = {"width": 8, "n_heads": 2, "n_layers": 1, "n_hidden": 16, "patch_s": 1.0}
    words = [f"{name}={value}" for name, value in SETTINGS.items()]
    words += [f"{stage}.batch_size=32" for stage in ("reconstruct", "teach", "align")]
    words += [
        f"{stage}.encoder.{name}={value}"
        for stage in ("reconstruct", "teach", "align")
        for name, value in sizes.items()
    ]
    asked = Reproduce(
        paper="alignment",
        table="figure2",
        seeds=(0, 1),
        set=tuple(words),
        where=Where(corpus=str(corpus), storage=str(tmp_path)),
    )
    said = []
    for _ in range(2):
        with contextlib.redirect_stdout(io.StringIO()) as out:
            reproduce.run(asked)
        said.append(out.getvalue())
    (folder,) = (tmp_path / "reports").iterdir()
    assert {path.name for path in folder.iterdir()} == {"figure2.html", "similarity.png"}
    page = (folder / "figure2.html").read_text()
    assert "published mean \u22120.4963, \u22120.6261 to \u22120.2758" in page
    assert "no measure of quality" in page
    assert "over 2 seeds" in page
    assert "rehearsal data" in page.lower()
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "similarities").iterdir()}
    assert len(kept) == 4
    assert "align 1_of_5 is trained" in said[0]
    assert "is trained" not in said[1]
