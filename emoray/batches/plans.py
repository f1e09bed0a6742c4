"""Plans: an index and a seed -> which segments meet in which step.

A stage says how it draws (`Sampling`), and `make_plan` makes the plan: `RoundPlan` (EMOD,
"Cross-Dataset Sampling"), `SegmentPlan` or `ClassPlan`. A *round* is one draw from each of the nine
regions in each dataset; a step is `rounds_per_step` of them. Rounds are numbered through the whole
run, and the draws of one region through all rounds, so that every step is computed from its number
alone: resuming needs no state, and the machine and the number of workers do not enter. Shuffling
uses the raw words of numpy's Philox, whose stream is guaranteed to stay the same between versions
(NEP 19), unlike `Generator.permutation`.

Shapes: S segments, D datasets, R rounds, M rounds of a step, N steps of an epoch, 9 regions (in a
plan: the slots of a round, one for each), F filled regions, E empty ones, B draws of one dataset
in one worker's share of a step, K classes.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from emoray.batches.decks import VERSION, Deck, stream_key
from emoray.batches.occupancy import REGION_NAMES, Occupancy
from emoray.batches.sampling import (
    EmptyPolicy,
    RegionRounds,
    Sampling,
    ShuffledSegments,
    check_each_has_one,
    check_workers,
)
from emoray.vocabulary import affect
from emoray.vocabulary.schema import FloatArray, IntArray

_ALL_REGIONS = -1
"""In a stream's key: the segments of a `SegmentPlan`, whatever their region."""
_FIRST_CLASS = -2
"""In a stream's key: the segments of class 0 of a `ClassPlan`; of class k, it less k."""


@dataclass(frozen=True, eq=False)
class Pool:
    """The segments of one dataset that may be drawn.

    Raises:
        ValueError: no segments, unequal lengths, rows out of order or twice, or, where there are
            coordinates, a segment that has none in [-4, 4].
    """

    name: str
    """The dataset."""
    digest: str
    """Of the content of the dataset's index; another content is shuffled differently."""
    rows_S: IntArray
    """Row numbers in the dataset's index, ascending; rows that are held out are not among them."""
    va_S2: FloatArray | None = None
    """Valence and arousal of those rows, in [-4, 4]; None where the plan does without."""
    label_S: IntArray | None = None
    """Class of those rows; None where the plan does without."""

    def __post_init__(self) -> None:
        n = len(self.rows_S)
        if n == 0:
            raise ValueError(f"{self.name}: need at least one segment to draw from, got none")
        for words, values, shape in (
            ("rows of shape (S,)", self.rows_S, (n,)),
            ("valence-arousal of shape (S, 2)", self.va_S2, (n, 2)),
            ("labels of shape (S,)", self.label_S, (n,)),
        ):
            if values is not None and values.shape != shape:
                raise ValueError(f"{self.name}: need {words}, S = {n}; got {values.shape}")
        steps = np.diff(self.rows_S)
        if np.any(steps <= 0):
            at = int(np.argmax(steps <= 0))
            pair = f"{self.rows_S[at]} before {self.rows_S[at + 1]}"
            raise ValueError(f"{self.name}: need ascending index rows, each once; got {pair}")
        if self.va_S2 is not None:
            self._check_affect(self.va_S2)

    def _check_affect(self, va_S2: FloatArray) -> None:
        bad_S = ~np.all(np.abs(va_S2) <= affect.LIMIT, axis=1)  # also true for NaN
        if bad_S.any():
            at = int(np.argmax(bad_S))
            valence, arousal = va_S2[at]
            raise ValueError(
                f"{self.name}: need valence and arousal in [-4, 4] for every segment; "
                f"{bad_S.sum()} of {len(bad_S)} lack it, first index row {self.rows_S[at]}: "
                f"valence {valence:g}, arousal {arousal:g}"
            )

    @property
    def region_S(self) -> IntArray:
        """Region of each segment, 0..8.

        Raises:
            ValueError: the pool has no coordinates.
        """
        if self.va_S2 is None:
            raise ValueError(f"{self.name}: need valence and arousal to balance regions, got none")
        return affect.regions(self.va_S2)


