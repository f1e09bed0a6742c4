"""Encoders of both streams by patches of time, and what is put on them.

Shapes: B segments, C channels (electrodes or leads), T samples, P patches, M samples of a patch,
N = C P tokens, Z width, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emoray.batches.batch import Group, Signal
from emoray.methods import counter_draws
from emoray.methods.alignment.config import EncoderConfig
from emoray.methods.attention import SegmentDropout, fused_attention, heads, queries_keys_values
from emoray.methods.base import PatchEncoder, StreamSpec
from emoray.methods.counter_draws import DropoutKey
from emoray.vocabulary.schema import Stream


def cut(x_BCT: Tensor, n_patches: int, n_samples: int) -> Tensor:
    """Patches one after the other, (B, C, P, M); what is over at the end is left out (2.2).

    Raises:
        ValueError: too few samples.
    """
    if x_BCT.shape[-1] < n_patches * n_samples:
        raise ValueError(
            f"need {n_patches} patches of {n_samples} samples, got {x_BCT.shape[-1]} samples"
        )
    whole_BCT = x_BCT[..., : n_patches * n_samples]
    return whole_BCT.reshape(*x_BCT.shape[:-1], n_patches, n_samples)


def reordered(signal: Signal, order_BP: Tensor) -> Tensor:
    """Segments with their patches in another order, (B, C, P M): the same for any stream.

    Args:
        signal: of any rate; a patch is a P-th of it.
        order_BP: patch p of the result is patch order[p] of the segment.
    """
    n_patches = order_BP.shape[1]
    x_BCPM = cut(signal.x_BCT, n_patches, signal.x_BCT.shape[-1] // n_patches)
    index_BCPM = order_BP[:, None, :, None].expand_as(x_BCPM)
    return x_BCPM.gather(2, index_BCPM).flatten(2)


class Attention(nn.Module):
    """Attention over all tokens of a segment."""

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, h_BNZ: Tensor) -> Tensor:
        """Tokens mixed with one another, (B, N, Z)."""
        qkv_BNF = queries_keys_values(h_BNZ, self.qkv)
        q, k, v = heads(qkv_BNF, self.n_heads).permute(2, 0, 3, 1, 4)
        out_BNZ: Tensor = self.proj(fused_attention(q, k, v).transpose(1, 2).flatten(-2))
        return out_BNZ


class Block(nn.Module):
    """Attention and feed-forward, each followed by a LayerNorm of its sum with what came in."""

    def __init__(self, config: EncoderConfig, layer: int) -> None:
        super().__init__()
        self.attention = Attention(config.width, config.n_heads)
        self.attention_norm = nn.LayerNorm(config.width)
        self.widen = nn.Linear(config.width, config.n_hidden)
        self.narrow = nn.Linear(config.n_hidden, config.width)
        self.feedforward_norm = nn.LayerNorm(config.width)
        self.drops = nn.ModuleList(
            SegmentDropout(config.dropout, 1 + 3 * layer + i) for i in range(3)
        )

    def forward(self, h_BNZ: Tensor, key_B: Tensor | None) -> Tensor:
        """One layer."""
        drop = self.drops
        h_BNZ = self.attention_norm(h_BNZ + drop[0](self.attention(h_BNZ), key_B))
        wide_BNF = drop[1](F.gelu(self.widen(h_BNZ)), key_B)
        out_BNZ: Tensor = self.feedforward_norm(h_BNZ + drop[2](self.narrow(wide_BNF), key_B))
        return out_BNZ


class Encoder(nn.Module):
    """iTransformer (Liu et al. 2023) with a token for each patch of each channel.

    There a token is a channel's whole segment: so it is here with patches as long as segments. That
    a token is a patch, that it knows which channel and which place it is of (without which shuffled
    patches would be the same set), and that channels are averaged in the end, is not in the paper.

    Args:
        config: sizes.
        spec: of the segments to come: channels, rate, length.
        stream: which of a group's signals is read.

    Raises:
        ValueError: a patch longer than the segments, or not of whole samples.
    """

    def __init__(self, config: EncoderConfig, spec: StreamSpec, stream: Stream) -> None:
        super().__init__()
        self.stream = stream
        self.spec = spec
        self.width = config.width
        self.n_patches = config.n_patches(spec.input_window_seconds)
        self.n_samples = config.n_samples(spec.sfreq)
        self.embedding = nn.Linear(self.n_samples, config.width)
        self.channels_CZ = nn.Parameter(0.02 * torch.randn(spec.n_chans, config.width))
        self.places_PZ = nn.Parameter(0.02 * torch.randn(self.n_patches, config.width))
        self.drop = SegmentDropout(config.dropout, 0)
        self.blocks = nn.ModuleList(Block(config, i) for i in range(config.n_layers))
        self.norm = nn.LayerNorm(config.width)

    def forward(
        self, x_BCT: Tensor, key_B: Tensor | None = None, seen_BCP: Tensor | None = None
    ) -> Tensor:
        """Tokens, (B, C, P, Z).

        Args:
            x_BCT: segments of the shape that it was built for; what lies behind the last whole
                patch is not read.
            key_B: of the segments, for dropout; None for none.
            seen_BCP: patches that are not False in it are seen; the others are zero.
        """
        self._check(x_BCT)
        x_BCPM = cut(x_BCT, self.n_patches, self.n_samples).to(self.embedding.weight.dtype)
        h_BCPZ = self.embedding(x_BCPM)
        if seen_BCP is not None:
            h_BCPZ = h_BCPZ * seen_BCP[..., None]
        h_BCPZ = h_BCPZ + self.channels_CZ[:, None] + self.places_PZ
        h_BNZ = self.drop(h_BCPZ.flatten(1, 2), key_B)
        for block in self.blocks:
            h_BNZ = block(h_BNZ, key_B)
        tokens_BCPZ: Tensor = self.norm(h_BNZ).view(h_BCPZ.shape)
        return tokens_BCPZ

    def patches(self, group: Group, n_patches: int, key: DropoutKey | None = None) -> Tensor:
        """Embeddings of its patches, the mean over channels, (B, P, Z).

        Raises:
            ValueError: it sees another number of patches.
        """
        if n_patches != self.n_patches:
            raise ValueError(
                f"need the encoder's {self.n_patches} patches a segment, got {n_patches}"
            )
        signal = group[self.stream]
        tokens_BCPZ: Tensor = self(signal.x_BCT, _keys(group, key))
        return tokens_BCPZ.mean(1)

    def _check(self, x_BCT: Tensor) -> None:
        n_chans, shortest = self.spec.n_chans, self.n_patches * self.n_samples
        if x_BCT.ndim != 3 or x_BCT.shape[1] != n_chans or x_BCT.shape[2] < shortest:
            raise ValueError(
                f"need {self.stream} of shape (B, {n_chans}, {shortest} or more), "
                f"got {tuple(x_BCT.shape)}"
            )


def _keys(group: Group, key: DropoutKey | None) -> Tensor | None:
    if key is None:
        return None
    return counter_draws.segment_keys(key, group.positions_B, counter_draws.DROPOUT)


class Autoencoder(nn.Module):
    """An encoder, and each token turned back into its patch."""

    def __init__(self, encoder: Encoder, masked: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.width, encoder.n_samples)
        self.masked = masked

    def forward(self, groups: Sequence[Group], key: DropoutKey) -> Tensor:
        """Mean square error of each segment, (B,): over masked patches where there are any."""
        return torch.cat([self._errors_B(group, key) for group in groups])

    def _errors_B(self, group: Group, key: DropoutKey) -> Tensor:
        encoder, x_BCT = self.encoder, group[self.encoder.stream].x_BCT
        wanted_BCPM = cut(x_BCT, encoder.n_patches, encoder.n_samples)
        seen_BCP = self._seen(group, wanted_BCPM, key) if self.masked else None
        told_BCPM = self.head(encoder(x_BCT, _keys(group, key), seen_BCP))
        error_BCP = (told_BCPM.to(x_BCT.dtype) - wanted_BCPM).square().mean(-1)
        counts_BCP = torch.ones_like(error_BCP)
        if seen_BCP is not None:
            counts_BCP = (~seen_BCP).to(error_BCP.dtype)
        errors_B: Tensor = (error_BCP * counts_BCP).sum((1, 2)) / counts_BCP.sum((1, 2)).clamp(
            min=1
        )
        return errors_B

    def _seen(self, group: Group, x_BCPM: Tensor, key: DropoutKey) -> Tensor:
        key_B = counter_draws.segment_keys(key, group.positions_B, counter_draws.MASK)
        n = x_BCPM.shape[1] * x_BCPM.shape[2]
        return (counter_draws.uniforms(key_B, n) >= self.masked).view(x_BCPM.shape[:3])


class Student(nn.Module):
    """The ECG's encoder, with a linear map to the teacher's width where theirs differ.

    Args:
        encoder: a `PatchEncoder`.
        width: the teacher's.
    """

    def __init__(self, encoder: nn.Module, width: int) -> None:
        super().__init__()
        self.encoder = encoder
        own = as_patches(encoder).width
        self.head = nn.Identity() if own == width else nn.Linear(own, width)

    def forward(
        self, groups: Sequence[Group], n_patches: int, key: DropoutKey | None = None
    ) -> Tensor:
        """Embeddings of patches in the teacher's space, (B, P, Z)."""
        encoder = as_patches(self.encoder)
        z_BPZ = torch.cat([encoder.patches(group, n_patches, key) for group in groups])
        out_BPZ: Tensor = self.head(z_BPZ)
        return out_BPZ


