"""MATLAB files: whole variables, or one cell out of a large one.

`load` reads variables of a v5 file (scipy) or of a v7.3 file (pymatreader). `load_parts` walks
the element tree of a v5 file and keeps only what is asked for: a release that is one compressed
structure of two gigabytes (DREAMER) gives up one subject in the memory of one subject.

Format: MathWorks, "MAT-File Format", level 5. An element is a tag of 8 bytes (type, length) and
its body, padded to 8 bytes; a matrix's body is flags, dimensions, name and contents as elements.
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import pymatreader
import scipy.io
from scipy.io.matlab import MatReadError

from emoray.schema import DataError

Part = tuple[str | int, ...]
"""Way to a value: the variable, then names of fields and numbers of cells from 0."""

_HEADER_BYTES = 128
_UINT32, _INT32, _INT8, _MATRIX, _COMPRESSED = 6, 5, 1, 14, 15  # element types
_CELL, _STRUCT = 1, 2  # classes of a matrix
_BLOCK, _INFLATED_BLOCK = 1 << 16, 1 << 22  # bytes taken in and given out at once

# What scipy, h5py and zlib raise on a file that stops early or was altered.
_DAMAGE = (
    MatReadError,
    OSError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    EOFError,
    MemoryError,
    OverflowError,
    NotImplementedError,
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
        return {name: tuple(shape) for name, shape, _ in scipy.io.whosmat(path, appendmat=False)}
    except _DAMAGE as error:
        raise _damaged(path, error) from error


def load(path: Path, names: Sequence[str]) -> dict[str, Any]:
    """Values of the named variables.

    Of a v5 file as `scipy.io.loadmat` gives them: matrices of at least two axes, cells as object
    arrays, structures as record arrays. Of a v7.3 file the numeric ones alike, cells as lists
    and structures as dictionaries.

    Raises:
        DataError: a variable is missing, or the file is truncated, damaged or not MATLAB's.
    """
    try:
        if _is_hdf5(path):
            found = pymatreader.read_mat(path, variable_names=list(names))
            found = {k: np.atleast_2d(v) if np.isscalar(v) else v for k, v in found.items()}
        else:
            found = scipy.io.loadmat(path, appendmat=False, variable_names=list(names))
    except _DAMAGE as error:
        raise _damaged(path, error) from error
    absent = [name for name in names if name not in found]
    if absent:
        there = ", ".join(variables(path)) or "none"
        raise DataError(f"{path}: need variable {', '.join(absent)}; found {there}")
    return {name: found[name] for name in names}


def load_parts(path: Path, parts: Sequence[Part]) -> list[Any]:
    """Values of parts of a v5 file, in one pass that holds nothing else in memory.

    Each value is as `scipy.io.loadmat` gives it. A cell's number counts down the columns first,
    as MATLAB does.

    Raises:
        DataError: a part is missing, or the file is truncated, damaged or not v5.
    """
    found = dict(_walk_file(path, parts, shapes_only=False))
    return [found[part] for part in parts]


def shape(path: Path, part: Part) -> tuple[int, ...]:
    """Shape of a part of a v5 file; reads no further than its head.

    Raises:
        DataError: as `load_parts`.
    """
    found = dict(_walk_file(path, [part], shapes_only=True))
    return tuple(int(n) for n in found[part])


def _damaged(path: Path, error: Exception) -> DataError:
    size = path.stat().st_size if path.exists() else 0
    return DataError(
        f"{path}: need a whole MATLAB file, found {size} bytes that cannot be read ({error}); "
        "the file is truncated or damaged"
    )


def _is_hdf5(path: Path) -> bool:
    with path.open("rb") as file:
        return b"MATLAB 7.3" in file.read(_HEADER_BYTES)


def _hdf5_variables(path: Path) -> dict[str, tuple[int, ...]]:
    import h5py  # comes with pymatreader; only v7.3 needs it

    with h5py.File(path, "r") as file:
        # MATLAB writes columns first: its shape is HDF5's reversed.
        return {
            name: tuple(reversed(getattr(item, "shape", ())))
            for name, item in file.items()
            if not name.startswith("#")
        }


class _Stream(Protocol):
    """Bytes in order, some of them skipped."""

    @property
    def position(self) -> int: ...

    def read(self, n: int) -> bytes: ...

    def skip(self, n: int) -> None: ...


class _Plain:
    """The file itself, up to its end."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._end = file.seek(0, io.SEEK_END)
        file.seek(0)

    @property
    def position(self) -> int:
        return self._file.tell()

    def at_end(self) -> bool:
        return self.position >= self._end

    def seek(self, position: int) -> None:
        if position > self._end:
            raise EOFError(f"{position} bytes announced, the file has {self._end}")
        self._file.seek(position)

    def read(self, n: int) -> bytes:
        raw = self._file.read(n)
        if len(raw) < n:
            raise EOFError(f"{n} bytes needed at byte {self._end - len(raw)}, {len(raw)} there")
        return raw

    def skip(self, n: int) -> None:
        self.seek(self.position + n)


