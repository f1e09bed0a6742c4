"""Speed of SSL-ECG's pretext step at full size, against its arithmetic; what transformations cost.

    python -m benchmarks.pretext                      # CPU: steps of 16 windows, about 2 min
    python -m benchmarks.pretext --segments 128       # the paper's step, on a GPU
    python -m benchmarks.pretext --threads 1 --cpu-seconds    # where others are at work too

A step is what training does: seven versions of each window, forward, backward, Adam. The multiply-
adds are those of the convolutions, from their shapes; a plain product of matrices says what the
machine gives. Windows are noise of 10 s at 256 Hz.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.table import Table

from benchmarks.forward import machine, seconds_of
from emoray.batches.batch import Batch, Group, Signal
from emoray.methods import counter_draws
from emoray.methods.counter_draws import DropoutKey
from emoray.methods.ssl_ecg.config import EncoderConfig, PretextConfig
from emoray.methods.ssl_ecg.method import Pretext
from emoray.methods.ssl_ecg.transforms import TASKS, versions
from emoray.runtime.console import open_console
from emoray.training import loop
from emoray.training.optimizers import make_optimizer

SFREQ, SECONDS = 256.0, 10.0
N_MATMUL = 2048
"""Rows and columns of the matrices that are multiplied."""


@dataclass
class Row:
    """What one variant took."""

    what: str
    seconds: float
    """Of the fastest repetition."""
    windows_per_s: float | None = None
    gflop_per_s: float | None = None


def main() -> None:
    options = parse()
    torch.manual_seed(0)
    batch = made(options.segments, options.device)
    config = PretextConfig(precision="bf16" if options.bf16 else "float32", compile=options.compile)
    n_times = batch.groups[0]["ecg"].x_BCT.shape[2]
    flop = {
        "step": options.segments * step_flop(config.encoder, n_times),
        "matmul": 2 * N_MATMUL**3,
    }
    work = {
        "step": _step(config, batch, options),
        "transformations": _transformed(config, batch, options.segments),
        "one at a time": _transformed(config, batch, 1),
        "matmul": _matmul(options),
    }
    for each in work.values():
        each()  # a warm-up
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
            flop[what] / seconds / 1e9 if what in flop else None,
        )
        for what, seconds in least_s.items()
    ]
    show(options, rows)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    on_gpu = torch.cuda.is_available()
    parser.add_argument("--device", default="cuda" if on_gpu else "cpu")
    parser.add_argument("--segments", type=int, help="of a step (default: 128 on a GPU, or 16)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--cpu-seconds",
        action="store_true",
        help="the process's own, of all threads: on a busy machine with --threads 1",
    )
    parser.add_argument("--bf16", action="store_true", help="under autocast")
    parser.add_argument("--compile", action="store_true", help="through torch.compile")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    options = parser.parse_args()
    options.small = False  # the full size is what is timed
    options.segments = options.segments or (128 if options.device.startswith("cuda") else 16)
    torch.set_num_threads(options.threads)
    return options


def made(n_segments: int, device: str) -> Batch:
    """One step's windows of one lead."""
    x_BCT = torch.randn(n_segments, 1, round(SECONDS * SFREQ))
    group = Group("noise", {"ecg": Signal(x_BCT, ("ecg",), SFREQ)}, torch.arange(n_segments))
    return Batch(0, (group,), {}).to(torch.device(device), torch.float32)


def multiply_adds(config: EncoderConfig, n_times: int) -> list[int]:
    """Of each convolution for one version of one window: samples x kernel x filters in x out."""
    found = []
    widths = itertools.pairwise((1, *config.n_filters))
    for length, kernel, (n_before, n) in zip(
        config.lengths(n_times), config.kernels, widths, strict=True
    ):
        found += [length * kernel * n_before * n, length * kernel * n * n]
    return found


def step_flop(config: EncoderConfig, n_times: int) -> int:
    """Floating-point operations of the convolutions in a step, for one window.

    Two for a multiply-add, for each version; forward, gradient by the weights and gradient by the
    input are equal, and the first convolution's input needs none.
    """
    first, *others = multiply_adds(config, n_times)
    return 2 * len(TASKS) * (2 * first + 3 * sum(others))


def _step(config: PretextConfig, batch: Batch, options: argparse.Namespace) -> Callable[[], None]:
    stage = Pretext(config)
    module = stage.build().to(options.device)
    if options.compile:
        module.compile()
    optimizer = make_optimizer(stage.optimizer, module)

    def step() -> None:
        loop.take_step(stage, module, optimizer, batch, config.optimizer.learning_rate)

    return step


def _transformed(config: PretextConfig, batch: Batch, at_once: int) -> Callable[[], None]:
    """Make all versions of all windows, so many windows at once."""
    (group,) = batch.groups
    parts_BT = torch.split(group["ecg"].x_BCT[:, 0], at_once)
    key = DropoutKey(0, 0)
    drawn_B = counter_draws.segment_keys(key, group.positions_B, counter_draws.AUGMENTATION)
    keys_B = torch.split(drawn_B, at_once)

    def transform() -> None:
        for x_BT, key_B in zip(parts_BT, keys_B, strict=True):
            versions(x_BT, key_B, config.transformations)

    return transform


def _matmul(options: argparse.Namespace) -> Callable[[], None]:
    dtype = torch.bfloat16 if options.bf16 else torch.float32
    a_NN = torch.randn(N_MATMUL, N_MATMUL, device=options.device, dtype=dtype)

    def multiply() -> None:
        torch.mm(a_NN, a_NN)

    return multiply


def show(options: argparse.Namespace, rows: list[Row]) -> None:
    of = {row.what: row for row in rows}
    step, matmul = of["step"], of["matmul"]
    assert step.gflop_per_s is not None
    assert matmul.gflop_per_s is not None
    table = Table(title=f"a step of {options.segments} windows of {SECONDS:g} s, full size")
    for column in ("what", "s", "windows/s", "of the step", "GFLOP/s"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for row in rows:
        table.add_row(
            row.what,
            f"{row.seconds:.3f}",
            "" if row.windows_per_s is None else f"{row.windows_per_s:.2f}",
            "" if row is matmul else f"{100 * row.seconds / step.seconds:.1f} %",
            "" if row.gflop_per_s is None else f"{row.gflop_per_s:.1f}",
        )
    console = open_console()
    console.print(table)
    times = of["one at a time"].seconds / of["transformations"].seconds
    share = step.gflop_per_s / matmul.gflop_per_s
    one = sum(multiply_adds(EncoderConfig(), round(SECONDS * SFREQ))) / 1e6
    console.print(f"{one:.1f} million multiply-adds forward, for each of {len(TASKS)} versions")
    console.print(
        f"transformations: {times:.1f} times as fast as one window at a time; the step reaches "
        f"{100 * share:.0f} % of a plain product of matrices"
    )
    console.print(machine(options))
    if options.json is not None:
        facts = {"machine": machine(options), "rows": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
