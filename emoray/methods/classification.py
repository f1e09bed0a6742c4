"""Stages that tell classes apart: all that they share, whatever the module is.

One optimizer, one schedule and one rule of choice for every arm and every baseline, so that a
difference between two rows of a table is one between models. Shapes: B segments, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emoray.batches.batch import Batch, Group
from emoray.batches.distributed import gather_in_order
from emoray.methods.base import EachSegmentOnce, InputSpec
from emoray.methods.counter_draws import DropoutKey
from emoray.methods.settings import ClassifierConfig


class Classification(EachSegmentOnce):
    """A stage trained by cross-entropy; those derived from it say what is built.

    Its module's forward takes groups and a `DropoutKey` (None: no dropout) and gives (B, K).
    """

    target = "label"

    @classmethod
    def label_share(cls, config: ClassifierConfig) -> float:
        """As its settings say."""
        return config.labels

    @property
    def spec(self) -> InputSpec:
        """What it is built for, where it reads one stream.

        Raises:
            ValueError: the run's segments are not all of one shape, or have no classes.
        """
        (stream,) = self.streams
        shape = self.inputs[stream]
        if not self.inputs.n_outputs:
            raise ValueError("need class labels, got none")
        return InputSpec(shape.channels, shape.sfreq, shape.n_times, self.inputs.n_outputs)

    def chance_loss(self, n_segments: int) -> float:
        """Cross-entropy of equal scores for all classes."""
        return math.log(self.inputs.n_outputs)

    def losses(self, module: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        """Mean cross-entropy of the step's segments, those of all workers."""
        label_B = batch["label"]
        key = DropoutKey(seed=self.seed, step=batch.step)
        scores_BK = module(batch.groups, key).float()
        scores_BK, label_B = gather_in_order(batch.positions_B, scores_BK, label_B)
        return {"cross_entropy": F.cross_entropy(scores_BK, label_B)}

    @torch.no_grad()
    def scores(self, module: nn.Module, groups: Sequence[Group]) -> Tensor:
        """Class scores of segments, (B, K)."""
        scores_BK: Tensor = module(groups, None)
        return scores_BK.float()
