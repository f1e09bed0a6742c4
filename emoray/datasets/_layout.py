"""A folder held against its publisher's layout: names, shapes, ratings.

Shapes: an axis written None may have any length.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emoray.datasets.formats import files
from emoray.vocabulary import affect
from emoray.vocabulary.schema import Card, DataError, Float32Array, Listing, RecordingRef, Scale

REHEARSAL = "REHEARSAL"
"""File that `emoray.rehearsal` leaves in a folder of data that nobody recorded."""


def relative(root: Path, path: Path) -> str:
    """Path below `root` with forward slashes, as `RecordingRef.files` keeps it."""
    return path.relative_to(root).as_posix()


def find_files(root: Path, pattern: str) -> list[tuple[re.Match[str], Path]]:
    """Files that lie as the pattern says, below any folders (`DEAP/DEAP/...`, as archives unpack).

    The pattern is the end of a path with forward slashes, whole names of it; case is ignored.
    Sorted by path, so that a listing is the same on every machine.
    """
    compiled = re.compile(_anywhere(pattern), re.IGNORECASE)
    found = ((compiled.fullmatch(relative(root, path)), path) for path in walk(root).files)
    return [(match, path) for match, path in found if match is not None]


def _anywhere(pattern: str) -> str:
    return f"(?:.*/)?(?:{pattern})"


def companion(folder: Path, name: str) -> Path | None:
    """The file that belongs to others in `folder`, under its name on this disk; None without it.

    Args:
        folder: where it should lie.
        name: the publisher's name, in any case; with folders below, `1/Arousal_Valence.csv`.

    Raises:
        DataError: two names that differ in nothing but case, or a folder that cannot be listed.
    """
    here: Path | None = folder
    for part in name.split("/"):
        inside = entries(here) if here is not None else []
        same = [path for path in inside if path.name.lower() == part.lower()]
        if len(same) > 1:
            raise DataError(
                f"{folder}: need one {name}, found {len(same)}: "
                f"{' and '.join(relative(folder, path) for path in same)}"
            )
        here = same[0] if same else None
    return here


def entries(folder: Path) -> list[Path]:
    """What a folder holds, sorted, without litter; nothing where there is no folder.

    Raises:
        DataError: it cannot be listed.
    """
    try:
        return sorted(path for path in folder.iterdir() if not files.is_litter(path.name))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise DataError(
            f"{folder}: need a folder that can be listed, found {files.reason(error)}"
        ) from error


@dataclass(frozen=True, slots=True)
class Tree:
    """What lies below a folder at any depth, without litter."""

    files: tuple[Path, ...]
    """Regular files, sorted."""
    folders: tuple[Path, ...]
    others: tuple[Path, ...]
    """Named pipes, sockets, devices, links to nothing: never opened."""
    closed: Mapping[Path, str]
    """Folders that cannot be listed, and why."""


def walk(root: Path) -> Tree:
    """Look at everything below a folder; links are followed, each real folder once.

    Real folders go before links to them, so that their own names are the ones that count.
    """
    found: list[Path] = []
    others: list[Path] = []
    closed: dict[Path, str] = {}
    waiting: list[Path] = [root]
    linked: list[Path] = []
    folders: dict[Path, Path] = {}
    while waiting or linked:
        folder = waiting.pop() if waiting else linked.pop(0)
        if (real := folder.resolve()) in folders:
            continue
        try:
            inside = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):  # gone meanwhile, or never there
            continue
        except OSError as error:
            closed[folder] = files.reason(error)
            continue
        folders[real] = folder
        for entry in inside:
            path = folder / entry.name
            if files.is_litter(entry.name):
                continue
            if _is(entry.is_dir):
                (linked if entry.is_symlink() else waiting).append(path)
            else:
                (found if _is(entry.is_file) else others).append(path)
    files_, folders_, others_ = (tuple(sorted(p)) for p in (found, folders.values(), others))
    return Tree(files_, folders_, others_, closed)


def _is(asked: Callable[[], bool]) -> bool:
    try:
        return asked()
    except OSError:  # a link into a folder that may not be entered, or to itself
        return False


def one_each(root: Path, found: Iterable[tuple[str, Path]], *, what: str) -> dict[str, Path]:
    """File of each key (`subject 07`), sorted by key; a link to a chosen file changes nothing.

    Raises:
        DataError: two files of the same key; the message names both.
    """
    chosen: dict[str, Path] = {}
    for key, path in found:
        if key in chosen and not path.samefile(chosen[key]):
            raise DataError(
                f"{root}: need one file for {what} {key}, found two: "
                f"{files.spell(relative(root, chosen[key]))} and "
                f"{files.spell(relative(root, path))}"
            )
        chosen.setdefault(key, path)
    return dict(sorted(chosen.items()))


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
        DataError: there is no recording at all (the message says which files were looked for), or
            a folder that may hold some cannot be listed.
    """
    tree = walk(root)
    patterns = "|".join(f"(?:{p})" for p in (REHEARSAL, *beside, *known))
    expected = re.compile(_anywhere(patterns), re.IGNORECASE)
    closed = _closed(root, tree, expected)
    if not refs:
        wanted = "; ".join(card.layout.strip().splitlines())
        there = "an empty or foreign folder" if root in tree.folders else "no such folder"
        state = ", ".join([closed or there, *_described(root, tree.others[:3])])
        raise DataError(f"{root}: need {card.title} files as {wanted}; found {state}")
    if closed:
        raise DataError(f"{root}: need every folder of {card.title}, found {closed}")
    opened = {file for ref in refs for file in ref.files}
    names = (relative(root, path) for path in tree.files)
    unexpected = [
        files.spell(name) for name in names if name not in opened and not expected.fullmatch(name)
    ]
    unexpected += _described(root, tree.others)
    return Listing(tuple(sorted(refs)), tuple(missing), tuple(unexpected))


def _described(root: Path, others: Iterable[Path]) -> list[str]:
    """What is no regular file: `s01.dat (a named pipe)`."""
    return [f"{files.spell(relative(root, p))} ({files.kind_of(p)})" for p in others]


def _closed(root: Path, tree: Tree, beside: re.Pattern[str]) -> str:
    """Which folders cannot be listed; not those of which all that may be in them is `beside`."""
    return ", ".join(
        f"that {files.spell(folder)} cannot be listed ({why})"
        for folder, why in sorted(tree.closed.items())
        if not beside.fullmatch(f"{relative(root, folder)}/any/thing")
    )


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
    wanted = ", ".join("any" if n is None else str(n) for n in expected)
    # A list is not made an array here: a short one of texts may become a very large array.
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        found = type(array).__name__
        if isinstance(array, np.ndarray):
            found = f"{array.dtype} of shape {array.shape}"
        raise DataError(f"{where}: need numbers of shape ({wanted}) = ({axes}), found {found}")
    fits = array.ndim == len(expected) and all(
        want is None or want == got for want, got in zip(expected, array.shape, strict=True)
    )
    if not fits:
        raise DataError(f"{where}: need shape ({wanted}) = ({axes}), found {array.shape}")
    return array


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
    """A third column (dominance), to stumble on and to tell: low where the second rating is high.

    The whole rating that is nearest to that one's mirror image and differs from both.
    """
    taken = {round(rating) for rating in ratings}
    free = [n for n in range(round(scale.low), round(scale.high) + 1) if n not in taken]
    mirrored = scale.low + scale.high - ratings[1]
    return float(min(free, key=lambda n: abs(n - mirrored)))


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
