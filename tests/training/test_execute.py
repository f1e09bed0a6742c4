"""One run from a corpus to its row: what it reads, what it leaves, where it goes on."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from emoray.corpus.read import CorpusDataset, open_corpus
from emoray.evaluation.audit import Audit, LeakageError
from emoray.evaluation.folds import Fold, folds
from emoray.evaluation.metrics import METRICS, classification_scores
from emoray.evaluation.predict import predict
from emoray.methods.emod.config import Config, EncoderConfig, FinetuneConfig
from emoray.methods.emod.method import Finetuning, Pretraining
from emoray.methods.settings import OptimizerConfig
from emoray.results.store import ResultRow, ResultStore
from emoray.runtime.config import to_dict
from emoray.runtime.storage import Storage
from emoray.training import checkpoint, data, loop
from emoray.training import execute as executing
from emoray.training.account import Account, Past, merged
from emoray.training.checkpoint import CheckpointError, State
from emoray.training.data import inputs_of, open_data
from emoray.training.execute import UNFINISHED, code_of, execute, origin_of
from emoray.training.run import Origin, Run
from emoray.vocabulary.targets import Classes
from tests.corpora import SEED, write_corpus

pytestmark = pytest.mark.usefixtures("one_thread")  # as in the processes that are killed
REPO = Path(__file__).parents[2]
CPU = torch.device("cpu")
ENCODER = EncoderConfig(d_model=8, n_heads=2, n_layers=1, d_feedforward=16)
TINY = FinetuneConfig(
    encoder=ENCODER,
    optimizer=OptimizerConfig(learning_rate=3e-2),
    epochs=4,
    batch_size=12,
    seed=2,
)
"""It learns something, and its last epoch is not its best."""
STEPS = 3
"""Of an epoch: a third of the 108 segments trains, 12 a step."""
VISITS = "paper_same_subjects_same_stimuli"
SUBJECTS = "subjects_apart_same_stimuli"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"), (SEED,))


@pytest.fixture(scope="module")
def dataset(corpus: Path) -> CorpusDataset:
    (opened,) = open_corpus(corpus).datasets
    return opened


def run_on(corpus: Path, config: FinetuneConfig = TINY, **changes: Any) -> Run:
    (opened,) = open_corpus(corpus).datasets
    wanted = Run(
        method="emod",
        stage="finetune",
        config=to_dict(config),
        corpus=str(corpus),
        builds=opened.builds,
        target={"kind": "classes"},
        protocol=VISITS,
        fold="1_of_1",
        chosen_by="kappa",
        code=code_of("emod", ["seed"], "score"),
    )
    return replace(wanted, **changes)


def done(run: Run, folder: Path, **how: Any) -> ResultRow:
    row = execute(run, folder=Storage.at(folder), device=CPU, **how)
    assert row is not None
    return row


def fold_of(run: Run, dataset: CorpusDataset) -> Fold:
    (found,) = (f for f in folds(run.protocol, "seed", dataset.index) if f.name == run.fold)
    return found


@dataclass(frozen=True)
class Watched:
    """A run, and the rows that it read from the corpus, call by call."""

    row: ResultRow
    read: Sequence[Sequence[int]]
    scratch: Path


@pytest.fixture(scope="module")
def unbroken(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Watched:
    read: list[list[int]] = []
    gather = CorpusDataset.gather

    def watched(self: CorpusDataset, rows: Any, **how: Any) -> Any:
        read.append(np.asarray(rows).tolist())
        return gather(self, rows, **how)

    scratch = tmp_path_factory.mktemp("scratch")
    (scratch / "another run").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CorpusDataset, "gather", watched)
        row = done(run_on(corpus), scratch / "run")
    return Watched(row, read, scratch)


# The row -----------------------------------------------------------------------------------------


def test_a_row_says_what_was_run_on_what(
    corpus: Path, dataset: CorpusDataset, unbroken: Watched, tmp_path: Path
) -> None:
    row, run = unbroken.row, run_on(corpus)
    assert row.key == run.key
    assert (row.method, row.stage, row.config) == ("emod", "finetune", to_dict(TINY))
    assert (row.dataset, row.builds) == ("seed", {dataset.manifest.folder: dataset.digest})
    assert (row.protocol, row.fold, row.seed, row.starts) == (VISITS, "1_of_1", 2, {})
    assert (row.n_classes, row.n_train, row.n_val, row.n_test) == (3, 36, 36, 36)
    assert row.rehearsal
    assert row.device == "cpu"
    assert row.segments_per_s > 0
    ResultStore(tmp_path).add(row)
    assert ResultStore(tmp_path).get(run.key) == row


def test_a_row_counts_every_test_segment_under_its_true_class(
    corpus: Path, dataset: CorpusDataset, unbroken: Watched
) -> None:
    labels_N = dataset.column("label")[fold_of(run_on(corpus), dataset).test_N]
    confusion_KK = np.array(unbroken.row.confusion)
    assert confusion_KK.sum() == unbroken.row.n_test
    assert confusion_KK.sum(axis=1).tolist() == np.bincount(labels_N, minlength=3).tolist()


def test_a_row_counts_the_parameters_of_encoder_and_head(
    dataset: CorpusDataset, unbroken: Watched
) -> None:
    module = Finetuning(TINY, inputs_of(Finetuning, dataset, Classes()), {}).build()
    assert unbroken.row.n_parameters == sum(p.numel() for p in module.parameters())
    assert unbroken.row.n_head_parameters == 8 * 3 + 3


def test_what_is_planted_is_learned(unbroken: Watched) -> None:
    assert unbroken.row.scores["kappa"] > 0.3
    loss = unbroken.row.curves["train_loss"]
    assert len(loss) == TINY.epochs
    assert loss[-1] < loss[0]


# What it reads -----------------------------------------------------------------------------------


def test_test_segments_are_read_once_after_all_others(
    corpus: Path, dataset: CorpusDataset, unbroken: Watched
) -> None:
    fold = fold_of(run_on(corpus), dataset)
    test = set(fold.test_N.tolist())
    are_test = [bool(test & set(rows)) for rows in unbroken.read]
    first = are_test.index(True)
    assert all(are_test[first:])
    assert [row for rows in unbroken.read[first:] for row in rows] == fold.test_N.tolist()


def test_train_and_validation_segments_are_read_once_an_epoch(
    corpus: Path, dataset: CorpusDataset, unbroken: Watched
) -> None:
    fold = fold_of(run_on(corpus), dataset)
    counted = Counter(row for rows in unbroken.read for row in rows)
    wanted = Counter(fold.test_N.tolist())
    for row in [*fold.train_N.tolist(), *fold.val_N.tolist()]:
        wanted[row] = TINY.epochs
    assert counted == wanted


def test_with_few_labels_the_others_are_never_read(
    corpus: Path,
    dataset: CorpusDataset,
    unbroken: Watched,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[int] = []
    gather = CorpusDataset.gather

    def watched(self: CorpusDataset, rows: Any, **how: Any) -> Any:
        read.extend(np.asarray(rows).tolist())
        return gather(self, rows, **how)

    monkeypatch.setattr(CorpusDataset, "gather", watched)
    run = run_on(corpus, replace(TINY, labels=0.25))
    row, fold = done(run, tmp_path / "run"), fold_of(run, dataset)
    given = sorted(set(read) & set(fold.train_N.tolist()))
    assert Counter(dataset.column("label")[given].tolist()) == {0: 3, 1: 3, 2: 3}  # a quarter of 12
    assert (row.n_train, row.n_val, row.n_test) == (9, 36, 36)
    assert set(fold.val_N.tolist()) | set(fold.test_N.tolist()) <= set(read)
    assert row.key != unbroken.row.key
    seen, all_seen = (data.open_data(r).seen()["seed"] for r in (run, run_on(corpus)))
    rows_N = np.array([*given, *fold.val_N.tolist()])
    assert seen == dataset.seen(rows_N)
    assert seen.keys() <= all_seen.keys()


@pytest.mark.parametrize("labels", [0.0, -0.1, 1.5, float("nan")])
def test_a_share_of_labels_that_is_none_is_refused(labels: float) -> None:
    with pytest.raises(ValueError, match=r"need labels in \(0, 1\]"):
        replace(TINY, labels=labels)


# The best epoch ----------------------------------------------------------------------------------


def test_the_row_is_of_the_first_epoch_with_the_highest_validation_kappa(
    corpus: Path, dataset: CorpusDataset, tmp_path: Path
) -> None:
    run = run_on(corpus)
    row = done(run, tmp_path / "run", keep=True)
    kappas = row.curves["val_kappa"]
    assert row.best_epoch == kappas.index(max(kappas))
    assert 0 < row.best_epoch < row.n_epochs - 1
    assert row.val_score == max(kappas) > max(kappas[0], kappas[-1])
    # The weights that were left give the best epoch's score on validation, and the row's on test.
    stage = open_data(run).stage()
    fold = fold_of(run, dataset)
    module = checkpoint.load_trained(only_folder(tmp_path / "run"))

    def scores(rows_N: np.ndarray) -> Any:
        found = predict(stage, module, dataset, rows_N, device=CPU)
        label_N = dataset.column("label")[rows_N]
        return classification_scores(label_N, found.class_N, 3, found.probability_NK)

    assert scores(fold.val_N)["kappa"] == row.val_score
    assert scores(fold.test_N).confusion_KK == row.confusion
    assert scores(fold.test_N).by_name == row.scores
    assert set(row.scores) == set(METRICS)


def only_folder(scratch: Path) -> Path:
    (folder,) = scratch.iterdir()
    return folder


# What it leaves ----------------------------------------------------------------------------------


def test_a_run_leaves_no_checkpoint_and_does_not_touch_other_runs(unbroken: Watched) -> None:
    assert [path.name for path in unbroken.scratch.iterdir()] == ["another run"]


@pytest.fixture(scope="module")
def kept(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[ResultRow, Path]:
    """A run with subjects apart, and the checkpoint that it was asked to leave."""
    scratch = tmp_path_factory.mktemp("kept")
    row = done(run_on(corpus, protocol=SUBJECTS, fold="1_of_3"), scratch, keep=True)
    return row, only_folder(scratch)


def test_a_checkpoint_that_is_left_says_whom_its_weights_have_seen(
    corpus: Path, dataset: CorpusDataset, kept: tuple[ResultRow, Path]
) -> None:
    row, folder = kept
    facts = checkpoint.describe(folder)
    fold = fold_of(run_on(corpus, protocol=SUBJECTS, fold="1_of_3"), dataset)
    subjects = dataset.column("subject")
    learned = {*subjects[fold.train_N], *subjects[fold.val_N]}
    assert set(facts["seen"]["seed"]) == learned == {"01", "02", "03"} - {*subjects[fold.test_N]}
    assert facts["seen"]["seed"][min(learned)] == [f"{stimulus:02}" for stimulus in range(6)]
    assert facts["key"] == facts["name"] == row.key
    assert facts["rehearsal"] is True
    assert facts["step"] == TINY.epochs * STEPS


def test_a_run_that_left_its_checkpoint_can_be_run_again(
    corpus: Path, unbroken: Watched, tmp_path: Path
) -> None:
    """As after a death between the checkpoint and the store, or a row that was damaged."""
    rows = [done(run_on(corpus), tmp_path / "run", keep=True) for _ in range(2)]
    assert outcome(rows[0]) == outcome(rows[1]) == outcome(unbroken.row)
    assert only_folder(tmp_path / "run").name == f"step-{TINY.epochs * STEPS:08}"


def test_a_row_is_in_the_store_before_anything_is_removed(
    corpus: Path, unbroken: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, store = run_on(corpus), ResultStore(tmp_path / "store")
    with monkeypatch.context() as patch:
        patch.setattr(executing, "clear", interrupted)
        with pytest.raises(KeyboardInterrupt):
            done(run, tmp_path / "run", store=store)
    row = ResultStore(tmp_path / "store").get(run.key)
    assert row is not None
    assert outcome(row) == outcome(unbroken.row)
    assert (tmp_path / "run" / UNFINISHED).exists()


def interrupted(*_: Any) -> None:
    raise KeyboardInterrupt


def outcome(row: ResultRow) -> Mapping[str, Any]:
    """All of a row that a second run must repeat bit for bit."""
    clock = {"seconds", "segments_per_s", "waiting", "finished"}
    return {name: value for name, value in to_dict(row).items() if name not in clock}


def test_accounts_of_what_was_seen_add_up() -> None:
    first = {"seed": {"02": ["04", "01"]}, "deap": {"01": ["07"]}}
    second = {"seed": {"02": ["03", "01"], "01": ["09"]}}
    together = merged([first, second])
    assert together == {
        "deap": {"01": ["07"]},
        "seed": {"01": ["09"], "02": ["01", "03", "04"]},
    }
    assert list(together["seed"]) == ["01", "02"]
    assert merged([]) == {}


# Where it starts ---------------------------------------------------------------------------------


OTHERS = {"deap": {"01": ["07"]}}
"""Whom a pretraining saw that has nobody in common with the test."""


def pretraining(
    folder: Path,
    seen: Mapping[str, Any] = OTHERS,
    *,
    signals: Mapping[str, Any] | None = None,
    seed: int = 7,
    step: int = 99,
) -> Path:
    """The checkpoint of a pretraining that has seen this."""
    config, shown = Config(encoder=ENCODER, seed=seed), Past(seen, signals or {})
    facts = {
        "method": "emod",
        "stage": "pretrain",
        "config": to_dict(config),
        "starts": {},
        "key": f"{seed:032}",
        "protocol": "",
        "fold": "",
        "target": None,
        "builds": {"deap-eeg-0d9cf00c654e": "0123"},
        **Account(shown, shown, Past(), {}).to_facts(),
    }
    checkpoint.save(folder, State(step, Pretraining(config).build().state_dict(), {}), facts)
    return folder


def origin_at(folder: Path) -> Origin:
    return origin_of(checkpoint.describe(folder), str(folder))


def started(corpus: Path, folder: Path, **changes: Any) -> Run:
    return run_on(
        corpus,
        starts={"encoder": origin_at(folder)},
        **{"protocol": SUBJECTS, "fold": "1_of_3", **changes},
    )


def elsewhere(run: Run, folder: Path) -> Run:
    """The same run, told that its start lies in another place."""
    return replace(run, starts={"encoder": replace(run.starts["encoder"], location=str(folder))})


def subject_of_test(corpus: Path, dataset: CorpusDataset) -> str:
    fold = fold_of(run_on(corpus, protocol=SUBJECTS, fold="1_of_3"), dataset)
    (subject,) = set(dataset.column("subject")[fold.test_N].tolist())
    return str(subject)


def test_a_run_starts_from_the_weights_that_were_asked_for(
    corpus: Path, kept: tuple[ResultRow, Path], tmp_path: Path
) -> None:
    folder = pretraining(tmp_path / "pretrained")
    row = done(started(corpus, folder), tmp_path / "run", keep=True)
    assert row.starts == {"encoder": origin_at(folder).to_plain()}
    assert row.lineage == {"encoder": to_dict(Config(encoder=ENCODER, seed=7))}
    assert row.verdict == "same stimuli"
    from_scratch, _ = kept
    assert row.curves["train_loss"] != from_scratch.curves["train_loss"]
    seen = checkpoint.describe(only_folder(tmp_path / "run"))["seen"]
    assert set(seen) == {"deap", "seed"}


@pytest.mark.parametrize(
    ("stimuli", "verdict"),
    [
        (["00"], "CONTAMINATED: pretraining saw test segments, test subjects, test stimuli"),
        (["99"], "CONTAMINATED: pretraining saw test subjects"),
    ],
)
def test_weights_that_know_a_test_subject_are_refused_unless_that_is_allowed_and_said(
    corpus: Path,
    dataset: CorpusDataset,
    tmp_path: Path,
    stimuli: list[str],
    verdict: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    subject = subject_of_test(corpus, dataset)
    folder = pretraining(tmp_path / "pretrained", {"seed": {subject: stimuli}})
    run = started(corpus, folder)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "train", None)  # it does not come to that
        with pytest.raises(LeakageError, match=f"subject in pretraining: 36 .* subject {subject}"):
            done(run, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    row = done(run, tmp_path / "run", allow_contaminated=True)
    assert row.verdict == f"{verdict}; same stimuli"
    assert Audit.from_json(row.audit).verdict == row.verdict


def test_people_who_may_be_the_same_are_in_the_rows_verdict(corpus: Path, tmp_path: Path) -> None:
    """EMOD's own setting: SEED-IV is in the pretraining, SEED is tested on."""
    folder = pretraining(tmp_path / "pretrained", {"seed_iv": {"03": ["1-01"]}})
    row = done(started(corpus, folder), tmp_path / "run")
    assert row.verdict == "same stimuli; people not known to be apart (SEED family)"
    assert Audit.from_json(row.audit).verdict == row.verdict


