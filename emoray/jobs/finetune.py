"""Fine-tuning: two arms, their folds and seeds, the table."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from emoray import methods
from emoray.experiments import session
from emoray.experiments.arms import Arm, ArmStage
from emoray.experiments.experiment import (
    FOLD_NOTES,
    ONE_PRETRAINING,
    Experiment,
    Frame,
    asked,
    compare,
)
from emoray.experiments.graph import Graph
from emoray.experiments.options import Finetune
from emoray.experiments.paper_tables import check_datasets
from emoray.methods.base import Stage
from emoray.reports import figures
from emoray.results import published
from emoray.results.paper import Evaluation, Paper
from emoray.runtime.config import set_all
from emoray.runtime.console import open_console
from emoray.training.run import Origin

SCRATCH, PRETRAINED = "from scratch", "pretrained"


def run(options: Finetune) -> None:
    """Run what is missing, then show and write the table."""
    began = time.monotonic()
    paper = published.load(options.method)
    stage = _stage(options.method, options.stage)
    place = session.open_place(options.where, open_console(), paper, keep=True)
    origin = session.origin_named(place, options.checkpoint) if options.checkpoint else None
    evaluation = _evaluation(options, place, paper)
    title = paper.full_model.name if paper.full_model else options.method
    experiment = _experiment(options, stage, place, origin, evaluation, title)
    cells = experiment.cells()
    if options.dry_run:
        session.show_missing(place, cells)
        return
    errors = session.run_missing(place, cells)
    frame = _frame(options, experiment, title)
    comparison = compare(experiment, cells, place.store, frame, errors)
    pictures = figures.of_comparison(comparison)
    seconds = time.monotonic() - began
    session.report(place, comparison, pictures, asked=asked(cells), seconds=seconds)
    session.show_weights(place, cells)
    session.check_all_ended(errors)


def _stage(method: str, asked: str | None) -> str:
    """The stage of a method that is fine-tuned.

    Raises:
        ValueError: the method has none, or several and none was named.
    """
    found: dict[str, type[Stage]] = methods.get(method).STAGES
    fit = [name for name, kind in found.items() if (kind.scope, kind.target) == ("fold", "label")]
    if asked is None and len(fit) == 1:
        return fit[0]
    if asked not in fit:
        known = ", ".join(fit) or "none"
        raise ValueError(f"need --stage among those of {method} that tell classes ({known})")
    return asked


def _evaluation(options: Finetune, place: session.Place, paper: Paper) -> tuple[Evaluation, ...]:
    """Those of the paper, or of all its tables, whose datasets are asked for, or are there.

    Raises:
        ValueError: the paper evaluates nothing on a dataset.
    """
    of_tables = {one.name: one for table in paper.tables.values() for one in table.evaluation}
    known = paper.evaluation or tuple(of_tables.values())
    there = tuple(dict.fromkeys(one.dataset for one in known))
    check_datasets(paper, options.datasets, there)
    here = options.datasets or [name for name in there if name in place.catalog.names]
    found = [one for name in here for one in known if one.dataset == name]
    if place.rehearsal and not options.protocols:
        found = [one.rehearsed for one in found]
    return tuple(found)


def _experiment(
    options: Finetune,
    stage: str,
    place: session.Place,
    origin: Origin | None,
    evaluation: Sequence[Evaluation],
    title: str,
) -> Experiment:
    kind = methods.stage(options.method, stage)
    config = kind.rehearsal() if place.rehearsal else kind.config_type()
    config = set_all(config, _settings(options.set, stage))
    starts = {} if origin is None else {_role(kind, options.start_as): origin}
    config = kind.following(config, {role: o.lineage["config"] for role, o in starts.items()})
    arms = [Arm(f"{title}, {SCRATCH}", (ArmStage(stage, options.method, stage, config),))]
    if starts:
        last = ArmStage(stage, options.method, stage, config, starts)
        arms.append(Arm(f"{title}, {PRETRAINED}", (last,)))
    return Experiment(
        arms=arms,
        graph=Graph(place.catalog, place.folders.runs),
        evaluation=evaluation,
        seeds=options.seeds,
        protocols=options.protocols,
        folds=options.folds or ("rotate" if place.rehearsal else "all"),
    )


def _settings(words: Sequence[str], stage: str) -> dict[str, Any]:
    """Fields of the stage, asked for as `finetune.epochs=10`.

    Raises:
        ValueError: a setting of another stage, or the seed.
    """
    found = {}
    for name, value in session.settings(words).items():
        of, _, field = name.partition(".")
        if of != stage or not field:
            raise ValueError(f"need settings like {stage}.epochs, got {name!r}")
        if field == "seed":
            raise ValueError(f"need seeds as such, got the setting {name!r}")
        found[field] = value
    return found


def _role(kind: type[Stage], asked: str | None) -> str:
    """What the stage calls the checkpoint.

    Raises:
        ValueError: it starts from nothing, or from several things and none was named.
    """
    if asked is None and len(kind.may_start_from) == 1:
        return kind.may_start_from[0]
    if asked not in kind.may_start_from:
        known = ", ".join(kind.may_start_from) or "nothing"
        raise ValueError(f"need --start-as what the stage starts from ({known}), got {asked}")
    return asked


def _frame(options: Finetune, experiment: Experiment, title: str) -> Frame:
    """What the table says beside its numbers."""
    one_start = (ONE_PRETRAINING,) if options.checkpoint else ()
    return Frame(
        name="finetune",
        title=f"{title} fine-tuned",
        caption=f"{title} fine-tuned from {options.checkpoint or 'scratch'}",
        reference=f"{title}, {SCRATCH}" if options.checkpoint else None,
        notes=(FOLD_NOTES[experiment.folds], *one_start),
    )
