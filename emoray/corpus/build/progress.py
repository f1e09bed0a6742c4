"""What a person sees while recordings are read."""

from __future__ import annotations

import time
from typing import Self

from emoray.runtime import progress
from emoray.runtime.console import open_console


class Progress:
    """Recordings done, segments a second and the remaining time, on standard error.

    Args:
        n_recordings: in all.
        shown: False says nothing.
    """

    def __init__(self, n_recordings: int, *, shown: bool = True) -> None:
        self._n_recordings = n_recordings
        console = open_console(stderr=True, quiet=not shown)
        self._progress = progress.Progress(console, "recordings", n_all=n_recordings)
        self._began = time.monotonic()
        self._n_done = 0
        self._n_segments = 0

    def __enter__(self) -> Self:
        self._progress.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.__exit__(*error)

    def advance(self, n_segments: int) -> None:
        """One more recording is done."""
        self._n_done += 1
        self._n_segments += n_segments
        took_s = time.monotonic() - self._began
        left_s = took_s / self._n_done * (self._n_recordings - self._n_done)
        self._progress.show(
            self._n_done,
            f"recordings {self._n_done}/{self._n_recordings}  {self._n_segments:,} segments  "
            f"{self._n_segments / max(took_s, 1e-9):,.1f} segments/s",
            more=f"  about {left_s:,.0f} s to go",
        )

    def say(self, text: str) -> None:
        """A line of its own, above the bar."""
        self._progress.say(text)
