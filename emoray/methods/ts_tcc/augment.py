"""TS-TCC's two views of a segment, on many segments at once.

Shapes: B segments, C leads, T samples, P pieces. Every draw is a function of the step and of the
segment's place in the step's global batch (`counter_draws`), so views do not depend on how the
batch is dealt to workers, and are others in every step. The released code draws them once, before
training, and its permutation writes the first channel into all.
"""

from __future__ import annotations

import torch
from torch import Tensor

from emoray.methods import counter_draws
from emoray.methods.ts_tcc.config import AugmentConfig

MEAN_SCALE = 2.0
"""Of the weak view's factors (released code)."""


def views(x_BCT: Tensor, keys_B: Tensor, config: AugmentConfig) -> tuple[Tensor, Tensor]:
    """The weak view and the strong one, each of shape (B, C, T).

    Args:
        x_BCT: all leads.
        keys_B: of the segments in this step (`counter_draws.segment_keys`).
        config: how far each goes.

    Raises:
        ValueError: fewer samples than pieces.
    """
    weak_BCT = scaled(x_BCT, counter_draws.fold(keys_B, 0), config.scale_sd)
    moved_BCT = permuted(x_BCT, counter_draws.fold(keys_B, 1), config.max_pieces)
    return weak_BCT, jittered(moved_BCT, counter_draws.fold(keys_B, 2), config.jitter_sd)


def scaled(x_BCT: Tensor, keys_B: Tensor, sd: float) -> Tensor:
    """Multiply each sample by a factor of its own around 2, the same on all leads.

    As the released code does: where the scaling that it cites has one factor for each channel, it
    draws one for each time.
    """
    factor_BT = MEAN_SCALE + sd * counter_draws.normals(keys_B, x_BCT.shape[2])
    return x_BCT * factor_BT[:, None].to(x_BCT.dtype)


def jittered(x_BCT: Tensor, keys_B: Tensor, sd: float) -> Tensor:
    """Add white noise to each lead."""
    noise_BN = sd * counter_draws.normals(keys_B, x_BCT[0].numel())
    return x_BCT + noise_BN.view(x_BCT.shape).to(x_BCT.dtype)


def permuted(x_BCT: Tensor, keys_B: Tensor, max_pieces: int) -> Tensor:
    """Let pieces of unequal length change places, on all leads alike.

    Of each segment a number of pieces is drawn, from 1 to `max_pieces`, then where it is cut and
    the pieces' order. No two cuts fall together, so that no piece is empty.

    Raises:
        ValueError: fewer samples than pieces.
    """
    n_times = x_BCT.shape[2]
    if n_times < max_pieces:
        raise ValueError(f"need segments of at least {max_pieces} samples, got {n_times}")
    starts_BP = _starts(keys_B, n_times, max_pieces)
    lengths_BP = torch.diff(starts_BP, append=torch.full_like(starts_BP[:, :1], n_times))
    order_BP = counter_draws.uniforms(counter_draws.fold(keys_B, 2), max_pieces).argsort(1)
    ends_BP = lengths_BP.gather(1, order_BP).cumsum(1)
    at_BT = torch.arange(n_times, device=x_BCT.device).repeat(len(x_BCT), 1)
    place_BT = torch.searchsorted(ends_BP, at_BT, right=True)
    piece_BT = order_BP.gather(1, place_BT)
    before_BT = (ends_BP - lengths_BP.gather(1, order_BP)).gather(1, place_BT)
    source_BT = starts_BP.gather(1, piece_BT) + at_BT - before_BT
    return x_BCT.gather(2, source_BT[:, None].expand_as(x_BCT))


def _starts(keys_B: Tensor, n_times: int, max_pieces: int) -> Tensor:
    """First sample of each piece, ascending from 0, (B, P); T of those that are not used.

    Numbers drawn with repetition from so many fewer and spread by one each are all different.
    """
    n_cuts = max_pieces - 1
    drawn_B1 = counter_draws.uniforms(counter_draws.fold(keys_B, 0), 1)
    n_used_B1 = (drawn_B1 * max_pieces).long()
    u_BN = counter_draws.uniforms(counter_draws.fold(keys_B, 1), n_cuts)
    n_places_B1 = n_times - n_used_B1  # T - 1 for a cut, less n - 1 that n cuts are spread over
    is_used_BN = torch.arange(n_cuts, device=keys_B.device) < n_used_B1
    cuts_BN = (u_BN * n_places_B1).long().masked_fill(~is_used_BN, n_times).sort(1).values
    spread_BN = cuts_BN + 1 + torch.arange(n_cuts, device=keys_B.device)
    cuts_BN = torch.where(is_used_BN, spread_BN, n_times)
    return torch.cat([torch.zeros_like(n_used_B1), cuts_BN], dim=1)
