"""Pickles of arrays, read without ever running what they ask for.

A pickle may name any function and call it. The publishers' pickles (DEAP, FACED) name a few of
numpy's, and these are answered by stand-ins that take numbers and text only: numpy's own functions
trust a pickle so far that an altered one can crash the process. Every other name is refused.
"""

from __future__ import annotations

import pickle
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from emoray.schema import DataError, FloatArray


def load_arrays(path: Path) -> Any:
    """Load dictionaries, lists, tuples, numbers, text and numpy arrays of these; nothing else.

    Text of Python 2 is read as latin-1, as its arrays need. Arrays are read-only.

    Raises:
        DataError: the pickle asks for anything but an array, or is cut short or damaged.
    """
    try:
        with path.open("rb") as file:
            return _plain(_ArrayUnpickler(file, path).load())
    except DataError:
        raise
    # What the pickle machine meets in a stream that stops or was altered.
    except (
        pickle.UnpicklingError,
        EOFError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        OverflowError,
        MemoryError,
        RecursionError,
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


class _Dtype:
    """Stands for `numpy.dtype`: its code, then a state that may only say the order of bytes."""

    def __init__(self, code: str, align: bool = False, copy: bool = False) -> None:
        if not re.fullmatch(r"b1|[iu][1248]|f(2|4|8)|c(8|16)|[SU]\d{1,6}", code):
            raise pickle.UnpicklingError(f"an array of type {code!r}")
        self.value = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order = state[1]
        if order not in ("<", ">", "|", "=") or any(field is not None for field in state[2:5]):
            raise pickle.UnpicklingError(f"a type with state {state!r}")
        self.value = self.value.newbyteorder(order)


class _Array:
    """Stands for an array, empty until its state has come."""

    value: NDArray[np.generic] = np.zeros(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _version, shape, dtype, in_fortran_order, raw = state
        # Python 2's bytes arrive as text, one character for each.
        self.value = _frombuffer(
            raw.encode("latin1") if isinstance(raw, str) else raw,
            dtype,
            shape,
            "F" if in_fortran_order else "C",
        ).value


class _NdarrayName:
    """What `numpy.ndarray` is answered with: a name that cannot be called."""


def _reconstruct(kind: object, shape: object, code: object) -> _Array:
    if kind is not _NdarrayName:
        raise pickle.UnpicklingError(f"an array of kind {kind!r}")
    return _Array()


def _frombuffer(raw: Any, dtype: _Dtype, shape: Any, order: Any) -> _Array:
    array = _Array()
    flat = np.frombuffer(raw, dtype.value) if len(raw) else np.zeros(0, dtype.value)
    array.value = flat.reshape(shape, order=order)
    return array


def _scalar(dtype: _Dtype, raw: bytes | str) -> Any:
    return np.frombuffer(raw.encode("latin1") if isinstance(raw, str) else raw, dtype.value)[0]


def _latin1(text: str, encoding: str = "latin1") -> bytes:
    """How Python 3 spells bytes in old protocols; other codecs have no business in an array."""
    if encoding.lower().replace("-", "") not in ("latin1", "iso88591"):
        raise pickle.UnpicklingError(f"bytes spelled in {encoding!r}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """How Python 3 spells the empty bytes of an array without elements."""
    return b""


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _NdarrayName,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _latin1,
    ("__builtin__", "bytes"): _no_bytes,
}
for _core in ("numpy.core", "numpy._core"):  # before and since numpy 2
    _ALLOWED[f"{_core}.multiarray", "_reconstruct"] = _reconstruct
    _ALLOWED[f"{_core}.multiarray", "scalar"] = _scalar
    _ALLOWED[f"{_core}.numeric", "_frombuffer"] = _frombuffer


class _ArrayUnpickler(pickle.Unpickler):
    """Refuses every name that is not in `_ALLOWED`."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        super().__init__(file, encoding="latin1")
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        """Give what stands for that name, if rebuilding an array needs it."""
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise DataError(
                f"{self._path}: need a pickle of numpy arrays, found one that asks for "
                f"{module}.{name}; refused, it could run any code"
            ) from None


def _plain(value: Any) -> Any:
    """Arrays in the place of what stands for them."""
    if isinstance(value, _Array):
        return value.value
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(item) for item in value)
    if isinstance(value, str | bytes | bytearray | int | float | complex | np.generic | None):
        return value
    raise pickle.UnpicklingError(f"a {type(value).__name__} among the arrays")


def _text(text: str) -> bytes:
    raw = text.encode("latin1")
    return b"U" + bytes([len(raw)]) + raw


def _int(number: int) -> bytes:
    return b"J" + struct.pack("<i", number)


def _write_array(file: BinaryIO, array: FloatArray) -> None:
    """The opcodes of `numpy.core.multiarray._reconstruct(ndarray, (0,), 'b')` and its state."""
    file.write(b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85")
    file.write(_text("b") + b"\x87R")
    file.write(b"(K\x01(" + b"".join(_int(n) for n in array.shape) + b"t")
    file.write(b"cnumpy\ndtype\n" + _text("f8") + b"K\x00K\x01\x87R")
    file.write(b"(K\x03" + _text("<") + b"NNN" + _int(-1) + _int(-1) + b"K\x00tb")
    file.write(b"\x89T" + struct.pack("<i", array.nbytes))  # not in Fortran order; its bytes
    file.write(array.data)
    file.write(b"tb")