class _Inflated:
    """A compressed element, inflated as far as it is read and never kept."""

    def __init__(self, source: _Plain, n_compressed: int) -> None:
        self._source = source
        self._left = n_compressed
        self._inflater = zlib.decompressobj()
        self._pending = b""
        self._position = 0

    @property
    def position(self) -> int:
        return self._position

    def _next(self, at_most: int) -> bytes:
        while True:
            if not self._pending and self._left:
                self._pending = self._source.read(min(_BLOCK, self._left))
                self._left -= len(self._pending)
            raw = self._inflater.decompress(self._pending, at_most)
            self._pending = self._inflater.unconsumed_tail
            if raw:
                self._position += len(raw)
                return raw
            if self._inflater.eof or not (self._pending or self._left):
                raise EOFError("a compressed variable ends early")

    def read(self, n: int) -> bytes:
        blocks = []
        while n:
            blocks.append(self._next(min(n, _INFLATED_BLOCK)))
            n -= len(blocks[-1])
        return b"".join(blocks)

    def skip(self, n: int) -> None:
        while n:
            n -= len(self._next(min(n, _INFLATED_BLOCK)))


@dataclass(frozen=True)
class _Matrix:
    """Head of a matrix: all before its contents."""

    flags: bytes
    dims: tuple[int, ...]
    name: str
    n_contents: int
    """Bytes of the body that follow the head."""

    @property
    def kind(self) -> int:
        return self.flags[0]


def _walk_file(
    path: Path, parts: Sequence[Part], *, shapes_only: bool
) -> Iterator[tuple[Part, Any]]:
    """Each part with its value (or dimensions); ends when all are found."""
    left = set(parts)
    try:
        with path.open("rb") as file:
            stream = _Plain(file)
            _check_header(stream.read(_HEADER_BYTES))
            while left and not stream.at_end():
                kind, n = _tag(stream)
                element: _Stream = stream
                resume = stream.position + n  # however far the element is read
                if kind == _COMPRESSED:
                    element = _Inflated(stream, n)
                    kind, n = _tag(element)
                if kind == _MATRIX:
                    for part, value in _walk_variable(element, n, left, shapes_only):
                        left.discard(part)
                        yield part, value
                if left:
                    stream.seek(resume)
    except DataError:
        raise
    except _DAMAGE as error:
        raise _damaged(path, error) from error
    if left:
        wanted = ", ".join(sorted(_spell(part) for part in left))
        raise DataError(f"{path}: need {wanted}; found no such variable, field or cell")


def _spell(part: Part) -> str:
    """`DREAMER.Data{4}`, as MATLAB writes it (cells from 1)."""
    head, *rest = part
    return str(head) + "".join(f".{s}" if isinstance(s, str) else f"{{{s + 1}}}" for s in rest)


def _check_header(header: bytes) -> None:
    if header[126:128] != b"IM" or header[124:126] != b"\x00\x01":
        raise ValueError(f"not a little-endian MATLAB v5 file: {header[:19]!r}")


