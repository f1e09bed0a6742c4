"""Linear read-out of valence and arousal from frozen embeddings.

What an encoder has learned is what a straight line can read from it about people it has never
seen. Reported is the mean of the correlations within people: over many people together a
correlation also measures how they and their datasets differ on the whole (`pooled_r`).

Shapes: N training segments, M test segments, D width of an embedding, 2 = (valence, arousal).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from emoray.evaluation.within import WithinPeople, correlation, varies, within_people
from emoray.vocabulary.schema import FloatArray

AXES = ("valence", "arousal")


@dataclass(frozen=True, slots=True)
class AxisScores:
    """How well one axis is read; None where a number cannot be computed."""

    n: int = 0
    """Test segments that have a value on this axis."""
    people: WithinPeople = field(default_factory=WithinPeople)
    """The figure: read within people."""
    datasets_r: float | None = None
    """Mean over datasets of the correlation over a dataset's segments, each dataset weighing the
    same; how people of one dataset differ is part of it."""
    pooled_r: float | None = None
    """Pearson correlation over all segments together; how people and datasets differ is part of
    it. Needs read and given values to vary."""
    r2: float | None = None
    """1 - squared error / variance around the test mean; needs given values that vary."""
    mae: float | None = None
    """Mean absolute error, in units of the V-A square (side 8)."""


@dataclass(frozen=True, slots=True)
class AxesScores:
    """Both axes, on one set of segments."""

    valence: AxisScores = field(default_factory=AxisScores)
    arousal: AxisScores = field(default_factory=AxisScores)

    @property
    def mean_r(self) -> float | None:
        """Mean of both axes' correlations within people; None where either is."""
        if self.valence.people.r is None or self.arousal.people.r is None:
            return None
        return (self.valence.people.r + self.arousal.people.r) / 2


