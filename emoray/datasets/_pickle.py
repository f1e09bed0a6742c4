"""Pickles of arrays, read without ever running what they ask for.

A pickle may name any function and call it. The publishers' pickles (DEAP, FACED) need a few names
to rebuild numpy arrays; every other name is refused.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from emoray.schema import DataError, FloatArray


def load_arrays(path: Path) -> Any:
    """Load dictionaries, lists, numbers, text and numpy arrays; nothing else.

    Text of Python 2 is read as latin-1, as its arrays need.

    Raises:
        DataError: the pickle asks for anything but an array, or is cut short or damaged.
    """
    try:
        with path.open("rb") as file:
            return _ArrayUnpickler(file, path).load()
    except DataError:
        raise
    # What the pickle machine meets in a stream that stops or was altered.
    except (
        pickle.UnpicklingError,
        EOFError,
        ValueError,
        TypeError,
        IndexError,
        KeyError,
        AttributeError,
        OverflowError,
        MemoryError,
    ) as error:
        size = path.stat().st_size
        raise DataError(
            f"{path}: need a whole pickle of arrays, found {size} bytes that stop making sense "
            f"({error}); the file is truncated or damaged"
        ) from error


def dump_python2(path: Path, arrays: Mapping[str, FloatArray]) -> None:
    """Write float64 arrays by name as Python 2 with numpy 1 did (pickle protocol 2).

    Python 3 spells bytes at this protocol as escaped text, half as long again; the publishers'
    files hold them plain.
    """
    with path.open("wb") as file:
        file.write(b"\x80\x02}")  # protocol 2, an empty dict
        for name, array in arrays.items():
            file.write(_text(name))
            _write_array(file, np.ascontiguousarray(array, dtype="<f8"))
            file.write(b"s")  # set the item
        file.write(b".")


def _latin1(text: str, encoding: str = "latin1") -> bytes:
    """How Python 3 spells bytes in old protocols; other codecs have no business in an array."""
    if encoding.lower().replace("-", "") not in ("latin1", "iso88591"):
        raise pickle.UnpicklingError(f"bytes spelled in {encoding!r}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """How Python 3 spells the empty bytes of an array without elements."""
    return b""


def _numpy_names() -> dict[tuple[str, str], Any]:
    """The functions by which numpy 1 and 2 rebuild an array, a type and a number."""
    multiarray = np.asarray(0).__reduce__()[0].__module__  # numpy.core... or numpy._core...
    reconstruct = np.asarray(0).__reduce__()[0]
    scalar = np.float64(0).__reduce__()[0]
    frombuffer = np.zeros(1).__reduce_ex__(5)[0]
    names: dict[tuple[str, str], Any] = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): _latin1,
        ("__builtin__", "bytes"): _no_bytes,
    }
    for module in {"numpy.core.multiarray", "numpy._core.multiarray", multiarray}:
        names[(module, "_reconstruct")] = reconstruct
        names[(module, "scalar")] = scalar
    for module in ("numpy.core.numeric", "numpy._core.numeric"):
        names[(module, "_frombuffer")] = frombuffer
    return names


_ALLOWED = _numpy_names()


class _ArrayUnpickler(pickle.Unpickler):
    """Refuses every name that is not in `_ALLOWED`."""

    def __init__(self, file: Any, path: Path) -> None:
        super().__init__(file, encoding="latin1")
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        """Give the function of that name, if rebuilding an array needs it."""
        try:
            return _ALLOWED[(module, name)]
        except KeyError:
            raise DataError(
                f"{self._path}: need a pickle of numpy arrays, found one that asks for "
                f"{module}.{name}; refused, it could run any code"
            ) from None


def _text(text: str) -> bytes:
    raw = text.encode("latin1")
    return b"U" + bytes([len(raw)]) + raw


def _int(number: int) -> bytes:
    return b"J" + struct.pack("<i", number)


def _write_array(file: Any, array: FloatArray) -> None:
    """The opcodes of `numpy.core.multiarray._reconstruct(ndarray, (0,), 'b')` and its state."""
    file.write(b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85")
    file.write(_text("b") + b"\x87R")
    file.write(b"(K\x01(" + b"".join(_int(n) for n in array.shape) + b"t")
    file.write(b"cnumpy\ndtype\n" + _text("f8") + b"K\x00K\x01\x87R")
    file.write(b"(K\x03" + _text("<") + b"NNN" + _int(-1) + _int(-1) + b"K\x00tb")
    file.write(b"\x89T" + struct.pack("<i", array.nbytes))  # not in Fortran order; its bytes
    file.write(array.data)
    file.write(b"tb")
