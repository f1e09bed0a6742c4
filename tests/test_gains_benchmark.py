"""The benchmark of gains: what it compares, and the intervals that it prints."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
from scipy import stats

from benchmarks.gains import CLAIMS, Claim, said

PAIRS = [(claim, pair) for claim in CLAIMS.values() for pair in claim.claims]


def row(seed: int, fold: str, acc: float) -> Any:
    return SimpleNamespace(seed=seed, fold=fold, scores={"acc": acc})


def test_a_gain_is_paired_by_seed_and_by_fold() -> None:
    gains = {(0, "a"): 0.1, (0, "b"): 0.3, (1, "a"): 0.0, (1, "b"): 0.2}
    found = {
        "one": [row(seed, fold, 0.5 + gain) for (seed, fold), gain in gains.items()],
        "other": [row(seed, fold, 0.5) for seed, fold in reversed(gains)],
    }
    for line, values in zip(
        said(("one", "other"), "acc", found), ([0.2, 0.1], [0.05, 0.25]), strict=True
    ):
        low, high = stats.t.interval(0.95, 1, loc=0.15, scale=stats.sem(values))
        numbers = [float(number) for number in re.findall(r"[+-]\d\.\d+", line)]
        assert numbers == pytest.approx([0.15, low, high], abs=6e-4)


def test_arms_of_other_runs_are_not_compared() -> None:
    with pytest.raises(AssertionError):
        said(("one", "other"), "acc", {"one": [row(0, "a", 0.5)], "other": [row(1, "a", 0.5)]})


@pytest.mark.parametrize(("claim", "pair"), PAIRS)
def test_what_is_compared_is_there_and_is_scored_alike(claim: Claim, pair: tuple[str, str]) -> None:
    arms = {arm.row: arm.last for arm in claim.arms}
    one, other = (arms[name] for name in pair)
    assert (one.method, one.stage, one.config) == (other.method, other.stage, other.config)


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_nothing_is_told_of_the_data_that_were_tuned_on(claim: Claim) -> None:
    assert claim.told_on.dataset != claim.tuned_on.dataset


def test_the_control_of_the_alignment_differs_in_its_pairs_alone() -> None:
    arms = {arm.row: arm.stages for arm in CLAIMS["alignment"].arms}
    apart = [
        (name, getattr(a.config, name), getattr(b.config, name))
        for a, b in zip(arms["aligned"], arms["aligned, permuted pairs"], strict=True)
        for name in vars(a.config)
        if getattr(a.config, name) != getattr(b.config, name)
    ]
    assert apart == [("pairing", "simultaneous", "permuted")]
