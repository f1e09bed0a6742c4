"""What jobs that run experiments share: where things lie, what is missing, what is shown at last.

options -> Place (corpus, result store, storage) -> missing runs over the cluster -> report
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from emoray import __version__
from emoray.corpus.build.rehearsal import N_SUBJECTS, rehearsal_corpus, rehearsal_folders
from emoray.corpus.catalog import Catalog
from emoray.evaluation.maps import Map
from emoray.evaluation.similarity import Beside
from emoray.experiments import schedule
from emoray.experiments.builds import Reading, builds_of
from emoray.experiments.cost import Estimate, estimate_ancestors, estimate_runs
from emoray.experiments.embedding_maps import MapRequest, ReadOuts, make_maps
from emoray.experiments.experiment import CellRuns, missing, runs_of
from emoray.experiments.graph import still_needed
from emoray.experiments.options import Where
from emoray.experiments.runs_display import RunsDisplay, clock
from emoray.experiments.similarities import SimilarityRequest, make_similarities
from emoray.reports import files, summary, tables
from emoray.reports.page import Figure
from emoray.results.comparison import Comparison
from emoray.results.paper import Paper
from emoray.results.store import ResultStore
from emoray.runtime import cluster
from emoray.runtime.config import digest
from emoray.runtime.storage import Storage, absolute, check_name, join
from emoray.training import checkpoint, driver
from emoray.training.data import stage_of
from emoray.training.execute import origin_of
from emoray.training.run import Execution, Origin, Run

REHEARSAL_SUBJECTS = 6
"""Of each dataset of evaluation: two in each third where subjects and stimuli are apart, and no
fewer than a protocol makes folds."""
GPU_SHARE = 0.25
"""Of a run, where there are GPUs: encoders of a million parameters leave most of one idle."""


@dataclass(frozen=True)
class Place:
    """Where an experiment happens."""

    options: Where
    console: Console
    storage: str
    """Folder or URI under which everything is kept."""
    location: str
    """Of the corpus."""
    keep: bool = False
    """Whether runs leave the weights of their best epoch."""
    watched: bool = False
    """Whether each step of each run is shown and left to TensorBoard."""

    @cached_property
    def catalog(self) -> Catalog:
        """Of the corpus."""
        return Catalog(self.location)

    @property
    def folders(self) -> schedule.Folders:
        """Where rows and runs are kept."""
        return schedule.Folders(join(self.storage, "results"), join(self.storage, "runs"))

    @property
    def rehearsal(self) -> bool:
        """Whether nobody said which corpus: then settings are those of a rehearsal too."""
        return self.options.corpus is None

    @cached_property
    def store(self) -> ResultStore:
        """Result rows."""
        return ResultStore(join(self.storage, "results"))

    @property
    def demand(self) -> cluster.WorkerDemand:
        """The workers of a pretraining, as asked for."""
        options = self.options
        return cluster.WorkerDemand(
            options.workers, options.cpus_per_worker or 0.0, options.gpus_per_worker or 0.0
        )


def open_place(
    options: Where,
    console: Console,
    paper: Paper,
    *,
    keep: bool = False,
    watched: bool = False,
    reading: Sequence[Reading] = (),
) -> Place:
    """Find storage and corpus; without a corpus, the rehearsal's is written and built, once.

    Args:
        options: where they are.
        console: where everything is printed.
        paper: whose datasets a rehearsal has: those of pretraining and those evaluated on.
        keep: whether runs leave the weights of their best epoch.
        watched: whether each step of each run is shown and left to TensorBoard.
        reading: the stages that will run; all that reproduce something of the paper without any.

    Raises:
        ValueError, OSError: a folder cannot be used.
    """
    storage = cluster.storage_root(options.storage, shared=options.shared_storage)
    if options.corpus is not None:
        return Place(options, console, storage, absolute(options.corpus), keep, watched)
    console.print("No --corpus: rehearsal data, written and built once, then kept.")
    raw, location = rehearsal_folders(storage, paper.name)
    for built, names in builds_of(paper, reading).items():
        rehearsal_corpus(
            raw,
            location,
            datasets=sorted(names),
            n_subjects=REHEARSAL_SUBJECTS if built.is_evaluated else N_SUBJECTS,
            streams=built.streams,
            recipe=built.eeg,
            ecg=built.ecg,
        )
    return Place(options, console, storage, absolute(location), keep, watched)


def connect(place: Place, over_corpus: Iterable[Run] = ()) -> schedule.Rules:
    """Join or start the cluster; what each run gets of it.

    Args:
        place: with what is asked for.
        over_corpus: runs that may go on: where nothing is asked for, a worker gets the most CPUs
            that one of them began with.

    Raises:
        ValueError: the cluster can never give what a run needs, which would wait for ever.
        ConnectionError: nothing answers at the address, or it refuses us.
    """
    options, demand = place.options, place.demand
    if options.cpus_per_worker is None:
        cpus = max((_kept_cpus(place, run, demand) for run in over_corpus), default=0.0)
        demand = replace(demand, cpus_per_worker=cpus)
    workers = cluster.connect(
        address=options.address, workers=demand, spare_cpus=cluster.CPUS_FOR_DATA
    )
    assert workers is not None  # they were asked for
    if options.gpus_per_worker is None:
        workers = cluster.with_gpus(workers, cpus_per_worker=options.cpus_per_worker)
    # Again, now that it is known whether other nodes must see it too.
    cluster.storage_root(options.storage, shared=options.shared_storage)
    gpus = options.gpus_per_run
    if gpus is None:
        gpus = GPU_SHARE if cluster.n_gpus() else 0.0
    run = cluster.WorkerDemand(options.workers_per_run, options.cpus_per_run, gpus)
    cluster.check_demand(run, for_data=0)  # a run reads its segments itself
    return schedule.Rules(
        resources=schedule.Resources(options.cpus_per_run, gpus, options.workers_per_run),
        over_corpus=_on_workers(place, workers),
        allow_contaminated=options.allow_contaminated,
        keep=place.keep,
        watched=place.watched,
    )


def _kept_cpus(place: Place, run: Run, demand: cluster.WorkerDemand) -> float:
    had = driver.begun(place.folders.folder(run))
    execution = None if had is None else had.execution
    return driver.kept_cpus(execution, demand.n_workers, demand.gpus_per_worker)


def _on_workers(place: Place, workers: cluster.WorkerDemand) -> Callable[[Run], Execution]:
    """How a run over the corpus goes: one that goes on keeps its threads, unless others are
    asked for."""

    def on_workers(run: Run) -> Execution:
        kept = 0.0 if place.options.cpus_per_worker else _kept_cpus(place, run, workers)
        cpus = kept or workers.cpus_per_worker
        return Execution(workers.n_workers, cpus, workers.gpus_per_worker)

    return on_workers


def run_missing(place: Place, cells: Sequence[CellRuns]) -> dict[str, str]:
    """Run whatever of some cells has no row yet.

    Returns:
        Why runs failed, by key.
    """
    runs = missing(cells, place.store)
    n_all = len({run.key for cell in cells for run in cell.runs})
    place.console.print(
        f"{n_all - len(runs)} of {n_all} runs are there already, {len(runs)} are missing."
    )
    return run_these(place, runs, names_of(cells)) if runs else {}


def run_these(place: Place, runs: Sequence[Run], names: Mapping[str, str]) -> dict[str, str]:
    """Run some runs, and those that they descend from of which no weights are there.

    Args:
        place: where.
        runs: to be scored.
        names: of runs, by key; shown beside their scores.

    Returns:
        Why runs failed, by key.
    """
    rules = connect(place, [run for run in still_needed(runs).values() if not run.fold])
    with RunsDisplay(len(runs), names, place.console) as display:
        return schedule.run_all(runs, folders=place.folders, rules=rules, listen=display)


def names_of(cells: Sequence[CellRuns]) -> dict[str, str]:
    """The table's row of each run, by key; rows that share a run are all named."""
    rows: dict[str, list[str]] = {}
    for cell in cells:
        for run in cell.runs:
            rows.setdefault(run.key, []).append(cell.arm.row)
    return {key: " = ".join(dict.fromkeys(names)) for key, names in rows.items()}


