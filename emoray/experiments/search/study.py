"""The fold search: suggestions of an Optuna study, each scored on the folds of one protocol.

    ask a point -> its folds, one after another -> people's scores -> given up, or all folds -> tell

One object decides; whoever runs fold trials (so far a loop in a test) only asks what
is next and says how it ended. All that it knows lies in the study, so that a search goes on from
its journal after any death: what ran when the process died runs again, what had ended does not.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from emoray.experiments.search.pruning import Pruning, Scores, estimate

SamplerName = Literal["tpe", "random", "qmc", "gp", "nsga2"]
FoldOrder = Literal["one_by_one", "at_once"]
"""Folds of a suggestion: each after the one before it, so that what cannot win costs little, or all
together, so that each suggestion is done soon."""

_FOLD = "fold "
_ERROR = "error"
_PRUNED = "pruned"
_SEARCH = "search"


@dataclass(frozen=True)
class Objective:
    """What is searched for."""

    name: str
    """Of a metric or of a figure of a run."""
    maximise: bool = True

    @property
    def direction(self) -> str:
        """As Optuna calls it."""
        return "maximize" if self.maximise else "minimize"


@dataclass(frozen=True)
class FoldTrial:
    """One suggestion on one fold."""

    suggestion: int
    """The study's number of it."""
    fold: str
    point: Mapping[str, Any]
    """Values by parameter."""

    @property
    def name(self) -> str:
        """`0012 3_of_5`."""
        return f"{self.suggestion:04d} {self.fold}"


@dataclass(frozen=True)
class Ended:
    """A fold trial's result."""

    people: Scores
    """By held-out person, of the first objective."""
    others: Mapping[str, float] = field(default_factory=dict)
    """Of the fold: the further objectives, by name."""


