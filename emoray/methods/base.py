"""What a method offers to the one training loop, and what the loop hands it.

Shapes: B segments of one worker's share of a step, C electrodes, T samples,
2 = (valence, arousal).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

Precision = Literal["float32", "bf16", "float64"]


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
    """Valence and arousal in [-4, 4], the groups' segments one after the other."""

    def to(self, device: torch.device, dtype: torch.dtype) -> Batch:
        """The same batch on another device, signals and coordinates in another dtype."""
        return replace(
            self,
            groups=tuple(group.to(device, dtype) for group in self.groups),
            va_B2=self.va_B2.to(device, non_blocking=True).to(dtype),
        )

    @property
    def positions_B(self) -> Tensor:
        """Places in the global batch, in the order of `va_B2`."""
        return torch.cat([group.positions_B for group in self.groups])


class Embedder(Protocol):
    """A module whose frozen embeddings can be read out."""

    def embed(self, groups: Sequence[Group]) -> Tensor:
        """Embeddings (B, Z), the groups' segments one after the other."""
        ...


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW, cosine schedule over epochs, clipped gradients."""

    learning_rate: float = 5e-4
    """At the first epoch (paper, Pretraining Settings)."""
    min_learning_rate: float = 1e-7
    """Towards which the cosine falls (paper)."""
    weight_decay: float = 1e-4
    """AdamW's (paper)."""
    clip_norm: float = 3.0
    """Largest norm of the gradient of all parameters together (paper)."""

    def __post_init__(self) -> None:
        if self.learning_rate <= 0 or self.min_learning_rate < 0:
            raise ValueError(
                "need learning_rate > 0 and min_learning_rate >= 0, "
                f"got {self.learning_rate:g} and {self.min_learning_rate:g}"
            )
        if self.clip_norm <= 0:
            raise ValueError(f"need clip_norm > 0, got {self.clip_norm:g}")


class Stage(Protocol):
    """One phase of a method: a module, and how a batch becomes losses."""

    @property
    def seed(self) -> int:
        """Of the initial weights and of every mask drawn during the stage."""
        ...

    @property
    def epochs(self) -> int:
        """How many; one draws as many segments as there are."""
        ...

    @property
    def optimizer(self) -> OptimizerConfig:
        """How weights are updated."""
        ...

    @property
    def precision(self) -> Precision:
        """Of the forward pass; `bf16` is autocast over float32 weights."""
        ...

    @property
    def compile(self) -> bool:
        """Whether the module runs through torch.compile."""
        ...

    def build(self) -> nn.Module:
        """The module with its initial weights, the same for the same seed."""
        ...

    def blind_loss(self, n_segments: int) -> float:
        """What `total` is where no two of a step's segments are told apart."""
        ...

    def losses(self, module: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        """Named scalars of the *global* batch; `total` is the one that is minimised."""
        ...
