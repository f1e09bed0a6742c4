"""EMOD's stages, pretraining and fine-tuning: a batch turned into a loss.

Source: Chen et al., EMOD, "V-A Guided Contrastive Learning". Their settings are in `config`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from emoray.batches.batch import Batch, Group
from emoray.batches.distributed import gather_with_grad
from emoray.batches.sampling import RegionRounds
from emoray.methods import counter_draws
from emoray.methods.base import Inputs, Stage, Start
from emoray.methods.classification import Classification
from emoray.methods.contrast import nt_xent
from emoray.methods.emod.augment import augmented
from emoray.methods.emod.config import (
    Config,
    EncoderConfig,
    FinetuneConfig,
    rehearsal_config,
    rehearsal_finetune_config,
)
from emoray.methods.emod.loss import hard_va_contrast, soft_va_contrast
from emoray.methods.emod.model import DropoutKey, EmodClassifier, EmodPretraining, Encoder
from emoray.runtime.config import from_dict, to_dict


class Pretraining(Stage):
    """The stage `pretrain` of EMOD."""

    config_type = Config
    scope = "corpus"
    target = "va"

    def __init__(
        self,
        config: Config,
        inputs: Inputs | None = None,
        starts: Mapping[str, Start] | None = None,
    ) -> None:
        super().__init__(config, inputs or Inputs(), starts or {})
        self.config = config

    @classmethod
    def rehearsal(cls) -> Config:
        """A small encoder that learns what is planted within minutes."""
        return rehearsal_config()

    @classmethod
    def encoder(cls, config: Mapping[str, Any], inputs: Inputs) -> Encoder:
        """Of any montage."""
        return Encoder(from_dict(EncoderConfig, config["encoder"]))

    @classmethod
    def unread(cls, config: Config, starts: Collection[str]) -> tuple[str, ...]:
        """The radius, where no V-A distance is looked at."""
        return () if config.loss.objective == "soft_va" else ("loss.d_max",)

    @classmethod
    def sharing(cls, config: Config, n_workers: int) -> Config:
        """A round for each worker."""
        return replace(config, rounds_per_step=n_workers)

    @property
    def sampling(self) -> RegionRounds:
        """Rounds that hold each region of each dataset once."""
        return RegionRounds(self.config.rounds_per_step, self.config.empty)

    def build(self) -> EmodPretraining:
        """Encoder and projection head, the same weights for the same seed."""
        with self.seeded():
            return EmodPretraining(self.config.encoder)

    def chance_loss(self, n_segments: int) -> float:
        """Equal similarities give each of the other embeddings an equal share of the softmax."""
        n_embeddings = 2 * n_segments if self.config.loss.objective == "augment" else n_segments
        return math.log(n_embeddings - 1)

    def losses(self, module: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        """The contrastive loss over the global batch: every worker computes the same value."""
        key = DropoutKey(seed=self.config.seed, step=batch.step)
        if self.config.loss.objective == "augment":
            return {"contrast": self._augmentation_loss(module, batch, key)}
        z_BD, va_B2 = _gathered_in_order(batch, module(batch.groups, key), batch["va"])
        return {"contrast": self._emotion_loss(z_BD, va_B2)}

    def _emotion_loss(self, z_BD: Tensor, va_B2: Tensor) -> Tensor:
        loss = self.config.loss
        if loss.objective == "hard_va":
            return hard_va_contrast(z_BD, va_B2, temperature=loss.temperature)
        return soft_va_contrast(z_BD, va_B2, temperature=loss.temperature, d_max=loss.d_max)

    def _augmentation_loss(self, module: nn.Module, batch: Batch, key: DropoutKey) -> Tensor:
        """Two views of every segment in one forward pass; the second view's masks differ.

        Instances are told apart, not emotions: Eq. 4 with one positive each.
        """
        first = [augmented(group, key, view=0) for group in batch.groups]
        second = [_shifted(augmented(group, key, view=1)) for group in batch.groups]
        z_1_BD, z_2_BD = module((*first, *second), key).chunk(2)
        z_1_BD, z_2_BD = _gathered_in_order(batch, z_1_BD, z_2_BD)
        return nt_xent(z_1_BD, z_2_BD, temperature=self.config.loss.temperature)


def _shifted(group: Group) -> Group:
    return replace(group, positions_B=group.positions_B + counter_draws.SECOND_VIEW)


def _gathered_in_order(batch: Batch, *columns: Tensor) -> tuple[Tensor, ...]:
    """Rows of all workers, in the order of their places in the step: floats of one batch axis.

    The same order on any number of workers, so that sums run in the same order too. One gather
    for all columns; places stay exact in float32 up to 2**24.
    """
    columns = tuple(
        column.float() if column.dtype is torch.bfloat16 else column for column in columns
    )
    places_B1 = batch.positions_B[:, None].to(columns[0].dtype)
    rows = gather_with_grad(torch.cat([places_B1, *columns], dim=1))
    rows = rows[torch.argsort(rows[:, 0])]
    widths = [column.shape[1] for column in columns]
    return torch.split(rows[:, 1:], widths, dim=1)


class Finetuning(Classification):
    """The stage `finetune` of EMOD: a classifier on the encoder, all of it trained."""

    config_type = FinetuneConfig
    may_start_from = ("encoder",)

    def __init__(self, config: FinetuneConfig, inputs: Inputs, starts: Mapping[str, Start]) -> None:
        super().__init__(config, inputs, starts)
        self.config = config
        if "encoder" in starts:
            _check_same_encoder(config.encoder, starts["encoder"].config)

    @classmethod
    def rehearsal(cls) -> FinetuneConfig:
        """A small encoder, and few epochs of small batches."""
        return rehearsal_finetune_config()

    @classmethod
    def encoder(cls, config: Mapping[str, Any], inputs: Inputs) -> Encoder:
        """Of any montage."""
        return Encoder(from_dict(EncoderConfig, config["encoder"]))

    @classmethod
    def following(
        cls, config: FinetuneConfig, starts: Mapping[str, Mapping[str, Any]]
    ) -> FinetuneConfig:
        """With the encoder that the checkpoint holds; dropout and front end as asked for."""
        if "encoder" not in starts:
            return config
        if "encoder" not in starts["encoder"]:
            raise ValueError("need a checkpoint of EMOD, got another")
        stored = from_dict(EncoderConfig, starts["encoder"]["encoder"])
        own = {name: getattr(config.encoder, name) for name in _MAY_DIFFER}
        return replace(config, encoder=replace(stored, **own))

    def build(self) -> EmodClassifier:
        """Encoder, with the pretrained weights where there are any, and a new head."""
        with self.seeded():
            module = EmodClassifier(self.config.encoder, self.inputs.n_outputs, self.config.head)
        if "encoder" in self.starts:
            module.encoder.load_state_dict(self.starts["encoder"].part("encoder"))
        if self.config.frozen:
            module.encoder.requires_grad_(False)
        return module


_MAY_DIFFER = ("dropout", "frontend")
"""Of the encoder's settings: those that change no weight's meaning."""


def _check_same_encoder(wanted: EncoderConfig, trained: Mapping[str, Any]) -> None:
    """Refuse weights of another architecture.

    Raises:
        ValueError: names the settings that differ.
    """
    stored = trained.get("encoder")
    if stored is None:
        raise ValueError("need a checkpoint of EMOD, got one without settings of an encoder")
    different = [
        f"encoder.{name} {value!r} instead of {stored.get(name)!r}"
        for name, value in to_dict(wanted).items()
        if name not in _MAY_DIFFER and stored.get(name) != value
    ]
    if different:
        raise ValueError(
            "need the encoder that the checkpoint was trained with, got " + ", ".join(different)
        )


STAGES: Mapping[str, type[Stage]] = {"pretrain": Pretraining, "finetune": Finetuning}
"""Stages by name."""
