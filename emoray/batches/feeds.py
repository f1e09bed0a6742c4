"""From plan to tensors: each worker's share of every step, in order, from any step on.

The plan says which segments meet; the feed only moves them. Row numbers become tensors in a
prefetch thread of the worker where shards lie on its node or can be copied there (bytes move once),
in Ray Data actors where they cannot: `gather = auto | worker | cluster`.
Shapes: S segments of a dataset, B segments of one dataset in a worker's share of a step, C channels
(electrodes or leads), T samples, N rows asked for.
"""

from __future__ import annotations

import queue
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emoray.batches.batch import Batch, Group, Signal
from emoray.batches.plans import Draw, Plan, Pool
from emoray.corpus.catalog import Segments
from emoray.corpus.read import Corpus
from emoray.vocabulary.choices import Gather
from emoray.vocabulary.schema import IntArray, Stream

Item = TypeVar("Item")

Columns = Mapping[str, Mapping[str, NDArray[Any]]]
"""Targets of all segments: target -> dataset -> one value or row for each of its segments."""


@dataclass(frozen=True)
class Constants:
    """What a stage computed of some rows of a dataset before its first step."""

    rows_N: IntArray
    """Of the dataset's index, ascending."""
    values: Mapping[str, Tensor]
    """By name, a row for each, on the CPU."""

    def of(self, rows_B: IntArray) -> dict[str, Tensor]:
        """Those of some of the rows, in their order."""
        place_B = torch.from_numpy(np.searchsorted(self.rows_N, rows_B))
        return {name: values[place_B] for name, values in self.values.items()}


NO_CONSTANTS = Constants(np.zeros(0, dtype=np.int64), {})

DEPTH = 2
"""Batches that wait ready: one being taken, one behind it. More only costs memory."""

STOP_S = 5.0
"""Seconds that a closed feed waits for its thread, and no longer: storage may hang."""


def with_coordinates(corpus: Corpus) -> Corpus:
    """The datasets of a corpus that have valence and arousal; SEED, for one, has neither.

    Raises:
        ValueError: none has.
    """
    placed = [d for d in corpus.datasets if d.has_coordinates]
    if not placed:
        raise ValueError(f"need datasets with valence and arousal, got {', '.join(corpus.names)}")
    return Corpus(placed)


def for_pretraining(corpus: Corpus, names: Sequence[str]) -> Corpus:
    """The datasets of a corpus that a paper pretrains on, of those with valence and arousal.

    Not whatever has a place in V-A space: FACED's and SEED-V's emotion names have one too, and a
    pretraining on them would have seen the test segments' labels.

    Args:
        corpus: in whose order they come.
        names: the paper's.

    Raises:
        ValueError: there is none.
    """
    kept = [dataset for dataset in corpus.datasets if dataset.name in names]
    if not kept:
        raise ValueError(
            f"need datasets to pretrain on ({', '.join(names)}), got {', '.join(corpus.names)}"
        )
    return with_coordinates(Corpus(kept))


def pools(datasets: Sequence[Segments], held_out: Mapping[str, Sequence[str]]) -> list[Pool]:
    """What may be drawn: every segment with valence and arousal whose subject is not held out.

    Args:
        datasets: in the order in which the plan will name them.
        held_out: subjects by dataset; a dataset without an entry holds nobody out.
    """
    return [
        Pool(dataset.name, dataset.digest, rows_S, dataset.va_S2[rows_S])
        for dataset in datasets
        for rows_S in [eligible_rows(dataset, held_out.get(dataset.name, ()))]
    ]


def unrated_pools(
    datasets: Sequence[Segments], held_out: Mapping[str, Sequence[str]]
) -> list[Pool]:
    """The same of stages that do without ratings: every segment whose subject is not held out."""
    return [
        Pool(dataset.name, dataset.digest, np.flatnonzero(~_is_of(dataset, out)))
        for dataset in datasets
        for out in [held_out.get(dataset.name, ())]
    ]


def eligible_rows(dataset: Segments, held_out: Sequence[str]) -> IntArray:
    """Index rows with valence and arousal whose subject is not among `held_out`."""
    placed_S = np.isfinite(dataset.va_S2).all(axis=1)
    return np.flatnonzero(placed_S & ~_is_of(dataset, held_out))


def _is_of(dataset: Segments, subjects: Sequence[str]) -> NDArray[np.bool_]:
    return np.isin(dataset.column("subject"), list(subjects))


