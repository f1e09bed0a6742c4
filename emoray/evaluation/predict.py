"""Class and class probabilities of a split's segments, in their order.

Shapes: N segments, K classes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from emoray.batches.batch import Group
from emoray.batches.feeds import in_order
from emoray.corpus.catalog import Segments
from emoray.methods.base import Stage
from emoray.vocabulary.schema import FloatArray, IntArray


class Predicted(NamedTuple):
    """What a stage says of segments."""

    class_N: IntArray
    """The class with the highest score; the first one of equals."""
    probability_NK: FloatArray
    """Softmax of the scores in float64, so that scores far apart stay told apart."""


BATCH_SIZE = 64
"""Segments of a forward of stages whose steps are rounds."""


def predict(
    stage: Stage,
    module: nn.Module,
    dataset: Segments,
    rows_N: IntArray,
    *,
    device: torch.device,
) -> Predicted:
    """Classes and their probabilities for each row.

    The module is put into evaluation mode and computes in the type of its weights. The class is
    taken from the scores themselves: rounding could make equals of two probabilities.

    Raises:
        FloatingPointError: a score is not finite.
    """
    groups = in_order(
        dataset,
        rows_N,
        batch_size=_batch_size(stage),
        streams=stage.streams,
        pin_memory=device.type == "cuda",
    )
    return predict_groups(stage, module, groups, device=device, what=dataset.name)


@torch.inference_mode()
def predict_groups(
    stage: Stage, module: nn.Module, groups: Iterable[Group], *, device: torch.device, what: str
) -> Predicted:
    """As `predict`, of segments that are in memory, group by group.

    Args:
        stage: whose module it is.
        module: as in `predict`.
        groups: each is one forward.
        device: where it computes.
        what: they are of, for the error.

    Raises:
        FloatingPointError: a score is not finite.
    """
    module.eval()
    dtype = next(module.parameters()).dtype
    classes: list[Tensor] = []
    scores: list[Tensor] = []
    for group in groups:
        scores_BK = stage.scores(module, (group.to(device, dtype),))
        classes.append(scores_BK.argmax(1))
        scores.append(scores_BK)
    scores_NK = torch.cat(scores)
    if not torch.isfinite(scores_NK).all():  # looked at once: each look waits for the device
        raise FloatingPointError(f"{what}: class scores are not finite")
    predicted_N: IntArray = torch.cat(classes).cpu().numpy().astype(np.int64)
    return Predicted(predicted_N, scores_NK.double().softmax(1).cpu().numpy())


def _batch_size(stage: Stage) -> int:
    """Segments of a forward: as many as of a training step, where that counts segments."""
    return getattr(stage.sampling, "batch_size", BATCH_SIZE)
