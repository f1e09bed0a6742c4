"""The transformations that SSL-ECG learns to recognise, on many segments at once.

Shapes: B segments, T samples, V = 7 versions of a segment, P pieces of equal length.
Every draw is a function of the step and of the segment's place in the step's global batch
(`counter_draws`), so versions do not depend on how the batch is dealt to workers.
Source: Sarkar & Etemad; what their text leaves open is as in their released code, unless said.
"""

from __future__ import annotations

import math
from dataclasses import fields

import torch
from torch import Tensor

from emoray.methods import counter_draws
from emoray.methods.ssl_ecg.config import TaskWeights, TransformationConfig

TASKS = tuple(task.name for task in fields(TaskWeights))
"""In the order of the versions: the segment itself, then its six transformations."""


def versions(x_BT: Tensor, keys_B: Tensor, config: TransformationConfig) -> Tensor:
    """The segment itself and its transformations, in the order of `TASKS`, shape (B, V, T).

    Args:
        x_BT: one lead.
        keys_B: of the segments in this step (`counter_draws.segment_keys`).
        config: how far each goes.

    Raises:
        ValueError: fewer samples than pieces.
    """
    made = {
        "original": x_BT,
        "noise": noised(x_BT, counter_draws.fold(keys_B, 0), config.snr_db),
        "scaling": x_BT * config.scale,
        "negation": -x_BT,
        "inversion": x_BT.flip(-1),
        "permutation": permuted(x_BT, counter_draws.fold(keys_B, 1), config.n_permuted),
        "warping": warped(x_BT, counter_draws.fold(keys_B, 2), config.n_warped, config.warp),
    }
    return torch.stack([made[task] for task in TASKS], dim=1)


def noised(x_BT: Tensor, keys_B: Tensor, snr_db: float) -> Tensor:
    """Add white noise that lies `snr_db` below each segment's mean square."""
    noise_BT = counter_draws.normals(keys_B, x_BT.shape[1]).to(x_BT.dtype)
    power_B1 = x_BT.square().mean(1, keepdim=True)
    return x_BT + noise_BT * (power_B1 / 10 ** (snr_db / 10)).sqrt()


def permuted(x_BT: Tensor, keys_B: Tensor, n_pieces: int) -> Tensor:
    """Let equal pieces change places; samples that fill no piece stay at the end.

    2,560 samples are 20 pieces of 128.
    """
    length = _piece(x_BT, n_pieces)
    order_BP = counter_draws.uniforms(keys_B, n_pieces).argsort(1)
    pieces_BPL = x_BT[:, : n_pieces * length].view(len(x_BT), n_pieces, length)
    moved_BPL = pieces_BPL.gather(1, order_BP[:, :, None].expand(-1, -1, length))
    return torch.cat([moved_BPL.flatten(1), x_BT[:, n_pieces * length :]], dim=1)


def warped(x_BT: Tensor, keys_B: Tensor, n_pieces: int, factor: float) -> Tensor:
    """Stretch half of the pieces, rounded up, squeeze the others, and cut T samples out of it.

    2,560 samples are 9 pieces of 284, of which the last 4 samples are no part; five drawn ones get
    299 samples (284 x 1.05), four 271 (284 / 1.05), together 2,579, and the cut begins at one of
    the 20 places that leave 2,560. Where lengths are such that less than T results, the last
    sample is held. Samples within a piece are interpolated between centres, as images are.
    """
    length = _piece(x_BT, n_pieces)
    lengths_BP = _warped_lengths(keys_B, n_pieces, length, factor)
    ends_BP = lengths_BP.cumsum(1)
    n_times, n_made = x_BT.shape[1], ends_BP[:, -1:]
    start_B1 = _starts(keys_B, (n_made - n_times).clamp(min=0))
    at_BT = start_B1 + torch.arange(n_times, device=x_BT.device)
    at_BT = torch.minimum(at_BT, n_made - 1)
    piece_BT = torch.searchsorted(ends_BP, at_BT, right=True)
    within_BT = at_BT - (ends_BP - lengths_BP).gather(1, piece_BT)
    ratio_BT = length / lengths_BP.gather(1, piece_BT).to(x_BT.dtype)
    source_BT = ((within_BT + 0.5) * ratio_BT - 0.5).clamp(0, length - 1)
    return _between(x_BT, piece_BT * length, source_BT, length)


def _warped_lengths(keys_B: Tensor, n_pieces: int, length: int, factor: float) -> Tensor:
    """Samples of each piece once it is warped, (B, P)."""
    drawn_BP = counter_draws.uniforms(counter_draws.fold(keys_B, 0), n_pieces).argsort(1)
    longer, shorter = math.ceil(length * factor), math.ceil(length / factor)
    n_longer = math.ceil(n_pieces / 2)
    lengths_BP = torch.full_like(drawn_BP, shorter)
    return lengths_BP.scatter(1, drawn_BP[:, :n_longer], longer)


def _starts(keys_B: Tensor, most_B1: Tensor) -> Tensor:
    """A place in [0, most] of each segment, (B, 1)."""
    u_B1 = counter_draws.uniforms(counter_draws.fold(keys_B, 1), 1)
    return (u_B1 * (most_B1 + 1)).long()


def _between(x_BT: Tensor, first_BT: Tensor, source_BT: Tensor, length: int) -> Tensor:
    """The signal at a place between samples of a piece, linearly.

    Args:
        x_BT: all of it.
        first_BT: where the piece begins.
        source_BT: place within the piece, in [0, length - 1].
        length: of a piece.
    """
    left_BT = source_BT.long()
    right_BT = (left_BT + 1).clamp(max=length - 1)
    share_BT = source_BT - left_BT
    before_BT, after_BT = (x_BT.gather(1, first_BT + side) for side in (left_BT, right_BT))
    return before_BT + (after_BT - before_BT) * share_BT


def _piece(x_BT: Tensor, n_pieces: int) -> int:
    """Samples of each of equal pieces."""
    n_times = x_BT.shape[1]
    if n_times < n_pieces:
        raise ValueError(f"need segments of at least {n_pieces} samples, got {n_times}")
    return n_times // n_pieces
