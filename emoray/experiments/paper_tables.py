"""A paper's table as an experiment: each of its rows becomes an arm.

paper.toml -> rows with `reproduce` -> arms (stages with settings and starts) -> Experiment
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from emoray import datasets, methods
from emoray.corpus.catalog import Catalog
from emoray.experiments.arms import Arm, ArmStage
from emoray.experiments.experiment import FOLD_NOTES, ONE_PRETRAINING, Experiment, Frame
from emoray.experiments.graph import Graph, descent
from emoray.methods.base import Inputs, Stage
from emoray.results.paper import (
    Evaluation,
    Paper,
    PaperRow,
    PaperSimilarity,
    PaperTable,
    StageOfRow,
)
from emoray.runtime.config import dotted_fields, set_all, set_dotted
from emoray.training.run import Run
from emoray.vocabulary.choices import FoldChoice, PretrainSeeds, short

_SEED_NOTES: Mapping[PretrainSeeds, str] = {
    "one": ONE_PRETRAINING,
    "each": "Each seed has its own pretraining.",
}


@dataclass(frozen=True)
class Reproduction:
    """How a paper is reproduced: on what, how often, by which settings."""

    paper: Paper
    catalog: Catalog
    """Of a corpus with the datasets of pretraining and of evaluation, or some of them."""
    storage: str
    """Folder or URI that holds the runs."""
    datasets: Sequence[str] = ()
    """Names; all of the table without any."""
    protocols: Sequence[str] = ()
    """Of each evaluation those among these that fit it; without any all that it names, or in a
    rehearsal two of them."""
    seeds: Sequence[int] = (0, 1, 2, 3, 4)
    folds: FoldChoice = "all"
    pretrain_seeds: PretrainSeeds = "one"
    rehearsal: bool = False
    """Whether stages start from the settings of a rehearsal instead of the paper's."""
    set: Mapping[str, Any] = field(default_factory=dict)
    """Settings by stage and field (`finetune.epochs`), for every row that has the stage."""
    weights: Mapping[str, str] = field(default_factory=dict)
    """Published weights of baselines by model: a file, a folder or a hub's `owner/name`."""
    n_workers: int = 1
    """Of a run over the corpus."""

    def __post_init__(self) -> None:
        check_datasets(self.paper, self.datasets, self.paper.evaluated)
        for name in self.set:
            if not name.partition(".")[2]:
                raise ValueError(f"need settings like finetune.epochs, got {name!r}")

    def rows(self, table: str) -> tuple[PaperRow, ...]:
        """Rows of a table or an ablation, the full model's among them.

        Raises:
            ValueError: no such table.
        """
        found = self.paper.table(table)
        names = {row.name for row in found.rows}
        if found.reference is None or found.reference in names:
            return found.rows
        assert self.paper.full_model is not None  # what else a reference may be
        return (self.paper.full_model, *found.rows)

    def experiment(self, table: str) -> Experiment:
        """The rows of a table that can be run, as arms.

        Raises:
            ValueError: no such table, dataset, protocol or setting.
        """
        rows = self.rows(table)
        self._check_settings(rows)
        return Experiment(
            arms=[self._arm(row) for row in rows if row.reproduce is not None],
            graph=self.graph,
            evaluation=self._evaluation(self.paper.table(table)),
            seeds=self.seeds,
            protocols=self.protocols,
            folds=self.folds,
        )

    def chain(self, row: PaperRow) -> Arm:
        """A row as stages to run on a dataset of one's own choice: all their settings may be set.

        Raises:
            ValueError: a setting that changes nothing or cannot be.
        """
        self._check_settings((row,), in_table=False)
        return self._arm(row)

    def frame(self, table: str) -> Frame:
        """What the table says beside its numbers.

        Raises:
            ValueError: no such table.
        """
        rows, found = self.rows(table), self.paper.table(table)
        dropped = dict.fromkeys(dataset for row in rows for dataset in row.drop)
        return Frame(
            name=short(found.name),
            title=self.paper.title,
            caption=found.caption,
            reference=found.reference,
            published_parameters={row.name: row.n_parameters_m for row in rows},
            drops={
                dataset: {row.name: row.drop[dataset] for row in rows if dataset in row.drop}
                for dataset in dropped
            },
            notes=(FOLD_NOTES[self.folds], *self._pretraining_note(rows)),
        )

    def _pretraining_note(self, rows: Sequence[PaperRow]) -> tuple[str, ...]:
        """What seeds share; nothing where no row has a stage over the corpus."""
        stages = [stage for row in rows if row.reproduce for stage in row.reproduce.stages]
        if all(_kind(stage).scope == "fold" for stage in stages):
            return ()
        return (_SEED_NOTES[self.pretrain_seeds],)

    def _evaluation(self, table: PaperTable) -> tuple[Evaluation, ...]:
        """Those of the datasets asked for, in the order in which they are asked for."""
        known = dict.fromkeys(one.dataset for one in table.evaluation)
        check_datasets(self.paper, self.datasets, tuple(known))
        found = [
            one
            for name in self.datasets or known
            for one in table.evaluation
            if one.dataset == name
        ]
        if self.rehearsal and not self.protocols:
            found = [one.rehearsed for one in found]
        return tuple(found)

    @cached_property
    def graph(self) -> Graph:
        """Of the runs of all tables: the full model is one run in each."""
        return Graph(self.catalog, self.storage, self.paper.pretraining, self._seed)

    def _arm(self, row: PaperRow) -> Arm:
        assert row.reproduce is not None
        stages = tuple(
            ArmStage(s.name, s.method, s.stage, self._config(row, s), s.starts)
            for s in row.reproduce.stages
        )
        return Arm(row.name, stages, row.published)

    def _config(self, row: PaperRow, stage: StageOfRow) -> Any:
        """A stage's settings: the paper's (or a rehearsal's), the row's, its own, the user's."""
        kind = _kind(stage)
        config = kind.rehearsal() if self.rehearsal else kind.config_type()
        if self.rehearsal and kind.scope == "corpus":
            config = kind.sharing(config, self.n_workers)
        users = {
            name.removeprefix(f"{stage.stage}."): value
            for name, value in self.set.items()
            if name.startswith(f"{stage.stage}.")
        }
        config = set_all(config, {**_set_by_row(row, stage), **users})
        model = getattr(config, "model", "")
        if model not in self.weights:
            return config
        path = Path(self.weights[model]).expanduser()
        # Workers run elsewhere: a path must not depend on where this one stands.
        place = str(path.absolute()) if path.exists() else self.weights[model]
        return set_dotted(config, "weights", place)

    def _check_settings(self, rows: Sequence[PaperRow], *, in_table: bool = True) -> None:
        """Refuse what would change nothing or cannot be: before a run is planned, not in its place.

        Args:
            rows: that are to run.
            in_table: whether they stand beside others, and keep what makes each of them.

        Raises:
            ValueError: names it.
        """
        stages = {s.stage for row in rows if row.reproduce for s in row.reproduce.stages}
        models = [row.reproduce.set.get("model") for row in rows if row.reproduce]
        if unknown := sorted(set(self.weights) - set(filter(None, models))):
            raise ValueError(f"need weights of a model of the table, got {', '.join(unknown)}")
        for name in self.set:
            if name.partition(".")[0] not in stages:
                known = ", ".join(sorted(stages))
                raise ValueError(f"need a setting of a stage among {known}; got {name!r}")
            if name.partition(".")[2] == "seed":
                raise ValueError(f"need seeds as such, got the setting {name!r}")
        for row in rows:
            if row.reproduce is not None:
                self._check_row(row, in_table=in_table)

    def _check_row(self, row: PaperRow, *, in_table: bool) -> None:
        assert row.reproduce is not None
        stages = row.reproduce.stages
        kinds = {stage.name: _kind(stage) for stage in stages}
        _check_stages(row, kinds)
        fields = {name: set(dotted_fields(kind.config_type)) for name, kind in kinds.items()}
        if unknown := sorted(set(row.reproduce.set) - set().union(*fields.values())):
            raise ValueError(f"{row.name}: no stage has the field {', '.join(unknown)}")
        for stage in stages:
            if unknown := sorted(set(stage.set) - fields[stage.name]):
                raise ValueError(f"{row.name} {stage.name}: no field {', '.join(unknown)}")
            for name in self.set if in_table else ():
                of, _, dotted = name.partition(".")
                if of == stage.stage and dotted in {*row.reproduce.set, *stage.set}:
                    raise ValueError(f"need another setting than {name}: it makes {row.name}")
            config = self._config(row, stage)
            kind = kinds[stage.name]
            if kind.scope == "corpus":
                kind(config, Inputs(), {}).sampling.check_workers(self.n_workers)

    def full_pretraining(self) -> Run:
        """The pretraining of the full model, of the first seed.

        Raises:
            ValueError: no such setting, no full model in the paper, its first stage is no
                pretraining, or the corpus holds no dataset of pretraining.
        """
        row = self.paper.full_model
        if row is None or row.reproduce is None:
            raise ValueError("need a full model and what reproduces it in the paper, got none")
        self._check_settings((row,))
        first = self._arm(row).stages[0]
        of_corpus = [s.name for s in row.reproduce.stages if _kind(s).scope == "corpus"]
        if of_corpus != [first.name]:
            raise ValueError(
                f"{row.name}: need one stage over the corpus, the first, "
                f"got {', '.join(of_corpus) or 'none'}"
            )
        return self.graph.over_corpus(first, self._seed(self.seeds[0]))

    def shown(self, figure: PaperSimilarity) -> tuple[Run, ...]:
        """Of each seed the run of a figure's stage on the first fold: the same run as its table's.

        Raises:
            ValueError: another dataset or several protocols are asked for, a setting changes
                nothing, or the corpus lacks what the row needs.
        """
        check_datasets(self.paper, self.datasets, (figure.dataset,))
        self._check_settings((figure.row,))
        arm = self._arm(figure.row)
        experiment = Experiment(
            arms=[arm],
            graph=self.graph,
            evaluation=[figure.evaluation],
            seeds=self.seeds,
            protocols=self.protocols or (figure.protocol,),
        )
        cells = experiment.cells()
        if len(cells) > 1:
            asked = ", ".join(cell.protocol for cell in cells)
            raise ValueError(f"need one protocol for {short(figure.name)}, got {asked}")
        (cell,) = cells
        if not cell.runs:
            raise ValueError(cell.error or f"need {figure.dataset} in the corpus, got none")
        shown = next(stage for stage in arm.stages if stage.name == figure.stage)
        return tuple(
            next(
                one
                for one in descent(run)
                if (one.method, one.stage) == (shown.method, shown.stage)
            )
            for run in cell.runs
            if run.fold == cell.runs[0].fold
        )

    def _seed(self, seed: int) -> int:
        return self.seeds[0] if self.pretrain_seeds == "one" else seed


