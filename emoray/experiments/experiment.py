"""An experiment: arms x evaluations x protocols x folds x seeds, as runs, and as a comparison.

Nothing here runs anything: an experiment says which runs it is made of, the store says which of
them are missing, and what is there becomes a table of published numbers beside ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from emoray.evaluation.folds import PROTOCOLS, folds
from emoray.experiments.arms import Arm
from emoray.experiments.graph import At, Graph, question
from emoray.results.comparison import Block, Cell, Comparison
from emoray.results.paper import Evaluation
from emoray.results.store import ResultRow, ResultStore
from emoray.runtime import config as configs
from emoray.training.run import Run
from emoray.vocabulary.choices import FoldChoice

FOLD_NOTES: Mapping[FoldChoice, str] = {
    "all": "Each seed's score is the mean over all folds of its protocol; the interval is one over "
    "seeds and does not speak of other people.",
    "rotate": "Seed i is scored on fold i (of a protocol with fewer folds, from the first again): "
    "where a protocol has several folds, the interval is one over seeds and folds together.",
}
"""What a choice of folds makes of a table's intervals."""
ONE_PRETRAINING = (
    "One pretraining serves all seeds of a row: the interval does not speak of others."
)
"""The same of a checkpoint that every seed starts from."""


@dataclass(frozen=True)
class CellRuns:
    """The runs of one cell of a table."""

    arm: Arm
    evaluation: Evaluation
    protocol: str
    runs: tuple[Run, ...] = ()
    """That are scored; those that they descend from are their starts."""
    folds_per_seed: int = 1
    n_folds: int = 0
    """Of the protocol on these data; 0 where there can be no runs."""
    n_untrained: int = 0
    """Folds whose training part lacks a level that others have."""
    error: str = ""
    """Why there can be no runs on these data."""

    @property
    def dataset(self) -> str:
        """What is tested on."""
        return self.evaluation.dataset


@dataclass(frozen=True)
class Experiment:
    """Arms that are compared, on what, how often."""

    arms: Sequence[Arm]
    graph: Graph
    """Of their runs, on one corpus."""
    evaluation: Sequence[Evaluation]
    """In the table's order; those whose dataset the corpus lacks stay blank."""
    seeds: Sequence[int]
    protocols: Sequence[str] = ()
    """Of each evaluation those among these that fit it; all that it names without any."""
    folds: FoldChoice = "all"

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.protocols) - set(PROTOCOLS)):
            raise ValueError(
                f"need protocols among {', '.join(sorted(PROTOCOLS))}; got {', '.join(unknown)}"
            )
        if not self.evaluation:
            raise ValueError("need one or more datasets to evaluate on, got none")
        for evaluation in self.evaluation:
            if not self._protocols(evaluation):
                raise ValueError(
                    f"{evaluation.name}: need a protocol among {', '.join(evaluation.protocols)}; "
                    f"got {', '.join(self.protocols)}"
                )
        if len(set(self.seeds)) < len(self.seeds) or not self.seeds:
            raise ValueError(f"need one or more different seeds, got {list(self.seeds)}")

    def cells(self) -> tuple[CellRuns, ...]:
        """Every cell with its runs, in the order of the table."""
        return tuple(
            self._cell(arm, evaluation, protocol)
            for evaluation in self.evaluation
            for protocol in self._protocols(evaluation)
            for arm in self.arms
        )

    def _protocols(self, evaluation: Evaluation) -> tuple[str, ...]:
        usual = evaluation.protocols
        if not self.protocols:
            return usual
        foreign = {p.name for p in PROTOCOLS.values() if p.one_dataset} - set(usual)
        return tuple(name for name in self.protocols if name not in foreign)

    def _cell(self, arm: Arm, evaluation: Evaluation, protocol: str) -> CellRuns:
        if evaluation.dataset not in self.graph.catalog.names:
            return CellRuns(arm, evaluation, protocol)
        try:
            found = self.graph.dataset(self.arms, evaluation)
            made = folds(protocol, found.name, found.index, evaluation.target)
            names = [fold.name for fold in made]
            runs = tuple(
                self.graph.run(arm, At(evaluation, protocol, fold, seed), self.arms)
                for seed, of_seed in self._folds_by_seed(names).items()
                for fold in of_seed
            )
        except ValueError as error:
            return CellRuns(arm, evaluation, protocol, error=str(error))
        return CellRuns(
            arm,
            evaluation,
            protocol,
            runs,
            folds_per_seed=len(runs) // len(self.seeds),
            n_folds=len(names),
            n_untrained=sum(1 for fold in made if fold.untrained),
        )

    def _folds_by_seed(self, names: Sequence[str]) -> dict[int, Sequence[str]]:
        if self.folds == "all":
            return dict.fromkeys(self.seeds, names)
        return {seed: [names[i % len(names)]] for i, seed in enumerate(self.seeds)}


