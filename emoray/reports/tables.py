"""One comparison as terminal text, CSV, Markdown and LaTeX: published beside ours, blanks blank.

The four say the same in the same tables (`grids`); CSV alone has full precision.
"""

from __future__ import annotations

import csv as csv_format
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from emoray.evaluation.statistics import Interval
from emoray.reports import grids
from emoray.reports.grids import Column, Grid, one_line
from emoray.reports.summary import REHEARSAL_MARK, heading
from emoray.results.comparison import Block, Cell, Comparison, Paired

WIDTH = 100
"""Columns of a terminal into which every table fits."""
_GAP = 2
_LEAST_NAME = 8
_HEAD = 16
"""Characters of a head before it goes on in the next line."""
_STYLES = {"good": "green", "mixed": "yellow", "bad": "bold red"}

# Terminal -----------------------------------------------------------------------------------------


def terminal(comparison: Comparison) -> RenderableType:
    """For a terminal of 100 columns or more, with or without colours.

    A dataset's protocols stand together, the paper's first. Blocks in which nothing ran are listed
    by name at the end: their published numbers are in the other formats.
    """
    title = f"{grids.label(comparison)}: {one_line(comparison.caption)}"
    parts: list[RenderableType] = [
        heading(title, rehearsal=comparison.rehearsal),
        Text(one_line(comparison.title), style="dim"),
    ]
    for name, blocks in grids.datasets(comparison):
        shown = [block for block in blocks if grids.ran(block)]
        if (overview := grids.side_by_side(blocks)) is not None:
            marked = any(grids.is_rehearsal(block) for block in shown)
            parts += ["", heading(f"{name}: {overview.title}", rehearsal=marked), _rich(overview)]
        for block in shown:
            parts += ["", *_block(block, comparison)]
    return Group(*parts, *_below(comparison))


def _block(block: Block, comparison: Comparison) -> Iterator[RenderableType]:
    yield heading(grids.heading(block), rehearsal=grids.is_rehearsal(block))
    yield Text(one_line(block.words), style="dim")
    first, *others = grids.of_block_narrow(block, comparison, sizes=False)
    yield _rich(first)
    for grid in others:
        yield from ("", Text(grid.title, style="dim"), _rich(grid))
    if found := grids.remarks(block):
        yield ""
        yield from (Text(f"{remark.row}: {remark.short}", style="red") for remark in found)


def _below(comparison: Comparison) -> Iterator[RenderableType]:
    if missing := grids.not_run(comparison):
        yield from ("", Text("Not run", style="bold"))
        yield from (Text(f"{name}: {', '.join(protocols)}") for name, protocols in missing)
    if comparison.notes:
        yield from ("", Text("Notes", style="bold"))
        yield from (Text(one_line(note)) for note in comparison.notes)
    if not comparison.blocks:
        return
    words = Table(box=None, pad_edge=False, show_header=False, padding=(0, _GAP, 0, 0))
    words.add_column(style="dim")
    words.add_column(style="dim", overflow="fold")
    for term, meaning in grids.legend(comparison):
        words.add_row(Text(term), Text(meaning))
    yield from ("", words)


def _rich(grid: Grid) -> Table:
    """Numbers stay whole: where a line is short, they close up, then the names go on below."""
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    heads, longest = _heads(grid), max(len(row[0]) for row in grid.rows)
    grid = _numbers_with(grid, " (", "\n(")
    if _for_names(grid, heads) < longest:
        grid = _numbers_with(grid, " ± ", "±")
    name_width = max(_LEAST_NAME, min(longest, _for_names(grid, heads)))
    for column, head in zip(grid.columns, heads, strict=True):
        table.add_column(
            Text("\n".join(head)),
            justify="right" if column.kind == "number" else "left",
            width=name_width if column.kind == "name" else None,
            overflow="fold",
        )
    for row in grid.rows:
        table.add_row(*(_styled(*pair) for pair in zip(grid.columns, row, strict=True)))
    return table


def _numbers_with(grid: Grid, old: str, new: str) -> Grid:
    pairs = ([*zip(grid.columns, row, strict=True)] for row in grid.rows)
    rows = (
        tuple(text.replace(old, new) if c.kind == "number" else text for c, text in row)
        for row in pairs
    )
    return replace(grid, rows=tuple(rows))


