"""From one recording to its segments: the recipe, step by step.

Source: Chen et al., EMOD, "Preprocessing": band-pass, ICA, average reference, segments. Filters
and resampling treat all channels alike; ICA, interpolation and reference mix channels and know no
time. The two kinds commute, so the second is one matrix, applied to the segments only. Neither is
robust: absurd amplitudes are found and bridged before the first of them.
Shapes: S segments, C electrodes, T samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emoray.signals import excursions, filters
from emoray.signals.amplitude import standardise, z_score
from emoray.signals.eeg import ica, montage
from emoray.signals.eeg.recipe import EegRecipe
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
from emoray.signals.segments import Prepared, segment_row, stored
from emoray.vocabulary.schema import (
    Card,
    DataError,
    Dropped,
    EegCard,
    Float32Array,
    FloatArray,
    Recording,
)

_CHANNELS_AT_A_TIME = 8  # 8 x 4,000 s at 1,000 Hz are 256 MB in float64, and a few times that


@dataclass(frozen=True, slots=True)
class _Raw:
    """A recording's EEG as it came, all of it there."""

    eeg: EegCard
    sfreq: float
    stretches_CT: tuple[Float32Array, ...]


def prepare(recording: Recording, card: Card, recipe: EegRecipe) -> Prepared:
    """Clean a recording's EEG and cut its segments. The recording is not changed.

    A channel that is NaN, absurd, flat or clipped in most segments is interpolated; a segment in
    which another channel is so is dropped; a short absurd excursion is interpolated in time. Where
    nothing is left, S is 0 and `dropped` says why.

    Args:
        recording: as its dataset's reader returns it.
        card: facts of that dataset.
        recipe: exceptions for this dataset are applied here.

    Raises:
        DataError: no EEG; channels or places that contradict the card or the signals; too many bad
            channels; a rating outside its scale; an emotion without a place.
        ValueError: the recipe does not fit the dataset's sampling rate.
    """
    recipe = recipe.for_dataset(card.name)
    segment_s = recipe.segment_s_of(card)
    raw = _raw(recording, card)
    slots, dropped = find_slots(recording, segment_s)
    verdict = _screen(recording, raw, recipe, slots, segment_s)
    dropped += _dropped_by(verdict, recording, slots)
    kept = [slot for i, slot in enumerate(slots) if i not in verdict.bad_segments]
    eeg_SCT, eeg_dropped, facts = _eeg_segments(recording, raw, recipe, kept, segment_s, verdict)
    moments = z_score(eeg_SCT, kept, recipe) if recipe.amplitude == "z" else None
    return Prepared(
        x_SCT=stored(eeg_SCT, recipe, where(recording)),
        channels=recording.eeg_channels,
        sfreq=recipe.sfreq_of(raw.eeg),
        rows=[segment_row(recording, card, recipe, slot, segment_s) for slot in kept],
        dropped=(*dropped, *eeg_dropped),
        facts={"seconds_in_no_segment": unused_s(recording, segment_s), **facts},
        moments=moments,
    )


def _raw(recording: Recording, card: Card) -> _Raw:
    """The EEG, held against the card."""
    place = where(recording)
    if card.eeg is None or recording.eeg_sfreq is None:
        raise DataError(f"{place}: need EEG, got a recording of {card.name} without")
    if recording.eeg_channels != card.eeg.channels:
        raise DataError(
            f"{place}: need channels {' '.join(card.eeg.channels)}, "
            f"got {' '.join(recording.eeg_channels)}"
        )
    found = []
    for i, stretch in enumerate(recording.stretches):
        shape = () if stretch.eeg_CT is None else stretch.eeg_CT.shape
        if stretch.eeg_CT is None or len(shape) != 2 or shape[0] != len(card.eeg.channels):
            raise DataError(
                f"{place} stretch {i}: need ({len(card.eeg.channels)}, samples), got {shape}"
            )
        found.append(stretch.eeg_CT)
    return _Raw(card.eeg, recording.eeg_sfreq, tuple(found))


