"""When a suggestion is given up: people who were held out under it and under the best one.

The same fold holds out the same people under every suggestion, and people differ among each other
far more than suggestions do. So a person's two scores are a pair, and the pairs of the folds that a
suggestion has had tell whether it can still win, long before all folds are done.

A test of those pairs alone forgets two things. The best of many is best partly by luck: where all
suggestions are equal, it gives up every second one. And with the five people of a first fold it
knows next to nothing of how much a score varies. Both are known from the other suggestions:

    score of person p under suggestion i = a_p + theta_i + noise of variance sigma^2,
    theta_i from a normal distribution of variance tau^2

sigma^2 is what remains of the scores of suggestions that all people were held out under, tau^2 the
moment estimate of DerSimonian and Laird (1986) over all suggestions. Each theta is drawn towards
their mean by as much as its people leave open; the best one, too. Where suggestions do not differ,
tau^2 is zero and nothing is given up.

Shapes: I suggestions, W of them with all people, P people.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from emoray.vocabulary.schema import FloatArray

Scores = Mapping[str, float]
"""By person, on validation segments."""
ROUNDING = 1e-9
"""Of the largest score: below it a standard deviation is taken for none."""


@dataclass(frozen=True)
class Pruning:
    """How sure it must be that a suggestion is worse than the best one."""

    p: float = 0.1
    """Probability of being better than the best one, below which a suggestion is given up."""
    min_people: int = 4
    """Of a suggestion, before it is judged."""

    def __post_init__(self) -> None:
        if not 0 < self.p < 0.5:
            raise ValueError(f"need p inside (0, 0.5), got {self.p:g}")
        if self.min_people < 1:
            raise ValueError(f"need min_people of at least 1, got {self.min_people}")

    def gives_up(self, scores: Mapping[int, Scores], whole: Sequence[int]) -> list[int]:
        """Suggestions that cannot win any more.

        Args:
            scores: of all suggestions so far, those that were given up among them.
            whole: those that all people were held out under. With fewer than two nobody knows how
                much scores vary, and nothing is given up.
        """
        found = Fitted.of(scores, whole)
        if found is None:
            return []
        return [
            number
            for number, people in scores.items()
            if number not in whole
            and len(people) >= self.min_people
            and found.better_than_best(number) < self.p
        ]


@dataclass(frozen=True)
class Fitted:
    """What is known of each suggestion's theta."""

    sigma2: float
    """Variance of one person's score under one suggestion, beside theirs and its own."""
    tau2: float
    """Variance of thetas."""
    mean: Mapping[int, float]
    """Posterior mean of theta, by suggestion."""
    variance: Mapping[int, float]
    """Posterior variance."""
    best: int
    """The suggestion, of those that all people were held out under, with the highest mean score."""

    @classmethod
    def of(cls, scores: Mapping[int, Scores], whole: Sequence[int]) -> Fitted | None:
        """Fit the model; None with fewer than two whole suggestions or people."""
        known = [number for number in scores if scores[number]]
        people = sorted(set().union(*(scores[number] for number in whole)))
        if len(whole) < 2 or len(people) < 2:
            return None
        x_WP = np.array([[scores[number][person] for person in people] for number in whole])
        a_P = x_WP.mean(axis=0)
        rest_WP = x_WP - a_P - (x_WP.mean(axis=1, keepdims=True) - x_WP.mean())
        least = (ROUNDING * float(np.abs(x_WP).max())) ** 2
        free = (len(whole) - 1) * (len(people) - 1)
        sigma2 = _unless_below(least, float((rest_WP**2).sum() / free))
        usual = dict(zip(people, a_P, strict=True))
        effect_I = np.array(
            [np.mean([score - usual[p] for p, score in scores[i].items()]) for i in known]
        )
        n_I = np.array([len(scores[i]) for i in known], dtype=np.float64)
        tau2, centre = _between(effect_I, n_I, sigma2)
        tau2 = _unless_below(least, tau2)
        share_I = tau2 / (tau2 + sigma2 / n_I) if tau2 > 0 else np.zeros(len(known))
        return cls(
            sigma2=sigma2,
            tau2=tau2,
            mean=dict(zip(known, centre + share_I * (effect_I - centre), strict=True)),
            variance=dict(zip(known, tau2 * (1 - share_I), strict=True)),
            best=max(whole, key=lambda number: float(np.mean(list(scores[number].values())))),
        )

    def better_than_best(self, number: int) -> float:
        """Probability that a suggestion's theta is above the best one's."""
        variance = self.variance[number] + self.variance[self.best]
        above = self.mean[number] - self.mean[self.best]
        if variance <= 0:
            return 0.5 if above == 0 else float(above > 0)
        return 0.5 * math.erfc(-above / math.sqrt(2 * variance))


def _unless_below(least: float, variance: float) -> float:
    """A variance, or zero where it is one of rounding."""
    return variance if variance > least else 0.0


def _between(effect_I: FloatArray, n_I: FloatArray, sigma2: float) -> tuple[float, float]:
    """Variance of thetas, and their mean weighted by people (DerSimonian and Laird, 1986, Eq. 8).

    Scores without any noise leave the plain variance.
    """
    weight_I = n_I / sigma2 if sigma2 > 0 else np.ones(len(n_I))
    centre = float(weight_I @ effect_I / weight_I.sum())
    if sigma2 == 0:
        return float(effect_I.var(ddof=1)), centre
    q = float(weight_I @ (effect_I - centre) ** 2)
    room = float(weight_I.sum() - (weight_I**2).sum() / weight_I.sum())
    return max(0.0, (q - (len(effect_I) - 1)) / room), centre


def estimate(scores: Scores, best: Scores) -> float:
    """What the mean of a suggestion's people would be, had all of its folds been run.

    The best one's mean plus the mean difference of the pairs there are: its own mean so far is as
    much of who was held out as of the settings.

    Raises:
        ValueError: nobody was scored under both.
    """
    both = set(scores) & set(best)
    if not both:
        raise ValueError("need a person scored under both suggestions, got none")
    less = [scores[person] - best[person] for person in sorted(both)]
    return float(np.mean(list(best.values())) + np.mean(less))
