"""A checkout into which somebody has dropped a method's folder and a dataset's file, nothing else.

The method is `tests/throwaway`, the dataset that of `tests/ecg_only.py`. Whatever runs there runs
in processes of its own, which know no other emoray.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests import ecg_only
from tests.processes import in_session, left_after

REPO = Path(__file__).parents[1]
NAME = "throwaway"
METHOD = Path(__file__).parent / NAME
ROOMS = ("emoray", "jobs", "tests")
FILES = ("pyproject.toml",)
WIDTH = 100
"""Of the window that its jobs write into."""


@dataclass(frozen=True)
class Checkout:
    """Where it lies."""

    root: Path

    @property
    def environment(self) -> Mapping[str, str]:
        """Of its processes: a person's who has set nothing."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "EMORAY_"))}
        return {**kept, "PYTHONPATH": str(self.root), "COLUMNS": str(WIDTH)}

    def python(self, *words: object, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """Python with these words after it, to its end; whatever that is."""
        return subprocess.run(
            [sys.executable, *map(str, words)],
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )

    def said(self, *words: object, timeout: float = 300) -> str:
        """What Python said, which ends well."""
        done = self.python(*words, timeout=timeout)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @contextlib.contextmanager
    def job(self, name: str, *words: object, log: IO[str]) -> Iterator[subprocess.Popen[str]]:
        """One of its jobs, in a session of its own; whatever is left of it is ended."""
        process = subprocess.Popen(
            [sys.executable, str(self.root / "jobs" / f"{name}.py"), *map(str, words)],
            cwd=self.root,
            env=self.environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            end_session(process)


def end_session(process: subprocess.Popen[str]) -> None:
    """SIGKILL for a job and all that it has started, and the end of all of them."""
    for pid in in_session(process.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait(timeout=30)
    assert left_after(process.pid, 30) == {}


def make(root: Path) -> Checkout:
    """Copy the project, and drop the two in."""
    ignored = shutil.ignore_patterns("__pycache__", ".*_cache")
    for room in ROOMS:
        shutil.copytree(REPO / room, root / room, ignore=ignored)
    for name in FILES:
        shutil.copy(REPO / name, root / name)
    shutil.copytree(METHOD, root / "emoray" / "methods" / NAME, ignore=ignored)
    (root / "emoray" / "datasets" / f"{ecg_only.NAME}.py").write_text(ecg_only.DATASET)
    return Checkout(root)
