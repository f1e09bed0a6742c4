"""Numbers as words, and which of them stand in which table."""

from __future__ import annotations

from dataclasses import replace

import pytest

from emoray.evaluation.statistics import Interval, Summary
from emoray.reports import grids
from emoray.reports.grids import Grid
from emoray.results.comparison import Block, Cell, Comparison, Paired
from tests.reports.comparisons import ARMS, runs, table2, table3, with_cells, with_runs

SEED_PAPER = "paper_same_subjects_same_stimuli"


def block_of(found: Comparison, protocol: str = SEED_PAPER, dataset: str = "seed") -> Block:
    (block,) = (b for b in found.blocks if (b.dataset, b.protocol) == (dataset, protocol))
    return block


def column(grid: Grid, title: str) -> list[str]:
    (i,) = (i for i, c in enumerate(grid.columns) if c.title == title)
    return [row[i] for row in grid.rows]


# Numbers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, ""),
        (0.04, "0.0 s"),
        (0.84, "0.8 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (41.4, "41 s"),
        (59.6, "1 min 0 s"),
        (200.0, "3 min 20 s"),
        (3599.7, "1 h 0 min"),
        (7500.0, "2 h 5 min"),
    ],
)
def test_durations_are_said_as_people_say_them(seconds: float | None, said: str) -> None:
    assert grids.duration(seconds) == said


@pytest.mark.parametrize(
    ("n", "said"),
    [(845_384, "0.85 M"), (98_700_000, "98.70 M"), (3_112, "0.0031 M"), (387, "387")],
)
def test_parameters_are_millions_and_small_ones_keep_two_digits(n: int, said: str) -> None:
    assert grids.millions(n) == said


@pytest.mark.parametrize(
    ("p", "said"),
    [
        (None, ""),
        (0.0124, "p = 0.012"),
        (0.00099, "p < 0.001"),
        (0.001, "p = 0.001"),
        (1.0, "p = 1.000"),
    ],
)
def test_p_has_three_decimals_or_is_below_the_last(p: float | None, said: str) -> None:
    assert grids.p_value(Paired(5, 1.0, None, p)) == said


def test_scores_have_two_decimals_and_a_deviation_where_there_is_one() -> None:
    assert grids.mean_sd(Summary(5, 57.1, 1.2, None)) == "57.10 ± 1.20"
    assert grids.mean_sd(Summary(1, 57.1, None, None)) == "57.10"
    assert grids.mean_sd(None) == ""


def test_intervals_of_differences_carry_their_signs() -> None:
    interval = Interval(1.0, -0.5, 2.5, 5)
    assert grids.bounds(interval) == "[-0.50, 2.50]"
    assert grids.bounds(interval, signed=True) == "[-0.50, +2.50]"
    assert grids.bounds(None) == ""


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        (Cell("a"), ""),
        (Cell("a", n_wanted=5), ""),
        (Cell("a", results=runs(0.5), n_wanted=5), "5"),
        (Cell("a", results=runs(0.5, seeds=(0, 2, 4)), n_wanted=5), "3 of 5"),
        (Cell("a", n_wanted=5, errors=("no memory",)), "0 of 5"),
        (
            Cell("a", {}, runs(0.5, folds=("1", "2"), seeds=range(4)), 10, (), 2),
            "4 of 5",
        ),
        (Cell("a", {}, runs(0.5, folds=("1",), seeds=range(4)), 10, (), 2), "0 of 5"),
    ],
)
def test_n_counts_complete_seeds_and_says_what_is_missing(cell: Cell, said: str) -> None:
    assert grids.seeds(cell) == said


def test_a_name_cannot_break_a_line() -> None:
    assert grids.one_line("a\nb\r\n\tc\x1b[31m\x00d") == "a b c [31m d"


@pytest.mark.parametrize(
    ("verdict", "tone"),
    [
        ("clean", "good"),
        ("same subjects, same stimuli", "mixed"),
        ("LEAK: neighbour in train (12 segments)", "bad"),
        ("same stimuli; CONTAMINATED: pretraining saw subject 07", "bad"),
    ],
)
def test_a_verdicts_tone_is_that_of_its_worst_part(verdict: str, tone: str) -> None:
    assert grids.tone(verdict) == tone


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("table3", "Table 3"),
        ("table_2", "Table 2"),
        ("figure3", "Figure 3"),
        ("my arms", "my arms"),
    ],
)
def test_tables_are_called_as_the_paper_calls_them(name: str, said: str) -> None:
    assert grids.label(replace(table3(), name=name)) == said


