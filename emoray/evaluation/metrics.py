"""How well classes are told apart: every metric by name. A metric is a function here.

Most are numbers of the confusion matrix, so that a result row can be held against its own; others
look at class probabilities. All are fractions; tables print them in percent.

Shapes: N segments, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from emoray.vocabulary.schema import FloatArray, IntArray

OfConfusion = Callable[[IntArray], float]
"""Counts (K, K), rows true, columns predicted, at least one of them -> score."""
OfProbabilities = Callable[[IntArray, FloatArray], "float | None"]
"""True classes (N,), probabilities (N, K) -> score; None where it is not defined."""


@dataclass(frozen=True, slots=True)
class Metric:
    """What a table says of a metric, and how it is computed."""

    name: str
    """As in `paper.toml` and in result rows: the function's."""
    title: str
    """At the head of a column."""
    words: str
    """In a sentence."""
    legend: str
    """The same, with what a reader must know."""
    chance: Callable[[int], float]
    """Number of classes -> score of one who knows nothing."""
    low: float
    """The least that it can be; the most is 1."""
    of_confusion: OfConfusion | None = None
    """None where the confusion matrix does not tell it."""
    of_probabilities: OfProbabilities | None = None


_FOUND: dict[str, Metric] = {}

METRICS: Mapping[str, Metric] = MappingProxyType(_FOUND)
"""Every metric by name."""


def get(name: str) -> Metric:
    """A metric by name.

    Raises:
        ValueError: there is none; the message lists those there are.
    """
    if name not in METRICS:
        raise ValueError(f"need a metric among {', '.join(METRICS)}; got {name!r}")
    return METRICS[name]


def _metric(
    title: str,
    words: str,
    *,
    chance: Callable[[int], float],
    legend: str = "",
    low: float = 0.0,
) -> Callable[[OfConfusion], OfConfusion]:
    """Enter a number of the confusion matrix under its function's name."""

    def enter(function: OfConfusion) -> OfConfusion:
        name = function.__name__
        _FOUND[name] = Metric(name, title, words, legend or words, chance, low, function)
        return function

    return enter


def _metric_of_probabilities(
    title: str, words: str, *, chance: Callable[[int], float], legend: str = "", low: float = 0.0
) -> Callable[[OfProbabilities], OfProbabilities]:
    """Enter a number of the class probabilities under its function's name."""

    def enter(function: OfProbabilities) -> OfProbabilities:
        name = function.__name__
        found = Metric(name, title, words, legend or words, chance, low, None, function)
        _FOUND[name] = found
        return function

    return enter


# The metrics --------------------------------------------------------------------------------------


@_metric("BACC", "balanced accuracy", chance=lambda k: 1 / k)
def bacc(confusion_KK: IntArray) -> float:
    """Mean over classes of the share found; only classes that the test set has."""
    true_K = confusion_KK.sum(axis=1)
    present_K = true_K > 0
    recall = confusion_KK.diagonal()[present_K] / true_K[present_K]
    return float(recall.mean())


@_metric("kappa", "kappa", legend="Cohen's kappa", chance=lambda k: 0.0, low=-1.0)
def kappa(confusion_KK: IntArray) -> float:
    """Agreement beyond chance (Cohen 1960), in [-1, 1].

    scikit-learn's but for one case: where all is one class and predicted so, it is 0/0. It is 0
    here rather than nan: a test of a single class shows no agreement beyond chance.
    """
    n = int(confusion_KK.sum())
    # Times n squared, so that 0/0 is seen in whole numbers.
    chance = int((confusion_KK.sum(axis=1) * confusion_KK.sum(axis=0)).sum())
    beyond = n * int(confusion_KK.diagonal().sum()) - chance
    return beyond / (n * n - chance) if n * n > chance else 0.0


@_metric("WF1", "weighted F1", legend="F1 weighted by class", chance=lambda k: 1 / k)
def wf1(confusion_KK: IntArray) -> float:
    """F1 of each class, weighted by its segments in the test set."""
    f1_K, true_K = _f1(confusion_KK), confusion_KK.sum(axis=1)
    return float((f1_K * true_K).sum() / int(confusion_KK.sum()))


@_metric("ACC", "accuracy", chance=lambda k: 1 / k)
def acc(confusion_KK: IntArray) -> float:
    """Share of the segments whose class is found."""
    return int(confusion_KK.diagonal().sum()) / int(confusion_KK.sum())


@_metric("F1", "F1", legend="F1, the mean over classes", chance=lambda k: 1 / k)
def f1(confusion_KK: IntArray) -> float:
    """Mean of the classes' F1, each class the same (macro); classes neither true nor predicted
    are left out, as scikit-learn does.
    """
    there_K = confusion_KK.sum(axis=1) + confusion_KK.sum(axis=0) > 0
    return float(_f1(confusion_KK)[there_K].mean())