def targets_of(
    datasets: Sequence[Segments],
    target: str | None,
    labels: Mapping[str, NDArray[np.int64]] | None = None,
) -> Columns:
    """What a stage learns of the segments of some datasets.

    Args:
        datasets: whose.
        target: `va`, `label`, or None for nothing.
        labels: class indices by dataset, where labels are learned.
    """
    if target is None:
        return {}
    if target == "va":
        return {"va": {dataset.name: dataset.va_S2 for dataset in datasets}}
    assert labels is not None  # whoever learns them has made them
    return {"label": labels}


class Feed(ABC):
    """A worker's batches by step, prefetched; those derived from it say how one is made.

    Attributes:
        waited_s: seconds that the caller spent waiting for batches, in all.
        n_bytes: bytes of signals handed out, in all.
    """

    def __init__(self) -> None:
        self.waited_s = 0.0
        self.n_bytes = 0

    def batches(self, first_step: int, last_step: int) -> Generator[Batch]:
        """Batches of the steps `first_step` to `last_step - 1`, counted from the run's start.

        Whoever may leave them before the last one closes them; nothing is read after that.
        """
        with closing(prefetched(self._make(range(first_step, last_step)))) as source:
            while True:
                began = time.perf_counter()
                batch = next(source, None)
                self.waited_s += time.perf_counter() - began
                if batch is None:
                    return
                self.n_bytes += sum(_bytes_of(group) for group in batch.groups)
                yield batch

    @abstractmethod
    def _make(self, steps: range) -> Iterator[Batch]:
        """Batches of these steps, each made when it is asked for."""


def _bytes_of(group: Group) -> int:
    return sum(signal.x_BCT.nbytes for signal in group.signals.values())


ACTORS = 2
"""Ray Data actors that gather for one worker, where it does not gather itself."""


class PlanFeed(Feed):
    """Batches of one worker, prefetched.

    Args:
        datasets: those that the plan draws from, in its order.
        plan: what meets in each step.
        streams: by name, what a stage reads of each segment.
        targets: what it learns.
        constants: by dataset, what it computed before.
        rank: this worker, from 0.
        world_size: all workers.
        gather: where row numbers become tensors; `auto` is the worker, unless shards are remote
            and this node's disk has no room for copies.
        pin_memory: whether batches lie in page-locked memory, for asynchronous copies to a GPU.

    Raises:
        ValueError: the plan's steps cannot be shared by so many workers.
    """

    def __init__(
        self,
        datasets: Sequence[Segments],
        plan: Plan,
        *,
        streams: Sequence[Stream] = ("eeg",),
        targets: Columns | None = None,
        constants: Mapping[str, Constants] | None = None,
        rank: int = 0,
        world_size: int = 1,
        gather: Gather = "auto",
        pin_memory: bool = False,
    ) -> None:
        super().__init__()
        self._datasets = tuple(datasets)
        self._plan = plan
        self._streams = tuple(streams)
        self._targets = targets or {}
        self._constants = constants or {}
        self._rank = rank
        self._world_size = world_size
        self._pin = pin_memory
        if gather == "auto":
            fits = all(dataset.fits_here for dataset in self._datasets)
            gather = "worker" if fits else "cluster"
        self.gather = gather
        plan.draws(0, rank, world_size)  # a wrong worker count fails here, at once

    def _make(self, steps: range) -> Iterator[Batch]:
        return self._from_cluster(steps) if self.gather == "cluster" else self._from_shards(steps)

    def _draws(self, step: int) -> tuple[Draw, ...]:
        return self._plan.draws(step, self._rank, self._world_size)

    def _from_shards(self, steps: range) -> Iterator[Batch]:
        for step in steps:
            draws = self._draws(step)
            signals = [
                {name: _gathered(d, name, draw.rows_B, pin=self._pin) for name in self._streams}
                for d, draw in zip(self._datasets, draws, strict=True)
            ]
            yield self._assemble(step, draws, signals)

    def _from_cluster(self, steps: range) -> Iterator[Batch]:
        """Gather in Ray Data actors: rows are steps, columns are datasets and their streams."""
        import ray

        context = ray.data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        table = ray.data.from_items([{"step": step} for step in steps]).map_batches(
            StepGatherer,
            fn_constructor_args=(self._datasets, self._plan, self._streams),
            fn_kwargs={"rank": self._rank, "world_size": self._world_size},
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=ACTORS),
            # One CPU for the actors of all workers: it is what a cluster keeps free for data.
            num_cpus=1 / (ACTORS * self._world_size),
        )
        stream = table.iter_batches(batch_size=1, prefetch_batches=DEPTH)
        for step, cells in zip(steps, stream, strict=True):
            signals = [
                {name: _own(cells[_column(dataset.name, name)][0]) for name in self._streams}
                for dataset in self._datasets
            ]
            yield self._assemble(step, self._draws(step), signals)

    def _assemble(
        self, step: int, draws: Sequence[Draw], signals: Sequence[Mapping[Stream, Tensor]]
    ) -> Batch:
        drawn = [
            (dataset, draw, found)
            for dataset, draw, found in zip(self._datasets, draws, signals, strict=True)
            if len(draw.rows_B)
        ]
        return Batch(
            step=step,
            groups=tuple(
                _group(d, found, draw.positions_B, self._constants_of(d, draw.rows_B))
                for d, draw, found in drawn
            ),
            targets={
                name: torch.from_numpy(np.concatenate([of[d.name][w.rows_B] for d, w, _ in drawn]))
                for name, of in self._targets.items()
            },
        )

    def _constants_of(self, dataset: Segments, rows_B: IntArray) -> dict[str, Tensor]:
        return self._constants.get(dataset.name, NO_CONSTANTS).of(rows_B)


