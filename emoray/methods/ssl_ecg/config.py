"""SSL-ECG's settings: plain data, so that options are parsed before torch is loaded.

Source: Sarkar & Etemad, "Self-supervised ECG Representation Learning for Emotion Recognition", IEEE
Trans. Affective Computing. "Paper" is what a talk on it shows of its text (4.2, 4.3, the table of
layers), "released code" is pritamqu/SSL-ECG and the graph that its checkpoint holds, "notes" a
later summary with other layers.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Literal

from emoray.methods.settings import (
    NEVER_CLIPPED,
    REHEARSAL,
    ClassifierConfig,
    OptimizerConfig,
    Precision,
)

Activation = Literal["leaky_relu", "relu"]
Leads = Literal["first", "last"]
"""Which of a recording's leads; of one lead both are the same. Not in the paper: neither its text
nor the released code, whose input has one lead already, says which of DREAMER's and AMIGOS' two."""


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
    """After each convolution and each hidden layer of a task. Not in the paper: the released code's
    graph, with a slope of 0.2. The notes have `relu`."""

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
        """An encoder for rehearsals on a CPU: a sixtieth of the paper's multiplications."""
        return cls(n_filters=(4, 8, 16), kernels=(32, 16, 8))


@dataclass(frozen=True)
class TransformationConfig:
    """How far each transformation goes. Not in the paper: the released code's values."""

    snr_db: float = 15.0
    """Power of the segment, about zero, over that of the added noise, dB."""
    scale: float = 1.1
    """By which a segment is multiplied."""
    n_permuted: int = 20
    """Equal pieces that change places."""
    n_warped: int = 9
    """Equal pieces of which half, rounded up, are stretched and the others squeezed."""
    warp: float = 1.05
    """By which a piece is stretched, and its inverse by which one is squeezed."""

    def __post_init__(self) -> None:
        if not (self.scale > 0 and self.warp > 1):
            raise ValueError(f"need scale > 0 and warp > 1, got {self.scale:g} and {self.warp:g}")
        if min(self.n_permuted, self.n_warped) < 2:
            raise ValueError(
                f"need two pieces or more, got {self.n_permuted} permuted, {self.n_warped} warped"
            )


@dataclass(frozen=True)
class TaskWeights:
    """What each task counts in the sum that is minimised. Not in the paper: the released code's."""

    original: float = 0.195
    noise: float = 0.195
    scaling: float = 0.195
    negation: float = 0.0125
    inversion: float = 0.0125
    permutation: float = 0.195
    warping: float = 0.195

    def __post_init__(self) -> None:
        values = tuple(asdict(self).values())
        if min(values) < 0 or not sum(values) > 0:
            raise ValueError(f"need weights of tasks of at least 0, and one above, got {values}")


def _pretext_optimizer() -> OptimizerConfig:
    """Adam at 1e-3 (paper). Not in the paper: both decays, which are the released code's.

    The code adds 1e-4 / 2 times the squared norm of the 27 kernels to the loss, whose gradient is
    what Adam's decay adds, and takes 0.9 of the rate after every 10,000 steps.
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
    """After each of them. Not in the paper: the released code's, and the notes'."""
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
    """Adam at 1e-3 (paper). Not in the paper: a constant rate without decay, as the released code.

    Of DREAMER that code adds 1e-4 times the squared norm of the hidden layers' kernels to the loss:
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
    """Settings that recognise transformations of rehearsal data within a minute on a CPU core.

    Half of them after 100 steps, 12 epochs of 100 segments: 0.2 s each, measured.
    """
    return PretextConfig(
        encoder=EncoderConfig.small(),
        n_hidden=32,
        dropout=0.1,
        optimizer=OptimizerConfig(name="adam", schedule="constant", learning_rate=5e-3),
        epochs=12,
        batch_size=8,
    )


def rehearsal_emotion_config() -> EmotionConfig:
    """Settings that tell rehearsal data's classes apart within seconds on a CPU core."""
    return EmotionConfig(encoder=EncoderConfig.small(), hidden=(32, 32), **REHEARSAL)
