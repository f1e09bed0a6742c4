"""EMOD's convolutional front end: signal or spectrum to tokens (Chen et al., EMOD, Eq. 1).

Shapes: B segments, C electrodes, T samples (or frequency bins), K tokens, D filters.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Mode = Literal["auto", "plain", "chunked"]


class Branch(nn.Module):
    """Convolution over time, group normalisation, GELU, and a mean over each token's samples.

    Statistics of the normalisation go over the features of a group, all electrodes and all
    samples of one segment, as in the released code: never over two segments.
    """

    def __init__(self, n_filters: int, kernel: int, n_groups: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, n_filters, (1, kernel), padding="same")
        self.norm = nn.GroupNorm(n_groups, n_filters)

    def forward(self, x_BCT: Tensor, n_tokens: int) -> Tensor:
        """Tokens, shape (B, C, K, D)."""
        y_BDCT: Tensor = F.gelu(self.norm(self.conv(x_BCT[:, None])))
        y_BDCK: Tensor = F.adaptive_avg_pool2d(y_BDCT, (x_BCT.shape[1], n_tokens))
        return y_BDCK.permute(0, 2, 3, 1)


class FrontEnd(nn.Module):
    """Runs a branch."""

    def __init__(self, mode: Mode) -> None:
        super().__init__()
        self.mode = mode

    def forward(self, branch: Branch, x_BCT: Tensor, n_tokens: int) -> Tensor:
        """Tokens, shape (B, C, K, D)."""
        tokens_BCKD: Tensor = branch(x_BCT, n_tokens)
        return tokens_BCKD


def spectrum(
    x_BCT: Tensor, sfreq: float, part: Literal["real", "magnitude"], max_hz: float | None
) -> Tensor:
    """Fourier coefficients of each electrode from 0 Hz up, divided by T; shape (B, C, F).

    Args:
        x_BCT: signal.
        sfreq: Hz.
        part: `real` as released (it depends on where in time the segment starts), or `magnitude`.
        max_hz: the last frequency kept; None keeps all, up to half of `sfreq`.

    Raises:
        ValueError: `max_hz` lies beyond half of `sfreq`.
    """
    with torch.autocast(x_BCT.device.type, enabled=False):
        coefficients_BCF = torch.fft.rfft(x_BCT, norm="forward")
        x_BCF = coefficients_BCF.real if part == "real" else coefficients_BCF.abs()
    if max_hz is None:
        return x_BCF
    if max_hz > sfreq / 2:
        raise ValueError(
            f"need spectrum_max_hz up to {sfreq / 2:g} at {sfreq:g} Hz, got {max_hz:g}"
        )
    return x_BCF[..., : int(max_hz * x_BCT.shape[-1] / sfreq) + 1]
