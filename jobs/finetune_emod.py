"""Fine-tune EMOD's encoder for one dataset's classes and score it on held-out segments.

    python jobs/finetune_emod.py                            a rehearsal from scratch, minutes
    python jobs/finetune_emod.py --corpus DIR --checkpoint RUN --datasets faced     the paper's
    python jobs/finetune_emod.py --corpus DIR --checkpoint DIR/step-00027800 --head mlp

RUN is the name of a pretraining run, or one of its step-... folders. Beside the pretrained encoder
the same network is trained from scratch, with the same optimizer, folds and seeds. The best epoch
is chosen by kappa on the validation segments; the test segments are scored once. Runs that have a
result are not repeated; every dataset is scored under the paper's protocol and under safe ones.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated

import tyro

from emoray import datasets, session
from emoray.config import from_dict, to_dict
from emoray.console import open_console
from emoray.evaluation.folds import paper_protocol
from emoray.experiment import (
    FOLD_NOTES,
    ONE_PRETRAINING,
    Arm,
    Experiment,
    FoldChoice,
    Frame,
    asked,
    compare,
    from_scratch,
)
from emoray.methods.emod.method import FinetuneConfig, rehearsal_finetune_config
from emoray.methods.emod.model import EncoderConfig
from emoray.reports import figures

SCRATCH, PRETRAINED = "EMOD, from scratch", "EMOD, pretrained"


@dataclass(frozen=True)
class Settings(FinetuneConfig):
    """What is computed, but for the seed: that is one of `--seeds`."""

    seed: Annotated[int, tyro.conf.Fixed, tyro.conf.Suppress] = 0


@dataclass(frozen=True)
class Options:
    """Fine-tune EMOD."""

    where: Annotated[session.Options, tyro.conf.arg(name="")] = field(
        default_factory=session.Options
    )
    """Corpus, storage and cluster."""
    checkpoint: str | None = None
    """Name of a pretraining run in the storage, or folder or URI of a step-... of one; without it
    the network is trained from scratch only. Its encoder's settings are taken from there."""
    datasets: tuple[str, ...] = ()
    """Datasets with classes to evaluate on; all that the corpus has without it."""
    protocols: tuple[str, ...] = ()
    """Protocols by name; the paper's and the safe ones without it."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Of the runs; the paper has five."""
    folds: FoldChoice | None = None
    """`all` folds of a protocol for every seed, or `rotate`: seed i takes fold i. Default: all; a
    rehearsal rotates."""
    dry_run: bool = False
    """List what is missing and how long it should take; run nothing."""
    emod: Annotated[Settings, tyro.conf.arg(name="")] = field(default_factory=Settings)
    """What is computed."""


def main(options: Options) -> None:
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
    options: Options, place: session.Place, origin: session.Trained | None
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


def _frame(options: Options, experiment: Experiment) -> Frame:
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


def _defaults(words: Sequence[str]) -> Options:
    """The paper's settings, or those of a rehearsal where there is no corpus to train on."""
    if {word.partition("=")[0] for word in words} & {"--corpus", "--help", "-h"}:
        return Options()
    return Options(emod=from_dict(Settings, to_dict(rehearsal_finetune_config())))


if __name__ == "__main__":
    options = tyro.cli(
        Options,
        default=_defaults(sys.argv[1:]),
        description=__doc__,
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    try:
        main(options)
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(f"error: {error}")
