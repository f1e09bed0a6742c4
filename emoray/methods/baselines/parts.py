"""What the baselines written here share: transformer blocks, and what they ask of a segment.

Shapes: B segments, C electrodes, T samples, N tokens, D width of a token, H heads, E width of a
head.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class SelfAttention(nn.Module):
    """Attention of H heads of any width E over tokens, (B, N, D) to (B, N, D).

    Keys have no bias: it would add the same to all scores of a query and cancel in the softmax.

    Args:
        width: D.
        n_heads: H.
        head_width: E; H x E need not be D.
        scale: what products of queries and keys are multiplied by.
        dropout: of the attention weights.
        bias: whether queries and values have one.
    """

    def __init__(
        self,
        width: int,
        n_heads: int,
        head_width: int,
        *,
        scale: float,
        dropout: float = 0.0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        inner = n_heads * head_width
        self.queries = nn.Linear(width, inner, bias=bias)
        self.keys = nn.Linear(width, inner, bias=False)
        self.values = nn.Linear(width, inner, bias=bias)
        self.out = nn.Linear(inner, width)
        self.n_heads = n_heads
        self.scale = scale
        self.dropout = dropout

    def forward(self, x_BND: Tensor) -> Tensor:
        """Tokens mixed with one another, (B, N, D)."""
        q, k, v = (self._heads(linear(x_BND)) for linear in (self.queries, self.keys, self.values))
        dropout = self.dropout if self.training else 0.0
        mixed_BHNE = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=self.scale)
        out_BND: Tensor = self.out(mixed_BHNE.transpose(1, 2).flatten(2))
        return out_BND

    def _heads(self, x: Tensor) -> Tensor:
        """(B, N, H x E) to (B, H, N, E)."""
        return x.view(*x.shape[:2], self.n_heads, -1).transpose(1, 2)


class TransformerBlock(nn.Module):
    """Attention, then two linear layers, each after a LayerNorm and beside an identity.

    Args:
        attention: tokens (B, N, D) to tokens.
        width: D.
        hidden: width between the two linear layers.
        dropout: after the attention, and after each linear layer.
    """

    def __init__(
        self, attention: SelfAttention, width: int, hidden: int, *, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.mix = nn.Sequential(nn.LayerNorm(width), attention, nn.Dropout(dropout))
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, width),
            nn.Dropout(dropout),
        )

    def forward(self, x_BND: Tensor) -> Tensor:
        """Tokens of the next block, (B, N, D)."""
        x_BND = x_BND + self.mix(x_BND)
        out_BND: Tensor = x_BND + self.feed_forward(x_BND)
        return out_BND


def check_spec(
    name: str, *, n_chans: int, n_times: int, channels: Sequence[str], shortest: int
) -> None:
    """Refuse to build for facts that disagree or segments too short.

    Raises:
        ValueError: there are not `n_chans` names, or less than `shortest` samples.
    """
    if len(channels) != n_chans:
        raise ValueError(f"{name}: need {n_chans} electrode names, got {len(channels)}")
    if n_times < shortest:
        raise ValueError(f"{name}: need segments of at least {shortest} samples, got {n_times}")


def check_segments(name: str, x_BCT: Tensor, *, n_chans: int, n_times: int | None = None) -> None:
    """Refuse segments that a model was not built for.

    Args:
        name: of the model, for the message.
        x_BCT: what came.
        n_chans: C it was built for.
        n_times: T it was built for; None where any length will do.

    Raises:
        ValueError: the shape is another.
    """
    fits = x_BCT.ndim == 3 and x_BCT.shape[1] == n_chans
    if not fits or n_times not in (None, x_BCT.shape[2]):
        need = f"(B, {n_chans}, {'T' if n_times is None else n_times})"
        raise ValueError(f"{name}: need EEG of shape {need}, got {tuple(x_BCT.shape)}")
