"""Frozen embeddings of chosen segments, for read-outs and figures.

Shapes: N segments, C electrodes, T samples, Z width of an embedding.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import numpy as np
import torch
from torch import nn

from emoray import electrodes
from emoray.corpus.read import CorpusDataset
from emoray.methods.base import Embedder, Group
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
    batches = _groups(dataset, rows_N, device, batch_size)
    parts = [embedder.embed((group,)).cpu().numpy() for group in batches]
    return np.concatenate(parts).astype(np.float32)


def _groups(
    dataset: CorpusDataset, rows_N: IntArray, device: torch.device, batch_size: int
) -> Iterator[Group]:
    ids_C = torch.tensor(electrodes.ids(dataset.channels))
    for start in range(0, len(rows_N), batch_size):
        rows_B = rows_N[start : start + batch_size]
        group = Group(
            x_BCT=torch.from_numpy(dataset.gather(rows_B)),
            electrode_ids_C=ids_C,
            sfreq=dataset.sfreq,
            positions_B=torch.arange(len(rows_B)),
        )
        yield group.to(device, torch.float32)


def evenly(rows_N: IntArray, at_most: int) -> IntArray:
    """At most so many rows, spread evenly over all of them (so over subjects and stimuli)."""
    if len(rows_N) <= at_most:
        return rows_N
    return rows_N[np.linspace(0, len(rows_N) - 1, at_most).round().astype(np.int64)]
