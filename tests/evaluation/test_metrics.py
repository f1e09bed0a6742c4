"""Scores are scikit-learn's, and the cases without a number are named."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn import metrics

from emoray.evaluation.metrics import classification_scores

PAIRS = st.integers(2, 9).flatmap(
    lambda k: st.tuples(
        st.just(k),
        st.lists(st.tuples(st.integers(0, k - 1), st.integers(0, k - 1)), min_size=1, max_size=60),
    )
)


def test_by_hand() -> None:
    found = classification_scores([0, 0, 0, 0, 1, 1, 2, 2], [0, 0, 0, 1, 1, 2, 2, 2], 3)
    assert found.confusion_KK == ((3, 1, 0), (0, 1, 1), (0, 0, 2))
    assert found.bacc == pytest.approx((3 / 4 + 1 / 2 + 1) / 3)
    # Six of eight agree; by chance (4 * 3 + 2 * 2 + 2 * 3) / 64 = 22 / 64.
    assert found.kappa == pytest.approx((6 / 8 - 22 / 64) / (1 - 22 / 64))
    # F1: 6 / 7, 2 / 4, 4 / 5 with weights 4, 2, 2.
    assert found.wf1 == pytest.approx((4 * 6 / 7 + 2 * 2 / 4 + 2 * 4 / 5) / 8)


def test_rows_are_true_and_columns_are_predicted() -> None:
    assert classification_scores([0, 0, 1], [1, 1, 1], 2).confusion_KK == ((0, 2), (0, 1))


@settings(max_examples=200, deadline=None)
@given(PAIRS)
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_scores_are_scikit_learns(drawn: tuple[int, list[tuple[int, int]]]) -> None:
    n_classes, pairs = drawn
    true_N, predicted_N = np.array(pairs).T
    assume(len({*true_N.tolist(), *predicted_N.tolist()}) > 1)
    found = classification_scores(true_N, predicted_N, n_classes)
    classes = list(range(n_classes))
    f1 = metrics.f1_score(true_N, predicted_N, labels=classes, average="weighted", zero_division=0)
    matrix_KK = metrics.confusion_matrix(true_N, predicted_N, labels=classes)
    assert found.bacc == pytest.approx(metrics.balanced_accuracy_score(true_N, predicted_N))
    assert found.kappa == pytest.approx(metrics.cohen_kappa_score(true_N, predicted_N))
    assert found.wf1 == pytest.approx(f1)
    assert found.confusion_KK == tuple(map(tuple, matrix_KK.tolist()))


def test_a_class_that_the_test_set_lacks_counts_for_nothing() -> None:
    """Predicting it costs the class it is taken from, no more."""
    found = classification_scores([0, 0, 1, 1], [0, 2, 1, 1], 4)
    assert found.bacc == pytest.approx((1 / 2 + 1) / 2)
    assert found.wf1 == pytest.approx((2 * 2 / 3 + 2 * 1) / 4)
    assert len(found.confusion_KK) == 4


def test_one_class_right_throughout_is_no_agreement_beyond_chance() -> None:
    found = classification_scores([1, 1, 1], [1, 1, 1], 3)
    assert (found.bacc, found.kappa, found.wf1) == (1.0, 0.0, 1.0)


def test_guessing_the_most_frequent_class_has_no_kappa() -> None:
    found = classification_scores([0] * 9 + [1], [0] * 10, 2)
    assert (found.bacc, found.kappa) == (0.5, 0.0)


def test_unsigned_and_short_integers_do_not_overflow() -> None:
    true_N = np.full(100_000, 19, np.int8)  # 19 * 20 is no int8
    found = classification_scores(true_N, true_N.astype(np.uint8), 20)
    assert found.confusion_KK[19][19] == 100_000


@pytest.mark.parametrize(
    ("true", "predicted", "message"),
    [
        ([], [], r"at least one, got shapes \(0,\) and \(0,\)"),
        ([0, 1], [0], r"got shapes \(1,\) and \(2,\)"),
        ([[0, 1]], [[0, 1]], r"got shapes \(1, 2\)"),
        ([0, -1], [0, 0], r"need true classes as whole numbers in \[0, 3\), got int64 from -1 to"),
        ([0, 1], [0, 3], r"need predicted classes as whole numbers in \[0, 3\), got .* to 3"),
        ([0, 1], [0.5, 1.0], "need predicted classes as whole numbers"),
    ],
)
def test_what_cannot_be_scored_is_refused(true: object, predicted: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        classification_scores(true, predicted, 3)  # type: ignore[arg-type]
