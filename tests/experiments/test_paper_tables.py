"""A paper's rows as stages and settings; pretrainings that are known before they have run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from emoray import methods
from emoray.corpus.catalog import Catalog
from emoray.experiments.experiment import CellRuns, runs_of
from emoray.experiments.graph import is_ended, still_needed
from emoray.experiments.paper_tables import Reproduction, check_datasets
from emoray.methods.base import InputSpec
from emoray.methods.emod.config import Config, FinetuneConfig
from emoray.methods.emod.method import Pretraining
from emoray.results import published
from emoray.results.paper import Paper, PaperRow, PaperTable, Reproduce, StageOfRow
from emoray.runtime.config import dotted_fields, dotted_values, from_dict
from emoray.runtime.storage import Storage
from emoray.training import checkpoint, driver
from emoray.training.data import open_data
from emoray.training.execute import execute, origin_of
from emoray.training.run import Origin, Run
from tests.groups import inputs_of
from tests.small_experiments import PRETRAINED, SETTINGS, TINY, by_cell, reproduction, write_both

PAPER = published.load("emod")
ROWS = [
    pytest.param(table, row, id=f"{table.name} {row.name}")
    for table in PAPER.tables.values()
    for row in table.rows
]
TABLES = ("table2", "table3", "figure3")
SPEC = InputSpec(("Fz", "Cz"), 200.0, 2000, 9)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_both(tmp_path_factory.mktemp("corpus"))


def row_named(name: str, table: str = "table_3") -> PaperRow:
    return PAPER.tables[table].row(name)


def starts_of(plan: Sequence[CellRuns], row: str = "EMOD-SoftVA") -> dict[str, Origin]:
    """What a row's runs start from, by place."""
    runs = [run for cell in plan if cell.arm.row == row for run in cell.runs]
    return {origin.location: origin for run in runs for origin in run.starts.values()}


def start_of(found: Reproduction, row: str = "EMOD-SoftVA") -> Origin:
    """The pretraining that a row of Table 3 has, whatever its seeds."""
    (origin,) = starts_of(found.experiment("table3").cells(), row).values()
    return origin


def run_of(origin: Origin) -> Run:
    assert origin.run is not None
    return origin.run


# Every row ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("table", "row"), ROWS)
def test_every_row_says_what_reproduces_it(table: PaperTable, row: PaperRow) -> None:
    assert row.reproduce is not None, "quoted only"
    kinds = [methods.get(stage.method).STAGES[stage.stage] for stage in row.reproduce.stages]
    fields = {name for kind in kinds for name in dotted_fields(kind.config_type)}
    assert set(row.reproduce.set) <= fields


@pytest.mark.parametrize("rehearsal", [False, True])
@pytest.mark.parametrize("table", TABLES)
def test_every_row_becomes_an_arm_whose_stage_can_be_made(
    corpus: Path, tmp_path: Path, table: str, rehearsal: bool
) -> None:
    found = reproduction(corpus, tmp_path, set={}, rehearsal=rehearsal)
    arms = found.experiment(table).arms
    assert [arm.row for arm in arms] == [row.name for row in found.rows(table)]
    for arm, row in zip(arms, found.rows(table), strict=True):
        assert row.reproduce is not None
        last = methods.get(arm.last.method).STAGES[arm.last.stage]
        assert last(arm.last.config, inputs_of(SPEC), {}).spec == SPEC
        assert arm.published == row.published
        for stage, asked in zip(arm.stages, row.reproduce.stages, strict=True):
            assert (stage.name, stage.method, stage.stage) == (
                asked.name,
                asked.method,
                asked.stage,
            )
            assert stage.starts == asked.starts
            kind = methods.get(stage.method).STAGES[stage.stage]
            values = dotted_values(stage.config)
            mine = {name: value for name, value in row.reproduce.set.items() if name in values}
            assert {name: values[name] for name in mine} == mine
            usual = kind.rehearsal() if rehearsal else kind.config_type()
            changed = {n for n, v in dotted_values(usual).items() if values[n] != v}
            assert changed <= {*mine, *["rounds_per_step"] * rehearsal}


