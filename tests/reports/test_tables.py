"""The four written formats, and the page as a fifth where the claim is about all."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from emoray.evaluation.metrics import METRICS
from emoray.reports import grids, page, tables
from emoray.results.comparison import Block, Cell, Comparison
from emoray.results.store import ResultRow
from tests.reports.comparisons import ARMS, FAMILY, runs, table2, table3, with_cells, with_runs

MARK = "rehearsal data"
HOSTILE = 'a|b <script>x</script> %_&,"q"$#~^\\{}\nnew*line* [l](u) `c`'
LONG_ERROR = "OutOfMemoryError: " + "tried to allocate " * 40 + "\n  File line 3\nAND THE END"


def terminal(comparison: Comparison, *, width: int = 100, colours: bool = False) -> str:
    said = io.StringIO()
    system = "truecolor" if colours else None
    console = Console(file=said, width=width, force_terminal=colours, color_system=system)
    console.print(tables.terminal(comparison))
    return said.getvalue()


FORMATS: dict[str, Callable[[Comparison], str]] = {
    "terminal": terminal,
    "csv": tables.csv,
    "markdown": tables.markdown,
    "latex": tables.latex,
    "page": page.render,
}
every_format = pytest.mark.parametrize("name", FORMATS)


def plain(text: str) -> str:
    """As a reader sees it: signs of the formats away, all in one line."""
    text = text.replace(r"$\pm$", "±").replace("$-$", "-").replace("\N{MINUS SIGN}", "-")
    return " ".join(re.sub(r"<[^>]*>|\\", "", text).split())


def renamed(row: str, name: str, found: Comparison) -> Comparison:
    def change(_: Block, cell: Cell) -> Cell:
        return replace(cell, row=name) if cell.row == row else cell

    return with_cells(found, change)


def failing(found: Comparison, row: str) -> Comparison:
    """The same, with one row that failed in each seed on SEED."""

    def change(block: Block, cell: Cell) -> Cell:
        if cell.row != row or block.dataset != "seed":
            return cell
        return replace(cell, results=(), errors=(LONG_ERROR, "ANOTHER"))

    return with_cells(found, change)


# All formats --------------------------------------------------------------------------------------


@every_format
def test_every_row_and_every_number_of_a_run_block_is_there(name: str) -> None:
    found = table2()
    said = plain(FORMATS[name](found)).replace("±", " ± ").replace("  ", " ")
    (block,) = (b for b in found.blocks if b.is_paper and b.dataset == "seed")
    for cell in block.cells:
        assert cell.row in said
        for metric in block.metrics:
            summary, quote = cell.summary(metric), cell.published.get(metric)
            assert summary is not None
            if name == "csv":
                assert repr(summary.mean) in said
                continue
            assert f"{summary.mean:.2f} ± {summary.sd:.2f}" in said
            if quote:
                assert f"{quote[0]:.2f} ± {quote[1]:.2f}" in said


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "terminal"])
def test_published_numbers_are_seen_where_nothing_ran(name: str) -> None:
    found = table2(datasets=())
    said = plain(FORMATS[name](found))
    for block in found.blocks:
        for cell in block.cells:
            for mean, sd in cell.published.values():
                assert (f",{mean},{sd}," if name == "csv" else f"{mean:.2f} ± {sd:.2f}") in said
    assert ",3500000," in said if name == "csv" else "3.5 M" in said


@every_format
@pytest.mark.parametrize("datasets", [(), ("seed",)])
def test_nothing_is_invented_for_what_did_not_run(name: str, datasets: tuple[str, ...]) -> None:
    said = FORMATS[name](table3(datasets=datasets))
    assert not re.search(r"\b(nan|NaN|None|null)\b", said)
    assert "0.00 ±" not in said
    assert "0 of 5" not in said


@every_format
def test_rehearsal_data_say_so_and_nothing_else_does(name: str) -> None:
    assert MARK in FORMATS[name](table3(rehearsal=True))
    assert MARK not in FORMATS[name](table3())


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "csv"])
def test_every_table_of_rehearsal_data_is_marked(name: str) -> None:
    """What is cut out of a report still says what it is."""
    found = table3(rehearsal=True)
    ours = len([block for block in found.blocks if grids.ran(block)])
    assert FORMATS[name](found).count(MARK) >= ours + 2  # side by side, and the title


@every_format
def test_names_and_words_are_shown_letter_for_letter(name: str) -> None:
    found = renamed("EMOD-HardVA", HOSTILE, table3(notes=(f"note {HOSTILE}",)))
    found = with_runs(found, HOSTILE, audit={"verdict": f"LEAK: {HOSTILE}"})
    said = FORMATS[name](found)
    assert "<script>" not in said or name in ("csv", "terminal", "markdown")
    assert UNHARMED[name] in (said if name == "csv" else " ".join(said.split()))


UNHARMED = {
    "terminal": "LEAK: a|b",
    "csv": '"a|b <script>x</script> %_&,""q""$#~^\\{}\nnew*line* [l](u) `c`"',
    "markdown": r"| a\|b \<script\>x\</script\> %\_\&,"
    r'"q"\$\#\~^\\{} new\*line\* [l\](u) \`c\` |',
    "latex": r"a\textbar{}b \textless{}script\textgreater{}x\textless{}/script\textgreater{} "
    r"\%\_\&,''q''\$\#\textasciitilde{}\textasciicircum{}\textbackslash{}\{\} new*line* [l](u) `c`",
    "page": "a|b &lt;script&gt;x&lt;/script&gt; %_&amp;,&#34;q&#34;$#~^\\{} new*line* [l](u) `c`",
}


@pytest.mark.parametrize("name", ["terminal", "markdown", "latex"])
def test_failures_are_told_shortly(name: str) -> None:
    said = plain(FORMATS[name](failing(table3(), "EMOD-HardVA")))
    assert "EMOD-HardVA: 2 runs failed: OutOfMemoryError: tried to allocate" in said
    assert "0 of 5" in said
    assert "AND THE END" not in said
    assert "ANOTHER" not in said


@pytest.mark.parametrize("name", ["csv", "page"])
def test_failures_are_told_in_full_where_there_is_room(name: str) -> None:
    assert LONG_ERROR in FORMATS[name](failing(table3(), "EMOD-HardVA"))


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "csv"])
def test_notes_stand_below(name: str) -> None:
    said = plain(FORMATS[name](table3(notes=("One pretraining serves all seeds.",))))
    assert said.rindex("One pretraining serves all seeds.") > said.rindex("EMOD-SoftVA")


@pytest.mark.parametrize("name", ["terminal", "markdown", "page"])
def test_the_legend_explains_what_the_signs_mean(name: str) -> None:
    said = plain(FORMATS[name](table3()))
    for term, meaning in grids.legend(table3()):
        assert term in said
        assert plain(meaning) in said or name == "page"  # there, apostrophes are written otherwise
    assert "does not speak of other people" in said


@every_format
def test_a_comparison_without_blocks_is_still_a_report(name: str) -> None:
    said = FORMATS[name](replace(table3(), blocks=()))
    assert "Effect of pretraining components" in said or name == "csv"
    assert "EMOD-Scratch" not in said or name in ("terminal", "markdown", "page")  # the legend


# Terminal -----------------------------------------------------------------------------------------


def wide() -> Comparison:
    """Table 2 at its widest: seeds are missing, deviations are large, kappas below zero."""

    def change(_: Block, cell: Cell) -> Cell:
        if not cell.results:
            return cell
        folds = tuple(dict.fromkeys(row.fold for row in cell.results))
        fields = {
            name: getattr(cell.results[0], name)
            for name in ("dataset", "protocol", "builds", "audit", "starts")
        }
        some = [runs(0.05 + 0.2 * i, seeds=(i,), folds=folds, **fields) for i in range(3)]
        return replace(cell, results=tuple(row for found in some for row in found))

    return with_cells(table2(), change)


@pytest.mark.parametrize("found", [table2(rehearsal=True), wide(), table3(rehearsal=True)])
def test_100_columns_hold_every_table_without_cutting(found: Comparison) -> None:
    said = terminal(found)
    assert max(map(len, said.splitlines())) <= 100
    assert "…" not in said
    names = {cell.row for block in found.blocks for cell in block.cells}
    starts = [line.split("  ")[0] for line in said.splitlines()]
    for name in names:
        assert starts.count(name) >= 4 * 3  # scores, intervals and cost of each protocol
    assert not re.search(r"\d ?±\s*$", said, re.MULTILINE), "a number goes on in the next line"


def test_the_widest_table_is_wide() -> None:
    """What the test above holds for is no easy case."""
    (line, *_) = re.findall(
        r"^CBraMod .* -\d+\.\d\d±\d\d\..* 3 of 5$", terminal(wide()), re.MULTILINE
    )
    assert len(line) > 95


def test_a_narrow_terminal_loses_no_digit() -> None:
    said = re.sub(r"\s", "", terminal(table3(), width=60))
    (block,) = (b for b in table3().blocks if b.is_paper and b.dataset == "seed")
    for cell in block.cells:
        for mean, sd in cell.published.values():
            assert f"{mean:.2f}" in said
            assert f"{sd:.2f}" in said


def test_colours_carry_nothing_that_words_do_not() -> None:
    found = failing(table3(rehearsal=True), "EMOD-HardVA")
    coloured = terminal(found, colours=True)
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == terminal(found)


def test_blocks_without_runs_are_listed_and_not_drawn() -> None:
    said = terminal(table3(datasets=()))
    assert "Not run" in said
    assert "FACED: paper_same_stimuli, stimuli_apart_same_subjects" in said
    assert "±" not in said.split("BACC, kappa, WF1")[0]


# CSV ----------------------------------------------------------------------------------------------


def lines_of(found: Comparison) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(tables.csv(found), newline="")))


def test_csv_has_one_line_for_each_row_block_and_metric() -> None:
    found = table2()
    lines = lines_of(found)
    keys = [(x["dataset"], x["protocol"], x["method"], x["metric"]) for x in lines]
    assert len(set(keys)) == len(keys) == 11 * len(found.blocks) * 3


def test_csv_has_the_comparisons_numbers_in_full() -> None:
    found = table3()
    block = found.blocks[-1]
    cell, reference = block.cells[-1], block.cells[0]
    line = lines_of(found)[-1]
    summary, paired = cell.summary("wf1"), cell.against(reference, "wf1")
    assert summary is not None
    assert paired is not None
    assert summary.interval is not None
    assert paired.interval is not None
    assert (float(line["mean"]), float(line["sd"])) == (summary.mean, summary.sd)
    assert (float(line["low"]), float(line["high"])) == (
        summary.interval.low,
        summary.interval.high,
    )
    assert (float(line["difference"]), float(line["p"])) == (paired.mean, paired.p)
    assert float(line["difference_low"]) == paired.interval.low
    assert float(line["difference_high"]) == paired.interval.high
    assert (line["reference"], line["pairs"]) == ("EMOD-Scratch", "5")
    assert (line["n"], line["n_wanted"], line["audit"]) == ("5", "5", FAMILY)
    assert (line["encoder_parameters"], line["head_parameters"]) == ("845384", "4616")
    assert (line["seconds_a_run"], line["weights"]) == ("43.0", "pretrained by emod on 8 datasets")


def test_csv_is_empty_where_there_is_nothing() -> None:
    line = lines_of(table3())[0]
    filled = {name for name, text in line.items() if text}
    assert line["dataset"] == "faced"
    assert filled == {
        *("table", "dataset", "protocol", "is_paper", "method", "metric"),
        *("published_mean", "published_sd", "n_wanted"),
    }


def test_csv_reads_back_the_names_as_they_are() -> None:
    lines = lines_of(renamed("EMOD-HardVA", HOSTILE, table3()))
    assert HOSTILE in {line["method"] for line in lines}


def test_csv_marks_the_lines_that_ran_on_rehearsal_data() -> None:
    marked = {(x["dataset"], x["data"]) for x in lines_of(table3(rehearsal=True))}
    assert marked == {("faced", ""), ("seed_v", ""), ("seed", MARK)}


# Markdown -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("hostile", [False, True])
def test_markdown_tables_have_as_many_cells_in_each_line(hostile: bool) -> None:
    found = renamed("EMOD-HardVA", HOSTILE, table3()) if hostile else table3()
    said = tables.markdown(found)
    blocks = re.findall(r"(?:^\|.*\n)+", said, re.MULTILINE)
    assert len(blocks) == 2 + 1 + 4 * 3
    for block in blocks:
        counts = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(counts) == 1


def test_markdown_shows_a_note_as_text_whatever_it_begins_with() -> None:
    said = tables.markdown(table3(notes=("# no heading", "- no list", "1. no list", "= x")))
    assert "- \\# no heading\n- \\- no list\n- 1\\. no list\n- \\= x\n" in said


# LaTeX --------------------------------------------------------------------------------------------


def test_latex_floats_are_whole_and_say_what_n_is() -> None:
    said = tables.latex(table3(rehearsal=True))
    floats = re.findall(r"\\begin\{table\*\}.*?\\end\{table\*\}", said, re.DOTALL)
    assert len(floats) == said.count(r"\begin{table*}") == 2 + 1 + 4 * 3
    for text in floats:
        assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [
            1,
            1,
            1,
        ]
        caption = re.findall(r"\\caption\{(.*)\}", text)[0]
        assert "n complete seeds" in caption or "Scores" not in caption
        assert (MARK in caption) == ("SEED," in caption or "SEED." in caption)


@pytest.mark.parametrize("found", [table2(), renamed("EMOD-HardVA", HOSTILE, table3())])
def test_latex_rows_have_as_many_cells_as_columns(found: Comparison) -> None:
    said = tables.latex(found)
    assert re.sub(r"\\[{}]", "", said).count("{") == re.sub(r"\\[{}]", "", said).count("}")
    for kinds, body in re.findall(
        r"\\begin\{tabular\}\{@\{\}(.*?)@\{\}\}\n(.*?)\\end\{tabular\}", said, re.DOTALL
    ):
        n_columns = len(re.sub(r"p\{[^}]*\}", "p", kinds))
        for row in re.findall(r"^(?!.*multicolumn)(.*) \\\\$", body, re.MULTILINE):
            assert len(re.findall(r"(?<!\\)&", row)) + 1 == n_columns


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles_with_nothing_sticking_out(tmp_path: Path) -> None:
    found = failing(table2(notes=(HOSTILE,)), "BIOT")
    (tmp_path / "table.tex").write_text(tables.latex(renamed("MACTN", HOSTILE[:20], found)))
    (tmp_path / "paper.tex").write_text(
        "\\documentclass[10pt,twocolumn]{article}\n\\usepackage[letterpaper,margin=0.75in]{geometry}"
        "\n\\usepackage{booktabs}\n\\begin{document}\\input{table.tex}\\end{document}\n"
    )
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        errors="replace",
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull \\hbox" not in done.stdout


def test_every_arm_is_in_the_fixture() -> None:
    """The tests above speak of Table 3: it has these rows and no others."""
    assert [cell.row for cell in table3().blocks[0].cells] == list(ARMS)


# Other metrics ------------------------------------------------------------------------------------

OTHERS = ("acc", "f1", "auc")


def told_by(metrics: tuple[str, ...]) -> Comparison:
    """Table 3 as a paper of other metrics would have it."""
    found = table3()
    blocks = tuple(
        replace(
            block,
            metrics=metrics,
            cells=tuple(
                replace(
                    cell,
                    published={"acc": (62.4, None)} if cell.published else {},
                    results=tuple(map(with_area, cell.results)),
                )
                for cell in block.cells
            ),
        )
        for block in found.blocks
    )
    return replace(found, blocks=blocks)


def with_area(row: ResultRow) -> ResultRow:
    return replace(row, scores={**row.scores, "auc": 0.5 + row.scores["acc"] / 2})


@every_format
def test_a_table_prints_the_metrics_that_it_names_and_no_other(name: str) -> None:
    said = plain(FORMATS[name](told_by(OTHERS)))
    for word in ("acc", "f1", "auc") if name == "csv" else ("ACC", "F1", "AUC"):
        assert word in said
    assert ("accuracy" in said) == (name not in ("csv", "latex"))  # the legend
    for word in ("BACC", "kappa", "WF1", "alanced", "bacc", "wf1"):
        assert word not in said
    assert "62.4" in said


@pytest.mark.parametrize("n", range(1, 7))
def test_tables_of_any_number_of_metrics_fit_the_terminal(n: int) -> None:
    metrics = ("bacc", "kappa", "wf1", "acc", "f1", "auc")[:n]
    said = FORMATS["terminal"](told_by(metrics))
    assert max(map(len, said.splitlines())) <= tables.WIDTH
    for metric in metrics:
        assert METRICS[metric].title in said
