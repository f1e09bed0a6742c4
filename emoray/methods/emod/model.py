"""EMOD's backbone and projection head (Chen et al., EMOD, Eqs 1-3 and Figure 2).

Shapes: B segments of one dataset, C electrodes, T samples, N = sequences (segment, electrode) of
all datasets of a forward, K time tokens, D width, H heads, E width of a head.
One forward takes all datasets of a batch: linear layers and temporal attention see every sequence
of equal K at once, only attention over electrodes goes dataset by dataset.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from emoray.batches.batch import Group
from emoray.batches.distributed import gather_with_grad
from emoray.methods import counter_draws
from emoray.methods.attention import (
    SegmentDropout,
    fused_attention,
    heads,
    queries_keys_values,
)
from emoray.methods.counter_draws import DropoutKey
from emoray.methods.emod.config import EncoderConfig, HeadKind
from emoray.methods.emod.frontend import Branch, spectrum
from emoray.vocabulary import electrodes
from emoray.vocabulary.electrodes import N_EMBEDDINGS

__all__ = [
    "DropoutKey",
    "EmodClassifier",
    "EmodPretraining",
    "Encoder",
    "EncoderConfig",
    "Group",
    "ProjectionHead",
]

SCORES_AT_ONCE = 1 << 27
"""Attention scores held at once, 0.5 GB in float32; beyond it they are recomputed in backward.
The paper's step has 10,656 sequences x 16 heads x 50 x 50 = 426 million per layer."""


