"""A run, executed: from what it reads and starts from to weights, and to a row where it is scored.

    run -> data open, starts loaded, audit -> stage, plan, feed -> `loop.train`
        -> a row of the test segments (runs that choose an epoch) -> the weights that it leaves

The same on one worker and on many: every worker calls `execute` with the same run, has its share
of every step and of what is scored, and rank 0 writes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib import metadata
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from emoray import datasets, methods
from emoray.batches import distributed
from emoray.batches.feeds import PlanFeed
from emoray.batches.plans import Plan
from emoray.evaluation import audit as auditing
from emoray.evaluation.audit import Audit
from emoray.evaluation.doubts import Fitted
from emoray.evaluation.folds import PROTOCOLS, Fold
from emoray.evaluation.metrics import Scores, classification_scores
from emoray.evaluation.predict import Predicted, predict
from emoray.methods.base import Stage, Start
from emoray.results.store import ResultRow, ResultStore, val_curve
from emoray.runtime import cluster
from emoray.runtime import config as configs
from emoray.runtime.code import source_version
from emoray.runtime.storage import Storage
from emoray.training import checkpoint, constants, data, loop
from emoray.training.account import Account, Past
from emoray.training.data import RunData, open_data, stage_of
from emoray.training.rows import Rows
from emoray.training.run import PUBLISHED, Execution, Origin, Run
from emoray.vocabulary.schema import IntArray

UNFINISHED = "unfinished"
"""Folder in a run's own, of the checkpoints that a run which chooses an epoch goes on from: beside
them, what it is asked to leave would be taken for its own unfinished state, or that for the weights
of its best epoch."""

KEPT = 2
"""Checkpoints of a run that is under way: the last one, and the one before it."""


Decided = Literal["corpus", "fold", "score"]
"""What a run's code decides: weights of the whole corpus, of a fold's training part, or a score."""


def code_of(method: str, names: Sequence[str], decided: Decided) -> str:
    """What decides a run's numbers: emoray's version and a digest of code, libraries of models.

    Args:
        method: whose folder counts.
        names: datasets. For a score their modules count, for what their cards say: classes, and
            whom and what they may share with others.
        decided: how folds are made counts for what is of one, audit and scores for a score alone.
    """
    modules: Mapping[Decided, tuple[str, ...]] = {
        "corpus": (loop.__name__,),
        "fold": (loop.__name__, data.__name__),
        "score": (__name__, *(f"{datasets.__name__}.{name}" for name in names)),
    }
    found = source_version((*modules[decided], methods.module_of(method)), words=False)
    libraries = getattr(methods.get(method), "LIBRARIES", ())
    return " ".join([found, *(f"{name}-{_version(name)}" for name in libraries)])


def decided_by(run: Run) -> Decided:
    """What comes out of a run."""
    if not run.fold:
        return "corpus"
    return "score" if run.chosen_by else "fold"


def _version(library: str) -> str:
    """Of an installed library; `absent` where it is not: models of our own run without it."""
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "absent"


def check_code(run: Run) -> None:
    """Refuse to file a number under code that did not make it.

    Raises:
        ValueError: this process runs other code than the one that asked.
    """
    here = code_of(run.method, run.datasets, decided_by(run))
    if run.code != here:
        raise ValueError(
            f"need the code that the run was planned with ({run.code}), got {here}: was a file "
            "edited meanwhile, has this node another version, or did an earlier one begin it?"
        )


def execute(
    run: Run,
    *,
    folder: Storage,
    device: torch.device,
    execution: Execution | None = None,
    allow_contaminated: bool = False,
    keep: bool = False,
    store: ResultStore | None = None,
    is_first_here: bool = True,
    listen: Callable[[Rows], None] = lambda rows: None,
) -> ResultRow | None:
    """Audit, train, and where the run chooses an epoch score the test segments once.

    Args:
        run: what to do.
        folder: the run's own, of its checkpoints; one that was interrupted goes on from them.
        device: where this worker computes.
        execution: how often it is kept, where segments are gathered.
        allow_contaminated: run although a checkpoint involved has seen test subjects or stimuli.
        keep: leave a checkpoint of the best epoch's weights in `folder`; without it a run that is
            scored leaves nothing. Others always leave their last.
        store: where the row is added, before anything is removed; None leaves that to the caller.
        is_first_here: of this run's workers on this node; it fetches and checks for all of them.
        listen: hears of finished steps.

    Returns:
        The row; None of a run that is not scored, and on all ranks but 0.

    Raises:
        LeakageError: the fold would leak what the protocol's name does not admit.
        ValueError: fold, dataset or checkpoint are not what was asked for.
        FloatingPointError: a loss or score is not finite.
    """
    began = time.monotonic()
    how = execution or Execution(gather="worker")
    check_code(run)
    found = open_data(run)
    starts, accounts = starts_of(run)
    account = account_of(found, accounts, with_signals=True)
    audit = _audited(found, account.before, allow_contaminated=allow_contaminated)
    if is_first_here and (how.gather == "worker" or found.fits_here):
        found.prepare()  # a damaged shard shows now, not in the middle of an epoch
    distributed.barrier()
    stage = found.stage(starts)
    plan = found.plan(stage)
    facts = facts_of(found, stage, plan, account, how)
    trained = _train(stage, found, plan, facts, folder, device, how, listen)
    if not run.chosen_by:
        return None
    tested = _scores(stage, trained.module, found, _fold(found).test_N, device)
    if distributed.rank() != 0:
        return None
    assert audit is not None  # of a run on a fold
    row = ResultRow(
        **{name: part for name, part in run.to_key().items() if name != "held_out"},
        key=run.key,
        dataset=found.dataset.name,
        audit=audit.to_json(),
        seconds=time.monotonic() - began + _before(trained),
        device=_device_words(device),
        machine=cluster.machine(),
        rehearsal=found.rehearsal,
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        **_what_was_split(found),
        **_what_came_out(run, stage, trained, tested),
        **_speed(trained.history, stage, found),
    )
    if store is not None and not store.add(row):  # before what it would go on from is removed
        row = store.get(run.key) or row  # whoever was first: what a table shows
    if keep:
        _leave(trained, facts, folder)
        folder.filesystem.delete_dir(folder.path(UNFINISHED))
    else:
        clear(folder)
    return row


def _fold(found: RunData) -> Fold:
    assert found.fold is not None  # of a run that is scored
    return found.fold


# What it starts from ------------------------------------------------------------------------------


def starts_of(run: Run) -> tuple[dict[str, Start], list[Account]]:
    """The weights to start from, and what each has seen.

    Raises:
        ValueError: the weights are not those that were asked for.
    """
    loaded = {r: _loaded(origin) for r, origin in run.starts.items() if r != PUBLISHED}
    starts = {role: start for role, (start, _) in loaded.items()}
    return starts, [account for _, account in loaded.values()]


def _loaded(origin: Origin) -> tuple[Start, Account]:
    place = Storage.at(origin.location)
    with checkpoint.local(place) as copy:
        facts = checkpoint.describe(copy)
        state = checkpoint.load(copy)
    found = origin_of(facts, origin.location)
    if found.to_plain() != origin.to_plain():
        need, got = origin.to_plain(), found.to_plain()
        different = ", ".join(name for name in got if got[name] != need.get(name))
        raise ValueError(
            f"{place}: need the checkpoint that was asked for, got another ({different})"
        )
    kind = methods.stage(facts["method"], facts["stage"])
    return Start(facts["config"], state.model, kind), Account.from_facts(facts)


def account_at(origin: Origin) -> Account:
    """What weights that are there have seen.

    Raises:
        CheckpointError: they are not there, or say nothing of it.
    """
    with checkpoint.local(Storage.at(origin.location)) as copy:
        facts = checkpoint.describe(copy)
    origin_of(facts, origin.location)
    return Account.from_facts(facts)


def origin_of(facts: Mapping[str, Any], location: str) -> Origin:
    """A checkpoint that is there as something to start from.

    Args:
        facts: its `run.json`.
        location: of its folder.

    Raises:
        CheckpointError: a fact is not there, as in what an unfinished run goes on from.
    """
    checkpoint.account(location, facts)
    if absent := [name for name in (*_ACCOUNT, *_LINEAGE) if name not in facts]:
        raise checkpoint.CheckpointError(
            f"{location}: need a checkpoint of weights that a run may start from, got one that "
            f"does not say its {', '.join(absent)}"
        )
    account = Account.from_facts(facts)
    identity = identity_of(facts["key"], facts["step"], account)
    return Origin(identity, location, {name: facts[name] for name in _LINEAGE})


_ACCOUNT = ("key", "step", "own", "before", "trained_on", "unaudited", "protocol", "fold", "target")
_LINEAGE = ("method", "stage", "config", "starts")


def identity_of(key: str, step: int, account: Account) -> dict[str, Any]:
    """What names the weights of a run after a step: it, and whom they have seen."""
    return {"run": key, "step": step, "seen": account.digest}


def account_of(found: RunData, starts: Sequence[Account], *, with_signals: bool) -> Account:
    """What a run's weights will have seen at its end.

    Args:
        found: what it reads.
        starts: what its starts have seen.
        with_signals: whether recordings' fingerprints are wanted too, which takes longer.

    Raises:
        ValueError: the settings name other published weights than the run's starts.
    """
    own = found.signals() if with_signals else {}
    prints = {name: found for of_one in own.values() for name, found in of_one.items()}
    shown = Past(found.seen(), prints)
    account = Account.of(found, shown, starts)
    published = _published(found)
    if published is None:
        return account
    return replace(
        account,
        all=Past.of_all([account.all, published]),
        before=Past.of_all([account.before, published]),
    )


def _published(found: RunData) -> Past | None:
    """What published weights have seen that a run's settings name; None where they name none."""
    run, kind = found.run, stage_of(found.run)
    config: Any = configs.from_dict(kind.config_type, run.config)
    asked, named = run.starts.get(PUBLISHED), kind.published_weights(config)
    need = None if asked is None else dict(asked.identity)
    if need != (None if named is None else dict(named)):
        raise ValueError(f"need the weights {need}, got {named}")
    if named is None:
        return None
    trained_on = kind.pretrained_on(config)
    whole = {
        one.name: one.seen(np.arange(one.index.num_rows))
        for one in found.datasets
        if one.name in trained_on
    }
    return Past(whole, trained_on=tuple(trained_on), unaudited=True)


