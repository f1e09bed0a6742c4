"""The ECG's recipe: every choice between a publisher's file and a segment of its ECG."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from emoray.signals.recipe import Recipe
from emoray.vocabulary.schema import Stream


@dataclass(frozen=True)
class EcgRecipe(Recipe):
    """How a recording's ECG becomes segments."""

    stream: ClassVar[Stream] = "ecg"
    positive: ClassVar[tuple[str, ...]] = (*Recipe.positive, "highpass_hz", "sfreq")

    highpass_hz: float = 0.5
    """High-pass, Hz; what lies below half of it, wander and breath, is gone. Sarkar & Etemad: 0.8,
    "pass-band frequency"."""
    highpass_filter: Literal["fir", "iir"] = "fir"
    """Neither delays. `fir`: MNE's window design, half of `highpass_hz` wide. `iir`: a Butterworth
    of order 4, once in each direction, which takes 1 dB off at `highpass_hz`. Sarkar & Etemad: IIR;
    order and direction are not in the paper, and their code reads filtered files."""
    sfreq: float | None = None
    """Sampling rate of the segments, Hz; None for the recording's own. Sarkar & Etemad: 256."""
    r_peaks: Literal["none", "sleepecg"] = "none"
    """Where R waves are sought, by which package: the index then says of each segment
    where they peak and how good its leads are. The signals do not depend on it."""
