"""The one stage that joins three methods; the others are theirs, as `paper.toml` strings them.

EMOD's pretraining (other datasets' EEG) -> fine-tuned on a fold -------------+
                                                                              |
SSL-ECG's pretext (the fold's ECG) ---------> alignment (the fold's pairs) <--+
                                                   |
                                              classes of ECG alone
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from emoray.methods.alignment.method import Alignment
from emoray.methods.base import Stage
from emoray.methods.ecg_segments import ECG_10_S
from emoray.signals import EegRecipe, Recipe
from emoray.vocabulary.schema import Stream


class EmodAlignment(Alignment):
    """The stage `align`: the alignment's, on EEG cut as the pretrained encoder knows it."""

    recipes: ClassVar[Mapping[Stream, Recipe]] = {"eeg": EegRecipe(), "ecg": ECG_10_S}


STAGES: Mapping[str, type[Stage]] = {"align": EmodAlignment}
"""Stages by name."""
