"""One comparison as one HTML page that needs nothing else: it opens from a file, anywhere.

No script, no font, no address: style and pictures are inside, and the page forbids the browser to
fetch anything. The tables are those of the other formats (`grids`).
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from itertools import groupby

from emoray.reports import grids
from emoray.reports.grids import Column, Grid, Remark, one_line
from emoray.reports.summary import REHEARSAL_MARK
from emoray.results.comparison import Block, Comparison

_LEGEND = ("legend", "Legend")
_PNG = b"\x89PNG\r\n\x1a\n"
_MARK = f'<span class="mark">{REHEARSAL_MARK}</span>'
_BANNER = (
    f'<p class="banner" role="note"><strong>{REHEARSAL_MARK}</strong> '
    "<span>our numbers so marked come from signals that were recorded from nobody</span></p>"
)


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture on the page."""

    name: str
    """Of its file, without an ending, where it is also kept by itself."""
    title: str
    """Also what is read out where the picture is not seen."""
    caption: str
    png: bytes


def render(
    comparison: Comparison, figures: Sequence[Figure] = (), facts: Mapping[str, str] | None = None
) -> str:
    """The page's text.

    Args:
        comparison: what the page is about.
        figures: shown in this order, below the tables.
        facts: what ran where (code, machine, date ...), one a line under the title.

    Raises:
        ValueError: a figure is not a PNG.
    """
    title = f"{_text(grids.label(comparison))}: {_text(comparison.caption)}"
    style = (resources.files("emoray.reports") / "page.css").read_text(encoding="utf-8")
    marked = f"{title} [{REHEARSAL_MARK}]" if comparison.rehearsal else title
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
            "img-src data:; style-src 'unsafe-inline'\">",
            '<link rel="icon" href="data:,">',
            f"<title>{marked}</title>",
            f"<style>\n{style}</style>",
            "</head>",
            "<body>",
            *([_BANNER] if comparison.rehearsal else []),
            *_header(comparison, facts or {}),
            "<main>",
            *_datasets(comparison),
            *_figures(figures),
            *_notes(comparison),
            "</main>",
            "</body>",
            "</html>\n",
        ]
    )


def _header(comparison: Comparison, facts: Mapping[str, str]) -> Iterator[str]:
    links = [(f"dataset-{i}", name) for i, (name, _) in enumerate(grids.datasets(comparison), 1)]
    yield "<header>"
    yield f"<h1>{_text(grids.label(comparison))}: {_text(comparison.caption)}</h1>"
    yield f"<p>{_text(comparison.title)}</p>"
    if facts:
        yield '<dl class="facts">'
        yield from (f"<dt>{_text(what)}</dt><dd>{_text(said)}</dd>" for what, said in facts.items())
        yield "</dl>"
    if links:
        anchors = (f'<a href="#{at}">{_text(name)}</a>' for at, name in [*links, _LEGEND])
        yield f'<nav aria-label="Datasets">{" ".join(anchors)}</nav>'
    yield "</header>"


# Tables -------------------------------------------------------------------------------------------


def _datasets(comparison: Comparison) -> Iterator[str]:
    for i, (name, blocks) in enumerate(grids.datasets(comparison), start=1):
        yield f'<section id="dataset-{i}">'
        yield f"<h2>{_text(name)}</h2>"
        if (overview := grids.side_by_side(blocks)) is not None:
            yield from _table(overview, name, marked=any(map(grids.is_rehearsal, blocks)))
        for block in blocks:
            if grids.ran(block) or grids.quoted(block):
                yield from _block(block, comparison)
        if missing := [block.protocol for block in blocks if not grids.ran(block)]:
            yield f'<p class="blank">Not run: {", ".join(_code(name) for name in missing)}</p>'
        yield "</section>"


def _block(block: Block, comparison: Comparison) -> Iterator[str]:
    marked = grids.is_rehearsal(block)
    whose = "Paper's protocol" if block.is_paper else "Protocol"
    yield "<section>"
    yield f"<h3>{whose} {_code(block.protocol)}</h3>"
    yield f"<p>{_text(block.words)}</p>"
    for grid in grids.of_block(block, comparison):
        yield from _table(grid, grids.heading(block), marked=marked)
    for remark in grids.remarks(block):
        yield from _remark(remark)
    yield "</section>"