def test_a_test_recording_that_pretraining_saw_under_another_name_is_refused(
    corpus: Path, dataset: CorpusDataset, tmp_path: Path
) -> None:
    """The same files in another dataset's folder, under another number."""
    subject = subject_of_test(corpus, dataset)
    rows_N = np.flatnonzero(dataset.column("subject") == subject)
    prints = dataset.signals(rows_N)
    signals = {f"seed_iv-s09-v{i}": found for i, found in enumerate(prints.values())}
    folder = pretraining(tmp_path / "pretrained", signals=signals)
    match = f"signal in pretraining: 36 .*seed-s{subject}-v1 = seed_iv-s09-v0"
    with pytest.raises(LeakageError, match=match):
        done(started(corpus, folder), tmp_path / "run")
    row = done(started(corpus, folder), tmp_path / "run", allow_contaminated=True, keep=True)
    assert row.verdict.startswith("CONTAMINATED: pretraining saw test recordings under another")
    left = checkpoint.describe(only_folder(tmp_path / "run"))["signals"]
    assert set(left) > set(signals)  # those of its own training beside them


@pytest.mark.parametrize("change", [{}, {"dreamer": {"03": ["09"]}}, None])
def test_a_checkpoint_with_another_account_than_its_own_is_refused(
    corpus: Path, dataset: CorpusDataset, tmp_path: Path, change: dict[str, Any] | None
) -> None:
    """Its test subject taken out of `run.json`, as a person does with an editor."""
    subject = subject_of_test(corpus, dataset)
    folder = pretraining(tmp_path / "pretrained", {"seed": {subject: ["99"]}})
    run = started(corpus, folder)
    path = folder / checkpoint.RUN_FILE
    facts = json.loads(path.read_text())
    kept = {name: fact for name, fact in facts.items() if name != "seen"}
    path.write_text(json.dumps(kept if change is None else {**kept, "seen": change}))
    with pytest.raises(CheckpointError, match="was changed since"):
        done(run, tmp_path / "run")


