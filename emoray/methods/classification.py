"""Stages that tell classes apart: all that they share, whatever the module is.

One optimizer, one schedule and one rule of choice for every arm and every baseline, so that a
difference between two rows of a table is one between models. Shapes: B segments, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emoray.batches.batch import Batch, Group
from emoray.methods.base import InputSpec, Start
from emoray.methods.counter_draws import DropoutKey
from emoray.methods.settings import ClassifierConfig, OptimizerConfig, Precision


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
