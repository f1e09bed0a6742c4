"""Small teachers and students, and made segments of EEG and ECG of the same seconds.

Shapes: B segments, C channels, T samples, P patches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from emoray.batches.batch import Batch, Group, Signal
from emoray.methods.alignment.config import (
    AlignmentConfig,
    ClassificationConfig,
    EncoderConfig,
    ReconstructionConfig,
    TeacherConfig,
)
from emoray.methods.alignment.method import Alignment, Reconstruction, Teaching
from emoray.methods.base import Inputs, Stage, Start, StreamSpec
from emoray.runtime.config import to_dict
from emoray.vocabulary.schema import Stream

SPECS: Mapping[Stream, StreamSpec] = {
    "eeg": StreamSpec(("F7", "F8", "P3"), 128.0, 128),
    "ecg": StreamSpec(("ecg1", "ecg2"), 256.0, 256),
}
"""One second of each, at two rates."""
CLASSES = ("low", "high")
SMALL = EncoderConfig(patch_s=0.25, width=8, n_heads=2, n_layers=1, n_hidden=12, dropout=0.0)
"""Four patches of a segment."""
WIDER = replace(SMALL, width=12, n_heads=3)
"""The teacher's."""


def alignment_config(**changes: Any) -> AlignmentConfig:
    return replace(AlignmentConfig(encoder=SMALL, precision="float64", seed=3), **changes)


def reconstruction_config(**changes: Any) -> ReconstructionConfig:
    return replace(ReconstructionConfig(encoder=WIDER, precision="float64"), **changes)


def teacher_config(**changes: Any) -> TeacherConfig:
    return replace(TeacherConfig(encoder=WIDER, precision="float64"), **changes)


def classification_config(**changes: Any) -> ClassificationConfig:
    return replace(ClassificationConfig(encoder=SMALL, precision="float64"), **changes)


def inputs(*streams: Stream, seconds: float = 1.0) -> Inputs:
    shapes = {
        name: replace(SPECS[name], n_times=round(seconds * SPECS[name].sfreq))
        for name in streams or ("eeg", "ecg")
    }
    return Inputs(shapes, CLASSES)


def group(
    rows: Sequence[int], places: Sequence[int] | None = None, *, seconds: float = 1.0
) -> Group:
    """Segments of these rows of a dataset: the same samples wherever they are asked for."""
    signals = {
        name: Signal(
            torch.stack([_noise(name, row, round(seconds * spec.sfreq)) for row in rows]),
            spec.channels,
            spec.sfreq,
        )
        for name, spec in SPECS.items()
    }
    return Group("made", signals, torch.tensor(rows if places is None else places))


def _noise(stream: Stream, row: int, n_times: int) -> Tensor:
    generator = torch.Generator().manual_seed(2 * row + (stream == "ecg"))
    n_chans = SPECS[stream].n_chans
    return torch.randn(n_chans, n_times, generator=generator, dtype=torch.float64)


def started(kind: type[Stage], config: Any, of: Inputs | None = None) -> Start:
    """Weights that no seed gives."""
    generator = torch.Generator().manual_seed(5)
    model = {
        name: x + 0.1 * torch.randn(x.shape, generator=generator)
        for name, x in kind(config, of or inputs(), {}).build().state_dict().items()
    }
    return Start(to_dict(config), model, kind)


def reconstructed(**changes: Any) -> Start:
    return started(Reconstruction, reconstruction_config(**changes))


def taught(**changes: Any) -> Start:
    return started(Teaching, teacher_config(**changes))


def step_of(
    stage: Alignment,
    rows: Sequence[int],
    places: Sequence[int],
    targets: Mapping[str, Tensor] | None = None,
    *,
    step: int = 0,
    seconds: float = 1.0,
) -> Batch:
    """A worker's share of a step: constants are of rows, draws of places."""
    constants = stage.constants(group(rows, seconds=seconds))
    one = replace(group(rows, places, seconds=seconds), constants=constants)
    signals = {name: one.signals[name] for name in stage.streams_each_step or stage.streams}
    return Batch(step, (replace(one, signals=signals),), targets or {})


def pieces(x_CT: Tensor, n_patches: int) -> list[Tensor]:
    """A signal's patches, (C, M) each."""
    n_samples = x_CT.shape[-1] // n_patches
    return [x_CT[:, p * n_samples : (p + 1) * n_samples] for p in range(n_patches)]
