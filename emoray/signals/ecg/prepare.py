"""The ECG of the same seconds: high-passed, scaled per lead, cut like the EEG, at its own rate.

Shapes: S segments, L leads, T samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from emoray.signals import excursions, filters
from emoray.signals.amplitude import robust_scale, scopes
from emoray.signals.eeg.recipe import Recipe
from emoray.signals.excursions import Excursions
from emoray.signals.segmentation import Slot, Span, check_whole, span, tally, where
from emoray.vocabulary.schema import Card, Dropped, Float32Array, FloatArray, Recording


@dataclass(frozen=True, slots=True)
class EcgSegments:
    """The ECG of the segments that are kept."""

    x_SLT: Float32Array | None
    """None where the recording has no ECG; zeros where a segment has none."""
    has_S: list[bool]
    """Whether a segment holds a signal."""
    dropped: tuple[Dropped, ...] = ()
    """`ecg segment` and `ecg excursion`."""
    facts: Mapping[str, object] = field(default_factory=dict)


def ecg_segments(
    recording: Recording, card: Card, slots: Sequence[Slot], segment_s: float, recipe: Recipe
) -> EcgSegments:
    """Segments of the ECG, which of them hold a signal, and why the others do not.

    A segment in which a lead is missing, absurd, flat or NaN is all zeros; its EEG is kept.
    """
    sfreq = recording.ecg_sfreq
    raw = [s.ecg_LT for s in recording.stretches]
    if sfreq is None or all(x_LT is None for x_LT in raw):
        return EcgSegments(None, [False] * len(slots))
    n_times = check_whole(segment_s, sfreq, f"{where(recording)} ECG")
    spans = [span(recording, slot, segment_s, sfreq) for slot in slots]
    absurd = _absurd(raw, sfreq, card, recipe)
    defects = [_defect(raw[at.stretch], at, absurd) for at in spans]
    clean = _high_passed(raw, sfreq, absurd, recipe)
    ecg_SLT = np.zeros((len(slots), len(recording.ecg_leads), n_times), dtype=np.float32)
    for segment_LT, at, defect in zip(ecg_SLT, spans, defects, strict=True):
        clean_LT = clean[at.stretch]
        if clean_LT is not None and not defect:
            segment_LT[:] = clean_LT[:, at.start : at.stop]
    has_S = np.array([not defect for defect in defects], dtype=bool)
    if recipe.amplitude == "robust_z":
        for scope in scopes(slots, recipe):
            _standardise(ecg_SLT[scope], has_S[scope])
    lost = [(slot, defect) for slot, defect in zip(slots, defects, strict=True) if defect]
    unused = excursions.dropped(absurd, recording, recording.ecg_leads, "ecg excursion")
    found = absurd.facts(recording.ecg_leads, sfreq)
    return EcgSegments(
        ecg_SLT,
        has_S.tolist(),
        (*unused, *tally(recording, "ecg segment", lost)),
        {"ecg_excursions": found} if found else {},
    )


def _absurd(
    raw: Sequence[FloatArray | None], sfreq: float, card: Card, recipe: Recipe
) -> Excursions:
    there = [np.zeros((0, 0), np.float32) if x_LT is None else x_LT for x_LT in raw]
    unit = "arbitrary" if card.ecg is None else card.ecg.unit
    return excursions.find(there, sfreq, recipe, kind="ecg", unit=unit)


def _high_passed(
    raw: Sequence[FloatArray | None], sfreq: float, absurd: Excursions, recipe: Recipe
) -> list[Float32Array | None]:
    low_hz = recipe.ecg_highpass_hz
    # Half as wide as MNE's transition, which would let half of a breath at 0.25 Hz through.
    taps = filters.design(sfreq, low_hz, None, low_width_hz=low_hz / 2)
    return [
        None
        if x_LT is None
        else filters.convolve(filters.bridge_gaps(absurd.blank(i, x_LT)), taps).astype(np.float32)
        for i, x_LT in enumerate(raw)
    ]


def _standardise(ecg_SLT: Float32Array, has_S: NDArray[np.bool_]) -> None:
    """Each lead by itself, in place."""
    for lead in range(ecg_SLT.shape[1]):
        median, scale = robust_scale(ecg_SLT[has_S, lead])
        if scale > 0:
            ecg_SLT[has_S, lead] = (ecg_SLT[has_S, lead] - median) / scale


def _defect(x_LT: FloatArray | None, at: Span, absurd: Excursions) -> str:
    """What is wrong with these samples of the ECG; empty for nothing."""
    if x_LT is None or x_LT.shape[1] < at.stop:
        return "missing"
    x_LT = x_LT[:, at.start : at.stop]
    if not np.isfinite(x_LT).all():
        return "NaN"
    if absurd.spoilt(at.stretch, at.start, at.stop):
        return excursions.REASON
    return "flat" if ((np.diff(x_LT, axis=-1) == 0).mean(axis=-1) > 0.5).any() else ""
