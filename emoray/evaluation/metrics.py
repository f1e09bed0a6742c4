"""Balanced accuracy, Cohen's kappa and weighted F1, all from one confusion matrix.

Shapes: N segments, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from emoray.vocabulary.schema import IntArray


@dataclass(frozen=True, slots=True)
class Scores:
    """How well classes are told apart. Fractions; tables print them in percent."""

    bacc: float
    """Mean over classes of the share found; only classes that the test set has."""
    kappa: float
    """Agreement beyond chance (Cohen 1960), in [-1, 1]; 0 is chance."""
    wf1: float
    """F1 of each class, weighted by its segments in the test set."""
    confusion_KK: tuple[tuple[int, ...], ...]
    """Rows are true, columns predicted."""


def classification_scores(
    true_N: IntArray | Sequence[int], predicted_N: IntArray | Sequence[int], n_classes: int
) -> Scores:
    """Score predicted classes.

    The numbers are scikit-learn's `balanced_accuracy_score`, `cohen_kappa_score` and `f1_score`
    (weighted, 0 where a class is neither true nor predicted), but for one: where all is one class
    and predicted so, kappa is 0/0. It is 0 here rather than nan: a test of a single class shows
    no agreement beyond chance.

    Args:
        true_N: class indices in [0, n_classes).
        predicted_N: the same number of them.
        n_classes: classes of the dataset, whether the test set has them or not.

    Raises:
        ValueError: nothing to score, lengths that differ, or a class index outside its range.
    """
    return scores_of(_confusion(true_N, predicted_N, n_classes))


def scores_of(confusion_KK: IntArray) -> Scores:
    """The scores that a confusion matrix stands for, as `classification_scores` says.

    Args:
        confusion_KK: counts; rows are true, columns predicted; at least one count in it.
    """
    n = int(confusion_KK.sum())
    hits_K, true_K, predicted_K = (
        confusion_KK.diagonal(),
        confusion_KK.sum(axis=1),
        confusion_KK.sum(axis=0),
    )
    present_K = true_K > 0
    recall = hits_K[present_K] / true_K[present_K]
    # Times n squared, so that 0/0 is seen in whole numbers.
    chance = int((true_K * predicted_K).sum())
    beyond = n * int(hits_K.sum()) - chance
    f1_K = 2 * hits_K / np.maximum(true_K + predicted_K, 1)
    return Scores(
        bacc=float(recall.mean()),
        kappa=beyond / (n * n - chance) if n * n > chance else 0.0,
        wf1=float((f1_K * true_K).sum() / n),
        confusion_KK=tuple(tuple(row) for row in confusion_KK.tolist()),
    )


def _confusion(
    true: IntArray | Sequence[int], predicted: IntArray | Sequence[int], n_classes: int
) -> IntArray:
    true_N, predicted_N = np.asarray(true), np.asarray(predicted)
    if true_N.ndim != 1 or true_N.shape != predicted_N.shape or not len(true_N):
        raise ValueError(
            f"need as many predicted classes as true ones and at least one, got shapes "
            f"{predicted_N.shape} and {true_N.shape}"
        )
    for name, class_N in (("true", true_N), ("predicted", predicted_N)):
        if class_N.dtype.kind not in "iu" or class_N.min() < 0 or class_N.max() >= n_classes:
            raise ValueError(
                f"need {name} classes as whole numbers in [0, {n_classes}), got {class_N.dtype} "
                f"from {class_N.min()} to {class_N.max()}"
            )
    cells_N = true_N.astype(np.int64) * n_classes + predicted_N
    return np.bincount(cells_N, minlength=n_classes**2).reshape(n_classes, n_classes)
