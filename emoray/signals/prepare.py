"""From one recording to its segments: the recipe, step by step.

Source: Chen et al., EMOD, "Preprocessing". Filters and resampling are linear and the same for all
channels, ICA, interpolation and reference mix channels and know no time; the two kinds commute.
So the second kind is one matrix, applied to the segments only.
Shapes: S segments, C electrodes, L ECG leads, T samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emoray import affect
from emoray.schema import Card, DataError, Dropped, FloatArray, Presentation, Recording, Stretch
from emoray.signals import filters
from emoray.signals.recipe import Recipe
from emoray.signals.screening import Span, Verdict, screen

MAD_TO_SD = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""

_TOLERANCE_S = 1e-6
_CHANNELS_AT_A_TIME = 8  # 8 x 4,000 s at 1,000 Hz are 256 MB in float64, and a few times that


@dataclass(frozen=True, slots=True)
class SegmentRow:
    """What the index says about one segment."""

    presentation: int
    """The presentation's `ordinal`."""
    stimulus: str
    segment: int
    """Place inside its presentation, from 0; dropped neighbours keep their numbers."""
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

    eeg_SCT: NDArray[np.float32] | NDArray[np.float16]
    ecg_SLT: NDArray[np.float32] | NDArray[np.float16] | None
    """Row i covers the same seconds as row i of the EEG; None where nothing was recorded."""
    rows: list[SegmentRow]
    dropped: tuple[Dropped, ...]
    """What this recipe left out; what the reader left out stays in `Recording.dropped`."""
    facts: dict[str, object]
    """Plain JSON for the manifest."""


@dataclass(frozen=True, slots=True)
class _Slot:
    """A segment still to be cut."""

    presentation: Presentation
    segment: int


def count_segments(presentations: Recording | Sequence[Presentation], segment_s: float) -> int:
    """Segments that fit into presentations, from their durations alone."""
    if isinstance(presentations, Recording):
        presentations = presentations.presentations
    return sum(_n_fitting(p, segment_s) for p in presentations)


def prepare(recording: Recording, card: Card, recipe: Recipe) -> Prepared:
    """Clean a recording and cut its segments. The recording is not changed.

    Args:
        recording: as its dataset's reader returns it.
        card: facts of that dataset.
        recipe: exceptions for this dataset are applied here.

    Raises:
        DataError: channels, rates or places that contradict the card or the signals; too many bad
            channels; a rating outside its scale; an emotion without a place.
        ValueError: the recipe fits no such sampling rate.
    """
    recipe = recipe.for_dataset(card.name)
    _check(recording, card)
    segment_s = recipe.segment_s_of(card)
    slots, dropped, facts = _slots(recording, segment_s)
    verdict = screen(
        [s.eeg_CT for s in recording.stretches],
        [_span(recording, slot, segment_s, recording.eeg_sfreq) for slot in slots],
        max_clipped=recipe.max_clipped,
    )
    dropped += _dropped_by(verdict, recording, slots)
    _check_bad_channels(verdict, recording, recipe)
    kept = [slot for i, slot in enumerate(slots) if i not in verdict.bad_segments]
    eeg_SCT, eeg_facts = _eeg(recording, card, recipe, kept, verdict)
    ecg_SLT, has_ecg, ecg_dropped, ecg_facts = _ecg(recording, recipe, kept, segment_s)
    rows = [
        _row(recording, card, recipe, slot, segment_s, has)
        for slot, has in zip(kept, has_ecg, strict=True)
    ]
    return Prepared(
        eeg_SCT, ecg_SLT, rows, tuple(dropped + ecg_dropped), {**facts, **eeg_facts, **ecg_facts}
    )


def where(recording: Recording, presentation: Presentation | None = None) -> str:
    """File and place, as messages and `Dropped` name them: `s03.dat presentation 12`."""
    files = recording.ref.files
    name = files[0] if len(files) == 1 else recording.ref.key
    return name if presentation is None else f"{name} presentation {presentation.ordinal}"


