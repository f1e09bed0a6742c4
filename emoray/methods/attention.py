"""What the attention of several methods shares: heads, fused kernels, dropout by segment.

Shapes: N sequences or segments, K tokens, D width, H heads, E width of a head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emoray.methods import counter_draws

SEQUENCES_AT_ONCE = 1 << 15


class SegmentDropout(nn.Module):
    """Dropout whose mask follows the segment (`draws`), not the worker or the call."""

    def __init__(self, p: float, site: int) -> None:
        super().__init__()
        self.p = p
        self.site = site

    def forward(self, x_NKD: Tensor, key_N: Tensor | None) -> Tensor:
        """Drop elements of each sequence by its key; identity in evaluation or without keys."""
        if key_N is None or not self.training or self.p == 0:
            return x_NKD
        return counter_draws.dropout(x_NKD, counter_draws.fold(key_N, self.site), self.p)

    def extra_repr(self) -> str:
        """What `print` shows."""
        return f"p={self.p}, site={self.site}"


def queries_keys_values(h: Tensor, qkv: nn.Linear) -> Tensor:
    """Queries, keys and values side by side, the keys without their bias.

    A bias of the keys adds the same to all scores of a query and cancels in the softmax. Its
    gradient would be rounding noise, which AdamW blows up to full steps: weights would depend on
    the number of workers in their fourth digit. It stays among the parameters, as released.
    """
    bias_q, bias_k, bias_v = torch.chunk(qkv.bias, 3)
    return F.linear(h, qkv.weight, torch.cat([bias_q, torch.zeros_like(bias_k), bias_v]))


def fused_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Torch's fused attention; its GPU kernels take 65,535 sequences at most (pytorch#142228)."""
    parts = zip(*(torch.split(t, SEQUENCES_AT_ONCE) for t in (q, k, v)), strict=True)
    return torch.cat([F.scaled_dot_product_attention(q, k, v) for q, k, v in parts])


def heads(qkv: Tensor, n_heads: int) -> Tensor:
    """Split the last axis, 3 D, into (3, H, E): queries, keys and values of each head."""
    return qkv.view(*qkv.shape[:-1], 3, n_heads, -1)
