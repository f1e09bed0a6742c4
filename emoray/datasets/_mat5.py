"""The element tree of a MATLAB v5 file, walked as a stream.

What is not asked for is skipped, in a compressed variable inflated and forgotten. Every length is
held against what is there, so that an altered file ends in an error and never in a crash.

Format: MathWorks, "MAT-File Format", level 5. An element is a tag of 8 bytes (type, length) and
its body, padded to 8 bytes; a matrix's body is flags, dimensions, name and contents as elements.
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

Part = tuple[str | int, ...]
"""Way to a value: the variable, then names of fields and numbers of cells from 0."""

_HEADER_BYTES = 128
_BLOCK, _INFLATED_BLOCK = 1 << 16, 1 << 22  # bytes taken in and given out at once

_MATRIX, _COMPRESSED, _UTF8 = 14, 15, 16
_NUMBERS = {1: "i1", 2: "u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 9: "<f8",
            12: "<i8", 13: "<u8", 16: "u1", 17: "<u2"}  # fmt: skip
"""Types of elements that hold numbers (16 and 17: text) and how numpy writes them."""
_CELL, _STRUCT, _CHAR, _NUMERIC = 1, 2, 4, range(6, 16)  # classes of matrices
_OPAQUE = 17  # MATLAB's own objects (its string, its table): known by name only
_COMPLEX = 0x08  # among a matrix's flags


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
            raise EOFError(f"{position} bytes announced, {self._end} there")
        self._file.seek(position)

    def read(self, n: int) -> bytes:
        if self.position + n > self._end:
            raise EOFError(f"{self.position + n} bytes announced, {self._end} there")
        return self._file.read(n)

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
        """Some bytes; none at the end."""
        while not self._inflater.eof:
            if not self._pending and self._left:
                self._pending = self._source.read(min(_BLOCK, self._left))
                self._left -= len(self._pending)
            raw = self._inflater.decompress(self._pending, at_most)
            self._pending = self._inflater.unconsumed_tail
            if raw:
                self._position += len(raw)
                return raw
            if not (self._inflater.eof or self._pending or self._left):
                raise EOFError("a compressed variable ends early")
        return b""

    def _blocks(self, n: int) -> Iterator[bytes]:
        while n:
            block = self._next(min(n, _INFLATED_BLOCK))
            if not block:
                raise EOFError("a compressed variable is shorter than it says")
            n -= len(block)
            yield block

    def read(self, n: int) -> bytes:
        return b"".join(self._blocks(n))

    def skip(self, n: int) -> None:
        for _ in self._blocks(n):
            pass

    def finish(self) -> None:
        """Inflate the rest: zlib holds its checksum against all that came out."""
        while self._next(_INFLATED_BLOCK):
            pass


@dataclass(frozen=True)
class _Matrix:
    """Head of a matrix: all before its contents."""

    flags: bytes
    dims: tuple[int, ...]
    name: str
    end: int
    """Position in the stream after the contents."""

    @property
    def kind(self) -> int:
        return self.flags[0]

    @property
    def size(self) -> int:
        return math.prod(self.dims)


def walk(file: BinaryIO, parts: Iterable[Part]) -> Iterator[tuple[Part, NDArray[Any]]]:
    """Each part that is there, with its value; of all else only the heads, to the file's end.

    In a variable that is not compressed, a byte inserted or lost shifts the numbers behind it
    and nothing in it shows that; the variables no longer end with the file then.

    Raises:
        EOFError, ValueError, zlib.error, struct.error: the file is truncated, damaged or not v5.
    """
    left = set(parts)
    for element, matrix in _variables(file):
        wanted = {part: part[1:] for part in left if part[0] == matrix.name}
        if not wanted:
            continue
        for found, head in _descend(element, matrix, wanted):
            value = _decode(element, head) if head else np.zeros((0, 0))
            for part in found:
                left.discard(part)
                yield part, value
        if isinstance(element, _Inflated):
            element.finish()


def heads(file: BinaryIO, part: Part = ()) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of each variable; with `part`, the shape of that part alone.

    Raises:
        EOFError, ValueError, zlib.error, struct.error: the file is truncated, damaged or not v5.
    """
    for element, matrix in _variables(file):
        if not part:
            yield matrix.name, matrix.dims
        elif matrix.name == part[0]:
            for _, head in _descend(element, matrix, {part: part[1:]}):
                yield matrix.name, head.dims if head else (0, 0)
                return


def _variables(file: BinaryIO) -> Iterator[tuple[_Plain | _Inflated, _Matrix]]:
    """Head of each variable, with the stream from which its contents may be read."""
    stream = _Plain(file)
    header = stream.read(_HEADER_BYTES)
    if header[124:128] != b"\x00\x01IM":
        raise ValueError(f"not a little-endian MATLAB v5 file, it starts with {header[:19]!r}")
    while not stream.at_end():
        kind, n = struct.unpack("<II", stream.read(8))
        element: _Plain | _Inflated = stream
        resume = stream.position + n  # however far the element is read
        if kind == _COMPRESSED:
            element = _Inflated(stream, n)
            kind, n = struct.unpack("<II", element.read(8))
        if kind != _MATRIX:
            raise ValueError(f"an element of type {kind} where a variable should begin")
        yield element, _head(element, n)
        stream.seek(resume)