def test_weights_with_another_account_are_other_weights(corpus: Path, tmp_path: Path) -> None:
    """Both files written anew: then the rows that descend from them say that they are others."""
    run = started(corpus, pretraining(tmp_path / "asked", {"seed": {"01": ["00"]}}))
    folder = pretraining(tmp_path / "other")
    with pytest.raises(ValueError, match=r"need the checkpoint .* got another \(seen\)"):
        done(elsewhere(run, folder), tmp_path / "run")
    assert started(corpus, folder).key != run.key


def test_a_checkpoint_without_an_account_is_no_start(corpus: Path, tmp_path: Path) -> None:
    run = started(corpus, pretraining(tmp_path / "pretrained"))
    folder = tmp_path / "pretrained"
    facts = checkpoint.describe(folder)
    bare = {name: fact for name, fact in facts.items() if name not in ("seen", "format")}
    state = checkpoint.load(folder)
    checkpoint.save(tmp_path / "bare", state, bare)
    with pytest.raises(CheckpointError, match="got no 'seen' in"):
        done(elsewhere(run, tmp_path / "bare"), tmp_path / "run")
    with pytest.raises(CheckpointError, match="got no 'seen' in"):
        origin_of(bare, "bare")
    half = {name: fact for name, fact in facts.items() if name != "before"}
    with pytest.raises(CheckpointError, match="does not say its before"):
        origin_of(half, "half")


