"""What a stage computes of its segments once, before the first step: a frozen teacher's features.

rows of the pools -> chunks of fixed rows, dealt to the workers -> `Stage.constants` -> a table of
all rows on every worker, from which the feed takes each batch's. The chunks are the same on any
number of workers and after any restart, so what they hold is too, to the bit.

Shapes: N rows of a dataset that train, B rows of a chunk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from emoray.batches import distributed
from emoray.batches.batch import Batch, Group
from emoray.batches.feeds import Constants, in_order
from emoray.batches.plans import Pool
from emoray.corpus.catalog import Segments
from emoray.methods.base import Stage
from emoray.training.data import RunData
from emoray.vocabulary.schema import IntArray

CHUNK = 64
"""Rows that are computed together."""


def has_constants(stage: Stage) -> bool:
    """Whether a stage computes anything before its first step."""
    return type(stage).constants is not Stage.constants


def computed(stage: Stage, found: RunData, device: torch.device) -> dict[str, Constants]:
    """By dataset, the constants of all rows that train; nothing of a stage without any.

    Every worker of a run calls this together, and each computes its share.
    """
    if not has_constants(stage):
        return {}
    pairs = zip(found.datasets, found.pools, strict=True)
    return {dataset.name: _of_pool(stage, dataset, pool, device) for dataset, pool in pairs}


def with_constants(stage: Stage, batch: Batch) -> Batch:
    """A batch whose groups hold the streams that constants are made of, with them.

    For timing a step without computing those of all segments.
    """
    if not has_constants(stage):
        return batch
    groups = tuple(replace(group, constants=_of_group(stage, group)) for group in batch.groups)
    return replace(batch, groups=groups)


@torch.no_grad()
def _of_group(stage: Stage, group: Group) -> Mapping[str, Tensor]:
    return stage.constants(group)


def _of_pool(stage: Stage, dataset: Segments, pool: Pool, device: torch.device) -> Constants:
    rows_N = np.sort(pool.rows_S)
    chunks = [rows_N[i : i + CHUNK] for i in range(0, len(rows_N), CHUNK)]
    own = range(distributed.rank(), len(chunks), distributed.world_size())
    parts = {i: _of_chunk(stage, dataset, chunks[i], device) for i in own}
    # A worker without a chunk of its own still has to know names and shapes.
    like = next(iter(parts.values()), None) or _of_chunk(stage, dataset, chunks[0], device)
    return Constants(rows_N, {name: _joined(name, like, parts, chunks) for name in like})


def _of_chunk(
    stage: Stage, dataset: Segments, rows_B: IntArray, device: torch.device
) -> dict[str, Tensor]:
    streams = stage.streams_once or stage.streams
    (group,) = in_order(dataset, rows_B, batch_size=len(rows_B), streams=streams)
    dtype = torch.float64 if stage.precision == "float64" else torch.float32
    group = replace(group, positions_B=torch.from_numpy(rows_B)).to(device, dtype)
    return dict(_of_group(stage, group))


def _joined(
    name: str,
    like: Mapping[str, Tensor],
    parts: Mapping[int, Mapping[str, Tensor]],
    chunks: Sequence[IntArray],
) -> Tensor:
    """All rows of one constant, on the CPU: each chunk is one worker's, and zero on the others."""
    n_rows = sum(len(rows_B) for rows_B in chunks)
    table = torch.zeros((n_rows, *like[name].shape[1:]), dtype=like[name].dtype)
    table = table.to(like[name].device)
    for i, part in parts.items():
        table[i * CHUNK : i * CHUNK + len(chunks[i])] = part[name]
    distributed.add_up(table)
    return table.cpu()
