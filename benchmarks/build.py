"""How a build scales with CPUs, and what a task needs in memory.

    python -m benchmarks.build [--datasets seed] [--subjects 4] [--duration-s 60]

The same rehearsal release is built on 1 CPU and on 2, alternating, each time into a new folder and
on a cluster of its own whose workers have loaded the libraries before the clock starts. Memory is
the largest resident size of a process that prepared recordings.
"""

from __future__ import annotations

import importlib
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import ray
import tyro

from emoray.corpus.build.build import BuildReport, build
from emoray.rehearsal.release import write_release
from emoray.runtime import cluster
from emoray.signals import EegRecipe


@dataclass(frozen=True)
class Options:
    """What is built."""

    datasets: tuple[str, ...] = ("seed",)
    """Names."""
    subjects: int = 2
    """Of each dataset; three recordings each in SEED."""
    duration_s: float = 60.0
    """Of a presentation; SEED's own take about 230."""
    repeats: int = 2
    """Builds with each number of CPUs."""
    ica: bool = True
    """Clean with ICA, as the paper does."""


def main(options: Options) -> None:
    recipe = EegRecipe() if options.ica else EegRecipe(ica="none")
    print(cluster.cpu_model())
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch, "data")
        write_release(
            root,
            datasets=options.datasets,
            n_subjects=options.subjects,
            seed=0,
            duration_s=options.duration_s,
        )
        seconds: dict[int, list[float]] = {1: [], 2: []}
        for repeat in range(options.repeats):
            for n_cpus in seconds:
                out = Path(scratch, f"{repeat}-{n_cpus}")
                took, report = timed_build(root, out, recipe, n_cpus)
                seconds[n_cpus].append(took)
                print(
                    f"{n_cpus} CPU: {report.n_built} recordings, {report.n_segments} segments in "
                    f"{took:.1f} s ({report.n_segments / took:.1f} segments/s, "
                    f"{report.task_seconds / took:.2f} tasks at a time), "
                    f"peak of a task's process {report.peak_task_bytes / 2**20:,.0f} MiB"
                )
        best = {n_cpus: min(times) for n_cpus, times in seconds.items()}
        print(f"2 CPUs take 1/{best[1] / best[2]:.2f} of the time of 1 (2.00 would be linear)")


def timed_build(root: Path, out: Path, recipe: EegRecipe, n_cpus: int) -> tuple[float, BuildReport]:
    """Seconds and report of one build on a cluster of its own, its workers warm."""
    ray.init(
        address="local",
        num_cpus=n_cpus,
        include_dashboard=False,
        object_store_memory=300 * 1024**2,
        logging_level="error",
        log_to_driver=False,
    )
    try:
        warm = ray.remote(_warm)
        ray.get([warm.remote() for _ in range(n_cpus)])
        started = time.perf_counter()
        report = build(root, out, recipe=recipe, progress=False)
        return time.perf_counter() - started, report
    finally:
        ray.shutdown()


def _warm() -> None:
    """Load what the tasks need, and hold the CPU so that each gets one of these."""
    importlib.import_module("emoray.corpus.build.recording")
    time.sleep(2)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
