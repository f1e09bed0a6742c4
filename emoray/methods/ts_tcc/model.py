"""TS-TCC's networks: convolutions, a context that predicts their future, classes on top of them.

Shapes: B segments, C leads, T samples, D width of a feature, L features in time, K features ahead,
F = D L features of all times, V = 2 views, N tokens, W width of the context, Z width of a
projection; of scores, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emoray.batches.batch import Group
from emoray.methods import counter_draws
from emoray.methods.base import InputSpec, StreamSpec
from emoray.methods.conv_blocks import ConvBlocks, keys_of, segments_of
from emoray.methods.counter_draws import DropoutKey
from emoray.methods.ts_tcc.config import ClassifyConfig, ContextConfig, PretrainConfig


class Layer(nn.Module):
    """Attention, then two linear maps, each after a LayerNorm and beside an identity.

    Products are divided by the root of the whole width, not of a head's, and queries, keys and
    values have no bias: as the released code.
    """

    def __init__(self, config: ContextConfig) -> None:
        super().__init__()
        self.n_heads, self.dropout = config.n_heads, config.dropout
        self.norm_1, self.norm_2 = nn.LayerNorm(config.width), nn.LayerNorm(config.width)
        self.queries_keys_values = nn.Linear(config.width, 3 * config.width, bias=False)
        self.out = nn.Linear(config.width, config.width)
        self.wider = nn.Linear(config.width, config.n_hidden)
        self.back = nn.Linear(config.n_hidden, config.width)

    def forward(self, x_BNW: Tensor, key_B: Tensor | None) -> Tensor:
        """Tokens of the next layer; no dropout without keys."""
        x_BNW = x_BNW + self._dropped(self.out(self._mixed(self.norm_1(x_BNW))), key_B, 0)
        h_BNH = self._dropped(self.wider(self.norm_2(x_BNW)).relu(), key_B, 1)
        return x_BNW + self._dropped(self.back(h_BNH), key_B, 2)

    def _mixed(self, x_BNW: Tensor) -> Tensor:
        heads = (*x_BNW.shape[:2], self.n_heads, -1)
        q, k, v = (
            part.reshape(heads).transpose(1, 2)
            for part in self.queries_keys_values(x_BNW).chunk(3, dim=-1)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, scale=x_BNW.shape[-1] ** -0.5)
        return mixed.transpose(1, 2).flatten(2)

    def _dropped(self, x: Tensor, key_B: Tensor | None, place: int) -> Tensor:
        if key_B is None or self.dropout == 0:
            return x
        return counter_draws.dropout(x, counter_draws.fold(key_B, place), self.dropout)


class Context(nn.Module):
    """A token that looks at a segment's past, without any sign of place (released code)."""

    def __init__(self, config: ContextConfig, width: int) -> None:
        super().__init__()
        self.embedding = nn.Linear(width, config.width)
        self.token = nn.Parameter(torch.randn(1, 1, config.width))
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.n_layers))

    def forward(self, past_BLD: Tensor, key_B: Tensor | None) -> Tensor:
        """The past as one vector, (B, W)."""
        embedded_BLW = self.embedding(past_BLD)
        token_B1W = self.token.to(embedded_BLW.dtype).expand(len(past_BLD), -1, -1)
        x_BNW = torch.cat([token_B1W, embedded_BLW], dim=1)
        for i, layer in enumerate(self.layers):
            x_BNW = layer(x_BNW, None if key_B is None else counter_draws.fold(key_B, i))
        return x_BNW[:, 0]


class Contrasts(nn.Module):
    """What both contrasts need of a past: predictions of the future, and a projection."""

    def __init__(self, config: ContextConfig, width: int) -> None:
        super().__init__()
        self.n_future = config.n_future
        self.context = Context(config, width)
        self.predictions = nn.ModuleList(
            nn.Linear(config.width, width) for _ in range(config.n_future)
        )
        self.projection = nn.Sequential(
            nn.Linear(config.width, width // 2),
            nn.BatchNorm1d(width // 2),
            nn.ReLU(),
            nn.Linear(width // 2, width // 4),
        )

    def forward(self, past_BLD: Tensor, key_B: Tensor | None) -> tuple[Tensor, Tensor]:
        """Predictions (B, K, D), a projection (B, Z)."""
        context_BW = self.context(past_BLD, key_B)
        predicted_BKD = torch.stack([ahead(context_BW) for ahead in self.predictions], dim=1)
        return predicted_BKD, self.projection(context_BW)


class PretrainNetwork(nn.Module):
    """The encoder, and what is thrown away after pretraining."""

    def __init__(self, config: PretrainConfig, spec: StreamSpec) -> None:
        super().__init__()
        self.spec = spec
        self.encoder = ConvBlocks(config.encoder, spec.n_chans)
        self.head = Contrasts(config.context, config.encoder.width)

    def forward(
        self, views: Sequence[Tensor], key_B: Tensor | None, n_past: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Of each view predictions (B, V, K, D), features ahead (B, V, K, D), projection (B, V, Z).

        Each view is normalised by itself: of several views of a segment, one is no part of
        another's batch.

        Args:
            views: of the segments, each (B, C, T).
            key_B: of the segments, for dropout; None for none.
            n_past: features that are the past.
        """
        found = [
            self._contrasted(x_BCT, None if key_B is None else counter_draws.fold(key_B, v), n_past)
            for v, x_BCT in enumerate(views)
        ]
        predicted, future, projected = (torch.stack(of, dim=1) for of in zip(*found, strict=True))
        return predicted, future, projected

    def _contrasted(
        self, x_BCT: Tensor, key_B: Tensor | None, n_past: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        keys = [None if key_B is None else counter_draws.fold(key_B, i) for i in range(2)]
        z_BLD = F.normalize(self.encoder(x_BCT, keys[0]), dim=1).transpose(1, 2)
        predicted_BKD, projected_BZ = self.head(z_BLD[:, :n_past], keys[1])
        return predicted_BKD, z_BLD[:, n_past : n_past + self.head.n_future], projected_BZ

    def embed(self, groups: Sequence[Group]) -> Tensor:
        """Features of the segments themselves, all times, (B, F)."""
        return self.encoder.flat(segments_of(groups, self.spec), None)


class Classifier(nn.Module):
    """The encoder, and a score for each class from its features of all times."""

    def __init__(self, config: ClassifyConfig, spec: InputSpec) -> None:
        super().__init__()
        self.spec = spec
        n_features = config.encoder.n_features(spec.n_times)
        self.encoder = ConvBlocks(config.encoder, spec.n_chans)
        self.head = nn.Linear(config.encoder.width * n_features, spec.n_outputs)

    def forward(self, groups: Sequence[Group], key: DropoutKey | None = None) -> Tensor:
        """Class scores (B, K), logits of a softmax; no dropout without a key."""
        key_B = None if key is None else keys_of(groups, key, counter_draws.DROPOUT)
        z_BF = self.encoder.flat(segments_of(groups, self.spec), key_B)
        scores_BK: Tensor = self.head(z_BF)
        return scores_BK

    def embed(self, groups: Sequence[Group]) -> Tensor:
        """Features of all times, (B, F)."""
        return self.encoder.flat(segments_of(groups, self.spec), None)
