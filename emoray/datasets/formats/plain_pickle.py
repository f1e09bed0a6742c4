"""Pickles of arrays, read without ever running what they ask for.

A pickle may name any function and call it. The publishers' pickles (DEAP, FACED, WESAD) name a few
of numpy's, and these are answered by stand-ins that take numbers and text only: numpy's own
functions trust a pickle so far that an altered one can crash the process. Every other name is
refused.

A pickle is a program, and a short one can ask for more than any memory holds: for a list twice in a
list, forty times over, or for the two thousand millionth place of the memo. So its steps are looked
through before any is taken. Pickles of arrays are a large text or two and some dozens of steps
around them, in which nothing but names, types and short texts comes up again.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import reprlib
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from emoray.datasets.formats import files
from emoray.vocabulary.schema import DataError


def load_arrays(path: Path) -> Any:
    """Load dictionaries, lists, tuples, numbers, text and numpy arrays of these; nothing else.

    Text of Python 2 is read as latin-1, as its arrays need. Arrays are read-only.

    Raises:
        DataError: the pickle asks for anything but an array, or is cut short or damaged.
    """
    head = b""
    try:
        with files.open_file(path) as file:
            head = file.read(20)
            size = _check_steps(file)
            return _Plain(size).of(_ArrayUnpickler(file, path).load())
    except DataError:
        raise
    except OSError as error:
        raise DataError(
            f"{path}: need a file that can be read, found {files.reason(error)}"
        ) from error
    # What the pickle machine meets in a stream that stops or was altered.
    except (
        pickle.UnpicklingError,
        EOFError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        OverflowError,
        RecursionError,
        struct.error,
    ) as error:
        raise DataError(
            f"{path}: need a whole pickle of arrays, found {path.stat().st_size} bytes that start "
            f"with {head!r} and stop making sense ({error}); the file is truncated or damaged"
        ) from error


def dump_python2(path: Path, content: Mapping[str, Any]) -> None:
    """Write arrays, texts and dictionaries of these as Python 2 with numpy 1 did (protocol 2).

    Python 3 spells bytes at this protocol as escaped text, half as long again; the publishers'
    files hold them plain.
    """
    with path.open("wb") as file:
        file.write(b"\x80\x02")  # protocol 2
        _write(file, content)
        file.write(b".")


_MOST_STEPS = 10_000
"""Opcodes of one pickle; the publishers' take less than a hundred."""
_MOST_DEPTH = 20
"""Of lists in lists."""
_LONGEST_AGAIN = 1024
"""Bytes of a text that may be taken from the memo: each time it may become an array."""

