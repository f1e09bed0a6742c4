"""What pretraining is worth: held-out subjects read out, beside what needs no learning, over seeds.

    python -m benchmarks.read_out [--seeds 5] [--epochs 4]

On rehearsal data, with the settings of the job's rehearsal. Four arms, the same held-out people:
simple features (log power of bands, a mean over electrodes), the untrained encoder, one trained on
ratings permuted within each dataset, one trained on the true ratings. An untrained encoder alone is
no sufficient control: training on ratings that mean nothing teaches an encoder the signals too.
The claim is true minus permuted: the mean of the paired differences over seeds (other weights,
another plan, another permutation) and its 95 % interval (Student's t). Every figure is the mean of
Pearson's r within people.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table

from emoray.batches.feeds import PlanFeed, eligible_rows, for_pretraining, pools, targets_of
from emoray.batches.plans import make_plan
from emoray.corpus.build.rehearsal import rehearsal_corpus
from emoray.corpus.read import Corpus, CorpusDataset, open_corpus
from emoray.evaluation.held_out import read_out_held_out, read_out_simple
from emoray.evaluation.readout import AxesScores
from emoray.evaluation.statistics import paired_interval, summarise
from emoray.experiments.pretraining import held_out_of
from emoray.methods.emod.config import Config, rehearsal_config
from emoray.methods.emod.method import Pretraining
from emoray.results import published
from emoray.runtime.console import open_console
from emoray.training import loop
from emoray.training.checkpoint import State
from emoray.vocabulary.schema import FloatArray

CPU = torch.device("cpu")
HeldOut = Mapping[str, Sequence[str]]
AXES = ("valence", "arousal", "mean")
ARMS = ("simple features", "untrained", "permuted", "true")
CLAIMS = (("true", "permuted"), ("true", "untrained"), ("permuted", "untrained"))


@dataclass(frozen=True)
class Options:
    """What is repeated."""

    seeds: int = 5
    """Runs; each trains twice, once on permuted ratings."""
    epochs: int | None = None
    """Passes over the plan; the rehearsal's own without it."""
    held_out: float = 0.2
    """Share of subjects held out, at least one of each dataset; the same for all seeds."""
    corpus: str | None = None
    """A corpus; without it, the rehearsal corpus in ~/emoray."""
    untrained_only: bool = False
    """Train nothing: simple features and untrained encoders."""


class Nowhere:
    """No checkpoints: every run starts afresh and only its end matters."""

    def latest(self) -> State | None:
        """Nothing to go on from."""
        return None

    def save(self, state: State) -> None:
        """Forget it."""


def main(options: Options) -> None:
    console = open_console()
    location, pretraining = options.corpus, published.load("emod").pretraining
    if location is None:
        folder = Path("~/emoray/rehearsal").expanduser()
        location = str(folder / "corpus")
        rehearsal_corpus(folder / "raw", location, datasets=sorted(pretraining))
    corpus = for_pretraining(open_corpus(location), pretraining)
    held_out = held_out_of(corpus, fraction=options.held_out, seed=0)
    config = rehearsal_config()
    if options.epochs is not None:
        config = replace(config, epochs=options.epochs)
    simple = read_out_simple(corpus, held_out)
    assert simple is not None
    found: dict[str, list[dict[str, float]]] = {"simple features": [_figures(simple.scores)]}
    for seed in range(options.seeds):
        arms = one_seed(
            corpus, held_out, replace(config, seed=seed), console, train=not options.untrained_only
        )
        for name, scores in arms.items():
            found.setdefault(name, []).append(_figures(scores))
    console.print(_table(found, corpus.rehearsal))
    for one, other in CLAIMS:
        if one in found and other in found:
            console.print(_claim(one, other, found), highlight=False)
    console.print_json(json.dumps(found))


def one_seed(
    corpus: Corpus, held_out: HeldOut, config: Config, console: Console, *, train: bool = True
) -> dict[str, AxesScores]:
    """Scores of the untrained encoder and, where it is asked for, of both trained ones."""
    modules: dict[str, torch.nn.Module] = {"untrained": Pretraining(config).build()}
    if train:
        for name, ratings in (
            ("permuted", permuted(corpus, held_out, config.seed)),
            ("true", corpus),
        ):
            modules[name] = _trained(
                ratings, held_out, config, f"seed {config.seed} {name}", console
            )
    scores = {}
    for name, module in modules.items():
        found = read_out_held_out(module, corpus, held_out, device=CPU)
        assert found is not None
        scores[name] = found.scores
        figures = ", ".join(f"{axis} {r:+.3f}" for axis, r in _figures(found.scores).items())
        console.print(f"seed {config.seed} {name}: {figures}", highlight=False)
    return scores