@dataclass(frozen=True, slots=True)
class ReadOut:
    """Scores on all test segments together, and on each dataset's."""

    scores: AxesScores
    by_dataset: Mapping[str, AxesScores] = field(default_factory=dict)
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
    test_subjects: Sequence[str],
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
        test_subjects: the same for each test row.
        test_datasets: for each test row, where it is from; None leaves `by_dataset` empty.

    Returns:
        Scores, None where the data do not allow them: never an invented number.

    Raises:
        ValueError: shapes that do not fit each other, or an embedding that is not finite.
    """
    _check(train_ZD, train_va_N2, (train_subjects,), "training")
    _check(test_ZD, test_va_N2, (test_subjects, test_datasets), "test")
    if train_ZD.shape[1] != test_ZD.shape[1]:
        raise ValueError(
            f"need embeddings of one width, got {train_ZD.shape[1]} in training and "
            f"{test_ZD.shape[1]} in test"
        )
    read_M2, penalties = _read(train_ZD, train_va_N2, train_subjects, test_ZD)
    by_dataset = {}
    if test_datasets is not None:
        of_M, whose_M = np.asarray(test_datasets), np.asarray(test_subjects)
        for dataset in sorted(set(test_datasets)):
            rows_M = of_M == dataset
            whose = whose_M[rows_M].tolist()
            by_dataset[dataset] = _scores(test_va_N2[rows_M], read_M2[rows_M], whose)
    everything = _scores(test_va_N2, read_M2, test_subjects)
    scores = _over_datasets(everything, list(by_dataset.values()))
    return ReadOut(scores, by_dataset, dict(zip(AXES, penalties, strict=True)), len(train_ZD))


def leave_one_subject_out(
    embeddings_ND: FloatArray, va_N2: FloatArray, subjects: Sequence[str]
) -> tuple[float | None, float | None]:
    """Mean over people of the correlation of read and given values, the line fitted on the others.

    Args:
        embeddings_ND: shape (N, D).
        va_N2: valence and arousal in [-4, 4] or NaN, shape (N, 2).
        subjects: whose each segment is.

    Returns:
        For valence and for arousal; None where nobody has a correlation (`within_people`).

    Raises:
        ValueError: shapes that do not fit each other, or an embedding that is not finite.
    """
    _check(embeddings_ND, va_N2, (subjects,), "only")
    whose_N = np.asarray(subjects)
    read_N2: FloatArray = np.full(va_N2.shape, np.nan)
    everyone = sorted(set(subjects))
    for subject in everyone if len(everyone) > 1 else ():
        own_N = whose_N == subject
        others = whose_N[~own_N].tolist()
        read_N2[own_N], _ = _read(
            embeddings_ND[~own_N], va_N2[~own_N], others, embeddings_ND[own_N]
        )
    valence, arousal = (within_people(va_N2[:, a], read_N2[:, a], subjects).r for a in range(2))
    return valence, arousal


def _check(
    embeddings_ZD: FloatArray,
    va_N2: FloatArray,
    columns: Sequence[Sequence[str] | None],
    part: str,
) -> None:
    n = len(embeddings_ZD)
    n_names = [len(names) for names in columns if names is not None]
    if embeddings_ZD.ndim != 2 or va_N2.shape != (n, 2) or set(n_names) - {n}:
        raise ValueError(
            f"need (N, D) embeddings, (N, 2) valence and arousal and N names in the {part} part, "
            f"got {embeddings_ZD.shape}, {va_N2.shape} and {', '.join(map(str, n_names))}"
        )
    if not np.all(np.isfinite(embeddings_ZD)):
        row = int(np.flatnonzero(~np.isfinite(embeddings_ZD).all(axis=1))[0])
        raise ValueError(f"need finite embeddings, got others in row {row} of the {part} part")


def _read(
    train_ZD: FloatArray, va_N2: FloatArray, subjects: Sequence[str], test_ZD: FloatArray
) -> tuple[FloatArray, list[float | None]]:
    """Values read for the test rows, (M, 2), and penalties; NaN and None where nothing is fitted.

    Axes that the same rows have values of are fitted together.
    """
    # Two seconds that a training worker, who reads nothing out, does not pay.
    from emoray.evaluation import ridge

    train_ZD, test_ZD = (np.asarray(part, dtype=np.float64) for part in (train_ZD, test_ZD))
    read_M2: FloatArray = np.full((len(test_ZD), 2), np.nan)
    penalties: list[float | None] = [None, None]
    known_N2 = np.isfinite(va_N2)
    axes = [a for a in range(2) if len(test_ZD) and _can_be_fitted(va_N2[known_N2[:, a], a])]
    together = [axes] if np.array_equal(known_N2[:, 0], known_N2[:, 1]) else [[a] for a in axes]
    for same in filter(None, together):
        rows_N = known_N2[:, same[0]]
        whose = np.asarray(subjects)[rows_N].tolist()
        targets_NK = va_N2[rows_N][:, same]
        read_M2[:, same], chosen = ridge.read(train_ZD[rows_N], targets_NK, whose, test_ZD)
        for axis, penalty in zip(same, chosen, strict=True):
            penalties[axis] = penalty
    return read_M2, penalties


def _can_be_fitted(target_N: FloatArray) -> bool:
    return len(target_N) >= 3 and bool(np.ptp(target_N) > 0)


def _scores(given_M2: FloatArray, read_M2: FloatArray, whose: Sequence[str]) -> AxesScores:
    valence, arousal = (_axis_scores(given_M2[:, a], read_M2[:, a], whose) for a in range(2))
    return AxesScores(valence, arousal)


def _axis_scores(given_M: FloatArray, read_M: FloatArray, whose: Sequence[str]) -> AxisScores:
    people = within_people(given_M, read_M, whose)
    known_M = np.isfinite(given_M)
    given_M, read_M = given_M[known_M], read_M[known_M]
    n = len(given_M)
    if n == 0 or not np.all(np.isfinite(read_M)):
        return AxisScores(n, people)
    error_M = read_M - given_M
    mae = float(np.abs(error_M).mean())
    if n < 3 or np.ptp(given_M) == 0:
        return AxisScores(n, people, mae=mae)
    r2 = 1 - float((error_M**2).sum()) / float(((given_M - given_M.mean()) ** 2).sum())
    r = correlation(given_M, read_M) if varies(read_M) else None
    return AxisScores(n, people, pooled_r=r, datasets_r=r, r2=r2, mae=mae)


def _over_datasets(scores: AxesScores, datasets: Sequence[AxesScores]) -> AxesScores:
    """Scores of several datasets together, with the mean of the datasets' own correlations."""
    if not datasets:
        return scores
    valence, arousal = (
        replace(
            getattr(scores, axis), datasets_r=_mean([getattr(s, axis).pooled_r for s in datasets])
        )
        for axis in AXES
    )
    return AxesScores(valence, arousal)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
