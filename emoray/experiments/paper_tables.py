"""A paper's table as an experiment: each of its rows becomes an arm.

paper.toml -> rows with `reproduce` -> arms (settings, pretraining, seed by seed) -> Experiment
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from emoray import methods
from emoray.batches.feeds import for_pretraining
from emoray.batches.plans import check_workers
from emoray.corpus.fingerprints import Seen
from emoray.corpus.read import Corpus
from emoray.experiments.experiment import (
    FOLD_NOTES,
    ONE_PRETRAINING,
    Arm,
    Experiment,
    Frame,
    Origin,
    from_scratch,
)
from emoray.results.paper import Evaluation, Paper, PaperRow, PaperTable, StageOfRow, short
from emoray.runtime.config import digest, dotted_fields, set_all, set_dotted, to_dict
from emoray.runtime.storage import join
from emoray.training.driver import Request, last_name, seen
from emoray.training.loop import training_code
from emoray.training.run import start_identity
from emoray.vocabulary.choices import FoldChoice, PretrainSeeds

_SEED_NOTES: Mapping[PretrainSeeds, str] = {
    "one": ONE_PRETRAINING,
    "each": "Each seed has its own pretraining.",
}


@dataclass(frozen=True)
class Reproduction:
    """How a paper is reproduced: on what, how often, by which settings."""

    paper: Paper
    corpus: Corpus
    """Holds the datasets of pretraining and of evaluation, or some of them."""
    location: str
    """Of the corpus."""
    storage: str
    """Folder or URI of the pretraining runs."""
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
    resources: Mapping[str, Any] = field(default_factory=dict)
    """Of a pretraining: `n_workers`, `cpus_per_worker`, `gpus_per_worker`."""

    def __post_init__(self) -> None:
        tables = self.paper.tables.values()
        known = dict.fromkeys(one.dataset for table in tables for one in table.evaluation)
        self._check_datasets(known)
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
            location=self.location,
            corpus=self.corpus,
            evaluation=self._evaluation(self.paper.table(table)),
            seeds=self.seeds,
            protocols=self.protocols,
            folds=self.folds,
        )

    def frame(self, table: str) -> Frame:
        """What the table says beside its numbers.

        Raises:
            ValueError: no such table.
        """
        rows, found = self.rows(table), self.paper.table(table)
        datasets = dict.fromkeys(dataset for row in rows for dataset in row.drop)
        return Frame(
            name=short(found.name),
            title=self.paper.title,
            caption=found.caption,
            reference=found.reference,
            published_parameters={row.name: row.n_parameters_m for row in rows},
            drops={
                dataset: {row.name: row.drop[dataset] for row in rows if dataset in row.drop}
                for dataset in datasets
            },
            notes=(FOLD_NOTES[self.folds], _SEED_NOTES[self.pretrain_seeds]),
        )

    def _evaluation(self, table: PaperTable) -> tuple[Evaluation, ...]:
        """Those of the datasets asked for, in the order in which they are asked for."""
        known = dict.fromkeys(one.dataset for one in table.evaluation)
        self._check_datasets(known)
        found = [
            one
            for name in self.datasets or known
            for one in table.evaluation
            if one.dataset == name
        ]
        if self.rehearsal and not self.protocols:
            found = [one.rehearsed for one in found]
        return tuple(found)

    def _check_datasets(self, known: Iterable[str]) -> None:
        known = tuple(known)
        if unknown := [name for name in self.datasets if name not in known]:
            raise ValueError(f"need datasets among {', '.join(known)}; got {', '.join(unknown)}")

    def _arm(self, row: PaperRow) -> Arm:
        *before, last = _stages(row)
        return Arm(
            row=row.name,
            method=last.method,
            stage=last.stage,
            config=self._config(row, last),
            origin=_Pretrained(self, row, before[0]) if before else self._published(row, last),
            published=row.published,
        )

    def _published(self, row: PaperRow, stage: StageOfRow) -> Callable[[int], Origin | None]:
        """The origin of a row that no stage of ours precedes: nothing, or published weights."""
        kind = methods.get(stage.method).STAGES[stage.stage]
        identity = kind.published_weights(self._config(row, stage))
        return from_scratch if identity is None else lambda seed: Origin(identity, "")

    def _config(self, row: PaperRow, stage: StageOfRow) -> Any:
        """A stage's settings: the paper's (or a rehearsal's), the row's, its own, the user's."""
        assert row.reproduce is not None
        kind = methods.get(stage.method).STAGES[stage.stage]
        config = kind.rehearsal() if self.rehearsal else kind.config_type()
        fields = dotted_fields(kind.config_type)
        if self.rehearsal and "rounds_per_step" in fields:  # a round for each worker
            config = set_dotted(config, "rounds_per_step", self._n_workers)
        rows = {name: value for name, value in row.reproduce.set.items() if name in fields}
        users = {
            name.removeprefix(f"{stage.stage}."): value
            for name, value in self.set.items()
            if name.startswith(f"{stage.stage}.")
        }
        config = set_all(config, {**rows, **stage.set, **users})
        model = getattr(config, "model", "")
        if model not in self.weights:
            return config
        path = Path(self.weights[model]).expanduser()
        # Workers run elsewhere: a path must not depend on where this one stands.
        place = str(path.absolute()) if path.exists() else self.weights[model]
        return set_dotted(config, "weights", place)

    def _check_settings(self, rows: Sequence[PaperRow]) -> None:
        """Refuse what would change nothing or cannot be: before a run is planned, not in its place.

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
                self._check_row(row)

    def _check_row(self, row: PaperRow) -> None:
        assert row.reproduce is not None
        stages = _stages(row)
        kinds = {stage.name: methods.get(stage.method).STAGES[stage.stage] for stage in stages}
        fields = {name: set(dotted_fields(kind.config_type)) for name, kind in kinds.items()}
        if unknown := sorted(set(row.reproduce.set) - set().union(*fields.values())):
            raise ValueError(f"{row.name}: no stage has the field {', '.join(unknown)}")
        for stage in stages:
            if unknown := sorted(set(stage.set) - fields[stage.name]):
                raise ValueError(f"{row.name} {stage.name}: no field {', '.join(unknown)}")
            for name in self.set:
                of, _, dotted = name.partition(".")
                if of == stage.stage and dotted in {*row.reproduce.set, *stage.set}:
                    raise ValueError(f"need another setting than {name}: it makes {row.name}")
            config = self._config(row, stage)
            if hasattr(config, "rounds_per_step"):
                check_workers(self._n_workers, config.rounds_per_step)

    @property
    def _n_workers(self) -> int:
        """Of a pretraining."""
        return int(self.resources.get("n_workers", 1))

    def pretraining(self, row: PaperRow, stage: StageOfRow, seed: int) -> Origin:
        """The pretraining that a row starts from, and what its checkpoint will be.

        Raises:
            ValueError: the corpus holds no dataset of pretraining.
        """
        request = Request(
            name="",
            storage=join(self.storage, "runs"),
            corpus=self.location,
            datasets=tuple(d.manifest.folder for d in self._to_pretrain.datasets),
            method=stage.method,
            stage=stage.stage,
            config=to_dict(set_dotted(self._config(row, stage), "seed", self._seed(seed))),
            held_out={},
            **self.resources,
        )
        plan = request.make_plan(self._to_pretrain)
        last = last_name(request, plan)
        facts = {
            "method": request.method,
            "stage": stage.stage,
            "config": request.config,
            "plan": plan.digest,
            "step": int(last.rpartition("-")[2]),
            "builds": list(request.datasets),
            "code": training_code(request.method),
            "seen": self._seen,
        }
        identity = start_identity(facts)
        name = f"{request.method}-{stage.stage}-{digest(identity)}"
        named = Request(**{**vars(request), "name": name, "plan": plan.digest})
        return Origin(identity, join(named.storage, name, last), named)

    def full_pretraining(self) -> Request:
        """The pretraining of the full model, of the first seed.

        Raises:
            ValueError: no such setting, no full model in the paper, or the corpus holds no dataset
                of pretraining.
        """
        row = self.paper.full_model
        if row is None or row.reproduce is None:
            raise ValueError("need a full model and what reproduces it in the paper, got none")
        self._check_settings((row,))
        origin = self.pretraining(row, _stages(row)[0], self.seeds[0])
        assert origin.request is not None
        return origin.request

    def _seed(self, seed: int) -> int:
        return self.seeds[0] if self.pretrain_seeds == "one" else seed

    @cached_property
    def _seen(self) -> Seen:
        """Whom and what a pretraining will have seen: nobody is held out of it."""
        return seen(self._to_pretrain, {})

    @cached_property
    def _to_pretrain(self) -> Corpus:
        return for_pretraining(self.corpus, self.paper.pretraining)


class _Pretrained:
    """Seed -> the pretraining of one row, each worked out once."""

    def __init__(self, of: Reproduction, row: PaperRow, stage: StageOfRow) -> None:
        self._of = of
        self._row = row
        self._stage = stage
        self._known: dict[int, Origin] = {}

    def __call__(self, seed: int) -> Origin:
        if seed not in self._known:
            self._known[seed] = self._of.pretraining(self._row, self._stage, seed)
        return self._known[seed]


def _stages(row: PaperRow) -> tuple[StageOfRow, ...]:
    """The stages of a row: a single one, or one and another that starts from its encoder.

    Raises:
        ValueError: the row has others.
    """
    assert row.reproduce is not None
    stages = row.reproduce.stages
    starts = [dict(stage.starts) for stage in stages]
    if starts not in ([{}], [{}, {"encoder": stages[0].name}]):
        said = ", ".join(f"{stage.name} from {dict(stage.starts) or 'scratch'}" for stage in stages)
        raise ValueError(
            f"{row.name}: need one stage, or two of which the second starts from the first one's "
            f"encoder, got {said}"
        )
    scopes = [methods.get(stage.method).STAGES[stage.stage].scope for stage in stages]
    if scopes not in (["fold"], ["corpus", "fold"]):
        raise ValueError(
            f"{row.name}: need a last stage of scope fold and before it one of scope corpus, "
            f"got {' and '.join(scopes)}"
        )
    return stages
