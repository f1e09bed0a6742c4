"""Time and memory of planning: an epoch, its steps one by one, and a jump into the run's middle.

    python benchmarks/plan.py                        # 80 thousand and 10 million segments
    python benchmarks/plan.py --segments 1000000

Aim: an epoch over 80,000 segments in 0.1 s; over 10 million in seconds. Every size runs in its own
process, so that the memory is its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import platform
import resource
import time

import numpy as np

from emoray.sampling import Pool, RoundPlan

SHARES = (3840, 14655, 27340, 4389, 12190, 8372, 3955, 5329)
"""Segments of the eight datasets in EMOD's Table 1; other sizes keep the proportions."""

LABELLED = {1: 3, 2: 4, 4: 5}
"""Datasets with emotion names, and how many regions these reach; the others reach all nine."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--segments", type=int, nargs="+", default=[80_070, 10_000_000])
    sizes = parser.parse_args().segments
    print(f"{platform.processor() or platform.machine()}, numpy {np.__version__}")
    context = multiprocessing.get_context("spawn")
    for size in sizes:
        process = context.Process(target=measure, args=(size,))
        process.start()
        process.join()


def measure(n_segments: int) -> None:
    pools = [_pool(i, n_segments * share // sum(SHARES)) for i, share in enumerate(SHARES)]
    base_mb = _peak_mb()
    start = time.perf_counter()
    plan = RoundPlan(pools, seed=0, rounds_per_step=4)
    setup_s = time.perf_counter() - start
    epochs_s = [_seconds(plan.epoch, epoch) for epoch in range(3)]
    steps_s = [_seconds(plan.step, 3, step) for step in range(min(plan.n_steps, 200))]
    jump_s = _seconds(plan.step, 57, min(plan.n_steps - 1, 200))
    print(f"{n_segments:,} segments, {plan.n_steps:,} steps of {plan.n_segments_per_step}")
    print(f"  set up     {setup_s:8.3f} s")
    print("  epoch      " + "  ".join(f"{s:8.3f} s" for s in epochs_s))
    print(f"  one step   {1e3 * np.median(steps_s):8.3f} ms median, {1e3 * max(steps_s):.1f} worst")
    print(f"  jump       {1e3 * jump_s:8.3f} ms to epoch 57")
    print(f"  memory     {_peak_mb() - base_mb:8.0f} MB at most above {base_mb:.0f} MB of pools")


def _pool(number: int, size: int) -> Pool:
    rng = np.random.default_rng(number)
    centres_K2 = rng.permutation(np.array([(v, a) for v in (-3, 0, 3) for a in (-3, 0, 3)]))
    names_S = rng.integers(LABELLED.get(number, 9), size=size)
    return Pool(f"dataset{number}", "0", np.arange(size), centres_K2[names_S].astype(np.float64))


def _seconds(draw, *place: int) -> float:
    start = time.perf_counter()
    draw(*place)
    return time.perf_counter() - start


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux counts in KiB


if __name__ == "__main__":
    main()
