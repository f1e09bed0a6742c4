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
from emoray.batches.feeds import PlanFeed, targets_of
from emoray.batches.plans import Pool, SegmentPlan
from emoray.evaluation.folds import folds
from emoray.methods.base import Stage
from emoray.results.store import ResultRow
from emoray.runtime import cluster
from emoray.runtime.config import digest
from emoray.training import loop
from emoray.training.driver import Request
from emoray.training.run import FoldRun, fold_of, inputs_of, make_stage, open_dataset
from emoray.vocabulary import targets

FORWARD = 1 / 3
N_TIMED = 8
"""Segments of a timed step of a classifier on a CPU, where a segment costs the same in any batch. A
GPU steps a whole one: with few it is mostly idle."""
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
    runs: Sequence[FoldRun],
    rows: Iterable[ResultRow],
    names: Mapping[str, str],
    *,
    on_gpu: bool = True,
) -> list[Estimate]:
    """What missing runs should take, by table row and dataset.

    Args:
        runs: that are missing.
        rows: all that the store holds; those of the same model and dataset tell, where they ran on
            what these runs will: a GPU or none.
        names: table row by the run's key.
        on_gpu: whether runs get a GPU, or a share of one, where there are any.
    """
    on_gpu = on_gpu and _has_gpus()
    rates = _rates(row for row in rows if (row.device != "cpu") == on_gpu)
    work = _Work()
    kinds: dict[str, list[FoldRun]] = {}
    for run in runs:
        dataset = run.dataset.partition("-")[0]
        kinds.setdefault(f"{names[run.key]} on {dataset}", []).append(run)
    found = []
    for words, same in kinds.items():
        kind = _kind(same[0].method, same[0].config, same[0].dataset)
        rate = median(rates[kind]) if kind in rates else _timed_run(same[0], _device(on_gpu))
        seconds = sum(map(work.of, same)) / rate
        source: Any = "earlier runs" if kind in rates else "timed here"
        found.append(Estimate(words, len(same), seconds, source))
    return found


def estimate_pretrainings(requests: Iterable[Request]) -> list[Estimate]:
    """What pretrainings should take on one worker: a step of one round, timed here, each kind once.

    The time falls with the number of workers.
    """
    timed: dict[str, float] = {}
    found = []
    for request in requests:
        kind = digest({name: v for name, v in request.config.items() if name not in _FREE})
        corpus = request.open_corpus()
        plan = request.make_plan(corpus)
        if kind not in timed:
            small = replace(request, config={**request.config, "rounds_per_step": 1})
            stage = small.make_stage()
            targets = targets_of(corpus.datasets, stage.target)
            feed = PlanFeed(corpus.datasets, small.make_plan(corpus), targets=targets)
            batches = list(feed.batches(0, 2))
            timed[kind] = _seconds(stage, batches, _device(True))
        n_rounds = request.make_stage().epochs * plan.n_steps * request.config["rounds_per_step"]
        words = f"pretraining {request.name}"
        found.append(Estimate(words, 1, timed[kind] * n_rounds, "timed here"))
    return found


def _has_gpus() -> bool:
    """Of the cluster once it is joined; before that, of this machine."""
    return cluster.n_gpus() > 0 if ray.is_initialized() else torch.cuda.is_available()


def _device(on_gpu: bool) -> torch.device:
    """Where a step is timed: by this process, which may see no GPU though the cluster has some."""
    return torch.device("cuda" if on_gpu and torch.cuda.is_available() else "cpu")


def _kind(method: str, config: Mapping[str, Any], build: str) -> str:
    kept = {name: value for name, value in config.items() if name not in _FREE}
    return digest([method, kept, build])


def _rates(rows: Iterable[ResultRow]) -> dict[str, list[float]]:
    """Work per second by kind, as runs have shown it, all their overhead in it."""
    rates: dict[str, list[float]] = {}
    for row in rows:
        work = _counted(row.n_train, row.n_val, row.n_test, row.n_epochs)
        rates.setdefault(_kind(row.method, row.config, row.corpus), []).append(work / row.seconds)
    return rates


def _counted(n_train: int, n_val: int, n_test: int, n_epochs: int) -> float:
    return n_epochs * (n_train + FORWARD * n_val) + FORWARD * n_test


class _Work:
    """The work of runs; a dataset's folds are made once, however many runs there are."""

    def __init__(self) -> None:
        self._sizes: dict[tuple[str, ...], dict[str, tuple[int, int, int]]] = {}

    def of(self, run: FoldRun) -> float:
        at = (run.corpus, run.dataset, run.protocol, digest(run.target))
        if at not in self._sizes:
            dataset = open_dataset(run)
            self._sizes[at] = {
                fold.name: (len(fold.train_N), len(fold.val_N), len(fold.test_N))
                for fold in folds(
                    run.protocol, dataset.name, dataset.index, targets.from_plain(run.target)
                )
            }
        return _counted(*self._sizes[at][run.fold], int(run.config["epochs"]))


def _timed_run(run: FoldRun, device: torch.device) -> float:
    """Segments a second through a training step, on the GPU or the one core of a run."""
    dataset = open_dataset(run)
    target = targets.from_plain(run.target)
    stage = make_stage(run, inputs_of(dataset, target), None)
    n = int(run.config["batch_size"]) if device.type == "cuda" else N_TIMED
    rows_N = fold_of(run, dataset).train_N[:n]
    plan = SegmentPlan([Pool(dataset.name, dataset.digest, rows_N)], seed=0, batch_size=n)
    labels = {dataset.name: target.labels(dataset.index)}
    feed = PlanFeed([dataset], plan, targets=targets_of([dataset], stage.target, labels))
    with _one_thread():
        return len(rows_N) / _seconds(stage, list(feed.batches(0, 2)), device)


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
