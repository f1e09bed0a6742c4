"""Whom a run holds out: by name and seed alone."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emoray.evaluation.folds import held_out_subjects

NAMES = st.text("0123456789abS-", min_size=1, max_size=6)
SUBJECTS = st.lists(NAMES, min_size=1, max_size=40, unique=True)
FRACTIONS = st.floats(0, 1, exclude_max=True)
SEEDS = st.integers(0, 2**32)


@given(SUBJECTS, FRACTIONS, SEEDS, st.randoms(use_true_random=False))
def test_order_and_repeats_change_nothing(
    subjects: list[str], fraction: float, seed: int, dice: random.Random
) -> None:
    first = held_out_subjects("deap", subjects, fraction=fraction, seed=seed)
    shuffled = dice.sample(subjects, len(subjects)) + subjects[: len(subjects) // 2]
    assert held_out_subjects("deap", iter(shuffled), fraction=fraction, seed=seed) == first
    assert list(first) == sorted(set(first) & set(subjects))


@given(st.lists(NAMES, min_size=2, max_size=40, unique=True), FRACTIONS, SEEDS)
def test_somebody_is_held_out_and_somebody_is_left(
    subjects: list[str], fraction: float, seed: int
) -> None:
    n = len(held_out_subjects("deap", subjects, fraction=fraction, seed=seed))
    assert n < len(subjects)
    assert (n >= 1) == (fraction > 0)
    if 1 < n < len(subjects) - 1:
        assert abs(n - fraction * len(subjects)) <= 0.5


@given(SUBJECTS, SEEDS)
def test_nobody_is_held_out_at_zero(subjects: list[str], seed: int) -> None:
    assert held_out_subjects("deap", subjects, fraction=0, seed=seed) == ()


@given(NAMES, FRACTIONS, SEEDS)
def test_a_dataset_of_one_subject_is_trained_on(subject: str, fraction: float, seed: int) -> None:
    assert held_out_subjects("deap", [subject] * 3, fraction=fraction, seed=seed) == ()


def ranking(subjects: list[str], seed: int) -> list[str]:
    """Subjects in the order in which a growing fraction takes them; the one never taken last."""
    n = len(subjects)
    taken: list[str] = []
    for k in range(1, n):
        chosen = held_out_subjects("deap", subjects, fraction=k / n, seed=seed)
        assert set(taken) < set(chosen)
        taken += set(chosen) - set(taken)
    return taken + [subject for subject in subjects if subject not in taken]


@given(st.lists(NAMES, min_size=2, max_size=9, unique=True), NAMES, SEEDS)
def test_a_subject_added_later_changes_nobody_elses_rank(
    subjects: list[str], late: str, seed: int
) -> None:
    everyone = sorted({*subjects, late})
    others = [subject for subject in ranking(everyone, seed) if subject in subjects]
    assert others == ranking(subjects, seed)


def test_another_seed_or_another_dataset_is_another_choice() -> None:
    subjects = [f"{i:02}" for i in range(32)]
    chosen = {
        held_out_subjects(name, subjects, fraction=0.25, seed=seed)
        for name in ("deap", "faced")
        for seed in range(3)
    }
    assert len(chosen) == 6
    assert {len(subjects) for subjects in chosen} == {8}


def test_the_choice_is_the_same_on_every_machine() -> None:
    subjects = [f"{i:02}" for i in range(1, 16)]
    assert held_out_subjects("deap", subjects, fraction=0.2, seed=0) == ("01", "08", "14")


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 20.0, float("nan"), float("inf")])
def test_a_fraction_outside_its_range_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match=rf"held-out fraction in \[0, 1\), got {fraction:g}"):
        held_out_subjects("deap", ["01", "02"], fraction=fraction, seed=0)
