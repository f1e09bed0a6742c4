"""The fine-tuning job: a pretrained encoder beside the same network from scratch, end to end."""

from __future__ import annotations

import io
import runpy
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from emoray.corpus.catalog import Catalog
from emoray.experiments import session
from emoray.experiments.experiment import FOLD_NOTES, ONE_PRETRAINING, CellRuns, Experiment, runs_of
from emoray.experiments.graph import Graph
from emoray.experiments.options import Finetune, Where
from emoray.jobs import finetune
from emoray.jobs.finetune import PRETRAINED, SCRATCH, _frame
from emoray.methods.emod.config import FinetuneConfig
from emoray.methods.emod.method import Finetuning
from emoray.results.store import ResultRow, ResultStore
from emoray.runtime.config import from_dict
from emoray.training.checkpoint import describe, load_trained
from emoray.vocabulary.choices import FoldChoice
from tests.evaluations import BY_NAME
from tests.small_experiments import TINY, write_both

JOBS = Path(__file__).parents[2] / "jobs"
ENCODER = [
    *("--encoder.d-model", str(TINY.encoder.d_model), "--encoder.n-heads", "2"),
    *("--encoder.n-layers", "1", "--encoder.d-feedforward", str(TINY.encoder.d_feedforward)),
]


def run_job(monkeypatch: pytest.MonkeyPatch, name: str, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
    runpy.run_path(str(JOBS / f"{name}.py"), run_name="__main__")


def complete_job(monkeypatch: pytest.MonkeyPatch, name: str, *words: object) -> None:
    with pytest.raises(SystemExit) as ended:
        run_job(monkeypatch, name, *words)
    assert ended.value.code == 0


def rows_of(store: Path) -> dict[str, ResultRow]:
    return {row.key: row for row in ResultStore(store / "results").rows()}


def planned(
    monkeypatch: pytest.MonkeyPatch, options: Finetune, place: session.Place
) -> Sequence[CellRuns]:
    """What the job would run."""
    found: list[CellRuns] = []
    monkeypatch.setattr(session, "open_place", lambda *_, **__: place)
    monkeypatch.setattr(session, "show_missing", lambda _, plan: found.extend(plan))
    finetune.run(replace(options, dry_run=True))
    return found


@pytest.mark.parametrize("is_paper", [True, False])
def test_only_a_rehearsal_has_a_small_encoder_and_turns(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, is_paper: bool
) -> None:
    corpus = str(write_both(tmp_path / "corpus", evaluated=["seed"]))
    where = Where(corpus=corpus if is_paper else None)
    place = session.Place(where, Console(file=io.StringIO()), str(tmp_path), corpus)
    plan = planned(monkeypatch, Finetune("emod", seeds=(0,)), place)
    usual = FinetuneConfig() if is_paper else Finetuning.rehearsal()
    assert {cell.folds_per_seed == cell.n_folds for cell in plan if cell.n_folds > 1} == {is_paper}
    for run in runs_of(plan).values():
        assert from_dict(FinetuneConfig, run.config) == usual


@pytest.mark.parametrize(
    ("options", "needed"),
    [
        ({"set": ("epochs=3",)}, r"need settings like finetune\.epochs, got 'epochs'"),
        ({"set": ("pretrain.epochs=3",)}, r"need settings like finetune\.epochs, got 'pretrain"),
        ({"set": ("finetune.seed=3",)}, r"need seeds as such, got the setting 'finetune\.seed'"),
        ({"set": ("finetune.epohcs=3",)}, r"need a field of FinetuneConfig, got 'epohcs'"),
        ({"stage": "pretrain"}, r"need --stage among those of emod that tell classes \(finetune\)"),
        ({"datasets": ("deap",)}, r"need datasets among faced, seed_v, seed; got deap"),
    ],
)
def test_what_cannot_be_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, options: dict[str, Any], needed: str
) -> None:
    corpus = str(write_both(tmp_path / "corpus", evaluated=["seed"]))
    place = session.Place(Where(corpus=corpus), Console(file=io.StringIO()), str(tmp_path), corpus)
    with pytest.raises(ValueError, match=needed):
        planned(monkeypatch, Finetune("emod", **options), place)