def _heads(grid: Grid) -> list[list[str]]:
    """Each column's head in lines, of equal number: a group's name above its first column."""
    lines = [broken(column.head) for column in grid.columns]
    tallest = max(map(len, lines))
    lines = [[""] * (tallest - len(head)) + head for head in lines]
    if any(column.group for column in grid.columns):
        before = ["", *(column.group for column in grid.columns)]
        groups = [
            c.group if c.group != b else "" for c, b in zip(grid.columns, before, strict=False)
        ]
        lines = [[group, *head] for group, head in zip(groups, lines, strict=True)]
    return lines


def broken(head: str) -> list[str]:
    """A column's head in short lines; protocols break behind their underscores."""
    lines = [""]
    for word in re.findall(r"[^ _]*[ _]?", head):
        if len(lines[-1] + word.rstrip()) > _HEAD and lines[-1]:
            lines.append("")
        lines[-1] += word
    return [line.rstrip() for line in lines]


def _for_names(grid: Grid, heads: Sequence[Sequence[str]]) -> int:
    """Width that the other columns leave; words of text may break, numbers may not."""
    rest = 0
    for i, column in enumerate(grid.columns[1:], start=1):
        texts = [line for row in grid.rows for line in row[i].split("\n")]
        if column.kind in ("words", "verdict"):
            texts = [word for text in texts for word in text.split()]
        rest += _GAP + max(len(text) for text in (*texts, *heads[i]))
    return WIDTH - rest


def _styled(column: Column, text: str) -> Text:
    return Text(text, style=_STYLES[grids.tone(text)] if column.kind == "verdict" and text else "")


# CSV ----------------------------------------------------------------------------------------------


def csv(comparison: Comparison) -> str:
    """One line for each row, block and metric, in full precision; empty where there is nothing.

    Scores and differences are in percent. Lines end as RFC 4180 has it.
    """
    out = io.StringIO()
    lines = [
        _csv_line(comparison, block, cell, metric)
        for block in comparison.blocks
        for cell in block.cells
        for metric in block.metrics
    ]
    writer = csv_format.DictWriter(out, fieldnames=_CSV_FIELDS)
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()


_CSV_FIELDS = (
    *("table", "dataset", "protocol", "is_paper", "method", "metric", "data"),
    *("published_mean", "published_sd", "n", "n_wanted", "mean", "sd", "low", "high"),
    *("reference", "pairs", "difference", "difference_low", "difference_high", "p"),
    *("audit", "published_parameters", "encoder_parameters", "head_parameters"),
    *("seconds_a_run", "weights", "n_failed", "first_error"),
)


def _csv_line(comparison: Comparison, block: Block, cell: Cell, metric: str) -> dict[str, object]:
    """By `_CSV_FIELDS`; None is written as an empty field."""
    summary, quote = cell.summary(metric), cell.published.get(metric, (None, None))
    low, high = _ends(summary.interval if summary else None)
    size, head = cell.n_parameters, cell.n_head_parameters
    millions = comparison.published_parameters.get(cell.row)
    return {
        "table": comparison.name,
        "dataset": block.name,
        "protocol": block.protocol,
        "is_paper": str(block.is_paper).lower(),
        "method": cell.row,
        "metric": metric,
        "data": REHEARSAL_MARK if any(row.rehearsal for row in cell.results) else None,
        "published_mean": quote[0],
        "published_sd": quote[1],
        "n": summary.n if summary else 0 if cell.results or cell.errors else None,
        "n_wanted": cell.n_wanted // cell.folds_per_seed or None,
        "mean": summary.mean if summary else None,
        "sd": summary.sd if summary else None,
        "low": low,
        "high": high,
        **_csv_paired(comparison, block, cell, metric),
        "audit": cell.verdict,
        "published_parameters": None if millions is None else round(millions * 1e6),
        "encoder_parameters": None if size is None or head is None else size - head,
        "head_parameters": head,
        "seconds_a_run": cell.seconds,
        "weights": cell.start or None,
        "n_failed": len(cell.errors) or None,
        "first_error": cell.errors[0] if cell.errors else None,
    }


