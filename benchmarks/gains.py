"""What a method's earlier stages are worth: arms beside each other on rehearsal data, over seeds.

    python -m benchmarks.gains pretext|alignment [--seeds 5] [--tuning]

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
from dataclasses import dataclass, replace
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
from emoray.methods.alignment import config as alignment
from emoray.methods.emod import config as emod
from emoray.methods.settings import OptimizerConfig
from emoray.methods.ssl_ecg.config import EmotionConfig, EncoderConfig, PretextConfig
from emoray.results.paper import Evaluation
from emoray.results.store import ResultRow, ResultStore
from emoray.runtime.console import open_console
from emoray.runtime.storage import Storage
from emoray.signals import EcgRecipe, EegRecipe, Recipe
from emoray.training.execute import execute
from emoray.vocabulary.choices import FoldChoice
from emoray.vocabulary.schema import Stream
from emoray.vocabulary.targets import Cut

APART = "subjects_apart_same_stimuli"
TUNING_SEED = 100
"""The first of those that settings are tuned with."""
MIDDLE = {"dreamer": 3.0, "amigos": 5.0}
"""Of the scale of their ratings."""


def _whole(dataset: str, rating: str) -> Evaluation:
    target = Cut(rating, MIDDLE[dataset])
    return Evaluation(dataset, dataset, APART, (), target, ("auc", "f1"), "bacc")


@dataclass(frozen=True)
class On:
    """Rehearsal data, and what is told on them."""

    evaluation: Evaluation
    """The first of its metrics is the one that claims are about."""
    n_subjects: int
    duration_s: float
    """Of a presentation."""

    @property
    def dataset(self) -> str:
        """By name."""
        return self.evaluation.dataset


@dataclass(frozen=True)
class Claim:
    """Arms, on what they are held against each other, and what is claimed."""

    words: str
    tuned: str
    """What was tuned on which data: one sentence."""
    told_on: On
    tuned_on: On
    """Another dataset, so other people; its seeds start at `TUNING_SEED`."""
    arms: Sequence[Arm]
    claims: Sequence[tuple[str, str]]
    """Rows: the first is to be better than the second."""

    @property
    def recipes(self) -> dict[Stream, Recipe]:
        """Of all that its arms' stages read."""
        kinds = [stage.kind for arm in self.arms for stage in arm.stages]
        return {stream: recipe for kind in kinds for stream, recipe in kind.recipes.items()}


# SSL-ECG's pretext, where few labels are given ----------------------------------------------------

_ADAM = OptimizerConfig(name="adam", schedule="cosine", learning_rate=2e-3, weight_decay=0.0)
_FEW = EncoderConfig.small()
"""The paper's kernels and strides, fewer filters: each sees 0.8 s, so a beat and its T wave, whose
delay follows the rate."""
_EMOTION = EmotionConfig(
    encoder=_FEW, hidden=(32,), frozen=False, optimizer=_ADAM, epochs=30, batch_size=8, labels=0.1
)
_PRETEXT = PretextConfig(
    encoder=_FEW,
    n_hidden=32,
    dropout=0.0,
    optimizer=replace(_ADAM, learning_rate=5e-3),
    epochs=8,
    batch_size=16,
)


def _after_pretext(row: str, config: EmotionConfig) -> Arm:
    stages = (
        ArmStage("pretext", "ssl_ecg", "pretext", _PRETEXT),
        ArmStage("emotion", "ssl_ecg", "emotion", config, {"encoder": "pretext"}),
    )
    return Arm(row, stages)


PRETEXT = Claim(
    words="arousal by a heart alone, people apart, 10 % of the training labels given",
    tuned="Tuned on DREAMER's rehearsal people: filters, strides, rates, epochs, and that "
    "convolutions do not stay frozen; nothing was tuned on AMIGOS'.",
    told_on=On(_whole("amigos", "arousal"), n_subjects=12, duration_s=60.5),
    tuned_on=On(_whole("dreamer", "arousal"), n_subjects=12, duration_s=60.5),
    arms=(
        _after_pretext("pretext", _EMOTION),
        Arm("from scratch", (ArmStage("emotion", "ssl_ecg", "emotion", _EMOTION),)),
    ),
    claims=(("pretext", "from scratch"),),
)


# The alignment: what the ECG gains by the EEG of the same instants --------------------------------

_WIDE = EncoderConfig(n_filters=(8, 16, 32), pool=8, pool_stride=8)
"""Strides that let a filter see several beats."""
_SIZE = replace(alignment.EncoderConfig.small(), patch_s=5.0)
_TEACH = emod.FinetuneConfig(
    encoder=replace(
        emod.EncoderConfig.small(), spectrum="magnitude", spectrum_max_hz=45.0, tokens_per_s=1.0
    ),
    optimizer=_ADAM,
    epochs=5,
    batch_size=16,
)
_ALIGN = alignment.AlignmentConfig(
    encoder=_SIZE,
    student="convolutions",
    convolutions=_WIDE,
    shuffle=False,
    optimizer=replace(_ADAM, learning_rate=3e-3),
    epochs=60,
    batch_size=32,
)
_CLASSIFY = alignment.ClassificationConfig(
    encoder=_SIZE,
    student="convolutions",
    convolutions=_WIDE,
    optimizer=_ADAM,
    epochs=30,
    batch_size=16,
    labels=0.1,
)


