"""Where jobs print: one way to make a console, and tables that never cut what names a row."""

from __future__ import annotations

import shutil
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

WIDTH = 100
"""Columns where nobody says how many there are: logs, pipes, `ray job logs`."""


def open_console(
    *, file: TextIO | None = None, stderr: bool = False, quiet: bool = False
) -> Console:
    """A console as wide as its terminal, as $COLUMNS says, or else `WIDTH`.

    Args:
        file: without it standard output.
        stderr: standard error in its place.
        quiet: prints nothing.
    """
    opened = Console(file=file, stderr=stderr, quiet=quiet)
    if not opened.file.isatty():
        opened.width = shutil.get_terminal_size((WIDTH, 24)).columns
    return opened


def keep_names(table: Table) -> Table:
    """The table, with its first column whole however narrow the console is; others go on below.

    Args:
        table: with all its rows; the first column holds names, as plain text.
    """
    names, *others = table.columns
    names.no_wrap = True
    lines = (line for cell in names.cells for line in str(cell).splitlines())
    names.min_width = max(map(cell_len, lines), default=0)
    for column in others:
        column.overflow = "fold"
    return table
