"""Contrast of embeddings with all others of the global batch, for whatever method has views.

Shapes: B embeddings of the global batch, D width of an embedding.
Computed in float32 at least, outside autocast. Nothing here depends on the order of the segments,
so the order in which workers' rows were gathered does not matter.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def nt_xent(z_1_BD: Tensor, z_2_BD: Tensor, *, temperature: float) -> Tensor:
    """Tell apart segments: two views of one segment attract, all others of the 2 B views repel.

    NT-Xent (Chen et al. 2020, SimCLR, Eq. 1).

    Args:
        z_1_BD: embeddings of unit length of one view of each segment.
        z_2_BD: the same of another view, in the same order.
        temperature: tau.

    Returns:
        Mean over the 2 B views.

    Raises:
        ValueError: `temperature` is not positive and finite, or the views differ in shape.
    """
    require_positive("temperature", temperature)
    if z_1_BD.ndim != 2 or z_1_BD.shape != z_2_BD.shape:
        came = f"{tuple(z_1_BD.shape)} and {tuple(z_2_BD.shape)}"
        raise ValueError(f"need two views of one shape (B, D), got {came}")
    pairing = torch.arange(2 * len(z_1_BD), device=z_1_BD.device).roll(len(z_1_BD))
    with torch.autocast(z_1_BD.device.type, enabled=False):
        z_BD = torch.cat([z_1_BD, z_2_BD])
        weights_BB = torch.nn.functional.one_hot(pairing, len(z_BD)).to(precise(z_BD))
        return weighted_contrast(z_BD, weights_BB, temperature)


def weighted_contrast(z_BD: Tensor, weights_BB: Tensor, temperature: float) -> Tensor:
    """Mean over anchors i of -sum_j w_ij log softmax_j(z_i z_j / tau) / sum_j w_ij, j != i."""
    z_BD = z_BD.to(weights_BB.dtype)
    if len(z_BD) < 2:
        return z_BD.sum() * 0  # nobody to compare with; zero, and still part of the graph
    itself_BB = torch.eye(len(z_BD), dtype=torch.bool, device=z_BD.device)
    weights_BB = weights_BB.masked_fill(itself_BB, 0)
    # The anchor leaves before the log-sum-exp: at temperature 0.01 exp(1 / 0.01) would drown the
    # rest. Its place in the log-probabilities is -inf and is never used.
    logits_BB = (z_BD @ z_BD.T / temperature).masked_fill(itself_BB, -math.inf)
    log_p_BB = torch.log_softmax(logits_BB, dim=1).masked_fill(itself_BB, 0)
    total_B = weights_BB.sum(1)
    has_neighbour_B = total_B > 0
    loss_B = -(weights_BB * log_p_BB).sum(1) / total_B.where(has_neighbour_B, 1)
    return loss_B.sum() / has_neighbour_B.sum().clamp(min=1)


def precise(z_BD: Tensor) -> torch.dtype:
    """The embedding's type, but float32 at least."""
    return torch.promote_types(z_BD.dtype, torch.float32)


def require_positive(name: str, number: float) -> None:
    """Refuse a setting that is not positive and finite.

    Raises:
        ValueError: names it.
    """
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"need {name} > 0 and finite, got {number}")