def show_missing(place: Place, cells: Sequence[CellRuns]) -> None:
    """What has no row yet, and how long it should take; a few steps of each model are timed."""
    estimate_these(place, missing(cells, place.store), names_of(cells))
    absent = dict.fromkeys(
        cell.dataset for cell in cells if cell.dataset not in place.catalog.names
    )
    if absent:
        place.console.print(f"Not in the corpus, so blank: {', '.join(absent)}.")
    for error in dict.fromkeys(cell.error for cell in cells if cell.error):
        place.console.print(Text(f"Cannot run: {error}", style="red"))


def estimate_these(place: Place, runs: Sequence[Run], names: Mapping[str, str]) -> None:
    """How long some runs should take, and those that they descend from of which no weights are
    there; a few steps of each model are timed.

    Args:
        place: where.
        runs: to be scored.
        names: of them, by key.
    """
    rows, errors = place.store.readable()
    for error in errors:  # none of these runs: whoever asks for rows by key refuses to go on
        place.console.print(Text(f"Passed over: {error}", style="yellow"))
    on_gpu = place.options.gpus_per_run != 0
    estimates = estimate_runs(runs, rows, names, on_gpu=on_gpu)
    asked = {run.key for run in runs}
    needed = still_needed(runs)
    show_estimates(place, [run for key, run in needed.items() if key not in asked], estimates)


