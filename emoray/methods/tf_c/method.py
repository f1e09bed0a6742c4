"""TF-C's stages: contrasting time and frequency, then telling classes.

Source: Zhang et al., "Self-Supervised Contrastive Pre-Training for Time Series via Time-Frequency
Consistency". Settings are in `config`. Shapes: B segments, C leads, T samples or amplitudes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from emoray.batches.batch import Batch
from emoray.batches.distributed import gather_in_order
from emoray.methods import counter_draws, ecg_segments
from emoray.methods.base import EachSegmentOnce, Inputs, Stage, Start
from emoray.methods.conv_blocks import keys_of, segments_of
from emoray.methods.counter_draws import DropoutKey
from emoray.methods.fine_tuning import FineTuning
from emoray.methods.tf_c import config as settings
from emoray.methods.tf_c.augment import jittered, perturbed, spectrum
from emoray.methods.tf_c.config import ClassifyConfig, PretrainConfig
from emoray.methods.tf_c.loss import contrasts
from emoray.methods.tf_c.model import Classifier, PretrainNetwork


class Pretrain(EachSegmentOnce):
    """The stage `pretrain`: views of a segment, its signal and its spectrum are to be alike."""

    config_type = PretrainConfig
    streams = ("ecg",)
    recipes = ecg_segments.RECIPES

    def __init__(self, config: PretrainConfig, inputs: Inputs, starts: Mapping[str, Start]) -> None:
        super().__init__(config, inputs, starts)
        self.config = config

    @classmethod
    def rehearsal(cls) -> PretrainConfig:
        """Few filters and small steps."""
        return settings.rehearsal_pretrain_config()

    @property
    def loss_weights(self) -> Mapping[str, float]:
        """Of the three contrasts."""
        of_views = self.config.view_weight
        return {"time": of_views, "frequency": of_views, "consistency": 1.0}

    def build(self) -> PretrainNetwork:
        """The encoder, the same weights for the same seed."""
        with self.seeded():
            return PretrainNetwork(self.config.encoder, self.inputs["ecg"])

    def chance_loss(self, n_segments: int) -> float:
        """Equal similarity to all others."""
        return sum(self.loss_weights.values()) * math.log(2 * n_segments - 1)

    def losses(self, module: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        """The three contrasts over the segments of all workers."""
        key = DropoutKey(seed=self.seed, step=batch.step)
        drawn_B, masked_B = (
            keys_of(batch.groups, key, purpose)
            for purpose in (counter_draws.AUGMENTATION, counter_draws.DROPOUT)
        )
        x_BCT = segments_of(batch.groups, self.inputs["ecg"])
        f_BCT = spectrum(x_BCT)
        in_time = x_BCT, jittered(x_BCT, drawn_B, self.config.augment)
        in_frequency = f_BCT, perturbed(f_BCT, drawn_B, self.config.augment)
        found = module(in_time, in_frequency, masked_B)
        found = [x.float() if x.dtype is torch.bfloat16 else x for x in found]
        h_t, other_t, z_t, h_f, other_f, z_f = gather_in_order(batch.positions_B, *found)
        temperature = self.config.temperature
        return contrasts((h_t, other_t, z_t), (h_f, other_f, z_f), temperature=temperature)


class Classify(FineTuning):
    """The stage `classify`: classes, on an encoder that is trained as well."""

    config_type = ClassifyConfig
    streams = ("ecg",)
    recipes = ecg_segments.RECIPES
    words = "TF-C"

    def __init__(self, config: ClassifyConfig, inputs: Inputs, starts: Mapping[str, Start]) -> None:
        super().__init__(config, inputs, starts)
        self.config = config

    @classmethod
    def rehearsal(cls) -> ClassifyConfig:
        """Few filters, and few epochs of small batches."""
        return settings.rehearsal_classify_config()

    def network(self) -> Classifier:
        """Convolutions of time and frequency, and their classifier."""
        return Classifier(self.config, self.spec)


STAGES: Mapping[str, type[Stage]] = {"pretrain": Pretrain, "classify": Classify}
"""Stages by name."""
