"""Settings that stages share: plain data, so that options are parsed before torch is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Precision = Literal["float32", "bf16", "float64"]

NEVER_CLIPPED = 1e9
"""A norm that no gradient has, for methods that do not clip."""


@dataclass(frozen=True)
class OptimizerConfig:
    """Optimizer, schedule of its learning rate, clipped gradients; by default as EMOD's paper."""

    name: Literal["adamw", "adam", "sgd"] = "adamw"
    """`adam` adds the decay to the gradient, `adamw` does not."""
    schedule: Literal["cosine", "constant", "staircase"] = "cosine"
    """`cosine` over the epochs, or steps downwards."""
    learning_rate: float = 5e-4
    """At the first epoch (paper, Pretraining Settings)."""
    min_learning_rate: float = 1e-7
    """Towards which the cosine falls (paper)."""
    weight_decay: float = 1e-4
    """AdamW's (paper)."""
    clip_norm: float = 3.0
    """Largest norm of the gradient of all parameters together (paper)."""
    decay_biases: bool = True
    """Whether parameters of one axis (biases, norms) decay too; torch's default."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Of both Adams; torch's default."""
    momentum: float = 0.0
    """Of `sgd`."""
    decay_factor: float = 0.9
    """Of `staircase`."""
    decay_every: int = 10_000
    """Steps of `staircase` between two decays."""

    def __post_init__(self) -> None:
        if self.learning_rate <= 0 or self.min_learning_rate < 0:
            raise ValueError(
                "need learning_rate > 0 and min_learning_rate >= 0, "
                f"got {self.learning_rate:g} and {self.min_learning_rate:g}"
            )
        if self.clip_norm <= 0:
            raise ValueError(f"need clip_norm > 0, got {self.clip_norm:g}")
        if not all(0 <= beta < 1 for beta in (*self.betas, self.momentum)):
            raise ValueError(
                f"need betas and momentum in [0, 1), got {self.betas}, {self.momentum}"
            )
        if not 0 < self.decay_factor <= 1 or self.decay_every < 1:
            raise ValueError(
                "need decay_factor in (0, 1] and decay_every of at least 1, "
                f"got {self.decay_factor:g} and {self.decay_every}"
            )


@dataclass(frozen=True)
class ClassifierConfig:
    """How any classifier is trained. The paper says cross-entropy and five seeds, nothing else."""

    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """Weight updates: pretraining's, the same for every arm. The released code trains from scratch
    with AdamW and pretrained encoders with Adam at half the rate, which compares optimizers too."""
    epochs: int = 50
    """Epochs; the best by validation kappa is kept. CBraMod's, whose splits EMOD takes."""
    batch_size: int = 64
    """Segments of a step. CBraMod's."""
    labels: float = 1.0
    """Share of the segments of each class of a fold's training part whose label is given; the
    others take no part, and the epoch is chosen on all of the validation part. Not in the paper."""
    precision: Precision = "float32"
    """Of the forward pass: `bf16` is autocast, for GPUs; `float64` is for comparisons."""
    compile: bool = False
    """Run the model through torch.compile: a slow first step, faster ones after it."""
    seed: int = 0
    """Of weights, order of segments and dropout."""

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1:
            raise ValueError(
                f"need epochs and batch_size of at least 1, got {self.epochs} and {self.batch_size}"
            )
        if not 0 < self.labels <= 1:
            raise ValueError(f"need labels in (0, 1], got {self.labels:g}")


REHEARSAL: Mapping[str, Any] = {
    "optimizer": OptimizerConfig(learning_rate=2e-3),
    "epochs": 8,
    "batch_size": 8,
}
"""Of every classifier in a rehearsal, so that there too rows differ by their model alone. 60
segments, all that a fold of SEED with subjects and stimuli apart trains on, make 64 steps; in 16,
of half the epochs and batches twice as large, nothing is learned there."""
