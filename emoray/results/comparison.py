"""Published numbers beside ours: what a table or an ablation figure shows, as plain data.

A cell holds the runs of one row on one dataset, target and protocol. Its unit is the seed: the
folds of a seed are averaged first, because they share seed and most of their training segments.
Reports render this and compute nothing.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from emoray.evaluation.statistics import Interval, Summary, paired_interval, paired_p, summarise
from emoray.results.paper import MeanSd
from emoray.results.store import ResultRow
from emoray.runtime.config import canonical_json

_CLEAN = "clean"
_OF_ONE_MODEL = (
    "dataset",
    "builds",
    "target",
    "protocol",
    "chosen_by",
    "method",
    "stage",
    "n_classes",
    "n_parameters",
    "n_head_parameters",
    "rehearsal",
)
"""What all runs of a cell share."""


@dataclass(frozen=True, slots=True)
class Paired:
    """How far a row lies above the row that it is compared with, seed by seed."""

    n: int
    """Seeds that are complete in both."""
    mean: float
    """Percentage points; positive: this row is better."""
    interval: Interval | None
    """95 %; None for a single seed, or where all differ alike."""
    p: float | None
    """Two-sided paired t-test; None for a single seed, or where all differ alike."""


@dataclass(frozen=True)
class Cell:
    """One row of a table on one dataset and protocol.

    Raises:
        ValueError: runs that are not of one model and corpus, a run that is there twice, or more
            folds in a seed than there are.
    """

    row: str
    """The row's name."""
    published: Mapping[str, MeanSd] = field(default_factory=dict)
    """Percent; empty where the paper has none for this protocol."""
    results: tuple[ResultRow, ...] = ()
    """Runs that are there."""
    n_wanted: int = 0
    """Runs that the cell is made of: seeds x folds."""
    errors: tuple[str, ...] = ()
    """Why runs failed, in words: a text for each run, also where all have the same."""
    folds_per_seed: int = 1

    def __post_init__(self) -> None:
        for name in _OF_ONE_MODEL:
            if len(found := self._different(name)) > 1:
                raise ValueError(f"{self.row}: need runs of one {name}, got {found}")
        runs = [(row.seed, row.fold) for row in self.results]
        if twice := sorted({run for run in runs if runs.count(run) > 1}):
            raise ValueError(f"{self.row}: need each seed and fold once, got {twice} again")
        for seed, rows in self._by_seed().items():
            if len(rows) > self.folds_per_seed:
                raise ValueError(
                    f"{self.row}: need {self.folds_per_seed} folds of seed {seed}, got {len(rows)}"
                )

    def per_seed(self, metric: str) -> dict[int, float]:
        """Mean over the folds of each complete seed, in percent, by seed.

        A seed is left out where the metric is not defined in one of its folds.
        """
        found = {}
        for seed, rows in self._complete().items():
            scores = [score for row in rows if (score := row.metric(metric)) is not None]
            if len(scores) == len(rows):
                found[seed] = fmean(100 * score for score in scores)
        return found

    def summary(self, metric: str) -> Summary | None:
        """Over complete seeds, in percent; None where there is none."""
        return summarise(list(self.per_seed(metric).values()))

    @property
    def n_complete(self) -> int:
        """Seeds of which all folds are there."""
        return len(self._complete())

    @property
    def n_incomplete(self) -> int:
        """Seeds of which some folds are there and some are not: no number counts them."""
        return len(self._by_seed()) - len(self._complete())

    def against(self, reference: Cell, metric: str) -> Paired | None:
        """This row less another, over the seeds that are complete in both.

        Returns:
            None for the row itself, and where no seed is complete in both.

        Raises:
            ValueError: the two did not run on the same corpus, target, protocol and folds.
        """
        if reference.row == self.row:
            return None
        ours, theirs = self._complete(), reference._complete()
        mine, other = self.per_seed(metric), reference.per_seed(metric)
        seeds = sorted(set(mine) & set(other))
        for seed in seeds:
            if _tested(ours[seed]) != _tested(theirs[seed]):
                raise ValueError(
                    f"need {self.row} and {reference.row} on the same corpus, target, protocol "
                    f"and folds, got others in seed {seed}"
                )
        if not seeds:
            return None
        differences = [mine[seed] - other[seed] for seed in seeds]
        interval, p = paired_interval(differences), paired_p(differences)
        return Paired(len(seeds), fmean(differences), interval, p)

    @property
    def verdict(self) -> str | None:
        """All that the audits found, the worst first; `clean` only if every run is."""
        found = {part for row in self.results for part in row.verdict.split("; ")}
        flaws = sorted(found - {_CLEAN}, key=_badness)
        return "; ".join(flaws or sorted(found)) or None

    @property
    def start(self) -> str:
        """Where the weights came from, in words; empty where nothing ran."""
        return " / ".join(dict.fromkeys(_start(row) for row in self.results))

    @property
    def n_parameters(self) -> int | None:
        """Trainable numbers, all."""
        return self.results[0].n_parameters if self.results else None

    @property
    def n_head_parameters(self) -> int | None:
        """Of these, the head's."""
        return self.results[0].n_head_parameters if self.results else None

    @property
    def seconds(self) -> float | None:
        """Of a run, on average."""
        return fmean(row.seconds for row in self.results) if self.results else None

    def _different(self, name: str) -> list[Hashable]:
        found = (getattr(row, name) for row in self.results)
        plain = (canonical_json(value) if isinstance(value, Mapping) else value for value in found)
        return list(dict.fromkeys(plain))

    def _by_seed(self) -> dict[int, list[ResultRow]]:
        seeds = sorted({row.seed for row in self.results})
        return {seed: [row for row in self.results if row.seed == seed] for seed in seeds}

    def _complete(self) -> dict[int, list[ResultRow]]:
        found = self._by_seed().items()
        return {seed: rows for seed, rows in found if len(rows) == self.folds_per_seed}


