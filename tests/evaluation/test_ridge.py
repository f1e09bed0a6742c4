"""All penalties from one decomposition choose and read as scikit-learn's ridge does."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from emoray.evaluation.ridge import PENALTIES, read


def by_scikit_learn(x_ND, y_N, groups, x_MD):
    n_groups = len(set(groups))
    splits = None
    if n_groups > 1:
        splits = list(GroupKFold(min(5, n_groups)).split(x_ND, groups=groups))
    ridge = RidgeCV(PENALTIES, cv=splits, scoring="neg_mean_squared_error")
    line = make_pipeline(StandardScaler(), ridge).fit(x_ND, y_N)
    return line.predict(x_MD), ridge.alpha_


@pytest.mark.parametrize("n_groups", [1, 2, 5, 16])
@pytest.mark.parametrize(("n", "width"), [(300, 32), (40, 64), (150, 3)])
@pytest.mark.parametrize("noise", [0.1, 10.0])
def test_values_and_penalties_are_scikit_learns(
    n_groups: int, n: int, width: int, noise: float
) -> None:
    rng = np.random.default_rng([n_groups, n, width])
    mixing = rng.standard_normal((width, width))
    x_ND, x_MD = (50 + rng.standard_normal((k, width)) @ mixing for k in (n, 30))
    x_ND[:, 1] = x_MD[:, 1] = 7.5  # a feature that does not vary
    y_NK = x_ND @ rng.standard_normal((width, 2)) + noise * rng.standard_normal((n, 2))
    groups = [f"deap-{i * n_groups // n:02d}" for i in range(n)]
    values_MK, penalties = read(x_ND, y_NK, groups, x_MD)
    for k in range(2):
        expected_M, penalty = by_scikit_learn(x_ND, y_NK[:, k], groups, x_MD)
        assert penalties[k] == penalty
        np.testing.assert_allclose(values_MK[:, k], expected_M, rtol=1e-9, atol=1e-9)