# Grids --------------------------------------------------------------------------------------------


def test_the_papers_protocol_comes_first_whatever_the_order() -> None:
    found = table3()
    turned = replace(found, blocks=found.blocks[::-1])
    for _, blocks in grids.datasets(turned):
        assert [block.is_paper for block in blocks] == [True] + [False] * (len(blocks) - 1)
    assert [name for name, _ in grids.datasets(turned)] == ["SEED", "SEED-V", "FACED"]


def test_every_row_stands_in_the_scores_with_the_comparisons_numbers() -> None:
    block = block_of(table2())
    grid = grids.scores(block, {})
    assert [row[0] for row in grid.rows] == [cell.row for cell in block.cells]
    for metric in ("bacc", "kappa", "wf1"):
        found = zip(block.cells, column(grid, f"{grids.title(metric)} ours"), strict=True)
        for cell, text in found:
            summary = cell.summary(metric)
            assert summary is not None
            assert text == f"{summary.mean:.2f} ± {summary.sd:.2f}"


def test_published_numbers_that_the_paper_lacks_are_blank() -> None:
    grid = grids.scores(block_of(table2()), {})
    published = dict(zip(column(grid, "method"), column(grid, "BACC published"), strict=True))
    assert published["LaBraM-Base"] == ""
    assert published["EMOD"] == "61.14 ± 0.83"


def test_published_columns_are_left_out_where_the_paper_has_no_such_protocol() -> None:
    grid = grids.scores(block_of(table3(), "subjects_apart_same_stimuli"), {})
    assert not [c.title for c in grid.columns if "published" in c.title]
    assert len([c.title for c in grid.columns if c.title.endswith("ours")]) == 3


def test_where_nothing_ran_ours_is_a_blank_column() -> None:
    grid = grids.scores(block_of(table3(), "paper_same_stimuli", "faced"), {})
    for name in ("BACC", "kappa", "WF1"):
        assert column(grid, f"{name} ours") == [""] * 4
    assert column(grid, "n") == [""] * 4
    assert "audit" not in {c.title for c in grid.columns}


def test_a_metric_without_a_published_deviation_has_its_mean_alone() -> None:
    cell = Cell("theirs", {"acc": (62.4, None), "auc": (64.8, 1.0)})
    assert [grids.published(cell, m) for m in ("acc", "f1", "auc")] == ["62.40", "", "64.80 ± 1.00"]


def test_differences_are_those_of_the_comparison_and_the_reference_row_has_none() -> None:
    found = table3()
    block = block_of(found)
    grid = grids.differences(block, "EMOD-Scratch")
    assert grid is not None
    assert column(grid, "method") == [name for name in ARMS if name != "EMOD-Scratch"]
    reference, soft = block.cell("EMOD-Scratch"), block.cell("EMOD-SoftVA")
    assert reference is not None
    assert soft is not None
    paired = soft.against(reference, "kappa")
    assert paired is not None
    assert column(grid, "kappa difference")[-1] == f"{paired.mean:+.2f}"
    assert column(grid, "kappa t-test")[-1] == grids.p_value(paired)


def test_without_a_reference_there_are_intervals_and_no_differences() -> None:
    block = block_of(table3())
    grid = grids.certainty(block, None)
    assert grid is not None
    assert [c.title for c in grid.columns] == ["method", "metric", "95 % interval"]
    assert all(column(grid, "95 % interval"))
    assert grids.differences(block, None) is None


def test_fewer_pairs_than_seeds_are_told() -> None:
    def three_of_scratch(_: Block, cell: Cell) -> Cell:
        kept = tuple(row for row in cell.results if cell.row != "EMOD-Scratch" or row.seed < 3)
        return replace(cell, results=kept)

    grid = grids.differences(block_of(with_cells(table3(), three_of_scratch)), "EMOD-Scratch")
    assert grid is not None
    assert all(text.endswith(" (n 3)") for text in column(grid, "BACC difference"))


