"""Arrays of a figure kept as .npz: what is there is whole, what is not says so."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from emoray.runtime.storage import Storage
from emoray.vocabulary.schema import DataError

_T = TypeVar("_T")


def write_arrays(storage: Storage, file: str, **arrays: NDArray[Any]) -> None:
    """Write arrays under their names; the file appears complete or not at all.

    Raises:
        OSError: the folder cannot be written; the message says which.
    """
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    storage.write_bytes(file, buffer.getvalue())


def read_arrays(storage: Storage, file: str, make: Callable[..., _T], what: str) -> _T:
    """What was made of arrays that `write_arrays` wrote.

    Args:
        storage: where.
        file: its name.
        make: takes the arrays by their names.
        what: they hold, for errors.

    Raises:
        DataError: there is no such file, or `make` can do nothing with what it holds.
    """
    data = storage.read(file)
    if data is None:
        raise DataError(f"{storage}: need the {what} {file}, got no such file")
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as found:
            return make(**found)
    except Exception as e:  # a damaged archive raises whatever the damage strikes
        raise DataError(f"{storage.place(file)}: need a {what} as save writes it: {e}") from e
