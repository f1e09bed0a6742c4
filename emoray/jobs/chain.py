"""A method's stages run once, to a classifier of one dataset that its user can load.

options -> row of the paper (its stages) + dataset, target, fold -> runs -> what is missing runs
        -> classifier's folder: weights, summary
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from emoray import datasets, methods
from emoray.evaluation.folds import PROTOCOLS, folds
from emoray.experiments import session
from emoray.experiments.arms import Arm
from emoray.experiments.builds import Reading
from emoray.experiments.graph import At, descent, question
from emoray.experiments.options import Chain
from emoray.experiments.paper_tables import Reproduction
from emoray.experiments.pretraining import SUMMARY_FILE, history_of, leave_curves
from emoray.methods.base import Stage
from emoray.reports import classifier as report
from emoray.reports import summary
from emoray.reports.classifier import SIDES, Scored, TrainedStage
from emoray.results import published
from emoray.results.paper import Evaluation, Paper, PaperRow
from emoray.runtime.config import digest
from emoray.runtime.console import open_console
from emoray.runtime.storage import Storage, check_name, join
from emoray.training import checkpoint, driver
from emoray.training.data import RunData, open_data
from emoray.training.run import Run
from emoray.vocabulary.schema import Stream
from emoray.vocabulary.targets import Classes, Cut

ALWAYS_SHOWN = ("bacc",)
"""Metrics beside the paper's: with classes of unequal size accuracy alone says little."""


def run(options: Chain, method: str) -> None:
    """Run what is missing of a paper's chain, then say what came out and where it lies."""
    began = time.monotonic()
    paper = published.load(method)
    if options.name is not None:
        check_name(options.name, "a classifier's name")
    place = session.open_place(
        options.where,
        open_console(),
        paper,
        keep=True,
        watched=True,
        reading=_rehearsed(options, paper),
    )
    asked = _asked(options, paper, place)
    place.console.print(summary.run(_words(asked, place), rehearsal=place.catalog.rehearsal))
    names = {asked.run.key: asked.arm.row}
    to_run = [] if _is_there(place, asked.run) else [asked.run]
    if options.dry_run and to_run:
        session.estimate_these(place, to_run, names)
        return
    if to_run:
        session.check_all_ended(session.run_these(place, to_run, names))
    _finish(asked, options.name, place, began)


# What is asked ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Asked:
    """The chain, and where it ends."""

    arm: Arm
    evaluation: Evaluation
    run: Run
    """Of the last stage; the others are its starts, and theirs."""
    n_folds: int


def _asked(options: Chain, paper: Paper, place: session.Place) -> _Asked:
    dataset = options.dataset or _first_there(paper, place)
    row = paper.chain(dataset, options.row)
    reads = _streams_read(dataset, row)
    if not place.catalog.having(reads, [dataset]):
        raise ValueError(
            f"need {' and '.join(reads)} of {dataset} in the corpus, got {place.catalog.words}"
        )
    evaluation = _evaluation(options, paper, dataset)
    reproduction = Reproduction(
        paper=paper,
        catalog=place.catalog,
        storage=place.folders.runs,
        seeds=(options.seed,),
        rehearsal=place.rehearsal,
        set=session.settings(options.set),
        n_workers=place.demand.n_workers,
    )
    arm = reproduction.chain(row)
    index = reproduction.graph.dataset([arm], evaluation).index
    made = [one.name for one in folds(options.protocol, dataset, index, evaluation.target)]
    fold = options.fold or made[0]
    if fold not in made:
        raise ValueError(f"need --fold among {', '.join(made)}; got {fold}")
    at = At(evaluation, options.protocol, fold, options.seed)
    return _Asked(arm, evaluation, reproduction.graph.run(arm, at), len(made))


def _first_there(paper: Paper, place: session.Place) -> str:
    """The first dataset that a paper evaluates on and the corpus has.

    Raises:
        ValueError: there is none.
    """
    known = dict.fromkeys(one.dataset for one in paper.evaluations)
    for name in known:
        if name in place.catalog.names:
            return name
    raise ValueError(f"need one of {', '.join(known)} in the corpus, got {place.catalog.words}")


