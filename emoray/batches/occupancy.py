"""What a region-balanced plan draws from, and how often: dataset by region.

Shapes: D datasets, 9 regions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from emoray.vocabulary.schema import IntArray

REGION_NAMES: tuple[str, ...] = tuple(f"V{v} A{a}" for a in "-0+" for v in "-0+")
"""By region number: low, middle and high valence and arousal."""


@dataclass(frozen=True, eq=False)
class Occupancy:
    """What each dataset has in each region, and what is drawn from it."""

    names: tuple[str, ...]
    n_rounds: int
    """Rounds, counted from the run's first, over which the draws are counted."""
    available_D9: IntArray
    """Segments in the region."""
    drawn_D9: IntArray
    """Draws from the region; each dataset's add to 9 * n_rounds."""

    def header(self) -> tuple[str, ...]:
        """Titles of the columns of `rows`."""
        return ("dataset", "all", *REGION_NAMES)

    def rows(self) -> list[tuple[str, ...]]:
        """One line for each dataset: name, segments, and `available > drawn` by region."""
        return [
            (name, f"{available_9.sum():,}", *map(_cell, available_9, drawn_9))
            for name, available_9, drawn_9 in zip(
                self.names, self.available_D9, self.drawn_D9, strict=True
            )
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, to be stored with the run."""
        datasets = {
            name: {"available": available_9.tolist(), "drawn": drawn_9.tolist()}
            for name, available_9, drawn_9 in zip(
                self.names, self.available_D9, self.drawn_D9, strict=True
            )
        }
        return {"n_rounds": self.n_rounds, "regions": list(REGION_NAMES), "datasets": datasets}


def _cell(available: int, drawn: int) -> str:
    return f"{available:,} > {drawn:,}" if available else "-"
