"""TF-C's spectrum, and the other view of a segment in time and in frequency.

Shapes: B segments, C leads, T samples or amplitudes. Every draw is a function of the step and of
the segment's place in the step's global batch (`counter_draws`), so views do not depend on how the
batch is dealt to workers, and are others in every step. The released code draws them once, before
training.
"""

from __future__ import annotations

import torch
from torch import Tensor

from emoray.methods import counter_draws
from emoray.methods.tf_c.config import AugmentConfig


def spectrum(x_BCT: Tensor) -> Tensor:
    """Amplitudes of all T frequencies, negative ones too, as many as samples (released code)."""
    f_BCT: Tensor = torch.fft.fft(x_BCT).abs()
    return f_BCT


def jittered(x_BCT: Tensor, keys_B: Tensor, config: AugmentConfig) -> Tensor:
    """The other view in time: white noise added to each lead (released code)."""
    drawn_BN = counter_draws.normals(counter_draws.fold(keys_B, 0), x_BCT[0].numel())
    return x_BCT + config.jitter_sd * drawn_BN.view(x_BCT.shape).to(x_BCT.dtype)


def perturbed(f_BCT: Tensor, keys_B: Tensor, config: AugmentConfig) -> Tensor:
    """The other view in frequency: some amplitudes removed, to some others something added.

    Each amplitude is drawn by itself, one lead's apart from another's, first for removal, then for
    an addition, evenly between nothing and a share of the lead's largest. The released code takes
    the largest of all data, and adds up a spectrum with removals and one with additions: what is
    removed is then there by half.
    """
    removed, added, share = (
        counter_draws.uniforms(counter_draws.fold(keys_B, 1 + i), f_BCT[0].numel())
        .view(f_BCT.shape)
        .to(f_BCT.dtype)
        for i in range(3)
    )
    most_BC1 = config.most_added * f_BCT.amax(-1, keepdim=True)
    kept_BCT = f_BCT.masked_fill(removed < config.removed, 0)
    return kept_BCT + (share * most_BC1).masked_fill(added >= config.added, 0)
