"""Which suggestions are given up: the model in plain loops, its edges, and two landscapes."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest

from emoray.experiments.search.pruning import Fitted, Pruning, Scores, estimate
from emoray.experiments.search.study import Plan, status_of
from tests.search_worlds import FOLDS, NOISE_SD, PEOPLE, World, searched


def scores_of(effects: dict[int, float], n_people: dict[int, int], seed: int = 0):
    rng = np.random.default_rng(seed)
    usual = rng.normal(0.6, 0.1, len(PEOPLE))
    return {
        number: {
            person: float(usual[i] + effect + rng.normal(0, NOISE_SD))
            for i, person in enumerate(PEOPLE[: n_people[number]])
        }
        for number, effect in effects.items()
    }


SCORES = scores_of({0: 0.0, 1: -0.03, 2: -0.06, 3: -0.05}, {0: 23, 1: 23, 2: 9, 3: 5})


def test_the_model_is_what_it_says_in_plain_loops() -> None:
    whole = [0, 1]
    usual = {p: sum(SCORES[i][p] for i in whole) / 2 for p in PEOPLE}
    own = {i: sum(SCORES[i][p] - usual[p] for p in PEOPLE) / 23 for i in whole}
    rest = [SCORES[i][p] - usual[p] - own[i] for i in whole for p in PEOPLE]
    sigma2 = sum(r * r for r in rest) / (1 * 22)
    effect, weight = {}, {}
    for i, scores in SCORES.items():
        effect[i] = sum(scores[p] - usual[p] for p in scores) / len(scores)
        weight[i] = len(scores) / sigma2
    w, w2 = sum(weight.values()), sum(each**2 for each in weight.values())
    centre = sum(weight[i] * effect[i] for i in SCORES) / w
    q = sum(weight[i] * (effect[i] - centre) ** 2 for i in SCORES)
    tau2 = (q - 3) / (w - w2 / w)
    assert tau2 > 0
    found = Fitted.of(SCORES, whole)
    assert found is not None
    assert found.sigma2 == pytest.approx(sigma2, rel=1e-12)
    assert found.tau2 == pytest.approx(tau2, rel=1e-12)
    assert found.best == 0
    for i in SCORES:
        # A normal prior (centre, tau2) and a normal likelihood (effect, 1 / weight).
        precision = 1 / tau2 + weight[i]
        mean = (centre / tau2 + effect[i] * weight[i]) / precision
        assert found.mean[i] == pytest.approx(mean, rel=1e-9)
        assert found.variance[i] == pytest.approx(1 / precision, rel=1e-9)
    apart = NormalDist(
        found.mean[3] - found.mean[0], math.sqrt(found.variance[3] + found.variance[0])
    )
    assert found.better_than_best(3) == pytest.approx(1 - apart.cdf(0), abs=1e-12)


def test_nobody_knows_how_scores_vary_before_two_suggestions_are_whole() -> None:
    assert Fitted.of(SCORES, [0]) is None
    assert Pruning().gives_up(SCORES, [0]) == []
    assert Pruning().gives_up({}, []) == []


def test_what_is_given_up_is_neither_whole_nor_known_by_too_few() -> None:
    scores = scores_of({0: 0.0, 1: -0.3, 2: -0.3, 3: -0.3}, {0: 23, 1: 23, 2: 9, 3: 3})
    assert Pruning(min_people=4).gives_up(scores, [0, 1]) == [2]
    assert Pruning(min_people=3).gives_up(scores, [0, 1]) == [2, 3]


def test_suggestions_that_differ_by_nothing_are_all_kept() -> None:
    same: Scores = SCORES[0]
    scores = {0: same, 1: same, 2: {p: same[p] for p in PEOPLE[:5]}}
    found = Fitted.of(scores, [0, 1])
    assert found is not None
    assert (found.sigma2, found.tau2) == (0.0, 0.0)
    assert found.better_than_best(2) == 0.5
    assert Pruning().gives_up(scores, [0, 1]) == []


def test_scores_without_noise_decide_at_once() -> None:
    same = SCORES[0]
    less = {p: score - 0.01 for p, score in same.items()}
    scores = {0: same, 1: less, 2: {p: less[p] for p in PEOPLE[:5]}}
    assert Pruning().gives_up(scores, [0, 1]) == [2]


def test_the_estimate_is_the_best_ones_mean_and_the_mean_difference() -> None:
    best = {"a": 0.5, "b": 0.7, "c": 0.9}
    assert estimate({"a": 0.4, "c": 0.7}, best) == pytest.approx(0.7 - 0.15)
    with pytest.raises(ValueError, match="need a person scored under both"):
        estimate({"d": 0.4}, best)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"p": 0.0}, "need p inside"), ({"p": 0.5}, "got 0.5"), ({"min_people": 0}, "min_people")],
)
def test_a_rule_that_cannot_be_is_refused(wrong: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Pruning(**wrong)  # type: ignore[arg-type]


# Two landscapes -----------------------------------------------------------------------------------

PLAN = Plan(FOLDS, n_suggestions=20, sampler="random")
ALL = 20 * len(FOLDS)
BEST = 3
SEEDS = range(10)


def pruned(seed: int, world: World) -> tuple[float, int, int]:
    """Share of fold trials saved, suggestions given up, and the one that won."""
    search, n = searched(replace(PLAN, seed=seed), world)
    given_up = [one.number for one in search.trials if status_of(one) == "pruned"]
    best = search.best()
    assert best is not None
    return 1 - n / ALL, len(given_up), best.number


def test_where_most_suggestions_are_one_noise_sd_worse_two_fifths_are_saved() -> None:
    found = [
        pruned(seed, World(seed, lambda number, point: 0.0 if number == BEST else -NOISE_SD))
        for seed in SEEDS
    ]
    assert sum(saved >= 0.4 for saved, _, _ in found) >= 9
    assert all(best == BEST for _, _, best in found)


def test_where_all_are_equal_at_most_a_fifth_is_given_up() -> None:
    found = [pruned(seed, World(seed)) for seed in SEEDS]
    assert sum(n for _, n, _ in found) <= 0.2 * len(SEEDS) * (PLAN.n_suggestions - 1)
