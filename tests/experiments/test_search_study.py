"""The fold search: what comes next, what an end decides, and what the study keeps of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from emoray.experiments.search.pruning import Pruning
from emoray.experiments.search.study import (
    Ended,
    FoldSearch,
    FoldTrial,
    Objective,
    Plan,
    SamplerName,
    error_of,
    make_sampler,
    people_of,
    results_of,
    status_of,
)
from tests.search_worlds import (
    FOLDS,
    LINE,
    NOISE_SD,
    PEOPLE,
    World,
    new_study,
    searched,
)

PLAN = Plan(FOLDS, n_suggestions=6, sampler="random", pruning=None)


def new_search(plan: Plan = PLAN) -> FoldSearch:
    return FoldSearch(new_study(plan), plan, LINE)


def worse_but_for(best: int, by: float) -> World:
    return World(0, lambda number, point: 0.0 if number == best else -by)


# What is next -------------------------------------------------------------------------------------


def test_every_suggestion_has_every_fold_once_and_its_mean_over_people_is_told() -> None:
    world = World(0)
    search, n = searched(PLAN, world)
    assert n == 6 * 5
    assert search.finished
    for one in search.trials:
        assert status_of(one) == "complete"
        assert set(results_of(one)) == set(FOLDS)
        scores = {
            person: score
            for fold in FOLDS
            for person, score in world.ended(FoldTrial(one.number, fold, one.params)).people.items()
        }
        assert people_of(one) == scores
        assert set(scores) == set(PEOPLE)
        assert one.value == pytest.approx(sum(scores.values()) / len(PEOPLE), rel=1e-12)


def test_the_papers_point_comes_first() -> None:
    search, _ = searched(replace(PLAN, first=({"x": 0.25}, {"x": 0.75})), World(0))
    assert [one.params["x"] for one in search.trials][:2] == [0.25, 0.75]
    assert len(search.trials) == 6


def test_one_by_one_a_suggestion_waits_for_its_fold_as_long_as_another_may_begin() -> None:
    search = new_search()
    trials = [search.next() for _ in range(6)]
    assert [trial.suggestion for trial in trials if trial] == [0, 1, 2, 3, 4, 5]
    more = search.next()  # a free slot, and nothing to begin: a second fold
    assert more is not None
    assert more.suggestion == 0
    assert trials[2] is not None
    search.ended(trials[2], World(0).ended(trials[2]))
    after = search.next()
    assert after is not None
    assert after.suggestion == 2


def test_at_once_all_folds_of_a_suggestion_begin_before_the_next() -> None:
    search = new_search(replace(PLAN, order="at_once"))
    trials = [search.next() for _ in range(10)]
    assert [trial.suggestion for trial in trials if trial] == [0] * 5 + [1] * 5
    assert {trial.fold for trial in trials[:5] if trial} == set(FOLDS)


def test_folds_are_shuffled_anew_for_each_suggestion_and_alike_for_a_seed() -> None:
    orders = [new_search().folds_of(number) for number in range(40)]
    assert all(sorted(order) == sorted(FOLDS) for order in orders)
    assert set(Counter(order[0] for order in orders)) == set(FOLDS)
    assert orders == [new_search().folds_of(number) for number in range(40)]
    assert orders != [new_search(replace(PLAN, seed=1)).folds_of(n) for n in range(40)]


# What an end decides ------------------------------------------------------------------------------


def test_what_cannot_win_stops_with_its_siblings_and_is_told_an_estimate() -> None:
    plan = replace(PLAN, order="at_once", pruning=Pruning())
    world, search = worse_but_for(0, 5 * NOISE_SD), new_search(plan)
    for number in (0, 1):  # two whole suggestions, or nobody knows how scores vary
        for fold in FOLDS:
            trial = search.next()
            assert trial is not None
            assert (trial.suggestion, trial.fold in FOLDS, fold in FOLDS) == (number, True, True)
            assert search.ended(trial, world.ended(trial)) == []
    going = [trial for _ in range(5) if (trial := search.next())]
    assert {trial.suggestion for trial in going} == {2}
    stopped = search.ended(going[0], world.ended(going[0]))
    assert sorted(stopped, key=lambda t: t.fold) == sorted(going[1:], key=lambda t: t.fold)
    one, best = search.trials[2], search.trials[0]
    assert status_of(one) == "pruned"
    assert one.state is TrialState.COMPLETE
    both = people_of(one)
    less = [both[person] - people_of(best)[person] for person in both]
    assert one.value == pytest.approx(best.value + float(np.mean(less)), rel=1e-12)
    # A sibling that ended before it could be stopped changes nothing.
    assert search.ended(going[1], world.ended(going[1])) == []
    assert set(results_of(search.trials[2])) == {going[0].fold}


def test_a_pruned_suggestion_is_never_the_best() -> None:
    plan = replace(PLAN, n_suggestions=12, pruning=Pruning())
    search, n = searched(plan, worse_but_for(2, 3 * NOISE_SD))
    states = Counter(status_of(one) for one in search.trials)
    assert states["pruned"] > 3
    assert n < 12 * 5
    best = search.best()
    assert best is not None
    assert (best.number, status_of(best)) == (2, "complete")


def test_a_failed_fold_is_tried_again_and_then_fails_its_suggestion_with_its_reason() -> None:
    search = new_search(replace(PLAN, n_suggestions=2, order="at_once"))
    going = [trial for _ in range(5) if (trial := search.next())]
    assert search.failed(going[0], "out of memory") == []
    again = search.next()
    assert again == going[0]
    stopped = search.failed(again, "out of memory")
    assert sorted(t.fold for t in stopped) == sorted(t.fold for t in going[1:])
    one = search.trials[0]
    assert (status_of(one), one.value) == ("failed", None)
    assert error_of(one) == f"fold {going[0].fold}: out of memory"
    following = search.next()
    assert following is not None
    assert following.suggestion == 1
    assert search.best() is None


def test_a_stopped_or_lost_fold_trial_is_run_again() -> None:
    search = new_search()
    first = search.next()
    assert first is not None
    search.dropped(first)
    assert search.next() == first


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (Ended({}), "need finite scores of people"),
        (Ended({"01": float("nan")}), "need finite scores"),
        (Ended({"01": 0.5}), "need n_parameters of the fold"),
    ],
)
def test_a_result_that_is_none_is_refused(result: Ended, words: str) -> None:
    objectives = (Objective("bacc"), Objective("n_parameters", maximise=False))
    search = new_search(replace(PLAN, objectives=objectives))
    trial = search.next()
    assert trial is not None
    with pytest.raises(ValueError, match=words):
        search.ended(trial, result)


def test_with_several_objectives_nothing_is_given_up_and_the_front_is_known() -> None:
    objectives = (Objective("bacc"), Objective("n_parameters", maximise=False))
    plan = replace(PLAN, objectives=objectives, pruning=Pruning(), sampler="nsga2")
    assert plan.prunes is None
    world, search = worse_but_for(0, 5 * NOISE_SD), new_search(plan)
    while (trial := search.next()) is not None:
        size = {"n_parameters": 10.0 * (1 + trial.suggestion)}
        search.ended(trial, Ended(world.ended(trial).people, size))
    assert [status_of(one) for one in search.trials] == ["complete"] * 6
    assert [one.values[1] for one in search.trials] == [10.0, 20.0, 30.0, 40.0, 50.0, 60.0]
    assert [one.number for one in search.study.best_trials] == [0]


# Samplers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tpe", "random", "qmc", "gp", "nsga2"])
def test_a_search_that_was_picked_up_suggests_what_an_unbroken_one_does(
    name: SamplerName, tmp_path: Path
) -> None:
    plan = replace(PLAN, sampler=name, n_suggestions=14, folds=FOLDS[:2])
    world = World(0, lambda number, point: -((point["x"] - 0.3) ** 2))
    unbroken, _ = searched(plan, world)
    for _ in range(30):  # a new process for each fold trial
        search = FoldSearch(journal(tmp_path), plan, LINE)
        if (trial := search.next()) is None:
            break
        search.ended(trial, world.ended(trial))
    points = [[one.params["x"] for one in found.trials] for found in (unbroken, search)]
    assert points[0] == points[1]
    assert len(set(points[0])) == 14


def test_an_unknown_sampler_is_refused() -> None:
    with pytest.raises(ValueError, match="need a sampler among tpe, random, qmc, gp, nsga2; got"):
        replace(PLAN, sampler="grid")  # type: ignore[arg-type]


def test_quasi_random_points_fill_the_line_more_evenly_than_random_ones() -> None:
    def widest_gap(name: SamplerName) -> float:
        study = optuna.create_study()
        found = []
        for number in range(16):
            study.sampler = make_sampler(name, 0, number)
            trial = study.ask(dict(LINE))
            found.append(trial.params["x"])
            study.tell(trial, 0.0)
        return float(np.diff(sorted(found)).max())

    assert widest_gap("qmc") < 0.75 * widest_gap("random")


# Death and resume ---------------------------------------------------------------------------------


def journal(folder: Path) -> optuna.Study:
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(folder / "study.log")))
    return optuna.create_study(
        study_name="s", storage=storage, direction="maximize", load_if_exists=True
    )


def test_what_ran_when_the_driver_died_runs_again_and_nothing_else_does(tmp_path: Path) -> None:
    world, plan = World(0), replace(PLAN, n_suggestions=3)
    before = FoldSearch(journal(tmp_path), plan, LINE)
    ended = []
    for _ in range(4):
        trial = before.next()
        assert trial is not None
        before.ended(trial, world.ended(trial))
        ended.append((trial.suggestion, trial.fold))
    lost = [before.next(), before.next()]
    after = FoldSearch(journal(tmp_path), plan, LINE)
    begun = []
    while (trial := after.next()) is not None:
        begun.append((trial.suggestion, trial.fold))
        after.ended(trial, world.ended(trial))
    assert not set(begun) & set(ended)
    assert len(set(begun)) == len(begun) == 3 * 5 - 4
    assert {(t.suggestion, t.fold) for t in lost if t} <= set(begun)
    assert [status_of(one) for one in after.trials] == ["complete"] * 3
    assert not [t for t in journal(tmp_path).get_trials() if t.state is TrialState.RUNNING]


def test_a_longer_search_may_go_on_and_another_one_may_not(tmp_path: Path) -> None:
    FoldSearch(journal(tmp_path), PLAN, LINE)
    FoldSearch(journal(tmp_path), replace(PLAN, n_suggestions=99, retries=3), LINE)
    with pytest.raises(ValueError, match=r"which had folds: \['1_of_5'"):
        FoldSearch(journal(tmp_path), replace(PLAN, folds=FOLDS[:3]), LINE)
    with pytest.raises(ValueError, match="which had space"):
        FoldSearch(journal(tmp_path), PLAN, {"x": FloatDistribution(0.0, 2.0)})


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**16),
    n_slots=st.integers(1, 7),
    order=st.sampled_from(["one_by_one", "at_once"]),
    prunes=st.booleans(),
)
def test_whatever_fails_or_dies_no_fold_is_lost_or_done_twice(
    seed: int, n_slots: int, order: Any, prunes: bool
) -> None:
    rng = np.random.default_rng(seed)
    world = worse_but_for(1, 2 * NOISE_SD)
    plan = replace(PLAN, order=order, pruning=Pruning() if prunes else None, retries=2)
    study = new_study(plan)
    search, going, done = FoldSearch(study, plan, LINE), [], Counter()
    for _ in range(2000):
        while len(going) < n_slots and (trial := search.next()) is not None:
            assert trial not in going
            going.append(trial)
        if not going:
            break
        trial = going.pop(int(rng.integers(len(going))))
        match rng.choice(
            ["end", "end", "end", "fail", "drop", "die"], p=[0.3, 0.3, 0.25, 0.05, 0.05, 0.05]
        ):
            case "end":
                done[trial.suggestion, trial.fold] += 1
                stopped = search.ended(trial, world.ended(trial))
            case "fail":
                stopped = search.failed(trial, "by chance")
            case "drop":
                stopped = []
                search.dropped(trial)
            case _:
                stopped, going = [], []
                search = FoldSearch(study, plan, LINE)
        going = [one for one in going if one not in stopped]
    assert search.finished
    assert max(done.values()) == 1
    assert len(search.trials) == plan.n_suggestions
    for one in search.trials:
        status = status_of(one)
        assert status != "running"
        assert (len(results_of(one)) == 5) == (status == "complete")
        assert (one.value is None) == (status == "failed") == bool(error_of(one))
        assert prunes or status != "pruned"


# It finds -----------------------------------------------------------------------------------------

SPACE: Mapping[str, BaseDistribution] = {
    "loss.temperature": FloatDistribution(0.02, 0.5, log=True),
    "loss.d_max": FloatDistribution(1.0, 9.0),
    "learning_rate": FloatDistribution(5e-5, 5e-3, log=True),
}
OPTIMUM = {"loss.temperature": 0.11, "loss.d_max": 3.2, "learning_rate": 1.2e-3}
NEAR = 0.01
"""Of the optimum's score: a quarter of what a person's varies by."""


def lost(point: Mapping[str, Any]) -> float:
    """A bowl: a tenth of the range of one parameter away costs 0.004, the far corner up to 1.2."""
    away = 0.0
    for name, one in SPACE.items():
        assert isinstance(one, FloatDistribution)
        low, high, at, best = one.low, one.high, point[name], OPTIMUM[name]
        if one.log:
            low, high, at, best = (float(np.log(value)) for value in (low, high, at, best))
        away += ((at - best) / (high - low)) ** 2
    return 0.4 * away


def fold_trials_until_near(plan: Plan) -> float:
    def near(search: FoldSearch) -> bool:
        best = search.best()
        return best is not None and lost(best.params) < NEAR

    search, n = searched(plan, World(plan.seed, lambda _, point: -lost(point)), SPACE, until=near)
    return n if near(search) else float("inf")


@pytest.mark.slow
def test_the_optimum_is_found_in_fewer_fold_trials_than_by_random_search() -> None:
    sooner = 0
    for seed in range(10):
        ours = Plan(FOLDS, n_suggestions=100, seed=seed)
        by_chance = replace(ours, sampler="random", pruning=None)
        found = fold_trials_until_near(ours), fold_trials_until_near(by_chance)
        sooner += found[0] < found[1]
        print(seed, *found)
    assert sooner >= 8