def _tag(stream: _Stream) -> tuple[int, int]:
    kind, n = struct.unpack("<II", stream.read(8))
    return kind, n


def _small(stream: _Stream) -> tuple[bytes, int]:
    """An element of the head, and how many bytes it took; up to 4 bytes fit beside the tag."""
    kind, n = struct.unpack("<II", raw := stream.read(8))
    if kind >> 16:
        return raw[4 : 4 + (kind >> 16)], 8
    padded = -(-n // 8) * 8
    return stream.read(padded)[:n], 8 + padded


def _head(stream: _Stream, n_bytes: int) -> _Matrix:
    flags, n_flags = _small(stream)
    dims, n_dims = _small(stream)
    name, n_name = _small(stream)
    lengths = struct.unpack(f"<{len(dims) // 4}i", dims)
    return _Matrix(flags, lengths, name.decode(), n_bytes - n_flags - n_dims - n_name)


def _walk_variable(
    stream: _Stream, n_bytes: int, parts: Iterable[Part], shapes_only: bool
) -> Iterator[tuple[Part, Any]]:
    matrix = _head(stream, n_bytes)
    wanted = {part: part[1:] for part in parts if part[0] == matrix.name}
    if wanted:
        yield from _walk_matrix(stream, matrix, wanted, shapes_only)


def _walk_matrix(
    stream: _Stream, matrix: _Matrix, wanted: dict[Part, Part], shapes_only: bool
) -> Iterator[tuple[Part, Any]]:
    """Values below a matrix whose head has been read; `wanted` gives the steps still to go.

    Stops in the middle of the matrix once all are found.
    """
    here = [part for part, steps in wanted.items() if not steps]
    if here and shapes_only:
        yield from ((part, matrix.dims) for part in here)
        return
    if here:
        value = _decode(matrix, stream)
        yield from ((part, value) for part in here)
        return
    left = set(wanted)
    for label, n in _children(stream, matrix):
        below = {p: s[1:] for p, s in wanted.items() if s[0] == label and p in left}
        if not below:
            stream.skip(n)
            continue
        end = stream.position + n
        if n == 0:  # an empty matrix has no body
            yield from ((p, (0, 0) if shapes_only else np.zeros((0, 0))) for p in below)
        else:
            yield from _walk_matrix(stream, _head(stream, n), below, shapes_only)
        left -= set(below)
        if not left:
            return
        stream.skip(end - stream.position)


def _children(stream: _Stream, matrix: _Matrix) -> Iterator[tuple[str | int, int]]:
    """Label and length of each element of a cell, or of each field of a single structure.

    The caller reads or skips an element's body before it asks for the next.
    """
    labels: Iterable[str | int] = range(math.prod(matrix.dims))
    if matrix.kind == _STRUCT and math.prod(matrix.dims) == 1:
        width, _ = _small(stream)
        names, _ = _small(stream)
        n = struct.unpack("<i", width)[0]
        labels = [names[i : i + n].rstrip(b"\0").decode() for i in range(0, len(names), n)]
    elif matrix.kind != _CELL:
        return
    for label in labels:
        kind, n_bytes = _tag(stream)
        if kind != _MATRIX:
            raise ValueError(f"element of type {kind} where a matrix was due")
        yield label, n_bytes


def _decode(matrix: _Matrix, stream: _Stream) -> Any:
    """Let scipy read the matrix, as the only variable of a file in memory."""
    name = b"part\0\0\0\0"
    dims = struct.pack(f"<{len(matrix.dims)}i", *matrix.dims)
    head = b"".join(
        (
            struct.pack("<II", _UINT32, 8) + matrix.flags,
            struct.pack("<II", _INT32, len(dims)) + dims + bytes(-len(dims) % 8),
            struct.pack("<II", _INT8, 4) + name,
        )
    )
    tag = struct.pack("<II", _MATRIX, len(head) + matrix.n_contents)
    header = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    # In one expression, so that the contents are held once while scipy reads them.
    file = io.BytesIO(b"".join((header, tag, head, stream.read(matrix.n_contents))))
    return scipy.io.loadmat(file, variable_names=["part"])["part"]