@dataclass(frozen=True)
class Block:
    """All rows of a table on one dataset and target under one protocol.

    Raises:
        ValueError: a row that is there twice, runs of another dataset or protocol, published
            numbers under a protocol that is not the paper's, or no metric.
    """

    name: str
    """Of the evaluation: the dataset's where it is evaluated on one target only."""
    dataset: str
    title: str
    """The dataset's name as people write it, with the target where it is not the classes."""
    protocol: str
    is_paper: bool
    """Whether the paper's numbers were made under this protocol."""
    words: str
    """The protocol in one line."""
    metrics: tuple[str, ...]
    """As printed, in this order; the first one is the one that overviews and bars show."""
    cells: tuple[Cell, ...]
    class_names: tuple[str, ...] = ()
    """By class index; indices are shown without them."""

    def __post_init__(self) -> None:
        at = f"{self.name}, {self.protocol}"
        if not self.metrics:
            raise ValueError(f"{at}: need one or more metrics, got none")
        _once([cell.row for cell in self.cells], at)
        for cell in self.cells:
            if cell.published and not self.is_paper:
                raise ValueError(f"{at}: need no published numbers for {cell.row}, got some")
            for row in cell.results:
                if (row.dataset, row.protocol) != (self.dataset, self.protocol):
                    raise ValueError(f"{at}: got a run on {row.dataset}, {row.protocol}")

    def cell(self, row: str) -> Cell | None:
        """The cell of a row; None where the block has none."""
        return next((cell for cell in self.cells if cell.row == row), None)


@dataclass(frozen=True)
class Comparison:
    """A table or an ablation figure: published beside ours.

    Raises:
        ValueError: a block that is there twice, or runs on rehearsal data in a comparison that
            does not say so.
    """

    name: str
    """As on the command line: `table3`."""
    title: str
    caption: str
    reference: str | None
    """The row that the others are compared with."""
    published_parameters: Mapping[str, float | None]
    """Row -> millions of parameters in the paper."""
    blocks: tuple[Block, ...]
    rehearsal: bool
    """Whether any number here comes from data recorded from nobody."""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _once([f"{block.name}, {block.protocol}" for block in self.blocks], self.name)
        runs = [r for block in self.blocks for cell in block.cells for r in cell.results]
        if any(run.rehearsal for run in runs) and not self.rehearsal:
            raise ValueError(f"{self.name}: need rehearsal=True for runs on rehearsal data")


def _once(found: Sequence[str], at: str) -> None:
    if twice := sorted({name for name in found if found.count(name) > 1}):
        raise ValueError(f"{at}: need each once, got {', '.join(twice)} again")


def _tested(rows: Sequence[ResultRow]) -> set[tuple[str, ...]]:
    """What a seed's runs were tested on."""
    return {
        (canonical_json(row.builds), canonical_json(row.target), row.protocol, row.fold)
        for row in rows
    }


def _badness(part: str) -> tuple[int, str]:
    kinds = ("LEAK", "CONTAMINATED", "weights not audited", "not known to be apart")
    place = [i for i, kind in enumerate(kinds) if kind in part]
    return (place or [len(kinds)])[0], part


def _start(row: ResultRow) -> str:
    """`from scratch`, or the words of its weights."""
    found = [str(start.get("words", "pretrained")) for start in row.starts.values()]
    return " and ".join(dict.fromkeys(found)) or "from scratch"
