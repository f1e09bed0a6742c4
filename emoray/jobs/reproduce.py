"""Reproducing a table or figure: what is missing runs, then both are shown."""

from __future__ import annotations

import time

from emoray.experiments import session
from emoray.experiments.experiment import asked, compare
from emoray.experiments.graph import question
from emoray.experiments.options import Reproduce
from emoray.experiments.paper_tables import Reproduction, check_datasets
from emoray.reports import figures
from emoray.reports.page import Figure
from emoray.results import published
from emoray.results.comparison import Comparison
from emoray.results.paper import PaperProjection
from emoray.runtime.console import open_console
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
        if options.dry_run:
            run = reproduction.full_pretraining()
            to_come = [] if session.has_ended(place, run) else [run]
            session.show_estimates(place, to_come)
        else:
            _projection(reproduction, figure, place, began)
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
    comparison = Comparison(
        name=short(figure.name),
        title=reproduction.paper.title,
        caption=figure.caption,
        reference=None,
        published_parameters={},
        blocks=(),
        rehearsal=rehearsal,
    )
    shown = [Figure("map", figure.caption, words, picture)]
    seconds = time.monotonic() - began
    session.report(place, comparison, shown, asked=[question(run), figure.dataset], seconds=seconds)
