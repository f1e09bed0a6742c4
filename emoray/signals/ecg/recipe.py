"""The ECG's recipe: every choice between a publisher's file and a segment of its ECG."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from emoray.signals.recipe import Recipe
from emoray.vocabulary.schema import Stream


@dataclass(frozen=True)
class EcgRecipe(Recipe):
    """How a recording's ECG becomes segments, at its own sampling rate."""

    stream: ClassVar[Stream] = "ecg"
    positive: ClassVar[tuple[str, ...]] = (*Recipe.positive, "highpass_hz")

    highpass_hz: float = 0.5
    """High-pass, Hz; what lies below half of it, wander and breath, is gone."""
