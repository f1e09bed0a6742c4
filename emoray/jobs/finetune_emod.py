"""Fine-tuning: two arms, their folds and seeds, the table."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from emoray.experiments import session
from emoray.experiments.experiment import (
    FOLD_NOTES,
    ONE_PRETRAINING,
    Arm,
    Experiment,
    Frame,
    asked,
    compare,
    from_scratch,
)
from emoray.experiments.options import Finetune
from emoray.methods.emod.config import EncoderConfig, FinetuneConfig
from emoray.reports import figures
from emoray.results import published
from emoray.results.paper import Evaluation
from emoray.runtime.config import from_dict, to_dict
from emoray.runtime.console import open_console

SCRATCH, PRETRAINED = "EMOD, from scratch", "EMOD, pretrained"


def run(options: Finetune) -> None:
    """Run what is missing, then show and write the table."""
    began = time.monotonic()
    paper = published.load("emod")
    place = session.open_place(options.where, open_console(), paper, keep=True)
    origin = session.origin_of(place, options.checkpoint) if options.checkpoint else None
    evaluation = _evaluation(options, place, paper.evaluation)
    experiment = _experiment(options, place, origin, evaluation)
    plan = experiment.plan()
    if options.dry_run:
        session.show_missing(place, plan)
        return
    errors = session.run_missing(place, plan)
    frame = _frame(options, experiment)
    comparison = compare(experiment, plan, place.store, frame, errors)
    pictures = figures.of_comparison(comparison)
    seconds = time.monotonic() - began
    session.report(place, comparison, pictures, asked=asked(plan), seconds=seconds)
    session.show_weights(place, plan)
    session.check_all_ended(errors)


def _evaluation(
    options: Finetune, place: session.Place, known: Sequence[Evaluation]
) -> tuple[Evaluation, ...]:
    """Those of the paper whose datasets are asked for, or are there.

    Raises:
        ValueError: the paper evaluates nothing on a dataset.
    """
    by_dataset = {one.dataset: one for one in known}
    if unknown := [name for name in options.datasets if name not in by_dataset]:
        raise ValueError(f"need datasets among {', '.join(by_dataset)}; got {', '.join(unknown)}")
    here = options.datasets or [name for name in by_dataset if name in place.corpus.names]
    found = [by_dataset[name] for name in here]
    if place.rehearsal and not options.protocols:
        found = [one.rehearsed for one in found]
    return tuple(found)


def _experiment(
    options: Finetune,
    place: session.Place,
    origin: session.Trained | None,
    evaluation: Sequence[Evaluation],
) -> Experiment:
    config = from_dict(FinetuneConfig, to_dict(options.emod))
    if origin is not None:
        config = replace(config, encoder=_encoder_of(origin, config.encoder))
    arms = [Arm(SCRATCH, "emod", "finetune", config, from_scratch)]
    if origin is not None:
        arms.append(Arm(PRETRAINED, "emod", "finetune", config, lambda seed: origin.origin))
    return Experiment(
        arms=arms,
        location=place.location,
        corpus=place.corpus,
        evaluation=evaluation,
        seeds=options.seeds,
        protocols=options.protocols,
        folds=options.folds or ("rotate" if place.rehearsal else "all"),
    )


def _frame(options: Finetune, experiment: Experiment) -> Frame:
    """What the table says beside its numbers."""
    one_start = (ONE_PRETRAINING,) if options.checkpoint else ()
    return Frame(
        name="finetune",
        title="EMOD fine-tuned",
        caption=f"EMOD fine-tuned from {options.checkpoint or 'scratch'}",
        reference=SCRATCH if options.checkpoint else None,
        notes=(FOLD_NOTES[experiment.folds], *one_start),
    )


def _encoder_of(trained: session.Trained, asked: EncoderConfig) -> EncoderConfig:
    """The encoder that the checkpoint holds, with the dropout and front end that are asked for.

    Raises:
        ValueError: the checkpoint holds no encoder of EMOD.
    """
    if "encoder" not in trained.config:
        raise ValueError(f"{trained.origin.location}: need a checkpoint of EMOD, got another")
    stored = from_dict(EncoderConfig, trained.config["encoder"])
    return replace(stored, dropout=asked.dropout, frontend=asked.frontend)
