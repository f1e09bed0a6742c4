"""What any recipe makes of a recording: segments, and what the index says of each.

Shapes: S segments, C channels (electrodes or leads), T samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from emoray.signals.amplitude import Moments
from emoray.signals.recipe import Recipe
from emoray.signals.segmentation import Slot, where
from emoray.vocabulary import affect
from emoray.vocabulary.schema import Card, DataError, Dropped, Float32Array, Recording

Stored = NDArray[np.float32] | NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class SegmentRow:
    """What the index says about one segment, whichever stream it is of."""

    presentation: int
    """The presentation's `ordinal`."""
    stimulus: str
    segment: int
    """Place inside its presentation, from 0; neighbours of a dropped one keep their numbers."""
    start_s: float
    """Seconds from the start of the presentation."""
    stop_s: float
    valence: float
    """In [-4, 4]; NaN where the dataset has neither ratings nor a placed emotion."""
    arousal: float
    label: int
    """Class index; -1 for none."""
    emotion: str
    """Canonical name; empty for none."""
    ratings: Mapping[str, float] = field(default_factory=dict)
    """By name, as the publisher has them: on the dataset's own scale."""
    r_peaks: tuple[int, ...] | None = None
    """Samples of the segment at which R waves peak; None where they were not sought."""
    quality: Mapping[str, float] = field(default_factory=dict)
    """In [0, 1], by lead, where R waves were sought."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Segments of one stream of one recording, with what was left out and what was done."""

    x_SCT: Stored
    channels: tuple[str, ...]
    """Electrodes or leads."""
    sfreq: float
    """Hz."""
    rows: list[SegmentRow]
    dropped: tuple[Dropped, ...]
    """What this recipe left out; what the reader left out stays in `Recording.dropped`."""
    facts: dict[str, object]
    """Plain JSON for the manifest."""
    moments: Moments | None = None
    """What the segments were scaled by, where the scale is to be a person's."""


def segment_row(
    recording: Recording, card: Card, recipe: Recipe, slot: Slot, segment_s: float
) -> SegmentRow:
    """What the index says of a segment.

    Raises:
        DataError: a rating outside its scale; an emotion without a place.
    """
    p = slot.presentation
    valence, arousal = _place(recording, card, recipe, slot)
    return SegmentRow(
        presentation=p.ordinal,
        stimulus=p.stimulus,
        segment=slot.segment,
        start_s=slot.segment * segment_s,
        stop_s=(slot.segment + 1) * segment_s,
        valence=valence,
        arousal=arousal,
        label=-1 if p.label is None else p.label,
        emotion=p.emotion or "",
        ratings=dict(p.ratings),
    )


def _place(recording: Recording, card: Card, recipe: Recipe, slot: Slot) -> tuple[float, float]:
    """Valence and arousal: from the ratings where there are any, else from the emotion's name."""
    place = where(recording, slot.presentation)
    ratings: Mapping[str, float] = slot.presentation.ratings
    if card.scale is not None and {"valence", "arousal"} <= ratings.keys():
        valence, arousal = (
            affect.place_rating(ratings[name], card.scale, name=name, where=place)
            for name in ("valence", "arousal")
        )
        return valence, arousal
    if slot.presentation.emotion is not None:
        return affect.place_emotion(slot.presentation.emotion, table=recipe.emotions, where=place)
    return float("nan"), float("nan")


def stored(x: Float32Array, recipe: Recipe, place: str) -> Stored:
    """In the recipe's number format.

    Raises:
        DataError: a value does not fit it.
    """
    with np.errstate(over="ignore"):
        fitting: Stored = x.astype(recipe.dtype)
    if not np.isfinite(fitting).all():
        raise DataError(
            f"{place}: need values that fit {recipe.dtype}, got up to {np.abs(x).max():g}"
        )
    return fitting