class SpatialAttention(nn.Module):
    """Attention over the electrodes of a segment, at each time token by itself."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.n_heads = config.n_heads
        self.qkv = nn.Linear(config.d_model, 3 * config.d_model)
        self.proj = nn.Linear(config.d_model, config.d_model)

    def forward(self, h_NKD: Tensor, shapes: Sequence[tuple[int, int]]) -> Tensor:
        """Attend within each segment; `shapes` lists (B, C) of the groups stacked in N."""
        qkv_NKF = queries_keys_values(h_NKD, self.qkv)
        parts = torch.split(qkv_NKF, [b * c for b, c in shapes])
        mixed = [
            self._attend(part.view(b, c, *part.shape[1:])).flatten(0, 1)
            for part, (b, c) in zip(parts, shapes, strict=True)
        ]
        out_NKD: Tensor = self.proj(torch.cat(mixed))
        return out_NKD

    def _attend(self, qkv_BCKF: Tensor) -> Tensor:
        """(B, C, K, 3 D) to (B, C, K, D)."""
        b, c, n_tokens, _ = qkv_BCKF.shape
        parts_BKHCE = heads(qkv_BCKF, self.n_heads).permute(3, 0, 2, 4, 1, 5)
        # Four axes, at the price of a copy: with five there is no fused kernel.
        q, k, v = parts_BKHCE.flatten(1, 2)
        mixed_BKHCE = fused_attention(q, k, v).view(b, n_tokens, self.n_heads, c, -1)
        return mixed_BKHCE.permute(0, 3, 1, 2, 4).flatten(-2)


class TemporalAttention(nn.Module):
    """Attention over the time tokens of one electrode, with relative distances (Eq. 3).

    The released code reshapes (D, K) as (K, D) first, which scrambles time and width.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.n_heads = config.n_heads
        self.max_offset = config.max_offset
        self.qkv = nn.Linear(config.d_model, 3 * config.d_model)
        self.proj = nn.Linear(config.d_model, config.d_model)
        if config.relative_time:
            n_offsets = 2 * config.max_offset - 1
            self.offsets_OE = nn.Parameter(torch.randn(n_offsets, config.d_model // config.n_heads))
        else:
            self.register_parameter("offsets_OE", None)

    def forward(self, h_NKD: Tensor) -> Tensor:
        """Attend within each sequence."""
        q, k, v = heads(queries_keys_values(h_NKD, self.qkv), self.n_heads).permute(2, 0, 3, 1, 4)
        if self.offsets_OE is None:
            mixed_NHKE = fused_attention(q, k, v)
        else:
            mixed_NHKE = relative_attention(q, k, v, self._offsets(h_NKD.shape[1]))
        out_NKD: Tensor = self.proj(mixed_NHKE.transpose(1, 2).flatten(-2))
        return out_NKD

    def _offsets(self, n_tokens: int) -> Tensor:
        """Row r_(i-j) of the table for every pair of tokens, shape (K, K, E)."""
        place = torch.arange(n_tokens, device=self.offsets_OE.device)
        furthest = self.max_offset - 1
        offsets_KK = (place[:, None] - place[None, :]).clamp(-furthest, furthest) + furthest
        return self.offsets_OE[offsets_KK]


def relative_attention(q: Tensor, k: Tensor, v: Tensor, offsets_KKE: Tensor) -> Tensor:
    """Softmax of q_i k_j / sqrt(E) + q_i r_(i-j), applied to v (Eq. 3).

    Eq. 3 adds a matrix R; as in the released code its entries depend on the query.

    Args:
        q: shape (N, H, K, E), as `k` and `v`.
        k: keys.
        v: values.
        offsets_KKE: r for every pair of query and key.
    """
    n_at_once = max(1, SCORES_AT_ONCE // (q.shape[1] * q.shape[2] ** 2))
    if len(q) <= n_at_once:
        return _relative_attention(q, k, v, offsets_KKE)
    attend = _recomputed if torch.is_grad_enabled() else _relative_attention
    parts = zip(*(torch.split(t, n_at_once) for t in (q, k, v)), strict=True)
    return torch.cat([attend(q, k, v, offsets_KKE) for q, k, v in parts])


def _recomputed(q: Tensor, k: Tensor, v: Tensor, offsets_KKE: Tensor) -> Tensor:
    """`_relative_attention`, keeping only its arguments for backward."""
    mixed_NHKE = checkpoint(
        _relative_attention, q, k, v, offsets_KKE, use_reentrant=False, preserve_rng_state=False
    )
    return cast(Tensor, mixed_NHKE)


def _relative_attention(q: Tensor, k: Tensor, v: Tensor, offsets_KKE: Tensor) -> Tensor:
    n, h, n_tokens, width = q.shape
    # q_i r_(i-j) as one product per query token, (N H, E) by (E, K): no work on unused offsets.
    by_query_KME = q.permute(2, 0, 1, 3).reshape(n_tokens, n * h, width)
    biases_MKK = torch.bmm(by_query_KME, offsets_KKE.to(q.dtype).mT).transpose(0, 1)
    q_MKE, k_MKE, v_MKE = (part.reshape(n * h, n_tokens, width) for part in (q, k, v))
    scores_MKK = torch.baddbmm(biases_MKK, q_MKE, k_MKE.mT, alpha=width**-0.5)
    weights_MKK = torch.softmax(scores_MKK, dim=-1, dtype=_at_least_float32(q))
    return (weights_MKK.to(v.dtype) @ v_MKE).view(n, h, n_tokens, width)


class Block(nn.Module):
    """Spatial attention, temporal attention and feed-forward, each after its LayerNorm."""

    def __init__(self, config: EncoderConfig, layer: int) -> None:
        super().__init__()
        d = config.d_model
        self.spatial = SpatialAttention(config) if config.spatial_attention else None
        self.spatial_norm = nn.LayerNorm(d) if config.spatial_attention else None
        self.temporal = TemporalAttention(config) if config.temporal_attention else None
        self.temporal_norm = nn.LayerNorm(d) if config.temporal_attention else None
        self.feedforward_norm = nn.LayerNorm(d)
        self.widen = nn.Linear(d, config.d_feedforward)
        self.narrow = nn.Linear(config.d_feedforward, d)
        self.drops = nn.ModuleList(SegmentDropout(config.dropout, 4 * layer + i) for i in range(4))

    def forward(
        self, h_NKD: Tensor, shapes: Sequence[tuple[int, int]], key_N: Tensor | None
    ) -> Tensor:
        """One layer; `shapes` lists (B, C) of the groups stacked in N."""
        drop = self.drops
        if self.spatial is not None and self.spatial_norm is not None:
            h_NKD = h_NKD + drop[0](self.spatial(self.spatial_norm(h_NKD), shapes), key_N)
        if self.temporal is not None and self.temporal_norm is not None:
            h_NKD = h_NKD + drop[1](self.temporal(self.temporal_norm(h_NKD)), key_N)
        wide_NKF = drop[2](F.gelu(self.widen(self.feedforward_norm(h_NKD))), key_N)
        out_NKD: Tensor = h_NKD + drop[3](self.narrow(wide_NKF), key_N)
        return out_NKD


class Encoder(nn.Module):
    """Triple-Domain Encoder and Spatial-Temporal Transformer: EEG of any montage to tokens."""

    def __init__(self, config: EncoderConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or EncoderConfig()
        d = config.d_model
        branch = (d, config.kernel, config.n_norm_groups, config.frontend)
        self.time_branch = Branch(*branch) if config.time_tokens else None
        self.frequency_branch = Branch(*branch) if config.frequency_tokens else None
        self.fuse = nn.Linear((config.time_tokens + config.frequency_tokens) * d, d)
        self.electrodes = nn.Embedding(N_EMBEDDINGS, d) if config.electrode_embedding else None
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.n_layers))

    def forward(self, groups: Sequence[Group], key: DropoutKey | None = None) -> list[Tensor]:
        """Tokens of each group, shape (B, C, K, D), in the order of `groups`.

        Args:
            groups: one per dataset; any number of electrodes, rates and lengths.
            key: which dropout masks to draw; may be None in evaluation or without dropout.

        Raises:
            ValueError: no group, a group whose parts disagree in shape, or no key while training
                with dropout.
        """
        if not groups:
            raise ValueError("need at least one group of segments, got none")
        if key is None and self.training and self.config.dropout > 0:
            raise ValueError("need a DropoutKey to train with dropout, got None")
        n_tokens = [self.n_tokens(group) for group in groups]
        tokens: list[Tensor | None] = [None] * len(groups)
        for n in dict.fromkeys(n_tokens):  # a set would lose the order
            same = [i for i, n_i in enumerate(n_tokens) if n_i == n]
            for i, h_BCKD in zip(
                same, self._encode([groups[i] for i in same], n, key), strict=True
            ):
                tokens[i] = h_BCKD
        return [h_BCKD for h_BCKD in tokens if h_BCKD is not None]

    @property
    def width(self) -> int:
        """D."""
        return self.config.d_model

    def patches(self, group: Group, n_patches: int, key: DropoutKey | None = None) -> Tensor:
        """Means of its tokens over electrodes and equal parts of time, (B, P, D)."""
        (tokens_BCKD,) = self((group,), key)
        pooled_BDP = F.adaptive_avg_pool1d(tokens_BCKD.mean(1).transpose(1, 2), n_patches)
        return pooled_BDP.transpose(1, 2)

    def n_tokens(self, group: Group) -> int:
        """Time tokens of a group's segments.

        Raises:
            ValueError: the group's parts disagree in shape, or its segments are too short.
        """
        eeg = group["eeg"]
        if eeg.x_BCT.ndim != 3 or len(eeg.channels) != eeg.x_BCT.shape[1]:
            came = f"{tuple(eeg.x_BCT.shape)} and {len(eeg.channels)} electrodes"
            raise ValueError(f"need EEG (B, C, T) and C electrodes, got {came}")
        if group.positions_B.shape != eeg.x_BCT.shape[:1]:
            came = f"{tuple(group.positions_B.shape)} for {eeg.x_BCT.shape[0]} segments"
            raise ValueError(f"need one position per segment, got {came}")
        seconds = eeg.x_BCT.shape[2] / eeg.sfreq
        n = round(seconds * self.config.tokens_per_s)
        if n < 1:
            raise ValueError(f"need segments of at least one token, got {seconds:g} s")
        return n

    def _encode(self, groups: Sequence[Group], n: int, key: DropoutKey | None) -> list[Tensor]:
        """Tokens of groups of equal K."""
        shapes = [(g["eeg"].x_BCT.shape[0], g["eeg"].x_BCT.shape[1]) for g in groups]
        h_NKD = self.fuse(torch.cat([self._front(g, n).flatten(0, 1) for g in groups]))
        # From here on the residual stream keeps the parameters' type, also under autocast.
        h_NKD = F.gelu(h_NKD).to(self.fuse.weight.dtype)
        if self.electrodes is not None:
            ids_N = torch.cat([_electrode_ids_C(g).repeat(len(g)) for g in groups])
            h_NKD = h_NKD + self.electrodes(ids_N)[:, None]
        key_N = None if key is None else torch.cat([_sequence_keys(g, key) for g in groups])
        for block in self.blocks:
            h_NKD = block(h_NKD, shapes, key_N)
        parts = torch.split(h_NKD, [b * c for b, c in shapes])
        return [
            part.view(*shape, *part.shape[1:]) for part, shape in zip(parts, shapes, strict=True)
        ]

    def _front(self, group: Group, n: int) -> Tensor:
        """Time and frequency tokens side by side (Eq. 1 before its linear map)."""
        eeg = group["eeg"]
        x_BCT = eeg.x_BCT.to(self.fuse.weight.dtype)
        parts = []
        if self.time_branch is not None:
            parts.append(self.time_branch(x_BCT, n))
        if self.frequency_branch is not None:
            config = self.config
            x_BCF = spectrum(x_BCT, eeg.sfreq, config.spectrum, config.spectrum_max_hz)
            parts.append(self.frequency_branch(x_BCF, n))
        return torch.cat(parts, dim=-1)


class DatasetNorm(nn.Module):
    """Batch normalisation over each dataset's segments of the *global* batch.

    The released head runs BatchNorm1d on one dataset at a time and on each GPU's part of it. The
    first is kept: what tells caps and rates apart is taken away before datasets meet (LayerNorm was
    tried, and the embeddings fell into one point; docs/differences.md says what that shows). The
    second is not: statistics are of all workers' segments, so that the step does not depend on
    their number.
    """

    def __init__(self, width: int, *, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))
        self.running_mean: Tensor
        self.running_var: Tensor
        self.momentum = momentum
        self.eps = eps

    def forward(self, x_BD: Tensor, sizes: Sequence[int]) -> Tensor:
        """Normalise; `sizes` are the groups' numbers of segments, adding to B, equal on all ranks.

        In evaluation the running mean and variance over all datasets stand in.
        """
        # Segments differ little before they are centred: in float64, or rounding, which depends on
        # how they were dealt, would reach the fifth digit of the gradients.
        dtype, x_BD = _at_least_float32(x_BD), x_BD.double()
        if not self.training:
            return self._scaled(x_BD, self.running_mean, self.running_var).to(dtype)
        everyones_WBD = gather_with_grad(x_BD).view(-1, *x_BD.shape)
        parts, means, variances = [], [], []
        for own_BD, all_WBD in zip(
            torch.split(x_BD, list(sizes)),
            torch.split(everyones_WBD, list(sizes), dim=1),
            strict=True,
        ):
            variance_D, mean_D = torch.var_mean(all_WBD.flatten(0, 1), dim=0, correction=0)
            parts.append(self._scaled(own_BD, mean_D, variance_D))
            means.append(mean_D)
            variances.append(variance_D)
        self._follow(torch.stack(means), torch.stack(variances))
        return torch.cat(parts).to(dtype)

    def _scaled(self, x_BD: Tensor, mean_D: Tensor, variance_D: Tensor) -> Tensor:
        return (x_BD - mean_D) * torch.rsqrt(variance_D + self.eps) * self.weight + self.bias

    @torch.no_grad()
    def _follow(self, means_GD: Tensor, variances_GD: Tensor) -> None:
        self.running_mean.lerp_(means_GD.mean(0).to(self.running_mean.dtype), self.momentum)
        self.running_var.lerp_(variances_GD.mean(0).to(self.running_var.dtype), self.momentum)


class ProjectionHead(nn.Module):
    """Pool tokens by attention over electrodes, then over time; map to the unit sphere.

    The released head drops pooling weights; ours does not.
    """

    def __init__(self, d_model: int = 128) -> None:
        super().__init__()
        # Without bias, which would cancel in the softmax (see `queries_keys_values`).
        self.electrode_score = nn.Linear(d_model, 1, bias=False)
        self.time_score = nn.Linear(d_model, 1, bias=False)
        self.widen = nn.Linear(d_model, 4 * d_model, bias=False)
        self.norm = DatasetNorm(4 * d_model)
        self.narrow = nn.Linear(4 * d_model, d_model)

    def pool(self, tokens_BCKD: Tensor) -> Tensor:
        """One vector per segment, shape (B, D)."""
        pooled_BKD = attention_pool(tokens_BCKD, self.electrode_score, dim=1)
        return attention_pool(pooled_BKD, self.time_score, dim=1)

    def forward(self, tokens: Sequence[Tensor]) -> Tensor:
        """Embeddings of unit length of all groups' segments, in the order of the groups, (B, D)."""
        pooled_BD = torch.cat([self.pool(tokens_BCKD) for tokens_BCKD in tokens])
        sizes = [len(tokens_BCKD) for tokens_BCKD in tokens]
        z_BD = self.narrow(F.gelu(self.norm(self.widen(pooled_BD), sizes)))
        return F.normalize(z_BD.to(_at_least_float32(z_BD)), dim=-1)


def attention_pool(tokens: Tensor, score: nn.Linear, *, dim: int) -> Tensor:
    """Mean over axis `dim`, weighted by the softmax of a score of each token."""
    weights = torch.softmax(score(tokens).to(_at_least_float32(tokens)), dim=dim)
    return (tokens * weights.to(tokens.dtype)).sum(dim)


class EmodPretraining(nn.Module):
    """Encoder and head as one module, so that DDP and compilation see one forward per step."""

    def __init__(self, config: EncoderConfig | None = None) -> None:
        super().__init__()
        self.encoder = Encoder(config)
        self.head = ProjectionHead(self.encoder.config.d_model)

    def forward(self, groups: Sequence[Group], key: DropoutKey | None = None) -> Tensor:
        """Embeddings of unit length, shape (B, D), stacked in the order of `groups`."""
        z_BD: Tensor = self.head(self.encoder(groups, key))
        return z_BD

    @torch.no_grad()
    def embed(self, groups: Sequence[Group]) -> Tensor:
        """What a frozen read-out sees: the encoder's tokens averaged over electrodes and time.

        Shape (B, D), stacked in the order of `groups`. Without dropout; call it in evaluation
        mode, or `forward`'s key is missed.
        """
        return torch.cat([tokens.mean((1, 2)) for tokens in self.encoder(groups)])


class FeatureNorm(nn.Module):
    """Each feature minus its mean and over its deviation: of the batch in training, running after.

    Batch normalisation over the *global* batch, without weights; its running statistics are the
    mean over all batches until ten have come: with a fixed share of a tenth they would lag behind
    in short runs.
    """

    def __init__(self, width: int, *, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("variance", torch.ones(width))
        self.register_buffer("n_batches", torch.zeros(()))
        self.mean: Tensor
        self.variance: Tensor
        self.n_batches: Tensor
        self.momentum = momentum
        self.eps = eps

    def forward(self, x_BD: Tensor) -> Tensor:
        """Normalise; two segments or more in training, of all workers, or all become zero."""
        mean_D, variance_D = self.mean, self.variance
        if self.training:
            variance_D, mean_D = torch.var_mean(gather_with_grad(x_BD), dim=0, correction=0)
            with torch.no_grad():
                self.n_batches += 1
                weight = (1 / self.n_batches).clamp(min=self.momentum)
                self.mean.lerp_(mean_D.to(self.mean.dtype), weight)
                self.variance.lerp_(variance_D.to(self.variance.dtype), weight)
        return (x_BD - mean_D) * torch.rsqrt(variance_D + self.eps)


class ClassifierHead(nn.Module):
    """Class scores from the mean of a segment's tokens, each feature standardised.

    Standardised as a read-out's are: what all tokens have in common is many times larger than what
    tells segments apart, and a bare linear layer does not get past it in hundreds of steps (on
    rehearsal data it stayed at chance). After training the norm is part of the linear map.

    Args:
        d_model: D.
        n_outputs: K.
        kind: `linear` (paper, "V-A Guided Contrastive Learning"), or `mlp` with a hidden layer of
            4 D. The released code has an MLP on all tokens, another for each dataset, of up to
            98.7 million numbers beside an encoder of 0.8.
    """

    def __init__(self, d_model: int, n_outputs: int, kind: HeadKind) -> None:
        super().__init__()
        self.norm = FeatureNorm(d_model)
        self.widen = nn.Linear(d_model, 4 * d_model) if kind == "mlp" else None
        self.out = nn.Linear(d_model if self.widen is None else 4 * d_model, n_outputs)

    def forward(self, tokens: Sequence[Tensor]) -> Tensor:
        """Scores (B, K) of all groups' segments, in the order of the groups."""
        pooled_BD = torch.cat([tokens_BCKD.mean((1, 2)) for tokens_BCKD in tokens])
        h_BD = self.norm(pooled_BD.to(_at_least_float32(pooled_BD)))
        if self.widen is not None:
            h_BD = F.gelu(self.widen(h_BD))
        scores_BK: Tensor = self.out(h_BD)
        return scores_BK


class EmodClassifier(nn.Module):
    """The encoder with a classifier appended: what is fine-tuned."""

    def __init__(self, config: EncoderConfig, n_outputs: int, head: HeadKind = "linear") -> None:
        super().__init__()
        self.encoder = Encoder(config)
        self.head = ClassifierHead(config.d_model, n_outputs, head)

    def forward(self, groups: Sequence[Group], key: DropoutKey | None = None) -> Tensor:
        """Class scores, shape (B, K), stacked in the order of `groups`."""
        scores_BK: Tensor = self.head(self.encoder(groups, key))
        return scores_BK

    @torch.no_grad()
    def embed(self, groups: Sequence[Group]) -> Tensor:
        """The encoder's tokens averaged over electrodes and time, as in `EmodPretraining`."""
        return torch.cat([tokens.mean((1, 2)) for tokens in self.encoder(groups)])


def _electrode_ids_C(group: Group) -> Tensor:
    """Rows of the embedding for a group's electrodes."""
    return torch.tensor(electrodes.ids(group["eeg"].channels), device=group.positions_B.device)


def _sequence_keys(group: Group, key: DropoutKey) -> Tensor:
    """One dropout key per (segment, electrode), shape (B * C,)."""
    electrodes_C = torch.arange(group["eeg"].x_BCT.shape[1], device=group.positions_B.device)
    keys_B = counter_draws.segment_keys(key, group.positions_B, counter_draws.DROPOUT)
    return counter_draws.fold(keys_B[:, None], electrodes_C).flatten()


def _at_least_float32(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)
