"""SSL-ECG's settings: plain data, so that options are parsed before torch is loaded.

Source: Sarkar & Etemad, "Self-supervised ECG Representation Learning for Emotion Recognition", IEEE
Trans. Affective Computing. The defaults are the paper's values; "released code" is pritamqu/SSL-ECG
and the graph that its checkpoint holds, "notes" a later summary with other layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from emoray.methods.settings import REHEARSAL, ClassifierConfig, OptimizerConfig, Precision
from emoray.signals import Recipe
from emoray.vocabulary.schema import Stream

RECIPES: Mapping[Stream, Recipe] = {}
"""How the segments of every stage here were cut: the corpus's one build of ECG. The paper's are of
10 s at 256 Hz, without what lies below 0.8 Hz (IIR), z-scored over all of a person's recordings."""

Activation = Literal["leaky_relu", "relu"]
Leads = Literal["first", "last"]
"""Which of a recording's leads; of one lead both are the same. Not in the paper: neither its text
nor the released code, whose input has one lead already, says which of DREAMER's and AMIGOS' two."""

NEVER_CLIPPED = 1e9
"""A norm that no gradient has: neither the paper nor the released code clips."""


@dataclass(frozen=True)
class EncoderConfig:
    """The convolutions that all tasks share; of each block two, and a pool between blocks."""

    n_filters: tuple[int, ...] = (32, 64, 128)
    """Of the convolutions of each block (paper)."""
    kernels: tuple[int, ...] = (32, 16, 8)
    """Their lengths in samples (paper)."""
    pool: int = 8
    """Samples of which a pool keeps the largest (paper)."""
    pool_stride: int = 2
    """Samples from one pool to the next (paper)."""
    activation: Activation = "leaky_relu"
    """After each convolution and each hidden layer of a task. The notes have `relu`."""

    def __post_init__(self) -> None:
        if len(self.n_filters) != len(self.kernels) or not self.n_filters:
            raise ValueError(
                "need n_filters and kernels for the same blocks, "
                f"got {len(self.n_filters)} and {len(self.kernels)}"
            )
        if min(*self.n_filters, *self.kernels, self.pool, self.pool_stride) < 1:
            raise ValueError(
                "need n_filters, kernels, pool and pool_stride of at least 1, got "
                f"{self.n_filters}, {self.kernels}, {self.pool} and {self.pool_stride}"
            )

    @property
    def width(self) -> int:
        """Of an embedding."""
        return self.n_filters[-1]

    def lengths(self, n_times: int) -> tuple[int, ...]:
        """Samples in each block.

        Args:
            n_times: samples of a segment.

        Raises:
            ValueError: too few for the pools.
        """
        found = [n_times]
        for _ in self.n_filters[1:]:
            if found[-1] < self.pool:
                raise ValueError(
                    f"need segments of which {len(self.n_filters) - 1} pools of {self.pool} "
                    f"samples leave something, got {n_times} samples"
                )
            found.append((found[-1] - self.pool) // self.pool_stride + 1)
        return tuple(found)

    @classmethod
    def small(cls) -> EncoderConfig:
        """An encoder for rehearsals on a CPU: a thirtieth of the paper's multiplications."""
        return cls(n_filters=(4, 8, 16), kernels=(32, 16, 8))


@dataclass(frozen=True)
class TransformationConfig:
    """How far each transformation goes."""

    snr_db: float = 15.0
    """Power of the segment, about zero, over that of the added noise, dB (paper)."""
    scale: float = 1.1
    """By which a segment is multiplied (paper)."""
    n_permuted: int = 20
    """Equal pieces that change places (paper)."""
    n_warped: int = 9
    """Equal pieces of which half, rounded up, are stretched and the others squeezed (paper)."""
    warp: float = 1.05
    """By which a piece is stretched, and its inverse by which one is squeezed (paper)."""

    def __post_init__(self) -> None:
        if not (self.scale > 0 and self.warp > 1):
            raise ValueError(f"need scale > 0 and warp > 1, got {self.scale:g} and {self.warp:g}")
        if min(self.n_permuted, self.n_warped) < 2:
            raise ValueError(
                f"need two pieces or more, got {self.n_permuted} permuted, {self.n_warped} warped"
            )


@dataclass(frozen=True)
class TaskWeights:
    """What each task counts in the sum that is minimised (released code; the paper tuned them)."""

    original: float = 0.195
    noise: float = 0.195
    scaling: float = 0.195
    negation: float = 0.0125
    inversion: float = 0.0125
    permutation: float = 0.195
    warping: float = 0.195

    def __post_init__(self) -> None:
        values = (self.original, self.noise, self.scaling, self.negation, self.inversion)
        values += (self.permutation, self.warping)
        if min(values) < 0 or not sum(values) > 0:
            raise ValueError(f"need weights of tasks of at least 0, and one above, got {values}")


def _pretext_optimizer() -> OptimizerConfig:
    """Adam at 1e-3 (paper); decay of the rate and of the 27 kernels as the released code.

    The code adds 1e-4 / 2 times the squared norm of all kernels to the loss, whose gradient is what
    Adam's decay adds.
    """
    return OptimizerConfig(
        name="adam",
        schedule="staircase",
        learning_rate=1e-3,
        decay_factor=0.9,
        decay_every=10_000,
        weight_decay=1e-4,
        decay_biases=False,
        clip_norm=NEVER_CLIPPED,
    )


@dataclass(frozen=True)
class PretextConfig:
    """Everything that decides what learning to recognise transformations computes."""

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    """Architecture."""
    n_hidden: int = 128
    """Width of the two hidden layers of each task (paper)."""
    dropout: float = 0.6
    """After each of them (paper)."""
    transformations: TransformationConfig = field(default_factory=TransformationConfig)
    """What is to be recognised."""
    weights: TaskWeights = field(default_factory=TaskWeights)
    """Of the tasks."""
    leads: Leads = "first"
    """Which lead is read."""
    optimizer: OptimizerConfig = field(default_factory=_pretext_optimizer)
    """Weight updates."""
    epochs: int = 100
    """Epochs (paper)."""
    batch_size: int = 128
    """Segments of a step (paper), each of which is there in seven versions."""
    precision: Precision = "float32"
    """Of the forward pass: `bf16` is autocast, for GPUs; `float64` is for comparisons."""
    compile: bool = False
    """Run the model through torch.compile: a slow first step, faster ones after it."""
    seed: int = 0
    """Of weights, plan, dropout and transformations alike."""

    def __post_init__(self) -> None:
        _check_dropout(self.dropout)
        if min(self.epochs, self.batch_size, self.n_hidden) < 1:
            raise ValueError(
                "need epochs, batch_size and n_hidden of at least 1, "
                f"got {self.epochs}, {self.batch_size} and {self.n_hidden}"
            )


def _emotion_optimizer() -> OptimizerConfig:
    """Adam at 1e-3 (paper), a constant rate and no decay (released code, of three datasets).

    Of DREAMER the code adds 1e-4 times the squared norm of the hidden layers' kernels to the loss:
    a decay of 2e-4, which here is one of the last layer's kernel too.
    """
    return OptimizerConfig(
        name="adam",
        schedule="constant",
        learning_rate=1e-3,
        weight_decay=0.0,
        decay_biases=False,
        clip_norm=NEVER_CLIPPED,
    )


@dataclass(frozen=True)
class EmotionConfig(ClassifierConfig):
    """Everything that decides what the emotion network computes."""

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    """Architecture; of the same sizes as the pretext's."""
    hidden: tuple[int, ...] = (512, 512)
    """Widths of the hidden layers. Not in the paper: the released code's of SWELL and WESAD; of
    DREAMER and AMIGOS it has a third one of 512. The notes have two of 64."""
    activation: Activation = "relu"
    """After each of them. Not in the paper: the released code's."""
    dropout: float = 0.0
    """After each of them. Not in the paper: the released code has 0.2 for DREAMER and 0.4 for
    AMIGOS."""
    output: Literal["softmax", "sigmoid"] = "softmax"
    """What makes probabilities of the last layer. The notes have `sigmoid`: each class by itself,
    shares of their sum for the cross-entropy."""
    frozen: bool = True
    """Whether convolutions that come from the pretext stay as they are (paper). Without a start
    there is nothing to keep and all is trained: the fully-supervised network."""
    leads: Leads = "first"
    """Which lead is read."""
    optimizer: OptimizerConfig = field(default_factory=_emotion_optimizer)
    """Weight updates."""
    epochs: int = 250
    """Epochs (paper; the released code has 200). The best one on validation is kept; that code
    reports the test fold after each epoch of the pretext."""
    batch_size: int = 128
    """Segments of a step (paper)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_dropout(self.dropout)
        if min((1, *self.hidden)) < 1:
            raise ValueError(f"need hidden layers of at least 1, got {self.hidden}")


def _check_dropout(dropout: float) -> None:
    if not 0 <= dropout < 1:
        raise ValueError(f"need dropout in [0, 1), got {dropout:g}")


def rehearsal_pretext_config() -> PretextConfig:
    """Settings that recognise transformations of rehearsal data within minutes on a CPU core."""
    return PretextConfig(
        encoder=EncoderConfig.small(),
        n_hidden=32,
        dropout=0.2,
        optimizer=OptimizerConfig(name="adam", schedule="constant", learning_rate=3e-3),
        epochs=2,
        batch_size=16,
    )


def rehearsal_emotion_config() -> EmotionConfig:
    """Settings that tell rehearsal data's classes apart within seconds on a CPU core."""
    return EmotionConfig(encoder=EncoderConfig.small(), hidden=(32, 32), **REHEARSAL)
