"""How fast segments reach the workers, and what that costs them in memory.

    python -m benchmarks.feed [--megabytes 1000] [--workers 2]

In one run: a plain loop that gathers the plan's rows out of the mapped shards in one thread; the
feed in the worker's prefetch thread; the feed behind Ray Data actors. Each is timed inside actors
that stand for training workers, from the moment they are up. Then the resident memory of a worker
while the corpus grows tenfold. Ratios are what counts: shared machines are noisy. (What share of a
step a training worker spends waiting is in every run's `history.csv`, and in read_out.py's lines.)
"""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
import tyro
from rich.table import Table

from emoray.batches.feeds import PlanFeed, pools
from emoray.batches.plans import RoundPlan, share
from emoray.corpus.read import Corpus, open_corpus
from emoray.runtime import cluster
from emoray.runtime.console import open_console
from tests.corpora import Made, write_corpus

CAPS = {"wide": (62, 200.0), "middle": (32, 128.0), "small": (14, 128.0), "fast": (18, 300.0)}
"""Electrodes and Hz of four datasets like those of the paper; 10-s segments."""


@dataclass(frozen=True)
class Options:
    """What is moved."""

    megabytes: int = 1000
    """Size of the corpus."""
    workers: int = 2
    """Processes that are fed at the same time."""
    seconds: float = 8.0
    """Time for each measurement."""
    rounds: int = 4
    """m: rounds of a step."""
    storage: Path | None = None
    """Where the corpus is written; a temporary folder without it."""


def write(folder: Path, megabytes: int) -> Path:
    """A corpus of four datasets of about this size; written once, then kept."""
    from emoray.vocabulary.electrodes import SEED_62

    if folder.exists():
        return folder
    bytes_each = sum(n_chans * sfreq * 10 * 4 for n_chans, sfreq in CAPS.values())
    n_segments = max(18, int(megabytes * 1e6 / bytes_each / 4))
    made = tuple(
        Made(name, SEED_62[:n_chans], sfreq, 10.0, n_subjects=4, n_segments=n_segments)
        for name, (n_chans, sfreq) in CAPS.items()
    )
    return write_corpus(folder, made)


def plan_for(corpus: Corpus, rounds: int) -> RoundPlan:
    return RoundPlan(pools(corpus.datasets, {}), seed=0, rounds_per_step=rounds, n_steps=1 << 20)


@ray.remote(num_cpus=0.5)
class Worker:
    """Opens the corpus before the clock starts, as a training worker has done by its first step."""

    def __init__(self, location: str, rounds: int, rank: int, n_workers: int) -> None:
        self._corpus = open_corpus(location)
        self._corpus.prepare()
        self._plan = plan_for(self._corpus, rounds)
        self._rank, self._n_workers = rank, n_workers

    def ready(self) -> bool:
        """Answers once the worker is up."""
        return True

    def plain(self, seconds: float) -> dict[str, float]:
        """The same rows, one dataset after the other, in a loop: nothing but copies."""
        buffers: dict[str, Any] = {}
        moved, step, began = 0, 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            rows = share(self._plan.step(0, step), self._rank, self._n_workers)
            for dataset, rows_M9 in zip(self._corpus.datasets, rows, strict=True):
                shape = (rows_M9.size, dataset.n_chans, dataset.n_times)
                out = buffers.setdefault(dataset.name, np.empty(shape, dataset.dtype))
                dataset.gather(rows_M9.reshape(-1), out=out)
                moved += out.nbytes
            step += 1
        return {"mb_per_s": moved / 1e6 / (time.perf_counter() - began), "first_s": 0.0}

    def feed(self, gather: Any, seconds: float) -> dict[str, float]:
        """Batches as the loop takes them."""
        feed = PlanFeed(
            self._corpus.datasets,
            self._plan,
            rank=self._rank,
            world_size=self._n_workers,
            gather=gather,
        )
        began = time.perf_counter()
        first_s = 0.0
        for batch in feed.batches(0, 400):
            first_s = first_s or time.perf_counter() - began
            del batch
            if time.perf_counter() - began > seconds:
                break
        spent_s = time.perf_counter() - began
        return {"mb_per_s": feed.n_bytes / 1e6 / spent_s, "first_s": first_s}

    def memory_mb(self, n_steps: int) -> float:
        """Resident megabytes after some steps of random access all over the corpus."""
        for _ in PlanFeed(self._corpus.datasets, self._plan).batches(0, n_steps):
            pass
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1000 for line in lines if line.startswith("VmRSS"))


def start(location: Path, options: Options, n_workers: int) -> list[Any]:
    workers = [
        Worker.remote(str(location), options.rounds, rank, n_workers)  # type: ignore[attr-defined]
        for rank in range(n_workers)
    ]
    ray.get([worker.ready.remote() for worker in workers])
    return workers


def measure_feeds(location: Path, options: Options) -> list[dict[str, Any]]:
    """MB/s of all workers together, and the slower one's first batch."""
    workers = start(location, options, options.workers)
    found = []
    for name, method, arguments in (
        ("plain loop", "plain", ()),
        ("worker", "feed", ("worker",)),
        ("cluster", "feed", ("cluster",)),
        ("plain loop", "plain", ()),
    ):
        calls = [getattr(worker, method) for worker in workers]
        each = ray.get([call.remote(*arguments, options.seconds) for call in calls])
        found.append(
            {
                "gather": name,
                "mb_per_s": sum(one["mb_per_s"] for one in each),
                "first_s": max(one["first_s"] for one in each),
            }
        )
    for worker in workers:
        ray.kill(worker)
    return found


def measure_memory(options: Options, folder: Path) -> list[dict[str, float]]:
    """Resident memory of one worker on a corpus and on one ten times its size."""
    found = []
    for megabytes in (options.megabytes // 10, options.megabytes):
        location = write(folder / f"corpus-{megabytes}", megabytes)
        (worker,) = start(location, options, 1)
        resident = ray.get(worker.memory_mb.remote(40))
        found.append({"corpus_mb": megabytes, "resident_mb": resident})
        ray.kill(worker)
    return found


def main(options: Options) -> None:
    console = open_console()
    cluster.connect(address="local", workers=cluster.WorkerDemand(options.workers, 1.0))
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.storage or Path(scratch)
        location = write(folder / f"corpus-{options.megabytes}", options.megabytes)
        feeds = measure_feeds(location, options)
        memory = measure_memory(options, folder)
    plain = max(row["mb_per_s"] for row in feeds if row["gather"] == "plain loop")
    machine = cluster.describe()["driver_cpu"]
    table = Table(title=f"{options.workers} workers, {options.megabytes} MB, {machine}")
    for column in ("gather", "MB/s", "of the plain loop", "first batch"):
        table.add_column(column, justify="left" if column == "gather" else "right")
    for row in feeds:
        first = f"{row['first_s']:.2f} s" if row["first_s"] else ""
        ratio = f"{row['mb_per_s'] / plain:.2f}"
        table.add_row(row["gather"], f"{row['mb_per_s']:,.0f}", ratio, first)
    console.print(table)
    for row in memory:
        console.print(f"corpus {row['corpus_mb']:,} MB: {row['resident_mb']:,.0f} MB resident")
    console.print_json(json.dumps({"feeds": feeds, "memory": memory}))


if __name__ == "__main__":
    main(tyro.cli(Options))