# Audit --------------------------------------------------------------------------------------------


def _audited(found: RunData, past: Past, *, allow_contaminated: bool) -> Audit | None:
    """Hold a fold's test segments against all that the weights know; None without a fold."""
    if found.fold is None:
        return None
    dataset = found.dataset
    audit = auditing.audit(
        dataset.index,
        dataset.name,
        found.fold,
        PROTOCOLS[found.run.protocol],
        [past.seen],
        unaudited=past.unaudited,
        trained_on=past.trained_on,
        signals=dataset.signals(np.arange(dataset.index.num_rows)),
        seen_signals=[past.signals],
        fitted=Fitted.by(*dataset.recipes),
    )
    auditing.check(audit, allow_contaminated=allow_contaminated)
    return audit


# Training -----------------------------------------------------------------------------------------


def _train(
    stage: Stage,
    found: RunData,
    plan: Plan,
    facts: Mapping[str, Any],
    folder: Storage,
    device: torch.device,
    how: Execution,
    listen: Callable[[Rows], None],
) -> loop.Trained:
    feed = PlanFeed(
        found.datasets,
        plan,
        streams=stage.streams_each_step or stage.streams,
        targets=found.targets(stage),
        constants=constants.computed(stage, found, device),
        rank=distributed.rank(),
        world_size=distributed.world_size(),
        gather=how.gather,
        pin_memory=device.type == "cuda",
    )
    chooses = bool(found.run.chosen_by)

    def score(module: nn.Module) -> float:
        return _scores(stage, module, found, _fold(found).val_N, device)[found.run.chosen_by]

    return loop.train(
        stage,
        feed,
        steps_per_epoch=plan.n_steps,
        checkpoints=checkpoint.FolderCheckpoints(
            folder.sub(UNFINISHED) if chooses else folder,
            {"key": found.run.key} if chooses else facts,
            like=("key",),
            keep=1 if chooses else KEPT,
        ),
        checkpoint_every=how.checkpoint_every or plan.n_steps,
        device=device,
        listen=listen,
        score=score if chooses else None,
    )


