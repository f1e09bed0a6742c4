"""How well values are read within people: a correlation for each person, and their mean.

A correlation over the segments of many people together also measures who rates high and whose
signals lie high. Within a person neither counts.

Shapes: M segments that are scored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from emoray.evaluation.statistics import Interval, paired_interval
from emoray.vocabulary.schema import FloatArray

FEWEST = 8
"""Segments with a value that a person needs for a correlation: of fewer, one is mostly noise
(with 8 its standard error is 0.38)."""


@dataclass(frozen=True, slots=True)
class WithinPeople:
    """One axis, read within people; each person that counts weighs the same."""

    r: float | None = None
    """Mean of the people's Pearson correlations; None where nobody counts."""
    n_people: int = 0
    """How many count."""
    interval: Interval | None = None
    """95 % interval of the mean over people, by Student's t; None with fewer than two."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Why a person does not count, by name."""


def within_people(
    given_M: FloatArray, read_M: FloatArray, people: Sequence[str], *, fewest: int = FEWEST
) -> WithinPeople:
    """Mean over people of the correlation of read and given values.

    Args:
        given_M: NaN where a segment has no value; it is left out.
        read_M: NaN where nothing could be read.
        people: whose each segment is, unique over datasets (`deap-07`).
        fewest: segments that a person needs.
    """
    whose_M = np.asarray(people)
    found: list[float] = []
    left_out: dict[str, str] = {}
    for person in sorted(set(people)):
        own_M = (whose_M == person) & np.isfinite(given_M)
        why = _why_not(given_M[own_M], read_M[own_M], fewest)
        if why:
            left_out[person] = why
        else:
            found.append(correlation(given_M[own_M], read_M[own_M]))
    mean = float(np.mean(found)) if found else None
    return WithinPeople(mean, len(found), paired_interval(found), left_out)


def _why_not(given_M: FloatArray, read_M: FloatArray, fewest: int) -> str:
    """Why there is no correlation; empty where there is one."""
    if len(given_M) < fewest:
        return f"{len(given_M)} segments, of {fewest} needed"
    if np.ptp(given_M) == 0:
        return "all values given are the same"
    if not np.all(np.isfinite(read_M)):
        return "nothing could be read"
    return "" if varies(read_M) else "all values read are the same"


def varies(read_M: FloatArray) -> bool:
    """Whether values differ by more than what rounding leaves."""
    return bool(np.ptp(read_M) > 1e-12 * max(1.0, float(np.abs(read_M).max())))


def correlation(given_M: FloatArray, read_M: FloatArray) -> float:
    """Pearson's r of values that vary."""
    return float(np.corrcoef(given_M, read_M)[0, 1])