def runs_of(cells: Sequence[CellRuns]) -> dict[str, Run]:
    """All runs of some cells by key; one that two of them share is there once."""
    return {run.key: run for cell in cells for run in cell.runs}


def asked(cells: Sequence[CellRuns]) -> list[dict[str, Any]]:
    """What cells ask, as plain data: rows, data, targets, protocols, folds, settings, weights.

    Not where things lie and not by which code: asked again, the same question is the same.
    """
    return [
        {
            "row": cell.arm.row,
            "dataset": cell.dataset,
            "protocol": cell.protocol,
            "runs": [question(run) for run in cell.runs],
        }
        for cell in cells
    ]


def missing(cells: Sequence[CellRuns], store: ResultStore) -> list[Run]:
    """Runs without a row, seed by seed, so that a table that is stopped early is even."""
    runs = runs_of(cells)
    order = sorted(store.missing(runs), key=lambda key: runs[key].seed)
    return [runs[key] for key in order]


@dataclass(frozen=True)
class Frame:
    """What a table says beside its numbers."""

    name: str
    """As on the command line."""
    title: str
    """Of the paper, or of the experiment."""
    caption: str
    reference: str | None = None
    """The row that others are compared with."""
    published_parameters: Mapping[str, float | None] = field(default_factory=dict)
    """By row, in millions."""
    drops: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Evaluation -> row -> percentage points of its first metric lost, by the paper's text."""
    notes: tuple[str, ...] = ()
    """Printed below."""


def compare(
    experiment: Experiment,
    cells: Sequence[CellRuns],
    store: ResultStore,
    frame: Frame,
    errors: Mapping[str, str],
) -> Comparison:
    """What the store holds of an experiment, beside what is published.

    Args:
        experiment: whose cells they are.
        cells: all of `experiment.cells()`.
        store: rows.
        frame: words around the numbers.
        errors: of runs that failed, by key.
    """
    rows = {row.key: row for row in store.rows(runs_of(cells))}
    blocks = tuple(_blocks(cells, rows, errors))
    return Comparison(
        name=frame.name,
        title=frame.title,
        caption=frame.caption,
        reference=frame.reference,
        published_parameters=frame.published_parameters,
        blocks=blocks,
        rehearsal=experiment.graph.catalog.rehearsal,
        notes=(
            *frame.notes,
            *_rotation_note(experiment, cells),
            *_untrained_note(cells),
            *balance_note(blocks),
            *_training_note(experiment.arms),
        ),
    )


def _rotation_note(experiment: Experiment, cells: Sequence[CellRuns]) -> Iterator[str]:
    """What turning through the folds saves, and which of them no seed comes to."""
    if experiment.folds == "all":
        return
    n_folds = {(p.evaluation.title, p.protocol): p.n_folds for p in cells if p.n_folds > 1}
    n_seeds = len(experiment.seeds)
    by_number: dict[int, list[str]] = {}
    for (title, protocol), n in n_folds.items():
        by_number.setdefault(n, []).append(f"{title} {protocol}")
    for n, places in sorted(by_number.items(), reverse=True):
        left = f"; no seed tests {n - n_seeds} of the folds" if n > n_seeds else ""
        runs = f"{n_seeds} runs" if n_seeds > 1 else "1 run"
        yield f"{', '.join(places)}: {n} folds, {runs} a row instead of {n * n_seeds}{left}."


