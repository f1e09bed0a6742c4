"""SSL-ECG's stages: recognising transformations, then telling emotions.

Transformations are recognised twice over, by the same code on other data. `pretext` is of one fold
and sees its training part only, as the paper's does, and nothing of what chooses the epoch or
tests: all tables are made with it. Other than the paper's, whose training part is that of all four
datasets together, it sees the fold's one dataset. `pretrain` is of whole datasets, once, for an
encoder that others start from; where one of them is tested later, the audit calls the score
contaminated.

Source: Sarkar & Etemad, "Self-supervised ECG Representation Learning for Emotion Recognition".
Their settings are in `config`. Shapes: B segments, V = 7 versions of each, H = 7 tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor, nn

from emoray.batches.batch import Batch
from emoray.batches.distributed import gather_in_order
from emoray.methods import counter_draws
from emoray.methods.base import EachSegmentOnce, Inputs, Stage, Start
from emoray.methods.classification import Classification
from emoray.methods.counter_draws import DropoutKey
from emoray.methods.ecg_segments import RECIPES
from emoray.methods.ssl_ecg import config as settings
from emoray.methods.ssl_ecg.config import EmotionConfig, EncoderConfig, PretextConfig
from emoray.methods.ssl_ecg.loss import chance_loss, recognition_losses
from emoray.methods.ssl_ecg.model import EmotionNetwork, PretextNetwork, lead_of
from emoray.methods.ssl_ecg.transforms import versions
from emoray.runtime.config import from_dict, to_dict


class Pretext(EachSegmentOnce):
    """The stage `pretext`: which transformation a segment went through, without any label.

    Of one fold: a segment that tests is seen by no stage before it is scored.
    """

    config_type = PretextConfig
    streams = ("ecg",)
    recipes = RECIPES

    def __init__(
        self,
        config: PretextConfig,
        inputs: Inputs | None = None,
        starts: Mapping[str, Start] | None = None,
    ) -> None:
        super().__init__(config, inputs or Inputs(), starts or {})
        self.config = config

    @classmethod
    def rehearsal(cls) -> PretextConfig:
        """Few filters and small steps."""
        return settings.rehearsal_pretext_config()

    @property
    def loss_weights(self) -> Mapping[str, float]:
        """Of the tasks, by name."""
        return asdict(self.config.weights)

    def build(self) -> PretextNetwork:
        """Encoder and heads, the same weights for the same seed."""
        with self.seeded():
            return PretextNetwork(self.config)

    def chance_loss(self, n_segments: int) -> float:
        """Each task says of every version that it is one of seven."""
        return sum(self.loss_weights.values()) * chance_loss()

    def losses(self, module: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        """Of each task, the mean over all versions of all segments of all workers."""
        key = DropoutKey(seed=self.seed, step=batch.step)
        x_BVT, key_B = [], []
        for group in batch.groups:
            drawn_B, masked_B = (
                counter_draws.segment_keys(key, group.positions_B, purpose)
                for purpose in (counter_draws.AUGMENTATION, counter_draws.DROPOUT)
            )
            x_BT = lead_of(group, self.config.leads)
            x_BVT.append(versions(x_BT, drawn_B, self.config.transformations))
            key_B.append(masked_B)
        logits_BVH = module(x_BVT, key_B)
        if logits_BVH.dtype is torch.bfloat16:
            logits_BVH = logits_BVH.float()
        (logits_BVH,) = gather_in_order(batch.positions_B, logits_BVH)
        return recognition_losses(logits_BVH)


class Pretrain(Pretext):
    """The stage `pretrain`: the same over whole datasets, all people but those held out."""

    scope = "corpus"


class Emotion(Classification):
    """The stage `emotion`: classes, on convolutions that stay as the pretext left them.

    Without a start all is trained from scratch: the paper's fully-supervised network.
    """

    config_type = EmotionConfig
    streams = ("ecg",)
    recipes = RECIPES
    may_start_from = ("encoder",)

    def __init__(self, config: EmotionConfig, inputs: Inputs, starts: Mapping[str, Start]) -> None:
        super().__init__(config, inputs, starts)
        self.config = config
        if "encoder" in starts:
            _check_same(config, starts["encoder"].config)

    @classmethod
    def rehearsal(cls) -> EmotionConfig:
        """Few filters, and few epochs of small batches."""
        return settings.rehearsal_emotion_config()

    @classmethod
    def following(
        cls, config: EmotionConfig, starts: Mapping[str, Mapping[str, Any]]
    ) -> EmotionConfig:
        """With the encoder that the checkpoint holds, and the lead that it was trained on."""
        if "encoder" not in starts:
            return config
        if not {"encoder", "leads"} <= set(starts["encoder"]):
            raise ValueError("need a checkpoint of SSL-ECG, got another")
        stored = from_dict(EncoderConfig, starts["encoder"]["encoder"])
        return replace(config, encoder=stored, leads=starts["encoder"]["leads"])

    def build(self) -> EmotionNetwork:
        """Encoder, with the pretext's weights where there are any, and new layers."""
        with self.seeded():
            module = EmotionNetwork(self.config, self.spec.n_outputs)
        if "encoder" in self.starts:
            module.encoder.load_state_dict(self.starts["encoder"].part("encoder"))
            module.encoder.requires_grad_(not self.config.frozen)
        return module


def _check_same(wanted: EmotionConfig, trained: Mapping[str, Any]) -> None:
    """Refuse weights of other convolutions.

    Raises:
        ValueError: names what differs.
    """
    if "encoder" not in trained:
        raise ValueError("need a checkpoint of SSL-ECG, got one without settings of an encoder")
    stored = trained["encoder"]
    different = [
        f"encoder.{name} {value!r} instead of {stored.get(name)!r}"
        for name, value in to_dict(wanted.encoder).items()
        if stored.get(name) != value
    ]
    if different:
        raise ValueError(
            "need the encoder that the checkpoint was trained with, got " + ", ".join(different)
        )


STAGES: Mapping[str, type[Stage]] = {
    "pretext": Pretext,
    "pretrain": Pretrain,
    "emotion": Emotion,
}
"""Stages by name."""
