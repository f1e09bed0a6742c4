"""Runs of a table as a graph: what several need is one run, and a start's failure takes its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import ray

from emoray import methods
from emoray.corpus.catalog import Catalog
from emoray.evaluation.folds import folds
from emoray.experiments import graph as graphs
from emoray.experiments import schedule
from emoray.experiments.arms import Arm, ArmStage
from emoray.experiments.experiment import Experiment, runs_of
from emoray.experiments.graph import At, Graph, question, still_needed
from emoray.methods.emod.config import Config
from emoray.methods.emod.method import Finetuning
from emoray.results.store import ResultRow
from emoray.runtime.config import set_all, set_dotted
from emoray.training.run import Execution, Origin, Run
from tests.evaluations import BY_NAME
from tests.small_experiments import PRETRAINED, SETTINGS, TINY, row_of, write_both

PROTOCOL = "subjects_and_stimuli_apart"
FACED = replace(BY_NAME["faced"], safer=())
SMALL = set_all(
    Config(),
    {name.removeprefix("pretrain."): v for name, v in SETTINGS.items() if name[:2] == "pr"},
)
SEEDS = (3, 5)
N_FOLDS = 3


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_both(tmp_path_factory.mktemp("corpus"), evaluated=("faced",))


@pytest.fixture(autouse=True)
def unscored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage of the fold that learns no classes: like a student of a teacher."""

    class Student(Finetuning):
        target = "va"

    stages = {**methods.get("emod").STAGES, "student": Student}
    monkeypatch.setattr(methods.get("emod"), "STAGES", stages)


def three(row: str, *, temperature: float = 0.07, epochs: int = 2, last: Any = TINY) -> Arm:
    """Everybody's encoder, one for each fold that starts from it, and classes from both."""
    student = replace(TINY, epochs=epochs)
    pretraining = set_dotted(SMALL, "loss.temperature", temperature)
    return Arm(
        row,
        (
            ArmStage("everybodys", "emod", "pretrain", pretraining),
            ArmStage("folds", "emod", "student", student, {"encoder": "everybodys"}),
            ArmStage("classes", "emod", "finetune", last, {"encoder": "folds"}),
        ),
    )


def experiment(corpus: Path, *arms: Arm, **changes: Any) -> Experiment:
    graph = Graph(Catalog(str(corpus)), str(corpus.parent / "runs"), PRETRAINED, lambda _: SEEDS[0])
    fields = {
        "arms": arms,
        "graph": graph,
        "evaluation": (FACED,),
        "seeds": SEEDS,
        "protocols": (FACED.protocol,),
        **changes,
    }
    return Experiment(**fields)


def runs(asked: Experiment) -> list[Run]:
    return list(runs_of(asked.cells()).values())


def of_stage(found: Mapping[str, Run], stage: str) -> list[Run]:
    return [run for run in found.values() if run.stage == stage]


def n_folds(corpus: Path) -> int:
    index = Catalog(str(corpus)).dataset("faced").index
    return len(folds(FACED.protocol, "faced", index, FACED.target))


# One node for all that need it --------------------------------------------------------------------


def test_what_rows_seeds_and_folds_share_is_one_run(corpus: Path) -> None:
    """Two rows differ in their last stage only: they share both encoders."""
    frozen = three("frozen", last=replace(TINY, frozen=True))
    asked = experiment(corpus, three("whole"), frozen)
    found = still_needed(runs(asked))
    n = n_folds(corpus)
    assert len(of_stage(found, "pretrain")) == 1
    folders = [(run.fold, run.seed) for run in of_stage(found, "student")]
    assert len(set(folders)) == len(folders) == n * len(SEEDS)
    assert len(of_stage(found, "finetune")) == 2 * n * len(SEEDS)
    assert len(found) == 1 + 3 * n * len(SEEDS)
    (pretraining,) = of_stage(found, "pretrain")
    assert (pretraining.fold, pretraining.seed, pretraining.chosen_by) == ("", SEEDS[0], "")
    assert pretraining.datasets == PRETRAINED
    for run in of_stage(found, "student"):
        assert run.starts["encoder"].run == pretraining
        assert (run.datasets, run.chosen_by) == (("faced",), "")
    for run in of_stage(found, "finetune"):
        before = run.starts["encoder"].run
        assert before is not None
        assert (before.fold, before.seed) == (run.fold, run.seed)
        assert run.chosen_by == FACED.chosen_by


