"""What a step is made of: segments of equal shape in groups, with what is to be learned of them.

Shapes: B segments of one worker's share of a step, C electrodes, T samples,
2 = (valence, arousal).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Group:
    """Segments of equal shape: one dataset's part of a batch."""

    x_BCT: Tensor
    """Signals."""
    electrode_ids_C: Tensor
    """Rows of the electrode embedding, int64."""
    sfreq: float
    """Hz."""
    positions_B: Tensor
    """Place of each segment in the step's global batch, int64: the same however it is dealt."""

    def to(self, device: torch.device, dtype: torch.dtype) -> Group:
        """The same group on another device, signals in another dtype."""
        return replace(
            self,
            # Two moves, so that a float16 corpus crosses the bus as float16.
            x_BCT=self.x_BCT.to(device, non_blocking=True).to(dtype),
            electrode_ids_C=self.electrode_ids_C.to(device, non_blocking=True),
            positions_B=self.positions_B.to(device, non_blocking=True),
        )


@dataclass(frozen=True, slots=True)
class Batch:
    """A worker's share of one step."""

    step: int
    """Steps since the start of the run, from 0; names the batch whoever draws it."""
    groups: tuple[Group, ...]
    va_B2: Tensor
    """Valence and arousal in [-4, 4], the groups' segments one after the other; nan where a
    dataset has none."""
    labels_B: Tensor | None = None
    """Class indices, int64; None where the stage learns from valence and arousal."""

    def to(self, device: torch.device, dtype: torch.dtype) -> Batch:
        """The same batch on another device, signals and coordinates in another dtype."""
        return replace(
            self,
            groups=tuple(group.to(device, dtype) for group in self.groups),
            va_B2=self.va_B2.to(device, non_blocking=True).to(dtype),
            labels_B=None if self.labels_B is None else self.labels_B.to(device, non_blocking=True),
        )

    @property
    def positions_B(self) -> Tensor:
        """Places in the global batch, in the order of `va_B2`."""
        return torch.cat([group.positions_B for group in self.groups])