def has_ended(place: Place, run: Run) -> bool:
    """Whether a run's weights are there."""
    return driver.has_ended(place.folders.folder(run), run)


def show_estimates(place: Place, to_come: Iterable[Run], runs: Sequence[Estimate] = ()) -> None:
    """What runs should take, after those that they start from."""
    estimates = [*estimate_ancestors(to_come), *runs]
    place.console.print(estimates_table(estimates, rehearsal=place.catalog.rehearsal))


def estimates_table(estimates: Sequence[Estimate], *, rehearsal: bool) -> RenderableType:
    """What is still to run, how long it should take, and by what that was judged."""
    grid = Table(box=None, pad_edge=False, padding=(0, 2))
    grid.add_column("missing", overflow="fold")
    for name in ("runs", "about"):
        grid.add_column(name, justify="right")
    grid.add_column("judged by", overflow="fold")
    for estimate in estimates:
        row = (estimate.words, str(estimate.n_runs), clock(estimate.seconds), estimate.source)
        grid.add_row(*row)
    total_s = sum(estimate.seconds for estimate in estimates)
    n_runs = sum(estimate.n_runs for estimate in estimates)
    grid.add_row("all, one after the other", str(n_runs), clock(total_s), "", style="bold")
    below = Text("h:min:s on this machine; runs side by side take less", style="dim")
    return Group(summary.heading("What is missing", rehearsal=rehearsal), grid, below)


def origin_named(place: Place, named: str) -> Origin:
    """A checkpoint by the name of its run in the storage, or by its folder.

    Raises:
        ValueError: there is none.
    """
    location = absolute(named)
    if "/" not in named:
        runs = Storage.at(place.folders.runs)
        location = driver.last_checkpoint(runs.sub(check_name(named, "a run's name")))
    with checkpoint.local(Storage.at(location)) as copy:
        facts = checkpoint.describe(copy)
    return origin_of(facts, location)


def show_weights(place: Place, cells: Sequence[CellRuns]) -> None:
    """Where the runs of some cells left the weights of their best epoch."""
    names = names_of(cells)
    lie = {}
    for key, run in runs_of(cells).items():
        folder = place.folders.folder(run)
        found = checkpoint.latest_whole(folder)
        if found is not None:
            data = " ".join([*run.datasets, *schedule.target_words(run)])
            what = f"{names[key]}, {data} {run.fold} seed {run.seed}"
            lie[f"{what} ({run.protocol})"] = folder.place(found)
    place.console.print(summary.heading("Weights", rehearsal=place.catalog.rehearsal))
    place.console.print(summary.files(lie))


def pairs(words: Sequence[str]) -> dict[str, str]:
    """`name=value` as a name and a text.

    Raises:
        ValueError: a word without `=`.
    """
    wrong = [word for word in words if "=" not in word]
    if wrong:
        raise ValueError(f"need name=value, got {', '.join(map(repr, wrong))}")
    return {word.partition("=")[0]: word.partition("=")[2] for word in words}