def test_asked_twice_a_graph_gives_the_start_that_it_made(corpus: Path) -> None:
    graph = Graph(Catalog(str(corpus)), str(corpus.parent / "runs"), PRETRAINED)
    at = At(FACED, FACED.protocol, folds_of(corpus)[0], 3)
    one, two = (graph.run(three(row), at) for row in ("one", "two"))
    assert one.key == two.key
    assert one.starts["encoder"].run is two.starts["encoder"].run


def test_each_temperature_has_one_pretraining(corpus: Path) -> None:
    asked = experiment(
        corpus, *(three(str(t), temperature=t) for t in (0.05, 0.07, 0.1)), three("again")
    )
    found = still_needed(runs(asked))
    temperatures = [r.config["loss"]["temperature"] for r in of_stage(found, "pretrain")]
    assert temperatures == [0.05, 0.07, 0.1]
    assert len(of_stage(found, "student")) == 3 * n_folds(corpus) * len(SEEDS)


def test_each_seed_has_its_own_pretraining_where_that_is_asked(corpus: Path) -> None:
    graph = Graph(Catalog(str(corpus)), str(corpus.parent / "runs"), PRETRAINED)
    found = still_needed(runs(experiment(corpus, three("x"), graph=graph)))
    assert sorted(run.seed for run in of_stage(found, "pretrain")) == sorted(SEEDS)
    for run in of_stage(found, "student"):
        before = run.starts["encoder"].run
        assert before is not None
        assert before.seed == run.seed


# What names a run ---------------------------------------------------------------------------------


def folds_of(corpus: Path) -> list[str]:
    index = Catalog(str(corpus)).dataset("faced").index
    return [fold.name for fold in folds(FACED.protocol, "faced", index, FACED.target)]


def asked_run(corpus: Path, at: At | None = None, **changes: Any) -> Run:
    graph = Graph(Catalog(str(corpus)), str(corpus.parent / "runs"), PRETRAINED)
    return graph.run(three("x", **changes), at or At(FACED, FACED.protocol, folds_of(corpus)[0], 3))


@pytest.mark.parametrize("changes", [{"temperature": 0.05}, {"epochs": 3}], ids=str)
def test_a_runs_key_changes_with_settings_of_its_start_and_of_its_starts_start(
    corpus: Path, changes: dict[str, Any]
) -> None:
    one, other = asked_run(corpus), asked_run(corpus, **changes)
    assert one.config == other.config
    assert one.key != other.key
    assert one.starts["encoder"].location != other.starts["encoder"].location
    assert question(one) != question(other)


def ancestors_of(run: Run) -> Iterator[Run]:
    """What a run descends from, starts before those that start from them."""
    for origin in run.starts.values():
        if origin.run is not None:
            yield from ancestors_of(origin.run)
            yield origin.run


def test_starts_come_before_those_that_start_from_them(corpus: Path) -> None:
    run = asked_run(corpus)
    assert [before.stage for before in ancestors_of(run)] == ["pretrain", "student"]
    asked = runs(experiment(corpus, three("x"), three("cold", temperature=0.05)))
    for order in (asked, asked[::-1]):
        there: set[str] = set()
        for key, one in still_needed(order).items():
            assert {o.run.key for o in one.starts.values() if o.run} <= there
            there.add(key)
        assert there >= {one.key for one in asked}