def test_each_metric_of_a_row_has_its_line_and_the_name_stands_once() -> None:
    grid = grids.certainty(block_of(table3()), "EMOD-Scratch")
    assert grid is not None
    assert column(grid, "method")[:6] == ["EMOD-Scratch", "", "", "EMOD-Augment", "", ""]
    assert column(grid, "metric") == ["BACC", "kappa", "WF1"] * 4


def test_parameters_are_published_encoder_and_head() -> None:
    grid = grids.costs(block_of(table2()), table2().published_parameters)
    assert grid is not None
    assert column(grid, "parameters published")[0] == "0.003 M"
    assert column(grid, "parameters published")[-2] == "4.0 M"
    assert set(column(grid, "parameters encoder")) == {"0.85 M"}
    assert set(column(grid, "parameters head")) == {"0.0046 M"}
    assert column(grid, "weights")[:2] == ["from scratch", "pretrained by emod on 8 datasets"]
    assert column(grid, "a run")[:2] == ["40 s", "41 s"]


def test_a_dataset_stands_side_by_side_over_its_protocols() -> None:
    found = table3()
    (blocks,) = (blocks for name, blocks in grids.datasets(found) if name == "SEED")
    grid = grids.side_by_side(blocks)
    assert grid is not None
    assert column(grid, "published")[-1] == "61.14 ± 0.83"
    for block in blocks:
        cell = block.cell("EMOD-SoftVA")
        assert cell is not None
        assert column(grid, f"ours {block.protocol}")[-1] == grids.mean_sd(cell.summary("bacc"))


def test_one_protocol_alone_stands_beside_nothing() -> None:
    (blocks,) = (blocks for name, blocks in grids.datasets(table3()) if name == "SEED")
    assert grids.side_by_side(blocks[:1]) is None


def test_side_by_side_a_doubtful_number_says_why() -> None:
    verdict = {"verdict": "CONTAMINATED: pretraining saw subject 07"}
    found = with_runs(table3(), "EMOD-SoftVA", audit=verdict)
    found = with_cells(found, lambda _, cell: replace(cell, n_wanted=2 * cell.n_wanted))
    (blocks,) = (blocks for name, blocks in grids.datasets(found) if name == "SEED")
    grid = grids.side_by_side(blocks)
    assert grid is not None
    *others, soft = column(grid, f"ours {SEED_PAPER}")
    assert soft.endswith(" (5 of 10, CONTAMINATED)")
    assert all(text.endswith(" (5 of 10)") for text in others)


def test_what_did_not_run_is_listed_by_dataset_and_protocol() -> None:
    assert grids.not_run(table3()) == [
        ("FACED", [b.protocol for b in table3().blocks if b.dataset == "faced"]),
        ("SEED-V", [b.protocol for b in table3().blocks if b.dataset == "seed_v"]),
    ]


def seed_block(*cells: Cell) -> Block:
    return Block("seed", "seed", "SEED", SEED_PAPER, True, "", ("bacc",), cells)


def test_remarks_are_short_and_keep_the_whole_error() -> None:
    error = "RuntimeError: " + "very " * 100 + "long\n  at line 3"
    cell = Cell("EMOD", n_wanted=5, errors=(error, "second"))
    (remark,) = grids.remarks(
        Block("seed", "seed", "SEED", SEED_PAPER, True, "", ("bacc",), (cell,))
    )
    assert remark.short.startswith("2 runs failed: RuntimeError: very")
    assert "\n" not in remark.short
    assert len(remark.short) < 200
    assert remark.full == f"{error}\n\nsecond"


def test_runs_that_failed_alike_are_counted_and_their_error_is_told_once() -> None:
    cell = Cell("EMOD", n_wanted=25, errors=("out of memory",) * 24 + ("disk full",))
    (remark,) = grids.remarks(
        Block("seed", "seed", "SEED", SEED_PAPER, True, "", ("bacc",), (cell,))
    )
    assert remark.short == "25 runs failed: out of memory"
    assert remark.full == "24 runs: out of memory\n\ndisk full"


def test_seeds_without_all_folds_are_told() -> None:
    cell = Cell("EMOD", {}, runs(0.5, folds=("1",), seeds=(3,)), 10, (), 2)
    found = Block("faced", "faced", "F", "paper_same_stimuli", True, "", ("bacc",), (cell,))
    (remark,) = grids.remarks(found)
    assert remark.short == "1 seed without all folds, in no number here"