@dataclass(frozen=True)
class Plan:
    """All that decides a search but what its trials score; written into the study."""

    folds: tuple[str, ...]
    n_suggestions: int
    objectives: tuple[Objective, ...] = (Objective("bacc"),)
    """The first is known of every person. With several, nothing is given up early: the study has
    no best suggestion then, but a front of them."""
    first: tuple[Mapping[str, Any], ...] = ()
    """Points that are suggested before the sampler's own: the paper's."""
    sampler: SamplerName = "tpe"
    order: FoldOrder = "one_by_one"
    pruning: Pruning | None = field(default_factory=Pruning)
    """None: every suggestion has all of its folds."""
    retries: int = 1
    """Times that a failed fold is tried again."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.folds or len(set(self.folds)) < len(self.folds):
            raise ValueError(f"need one or more different folds, got {list(self.folds)}")
        if self.n_suggestions < 1 or self.retries < 0:
            raise ValueError(
                f"need n_suggestions of at least 1 and retries of at least 0, "
                f"got {self.n_suggestions} and {self.retries}"
            )
        if not self.objectives or not self.objectives[0].maximise:
            raise ValueError("need a first objective of which more is better, got none")
        if self.sampler not in get_args(SamplerName):
            known = ", ".join(get_args(SamplerName))
            raise ValueError(f"need a sampler among {known}; got {self.sampler!r}")

    @property
    def prunes(self) -> Pruning | None:
        """How suggestions are given up; None where they are not."""
        return self.pruning if len(self.objectives) == 1 else None

    def plain(self) -> dict[str, Any]:
        """What a resumed search must share with the one that began: all but its length."""
        known: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        del known["n_suggestions"], known["retries"]
        return known


class FoldSearch:
    """Which fold trial comes next, and what its end decides.

    Args:
        study: empty, or that of a search with the same plan, which goes on.
        plan: what is searched how.
        space: distributions by parameter.

    Raises:
        ValueError: the study is of another plan or space; names what differs.
    """

    def __init__(
        self, study: optuna.Study, plan: Plan, space: Mapping[str, BaseDistribution]
    ) -> None:
        self.study = study
        self.plan = plan
        self._space = dict(space)
        self._running: set[tuple[int, str]] = set()
        self._failures: dict[tuple[int, str], int] = {}
        self._same_search()
        if not study.get_trials(deepcopy=False):
            for point in plan.first:
                study.enqueue_trial(dict(point))
        self._settle()

    # What is next ---------------------------------------------------------------------------------

    @property
    def finished(self) -> bool:
        """Whether nothing runs, and nothing is left to run."""
        return not self._running and self._pending(begun=True) is None and not self._may_suggest()

    def next(self) -> FoldTrial | None:
        """The fold trial to begin; None where one must end first, or nothing is left."""
        at_once = self.plan.order == "at_once"
        trial = self._pending(begun=at_once)
        if trial is None and self._may_suggest():
            self._suggest()
            trial = self._pending(begun=at_once)
        trial = trial or self._pending(begun=True)  # a slot that nothing else would use
        if trial is not None:
            self._running.add((trial.suggestion, trial.fold))
        return trial

    def _pending(self, *, begun: bool) -> FoldTrial | None:
        """A fold that was neither run nor begun, of the earliest suggestion that has one.

        Args:
            begun: also of suggestions of which another fold is running.
        """
        busy = {suggestion for suggestion, _ in self._running}
        for one in self._open():
            if one.number in busy and not begun:
                continue
            for fold in self.folds_of(one.number):
                if (one.number, fold) not in self._running and _FOLD + fold not in one.user_attrs:
                    return FoldTrial(one.number, fold, one.params)
        return None

    def folds_of(self, suggestion: int) -> tuple[str, ...]:
        """All folds in this suggestion's order: shuffled, or its first people would decide each."""
        order = np.random.default_rng([self.plan.seed, suggestion]).permutation(
            len(self.plan.folds)
        )
        return tuple(self.plan.folds[i] for i in order)

    def _open(self) -> list[FrozenTrial]:
        return [t for t in self.trials if t.state is TrialState.RUNNING]

    @property
    def trials(self) -> list[FrozenTrial]:
        """Of the study: suggestions that have begun."""
        found = self.study.get_trials(deepcopy=False)
        return [trial for trial in found if trial.state is not TrialState.WAITING]

    def _may_suggest(self) -> bool:
        return len(self.trials) < self.plan.n_suggestions

    def _suggest(self) -> None:
        self.study.sampler = make_sampler(self.plan.sampler, self.plan.seed, len(self.trials))
        self.study.ask(self._space)

    # What an end decides --------------------------------------------------------------------------

    def ended(self, trial: FoldTrial, result: Ended) -> list[FoldTrial]:
        """Take in a fold's scores.

        Returns:
            Fold trials that run and are to be stopped: their suggestion has been given up.

        Raises:
            ValueError: nobody was scored, or a score is not finite.
        """
        values = [*result.people.values(), *result.others.values()]
        if not result.people or not np.isfinite(values).all():
            raise ValueError(f"{trial.name}: need finite scores of people, got {result}")
        if missing := [o.name for o in self.plan.objectives[1:] if o.name not in result.others]:
            raise ValueError(f"{trial.name}: need {', '.join(missing)} of the fold, got none")
        self._running.discard((trial.suggestion, trial.fold))
        one = self._trial(trial.suggestion)
        if one.state is not TrialState.RUNNING:
            return []  # given up while this one ended
        self._note(one.number, _FOLD + trial.fold, asdict(result))
        return self._settle()

    def failed(self, trial: FoldTrial, reason: str) -> list[FoldTrial]:
        """Take in that a fold came to no score: it is tried again, or its suggestion fails.

        A suggestion without one of its folds has no score: the mean of the others would be one of
        other people.

        Returns:
            As `ended`.
        """
        place = (trial.suggestion, trial.fold)
        self._running.discard(place)
        self._failures[place] = self._failures.get(place, 0) + 1
        if self._trial(trial.suggestion).state is not TrialState.RUNNING:
            return []
        if self._failures[place] <= self.plan.retries:
            return []
        self._note(trial.suggestion, _ERROR, f"fold {trial.fold}: {reason}")
        self.study.tell(trial.suggestion, state=TrialState.FAIL)
        return self._stopped(trial.suggestion)

    def dropped(self, trial: FoldTrial) -> None:
        """Take in that a fold trial was stopped, or lost with its node: it left nothing."""
        self._running.discard((trial.suggestion, trial.fold))

    def _settle(self) -> list[FoldTrial]:
        """Tell of suggestions that have all of their folds, and give up those that cannot win."""
        for one in self._open():
            if len(results_of(one)) == len(self.plan.folds):
                self.study.tell(one.number, self._values(one))
        best, pruning = self.best(), self.plan.prunes
        if best is None or pruning is None:
            return []
        begun = [one for one in self.trials if status_of(one) != "failed"]
        whole = [one.number for one in begun if status_of(one) == "complete"]
        given_up = pruning.gives_up({one.number: people_of(one) for one in begun}, whole)
        stopped: list[FoldTrial] = []
        for one in self._open():
            if one.number in given_up:
                self._note(one.number, _PRUNED, best.number)
                self.study.tell(one.number, estimate(people_of(one), people_of(best)))
                stopped += self._stopped(one.number)
        return stopped

    def best(self) -> FrozenTrial | None:
        """Of the suggestions with all of their folds the one with the highest mean over people."""
        whole = [one for one in self.trials if status_of(one) == "complete"]
        return max(whole, key=lambda one: _mean(people_of(one)), default=None)

    def _values(self, one: FrozenTrial) -> list[float]:
        results = results_of(one).values()
        others = [
            _mean({fold: r.others[objective.name] for fold, r in enumerate(results)})
            for objective in self.plan.objectives[1:]
        ]
        return [_mean(people_of(one)), *others]

    def _stopped(self, suggestion: int) -> list[FoldTrial]:
        """Those of a suggestion that still run; nothing of them is waited for."""
        point = self._trial(suggestion).params
        going = sorted(place for place in self._running if place[0] == suggestion)
        self._running -= set(going)
        return [FoldTrial(*place, point) for place in going]

    def _trial(self, suggestion: int) -> FrozenTrial:
        return self.study.get_trials(deepcopy=False)[suggestion]

    def _note(self, suggestion: int, name: str, value: Any) -> None:
        # A `Trial` made of a number would sample anew; a study has no other way to its attributes.
        storage = self.study._storage
        storage.set_trial_user_attr(self._trial(suggestion)._trial_id, name, value)

    def _same_search(self) -> None:
        asked = {
            **self.plan.plain(),
            "space": {name: distribution_to_json(one) for name, one in self._space.items()},
        }
        found = self.study.user_attrs.get(_SEARCH)
        if found is None:
            self.study.set_user_attr(_SEARCH, asked)
        elif different := sorted(name for name in asked if found.get(name) != asked[name]):
            said = "; ".join(f"{name}: {found.get(name)}" for name in different)
            raise ValueError(f"need the search that began under this name, which had {said}")


