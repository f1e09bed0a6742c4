"""Reproducing a table or figure: what is missing runs, then both are shown."""

from __future__ import annotations

import time
from collections.abc import Sequence

from emoray.evaluation.folds import PROTOCOLS
from emoray.experiments import session
from emoray.experiments.experiment import asked, compare
from emoray.experiments.graph import question, still_needed
from emoray.experiments.options import Reproduce
from emoray.experiments.paper_tables import Reproduction, check_datasets
from emoray.reports import figures
from emoray.reports.page import Figure
from emoray.results import published
from emoray.results.comparison import Comparison
from emoray.results.paper import PaperFigure, PaperProjection, PaperSimilarity
from emoray.runtime.console import open_console
from emoray.training.run import Run
from emoray.vocabulary.choices import short


def run(options: Reproduce) -> None:
    """Run what is missing, then show and write the table."""
    began = time.monotonic()
    paper = published.load(options.paper)
    check_datasets(paper, options.datasets, paper.evaluated)  # before rehearsal data are made
    place = session.open_place(options.where, open_console(), paper)
    reproduction = Reproduction(
        paper=paper,
        catalog=place.catalog,
        storage=place.folders.runs,
        datasets=options.datasets,
        protocols=options.protocols,
        seeds=options.seeds,
        folds=options.folds or ("rotate" if place.rehearsal else "all"),
        pretrain_seeds=options.pretrain_seeds,
        rehearsal=place.rehearsal,
        set=session.settings(options.set),
        weights=session.pairs(options.weights),
        n_workers=place.demand.n_workers,
    )
    figure = paper.figure(options.table)
    if figure is not None:
        _figure(reproduction, figure, place, began, dry_run=options.dry_run)
        return
    frame = reproduction.frame(options.table)
    experiment = reproduction.experiment(options.table)
    cells = experiment.cells()
    if options.dry_run:
        session.show_missing(place, cells)
        return
    errors = session.run_missing(place, cells)
    comparison = compare(experiment, cells, place.store, frame, errors)
    session.report(
        place,
        comparison,
        figures.of_comparison(comparison, drops=frame.drops),
        asked=asked(cells),
        seconds=time.monotonic() - began,
    )
    session.check_all_ended(errors)


def _figure(
    reproduction: Reproduction,
    figure: PaperFigure,
    place: session.Place,
    began: float,
    *,
    dry_run: bool,
) -> None:
    """What is no table: what it needs and lacks, or itself."""
    if isinstance(figure, PaperSimilarity):
        runs = reproduction.shown(figure)
    else:
        runs = (reproduction.full_pretraining(),)
    if dry_run:
        to_come = still_needed([run for run in runs if not session.has_ended(place, run)])
        session.show_estimates(place, to_come.values())
    elif isinstance(figure, PaperSimilarity):
        _similarity(reproduction, figure, place, runs, began)
    else:
        _projection(reproduction, figure, place, began)


def _similarity(
    reproduction: Reproduction,
    figure: PaperSimilarity,
    place: session.Place,
    runs: Sequence[Run],
    began: float,
) -> None:
    """Features of two streams beside each other, without and with a stage's training."""
    shown = {
        run.seed: both for run, both in zip(runs, session.show_beside(place, runs), strict=True)
    }
    arms = [
        figures.Pair(published, {seed: both[arm] for seed, both in shown.items()})
        for arm, published in (("without", figure.without), ("trained", figure.trained))
    ]
    title, protocol = figure.evaluation.title, PROTOCOLS[runs[0].protocol]
    where = f"test segments of fold {runs[0].fold} of {protocol.name}"
    picture = figures.similarity_figure(
        arms,
        title=title,
        shown=where,
        query=figure.query,
        key=figure.key,
        classes=figure.evaluation.class_names,
        rehearsal=place.catalog.rehearsal,
    )
    words = (
        f"{where.capitalize()}. Left {figure.without.name}: the {figure.query} encoder as it "
        f"starts; right {figure.trained.name}: after its training; drawn is seed {runs[0].seed}. "
        f"Above cosines with the teacher's {figure.key}, below the {figure.query} features by "
        "class."
    )
    _report(
        reproduction,
        figure,
        place,
        Figure("similarity", title, words, picture),
        asked=[question(run) for run in runs],
        began=began,
        notes=(f"{protocol.name}: {protocol.words}.", *figures.spread_words(arms)),
    )


def _projection(
    reproduction: Reproduction, figure: PaperProjection, place: session.Place, began: float
) -> None:
    """Embeddings laid out in the plane, untrained beside pretrained."""
    run = reproduction.full_pretraining()
    maps, read_outs = session.lay_out(place, run, figure.dataset)
    rehearsal = place.catalog.rehearsal
    seen = figure.dataset in run.datasets
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
    _report(
        reproduction,
        figure,
        place,
        Figure("map", figure.caption, words, picture),
        asked=[question(run), figure.dataset],
        began=began,
    )


def _report(
    reproduction: Reproduction,
    figure: PaperFigure,
    place: session.Place,
    shown: Figure,
    *,
    asked: object,
    began: float,
    notes: tuple[str, ...] = (),
) -> None:
    """A page of one figure, without tables."""
    comparison = Comparison(
        name=short(figure.name),
        title=reproduction.paper.title,
        caption=figure.caption,
        reference=None,
        published_parameters={},
        blocks=(),
        rehearsal=place.catalog.rehearsal,
        notes=notes,
    )
    session.report(place, comparison, [shown], asked=asked, seconds=time.monotonic() - began)
