"""What a person sees of something that lasts: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import math
import time
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.text import Text

PLAIN_EVERY_S = 10.0
"""Seconds between two lines where the output is no terminal."""


class Progress:
    """How far something is, for as long as a `with` block lasts; the bar is gone at its end.

    Texts are shown letter for letter, and a line of a log is never broken.

    Args:
        console: where to print.
        words: beside the bar before anything is done.
        n_all: to be done; None while nobody knows.
        has_remaining: whether the bar says how long it will take, as its pace so far has it.
    """

    def __init__(
        self,
        console: Console,
        words: str,
        *,
        n_all: int | None = None,
        has_remaining: bool = True,
    ) -> None:
        columns: list[ProgressColumn] = [
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
        ]
        self._console = console
        self._bar = Bar(
            *columns,
            *([TimeRemainingColumn()] if has_remaining else []),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(words, total=n_all)
        self._n_all = n_all
        self._logged = ""
        self._logged_s = -math.inf

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def show(self, n_done: int, words: str, *, n_all: int | None = None, more: str = "") -> None:
        """So many are done.

        A log gets a line of it every `PLAIN_EVERY_S` seconds, and the last one whenever it comes.

        Args:
            words: beside the bar and in the line.
            n_all: as soon as it is known, or where it has changed.
            more: in the line only, as the remaining time, which a bar shows by itself.
        """
        self._n_all = self._n_all if n_all is None else n_all
        self._bar.update(self._task, completed=n_done, total=self._n_all, description=words)
        is_due = time.monotonic() - self._logged_s > PLAIN_EVERY_S
        if (is_due or n_done == self._n_all) and words + more != self._logged:
            self.log(words + more)

    def count(self, n_done: int) -> None:
        """So many are done, of which there is no more to say than is said already."""
        self._bar.update(self._task, completed=n_done)

    def describe(self, words: str) -> None:
        """What is going on, beside the bar or as a line of its own in a log."""
        self._bar.update(self._task, description=words)
        self.log(words)

    def log(self, line: str) -> None:
        """A line where there is no bar."""
        if not self._console.is_terminal:
            self._logged, self._logged_s = line, time.monotonic()
            self.say(line)

    def say(self, line: str, style: str = "") -> None:
        """A line that stays: above the bar, or in a log."""
        self._console.print(Text(f"  {line}", style=style), soft_wrap=True)
