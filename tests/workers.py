"""Workers of one process group, each a process of this machine (gloo)."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.multiprocessing import spawn

Found = list[dict[str, Any]]
"""What each worker found, by rank."""


def found_by(n_workers: int, out: Path, everything: Callable[[], dict[str, Any]]) -> Found:
    """What a function of a module gives in each of so many workers; alone it runs right here."""
    if n_workers == 1:
        torch.save(everything(), out / "0.pt")
    else:
        spawn(_worker, (n_workers, out, everything), nprocs=n_workers)
    return [torch.load(out / f"{rank}.pt") for rank in range(n_workers)]


def _worker(rank: int, n_workers: int, out: Path, everything: Callable[[], dict[str, Any]]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{out / 'rendezvous'}",
        rank=rank,
        world_size=n_workers,
        timeout=timedelta(seconds=120),
    )
    torch.save(everything(), out / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()
    # Not through Python's shutdown: a thread of gloo's may still be letting go of a finished
    # gather. It then asks for the GIL to free the tensors, is ended by Python instead, and takes
    # the process along (SIGABRT, "terminate called without an active exception").
    os._exit(0)