# A suggestion, as the study keeps it --------------------------------------------------------------

Status = Literal["running", "complete", "pruned", "failed"]


def status_of(trial: FrozenTrial) -> Status:
    """How a suggestion stands; one that was given up is complete for Optuna, whose samplers learn
    from its estimate."""
    if trial.state is TrialState.FAIL:
        return "failed"
    if trial.state is not TrialState.COMPLETE:
        return "running"
    return "pruned" if _PRUNED in trial.user_attrs else "complete"


def results_of(trial: FrozenTrial) -> dict[str, Ended]:
    """By fold, in the order in which they ended."""
    return {
        name.removeprefix(_FOLD): Ended(**found)
        for name, found in trial.user_attrs.items()
        if name.startswith(_FOLD)
    }


def people_of(trial: FrozenTrial) -> dict[str, float]:
    """Scores of all people that a suggestion has been scored on; of one who was held out of several
    folds the mean."""
    found: dict[str, list[float]] = {}
    for result in results_of(trial).values():
        for person, score in result.people.items():
            found.setdefault(person, []).append(score)
    return {person: float(np.mean(scores)) for person, scores in found.items()}


def error_of(trial: FrozenTrial) -> str:
    """Why a suggestion has failed; empty where it has not."""
    return str(trial.user_attrs.get(_ERROR, ""))


def make_sampler(name: SamplerName, seed: int, number: int) -> BaseSampler:
    """The sampler of one suggestion.

    Each has its own, so that a search that goes on suggests what an unbroken one would: a sampler's
    generator is not kept in the study. Quasi-random sequences are, by their place, and need the
    same scrambling throughout.
    """
    own = int(np.random.default_rng([seed, number]).integers(2**31))
    if name == "tpe":
        return optuna.samplers.TPESampler(seed=own)
    if name == "random":
        return optuna.samplers.RandomSampler(seed=own)
    if name == "gp":
        return optuna.samplers.GPSampler(seed=own)
    if name == "nsga2":
        return optuna.samplers.NSGAIISampler(seed=own)
    with warnings.catch_warnings():  # it has been called experimental since 2022
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.QMCSampler(scramble=True, seed=seed, warn_independent_sampling=False)


def _mean(values: Mapping[Any, float]) -> float:
    return float(np.mean(list(values.values())))
