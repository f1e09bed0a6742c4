"""TF-C's networks: convolutions of a signal and of its spectrum, classes on top of them.

Shapes: B segments, C leads, T samples or amplitudes, F features of all times or frequencies, D
width of the space that both are brought to, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from emoray.batches.batch import Group
from emoray.methods import counter_draws
from emoray.methods.base import InputSpec, StreamSpec
from emoray.methods.conv_blocks import ConvBlocks, keys_of, segments_of
from emoray.methods.counter_draws import DropoutKey
from emoray.methods.tf_c.augment import spectrum
from emoray.methods.tf_c.config import ClassifyConfig, EncoderConfig


class Branch(nn.Module):
    """Convolutions, and a projector of all their features."""

    def __init__(self, config: EncoderConfig, spec: StreamSpec) -> None:
        super().__init__()
        self.blocks = ConvBlocks(config.blocks, spec.n_chans)
        n_features = config.blocks.width * config.blocks.n_features(spec.n_times)
        self.projector = nn.Sequential(
            nn.Linear(n_features, config.n_hidden),
            nn.BatchNorm1d(config.n_hidden),
            nn.ReLU(),
            nn.Linear(config.n_hidden, config.width),
        )

    def features(self, x_BCT: Tensor, key_B: Tensor | None) -> Tensor:
        """Of all times or frequencies, (B, F); no dropout without keys."""
        return self.blocks.flat(x_BCT, key_B)

    def project(self, h_BF: Tensor) -> Tensor:
        """Into the space of both branches, (B, D)."""
        z_BD: Tensor = self.projector(h_BF)
        return z_BD


class Encoder(nn.Module):
    """A branch for the signal, and one of the same shape for its spectrum."""

    def __init__(self, config: EncoderConfig, spec: StreamSpec) -> None:
        super().__init__()
        self.time, self.frequency = Branch(config, spec), Branch(config, spec)

    def forward(self, x_BCT: Tensor, key_B: Tensor | None) -> Tensor:
        """Both projections of segments side by side, (B, 2 D); no dropout without keys."""
        branches = (self.time, x_BCT), (self.frequency, spectrum(x_BCT))
        projected = [
            branch.project(branch.features(of, _key(key_B, i)))
            for i, (branch, of) in enumerate(branches)
        ]
        return torch.cat(projected, dim=1)


class PretrainNetwork(nn.Module):
    """The encoder, and nothing else."""

    def __init__(self, config: EncoderConfig, spec: StreamSpec) -> None:
        super().__init__()
        self.spec = spec
        self.encoder = Encoder(config, spec)

    def forward(
        self, in_time: Sequence[Tensor], in_frequency: Sequence[Tensor], key_B: Tensor | None
    ) -> tuple[Tensor, ...]:
        """What is contrasted, in time and then in frequency.

        Args:
            in_time: segments and their other views, each (B, C, T).
            in_frequency: the same of their spectra.
            key_B: of the segments, for dropout; None for none.

        Returns:
            Of each branch the features of segments and of other views, each (B, F), and the
            projection of the segments (B, D): nothing is asked of those of other views.
        """
        branches = (self.encoder.time, in_time), (self.encoder.frequency, in_frequency)
        found: list[Tensor] = []
        for i, (branch, views) in enumerate(branches):
            h_BF, other_BF = (
                branch.features(x_BCT, _key(key_B, 2 * v + i)) for v, x_BCT in enumerate(views)
            )
            found += [h_BF, other_BF, branch.project(h_BF)]
        return tuple(found)

    def embed(self, groups: Sequence[Group]) -> Tensor:
        """Both projections side by side, (B, 2 D)."""
        embeddings: Tensor = self.encoder(segments_of(groups, self.spec), None)
        return embeddings


class Classifier(nn.Module):
    """The encoder, a hidden layer with sigmoids, and a score for each class."""

    def __init__(self, config: ClassifyConfig, spec: InputSpec) -> None:
        super().__init__()
        self.spec = spec
        self.encoder = Encoder(config.encoder, spec)
        n_embedding, n_hidden = 2 * config.encoder.width, config.n_hidden
        hidden = (nn.Linear(n_embedding, n_hidden), nn.Sigmoid()) if n_hidden else ()
        self.head = nn.Sequential(*hidden, nn.Linear(n_hidden or n_embedding, spec.n_outputs))

    def forward(self, groups: Sequence[Group], key: DropoutKey | None = None) -> Tensor:
        """Class scores (B, K), logits of a softmax; no dropout without a key."""
        key_B = None if key is None else keys_of(groups, key, counter_draws.DROPOUT)
        scores_BK: Tensor = self.head(self.encoder(segments_of(groups, self.spec), key_B))
        return scores_BK

    def embed(self, groups: Sequence[Group]) -> Tensor:
        """Both projections side by side, (B, 2 D)."""
        embeddings: Tensor = self.encoder(segments_of(groups, self.spec), None)
        return embeddings


def _key(key_B: Tensor | None, use: int) -> Tensor | None:
    """Of one of several uses."""
    return None if key_B is None else counter_draws.fold(key_B, use)