def test_weights_that_are_there_are_not_needed_nor_what_they_came_from(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = asked_run(corpus)
    student = run.starts["encoder"].run
    looked: list[str] = []

    def is_ended(origin: Origin) -> bool:
        looked.append(origin.location)
        return origin.run == student

    monkeypatch.setattr(graphs, "is_ended", is_ended)
    assert list(still_needed([run])) == [run.key]
    looked.clear()
    many = [replace(run, config={**run.config, "seed": seed}) for seed in range(50)]
    assert len(still_needed(many)) == 50
    assert len(looked) == 1


def test_a_row_tells_the_settings_of_all_stages_back(corpus: Path) -> None:
    run = asked_run(corpus, temperature=0.05, epochs=3)
    row = ResultRow.from_json(row_of(run).to_json())
    assert set(row.lineage) == {"encoder", "encoder.encoder"}
    student, pretraining = row.lineage["encoder"], row.lineage["encoder.encoder"]
    assert (student["epochs"], pretraining["loss"]["temperature"]) == (3, 0.05)
    assert [student, pretraining] == [before.config for before in reversed([*ancestors_of(run)])]


def test_a_start_in_a_file_is_told_by_what_it_is_and_makes_the_same_key(corpus: Path) -> None:
    run = asked_run(corpus)
    again = Run.from_json(run.to_json())
    assert again.key == run.key
    assert again.starts["encoder"].run is None
    assert again.starts["encoder"].to_plain() == run.starts["encoder"].to_plain()


# What a failure takes with it ---------------------------------------------------------------------


@dataclass
class Heard:
    """What a listener is told of failures and ends."""

    failures: list[tuple[str, list[str], str]] = field(default_factory=list)
    finished_runs: list[str] = field(default_factory=list)

    def group(self, run: Run, seconds: float | None) -> None:
        """Not looked at."""

    def said(self, line: str) -> None:
        """Nothing is printed."""

    def finished(self, run: Run, row: ResultRow | None) -> None:
        self.finished_runs.append(run.key)

    def failed(self, what: str, runs: Sequence[Run], error: str) -> None:
        self.failures.append((what, [run.key for run in runs], error))


class Cluster:
    """Tasks that end as they are told to, one after the other, and no Ray."""

    def __init__(
        self, asked: Sequence[Run], monkeypatch: pytest.MonkeyPatch, failing: set[str]
    ) -> None:
        self.heard = Heard()
        self.began: list[str] = []
        rules = schedule.Rules(schedule.Resources(), over_corpus=lambda run: Execution())
        self.state = schedule._State(asked, rules, self.heard)
        self._failing = failing
        monkeypatch.setattr(ray, "get", self._get)
        monkeypatch.setattr(schedule, "_room_beside", lambda *_: 1)

    def _get(self, task: str) -> None:
        if task in self._failing:
            raise ray.exceptions.RayError("out of memory")

    def run(self) -> None:
        """All that can go, until nothing is left."""
        state = self.state
        while state.unfinished:
            for run, _ in state.take_groups():
                state.groups[run.key] = (run, 0.0)
                self.began.append(run.key)
            for run in state.take_ready():
                state.running[run.key] = run
                self.began.append(run.key)
            (task, *_) = [*state.running, *state.groups]
            state.take_in(task)


def test_a_run_waits_for_what_it_starts_from(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = runs(experiment(corpus, three("x"), three("cold", temperature=0.05)))
    found = Cluster(asked, monkeypatch, set())
    found.run()
    needed = still_needed(asked)
    assert sorted(found.began) == sorted(needed)
    for key, run in needed.items():
        for before in ancestors_of(run):
            assert found.began.index(before.key) < found.began.index(key)
    assert found.state.errors == {}
    on_folds = {key for key, run in needed.items() if run.fold}
    assert set(found.heard.finished_runs) == on_folds
    kept = {key for key, run in needed.items() if found.state.keeps(run)}
    assert kept == set(needed) - {run.key for run in asked}


@pytest.mark.parametrize("stage", ["pretrain", "student", "finetune"])
def test_a_run_that_fails_takes_its_descendants_and_nothing_else(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    cold = three("cold", temperature=0.05)
    scratch = Arm("scratch", (ArmStage("classes", "emod", "finetune", TINY),))
    asked = runs(experiment(corpus, three("x"), cold, scratch))
    needed = still_needed(asked)
    failing = of_stage(needed, stage)[0]
    found = Cluster(asked, monkeypatch, {failing.key})
    found.run()
    lost = {key for key, run in needed.items() if failing in ancestors_of(run)}
    assert set(found.began) == set(needed) - lost
    wanted = {run.key for run in asked} & {failing.key, *lost}
    assert set(found.state.errors) == wanted
    per_seed = n_folds(corpus)
    n_lost = {"pretrain": per_seed * len(SEEDS), "student": 1, "finetune": 1}
    assert len(wanted) == n_lost[stage]
    ((what, keys, error),) = found.heard.failures
    assert what == schedule.words_of(failing)
    assert set(keys) == {key for key in (failing.key, *lost) if needed[key].fold}
    assert set(found.state.errors.values()) == {f"{what}: {error}"}


def test_weights_that_are_there_outlive_what_they_came_from(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fold's encoder has ended; another's is made from a pretraining that has to come again."""
    one = asked_run(corpus)
    other = asked_run(corpus, epochs=3)
    student = one.starts["encoder"].run
    monkeypatch.setattr(graphs, "is_ended", lambda origin: origin.run == student)
    pretraining = next(iter(ancestors_of(other)))
    found = Cluster([other, one], monkeypatch, {pretraining.key})
    monkeypatch.setattr(schedule, "_room_beside", lambda *_: 0)  # so that `one` still waits
    found.run()
    assert set(found.state.errors) == {other.key}
    assert found.began == [pretraining.key, one.key]
