"""What a method offers to the one training loop, and what the loop hands it.

Shapes: B segments of one worker's share of a step, C electrodes, T samples, K classes,
2 = (valence, arousal).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from emoray.batches.batch import Batch, Group
from emoray.methods.settings import OptimizerConfig, Precision


class Embedder(Protocol):
    """A module whose frozen embeddings can be read out."""

    def embed(self, groups: Sequence[Group]) -> Tensor:
        """Embeddings (B, Z), the groups' segments one after the other."""
        ...


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


@dataclass(frozen=True, slots=True)
class InputSpec:
    """What a classifier is built for: a dataset's segments and classes, in braindecode's words."""

    channels: tuple[str, ...]
    """Electrodes, canonical names, in the order of the arrays."""
    sfreq: float
    """Hz."""
    n_times: int
    """Samples of a segment."""
    n_outputs: int
    """Classes."""

    @property
    def n_chans(self) -> int:
        """Electrodes."""
        return len(self.channels)

    @property
    def input_window_seconds(self) -> float:
        """Seconds of a segment."""
        return self.n_times / self.sfreq


@dataclass(frozen=True, slots=True)
class Start:
    """A trained module that a stage may start from."""

    config: Mapping[str, Any]
    """Of the stage that trained it, as a plain dict."""
    model: Mapping[str, Tensor]
    """Its weights by name, on the CPU."""


class ClassifierStage(Stage, Protocol):
    """A stage whose module tells classes apart, and whose best epoch is chosen on validation."""

    @property
    def spec(self) -> InputSpec:
        """What it is built for."""
        ...

    @property
    def batch_size(self) -> int:
        """Segments of a step."""
        ...

    @property
    def start_words(self) -> str:
        """Where its weights come from: `from scratch`, `pretrained` ..."""
        ...

    def scores(self, module: nn.Module, groups: Sequence[Group]) -> Tensor:
        """Class scores of segments, (B, K), without dropout; the module is in evaluation mode."""
        ...

    def n_parameters(self, module: nn.Module) -> Mapping[str, int]:
        """Trainable numbers of the `encoder` and of the `head` that replaces what it had before."""
        ...