def _rehearsed(options: Chain, paper: Paper) -> list[Reading]:
    """What a rehearsal's stages read; refused before data are written where it cannot be.

    Raises:
        ValueError: as `_streams_read` and `_evaluation`; a dataset that a rehearsal has no data of.
    """
    if options.where.corpus is not None:
        return []
    dataset = options.dataset or paper.evaluations[0].dataset
    row = paper.chain(dataset, options.row)
    _streams_read(dataset, row)
    _evaluation(options, paper, dataset)
    if dataset not in paper.evaluated:
        raise ValueError(
            f"need --corpus, or --dataset among {', '.join(paper.evaluated)}, of which there are "
            f"rehearsal data; got {dataset}"
        )
    return [
        (kind, paper.pretraining if kind.scope == "corpus" else (dataset,)) for kind in _kinds(row)
    ]


def _kinds(row: PaperRow) -> list[type[Stage]]:
    assert row.reproduce is not None  # or it was no chain
    return [methods.stage(s.method, s.stage) for s in row.reproduce.stages]


def _streams_read(dataset: str, row: PaperRow) -> tuple[Stream, ...]:
    """What the chain's stages on a fold read.

    Raises:
        ValueError: there is no such dataset, or it lacks one of these.
    """
    if dataset not in datasets.names():
        raise ValueError(f"need --dataset among {', '.join(datasets.names())}; got {dataset}")
    kinds = [kind for kind in _kinds(row) if kind.scope == "fold"]
    reads = tuple(dict.fromkeys(stream for kind in kinds for stream in kind.streams))
    card = datasets.get(dataset).CARD
    if absent := [stream.upper() for stream in reads if stream not in card.streams]:
        raise ValueError(
            f"need a dataset with {' and '.join(stream.upper() for stream in reads)} for "
            f"{row.name}, got {card.title}, which has no {' and no '.join(absent)}"
        )
    return reads


def _evaluation(options: Chain, paper: Paper, dataset: str) -> Evaluation:
    """What is told apart, and how it is scored: the paper's, or one's own target.

    Raises:
        ValueError: a target that the paper does not have for the dataset.
    """
    if options.protocol not in PROTOCOLS:
        known = ", ".join(PROTOCOLS)
        raise ValueError(f"need --protocol among {known}; got {options.protocol}")
    own = {_short(one): one for one in paper.evaluations if one.dataset == dataset}
    like = next(iter([*own.values(), *paper.evaluations]))
    if options.above is not None and options.target is not None:
        target = Cut(options.target, options.above)
        return replace(like, name=f"{dataset}_{options.target}", dataset=dataset, target=target)
    if options.target is None and own:
        return like
    for short, one in own.items():
        if options.target in (short, one.name):
            return one
    if options.target in (None, "classes"):
        return replace(like, name=dataset, dataset=dataset, target=Classes())
    raise ValueError(
        f"need --target among {', '.join(own) or 'none'} (of the paper for {dataset}), classes, or "
        f"a rating beside --above; got {options.target}"
    )


def _short(evaluation: Evaluation) -> str:
    """Of a dataset's evaluations one, as a person types it: `arousal` of `dreamer_arousal`."""
    if evaluation.name == evaluation.dataset:
        return "classes"
    return evaluation.name.rpartition("_")[2]


def _is_there(place: session.Place, run: Run) -> bool:
    """Whether both row and weights are."""
    has_weights = checkpoint.latest_whole(place.folders.folder(run)) is not None
    return has_weights and not place.store.missing([run.key])


def _words(asked: _Asked, place: session.Place) -> dict[str, str]:
    """What is about to run, for a person who is about to wait for it."""
    run, card = asked.run, datasets.get(asked.evaluation.dataset).CARD
    chain = descent(run)
    ended = [one.stage for one in chain if session.has_ended(place, one)]
    stages = " > ".join(one.stage for one in chain)
    builds = dict.fromkeys(build for one in chain for build in one.builds)
    said = f" ({', '.join(ended)} ended earlier)" if ended else ""
    return {
        "method": f"{run.method}, {asked.arm.row}",
        "stages": f"{stages}{said}",
        "data": f"{card.title}: {', '.join(builds)}",
        "told apart": ", ".join(asked.evaluation.target.names(card.emotions)),
        "split": f"{run.protocol}, fold {run.fold} ({asked.n_folds} in all), seed {run.seed}",
        "corpus": run.corpus,
    }