def test_a_start_of_the_same_fold_is_no_pretraining_and_one_of_another_fold_is(
    corpus: Path, kept: tuple[ResultRow, Path], tmp_path: Path
) -> None:
    """A teacher for each fold: it saw what trains here too, and no test segment."""
    _, folder = kept
    row = done(started(corpus, folder), tmp_path / "own")
    assert row.starts["encoder"]["stage"] == "finetune"
    assert row.verdict == "same stimuli"
    with pytest.raises(LeakageError, match="subject in pretraining"):
        done(started(corpus, folder, fold="2_of_3"), tmp_path / "other")


def test_what_a_start_of_the_same_fold_started_from_is_held_against_the_test(
    corpus: Path, dataset: CorpusDataset, tmp_path: Path
) -> None:
    subject = subject_of_test(corpus, dataset)
    first = pretraining(tmp_path / "pretrained", {"seed": {subject: ["99"]}})
    second = started(corpus, first)
    done(second, tmp_path / "second", allow_contaminated=True, keep=True)
    third = started(corpus, only_folder(tmp_path / "second"))
    with pytest.raises(LeakageError, match=f"subject in pretraining: 36 .* subject {subject}"):
        done(third, tmp_path / "third")
    row = done(third, tmp_path / "third", allow_contaminated=True)
    assert row.verdict == "CONTAMINATED: pretraining saw test subjects; same stimuli"
    assert list(row.lineage) == ["encoder", "encoder.encoder"]


