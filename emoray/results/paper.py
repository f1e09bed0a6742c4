"""What one paper published: tables, what their columns are, and what reproduces each row.

`published` reads it from `methods/<name>/paper.toml`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from emoray import datasets
from emoray.vocabulary.choices import is_named, short
from emoray.vocabulary.targets import Target

MeanSd = tuple[float, float | None]
"""Mean and standard deviation over runs, in percent; None where the paper has no deviation."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a column of a table is: a dataset, how it is split, what is told, how it is scored."""

    name: str
    """Of the column in the file's rows: the dataset's, where it has no other."""
    dataset: str
    protocol: str
    """Behind the published numbers."""
    safer: tuple[str, ...]
    """Protocols that ours are also scored by, the strictest last."""
    target: Target
    metrics: tuple[str, ...]
    """As printed, in this order; the first one is the one that overviews and bars show."""
    chosen_by: str
    """Metric on the validation segments by which the best epoch is chosen."""

    @property
    def protocols(self) -> tuple[str, ...]:
        """The paper's first, then safer ones."""
        return (self.protocol, *self.safer)

    @property
    def rehearsed(self) -> Evaluation:
        """The same by the paper's protocol and the strictest one: all would take hours."""
        return replace(self, safer=self.safer[-1:])

    @property
    def title(self) -> str:
        """As people write the dataset's name, with the target where it is not the classes."""
        title, words = datasets.get(self.dataset).CARD.title, self.target.words
        return f"{title}, {words}" if words else title

    @property
    def class_names(self) -> tuple[str, ...]:
        """By class index."""
        return self.target.names(datasets.get(self.dataset).CARD.emotions)


@dataclass(frozen=True, slots=True)
class StageOfRow:
    """One of the stages that reproduce a row."""

    name: str
    """Among the row's: what others start from."""
    stage: str
    """Of the method."""
    method: str
    """A folder of `emoray/methods`."""
    starts: Mapping[str, str] = field(default_factory=dict)
    """What the stage calls it (`encoder`, `teacher`) -> the earlier one whose end it is."""
    set: Mapping[str, Any] = field(default_factory=dict)
    """Dotted fields of its settings that differ, beside those of all."""


@dataclass(frozen=True, slots=True)
class Reproduce:
    """What runs to reproduce a row."""

    method: str
    """A folder of `emoray/methods`; single stages may be another's."""
    stages: tuple[StageOfRow, ...]
    """Each after those that it starts from; the last one is scored."""
    set: Mapping[str, Any] = field(default_factory=dict)
    """Dotted fields that differ from their defaults, in every stage that has them."""

    @classmethod
    def chain(
        cls, method: str, stages: Sequence[str], set: Mapping[str, Any] | None = None
    ) -> Reproduce:
        """Stages of one method, each of which has its encoder from the one before.

        Raises:
            ValueError: a stage that is there twice.
        """
        if repeated := twice(stages):
            raise ValueError(f"need each stage once, got {repeated} again")
        befores: list[str | None] = [None, *stages]
        linked = tuple(
            StageOfRow(stage, stage, method, {} if before is None else {"encoder": before})
            for stage, before in zip(stages, befores, strict=False)
        )
        return cls(method, linked, set or {})


@dataclass(frozen=True, slots=True)
class PaperRow:
    """One row of a table, or one bar of an ablation."""

    name: str
    """As the paper writes it."""
    n_parameters_m: float | None = None
    """Millions of parameters, as published."""
    published: Mapping[str, Mapping[str, MeanSd]] = field(default_factory=dict)
    """Evaluation -> metric -> mean and deviation in percent; blanks are left out."""
    drop: Mapping[str, float] = field(default_factory=dict)
    """Evaluation -> percentage points of its first metric below the full method."""
    reproduce: Reproduce | None = None
    """None: the row is quoted only."""


@dataclass(frozen=True, slots=True)
class PaperTable:
    """A table of results, or an ablation figure whose bars are rows."""

    name: str
    """`table_2`, `figure_3`."""
    caption: str
    rows: tuple[PaperRow, ...]
    evaluation: tuple[Evaluation, ...] = ()
    """Its columns, in the order in which they are printed."""
    reference: str | None = None
    """The row that others are compared with: one of these, or the full model."""

    def row(self, name: str) -> PaperRow:
        """A row by its name.

        Raises:
            ValueError: there is none; the message lists those there are.
        """
        for row in self.rows:
            if row.name == name:
                return row
        known = ", ".join(row.name for row in self.rows)
        raise ValueError(f"need a row of {self.name} among {known}; got {name!r}")


