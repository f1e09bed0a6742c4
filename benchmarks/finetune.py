"""Fine-tuning: segments a second, the share of waiting, and seeds side by side on one device.

    python -m benchmarks.finetune [--dataset seed] [--seeds 5] [--paper-size]

First one run in this process, step by step. Then the same runs of several seeds through the
scheduler, twice: one after another, each with the whole device, and side by side, each with its
share of it. On a CPU that is all logical CPUs for one run against one each; with a GPU, the whole
of it against a fifth. Only ratios of one call are to be compared.
"""

from __future__ import annotations

import importlib
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import ray
import torch
import tyro
from rich.table import Table

from emoray.corpus.catalog import Catalog
from emoray.evaluation.folds import folds
from emoray.experiments import schedule
from emoray.experiments.options import Where
from emoray.experiments.schedule import Folders, Resources, Rules
from emoray.experiments.session import open_place
from emoray.methods.emod.config import FinetuneConfig, rehearsal_finetune_config
from emoray.results import published
from emoray.results.store import ResultRow
from emoray.runtime import cluster
from emoray.runtime.config import to_dict
from emoray.runtime.console import open_console
from emoray.runtime.storage import Storage
from emoray.training.execute import code_of, execute
from emoray.training.run import Execution, Run

LOADED = ("emoray.experiments.schedule", "emoray.methods.emod.method")
"""What a run imports, with all below it."""
WARM_S = 2.0
"""How long a process is kept while others start."""
ATTEMPTS = 10


@dataclass(frozen=True)
class Options:
    """What is timed."""

    dataset: str = "seed"
    """With classes."""
    seeds: int = 5
    """Runs side by side."""
    epochs: int = 2
    """Of each run."""
    paper_size: bool = False
    """The paper's encoder instead of the rehearsal's."""
    corpus: str | None = None
    """A corpus; without it, the rehearsal corpus in ~/emoray."""


class Quiet:
    """Hears nothing but failures."""

    def group(self, run: Run, seconds: float | None) -> None:
        """None is run here."""

    def said(self, line: str) -> None:
        """Nor does one say anything."""

    def finished(self, run: Run, row: ResultRow | None) -> None:
        """It is timed from outside."""

    def failed(self, what: str, runs: Sequence[Run], error: str) -> None:
        """A benchmark of failures would be a lie."""
        raise RuntimeError(f"{what}: {error}")


def main(options: Options) -> None:
    console = open_console()
    place = open_place(Where(corpus=options.corpus), console, published.load("emod"))
    runs = _runs(options, place.location)
    row = _one(runs[0], torch.cuda.is_available())
    console.print(
        f"{options.dataset}, {row.n_train} segments an epoch, {row.n_parameters:,} parameters, "
        f"{row.device}: {row.segments_per_s:.1f} segments/s, {100 * row.waiting:.2f} % waiting"
    )
    cluster.connect(address="local")
    here = Resources(cpus=ray.cluster_resources()["CPU"], gpus=min(1.0, cluster.n_gpus()))
    table = Table(title=f"{options.seeds} seeds on one device ({cluster.cpu_model()})")
    for column in ("", "seconds", "ratio"):
        table.add_column(column, justify="right" if column else "left")
    found = shares(here, len(runs))
    took = {name: _timed(runs, resources, here) for name, resources in found.items()}
    first = next(iter(took.values()))
    for name, seconds in took.items():
        table.add_row(name, f"{seconds:.1f}", f"{first / seconds:.2f}")
    console.print(table)


def _runs(options: Options, location: str) -> list[Run]:
    dataset = Catalog(location).dataset(options.dataset)
    (evaluation,) = (e for e in published.load("emod").evaluation if e.name == options.dataset)
    protocol = evaluation.protocol
    usual = FinetuneConfig() if options.paper_size else rehearsal_finetune_config()
    (fold, *_) = folds(protocol, options.dataset, dataset.index)
    return [
        Run(
            method="emod",
            stage="finetune",
            config=to_dict(replace(usual, epochs=options.epochs, seed=seed)),
            corpus=location,
            builds=dataset.builds,
            protocol=protocol,
            fold=fold.name,
            target=evaluation.target.to_plain(),
            chosen_by=evaluation.chosen_by,
            code=code_of("emod", (options.dataset,), "score"),
        )
        for seed in range(options.seeds)
    ]


def _one(run: Run, on_gpu: bool) -> ResultRow:
    """In this process; the first run warms up the page cache and the device."""
    device = torch.device("cuda" if on_gpu else "cpu")
    with tempfile.TemporaryDirectory() as folder:
        row = execute(run, folder=Storage.at(f"{folder}/run"), device=device)
    assert row is not None  # it is scored
    return row


def shares(here: Resources, n_runs: int) -> dict[str, Resources]:
    """What a run gets: everything, so that there is never a second one, or a part."""
    return {
        "one after another": here,
        "side by side": Resources(cpus=min(1.0, here.cpus), gpus=here.gpus / n_runs),
    }


def at_once(resources: Resources, here: Resources, n_runs: int) -> int:
    """How many of the runs there is room for at a time."""
    room = here.cpus / resources.cpus
    if resources.gpus:
        room = min(room, here.gpus / resources.gpus)
    return min(n_runs, int(room + 1e-6))  # a fifth fits five times into one


def warm_up(resources: Resources, n_processes: int) -> set[int]:
    """Have as many worker processes as will run at a time, each with all that a run imports.

    Returns:
        Their process numbers.

    Raises:
        RuntimeError: they did not come.
    """
    warm = ray.remote(_warm).options(num_cpus=resources.cpus, num_gpus=resources.gpus)
    for _ in range(ATTEMPTS):
        found = set(ray.get([warm.remote() for _ in range(n_processes)]))
        if len(found) == n_processes:
            return found
    raise RuntimeError(f"need {n_processes} worker processes, got {len(found)}")


def _timed(runs: Sequence[Run], resources: Resources, here: Resources) -> float:
    """Seconds of all runs; worker processes are there before the clock starts."""
    warm_up(resources, at_once(resources, here, len(runs)))
    with tempfile.TemporaryDirectory() as folder:
        folders = Folders(f"{folder}/results", f"{folder}/runs")
        began = time.perf_counter()
        rules = Rules(resources, over_corpus=lambda run: Execution())
        schedule.run_all(runs, folders=folders, rules=rules, listen=Quiet())
        return time.perf_counter() - began


def _warm() -> int:
    """Load what a run loads, and stay until the others have come too: one that returned at once
    could be given the next call as well.
    """
    for name in LOADED:
        importlib.import_module(name)
    time.sleep(WARM_S)
    return os.getpid()


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
