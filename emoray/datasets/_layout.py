"""A folder held against its publisher's layout: names, shapes, ratings.

Shapes: an axis written None may have any length.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emoray import affect
from emoray.schema import Card, DataError, Float32Array, Listing, RecordingRef, Scale

REHEARSAL = "REHEARSAL"
"""File that `emoray.rehearsal` leaves in a folder of data that nobody recorded."""


def relative(root: Path, path: Path) -> str:
    """Path below `root` with forward slashes, as `RecordingRef.files` keeps it."""
    return path.relative_to(root).as_posix()


def find_files(root: Path, pattern: str) -> list[tuple[re.Match[str], Path]]:
    """Files at any depth whose path below `root` (forward slashes) is wholly the pattern.

    Case is ignored. Sorted by path, so that a listing is the same on every machine.
    """
    compiled = re.compile(pattern, re.IGNORECASE)
    found = ((compiled.fullmatch(relative(root, path)), path) for path in _all_files(root))
    return [(match, path) for match, path in found if match is not None]


def _all_files(root: Path) -> list[Path]:
    """Files at any depth, sorted; hidden ones (`._s01.dat`, of a Mac's archives) left out.

    Folders that are links are followed, each real folder once.
    """
    files: list[Path] = []
    seen: set[Path] = set()
    for name, folders, names in os.walk(root, followlinks=True):
        folder = Path(name)
        if (real := folder.resolve()) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        files += (folder / n for n in names if not n.startswith("."))
    return sorted(files)


def one_each(root: Path, found: Iterable[tuple[str, Path]], *, what: str) -> dict[str, Path]:
    """File of each key (`subject 07`), sorted by key.

    Raises:
        DataError: two files of the same key; the message names both.
    """
    files: dict[str, Path] = {}
    for key, path in found:
        if key in files:
            raise DataError(
                f"{root}: need one file for {what} {key}, found two: "
                f"{relative(root, files[key])} and {relative(root, path)}"
            )
        files[key] = path
    return dict(sorted(files.items()))


def listing(
    card: Card,
    root: Path,
    refs: Sequence[RecordingRef],
    *,
    missing: Iterable[str] = (),
    beside: Sequence[str] = (),
    known: Sequence[str] = (),
) -> Listing:
    """Sort the recordings and name what is unexpected.

    Args:
        card: the dataset.
        root: its top folder.
        refs: recordings found.
        missing: expected and not there.
        beside: patterns of files that the publisher ships and no reader opens.
        known: patterns of files that the reader opens, beyond those in `refs`.

    Raises:
        DataError: there is no recording at all; the message says which files were looked for.
    """
    if not refs:
        patterns = "; ".join(card.layout.strip().splitlines())
        state = "an empty or foreign folder" if root.is_dir() else "no such folder"
        raise DataError(f"{root}: need {card.title} files as {patterns}; found {state}")
    opened = {file for ref in refs for file in ref.files}
    patterns = "|".join(f"(?:{p})" for p in (REHEARSAL, *beside, *known))
    expected = re.compile(patterns, re.IGNORECASE)
    files = (relative(root, path) for path in _all_files(root))
    unexpected = tuple(f for f in files if f not in opened and not expected.fullmatch(f))
    return Listing(tuple(sorted(refs)), tuple(missing), unexpected)


def missing_subjects(found: Iterable[str], expected: Iterable[str]) -> list[str]:
    """`subject 07` for every expected one that is not among the found."""
    there = set(found)
    return [f"subject {subject}" for subject in expected if subject not in there]


def check_shape(
    array: Any, expected: Sequence[int | None], *, where: str, axes: str
) -> NDArray[np.floating]:
    """Give an array of numbers back if it has the publisher's shape.

    `axes` names them for the message (`samples, electrodes`).

    Raises:
        DataError: no numbers, another number of axes, or another length where one is given.
    """
    try:
        found = np.asarray(array)
    except ValueError:  # lists of different lengths
        found = np.asarray(array, dtype=object)
    wanted = ", ".join("any" if n is None else str(n) for n in expected)
    if found.dtype.kind not in "fiu":
        raise DataError(
            f"{where}: need numbers of shape ({wanted}) = ({axes}), "
            f"found {found.dtype} of shape {found.shape}"
        )
    fits = found.ndim == len(expected) and all(
        want is None or want == got for want, got in zip(expected, found.shape, strict=True)
    )
    if not fits:
        raise DataError(f"{where}: need shape ({wanted}) = ({axes}), found {found.shape}")
    return found


def signals(x: NDArray[np.floating]) -> Float32Array:
    """An own, contiguous float32 copy, so that the file's whole array can be let go."""
    return np.array(x, dtype=np.float32, order="C")


def check_rating(
    rating: float, scale: Scale, *, name: str, where: str, integer: bool = False
) -> float:
    """Give the rating back if the scale holds it.

    Raises:
        DataError: not finite, outside the scale, or not whole where `integer` is asked.
    """
    affect.place_rating(rating, scale, name=name, where=where)
    if integer and rating != round(rating):
        raise DataError(f"need a whole number for {name}, got {rating:g} in {where}")
    return float(rating)


def to_scale(va: tuple[float, float], scale: Scale, *, integer: bool) -> tuple[float, float]:
    """Valence and arousal from [-4, 4] onto a dataset's scale, rounded where it has integers."""
    step = (scale.high - scale.low) / (2 * affect.LIMIT)
    valence, arousal = (scale.low + (value + affect.LIMIT) * step for value in va)
    return (round(valence), round(arousal)) if integer else (valence, arousal)


def from_scale(ratings: tuple[float, float], scale: Scale) -> tuple[float, float]:
    """Valence and arousal that a stored pair of ratings means, in [-4, 4]."""
    valence, arousal = (
        affect.place_rating(rating, scale, name=name, where="example")
        for name, rating in zip(("valence", "arousal"), ratings, strict=True)
    )
    return valence, arousal


def other_rating(ratings: tuple[float, float], scale: Scale) -> float:
    """The lowest whole rating that differs from both: a third column (dominance) to stumble on."""
    taken = {round(rating) for rating in ratings}
    return float(next(n for n in range(round(scale.low), round(scale.high) + 1) if n not in taken))


def example_subjects(card: Card, n_subjects: int, *, of: Sequence[int] | None = None) -> list[int]:
    """Numbers of the subjects of an example: the first of `of`, or of 1, 2, 3 ...

    Raises:
        ValueError: more than the release has, or none.
    """
    if not 1 <= n_subjects <= card.n_subjects:
        raise ValueError(
            f"need 1 to {card.n_subjects} subjects for an example of {card.name}, got {n_subjects}"
        )
    return list(of or range(1, card.n_subjects + 1))[:n_subjects]