@dataclass(frozen=True, slots=True)
class PaperProjection:
    """A figure that lays embeddings out in the plane; it publishes no number."""

    name: str
    caption: str
    dataset: str
    """Whose segments are shown."""
    projection: str
    """`t-SNE`."""
    arms: tuple[str, ...]
    """Encoders side by side, left to right."""
    coloured_by: tuple[str, ...]
    """Axes, top to bottom."""
    centroids: tuple[int, ...]
    """Values of the axis whose centroids are numbered."""
    reproduce: Reproduce


@dataclass(frozen=True, slots=True)
class PublishedSpread:
    """What a paper says of a matrix of similarities."""

    name: str
    """Of the arm, as the paper writes it."""
    low: float
    high: float
    mean: float


@dataclass(frozen=True, slots=True)
class PaperSimilarity:
    """A figure that shows how alike the features of two streams are, and one of them in the plane.

    What is shown is a stage of a row of a table, without its training and with it.
    """

    name: str
    caption: str
    similarity: str
    """`cosine`."""
    query: str
    """What the features are of that are drawn to the others (`ECG`)."""
    key: str
    """What the others are of (`EEG`)."""
    projection: str
    """`t-SNE`."""
    without: PublishedSpread
    """Before the stage's training."""
    trained: PublishedSpread
    row: PaperRow
    """Of a table; it has what reproduces it."""
    stage: str
    """Of the row, the one that draws one stream to the other; not its last, which is scored."""
    evaluation: Evaluation
    """Whose segments are shown, and in which classes."""
    protocol: str
    """By whose first fold: its test segments."""

    @property
    def dataset(self) -> str:
        """Whose segments are shown."""
        return self.evaluation.dataset

    @property
    def reproduce(self) -> Reproduce:
        """The row's."""
        assert self.row.reproduce is not None  # seen to when it was read
        return self.row.reproduce


PaperFigure = PaperProjection | PaperSimilarity


@dataclass(frozen=True, slots=True)
class Paper:
    """What one paper published."""

    title: str
    code: str
    """Where its authors released their code."""
    tables: Mapping[str, PaperTable]
    """By name, in the file's order."""
    figures: Mapping[str, PaperFigure]
    evaluation: tuple[Evaluation, ...] = ()
    """Of every table that has none of its own."""
    pretraining: tuple[str, ...] = ()
    """Datasets that its encoders are pretrained on."""
    full_model: PaperRow | None = None
    """The row of the method as the paper proposes it."""
    name: str = ""
    """Of the method's folder."""

    @property
    def evaluated(self) -> tuple[str, ...]:
        """Datasets that its tables evaluate on, in the file's order."""
        tables = self.tables.values()
        return tuple(dict.fromkeys(one.dataset for table in tables for one in table.evaluation))

    def table(self, name: str) -> PaperTable:
        """A table by its name in the file or as one types it: `table_3` or `table3`.

        Raises:
            ValueError: there is none; the message lists those there are.
        """
        for found in self.tables.values():
            if is_named(found.name, name):
                return found
        raise ValueError(f"need a table among {', '.join(map(short, self.tables))}; got {name!r}")

    @property
    def evaluations(self) -> tuple[Evaluation, ...]:
        """Every evaluation once, those of the full model's table first."""
        full = [t for t in self.tables.values() if self.full_model in t.rows]
        tables = dict.fromkeys(t.name for t in (*full, *self.tables.values()))
        found: dict[str, Evaluation] = {}
        for name in tables:
            for one in self.tables[name].evaluation:
                found.setdefault(one.name, one)
        return tuple(found.values())

    def chain(self, dataset: str, row: str | None = None) -> PaperRow:
        """The stages that end with a classifier of a dataset.

        Args:
            dataset: whose table is asked first: there the row may have other settings.
            row: by name; the full model's without it.

        Raises:
            ValueError: no row of that name can be run, or there is no full model.
        """
        name = row or (self.full_model.name if self.full_model else None)

        def is_other(table: PaperTable) -> tuple[bool, bool]:
            own = dataset in {one.dataset for one in table.evaluation}
            return not own, self.full_model not in table.rows

        tables = sorted(self.tables.values(), key=is_other)
        found = [one for t in tables for one in t.rows if one.reproduce is not None]
        for one in found:
            if one.name == name:
                return one
        known = ", ".join(dict.fromkeys(one.name for one in found)) or "none"
        raise ValueError(f"need a row of {self.name} that can be run ({known}), got {name!r}")

    def figure(self, name: str) -> PaperFigure | None:
        """A figure that is no table, by its name as `table` has it; None for others."""
        for found in self.figures.values():
            if is_named(found.name, name):
                return found
        return None


def twice(found: Sequence[str]) -> str:
    """What is there twice, in words; empty where nothing is."""
    return ", ".join(sorted({name for name in found if list(found).count(name) > 1}))