def test_a_method_without_a_paper_is_refused() -> None:
    with pytest.raises(ValueError, match=r"need a paper among .*emod.*; got 'baselines'"):
        Finetune("baselines")


def test_seeds_are_asked_for_in_one_way(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run_job(monkeypatch, "finetune", "--help")
    assert ended.value.code == 0
    words = capsys.readouterr().out.replace(",", " ").split()
    assert "--seeds" in words
    assert "--set" in words
    assert "--seed" not in words
    with pytest.raises(SystemExit) as ended:
        run_job(monkeypatch, "finetune", "emod", "--seed", 3)
    assert ended.value.code == 2


@pytest.mark.parametrize("choice", ["all", "rotate"])
@pytest.mark.parametrize("checkpoint", [None, "base"])
def test_the_table_says_what_its_intervals_speak_of(
    tmp_path: Path, choice: FoldChoice, checkpoint: str | None
) -> None:
    corpus = write_both(tmp_path / "corpus", evaluated=["seed"], pretrained=())
    graph = Graph(Catalog(str(corpus)), str(tmp_path / "runs"))
    experiment = Experiment((), graph, (BY_NAME["seed"],), (0,), folds=choice)
    notes = _frame(Finetune("emod", checkpoint=checkpoint), experiment, "EMOD").notes
    assert notes == (FOLD_NOTES[choice], *([ONE_PRETRAINING] if checkpoint else []))


def test_a_run_that_is_not_there_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    corpus = write_both(tmp_path / "corpus", evaluated=["seed"])
    words = ("emod", "--corpus", corpus, "--storage", tmp_path / "out", "--checkpoint", "nobody")
    with pytest.raises(SystemExit, match="need a checkpoint, got none"):
        run_job(monkeypatch, "finetune", *words)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_the_job_scores_both_arms_keeps_their_weights_and_repeats_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    corpus = write_both(tmp_path / "corpus", evaluated=["seed"])
    places = ("--corpus", corpus, "--storage", tmp_path)
    complete_job(
        monkeypatch, "pretrain_emod", *places, "--name", "base", "--epochs", 1, *ENCODER,
        "--held-out", 0,
    )  # fmt: skip
    words = (
        "emod", *places, "--checkpoint", "base", "--seeds", 0, 1,
        "--set", "finetune.epochs=2", "finetune.batch_size=32",
        "--protocols", "paper_same_subjects_same_stimuli", "stimuli_apart_same_subjects",
        "--folds", "rotate",
    )  # fmt: skip
    complete_job(monkeypatch, "finetune", *words)
    rows = rows_of(tmp_path)
    assert len(rows) == 2 * 2 * 2  # arms, protocols, seeds
    assert [set(row.starts) for row in rows.values()].count({"encoder"}) == 4
    for row in rows.values():
        assert row.config["encoder"]["d_model"] == TINY.encoder.d_model
        assert (row.config["epochs"], row.config["batch_size"]) == (2, 32)
        assert {at: found["epochs"] for at, found in row.lineage.items()} == (
            {"encoder": 1} if row.starts else {}
        )
    out = capsys.readouterr().out
    assert SCRATCH in out
    assert PRETRAINED in out
    assert "rehearsal data" in out
    said = " ".join(out.split())
    assert FOLD_NOTES["rotate"] in said
    assert ONE_PRETRAINING in said
    for key, row in rows.items():
        (left,) = (tmp_path / "runs" / key).iterdir()
        module = load_trained(left)
        assert sum(p.numel() for p in module.parameters()) == row.n_parameters
        seen = describe(left)["seen"]
        assert ("deap" in seen) is bool(row.starts)
        assert "seed" in seen
    complete_job(monkeypatch, "finetune", *words)
    assert "0 are missing" in capsys.readouterr().out
    assert rows_of(tmp_path) == rows
