"""The two-level contrast of ECG with EEG (Wu et al., Eqs 1-4).

Shapes: B segments of the global batch, V = 1 or 2 versions of each (as recorded; with its patches
shuffled), S = V B sequences, the versions one after the other, P patches, Z width, N queries.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from emoray.methods.contrast import require_positive


def info_nce(
    query_NZ: Tensor, key_NZ: Tensor, temperature: float, counts_NN: Tensor | None = None
) -> Tensor:
    """Eq. 1, the mean over queries; the key in a query's row is its own.

    That sim is the cosine is not in the paper, but what its Fig. 2 shows.

    Args:
        query_NZ: ECG.
        key_NZ: EEG.
        temperature: tau, > 0.
        counts_NN: what a key counts in the sum below the fraction, in [0, 1]; 1 without it. A
            query's own key counts 1.

    Raises:
        ValueError: `temperature` is not positive and finite, or queries and keys differ in shape.
    """
    require_positive("temperature", temperature)
    if query_NZ.ndim != 2 or query_NZ.shape != key_NZ.shape:
        came = f"{tuple(query_NZ.shape)} and {tuple(key_NZ.shape)}"
        raise ValueError(f"need queries and keys of one shape (N, Z), got {came}")
    dtype = torch.promote_types(query_NZ.dtype, torch.float32)
    query_NZ, key_NZ = (
        F.normalize(query_NZ.to(dtype), dim=-1),
        F.normalize(key_NZ.to(dtype), dim=-1),
    )
    scores_NN = query_NZ @ key_NZ.T / temperature
    if counts_NN is not None:
        own_NN = torch.eye(len(scores_NN), dtype=torch.bool, device=scores_NN.device)
        scores_NN = scores_NN + counts_NN.to(dtype).masked_fill(own_NN, 1).log()
    return F.cross_entropy(scores_NN, torch.arange(len(scores_NN), device=scores_NN.device))


def patch_contrast(
    ecg_SPZ: Tensor,
    eeg_SPZ: Tensor,
    segment_S: Tensor,
    temperature: float,
    va_S2: Tensor | None,
    d_max: float,
) -> Tensor:
    """Eq. 2: of each patch of the ECG, the EEG's patch of the same time against other segments'.

    Other patches of the same segment are no negatives, "considering potential correlations". Of its
    shuffled version they are the same patches, and none either: not in the paper.

    Args:
        ecg_SPZ: queries.
        eeg_SPZ: keys.
        segment_S: which segment a sequence is a version of.
        temperature: tau_p.
        va_S2: valence and arousal, where negatives are weighted by `nearness`.
        d_max: its radius.
    """
    n_patches = ecg_SPZ.shape[1]
    counts_SS = (segment_S[:, None] != segment_S[None, :]).to(ecg_SPZ.dtype)
    if va_S2 is not None:
        counts_SS = counts_SS * distance_share(va_S2, d_max)
    counts_NN = counts_SS.repeat_interleave(n_patches, 0).repeat_interleave(n_patches, 1)
    return info_nce(ecg_SPZ.flatten(0, 1), eeg_SPZ.flatten(0, 1), temperature, counts_NN)


def sequence_contrast(
    ecg_SPZ: Tensor, eeg_SPZ: Tensor, temperature: float, va_S2: Tensor | None, d_max: float
) -> Tensor:
    """Eq. 3: of each sequence of ECG, the EEG of the same time against all others', its own
    shuffled version among them ("rearranged data from the same sequence are negative").

    A sequence is all of its patches, P_i,: as the paper writes it. Their mean would hardly know the
    order: of untrained encoders the cosine to the shuffled version's is above 0.999.

    Args:
        ecg_SPZ: queries, patches of each.
        eeg_SPZ: keys.
        temperature: tau_s.
        va_S2: as `patch_contrast`.
        d_max: as `patch_contrast`.
    """
    counts_SS = None if va_S2 is None else distance_share(va_S2, d_max)
    return info_nce(ecg_SPZ.flatten(1), eeg_SPZ.flatten(1), temperature, counts_SS)


def distance_share(va_S2: Tensor, d_max: float) -> Tensor:
    """What negatives count, (S, S): their V-A distance as a share of `d_max`, 1 from there on.

    Not in the paper: EMOD's radius (its Eq. 5) turned round. What feels alike is hardly a negative.

    Raises:
        ValueError: `d_max` is not positive and finite.
    """
    require_positive("d_max", d_max)
    offsets_SS2 = va_S2[:, None] - va_S2[None, :]
    distances_SS = torch.hypot(offsets_SS2[..., 0], offsets_SS2[..., 1])
    return (distances_SS / d_max).clamp(max=1)


def chance_losses(n_segments: int, n_versions: int, n_patches: int) -> tuple[float, float]:
    """Eqs 2 and 3 where all similarities are equal and every negative counts in full."""
    others = n_versions * (n_segments - 1) * n_patches
    return math.log(1 + others), math.log(n_versions * n_segments)
