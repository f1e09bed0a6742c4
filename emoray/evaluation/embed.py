"""Frozen embeddings of chosen segments, for read-outs and figures.

Shapes: N segments, C electrodes, T samples, Z width of an embedding.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import numpy as np
import torch
from torch import nn

from emoray.batches.feeds import in_order
from emoray.corpus.catalog import Segments
from emoray.methods.base import Embedder
from emoray.vocabulary.schema import Float32Array, IntArray

BATCH_SIZE = {"cpu": 8}
"""Segments of a forward by device, `GPU_BATCH_SIZE` elsewhere: on a CPU more of them leave its
cache (62 electrodes, 10 s: 8 take three quarters of the time of 48)."""
GPU_BATCH_SIZE = 64


def embed(
    module: nn.Module,
    dataset: Segments,
    rows_N: IntArray,
    *,
    device: torch.device,
    batch_size: int | None = None,
    advance: Callable[[int], None] = lambda n_segments: None,
) -> Float32Array:
    """Embeddings of some rows of a dataset, in their order, shape (N, Z).

    The module offers `embed` (`emoray.methods.base.Embedder`); it is put into evaluation mode and
    float32. On a CPU, torch's threads take a batch each: batches are too small to share one.

    Args:
        module: the encoder.
        dataset: whose segments.
        rows_N: of its index.
        device: where embeddings are computed.
        batch_size: segments of a forward; `BATCH_SIZE` without it.
        advance: told how many segments have just been embedded, from any thread.
    """
    embedder = cast(Embedder, module.to(device, torch.float32).eval())
    batch_size = batch_size or BATCH_SIZE.get(device.type, GPU_BATCH_SIZE)

    @torch.inference_mode()
    def one(rows_B: IntArray) -> Float32Array:
        (group,) = in_order(dataset, rows_B, batch_size=batch_size)
        z_BZ = embedder.embed((group.to(device, torch.float32),)).cpu().numpy()
        advance(len(rows_B))
        return z_BZ.astype(np.float32)

    batches = [rows_N[i : i + batch_size] for i in range(0, len(rows_N), batch_size)]
    with _a_batch_each(device) as n_threads, ThreadPoolExecutor(n_threads) as pool:
        return np.concatenate(list(pool.map(one, batches)))


@contextlib.contextmanager
def _a_batch_each(device: torch.device) -> Iterator[int]:
    """How many batches to compute side by side; torch's operations keep to one thread meanwhile."""
    n_threads = torch.get_num_threads()
    if device.type != "cpu":
        yield 1
        return
    torch.set_num_threads(1)
    try:
        yield n_threads
    finally:
        torch.set_num_threads(n_threads)


def evenly(rows_N: IntArray, at_most: int) -> IntArray:
    """At most so many rows, spread evenly over all of them (so over subjects and stimuli)."""
    if len(rows_N) <= at_most:
        return rows_N
    return rows_N[np.linspace(0, len(rows_N) - 1, at_most).round().astype(np.int64)]
