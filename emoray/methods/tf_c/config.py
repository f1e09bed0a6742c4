"""TF-C's settings: plain data, so that options are parsed before torch is loaded.

Source: Zhang et al., "Self-Supervised Contrastive Pre-Training for Time Series via Time-Frequency
Consistency", NeurIPS 2022; "released code" is mims-harvard/TFC-pretraining. It has two networks:
here that of convolutions. The later one has transformers that attend from one segment of a batch
to another, so that a score depends on what else is scored, and of ECG of 10 s 210 million
parameters. Where nothing else is said, values are those of the code's configuration for ECG (5 s at
300 Hz).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from emoray.methods import time_series
from emoray.methods.settings import (
    REHEARSAL,
    ClassifierConfig,
    OptimizerConfig,
    StepsConfig,
)
from emoray.methods.time_series import ConvConfig


def _blocks() -> ConvConfig:
    return ConvConfig(kernels=(8, 8, 8), stride=1)


@dataclass(frozen=True)
class EncoderConfig:
    """Two networks of one shape: of the signal in time, and of its spectrum."""

    blocks: ConvConfig = field(default_factory=_blocks)
    """Convolutions of each."""
    n_hidden: int = 256
    """Of each projector, whose two layers bring both to one space."""
    width: int = 128
    """Of that space."""

    def __post_init__(self) -> None:
        if min(self.n_hidden, self.width) < 1:
            raise ValueError(
                f"need n_hidden and width of at least 1, got {self.n_hidden} and {self.width}"
            )


@dataclass(frozen=True)
class AugmentConfig:
    """How far the other view of the signal, and of its spectrum, goes."""

    jitter_sd: float = 0.8
    """Standard deviation of the noise that is added to the signal, in its units."""
    removed: float = 0.1
    """Share of the spectrum's amplitudes that become zero."""
    added: float = 0.1
    """Share of them to which something is added."""
    most_added: float = 0.1
    """Up to this share of the lead's largest amplitude."""

    def __post_init__(self) -> None:
        if self.jitter_sd < 0 or self.most_added < 0:
            raise ValueError(
                "need jitter_sd and most_added of at least 0, "
                f"got {self.jitter_sd:g} and {self.most_added:g}"
            )
        if not (0 <= self.removed <= 1 and 0 <= self.added <= 1):
            raise ValueError(
                f"need removed and added in [0, 1], got {self.removed:g} and {self.added:g}"
            )


@dataclass(frozen=True)
class PretrainConfig(StepsConfig):
    """Everything that decides what contrasting time and frequency computes."""

    fewest: ClassVar[int] = 2
    """Batches are normalised and contrasted."""
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    """Architecture."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """The views."""
    temperature: float = 0.2
    """Of all three contrasts."""
    view_weight: float = 0.2
    """Of the contrast of views, in time and in frequency; 1 is that of their consistency."""
    optimizer: OptimizerConfig = field(default_factory=time_series.optimizer)
    """Weight updates. Of ECG the released code has a rate of 3e-6, with 3e-4 beside it, which all
    its other data have."""
    epochs: int = 40
    """Epochs; of ECG the released code has 100, with 40 beside it, which its other data have."""
    batch_size: int = 128
    """Segments of a step."""


@dataclass(frozen=True)
class ClassifyConfig(ClassifierConfig):
    """Everything that decides what the classifier computes.

    As the released code's fine-tuning, both projections of a segment through one hidden layer,
    encoder and all trained. There pretraining's losses are added to the cross-entropy, and the
    epoch is reported that tests best; here it is the best one on validation.
    """

    fewest: ClassVar[int] = 2
    """Batches are normalised and contrasted."""
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    """Architecture; the same as pretraining's."""
    n_hidden: int = 64
    """Of the hidden layer, with sigmoids after it; 0 for a linear layer alone."""
    optimizer: OptimizerConfig = field(default_factory=time_series.optimizer)
    """Weight updates."""
    epochs: int = 40
    """Epochs."""
    batch_size: int = 128
    """Segments of a step. The released code has as many as it fine-tunes on: 41 of ECG's target."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_hidden < 0:
            raise ValueError(f"need n_hidden of at least 0, got {self.n_hidden}")


def _small() -> EncoderConfig:
    """An encoder for rehearsals on a CPU: a hundredth of the multiplications."""
    blocks = ConvConfig(n_filters=(4, 8, 8), kernels=(8, 8, 8), stride=3, dropout=0.1)
    return EncoderConfig(blocks, n_hidden=32, width=16)


def rehearsal_pretrain_config() -> PretrainConfig:
    """Settings that learn to contrast rehearsal data within seconds on a CPU core."""
    return PretrainConfig(
        encoder=_small(),
        optimizer=OptimizerConfig(name="adam", schedule="constant", learning_rate=3e-3),
        epochs=6,
        batch_size=8,
    )


def rehearsal_classify_config() -> ClassifyConfig:
    """Settings that tell rehearsal data's classes apart within seconds on a CPU core."""
    return ClassifyConfig(encoder=_small(), n_hidden=16, **REHEARSAL)
