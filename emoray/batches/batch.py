"""What a step is made of: segments in groups of equal shape, signals and targets by name.

Shapes: B segments of one worker's share of a step, C channels (electrodes or leads), T samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from emoray.vocabulary.schema import Stream


@dataclass(frozen=True, slots=True)
class Signal:
    """One stream of a group's segments."""

    x_BCT: Tensor
    channels: tuple[str, ...]
    """Electrodes or leads, in the order of axis C."""
    sfreq: float
    """Hz."""


@dataclass(frozen=True, slots=True)
class Group:
    """Segments of equal shape: one dataset's part of a batch."""

    dataset: str
    signals: Mapping[Stream, Signal]
    """By stream; row i of each covers the same seconds."""
    positions_B: Tensor
    """Place of each segment in the step's global batch, int64: the same however it is dealt."""
    constants: Mapping[str, Tensor] = field(default_factory=dict)
    """What the stage computed of each segment before its first step (`Stage.constants`), by name,
    a row for each."""

    def __getitem__(self, stream: Stream) -> Signal:
        """A stream by name.

        Raises:
            ValueError: the stage that reads it has not declared it.
        """
        if stream not in self.signals:
            raise ValueError(
                f"{self.dataset}: need a stream among {', '.join(self.signals)}; got {stream!r}"
            )
        return self.signals[stream]

    def __len__(self) -> int:
        return len(self.positions_B)

    def to(self, device: torch.device, dtype: torch.dtype) -> Group:
        """The same group on another device, signals in another dtype."""
        signals = {
            # Two moves, so that a float16 corpus crosses the bus as float16.
            name: replace(s, x_BCT=s.x_BCT.to(device, non_blocking=True).to(dtype))
            for name, s in self.signals.items()
        }
        positions_B = self.positions_B.to(device, non_blocking=True)
        constants = moved(self.constants, device, dtype)
        return replace(self, signals=signals, positions_B=positions_B, constants=constants)


@dataclass(frozen=True, slots=True)
class Batch:
    """A worker's share of one step."""

    step: int
    """Steps since the start of the run, from 0; names the batch whoever draws it."""
    groups: tuple[Group, ...]
    targets: Mapping[str, Tensor]
    """What is to be learned, by name, the groups' segments one after the other: `va` is valence
    and arousal in [-4, 4], (B, 2), nan where a dataset has none; `label` class indices, (B,)."""

    def __getitem__(self, target: str) -> Tensor:
        """A target by name.

        Raises:
            ValueError: the stage that learns it has not declared it.
        """
        if target not in self.targets:
            known = ", ".join(self.targets) or "nothing"
            raise ValueError(f"need the target {target!r} in a batch, got {known}")
        return self.targets[target]

    def to(self, device: torch.device, dtype: torch.dtype) -> Batch:
        """The same batch on another device, whatever is no whole number in another dtype."""
        targets = moved(self.targets, device, dtype)
        groups = tuple(group.to(device, dtype) for group in self.groups)
        return replace(self, groups=groups, targets=targets)

    @property
    def device(self) -> torch.device:
        """Where its tensors lie."""
        return self.groups[0].positions_B.device

    @property
    def positions_B(self) -> Tensor:
        """Places in the global batch, in the order of the targets."""
        return torch.cat([group.positions_B for group in self.groups])


def moved(
    columns: Mapping[str, Tensor], device: torch.device, dtype: torch.dtype
) -> dict[str, Tensor]:
    """The same columns on another device, whatever is no whole number in another dtype."""
    return {
        name: t.to(device, non_blocking=True).to(dtype if t.is_floating_point() else t.dtype)
        for name, t in columns.items()
    }
