"""TS-TCC's stages: contrasting two views of a segment, then telling classes.

Source: Eldele et al., "Time-Series Representation Learning via Temporal and Contextual
Contrasting". Settings are in `config`. Shapes: B segments of the global batch, V = 2 views, K
features ahead, D width of a feature, Z width of a projection.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emoray.batches.batch import Batch
from emoray.batches.distributed import gather_in_order
from emoray.methods import counter_draws, ecg_segments
from emoray.methods.base import EachSegmentOnce, Inputs, Stage, Start
from emoray.methods.contrast import nt_xent
from emoray.methods.conv_blocks import keys_of, segments_of
from emoray.methods.counter_draws import DropoutKey
from emoray.methods.fine_tuning import FineTuning
from emoray.methods.ts_tcc import config as settings
from emoray.methods.ts_tcc.augment import views
from emoray.methods.ts_tcc.config import ClassifyConfig, PretrainConfig
from emoray.methods.ts_tcc.loss import temporal_contrast
from emoray.methods.ts_tcc.model import Classifier, PretrainNetwork


class Pretrain(EachSegmentOnce):
    """The stage `pretrain`: which segment's past fits a future, of two views of each."""

    config_type = PretrainConfig
    streams = ("ecg",)
    recipes = ecg_segments.RECIPES

    def __init__(self, config: PretrainConfig, inputs: Inputs, starts: Mapping[str, Start]) -> None:
        super().__init__(config, inputs, starts)
        self.config = config

    @classmethod
    def rehearsal(cls) -> PretrainConfig:
        """Few filters, one layer of context and small steps."""
        return settings.rehearsal_pretrain_config()

    @property
    def loss_weights(self) -> Mapping[str, float]:
        """Of both contrasts."""
        return {
            "temporal": self.config.temporal_weight,
            "contextual": self.config.contextual_weight,
        }

    def build(self) -> PretrainNetwork:
        """Encoder and contrasts, the same weights for the same seed.

        Raises:
            ValueError: segments too short for their future.
        """
        self._n_ends()
        with self.seeded():
            return PretrainNetwork(self.config, self.inputs["ecg"])

    def chance_loss(self, n_segments: int) -> float:
        """Equal scores for all: of the segments in each direction, of the other views."""
        temporal, contextual = 2 * math.log(n_segments), math.log(2 * n_segments - 1)
        weights = self.loss_weights
        return weights["temporal"] * temporal + weights["contextual"] * contextual

    def n_past(self, step: int) -> int:
        """Features that are the past in a step, the same for all segments and both directions.

        Drawn from 1 to as many as leave a whole future. The released code draws one for each
        direction.
        """
        key = counter_draws.step_key(DropoutKey(self.seed, step), counter_draws.AUGMENTATION)
        return 1 + int(counter_draws.uniforms(key[None], 1) * self._n_ends())

    def losses(self, module: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        """Both contrasts over the segments of all workers."""
        key = DropoutKey(seed=self.seed, step=batch.step)
        drawn_B, masked_B = (
            keys_of(batch.groups, key, purpose)
            for purpose in (counter_draws.AUGMENTATION, counter_draws.DROPOUT)
        )
        x_BCT = segments_of(batch.groups, self.inputs["ecg"])
        both = views(x_BCT, drawn_B, self.config.augment)
        found = module(both, masked_B, self.n_past(batch.step))
        found = [x.float() if x.dtype is torch.bfloat16 else x for x in found]
        predicted, future, projected = gather_in_order(batch.positions_B, *found)
        z_1_BZ, z_2_BZ = F.normalize(projected, dim=-1).unbind(1)
        return {
            "temporal": temporal_contrast(predicted[:, 0], future[:, 1])
            + temporal_contrast(predicted[:, 1], future[:, 0]),
            "contextual": nt_xent(z_1_BZ, z_2_BZ, temperature=self.config.temperature),
        }

    def _n_ends(self) -> int:
        """At how many features the past may end.

        Raises:
            ValueError: at none.
        """
        n_times, n_future = self.inputs["ecg"].n_times, self.config.context.n_future
        n_features = self.config.encoder.n_features(n_times)
        if n_features <= n_future:
            raise ValueError(
                f"need segments of more than n_future = {n_future} features, got {n_features} of "
                f"{n_times} samples"
            )
        return n_features - n_future


class Classify(FineTuning):
    """The stage `classify`: classes, on an encoder that is trained as well."""

    config_type = ClassifyConfig
    streams = ("ecg",)
    recipes = ecg_segments.RECIPES
    words = "TS-TCC"

    def __init__(self, config: ClassifyConfig, inputs: Inputs, starts: Mapping[str, Start]) -> None:
        super().__init__(config, inputs, starts)
        self.config = config

    @classmethod
    def rehearsal(cls) -> ClassifyConfig:
        """Few filters, and few epochs of small batches."""
        return settings.rehearsal_classify_config()

    def network(self) -> Classifier:
        """Convolutions and a linear layer."""
        return Classifier(self.config, self.spec)


STAGES: Mapping[str, type[Stage]] = {"pretrain": Pretrain, "classify": Classify}
"""Stages by name."""
