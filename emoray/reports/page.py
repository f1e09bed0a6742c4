"""One comparison as one HTML page that needs nothing else: it opens from a file, anywhere.

No script, no font, no address: style and pictures are inside, and the page forbids the browser to
fetch anything. The tables are those of the other formats (`grids`). What it looks like stands in
`page.html.jinja` and `page.css`.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import groupby
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from emoray.reports import grids
from emoray.reports.grids import Grid, one_line
from emoray.reports.summary import REHEARSAL_MARK
from emoray.results.comparison import Comparison

_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture on the page."""

    name: str
    """Of its file, without an ending, where it is also kept by itself."""
    title: str
    """Also what is read out where the picture is not seen."""
    caption: str
    png: bytes

    @property
    def address(self) -> str:
        """The picture itself, as a browser reads it.

        Raises:
            ValueError: it is not a PNG.
        """
        if not self.png.startswith(_PNG):
            raise ValueError(f"need a PNG for figure {self.title!r}, got {self.png[:8]!r}")
        return f"data:image/png;base64,{base64.b64encode(self.png).decode('ascii')}"


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
    style = (resources.files("emoray.reports") / "page.css").read_text(encoding="utf-8")
    template = _environment().get_template("page.html.jinja")
    return template.render(
        comparison=comparison,
        datasets=grids.datasets(comparison),
        figures=figures,
        facts=facts,
        style=Markup(style),
        rehearsal_mark=REHEARSAL_MARK,
    )


def _environment() -> Environment:
    """In which every text is letter for letter, in one line, in text and in attributes."""
    environment = Environment(
        loader=PackageLoader("emoray.reports", "."),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        finalize=_printed,
    )
    environment.filters["breakable"] = _breakable
    environment.tests["rehearsal"] = grids.is_rehearsal
    environment.globals |= {"grids": grids, "columns_of": _columns, "groups_of": _groups}
    return environment


def _printed(value: Any) -> Any:
    return one_line(value) if type(value) is str else value  # a Markup is HTML, and stays


def _breakable(text: str) -> Markup:
    """A long name may go on in the next line behind an underscore."""
    return escape(one_line(text)).replace("_", Markup("_<wbr>"))


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of the page: one of a grid's, or two of which one stands below the other."""

    i: int
    """Of the grid's columns."""
    head: str
    kind: grids.Kind
    group: str
    below: str
    """Head of the one below; empty where there is none."""


def _columns(grid: Grid) -> list[_Column]:
    below = [column.head if column.kind == "below" else "" for column in grid.columns]
    return [
        _Column(i, column.head, column.kind, column.group, under)
        for i, (column, under) in enumerate(zip(grid.columns, [*below[1:], ""], strict=True))
        if column.kind != "below"
    ]


def _groups(grid: Grid) -> list[tuple[str, list[_Column]]]:
    """Neighbours that share a group, with its name; empty for those that share none."""
    return [(n, list(found)) for n, found in groupby(_columns(grid), lambda column: column.group)]
