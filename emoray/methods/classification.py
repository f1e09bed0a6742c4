"""Stages that tell classes apart: all that they share, whatever the module is.

One optimizer, one schedule and one rule of choice for every arm and every baseline, so that a
difference between two rows of a table is one between models. Shapes: B segments, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emoray.methods.base import (
    Batch,
    Group,
    InputSpec,
    OptimizerConfig,
    Precision,
    Start,
)
from emoray.methods.draws import DropoutKey


@dataclass(frozen=True)
class ClassifierConfig:
    """How any classifier is trained. The paper says cross-entropy and five seeds, nothing else."""

    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """Weight updates: pretraining's, the same for every arm. The released code trains from scratch
    with AdamW and pretrained encoders with Adam at half the rate, which compares optimizers too."""
    epochs: int = 50
    """Epochs; the best by validation kappa is kept. CBraMod's, whose splits EMOD takes."""
    batch_size: int = 64
    """Segments of a step. CBraMod's."""
    precision: Precision = "float32"
    """Of the forward pass: `bf16` is autocast, for GPUs; `float64` is for comparisons."""
    compile: bool = False
    """Run the model through torch.compile: a slow first step, faster ones after it."""
    seed: int = 0
    """Of weights, order of segments and dropout."""

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1:
            raise ValueError(
                f"need epochs and batch_size of at least 1, got {self.epochs} and {self.batch_size}"
            )


REHEARSAL: Mapping[str, Any] = {
    "optimizer": OptimizerConfig(learning_rate=2e-3),
    "epochs": 8,
    "batch_size": 8,
}
"""Of every classifier in a rehearsal, so that there too rows differ by their model alone. 60
segments, all that a fold of SEED with subjects and stimuli apart trains on, make 64 steps; in 16,
of half the epochs and batches twice as large, nothing is learned there."""


class Classification:
    """A stage trained by cross-entropy; those derived from it say what is built.

    Its module's forward takes groups and a `DropoutKey` (None: no dropout) and gives (B, K).
    """

    def __init__(self, config: ClassifierConfig, spec: InputSpec, start: Start | None) -> None:
        self._shared = config
        self._spec = spec
        self.start = start

    @property
    def spec(self) -> InputSpec:
        """What it is built for."""
        return self._spec

    @staticmethod
    def elsewhere(config: Any) -> Mapping[str, Any] | None:
        """What names weights that these settings take from elsewhere, `words` among it; or None."""
        return None

    @staticmethod
    def known_to(config: Any) -> tuple[str, ...]:
        """Datasets that such weights are known to have been trained on, whole."""
        return ()

    @property
    def seed(self) -> int:
        """Of the initial weights and of every mask."""
        return self._shared.seed

    @property
    def epochs(self) -> int:
        """How many; one draws every segment once."""
        return self._shared.epochs

    @property
    def batch_size(self) -> int:
        """Segments of a step."""
        return self._shared.batch_size

    @property
    def optimizer(self) -> OptimizerConfig:
        """How weights are updated."""
        return self._shared.optimizer

    @property
    def precision(self) -> Precision:
        """Of the forward pass."""
        return self._shared.precision

    @property
    def compile(self) -> bool:
        """Whether the module runs through torch.compile."""
        return self._shared.compile

    @property
    def start_words(self) -> str:
        """Where its weights come from."""
        return "from scratch" if self.start is None else "pretrained"

    def blind_loss(self, n_segments: int) -> float:
        """Cross-entropy of equal scores for all classes."""
        return math.log(self.spec.n_outputs)

    def losses(self, module: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        """Mean cross-entropy of the step's segments.

        Raises:
            ValueError: the batch has no labels.
        """
        if batch.labels_B is None:
            raise ValueError("need a batch with labels, got one without")
        key = DropoutKey(seed=self.seed, step=batch.step)
        scores_BK = module(batch.groups, key)
        return {"total": F.cross_entropy(scores_BK.float(), batch.labels_B)}

    @torch.no_grad()
    def scores(self, module: nn.Module, groups: Sequence[Group]) -> Tensor:
        """Class scores of segments, (B, K)."""
        scores_BK: Tensor = module(groups, None)
        return scores_BK.float()

    def n_parameters(self, module: nn.Module) -> Mapping[str, int]:
        """Trainable numbers of the module's `head`, and of all the rest as `encoder`."""
        head = count(getattr(module, "head", None))
        return {"encoder": count(module) - head, "head": head}


def count(module: nn.Module | None) -> int:
    """Trainable numbers of a module; 0 of none."""
    return 0 if module is None else sum(p.numel() for p in module.parameters() if p.requires_grad)
