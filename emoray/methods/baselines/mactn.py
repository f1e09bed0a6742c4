"""MACTN: convolutions for local features, a transformer for global ones.

Si, Huang, Sun and Ming, "Temporal aware Mixed Attention-based Convolution and Transformer Network
for cross-subject EEG emotion recognition", Computers in Biology and Medicine 181:108973 (2024),
arXiv 2305.18234. Of the paper only the abstract was available to us: local features by a CNN, then
channel attention, then global ones by a transformer. All sizes are those of the authors' released
code (github.com/ThreePoundUniverse/MACTN), which reads 30 bipolar leads of 14 seconds at 125 Hz;
none is ours:
- filters: 4 to an electrode, F = 4 C, and tokens are as wide;
- kernels: 15 samples; pooling: 4, then 5, so that a token has 20 samples;
- channel attention: selective kernels of 1, 3, 5 and 7 tokens, squeezed to F / 4, at least 32;
- transformer: 6 blocks of 8 heads, each 256 wide, 128 inside the feed-forward layers, no dropout;
- dropout: 0.5 in the convolutions.

That gives 6.869 million parameters for FACED, where Table 2 says 6.8. F follows the electrodes:
SEED and SEED-V, with 62, need twice as many.

Where we differ:
- The code's second separable convolution of each pair pads 15 // 4 samples where the first pads
  15 // 2, which leaves 82 tokens of its 14 seconds, but it makes position embeddings for 86 and
  stops on the first batch. Padding both alike gives 86.
- No bias in convolutions that batch normalisation follows: it would be subtracted again. The first
  convolution of a separable pair has none either, where it would tell the edges only (1,792 numbers
  for FACED).
- Signals are as the corpus has them: not bipolar, not at 125 Hz.

Shapes: B segments, C electrodes, T samples, F filters, L pooled samples, N tokens, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from emoray.methods.baselines.parts import (
    SelfAttention,
    TransformerBlock,
    check_segments,
    check_spec,
)

NAME = "MACTN"

FILTERS_PER_ELECTRODE = 4
KERNEL = 15
N_SEPARABLE_STAGES = 2
POOLS = (4, 5)
BRANCH_KERNELS = (1, 3, 5, 7)
REDUCTION = 4
NARROWEST = 32
N_BLOCKS = 6
N_HEADS = 8
HEAD_WIDTH = 256
HIDDEN = 128
DROPOUT = 0.5
"""The released code's sizes."""

SHORTEST = 2 * (KERNEL - 1) + POOLS[0] * POOLS[1]
"""Samples under one token: two unpadded kernels, then two poolings, 28 + 20 = 48."""


class MACTN(nn.Module):
    """Convolutions, selective kernels and a transformer, read out at a class token.

    Args:
        n_chans: C.
        n_outputs: K.
        n_times: T; no other length will do, since every token has its position embedding.
        sfreq: Hz; sizes are in samples whatever it is, as released.
        channels: names of the electrodes; any montage, in any order.

    Raises:
        ValueError: names and C disagree, or T is less than the 48 samples under one token.
    """

    def __init__(
        self, *, n_chans: int, n_outputs: int, n_times: int, sfreq: float, channels: Sequence[str]
    ) -> None:
        super().__init__()
        check_spec(NAME, n_chans=n_chans, n_times=n_times, channels=channels, shortest=SHORTEST)
        self.n_chans, self.n_times = n_chans, n_times
        width = FILTERS_PER_ELECTRODE * n_chans
        self.local = nn.Sequential(
            *_electrodewise(n_chans, width),
            nn.AvgPool1d(POOLS[0]),
            *(layer for _ in range(N_SEPARABLE_STAGES) for layer in _separable_stage(width)),
            nn.AvgPool1d(POOLS[1]),
        )
        self.kernels = KernelAttention(width)
        self.class_token_F = nn.Parameter(torch.randn(width))
        self.positions_NF = nn.Parameter(torch.randn(1 + n_tokens(n_times), width))
        self.blocks = nn.Sequential(*(_block(width) for _ in range(N_BLOCKS)))
        self.head = nn.Linear(width, n_outputs)

    def forward(self, x_BCT: Tensor) -> Tensor:
        """Class scores (B, K) of segments (B, C, T).

        Raises:
            ValueError: the segments have another shape than the one the model was built for.
        """
        check_segments(NAME, x_BCT, n_chans=self.n_chans, n_times=self.n_times)
        tokens_BNF = self.kernels(self.local(x_BCT)).transpose(1, 2)
        first_B1F = self.class_token_F.expand(len(x_BCT), 1, -1)
        tokens_BNF = torch.cat([first_B1F, tokens_BNF], dim=1) + self.positions_NF
        scores_BK: Tensor = self.head(self.blocks(tokens_BNF)[:, 0])
        return scores_BK


class KernelAttention(nn.Module):
    """Selective kernels: convolutions of several lengths, weighed anew for every filter.

    Li, Wang, Hu and Yang, "Selective Kernel Networks", CVPR 2019, along time; without their
    normalisation and ReLU of the squeezed vector, as released.

    Args:
        width: F.
        lengths: kernels, odd, in samples.
    """

    def __init__(self, width: int, lengths: Sequence[int] = BRANCH_KERNELS) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(width, width, length, padding=length // 2, bias=False),
                nn.BatchNorm1d(width),
                nn.ReLU(),
            )
            for length in lengths
        )
        narrow = max(NARROWEST, width // REDUCTION)
        self.squeeze = nn.Linear(width, narrow)
        self.weigh = nn.Linear(narrow, len(lengths) * width)

    def forward(self, x_BFL: Tensor) -> Tensor:
        """The branches' weighted sum, (B, F, L)."""
        branches_BRFL = torch.stack([branch(x_BFL) for branch in self.branches], dim=1)
        scores = self.weigh(self.squeeze(branches_BRFL.sum(1).mean(-1)))
        weights_BRF = torch.softmax(scores.unflatten(1, branches_BRFL.shape[1:3]), dim=1)
        return (weights_BRF[..., None].to(branches_BRFL.dtype) * branches_BRFL).sum(1)


def n_tokens(n_times: int) -> int:
    """Tokens of a segment of T samples; 98 of FACED's 2,000."""
    return (n_times - 2 * (KERNEL - 1)) // POOLS[0] // POOLS[1]


def _electrodewise(n_chans: int, width: int) -> list[nn.Module]:
    """Four filters to an electrode, each filtered once more by itself; electrodes stay apart."""
    return [
        nn.Conv1d(n_chans, width, KERNEL, groups=n_chans, bias=False),
        nn.Conv1d(width, width, KERNEL, groups=width, bias=False),
        nn.BatchNorm1d(width),
        nn.ReLU(),
        nn.Dropout(DROPOUT),
    ]


def _separable_stage(width: int) -> list[nn.Module]:
    """Twice along time, filter by filter, then across filters; the length stays."""
    return [
        *_separable(width),
        *_separable(width),
        nn.BatchNorm1d(width),
        nn.ReLU(),
        nn.Dropout(DROPOUT),
    ]


def _separable(width: int) -> list[nn.Module]:
    return [
        nn.Conv1d(width, width, KERNEL, padding=KERNEL // 2, groups=width, bias=False),
        nn.Conv1d(width, width, 1, bias=False),
    ]


def _block(width: int) -> TransformerBlock:
    attention = SelfAttention(width, N_HEADS, HEAD_WIDTH, scale=HEAD_WIDTH**-0.5, bias=False)
    return TransformerBlock(attention, width, HIDDEN)
