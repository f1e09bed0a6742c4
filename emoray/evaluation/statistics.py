"""A few numbers and how sure they are: mean, spread, interval, paired test.

Small samples throughout (five seeds, some folds), so Student's t. Its distribution is scipy's,
whose `stats` takes a second to load: each function loads it for itself, so that a training worker,
which imports this room and computes no interval, does not pay for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from emoray.vocabulary.schema import FloatArray


@dataclass(frozen=True, slots=True)
class Interval:
    """Mean of values or of paired differences and its confidence interval."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, slots=True)
class Summary:
    """What a cell of a table says of its values."""

    n: int
    mean: float
    sd: float | None
    """Of the sample, with n - 1; None for a single value."""
    interval: Interval | None
    """95 % interval of the mean; None for a single value, and where all values are equal."""


def summarise(values: Sequence[float]) -> Summary | None:
    """How many, where, how far apart; None where there is no value.

    Raises:
        ValueError: a value is not finite.
    """
    found_N = _finite(values, "values")
    if len(found_N) == 0:
        return None
    sd = float(found_N.std(ddof=1)) if len(found_N) > 1 else None
    return Summary(len(found_N), float(found_N.mean()), sd, paired_interval(values))


def paired_interval(differences: Sequence[float], confidence: float = 0.95) -> Interval | None:
    """Confidence interval of the mean of paired differences, by Student's t.

    Args:
        differences: one for each pair, as pretrained minus untrained for each seed.
        confidence: in (0, 1).

    Returns:
        None with fewer than two pairs, and where all pairs differ alike: there is then no spread
        to judge by, and an interval without width would claim certainty that no test grants.

    Raises:
        ValueError: a difference is not finite, or `confidence` is not inside (0, 1).
    """
    if not 0 < confidence < 1:
        raise ValueError(f"need a confidence inside (0, 1), got {confidence:g}")
    found_N = _finite(differences, "differences")
    if not _has_spread(found_N):
        return None
    from scipy import stats

    mean, df = float(found_N.mean()), len(found_N) - 1
    low, high = stats.t.interval(confidence, df, loc=mean, scale=stats.sem(found_N))
    return Interval(mean, float(low), float(high), len(found_N))


def paired_p(differences: Sequence[float]) -> float | None:
    """Two-sided p of the paired t-test: how often chance alone differs so much.

    Returns:
        None with fewer than two pairs, and where all pairs differ alike: the test divides by
        the spread.

    Raises:
        ValueError: a difference is not finite.
    """
    found_N = _finite(differences, "differences")
    if not _has_spread(found_N):
        return None
    from scipy import stats

    # As in `stats.ttest_1samp`, whose p differs from this in its last digits.
    t = abs(float(found_N.mean())) / stats.sem(found_N)
    return float(2 * stats.t.sf(t, len(found_N) - 1))


def _has_spread(values_N: FloatArray) -> bool:
    """Whether values differ by more than what rounding leaves: 1e-12 of the largest."""
    if len(values_N) < 2 or np.ptp(values_N) <= 1e-12 * np.abs(values_N).max():
        return False
    return bool(values_N.std(ddof=1) > 0)  # squares of less than 1e-162 are zero


def _finite(values: Sequence[float], what: str) -> FloatArray:
    found_N = np.asarray(values, dtype=np.float64)
    if not np.all(np.isfinite(found_N)):
        raise ValueError(f"need finite {what}, got {list(values)}")
    return found_N
