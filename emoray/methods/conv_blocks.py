"""The convolutions of TS-TCC and TF-C, and how segments and keys reach them.

Shapes: B segments, C leads, T samples, D width of a feature, L features in time.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from emoray.batches.batch import Group
from emoray.methods import counter_draws
from emoray.methods.base import StreamSpec
from emoray.methods.counter_draws import DropoutKey
from emoray.methods.time_series import POOL, ConvConfig


class ConvBlocks(nn.Module):
    """Blocks of a convolution without bias, batch normalisation, ReLU and a pool.

    Dropout comes after the first block's pool and is counter-based. Initial weights are torch's.
    """

    def __init__(self, config: ConvConfig, n_chans: int) -> None:
        super().__init__()
        self.dropout = config.dropout
        widths = itertools.pairwise((n_chans, *config.n_filters))
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(n_in, n_out, kernel, 1 if i else config.stride, kernel // 2, bias=False),
                nn.BatchNorm1d(n_out),
                nn.ReLU(),
                nn.MaxPool1d(POOL, POOL, padding=1),
            )
            for i, ((n_in, n_out), kernel) in enumerate(zip(widths, config.kernels, strict=True))
        )

    def forward(self, x_BCT: Tensor, key_B: Tensor | None) -> Tensor:
        """Features in time, (B, D, L); no dropout without keys."""
        for i, block in enumerate(self.blocks):
            x_BCT = block(x_BCT)
            if i == 0 and key_B is not None and self.dropout > 0:
                x_BCT = counter_draws.dropout(x_BCT, key_B, self.dropout)
        return x_BCT

    def flat(self, x_BCT: Tensor, key_B: Tensor | None) -> Tensor:
        """The same side by side, (B, D L)."""
        z_BDL: Tensor = self(x_BCT, key_B)
        return z_BDL.flatten(1)


def segments_of(groups: Sequence[Group], spec: StreamSpec) -> Tensor:
    """The ECG of a batch's segments, all leads of them, (B, C, T).

    Raises:
        ValueError: they are not what the network was built for.
    """
    for group in groups:
        ecg = group["ecg"]
        need = (spec.n_chans, spec.n_times, spec.sfreq)
        came = (*ecg.x_BCT.shape[1:], ecg.sfreq)
        if came != need:
            raise ValueError(
                f"{group.dataset}: need segments of {need[0]} leads x {need[1]} samples at "
                f"{need[2]:g} Hz, got {came[0]} x {came[1]} at {ecg.sfreq:g} Hz"
            )
    return torch.cat([group["ecg"].x_BCT for group in groups])


def keys_of(groups: Sequence[Group], key: DropoutKey, purpose: int) -> Tensor:
    """One key for each of a batch's segments, (B,)."""
    keys = (counter_draws.segment_keys(key, group.positions_B, purpose) for group in groups)
    return torch.cat(list(keys))
