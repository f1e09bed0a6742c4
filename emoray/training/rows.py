"""What workers tell of their steps: plain values, so that whoever carries them loads no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rows:
    """Consecutive steps as a listener hears of them."""

    first_step: int
    columns: dict[str, list[float]]
    """`checkpoint.HISTORY` names; all lists of one length, which is none where a worker begins or
    begins again."""
