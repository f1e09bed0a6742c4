"""From plan to tensors: each worker's share of every step, in order, from any step on.

The plan says which segments meet; the feed only moves them. Row numbers become tensors in a
prefetch thread of the worker where shards lie on its node or can be copied there (bytes move once),
in Ray Data actors where they cannot: `gather = auto | worker | cluster`.
Shapes: m rounds of a worker's share, 9 regions, B = m * 9 segments of one dataset, C, T.
"""

from __future__ import annotations

import queue
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emoray.batches.batch import Batch, Group
from emoray.batches.plans import Pool, RoundPlan, SegmentPlan, share
from emoray.corpus.read import Corpus, CorpusDataset
from emoray.vocabulary import electrodes
from emoray.vocabulary.choices import Gather
from emoray.vocabulary.schema import IntArray

Item = TypeVar("Item")

DEPTH = 2
"""Batches that wait ready: one being taken, one behind it. More only costs memory."""


def with_coordinates(corpus: Corpus) -> Corpus:
    """The datasets of a corpus that have valence and arousal; SEED, for one, has neither.

    Raises:
        ValueError: none has.
    """
    placed = [d for d in corpus.datasets if np.isfinite(d.va_S2).all(axis=1).any()]
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


def pools(corpus: Corpus, held_out: Mapping[str, Sequence[str]]) -> list[Pool]:
    """What may be drawn: every segment with valence and arousal whose subject is not held out.

    Args:
        corpus: datasets in the order in which the plan will name them.
        held_out: subjects by dataset; a dataset without an entry holds nobody out.
    """
    return [
        Pool(dataset.name, dataset.digest, rows_S, dataset.va_S2[rows_S])
        for dataset in corpus.datasets
        for rows_S in [eligible_rows(dataset, held_out.get(dataset.name, ()))]
    ]


def eligible_rows(dataset: CorpusDataset, held_out: Sequence[str]) -> IntArray:
    """Index rows with valence and arousal whose subject is not among `held_out`."""
    placed_S = np.isfinite(dataset.va_S2).all(axis=1)
    return np.flatnonzero(placed_S & ~np.isin(dataset.column("subject"), list(held_out)))


class Feed(ABC):
    """A worker's batches by step, prefetched; those derived from it say how one is made.

    Attributes:
        waited_s: seconds that the caller spent waiting for batches, in all.
        n_bytes: bytes of signals handed out, in all.
    """

    def __init__(self) -> None:
        self.waited_s = 0.0
        self.n_bytes = 0

    def batches(self, first_step: int, last_step: int) -> Iterator[Batch]:
        """Batches of the steps `first_step` to `last_step - 1`, counted from the run's start."""
        source = prefetched(self._make(range(first_step, last_step)))
        while True:
            began = time.perf_counter()
            batch = next(source, None)
            self.waited_s += time.perf_counter() - began
            if batch is None:
                return
            self.n_bytes += sum(group.x_BCT.nbytes for group in batch.groups)
            yield batch

    @abstractmethod
    def _make(self, steps: range) -> Iterator[Batch]:
        """Batches of these steps, each made when it is asked for."""


ACTORS = 2
"""Ray Data actors that gather for one worker, where it does not gather itself."""


class PlanFeed(Feed):
    """Batches of one worker, prefetched.

    Args:
        corpus: the datasets that the plan draws from.
        plan: what meets in each step.
        rank: this worker, from 0.
        world_size: all workers; it must divide the plan's rounds per step.
        gather: where row numbers become tensors; `auto` is the worker, unless shards are remote
            and this node's disk has no room for copies.
        pin_memory: whether batches lie in page-locked memory, for asynchronous copies to a GPU.

    Raises:
        ValueError: `world_size` does not divide the rounds; the message lists counts that do.
    """

    def __init__(
        self,
        corpus: Corpus,
        plan: RoundPlan,
        *,
        rank: int = 0,
        world_size: int = 1,
        gather: Gather = "auto",
        pin_memory: bool = False,
    ) -> None:
        super().__init__()
        self._corpus = corpus
        self._plan = plan
        self._rank = rank
        self._world_size = world_size
        self._pin = pin_memory
        if gather == "auto":
            gather = "worker" if corpus.fits_here else "cluster"
        self.gather = gather
        self._offsets = _offsets(plan)
        share(plan.step(0, 0), rank, world_size)  # a wrong worker count fails here, at once

    def _make(self, steps: range) -> Iterator[Batch]:
        return self._from_cluster(steps) if self.gather == "cluster" else self._from_shards(steps)

    def _share(self, step: int) -> IntArray:
        epoch, step_of_epoch = divmod(step, self._plan.n_steps)
        rows = self._plan.step(epoch, step_of_epoch)
        return share(rows, self._rank, self._world_size)

    def _from_shards(self, steps: range) -> Iterator[Batch]:
        for step in steps:
            rows_DR9 = self._share(step)
            signals = {
                dataset.name: _gathered(dataset, rows, pin=self._pin)
                for dataset, rows in zip(self._corpus.datasets, rows_DR9, strict=True)
            }
            yield self._assemble(step, rows_DR9, signals)

    def _from_cluster(self, steps: range) -> Iterator[Batch]:
        """Gather in Ray Data actors: rows are rounds, columns are datasets, cells (9, C, T)."""
        import ray

        context = ray.data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        names = [dataset.name for dataset in self._corpus.datasets]
        rows_NDR9 = np.stack([self._share(step) for step in steps])
        n_rounds = rows_NDR9.shape[2]
        rounds_MD9 = np.concatenate(rows_NDR9.swapaxes(1, 2))
        table = ray.data.from_numpy(rounds_MD9).map_batches(
            RoundGatherer,
            fn_constructor_args=(self._corpus,),
            batch_size=n_rounds,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=ACTORS),
            # One CPU for the actors of all workers: it is what a cluster keeps free for data.
            num_cpus=1 / (ACTORS * self._world_size),
        )
        stream = table.iter_batches(batch_size=n_rounds, prefetch_batches=DEPTH)
        for step, rows_DR9, cells in zip(steps, rows_NDR9, stream, strict=True):
            signals = {name: _merged(cells[name]) for name in names}
            yield self._assemble(step, rows_DR9, signals)

    def _assemble(self, step: int, rows_DR9: IntArray, signals: Mapping[str, Tensor]) -> Batch:
        first_round = self._rank * rows_DR9.shape[1]
        groups, va = [], []
        for i, dataset in enumerate(self._corpus.datasets):
            rows_B = rows_DR9[i].reshape(-1)
            start = self._offsets[i] + first_round * rows_DR9.shape[2]
            groups.append(
                Group(
                    x_BCT=signals[dataset.name],
                    electrode_ids_C=torch.tensor(electrodes.ids(dataset.channels)),
                    sfreq=dataset.sfreq,
                    positions_B=torch.arange(start, start + len(rows_B)),
                )
            )
            va.append(torch.from_numpy(dataset.va_S2[rows_B]))
        return Batch(step=step, groups=tuple(groups), va_B2=torch.cat(va))


