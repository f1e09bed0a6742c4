"""Who is held out: pure functions from an index to subjects.

A subject's recordings never stand on both sides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def held_out_subjects(
    dataset: str, subjects: Iterable[str], *, fraction: float, seed: int
) -> tuple[str, ...]:
    """Choose the subjects of one dataset that training must not see.

    The choice depends on names and seed alone: a subject added later changes nobody else's rank.

    Args:
        dataset: its name; subjects of two datasets are different people.
        subjects: names, in any order, repeated or not.
        fraction: share to hold out, in [0, 1). At least one where it is above zero and the
            dataset has two or more; none in a dataset of one.
        seed: another seed, another choice.

    Returns:
        Names, sorted.

    Raises:
        ValueError: `fraction` lies outside [0, 1).
    """
    if not 0 <= fraction < 1:
        raise ValueError(f"need a held-out fraction in [0, 1), got {fraction:g}")
    everyone = sorted(set(subjects))
    if fraction == 0 or len(everyone) < 2:
        return ()
    n = min(max(1, round(fraction * len(everyone))), len(everyone) - 1)
    return tuple(sorted(sorted(everyone, key=lambda s: _rank(seed, dataset, s))[:n]))


def _rank(seed: int, dataset: str, subject: str) -> str:
    return hashlib.sha256(f"{seed}/{dataset}/{subject}".encode()).hexdigest()
