"""Speed and memory of EMOD's model, forward and backward: one forward for the whole batch beside
one per dataset, and the chunked front end beside the plain one.

    python -m benchmarks.forward                          # CPU: 2 segments of each dataset, ~2 min
    python -m benchmarks.forward --segments 36            # the paper's step of 288, on a GPU
    python -m benchmarks.forward --segments 36 --bf16 --compile --json forward.json

The montages and rates are those of the eight pretraining datasets' cards; signals are noise. All
variants run in turn in one process, and the ratios are against the first line.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from rich.table import Table
from torch import Tensor, nn

from emoray import datasets
from emoray.batches.batch import Group, Signal
from emoray.methods.counter_draws import DropoutKey
from emoray.methods.emod.config import EncoderConfig
from emoray.methods.emod.loss import soft_va_contrast
from emoray.methods.emod.model import EmodPretraining
from emoray.results import published
from emoray.runtime import cluster
from emoray.runtime.console import open_console


@dataclass
class Row:
    """What one variant took."""

    front_end: str
    forwards: int
    """Forward passes for one batch."""
    seconds: float
    """Of the fastest repetition."""
    segments_per_s: float
    memory_mb: float
    """See `memory_of`."""


def main() -> None:
    options = parse()
    torch.manual_seed(0)
    groups = batch(options.segments, options.seconds, options.device)
    n_segments = sum(len(group) for group in groups)
    variants = list(_variants(options, groups))
    memory_mb = [memory_of(step, options.device) for _, step in variants]  # and a warm-up
    times_s = [  # in turn, so that a busy moment of the machine meets all of them
        [seconds_of(step, options.device) for _, step in variants] for _ in range(options.repeats)
    ]
    rows = [
        Row(front_end, n_forwards, min(seconds), n_segments / min(seconds), megabytes)
        for ((front_end, n_forwards), _), seconds, megabytes in zip(
            variants, zip(*times_s, strict=True), memory_mb, strict=True
        )
    ]
    show(options, n_segments, rows)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    on_gpu = torch.cuda.is_available()
    parser.add_argument("--device", default="cuda" if on_gpu else "cpu")
    parser.add_argument("--segments", type=int, help="of each dataset (default: 36 on a GPU, or 2)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of a segment")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--small", action="store_true", help="the rehearsal's small model")
    parser.add_argument("--bf16", action="store_true", help="under autocast")
    parser.add_argument("--compile", action="store_true", help="through torch.compile")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    options = parser.parse_args()
    options.segments = options.segments or (36 if options.device.startswith("cuda") else 2)
    torch.set_num_threads(options.threads)
    return options


def batch(n_segments: int, seconds: float, device: str) -> list[Group]:
    """So many segments of every pretraining dataset, at its own rate and montage."""
    groups = []
    for d, name in enumerate(sorted(published.load("emod").pretraining)):
        card = datasets.get(name).CARD
        eeg = card.eeg
        assert eeg is not None  # EMOD's
        shape = (n_segments, len(eeg.channels), round(seconds * eeg.sfreq_paper))
        group = Group(
            dataset=name,
            signals={"eeg": Signal(torch.randn(shape), eeg.channels, eeg.sfreq_paper)},
            positions_B=torch.arange(n_segments) + d * n_segments,
        )
        groups.append(group.to(torch.device(device), torch.float32))
    return groups


def _variants(
    options: argparse.Namespace, groups: Sequence[Group]
) -> Iterator[tuple[tuple[str, int], Callable[[], None]]]:
    for front_end in ("chunked", "plain"):
        config = EncoderConfig.small() if options.small else EncoderConfig()
        module: nn.Module = EmodPretraining(replace(config, frontend=front_end))
        module = module.to(options.device)
        if options.compile:
            module.compile()
        for parts in ([groups], [[group] for group in groups]):
            yield (front_end, len(parts)), _step(module, parts, options)


def _step(
    module: nn.Module, parts: Sequence[Sequence[Group]], options: argparse.Namespace
) -> Callable[[], None]:
    """Forward and backward of the whole batch, in as many forwards as there are parts."""
    n = sum(len(group) for part in parts for group in part)
    va_B2 = (torch.rand(n, 2) * 8 - 4).to(options.device)
    device_type = torch.device(options.device).type

    def step() -> None:
        module.zero_grad(set_to_none=True)
        cast = torch.autocast(device_type, torch.bfloat16) if options.bf16 else nullcontext()
        with cast:
            z_BD: Tensor = torch.cat([module(part, DropoutKey(0, 0)) for part in parts])
        torch.autograd.backward(soft_va_contrast(z_BD, va_B2, temperature=0.07, d_max=5.0))

    return step


def seconds_of(
    step: Callable[[], None], device: str, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Wall time of one step, everything on the device done; or what another clock says."""
    gc.collect()
    wait: Callable[[], None] = (
        torch.cuda.synchronize if device.startswith("cuda") else (lambda: None)
    )
    wait()
    start = clock()
    step()
    wait()
    return clock() - start


def memory_of(step: Callable[[], None], device: str) -> float:
    """Megabytes: the peak above those held before on a GPU; on a CPU what forward leaves behind.

    A CPU's allocator gives memory back when it likes, so the tensors that autograd keeps are
    counted instead, each storage once; they include the weights and the batch.
    """
    if device.startswith("cuda"):
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        step()
    return sum(kept.values()) / 1e6


def show(options: argparse.Namespace, n_segments: int, rows: list[Row]) -> None:
    table = Table(title=f"forward and backward of {n_segments} segments of {options.seconds:g} s")
    for column in ("front end", "forwards", "s", "segments/s", "ratio", "MB"):
        table.add_column(column, justify="left" if column == "front end" else "right")
    for row in rows:
        table.add_row(
            row.front_end,
            str(row.forwards),
            f"{row.seconds:.2f}",
            f"{row.segments_per_s:.2f}",
            f"{row.segments_per_s / rows[0].segments_per_s:.2f}",
            f"{row.memory_mb:,.0f}",
        )
    console = open_console()
    console.print(table)
    console.print(machine(options))
    if options.json is not None:
        facts = {"machine": machine(options), "rows": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(facts, indent=2) + "\n")


def machine(options: argparse.Namespace) -> str:
    if options.device.startswith("cuda"):
        name = torch.cuda.get_device_name(options.device)
    else:
        name = f"{cluster.cpu_model()}, {options.threads} thread(s)"
    how = [word for word in ("bf16", "compile", "small") if getattr(options, word)]
    return ", ".join([name, f"torch {torch.__version__}", *how])


if __name__ == "__main__":
    main()