def _untrained_note(cells: Sequence[CellRuns]) -> Iterator[str]:
    """Where folds test levels of a rating that nothing they train on has."""
    found = {(p.evaluation.title, p.protocol): (p.n_untrained, p.n_folds) for p in cells}
    said = [
        f"{title} {protocol}: {n} of {n_folds} folds"
        for (title, protocol), (n, n_folds) in found.items()
        if n
    ]
    if said:
        yield (
            f"{', '.join(said)} have no segment of some level to train on: those who are tested "
            "on such a level miss it."
        )


def balance_note(blocks: Sequence[Block]) -> Iterator[str]:
    """How many test segments lie on either side of a threshold, where two classes are told."""
    said = []
    for block in blocks:
        tested = next((cell.results for cell in block.cells if cell.results), ())
        if len(block.class_names) == 2 and tested:
            true_K = sum(np.asarray(row.confusion).sum(axis=1) for row in tested)
            shares = zip(block.class_names, 100 * true_K / true_K.sum(), strict=True)
            words = ", ".join(f"{share:.0f} % {name}" for name, share in shares)
            said.append(f"{block.title} {block.protocol}: {words}")
    if said:
        yield f"Classes of the test segments. {'; '.join(said)}."


_TRAINING = ("epochs", "batch_size", "optimizer")
"""Settings that are how a model is trained, not which one it is."""


def _training_note(arms: Sequence[Arm]) -> Iterator[str]:
    """What of their training the rows do not share; nothing where they share all of it."""
    found = [
        {
            name: value
            for name, value in configs.dotted_values(arm.last.config).items()
            if name.partition(".")[0] in _TRAINING
        }
        for arm in arms
    ]
    apart = [name for name in found[0] if len({f.get(name) for f in found}) > 1] if found else []
    if not apart:
        return
    rows: dict[str, list[str]] = {}
    for arm, trained in zip(arms, found, strict=True):
        words = ", ".join(f"{name} {trained.get(name)}" for name in apart)
        rows.setdefault(words, []).append(arm.row)
    said = "; ".join(f"{', '.join(names)}: {words}" for words, names in rows.items())
    yield f"Rows are not trained alike, and differences are also those of training. {said}."


def _blocks(
    cells: Sequence[CellRuns], rows: Mapping[str, ResultRow], errors: Mapping[str, str]
) -> Iterator[Block]:
    places: dict[tuple[str, str], list[CellRuns]] = {}
    for cell in cells:
        places.setdefault((cell.evaluation.name, cell.protocol), []).append(cell)
    for (name, protocol), same in places.items():
        evaluation = same[0].evaluation
        yield Block(
            name=name,
            dataset=evaluation.dataset,
            title=evaluation.title,
            protocol=protocol,
            is_paper=protocol == evaluation.protocol,
            words=PROTOCOLS[protocol].words,
            metrics=evaluation.metrics,
            class_names=evaluation.class_names,
            cells=tuple(_filled(cell, rows, errors) for cell in same),
        )


def _filled(cell: CellRuns, rows: Mapping[str, ResultRow], errors: Mapping[str, str]) -> Cell:
    is_paper = cell.protocol == cell.evaluation.protocol
    said = [errors[run.key] for run in cell.runs if run.key in errors]
    return Cell(
        row=cell.arm.row,
        published=cell.arm.published.get(cell.evaluation.name, {}) if is_paper else {},
        results=tuple(rows[run.key] for run in cell.runs if run.key in rows),
        n_wanted=len(cell.runs),
        errors=(*said, *([cell.error] if cell.error else [])),
        folds_per_seed=cell.folds_per_seed,
    )