@pytest.mark.parametrize("rehearsal", [False, True])
@pytest.mark.parametrize("table", TABLES)
def test_all_rows_of_a_table_are_trained_alike(
    corpus: Path, tmp_path: Path, table: str, rehearsal: bool
) -> None:
    found = reproduction(corpus, tmp_path, set={}, rehearsal=rehearsal)
    first, *others = (
        (arm.last.config.optimizer, arm.last.config.epochs, arm.last.config.batch_size)
        for arm in found.experiment(table).arms
    )
    assert all(other == first for other in others)


@pytest.mark.parametrize("row", [row.name for row in PAPER.tables["figure_3"].rows])
def test_what_figure_3_leaves_out_is_left_out_of_both_stages(
    corpus: Path, tmp_path: Path, row: str
) -> None:
    of_row = row_named(row, "figure_3").reproduce
    assert of_row is not None
    (field,) = of_row.set
    for kind in (Config, FinetuneConfig):
        assert dotted_fields(kind)[field] is bool
    plan = reproduction(corpus, tmp_path).experiment("figure3").cells()
    runs = [run for cell in plan if cell.arm.row == row for run in cell.runs]
    before = [run_of(origin) for origin in starts_of(plan, row).values()]
    assert runs
    assert before
    for run in (*runs, *before):
        encoder = run.config["encoder"]
        assert encoder[field.removeprefix("encoder.")] is False
        others = {name for name, value in encoder.items() if value is False}
        assert others == {field.removeprefix("encoder.")}


def misspelt(name: str) -> Paper:
    """The paper with a field in Table 3's last row that no stage has."""
    table = PAPER.tables["table_3"]
    last = replace(
        table.rows[-1], reproduce=Reproduce.chain("emod", ["pretrain", "finetune"], {name: 1})
    )
    return replace(
        PAPER,
        tables={**PAPER.tables, "table_3": replace(table, rows=(*table.rows[:-1], last))},
    )


def test_a_misspelt_field_of_a_row_is_refused_by_its_name(corpus: Path, tmp_path: Path) -> None:
    found = reproduction(corpus, tmp_path, paper=misspelt("loss.objektive"))
    with pytest.raises(ValueError, match=r"EMOD-SoftVA: no stage has the field loss\.objektive"):
        found.experiment("table3")


def test_a_row_that_is_quoted_only_is_no_arm(corpus: Path, tmp_path: Path) -> None:
    table = PAPER.tables["table_3"]
    rows = (replace(table.rows[0], reproduce=None), *table.rows[1:])
    paper = replace(PAPER, tables={**PAPER.tables, "table_3": replace(table, rows=rows)})
    found = reproduction(corpus, tmp_path, paper=paper).experiment("table3")
    assert [arm.row for arm in found.arms] == [row.name for row in table.rows[1:]]


def test_without_names_the_datasets_are_the_papers_in_its_order(
    corpus: Path, tmp_path: Path
) -> None:
    found = reproduction(corpus, tmp_path, datasets=())
    for table in TABLES:
        asked = found.experiment(table).evaluation
        assert [one.dataset for one in asked] == ["faced", "seed_v", "seed"]


def test_a_rehearsal_takes_the_papers_protocol_and_the_strictest(
    corpus: Path, tmp_path: Path
) -> None:
    def protocols(**changes: Any) -> list[str]:
        found = reproduction(corpus, tmp_path, rehearsal=True, set={}, **changes)
        return [cell.protocol for cell in found.experiment("table3").cells()[::4]]

    assert protocols() == ["paper_same_stimuli", "subjects_and_stimuli_apart"]
    asked = ("stimuli_apart_same_subjects", "paper_same_subjects")
    assert protocols(protocols=asked) == ["stimuli_apart_same_subjects"]


