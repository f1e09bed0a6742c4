"""What a run reads: segments, labels, sides of a fold, what is drawn, what its stage is built for.

    run -> builds opened -> labels by its target -> a fold's sides, or all but held-out people
        -> pools (what may be drawn), inputs (what the stage is built for)

Shapes: S segments of a dataset, N of them that train.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from emoray import datasets, methods
from emoray.batches.feeds import (
    Columns,
    eligible_rows,
    pools,
    targets_of,
    unrated_pools,
)
from emoray.batches.plans import Plan, Pool, make_plan, with_few_labels
from emoray.corpus.catalog import Segments, open_segments
from emoray.corpus.fingerprints import Seen, Signals
from emoray.corpus.manifest import digest_of, parse_folder
from emoray.evaluation.folds import Fold, folds
from emoray.methods.base import Inputs, Stage, Start, StreamSpec
from emoray.runtime import config as configs
from emoray.training.run import Run
from emoray.vocabulary import targets
from emoray.vocabulary.schema import DataError, IntArray


@dataclass(frozen=True)
class RunData:
    """The data of one run, open; no signal is read yet."""

    run: Run
    datasets: tuple[Segments, ...]
    """Sorted by name."""
    pools: tuple[Pool, ...]
    """What may be drawn of each dataset."""
    inputs: Inputs
    """What the stage is built for."""
    fold: Fold | None = None
    labels: Mapping[str, IntArray] | None = None
    """Class of each segment by dataset, (S,); -1 where it has none. None without a fold."""

    @property
    def dataset(self) -> Segments:
        """The one dataset of a run on a fold."""
        (dataset,) = self.datasets
        return dataset

    def stage(self, starts: Mapping[str, Start] | None = None) -> Stage:
        """The stage that the run trains."""
        kind = stage_of(self.run)
        config: Any = configs.from_dict(kind.config_type, self.run.config)
        return kind(config, self.inputs, starts or {})

    def plan(self, stage: Stage) -> Plan:
        """What meets in each step: the same on every worker and machine."""
        return make_plan(stage.sampling, self.pools, seed=self.run.seed)

    def targets(self, stage: Stage) -> Columns:
        """What is learned of each segment."""
        return targets_of(self.datasets, stage.target, self.labels)

    @property
    def learned(self) -> tuple[IntArray, ...]:
        """Rows of each dataset that decide the weights: drawn, or choosing the epoch."""
        drawn = tuple(pool.rows_S for pool in self.pools)
        if self.fold is None or not self.run.chosen_by:
            return drawn
        return (np.concatenate([*drawn, self.fold.val_N]),)

    @property
    def n_drawn(self) -> int:
        """Segments that may be drawn, of all datasets."""
        return sum(len(pool.rows_S) for pool in self.pools)

    def seen(self) -> Seen:
        """Whom and what the run shows its weights. Audits rely on it."""
        pairs = zip(self.datasets, self.learned, strict=True)
        return {dataset.name: dataset.seen(rows_N) for dataset, rows_N in pairs}

    def signals(self) -> Mapping[str, Signals]:
        """Fingerprints of what it shows them, by dataset and recording."""
        pairs = zip(self.datasets, self.learned, strict=True)
        return {dataset.name: dataset.signals(rows_N) for dataset, rows_N in pairs}

    def beside_test(self) -> Seen:
        """Whom and what the fold has on other sides than the test's."""
        assert self.fold is not None  # of a run on a fold
        rows_N = np.concatenate([self.fold.train_N, self.fold.val_N])
        return {self.dataset.name: self.dataset.seen(rows_N)}

    @property
    def rehearsal(self) -> bool:
        """Whether any dataset holds rehearsal data."""
        return any(dataset.rehearsal for dataset in self.datasets)

    @property
    def fits_here(self) -> bool:
        """Whether every shard lies on this node or finds room in its cache."""
        return all(dataset.fits_here for dataset in self.datasets)

    @property
    def recipes(self) -> dict[str, dict[str, Mapping[str, Any]]]:
        """How segments were cut: recipes as plain data by dataset and stream."""
        found: dict[str, dict[str, Mapping[str, Any]]] = {}
        for dataset in self.datasets:
            names = map(parse_folder, dataset.builds)
            pairs = zip(names, dataset.recipes, strict=True)
            found[dataset.name] = {name.stream: recipe for name, recipe in pairs if name}
        return found

    @cached_property
    def digest(self) -> str:
        """Of the datasets' names and digests."""
        return digest_of([[dataset.name, dataset.digest] for dataset in self.datasets])

    def prepare(self) -> None:
        """Fetch, check and map all shards now rather than on first use.

        Raises:
            DataError: one is missing or damaged.
        """
        for dataset in self.datasets:
            dataset.prepare()


