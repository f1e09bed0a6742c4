"""How a stage draws its batches, said before there are any segments: `plans` make it a plan."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

EmptyPolicy = Literal["spread", "nearest", "error"]
"""Who gets the slots of a region without segments: `spread` its dataset's filled regions in turn,
`nearest` the filled region with the nearest centre, `error` nobody."""


@dataclass(frozen=True)
class RegionRounds:
    """Sampling: as many segments from each region of each dataset in every step (EMOD)."""

    rounds_per_step: int
    empty: EmptyPolicy = "spread"

    def smaller(self, n_segments: int) -> RegionRounds:
        """The same by steps of one round, the fewest segments that there can be."""
        return replace(self, rounds_per_step=1)

    def check_workers(self, n_workers: int) -> None:
        """As a plan's, before there is one.

        Raises:
            ValueError: a number of workers that does not divide the rounds.
        """
        check_workers(n_workers, self.rounds_per_step)


@dataclass(frozen=True)
class ShuffledSegments:
    """Sampling: every segment once an epoch, in a new order each time."""

    batch_size: int

    def smaller(self, n_segments: int) -> ShuffledSegments:
        """The same by steps of so many segments at most."""
        return replace(self, batch_size=min(self.batch_size, n_segments))

    def check_workers(self, n_workers: int) -> None:
        """As a plan's, before there is one, which may find the segments too few as well.

        Raises:
            ValueError: more workers than a step has segments.
        """
        check_each_has_one(n_workers, self.batch_size)


@dataclass(frozen=True)
class BalancedClasses:
    """Sampling: as many segments of each class in every step, or one more."""

    batch_size: int

    def smaller(self, n_segments: int) -> BalancedClasses:
        """The same by steps of so many segments at most."""
        return replace(self, batch_size=min(self.batch_size, n_segments))

    def check_workers(self, n_workers: int) -> None:
        """As a plan's, before there is one, which may find the segments too few as well.

        Raises:
            ValueError: more workers than a step has segments.
        """
        check_each_has_one(n_workers, self.batch_size)


Sampling = RegionRounds | ShuffledSegments | BalancedClasses
"""How a stage draws its batches."""


def worker_counts(rounds_per_step: int) -> tuple[int, ...]:
    """The numbers of workers among which the rounds of a step can be shared equally."""
    return tuple(n for n in range(1, rounds_per_step + 1) if rounds_per_step % n == 0)


def check_workers(n_workers: int, rounds_per_step: int) -> None:
    """Refuse a number of workers among which the rounds cannot be shared equally.

    Raises:
        ValueError: with the numbers that work.
    """
    if n_workers not in worker_counts(rounds_per_step):
        fitting = ", ".join(str(n) for n in worker_counts(rounds_per_step))
        raise ValueError(
            f"need a number of workers that divides the {rounds_per_step} rounds of a step "
            f"({fitting}), got {n_workers}"
        )


def check_each_has_one(n_workers: int, fewest: int) -> None:
    """Refuse more workers than a step has segments.

    Raises:
        ValueError: says how many it has.
    """
    if not 1 <= n_workers <= fewest:
        raise ValueError(f"need 1 to {fewest} workers for steps of {fewest}, got {n_workers}")
