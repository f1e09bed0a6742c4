"""How long runs should take: from rows of the same model, or from a few timed steps.

A run's work is counted in segments through the training step; a forward pass alone is a third of
one (backward costs twice the forward).

Shapes: N segments of a timed step.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Literal

import numpy as np
import ray
import torch

from emoray.batches.batch import Batch
from emoray.batches.feeds import PlanFeed
from emoray.batches.plans import make_plan
from emoray.experiments.schedule import target_words
from emoray.methods.base import Stage
from emoray.results.store import ResultRow
from emoray.runtime import cluster
from emoray.runtime.config import digest
from emoray.training import loop
from emoray.training.constants import with_constants
from emoray.training.data import RunData, label_share, open_data
from emoray.training.run import Run

FORWARD = 1 / 3
N_TIMED = 8
"""Segments of a timed step on a CPU, where a segment costs the same in any batch. A GPU makes a
whole step: with few segments it is mostly idle."""
_FREE = ("seed", "epochs", "optimizer", "batch_size")
"""Settings that change what is learned and not what a segment costs."""


@dataclass(frozen=True)
class Estimate:
    """What is to come of one kind of run."""

    words: str
    """`EMOD-SoftVA on faced`."""
    n_runs: int
    seconds: float
    """Of all of them, one after the other."""
    source: Literal["earlier runs", "timed here"]


def estimate_runs(
    runs: Sequence[Run],
    rows: Iterable[ResultRow],
    names: Mapping[str, str],
    *,
    on_gpu: bool = True,
) -> list[Estimate]:
    """What missing runs should take, by table row and dataset.

    Args:
        runs: that are missing.
        rows: all that the store holds; those of the same model and data tell, where they ran on
            what these runs will: a GPU or none.
        names: table row by the run's key.
        on_gpu: whether runs get a GPU, or a share of one, where there are any.
    """
    on_gpu = on_gpu and _has_gpus()
    rates = _rates(row for row in rows if (row.device != "cpu") == on_gpu)
    work = _Work()
    kinds: dict[str, list[Run]] = {}
    for run in runs:
        data = " ".join([*run.datasets, *target_words(run)])
        kinds.setdefault(f"{names[run.key]} on {data}", []).append(run)
    found = []
    for words, same in kinds.items():
        kind = _kind(same[0])
        rate = median(rates[kind]) if kind in rates else _timed(work.data(same[0]), on_gpu=on_gpu)
        seconds = sum(map(work.of, same)) / rate
        source: Any = "earlier runs" if kind in rates else "timed here"
        found.append(Estimate(words, len(same), seconds, source))
    return found


def estimate_ancestors(runs: Iterable[Run]) -> list[Estimate]:
    """What runs that others start from should take on one worker: steps of few segments, timed
    here, each kind once; those of one stage on the folds of a protocol together.

    The time falls with the number of workers.
    """
    timed: dict[str, float] = {}
    work = _Work()
    found: dict[str, Estimate] = {}
    for run in runs:
        kind = _kind(run)
        if kind not in timed:
            timed[kind] = _timed(work.data(run), on_gpu=True)
        words = f"{run.method} {run.stage} for each fold of {', '.join(run.datasets)}"
        if not run.fold:
            words = f"pretraining {run.folder_name}"
        before = found.get(words, Estimate(words, 0, 0.0, "timed here"))
        seconds = before.seconds + work.of(run) / timed[kind]
        found[words] = Estimate(words, before.n_runs + 1, seconds, "timed here")
    return list(found.values())


def _has_gpus() -> bool:
    """Of the cluster once it is joined; before that, of this machine."""
    return cluster.n_gpus() > 0 if ray.is_initialized() else torch.cuda.is_available()


def _device(on_gpu: bool) -> torch.device:
    """Where a step is timed: by this process, which may see no GPU though the cluster has some."""
    return torch.device("cuda" if on_gpu and torch.cuda.is_available() else "cpu")


def _kind(done: Run | ResultRow) -> str:
    kept = {name: value for name, value in done.config.items() if name not in _FREE}
    return digest([done.method, done.stage, kept, sorted(done.builds)])


def _rates(rows: Iterable[ResultRow]) -> dict[str, list[float]]:
    """Work per second by kind, as runs have shown it, all their overhead in it."""
    rates: dict[str, list[float]] = {}
    for row in rows:
        work = _counted(row.n_train, row.n_val, row.n_test, row.n_epochs)
        rates.setdefault(_kind(row), []).append(work / row.seconds)
    return rates


def _counted(n_train: int, n_val: int, n_test: int, n_epochs: int) -> float:
    return n_epochs * (n_train + FORWARD * n_val) + FORWARD * n_test


class _Work:
    """The work of runs; those of one place are looked at once, however many seeds there are."""

    def __init__(self) -> None:
        self._known: dict[str, RunData] = {}

    def data(self, run: Run) -> RunData:
        """What a run, or another of the same data, reads."""
        place = [sorted(run.builds), run.protocol, run.fold, run.target]
        at = digest([run.method, run.stage, label_share(run), *place])
        if at not in self._known:
            self._known[at] = open_data(run)
        return replace(self._known[at], run=run)

    def of(self, run: Run) -> float:
        """Segments through the training step, or as if."""
        found = self.data(run)
        n_epochs = int(run.config["epochs"])
        if found.fold is None:
            return float(n_epochs * found.n_drawn)
        fold = found.fold
        n_scored = (len(fold.val_N), len(fold.test_N)) if run.chosen_by else (0, 0)
        return _counted(found.n_drawn, *n_scored, n_epochs)


def _timed(found: RunData, *, on_gpu: bool) -> float:
    """Segments a second through a training step, on the GPU or on one core."""
    device = _device(on_gpu)
    stage = found.stage()
    whole = device.type == "cuda"
    sampling = stage.sampling if whole else stage.sampling.smaller(N_TIMED)
    plan = make_plan(sampling, found.pools, seed=found.run.seed)
    feed = PlanFeed(
        found.datasets,
        plan,
        streams=stage.streams,
        targets=found.targets(stage),
        gather="worker",
    )
    with _one_thread():
        batches = [with_constants(stage, batch) for batch in feed.batches(0, 2)]
        n_segments = sum(len(batch.positions_B) for batch in batches) / len(batches)
        return n_segments / _seconds(stage, batches, device)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _seconds(stage: Stage, batches: Sequence[Batch], device: torch.device) -> float:
    """Of the quicker of two steps: the first one warms up."""
    module = stage.build().to(device)
    optimizer = torch.optim.AdamW(module.parameters())
    took = []
    for batch in batches:
        began = time.perf_counter()
        on_device = batch.to(device, torch.float32)
        losses, _ = loop.take_step(stage, module, optimizer, on_device, 0.0)
        losses["loss"].item()
        took.append(time.perf_counter() - began)
    return float(np.min(took))
