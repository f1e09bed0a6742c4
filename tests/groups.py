"""Groups of EEG segments, and what a classifier of them is built for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from emoray.batches.batch import Group, Signal
from emoray.methods.base import Inputs, InputSpec, StreamSpec


def eeg_group(
    x_BCT: Tensor, channels: Sequence[str], sfreq: float, positions_B: Tensor, name: str = "made"
) -> Group:
    """Segments of a dataset of that name that has EEG alone."""
    return Group(name, {"eeg": Signal(x_BCT, tuple(channels), sfreq)}, positions_B)


def with_eeg(group: Group, **changes: Any) -> Group:
    """The same group with other samples, electrodes or another rate."""
    return replace(group, signals={**group.signals, "eeg": replace(group["eeg"], **changes)})


def inputs_of(spec: InputSpec) -> Inputs:
    """A run's inputs, of which a stage makes this classifier's."""
    eeg = StreamSpec(spec.channels, spec.sfreq, spec.n_times)
    return Inputs({"eeg": eeg}, tuple(f"class {k}" for k in range(spec.n_outputs)))
