"""Scores are scikit-learn's, and the cases without a number are named."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn import metrics

from emoray.evaluation.metrics import METRICS, classification_scores, get

PAIRS = st.integers(2, 9).flatmap(
    lambda k: st.tuples(
        st.just(k),
        st.lists(st.tuples(st.integers(0, k - 1), st.integers(0, k - 1)), min_size=1, max_size=60),
    )
)


def test_by_hand() -> None:
    found = classification_scores([0, 0, 0, 0, 1, 1, 2, 2], [0, 0, 0, 1, 1, 2, 2, 2], 3)
    assert found.confusion_KK == ((3, 1, 0), (0, 1, 1), (0, 0, 2))
    assert found["bacc"] == pytest.approx((3 / 4 + 1 / 2 + 1) / 3)
    # Six of eight agree; by chance (4 * 3 + 2 * 2 + 2 * 3) / 64 = 22 / 64.
    assert found["kappa"] == pytest.approx((6 / 8 - 22 / 64) / (1 - 22 / 64))
    # F1: 6 / 7, 2 / 4, 4 / 5 with weights 4, 2, 2.
    assert found["wf1"] == pytest.approx((4 * 6 / 7 + 2 * 2 / 4 + 2 * 4 / 5) / 8)


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
    assert found["bacc"] == pytest.approx(metrics.balanced_accuracy_score(true_N, predicted_N))
    assert found["kappa"] == pytest.approx(metrics.cohen_kappa_score(true_N, predicted_N))
    assert found["wf1"] == pytest.approx(f1)
    assert found.confusion_KK == tuple(map(tuple, matrix_KK.tolist()))


def test_a_class_that_the_test_set_lacks_counts_for_nothing() -> None:
    """Predicting it costs the class it is taken from, no more."""
    found = classification_scores([0, 0, 1, 1], [0, 2, 1, 1], 4)
    assert found["bacc"] == pytest.approx((1 / 2 + 1) / 2)
    assert found["wf1"] == pytest.approx((2 * 2 / 3 + 2 * 1) / 4)
    assert len(found.confusion_KK) == 4


def test_one_class_right_throughout_is_no_agreement_beyond_chance() -> None:
    found = classification_scores([1, 1, 1], [1, 1, 1], 3)
    assert (found["bacc"], found["kappa"], found["wf1"]) == (1.0, 0.0, 1.0)


def test_guessing_the_most_frequent_class_has_no_kappa() -> None:
    found = classification_scores([0] * 9 + [1], [0] * 10, 2)
    assert (found["bacc"], found["kappa"]) == (0.5, 0.0)


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


# Accuracy, F1, area -------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(PAIRS)
def test_accuracy_and_f1_are_scikit_learns(drawn: tuple[int, list[tuple[int, int]]]) -> None:
    n_classes, pairs = drawn
    true_N, predicted_N = np.array(pairs).T
    found = classification_scores(true_N, predicted_N, n_classes)
    assert found["acc"] == pytest.approx(metrics.accuracy_score(true_N, predicted_N))
    f1 = metrics.f1_score(true_N, predicted_N, average="macro", zero_division=0)
    assert found["f1"] == pytest.approx(f1)


@settings(max_examples=200, deadline=None)
@given(PAIRS)
def test_the_f1_of_means_is_made_of_scikit_learns_precision_and_recall(
    drawn: tuple[int, list[tuple[int, int]]],
) -> None:
    n_classes, pairs = drawn
    true_N, predicted_N = np.array(pairs).T
    found = classification_scores(true_N, predicted_N, n_classes)
    precision, recall = (
        score(true_N, predicted_N, average="macro", zero_division=0)
        for score in (metrics.precision_score, metrics.recall_score)
    )
    if precision + recall == 0:
        assert found["f1_of_means"] == 0
    else:
        want = 2 * precision * recall / (precision + recall)
        assert found["f1_of_means"] == pytest.approx(want)
    assert found["f1_of_means"] >= found["f1"] - 1e-12


def test_the_two_f1_differ_where_one_class_is_guessed_too_often() -> None:
    """By hand: precisions 1 and 1/3, recalls 1/2 and 1; F1 of the classes 2/3 and 1/2."""
    found = classification_scores([0, 0, 0, 0, 1], [0, 0, 1, 1, 1], 2)
    assert found["f1"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    precision, recall = (1 + 1 / 3) / 2, (1 / 2 + 1) / 2
    assert found["f1_of_means"] == pytest.approx(2 * precision * recall / (precision + recall))
    assert found["f1_of_means"] == pytest.approx(12 / 17)


def probabilities(n: int, k: int, seed: int) -> np.ndarray:
    found_NK = np.random.default_rng(seed).random((n, k))
    return found_NK / found_NK.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("k", [2, 3, 5])
@pytest.mark.parametrize("seed", range(5))
def test_an_area_is_scikit_learns(k: int, seed: int) -> None:
    true_N = np.concatenate([np.arange(k), np.random.default_rng(seed).integers(0, k, 40)])
    probability_NK = probabilities(len(true_N), k, seed)
    found = classification_scores(true_N, probability_NK.argmax(1), k, probability_NK)
    asked = probability_NK[:, 1] if k == 2 else probability_NK
    expected = metrics.roc_auc_score(true_N, asked, multi_class="ovr", average="macro")
    assert found["auc"] == pytest.approx(expected)


def test_an_area_is_that_of_the_classes_that_the_test_set_has() -> None:
    """By hand: of class 0 all three pairs are in order, of class 2 two of three."""
    probability_NK = np.array(
        [[0.6, 0.3, 0.1], [0.2, 0.1, 0.7], [0.1, 0.85, 0.05], [0.3, 0.3, 0.4]]
    )
    true_N = [0, 2, 2, 2]
    found = classification_scores(true_N, [0, 2, 1, 2], 3, probability_NK)
    assert found["auc"] == pytest.approx((3 / 3 + 2 / 3) / 2)


def test_equal_probabilities_count_half() -> None:
    found = classification_scores([0, 1, 1], [0, 0, 0], 2, np.full((3, 2), 0.5))
    assert found["auc"] == 0.5


def test_of_a_single_class_there_is_no_area() -> None:
    found = classification_scores([1, 1], [1, 0], 2, np.array([[0.2, 0.8], [0.6, 0.4]]))
    assert "auc" not in found.by_name
    with pytest.raises(ValueError, match="for which AUC is defined, got those of 1 class"):
        found["auc"]


def test_without_probabilities_there_is_no_area() -> None:
    found = classification_scores([0, 1], [0, 1], 2)
    assert set(found.by_name) == {"bacc", "kappa", "wf1", "acc", "f1", "f1_of_means"}


def test_probabilities_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"probabilities of shape \(2, 3\), got \(2, 2\)"):
        classification_scores([0, 1], [0, 1], 3, np.full((2, 2), 0.5))


# The registry -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_has_its_name_words_and_what_chance_gives(name: str) -> None:
    metric = get(name)
    assert metric.name == name
    assert metric.title
    assert metric.words
    assert metric.legend
    assert (metric.of_confusion is None) != (metric.of_probabilities is None)
    # 1000 segments of each of four classes, told at random.
    rng = np.random.default_rng(0)
    true_N, probability_NK = np.repeat(np.arange(4), 1000), probabilities(4000, 4, 1)
    rng.shuffle(true_N)
    found = classification_scores(true_N, probability_NK.argmax(1), 4, probability_NK)
    assert found[name] == pytest.approx(metric.chance(4), abs=0.03)
    perfect = classification_scores(true_N, true_N, 4, np.eye(4)[true_N])
    assert perfect[name] == 1.0


def test_a_metric_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(ValueError, match=r"need a metric among bacc, .*, auc; got 'loss'"):
        get("loss")
