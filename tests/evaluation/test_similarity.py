"""Similarities of two streams against plain loops; what is kept comes back."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from emoray.evaluation.similarity import Beside, Spread, by_person, cosines
from emoray.runtime.storage import Storage
from emoray.vocabulary.schema import DataError

SUBJECTS = ("a", "a", "a", "b", "b")


def features(seed: int, n: int = 5, width: int = 7) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, width)) + 0.3


def loop(query_NZ: np.ndarray, key_NZ: np.ndarray) -> list[list[float]]:
    """Cosines by their definition, one at a time."""
    return [
        [
            sum(a * b for a, b in zip(q, k, strict=True))
            / math.sqrt(sum(a * a for a in q))
            / math.sqrt(sum(b * b for b in k))
            for k in key_NZ
        ]
        for q in query_NZ
    ]


def test_rows_are_queries_and_columns_keys() -> None:
    found = cosines(features(0), features(1))
    np.testing.assert_allclose(found, loop(features(0), features(1)), rtol=1e-12)


def test_a_feature_of_zeros_is_like_nothing() -> None:
    query_NZ = features(0)
    query_NZ[2] = 0
    found = cosines(query_NZ, features(1))
    assert not found[2].any()
    assert found[1].all()


def test_no_cosine_is_above_one_by_rounding() -> None:
    same_NZ = np.random.default_rng(0).standard_normal((200, 3)).astype("f4")
    found = cosines(same_NZ, same_NZ)
    np.testing.assert_allclose(np.diag(found), 1.0)
    assert np.abs(found).max() <= 1


def test_features_that_are_not_of_the_same_segments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"one shape, got \(5, 7\) and \(4, 7\)"):
        cosines(features(0), features(1, n=4))
    with pytest.raises(ValueError, match="finite"):
        cosines(features(0), np.full((5, 7), np.nan))


def test_the_numbers_of_a_matrix_are_those_of_plain_loops() -> None:
    matrix = cosines(features(0), features(1))
    n = range(5)
    every = [matrix[i, j] for i in n for j in n]
    others = [matrix[i, j] for i in n for j in n if i != j]
    same = [matrix[i, j] for i in n for j in n if i != j and SUBJECTS[i] == SUBJECTS[j]]
    found = Spread.of(matrix, SUBJECTS)
    assert (found.low, found.high) == (min(every), max(every))
    assert found.mean == pytest.approx(sum(every) / 25)
    assert found.pairs == pytest.approx(sum(matrix[i, i] for i in n) / 5)
    assert found.others == pytest.approx(sum(others) / 20)
    assert len(same) == 8
    assert found.same_person == pytest.approx(sum(same) / 8)


def test_a_shift_moves_the_mean_and_lifts_no_pair_above_others() -> None:
    """What the figure says of a mean similarity: one vector, added to all, is enough."""
    shift = np.full(64, 5.0)
    query_NZ, key_NZ = features(0, 60, 64), features(1, 60, 64)
    subjects = ("a",) * 60
    before = Spread.of(cosines(query_NZ, key_NZ), subjects)
    after = Spread.of(cosines(query_NZ + shift, key_NZ + shift), subjects)
    assert after.mean - before.mean > 0.5
    assert abs(after.pairs - after.others) < 0.05


def test_people_of_one_segment_each_have_no_other_of_their_own() -> None:
    assert Spread.of(np.eye(3), ("a", "b", "c")).same_person is None


@pytest.mark.parametrize(
    ("matrix", "subjects"),
    [
        (np.zeros((3, 2)), ("a",) * 3),
        (np.zeros((3, 3)), ("a",) * 2),
        (np.zeros((1, 1)), ("a",)),
    ],
)
def test_what_is_no_matrix_of_pairs_is_refused(
    matrix: np.ndarray, subjects: tuple[str, ...]
) -> None:
    with pytest.raises(ValueError, match=r"\(N, N\) similarities"):
        Spread.of(matrix, subjects)


def test_rows_come_person_by_person_in_their_order() -> None:
    subject_S = np.array(["b", "a", "b", "a", "c"], dtype=object)
    assert by_person(np.array([4, 3, 2, 1, 0]), subject_S, 9).tolist() == [1, 3, 0, 2, 4]
    assert by_person(np.array([0, 2, 3]), subject_S, 9).tolist() == [3, 0, 2]


def test_of_many_rows_every_person_keeps_a_share() -> None:
    subject_S = np.repeat(np.array(["a", "b", "c"], dtype=object), [100, 200, 100])
    kept = subject_S[by_person(np.arange(400), subject_S, 40)].tolist()
    assert len(kept) == 40
    assert {who: kept.count(who) for who in "abc"} == {"a": 10, "b": 20, "c": 10}


def beside() -> Beside:
    matrix = cosines(features(0), features(1)).astype(np.float32)
    return Beside(matrix, features(2, width=2), np.array([0, 1, 0, 1, 1]), SUBJECTS)


def test_what_is_kept_comes_back(tmp_path: Path) -> None:
    storage = Storage.at(tmp_path / "kept")
    beside().save(storage, "one.npz")
    found = Beside.load(storage, "one.npz")
    for name in ("similarity_NN", "points_N2", "label_N"):
        np.testing.assert_array_equal(getattr(found, name), getattr(beside(), name))
    assert found.subjects == SUBJECTS
    assert found.spread == beside().spread


def test_what_is_not_there_or_something_else_is_named(tmp_path: Path) -> None:
    storage = Storage.at(tmp_path)
    with pytest.raises(DataError, match=r"matrix of similarities gone\.npz"):
        Beside.load(storage, "gone.npz")
    np.savez(tmp_path / "other.npz", points=np.zeros((3, 2)))
    with pytest.raises(DataError, match=r"other\.npz: need a matrix of similarities"):
        Beside.load(storage, "other.npz")


def test_parts_of_other_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="for N = 5 subjects"):
        Beside(np.zeros((5, 5)), np.zeros((4, 2)), np.zeros(5, int), SUBJECTS)
    with pytest.raises(ValueError, match="finite"):
        Beside(np.full((5, 5), np.nan), np.zeros((5, 2)), np.zeros(5, int), SUBJECTS)
