"""What pretraining is worth: held-out subjects read out, pretrained beside untrained, over seeds.

    python -m benchmarks.read_out [--seeds 5] [--epochs 4]

On rehearsal data, with the settings of the job's rehearsal. For every seed, other weights, another
plan and the same held-out subjects; then the mean of the paired differences of Pearson's r and its
95 % interval (Student's t). The figure of merit is the mean of valence's r and arousal's.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import tyro
from rich.table import Table

from emoray.console import open_console
from emoray.corpus.read import Corpus, open_corpus
from emoray.corpus.rehearsal import rehearsal_corpus
from emoray.evaluation.held_out import read_out_held_out
from emoray.evaluation.readout import Scores
from emoray.feed import PlanFeed, for_pretraining, pools
from emoray.methods.emod.method import Config, Pretraining, rehearsal_config
from emoray.sampling import RoundPlan
from emoray.statistics import paired_interval
from emoray.training import driver, worker
from emoray.training.checkpoint import State

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Options:
    """What is repeated."""

    seeds: int = 5
    """Runs; each trains once."""
    epochs: int | None = None
    """Passes over the plan; the rehearsal's own without it."""
    held_out: float = 0.2
    """Share of subjects held out, at least one of each dataset; the same for all seeds."""
    corpus: str | None = None
    """A corpus; without it, the rehearsal corpus in ~/emoray."""


class Nowhere:
    """No checkpoints: every run starts afresh and only its end matters."""

    def latest(self) -> State | None:
        """Nothing to go on from."""
        return None

    def save(self, state: State) -> None:
        """Forget it."""


def main(options: Options) -> None:
    console = open_console()
    location = options.corpus
    if location is None:
        folder = Path("~/emoray/rehearsal").expanduser()
        location = str(folder / "corpus")
        rehearsal_corpus(folder / "raw", location)
    corpus = for_pretraining(open_corpus(location))
    held_out = driver.held_out_of(corpus, fraction=options.held_out, seed=0)
    config = rehearsal_config()
    if options.epochs is not None:
        config = replace(config, epochs=options.epochs)
    table = Table(title="Pearson r on held-out subjects" + " (rehearsal data)" * corpus.rehearsal)
    for column in (
        "seed",
        "valence",
        "untrained",
        "arousal",
        "untrained",
        "mean",
        "untrained",
        "s",
    ):
        table.add_column(column, justify="right")
    found = []
    for seed in range(options.seeds):
        pretrained, untrained, seconds, waited_s = one_seed(
            corpus, held_out, replace(config, seed=seed)
        )
        cells = (
            *(pretrained.valence.r, untrained.valence.r, pretrained.arousal.r),
            *(untrained.arousal.r, pretrained.mean_r, untrained.mean_r),
        )
        table.add_row(
            str(seed), *(f"{r:+.3f}" if r is not None else "" for r in cells), f"{seconds:.0f}"
        )
        if pretrained.mean_r is not None and untrained.mean_r is not None:
            found.append(pretrained.mean_r - untrained.mean_r)
        console.print(
            f"seed {seed}: {cells[4]:+.3f} against {cells[5]:+.3f} in {seconds:.0f} s, "
            f"of them {100 * waited_s / seconds:.2f} % waiting for data"
        )
    console.print(table)
    interval = paired_interval(found)
    if interval is not None:
        verdict = "excludes zero" if interval.excludes_zero else "does not exclude zero"
        console.print(
            f"difference {interval.mean:+.3f}, 95 % interval [{interval.low:+.3f}, "
            f"{interval.high:+.3f}] over {interval.n} seeds: it {verdict}"
        )
    console.print_json(json.dumps({"differences": found}))


def one_seed(
    corpus: Corpus, held_out: dict[str, tuple[str, ...]], config: Config
) -> tuple[Scores, Scores, float, float]:
    """Scores of the trained and of the untrained encoder, seconds of training and of waiting."""
    stage = Pretraining(config)
    plan = RoundPlan(
        pools(corpus, held_out), seed=config.seed, rounds_per_step=config.rounds_per_step
    )
    feed = PlanFeed(corpus, plan)
    began = time.perf_counter()
    trained = worker.train(
        stage,
        feed,
        steps_per_epoch=plan.n_steps,
        checkpoints=Nowhere(),
        checkpoint_every=1 << 30,
        device=CPU,
    )
    seconds = time.perf_counter() - began
    pretrained = read_out_held_out(trained.module, corpus, held_out, device=CPU)
    untrained = read_out_held_out(stage.build(), corpus, held_out, device=CPU)
    assert pretrained is not None
    assert untrained is not None
    return pretrained.scores, untrained.scores, seconds, feed.waited_s


if __name__ == "__main__":
    main(tyro.cli(Options))