GRAPHS: dict[str, tuple[StageOfRow, ...]] = {
    "another start": (
        StageOfRow("pretrain", "pretrain", "emod"),
        StageOfRow("finetune", "finetune", "emod", {"teacher": "pretrain"}),
    ),
    "a fold's stage for all folds": (
        StageOfRow("first", "finetune", "emod"),
        StageOfRow("again", "pretrain", "emod", {"encoder": "first"}),
        StageOfRow("second", "finetune", "emod", {"encoder": "again"}),
    ),
    "no stage of a fold": (StageOfRow("pretrain", "pretrain", "emod"),),
    "nothing after a classifier's pretraining": (
        StageOfRow("first", "finetune", "emod"),
        StageOfRow("pretrain", "pretrain", "emod"),
    ),
}
SAID = {
    "another start": "EMOD-SoftVA finetune: need starts among encoder; got teacher",
    "a fold's stage for all folds": (
        "EMOD-SoftVA again: need starts of all folds for a stage over the corpus, got first, "
        "which is of one fold"
    ),
    "no stage of a fold": (
        "EMOD-SoftVA: need a last stage that tells classes of a fold, got pretrain"
    ),
    "nothing after a classifier's pretraining": (
        "EMOD-SoftVA: need a last stage that tells classes of a fold, got pretrain"
    ),
}


def with_stages(stages: tuple[StageOfRow, ...]) -> Paper:
    """The paper with Table 3's last row by other stages."""
    table = PAPER.tables["table_3"]
    last = replace(table.rows[-1], reproduce=Reproduce("emod", stages))
    rows = replace(table, rows=(*table.rows[:-1], last))
    return replace(PAPER, tables={**PAPER.tables, "table_3": rows})


@pytest.mark.parametrize("graph", GRAPHS)
def test_a_graph_that_no_run_can_follow_is_refused_with_its_row_and_stage(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, graph: str
) -> None:
    if graph == "a fold's stage for all folds":
        monkeypatch.setattr(Pretraining, "may_start_from", ("encoder",))
    found = reproduction(corpus, tmp_path, set={}, paper=with_stages(GRAPHS[graph]))
    with pytest.raises(ValueError, match=f"^{SAID[graph]}$"):
        found.experiment("table3")


def test_a_stage_that_no_method_has_is_refused(corpus: Path, tmp_path: Path) -> None:
    stages = Reproduce.chain("emod", ["pretrain", "train", "finetune"]).stages
    found = reproduction(corpus, tmp_path, set={}, paper=with_stages(stages))
    with pytest.raises(ValueError, match=r"need a stage of emod among .*; got 'train'"):
        found.experiment("table3")


def test_workers_that_cannot_share_a_step_are_refused_before_anything_is_planned(
    corpus: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="workers"):
        reproduction(corpus, tmp_path, n_workers=4).experiment("table3")


def test_a_stage_that_starts_from_nothing_says_so(corpus: Path, tmp_path: Path) -> None:
    stages = GRAPHS["a fold's stage for all folds"]
    found = reproduction(corpus, tmp_path, set={}, paper=with_stages(stages))
    with pytest.raises(ValueError, match="again: need starts among nothing; got encoder"):
        found.experiment("table3")


def test_a_stage_may_have_settings_of_its_own(corpus: Path, tmp_path: Path) -> None:
    def with_own(**own: Any) -> Reproduction:
        table, (first, second) = PAPER.tables["table_3"], GRAPHS["another start"]
        stages = (
            replace(first, set={"epochs": 11}),
            replace(second, starts={"encoder": "pretrain"}, set={"epochs": 13, **own}),
        )
        last = replace(table.rows[-1], reproduce=Reproduce("emod", stages))
        rows = replace(table, rows=(last,), reference=None)
        paper = replace(PAPER, tables={**PAPER.tables, "table_3": rows})
        return reproduction(corpus, tmp_path, set={}, paper=paper)

    (arm,) = with_own().experiment("table3").arms
    assert [stage.config.epochs for stage in arm.stages] == [11, 13]
    with pytest.raises(ValueError, match="EMOD-SoftVA finetune: no field epohcs"):
        with_own(epohcs=1).experiment("table3")
    found = replace(with_own(), set={"finetune.epochs": 3})
    with pytest.raises(ValueError, match=r"another setting than finetune\.epochs: it makes EMOD"):
        found.experiment("table3")


