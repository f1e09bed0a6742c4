"""Rank, world size, and a gather that carries gradients; one process is a world of one.

Shapes: B items of one worker, W workers.
Knows torch.distributed only. DDP averages gradients over workers: W workers that each compute the
same loss of the gathered batch therefore take exactly the step of one worker that holds it all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def is_distributed() -> bool:
    """Whether this process belongs to an initialised process group."""
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """Number of this worker, from 0; 0 without a process group."""
    return dist.get_rank() if is_distributed() else 0


def world_size() -> int:
    """How many workers there are; 1 without a process group."""
    return dist.get_world_size() if is_distributed() else 1


def barrier() -> None:
    """Wait until every worker is here; nothing without a process group."""
    if is_distributed():
        dist.barrier()


class _Gather(torch.autograd.Function):
    """All-gather along the first axis; backward sums the gradient of every worker's copy."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.n_own = x.shape[0]
        gathered = x.new_empty((world_size() * x.shape[0], *x.shape[1:]))
        dist.all_gather_into_tensor(gathered, x.contiguous())
        return gathered

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        # Each worker's loss depends on this worker's rows, so their gradients add up.
        total = grads[0].contiguous().clone()
        dist.all_reduce(total)
        start = rank() * ctx.n_own
        return total[start : start + ctx.n_own]


def gather_with_grad(x_BD: Tensor) -> Tensor:
    """Stack the rows of all workers in order of rank, shape (sum of B, D); gradients flow to each.

    Every worker then holds the same global batch and computes the same loss L. Backward gives
    each worker W times the part of dL that passes through its own rows; DDP divides the sum over
    workers by W, which leaves dL of the whole batch.

    Args:
        x_BD: this worker's rows, any number of trailing axes; floats or, for what carries no
            gradient (ratings), any type. Workers may hold different numbers of rows.

    Raises:
        ValueError: the workers' rows differ in shape or type; raised on all of them alike.
    """
    if world_size() == 1:
        return x_BD
    n_rows = _equal_but_for_rows(x_BD)
    gather: Callable[[Tensor], Tensor] = _Gather.apply
    most = max(n_rows)
    if min(n_rows) == most:
        return gather(x_BD)
    padded = x_BD.new_zeros((most - len(x_BD), *x_BD.shape[1:]))
    parts = torch.split(gather(torch.cat([x_BD, padded])), most)
    return torch.cat([part[:n] for part, n in zip(parts, n_rows, strict=True)])


def gather_in_order(positions_B: Tensor, *columns: Tensor) -> tuple[Tensor, ...]:
    """Rows of all workers, in the order of their places in the step, as many tensors as columns.

    The same order on any number of workers, so that sums run in the same order too. Gradients flow
    as in `gather_with_grad`.

    Args:
        positions_B: places of this worker's rows in the step's global batch.
        columns: one row for each place.
    """
    order_B = torch.argsort(gather_with_grad(positions_B))
    return tuple(gather_with_grad(column)[order_B] for column in columns)


def _equal_but_for_rows(x: Tensor) -> list[int]:
    """Hold this worker's shape against every other's: a mismatch would hang or mix rows.

    Returns:
        Rows of each worker.
    """
    mine = torch.full((9,), -1, dtype=torch.int64, device=x.device)
    facts = [x.ndim, _TYPES.index(x.dtype), *x.shape[:7]]
    mine[: len(facts)] = torch.tensor(facts, dtype=torch.int64)
    everyones = mine.new_empty((world_size() * 9,))
    dist.all_gather_into_tensor(everyones, mine)
    rows = everyones.view(world_size(), 9).tolist()
    if any(row[:2] + row[3:] != rows[0][:2] + rows[0][3:] for row in rows) or not x.ndim:
        shapes = ", ".join(
            f"rank {r}: {tuple(row[2 : 2 + row[0]])} {_TYPES[row[1]]}" for r, row in enumerate(rows)
        )
        raise ValueError(f"need rows of the same shape and type on every worker, got {shapes}")
    return [row[2] for row in rows]


def add_up(x: Tensor) -> None:
    """Put the sum over all workers in place of each worker's tensor."""
    if is_distributed():
        dist.all_reduce(x)


def sum_with_grad(x: Tensor) -> Tensor:
    """The sum of every worker's tensor, the same on all; gradients flow to each as `_Gather`'s."""
    return gather_with_grad(x[None]).sum(0) if world_size() > 1 else x


_TYPES = (
    torch.float64,
    torch.float32,
    torch.bfloat16,
    torch.float16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
)
