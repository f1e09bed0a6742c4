"""Linear read-out of valence and arousal from frozen embeddings.

What an encoder has learned is what a straight line can read from it about people it has never
seen. The same read-out of an untrained encoder stands beside it, seed by seed.

Shapes: N training segments, M test segments, D width of an embedding, 2 = (valence, arousal).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from emoray.schema import FloatArray

PENALTIES: tuple[float, ...] = tuple(float(p) for p in np.logspace(-1, 5, 13))
"""Ridge penalties to choose from, on standardised embeddings: from none to almost all."""

AXES = ("valence", "arousal")


@dataclass(frozen=True, slots=True)
class AxisScores:
    """How well one axis is read; None where a number cannot be computed."""

    n: int = 0
    """Test segments that have a value on this axis."""
    r: float | None = None
    """Pearson correlation of read and given values; needs both to vary."""
    r2: float | None = None
    """1 - squared error / variance around the test mean; needs given values that vary."""
    mae: float | None = None
    """Mean absolute error, in units of the V-A square (side 8)."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Both axes, on one set of segments."""

    valence: AxisScores = field(default_factory=AxisScores)
    arousal: AxisScores = field(default_factory=AxisScores)

    @property
    def mean_r(self) -> float | None:
        """Mean of both correlations; None where either is."""
        if self.valence.r is None or self.arousal.r is None:
            return None
        return (self.valence.r + self.arousal.r) / 2


@dataclass(frozen=True, slots=True)
class ReadOut:
    """Scores on all test segments together, and on each dataset's."""

    scores: Scores
    by_dataset: Mapping[str, Scores] = field(default_factory=dict)
    penalties: Mapping[str, float | None] = field(default_factory=dict)
    """Chosen for each axis; None where no line could be fitted."""
    n_train: int = 0


def read_out(
    train_ZD: FloatArray,
    train_va_N2: FloatArray,
    test_ZD: FloatArray,
    test_va_N2: FloatArray,
    *,
    train_subjects: Sequence[str],
    test_datasets: Sequence[str] | None = None,
) -> ReadOut:
    """Fit a ridge regression for each axis on some subjects and score it on others.

    Embeddings are standardised with the training part's mean and deviation. The penalty is the
    one with the least squared error in up to five folds of the training part that keep subjects
    apart. Rows without a value (NaN) are left out, axis by axis.

    Args:
        train_ZD: embeddings, shape (N, D).
        train_va_N2: valence and arousal in [-4, 4] or NaN, shape (N, 2).
        test_ZD: embeddings of other subjects, shape (M, D).
        test_va_N2: shape (M, 2).
        train_subjects: for each training row, whose it is (`deap-07`).
        test_datasets: for each test row, where it is from; None leaves `by_dataset` empty.

    Returns:
        Scores, None where the data do not allow them: never an invented number.

    Raises:
        ValueError: shapes that do not fit each other, or an embedding that is not finite.
    """
    _check(train_ZD, train_va_N2, train_subjects, "training")
    _check(test_ZD, test_va_N2, test_datasets, "test")
    if train_ZD.shape[1] != test_ZD.shape[1]:
        raise ValueError(
            f"need embeddings of one width, got {train_ZD.shape[1]} in training and "
            f"{test_ZD.shape[1]} in test"
        )
    subjects_N = np.asarray(train_subjects)
    read_M2 = np.full(test_va_N2.shape, np.nan)
    penalties: dict[str, float | None] = {}
    for axis, name in enumerate(AXES):
        read_M2[:, axis], penalties[name] = _read_axis(
            train_ZD, train_va_N2[:, axis], subjects_N, test_ZD
        )
    by_dataset = {}
    if test_datasets is not None:
        datasets_M = np.asarray(test_datasets)
        for dataset in sorted(set(test_datasets)):
            rows_M = datasets_M == dataset
            by_dataset[dataset] = _scores(test_va_N2[rows_M], read_M2[rows_M])
    return ReadOut(_scores(test_va_N2, read_M2), by_dataset, penalties, len(train_ZD))


