"""The ECG of the same seconds: high-passed, scaled per lead, cut like the EEG, at its own rate.

Shapes: S segments, L leads, T samples.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from emoray.schema import Dropped, Float32Array, FloatArray, Recording
from emoray.signals import filters
from emoray.signals.amplitude import robust_scale
from emoray.signals.recipe import Recipe
from emoray.signals.slots import Slot, check_whole, span, tally, where


def ecg_segments(
    recording: Recording, slots: Sequence[Slot], segment_s: float, recipe: Recipe
) -> tuple[Float32Array | None, list[bool], list[Dropped]]:
    """Segments of the ECG, which of them hold a signal, and why the others do not.

    A segment in which a lead is missing, flat or NaN is all zeros; its EEG is kept.

    Returns:
        (S, L, T), or None where the recording has no ECG; a flag per segment; `ecg segment`s.
    """
    sfreq = recording.ecg_sfreq
    raw = [s.ecg_LT for s in recording.stretches]
    if sfreq is None or all(x_LT is None for x_LT in raw):
        return None, [False] * len(slots), []
    n_times = check_whole(segment_s, sfreq, f"{where(recording)} ECG")
    spans = [span(recording, slot, segment_s, sfreq) for slot in slots]
    defects = [_defect(raw[at.stretch], at.start, at.stop) for at in spans]
    low_hz = recipe.ecg_highpass_hz
    # Half as wide as MNE's transition, which would let half of a breath at 0.25 Hz through.
    taps = filters.design(sfreq, low_hz, None, low_width_hz=low_hz / 2)
    clean = [None if x_LT is None else _high_pass(x_LT, taps) for x_LT in raw]
    ecg_SLT = np.zeros((len(slots), len(recording.ecg_leads), n_times), dtype=np.float32)
    for segment_LT, at, defect in zip(ecg_SLT, spans, defects, strict=True):
        clean_LT = clean[at.stretch]
        if clean_LT is not None and not defect:
            segment_LT[:] = clean_LT[:, at.start : at.stop]
    has_S = np.array([not defect for defect in defects], dtype=bool)
    if recipe.amplitude == "robust_z":
        for lead in range(ecg_SLT.shape[1]):
            median, scale = robust_scale(ecg_SLT[has_S, lead])
            if scale > 0:
                ecg_SLT[has_S, lead] = (ecg_SLT[has_S, lead] - median) / scale
    lost = [(slot, defect) for slot, defect in zip(slots, defects, strict=True) if defect]
    return ecg_SLT, has_S.tolist(), tally(recording, "ecg segment", lost)


def _high_pass(x_LT: FloatArray, taps: filters.Float64Array) -> Float32Array:
    return filters.convolve(filters.bridge_gaps(x_LT), taps).astype(np.float32)


def _defect(x_LT: FloatArray | None, start: int, stop: int) -> str:
    """What is wrong with these samples of the ECG; empty for nothing."""
    if x_LT is None or x_LT.shape[1] < stop:
        return "missing"
    x_LT = x_LT[:, start:stop]
    if not np.isfinite(x_LT).all():
        return "NaN"
    return "flat" if ((np.diff(x_LT, axis=-1) == 0).mean(axis=-1) > 0.5).any() else ""
