from __future__ import annotations

from dataclasses import replace

from rich.console import Console

from emoray.reports import files, tables
from emoray.results.comparison import Comparison
from tests.reports.comparisons import table3


def empty(comparison: Comparison) -> Comparison:
    return replace(comparison, name="figure4", blocks=(), notes=())


def test_a_table_is_written_in_every_format() -> None:
    written = files.contents(table3(), (), {})
    assert set(written) == {f"table3.{kind}" for kind in ("html", "csv", "md", "tex")}
    assert all(len(content) > 500 for content in written.values())


def test_a_figure_alone_has_a_page_and_no_table_nor_legend() -> None:
    figure = empty(table3())
    (page,) = files.contents(figure, (), {}).values()
    assert b"Legend" not in page
    console = Console(width=100, record=True, quiet=True)
    console.print(tables.terminal(figure))
    assert "published" not in console.export_text()