def test_the_full_model_is_the_same_runs_in_every_table(corpus: Path, tmp_path: Path) -> None:
    keys = []
    for table, row in (("table2", "EMOD"), ("table3", "EMOD-SoftVA"), ("figure3", "EMOD")):
        plan = reproduction(corpus, tmp_path).experiment(table).cells()
        keys.append(set(runs_of([cell for cell in plan if cell.arm.row == row])))
    assert keys[0] == keys[1] == keys[2]
    assert keys[0]


@pytest.mark.parametrize(
    ("changes", "needed"),
    [
        ({"datasets": ("deap",)}, "need datasets among faced, seed_v, seed; got deap"),
        ({"set": {"epochs": 3}}, "need settings like finetune.epochs, got 'epochs'"),
    ],
)
def test_a_reproduction_that_cannot_be_is_refused(
    corpus: Path, tmp_path: Path, changes: dict[str, Any], needed: str
) -> None:
    with pytest.raises(ValueError, match=needed):
        reproduction(corpus, tmp_path, **changes)


@pytest.mark.parametrize(
    ("asked", "got"),
    [
        ("deap", "deap, which has no ECG"),
        ("seed", "seed, which has no ECG"),
        ("mahnob_hci", "mahnob_hci"),
        ("drama", "drama"),
    ],
)
def test_a_dataset_without_the_signals_of_a_paper_is_told_so(asked: str, got: str) -> None:
    paper = published.load("ssl_ecg")
    needed = f"need datasets among amigos, dreamer, wesad, swell_kw; got {got}"
    with pytest.raises(ValueError, match=f"^{needed}$"):
        check_datasets(paper, ("dreamer", asked), paper.evaluated)


def test_only_a_table_with_a_pretraining_says_what_its_seeds_share(
    corpus: Path, tmp_path: Path
) -> None:
    emod = reproduction(corpus, tmp_path)
    assert any("pretraining" in note for note in emod.frame("table3").notes)
    by_fold = replace(emod, paper=published.load("ssl_ecg"), datasets=(), set={})
    assert not any("pretraining" in note for note in by_fold.frame("table_dreamer").notes)


def test_an_unknown_table_is_refused(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="need a table among table2, table3, figure3; got 'table9'"
    ):
        reproduction(corpus, tmp_path).experiment("table9")


