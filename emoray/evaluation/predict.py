"""Class scores of a split's segments, in their order.

Shapes: N segments, K classes.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from emoray.batches.feeds import in_order
from emoray.corpus.read import CorpusDataset
from emoray.methods.base import Stage
from emoray.vocabulary.schema import IntArray

BATCH_SIZE = 64
"""Segments of a forward of stages whose steps are rounds."""


@torch.inference_mode()
def predict(
    stage: Stage,
    module: nn.Module,
    dataset: CorpusDataset,
    rows_N: IntArray,
    *,
    device: torch.device,
) -> IntArray:
    """The class with the highest score for each row, shape (N,); the first one of equals.

    The module is put into evaluation mode and computes in the type of its weights.

    Raises:
        FloatingPointError: a score is not finite.
    """
    module.eval()
    dtype = next(module.parameters()).dtype
    pin = device.type == "cuda"
    classes, finite = [], []
    groups = in_order(dataset, rows_N, batch_size=_batch_size(stage), pin_memory=pin)
    for group in groups:
        scores_BK = stage.scores(module, (group.to(device, dtype),))
        classes.append(scores_BK.argmax(1))
        finite.append(torch.isfinite(scores_BK).all())
    if not torch.stack(finite).all():  # looked at once: each look waits for the device
        raise FloatingPointError(f"{dataset.name}: class scores are not finite")
    predicted_N: IntArray = torch.cat(classes).cpu().numpy().astype(np.int64)
    return predicted_N


def _batch_size(stage: Stage) -> int:
    """Segments of a forward: as many as of a training step, where that counts segments."""
    return getattr(stage.sampling, "batch_size", BATCH_SIZE)