@pytest.mark.parametrize(
    ("other", "what"),
    [
        ({"step": 100}, "step"),
        ({"seed": 8}, "run, config"),
        ({"seed": 8, "step": 100}, "run, step, config"),
    ],
)
def test_another_checkpoint_than_the_one_asked_for_is_refused(
    corpus: Path, tmp_path: Path, other: dict[str, int], what: str
) -> None:
    run = started(corpus, pretraining(tmp_path / "asked"))
    folder = pretraining(tmp_path / "other", **other)
    with pytest.raises(ValueError, match=rf"other: need the checkpoint .* got another \({what}\)"):
        done(elsewhere(run, folder), tmp_path / "run")
    with pytest.raises(CheckpointError, match="need a checkpoint of emoray"):
        done(elsewhere(run, tmp_path / "nowhere"), tmp_path / "run")


def test_weights_that_started_elsewhere_are_other_weights(
    corpus: Path, kept: tuple[ResultRow, Path], tmp_path: Path
) -> None:
    """Two classifiers of one fold and one config, from scratch and from a pretraining."""
    _, from_scratch = kept
    folder = pretraining(tmp_path / "pretrained")
    done(started(corpus, folder), tmp_path / "run", keep=True)
    origins = [origin_at(place) for place in (from_scratch, only_folder(tmp_path / "run"))]
    assert origins[0].identity != origins[1].identity
    assert origins[1].lineage["starts"] == {"encoder": origin_at(folder).to_plain()}


