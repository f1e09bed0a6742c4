"""What workers tell of their steps and faults: plain values, whose carrier need not load torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rows:
    """Consecutive steps as a listener hears of them."""

    first_step: int
    columns: dict[str, list[float]]
    """`checkpoint.HISTORY` names; all lists of one length, which is none where a worker begins or
    begins again."""


@dataclass(frozen=True)
class Fault:
    """What happened to a run, in one line."""

    words: str
    can_pass: bool


NO_FAULT = Fault("", can_pass=True)
