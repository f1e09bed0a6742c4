"""The datasets: one file each, and the folder is the registry.

A file that does not start with an underscore is a dataset (a folder is none) and offers what
`emoray.vocabulary.schema.DatasetModule` asks: CARD, find, read, write_example.
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import cast

from emoray.vocabulary.schema import DatasetModule, RecordingRef


def names() -> tuple[str, ...]:
    """Names of all datasets in this folder, sorted."""
    return tuple(sorted(_files()))


def get(name: str) -> DatasetModule:
    """The dataset of that name.

    Raises:
        ValueError: there is none; the message lists those there are.
    """
    if name not in (known := names()):
        raise ValueError(f"need a dataset among {', '.join(known)}; got {name!r}")
    return cast(DatasetModule, importlib.import_module(f"{__name__}.{name}"))


def _files() -> list[str]:
    """Datasets by file; `formats`, which they share, is a folder."""
    found = pkgutil.iter_modules(__path__)
    return [m.name for m in found if not m.ispkg and not m.name.startswith("_")]


def paths(root: Path, ref: RecordingRef) -> tuple[Path, ...]:
    """Where the files of a recording lie on this disk, in the order of `ref.files`.

    A dataset whose folders bear participants' names (MPED) keeps them out of its refs, and
    offers `locate` to find them again. Such paths belong in no log and no manifest.
    """
    locate = getattr(get(ref.dataset), "locate", None)
    if locate is None:
        return tuple(root / file for file in ref.files)
    return cast("tuple[Path, ...]", locate(root, ref))
