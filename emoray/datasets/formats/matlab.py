"""MATLAB files: whole variables, or one cell out of a large one.

v5 files are walked as a stream (`_mat5`): a release that is one compressed structure of two
gigabytes (DREAMER) gives up one subject in the memory of one subject. v7.3 files are HDF5 and
are read by pymatreader.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import pymatreader

from emoray.datasets.formats import files, mat5
from emoray.datasets.formats.bounded_reading import ALWAYS_INFLATED, LARGEST_RATIO
from emoray.vocabulary.schema import DataError

Part = mat5.Part

# What the walk, h5py and pymatreader raise on a file that stops early or was altered.
_DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
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
    with _reading(path) as file:
        return _hdf5_variables(path) if _is_hdf5(file) else dict(mat5.heads(file))


def load(path: Path, names: Sequence[str]) -> dict[str, Any]:
    """Values of the named variables.

    Of a v5 file, of either byte order, as `scipy.io.loadmat` gives them: matrices of at least two
    axes in the type in which they are stored (read-only), text as one string a row, cells as
    arrays of objects, structures as record arrays. Of a v7.3 file matrices of numbers only.

    Raises:
        DataError: a variable is missing, or the file is truncated, damaged or not MATLAB's.
    """
    found: dict[str, Any] = {}
    with _reading(path) as file:
        if _is_hdf5(file):
            _check_hdf5(path, names)
            whole = pymatreader.read_mat(path, variable_names=list(names))
            found = {k: np.atleast_2d(v) if np.isscalar(v) else v for k, v in whole.items()}
        else:
            found = {str(part[0]): v for part, v in mat5.walk(file, [(n,) for n in names])}
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
    with _reading(path) as file:
        found = dict(mat5.walk(file, parts))
    if absent := [_spell(part) for part in parts if part not in found]:
        raise _absent(path, absent)
    return [found[part] for part in parts]


def shape(path: Path, part: Part) -> tuple[int, ...]:
    """Shape of a part of a v5 file; reads no further than its head.

    Raises:
        DataError: as `load_parts`.
    """
    with _reading(path) as file:
        found = [dims for _, dims in mat5.heads(file, part)]
    if not found:
        raise _absent(path, [_spell(part)])
    return found[0]


@contextmanager
def _reading(path: Path) -> Iterator[IO[bytes]]:
    """The file, and one kind of error for all that can be wrong with it."""
    with files.open_file(path) as file:
        try:
            yield file
        except DataError:
            raise
        except mat5.NotMat5Error as error:
            if file.seek(0, io.SEEK_END) < mat5.HEADER_BYTES:
                raise _damaged(path, error) from error
            raise DataError(
                f"{path}: need a MATLAB file of version 5 or 7.3, found another kind: {error}"
            ) from error
        except _DAMAGE as error:
            raise _damaged(path, error) from error


def _spell(part: Part) -> str:
    """`DREAMER.Data{4}`, as MATLAB writes it (cells from 1)."""
    head, *rest = part
    return str(head) + "".join(f".{s}" if isinstance(s, str) else f"{{{s + 1}}}" for s in rest)


def _absent(path: Path, parts: Sequence[str]) -> DataError:
    return DataError(f"{path}: need {', '.join(parts)}; found no such variable, field or cell")


def _damaged(path: Path, error: Exception) -> DataError:
    if isinstance(error, OSError) and error.errno is not None:  # the disk, not what is on it
        return DataError(f"{path}: need a file that can be read, found {files.reason(error)}")
    return DataError(
        f"{path}: need a whole MATLAB file, found {path.stat().st_size} bytes that cannot be read "
        f"({error}); the file is truncated or damaged"
    )


def _is_hdf5(file: IO[bytes]) -> bool:
    head = file.read(128)
    file.seek(0)
    return b"MATLAB 7.3" in head


def _check_hdf5(path: Path, names: Sequence[str]) -> None:
    """Refuse what is no matrix of numbers, or would fill the memory from a small file."""
    import h5py

    most = ALWAYS_INFLATED + LARGEST_RATIO * path.stat().st_size
    with h5py.File(path, "r") as file:
        for name in (n for n in names if n in file):
            item = file[name]
            if not isinstance(item, h5py.Dataset) or item.dtype.kind not in "fiub":
                raise DataError(f"{path}: need numbers in variable {name}, found {item}")
            if item.nbytes > most:
                raise DataError(
                    f"{path}: need at most {most:,} bytes in variable {name} of a file of this "
                    f"size, found {item.nbytes:,}; the file is damaged"
                )


def _hdf5_variables(path: Path) -> dict[str, tuple[int, ...]]:
    import h5py  # comes with pymatreader; only v7.3 needs it

    with h5py.File(path, "r") as file:
        # MATLAB writes columns first: its shape is HDF5's reversed.
        return {
            name: tuple(reversed(getattr(item, "shape", ())))
            for name, item in file.items()
            if not name.startswith("#")
        }
