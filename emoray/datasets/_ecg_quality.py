"""Whether a minute of ECG holds an ECG: what a reader of hours of raw signal leaves out, and why.

Shapes: T samples, K steps of 10 ms, P pieces of 10 s, G lags.
"""

from __future__ import annotations

import numpy as np

from emoray.vocabulary.schema import FloatArray

_STEP_S = 0.01
_MAINS_S = 0.02  # a mean over one turn of 50 Hz is blind to it
_SMOOTHED_STEPS = 10  # as long as a QRS complex
_PIECE_STEPS = 1000
_RR_STEPS = slice(30, 200)
"""Lags in which the next beat must come: 0.3 to 2 s, 30 to 200 beats a minute."""
_LEAST_RHYTHM = 0.35
"""See `rhythm`. No minute of record 100 of the MIT-BIH database has less than 0.63, or than 0.58
with white noise of the lead's own spread on top. Of a hundred minutes each of white, pink and
brown noise and of hum none has more than 0.24, of a muscle's bursts none more than 0.34."""
_MOST_FLAT, _MOST_CLIPPED = 0.5, 0.01


def fault(x_T: FloatArray, sfreq: float) -> str:
    """What is wrong with some ten seconds or more of ECG; empty for nothing."""
    if not np.isfinite(x_T).all():
        return "NaN in the ECG"
    if (np.diff(x_T) == 0).mean() > _MOST_FLAT:
        return "flat ECG"
    if max((x_T == edge).mean() for edge in (x_T.min(), x_T.max())) > _MOST_CLIPPED:
        return "clipped ECG"
    return "" if rhythm(x_T, sfreq) >= _LEAST_RHYTHM else "no heartbeat in the ECG"


def rhythm(x_T: FloatArray, sfreq: float) -> float:
    """How well the signal's slopes repeat after one beat, up to 1; the median of pieces of 10 s.

    The largest autocorrelation of the absolute slope at lags of 0.3 to 2 s.
    """
    slope_K = np.abs(np.diff(_without_mains(x_T, sfreq)))
    slope_K = np.convolve(slope_K, np.full(_SMOOTHED_STEPS, 1 / _SMOOTHED_STEPS), "valid")
    n_pieces = max(1, len(slope_K) // _PIECE_STEPS)
    found_P = [_repeats(piece_K) for piece_K in np.array_split(slope_K, n_pieces)]
    return float(np.median(found_P))


def _without_mains(x_T: FloatArray, sfreq: float) -> FloatArray:
    """Means over 20 ms, every 10 ms."""
    sum_T = np.concatenate(([0.0], np.cumsum(x_T - np.mean(x_T, dtype=np.float64))))
    at_K = np.arange(0.0, len(x_T) / sfreq - _MAINS_S, _STEP_S) * sfreq
    places_T = np.arange(len(sum_T))
    low_K, high_K = (np.interp(at_K + s * sfreq, places_T, sum_T) for s in (0.0, _MAINS_S))
    means_K: FloatArray = (high_K - low_K) / (_MAINS_S * sfreq)
    return means_K


def _repeats(slope_K: FloatArray) -> float:
    centred_K = slope_K - slope_K.mean()
    spectrum = np.abs(np.fft.rfft(centred_K, 2 * len(centred_K))) ** 2
    together_G = np.fft.irfft(spectrum)[: len(centred_K)]
    if not together_G[0] > 0:
        return 0.0
    # Fewer samples overlap at longer lags.
    share_G = together_G / together_G[0] / (1 - np.arange(len(centred_K)) / len(centred_K))
    return float(share_G[_RR_STEPS].max(initial=0.0))