def leave_one_subject_out(
    embeddings_ND: FloatArray, va_N2: FloatArray, subjects: Sequence[str]
) -> tuple[float | None, float | None]:
    """Mean over people of the correlation of read and given values, the line fitted on the others.

    Args:
        embeddings_ND: shape (N, D).
        va_N2: valence and arousal in [-4, 4] or NaN, shape (N, 2).
        subjects: whose each segment is.

    Returns:
        For valence and for arousal; None where nobody has a correlation.

    Raises:
        ValueError: shapes that do not fit each other, or an embedding that is not finite.
    """
    whose_N = np.asarray(subjects)
    found: dict[str, list[float]] = {axis: [] for axis in AXES}
    everyone = sorted(set(subjects))
    for subject in everyone if len(everyone) > 1 else ():
        own_N = whose_N == subject
        scores = read_out(
            embeddings_ND[~own_N],
            va_N2[~own_N],
            embeddings_ND[own_N],
            va_N2[own_N],
            train_subjects=whose_N[~own_N].tolist(),
        ).scores
        for axis in AXES:
            r = getattr(scores, axis).r
            found[axis].extend([] if r is None else [r])
    valence, arousal = (float(np.mean(found[axis])) if found[axis] else None for axis in AXES)
    return valence, arousal


def _check(
    embeddings_ZD: FloatArray, va_N2: FloatArray, names: Sequence[str] | None, part: str
) -> None:
    n = len(embeddings_ZD)
    if embeddings_ZD.ndim != 2 or va_N2.shape != (n, 2) or (names is not None and len(names) != n):
        raise ValueError(
            f"need (N, D) embeddings, (N, 2) valence and arousal and N names in the {part} part, "
            f"got {embeddings_ZD.shape}, {va_N2.shape} and "
            f"{'none' if names is None else len(names)}"
        )
    if not np.all(np.isfinite(embeddings_ZD)):
        row = int(np.flatnonzero(~np.isfinite(embeddings_ZD).all(axis=1))[0])
        raise ValueError(f"need finite embeddings, got others in row {row} of the {part} part")


def _read_axis(
    train_ZD: FloatArray, target_N: FloatArray, subjects_N: np.ndarray, test_ZD: FloatArray
) -> tuple[FloatArray, float | None]:
    """Values read for the test rows and the penalty; NaN and None where nothing can be fitted."""
    # Two seconds that a training worker, who reads nothing out, does not pay.
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import GroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    known_N = np.isfinite(target_N)
    target_N, subjects_N = target_N[known_N], subjects_N[known_N]
    blank_M: FloatArray = np.full(len(test_ZD), np.nan)
    if len(test_ZD) == 0 or len(target_N) < 3 or np.ptp(target_N) == 0:
        return blank_M, None
    n_subjects = len(np.unique(subjects_N))
    # With a single subject there is nothing to keep apart: rows are left out one by one.
    splits = None
    if n_subjects > 1:
        folds = GroupKFold(n_splits=min(5, n_subjects))
        splits = list(folds.split(target_N, groups=subjects_N))
    ridge = RidgeCV(PENALTIES, cv=splits, scoring="neg_mean_squared_error")
    line = make_pipeline(StandardScaler(), ridge).fit(
        np.asarray(train_ZD, dtype=np.float64)[known_N], target_N
    )
    return line.predict(np.asarray(test_ZD, dtype=np.float64)), float(ridge.alpha_)


def _scores(given_M2: FloatArray, read_M2: FloatArray) -> Scores:
    valence, arousal = (_axis_scores(given_M2[:, a], read_M2[:, a]) for a in range(2))
    return Scores(valence, arousal)


def _axis_scores(given_M: FloatArray, read_M: FloatArray) -> AxisScores:
    known_M = np.isfinite(given_M)
    given_M, read_M = given_M[known_M], read_M[known_M]
    n = len(given_M)
    if n == 0 or not np.all(np.isfinite(read_M)):
        return AxisScores(n)
    error_M = read_M - given_M
    mae = float(np.abs(error_M).mean())
    spread = float(((given_M - given_M.mean()) ** 2).sum())
    if n < 3 or np.ptp(given_M) == 0:
        return AxisScores(n, mae=mae)
    r2 = 1 - float((error_M**2).sum()) / spread
    r = None
    if np.ptp(read_M) > 1e-12 * max(1.0, float(np.abs(read_M).max())):
        r = float(np.corrcoef(given_M, read_M)[0, 1])
    return AxisScores(n, r, r2, mae)