# What is refused ---------------------------------------------------------------------------------


def test_a_test_segment_that_trains_is_found_before_anything_is_trained(
    corpus: Path, dataset: CorpusDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fold = fold_of(run_on(corpus), dataset)
    mixed = replace(fold, train_N=np.sort(np.append(fold.train_N, fold.test_N[0])))
    monkeypatch.setattr(data, "folds", lambda *asked: (mixed,))
    monkeypatch.setattr(loop, "train", None)
    with pytest.raises(LeakageError, match="segment in train: 1 test segments"):
        done(run_on(corpus), tmp_path / "run")


def test_a_fold_that_the_protocol_does_not_make_is_refused(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"need a fold among 1_of_1; got '2_of_3'"):
        done(run_on(corpus, fold="2_of_3"), tmp_path / "run")


def test_a_dataset_without_classes_is_refused(tmp_path: Path) -> None:
    (rated,) = open_corpus(
        write_corpus(tmp_path, (replace(SEED, name="deap", classes=()),))
    ).datasets
    with pytest.raises(ValueError, match="deap: need class labels, got none"):
        inputs_of(Finetuning, rated, Classes())


# Killed and run again ----------------------------------------------------------------------------

STEPS_KEPT = {
    "in mid-epoch": STEPS,
    "while a checkpoint is written": STEPS,
    "before the row": TINY.epochs * STEPS,
}
"""When a process dies: the steps that its last whole checkpoint holds."""


def die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_at_call(function: Any, number: int) -> Any:
    """The function, whose call of this number (from 1) ends the process."""
    calls = 0

    def counted(*args: Any, **how: Any) -> Any:
        nonlocal calls
        calls += 1
        return die() if calls == number else function(*args, **how)

    return counted


def die_in(moment: str, run: Run, scratch: Path) -> None:
    """Run until a moment comes."""
    torch.set_num_threads(1)
    patch = pytest.MonkeyPatch()
    if moment == "in mid-epoch":
        patch.setattr(loop, "take_step", die_at_call(loop.take_step, STEPS + 2))
    elif moment == "while a checkpoint is written":  # of two files each, the second one's second
        patch.setattr(Storage, "write_bytes", die_at_call(Storage.write_bytes, 4))
    else:
        patch.setattr(executing, "ResultRow", die)
    done(run, scratch)


def die_in_all(run: str, scratch: str) -> None:
    """The program of another process: a child for each moment, which dies in it."""
    for moment in STEPS_KEPT:
        if (child := os.fork()) == 0:  # nothing has computed yet, so there are no threads to lose
            die_in(moment, Run.from_json(json.loads(run)), Path(scratch, moment))
            os._exit(1)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, moment


@pytest.fixture(scope="module")
def killed(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What killed runs left, a folder for each moment."""
    scratch = tmp_path_factory.mktemp("killed")
    program = "import sys; from tests.training.test_execute import *; die_in_all(*sys.argv[1:])"
    arguments = [json.dumps(run_on(corpus).to_json()), str(scratch)]
    subprocess.run([sys.executable, "-c", program, *arguments], cwd=REPO, check=True)
    return scratch


@pytest.mark.parametrize("moment", STEPS_KEPT)
def test_a_run_that_is_killed_and_run_again_ends_like_an_unbroken_one(
    corpus: Path,
    unbroken: Watched,
    killed: Path,
    moment: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, scratch = run_on(corpus), killed / moment
    left = Storage.at(scratch)
    assert checkpoint.latest_whole(left.sub(UNFINISHED)) == f"step-{STEPS_KEPT[moment]:08}"
    assert checkpoint.latest_whole(left) is None  # no weights to show to anybody
    steps: list[int] = []
    take_step = loop.take_step

    def counted(stage: Any, parallel: Any, optimizer: Any, batch: Any, rate: float) -> Any:
        steps.append(batch.step)
        return take_step(stage, parallel, optimizer, batch, rate)

    monkeypatch.setattr(loop, "take_step", counted)
    with checkpoint.local(left.sub(UNFINISHED).sub(f"step-{STEPS_KEPT[moment]:08}")) as copy:
        spent_s = sum(checkpoint.load(copy).history["step_s"])
    began = time.monotonic()
    row = done(run, scratch)
    assert spent_s < row.seconds <= spent_s + time.monotonic() - began  # of both processes
    assert steps == list(range(STEPS_KEPT[moment], TINY.epochs * STEPS))
    assert outcome(row) == outcome(unbroken.row)
    assert not scratch.exists()


def test_another_run_does_not_go_on_from_what_a_killed_one_left(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(loop, "take_step", partial(stopped_at, STEPS + 1, loop.take_step))
        with pytest.raises(KeyboardInterrupt):
            done(run_on(corpus), tmp_path / "run")
    other = run_on(corpus, replace(TINY, seed=1))
    with pytest.raises(CheckpointError, match=f"another run: key needs '{other.key}'"):
        done(other, tmp_path / "run")


def stopped_at(step: int, take_step: Any, stage: Any, module: Any, *rest: Any) -> Any:
    if rest[1].step == step:
        raise KeyboardInterrupt
    return take_step(stage, module, *rest)


def test_a_row_is_not_filed_under_code_that_did_not_make_it(corpus: Path, tmp_path: Path) -> None:
    run = replace(run_on(corpus), code="0.1.0+000000000000")
    with pytest.raises(ValueError, match=r"need the code .* \(0\.1\.0\+000000000000\), got "):
        done(run, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"builds": {"seed-eeg-ffffffffffff": "0"}},
        {"code": "0.1.0+ffffffffffff"},
        {"target": {"kind": "cut", "rating": "valence", "above": 5.0}},
        {"held_out": {"seed": ("01",)}},
        {"chosen_by": "auc"},
        {"protocol": SUBJECTS},
        {"fold": "2_of_3"},
        {"stage": "another"},
        {"config": {**to_dict(TINY), "seed": 3}},
    ],
)
def test_a_run_of_another_part_is_another_run(corpus: Path, change: dict[str, Any]) -> None:
    run = run_on(corpus)
    assert replace(run, **change).key != run.key


def test_where_it_lies_and_what_it_is_called_make_no_other_run(corpus: Path) -> None:
    run = run_on(corpus)
    assert replace(run, corpus="elsewhere", name="named").key == run.key
    assert Run.from_json(json.loads(json.dumps(run.to_json()))) == run


def test_a_build_with_other_segments_than_those_asked_for_is_refused(
    corpus: Path, tmp_path: Path
) -> None:
    run = run_on(corpus)
    other = replace(run, builds=dict.fromkeys(run.builds, "0" * 64), name="mine")
    with pytest.raises(ValueError, match="the segments that run 'mine' was started on, got others"):
        done(other, tmp_path / "run")


def test_a_models_library_is_part_of_the_code_whether_it_is_there_or_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installed = code_of("baselines", ["seed"], "score")
    assert re.fullmatch(r"\S+ braindecode-\d+\.\d+\.\d+", installed)
    assert "braindecode" not in code_of("emod", ["seed"], "score")

    def absent(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)
    absent_code = f"{installed.split()[0]} braindecode-absent"
    assert code_of("baselines", ["seed"], "score") == absent_code