# Settings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "needed"),
    [
        ({"finetun.epochs": 3}, r"need a setting of a stage among finetune, pretrain; got"),
        ({"train.epochs": 3}, r"need a setting of a stage among finetune, pretrain; got"),
        ({"finetune.epohcs": 3}, r"need a field of FinetuneConfig, got 'epohcs'"),
        ({"pretrain.epohcs": 3}, r"need a field of Config, got 'epohcs'"),
        ({"pretrain.epochs": 0}, r"epochs"),
        ({"finetune.encoder.d_model": 100}, r"need d_model divisible by n_heads"),
        ({"finetune.epochs": "many"}, r"need a whole number for epochs, got 'many'"),
        ({"finetune.seed": 3}, r"need seeds as such, got the setting 'finetune.seed'"),
        ({"pretrain.seed": 3}, r"need seeds as such, got the setting 'pretrain.seed'"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_before_anything_is_planned(
    corpus: Path, tmp_path: Path, settings: dict[str, Any], needed: str
) -> None:
    with pytest.raises(ValueError, match=needed):
        reproduction(corpus, tmp_path, set=settings).experiment("table3")


def test_settings_reach_every_row_that_has_the_stage_and_no_other(
    corpus: Path, tmp_path: Path
) -> None:
    found = reproduction(corpus, tmp_path, set={"pretrain.epochs": 7, "finetune.epochs": 9})
    for cell in found.experiment("table2").cells():
        assert {run.config["epochs"] for run in cell.runs} == {9 if cell.arm.row == "EMOD" else 50}
        before = [run_of(origin) for origin in starts_of([cell], cell.arm.row).values()]
        assert {run.config["epochs"] for run in before} == (
            {7} if cell.arm.row == "EMOD" else set()
        )


def test_settings_that_fit_each_other_may_come_in_any_order(corpus: Path, tmp_path: Path) -> None:
    # A width of 8 has no place for the paper's 16 heads: the two only fit together.
    pairs = [("finetune.encoder.d_model", 8), ("finetune.encoder.n_heads", 2)]
    configs = []
    for chosen in (pairs, pairs[::-1]):
        found = reproduction(corpus, tmp_path, set=dict(chosen))
        configs.append({str(arm.last.config) for arm in found.experiment("table3").arms})
    assert configs[0] == configs[1]


@pytest.mark.parametrize(
    ("table", "setting", "value", "row"),
    [
        ("table2", "train.model", "biot", "EEGNet"),
        ("table3", "pretrain.loss.objective", "soft_va", "EMOD-Augment"),
        ("figure3", "pretrain.encoder.time_tokens", True, "w/o TempDomain."),
        ("figure3", "finetune.encoder.time_tokens", True, "w/o TempDomain."),
    ],
)
def test_what_makes_a_row_cannot_be_set_for_all(
    corpus: Path, tmp_path: Path, table: str, setting: str, value: object, row: str
) -> None:
    found = reproduction(corpus, tmp_path, set={setting: value})
    with pytest.raises(ValueError, match=f"need another setting than {setting}: it makes {row}"):
        found.experiment(table)


# Pretraining --------------------------------------------------------------------------------------


def test_pretraining_takes_no_dataset_that_is_evaluated_on(corpus: Path, tmp_path: Path) -> None:
    assert {"faced", "seed"} < set(Catalog(str(corpus)).names)
    run = run_of(start_of(reproduction(corpus, tmp_path)))
    assert run.datasets == PRETRAINED
    assert set(open_data(run).seen()) == set(PRETRAINED)
    assert set(run.datasets) <= set(PAPER.pretraining)
    assert run == reproduction(corpus, tmp_path).full_pretraining()


def test_without_datasets_of_pretraining_only_what_starts_from_scratch_can_run(
    tmp_path: Path,
) -> None:
    alone = write_both(tmp_path / "corpus", evaluated=("faced",), pretrained=())
    plan = reproduction(alone, tmp_path).experiment("table3").cells()
    for cell in plan:
        assert bool(cell.runs) == (cell.arm.row == "EMOD-Scratch")
        if not cell.runs:
            assert "need datasets to pretrain on" in cell.error
            assert "got faced" in cell.error


CHANGES: dict[str, dict[str, Any]] = {
    "another setting": {"set": {**SETTINGS, "pretrain.optimizer.learning_rate": 1e-3}},
    "another setting of the plan": {"set": {**SETTINGS, "pretrain.rounds_per_step": 2}},
    "another length": {"set": {**SETTINGS, "pretrain.epochs": 3}},
    "another seed": {"seeds": (1, 0)},
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_pretraining_has_another_identity_and_place(
    corpus: Path, tmp_path: Path, change: str
) -> None:
    one = start_of(reproduction(corpus, tmp_path))
    other = start_of(reproduction(corpus, tmp_path, **CHANGES[change]))
    assert one.identity != other.identity
    assert one.location != other.location
    assert run_of(one).name != run_of(other).name


def test_other_segments_are_another_pretraining(corpus: Path, tmp_path: Path) -> None:
    fewer = write_both(tmp_path / "corpus", evaluated=("faced",), n_segments=29)
    one = start_of(reproduction(corpus, tmp_path))
    other = start_of(reproduction(fewer, tmp_path))
    assert one.identity["run"] != other.identity["run"]
    assert run_of(one).builds != run_of(other).builds


def test_each_row_of_table_3_has_its_own_pretraining(corpus: Path, tmp_path: Path) -> None:
    plan = reproduction(corpus, tmp_path).experiment("table3").cells()
    found = {cell.arm.row: starts_of(plan, cell.arm.row) for cell in plan}
    assert found.pop("EMOD-Scratch") == {}
    objectives = {
        row: [run_of(origin).config["loss"]["objective"] for origin in origins.values()]
        for row, origins in found.items()
    }
    assert objectives == {
        "EMOD-Augment": ["augment"],
        "EMOD-HardVA": ["hard_va"],
        "EMOD-SoftVA": ["soft_va"],
    }


def test_where_and_on_what_a_pretraining_runs_is_no_part_of_it(
    corpus: Path, tmp_path: Path
) -> None:
    one = start_of(reproduction(corpus, tmp_path / "here"))
    there = write_both(tmp_path / "copy", evaluated=("seed_v",))
    other = start_of(reproduction(there, tmp_path / "there", datasets=("seed_v",)))
    assert one.identity == other.identity
    assert run_of(one).corpus != run_of(other).corpus
    assert one.location.removeprefix(str(tmp_path / "here")) == other.location.removeprefix(
        str(tmp_path / "there")
    )


@pytest.mark.parametrize(("choice", "seeds_of"), [("one", (5, 5, 5)), ("each", (5, 3, 8))])
def test_one_pretraining_serves_all_seeds_or_each_has_its_own(
    corpus: Path, tmp_path: Path, choice: str, seeds_of: tuple[int, ...]
) -> None:
    found = reproduction(corpus, tmp_path, seeds=(5, 3, 8), pretrain_seeds=choice, folds="rotate")
    plan = found.experiment("table3").cells()
    cell = by_cell(plan)["EMOD-SoftVA", "faced", "paper_same_stimuli"]
    assert [run.seed for run in cell.runs] == [5, 3, 8]
    starts = [run.starts["encoder"] for run in cell.runs]
    assert tuple(run_of(origin).seed for origin in starts) == seeds_of
    before = [run for run in still_needed(runs_of(plan).values()).values() if not run.fold]
    assert len(before) == 3 * len(set(seeds_of))
    assert len({str(origin.identity) for origin in starts}) == len(set(seeds_of))
    (said,) = [note for note in found.frame("table3").notes if "retraining" in note]
    assert ("all seeds" in said) == (choice == "one")


CPU = torch.device("cpu")


def pretrain(origin: Origin) -> Storage:
    """The pretraining in this process; returns its folder."""
    run = run_of(origin)
    folder = Storage.at(origin.location.rpartition("/")[0])
    assert execute(run, folder=folder, device=CPU) is None
    return folder


def test_a_pretraining_ends_with_the_checkpoint_that_was_foretold(
    corpus: Path, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    found = reproduction(corpus, tmp_path)
    origin = start_of(found)
    assert not is_ended(origin)
    folder = pretrain(origin)
    assert is_ended(origin)
    assert driver.has_ended(folder, run_of(origin))
    assert driver.last_checkpoint(folder) == origin.location
    left = origin_of(checkpoint.describe(Path(origin.location)), origin.location)
    assert left.to_plain() == origin.to_plain()
    # A run takes the weights, and the audit finds nobody of the test set behind them.
    cell = by_cell(found.experiment("table3").cells())[
        "EMOD-SoftVA", "faced", "subjects_and_stimuli_apart"
    ]
    run = cell.runs[0]
    row = execute(run, folder=Storage.at(tmp_path / "own"), device=CPU)
    assert row is not None
    assert (row.key, row.starts, row.verdict) == (run.key, run.plain_starts(), "clean")
    assert row.starts["encoder"]["run"] == run_of(origin).key
    assert row.lineage == {"encoder": run_of(origin).config}
    assert from_dict(FinetuneConfig, row.config) == TINY


def test_weights_of_another_pretraining_in_its_place_are_refused(
    corpus: Path, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    found = reproduction(corpus, tmp_path)
    hard = start_of(found, "EMOD-HardVA")
    pretrain(hard)
    cell = by_cell(found.experiment("table3").cells())["EMOD-SoftVA", "faced", "paper_same_stimuli"]
    run = cell.runs[0]
    elsewhere = replace(run.starts["encoder"], location=hard.location)
    swapped = replace(run, starts={"encoder": elsewhere})
    assert swapped.key == run.key
    needed = r"need the checkpoint that was asked for.*\(run, config\)"
    with pytest.raises(ValueError, match=needed):
        execute(swapped, folder=Storage.at(tmp_path / "own"), device=CPU)