def _element(stream: _Stream) -> tuple[int, bytes]:
    """Type and bytes of an element; up to 4 bytes fit beside the tag."""
    kind, n = struct.unpack("<II", raw := stream.read(8))
    if kind >> 16:
        return kind & 0xFFFF, raw[4 : 4 + min(4, kind >> 16)]
    body = stream.read(n)
    stream.skip(-n % 8)
    return kind, body


def _head(stream: _Stream, n_bytes: int) -> _Matrix:
    end = stream.position + n_bytes
    _, flags = _element(stream)
    if len(flags) != 8:
        raise ValueError(f"a matrix with flags {flags!r}")
    if flags[0] == _OPAQUE:
        return _Matrix(flags, (), _element(stream)[1].decode("latin1"), end)
    _, dims = _element(stream)
    _, name = _element(stream)
    lengths = struct.unpack(f"<{len(dims) // 4}i", dims)
    if not lengths or min(lengths) < 0:
        raise ValueError(f"a matrix of class {flags[:1]!r} and shape {lengths}")
    return _Matrix(flags, lengths, name.decode("latin1"), end)


def _descend(
    stream: _Stream, matrix: _Matrix, wanted: dict[Part, Part]
) -> Iterator[tuple[list[Part], _Matrix | None]]:
    """Head of each part below a matrix; None for an empty one, which has neither head nor body.

    `wanted` gives the steps still to go. The caller reads the contents before it goes on.
    """
    here = [part for part, steps in wanted.items() if not steps]
    if here:
        yield here, matrix
        return
    if matrix.kind != _CELL and (matrix.kind, matrix.size) != (_STRUCT, 1):
        return
    left = set(wanted)
    for label, n in _children(stream, matrix):
        below = {p: s[1:] for p, s in wanted.items() if s[0] == label}
        end = stream.position + n
        if below and n == 0:
            yield [part for part, steps in below.items() if not steps], None
        elif below:
            yield from _descend(stream, _head(stream, n), below)
        left -= set(below)
        if not left:
            return
        stream.skip(end - stream.position)


def _children(stream: _Stream, matrix: _Matrix) -> Iterator[tuple[str | int, int]]:
    """Label and length of each cell, or of each field of each structure of an array.

    The caller reads or skips a body before it asks for the next.
    """
    labels: Iterable[str | int] = range(matrix.size)
    n_labels = matrix.size
    if matrix.kind == _STRUCT:
        names = _field_names(stream)
        n_labels *= len(names)
        labels = (name for _ in range(matrix.size) for name in names)
    if 8 * n_labels > matrix.end - stream.position:
        raise ValueError(f"{n_labels} values in {matrix.end - stream.position} bytes")
    for label in labels:
        kind, n_bytes = struct.unpack("<II", stream.read(8))
        if kind != _MATRIX or stream.position + n_bytes > matrix.end:
            raise ValueError(f"an element of type {kind} and {n_bytes} bytes in a cell or field")
        yield label, n_bytes


def _field_names(stream: _Stream) -> list[str]:
    (width,) = struct.unpack("<i", _element(stream)[1])
    _, raw = _element(stream)
    if width < 1:
        raise ValueError(f"names of fields in {width} bytes")
    return [raw[i : i + width].partition(b"\0")[0].decode() for i in range(0, len(raw), width)]


def _decode(stream: _Stream, matrix: _Matrix) -> NDArray[Any]:
    """Contents of a matrix, as scipy gives them: see `_matlab.load`."""
    if matrix.kind in _NUMERIC and not matrix.flags[1] & _COMPLEX:
        kind, raw = _element(stream)
        return _numbers(kind, raw).reshape(matrix.dims, order="F")
    if matrix.kind == _CHAR:
        return _text(*_element(stream), matrix.dims)
    if matrix.kind not in (_CELL, _STRUCT):
        raise ValueError(f"a matrix of class {matrix.kind}, complex or no array")
    labels, values = [], []
    for label, n in _children(stream, matrix):
        end = stream.position + n
        labels.append(label)
        values.append(_decode(stream, _head(stream, n)) if n else np.zeros((0, 0)))
        stream.skip(end - stream.position)
    n_each = len(labels) // max(matrix.size, 1)
    names = [str(label) for label in labels[:n_each]]
    if matrix.kind == _CELL:
        cells = np.empty(matrix.size, dtype=object)
        for i, value in enumerate(values):
            cells[i] = value
        return cells.reshape(matrix.dims, order="F")
    records = np.empty(matrix.size, dtype=[(name, object) for name in names])
    for i, value in enumerate(values):
        records[i // n_each][names[i % n_each]] = value
    return records.reshape(matrix.dims, order="F")


def _numbers(kind: int, raw: bytes) -> NDArray[Any]:
    if kind not in _NUMBERS:
        raise ValueError(f"numbers of type {kind}")
    return np.frombuffer(raw, dtype=_NUMBERS[kind])


def _text(kind: int, raw: bytes, dims: tuple[int, ...]) -> NDArray[Any]:
    """One string for each row."""
    # MATLAB writes two bytes a character, scipy UTF-8, older files one byte.
    text = raw.decode() if kind == _UTF8 else "".join(map(chr, _numbers(kind, raw)))
    characters = np.array(list(text), dtype="U1").reshape(dims, order="F")
    if characters.size == 0:
        return np.array([], dtype="U1")
    return np.array(["".join(row) for row in characters.reshape(dims[0], -1)])
