"""Frozen embeddings of chosen segments, for read-outs and figures.

Shapes: N segments, C electrodes, T samples, Z width of an embedding.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import nn

from emoray.corpus.read import CorpusDataset
from emoray.feed import in_order
from emoray.methods.base import Embedder
from emoray.schema import Float32Array, IntArray


@torch.inference_mode()
def embed(
    module: nn.Module,
    dataset: CorpusDataset,
    rows_N: IntArray,
    *,
    device: torch.device,
    batch_size: int = 64,
) -> Float32Array:
    """Embeddings of some rows of a dataset, in their order, shape (N, Z).

    The module offers `embed` (`emoray.methods.base.Embedder`); it is put into evaluation mode and
    float32.
    """
    embedder = cast(Embedder, module.to(device, torch.float32).eval())
    parts = [
        embedder.embed((group.to(device, torch.float32),)).cpu().numpy()
        for group in in_order(dataset, rows_N, batch_size=batch_size)
    ]
    return np.concatenate(parts).astype(np.float32)


def evenly(rows_N: IntArray, at_most: int) -> IntArray:
    """At most so many rows, spread evenly over all of them (so over subjects and stimuli)."""
    if len(rows_N) <= at_most:
        return rows_N
    return rows_N[np.linspace(0, len(rows_N) - 1, at_most).round().astype(np.int64)]
