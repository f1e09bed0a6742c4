"""Where the electrodes sit, as MNE wants to know it, and what a bad one can be guessed from.

Shapes: C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import mne
import numpy as np

from emoray.signals.filters import Float64Array

# SEED's two cerebellar sites are in no standard montage; PO9 and PO10 are the nearest that are.
_STAND_INS = {"CB1": "PO9", "CB2": "PO10"}

_SPHERE_ORIGIN_M = (0.0, 0.0, 0.04)  # MNE's own fallback for the centre of a head


@cache
def _standard() -> dict[str, Any]:
    positions: dict[str, Any] = mne.channels.make_standard_montage("colin27_1020").get_positions()
    return positions


def raw(
    x_CT: Float64Array, channels: Sequence[str], sfreq: float, eog: Sequence[str] = ()
) -> mne.io.RawArray:
    """A copy of signals as MNE's `Raw`, EEG channels with positions, then `eog` without."""
    standard = _standard()
    info = mne.create_info(
        [*channels, *eog], sfreq, ["eeg"] * len(channels) + ["eog"] * len(eog), verbose="ERROR"
    )
    made = mne.io.RawArray(np.array(x_CT, dtype=np.float64), info, verbose="ERROR")
    placed = mne.channels.make_dig_montage(
        {c: standard["ch_pos"][_STAND_INS.get(c, c)] for c in channels},
        nasion=standard["nasion"],
        lpa=standard["lpa"],
        rpa=standard["rpa"],
        coord_frame=standard["coord_frame"],
    )
    made.set_montage(placed, on_missing="ignore", verbose="ERROR")
    return made


def interpolation(channels: Sequence[str], bad: Sequence[str]) -> Float64Array:
    """Matrix (C, C) that keeps good channels and makes the bad ones from them by MNE's splines."""
    if not bad:
        return np.eye(len(channels))
    # What MNE makes of unit vectors is its matrix; the rate means nothing here.
    units = raw(np.eye(len(channels)), channels, 100.0)
    units.info["bads"] = list(bad)
    units.interpolate_bads(origin=_SPHERE_ORIGIN_M, verbose="ERROR")
    weights_CC: Float64Array = units.get_data(verbose="ERROR")
    return weights_CC
