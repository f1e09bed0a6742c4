"""SSL-ECG's objective: seven questions with yes or no (Sarkar & Etemad).

Shapes: B segments of the global batch, V = 7 versions of each, H = 7 tasks.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from emoray.methods.ssl_ecg.transforms import TASKS


def recognition_losses(logits_BVH: Tensor) -> dict[str, Tensor]:
    """Of each task, by its name, the mean cross-entropy of telling its version from the others.

    Task h says yes to version h alone. The order of versions in a step means nothing: no layer
    looks from one to another.

    Args:
        logits_BVH: what each task says of each version; above 0 is yes.
    """
    yes_BVH = torch.eye(len(TASKS), dtype=logits_BVH.dtype, device=logits_BVH.device)
    loss_BVH = F.binary_cross_entropy_with_logits(
        logits_BVH, yes_BVH.expand_as(logits_BVH), reduction="none"
    )
    return dict(zip(TASKS, loss_BVH.mean((0, 1)).unbind(), strict=True))


def chance_loss() -> float:
    """Of a task that says of every version that it is its own with a probability of 1/7."""
    p = 1 / len(TASKS)
    return -(p * math.log(p) + (1 - p) * math.log(1 - p))