def _aligned(row: str, config: alignment.AlignmentConfig) -> Arm:
    stages = (
        ArmStage("teach", "emod", "finetune", _TEACH),
        ArmStage("align", "alignment", "align", config, {"teacher": "teach"}),
        ArmStage("classify", "alignment", "classify", _CLASSIFY, {"encoder": "align"}),
    )
    return Arm(row, stages)


ALIGNMENT = Claim(
    words="valence by a heart alone, people apart, 10 % of its labels given, all of the teacher's",
    tuned="Tuned on DREAMER's rehearsal data, one of its folds: the teacher's share of labels "
    "(with 10 % nothing was gained), the student's strides, epochs and batches (20 epochs of 64 "
    "were too few there and on a fold of AMIGOS'), the rating (arousal is learned from ECG alone "
    "as soon), and how far hearts follow valence.",
    told_on=On(_whole("amigos", "valence"), n_subjects=12, duration_s=60.5),
    tuned_on=On(_whole("dreamer", "valence"), n_subjects=12, duration_s=60.5),
    arms=(
        _aligned("aligned", _ALIGN),
        _aligned("aligned, permuted pairs", replace(_ALIGN, pairing="permuted")),
        Arm("not aligned", (ArmStage("classify", "alignment", "classify", _CLASSIFY),)),
    ),
    claims=(
        ("aligned", "not aligned"),
        ("aligned", "aligned, permuted pairs"),
        ("aligned, permuted pairs", "not aligned"),
    ),
)

CLAIMS: Mapping[str, Claim] = {"pretext": PRETEXT, "alignment": ALIGNMENT}


# Running ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Options:
    """What is repeated."""

    claim: tyro.conf.Positional[Literal["pretext", "alignment"]]
    seeds: int = 5
    """How many; each has weights, an order of segments and given labels of its own."""
    tuning: bool = False
    """On the data and seeds that settings are tuned on: no claim rests on what comes out."""
    folds: FoldChoice = "all"
    """`rotate`: seed i on fold i alone."""
    storage: str = "~/emoray/rehearsal/gains"
    """Folder of rehearsal data, rows and weights: what is there is not done again."""


def main(options: Options) -> None:
    console, claim = open_console(), CLAIMS[options.claim]
    on = claim.tuned_on if options.tuning else claim.told_on
    first = TUNING_SEED if options.tuning else 0
    folder = Path(options.storage).expanduser() / f"{options.claim} {on.dataset}"
    location = _corpus(claim, on, folder)
    seeds = range(first, first + options.seeds)
    found = scores(claim, on, location, folder, seeds, console, options.folds)
    console.print(_table(f"{on.dataset}: {claim.words} (rehearsal data)", on, found))
    for pair in claim.claims:
        for line in said(pair, on.evaluation.metrics[0], found):
            console.print(line, highlight=False)
    console.print(claim.tuned, highlight=False)
    console.print_json(json.dumps({row: [r.scores for r in rows] for row, rows in found.items()}))


def _corpus(claim: Claim, on: On, folder: Path) -> str:
    location, recipes = str(folder / "corpus"), claim.recipes
    eeg, ecg = recipes.get("eeg"), recipes.get("ecg")
    assert eeg is None or isinstance(eeg, EegRecipe)
    assert isinstance(ecg, EcgRecipe)
    rehearsal_corpus(
        folder / "raw",
        location,
        datasets=[on.dataset],
        n_subjects=on.n_subjects,
        duration_s=on.duration_s,
        streams=tuple(recipes),
        recipe=eeg,
        ecg=ecg,
    )
    return location


def scores(
    claim: Claim,
    on: On,
    location: str,
    folder: Path,
    seeds: Sequence[int],
    console: Console,
    folds: FoldChoice,
) -> dict[str, list[ResultRow]]:
    """Rows of each arm, one for each seed and fold, in the same order."""
    runs, store = str(folder / "runs"), ResultStore(str(folder / "results"))
    graph = Graph(Catalog(location), runs, [on.dataset])
    cells = Experiment(claim.arms, graph, [on.evaluation], seeds, folds=folds).cells()
    if errors := [cell.error for cell in cells if cell.error]:
        raise ValueError(errors[0])
    names = {key: cell.arm.row for cell in cells for key in runs_of([cell])}
    metric = on.evaluation.metrics[0]
    for run in still_needed(missing(cells, store)).values():
        began = time.perf_counter()
        place = Storage.at(runs).sub(run.folder_name)
        others_start = run.key not in names  # from a teacher, which is scored too
        row = execute(run, folder=place, device=torch.device("cpu"), store=store, keep=others_start)
        words = f"{run.stage} {run.fold} seed {run.seed}: {time.perf_counter() - began:.0f} s"
        if row is not None and not others_start:
            words = f"{names[run.key]}, {words}, {metric} {row.scores[metric]:.3f}"
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


def _table(title: str, on: On, found: Mapping[str, Sequence[ResultRow]]) -> Table:
    table = Table(title=title)
    table.add_column("arm")
    for name in ("runs", *on.evaluation.metrics):
        table.add_column(name, justify="right")
    for row, rows in found.items():
        cells = []
        for metric in on.evaluation.metrics:
            summary = summarise([r.scores[metric] for r in rows])
            assert summary is not None
            cells.append(f"{summary.mean:.3f}" + f" ± {summary.sd or 0:.3f}")
        table.add_row(row, str(len(rows)), *cells)
    return table


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