class Classifier(nn.Module):
    """An encoder, and a fully connected layer on the mean of its patches ("Classification")."""

    def __init__(self, encoder: nn.Module, n_patches: int, n_outputs: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.n_patches = n_patches
        self.head = nn.Linear(as_patches(encoder).width, n_outputs)

    def forward(self, groups: Sequence[Group], key: DropoutKey | None = None) -> Tensor:
        """Class scores, (B, K); no dropout without a key."""
        scores_BK: Tensor = self.head(self._embedded(groups, key))
        return scores_BK

    def embed(self, groups: Sequence[Group]) -> Tensor:
        """Embeddings, the mean over patches, (B, Z)."""
        return self._embedded(groups, None)

    def _embedded(self, groups: Sequence[Group], key: DropoutKey | None) -> Tensor:
        encoder = as_patches(self.encoder)
        return torch.cat([encoder.patches(group, self.n_patches, key).mean(1) for group in groups])


def as_patches(encoder: nn.Module) -> PatchEncoder:
    """The module as what it must be, which types cannot say of a submodule.

    Raises:
        TypeError: it does not see patches.
    """
    if not hasattr(encoder, "patches"):
        raise TypeError(f"need an encoder by patches of time, got {type(encoder).__name__}")
    return encoder  # type: ignore[return-value]