def permuted(corpus: Corpus, held_out: HeldOut, seed: int) -> Corpus:
    """The corpus with the ratings of those who are not held out dealt anew within each dataset.

    A presentation's valence and arousal go together to another presentation, of anybody and any
    stimulus: the dataset's ratings stay as a whole, but no longer belong to the signals.
    """
    return Corpus(_permuted(d, held_out.get(d.name, ()), seed) for d in corpus.datasets)


def _permuted(dataset: CorpusDataset, held_out: Sequence[str], seed: int) -> CorpusDataset:
    rows_N = eligible_rows(dataset, held_out)
    presentations = [
        f"{recording}/{presentation}"
        for recording, presentation in zip(
            dataset.column("recording")[rows_N], dataset.column("presentation")[rows_N], strict=True
        )
    ]
    _, first_P, which_N = np.unique(presentations, return_index=True, return_inverse=True)
    rng = np.random.default_rng([seed, *dataset.name.encode()])
    va_P2 = dataset.va_S2[rows_N[first_P]][rng.permutation(len(first_P))]
    other = copy.copy(dataset)
    va_S2: FloatArray = dataset.va_S2.copy()
    va_S2[rows_N] = va_P2[which_N]
    other.va_S2 = va_S2
    return other


def _trained(
    corpus: Corpus, held_out: HeldOut, config: Config, name: str, console: Console
) -> torch.nn.Module:
    stage = Pretraining(config)
    plan = make_plan(stage.sampling, pools(corpus.datasets, held_out), seed=stage.seed)
    feed = PlanFeed(corpus.datasets, plan, targets=targets_of(corpus.datasets, stage.target))
    began = time.perf_counter()
    trained = loop.train(
        stage,
        feed,
        steps_per_epoch=plan.n_steps,
        checkpoints=Nowhere(),
        checkpoint_every=1 << 30,
        device=CPU,
    )
    seconds = time.perf_counter() - began
    console.print(
        f"{name}: {len(trained.history['loss'])} steps in {seconds:.0f} s, "
        f"{100 * feed.waited_s / seconds:.2f} % of them waiting for data",
        highlight=False,
    )
    return trained.module


def _figures(scores: AxesScores) -> dict[str, float]:
    """Mean r within people of each axis and of both."""
    valence, arousal, both = scores.valence.people.r, scores.arousal.people.r, scores.mean_r
    if valence is None or arousal is None or both is None:
        raise ValueError("need held-out people with a correlation on both axes, got none")
    return dict(zip(AXES, (valence, arousal, both), strict=True))


def _table(found: Mapping[str, Sequence[Mapping[str, float]]], rehearsal: bool) -> Table:
    title = "Pearson r within held-out people, mean over seeds"
    table = Table(title=title + " (rehearsal data)" * rehearsal)
    table.add_column("arm")
    for axis in ("seeds", *AXES):
        table.add_column(axis, justify="right")
    for arm in filter(found.__contains__, ARMS):
        cells = []
        for axis in AXES:
            summary = summarise([figures[axis] for figures in found[arm]])
            assert summary is not None
            spread = "" if summary.sd is None else f" ± {summary.sd:.3f}"
            cells.append(f"{summary.mean:+.3f}{spread}")
        table.add_row(arm, str(len(found[arm])) if len(found[arm]) > 1 else "", *cells)
    return table


def _claim(one: str, other: str, found: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """`true - permuted: valence +0.30 [+0.20, +0.40], ...`, 95 % intervals over seeds."""
    parts = []
    for axis in AXES:
        pairs = zip(found[one], found[other], strict=True)
        differences = [a[axis] - b[axis] for a, b in pairs]
        interval = paired_interval(differences)
        between = f" [{interval.low:+.3f}, {interval.high:+.3f}]" if interval else ""
        parts.append(f"{axis} {float(np.mean(differences)):+.3f}{between}")
    return f"{one} - {other}: {', '.join(parts)}"


if __name__ == "__main__":
    main(tyro.cli(Options))
