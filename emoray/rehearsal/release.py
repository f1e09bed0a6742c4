"""Folders of rehearsal data in the publishers' formats: written whole, marked, kept."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from emoray import datasets as registry
from emoray.rehearsal.world import World
from emoray.runtime.code import source_version

MARKER = "REHEARSAL"
"""Name of the file that marks a folder, of one dataset or of all, as rehearsal data."""


def is_rehearsal(root: Path) -> bool:
    """Whether this folder, of one dataset or of all, was written by `write_release`."""
    return (root / MARKER).is_file()


def write_release(
    root: Path,
    *,
    datasets: Sequence[str],
    n_subjects: int,
    seed: int,
    duration_s: float | None = None,
) -> tuple[str, ...]:
    """Write each dataset's example under `root/<name>`, marked as rehearsal data.

    A dataset appears complete or not at all, and one that the same code wrote with the same
    arguments is kept.

    Args:
        root: made if absent.
        datasets: names.
        n_subjects: subjects of each dataset.
        seed: of the `World`.
        duration_s: seconds of every presentation; None for the published lengths.

    Returns:
        Names of the datasets that were written anew.

    Raises:
        ValueError: no such dataset; or a folder of that name is there and not marked, so it may
            hold somebody's real data.
    """
    root.mkdir(parents=True, exist_ok=True)
    written = []
    for name in datasets:
        text = _release_text(name, n_subjects, seed, duration_s)
        if not _is_current(root / name, text):
            _write_one(root, name, text, seed, n_subjects, duration_s)
            written.append(name)
    if not is_rehearsal(root):
        (root / MARKER).write_text(_marker_text({"holds": "one folder for each dataset"}))
    return tuple(written)


def stale_releases(
    root: Path,
    *,
    datasets: Sequence[str],
    n_subjects: int,
    seed: int,
    duration_s: float | None = None,
) -> tuple[str, ...]:
    """Names of the datasets that `write_release`, asked for the same, would write anew.

    Raises:
        ValueError: as `write_release`.
    """
    return tuple(
        name
        for name in datasets
        if not _is_current(root / name, _release_text(name, n_subjects, seed, duration_s))
    )


def _release_text(name: str, n_subjects: int, seed: int, duration_s: float | None) -> str:
    """What the marker of a dataset's release says: what it was asked for, and by which code."""
    registry.get(name)
    request = {"n_subjects": n_subjects, "seed": seed, "duration_s": duration_s}
    return _marker_text(request | {"dataset": name, "code": _code(name)})


def _write_one(
    root: Path, name: str, text: str, seed: int, n_subjects: int, duration_s: float | None
) -> None:
    with tempfile.TemporaryDirectory(dir=root, prefix=f".{name}-") as scratch:
        fresh, stale = Path(scratch, "fresh"), Path(scratch, "stale")
        fresh.mkdir()
        registry.get(name).write_example(
            fresh, World(seed), n_subjects=n_subjects, duration_s=duration_s
        )
        (fresh / MARKER).write_text(text)
        if (root / name).exists():
            (root / name).rename(stale)
        fresh.rename(root / name)


def _is_current(folder: Path, text: str) -> bool:
    if not folder.exists():
        return False
    if not is_rehearsal(folder):
        raise ValueError(
            f"need a place for rehearsal data, got {folder}, which has no {MARKER} file and may "
            "hold real data; nothing was written there"
        )
    return (folder / MARKER).read_text() == text


def _marker_text(facts: dict[str, object]) -> str:
    head = "rehearsal data: signals made by a program (emoray.rehearsal), recorded from nobody"
    return head + "\n" + json.dumps(facts, sort_keys=True) + "\n"


def _code(name: str) -> str:
    """Changes with the code that writes a dataset's example, so that no stale one is kept."""
    return source_version((World.__module__, f"{registry.__name__}.{name}"))