def with_few_labels(pool: Pool, share: float, *, seed: int) -> Pool:
    """The segments of a pool whose labels are given: of each class that share, at least one.

    Which they are hangs on the seed, the dataset and their places alone; a larger share adds to
    those of a smaller one.

    Args:
        pool: with labels.
        share: in (0, 1].
        seed: of the run.
    """
    assert pool.label_S is not None  # whoever learns them has made them
    if share == 1:
        return pool
    kept = []
    for k in np.unique(pool.label_S):
        places = np.flatnonzero(pool.label_S == k)
        deck = Deck(stream_key(seed, f"labels of {pool.name}", pool.digest, int(k)), places)
        kept.append(deck.draw(np.arange(max(1, round(share * len(places))))))
    kept_S = np.sort(np.concatenate(kept))
    return Pool(pool.name, pool.digest, pool.rows_S[kept_S], label_S=pool.label_S[kept_S])


@dataclass(frozen=True, eq=False)
class Draw:
    """One dataset's part of one worker's share of a step."""

    rows_B: IntArray
    """Rows of the dataset's index."""
    positions_B: IntArray
    """Place of each in the step's global batch."""


class Plan(Protocol):
    """What meets in each step, and how workers share it."""

    @property
    def n_steps(self) -> int:
        """Steps of an epoch."""
        ...

    @property
    def n_segments_per_step(self) -> int:
        """Most segments of a step, all workers together."""
        ...

    @property
    def digest(self) -> str:
        """12 hex digits that change with anything that changes a step."""
        ...

    def draws(self, step: int, rank: int = 0, world_size: int = 1) -> tuple[Draw, ...]:
        """One worker's share of a step, counted from the run's start; one entry a dataset.

        Raises:
            ValueError: the step cannot be shared so.
        """
        ...

    def check_workers(self, world_size: int) -> None:
        """Refuse a number of workers among which the steps cannot be shared.

        Raises:
            ValueError: says which can.
        """
        ...


def make_plan(sampling: Sampling, pools: Sequence[Pool], *, seed: int) -> Plan:
    """The plan of a stage's run.

    Raises:
        ValueError: as the plan's own.
    """
    if isinstance(sampling, RegionRounds):
        rounds, empty = sampling.rounds_per_step, sampling.empty
        return RoundPlan(pools, seed=seed, rounds_per_step=rounds, empty=empty)
    if isinstance(sampling, ShuffledSegments):
        return SegmentPlan(pools, seed=seed, batch_size=sampling.batch_size)
    return ClassPlan(pools, seed=seed, batch_size=sampling.batch_size)


