"""Linear, time-invariant steps: filters, resampling, bridging of gaps.

Everything computes in float64 and returns new arrays.
Shapes: C channels, T samples.
"""

from __future__ import annotations

from fractions import Fraction

import mne
import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, oaconvolve, resample_poly, sosfiltfilt

from emoray.vocabulary.schema import FloatArray

Float64Array = NDArray[np.float64]

_IIR_ORDER = 4
_IIR_LOSS_DB = 1.0
_IIR_MEMORY = 5.0
"""In periods of the cut: there the response to an impulse has fallen to a hundred-thousandth."""


def design(
    sfreq: float,
    low_hz: float | None,
    high_hz: float | None,
    *,
    low_width_hz: float | None = None,
    high_width_hz: float | None = None,
) -> Float64Array:
    """Taps of MNE's zero-phase FIR (firwin, Hamming); odd in number.

    Args:
        sfreq: Hz.
        low_hz: lower edge of the pass band; None for none.
        high_hz: upper edge of the pass band; None for none.
        low_width_hz: width of the transition below `low_hz`; None for MNE's choice.
        high_width_hz: width of the transition above `high_hz`; None for MNE's choice.
    """
    taps: Float64Array = mne.filter.create_filter(
        None,
        sfreq,
        low_hz,
        high_hz,
        l_trans_bandwidth="auto" if low_width_hz is None else low_width_hz,
        h_trans_bandwidth="auto" if high_width_hz is None else high_width_hz,
        verbose="ERROR",
    )
    return taps


def convolve(x_CT: FloatArray, taps: Float64Array) -> Float64Array:
    """Filter without delay; beyond its ends the signal goes on as its own odd reflection.

    That is MNE's `reflect_limited` for signals of at least half the filter's length. Shorter ones
    are reflected again and again, which keeps an offset an offset; MNE would put zeros there.
    """
    half = len(taps) // 2
    signal_CT = np.asarray(x_CT, dtype=np.float64)
    if signal_CT.shape[-1] == 0:
        return signal_CT.copy()
    padded = np.pad(signal_CT, ((0, 0), (half, half)), mode="reflect", reflect_type="odd")
    filtered: Float64Array = oaconvolve(padded, taps[None, :], mode="valid", axes=-1)
    return filtered


def highpass_iir(x_CT: FloatArray, sfreq: float, low_hz: float) -> Float64Array:
    """Butterworth of order 4 forwards and backwards, so without delay; 1 dB lost at `low_hz`.

    Both passes together take 20 log10(1 + (cut / f)^8) dB at f Hz. Beyond its ends the signal goes
    on as its own odd reflection, for as long as the filter remembers.
    """
    signal_CT = np.asarray(x_CT, dtype=np.float64)
    if signal_CT.shape[-1] == 0:
        return signal_CT.copy()
    cut_hz = low_hz * (10 ** (_IIR_LOSS_DB / 20) - 1) ** (1 / (2 * _IIR_ORDER))
    sos = butter(_IIR_ORDER, cut_hz, "highpass", output="sos", fs=sfreq)
    beyond = round(_IIR_MEMORY * sfreq / cut_hz)
    padded = np.pad(signal_CT, ((0, 0), (beyond, beyond)), mode="reflect", reflect_type="odd")
    filtered: Float64Array = sosfiltfilt(sos, padded, axis=-1, padlen=0)
    return filtered[:, beyond:-beyond]


def resample(x_CT: FloatArray, sfreq: float, new_sfreq: float) -> Float64Array:
    """Change the rate by polyphase filtering; sample k of the result lies at k / new_sfreq.

    Raises:
        ValueError: the rates are in no ratio of whole numbers up to 1000.
    """
    ratio = Fraction(new_sfreq / sfreq).limit_denominator(1000)
    if abs(sfreq * ratio - new_sfreq) > 1e-9 * new_sfreq:
        raise ValueError(f"need sampling rates in a simple ratio, got {sfreq:g} and {new_sfreq:g}")
    signal_CT = np.asarray(x_CT, dtype=np.float64)
    if ratio == 1 or signal_CT.shape[-1] == 0:
        return signal_CT.copy()
    changed: Float64Array = resample_poly(
        signal_CT, ratio.numerator, ratio.denominator, axis=-1, padtype="antireflect"
    )
    return changed


def bridge_gaps(x_CT: FloatArray) -> Float64Array:
    """Replace samples that are not finite by a straight line between their neighbours.

    A channel without a finite sample becomes zero.
    """
    bridged_CT = np.array(x_CT, dtype=np.float64)
    for c in np.flatnonzero(~np.isfinite(bridged_CT).all(axis=-1)):
        good_T = np.isfinite(bridged_CT[c])
        if not good_T.any():
            bridged_CT[c] = 0.0
            continue
        at_T = np.arange(bridged_CT.shape[-1])
        bridged_CT[c] = np.interp(at_T, at_T[good_T], bridged_CT[c, good_T])
    return bridged_CT
