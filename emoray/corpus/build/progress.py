"""What a person sees while recordings are read: a bar, or lines in a log."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar

from emoray.runtime.console import open_console

_LINE_EVERY_S = 5.0


class Progress:
    """Recordings done, segments a second and the remaining time.

    A bar on a terminal; elsewhere, in a log, a line every few seconds.

    Args:
        n_recordings: in all.
        shown: False says nothing.
    """

    def __init__(self, n_recordings: int, *, shown: bool = True) -> None:
        self._n_recordings = n_recordings
        self._shown = shown
        self._console = open_console(stderr=True, quiet=not shown)
        self._bar = Bar(
            SpinnerColumn(),
            TextColumn("recordings"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("", total=n_recordings, rate="")
        self._started = self._said = time.monotonic()
        self._n_done = 0
        self._n_segments = 0

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def advance(self, n_segments: int) -> None:
        """One more recording is done."""
        self._n_done += 1
        self._n_segments += n_segments
        now = time.monotonic()
        rate = self._n_segments / max(now - self._started, 1e-9)
        self._bar.update(self._task, advance=1, rate=f"{rate:,.0f} segments/s")
        last = self._n_done == self._n_recordings
        if not self._console.is_terminal and (last or now - self._said >= _LINE_EVERY_S):
            self._said = now
            remaining = (now - self._started) / self._n_done * (self._n_recordings - self._n_done)
            self.say(
                f"recordings {self._n_done}/{self._n_recordings}, {self._n_segments:,} segments, "
                f"{rate:,.1f} segments/s, about {remaining:,.0f} s to go"
            )

    def say(self, text: str) -> None:
        """A line of its own, above the bar."""
        if not self._shown:
            return
        if self._console.is_terminal:
            self._console.print(text, markup=False, highlight=False)
        else:
            print(text, file=sys.stderr, flush=True)
