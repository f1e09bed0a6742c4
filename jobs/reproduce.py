"""Reproduce a table or figure of a paper: published numbers and ours side by side.

    python jobs/reproduce.py emod table3                     a rehearsal, on signals of a program
    python jobs/reproduce.py emod table3 --corpus DIR --dry-run         what is missing, how long
    python jobs/reproduce.py emod table2 --corpus DIR --workers 4 --gpus-per-run 0.25

table2: EMOD and ten other models. table3: the pretraining arms. figure3: parts of the model left
out. figure4: embeddings of DEAP laid out by t-SNE, untrained beside pretrained.
Only runs without a result are done; kill it and start it again at will. Every dataset is evaluated
by the paper's protocol and beside it by ones that keep subjects, stimuli or both apart.
"""

from __future__ import annotations

import sys
import time
from dataclasses import asdict, dataclass
from typing import Annotated, Literal

import tyro
from rich.console import Console

from emoray import datasets, papers, session
from emoray.comparison import Comparison
from emoray.evaluation.folds import paper_protocol
from emoray.experiment import FoldChoice, asked, compare
from emoray.reports import figures
from emoray.reports.page import Figure
from emoray.reproduce import PretrainSeeds, Reproduction

Table = Literal["table2", "table3", "figure3", "figure4"]


REHEARSED = (*map(paper_protocol, datasets.names("evaluation")), "subjects_and_stimuli_apart")
"""Protocols of a rehearsal: all four of each dataset would take hours."""


@dataclass(frozen=True)
class Options:
    """Reproduce a table or figure."""

    paper: tyro.conf.Positional[Literal["emod"]]
    """Whose."""
    table: tyro.conf.Positional[Table]
    """Which one."""
    where: Annotated[session.Options, tyro.conf.arg(name="")]
    """Corpus, storage and cluster."""
    datasets: tuple[str, ...] = ()
    """Datasets to evaluate on; all of the paper without it."""
    protocols: tuple[str, ...] = ()
    """Protocols by name. Default: the paper's and three safe ones; a rehearsal takes the paper's
    and the one that keeps both subjects and stimuli apart."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Of the runs; the paper has five."""
    folds: FoldChoice | None = None
    """`all` folds of a protocol for every seed, or `rotate`: seed i takes fold i, one run for each
    seed however many folds there are. Default: all; a rehearsal rotates."""
    pretrain_seeds: PretrainSeeds = "one"
    """`one` pretraining for all seeds, as the paper tells, or one for `each`."""
    set: tuple[str, ...] = ()
    """Settings that differ from the paper's, as `finetune.epochs=10`, for all rows with that
    stage."""
    weights: tuple[str, ...] = ()
    """Published weights of baselines, as `labram=FILE` or `cbramod=OWNER/NAME` of a hub; without
    them a baseline starts from scratch and its row says so."""
    dry_run: bool = False
    """List what is missing and how long it should take; run nothing."""


def main(options: Options) -> None:
    """Run what is missing, then show and write the table."""
    began = time.monotonic()
    place = session.open_place(options.where, Console())
    reproduction = Reproduction(
        paper=papers.load(options.paper),
        corpus=place.corpus,
        location=place.location,
        storage=place.storage,
        datasets=options.datasets,
        protocols=options.protocols or (REHEARSED if place.rehearsal else ()),
        seeds=options.seeds,
        folds=options.folds or ("rotate" if place.rehearsal else "all"),
        pretrain_seeds=options.pretrain_seeds,
        rehearsal=place.rehearsal,
        set=session.settings(options.set),
        weights=session.pairs(options.weights),
        resources=asdict(place.demand),
    )
    if options.table == "figure4":
        if options.dry_run:
            session.show_estimates(place, [reproduction.full_pretraining()])
        else:
            _figure_4(reproduction, place, began)
        return
    frame = reproduction.frame(options.table)
    experiment = reproduction.experiment(options.table)
    plan = experiment.plan()
    if options.dry_run:
        session.show_missing(place, plan)
        return
    errors = session.run_missing(place, plan)
    comparison = compare(experiment, plan, place.store, frame, errors)
    session.report(
        place,
        comparison,
        figures.of_comparison(
            comparison, drops=frame.drops, class_names=session.class_names(comparison)
        ),
        asked=asked(plan),
        seconds=time.monotonic() - began,
    )
    session.check_all_ended(errors)


def _figure_4(reproduction: Reproduction, place: session.Place, began: float) -> None:
    """Embeddings laid out by t-SNE, untrained beside pretrained."""
    figure = reproduction.paper.figures["figure_4"]
    request = reproduction.full_pretraining()
    maps, read_outs = session.lay_out(place, request, figure.dataset)
    rehearsal = place.corpus[figure.dataset].rehearsal
    seen = place.corpus[figure.dataset].manifest.folder in request.datasets
    picture = figures.embedding_map(
        maps["untrained"],
        maps["pretrained"],
        title=figure.caption,
        rehearsal=rehearsal,
        read_out=read_outs,
        seen=seen,
    )
    words = (
        "Left untrained, right pretrained; above by valence, below by arousal; circled: centroids "
        "of the rounded values. r: correlation of read and given values, the line fitted on the "
        "other subjects' embeddings, not on the map."
    )
    if seen:
        words = f"{words} {figures.SEEN}"
    comparison = Comparison(
        name="figure4",
        title=reproduction.paper.title,
        caption=figure.caption,
        reference=None,
        published_parameters={},
        blocks=(),
        rehearsal=rehearsal,
    )
    shown = [Figure("map", figure.caption, words, picture)]
    seconds = time.monotonic() - began
    session.report(place, comparison, shown, asked=[request.name, figure.dataset], seconds=seconds)


if __name__ == "__main__":
    try:
        main(tyro.cli(Options, description=__doc__, config=(tyro.conf.FlagCreatePairsOff,)))
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(f"error: {error}")
