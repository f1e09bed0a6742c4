"""EMOD's contrastive objectives (Chen et al., EMOD, Eqs 4-6); its EMOD-Augment is `nt_xent`.

Shapes: B segments of the global batch, D width of an embedding, 2 = (valence, arousal).
All are computed in float32 at least, outside autocast. They do not depend on the order of the
segments, so the order in which workers' rows were gathered does not matter.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from emoray.methods.contrast import precise, require_positive, weighted_contrast
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
    require_positive("temperature", temperature)
    require_positive("d_max", d_max)
    _require_ratings(z_BD, va_B2)
    with torch.autocast(z_BD.device.type, enabled=False):
        va_B2 = va_B2.to(precise(z_BD))
        offsets_BB2 = va_B2[:, None] - va_B2[None, :]
        # hypot and not cdist: a distance of exactly d_max must weigh exactly nothing.
        distances_BB = torch.hypot(offsets_BB2[..., 0], offsets_BB2[..., 1])
        weights_BB = (1 - distances_BB / d_max).clamp(min=0)
        return weighted_contrast(z_BD, weights_BB, temperature)


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
    require_positive("temperature", temperature)
    _require_ratings(z_BD, va_B2)
    # Halves round to even, as in affect.cells.
    classes_B2 = torch.round(va_B2.to(torch.float64))
    if same == "region":
        classes_B2 = torch.floor((classes_B2 + LIMIT) / 3)
    same_BB = (classes_B2[:, None] == classes_B2[None, :]).all(-1)
    with torch.autocast(z_BD.device.type, enabled=False):
        return weighted_contrast(z_BD, same_BB.to(precise(z_BD)), temperature)


def _require_ratings(z_BD: Tensor, va_B2: Tensor) -> None:
    if z_BD.ndim != 2 or va_B2.shape != (len(z_BD), 2):
        came = f"{tuple(z_BD.shape)} and {tuple(va_B2.shape)}"
        raise ValueError(f"need embeddings (B, D) and valence and arousal (B, 2), got {came}")
    # One comparison of 2 B numbers: it waits for the device, once a step.
    inside_B2 = va_B2.detach().abs() <= LIMIT  # false for NaN too
    if not bool(inside_B2.all()):
        worst = va_B2[~inside_B2][0].item()
        raise ValueError(f"need valence and arousal in [-{LIMIT:g}, {LIMIT:g}], got {worst:g}")
