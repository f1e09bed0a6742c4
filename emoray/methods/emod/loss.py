"""EMOD's contrastive objectives (Chen et al., EMOD, Eqs 4-6 and Table 3).

Shapes: B segments of the global batch, D width of an embedding, 2 = (valence, arousal).
All are computed in float32 at least, outside autocast. They do not depend on the order of the
segments, so the order in which workers' rows were gathered does not matter.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from emoray.vocabulary.affect import LIMIT

SameEmotion = Literal["cell", "region"]
"""Which pairs `hard_va_contrast` calls positive."""


def soft_va_contrast(z_BD: Tensor, va_B2: Tensor, *, temperature: float, d_max: float) -> Tensor:
    """Draw together segments whose emotions lie close, in proportion to how close (Eq. 6).

    Args:
        z_BD: embeddings of unit length.
        va_B2: valence and arousal, each in [-4, 4].
        temperature: tau. The paper uses 0.07.
        d_max: V-A distance from which a pair no longer attracts (Eq. 5). The paper uses 5.0; the
            released code sqrt(182), at which no pair is ever negative.

    Returns:
        Mean over anchors that have a neighbour within `d_max`; zero when none has. Eq. 6 sums
        and leaves that case open; a mean keeps the step independent of the batch size.

    Raises:
        ValueError: `temperature` or `d_max` is not positive and finite, the two inputs differ in
            B, or a valence or arousal lies outside [-4, 4].
    """
    _require_positive("temperature", temperature)
    _require_positive("d_max", d_max)
    _require_ratings(z_BD, va_B2)
    with torch.autocast(z_BD.device.type, enabled=False):
        va_B2 = va_B2.to(_precise(z_BD))
        offsets_BB2 = va_B2[:, None] - va_B2[None, :]
        # hypot and not cdist: a distance of exactly d_max must weigh exactly nothing.
        distances_BB = torch.hypot(offsets_BB2[..., 0], offsets_BB2[..., 1])
        weights_BB = (1 - distances_BB / d_max).clamp(min=0)
        return _weighted_contrast(z_BD, weights_BB, temperature)


def hard_va_contrast(
    z_BD: Tensor, va_B2: Tensor, *, temperature: float, same: SameEmotion = "cell"
) -> Tensor:
    """Supervised contrast in which a pair is of one emotion or not (Eq. 4; EMOD-HardVA).

    The paper does not say when two segments of its HardVA arm are of one class. It calls each
    cell of the 9x9 grid "a distinct affective region", so a class is a cell here; `region` takes
    the nine 3x3 blocks that balance its batches.

    Args:
        z_BD: embeddings of unit length.
        va_B2: valence and arousal, each in [-4, 4].
        temperature: tau. The paper uses 0.07.
        same: what two segments must share to be positives.

    Returns:
        Mean over anchors that share their class with another; zero when none does.

    Raises:
        ValueError: as `soft_va_contrast`.
    """
    _require_positive("temperature", temperature)
    _require_ratings(z_BD, va_B2)
    # Halves round to even, as in affect.cells.
    classes_B2 = torch.round(va_B2.to(torch.float64))
    if same == "region":
        classes_B2 = torch.floor((classes_B2 + LIMIT) / 3)
    same_BB = (classes_B2[:, None] == classes_B2[None, :]).all(-1)
    with torch.autocast(z_BD.device.type, enabled=False):
        return _weighted_contrast(z_BD, same_BB.to(_precise(z_BD)), temperature)


def augmentation_contrast(z_1_BD: Tensor, z_2_BD: Tensor, *, temperature: float) -> Tensor:
    """Tell apart segments, not emotions: two views of one segment attract (EMOD-Augment).

    NT-Xent (Chen et al. 2020, SimCLR, Eq. 1) over the 2 B views: Eq. 4 with one positive each.

    Args:
        z_1_BD: embeddings of unit length of one view of each segment.
        z_2_BD: the same of another view, in the same order.
        temperature: tau. The paper uses 0.07.

    Returns:
        Mean over the 2 B views.

    Raises:
        ValueError: `temperature` is not positive and finite, or the views differ in shape.
    """
    _require_positive("temperature", temperature)
    if z_1_BD.ndim != 2 or z_1_BD.shape != z_2_BD.shape:
        came = f"{tuple(z_1_BD.shape)} and {tuple(z_2_BD.shape)}"
        raise ValueError(f"need two views of one shape (B, D), got {came}")
    pairing = torch.arange(2 * len(z_1_BD), device=z_1_BD.device).roll(len(z_1_BD))
    with torch.autocast(z_1_BD.device.type, enabled=False):
        z_BD = torch.cat([z_1_BD, z_2_BD])
        weights_BB = torch.nn.functional.one_hot(pairing, len(z_BD)).to(_precise(z_BD))
        return _weighted_contrast(z_BD, weights_BB, temperature)


def _weighted_contrast(z_BD: Tensor, weights_BB: Tensor, temperature: float) -> Tensor:
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


def _precise(z_BD: Tensor) -> torch.dtype:
    """The embedding's type, but float32 at least."""
    return torch.promote_types(z_BD.dtype, torch.float32)


def _require_positive(name: str, number: float) -> None:
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"need {name} > 0 and finite, got {number}")


def _require_ratings(z_BD: Tensor, va_B2: Tensor) -> None:
    if z_BD.ndim != 2 or va_B2.shape != (len(z_BD), 2):
        came = f"{tuple(z_BD.shape)} and {tuple(va_B2.shape)}"
        raise ValueError(f"need embeddings (B, D) and valence and arousal (B, 2), got {came}")
    # One comparison of 2 B numbers: it waits for the device, once a step.
    inside_B2 = va_B2.detach().abs() <= LIMIT  # false for NaN too
    if not bool(inside_B2.all()):
        worst = va_B2[~inside_B2][0].item()
        raise ValueError(f"need valence and arousal in [-{LIMIT:g}, {LIMIT:g}], got {worst:g}")