def _scores(
    stage: Stage, module: nn.Module, found: RunData, rows_N: IntArray, device: torch.device
) -> Scores:
    """Of some rows, the same on every worker; each looks at its share of them."""
    predicted = _predicted(stage, module, found, rows_N, device)
    assert found.labels is not None  # of a run on a fold
    labels_N = found.labels[found.dataset.name][rows_N]
    return classification_scores(
        labels_N, predicted.class_N, stage.inputs.n_outputs, predicted.probability_NK
    )


def _predicted(
    stage: Stage, module: nn.Module, found: RunData, rows_N: IntArray, device: torch.device
) -> Predicted:
    n = distributed.world_size()
    if n == 1 or len(rows_N) < n:
        return predict(stage, module, found.dataset, rows_N, device=device)
    mine_B = np.arange(distributed.rank(), len(rows_N), n)
    own = predict(stage, module, found.dataset, rows_N[mine_B], device=device)
    place_B, class_B, probability_BK = (
        torch.from_numpy(column).to(device) for column in (mine_B, own.class_N, own.probability_NK)
    )
    class_N, probability_NK = distributed.gather_in_order(place_B, class_B, probability_BK)
    return Predicted(class_N.cpu().numpy(), probability_NK.cpu().numpy())


# What it says of itself ---------------------------------------------------------------------------