def in_order(
    dataset: Segments,
    rows_N: IntArray,
    *,
    batch_size: int,
    streams: Sequence[Stream] = ("eeg",),
    pin_memory: bool = False,
) -> Iterator[Group]:
    """Segments of some rows of a dataset, in their order, prefetched."""

    def make() -> Iterator[Group]:
        for start in range(0, len(rows_N), batch_size):
            rows_B = rows_N[start : start + batch_size]
            found = {name: _gathered(dataset, name, rows_B, pin=pin_memory) for name in streams}
            yield _group(dataset, found, np.arange(len(rows_B)), {})

    return prefetched(make())


def _group(
    dataset: Segments,
    found: Mapping[Stream, Tensor],
    positions_B: IntArray,
    constants: Mapping[str, Tensor],
) -> Group:
    signals = {
        name: Signal(x_BCT, dataset.stream(name).channels, dataset.stream(name).sfreq)
        for name, x_BCT in found.items()
    }
    return Group(dataset.name, signals, torch.from_numpy(positions_B), constants)


class StepGatherer:
    """Gathers a worker's share of a step inside a Ray Data actor; datasets travel as locations."""

    def __init__(self, datasets: Sequence[Segments], plan: Plan, streams: Sequence[Stream]) -> None:
        self._datasets = datasets
        self._plan = plan
        self._streams = streams

    def __call__(
        self, batch: dict[str, NDArray[Any]], *, rank: int, world_size: int
    ) -> dict[str, NDArray[Any]]:
        """A step's number -> one column for each dataset and stream, (1, B, C, T)."""
        draws = self._plan.draws(int(batch["step"][0]), rank, world_size)
        return {
            _column(dataset.name, name): dataset.stream(name).gather(draw.rows_B)[None]
            for dataset, draw in zip(self._datasets, draws, strict=True)
            for name in self._streams
        }


def _column(dataset: str, stream: str) -> str:
    return f"{dataset} {stream}"


def _gathered(dataset: Segments, stream: Stream, rows_B: IntArray, *, pin: bool) -> Tensor:
    """Segments of the rows, straight into the tensor that the batch will hold: (B, C, T)."""
    source = dataset.stream(stream)
    x_BCT = torch.empty(
        (rows_B.size, len(source.channels), source.n_times),
        dtype=torch.float16 if source.dtype == np.float16 else torch.float32,
        pin_memory=pin,
    )
    source.gather(rows_B, out=x_BCT.numpy())
    return x_BCT


def _own(cell: NDArray[Any]) -> Tensor:
    """A copy of what Ray holds read-only."""
    return torch.from_numpy(np.array(cell))


class _End:
    """Comes after the last item."""


def prefetched(source: Iterator[Item]) -> Generator[Item]:
    """Run an iterator in a thread, `DEPTH` items ahead; its errors reach the caller.

    Once closed it asks for no further item, and waits `STOP_S` for the one that is being made.
    """
    ready: queue.Queue[Item | BaseException | _End] = queue.Queue(maxsize=DEPTH)
    stopped = threading.Event()

    def put(item: Item | BaseException | _End) -> bool:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def run() -> None:
        try:
            for item in source:
                if not put(item):
                    return
            put(_End())
        except BaseException as error:  # whatever it is, the training thread must see it
            put(error)

    thread = threading.Thread(target=run, name="feed", daemon=True)
    thread.start()
    try:
        while not isinstance(item := ready.get(), _End):
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        if thread is not threading.current_thread():  # which may collect what nobody closed
            thread.join(STOP_S)
