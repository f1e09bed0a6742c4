"""Settings that TS-TCC and TF-C share: plain data, parsed as options before torch is loaded.

Both have the same convolutions (TF-C's released code grew out of TS-TCC's) and the same updates.
Neither paper has emotions: as baselines they come with the alignment of ECG to EEG, which says
nothing of their settings.
"""

from __future__ import annotations

from dataclasses import dataclass

from emoray.methods.settings import NEVER_CLIPPED, OptimizerConfig

POOL = 2
"""Samples of which each block keeps the largest, and from one pool to the next; one zero before and
behind (released codes)."""


@dataclass(frozen=True)
class ConvConfig:
    """Blocks of a convolution, batch normalisation, ReLU and a pool (released codes)."""

    n_filters: tuple[int, ...] = (32, 64, 128)
    """Of each block's convolution."""
    kernels: tuple[int, ...] = (25, 8, 8)
    """Their lengths in samples. Of the first one 25 with a stride of 3 is what TS-TCC has for sleep
    (EEG of 30 s at 100 Hz)."""
    stride: int = 3
    """Of the first block's; 1 in all others."""
    dropout: float = 0.35
    """After the first block."""

    def __post_init__(self) -> None:
        if len(self.n_filters) != len(self.kernels) or not self.n_filters:
            raise ValueError(
                "need n_filters and kernels for the same blocks, "
                f"got {len(self.n_filters)} and {len(self.kernels)}"
            )
        if min(*self.n_filters, *self.kernels, self.stride) < 1:
            raise ValueError(
                "need n_filters, kernels and stride of at least 1, "
                f"got {self.n_filters}, {self.kernels} and {self.stride}"
            )
        check_dropout(self.dropout)

    @property
    def width(self) -> int:
        """Of a feature."""
        return self.n_filters[-1]

    def n_features(self, n_times: int) -> int:
        """How many features in time a segment gives: 109 of 2,560 samples.

        Args:
            n_times: samples of a segment.

        Raises:
            ValueError: fewer than the first convolution spans.
        """
        if n_times < self.kernels[0]:
            raise ValueError(
                f"need segments of at least {self.kernels[0]} samples, the first convolution's, "
                f"got {n_times}"
            )
        n = n_times
        for i, kernel in enumerate(self.kernels):
            n = (n + 2 * (kernel // 2) - kernel) // (1 if i else self.stride) + 1
            n = n // POOL + 1
        return n


def check_dropout(dropout: float) -> None:
    """Refuse a share that would leave nothing.

    Raises:
        ValueError: says what it is.
    """
    if not 0 <= dropout < 1:
        raise ValueError(f"need dropout in [0, 1), got {dropout:g}")


def check_steps(epochs: int, batch_size: int) -> None:
    """Refuse steps without anybody to be told from: batches are normalised and contrasted.

    Raises:
        ValueError: says what they are.
    """
    if epochs < 1 or batch_size < 2:
        raise ValueError(
            f"need epochs of at least 1 and batch_size of at least 2, got {epochs} and {batch_size}"
        )


def optimizer() -> OptimizerConfig:
    """Adam at 3e-4, betas of 0.9 and 0.99, 3e-4 of every weight added to its gradient.

    As both released codes pretrain. Their fine-tuning divides the rate by ten where a loss no
    longer falls; here it stays.
    """
    return OptimizerConfig(
        name="adam",
        schedule="constant",
        learning_rate=3e-4,
        betas=(0.9, 0.99),
        weight_decay=3e-4,
        clip_norm=NEVER_CLIPPED,
    )