def facts_of(
    found: RunData, stage: Stage, plan: Plan, account: Account, how: Execution
) -> dict[str, Any]:
    """What a checkpoint says of itself beside its tensors."""
    run = found.run
    return {
        "name": run.folder_name,
        **run.to_key(),
        "key": run.key,
        "config_digest": configs.digest(run.config),
        "plan": plan.digest,
        "inputs": configs.to_dict(stage.inputs),
        "recipes": found.recipes,
        "corpus": {"location": run.corpus, "digest": found.digest},
        "rehearsal": found.rehearsal,
        **account.to_facts(),
        "n_workers": how.n_workers,
        "versions": {name: metadata.version(name) for name in ("torch", "ray")},
    }


def _before(trained: loop.Trained) -> float:
    """Seconds of the steps that processes before this one did, where a run was interrupted."""
    return sum(trained.history["step_s"][: trained.first_step])


def _what_was_split(found: RunData) -> dict[str, Any]:
    fold = _fold(found)
    return {
        "n_classes": found.inputs.n_outputs,
        "n_train": found.n_drawn,
        "n_val": len(fold.val_N),
        "n_test": len(fold.test_N),
    }


def _what_came_out(run: Run, stage: Stage, trained: loop.Trained, tested: Scores) -> dict[str, Any]:
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


def _speed(history: Mapping[str, Sequence[float]], stage: Stage, found: RunData) -> dict[str, Any]:
    """Segments a second while training, and the share of that time spent waiting for them."""
    spent_s = sum(history["step_s"])
    return {
        "segments_per_s": found.n_drawn * stage.epochs / spent_s,
        "waiting": min(1.0, sum(history["wait_s"]) / spent_s),
    }


def _per_epoch(values: Sequence[float], n_epochs: int) -> tuple[float, ...]:
    """Mean of a column of steps over each epoch."""
    return tuple(float(part.mean()) for part in np.array_split(np.asarray(values), n_epochs))


def _device_words(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


# What it leaves -----------------------------------------------------------------------------------


def _leave(trained: loop.Trained, facts: Mapping[str, Any], folder: Storage) -> None:
    """The best epoch's weights, under the number of all steps."""
    n_steps = len(trained.history["loss"])
    state = checkpoint.State(n_steps, trained.module.state_dict(), {}, trained.history)
    checkpoint.save(folder.sub(checkpoint.name_of(n_steps)), state, facts)


def clear(folder: Storage) -> None:
    """Remove a run's checkpoints, and its folder where nothing else lies in it."""
    for name in folder.folders():
        if name == UNFINISHED or name.startswith(checkpoint.PREFIX):
            folder.filesystem.delete_dir(folder.path(name))
    if folder.exists() and not folder.folders() and not folder.files():
        folder.filesystem.delete_dir(folder.root)