class RoundPlan:
    """Which segments meet in which step: a pure function of the pools, the seed and the step.

    Each dataset is drawn by itself: its stream is keyed by (seed, name, digest, region), so that
    neither its place in the list nor the content of another dataset changes its draws. A region is
    dealt like a deck of cards: no segment comes again before all of its region have come, in a new
    order each time.
    """

    def __init__(
        self,
        pools: Sequence[Pool],
        *,
        seed: int,
        rounds_per_step: int,
        empty: EmptyPolicy = "spread",
        n_steps: int | None = None,
    ) -> None:
        """Plan the draws from `pools`; nothing is shuffled before a step asks for it.

        Args:
            pools: one for each dataset, in the order in which steps list them.
            seed: of the whole run.
            rounds_per_step: m. The paper uses 4, with 8 datasets 8 * 9 * 4 = 288 segments.
            empty: who gets the slots of regions without segments. The paper leaves it open.
            n_steps: steps of an epoch; by default as many as draw the number of segments there
                are, rounded down (the paper's Table 1: 80,070 // 288 = 278).

        Raises:
            ValueError: no pool, a dataset twice, a count below 1, a policy that does not exist,
                or regions without segments while `empty` is `error`.
        """
        names = [pool.name for pool in pools]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"need one pool for each of one or more datasets, got {names}")
        _check_positive(rounds_per_step=rounds_per_step)
        if n_steps is None:
            n_segments = sum(len(pool.rows_S) for pool in pools)
            n_steps = max(1, n_segments // (len(names) * affect.N_REGIONS * rounds_per_step))
        _check_positive(n_steps=n_steps)
        self.pools = tuple(pools)
        self.seed = int(seed)
        self.rounds_per_step = rounds_per_step
        self.empty: EmptyPolicy = empty
        self.n_steps = n_steps
        self._dealers = [_Dealer(pool, self.seed, empty) for pool in pools]

    @property
    def names(self) -> tuple[str, ...]:
        """The datasets, in the order of axis D."""
        return tuple(pool.name for pool in self.pools)

    @property
    def n_segments_per_step(self) -> int:
        """Draws in a step over all datasets (288 in the paper)."""
        return len(self.pools) * affect.N_REGIONS * self.rounds_per_step

    @cached_property
    def digest(self) -> str:
        """12 hex digits that change with anything that changes a step; a resumed run checks it."""
        pools = [_facts(pool) for pool in self.pools]
        facts = [VERSION, self.seed, self.rounds_per_step, self.n_steps, self.empty, pools]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]

    def step(self, epoch: int, step: int) -> IntArray:
        """Index rows of one step, shape (D, M, 9): dataset, round, slot.

        Raises:
            ValueError: the epoch or step does not exist.
        """
        if not 0 <= step < self.n_steps:
            raise ValueError(f"need a step in [0, {self.n_steps - 1}], got {step}")
        m = self.rounds_per_step
        return self._rows((self._first_step(epoch) + step) * m, m)

    def epoch(self, epoch: int) -> IntArray:
        """Index rows of all steps of an epoch, shape (N, D, M, 9).

        Raises:
            ValueError: the epoch does not exist.
        """
        m = self.rounds_per_step
        rows_DR9 = self._rows(self._first_step(epoch) * m, self.n_steps * m)
        rows_DNM9 = rows_DR9.reshape(len(self.pools), self.n_steps, m, affect.N_REGIONS)
        return np.ascontiguousarray(rows_DNM9.swapaxes(0, 1))

    def draws(self, step: int, rank: int = 0, world_size: int = 1) -> tuple[Draw, ...]:
        """One worker's rounds of a step, which are its share of every dataset."""
        rows_DM9 = share(self.step(*divmod(step, self.n_steps)), rank, world_size)
        n_mine, n_all = rows_DM9[0].size, self.rounds_per_step * affect.N_REGIONS
        first_D = np.arange(len(rows_DM9)) * n_all + rank * n_mine
        return tuple(
            Draw(rows_M9.reshape(-1), np.arange(first, first + n_mine))
            for rows_M9, first in zip(rows_DM9, first_D, strict=True)
        )

    def check_workers(self, world_size: int) -> None:
        """Refuse a number of workers that does not divide the rounds of a step.

        Raises:
            ValueError: with the numbers that do.
        """
        check_workers(world_size, self.rounds_per_step)

    def occupancy(self, n_rounds: int = 1000) -> Occupancy:
        """What each region of each dataset holds, and how often it is drawn in `n_rounds`."""
        return Occupancy(
            names=self.names,
            n_rounds=n_rounds,
            available_D9=np.stack([dealer.available_9 for dealer in self._dealers]),
            drawn_D9=np.stack([dealer.drawn_9(n_rounds) for dealer in self._dealers]),
        )

    def _first_step(self, epoch: int) -> int:
        if epoch < 0:
            raise ValueError(f"need an epoch of at least 0, got {epoch}")
        return epoch * self.n_steps

    def _rows(self, first: int, n_rounds: int) -> IntArray:
        rounds_R = np.arange(first, first + n_rounds, dtype=np.int64)
        return np.stack([dealer.deal(rounds_R) for dealer in self._dealers])