_OPCODES = {ord(op.code): op for op in pickletools.opcodes}
_UNITS = {
    pickletools.TAKEN_FROM_ARGUMENT1: "<B",
    pickletools.TAKEN_FROM_ARGUMENT4: "<i",
    pickletools.TAKEN_FROM_ARGUMENT4U: "<I",
    pickletools.TAKEN_FROM_ARGUMENT8U: "<Q",
}
"""How the length of an argument is written that says its own."""
_PUTS = frozenset(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"))
_GETS = frozenset(("GET", "BINGET", "LONG_BINGET"))
_ATOMS = frozenset(
    """
    NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT
    STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8
    UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 GLOBAL STACK_GLOBAL REDUCE
    """.split()
)
"""Steps after which no list, tuple or dictionary lies on top."""
_OTHERS = frozenset(
    """
    MARK EMPTY_LIST LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3
    EMPTY_DICT DICT SETITEM SETITEMS BUILD
    """.split()
)


def _check_steps(file: IO[bytes]) -> int:
    """Look through a pickle without taking any of its steps; its size in bytes.

    Every length is held against the bytes that are left, every place in the memo against the
    steps so far, and what a step takes from the memo must be short and no container.

    Raises:
        pickle.UnpicklingError: one of them does not hold, or it has too many steps.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    memo: dict[int, int | None] = {}
    top: int | None = None  # bytes of what lies on top; None for a container
    for n_steps in range(_MOST_STEPS):
        name, n_bytes, raw = _step(file, size)
        if name in _PUTS:
            place = len(memo) if name == "MEMOIZE" else _number(name, raw)
            if not 0 <= place <= n_steps:
                raise pickle.UnpicklingError(f"place {place} of the memo after {n_steps} steps")
            memo[place] = top
        elif name in _GETS:
            top = memo.get(_number(name, raw), 0)  # of a place without value pickle itself says so
            if top is None or top > _LONGEST_AGAIN:
                raise pickle.UnpicklingError("a list or a long text that comes up again")
        elif name in _ATOMS:
            top = n_bytes
        elif name in _OTHERS:
            top = None
        elif name == "STOP":
            file.seek(0)
            return size
        elif name not in ("PROTO", "FRAME"):  # these two leave the top as it is
            raise pickle.UnpicklingError(f"the step {name}, which no array needs")
    raise pickle.UnpicklingError(f"more than {_MOST_STEPS:,} steps")


def _step(file: IO[bytes], size: int) -> tuple[str, int, bytes]:
    """Name of the next opcode, bytes of its argument, and the argument if it is short."""
    code = file.read(1)
    if not code or code[0] not in _OPCODES:
        raise pickle.UnpicklingError(f"{code!r} where a step should be")
    opcode = _OPCODES[code[0]]
    n_bytes = opcode.arg.n if opcode.arg is not None else 0
    if n_bytes == pickletools.UP_TO_NEWLINE:
        lines = [file.readline() for _ in range(2 if opcode.name == "GLOBAL" else 1)]
        if not lines[-1].endswith(b"\n"):
            raise pickle.UnpicklingError(f"{opcode.name} without the end of its line")
        return opcode.name, sum(map(len, lines)), lines[0][:64]
    if n_bytes in _UNITS:
        unit = struct.Struct(_UNITS[n_bytes])
        (n_bytes,) = unit.unpack(file.read(unit.size))
    start = file.tell()
    if not 0 <= n_bytes <= size - start:
        raise pickle.UnpicklingError(f"{n_bytes} bytes of {opcode.name}, {size - start} there")
    raw = file.read(min(n_bytes, 64))
    if opcode.name == "FRAME" and int.from_bytes(raw, "little") > size - file.tell():
        raise pickle.UnpicklingError("a frame longer than the file")
    file.seek(start + n_bytes)
    return opcode.name, n_bytes, raw


def _number(name: str, raw: bytes) -> int:
    """Place in the memo: a line of digits in the first protocol, a little-endian number since."""
    return int(raw) if name in ("PUT", "GET") else int.from_bytes(raw, "little")


class _Dtype:
    """Stands for `numpy.dtype`: its code, then a state that may only say the order of bytes."""

    def __init__(self, code: str, align: bool = False, copy: bool = False) -> None:
        if not re.fullmatch(r"b1|[iu][1248]|f(2|4|8)|c(8|16)|[SU]\d{1,6}", code):
            raise pickle.UnpicklingError(f"an array of type {reprlib.repr(code)}")
        self.value = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order = state[1]
        if order not in ("<", ">", "|", "=") or any(field is not None for field in state[2:5]):
            raise pickle.UnpicklingError(f"a type with state {reprlib.repr(state)}")
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
        raise pickle.UnpicklingError(f"an array of kind {reprlib.repr(kind)}")
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
        raise pickle.UnpicklingError(f"bytes spelled in {reprlib.repr(encoding)}")
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

    def __init__(self, file: IO[bytes], path: Path) -> None:
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


class _Plain:
    """Puts arrays in the place of what stands for them, as much as a file of that size can hold."""

    def __init__(self, n_bytes: int) -> None:
        self._left = n_bytes

    def of(self, value: Any, depth: int = 0) -> Any:
        """The value without stand-ins.

        Raises:
            pickle.UnpicklingError: something else than arrays and plain values, deeper than
                `_MOST_DEPTH`, or more of it than the file has bytes.
        """
        self._left -= 1 + (len(value) if isinstance(value, str | bytes | bytearray) else 0)
        self._left -= value.value.nbytes if isinstance(value, _Array) else 0
        if self._left < 0 or depth > _MOST_DEPTH:
            raise pickle.UnpicklingError("lists in lists beyond what the file can hold")
        if isinstance(value, _Array):
            return value.value
        if isinstance(value, dict):
            return {self._key(key): self.of(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(self.of(item, depth + 1) for item in value)
        if isinstance(value, str | bytes | bytearray | int | float | complex | np.generic | None):
            return value
        raise pickle.UnpicklingError(f"a {type(value).__name__} among the arrays")

    @staticmethod
    def _key(key: object) -> str:
        if not isinstance(key, str):
            raise pickle.UnpicklingError(f"a {type(key).__name__} as the name of an array")
        return key


def _text(text: str) -> bytes:
    raw = text.encode("latin1")
    return b"U" + bytes([len(raw)]) + raw


def _int(number: int) -> bytes:
    return b"J" + struct.pack("<i", number)


def _write(file: IO[bytes], value: Any) -> None:
    """The opcodes of one value."""
    if isinstance(value, str):
        file.write(_text(value))
    elif isinstance(value, np.ndarray):
        little = value.dtype.newbyteorder("<")
        _write_array(file, np.ascontiguousarray(value, dtype=little))
    else:
        file.write(b"}")  # an empty dict
        for name, item in value.items():
            file.write(_text(name))
            _write(file, item)
            file.write(b"s")  # set the item


def _write_array(file: IO[bytes], array: NDArray[np.generic]) -> None:
    """The opcodes of `numpy.core.multiarray._reconstruct(ndarray, (0,), 'b')` and its state."""
    kind = f"{array.dtype.kind}{array.dtype.itemsize}"
    file.write(b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85")
    file.write(_text("b") + b"\x87R")
    file.write(b"(K\x01(" + b"".join(_int(n) for n in array.shape) + b"t")
    file.write(b"cnumpy\ndtype\n" + _text(kind) + b"K\x00K\x01\x87R")
    file.write(b"(K\x03" + _text("<") + b"NNN" + _int(-1) + _int(-1) + b"K\x00tb")
    file.write(b"\x89T" + struct.pack("<i", array.nbytes))  # not in Fortran order; its bytes
    file.write(array.data)
    file.write(b"tb")
