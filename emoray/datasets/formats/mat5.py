"""The element tree of a MATLAB v5 file, walked as a stream.

What is not asked for is skipped, in a compressed variable inflated and forgotten. Every length is
held against what is there, and what a variable inflates to against the file's bytes, so that an
altered or crafted file ends in an error, soon, and never in a crash or a full memory.

Format: MathWorks, "MAT-File Format", level 5. An element is a tag of 8 bytes (type, length) and
its body, padded to 8 bytes; a matrix's body is flags, dimensions, name and contents as elements.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from emoray.datasets.formats.bounded_reading import Inflated, Plain, Stream

Part = tuple[str | int, ...]
"""Way to a value: the variable, then names of fields and numbers of cells from 0."""

HEADER_BYTES = 128

_MATRIX, _COMPRESSED, _UTF8 = 14, 15, 16
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8",
            12: "i8", 13: "u8", 16: "u1", 17: "u2"}  # fmt: skip
"""Types of elements that hold numbers (16 and 17: text) and how numpy writes them."""
_CELL, _STRUCT, _CHAR, _NUMERIC = 1, 2, 4, range(6, 16)  # classes of matrices
_OPAQUE = 17  # MATLAB's own objects (its string, its table): known by name only
_COMPLEX = 0x08  # among a matrix's flags

_LONGEST_TEXT, _MOST_AXES, _MOST_NAMES = 1 << 20, 32, 4096
"""Bytes of one text, axes of one matrix, fields of one structure."""
_NOTHING: NDArray[Any] = np.zeros((0, 0))
_NOTHING.flags.writeable = False


class NotMat5Error(ValueError):
    """The file is of another kind; the text is how it starts."""


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


def walk(file: IO[bytes], parts: Iterable[Part]) -> Iterator[tuple[Part, NDArray[Any]]]:
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
            value = _decode(element, head) if head else _NOTHING
            for part in found:
                left.discard(part)
                yield part, value
        if isinstance(element, Inflated):
            element.finish()


def heads(file: IO[bytes], part: Part = ()) -> Iterator[tuple[str, tuple[int, ...]]]:
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


def _variables(file: IO[bytes]) -> Iterator[tuple[Plain | Inflated, _Matrix]]:
    """Head of each variable, with the stream from which its contents may be read."""
    stream = Plain(file)
    stream.order = _byte_order(stream.read(HEADER_BYTES))
    while stream.left > 0:
        kind, n = _tag(stream)
        element: Plain | Inflated = stream
        resume = stream.position + n  # however far the element is read
        if kind == _COMPRESSED:
            element = Inflated(stream, n)
            kind, n = _tag(element)
        if kind != _MATRIX:
            raise ValueError(f"an element of type {kind} where a variable should begin")
        yield element, _head(element, n)
        stream.seek(resume)


def _byte_order(header: bytes) -> str:
    """The last two bytes of the header read MI as the machine that wrote it numbered bytes."""
    orders = {b"\x00\x01IM": "<", b"\x01\x00MI": ">"}
    if header[124:] not in orders:
        raise NotMat5Error(f"it starts with {header[:40]!r}")
    return orders[header[124:]]


def _tag(stream: Stream) -> tuple[int, int]:
    """Type of an element and bytes of its body."""
    kind, n_bytes = struct.unpack(f"{stream.order}II", stream.read(8))
    return kind, n_bytes


def _element(stream: Stream) -> tuple[int, bytes]:
    """Type and bytes of an element; up to 4 bytes fit beside the tag."""
    kind, n = struct.unpack(f"{stream.order}II", raw := stream.read(8))
    if kind >> 16:
        return kind & 0xFFFF, raw[4 : 4 + min(4, kind >> 16)]
    body = stream.read(n)
    stream.skip(-n % 8)
    return kind, body


def _head(stream: Stream, n_bytes: int) -> _Matrix:
    end = stream.position + n_bytes
    _, flags = _element(stream)
    if len(flags) != 8:
        raise ValueError(f"a matrix with flags {flags[:8]!r}")
    if stream.order == ">":
        flags = flags[3::-1] + flags[4:]  # one number of four bytes; `_Matrix` has the lowest first
    if flags[0] == _OPAQUE:
        return _Matrix(flags, (), _element(stream)[1].decode("latin1"), end)
    _, dims = _element(stream)
    _, name = _element(stream)
    if not 4 <= len(dims) <= 4 * _MOST_AXES:
        raise ValueError(f"a matrix of class {flags[:1]!r} and {len(dims) // 4} axes")
    lengths = struct.unpack(f"{stream.order}{len(dims) // 4}i", dims)
    if min(lengths) < 0:
        raise ValueError(f"a matrix of class {flags[:1]!r} and shape {lengths}")
    return _Matrix(flags, lengths, name.decode("latin1"), end)


def _descend(
    stream: Stream, matrix: _Matrix, wanted: dict[Part, Part]
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


def _children(stream: Stream, matrix: _Matrix) -> Iterator[tuple[str | int, int]]:
    """Label and length of each cell, or of each field of each structure of an array.

    The caller reads or skips a body before it asks for the next.
    """
    labels: Iterable[str | int] = range(matrix.size)
    n_labels = matrix.size
    if matrix.kind == _STRUCT:
        names = _field_names(stream)
        if not names and matrix.size > 1:
            raise ValueError(f"{matrix.size} structures without fields")
        n_labels *= len(names)
        labels = (name for _ in range(matrix.size) for name in names)
    if 8 * n_labels > matrix.end - stream.position:
        raise ValueError(f"{n_labels} values in {matrix.end - stream.position} bytes")
    for label in labels:
        kind, n_bytes = _tag(stream)
        if kind != _MATRIX or stream.position + n_bytes > matrix.end:
            raise ValueError(f"an element of type {kind} and {n_bytes} bytes in a cell or field")
        yield label, n_bytes


def _field_names(stream: Stream) -> list[str]:
    (width,) = struct.unpack(f"{stream.order}i", _element(stream)[1])
    _, raw = _element(stream)
    if width < 1 or len(raw) > _MOST_NAMES * width:
        raise ValueError(f"names of fields in {len(raw)} bytes, {width} each")
    return [raw[i : i + width].partition(b"\0")[0].decode() for i in range(0, len(raw), width)]


def _decode(stream: Stream, matrix: _Matrix) -> NDArray[Any]:
    """Contents of a matrix, as scipy gives them: see `_matlab.load`."""
    if matrix.kind in _NUMERIC and not matrix.flags[1] & _COMPLEX:
        kind, raw = _element(stream)
        return _numbers(stream, kind, raw).reshape(matrix.dims, order="F")
    if matrix.kind == _CHAR:
        return _text(stream, matrix.dims)
    if matrix.kind not in (_CELL, _STRUCT):
        raise ValueError(f"a matrix of class {matrix.kind}, complex or no array")
    labels, values = [], []
    for label, n in _children(stream, matrix):
        end = stream.position + n
        labels.append(label)
        values.append(_decode(stream, _head(stream, n)) if n else _NOTHING)
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


def _numbers(stream: Stream, kind: int, raw: bytes) -> NDArray[Any]:
    """In the byte order of this machine."""
    if kind not in _NUMBERS:
        raise ValueError(f"numbers of type {kind}")
    stored = np.frombuffer(raw, dtype=stream.order + _NUMBERS[kind])
    return stored.astype(stored.dtype.newbyteorder("="), copy=False)


def _text(stream: Stream, dims: tuple[int, ...]) -> NDArray[Any]:
    """One string for each row."""
    kind, raw = _element(stream)
    if len(raw) > _LONGEST_TEXT:
        raise ValueError(f"a text of {len(raw):,} bytes")
    # MATLAB writes two bytes a character, scipy UTF-8, older files one byte.
    text = raw.decode() if kind == _UTF8 else "".join(map(chr, _numbers(stream, kind, raw)))
    characters = np.array(list(text), dtype="U1").reshape(dims, order="F")
    if characters.size == 0:
        return np.array([], dtype="U1")
    return np.array(["".join(row) for row in characters.reshape(dims[0], -1)])
