"""One classifier run: a stage on one fold with one seed, from the corpus to a result row.

It runs in one process, on one device; many of them run side by side (`training.schedule`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

import numpy as np
import torch
from torch import nn

from emoray import datasets, methods
from emoray.batches.feeds import PlanFeed, targets_of
from emoray.batches.plans import Pool, make_plan
from emoray.corpus.fingerprints import Seen, Signals
from emoray.corpus.read import CorpusDataset, open_corpus
from emoray.evaluation import audit as auditing
from emoray.evaluation.doubts import Fitted
from emoray.evaluation.folds import PROTOCOLS, Fold, folds
from emoray.evaluation.metrics import Scores, classification_scores
from emoray.evaluation.predict import predict
from emoray.methods.base import Inputs, Stage, Start, StreamSpec
from emoray.results.store import KEY_PARTS, ResultRow, ResultStore, key_of, val_curve
from emoray.runtime import cluster
from emoray.runtime import config as configs
from emoray.runtime.code import source_version
from emoray.runtime.storage import Storage
from emoray.training import checkpoint, loop
from emoray.vocabulary import targets
from emoray.vocabulary.schema import IntArray

IDENTITY = ("method", "stage", "config", "plan", "step", "builds", "code", "seen")
"""Facts of a checkpoint that say which weights it holds, whoever trained them and wherever. Not the
fingerprints of what it saw: a build's last bits depend on the machine that made it."""
_LONG = ("config", "seen")
"""Of these, what an identity has as a digest."""

UNFINISHED = "unfinished"
"""Folder in a run's own, of the checkpoints that it goes on from: beside them, what a run was asked
to leave would be taken for its own unfinished state, or that for the weights of its best epoch."""


@dataclass(frozen=True)
class FoldRun:
    """A run, described by plain values: what is asked of the store, and what a task receives."""

    method: str
    stage: str
    config: Mapping[str, Any]
    """The stage's settings as a plain dict; its seed is the run's."""
    corpus: str
    """Folder or URI of the corpus."""
    dataset: str
    """Which build, by folder (`faced-eeg-0d9cf00c654e`)."""
    protocol: str
    fold: str
    """By name."""
    target: Mapping[str, Any]
    """What the classes are, as plain data (`vocabulary.targets`)."""
    chosen_by: str
    """Metric on the validation segments by which the best epoch is chosen."""
    start: Mapping[str, Any] | None = None
    """Identity (`start_identity`) of the weights to start from; None: from scratch."""
    checkpoint: str = ""
    """Where those weights lie: a run's `step-...` folder."""
    code: str = ""
    """`code_of` the method, which is worked out where none is given."""

    def __post_init__(self) -> None:
        if not self.code:
            object.__setattr__(self, "code", code_of(self.method, dataset_of(self.dataset)))

    @property
    def seed(self) -> int:
        """Of weights, order and dropout."""
        return int(self.config["seed"])

    @property
    def key(self) -> str:
        """Of the result row: what is run, not where."""
        return key_of(
            method=self.method,
            stage=self.stage,
            config=self.config,
            corpus=self.dataset,
            target=self.target,
            protocol=self.protocol,
            fold=self.fold,
            seed=self.seed,
            start=self.start,
            chosen_by=self.chosen_by,
            code=self.code,
        )


def dataset_of(build: str) -> str:
    """The dataset of a build's folder: `faced` of `faced-eeg-0d9cf00c654e`."""
    return build.partition("-")[0]


def row_code(method: str, dataset: str) -> str:
    """emoray's version and a digest of what decides a method's result rows on a dataset.

    The dataset's own module is in it for what its card says: classes, and whom and what it may
    share with others.
    """
    modules = (__name__, methods.module_of(method), f"{datasets.__name__}.{dataset}")
    return source_version(modules, words=False)


def code_of(method: str, dataset: str) -> str:
    """What decides a method's result rows here: emoray's code, and libraries that hold models."""
    libraries = getattr(methods.get(method), "LIBRARIES", ())
    versions = (f"{name}-{_version(name)}" for name in libraries)
    return " ".join([row_code(method, dataset), *versions])


def _version(library: str) -> str:
    """Of an installed library; `absent` where it is not: models of our own run without it."""
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "absent"


