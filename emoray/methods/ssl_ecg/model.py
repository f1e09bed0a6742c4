"""SSL-ECG's two networks: convolutions that seven tasks share, and classes on top of them.

Shapes: B segments, V = 7 versions of each, H = 7 tasks, N = B or B V rows, T samples, D width of an
embedding, K classes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emoray.batches.batch import Group
from emoray.methods import counter_draws
from emoray.methods.counter_draws import DropoutKey
from emoray.methods.ssl_ecg.config import (
    Activation,
    EmotionConfig,
    EncoderConfig,
    Leads,
    PretextConfig,
)
from emoray.methods.ssl_ecg.transforms import TASKS

SLOPE = 0.2
"""Of the leaky activation below zero (the released code's graph; the paper is silent)."""


def lead_of(group: Group, leads: Leads) -> Tensor:
    """One lead of each segment, (B, T)."""
    return group["ecg"].x_BCT[:, 0 if leads == "first" else -1]


class Encoder(nn.Module):
    """Blocks of two convolutions with a pool between them, and the largest value over time.

    2,560 samples become 1,277 after the first pool, 635 after the second: all convolutions keep the
    length, with zeros around, one more behind than before where the kernel is even.
    """

    def __init__(self, config: EncoderConfig, leads: Leads = "first") -> None:
        super().__init__()
        self.config = config
        self.leads = leads
        self.width = config.width
        self.blocks = nn.ModuleList()
        n_before = 1
        for n_filters, kernel in zip(config.n_filters, config.kernels, strict=True):
            self.blocks.append(
                nn.Sequential(
                    nn.ZeroPad1d(((kernel - 1) // 2, kernel // 2)),
                    nn.Conv1d(n_before, n_filters, kernel),
                    _activation(config.activation),
                    nn.ZeroPad1d(((kernel - 1) // 2, kernel // 2)),
                    nn.Conv1d(n_filters, n_filters, kernel),
                    _activation(config.activation),
                )
            )
            n_before = n_filters
        _initialise(self)

    def forward(self, x_NT: Tensor) -> Tensor:
        """Embeddings, (N, D).

        Raises:
            ValueError: too few samples for the pools.
        """
        return self.maps(x_NT).amax(-1)

    def patches(self, group: Group, n_patches: int, key: DropoutKey | None = None) -> Tensor:
        """The largest values over equal parts of time, (B, P, D); it has no dropout."""
        x_BDT = self.maps(lead_of(group, self.leads))
        return F.adaptive_max_pool1d(x_BDT, n_patches).transpose(1, 2)

    def maps(self, x_NT: Tensor) -> Tensor:
        """What the last block gives over time, (N, D, T').

        Raises:
            ValueError: too few samples for the pools.
        """
        self.config.lengths(x_NT.shape[1])
        x_NDT = x_NT[:, None]
        for i, block in enumerate(self.blocks):
            if i:
                x_NDT = F.max_pool1d(x_NDT, self.config.pool, self.config.pool_stride)
            x_NDT = block(x_NDT)
        return x_NDT


class Task(nn.Module):
    """Two hidden layers, each with dropout, and one logit."""

    def __init__(self, n_inputs: int, config: PretextConfig) -> None:
        super().__init__()
        widths = (n_inputs, config.n_hidden, config.n_hidden)
        self.layers = nn.ModuleList(
            nn.Linear(n_in, n_out) for n_in, n_out in itertools.pairwise(widths)
        )
        self.activation = _activation(config.encoder.activation)
        self.dropout = config.dropout
        self.out = nn.Linear(config.n_hidden, 1)
        _initialise(self)

    def forward(self, z_ND: Tensor, key_N: Tensor | None) -> Tensor:
        """One logit each, (N, 1); no dropout without keys."""
        h_ND = _hidden(z_ND, self.layers, self.activation, self.dropout, key_N)
        logit_N1: Tensor = self.out(h_ND)
        return logit_N1


class PretextNetwork(nn.Module):
    """The encoder, and a head for each task."""

    def __init__(self, config: PretextConfig) -> None:
        super().__init__()
        self.encoder = Encoder(config.encoder, config.leads)
        self.head = nn.ModuleDict({task: Task(config.encoder.width, config) for task in TASKS})

    def forward(self, x_BVT: Sequence[Tensor], key_B: Sequence[Tensor] | None) -> Tensor:
        """What each task says of each version, logits of shape (B, V, H).

        Args:
            x_BVT: versions of segments, those of one length together.
            key_B: of these segments, for dropout; None for none.
        """
        z_ND = torch.cat([self.encoder(x.flatten(0, 1)) for x in x_BVT])
        key_N = None
        if key_B is not None:
            version_V = torch.arange(len(TASKS), device=z_ND.device)
            key_N = counter_draws.fold(torch.cat(list(key_B))[:, None], version_V).flatten()
        logits = [
            head(z_ND, None if key_N is None else counter_draws.fold(key_N, i))
            for i, head in enumerate(self.head.values())
        ]
        return torch.cat(logits, dim=1).view(-1, len(TASKS), len(TASKS))

    def embed(self, groups: Sequence[Group]) -> Tensor:
        """Embeddings of the segments themselves, (B, D)."""
        return torch.cat([self.encoder(lead_of(group, self.encoder.leads)) for group in groups])


class EmotionNetwork(nn.Module):
    """The encoder, hidden layers and a score for each class."""

    def __init__(self, config: EmotionConfig, n_outputs: int) -> None:
        super().__init__()
        self.encoder = Encoder(config.encoder, config.leads)
        self.head = EmotionHead(config, n_outputs)

    def forward(self, groups: Sequence[Group], key: DropoutKey | None = None) -> Tensor:
        """Class scores (B, K), logits of a softmax; no dropout without a key."""
        key_B = None
        if key is not None:
            keys = (
                counter_draws.segment_keys(key, group.positions_B, counter_draws.DROPOUT)
                for group in groups
            )
            key_B = torch.cat(list(keys))
        scores_BK: Tensor = self.head(self.embed(groups), key_B)
        return scores_BK

    def embed(self, groups: Sequence[Group]) -> Tensor:
        """Embeddings, (B, D)."""
        return torch.cat([self.encoder(lead_of(group, self.encoder.leads)) for group in groups])


class EmotionHead(nn.Module):
    """Hidden layers, each with dropout, and a score for each class."""

    def __init__(self, config: EmotionConfig, n_outputs: int) -> None:
        super().__init__()
        widths = (config.encoder.width, *config.hidden)
        self.layers = nn.ModuleList(
            nn.Linear(n_in, n_out) for n_in, n_out in itertools.pairwise(widths)
        )
        self.activation = _activation(config.activation)
        self.dropout = config.dropout
        self.out = nn.Linear(widths[-1], n_outputs)
        self.output = config.output
        _initialise(self)

    def forward(self, z_BD: Tensor, key_B: Tensor | None) -> Tensor:
        """Class scores (B, K).

        The softmax of logarithms is each one's share of their sum, so that cross-entropy of
        sigmoids needs no other loss.
        """
        h_BD = _hidden(z_BD, self.layers, self.activation, self.dropout, key_B)
        scores_BK: Tensor = self.out(h_BD)
        return scores_BK if self.output == "softmax" else F.logsigmoid(scores_BK)


def _hidden(
    z_ND: Tensor,
    layers: nn.ModuleList,
    activation: nn.Module,
    dropout: float,
    key_N: Tensor | None,
) -> Tensor:
    """Through hidden layers; elements are dropped where there are keys."""
    for i, layer in enumerate(layers):
        z_ND = activation(layer(z_ND))
        if key_N is not None and dropout > 0:
            masked_N1D = counter_draws.dropout(z_ND[:, None], counter_draws.fold(key_N, i), dropout)
            z_ND = masked_N1D[:, 0]
    return z_ND


def _activation(name: Activation) -> nn.Module:
    return nn.ReLU() if name == "relu" else nn.LeakyReLU(SLOPE)


def _initialise(module: nn.Module) -> None:
    """Glorot's uniform weights and biases of zero. Not in the paper: the released code's."""
    for part in module.modules():
        if isinstance(part, nn.Conv1d | nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            assert part.bias is not None
            nn.init.zeros_(part.bias)