def row_settings(row: PaperRow, stage: StageOfRow) -> Any:
    """A stage's settings as the paper has them for this row; where it is silent, ours."""
    return set_all(_kind(stage).config_type(), _set_by_row(row, stage))


def _set_by_row(row: PaperRow, stage: StageOfRow) -> dict[str, Any]:
    """Settings that a row gives a stage, by dotted name: those of all its stages, then its own."""
    assert row.reproduce is not None
    fields = dotted_fields(_kind(stage).config_type)
    of_all = {name: value for name, value in row.reproduce.set.items() if name in fields}
    return {**of_all, **stage.set}


def check_datasets(paper: Paper, asked: Sequence[str], known: Sequence[str]) -> None:
    """Refuse datasets that a paper does not evaluate on.

    Args:
        paper: whose stages read what a dataset may not have.
        asked: names.
        known: those that it evaluates on, or one table of it.

    Raises:
        ValueError: names them, and of each the signals that it has not.
    """
    if unknown := [name for name in asked if name not in known]:
        said = ", ".join(_lacking(paper, name) for name in unknown)
        raise ValueError(f"need datasets among {', '.join(known)}; got {said}")


def _lacking(paper: Paper, name: str) -> str:
    """A dataset's name, with the signals that the paper's stages read and it has not."""
    rows = [row.reproduce for table in paper.tables.values() for row in table.rows]
    kinds = [_kind(stage) for one in rows if one is not None for stage in one.stages]
    read = dict.fromkeys(stream for kind in kinds for stream in kind.streams)
    there = datasets.get(name).CARD.streams if name in datasets.names() else tuple(read)
    absent = [stream.upper() for stream in read if stream not in there]
    return f"{name}, which has no {' and no '.join(absent)}" if absent else name


def _kind(stage: StageOfRow) -> type[Stage]:
    return methods.stage(stage.method, stage.stage)


def _check_stages(row: PaperRow, kinds: Mapping[str, type[Stage]]) -> None:
    """Refuse a graph that no run can follow.

    Raises:
        ValueError: names the row and the stage.
    """
    assert row.reproduce is not None
    *_, last = row.reproduce.stages
    if (kinds[last.name].scope, kinds[last.name].target) != ("fold", "label"):
        raise ValueError(
            f"{row.name}: need a last stage that tells classes of a fold, got {last.name}"
        )
    for stage in row.reproduce.stages:
        kind = kinds[stage.name]
        if unknown := sorted(set(stage.starts) - set(kind.may_start_from)):
            known = ", ".join(kind.may_start_from) or "nothing"
            raise ValueError(
                f"{row.name} {stage.name}: need starts among {known}; got {', '.join(unknown)}"
            )
        for start in stage.starts.values():
            if kind.scope == "corpus" and kinds[start].scope == "fold":
                raise ValueError(
                    f"{row.name} {stage.name}: need starts of all folds for a stage over the "
                    f"corpus, got {start}, which is of one fold"
                )
