"""MATLAB files: whole variables, or one cell out of a large one.

v5 files are walked as a stream (`_mat5`): a release that is one compressed structure of two
gigabytes (DREAMER) gives up one subject in the memory of one subject. v7.3 files are HDF5 and
are read by pymatreader.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pymatreader

from emoray.datasets import _mat5
from emoray.schema import DataError

Part = _mat5.Part

# What the walk, h5py and pymatreader raise on a file that stops early or was altered.
_DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    MemoryError,
    OverflowError,
    NotImplementedError,
    RecursionError,
    RuntimeError,
    zlib.error,
    struct.error,
)


def variables(path: Path) -> dict[str, tuple[int, ...]]:
    """Shape of each variable, in the order of the file; empty for one that v7.3 keeps nested.

    Raises:
        DataError: the file is truncated, damaged or not MATLAB's.
    """
    try:
        if _is_hdf5(path):
            return _hdf5_variables(path)
        with path.open("rb") as file:
            return dict(_mat5.heads(file))
    except _DAMAGE as error:
        raise _damaged(path, error) from error


def load(path: Path, names: Sequence[str]) -> dict[str, Any]:
    """Values of the named variables.

    Of a v5 file as `scipy.io.loadmat` gives them: matrices of at least two axes in the type in
    which they are stored (read-only), text as one string a row, cells as arrays of objects,
    structures as record arrays. Of a v7.3 file the numeric ones alike, cells as lists and
    structures as dictionaries.

    Raises:
        DataError: a variable is missing, or the file is truncated, damaged or not MATLAB's.
    """
    try:
        if _is_hdf5(path):
            found = pymatreader.read_mat(path, variable_names=list(names))
            found = {k: np.atleast_2d(v) if np.isscalar(v) else v for k, v in found.items()}
        else:
            found = {str(part[0]): value for part, value in _walk(path, [(n,) for n in names])}
    except _DAMAGE as error:
        raise _damaged(path, error) from error
    absent = [name for name in names if name not in found]
    if absent:
        there = ", ".join(variables(path)) or "none"
        raise DataError(f"{path}: need variable {', '.join(absent)}; found {there}")
    return {name: found[name] for name in names}


def load_parts(path: Path, parts: Sequence[Part]) -> list[Any]:
    """Values of parts of a v5 file, in one pass that holds nothing else in memory.

    Each value is as `load` gives it. A cell's number counts down the columns first, as MATLAB
    does. A field is one of a single structure, not of an array of them.

    Raises:
        DataError: a part is missing, or the file is truncated, damaged or not v5.
    """
    try:
        found = dict(_walk(path, parts))
    except _DAMAGE as error:
        raise _damaged(path, error) from error
    if absent := [_spell(part) for part in parts if part not in found]:
        raise _absent(path, absent)
    return [found[part] for part in parts]


def shape(path: Path, part: Part) -> tuple[int, ...]:
    """Shape of a part of a v5 file; reads no further than its head.

    Raises:
        DataError: as `load_parts`.
    """
    try:
        with path.open("rb") as file:
            found = [dims for _, dims in _mat5.heads(file, part)]
    except _DAMAGE as error:
        raise _damaged(path, error) from error
    if not found:
        raise _absent(path, [_spell(part)])
    return found[0]


def _walk(path: Path, parts: Sequence[Part]) -> list[tuple[Part, Any]]:
    with path.open("rb") as file:
        return list(_mat5.walk(file, parts))


def _spell(part: Part) -> str:
    """`DREAMER.Data{4}`, as MATLAB writes it (cells from 1)."""
    head, *rest = part
    return str(head) + "".join(f".{s}" if isinstance(s, str) else f"{{{s + 1}}}" for s in rest)


def _absent(path: Path, parts: Sequence[str]) -> DataError:
    return DataError(f"{path}: need {', '.join(parts)}; found no such variable, field or cell")


def _damaged(path: Path, error: Exception) -> DataError:
    size = path.stat().st_size if path.exists() else 0
    return DataError(
        f"{path}: need a whole MATLAB file, found {size} bytes that cannot be read ({error}); "
        "the file is truncated or damaged"
    )


def _is_hdf5(path: Path) -> bool:
    with path.open("rb") as file:
        return b"MATLAB 7.3" in file.read(128)


def _hdf5_variables(path: Path) -> dict[str, tuple[int, ...]]:
    import h5py  # comes with pymatreader; only v7.3 needs it

    with h5py.File(path, "r") as file:
        # MATLAB writes columns first: its shape is HDF5's reversed.
        return {
            name: tuple(reversed(getattr(item, "shape", ())))
            for name, item in file.items()
            if not name.startswith("#")
        }