# What came out ------------------------------------------------------------------------------------


def _finish(asked: _Asked, name: str | None, place: session.Place, began: float) -> None:
    """Write the classifier's folder, and show what is in it."""
    from emoray.reports import figures  # matplotlib: not what the first step waits for

    rehearsal = place.catalog.rehearsal
    folder = Storage.at(join(place.storage, "classifiers", name or _name(asked, rehearsal)))
    trained, lie = [], {}
    for run in descent(asked.run):
        of_run = place.folders.folder(run)
        history, found = history_of(of_run), open_data(run)
        plan = found.plan(found.stage())
        curves = leave_curves(of_run, history, found, plan, loss_png=figures.loss_curve)
        trained.append(_trained(found, history["loss"], sum(history["step_s"])))
        lie[f"{run.stage}, checkpoint"] = driver.last_checkpoint(of_run)
        lie[f"{run.stage}, TensorBoard"] = curves["TensorBoard"]
    checkpoint.copy(Storage.at(lie[f"{asked.run.stage}, checkpoint"]), folder)
    tested = _tested(asked, open_data(asked.run), place)
    seconds = time.monotonic() - began
    places = {
        "classifier": str(folder),
        "summary": folder.place(SUMMARY_FILE),
        "result row": place.store.place(asked.run.key),
        **lie,
    }
    facts = _facts(asked, trained, tested, places, seconds)
    folder.write_bytes(SUMMARY_FILE, driver.as_json(facts))
    shown = tuple(dict.fromkeys((*asked.evaluation.metrics, *ALWAYS_SHOWN)))
    console = place.console
    console.print(report.stages(trained, rehearsal=rehearsal))
    console.print()
    console.print(report.test(tested, shown, rehearsal=rehearsal))
    console.print()
    console.print(summary.end(places, seconds, rehearsal=rehearsal))


def _name(asked: _Asked, rehearsal: bool) -> str:
    """Of the classifier's folder: the same for the same question."""
    run, marked = asked.run, "-rehearsal" * rehearsal
    return f"{run.method}-{asked.evaluation.name}{marked}-{digest(question(run))[:6]}"


def _trained(found: RunData, losses: Sequence[float], seconds: float) -> TrainedStage:
    stage = found.stage()
    of_epoch = [float(part.mean()) for part in np.array_split(np.array(losses), stage.epochs)]
    return TrainedStage(
        name=found.run.stage,
        n_epochs=stage.epochs,
        n_steps=len(losses),
        first_loss=of_epoch[0],
        last_loss=of_epoch[-1],
        seconds=seconds,
    )


def _tested(asked: _Asked, found: RunData, place: session.Place) -> Scored:
    (row,) = place.store.rows([asked.run.key])
    assert found.fold is not None  # of a run that is scored
    assert found.labels is not None
    label_S = found.labels[found.dataset.name]
    sides = (found.fold.train_N, found.fold.val_N, found.fold.test_N)
    counts = (np.bincount(label_S[rows_N], minlength=row.n_classes) for rows_N in sides)
    return Scored(
        title=f"{asked.arm.row}, {asked.evaluation.title}",
        protocol_words=PROTOCOLS[row.protocol].words,
        classes=found.inputs.classes,
        n_segments={side: n_K.tolist() for side, n_K in zip(SIDES, counts, strict=True)},
        row=row,
    )


def _facts(
    asked: _Asked,
    trained: Sequence[TrainedStage],
    tested: Scored,
    places: dict[str, str],
    seconds: float,
) -> dict[str, Any]:
    """The summary, as plain data."""
    row = tested.row
    return {
        "method": row.method,
        "row": asked.arm.row,
        "rehearsal": row.rehearsal,
        "dataset": row.dataset,
        "target": row.target,
        "classes": tested.classes,
        "n_segments": tested.n_segments,
        "protocol": row.protocol,
        "fold": row.fold,
        "seed": row.seed,
        "audit": row.verdict,
        "chosen_by": row.chosen_by,
        "best_epoch": row.best_epoch,
        "val_score": row.val_score,
        "scores": row.scores,
        "commonest_class_always": tested.commonest,
        "recall": tested.recall_K,
        "stages": [asdict(one) for one in trained],
        "places": places,
        "seconds": round(seconds, 1),
        "machine": row.machine,
    }
