"""Fine-tuning: two arms, their folds and seeds, the table."""

from __future__ import annotations

import time
from dataclasses import replace

from emoray import datasets
from emoray.evaluation.folds import paper_protocol
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
from emoray.runtime.config import from_dict, to_dict
from emoray.runtime.console import open_console

SCRATCH, PRETRAINED = "EMOD, from scratch", "EMOD, pretrained"


def run(options: Finetune) -> None:
    """Run what is missing, then show and write the table."""
    began = time.monotonic()
    place = session.open_place(options.where, open_console(), keep=True)
    origin = session.origin_of(place, options.checkpoint) if options.checkpoint else None
    experiment = _experiment(options, place, origin)
    plan = experiment.plan()
    if options.dry_run:
        session.show_missing(place, plan)
        return
    errors = session.run_missing(place, plan)
    frame = _frame(options, experiment)
    comparison = compare(experiment, plan, place.store, frame, errors)
    pictures = figures.of_comparison(comparison, class_names=session.class_names(comparison))
    seconds = time.monotonic() - began
    session.report(place, comparison, pictures, asked=asked(plan), seconds=seconds)
    session.show_weights(place, plan)
    session.check_all_ended(errors)


def _experiment(
    options: Finetune, place: session.Place, origin: session.Trained | None
) -> Experiment:
    config = from_dict(FinetuneConfig, to_dict(options.emod))
    if origin is not None:
        config = replace(config, encoder=_encoder_of(origin, config.encoder))
    arms = [Arm(SCRATCH, "emod", "finetune", config, from_scratch)]
    if origin is not None:
        arms.append(Arm(PRETRAINED, "emod", "finetune", config, lambda seed: origin.origin))
    known = [name for name in datasets.names("evaluation") if name in place.corpus.names]
    rehearsed = (*map(paper_protocol, known), "subjects_and_stimuli_apart")
    return Experiment(
        arms=arms,
        location=place.location,
        corpus=place.corpus,
        datasets=options.datasets or known,
        seeds=options.seeds,
        protocols=options.protocols or (rehearsed if place.rehearsal else ()),
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
