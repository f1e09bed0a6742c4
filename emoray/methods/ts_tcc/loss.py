"""TS-TCC's temporal contrast (Eldele et al.), one direction of it.

Its contextual one is `contrast.nt_xent`.

Shapes: B segments of the global batch, K features ahead, D width of a feature.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from emoray.methods.contrast import precise


def temporal_contrast(predicted_BKD: Tensor, future_BKD: Tensor) -> Tensor:
    """Tell which segment's past predicts a feature of one view, from the past of the other view.

    Of each feature ahead, by itself: a softmax over the predictions for all segments, of their dot
    products with the feature, without temperature, as the released code has it.

    Args:
        predicted_BKD: from the past of one view.
        future_BKD: features of the other view.

    Returns:
        Mean over segments and features ahead.

    Raises:
        ValueError: the two differ in shape.
    """
    if predicted_BKD.ndim != 3 or predicted_BKD.shape != future_BKD.shape:
        came = f"{tuple(predicted_BKD.shape)} and {tuple(future_BKD.shape)}"
        raise ValueError(f"need predictions and features of one shape (B, K, D), got {came}")
    with torch.autocast(predicted_BKD.device.type, enabled=False):
        dtype = precise(predicted_BKD)
        predicted_KBD = predicted_BKD.to(dtype).transpose(0, 1)
        future_KBD = future_BKD.to(dtype).transpose(0, 1)
        scores_KBB = future_KBD @ predicted_KBD.transpose(1, 2)
        own_B = torch.arange(len(predicted_BKD), device=scores_KBB.device)
        return F.cross_entropy(scores_KBB.flatten(0, 1), own_B.repeat(len(scores_KBB)))