class _Mixed(ABC):
    """Draws of all datasets in one order: what plans that know no rounds share.

    A pure function of pools, seed and step, as `RoundPlan`. All steps of an epoch have the same
    number of segments but for one: a last step of two or three would weigh them like a whole batch,
    and normalise over them.

    Raises:
        ValueError: no pool, a dataset twice, or a batch size below 1.
    """

    kind = ""

    def __init__(self, pools: Sequence[Pool], *, seed: int, batch_size: int) -> None:
        """Plan the draws from `pools`.

        Args:
            pools: one for each dataset.
            seed: of the run.
            batch_size: most segments of a step, all datasets and workers together.
        """
        names = [pool.name for pool in pools]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"need one pool for each of one or more datasets, got {names}")
        _check_positive(batch_size=batch_size)
        self.pools = tuple(pools)
        self.seed = int(seed)
        self.batch_size = batch_size
        self._n = sum(len(pool.rows_S) for pool in pools)
        self.n_steps = -(-self._n // batch_size)
        self._dataset_S = np.repeat(np.arange(len(pools)), [len(p.rows_S) for p in pools])
        self._rows_S = np.concatenate([pool.rows_S for pool in pools])
        self._name = "+".join(names)
        self._content = "+".join(pool.digest for pool in pools)

    @property
    def n_segments_per_step(self) -> int:
        """Most segments of a step."""
        return -(-self._n // self.n_steps)

    @cached_property
    def digest(self) -> str:
        """12 hex digits that change with anything that changes a step."""
        facts = [VERSION, self.kind, self.seed, self.batch_size, *map(self._facts, self.pools)]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]

    def _facts(self, pool: Pool) -> tuple[str, ...]:
        """What the digest says of a pool."""
        return _facts(pool)

    def step(self, epoch: int, step: int) -> IntArray:
        """Places among all pools' segments, one pool after the other: shape (B,).

        Raises:
            ValueError: the epoch or step does not exist.
        """
        if epoch < 0 or not 0 <= step < self.n_steps:
            raise ValueError(
                f"need an epoch of at least 0 and a step in [0, {self.n_steps - 1}], "
                f"got {epoch} and {step}"
            )
        low, high = self._n * step // self.n_steps, self._n * (step + 1) // self.n_steps
        return self._drawn(epoch * self._n + np.arange(low, high))

    @abstractmethod
    def _drawn(self, numbers: IntArray) -> IntArray:
        """Places of the draws with these numbers, counted from the run's first."""

    def draws(self, step: int, rank: int = 0, world_size: int = 1) -> tuple[Draw, ...]:
        """One worker's share of a step: a piece of it, by one longer or shorter than others'."""
        self.check_workers(world_size)
        if not 0 <= rank < world_size:
            raise ValueError(f"need a rank in [0, {world_size - 1}], got {rank}")
        places_B = self.step(*divmod(step, self.n_steps))
        n = len(places_B)
        positions_B = np.arange(n * rank // world_size, n * (rank + 1) // world_size)
        mine_B = places_B[positions_B]
        return tuple(
            Draw(self._rows_S[mine_B[of_this_B]], positions_B[of_this_B])
            for i in range(len(self.pools))
            for of_this_B in [self._dataset_S[mine_B] == i]
        )

    def check_workers(self, world_size: int) -> None:
        """Refuse more workers than the smallest step has segments.

        Raises:
            ValueError: says how many it has.
        """
        check_each_has_one(world_size, self._n // self.n_steps)


class SegmentPlan(_Mixed):
    """Every segment once an epoch, in a new order each time."""

    kind = "segments"

    def __init__(self, pools: Sequence[Pool], *, seed: int, batch_size: int) -> None:
        super().__init__(pools, seed=seed, batch_size=batch_size)
        key = stream_key(seed, self._name, self._content, _ALL_REGIONS)
        self._deck = Deck(key, np.arange(self._n))

    def _drawn(self, numbers: IntArray) -> IntArray:
        return self._deck.draw(numbers)


class ClassPlan(_Mixed):
    """As many segments of each class in every step, or one more; an epoch draws as many as there
    are. A class is dealt like a deck: none of its segments comes again before all have come.

    Raises:
        ValueError: a pool has no labels.
    """

    kind = "classes"

    def __init__(self, pools: Sequence[Pool], *, seed: int, batch_size: int) -> None:
        super().__init__(pools, seed=seed, batch_size=batch_size)
        labels = [pool.label_S for pool in pools if pool.label_S is not None]
        if len(labels) < len(pools):
            raise ValueError(f"{self._name}: need labels to balance classes, got none")
        label_S = np.concatenate(labels)
        self._decks = [
            Deck(
                stream_key(seed, self._name, self._content, _FIRST_CLASS - int(k)),
                np.flatnonzero(label_S == k),
            )
            for k in np.unique(label_S)
        ]

    def _facts(self, pool: Pool) -> tuple[str, ...]:
        """Its labels too: other classes of the same rows are drawn otherwise."""
        assert pool.label_S is not None  # `__init__` has looked
        labels = hashlib.sha256(pool.label_S.astype("<i8").tobytes()).hexdigest()
        return (*super()._facts(pool), labels)

    def _drawn(self, numbers: IntArray) -> IntArray:
        turns, class_B = np.divmod(numbers, len(self._decks))
        places_B = np.empty_like(numbers)
        for k, deck in enumerate(self._decks):
            of_class_B = class_B == k
            if of_class_B.any():
                places_B[of_class_B] = deck.draw(turns[of_class_B])
        return places_B


def share(rows_DM9: IntArray, rank: int, world_size: int) -> IntArray:
    """The rounds of a step that fall to one worker, shape (D, M / world_size, 9).

    Rounds stay whole and in order, so every worker's share is balanced by itself, and the shares
    of all ranks put together along M are the step.

    Raises:
        ValueError: the rounds cannot be shared equally, or there is no such rank.
    """
    n_rounds = rows_DM9.shape[-2]
    check_workers(world_size, n_rounds)
    if not 0 <= rank < world_size:
        raise ValueError(f"need a rank in [0, {world_size - 1}], got {rank}")
    mine = n_rounds // world_size
    return rows_DM9[..., rank * mine : (rank + 1) * mine, :]


def _check_positive(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"need {name} of at least 1, got {count}")


class _Dealer:
    """Deals the rounds of one dataset."""

    def __init__(self, pool: Pool, seed: int, empty: EmptyPolicy) -> None:
        region_S = pool.region_S
        self.available_9: IntArray = np.bincount(region_S, minlength=affect.N_REGIONS)
        self._filled_F = np.flatnonzero(self.available_9)
        self._empty_E = np.flatnonzero(self.available_9 == 0)
        self._slots = _slots(pool.name, empty, self._filled_F, self._empty_E)
        order_S = np.argsort(region_S, kind="stable")
        ends_F = np.cumsum(self.available_9[self._filled_F])
        members = np.split(pool.rows_S[order_S], ends_F[:-1])
        keys = [stream_key(seed, pool.name, pool.digest, int(region)) for region in self._filled_F]
        self._decks = [Deck(key, rows) for key, rows in zip(keys, members, strict=True)]

    def deal(self, rounds_R: IntArray) -> IntArray:
        """Index rows of the rounds, shape (R, 9)."""
        rows_R9 = np.empty((len(rounds_R), affect.N_REGIONS), dtype=np.int64)
        before_RF = self._slots.before(rounds_R)
        for place, (region, deck) in enumerate(zip(self._filled_F, self._decks, strict=True)):
            rows_R9[:, region] = deck.draw(before_RF[:, place])
        if len(self._empty_E):
            rows_R9[:, self._empty_E] = self._deal_extras(rounds_R)
        return rows_R9

    def _deal_extras(self, rounds_R: IntArray) -> IntArray:
        target_RE, number_RE = self._slots.extras(rounds_R)
        rows_RE = np.empty_like(number_RE)
        for place, deck in enumerate(self._decks):
            mine_RE = target_RE == place
            if mine_RE.any():
                rows_RE[mine_RE] = deck.draw(number_RE[mine_RE])
        return rows_RE

    def drawn_9(self, n_rounds: int) -> IntArray:
        """Draws from each region in the first `n_rounds` rounds."""
        drawn_9 = np.zeros(affect.N_REGIONS, dtype=np.int64)
        drawn_9[self._filled_F] = self._slots.before(np.array([n_rounds]))[0]
        return drawn_9


class _Slots(Protocol):
    """Which filled region (by its place among them) each slot of a round draws."""

    def before(self, rounds_R: IntArray) -> IntArray:
        """Draws of each filled region before each round, shape (R, F)."""
        ...

    def extras(self, rounds_R: IntArray) -> tuple[IntArray, IntArray]:
        """What the empty regions' slots draw instead: target and number of draw, each (R, E).

        In a round every region's own slot comes before those that it takes over.
        """
        ...


@dataclass(frozen=True)
class _Spread:
    """The e-th extra slot of the run goes to filled region e mod F."""

    n_filled: int
    n_empty: int

    def before(self, rounds_R: IntArray) -> IntArray:
        # Of the extras 0 .. r*E-1 those with e mod F = place: ceil((r*E - place) / F).
        extras_RF = rounds_R[:, None] * self.n_empty - np.arange(self.n_filled)
        return rounds_R[:, None] + (extras_RF + self.n_filled - 1) // self.n_filled

    def extras(self, rounds_R: IntArray) -> tuple[IntArray, IntArray]:
        extra_RE = rounds_R[:, None] * self.n_empty + np.arange(self.n_empty)
        turn_RE, target_RE = np.divmod(extra_RE, self.n_filled)
        return target_RE, rounds_R[:, None] + 1 + turn_RE


@dataclass(frozen=True, eq=False)
class _Nearest:
    """Every round alike: an empty region's slot goes to the filled region nearest to it."""

    n_filled: int
    target_E: IntArray

    def before(self, rounds_R: IntArray) -> IntArray:
        return rounds_R[:, None] * self._draws_F()

    def extras(self, rounds_R: IntArray) -> tuple[IntArray, IntArray]:
        target_E = self.target_E
        earlier_E = np.array([np.sum(target_E[:i] == t) for i, t in enumerate(target_E)])
        number_RE = rounds_R[:, None] * self._draws_F()[target_E] + 1 + earlier_E
        return np.broadcast_to(target_E, number_RE.shape), number_RE

    def _draws_F(self) -> IntArray:
        taken_over_F: IntArray = np.bincount(self.target_E, minlength=self.n_filled)
        return 1 + taken_over_F


def _slots(name: str, empty: EmptyPolicy, filled_F: IntArray, empty_E: IntArray) -> _Slots:
    if empty == "spread":
        return _Spread(len(filled_F), len(empty_E))
    if empty == "nearest":
        return _Nearest(len(filled_F), _nearest(filled_F, empty_E))
    if empty != "error":
        raise ValueError(f"need empty among spread, nearest, error; got {empty!r}")
    if len(empty_E):
        lacking = ", ".join(f"{region} ({REGION_NAMES[region]})" for region in empty_E)
        raise ValueError(f"{name}: need segments in every region, none in {lacking}")
    return _Spread(len(filled_F), 0)


def _nearest(filled_F: IntArray, empty_E: IntArray) -> IntArray:
    """Place of the filled region nearest to each empty one; of equals the lowest number."""
    # Centres lie 3 apart on a 3x3 lattice: whole numbers decide, so ties are exact.
    dv_EF = empty_E[:, None] % 3 - filled_F % 3
    da_EF = empty_E[:, None] // 3 - filled_F // 3
    nearest_E: IntArray = np.argmin(dv_EF**2 + da_EF**2, axis=1)
    return nearest_E


def _facts(pool: Pool) -> tuple[str, str, str]:
    """What a plan's digest says of a pool."""
    rows = hashlib.sha256(pool.rows_S.astype("<i8").tobytes()).hexdigest()
    return pool.name, pool.digest, rows