def _table(grid: Grid, at: str, *, marked: bool) -> Iterator[str]:
    label = f"{at}: {grid.title}"
    yield f'<div class="table" role="region" tabindex="0" aria-label="{_text(label)}">'
    yield f"<table><caption><span>{_text(grid.title)} {_MARK if marked else ''}</span></caption>"
    yield "<thead>"
    yield from _heads(grid.columns)
    yield "</thead>"
    yield "<tbody>"
    for row in grid.rows:
        cells = "".join(_cell(i, grid, row) for i in _apart(grid.columns)[1:])
        yield f'<tr><th scope="row">{_text(row[0])}</th>{cells}</tr>'
    yield "</tbody></table></div>"


def _apart(columns: Sequence[Column]) -> list[int]:
    """Columns that do not stand below their left neighbour."""
    return [i for i, column in enumerate(columns) if column.kind != "below"]


def _heads(columns: Sequence[Column]) -> Iterator[str]:
    heads = {i: _head(i, columns) for i in _apart(columns)}
    if not any(column.group for column in columns):
        yield f"<tr>{''.join(heads.values())}</tr>"
        return
    upper = []
    for group, found in groupby(heads, key=lambda i: columns[i].group):
        together = list(found)
        if group:
            n = len(together)
            upper.append(f'<th scope="colgroup" colspan="{n}" class="group">{_text(group)}</th>')
        else:
            upper += [heads[i].replace("<th", '<th rowspan="2"') for i in together]
    yield f"<tr>{''.join(upper)}</tr>"
    yield f"<tr>{''.join(head for i, head in heads.items() if columns[i].group)}</tr>"


def _head(i: int, columns: Sequence[Column]) -> str:
    said = _breakable(columns[i].head)
    if columns[i + 1 : i + 2] and columns[i + 1].kind == "below":
        said += f"<small>{_breakable(columns[i + 1].head)}</small>"
    return f'<th scope="col" class="{columns[i].kind}">{said}</th>'


def _cell(i: int, grid: Grid, row: Sequence[str]) -> str:
    column, said = grid.columns[i], _number(row[i])
    if column.kind == "verdict" and said:
        said = f'<span class="{grids.tone(row[i])}">{_text(row[i])}</span>'
    elif column.kind != "number":
        said = _text(row[i])
    elif grid.columns[i + 1 : i + 2] and grid.columns[i + 1].kind == "below" and row[i + 1]:
        said += f"<small>{_number(row[i + 1])}</small>"
    ours = " ours" if column.head == "ours" else ""
    return f'<td class="{column.kind}{ours}">{said}</td>'


def _number(text: str) -> str:
    """With minus signs, and what stands in brackets behind it in a line below."""
    number, _, more = text.partition(" (")
    said = _text(number).replace("-", "\N{MINUS SIGN}")
    return f"{said}<small>({_text(more)}</small>" if more else said


def _remark(remark: Remark) -> Iterator[str]:
    said = f"<strong>{_text(remark.row)}</strong>: {_text(remark.short)}"
    if remark.full:
        said = f"<details><summary>{said}</summary><pre>{escape(remark.full)}</pre></details>"
    yield f'<div class="remark">{said}</div>'


# Below the tables ---------------------------------------------------------------------------------


def _figures(figures: Iterable[Figure]) -> Iterator[str]:
    shown = list(figures)
    if not shown:
        return
    yield '<section id="figures"><h2>Figures</h2>'
    for figure in shown:
        yield "<figure>"
        yield f'<img src="{_embedded(figure)}" alt="{_text(figure.title)}">'
        yield f"<figcaption><strong>{_text(figure.title)}.</strong> {_text(figure.caption)}"
        yield "</figcaption></figure>"
    yield "</section>"


def _embedded(figure: Figure) -> str:
    if not figure.png.startswith(_PNG):
        raise ValueError(f"need a PNG for figure {figure.title!r}, got {figure.png[:8]!r}")
    return f"data:image/png;base64,{base64.b64encode(figure.png).decode('ascii')}"


def _notes(comparison: Comparison) -> Iterator[str]:
    if comparison.notes:
        yield '<section id="notes"><h2>Notes</h2><ul>'
        yield from (f"<li>{_text(note)}</li>" for note in comparison.notes)
        yield "</ul></section>"
    if words := grids.legend(comparison):
        yield '<section id="legend"><h2>Legend</h2><dl>'
        yield from (f"<dt>{_text(term)}</dt><dd>{_text(said)}</dd>" for term, said in words)
        yield "</dl></section>"


def _text(text: str) -> str:
    """Letter for letter, in text and in attributes."""
    return escape(one_line(text))


def _breakable(text: str) -> str:
    """A long name may go on in the next line behind an underscore."""
    return _text(text).replace("_", "_<wbr>")


def _code(name: str) -> str:
    return f"<code>{_breakable(name)}</code>"
