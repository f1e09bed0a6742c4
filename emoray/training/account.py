"""Whom and what weights have seen: the account that a checkpoint gives, and what an audit needs.

A start of the same fold saw that fold's training part, which the audit holds against the test
segments anyway and which the protocol's name confesses. All else that starts have seen, they and
those that they started from, is held against them as pretraining.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from emoray.corpus.fingerprints import Seen, Signals
from emoray.evaluation.folds import PROTOCOLS
from emoray.runtime import config as configs
from emoray.training.data import RunData
from emoray.training.run import Run

_PLACE = ("protocol", "fold", "target", "builds")


@dataclass(frozen=True)
class Past:
    """What weights were trained on."""

    seen: Seen = field(default_factory=dict)
    signals: Signals = field(default_factory=dict)
    """Fingerprints of those recordings."""
    trained_on: tuple[str, ...] = ()
    """Datasets of which no more is known than their names."""
    unaudited: bool = False
    """Whether there are weights of which nobody knows subject by subject what they saw."""

    @classmethod
    def of_all(cls, pasts: Iterable[Past]) -> Past:
        """Several as one."""
        found = list(pasts)
        return cls(
            merged([one.seen for one in found]),
            joined([one.signals for one in found]),
            tuple(sorted({name for one in found for name in one.trained_on})),
            any(one.unaudited for one in found),
        )

    def to_facts(self) -> dict[str, Any]:
        """As `run.json` has it."""
        return {
            "seen": self.seen,
            "signals": self.signals,
            "trained_on": list(self.trained_on),
            "unaudited": self.unaudited,
        }

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Past:
        """Back from `to_facts`."""
        return cls(facts["seen"], facts["signals"], tuple(facts["trained_on"]), facts["unaudited"])


@dataclass(frozen=True)
class Account:
    """What the weights at a run's end have seen."""

    all: Past
    own: Past
    """Of it, what the run's own data were."""
    before: Past
    """Of it, what neither the run nor a start on the same fold has shown them."""
    place: Mapping[str, Any]
    """Protocol, fold, target and builds of the run."""

    @classmethod
    def of(cls, found: RunData, own: Past, starts: Sequence[Account]) -> Account:
        """Of a run that shows its weights this, beside what its starts have seen."""
        before = Past.of_all(start.beside(found) for start in starts)
        everything = Past.of_all([before, own, *(start.all for start in starts)])
        return cls(everything, own, before, place_of(found.run))

    def beside(self, found: RunData) -> Past:
        """What a run that starts here must hold against its test segments."""
        return self.before if self._is_of_the_same_fold(found) else self.all

    def _is_of_the_same_fold(self, found: RunData) -> bool:
        """Whether nothing of a fold's own data but its training side has been shown.

        Of the same builds a fold of that name has the same rows. Of other builds (another stream)
        it may have others: then each subject's stimuli decide, where a protocol puts no subject at
        a stimulus on both sides.
        """
        mine, theirs = dict(self.place), place_of(found.run)
        builds = mine.pop("builds"), theirs.pop("builds")
        if found.fold is None or mine != theirs:
            return False
        if builds[0] == builds[1]:
            return True
        both = {"subject", "stimulus"} <= set(PROTOCOLS[found.run.protocol].mixes)
        return not both and _is_within(self.own.seen, found.beside_test())

    def to_facts(self) -> dict[str, Any]:
        """As `run.json` has it, beside the parts of the run's key, of which the place is one."""
        parts = {"own": self.own.to_facts(), "before": self.before.to_facts()}
        return {**self.all.to_facts(), **parts}

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Account:
        """Back from a whole `run.json`.

        Raises:
            KeyError: a part is not there.
        """
        own, before = Past.from_facts(facts["own"]), Past.from_facts(facts["before"])
        return cls(Past.from_facts(facts), own, before, {name: facts[name] for name in _PLACE})

    @property
    def digest(self) -> str:
        """Of whom they have seen: a start is these weights with this account and no others."""
        return configs.digest(self.all.seen)


def _is_within(seen: Seen, other: Seen) -> bool:
    return all(
        set(stimuli) <= set(other.get(dataset, {}).get(subject, ()))
        for dataset, subjects in seen.items()
        for subject, stimuli in subjects.items()
    )


def place_of(run: Run) -> dict[str, Any]:
    """Where a run stands, as an account has it: the same rows train wherever this is the same."""
    return configs.plain_dict({name: getattr(run, name) for name in _PLACE})


def merged(seen: Sequence[Mapping[str, Mapping[str, Sequence[str]]]]) -> dict[str, Any]:
    """Several accounts of dataset -> subject -> stimuli as one."""
    together: dict[str, dict[str, set[str]]] = {}
    for account in seen:
        for dataset, subjects in account.items():
            for subject, stimuli in subjects.items():
                together.setdefault(dataset, {}).setdefault(subject, set()).update(stimuli)
    return {
        dataset: {subject: sorted(stimuli) for subject, stimuli in sorted(subjects.items())}
        for dataset, subjects in sorted(together.items())
    }


def joined(signals: Sequence[Signals]) -> dict[str, list[str]]:
    """Fingerprints of several accounts as one; builds of two recipes give a recording more."""
    together: dict[str, set[str]] = {}
    for account in signals:
        for recording, prints in account.items():
            together.setdefault(recording, set()).update(prints)
    return {recording: sorted(prints) for recording, prints in sorted(together.items())}
