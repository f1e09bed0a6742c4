"""An experiment's runs: which there are, which are missing, and where their numbers go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from emoray.corpus.catalog import Catalog
from emoray.evaluation.folds import Fold, folds
from emoray.experiments.arms import Arm, ArmStage
from emoray.experiments.experiment import (
    Experiment,
    Frame,
    balance_note,
    compare,
    missing,
    runs_of,
)
from emoray.experiments.graph import Graph
from emoray.methods.emod.config import Config, FinetuneConfig
from emoray.methods.settings import OptimizerConfig
from emoray.results.comparison import Block, Cell
from emoray.results.paper import Evaluation, MeanSd
from emoray.results.store import ResultStore
from emoray.runtime.config import from_dict
from emoray.training.run import Origin
from emoray.vocabulary.targets import Cut
from tests.evaluations import BY_NAME, paper_protocol, protocols_of
from tests.rows import made_row
from tests.small_experiments import TINY, by_cell, row_of, write_both

PUBLISHED: dict[str, dict[str, MeanSd]] = {
    name: {"bacc": (60.0, 1.0), "kappa": (50.0, 1.0), "wf1": (61.0, 1.0)}
    for name in ("faced", "seed_v", "seed")
}


def arm(row: str, config: FinetuneConfig = TINY, **more: Any) -> Arm:
    """A classifier and nothing before it."""
    starts = more.pop("starts", {})
    return Arm(row, (ArmStage("finetune", "emod", "finetune", config, starts),), **more)


ARMS = (arm("wide", published=PUBLISHED), arm("frozen", replace(TINY, frozen=True)))
FRAME = Frame("table", "a title", "a caption", reference="wide")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_both(tmp_path_factory.mktemp("corpus"), pretrained=())


def experiment(corpus: Path, **changes: Any) -> Experiment:
    fields = {
        "arms": ARMS,
        "graph": Graph(Catalog(str(corpus)), str(corpus.parent / "runs")),
        "evaluation": of("faced", "seed"),
        "seeds": (0, 1),
        **changes,
    }
    return Experiment(**fields)


def of(*datasets: str) -> tuple[Evaluation, ...]:
    return tuple(BY_NAME[name] for name in datasets)


def fold_names(corpus: Path, dataset: str, protocol: str) -> list[str]:
    return [f.name for f in folds(protocol, dataset, Catalog(str(corpus)).dataset(dataset).index)]


def test_a_plan_is_arms_by_datasets_by_protocols_by_folds_by_seeds(corpus: Path) -> None:
    planned = [
        (cell.arm.row, *run.datasets, run.protocol, run.fold, run.seed)
        for cell in experiment(corpus).cells()
        for run in cell.runs
    ]
    wanted = {
        (arm.row, dataset, protocol, fold, seed)
        for dataset in ("faced", "seed")
        for protocol in protocols_of(dataset)
        for arm, fold, seed in product(ARMS, fold_names(corpus, dataset, protocol), (0, 1))
    }
    assert set(planned) == wanted
    assert len(planned) == len(wanted)


def test_cells_come_in_the_tables_order_the_papers_protocol_first(corpus: Path) -> None:
    datasets = ("seed", "faced")
    found = [
        (c.dataset, c.protocol, c.arm.row)
        for c in experiment(corpus, evaluation=of(*datasets)).cells()
    ]
    assert found == [
        (dataset, protocol, arm.row)
        for dataset in datasets
        for protocol in protocols_of(dataset)
        for arm in ARMS
    ]


def test_a_run_has_its_arms_settings_and_its_own_seed(corpus: Path) -> None:
    for cell in experiment(corpus, seeds=(3, 7)).cells():
        for run in cell.runs:
            config = from_dict(FinetuneConfig, run.config)
            assert config == replace(cell.arm.last.config, seed=run.seed)
            assert run.starts == {}
        assert {run.seed for run in cell.runs} == {3, 7}


def test_every_run_of_a_plan_has_a_key_of_its_own(corpus: Path) -> None:
    plan = experiment(corpus).cells()
    assert len(runs_of(plan)) == sum(len(cell.runs) for cell in plan)


def test_an_arm_that_is_there_twice_runs_once(corpus: Path) -> None:
    twice = experiment(corpus, arms=(ARMS[0], replace(ARMS[0], row="the same"))).cells()
    assert len(runs_of(twice)) == sum(len(cell.runs) for cell in twice) // 2


@pytest.mark.parametrize("protocol", ["paper_same_stimuli", "stimuli_apart_same_subjects"])
def test_rotating_gives_the_ith_seed_the_ith_fold_from_the_first_again(
    corpus: Path, protocol: str
) -> None:
    seeds = (9, 4, 7, 1, 0)
    names = fold_names(corpus, "faced", protocol)
    assert len(names) < len(seeds)
    turning = experiment(corpus, evaluation=of("faced"), seeds=seeds, folds="rotate").cells()
    (cell, _) = [cell for cell in turning if cell.protocol == protocol]
    assert [(run.seed, run.fold) for run in cell.runs] == [
        (seed, names[i % len(names)]) for i, seed in enumerate(seeds)
    ]
    assert cell.folds_per_seed == 1


@pytest.mark.parametrize(
    ("seeds", "said"),
    [
        ((4, 0, 1, 2, 3), {5: "5 runs a row instead of 25.", 3: "5 runs a row instead of 15."}),
        ((4, 0), {5: "2 runs a row instead of 10; no seed tests 3 of the folds.",
                  3: "2 runs a row instead of 6; no seed tests 1 of the folds."}),
    ],
)  # fmt: skip
def test_rotating_says_what_it_saves_by_the_number_of_folds(
    corpus: Path, tmp_path: Path, seeds: tuple[int, ...], said: dict[int, str]
) -> None:
    """Not a fifth everywhere: protocols have one, three and five folds."""
    asked = experiment(corpus, evaluation=of("seed"), seeds=seeds, folds="rotate")
    plan = asked.cells()
    notes = compare(asked, plan, ResultStore(tmp_path), FRAME, {}).notes
    numbers = {cell.protocol: cell.n_folds for cell in plan}
    assert numbers == {p: len(fold_names(corpus, "seed", p)) for p in protocols_of("seed")}
    assert len(notes) == len({n for n in numbers.values() if n > 1})
    for protocol, n in numbers.items():
        found = [note for note in notes if protocol in note]
        assert [note.partition(": ")[2] for note in found] == (
            [f"{n} folds, {said[n]}"] if n > 1 else []
        )
    everything = experiment(corpus, evaluation=of("seed"), seeds=seeds)
    assert not compare(everything, everything.cells(), ResultStore(tmp_path), FRAME, {}).notes


def test_folds_that_cannot_learn_a_level_are_counted_and_said(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def one_lacks(protocol: str, *asked: Any) -> tuple[Fold, ...]:
        first, *others = folds(protocol, *asked)
        return (replace(first, untrained=(2,)), *others) if "apart_same" in protocol else (first,)

    everything = experiment(corpus, evaluation=of("seed"))
    assert {cell.n_untrained for cell in everything.cells()} == {0}
    monkeypatch.setattr("emoray.experiments.experiment.folds", one_lacks)
    plan = everything.cells()
    lacking = [p for p in protocols_of("seed") if "apart_same" in p]
    assert {cell.protocol for cell in plan if cell.n_untrained == 1} == set(lacking)
    (note,) = compare(everything, plan, ResultStore(tmp_path), FRAME, {}).notes
    for protocol in lacking:
        n = len(fold_names(corpus, "seed", protocol))
        assert f"SEED {protocol}: 1 of {n} folds" in note
    assert note.count("folds") == len(lacking)


def test_the_share_of_each_class_is_said_where_a_rating_is_cut() -> None:
    """30 + 10 and 5 + 15 of 60, and in the other fold 20 + 0 and 0 + 20 of 40."""
    folds_of_one = [((30, 10), (5, 15)), ((20, 0), (0, 20))]
    rows = tuple(made_row(confusion, fold=str(i)) for i, confusion in enumerate(folds_of_one))
    at = {
        "name": "faced",
        "dataset": "faced",
        "protocol": "paper_same_stimuli",
        "is_paper": True,
        "words": "",
        "metrics": ("bacc",),
    }
    cells = (Cell("did not run"), Cell("ran", results=rows, n_wanted=2, folds_per_seed=2))
    names = ("arousal <= 3", "arousal > 3")
    cut = Block(title="FACED, arousal > 3", cells=cells, class_names=names, **at)
    (note,) = balance_note([cut, Block(title="nobody", cells=cells[:1], class_names=names, **at)])
    said = "FACED, arousal > 3 paper_same_stimuli: 60 % arousal <= 3, 40 % arousal > 3"
    assert note == f"Classes of the test segments. {said}."
    assert not list(balance_note([replace(cut, class_names=("a", "b", "c"))]))


def test_all_folds_of_a_seed_are_counted(corpus: Path) -> None:
    for cell in experiment(corpus, seeds=(0, 1, 2)).cells():
        assert cell.folds_per_seed == len(fold_names(corpus, cell.dataset, cell.protocol))
        assert len(cell.runs) == 3 * cell.folds_per_seed


def test_missing_are_the_runs_without_a_row_seed_by_seed(corpus: Path, tmp_path: Path) -> None:
    plan = experiment(corpus, seeds=(2, 0, 1)).cells()
    store = ResultStore(tmp_path)
    everything = runs_of(plan)
    assert [run.seed for run in missing(plan, store)] == sorted(r.seed for r in everything.values())
    done = list(everything)[::3]
    for key in done:
        assert store.add(row_of(everything[key]))
    left = missing(plan, ResultStore(tmp_path))
    assert [run.seed for run in left] == sorted(run.seed for run in left)
    assert {run.key for run in left} == set(everything) - set(done)
    assert len(left) == len(everything) - len(done)


def test_rows_of_other_experiments_fill_no_gap(corpus: Path, tmp_path: Path) -> None:
    plan = experiment(corpus).cells()
    store = ResultStore(tmp_path)
    for run in list(runs_of(plan).values())[:5]:
        store.add(row_of(replace(run, config={**run.config, "epochs": 77})))
        store.add(row_of(replace(run, code="0.1.0+000000000000")))
    assert len(store.rows()) == 10
    assert len(missing(plan, store)) == len(runs_of(plan))


def test_a_dataset_that_the_corpus_lacks_is_blank_beside_its_published_numbers(
    corpus: Path, tmp_path: Path
) -> None:
    asked = experiment(corpus, evaluation=of("faced", "seed_v"))
    plan = asked.cells()
    compared = compare(asked, plan, ResultStore(tmp_path), FRAME, {})
    blank = [block for block in compared.blocks if block.dataset == "seed_v"]
    assert [block.protocol for block in blank] == list(protocols_of("seed_v"))
    for block in blank:
        cell = block.cell("wide")
        assert cell is not None
        assert (cell.results, cell.n_wanted, cell.errors) == ((), 0, ())
        assert block.is_paper == (block.protocol == paper_protocol("seed_v"))
        assert cell.published == (PUBLISHED["seed_v"] if block.is_paper else {})
    assert all(cell.runs for cell in plan if cell.dataset == "faced")


def test_a_protocol_that_the_data_cannot_have_is_an_error_of_its_cells_alone(
    tmp_path: Path,
) -> None:
    two = write_both(tmp_path / "corpus", evaluated=("seed",), pretrained=(), n_subjects=2)
    asked = experiment(two, evaluation=of("seed"))
    plan = asked.cells()
    apart = {"subjects_apart_same_stimuli", "subjects_and_stimuli_apart"}
    for cell in plan:
        assert bool(cell.error) == (cell.protocol in apart) == (not cell.runs)
    compared = compare(asked, plan, ResultStore(tmp_path / "results"), FRAME, {})
    said = {b.protocol: b.cells[0].errors for b in compared.blocks if b.cells[0].errors}
    assert set(said) == apart
    for protocol, errors in said.items():
        assert errors == (f"seed {protocol}: need at least 3 subjects, got 2",)


def test_an_arm_whose_weights_cannot_be_leaves_the_others(corpus: Path) -> None:
    """The corpus holds nothing to pretrain on."""
    pretraining = ArmStage("pretrain", "emod", "pretrain", Config())
    last = replace(ARMS[1].last, starts={"encoder": "pretrain"})
    plan = experiment(corpus, arms=(ARMS[0], replace(ARMS[1], stages=(pretraining, last)))).cells()
    for cell in plan:
        assert cell.error.startswith("need datasets to pretrain on") == (cell.arm.row == "frozen")
        assert bool(cell.runs) == (cell.error == "") == (cell.arm.row == "wide")


def test_an_arm_starts_from_its_origin_by_identity_lineage_and_place(corpus: Path) -> None:
    origin = Origin({"run": "ab", "step": 10}, "/runs/base/step-00000010", {"stage": "pretrain"})
    plan = experiment(corpus, arms=(arm("wide", starts={"encoder": origin}),), seeds=(4, 5)).cells()
    for run in runs_of(plan).values():
        assert run.starts == {"encoder": origin}
        asked = {"run": "ab", "step": 10, "stage": "pretrain"}
        assert run.to_key()["starts"] == {"encoder": asked}
        moved = replace(origin, location="/elsewhere")
        assert replace(run, starts={"encoder": moved}).key == run.key


def test_rows_and_errors_come_into_their_cells(corpus: Path, tmp_path: Path) -> None:
    asked = experiment(corpus, evaluation=of("faced"), protocols=("stimuli_apart_same_subjects",))
    plan = asked.cells()
    store = ResultStore(tmp_path)
    runs = list(by_cell(plan)["wide", "faced", "stimuli_apart_same_subjects"].runs)
    *done, failed = runs
    for run in done:
        store.add(row_of(run, rehearsal=True))
    compared = compare(asked, plan, store, FRAME, {failed.key: "it broke", "other": "elsewhere"})
    assert compared.rehearsal
    (block,) = compared.blocks
    wide, frozen = block.cells
    assert {row.key for row in wide.results} == {run.key for run in done}
    assert (wide.n_wanted, wide.errors, wide.folds_per_seed) == (len(runs), ("it broke",), 3)
    assert (frozen.results, frozen.errors) == ((), ())
    assert list(wide.per_seed("kappa")) == [0]  # a fold of seed 1 failed
    assert wide.n_incomplete == 1


def test_every_run_that_failed_is_counted_though_all_say_the_same(
    corpus: Path, tmp_path: Path
) -> None:
    asked = experiment(corpus, evaluation=of("faced"), protocols=("stimuli_apart_same_subjects",))
    plan = asked.cells()
    errors = dict.fromkeys(runs_of(plan), "pretraining base: out of memory")
    (block,) = compare(asked, plan, ResultStore(tmp_path), FRAME, errors).blocks
    assert [len(cell.errors) for cell in block.cells] == [6, 6]  # three folds, two seeds


def test_rows_that_are_not_trained_alike_are_told_apart(corpus: Path, tmp_path: Path) -> None:
    def notes(*arms: Arm) -> tuple[str, ...]:
        asked = experiment(corpus, arms=arms, evaluation=of("faced"))
        frame = replace(FRAME, notes=("a note",))
        return compare(asked, asked.cells(), ResultStore(tmp_path), frame, {}).notes

    assert notes(*ARMS) == ("a note",)  # one of them frozen: another model, trained alike
    faster = replace(TINY, epochs=3, optimizer=OptimizerConfig(learning_rate=0.01))
    first, said = notes(*ARMS, arm("short", faster))
    assert first == "a note"
    assert "wide, frozen: optimizer.learning_rate 0.0005, epochs 2;" in said
    assert "short: optimizer.learning_rate 0.01, epochs 3." in said
    assert "batch_size" not in said


def test_protocols_are_those_asked_for_that_the_dataset_has(corpus: Path) -> None:
    asked: Sequence[str] = (
        *("paper_same_stimuli", "paper_same_subjects_same_stimuli"),
        "random_segments_same_subjects_same_stimuli",
    )
    found = {(cell.dataset, cell.protocol) for cell in experiment(corpus, protocols=asked).cells()}
    assert found == {
        ("faced", "paper_same_stimuli"),
        ("seed", "paper_same_subjects_same_stimuli"),
        ("faced", "random_segments_same_subjects_same_stimuli"),
        ("seed", "random_segments_same_subjects_same_stimuli"),
    }


@pytest.mark.parametrize(
    ("changes", "needed"),
    [
        ({"protocols": ("subjects_appart",)}, r"need protocols among .*; got subjects_appart"),
        ({"seeds": (0, 1, 0)}, r"different seeds, got \[0, 1, 0\]"),
        ({"seeds": ()}, r"one or more different seeds, got \[\]"),
        (
            {"protocols": ("paper_same_stimuli",)},
            r"seed: need a protocol among paper_same_subjects_.*; got paper_same_stimuli",
        ),
        ({"evaluation": ()}, r"one or more datasets to evaluate on, got none"),
    ],
)
def test_an_experiment_that_cannot_be_is_refused(
    corpus: Path, changes: dict[str, Any], needed: str
) -> None:
    with pytest.raises(ValueError, match=needed):
        experiment(corpus, **changes)


def test_two_targets_of_a_dataset_are_two_columns_and_no_run_is_shared(
    tmp_path: Path,
) -> None:
    corpus = write_both(tmp_path / "corpus", evaluated=("seed",), pretrained=())
    classes = replace(BY_NAME["seed"], metrics=("acc", "auc"), safer=())
    other = replace(classes, name="seed again", chosen_by="auc", metrics=("f1",))
    asked = experiment(corpus, evaluation=(classes, other))
    plan = asked.cells()
    assert [cell.evaluation.name for cell in plan] == ["seed", "seed", "seed again", "seed again"]
    keys = [run.key for cell in plan for run in cell.runs]
    assert len(set(keys)) == len(keys)
    assert {run.chosen_by for cell in plan[2:] for run in cell.runs} == {"auc"}
    compared = compare(asked, plan, ResultStore(tmp_path / "results"), FRAME, {})
    assert [(block.name, block.metrics) for block in compared.blocks] == [
        ("seed", ("acc", "auc")),
        ("seed again", ("f1",)),
    ]
    assert compared.blocks[0].class_names == ("negative", "neutral", "positive")


def test_a_target_that_the_data_lack_is_an_error_of_its_cells(corpus: Path, tmp_path: Path) -> None:
    cut = replace(BY_NAME["faced"], target=Cut("boredom", 3.0), safer=())
    for cell in experiment(corpus, evaluation=(cut,)).cells():
        assert (cell.runs, "need a rating among" in cell.error) == ((), True)
