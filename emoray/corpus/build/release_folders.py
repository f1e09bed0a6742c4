"""Which folder of a licensed data folder holds which dataset.

A folder counts under the dataset's name, its title, or the publisher's top folder (the first line
of the card's `layout`); case, blanks, dots, hyphens and underscores do not matter, nor whether
`EEG`, `ECG` or `dataset` stands behind (`SEED_EEG`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from emoray import datasets
from emoray.datasets.formats import files
from emoray.rehearsal.release import MARKER
from emoray.vocabulary.schema import Card, DataError


@dataclass(frozen=True, slots=True)
class DataFolder:
    """What lies at the top of a folder of datasets."""

    root: Path
    folders: dict[str, Path]
    """By dataset name, sorted."""
    unexpected: tuple[str, ...]
    """Folders and files that belong to no dataset."""


def find_folders(root: Path) -> DataFolder:
    """Sort the entries of `root` by dataset.

    Raises:
        DataError: `root` is no folder or cannot be listed, or two folders stand for one dataset.
    """
    by_name = {alias: name for name in datasets.names() for alias in _aliases(name)}
    found: dict[str, Path] = {}
    unexpected = []
    for path in _entries(root):
        name = by_name.get(_fold(path.name)) if path.is_dir() else None
        if name is None:
            if path.name != MARKER:
                unexpected.append(files.spell(path.name))
        elif name in found:
            raise DataError(f"{root}: need one folder for {name}, got {found[name]} and {path}")
        else:
            found[name] = path
    return DataFolder(root, dict(sorted(found.items())), tuple(unexpected))


def _entries(root: Path) -> list[Path]:
    """What lies in a folder, sorted, without what operating systems left there."""
    try:
        return sorted(path for path in root.iterdir() if not files.is_litter(path.name))
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"need a folder of datasets at {root}, got no such folder") from None
    except OSError as error:
        raise DataError(
            f"need a folder of datasets at {root}, got one that cannot be listed "
            f"({files.reason(error)})"
        ) from error


def choose_folders(root: Path, names: Sequence[str] | None) -> dict[str, Path]:
    """Folders of the datasets asked for, of all that are there without `names`.

    Raises:
        ValueError: a name is no dataset's.
        DataError: a dataset has no folder, or there is none at all.
    """
    here = find_folders(root)
    for name in names or ():
        datasets.get(name)
    absent = [name for name in names or () if name not in here.folders]
    if absent or not here.folders:
        wanted = [top_folder(datasets.get(name).CARD) for name in absent or datasets.names()]
        got = ", ".join([*(path.name for path in here.folders.values()), *here.unexpected])
        some = "all" if absent else "some"
        raise DataError(f"{root}: need {some} of the folders {', '.join(wanted)}; got {got or '-'}")
    return {name: here.folders[name] for name in names or here.folders}


def top_folder(card: Card) -> str:
    """The publisher's name for the top folder."""
    first = card.layout.strip().splitlines()[0].strip()
    return first.partition("/")[0] if "/" in first else card.title


def _aliases(name: str) -> set[str]:
    card = datasets.get(name).CARD
    return {_fold(alias) for alias in (name, card.title, top_folder(card))}


def _fold(name: str) -> str:
    """The name less what people add to it: `SEED_EEG`, `deap-dataset`."""
    bare = re.sub(r"[\s._-]+", "", name).lower()
    return re.sub(r"(?<=.)(?:eeg|ecg|dataset|database|data)+$", "", bare)
