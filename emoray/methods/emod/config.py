"""EMOD's settings: plain data, so that options are parsed before torch is loaded.

Source: Chen et al., EMOD, "V-A Guided Contrastive Learning" and "Pretraining Settings". The
defaults are the paper's values.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from emoray.batches.sampling import EmptyPolicy
from emoray.methods.settings import REHEARSAL, ClassifierConfig, OptimizerConfig, Precision

HeadKind = Literal["linear", "mlp"]
Mode = Literal["chunked", "plain"]
"""How convolutions run (see `frontend`)."""


@dataclass(frozen=True)
class EncoderConfig:
    """Size and parts of the encoder; defaults are the paper's ("Pretraining Settings")."""

    d_model: int = 128
    """Width of a token, and filters of each convolution."""
    n_heads: int = 16
    """Heads of every attention."""
    n_layers: int = 3
    """Blocks of spatial attention, temporal attention and feed-forward."""
    d_feedforward: int = 512
    """Width inside the feed-forward layers."""
    kernel: int = 25
    """Length of both convolutions, in samples and in frequency bins; odd."""
    n_norm_groups: int = 4
    """Groups of the group normalisation."""
    tokens_per_s: float = 5.0
    """Time tokens per second of signal (released code; the paper's T')."""
    dropout: float = 0.1
    """After both attentions and in the feed-forward layers (released code; the paper is silent)."""
    spectrum: Literal["real", "magnitude"] = "real"
    """What of the Fourier coefficients is convolved; the released code takes the real part."""
    spectrum_max_hz: float | None = None
    """Pool 0 to this many Hz only, so that a token's Hz agree between datasets; None pools the
    whole spectrum, as released, whose width follows the sampling rate."""
    max_offset: int = 50
    """Distances in time tokens are told apart up to one less than this; longer ones share a row."""
    frontend: Mode = "chunked"
    """How the convolutions run: one result, other memory and speed (see `frontend`)."""
    frequency_tokens: bool = True
    """Figure 3, w/o FreqDomain."""
    time_tokens: bool = True
    """Figure 3, w/o TempDomain."""
    spatial_attention: bool = True
    """Figure 3, w/o SpatAttn."""
    temporal_attention: bool = True
    """Figure 3, w/o TempAttn."""
    electrode_embedding: bool = True
    """Figure 3, w/o SpatEmb."""
    relative_time: bool = True
    """Figure 3, w/o TempEnc."""

    def __post_init__(self) -> None:
        if self.d_model % self.n_heads or self.d_model % self.n_norm_groups:
            raise ValueError(
                f"need d_model divisible by n_heads and n_norm_groups, got {self.d_model}, "
                f"{self.n_heads} and {self.n_norm_groups}"
            )
        if self.kernel % 2 == 0:
            raise ValueError(f"need an odd kernel, got {self.kernel}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"need dropout in [0, 1), got {self.dropout}")
        if not (self.frequency_tokens or self.time_tokens):
            raise ValueError("need frequency_tokens or time_tokens, got neither")

    @classmethod
    def small(cls) -> EncoderConfig:
        """An encoder for rehearsals on a CPU: a twenty-fifth of the paper's parameters."""
        return cls(d_model=32, n_heads=4, n_layers=2, d_feedforward=64)


@dataclass(frozen=True)
class LossConfig:
    """What draws embeddings together."""

    objective: Literal["soft_va", "hard_va", "augment"] = "soft_va"
    """Table 3's arms: graded by V-A distance (Eq. 5-6), same V-A cell or not (Eq. 4), or two
    augmented views of one segment without any label."""
    temperature: float = 0.07
    """Tau of Eqs 4 and 6, > 0 (paper)."""
    d_max: float = 5.0
    """V-A distance from which a pair no longer attracts (Eq. 5), > 0. The paper says 5.0; the
    released code's sqrt(182) makes every pair attract."""

    def __post_init__(self) -> None:
        for name in ("temperature", "d_max"):
            if not getattr(self, name) > 0:
                raise ValueError(f"need loss.{name} > 0, got {getattr(self, name):g}")


@dataclass(frozen=True)
class Config:
    """Everything that decides what pretraining computes."""

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    """Architecture."""
    loss: LossConfig = field(default_factory=LossConfig)
    """Objective."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """Weight updates."""
    epochs: int = 100
    """Epochs (paper). One draws as many segments as there are."""
    rounds_per_step: int = 4
    """m: draws from each region of each dataset in a step; 8 datasets x 9 x 4 = 288 (paper)."""
    empty: EmptyPolicy = "spread"
    """What stands in for a region that a dataset never fills; the paper is silent."""
    precision: Precision = "float32"
    """Of the forward pass: `bf16` is autocast, for GPUs; `float64` is for comparisons."""
    compile: bool = False
    """Run the model through torch.compile: a slow first step, faster ones after it."""
    seed: int = 0
    """Of weights, plan, dropout and augmentation alike."""

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.rounds_per_step < 1:
            raise ValueError(
                "need epochs and rounds_per_step of at least 1, "
                f"got {self.epochs} and {self.rounds_per_step}"
            )


def rehearsal_config(n_workers: int = 1) -> Config:
    """Settings that learn what is planted in rehearsal data within minutes on two CPU cores.

    One round for each worker: more steps of fewer segments learn faster, measured in time.
    """
    return Config(
        encoder=EncoderConfig.small(),
        optimizer=OptimizerConfig(learning_rate=2e-3),
        epochs=2,
        rounds_per_step=n_workers,
    )


@dataclass(frozen=True)
class FinetuneConfig(ClassifierConfig):
    """Everything that decides what fine-tuning computes."""

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    """Architecture; of the same parts and sizes as the pretrained encoder's."""
    head: HeadKind = "linear"
    """`linear` is the paper's text; `mlp` has a hidden layer (the released code's are larger)."""
    frozen: bool = False
    """Whether only the head learns; the paper trains the entire model."""


def rehearsal_finetune_config() -> FinetuneConfig:
    """Settings that tell rehearsal data's classes apart within seconds on a CPU core."""
    return FinetuneConfig(encoder=EncoderConfig.small(), **REHEARSAL)