def start_identity(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What names a checkpoint's weights: what they were trained as, on whom and what, for how long.

    A result row keeps it, so that the row stands for these weights with this account of whom they
    saw, and for no others.

    Args:
        facts: a checkpoint's `run.json`, or the same facts of one that is still to come.

    Raises:
        CheckpointError: a fact is not there, as in what an unfinished run goes on from.
    """
    if absent := [name for name in IDENTITY if name not in facts]:
        raise checkpoint.CheckpointError(
            f"need a checkpoint of weights that a run may start from, got one that does not say "
            f"its {', '.join(absent)}"
        )
    return {
        name: configs.digest(facts[name]) if name in _LONG else facts[name] for name in IDENTITY
    }


def open_dataset(run: FoldRun) -> CorpusDataset:
    """The one build that a run reads."""
    (dataset,) = open_corpus(run.corpus, datasets=[run.dataset]).datasets
    return dataset


def fold_of(run: FoldRun, dataset: CorpusDataset) -> Fold:
    """The run's fold.

    Raises:
        ValueError: the protocol has no fold of that name on these data.
    """
    made = folds(run.protocol, dataset.name, dataset.index, targets.from_plain(run.target))
    for fold in made:
        if fold.name == run.fold:
            return fold
    names = ", ".join(fold.name for fold in made)
    raise ValueError(f"{dataset.name} {run.protocol}: need a fold among {names}; got {run.fold!r}")


def inputs_of(dataset: CorpusDataset, target: targets.Target) -> Inputs:
    """What a classifier of this dataset is built for.

    Raises:
        ValueError: the dataset has no classes.
    """
    classes = tuple(target.names(datasets.get(dataset.name).CARD.emotions))
    if not classes:
        raise ValueError(f"{dataset.name}: need class labels, got none")
    shape = StreamSpec(dataset.channels, dataset.sfreq, dataset.n_times)
    return Inputs({dataset.manifest.stream: shape}, classes)


def make_stage(run: FoldRun, inputs: Inputs, start: Start | None) -> Stage:
    """The stage that a run trains."""
    kind = methods.get(run.method).STAGES[run.stage]
    starts = {} if start is None else {"encoder": start}
    stage: Stage = kind(configs.from_dict(kind.config_type, run.config), inputs, starts)
    return stage


def execute(
    run: FoldRun,
    *,
    scratch: Storage,
    device: torch.device,
    allow_contaminated: bool = False,
    keep: bool = False,
    store: ResultStore | None = None,
) -> ResultRow:
    """Audit, train, choose the best epoch on validation, score the test segments once.

    Args:
        run: what to do.
        scratch: folder for the run's checkpoints; a run that was interrupted goes on from them.
        device: where it computes.
        allow_contaminated: run although a checkpoint involved has seen test subjects or stimuli.
        store: where the row is added, before anything is removed; None leaves that to the caller.
        keep: leave a checkpoint of the best epoch's weights in `scratch`; without it nothing.

    Raises:
        LeakageError: the fold would leak what the protocol's name does not admit.
        ValueError: fold, dataset or checkpoint are not what was asked for.
        FloatingPointError: a loss or score is not finite.
    """
    began = time.monotonic()
    _check_code(run)
    dataset = open_dataset(run)
    fold = fold_of(run, dataset)
    start, past = _start(run, dataset)
    audit = auditing.audit(
        dataset.index,
        dataset.name,
        fold,
        PROTOCOLS[run.protocol],
        past.seen,
        unaudited=run.start is not None and not run.checkpoint,
        trained_on=past.trained_on,
        signals=dataset.signals(np.arange(len(dataset))),
        seen_signals=past.signals,
        fitted=Fitted.by(dataset.manifest.recipe),
    )
    auditing.check(audit, allow_contaminated=allow_contaminated)
    dataset.prepare()
    stage = make_stage(run, inputs_of(dataset, targets.from_plain(run.target)), start)
    trained = _train(run, stage, dataset, fold, scratch=scratch, device=device)
    tested = _scores(run, stage, trained.module, dataset, fold.test_N, device)
    row = ResultRow(
        **{name: getattr(run, name) for name in KEY_PARTS if name != "corpus"},
        key=run.key,
        corpus=run.dataset,
        dataset=dataset.name,
        audit=audit.to_json(),
        seconds=time.monotonic() - began + _before(trained),
        device=_device_words(device),
        machine=cluster.machine(),
        rehearsal=dataset.rehearsal,
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        **_what_was_split(stage, fold),
        **_what_came_out(run, stage, trained, tested),
        **_speed(trained.history, stage, fold),
    )
    if store is not None:
        store.add(row)  # before what a killed run would go on from is removed
    _leave(run, trained, dataset, fold, past, scratch) if keep else _clear(scratch)
    return row


def _check_code(run: FoldRun) -> None:
    """Refuse to file a number under code that did not make it.

    Raises:
        ValueError: this process runs other code than the one that asked.
    """
    here = code_of(run.method, dataset_of(run.dataset))
    if run.code != here:
        raise ValueError(
            f"need the code that the run was planned with ({run.code}), got {here}: was a file "
            "edited meanwhile, or has this node another version?"
        )


def _before(trained: loop.Trained) -> float:
    """Seconds of the steps that processes before this one did, where a run was interrupted."""
    return sum(trained.history["step_s"][: trained.first_step])


def _what_was_split(stage: Stage, fold: Fold) -> dict[str, Any]:
    return {
        "n_classes": stage.inputs.n_outputs,
        "n_train": len(fold.train_N),
        "n_val": len(fold.val_N),
        "n_test": len(fold.test_N),
    }


def _what_came_out(
    run: FoldRun, stage: Stage, trained: loop.Trained, tested: Scores
) -> dict[str, Any]:
    assert trained.best is not None  # `_train` has epochs scored
    n_parameters = stage.n_parameters(trained.module)
    return {
        "scores": tested.by_name,
        "confusion": tested.confusion_KK,
        "val_score": trained.best.scores[trained.best.epoch],
        "best_epoch": trained.best.epoch,
        "n_epochs": stage.epochs,
        "n_parameters": sum(n_parameters.values()),
        "n_head_parameters": n_parameters["head"],
        "curves": {
            "train_loss": _per_epoch(trained.history["loss"], stage.epochs),
            val_curve(run.chosen_by): trained.best.scores,
        },
    }


@dataclass(frozen=True)
class _Past:
    """What weights were trained on before a run."""

    seen: Sequence[Seen] = ()
    signals: Sequence[Signals] = ()
    trained_on: Sequence[str] = ()
    """Datasets of which no more is known than their names."""


def _start(run: FoldRun, dataset: CorpusDataset) -> tuple[Start | None, _Past]:
    """The weights to start from, and what they were trained on.

    Raises:
        ValueError: the weights are not those that were asked for.
    """
    kind = methods.get(run.method).STAGES[run.stage]
    config = configs.from_dict(kind.config_type, run.config)
    if not run.checkpoint:
        if kind.published_weights(config) != run.start:
            raise ValueError(f"need the weights {run.start}, got {kind.published_weights(config)}")
        trained_on = kind.pretrained_on(config)
        everybody = {dataset.name: dataset.seen(np.arange(len(dataset)))}
        return None, _Past([everybody] if dataset.name in trained_on else [], (), trained_on)
    assert run.start is not None  # it names the checkpoint
    folder = Storage.at(run.checkpoint)
    with checkpoint.local(folder) as copy:
        facts = checkpoint.describe(copy)
        state = checkpoint.load(copy)
    seen, signals = checkpoint.account(folder, facts)
    found = start_identity(facts)
    if found != run.start:
        different = ", ".join(name for name in IDENTITY if found[name] != run.start[name])
        raise ValueError(
            f"{folder}: need the checkpoint that was asked for, got another ({different})"
        )
    return Start(facts["config"], state.model), _Past([seen], [signals])


def _train(
    run: FoldRun,
    stage: Stage,
    dataset: CorpusDataset,
    fold: Fold,
    *,
    scratch: Storage,
    device: torch.device,
) -> loop.Trained:
    label_S = _labels(run, dataset)
    pool = Pool(dataset.name, dataset.digest, fold.train_N, label_S=label_S[fold.train_N])
    plan = make_plan(stage.sampling, [pool], seed=run.seed)
    feed = PlanFeed(
        [dataset],
        plan,
        streams=stage.streams,
        targets=targets_of([dataset], stage.target, {dataset.name: label_S}),
        gather="worker",
        pin_memory=device.type == "cuda",
    )

    def score(module: nn.Module) -> float:
        return _scores(run, stage, module, dataset, fold.val_N, device)[run.chosen_by]

    return loop.train(
        stage,
        feed,
        steps_per_epoch=plan.n_steps,
        checkpoints=checkpoint.FolderCheckpoints(
            scratch.sub(UNFINISHED), {"key": run.key}, like=("key",)
        ),
        checkpoint_every=plan.n_steps,
        device=device,
        score=score,
    )


def _labels(run: FoldRun, dataset: CorpusDataset) -> IntArray:
    """Class of each segment of the dataset."""
    return targets.from_plain(run.target).labels(dataset.index)


def _scores(
    run: FoldRun,
    stage: Stage,
    module: nn.Module,
    dataset: CorpusDataset,
    rows_N: np.ndarray,
    device: torch.device,
) -> Scores:
    found = predict(stage, module, dataset, rows_N, device=device)
    labels_N = _labels(run, dataset)[rows_N]
    n_classes = stage.inputs.n_outputs
    return classification_scores(labels_N, found.class_N, n_classes, found.probability_NK)


def _speed(history: Mapping[str, Sequence[float]], stage: Stage, fold: Fold) -> dict[str, Any]:
    """Segments a second while training, and the share of that time spent waiting for them."""
    spent_s = sum(history["step_s"])
    return {
        "segments_per_s": len(fold.train_N) * stage.epochs / spent_s,
        "waiting": min(1.0, sum(history["wait_s"]) / spent_s),
    }


def _per_epoch(values: Sequence[float], n_epochs: int) -> tuple[float, ...]:
    """Mean of a column of steps over each epoch."""
    return tuple(float(part.mean()) for part in np.array_split(np.asarray(values), n_epochs))


def _device_words(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def _leave(
    run: FoldRun,
    trained: loop.Trained,
    dataset: CorpusDataset,
    fold: Fold,
    past: _Past,
    scratch: Storage,
) -> None:
    """Leave the best epoch's weights, in the place of what was needed to go on."""
    inputs = inputs_of(dataset, targets.from_plain(run.target))
    learned = np.concatenate([fold.train_N, fold.val_N])
    n_steps = len(trained.history["loss"])
    facts = {
        "run": run.key,
        "method": run.method,
        "stage": run.stage,
        "config": dict(run.config),
        "config_digest": configs.digest(run.config),
        # The key tells data and start apart, which a later run that starts here must ask for too.
        "plan": f"{run.protocol}/{fold.name}/{run.key}",
        "inputs": configs.to_dict(inputs),
        "corpus": {"location": run.corpus, "digest": dataset.digest},
        "rehearsal": dataset.rehearsal,
        "builds": [run.dataset],
        "code": run.code,
        "seen": merged([*past.seen, {dataset.name: dataset.seen(learned)}]),
        "signals": joined([*past.signals, dataset.signals(learned)]),
        "start": run.start,
    }
    _clear(scratch)
    state = checkpoint.State(n_steps, trained.module.state_dict(), {}, trained.history)
    checkpoint.FolderCheckpoints(scratch, facts, like=()).save(state)


def _clear(scratch: Storage) -> None:
    if scratch.exists():
        scratch.filesystem.delete_dir(scratch.root)


def merged(seen: Sequence[Mapping[str, Mapping[str, Sequence[str]]]]) -> dict[str, Any]:
    """Several accounts of dataset -> subject -> stimuli as one."""
    together: dict[str, dict[str, set[str]]] = {}
    for account in seen:
        for dataset, subjects in account.items():
            for subject, stimuli in subjects.items():
                together.setdefault(dataset, {}).setdefault(subject, set()).update(stimuli)
    return {
        dataset: {subject: sorted(stimuli) for subject, stimuli in sorted(subjects.items())}
        for dataset, subjects in sorted(together.items())
    }


def joined(signals: Sequence[Signals]) -> dict[str, list[str]]:
    """Fingerprints of several accounts as one; builds of two recipes give a recording more."""
    together: dict[str, set[str]] = {}
    for account in signals:
        for recording, prints in account.items():
            together.setdefault(recording, set()).update(prints)
    return {recording: sorted(prints) for recording, prints in sorted(together.items())}
