"""R waves: found on whole stretches, then told by segment, with how good each lead is there.

Shapes: S segments, L leads, T samples, B beats, W samples around a beat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from emoray.signals.segmentation import Span
from emoray.vocabulary.schema import FloatArray, IntArray

Float64Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

_MIN_SFREQ = 60.0  # the detector looks between 5 and 30 Hz
_LEARNT_S = 2.0  # from these the detector takes its first thresholds
_RR_S = (0.3, 2.0)  # 200 to 30 beats a minute
_BEAT_S = (0.2, 0.4)  # before and after the R wave: from the P wave to the end of the T wave
_QRS_S = (0.1, 0.1)
_FLAT_S = 0.2  # between two beats a coarse converter may stand still, not for so long
_CLIPPED_S = 0.008  # a peak that is not cut off is round


@dataclass(frozen=True, slots=True)
class Lead:
    """One lead of a recording, stretch by stretch; empty where a stretch has none."""

    raw: Sequence[FloatArray]
    """As it came, excursions as NaN."""
    raw_sfreq: float
    """Hz."""
    clean: Sequence[FloatArray]
    """As the recipe made it, unscaled."""
    sfreq: float


@dataclass(frozen=True, slots=True)
class Heard:
    """What is known of the beats of one segment."""

    peak_B: tuple[int, ...]
    """Samples of the segment; of the lead that is best here, the first of equals."""
    quality_L: tuple[float, ...]


def listen(
    leads: Sequence[Lead], raw_spans: Sequence[Span], spans: Sequence[Span], place: str
) -> list[Heard]:
    """Where R waves peak in segments, and how good each lead is there, in [0, 1].

    The quality is a product of three: the share of a segment's seconds in which the lead neither
    stands still nor at an end of its range, as it came; the share of its time in which one beat
    follows another after 0.3 to 2 s; the mean correlation of its beats with the lead's median beat
    in this recording, 0 for a negative one. So it is 0 without a beat, and close to 1 where beats
    are regular and free of noise. Not in a paper.

    Args:
        leads: of a recording.
        raw_spans: places of the segments at the rate at which the leads came.
        spans: the same at the recipe's rate.
        place: names the recording in an error.

    Raises:
        ValueError: the rate is too low to find R waves.
    """
    if leads and leads[0].sfreq <= _MIN_SFREQ:
        raise ValueError(
            f"{place}: need ECG at more than {_MIN_SFREQ:g} Hz to find R waves, "
            f"got {leads[0].sfreq:g} Hz"
        )
    peaks = [find(lead.clean, lead.sfreq) for lead in leads]
    judged = zip(leads, peaks, strict=True)
    quality_LS = [_quality_S(lead, of_lead, raw_spans, spans) for lead, of_lead in judged]
    heard = []
    for at, *quality_L in zip(spans, *quality_LS, strict=True):
        peak_B = peaks[int(np.argmax(quality_L))][at.stretch]
        heard.append(Heard(tuple((peak_B[_within(peak_B, at)] - at.start).tolist()), (*quality_L,)))
    return heard


def detector() -> str:
    """The package that finds R waves, with its version."""
    return f"sleepecg {metadata.version('sleepecg')}"


def find(stretches_T: Sequence[FloatArray], sfreq: float) -> list[IntArray]:
    """Samples of each stretch at which a lead's R waves peak; none in less than 2 s.

    The detector looks for peaks alone. A lead whose median beat goes further down than up is turned
    over first, else what it marks lies beside the R wave, by 31 ms where this was measured.
    """
    peaks = [_detect(x_T, sfreq) for x_T in stretches_T]
    median_W = _median_beat([x_BW for x_BW, _ in _around(stretches_T, peaks, sfreq, _QRS_S)])
    if -median_W.min() > median_W.max():
        peaks = [_detect(-x_T, sfreq) for x_T in stretches_T]
    return peaks


def _detect(x_T: FloatArray, sfreq: float) -> IntArray:
    from sleepecg import detect_heartbeats  # a second, which other recipes do not pay

    if len(x_T) < _LEARNT_S * sfreq or np.ptp(x_T) == 0:
        return np.zeros(0, np.int64)
    return np.asarray(detect_heartbeats(np.asarray(x_T, np.float64), sfreq), np.int64)


def _within(peak_B: IntArray, at: Span) -> BoolArray:
    within_B: BoolArray = (peak_B >= at.start) & (peak_B < at.stop)
    return within_B


# How good a lead is ------------------------------------------------------------------------------


def _quality_S(
    lead: Lead, peaks: Sequence[IntArray], raw_spans: Sequence[Span], spans: Sequence[Span]
) -> list[float]:
    steady = _steady(lead.raw, lead.raw_sfreq)
    alike = _alike(lead.clean, peaks, lead.sfreq)
    return [
        _share_of_seconds(steady[raw.stretch][raw.start : raw.stop], lead.raw_sfreq)
        * _share_in_time(peaks[at.stretch], len(lead.clean[at.stretch]), at, lead.sfreq)
        * _mean(alike[at.stretch][_within(peaks[at.stretch], at)])
        for raw, at in zip(raw_spans, spans, strict=True)
    ]


def _steady(stretches_T: Sequence[FloatArray], sfreq: float) -> list[BoolArray]:
    """Samples of a signal that neither stands still nor rests at an end of its range."""
    finite = [x_T[np.isfinite(x_T)] for x_T in stretches_T]
    lowest = min((float(x_T.min()) for x_T in finite if x_T.size), default=np.nan)
    highest = max((float(x_T.max()) for x_T in finite if x_T.size), default=np.nan)
    steady = []
    for x_T in stretches_T:
        starts = np.flatnonzero(np.diff(x_T, prepend=np.nan) != 0)
        length = np.diff(starts, append=len(x_T))
        at_end = (x_T[starts] == lowest) | (x_T[starts] == highest)
        still = length >= _FLAT_S * sfreq
        clipped = at_end & (length >= max(3, _CLIPPED_S * sfreq))
        steady.append(np.repeat(~(still | clipped), length))
    return steady


def _share_of_seconds(good_T: BoolArray, sfreq: float) -> float:
    """Of the seconds of a segment, those with good samples alone."""
    starts = np.arange(0, len(good_T), round(sfreq))
    return float(np.logical_and.reduceat(good_T, starts).mean())


def _share_in_time(peak_B: IntArray, n_times: int, at: Span, sfreq: float) -> float:
    """Share of a segment's time between beats of a plausible distance.

    Before the first beat of a stretch and after its last, one may lie just outside.
    """
    edges = np.concatenate([[0], peak_B, [n_times]])
    length_s = np.diff(edges) / sfreq
    plausible = length_s <= _RR_S[1]
    plausible[1:-1] &= length_s[1:-1] >= _RR_S[0]
    inside = np.minimum(edges[1:], at.stop) - np.maximum(edges[:-1], at.start)
    return float(inside[plausible].clip(min=0).sum() / (at.stop - at.start))


def _alike(
    stretches_T: Sequence[FloatArray], peaks: Sequence[IntArray], sfreq: float
) -> list[Float64Array]:
    """Of each beat its correlation with the median beat, at least 0; NaN where it is cut off."""
    around = _around(stretches_T, peaks, sfreq, _BEAT_S)
    alike = [np.full(len(peak_B), np.nan) for peak_B in peaks]
    median_W = _median_beat([x_BW for x_BW, _ in around])
    for value_B, (x_BW, whole_B) in zip(alike, around, strict=True):
        value_B[whole_B] = _correlations(x_BW, median_W).clip(min=0)
    return alike


def _median_beat(of_stretches_BW: Sequence[FloatArray]) -> Float64Array:
    """Over all beats of a lead; zero where there is none."""
    some_BW = [x_BW for x_BW in of_stretches_BW if len(x_BW)]
    if not some_BW:
        return np.zeros(of_stretches_BW[0].shape[1] if of_stretches_BW else 1)
    return np.asarray(np.median(np.concatenate(some_BW), axis=0), np.float64)


def _around(
    stretches_T: Sequence[FloatArray],
    peaks: Sequence[IntArray],
    sfreq: float,
    beside_s: tuple[float, float],
) -> list[tuple[FloatArray, BoolArray]]:
    """By stretch, its beats that are not cut off, (., W), and which these are, (B,)."""
    before, n_around = round(beside_s[0] * sfreq), round(sum(beside_s) * sfreq)
    found = []
    for x_T, peak_B in zip(stretches_T, peaks, strict=True):
        first_B = peak_B - before
        whole_B = (first_B >= 0) & (first_B + n_around <= len(x_T))
        x_BW = np.zeros((0, n_around), np.float32)
        if whole_B.any():
            x_BW = sliding_window_view(x_T, n_around)[first_B[whole_B]]
        found.append((x_BW, whole_B))
    return found


def _correlations(x_BW: FloatArray, with_W: Float64Array) -> Float64Array:
    """Pearson's, row by row; 0 where a row, or what it is held against, does not vary."""
    a_BW = x_BW - x_BW.mean(axis=1, keepdims=True, dtype=np.float64)
    b_W = with_W - with_W.mean()
    size_B = np.sqrt((a_BW**2).sum(axis=1) * (b_W**2).sum())
    found_B: Float64Array = (a_BW @ b_W) / np.where(size_B > 0, size_B, 1.0)
    return found_B


def _mean(value_B: Float64Array) -> float:
    """Of what is known; 0 of nothing."""
    known_B = value_B[np.isfinite(value_B)]
    return float(known_B.mean()) if len(known_B) else 0.0
