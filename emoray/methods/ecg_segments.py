"""How ECG is cut for the methods that read it alone, so that rows of one table see one signal.

Plain data: options are parsed before torch is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping

from emoray.signals import EcgRecipe, Recipe
from emoray.vocabulary.schema import Stream

ECG_10_S = EcgRecipe(
    sfreq=256.0,
    highpass_hz=0.8,
    highpass_filter="iir",
    amplitude="z",
    scale_scope="person",
    segment_s=10.0,
    r_peaks="sleepecg",
)
"""Segments of 10 s at 256 Hz without what lies below 0.8 Hz (IIR), z-scored over all of a person's
recordings: as SSL-ECG's paper has them (Sarkar & Etemad, 4.2; the released code takes the deviation
of a person's last file alone, and of its central 95 %), and the alignment's length and scale as
well. R peaks are in the index beside the signals, which do not depend on them."""

RECIPES: Mapping[Stream, Recipe] = {"ecg": ECG_10_S}
"""By stream."""
