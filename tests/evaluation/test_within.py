"""Correlations within people: what offsets of people and datasets cannot raise, weighed as told."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from emoray.evaluation.readout import leave_one_subject_out, read_out
from emoray.evaluation.within import FEWEST, within_people

PEOPLE = tuple(f"{d}-{s:02d}" for d in ("deap", "dreamer", "mped") for s in range(1, 9))


def offsets_only(rng: np.random.Generator, n: int = 40):
    """Embeddings that know whose a segment is, and ratings that differ by person: nothing else."""
    habit = {person: rng.normal(0, 1.5, 2) for person in PEOPLE}
    for dataset, shift in (("deap", -2.0), ("mped", 2.0)):
        for person in PEOPLE:
            habit[person] = habit[person] + shift * person.startswith(dataset)
    people = [person for person in PEOPLE for _ in range(n)]
    habit_M2 = np.array([habit[person] for person in people])
    va_M2 = habit_M2 + rng.normal(0, 0.7, habit_M2.shape)
    z_MD = habit_M2 @ rng.standard_normal((2, 6)) + 0.3 * rng.standard_normal((len(people), 6))
    return z_MD, va_M2, np.array(people)


def test_offsets_of_people_and_datasets_raise_the_pooled_r_alone() -> None:
    z_MD, va_M2, people = offsets_only(np.random.default_rng(0))
    test_M = np.char.endswith(people, ("05")) | np.char.endswith(people, ("06"))
    test_M |= np.char.endswith(people, ("07")) | np.char.endswith(people, ("08"))
    found = read_out(
        z_MD[~test_M],
        va_M2[~test_M],
        z_MD[test_M],
        va_M2[test_M],
        train_subjects=people[~test_M].tolist(),
        test_subjects=people[test_M].tolist(),
        test_datasets=[p.partition("-")[0] for p in people[test_M]],
    )
    for axis in (found.scores.valence, found.scores.arousal):
        assert axis.pooled_r is not None
        assert axis.pooled_r > 0.85
        assert axis.people.r is not None
        assert abs(axis.people.r) < 0.12  # 12 people of 40 segments: a standard error is 0.046
        assert axis.people.n_people == 12
        assert axis.people.interval is not None
        assert axis.people.interval.low < 0 < axis.people.interval.high


def test_offsets_do_not_hide_what_is_read_within_people() -> None:
    rng = np.random.default_rng(1)
    given_M = rng.uniform(-1, 1, 240)
    people = [person for person in PEOPLE for _ in range(10)]
    offset_M = np.repeat(rng.normal(0, 30, len(PEOPLE)), 10)
    found = within_people(given_M, given_M + offset_M, people)
    assert found.r == pytest.approx(1)
    assert abs(np.corrcoef(given_M, given_M + offset_M)[0, 1]) < 0.3


def by_hand(given_M, read_M, people):
    """scipy's correlation of each person in a plain loop: people with any 8 segments or more."""
    found = []
    for person in sorted(set(people)):
        pairs = [
            (g, r)
            for g, r, p in zip(given_M, read_M, people, strict=True)
            if p == person and not math.isnan(g)
        ]
        if len(pairs) >= 8:
            found.append(stats.pearsonr(*zip(*pairs, strict=True)).statistic)
    return found


@pytest.mark.parametrize("seed", range(20))
def test_each_person_weighs_the_same_however_many_segments(seed: int) -> None:
    rng = np.random.default_rng(seed)
    people = [p for p in PEOPLE for _ in range(int(rng.integers(2, 200)))]
    rng.shuffle(people)
    given_M = rng.normal(0, 1, len(people))
    given_M[rng.random(len(people)) < 0.1] = np.nan
    read_M = np.nan_to_num(given_M) * rng.uniform(-1, 1) + rng.normal(0, 1, len(people))
    expected = by_hand(given_M, read_M, people)
    found = within_people(given_M, read_M, people)
    assert found.r == pytest.approx(np.mean(expected), abs=1e-12)
    assert found.n_people == len(expected) == len(PEOPLE) - len(found.left_out)
    interval = stats.t.interval(0.95, len(expected) - 1, np.mean(expected), stats.sem(expected))
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == pytest.approx(interval, abs=1e-12)


def test_who_does_not_count_is_named_with_the_reason() -> None:
    n = FEWEST
    steady, rising = np.full(n, 2.0), np.arange(n, dtype=float)
    few, missing = rising[: n - 1], np.full(n, np.nan)
    given = {"a": rising, "b": few, "c": steady, "d": rising, "e": rising, "f": missing}
    read = {"a": -rising, "b": few, "c": rising, "d": steady, "e": missing, "f": rising}
    people = [person for person, values in given.items() for _ in values]
    found = within_people(
        np.concatenate(list(given.values())), np.concatenate(list(read.values())), people
    )
    assert (found.r, found.n_people, found.interval) == (pytest.approx(-1), 1, None)
    assert found.left_out == {
        "b": "7 segments, of 8 needed",
        "c": "all values given are the same",
        "d": "all values read are the same",
        "e": "nothing could be read",
        "f": "0 segments, of 8 needed",
    }


def test_nobody_gives_no_number() -> None:
    found = within_people(np.zeros(0), np.zeros(0), [])
    assert (found.r, found.n_people, found.interval, found.left_out) == (None, 0, None, {})


def test_subjects_left_out_in_turn_are_read_within_people_too() -> None:
    z_MD, va_M2, people = offsets_only(np.random.default_rng(2))
    one = np.char.startswith(people, "deap")
    offsets = leave_one_subject_out(z_MD[one], va_M2[one], people[one].tolist())
    told = np.hstack([z_MD, va_M2])[one]
    known = leave_one_subject_out(told, va_M2[one], people[one].tolist())
    for without, within in zip(offsets, known, strict=True):
        assert without is not None
        assert within is not None
        assert abs(without) < 0.2
        assert within > 0.95
