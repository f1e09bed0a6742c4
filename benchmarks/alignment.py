"""Speed of the alignment's step at full size, and what it saves to ask the teacher once.

    python -m benchmarks.alignment                      # CPU: steps of 32 pairs, about a minute
    python -m benchmarks.alignment --segments 128       # a step of the default settings, on a GPU

A step is what training does: ECG and its shuffled version through the student, both contrasts over
what the teacher has said of the EEG, backward, Adam. Beside it the teacher's pass over the same
pairs, which runs once before the first step instead of in each. Operations are what torch counts;
pairs are noise of 10 s, 14 electrodes at 128 Hz and 2 leads at 256 Hz (DREAMER).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.table import Table
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.forward import machine, seconds_of
from benchmarks.pretext import N_MATMUL
from emoray.batches.batch import Batch, Group, Signal
from emoray.methods.alignment.config import AlignmentConfig
from emoray.methods.alignment.method import Alignment
from emoray.methods.base import Inputs, StreamSpec
from emoray.runtime.console import open_console
from emoray.training import loop
from emoray.training.constants import with_constants
from emoray.training.optimizers import make_optimizer

SECONDS = 10.0
EEG = StreamSpec(tuple(f"E{i}" for i in range(14)), 128.0, round(SECONDS * 128))
ECG = StreamSpec(("ecg1", "ecg2"), 256.0, round(SECONDS * 256))


@dataclass
class Row:
    """What one part took."""

    what: str
    seconds: float
    """Of the fastest repetition."""
    pairs_per_s: float | None
    gflop_per_s: float


def main() -> None:
    options = parse()
    torch.manual_seed(0)
    config = AlignmentConfig(precision="bf16" if options.bf16 else "float32")
    stage = Alignment(config, Inputs({"eeg": EEG, "ecg": ECG}), {})
    pairs = made(options.segments).to(torch.device(options.device), torch.float32)
    batch = with_constants(stage, pairs)
    module = stage.build().to(options.device)
    matrix_NN = torch.randn(N_MATMUL, N_MATMUL, device=options.device)
    work = {
        "step": _step(stage, module, batch),
        "teacher": _silent(lambda: with_constants(stage, pairs)),
        "matmul": _silent(lambda: torch.mm(matrix_NN, matrix_NN)),
    }
    flop = {what: _operations(each) for what, each in work.items()}
    clock = time.process_time if options.cpu_seconds else time.perf_counter
    times_s = [  # in turn, so that a busy moment of the machine meets all of them
        [seconds_of(each, options.device, clock) for each in work.values()]
        for _ in range(options.repeats)
    ]
    least_s = dict(zip(work, map(min, zip(*times_s, strict=True)), strict=True))
    rows = [
        Row(
            what,
            seconds,
            None if what == "matmul" else options.segments / seconds,
            flop[what] / seconds / 1e9,
        )
        for what, seconds in least_s.items()
    ]
    show(options, config, rows)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    on_gpu = torch.cuda.is_available()
    parser.add_argument("--device", default="cuda" if on_gpu else "cpu")
    parser.add_argument("--segments", type=int, help="of a step (default: 128 on a GPU, or 32)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--bf16", action="store_true", help="under autocast")
    parser.add_argument(
        "--cpu-seconds",
        action="store_true",
        help="the process's own, of all threads: on a busy machine with --threads 1",
    )
    parser.add_argument("--json", type=Path, help="also write the rows here")
    options = parser.parse_args()
    options.small = options.compile = False  # the full size is what is timed
    options.segments = options.segments or (128 if options.device.startswith("cuda") else 32)
    torch.set_num_threads(options.threads)
    return options


def made(n_segments: int) -> Batch:
    """One step's pairs."""
    signals = {
        name: Signal(torch.randn(n_segments, spec.n_chans, spec.n_times), spec.channels, spec.sfreq)
        for name, spec in (("eeg", EEG), ("ecg", ECG))
    }
    return Batch(0, (Group("noise", signals, torch.arange(n_segments)),), {})  # type: ignore[arg-type]


def _step(stage: Alignment, module: nn.Module, batch: Batch) -> Callable[[], None]:
    optimizer = make_optimizer(stage.optimizer, module)
    rate = stage.optimizer.learning_rate
    return _silent(lambda: loop.take_step(stage, module, optimizer, batch, rate))


def _silent(work: Callable[[], object]) -> Callable[[], None]:
    def do() -> None:
        work()

    return do


def _operations(work: Callable[[], None]) -> int:
    """Floating-point operations of the products in it, as torch counts them; warms it up too."""
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def show(options: argparse.Namespace, config: AlignmentConfig, rows: list[Row]) -> None:
    table = Table(title=f"a step of {options.segments} pairs of {SECONDS:g} s, full size")
    for column in ("what", "s", "pairs/s", "GFLOP/s"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for row in rows:
        rate = "" if row.pairs_per_s is None else f"{row.pairs_per_s:.1f}"
        table.add_row(row.what, f"{row.seconds:.3f}", rate, f"{row.gflop_per_s:.1f}")
    console = open_console()
    console.print(table)
    of = {row.what: row for row in rows}
    each = of["step"].seconds + of["teacher"].seconds
    once = of["step"].seconds + of["teacher"].seconds / config.epochs
    share = of["step"].gflop_per_s / of["matmul"].gflop_per_s
    console.print(
        f"asked once in {config.epochs} epochs rather than in each step, the teacher leaves a run "
        f"{each / once:.1f} times as fast; the step reaches {100 * share:.0f} % of a plain product "
        "of matrices"
    )
    console.print(machine(options))
    if options.json is not None:
        facts = {"machine": machine(options), "rows": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
