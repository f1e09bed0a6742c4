"""File systems that have what laptops seldom have when a test runs: no room left."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def full_disk(at: Path, *, free_bytes: int) -> Iterator[Path]:
    """A file system of one megabyte with little room left; only root can make one."""
    at.mkdir()
    options = ("-t", "tmpfs", "-o", "size=1m", "tmpfs")
    if os.geteuid() or subprocess.run(["mount", *options, at], check=False).returncode:
        pytest.skip("needs the right to mount a file system")
    try:
        (at / "filler").write_bytes(bytes(2**20 - free_bytes))
        yield at
    finally:
        subprocess.run(["umount", "--lazy", at], check=True)
