"""Searches without any training: people's scores by a known rule, and noise like that of folds.

As measured on EMOD's folds: people differ by 0.10 (SD), a person's score under one suggestion by
0.04 beside that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution

from emoray.experiments.search.study import Ended, FoldSearch, FoldTrial, Plan

optuna.logging.set_verbosity(optuna.logging.WARNING)

FOLDS = tuple(f"{i}_of_5" for i in range(1, 6))
PEOPLE = tuple(f"{i:02d}" for i in range(1, 24))
"""As many as DREAMER has."""
PERSON_SD, NOISE_SD = 0.10, 0.04
LINE: Mapping[str, BaseDistribution] = {"x": FloatDistribution(0.0, 1.0)}

Truth = Callable[[int, Mapping[str, Any]], float]
"""What a suggestion, by number and point, adds to everybody's score."""


def people_of_fold(fold: str) -> tuple[str, ...]:
    return tuple(p for i, p in enumerate(PEOPLE) if FOLDS[i % len(FOLDS)] == fold)


class World:
    """What people score; the same whenever it is asked."""

    def __init__(self, seed: int, truth: Truth = lambda number, point: 0.0) -> None:
        self.seed = seed
        self.truth = truth
        usual = np.random.default_rng([seed, 1]).normal(0.6, PERSON_SD, len(PEOPLE))
        self.usual = dict(zip(PEOPLE, usual, strict=True))

    def ended(self, trial: FoldTrial) -> Ended:
        rng = np.random.default_rng([self.seed, 2, trial.suggestion, FOLDS.index(trial.fold)])
        gain = self.truth(trial.suggestion, trial.point)
        people = people_of_fold(trial.fold)
        noise = rng.normal(0, NOISE_SD, len(people))
        return Ended(
            {p: float(self.usual[p] + gain + e) for p, e in zip(people, noise, strict=True)}
        )


def new_study(plan: Plan) -> optuna.Study:
    return optuna.create_study(directions=[one.direction for one in plan.objectives])


def searched(
    plan: Plan,
    world: World,
    space: Mapping[str, BaseDistribution] = LINE,
    *,
    until: Callable[[FoldSearch], bool] = lambda search: False,
) -> tuple[FoldSearch, int]:
    """Run a search, one fold trial at a time; with it, how many it took."""
    search, n = FoldSearch(new_study(plan), plan, space), 0
    while (trial := search.next()) is not None:
        n += 1
        assert search.ended(trial, world.ended(trial)) == []  # nothing else runs
        if until(search):
            break
    return search, n
