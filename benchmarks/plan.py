"""Time and memory of planning: an epoch, its steps one by one, and a jump into the run's middle.

    python -m benchmarks.plan                        # 80 thousand and 10 million segments
    python -m benchmarks.plan --segments 1000000

The eight pretraining datasets have their shares of the paper's Table 1. Those with emotion names
fill the regions of these names alone, by the default table: 3 each for SEED-IV, SEED-VII and MPED;
the rated ones fill all nine. Every size runs in its own process, so that the memory is its own.

Aim: an epoch over 80,000 segments in 0.1 s; over 10 million in seconds.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from collections.abc import Callable

import numpy as np

from emoray import datasets
from emoray.batches.plans import Pool, RoundPlan
from emoray.results import published
from emoray.vocabulary import affect
from emoray.vocabulary.schema import Card


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--segments", type=int, nargs="+", default=[80_070, 10_000_000])
    sizes = parser.parse_args().segments
    print(f"{_machine()}, numpy {np.__version__}")
    context = multiprocessing.get_context("spawn")
    for size in sizes:
        process = context.Process(target=measure, args=(size,))
        process.start()
        process.join()


def measure(n_segments: int) -> None:
    cards = [datasets.get(name).CARD for name in sorted(published.load("emod").pretraining)]
    shares = [card.n_segments_paper or 0 for card in cards]
    pools = [
        _pool(card, n_segments * share // sum(shares))
        for card, share in zip(cards, shares, strict=True)
    ]
    base_mb = _peak_mb()
    start = time.perf_counter()
    plan = RoundPlan(pools, seed=0, rounds_per_step=4)
    setup_s = time.perf_counter() - start
    epochs_s = [_seconds(plan.epoch, epoch) for epoch in range(3)]
    steps_s = [_seconds(plan.step, 3, step) for step in range(min(plan.n_steps, 200))]
    jump_s = _seconds(plan.step, 57, min(plan.n_steps - 1, 200))
    filled = ", ".join(f"{len(set(pool.region_S.tolist()))} {pool.name}" for pool in pools)
    print(f"{n_segments:,} segments, {plan.n_steps:,} steps of {plan.n_segments_per_step}")
    print(f"  regions    {filled}")
    print(f"  set up     {setup_s:8.3f} s")
    print("  epoch      " + "  ".join(f"{s:8.3f} s" for s in epochs_s))
    print(f"  one step   {1e3 * np.median(steps_s):8.3f} ms median, {1e3 * max(steps_s):.1f} worst")
    print(f"  jump       {1e3 * jump_s:8.3f} ms to epoch 57")
    print(f"  memory     {_peak_mb() - base_mb:8.0f} MB at most above {base_mb:.0f} MB of pools")


def _machine() -> str:
    from emoray.runtime import cluster  # loads Ray, which the measured processes must not hold

    return cluster.cpu_model()


def _pool(card: Card, size: int) -> Pool:
    """Every emotion of the card equally often; where there are ratings, every region."""
    points = [affect.place_emotion(name) for name in card.emotions]
    centres = points or [(v, a) for v in (-3.0, 0.0, 3.0) for a in (-3.0, 0.0, 3.0)]
    chosen_S = np.random.default_rng(0).integers(len(centres), size=size)
    return Pool(card.name, "0", np.arange(size), np.array(centres)[chosen_S])


def _seconds(draw: Callable[..., object], *place: int) -> float:
    start = time.perf_counter()
    draw(*place)
    return time.perf_counter() - start


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux counts in KiB


if __name__ == "__main__":
    main()
