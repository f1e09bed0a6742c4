"""TS-TCC's settings: plain data, so that options are parsed before torch is loaded.

Source: Eldele et al., "Time-Series Representation Learning via Temporal and Contextual
Contrasting", IJCAI 2021; "released code" is emadeldeen24/TS-TCC. It has no configuration of ECG:
where nothing else is said, values are those of its sleep data, one channel of EEG, 30 s at 100 Hz.
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
from emoray.methods.time_series import ConvConfig, check_dropout


@dataclass(frozen=True)
class AugmentConfig:
    """How far the two views go. Not for z-scored ECG: the released code's of sleep."""

    scale_sd: float = 1.5
    """Weak view: standard deviation of the factors, whose mean is 2."""
    jitter_sd: float = 2.0
    """Strong view: standard deviation of the noise, in the units of the segments."""
    max_pieces: int = 11
    """Strong view: most pieces that change places. The released code names 12 and draws below."""

    def __post_init__(self) -> None:
        if min(self.scale_sd, self.jitter_sd) < 0 or self.max_pieces < 1:
            raise ValueError(
                "need scale_sd and jitter_sd of at least 0 and max_pieces of at least 1, "
                f"got {self.scale_sd:g}, {self.jitter_sd:g} and {self.max_pieces}"
            )


@dataclass(frozen=True)
class ContextConfig:
    """The transformer that sums up a segment's past, and what it predicts."""

    n_future: int = 50
    """Features ahead that are predicted, each by a map of its own. Of 127 that sleep has; ECG of
    10 s at 256 Hz has 109."""
    width: int = 64
    """Of the context."""
    n_layers: int = 4
    n_heads: int = 4
    n_hidden: int = 64
    """Between the two linear maps of a layer."""
    dropout: float = 0.1
    """After attention, and after each linear map of a layer."""

    def __post_init__(self) -> None:
        smallest = min(self.n_future, self.width, self.n_layers, self.n_heads, self.n_hidden)
        if smallest < 1 or self.width % self.n_heads:
            raise ValueError(
                "need sizes of the context of at least 1 and n_heads that divide its width, "
                f"got {self}"
            )
        check_dropout(self.dropout)


@dataclass(frozen=True)
class PretrainConfig(StepsConfig):
    """Everything that decides what contrasting two views computes."""

    fewest: ClassVar[int] = 2
    """Batches are normalised and contrasted."""
    encoder: ConvConfig = field(default_factory=ConvConfig)
    """Architecture."""
    context: ContextConfig = field(default_factory=ContextConfig)
    """Of the temporal contrast."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """The views."""
    temperature: float = 0.2
    """Of the contextual contrast. The temporal one has none."""
    temporal_weight: float = 1.0
    """Of both directions together (lambda 1)."""
    contextual_weight: float = 0.7
    """Lambda 2."""
    optimizer: OptimizerConfig = field(default_factory=time_series.optimizer)
    """Weight updates."""
    epochs: int = 40
    """Epochs."""
    batch_size: int = 128
    """Segments of a step."""


@dataclass(frozen=True)
class ClassifyConfig(ClassifierConfig):
    """Everything that decides what the classifier computes.

    As the released code's fine-tuning: a linear layer on the features of all times, encoder and all
    trained as in pretraining. There the last epoch counts; here the best one on validation.
    """

    fewest: ClassVar[int] = 2
    """Batches are normalised and contrasted."""
    encoder: ConvConfig = field(default_factory=ConvConfig)
    """Architecture; the same as pretraining's."""
    optimizer: OptimizerConfig = field(default_factory=time_series.optimizer)
    """Weight updates."""
    epochs: int = 40
    """Epochs."""
    batch_size: int = 128
    """Segments of a step."""


def _small() -> ConvConfig:
    """An encoder for rehearsals on a CPU: a hundredth of the multiplications."""
    return ConvConfig(n_filters=(4, 8, 16), dropout=0.1)


def rehearsal_pretrain_config() -> PretrainConfig:
    """Settings that learn to contrast rehearsal data within seconds on a CPU core."""
    return PretrainConfig(
        encoder=_small(),
        context=ContextConfig(n_future=4, width=16, n_layers=1, n_heads=2, n_hidden=16),
        augment=AugmentConfig(scale_sd=0.5, jitter_sd=0.5),
        optimizer=OptimizerConfig(name="adam", schedule="constant", learning_rate=1e-2),
        epochs=6,
        batch_size=8,
    )


def rehearsal_classify_config() -> ClassifyConfig:
    """Settings that tell rehearsal data's classes apart within seconds on a CPU core."""
    return ClassifyConfig(encoder=_small(), **REHEARSAL)
