"""From one recording to its segments: the recipe, step by step.

Source: Chen et al., EMOD, "Preprocessing": band-pass, ICA, average reference, segments. Filters
and resampling treat all channels alike; ICA, interpolation and reference mix channels and know no
time. The two kinds commute, so the second is one matrix, applied to the segments only. Neither is
robust: absurd amplitudes are found and bridged before the first of them.
Shapes: S segments, C electrodes, L ECG leads, T samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emoray.signals import excursions, filters
from emoray.signals.amplitude import standardise
from emoray.signals.ecg.prepare import ecg_segments
from emoray.signals.eeg import ica, montage
from emoray.signals.eeg.recipe import Recipe
from emoray.signals.eeg.screening import Verdict, screen
from emoray.signals.segmentation import (
    Slot,
    check_whole,
    find_slots,
    span,
    tally,
    unused_s,
    where,
)
from emoray.vocabulary import affect
from emoray.vocabulary.schema import (
    Card,
    DataError,
    Dropped,
    Float32Array,
    FloatArray,
    Recording,
)

Stored = NDArray[np.float32] | NDArray[np.float16]

_CHANNELS_AT_A_TIME = 8  # 8 x 4,000 s at 1,000 Hz are 256 MB in float64, and a few times that


@dataclass(frozen=True, slots=True)
class SegmentRow:
    """What the index says about one segment."""

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
    has_ecg: bool = False
    """Whether this row of the ECG holds a signal; zeros stand there otherwise."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Segments of one recording, with what was left out and what was done."""

    eeg_SCT: Stored
    ecg_SLT: Stored | None
    """Row i covers the same seconds as row i of the EEG; None where nothing was recorded."""
    rows: list[SegmentRow]
    dropped: tuple[Dropped, ...]
    """What this recipe left out; what the reader left out stays in `Recording.dropped`."""
    facts: dict[str, object]
    """Plain JSON for the manifest."""


def prepare(recording: Recording, card: Card, recipe: Recipe) -> Prepared:
    """Clean a recording and cut its segments. The recording is not changed.

    A channel that is NaN, absurd, flat or clipped in most segments is interpolated; a segment in
    which another channel is so is dropped; a short absurd excursion is interpolated in time. Where
    nothing is left, S is 0 and `dropped` says why.

    Args:
        recording: as its dataset's reader returns it.
        card: facts of that dataset.
        recipe: exceptions for this dataset are applied here.

    Raises:
        DataError: channels or places that contradict the card or the signals; too many bad
            channels; a rating outside its scale; an emotion without a place.
        ValueError: the recipe does not fit the dataset's sampling rate.
    """
    recipe = recipe.for_dataset(card.name)
    segment_s = recipe.segment_s_of(card)
    _check_shape(recording, card)
    slots, dropped = find_slots(recording, segment_s)
    verdict = _screen(recording, card, recipe, slots, segment_s)
    dropped += _dropped_by(verdict, recording, slots)
    kept = [slot for i, slot in enumerate(slots) if i not in verdict.bad_segments]
    eeg_SCT, eeg_dropped, facts = _eeg_segments(recording, card, recipe, kept, verdict)
    ecg = ecg_segments(recording, card, kept, segment_s, recipe)
    rows = [
        _row(recording, card, recipe, slot, segment_s, has)
        for slot, has in zip(kept, ecg.has_S, strict=True)
    ]
    return Prepared(
        eeg_SCT=_store(eeg_SCT, recipe, where(recording)),
        ecg_SLT=None if ecg.x_SLT is None else _store(ecg.x_SLT, recipe, f"{where(recording)} ECG"),
        rows=rows,
        dropped=(*dropped, *eeg_dropped, *ecg.dropped),
        facts={"seconds_in_no_segment": unused_s(recording, segment_s), **facts, **ecg.facts},
    )


def _check_shape(recording: Recording, card: Card) -> None:
    place = where(recording)
    if recording.eeg_channels != card.eeg_channels:
        raise DataError(
            f"{place}: need channels {' '.join(card.eeg_channels)}, "
            f"got {' '.join(recording.eeg_channels)}"
        )
    for i, stretch in enumerate(recording.stretches):
        shape = stretch.eeg_CT.shape
        if len(shape) != 2 or shape[0] != len(card.eeg_channels):
            raise DataError(
                f"{place} stretch {i}: need ({len(card.eeg_channels)}, samples), got {shape}"
            )


def _screen(
    recording: Recording, card: Card, recipe: Recipe, slots: Sequence[Slot], segment_s: float
) -> Verdict:
    """Judge channels and segments as they came; refuse a recording with too many bad channels."""
    raw, sfreq = [stretch.eeg_CT for stretch in recording.stretches], recording.eeg_sfreq
    verdict = screen(
        raw,
        [span(recording, slot, segment_s, sfreq) for slot in slots],
        excursions.find(raw, sfreq, recipe, kind="eeg", unit=card.eeg_unit),
        max_clipped=recipe.max_clipped,
    )
    names = recording.eeg_channels
    if len(verdict.bad_channels) > recipe.max_bad_channels * len(names):
        named = ", ".join(f"{names[c]} {why}" for c, why in verdict.bad_channels.items())
        if excursions.REASON in verdict.bad_channels.values():
            limit = f"{verdict.absurd.limit_C.max():g} {card.eeg_unit}"
            named += f"; absurd is {limit} off a channel's level (max_excursion 0 bounds nothing)"
        raise DataError(
            f"{where(recording)}: need at most {recipe.max_bad_channels:.0%} of channels bad, "
            f"got {len(verdict.bad_channels)} of {len(names)}: {named}"
        )
    return verdict