def settings(words: Sequence[str]) -> dict[str, Any]:
    """`finetune.epochs=10` as a name and a value; what is no TOML value is text.

    Raises:
        ValueError: a word without `=`.
    """
    return {name: _value(text) for name, text in pairs(words).items()}


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def lay_out(place: Place, run: Run, dataset: str) -> tuple[dict[str, Map], ReadOuts]:
    """Maps of one dataset by the encoder of a pretraining, which runs first where it must.

    Raises:
        ValueError: the corpus lacks the dataset.
        RuntimeError: the pretraining failed.
    """
    if dataset not in place.catalog.names:
        raise ValueError(
            f"{place.location}: need {dataset} to lay out, got {', '.join(place.catalog.names)}"
        )
    rules = connect(place, [run])
    if not has_ended(place, run):
        with RunsDisplay(0, {}, place.console) as display:
            schedule.train(run, folders=place.folders, rules=rules, listen=display)
    kind = stage_of(run)
    folders = tuple(place.catalog.dataset(dataset, kind.streams, kind.recipes).builds)
    request = MapRequest(run, place.folders.runs, folders, join(place.storage, "maps"))
    return make_maps(request, rules.resources)


def show_beside(place: Place, runs: Sequence[Run]) -> list[Mapping[str, Beside]]:
    """Two streams beside each other without and with the training of each of some runs, which run
    first where they must.

    Raises:
        RuntimeError: a run failed.
    """
    needed = still_needed([run for run in runs if not has_ended(place, run)])
    rules = connect(place, [run for run in needed.values() if not run.fold])
    with RunsDisplay(0, {}, place.console) as display:
        errors = schedule.run_all(
            list(needed.values()), folders=place.folders, rules=rules, listen=display
        )
    if errors:
        raise RuntimeError("; ".join(dict.fromkeys(errors.values())))
    store = join(place.storage, "similarities")
    requests = [SimilarityRequest(run, place.folders.runs, store) for run in runs]
    return make_similarities(requests, rules.resources)


def _code_of(comparison: Comparison) -> str:
    """Every version of the code that made a row of it; the version here where there is none."""
    cells = [cell for block in comparison.blocks for cell in block.cells]
    found = dict.fromkeys(row.code for cell in cells for row in cell.results)
    return ", ".join(found) or __version__


def report(
    place: Place,
    comparison: Comparison,
    figures: Sequence[Figure],
    *,
    asked: object,
    seconds: float,
) -> None:
    """Show a comparison and write it in every format, in a folder of what was asked for.

    The same call finds the folder again and leaves no picture of an earlier report in it.

    Args:
        place: where reports go.
        comparison: the table.
        figures: shown beside it.
        asked: plain data that decide what the report is about (`experiment.asked`).
        seconds: since the job began.
    """
    place.console.print(tables.terminal(comparison))
    marked = "-rehearsal" if comparison.rehearsal else ""
    name = f"{comparison.name}{marked}-{digest(asked)[:6]}"
    folder = Storage.at(join(place.storage, "reports", name))
    facts = {
        "code": _code_of(comparison),
        "corpus": place.location,
        "results": join(place.storage, "results"),
        "machine": cluster.cpu_model(),
        "written": datetime.now(UTC).isoformat(timespec="minutes"),
    }
    written = files.contents(comparison, figures, facts)
    for name, content in written.items():
        folder.write_bytes(name, content)
    for name in folder.files():
        if name.endswith(".png") and name not in written:
            folder.remove(name)
    lie = {name: folder.place(name) for name in written}
    place.console.print(summary.end(lie, seconds, rehearsal=comparison.rehearsal))


def check_all_ended(errors: Mapping[str, str]) -> None:
    """Let a job in which runs failed end as one that failed, once its report is there.

    Raises:
        RuntimeError: says how many failed.
    """
    if errors:
        runs = "1 run" if len(errors) == 1 else f"{len(errors)} runs"
        raise RuntimeError(f"{runs} failed, as the report says; start the job again to repeat them")
