"""Bytes in order: a file, or a compressed piece of it that is inflated as far as it is read.

Every length is held against what is there, and what a piece inflates to against its own bytes.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from typing import IO, Protocol

_BLOCK, _INFLATED_BLOCK = 1 << 16, 1 << 22  # bytes taken in and given out at once

LARGEST_RATIO = 50
"""Bytes that one compressed byte may become, beyond `ALWAYS_INFLATED`. Recordings shrink to a
half or a tenth; a crafted variable of zeros to a thousandth."""
ALWAYS_INFLATED = 64 << 20


class Stream(Protocol):
    """Bytes in order, some of them skipped."""

    order: str
    """Of bytes in a number, as `struct` writes it: `<` or `>`."""

    @property
    def position(self) -> int:
        """Bytes read or skipped so far."""
        ...

    def read(self, n: int) -> bytes:
        """The next n bytes; EOFError where there are fewer."""
        ...

    def skip(self, n: int) -> None:
        """Go n bytes on."""
        ...


class Plain:
    """The file itself, up to its end."""

    order = "<"

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._end = file.seek(0, io.SEEK_END)
        file.seek(0)

    @property
    def position(self) -> int:
        """Bytes from the file's start."""
        return self._file.tell()

    @property
    def left(self) -> int:
        """Bytes up to the end of the file."""
        return self._end - self.position

    def seek(self, position: int) -> None:
        """Go to a place.

        Raises:
            EOFError: it lies behind the end.
        """
        if position > self._end:
            raise EOFError(f"{position} bytes announced, {self._end} there")
        self._file.seek(position)

    def read(self, n: int) -> bytes:
        """The next bytes.

        Raises:
            EOFError: there are fewer.
        """
        if self.position + n > self._end:
            raise EOFError(f"{self.position + n} bytes announced, {self._end} there")
        return self._file.read(n)

    def skip(self, n: int) -> None:
        """Pass over bytes."""
        self.seek(self.position + n)


class Inflated:
    """A compressed element, inflated as far as it is read and never kept."""

    def __init__(self, source: Plain, n_compressed: int) -> None:
        self._source = source
        self.order = source.order
        self._left = n_compressed
        self._most = ALWAYS_INFLATED + LARGEST_RATIO * min(n_compressed, source.left)
        self._inflater = zlib.decompressobj()
        self._pending = b""
        self._position = 0

    @property
    def position(self) -> int:
        """Bytes inflated so far."""
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
                if self._position > self._most:
                    raise ValueError(f"a compressed variable of more than {self._most:,} bytes")
                return raw
            if not (self._inflater.eof or self._pending or self._left):
                raise EOFError("a compressed variable ends early")
        return b""

    def _blocks(self, n: int) -> Iterator[bytes]:
        if self._position + n > self._most:
            raise ValueError(f"{n:,} bytes announced in a variable of at most {self._most:,}")
        while n:
            block = self._next(min(n, _INFLATED_BLOCK))
            if not block:
                raise EOFError("a compressed variable is shorter than it says")
            n -= len(block)
            yield block

    def read(self, n: int) -> bytes:
        """The next bytes.

        Raises:
            EOFError: there are fewer.
        """
        return b"".join(self._blocks(n))

    def skip(self, n: int) -> None:
        """Pass over bytes."""
        for _ in self._blocks(n):
            pass

    def finish(self) -> None:
        """Inflate the rest: zlib holds its checksum against all that came out."""
        while self._next(_INFLATED_BLOCK):
            pass