def _dropped_by(verdict: Verdict, recording: Recording, slots: Sequence[Slot]) -> list[Dropped]:
    channels = [
        Dropped(
            "channel", f"{where(recording)} {recording.eeg_channels[c]}", f"{why}: interpolated"
        )
        for c, why in verdict.bad_channels.items()
    ]
    lost = [(slots[i], why) for i, why in verdict.bad_segments.items()]
    absurd = excursions.dropped(
        verdict.absurd, recording, recording.eeg_channels, "excursion", besides=verdict.bad_channels
    )
    return channels + absurd + tally(recording, "segment", lost)


def _eeg_segments(
    recording: Recording,
    card: Card,
    recipe: Recipe,
    slots: Sequence[Slot],
    verdict: Verdict,
) -> tuple[Float32Array, list[Dropped], dict[str, object]]:
    """Clean segments (S, C, T), ICA that could not be done, and facts."""
    sfreq, segment_s = recipe.sfreq_of(card), recipe.segment_s_of(card)
    n_times = check_whole(segment_s, sfreq, where(recording))
    _check_band(recipe, sfreq, where(recording))
    eeg_SCT = np.empty((len(slots), len(recording.eeg_channels), n_times), dtype=np.float32)
    if not slots:
        return eeg_SCT, [], {}
    passed = _band_passed(recording, recipe, sfreq, verdict.absurd)
    matrix_CC, dropped, facts = _mixing(recording, recipe, passed, sfreq, verdict)
    if found := verdict.absurd.facts(recording.eeg_channels, recording.eeg_sfreq):
        facts["excursions"] = found
    for segment_CT, slot in zip(eeg_SCT, slots, strict=True):
        at = span(recording, slot, segment_s, sfreq)
        segment_CT[:] = matrix_CC @ passed[at.stretch][:, at.start : at.stop]
    if recipe.amplitude == "robust_z":
        facts |= standardise(eeg_SCT, recording, slots, recipe)
    return eeg_SCT, dropped, facts


def _check_band(recipe: Recipe, sfreq: float, place: str) -> None:
    highest = recipe.band_high_hz + recipe.band_high_width_hz
    if highest >= sfreq / 2:
        raise ValueError(
            f"{place}: need a band that ends below {sfreq / 2:g} Hz at {sfreq:g} Hz, "
            f"got {highest:g} Hz"
        )


def _band_passed(
    recording: Recording, recipe: Recipe, sfreq: float, absurd: excursions.Excursions
) -> list[Float32Array]:
    """Every stretch at the segments' rate and in the band; float64 inside, float32 at rest.

    Resampling goes first, which costs a fifth at 1,000 Hz and gives the same: what it folds back
    lies above the band. A few channels at a time bound the memory.
    """
    taps = filters.design(
        sfreq, recipe.band_low_hz, recipe.band_high_hz, high_width_hz=recipe.band_high_width_hz
    )
    passed = []
    for i, stretch in enumerate(recording.stretches):
        blocks = []
        for first in range(0, len(stretch.eeg_CT), _CHANNELS_AT_A_TIME):
            some_CT = stretch.eeg_CT[first : first + _CHANNELS_AT_A_TIME]
            x_CT = filters.bridge_gaps(absurd.blank(i, some_CT, channel=first))
            x_CT = filters.resample(x_CT, recording.eeg_sfreq, sfreq)
            blocks.append(filters.convolve(x_CT, taps).astype(np.float32))
        passed.append(np.concatenate(blocks))
    return passed


def _mixing(
    recording: Recording,
    recipe: Recipe,
    passed: Sequence[FloatArray],
    sfreq: float,
    verdict: Verdict,
) -> tuple[NDArray[np.float64], list[Dropped], dict[str, object]]:
    """ICA on the good channels, then the bad ones from them, then the reference: one matrix."""
    names = recording.eeg_channels
    good = [c for c in range(len(names)) if c not in verdict.bad_channels]
    matrix_CC = np.zeros((len(names), len(names)))
    matrix_CC[good, good] = 1.0
    facts: dict[str, object] = {"interpolated": [names[c] for c in verdict.bad_channels]}
    dropped = []
    if recipe.ica != "none":
        whole = passed if len(good) == len(names) else [x_CT[good] for x_CT in passed]
        found = ica.clean(whole, [names[c] for c in good], sfreq, recipe)
        matrix_CC[np.ix_(good, good)] = found.matrix_CC
        facts["ica"] = {"skipped": found.skipped} if found.skipped else found.facts
        if found.skipped:
            dropped.append(Dropped("ica", where(recording), found.skipped))
    matrix_CC = montage.interpolation(names, [names[c] for c in verdict.bad_channels]) @ matrix_CC
    if recipe.reference == "average":
        matrix_CC = matrix_CC - matrix_CC.mean(axis=0)
    return matrix_CC, dropped, facts


def _store(x: Float32Array, recipe: Recipe, place: str) -> Stored:
    """In the recipe's number format."""
    with np.errstate(over="ignore"):
        stored: Stored = x.astype(recipe.dtype)
    if not np.isfinite(stored).all():
        raise DataError(
            f"{place}: need values that fit {recipe.dtype}, got up to {np.abs(x).max():g}"
        )
    return stored


def _row(
    recording: Recording,
    card: Card,
    recipe: Recipe,
    slot: Slot,
    segment_s: float,
    has_ecg: bool,
) -> SegmentRow:
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
        has_ecg=has_ecg,
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