class FoldFeed(Feed):
    """Batches of one dataset's segments with their labels, for one worker.

    Args:
        dataset: the segments; shards that are not local are copied to this node.
        plan: which segments meet.
        label_S: class of each segment of the dataset.
        pin_memory: whether batches lie in page-locked memory, for asynchronous copies to a GPU.
    """

    def __init__(
        self,
        dataset: CorpusDataset,
        plan: SegmentPlan,
        label_S: IntArray,
        *,
        pin_memory: bool = False,
    ) -> None:
        super().__init__()
        self._dataset = dataset
        self._plan = plan
        self._pin = pin_memory
        self._label_S = label_S

    def _make(self, steps: range) -> Iterator[Batch]:
        for step in steps:
            rows_B = self._plan.step(*divmod(step, self._plan.n_steps))
            yield Batch(
                step=step,
                groups=(_group(self._dataset, rows_B, pin=self._pin),),
                va_B2=torch.from_numpy(self._dataset.va_S2[rows_B]),
                labels_B=torch.from_numpy(self._label_S[rows_B]),
            )


def in_order(
    dataset: CorpusDataset, rows_N: IntArray, *, batch_size: int, pin_memory: bool = False
) -> Iterator[Group]:
    """Segments of some rows of a dataset, in their order, prefetched."""

    def make() -> Iterator[Group]:
        for start in range(0, len(rows_N), batch_size):
            yield _group(dataset, rows_N[start : start + batch_size], pin=pin_memory)

    return prefetched(make())


def _group(dataset: CorpusDataset, rows_B: IntArray, *, pin: bool) -> Group:
    return Group(
        x_BCT=_gathered(dataset, rows_B, pin=pin),
        electrode_ids_C=torch.tensor(electrodes.ids(dataset.channels)),
        sfreq=dataset.sfreq,
        positions_B=torch.arange(len(rows_B)),
    )


class RoundGatherer:
    """Gathers rounds inside a Ray Data actor; the corpus travels as its location."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus

    def __call__(self, batch: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Row numbers (rounds, datasets, 9) -> one column per dataset, (rounds, 9, C, T)."""
        rows_RD9 = batch["data"]
        columns = {}
        for i, dataset in enumerate(self._corpus.datasets):
            rows_R9 = rows_RD9[:, i]
            flat = dataset.gather(rows_R9.reshape(-1))
            columns[dataset.name] = flat.reshape(*rows_R9.shape, *flat.shape[1:])
        return columns


def _offsets(plan: RoundPlan) -> list[int]:
    """First position of each dataset in a step's global batch."""
    n_datasets, n_rounds, n_regions = plan.step(0, 0).shape
    return [i * n_rounds * n_regions for i in range(n_datasets)]


def _gathered(dataset: CorpusDataset, rows: IntArray, *, pin: bool) -> Tensor:
    """Segments of the rows, straight into the tensor that the batch will hold: (B, C, T)."""
    x_BCT = torch.empty(
        (rows.size, dataset.n_chans, dataset.n_times),
        dtype=torch.float16 if dataset.dtype == np.float16 else torch.float32,
        pin_memory=pin,
    )
    dataset.gather(rows.reshape(-1), out=x_BCT.numpy())
    return x_BCT


def _merged(cell: NDArray[Any]) -> Tensor:
    """Rounds of one dataset, (R, 9, C, T), as (R * 9, C, T)."""
    return torch.from_numpy(np.array(cell)).flatten(0, 1)


class _End:
    """Comes after the last item."""


def prefetched(source: Iterator[Item]) -> Iterator[Item]:
    """Run an iterator in a thread, `DEPTH` items ahead; its errors reach the caller."""
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

    threading.Thread(target=run, name="feed", daemon=True).start()
    try:
        while not isinstance(item := ready.get(), _End):
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