def _screen(
    recording: Recording, eeg: _Raw, recipe: EegRecipe, slots: Sequence[Slot], segment_s: float
) -> Verdict:
    """Judge channels and segments as they came; refuse a recording with too many bad channels."""
    raw, sfreq, unit = eeg.stretches_CT, eeg.sfreq, eeg.eeg.unit
    verdict = screen(
        raw,
        [span(recording, slot, segment_s, sfreq) for slot in slots],
        excursions.find(raw, sfreq, recipe, kind="eeg", unit=unit),
        max_clipped=recipe.max_clipped,
    )
    names = recording.eeg_channels
    if len(verdict.bad_channels) > recipe.max_bad_channels * len(names):
        named = ", ".join(f"{names[c]} {why}" for c, why in verdict.bad_channels.items())
        if excursions.REASON in verdict.bad_channels.values():
            limit = f"{verdict.absurd.limit_C.max():g} {unit}"
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
    raw: _Raw,
    recipe: EegRecipe,
    slots: Sequence[Slot],
    segment_s: float,
    verdict: Verdict,
) -> tuple[Float32Array, list[Dropped], dict[str, object]]:
    """Clean segments (S, C, T), ICA that could not be done, and facts."""
    sfreq = recipe.sfreq_of(raw.eeg)
    n_times = check_whole(segment_s, sfreq, where(recording))
    _check_band(recipe, sfreq, where(recording))
    eeg_SCT = np.empty((len(slots), len(recording.eeg_channels), n_times), dtype=np.float32)
    if not slots:
        return eeg_SCT, [], {}
    passed = _band_passed(raw, recipe, sfreq, verdict.absurd)
    matrix_CC, dropped, facts = _mixing(recording, recipe, passed, sfreq, verdict)
    if found := verdict.absurd.facts(recording.eeg_channels, raw.sfreq):
        facts["excursions"] = found
    for segment_CT, slot in zip(eeg_SCT, slots, strict=True):
        at = span(recording, slot, segment_s, sfreq)
        segment_CT[:] = matrix_CC @ passed[at.stretch][:, at.start : at.stop]
    if recipe.amplitude == "robust_z":
        facts |= standardise(eeg_SCT, recording, slots, recipe)
    return eeg_SCT, dropped, facts


def _check_band(recipe: EegRecipe, sfreq: float, place: str) -> None:
    highest = recipe.band_high_hz + recipe.band_high_width_hz
    if highest >= sfreq / 2:
        raise ValueError(
            f"{place}: need a band that ends below {sfreq / 2:g} Hz at {sfreq:g} Hz, "
            f"got {highest:g} Hz"
        )


def _band_passed(
    raw: _Raw, recipe: EegRecipe, sfreq: float, absurd: excursions.Excursions
) -> list[Float32Array]:
    """Every stretch at the segments' rate and in the band; float64 inside, float32 at rest.

    Resampling goes first, which costs a fifth at 1,000 Hz and gives the same: what it folds back
    lies above the band. A few channels at a time bound the memory.
    """
    taps = filters.design(
        sfreq, recipe.band_low_hz, recipe.band_high_hz, high_width_hz=recipe.band_high_width_hz
    )
    passed = []
    for i, eeg_CT in enumerate(raw.stretches_CT):
        blocks = []
        for first in range(0, len(eeg_CT), _CHANNELS_AT_A_TIME):
            some_CT = eeg_CT[first : first + _CHANNELS_AT_A_TIME]
            x_CT = filters.bridge_gaps(absurd.blank(i, some_CT, channel=first))
            x_CT = filters.resample(x_CT, raw.sfreq, sfreq)
            blocks.append(filters.convolve(x_CT, taps).astype(np.float32))
        passed.append(np.concatenate(blocks))
    return passed


def _mixing(
    recording: Recording,
    recipe: EegRecipe,
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
