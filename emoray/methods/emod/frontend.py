"""EMOD's convolutional front end: signal or spectrum to tokens (Chen et al., EMOD, Eq. 1).

Shapes: B segments, C electrodes, T samples (or frequency bins), J taps of the kernel, K tokens,
L samples under a token, D filters, G groups of filters.

A convolution writes D numbers per sample, of which a token keeps the mean of tens: for the
paper's step 15 GB in float32, several times over. The chunked form never holds them. What group
normalisation must know of the convolution's output follows from its input, because a filter w sees
the taps x only through their mean m and second moments R: mean w m, variance w (R - m m') w. So
normalisation folds into one kernel per segment, and convolution, GELU and pooling run over few
electrodes at a time, again in backward.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from emoray.methods.emod.config import Mode

CHUNK_CPU = 1 << 19
CHUNK_GPU = 1 << 27
"""Filter outputs per chunk: what stays in a CPU's cache; what keeps a GPU busy in 0.5 GB."""


class Branch(nn.Module):
    """Convolution over time, group normalisation, GELU, and a mean over each token's samples.

    Statistics of the normalisation go over the filters of a group, all electrodes and all
    samples of one segment, as in the released code: never over two segments.
    """

    def __init__(self, n_filters: int, kernel: int, n_groups: int, mode: Mode = "chunked") -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, n_filters, (1, kernel), padding="same")
        # A segment of unit variance has Fourier coefficients of about T^-1/2 = 0.02. Beside torch's
        # default bias, up to 0.2, normalisation would see the biases and hardly the signal.
        nn.init.zeros_(cast(Tensor, self.conv.bias))
        self.norm = nn.GroupNorm(n_groups, n_filters)
        self.n_edge = kernel // 2
        self.mode = mode

    def forward(self, x_BCT: Tensor, n_tokens: int) -> Tensor:
        """Tokens, shape (B, C, K, D); a token's samples are those of adaptive average pooling."""
        if self.mode == "plain":
            return self._plain(x_BCT, n_tokens)
        with torch.autocast(x_BCT.device.type, enabled=False):
            kernels_BJD, offsets_BD = self._normalised_kernels(x_BCT)
        windows = token_windows(x_BCT.shape[2], n_tokens, x_BCT.device)
        n_segments, n_electrodes = self._chunk(x_BCT)
        padded_BCU = F.pad(x_BCT, (self.n_edge, self.n_edge))
        rows = zip(
            *(torch.split(t, n_segments) for t in (padded_BCU, kernels_BJD, offsets_BD)),
            strict=True,
        )
        parts = []
        for x_BCU, w_BJD, b_BD in rows:
            chunks = torch.split(x_BCU, n_electrodes, 1)
            parts.append(torch.cat([_tokens(chunk, w_BJD, b_BD, windows) for chunk in chunks], 1))
        return torch.cat(parts)

    def _chunk(self, x_BCT: Tensor) -> tuple[int, int]:
        """How many segments, and how many of their electrodes, to convolve at once."""
        on_cpu = x_BCT.device.type == "cpu" and not torch.compiler.is_compiling()
        budget = (CHUNK_CPU if on_cpu else CHUNK_GPU) // self.conv.out_channels
        n_electrodes, n_samples = x_BCT.shape[1:]
        if n_electrodes * n_samples > budget:
            return 1, max(1, budget // n_samples)
        return budget // (n_electrodes * n_samples), n_electrodes

    def _plain(self, x_BCT: Tensor, n_tokens: int) -> Tensor:
        """The same out of torch's own modules, which keep every filter output."""
        y_BDCT = F.gelu(self.norm(self.conv(x_BCT[:, None])))
        y_BDCK = F.adaptive_avg_pool2d(y_BDCT, (x_BCT.shape[1], n_tokens))
        return y_BDCK.permute(0, 2, 3, 1)

    def _normalised_kernels(self, x_BCT: Tensor) -> tuple[Tensor, Tensor]:
        """Kernel (B, J, D) and offset (B, D) that convolve and normalise each segment at once."""
        mean_BJ, covariance_BJJ = tap_moments(x_BCT.double(), self.n_edge)
        w_DJ = self.conv.weight.flatten(1).double()
        mean_BD = mean_BJ @ w_DJ.T + cast(Tensor, self.conv.bias).double()
        variance_BD = ((w_DJ @ covariance_BJJ) * w_DJ).sum(-1)
        # A group's variance: the mean of its filters' variances and the variance of their means.
        mean_BGF = mean_BD.view(len(x_BCT), self.norm.num_groups, -1)
        variance_BGF = variance_BD.view_as(mean_BGF)
        mean_BG1 = mean_BGF.mean(-1, keepdim=True)
        variance_BG1 = (variance_BGF + (mean_BGF - mean_BG1).square()).mean(-1, keepdim=True)
        scale_BD = (variance_BG1 + self.norm.eps).rsqrt().expand_as(mean_BGF).flatten(1)
        scale_BD = scale_BD * self.norm.weight
        centred_BD = cast(Tensor, self.conv.bias) - mean_BG1.expand_as(mean_BGF).flatten(1)
        kernels_BJD = scale_BD[:, None] * w_DJ.T
        offsets_BD = centred_BD * scale_BD + self.norm.bias
        return kernels_BJD.to(x_BCT.dtype), offsets_BD.to(x_BCT.dtype)


def tap_moments(x_BCT: Tensor, n_edge: int) -> tuple[Tensor, Tensor]:
    """Mean (B, J) and covariance (B, J, J) of what each tap sees, over electrodes and samples.

    Tap j of J = 2 n_edge + 1 sees the signal j - n_edge samples later, and zeros beyond its ends.
    Second moments: the first row is J products of the signal with itself moved; each further
    entry is its upper left neighbour, less the product that left the window, plus the one that
    entered.
    """
    n_taps, n = 2 * n_edge + 1, x_BCT.shape[2]
    x_BCU = F.pad(x_BCT, (n_edge, n_edge))
    total = x_BCT.shape[1] * n
    mean_BJ = torch.stack([x_BCU[..., j : j + n].sum((1, 2)) for j in range(n_taps)], 1) / total
    first_BCT = x_BCU[..., :n]
    row_BJ = torch.stack(
        [torch.linalg.vecdot(first_BCT, x_BCU[..., j : j + n]).sum(1) for j in range(n_taps)], 1
    )
    left_BCJ, entered_BCJ = x_BCU[..., : n_taps - 1], x_BCU[..., n : n + n_taps - 1]
    change_BJJ = entered_BCJ.mT @ entered_BCJ - left_BCJ.mT @ left_BCJ
    rows = [row_BJ]
    for j in range(1, n_taps):
        shifted_BJ = rows[-1][:, :-1] + change_BJJ[:, j - 1]
        rows.append(torch.cat([row_BJ[:, j : j + 1], shifted_BJ], 1))
    second_BJJ = torch.stack(rows, 1) / total
    return mean_BJ, second_BJJ - mean_BJ[:, :, None] * mean_BJ[:, None, :]


class Windows(NamedTuple):
    """Which samples each token is the mean of."""

    places_P: Tensor | None
    """Samples in the order of tokens, K * L of them; None if that is 0, 1, 2, ..."""
    shares_KL1: Tensor | None
    """Share of each in its token's mean; None if all are equal."""
    n_tokens: int


def token_windows(n_samples: int, n_tokens: int, device: torch.device) -> Windows:
    """The windows of adaptive average pooling: token k covers floor(k T/K) to ceil((k+1) T/K)."""
    if n_samples % n_tokens == 0:
        return Windows(None, None, n_tokens)
    longest = max(
        -(-(k + 1) * n_samples // n_tokens) - k * n_samples // n_tokens for k in range(n_tokens)
    )
    k_K = torch.arange(n_tokens, device=device)
    start_K1 = (k_K * n_samples // n_tokens)[:, None]
    stop_K1 = (-(-(k_K + 1) * n_samples // n_tokens))[:, None]
    place_KL = start_K1 + torch.arange(longest, device=device)
    inside_KL = place_KL < stop_K1
    shares_KL = inside_KL.double() / (stop_K1 - start_K1)
    return Windows(place_KL.clamp(max=n_samples - 1).flatten(), shares_KL[:, :, None], n_tokens)


def _tokens(x_BCU: Tensor, w_BJD: Tensor, b_BD: Tensor, windows: Windows) -> Tensor:
    """`convolve_and_pool`, keeping only its arguments for backward."""
    if not torch.is_grad_enabled():
        return convolve_and_pool(x_BCU, w_BJD, b_BD, windows)
    tokens = checkpoint(
        convolve_and_pool,
        x_BCU,
        w_BJD,
        b_BD,
        windows,
        use_reentrant=False,
        preserve_rng_state=False,
    )
    return cast(Tensor, tokens)


def convolve_and_pool(x_BCU: Tensor, w_BJD: Tensor, b_BD: Tensor, windows: Windows) -> Tensor:
    """Tokens (B, C, K, D) of padded signals: convolution as a product over taps, GELU, means."""
    n_taps, width = w_BJD.shape[1:]
    taps_BCTJ = x_BCU.unfold(-1, n_taps, 1)
    if windows.places_P is not None:
        taps_BCTJ = taps_BCTJ.index_select(2, windows.places_P)
    y_BPD = torch.baddbmm(b_BD[:, None], taps_BCTJ.reshape(len(x_BCU), -1, n_taps), w_BJD)
    y_BCKLD = F.gelu(y_BPD).view(*x_BCU.shape[:2], windows.n_tokens, -1, width)
    if windows.shares_KL1 is None:
        tokens_BCKD: Tensor = y_BCKLD.mean(3)
    else:
        tokens_BCKD = (y_BCKLD * windows.shares_KL1.to(y_BCKLD.dtype)).sum(3)
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
        x_BCF: Tensor = coefficients_BCF.real if part == "real" else coefficients_BCF.abs()
    if max_hz is None:
        return x_BCF
    if not 0 < max_hz <= sfreq / 2:
        raise ValueError(
            f"need spectrum_max_hz up to {sfreq / 2:g} at {sfreq:g} Hz, got {max_hz:g}"
        )
    return x_BCF[..., : int(max_hz * x_BCT.shape[-1] / sfreq) + 1]