def stage_of(run: Run) -> type[Stage]:
    """The class of a run's stage."""
    return methods.stage(run.method, run.stage)


def open_data(run: Run) -> RunData:
    """Open what a run reads.

    Raises:
        DataError: a build is missing, or its segments are no longer those that were asked for.
        ValueError: as `data_of`.
    """
    opened = open_segments(run.corpus, tuple(run.builds))
    found = {folder: digest for one in opened for folder, digest in one.builds.items()}
    if found != dict(run.builds):
        other = ", ".join(folder for folder in found if found[folder] != run.builds[folder])
        who = f"run {run.name!r}" if run.name else "the run"
        raise DataError(
            f"{run.corpus}: need the segments that {who} was started on, got others in {other}"
        )
    return data_of(run, opened)


def data_of(run: Run, opened: Sequence[Segments]) -> RunData:
    """What a run takes of datasets that are open.

    Raises:
        ValueError: the protocol has no fold of that name on these data; nothing may be drawn.
    """
    ordered = tuple(sorted(opened, key=lambda dataset: dataset.name))
    kind = stage_of(run)
    if not run.fold:
        if kind.target == "label":
            raise ValueError(f"{run.method} {run.stage}: need a fold to learn classes, got none")
        drawn = pools if kind.target == "va" else unrated_pools
        found = tuple(drawn(ordered, run.held_out))
        return RunData(run, ordered, found, Inputs(shapes_of(ordered, kind.streams)))
    (dataset,) = ordered
    assert run.target is not None  # beside a fold there is one
    target = targets.from_plain(run.target)
    fold = _fold(run, dataset, target)
    labels = {dataset.name: target.labels(dataset.index)}
    pool = _pool_of(run, dataset, fold.train_N, labels[dataset.name])
    return RunData(run, ordered, (pool,), inputs_of(kind, dataset, target), fold, labels)


def _pool_of(run: Run, dataset: Segments, rows_N: IntArray, label_S: IntArray) -> Pool:
    kind = stage_of(run)
    if kind.target == "label":
        whole = Pool(dataset.name, dataset.digest, rows_N, label_S=label_S[rows_N])
        return with_few_labels(whole, label_share(run), seed=run.seed)
    if kind.target == "va":
        rows_N = rows_N[np.isin(rows_N, eligible_rows(dataset, ()))]
        return Pool(dataset.name, dataset.digest, rows_N, dataset.va_S2[rows_N])
    return Pool(dataset.name, dataset.digest, rows_N)


def label_share(run: Run) -> float:
    """Of a fold's training labels those that its stage is given."""
    kind = stage_of(run)
    return kind.label_share(configs.from_dict(kind.config_type, run.config))


def _fold(run: Run, dataset: Segments, target: targets.Target) -> Fold:
    made = folds(run.protocol, dataset.name, dataset.index, target)
    for fold in made:
        if fold.name == run.fold:
            return fold
    names = ", ".join(fold.name for fold in made)
    raise ValueError(f"{dataset.name} {run.protocol}: need a fold among {names}; got {run.fold!r}")


def inputs_of(kind: type[Stage], dataset: Segments, target: targets.Target) -> Inputs:
    """What a stage is built for on one dataset.

    Raises:
        ValueError: it learns classes, and the dataset has none.
    """
    shapes = shapes_of((dataset,), kind.streams)
    if kind.target != "label":
        return Inputs(shapes)
    classes = tuple(target.names(datasets.get(dataset.name).CARD.emotions))
    if not classes:
        raise ValueError(f"{dataset.name}: need class labels, got none")
    return Inputs(shapes, classes)


def shapes_of(opened: Sequence[Segments], streams: Sequence[Any]) -> dict[str, StreamSpec]:
    """Shapes of those streams in which the datasets do not differ."""
    found = {}
    for stream in streams:
        sources = [dataset.stream(stream) for dataset in opened]
        shapes = {StreamSpec(s.channels, s.sfreq, s.n_times) for s in sources}
        if len(shapes) == 1:
            (found[stream],) = shapes
    return found