def _csv_paired(comparison: Comparison, block: Block, cell: Cell, metric: str) -> dict[str, object]:
    other = block.cell(comparison.reference) if comparison.reference else None
    paired: Paired | None = cell.against(other, metric) if other else None
    if paired is None:
        return {}
    low, high = _ends(paired.interval)
    return {
        "reference": comparison.reference,
        "pairs": paired.n,
        "difference": paired.mean,
        "difference_low": low,
        "difference_high": high,
        "p": paired.p,
    }


def _ends(interval: Interval | None) -> tuple[float | None, float | None]:
    return (None, None) if interval is None else (interval.low, interval.high)


# Markdown -----------------------------------------------------------------------------------------


def markdown(comparison: Comparison) -> str:
    """For GitHub: a heading for each dataset and protocol, tables below it."""
    mark = f" [{REHEARSAL_MARK}]"
    title = _md(f"{grids.label(comparison)}: {comparison.caption}")
    said = [f"# {title}{mark if comparison.rehearsal else ''}", _md_paragraph(comparison.title)]
    for name, blocks in grids.datasets(comparison):
        said.append(f"## {_md(name)}")
        if (overview := grids.side_by_side(blocks)) is not None:
            marked = mark if any(grids.is_rehearsal(block) for block in blocks) else ""
            said += [f"**{_md(overview.title)}**{marked}", _md_grid(overview)]
        for block in blocks:
            if grids.ran(block) or grids.quoted(block):
                said += _md_block(block, comparison)
    said += [_md(f"Not run: {name}, {', '.join(ps)}") for name, ps in grids.not_run(comparison)]
    if comparison.notes:
        said += ["## Notes", "\n".join(f"- {_md_paragraph(note)}" for note in comparison.notes)]
    words = (f"- **{_md(term)}**: {_md(meaning)}" for term, meaning in grids.legend(comparison))
    return "\n\n".join([*said, "## Legend", "\n".join(words)]) + "\n"


def _md_block(block: Block, comparison: Comparison) -> Iterator[str]:
    mark = f" [{REHEARSAL_MARK}]" if grids.is_rehearsal(block) else ""
    yield f"### {_md(grids.heading(block))}{mark}"
    yield _md_paragraph(block.words)
    for grid in grids.of_block(block, comparison):
        yield from (f"**{_md(grid.title)}**", _md_grid(grid))
    if found := grids.remarks(block):
        yield "\n".join(f"- {_md(f'{remark.row}: {remark.short}')}" for remark in found)


