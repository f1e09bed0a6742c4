"""What a method's earlier stages are worth: arms beside each other on rehearsal data, over seeds.

    python -m benchmarks.gains pretext [--seeds 5] [--first-seed 0]

An arm is a row of a table (`Arm`): stages of methods with their settings, the last of which is
scored on people that no stage has seen. All arms of a claim have the same folds, seeds and labels.
A claim is a difference of two arms: over seeds (other weights, another plan, other labels given),
each the mean of all folds; and over folds (other people), each the mean of all seeds. Both with
95 % intervals of paired differences (Student's t). What was tuned on what stands with each claim.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table

from emoray.corpus.build.rehearsal import rehearsal_corpus
from emoray.corpus.catalog import Catalog
from emoray.evaluation.statistics import paired_interval, summarise
from emoray.experiments.arms import Arm, ArmStage
from emoray.experiments.experiment import Experiment, missing, runs_of
from emoray.experiments.graph import Graph, still_needed
from emoray.methods.ecg_segments import ECG_10_S
from emoray.methods.settings import OptimizerConfig
from emoray.methods.ssl_ecg.config import EmotionConfig, EncoderConfig, PretextConfig
from emoray.results.paper import Evaluation
from emoray.results.store import ResultRow, ResultStore
from emoray.runtime.console import open_console
from emoray.runtime.storage import Storage
from emoray.signals import EegRecipe
from emoray.training.execute import execute
from emoray.vocabulary.schema import Stream
from emoray.vocabulary.targets import Classes

APART = "subjects_apart_same_stimuli"


@dataclass(frozen=True)
class Claim:
    """Arms, on what they are held against each other, and what is claimed."""

    words: str
    tuned: str
    """What was tuned on which data: one sentence."""
    arms: Sequence[Arm]
    claims: Sequence[tuple[str, str]]
    """Rows: the first is to be better than the second."""
    evaluation: Evaluation
    n_subjects: int
    duration_s: float
    """Of a presentation."""
    streams: tuple[Stream, ...] = ("ecg",)
    eeg: EegRecipe | None = None


# SSL-ECG's pretext, where few labels are given ----------------------------------------------------

_ENCODER = EncoderConfig(n_filters=(8, 16, 32))
_ADAM = OptimizerConfig(name="adam", schedule="constant", learning_rate=2e-3, weight_decay=0.0)
_EMOTION = EmotionConfig(
    encoder=_ENCODER, hidden=(32,), optimizer=_ADAM, epochs=60, batch_size=16, labels=0.1
)
_PRETEXT = PretextConfig(
    encoder=_ENCODER, n_hidden=32, dropout=0.1, optimizer=_ADAM, epochs=30, batch_size=32
)


def _after_pretext(row: str, config: EmotionConfig) -> Arm:
    stages = (
        ArmStage("pretext", "ssl_ecg", "pretext", _PRETEXT),
        ArmStage("emotion", "ssl_ecg", "emotion", config, {"encoder": "pretext"}),
    )
    return Arm(row, stages)


PRETEXT = Claim(
    words="WESAD's conditions by a heart alone, people apart, 10 % of the training labels given",
    tuned="TODO",
    arms=(
        _after_pretext("pretext, frozen", _EMOTION),
        Arm("from scratch", (ArmStage("emotion", "ssl_ecg", "emotion", _EMOTION),)),
    ),
    claims=(("pretext, frozen", "from scratch"),),
    evaluation=Evaluation("wesad", "wesad", APART, (), Classes(), ("acc", "f1"), "acc"),
    n_subjects=15,
    duration_s=120.5,
)

CLAIMS: Mapping[str, Claim] = {"pretext": PRETEXT}


# Running ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Options:
    """What is repeated."""

    claim: tyro.conf.Positional[Literal["pretext"]]
    seeds: int = 5
    """How many; each has weights, an order of segments and given labels of its own."""
    first_seed: int = 0
    storage: str = "~/emoray/rehearsal/gains"
    """Folder of rehearsal data, rows and weights: what is there is not done again."""


def main(options: Options) -> None:
    console, claim = open_console(), CLAIMS[options.claim]
    folder = Path(options.storage).expanduser()
    location = _corpus(claim, folder)
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    found = scores(claim, location, folder, seeds, console)
    console.print(_table(claim, found))
    for pair in claim.claims:
        for line in said(pair, claim.evaluation.metrics[0], found):
            console.print(line, highlight=False)
    console.print(claim.tuned, highlight=False)
    console.print_json(json.dumps({row: [r.scores for r in rows] for row, rows in found.items()}))


def _corpus(claim: Claim, folder: Path) -> str:
    location = str(folder / "corpus")
    rehearsal_corpus(
        folder / "raw",
        location,
        datasets=[claim.evaluation.dataset],
        n_subjects=claim.n_subjects,
        duration_s=claim.duration_s,
        streams=claim.streams,
        recipe=claim.eeg,
        ecg=ECG_10_S,
    )
    return location


def scores(
    claim: Claim, location: str, folder: Path, seeds: Sequence[int], console: Console
) -> dict[str, list[ResultRow]]:
    """Rows of each arm, one for each seed and fold, in the same order."""
    graph = Graph(Catalog(location), str(folder / "runs"), [claim.evaluation.dataset])
    cells = Experiment(claim.arms, graph, [claim.evaluation], seeds).cells()
    if errors := [cell.error for cell in cells if cell.error]:
        raise ValueError(errors[0])
    names = {key: cell.arm.row for cell in cells for key in runs_of([cell])}
    store = ResultStore(str(folder / "results"))
    for run in still_needed(missing(cells, store)).values():
        began = time.perf_counter()
        place = Storage.at(str(folder / "runs")).sub(run.folder_name)
        row = execute(run, folder=place, device=torch.device("cpu"), store=store)
        words = f"{run.stage} {run.fold} seed {run.seed}: {time.perf_counter() - began:.0f} s"
        if row is not None:
            words = f"{names[run.key]}, {words}, accuracy {row.scores['acc']:.3f}"
        console.print(words, highlight=False)
    return {cell.arm.row: store.rows([run.key for run in cell.runs]) for cell in cells}


def said(
    pair: tuple[str, str], metric: str, found: Mapping[str, Sequence[ResultRow]]
) -> tuple[str, str]:
    """`a - b: acc +0.10 [+0.05, +0.15] over 5 seeds`, and the same over folds."""
    one, other = ({(r.seed, r.fold): r.scores[metric] for r in found[row]} for row in pair)
    assert one.keys() == other.keys()
    lines = []
    for place, words in ((0, "seeds"), (1, "groups of people")):
        by: dict[object, list[float]] = {}
        for at, score in one.items():
            by.setdefault(at[place], []).append(score - other[at])
        means = [float(np.mean(differences)) for differences in by.values()]
        interval = paired_interval(means)
        between = f" [{interval.low:+.3f}, {interval.high:+.3f}]" if interval else ""
        mean = float(np.mean(means))
        lines.append(f"{' - '.join(pair)}: {metric} {mean:+.3f}{between} over {len(by)} {words}")
    return lines[0], lines[1]


def _table(claim: Claim, found: Mapping[str, Sequence[ResultRow]]) -> Table:
    table = Table(title=f"{claim.words} (rehearsal data)")
    table.add_column("arm")
    for name in ("runs", *claim.evaluation.metrics):
        table.add_column(name, justify="right")
    for row, rows in found.items():
        cells = []
        for metric in claim.evaluation.metrics:
            summary = summarise([r.scores[metric] for r in rows])
            assert summary is not None
            cells.append(f"{summary.mean:.3f}" + f" ± {summary.sd:.3f}" * (summary.sd is not None))
        table.add_row(row, str(len(rows)), *cells)
    return table


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
