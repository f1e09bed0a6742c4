"""The fine-tuning job: a pretrained encoder beside the same network from scratch, end to end."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from emoray.corpus.read import open_corpus
from emoray.experiments.experiment import FOLD_NOTES, ONE_PRETRAINING, Experiment
from emoray.experiments.options import Finetune
from emoray.jobs.finetune_emod import PRETRAINED, SCRATCH, _frame
from emoray.results.store import ResultRow, ResultStore
from emoray.training.checkpoint import describe, load_trained
from emoray.vocabulary.choices import FoldChoice
from jobs.finetune_emod import _defaults
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


@pytest.mark.parametrize("words", [(), ("--corpus", "x"), ("--help",)])
def test_only_a_rehearsal_has_a_small_encoder(words: tuple[str, ...]) -> None:
    is_paper = bool(words)
    assert (_defaults(words).emod == Finetune().emod) is is_paper


def test_seeds_are_asked_for_in_one_way(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run_job(monkeypatch, "finetune_emod", "--help")
    assert ended.value.code == 0
    words = capsys.readouterr().out.replace(",", " ").split()
    assert "--seeds" in words
    assert "--epochs" in words
    assert "--seed" not in words
    with pytest.raises(SystemExit) as ended:
        run_job(monkeypatch, "finetune_emod", "--seed", 3)
    assert ended.value.code == 2


@pytest.mark.parametrize("choice", ["all", "rotate"])
@pytest.mark.parametrize("checkpoint", [None, "base"])
def test_the_table_says_what_its_intervals_speak_of(
    tmp_path: Path, choice: FoldChoice, checkpoint: str | None
) -> None:
    corpus = write_both(tmp_path / "corpus", evaluated=["seed"], pretrained=())
    experiment = Experiment(
        (), str(corpus), open_corpus(corpus), (BY_NAME["seed"],), (0,), folds=choice
    )
    notes = _frame(Finetune(checkpoint=checkpoint), experiment).notes
    assert notes == (FOLD_NOTES[choice], *([ONE_PRETRAINING] if checkpoint else []))


def test_a_run_that_is_not_there_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    corpus = write_both(tmp_path / "corpus", evaluated=["seed"])
    words = ("--corpus", corpus, "--storage", tmp_path / "out", "--checkpoint", "nobody")
    with pytest.raises(SystemExit, match="need a checkpoint, got none"):
        run_job(monkeypatch, "finetune_emod", *words)


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
        *places, "--checkpoint", "base", "--seeds", 0, 1, "--epochs", 2, "--batch-size", 32,
        "--protocols", "paper_same_subjects_same_stimuli", "stimuli_apart_same_subjects",
        "--folds", "rotate",
    )  # fmt: skip
    complete_job(monkeypatch, "finetune_emod", *words)
    rows = rows_of(tmp_path)
    assert len(rows) == 2 * 2 * 2  # arms, protocols, seeds
    starts = [row.start is not None for row in rows.values()]
    assert sum(starts) == 4
    assert all(row.config["encoder"]["d_model"] == TINY.encoder.d_model for row in rows.values())
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
        assert ("deap" in seen) is (row.start is not None)
        assert "seed" in seen
    complete_job(monkeypatch, "finetune_emod", *words)
    assert "0 are missing" in capsys.readouterr().out
    assert rows_of(tmp_path) == rows
