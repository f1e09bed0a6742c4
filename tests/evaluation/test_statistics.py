"""Intervals and tests by hand and against scipy, and blanks where nothing can be known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from emoray.evaluation.statistics import Interval, paired_interval, paired_p, summarise

VALUES = st.lists(st.floats(-10, 10), min_size=2, max_size=20)


def test_the_interval_is_students() -> None:
    # By hand: mean 0.2, sd 0.1, n 4, t(0.975, 3) = 3.182446.
    found = paired_interval([0.1, 0.1, 0.3, 0.3])
    assert found is not None
    reach = 3.18244630 * math.sqrt(0.04 / 3) / 2
    assert found.mean == pytest.approx(0.2)
    assert found.low == pytest.approx(0.2 - reach, rel=1e-5)
    assert found.high == pytest.approx(0.2 + reach, rel=1e-5)
    assert found.excludes_zero
    assert found.n == 4


@pytest.mark.parametrize(
    ("low", "high", "excludes"),
    [(0.1, 0.3, True), (-0.3, -0.1, True), (-0.1, 0.3, False), (0.0, 0.3, False)],
)
def test_an_interval_that_touches_zero_does_not_exclude_it(
    low: float, high: float, excludes: bool
) -> None:
    assert Interval((low + high) / 2, low, high, 5).excludes_zero is excludes


def test_one_pair_has_no_interval() -> None:
    assert paired_interval([0.3]) is None
    assert paired_interval([]) is None


def test_a_missing_difference_is_refused() -> None:
    for judge in (paired_interval, paired_p):
        with pytest.raises(ValueError, match="need finite differences, got"):
            judge([0.1, math.nan])
    with pytest.raises(ValueError, match="need finite values, got"):
        summarise([math.inf])
    with pytest.raises(ValueError, match="confidence"):
        paired_interval([0.1, 0.2], confidence=1.0)


@settings(max_examples=50, deadline=None)
@given(VALUES, st.floats(0.5, 0.9))
def test_more_confidence_never_narrows_the_interval(
    differences: list[float], confidence: float
) -> None:
    narrow, wide = paired_interval(differences, confidence), paired_interval(differences, 0.95)
    if narrow is None or wide is None:  # all alike
        assert narrow is wide
        return
    assert wide.low <= narrow.low <= narrow.mean <= narrow.high <= wide.high


def test_a_summary_counts_the_spread_with_one_less() -> None:
    found = summarise([1.0, 2.0, 6.0])
    assert found is not None
    assert (found.n, found.mean) == (3, pytest.approx(3.0))
    assert found.sd == pytest.approx(math.sqrt((4 + 1 + 9) / 2))
    assert found.interval == paired_interval([1.0, 2.0, 6.0])


def test_one_value_has_a_mean_and_nothing_more() -> None:
    found = summarise([0.4])
    assert found is not None
    assert (found.n, found.mean, found.sd, found.interval) == (1, 0.4, None, None)
    assert summarise([]) is None


@settings(max_examples=50, deadline=None)
@given(VALUES)
def test_the_test_is_the_paired_t_test(differences: list[float]) -> None:
    assume(np.std(differences) > 1e-3)
    expected = stats.ttest_rel(differences, np.zeros(len(differences))).pvalue
    assert paired_p(differences) == pytest.approx(expected, rel=1e-6)
    assert paired_p([-d for d in differences]) == pytest.approx(expected, rel=1e-6)


@settings(max_examples=50, deadline=None)
@given(VALUES)
def test_test_and_interval_agree_on_five_percent(differences: list[float]) -> None:
    assume(np.std(differences) > 1e-3)
    interval, p = paired_interval(differences), paired_p(differences)
    assert interval is not None
    assert p is not None
    assume(abs(p - 0.05) > 1e-9)
    assert interval.excludes_zero == (p < 0.05)


def test_without_spread_there_is_neither_test_nor_interval() -> None:
    # 0.3 - 0.2 and 0.2 - 0.1 differ by rounding alone.
    rounded, tiny = [0.3 - 0.2, 0.2 - 0.1, 0.1], [0.0, 1e-200]
    for alike in ([0.2], [0.0, 0.0, 0.0], [0.2] * 5, rounded, tiny):
        assert paired_p(alike) is None
        assert paired_interval(alike) is None


@settings(max_examples=100, deadline=None)
@given(st.floats(-100, 100), st.integers(2, 20), st.booleans())
def test_equal_differences_claim_nothing(value: float, n: int, rounded: bool) -> None:
    """No interval of zero width that "excludes zero", whatever the value."""
    alike = [value * (1 + rounded * (i % 2) * 2e-16) for i in range(n)]
    assert paired_interval(alike) is None
    assert paired_p(alike) is None
    found = summarise(alike)
    assert found is not None
    assert found.interval is None


@settings(max_examples=50, deadline=None)
@given(VALUES)
def test_interval_and_test_are_there_together(differences: list[float]) -> None:
    interval, p = paired_interval(differences), paired_p(differences)
    assert (interval is None) == (p is None)
    assert interval is None or interval.low < interval.high