@_metric(
    "F1 of means",
    "F1 of mean precision and recall",
    legend="2PR / (P + R) of P, the classes' mean precision, and R, their mean recall",
    chance=lambda k: 1 / k,
)
def f1_of_means(confusion_KK: IntArray) -> float:
    """The harmonic mean of macro precision and macro recall, as Sarkar & Etemad's released code.

    Never below `f1`, because the harmonic mean is concave: a class of high precision and low recall
    makes up for one of low precision and high recall. A class that is never predicted has a
    precision of 0, one that is never true a recall of 0, as scikit-learn's; where P and R are both
    0, so is this.
    """
    true_K, predicted_K = confusion_KK.sum(axis=1), confusion_KK.sum(axis=0)
    there_K = true_K + predicted_K > 0
    right_K = confusion_KK.diagonal()[there_K]
    precision = (right_K / np.maximum(predicted_K[there_K], 1)).mean()
    recall = (right_K / np.maximum(true_K[there_K], 1)).mean()
    both = float(precision + recall)
    return 2 * float(precision * recall) / both if both else 0.0


@_metric_of_probabilities(
    "AUC",
    "AUC",
    legend="area under the ROC curve, of several classes the mean of each against the others",
    chance=lambda k: 0.5,
)
def auc(true_N: IntArray, probability_NK: FloatArray) -> float | None:
    """Area under the ROC curve, scikit-learn's `roc_auc_score`.

    Of two classes: of the second one's probability. Of more: each class that the test set has
    against all others, by its own probability, and the mean of these (one-vs-rest, macro). The
    probabilities are taken as they are: those of classes that the test set lacks are neither
    scored nor shared out.

    Returns:
        None where the test set has a single class: there is nothing to rank.
    """
    from sklearn.metrics import roc_auc_score  # seconds, which no pretraining worker pays

    present = np.unique(true_N)
    if len(present) < 2:
        return None
    if probability_NK.shape[1] == 2:
        return float(roc_auc_score(true_N == 1, probability_NK[:, 1]))
    areas = [roc_auc_score(true_N == label, probability_NK[:, label]) for label in present]
    return float(np.mean(areas))


def _f1(confusion_KK: IntArray) -> FloatArray:
    """Of each class; 0 where a class is neither true nor predicted."""
    true_K, predicted_K = confusion_KK.sum(axis=1), confusion_KK.sum(axis=0)
    f1_K: FloatArray = 2 * confusion_KK.diagonal() / np.maximum(true_K + predicted_K, 1)
    return f1_K


# Scoring ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scores:
    """How well classes are told apart."""

    by_name: Mapping[str, float]
    """Each metric that is defined for what was scored, as a fraction."""
    confusion_KK: tuple[tuple[int, ...], ...]
    """Rows are true, columns predicted."""

    def __getitem__(self, metric: str) -> float:
        """A score by name.

        Raises:
            ValueError: there is no such metric, or it is not defined for what was scored.
        """
        if metric not in self.by_name:
            raise ValueError(
                f"need segments for which {get(metric).title} is defined, got those of "
                f"{sum(1 for true in self.confusion_KK if any(true))} class"
            )
        return self.by_name[metric]


def classification_scores(
    true_N: IntArray | Sequence[int],
    predicted_N: IntArray | Sequence[int],
    n_classes: int,
    probability_NK: FloatArray | None = None,
) -> Scores:
    """Score predicted classes, and their probabilities where they are given.

    The numbers are scikit-learn's, but for what the metrics say of cases without a number.

    Args:
        true_N: class indices in [0, n_classes).
        predicted_N: the same number of them.
        n_classes: classes of the target, whether the test set has them or not.
        probability_NK: of each class; None leaves out the metrics that need them.

    Raises:
        ValueError: nothing to score, lengths that differ, a class index outside its range, or
            probabilities of another shape.
    """
    confusion_KK = _confusion(true_N, predicted_N, n_classes)
    by_name = scores_of(confusion_KK)
    if probability_NK is not None:
        by_name |= _of_probabilities(np.asarray(true_N), probability_NK, n_classes)
    return Scores(by_name, tuple(tuple(row) for row in confusion_KK.tolist()))


def scores_of(confusion_KK: IntArray) -> dict[str, float]:
    """The scores that a confusion matrix stands for, by metric.

    Args:
        confusion_KK: counts; rows are true, columns predicted; at least one count in it.
    """
    return {
        metric.name: metric.of_confusion(confusion_KK)
        for metric in METRICS.values()
        if metric.of_confusion is not None
    }


def _of_probabilities(
    true_N: IntArray, probability_NK: FloatArray, n_classes: int
) -> dict[str, float]:
    if probability_NK.shape != (len(true_N), n_classes):
        raise ValueError(
            f"need probabilities of shape {(len(true_N), n_classes)}, got {probability_NK.shape}"
        )
    found = {
        metric.name: metric.of_probabilities(true_N, probability_NK)
        for metric in METRICS.values()
        if metric.of_probabilities is not None
    }
    return {name: score for name, score in found.items() if score is not None}


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