def _md_grid(grid: Grid) -> str:
    lines = [
        [_md(column.title) for column in grid.columns],
        ["---:" if column.kind in ("number", "below") else "---" for column in grid.columns],
        *([_md(text) for text in row] for row in grid.rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _md(text: str) -> str:
    """Letter for letter: nothing in it is markup, a table's border, HTML, a link or a formula."""
    text = re.sub(r"([\\`*<>|~$&#])", r"\\\1", one_line(text))
    return re.sub(r"(?<!\w)_|_(?!\w)|\](?=[\[(:])", r"\\\g<0>", text)


def _md_paragraph(text: str) -> str:
    """As `_md`, and no list or rule for what it begins with."""
    return re.sub(r"^(\d*)([-+=.)])", r"\1\\\2", _md(text))


# LaTeX --------------------------------------------------------------------------------------------


def latex(comparison: Comparison) -> str:
    r"""Floats to `\input`: needs `booktabs`, and the width of two columns.

    Each dataset and protocol has its scores, then, where something ran, how sure they are, and
    audit and cost. Failed runs stand below the scores, notes at the end.
    """
    mark = f" [{REHEARSAL_MARK}]" if comparison.rehearsal else ""
    said = [f"% needs \\usepackage{{booktabs}}\n% {_table(comparison)}{mark}"]
    for name, blocks in grids.datasets(comparison):
        if (overview := grids.side_by_side(blocks)) is not None:
            marked = any(grids.is_rehearsal(block) for block in blocks)
            said.append(_float(overview, _caption(comparison, f"{name}.", overview, marked)))
        for block in blocks:
            if grids.ran(block) or grids.quoted(block):
                said += _latex_block(block, comparison)
    said += [rf"\noindent {_tex(note)}" for note in comparison.notes]
    return "\n\n".join(said) + "\n"


def _latex_block(block: Block, comparison: Comparison) -> Iterator[str]:
    at, marked = f"{grids.heading(block)}: {block.words}.", grids.is_rehearsal(block)
    below = [f"{remark.row}: {remark.short}" for remark in grids.remarks(block)]
    for grid in grids.of_block_narrow(block, comparison, sizes=True):
        yield _float(grid, _caption(comparison, at, grid, marked), below)
        below = []


def _table(comparison: Comparison) -> str:
    """Which table of which paper."""
    return one_line(f"{grids.label(comparison)} of {comparison.title}: {comparison.caption}")


def _caption(comparison: Comparison, at: str, grid: Grid, marked: bool) -> str:
    said = f"{_table(comparison)}. {at} {grid.title}. {grid.words}"
    return f"{said} [{REHEARSAL_MARK}]" if marked else said


_ALIGNED = {"number": "r", "words": r"p{0.27\textwidth}", "verdict": r"p{0.21\textwidth}"}


def _float(grid: Grid, caption: str, below: Sequence[str] = ()) -> str:
    kinds = "".join(_ALIGNED.get(column.kind, "l") for column in grid.columns)
    lines = [
        r"\begin{table*}",
        r"\centering\footnotesize\setlength{\tabcolsep}{4pt}",
        rf"\caption{{{_tex(caption)}}}",
        r"\smallskip",
        rf"\begin{{tabular}}{{@{{}}{kinds}@{{}}}}",
        r"\toprule",
        *_tex_heads(grid),
        r"\midrule",
        *_tex_rows(grid),
        r"\bottomrule",
        r"\end{tabular}",
        *(rf"\par\smallskip {_tex(line)}" for line in below),
        r"\end{table*}",
    ]
    return "\n".join(lines)


def _tex_heads(grid: Grid) -> Iterator[str]:
    if any(column.group for column in grid.columns):
        names, rules, at = [], [], 1
        for group, columns in groupby(grid.columns, key=lambda column: column.group):
            n = len(list(columns))
            names += [rf"\multicolumn{{{n}}}{{c}}{{{_tex(group)}}}"] if group else [""] * n
            rules += [rf"\cmidrule(lr){{{at}-{at + n - 1}}}"] if group else []
            at += n
        yield " & ".join(names) + r" \\"
        yield "".join(rules)
    yield " & ".join(_tex_head(column) for column in grid.columns) + r" \\"


def _tex_head(column: Column) -> str:
    lines = [_tex(line) for line in broken(column.head)]
    side = "r" if column.kind == "number" else "l"
    stacked = r"\\".join(lines)
    return stacked if len(lines) == 1 else rf"\shortstack[{side}]{{{stacked}}}"


def _tex_rows(grid: Grid) -> Iterator[str]:
    has_blocks = any(not row[0] for row in grid.rows)
    for i, row in enumerate(grid.rows):
        if i and row[0] and has_blocks:
            yield r"\addlinespace"
        columns = zip(grid.columns, row, strict=True)
        texts = (_tex_number(t) if column.kind == "number" else _tex(t) for column, t in columns)
        yield " & ".join(texts) + r" \\"


_TEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "±": r"$\pm$",
    "…": r"\ldots{}",
    **{sign: rf"\{sign}" for sign in "&%$#_{}"},
}


def _tex(text: str) -> str:
    """Letter for letter in any font; a row cannot begin with an option of the line before."""
    said = "".join(_TEX.get(letter, letter) for letter in one_line(text))
    return f"{{}}{said}" if said.startswith(("[", "*")) else said


def _tex_number(text: str) -> str:
    """With minus signs, and what stands in brackets behind it in a line below."""
    number, _, more = re.sub(r"-(?=\d)", "$-$", _tex(text)).partition(" (")
    return rf"\shortstack[r]{{{number}\\({more}}}" if more else number
