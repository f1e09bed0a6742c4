"""Waiting: until `--help` answers, until a job says its first line, until its first step is done.

    python -m benchmarks.start [--repeats 3]

The job is `jobs/pretrain_emod.py` on rehearsal data that are there already, stopped once it has
shown a step; beside it stands what Ray takes by itself: `ray.init` and a `TorchTrainer` whose one
worker does one empty step. The two take turns, so that a machine that others use as well slows
both. Their ratio is what is to be compared; a step of the job computes, and shows a second late.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import tyro
from rich.table import Table

from emoray.corpus.build.rehearsal import rehearsal_corpus, rehearsal_folders
from emoray.results import published
from emoray.runtime import cluster
from emoray.runtime.console import open_console

REPO = Path(__file__).parents[1]
JOB = "jobs/pretrain_emod.py"
STEP = re.compile(r"\bstep \d+/\d+\b")
"""What a line about a finished step holds."""
PATIENCE_S = 600.0
END_S = 60.0
"""Seconds that a job has to end in once it is asked to."""

BARE = """
import logging, sys, ray, ray.train
from ray.train.torch import TorchTrainer

def step(config):
    ray.train.report({"step": 1})

ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False,
         logging_level=logging.ERROR)
TorchTrainer(
    step,
    scaling_config=ray.train.ScalingConfig(num_workers=1),
    run_config=ray.train.RunConfig(name="bare", storage_path=sys.argv[1]),
).fit()
print("step 1/1", flush=True)
"""


@dataclass(frozen=True)
class Options:
    """What is timed."""

    repeats: int = 3
    """Of everything; the least and the median are shown."""


@dataclass(frozen=True)
class Waited:
    """Seconds since a process was started."""

    first_line_s: float
    first_step_s: float


def main(options: Options) -> None:
    console = open_console()
    rehearsal = Path(cluster.storage_root()) / "rehearsal"
    pretraining = sorted(published.load("emod").pretraining)
    raw, corpus = rehearsal_folders(cluster.storage_root(), "emod")
    rehearsal_corpus(raw, corpus, datasets=pretraining)
    table = Table(title=f"Seconds of waiting ({cluster.cpu_model()}, {os.cpu_count()} cores)")
    for column in ("", "least", "median"):
        table.add_column(column, justify="right" if column else "left")
    for words in (("-c", "import tyro"), *help_of_jobs()):
        add(table, " ".join(words), [seconds_of(*words) for _ in range(options.repeats)])
    ours, bare = zip(*(_pair(rehearsal) for _ in range(options.repeats)), strict=True)
    add(table, "first line", [waited.first_line_s for waited in ours])
    add(table, "first step", [waited.first_step_s for waited in ours])
    add(table, "bare ray.init and TorchTrainer, one empty step", [w.first_step_s for w in bare])
    ratios = [w.first_step_s / b.first_step_s for w, b in zip(ours, bare, strict=True)]
    add(table, "ratio of the two", ratios)
    console.print(table)


def help_of_jobs() -> list[tuple[str, str]]:
    """The call of every job that explains it."""
    return [(f"jobs/{job.name}", "--help") for job in sorted((REPO / "jobs").glob("*.py"))]


def add(table: Table, what: str, values: list[float]) -> None:
    table.add_row(what, f"{min(values):.2f}", f"{median(values):.2f}")


def seconds_of(*words: str) -> float:
    """Of a Python process from start to end."""
    began = time.perf_counter()
    subprocess.run([sys.executable, *words], cwd=REPO, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def _pair(rehearsal: Path) -> tuple[Waited, Waited]:
    """The job, then Ray alone."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "rehearsal").symlink_to(rehearsal)
        ours = waited((JOB, "--storage", folder))
        return ours, waited(("-c", BARE, folder))


def waited(words: tuple[str, ...]) -> Waited:
    """Run Python until it says that a step is done, then have it end.

    Raises:
        RuntimeError: it ended, or said nothing of a step for `PATIENCE_S`.
    """
    began = time.perf_counter()
    first_line_s = None
    with _running(words) as lines:
        for line in lines:
            now_s = time.perf_counter() - began
            first_line_s = first_line_s or now_s
            if STEP.search(line):
                return Waited(first_line_s, now_s)
    seconds = time.perf_counter() - began
    raise RuntimeError(f"need a step of {words[0]}, got none in {seconds:.0f} s")


@contextmanager
def _running(words: tuple[str, ...]) -> Iterator[Iterator[str]]:
    """Lines of a Python process that is asked to end, as by Ctrl-C, when the block does."""
    process = subprocess.Popen(
        [sys.executable, *words],
        cwd=REPO,
        env={**os.environ, "PYTHONPATH": str(REPO)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    patience = threading.Timer(PATIENCE_S, process.terminate)
    patience.start()
    try:
        yield iter(process.stdout)
    finally:
        patience.cancel()
        process.send_signal(signal.SIGINT)
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
