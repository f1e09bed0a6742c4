"""ST-Transformer: attention over electrodes, then over slices of time.

Song, Jia, Yang and Xie, "Transformer-based Spatial-Temporal Feature Learning for EEG Decoding",
arXiv 2106.11170 (2021), who call it S3T. Of the paper only the abstract was available to us, and
the released code (github.com/eeyhsong/EEG-Transformer). Table 2's 3.5 million parameters are not
S3T's: EMOD quotes CBraMod's comparison, whose count is that of the larger model in BIOT's
repository (Yang, Westover and Sun 2023). Sizes here are BIOT's. S3T's, for 16 spatially filtered
channels of 1,000 samples, stand beside them; none is ours.

| size                   | here, as BIOT                   | S3T                             |
| ---------------------- | ------------------------------- | ------------------------------- |
| electrodes' attention: |                                 |                                 |
| samples pooled         | 100                             | 30                              |
| slices of time         | 15 samples by 8 to 64 channels, | 51 samples by 1 to 2 channels,  |
|                        | then 15 by 8 to 256             | then 5 by 5 to 10               |
| width of a token       | 256                             | 10                              |
| heads, blocks          | 8, 4                            | 5, 3                            |
| inside feed-forward    | 4 x 256                         | 4 x 10                          |
| ahead of the head      | ELU                             | LayerNorm                       |
| dropout                | 0.3 electrodes, 0.5 elsewhere   | 0.3 electrodes, 0.5 elsewhere   |

That gives 3.445 million for FACED, where Table 2 says 3.5.

Where we differ:
- Attention over electrodes mixes electrodes. In both released codes each electrode is multiplied by
  the sum of its own weights, and a softmax sums to one: the attention does nothing, and neither
  queries nor keys learn. The paper's abstract wants it to bring out the relevant channels. Mind
  that Table 2's scores, if they come from that code, were measured without it.
- Its scores are divided by the root of the number of pooled samples. BIOT's code keeps that of ten
  seconds, the root of 20, at any length.
- No common spatial patterns ahead of the network: they are fitted to labels. BIOT has none either.
- No bias where it cancels: of keys, in the softmax, and of the first convolution, in the batch
  normalisation (1,088 numbers).

Shapes: B segments, C electrodes, T samples, P pooled samples, N slices, D width, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emoray.methods.baselines.parts import (
    SelfAttention,
    TransformerBlock,
    check_segments,
    check_spec,
)

NAME = "ST-Transformer"

WIDTH = 256
N_HEADS = 8
N_BLOCKS = 4
EXPANSION = 4
SLICE_CHANNELS = 64
KERNEL = 15
STRIDE = 8
POOL = 100
DROPOUT = 0.5
ELECTRODE_DROPOUT = 0.3
"""BIOT's sizes; see the table above."""

SHORTEST = KERNEL + (KERNEL - 1) * STRIDE
"""Samples under one slice: 15 + 14 x 8 = 127."""


class STTransformer(nn.Module):
    """Electrodes attend to one another, slices are cut, slices attend to one another.

    Args:
        n_chans: C.
        n_outputs: K.
        n_times: T; no other length will do, since the first normalisation has a gain per sample.
        sfreq: Hz; sizes are in samples whatever it is, as BIOT's are.
        channels: names of the electrodes; any montage, in any order.

    Raises:
        ValueError: names and C disagree, or T is less than the 127 samples under one slice.
    """

    def __init__(
        self, *, n_chans: int, n_outputs: int, n_times: int, sfreq: float, channels: Sequence[str]
    ) -> None:
        super().__init__()
        check_spec(NAME, n_chans=n_chans, n_times=n_times, channels=channels, shortest=SHORTEST)
        self.n_chans, self.n_times = n_chans, n_times
        self.electrodes = nn.Sequential(
            nn.LayerNorm(n_times), ElectrodeAttention(n_chans), nn.Dropout(DROPOUT)
        )
        self.slices = nn.Sequential(
            nn.Conv1d(n_chans, SLICE_CHANNELS, KERNEL, STRIDE, bias=False),
            nn.BatchNorm1d(SLICE_CHANNELS),
            nn.LeakyReLU(0.2),
            nn.Conv1d(SLICE_CHANNELS, WIDTH, KERNEL, STRIDE),
        )
        self.blocks = nn.Sequential(*(_block() for _ in range(N_BLOCKS)))
        self.head = nn.Linear(WIDTH, n_outputs)

    def forward(self, x_BCT: Tensor) -> Tensor:
        """Class scores (B, K) of segments (B, C, T).

        Raises:
            ValueError: the segments have another shape than the one the model was built for.
        """
        check_segments(NAME, x_BCT, n_chans=self.n_chans, n_times=self.n_times)
        x_BCT = x_BCT + self.electrodes(x_BCT)
        tokens_BND = self.blocks(self.slices(x_BCT).transpose(1, 2))
        scores_BK: Tensor = self.head(F.elu(tokens_BND.mean(1)))
        return scores_BK


class ElectrodeAttention(nn.Module):
    """Attention of one head over electrodes, whose queries and keys are their time courses.

    Electrodes are mixed three times: linearly at every sample to make queries and keys, then by
    attention, then linearly again. Means over windows shorten queries and keys.

    Args:
        n_chans: C.
        pool: samples of a window; at most T.
        dropout: of queries, keys and result.
    """

    def __init__(self, n_chans: int, pool: int = POOL, dropout: float = ELECTRODE_DROPOUT) -> None:
        super().__init__()
        self.queries = _across_electrodes(n_chans, dropout)
        self.keys = _across_electrodes(n_chans, dropout)
        self.projection = _across_electrodes(n_chans, dropout)
        self.pool = pool

    def forward(self, x_BCT: Tensor) -> Tensor:
        """Mixed time courses, (B, C, T)."""
        x_BTC = x_BCT.transpose(1, 2)
        q_BCP = F.avg_pool1d(self.queries(x_BTC).transpose(1, 2), self.pool)
        k_BCP = F.avg_pool1d(self.keys(x_BTC).transpose(1, 2), self.pool)
        scores_BCC = q_BCP @ k_BCP.transpose(1, 2) / math.sqrt(q_BCP.shape[2])
        mixed_BCT = torch.softmax(scores_BCC, dim=-1).to(x_BCT.dtype) @ x_BCT
        out_BTC: Tensor = self.projection(mixed_BCT.transpose(1, 2))
        return out_BTC.transpose(1, 2)


def _across_electrodes(n_chans: int, dropout: float) -> nn.Sequential:
    """A linear map of all electrodes at one sample, normalised."""
    linear = nn.Linear(n_chans, n_chans)
    nn.init.xavier_normal_(linear.weight)  # as released
    nn.init.zeros_(linear.bias)
    return nn.Sequential(linear, nn.LayerNorm(n_chans), nn.Dropout(dropout))


def _block() -> TransformerBlock:
    # Both released codes divide by the root of a token's width, not of a head's.
    attention = SelfAttention(WIDTH, N_HEADS, WIDTH // N_HEADS, scale=WIDTH**-0.5, dropout=DROPOUT)
    return TransformerBlock(attention, WIDTH, EXPANSION * WIDTH, dropout=DROPOUT)
