"""What stands beside a number without being a leak: what nobody knows, and what was fitted unseen.

Names cannot settle whether two datasets of one laboratory have people in common, and a recording
that a protocol cuts in two was prepared as one. Neither refuses a run; both are in its verdict.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from emoray import datasets
from emoray.corpus.fingerprints import Signals, same_recordings
from emoray.vocabulary.schema import InCommon

What = Literal["people", "clips"]


@dataclass(frozen=True, slots=True)
class NotApart:
    """People or clips that weights were trained on and that may be those of the test segments."""

    what: What
    family: str
    """Datasets that may share them, in words: `SEED family`."""
    trained_on: tuple[str, ...]
    """Those of the family that the weights come from."""

    def __str__(self) -> str:
        return f"{self.what} not known to be apart ({self.family})"


def not_apart(dataset: str, trained_on: Iterable[str]) -> tuple[NotApart, ...]:
    """What of a dataset may be in the datasets that weights were trained on, by its card.

    Args:
        dataset: that is tested on; one without a card is nobody's relative.
        trained_on: names. The dataset itself is not looked at: there the names decide.
    """
    if dataset not in datasets.names():
        return ()
    card = datasets.get(dataset).CARD
    may_share: tuple[tuple[What, InCommon | None], ...]
    may_share = (("people", card.people), ("clips", card.clips))
    found = []
    for what, shared in may_share:
        if shared is not None:
            known = sorted((set(trained_on) & set(shared.datasets)) - {dataset})
            found += [NotApart(what, shared.name, tuple(known))] if known else []
    return tuple(found)


def of_held_out(trained: Mapping[str, Signals], held_out: Mapping[str, Signals]) -> list[str]:
    """Why people who were held out may be no strangers to the training, one line each.

    Args:
        trained: fingerprints of the recordings trained on, by dataset.
        held_out: the same of those held out.
    """
    known = [name for name, signals in trained.items() if signals]
    lines = []
    for dataset, signals in held_out.items():
        doubts = not_apart(dataset, known) if signals else ()
        lines += [
            f"{dataset}: {doubt}; {', '.join(doubt.trained_on)} trained"
            for doubt in doubts
            if doubt.what == "people"  # clips are shared within a dataset anyway
        ]
        pairs = same_recordings(signals, list(trained.values()))
        lines += [
            f"{name} is {other}, which trained, under another name" for name, other in pairs.items()
        ]
    return lines


@dataclass(frozen=True, slots=True)
class Fitted:
    """What preparing signals takes from the signals themselves, without labels, before any split.

    Where a recording is on both sides of a fold, its test segments took part; so did a person's.
    """

    recordings: tuple[str, ...] = ()
    """Fitted on whole recordings: of `scale` and `ICA`."""
    presentations: tuple[str, ...] = ()
    """Fitted on single presentations."""
    people: tuple[str, ...] = ()
    """Fitted on all recordings of a person."""

    @classmethod
    def by(cls, *recipes: Mapping[str, Any]) -> Fitted:
        """What recipes fit, those of a dataset's streams.

        Args:
            recipes: `signals.EegRecipe` and the like as a dict, as a manifest keeps it.
        """
        found: dict[str, list[str]] = {"recording": [], "presentation": [], "person": []}
        for recipe in recipes:
            scale = ("scale",) if recipe.get("amplitude", "none") != "none" else ()
            ica = ("ICA",) if recipe.get("ica", "none") != "none" else ()
            found[recipe.get("scale_scope", "recording")] += scale
            found["recording"] += ica
        recordings, presentations, people = (tuple(dict.fromkeys(on)) for on in found.values())
        return cls(recordings, presentations, people)

    def where(self, *, recordings: bool, presentations: bool, people: bool) -> Fitted:
        """The part of it that matters where the sides of a fold share what it was fitted on."""
        return Fitted(
            self.recordings if recordings else (),
            self.presentations if presentations else (),
            self.people if people else (),
        )

    @property
    def words(self) -> list[str]:
        """For a verdict; none where nothing was fitted."""
        fitted = (
            ("people", self.people),
            ("recordings", self.recordings),
            ("presentations", self.presentations),
        )
        return [f"{' and '.join(what)} fitted on test {on} too" for on, what in fitted if what]


NOTHING_FITTED = Fitted()