def _n_fitting(presentation: Presentation, segment_s: float) -> int:
    return int((presentation.duration_s + _TOLERANCE_S) // segment_s)


def _check(recording: Recording, card: Card) -> None:
    place = where(recording)
    if recording.eeg_channels != card.eeg_channels:
        raise DataError(
            f"{place}: need channels {' '.join(card.eeg_channels)}, "
            f"got {' '.join(recording.eeg_channels)}"
        )
    for i, stretch in enumerate(recording.stretches):
        if stretch.eeg_CT.ndim != 2 or len(stretch.eeg_CT) != len(card.eeg_channels):
            raise DataError(
                f"{place} stretch {i}: need ({len(card.eeg_channels)}, samples), "
                f"got {stretch.eeg_CT.shape}"
            )
    for p in recording.presentations:
        length_s = recording.stretches[p.stretch].eeg_CT.shape[1] / recording.eeg_sfreq
        # A stop may be rounded to the next sample, no further.
        if p.start_s < 0 or p.stop_s > length_s + 1 / recording.eeg_sfreq:
            raise DataError(
                f"{where(recording, p)}: need a place in [0, {length_s:g}] s, "
                f"got [{p.start_s:g}, {p.stop_s:g}]"
            )


def _slots(
    recording: Recording, segment_s: float
) -> tuple[list[_Slot], list[Dropped], dict[str, object]]:
    """All candidate segments; presentations too short for one; seconds that fill none."""
    slots: list[_Slot] = []
    dropped: list[Dropped] = []
    unused_s = 0.0
    for p in recording.presentations:
        n = _n_fitting(p, segment_s)
        if n == 0:
            reason = f"shorter than a segment of {segment_s:g} s"
            dropped.append(Dropped("presentation", where(recording, p), reason))
        slots += [_Slot(p, i) for i in range(n)]
        unused_s += max(p.duration_s - n * segment_s, 0.0)
    return slots, dropped, {"seconds_in_no_segment": round(unused_s, 3)}


def _span(recording: Recording, slot: _Slot, segment_s: float, sfreq: float) -> Span:
    """Samples of a segment at a given rate, inside its presentation to the nearest sample."""
    n_times = _n_times(segment_s, sfreq, exact=False)
    start_s = slot.presentation.start_s + slot.segment * segment_s
    start = round(start_s * sfreq)
    stretch = recording.stretches[slot.presentation.stretch]
    n_samples = int(np.ceil(stretch.eeg_CT.shape[1] / recording.eeg_sfreq * sfreq - _TOLERANCE_S))
    start = max(0, min(start, n_samples - n_times))  # rounding may end one sample too far
    return Span(slot.presentation.stretch, start, start + n_times)


def _n_times(segment_s: float, sfreq: float, *, exact: bool = True) -> int:
    n_times = round(segment_s * sfreq)
    if exact and abs(n_times - segment_s * sfreq) > 1e-6:
        raise ValueError(
            f"need a whole number of samples in a segment, got {segment_s:g} s at {sfreq:g} Hz"
        )
    return n_times


def _dropped_by(verdict: Verdict, recording: Recording, slots: Sequence[_Slot]) -> list[Dropped]:
    """One entry per bad channel, and one per presentation and reason with its count."""
    channels = [
        Dropped("channel", f"{where(recording)} channel {recording.eeg_channels[c]}", reason)
        for c, reason in verdict.bad_channels.items()
    ]
    counts: dict[tuple[str, str], int] = {}
    for i, reason in verdict.bad_segments.items():
        key = (where(recording, slots[i].presentation), reason)
        counts[key] = counts.get(key, 0) + 1
    return channels + [Dropped("segment", *key, n) for key, n in counts.items()]


def _check_bad_channels(verdict: Verdict, recording: Recording, recipe: Recipe) -> None:
    n_bad, n_all = len(verdict.bad_channels), len(recording.eeg_channels)
    if n_bad > recipe.max_bad_channels * n_all:
        named = ", ".join(
            f"{recording.eeg_channels[c]} {r}" for c, r in verdict.bad_channels.items()
        )
        raise DataError(
            f"{where(recording)}: need at most {recipe.max_bad_channels:.0%} bad channels, "
            f"got {n_bad} of {n_all}: {named}"
        )


def _eeg(
    recording: Recording,
    card: Card,
    recipe: Recipe,
    slots: Sequence[_Slot],
    verdict: Verdict,
) -> tuple[NDArray[np.float32] | NDArray[np.float16], dict[str, object]]:
    sfreq, segment_s = recipe.sfreq_of(card), recipe.segment_s_of(card)
    n_times = _n_times(segment_s, sfreq)
    clean = [_band_pass(s, recording.eeg_sfreq, sfreq, recipe) for s in recording.stretches]
    mix_CC = np.eye(len(recording.eeg_channels))
    if recipe.reference == "average":
        mix_CC = mix_CC - mix_CC.mean(axis=0, keepdims=True)
    eeg_SCT = np.empty((len(slots), len(mix_CC), n_times), dtype=np.float32)
    for eeg_CT, slot in zip(eeg_SCT, slots, strict=True):
        span = _span(recording, slot, segment_s, sfreq)
        eeg_CT[:] = mix_CC @ clean[span.stretch][:, span.start : span.stop]
    facts: dict[str, object] = {}
    if recipe.amplitude == "robust_z" and len(slots):
        facts |= _scale_in_place(eeg_SCT, where(recording))
    return eeg_SCT.astype(recipe.dtype), facts


def _band_pass(stretch: Stretch, sfreq: float, new_sfreq: float, recipe: Recipe) -> FloatArray:
    """Resampled and band-passed, float32 at rest (float64 inside), a few channels at a time.

    Resampling goes first, which is the same and cheaper: what it folds back lies above the band.
    """
    taps = filters.design(
        new_sfreq, recipe.band_low_hz, recipe.band_high_hz, high_width_hz=recipe.band_high_width_hz
    )
    blocks = []
    for first in range(0, len(stretch.eeg_CT), _CHANNELS_AT_A_TIME):
        x_CT = filters.bridge_gaps(stretch.eeg_CT[first : first + _CHANNELS_AT_A_TIME])
        x_CT = filters.convolve(filters.resample(x_CT, sfreq, new_sfreq), taps)
        blocks.append(x_CT.astype(np.float32))
    return np.concatenate(blocks)


def _scale_in_place(x_SCT: FloatArray, place: str) -> dict[str, object]:
    """Robust z-score of everything together; says by what."""
    # A million values fix the median to a thousandth of the spread; a fixed stride keeps it exact.
    values = x_SCT.reshape(-1)[:: max(1, x_SCT.size // 1_000_000)].astype(np.float64)
    median = float(np.median(values))
    scale = MAD_TO_SD * float(np.median(np.abs(values - median)))
    if not scale > 0:
        raise DataError(f"{place}: need a signal to scale, got a median deviation of {scale:g}")
    x_SCT -= median
    x_SCT /= scale
    return {"median": median, "scale": scale}


def _ecg(
    recording: Recording, recipe: Recipe, slots: Sequence[_Slot], segment_s: float
) -> tuple[
    NDArray[np.float32] | NDArray[np.float16] | None, list[bool], list[Dropped], dict[str, object]
]:
    sfreq = recording.ecg_sfreq
    if sfreq is None or all(s.ecg_LT is None for s in recording.stretches):
        return None, [False] * len(slots), [], {}
    n_times = _n_times(segment_s, sfreq)
    taps = filters.design(sfreq, recipe.ecg_highpass_hz, None)
    raw = [s.ecg_LT for s in recording.stretches]
    clean = [
        None if x_LT is None else filters.convolve(filters.bridge_gaps(x_LT), taps) for x_LT in raw
    ]
    ecg_SLT = np.zeros((len(slots), len(recording.ecg_leads), n_times), dtype=np.float32)
    has = [False] * len(slots)
    counts: dict[tuple[str, str], int] = {}
    for i, slot in enumerate(slots):
        span = _span(recording, slot, segment_s, sfreq)
        x_LT = raw[span.stretch]
        defect = (
            "missing" if x_LT is None else _ecg_defect(x_LT[:, span.start : span.stop], n_times)
        )
        if defect:
            key = (where(recording, slot.presentation), defect)
            counts[key] = counts.get(key, 0) + 1
            continue
        clean_LT = clean[span.stretch]
        assert clean_LT is not None
        ecg_SLT[i] = clean_LT[:, span.start : span.stop]
        has[i] = True
    return (
        ecg_SLT.astype(recipe.dtype),
        has,
        [Dropped("ecg segment", *k, n) for k, n in counts.items()],
        {},
    )


def _ecg_defect(x_LT: FloatArray, n_times: int) -> str:
    if x_LT.shape[1] < n_times:
        return "missing"
    if not np.isfinite(x_LT).all():
        return "NaN"
    return "flat" if ((np.diff(x_LT, axis=-1) == 0).mean(axis=-1) > 0.5).any() else ""


def _row(
    recording: Recording,
    card: Card,
    recipe: Recipe,
    slot: _Slot,
    segment_s: float,
    has_ecg: bool,
) -> SegmentRow:
    p = slot.presentation
    valence, arousal = _place(recording, card, recipe, p)
    start_s = slot.segment * segment_s
    return SegmentRow(
        presentation=p.ordinal,
        stimulus=p.stimulus,
        segment=slot.segment,
        start_s=start_s,
        stop_s=start_s + segment_s,
        valence=valence,
        arousal=arousal,
        label=-1 if p.label is None else p.label,
        emotion=p.emotion or "",
        has_ecg=has_ecg,
    )


def _place(
    recording: Recording, card: Card, recipe: Recipe, presentation: Presentation
) -> tuple[float, float]:
    """Valence and arousal: from the ratings where there are any, else from the emotion's name."""
    place = where(recording, presentation)
    ratings: Mapping[str, float] = presentation.ratings
    if card.scale is not None and "valence" in ratings and "arousal" in ratings:
        scale = card.scale
        return (
            affect.place_rating(ratings["valence"], scale, name="valence", where=place),
            affect.place_rating(ratings["arousal"], scale, name="arousal", where=place),
        )
    if presentation.emotion is not None:
        return affect.place_emotion(presentation.emotion, table=recipe.emotions, where=place)
    return float("nan"), float("nan")
