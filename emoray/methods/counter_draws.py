"""Random numbers as a pure function of a key: no generator, no state, no order of calls.

A draw depends on (seed, step, segment's place in the step's global batch, ...) and on nothing
else, so that W workers draw exactly what one would, and a resumed run needs no generator state.
Integer arithmetic wraps, alike on CPU and GPU.
Shapes: N keys, T tokens, D width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

DROPOUT = 1
AUGMENTATION = 2
MASK = 3
ORDER = 4
CHOICE = 5
"""Purposes: what a segment's key is for, so that no two uses share their draws. What is not seen,
orders of its parts, and which of them a step takes."""
SECOND_VIEW = 1 << 20
"""Added to the positions of second views of the same segments, so that their draws are others."""

_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_MIX_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX_2 = 0x94D049BB133111EB - (1 << 64)
_LOW_1 = 0x7FEB352D
_LOW_2 = 0x846CA68B - (1 << 32)


class DropoutKey:
    """Which draws a forward uses: those of one step of one run.

    Both numbers are kept as int64 tensors without axes, so that code compiled for one step serves
    the next.
    """

    def __init__(self, seed: int | Tensor, step: int | Tensor) -> None:
        self.seed = torch.as_tensor(seed, dtype=torch.int64)
        self.step = torch.as_tensor(step, dtype=torch.int64)


def mix(key: Tensor) -> Tensor:
    """Scatter an int64 over all 64 bits (the finaliser of SplitMix64, Steele et al. 2014)."""
    key = (key ^ ((key >> 30) & 0x3FFFFFFFF)) * _MIX_1
    key = (key ^ ((key >> 27) & 0x1FFFFFFFFF)) * _MIX_2
    return key ^ ((key >> 31) & 0x1FFFFFFFF)


def fold(key: Tensor, part: Tensor | int) -> Tensor:
    """A new int64 key from a key and one more coordinate; broadcasts."""
    return mix(mix(key) + _GOLDEN + part)


def segment_keys(key: DropoutKey, positions_B: Tensor, purpose: int) -> Tensor:
    """One key per segment, from its place in the step's global batch; shape (B,)."""
    return fold(fold(fold(fold(key.seed, purpose), key.step), 0), positions_B)


def step_key(key: DropoutKey, purpose: int) -> Tensor:
    """One key for what all segments of a step share; shape ()."""
    return fold(fold(fold(fold(key.seed, purpose), key.step), 1), 0)


def uniforms(key_N: Tensor, n: int) -> Tensor:
    """`n` numbers in [0, 1) per key, float64, shape (N, n)."""
    words_Nn = fold(key_N[..., None], torch.arange(n, device=key_N.device))
    return ((words_Nn >> 11) & ((1 << 53) - 1)).double() * 2.0**-53


def normals(key_N: Tensor, n: int) -> Tensor:
    """`n` standard normal numbers per key (Box and Muller), float64, shape (N, n)."""
    half = (n + 1) // 2
    u_Nn = uniforms(key_N, 2 * half)
    radius = torch.sqrt(-2 * torch.log1p(-u_Nn[..., :half]))
    angle = 2 * math.pi * u_Nn[..., half:]
    return torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], dim=-1)[..., :n]


def drop_threshold(p: float) -> int:
    """How many of the 65,536 values of a 16-bit word mean "drop": p to 1/131,072."""
    return round(p * 65536)


def keep_mask(key_N: Tensor, n_tokens: int, width: int, p: float) -> Tensor:
    """Which elements dropout keeps, bool, shape (N, n_tokens, width).

    One 32-bit word serves two elements. Keys and elements are scattered apart over 32 bits,
    added, and finished with the two multiplications of a 32-bit hash, which keeps the work per
    element low enough to run eagerly.
    """
    device = key_N.device
    tokens_NT = fold(key_N[:, None], torch.arange(n_tokens, device=device)) >> 32
    pairs_E = mix(torch.arange(1, (width + 1) // 2 + 1, device=device) * _GOLDEN) >> 32
    words = tokens_NT.to(torch.int32)[..., None] + pairs_E.to(torch.int32)
    words = (words ^ ((words >> 16) & 0xFFFF)) * _LOW_1
    words = (words ^ ((words >> 15) & 0x1FFFF)) * _LOW_2
    words = words ^ ((words >> 16) & 0xFFFF)
    return words.view(torch.int16)[..., :width] >= drop_threshold(p) - 32768


def dropout(x_NTD: Tensor, key_N: Tensor, p: float) -> Tensor:
    """Zero elements with probability `p` and scale the rest, by the mask of `key_N`.

    `p` is rounded to 1/65,536 and the scale is that of the rounded `p`, so the mean is kept.
    """
    kept = 1 - drop_threshold(p) / 65536
    keep = keep_mask(key_N, x_NTD.shape[1], x_NTD.shape[2], p)
    return (x_NTD * (1 / kept)).masked_fill(~keep, 0.0)
