"""Ridge regression whose penalty is chosen with people apart, all penalties from one decomposition.

Of each fold the singular value decomposition is made once, for every penalty and every target.

Shapes: N training rows, M rows that are read, D width, K targets, P penalties, R rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import StandardScaler

from emoray.vocabulary.schema import FloatArray

PENALTIES: tuple[float, ...] = tuple(float(p) for p in np.logspace(-1, 5, 13))
"""Ridge penalties to choose from, on standardised embeddings: from none to almost all."""


class _Lines(NamedTuple):
    """Lines through the same rows: y = mean + (x - centre) V s / (s^2 + penalty) U'y."""

    centre_D: FloatArray
    mean_K: FloatArray
    left_NR: FloatArray
    singular_R: FloatArray
    right_RD: FloatArray
    target_RK: FloatArray
    """U'y of centred targets."""

    def read(self, x_MD: FloatArray, penalty: float) -> FloatArray:
        """Values (M, K)."""
        shrunk_R = self.singular_R / (self.singular_R**2 + penalty)
        along_MR = (x_MD - self.centre_D) @ self.right_RD.T
        read_MK: FloatArray = self.mean_K + (along_MR * shrunk_R) @ self.target_RK
        return read_MK


def _fit(x_ND: FloatArray, y_NK: FloatArray) -> _Lines:
    centre_D, mean_K = x_ND.mean(axis=0), y_NK.mean(axis=0)
    left_NR, singular_R, right_RD = np.linalg.svd(x_ND - centre_D, full_matrices=False)
    # Directions that rounding alone has left would be divided by next to nothing.
    kept_R = singular_R > np.finfo(np.float64).eps * max(x_ND.shape) * singular_R[:1]
    left_NR, right_RD = left_NR[:, kept_R], right_RD[kept_R]
    target_RK = left_NR.T @ (y_NK - mean_K)
    return _Lines(centre_D, mean_K, left_NR, singular_R[kept_R], right_RD, target_RK)


def read(
    x_ND: FloatArray, y_NK: FloatArray, groups: Sequence[str], x_MD: FloatArray
) -> tuple[FloatArray, tuple[float, ...]]:
    """Fit lines on some rows and read others by them.

    Rows are standardised with the training part's mean and deviation. Each target's penalty is
    the one with the least squared error, averaged over up to five folds that keep groups apart; of
    a single group, over its rows left out one by one.

    Args:
        x_ND: training rows.
        y_NK: their targets, each of which varies.
        groups: of each training row, what must not stand on two sides (a person).
        x_MD: rows to read.

    Returns:
        Values (M, K), and the penalty chosen for each target.
    """
    scaler = StandardScaler().fit(x_ND)
    x_ND, x_MD = scaler.transform(x_ND), scaler.transform(x_MD)
    n_groups = len(set(groups))
    errors_PK = _folds(x_ND, y_NK, groups, n_groups) if n_groups > 1 else _one_by_one(x_ND, y_NK)
    chosen = tuple(PENALTIES[p] for p in errors_PK.argmin(axis=0))
    lines = _fit(x_ND, y_NK)
    columns = [lines.read(x_MD, penalty)[:, k] for k, penalty in enumerate(chosen)]
    return np.stack(columns, axis=1), chosen


def _folds(x_ND: FloatArray, y_NK: FloatArray, groups: Sequence[str], n_groups: int) -> FloatArray:
    """Mean squared error of each penalty and target, (P, K): mean over folds with groups apart."""
    errors = []
    for train, test in GroupKFold(n_splits=min(5, n_groups)).split(x_ND, groups=groups):
        lines = _fit(x_ND[train], y_NK[train])
        errors.append([_error_K(lines.read(x_ND[test], p), y_NK[test]) for p in PENALTIES])
    mean_PK: FloatArray = np.mean(errors, axis=0)
    return mean_PK


def _error_K(read_NK: FloatArray, given_NK: FloatArray) -> FloatArray:
    error_K: FloatArray = ((read_NK - given_NK) ** 2).mean(axis=0)
    return error_K


def _one_by_one(x_ND: FloatArray, y_NK: FloatArray) -> FloatArray:
    """The same with each row left out in turn: its residual over 1 - its leverage."""
    lines = _fit(x_ND, y_NK)
    errors = []
    for penalty in PENALTIES:
        shares_R = lines.singular_R**2 / (lines.singular_R**2 + penalty)
        leverage_N = 1 / len(x_ND) + (lines.left_NR**2) @ shares_R
        residual_NK = lines.read(x_ND, penalty) - y_NK
        errors.append(((residual_NK / (1 - leverage_N)[:, None]) ** 2).mean(axis=0))
    return np.array(errors)
