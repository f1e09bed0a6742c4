"""TMSi's Poly5 container (`.S00`): held against the file's size, and a writer for examples.

A header of 217 bytes (version 2.03; 218 in 2.04), 136 bytes for each 16-bit signal, then blocks: a
head of 86 bytes and samples as 32-bit floats, all channels of a sample together. A channel is two
16-bit signals, named `(Lo) x` and `(Hi) x`. Layout: as public readers of it have it; no real file
was at hand.
Shapes: C channels, K of them that are wanted, T samples, B samples of a block.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO

import numpy as np

from emoray.datasets.formats import files
from emoray.vocabulary.schema import DataError, Float32Array, FloatArray

_MAGIC = b"POLY SAMPLE FILE"
_FIRST_LINE = b"POLY SAMPLE FILEversion 2.03\r\n\x1a"
_HEAD = struct.Struct("<h81shhBhi4s7hiHHh64s")
"""From the version on: version, name, rate, storage rate and type, signals, samples, reserved,
start (year, month, day, weekday, hour, minute, second), blocks, samples and bytes of a block,
compression, reserved."""
_SIGNAL = struct.Struct("<41s4s11s4f2h60s")
"""Name, reserved, unit, range in units, range in steps, index, cache, reserved."""
_BLOCK_HEAD = struct.Struct("<i4s7h64s")
_MOST_SIGNALS = 1024
_FLOAT_BYTES = 4
_CHUNK_BYTES = 1 << 24


@dataclass(frozen=True, slots=True)
class Channel:
    """What the header says of one channel."""

    name: str
    unit: str
    ranges: tuple[float, float, float, float]
    """Lowest and highest in units, lowest and highest in steps."""


@dataclass(frozen=True, slots=True)
class Header:
    """What the head of a file says, once the file's size has confirmed it."""

    channels: tuple[Channel, ...]
    sfreq: float
    """Hz."""
    start: datetime
    """By the recording computer's clock."""
    n_samples: int
    n_per_block: int
    data_at: int
    """Bytes before the first block."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the channels, in the file's order."""
        return tuple(channel.name for channel in self.channels)


def read_header(path: Path) -> Header:
    """Read the header and hold it exactly against the size of the file.

    The last block may be whole, where the recorder filled it up, or end with the last sample.

    Raises:
        DataError: no Poly5 file, one that is compressed, cut short, or with bytes too many.
    """
    with files.open_file(path) as file:
        try:
            header, n_blocks = _parse(file)
        except (ValueError, struct.error) as error:
            raise DataError(f"{path}: need the header of a Poly5 file ({error})") from error
        except OSError as error:
            raise DataError(
                f"{path}: need a file that can be read, found {files.reason(error)}"
            ) from error
    _check_size(path, header, n_blocks)
    return header


def _parse(file: IO[bytes]) -> tuple[Header, int]:
    """The header as it is written, and how many blocks it announces."""
    first = file.read(34)
    if not first.startswith(_MAGIC):
        raise ValueError(f"it starts with {first[:16]!r}")
    versions = {31: first[31:33], 32: first[32:34]}
    at = next((at for at, raw in versions.items() if raw in (b"\xcb\x00", b"\xcc\x00")), None)
    if at is None:
        raise ValueError(f"its version is none of 203 and 204: {first[31:34]!r}")
    file.seek(at)
    found = _HEAD.unpack(_exactly(file, _HEAD.size))
    sfreq, n_signals, n_samples = found[2], found[5], found[6]
    start, (n_blocks, n_per_block, n_bytes, packed) = found[8:15], found[15:19]
    if not (0 < n_signals <= _MOST_SIGNALS and n_signals % 2 == 0):
        raise ValueError(f"it has {n_signals} signals, which come in pairs")
    if sfreq < 1 or n_samples < 1 or n_blocks < 1 or n_per_block < 1:
        raise ValueError(
            f"it has {n_samples} samples at {sfreq} Hz in {n_blocks} blocks of {n_per_block}"
        )
    if packed or n_bytes != n_per_block * (n_signals // 2) * _FLOAT_BYTES:
        raise ValueError(
            f"its blocks are {n_bytes} bytes for {n_per_block} samples of {n_signals // 2} "
            f"channels{' and compressed' * bool(packed)}: only 32-bit floats are read"
        )
    if not (n_blocks - 1) * n_per_block < n_samples <= n_blocks * n_per_block:
        raise ValueError(f"it has {n_samples} samples in {n_blocks} blocks of {n_per_block}")
    signals = [_SIGNAL.unpack(_exactly(file, _SIGNAL.size)) for _ in range(n_signals)]
    year, month, day, _weekday, hour, minute, second = start
    return (
        Header(
            # The range of a channel is that of its second signal, as in TMSi's own reader.
            channels=tuple(
                Channel(_name(low[0]), _text(low[2]), high[3:7])
                for low, high in zip(signals[::2], signals[1::2], strict=True)
            ),
            sfreq=float(sfreq),
            start=datetime(year, month, day, hour, minute, second),
            n_samples=n_samples,
            n_per_block=n_per_block,
            data_at=at + _HEAD.size + n_signals * _SIGNAL.size,
        ),
        n_blocks,
    )


def _exactly(file: IO[bytes], n: int) -> bytes:
    raw = file.read(n)
    if len(raw) < n:
        raise ValueError(f"it ends after {file.tell()} bytes")
    return raw


def _text(raw: bytes) -> str:
    """A Pascal string: its length, then its letters."""
    return raw[1 : 1 + raw[0]].decode("latin1").strip("\0 ")


def _name(raw: bytes) -> str:
    return re.sub(r"^\((?:lo|hi)\)\s*", "", _text(raw), flags=re.IGNORECASE)


def _check_size(path: Path, header: Header, n_blocks: int) -> None:
    n_bytes = len(header.channels) * _FLOAT_BYTES
    heads = header.data_at + n_blocks * _BLOCK_HEAD.size
    sizes = {heads + n * n_bytes for n in (header.n_samples, n_blocks * header.n_per_block)}
    found = path.stat().st_size
    if found not in sizes:
        fault = "is truncated" if found < min(sizes) else "has bytes that shift samples, or more"
        raise DataError(
            f"{path}: need {' or '.join(f'{n:,}' for n in sorted(sizes))} bytes for the "
            f"{header.n_samples:,} samples that its header announces, found {found:,}; the file "
            f"{fault}"
        )


def read(path: Path, header: Header, wanted: Sequence[int]) -> Float32Array:
    """The samples of some channels in their units, shape (K, T); a block at a time.

    Args:
        path: the file.
        header: what `read_header` said of it.
        wanted: places of the channels in the file, from 0.

    Raises:
        DataError: the file became shorter, or cannot be read.
    """
    x_KT = np.empty((len(wanted), header.n_samples), dtype=np.float32)
    n_channels = len(header.channels)
    per_block = _BLOCK_HEAD.size + header.n_per_block * n_channels * _FLOAT_BYTES
    n_at_once = max(1, _CHUNK_BYTES // per_block)
    at = 0
    with files.open_file(path) as file:
        file.seek(header.data_at)
        while at < header.n_samples:
            raw = file.read(per_block * n_at_once)
            if not raw:
                raise DataError(f"{path}: need {header.n_samples:,} samples, found {at:,}")
            for start in range(0, len(raw), per_block):
                samples = raw[start + _BLOCK_HEAD.size : start + per_block]
                n = min(len(samples) // (n_channels * _FLOAT_BYTES), header.n_samples - at)
                block_BC = np.frombuffer(samples, "<f4", n * n_channels).reshape(n, n_channels)
                x_KT[:, at : at + n] = block_BC[:, list(wanted)].T
                at += n
    for x_T, channel in zip(x_KT, (header.channels[i] for i in wanted), strict=True):
        _scale(x_T, channel, path)
    return x_KT


def _scale(x_T: Float32Array, channel: Channel, path: Path) -> None:
    """From steps to units, in place."""
    low, high, first, last = channel.ranges
    if not (np.isfinite(channel.ranges).all() and last != first and high != low):
        raise DataError(
            f"{path} {channel.name}: need a range in units and one in steps, found {low:g} to "
            f"{high:g} for {first:g} to {last:g}"
        )
    if (low, high) != (first, last):
        x_T -= np.float32(first)
        x_T *= np.float32((high - low) / (last - first))
        x_T += np.float32(low)


def write(
    path: Path,
    channels: Sequence[tuple[str, str]],
    x_CT: FloatArray,
    *,
    sfreq: int,
    start: datetime,
    n_per_block: int = 512,
) -> None:
    """Write channels, each with name and unit, as a recorder would; the last block is filled up.

    Raises:
        ValueError: as many names as channels are needed.
    """
    n_channels, n_samples = x_CT.shape
    if len(channels) != n_channels:
        raise ValueError(f"need {n_channels} names, got {len(channels)}")
    n_blocks = -(-n_samples // n_per_block)
    clock = (
        start.year, start.month, start.day, start.isoweekday() % 7,
        start.hour, start.minute, start.second,
    )  # fmt: skip
    n_bytes = n_per_block * n_channels * _FLOAT_BYTES
    head = _HEAD.pack(
        203, _pascal("measurement", 81), sfreq, sfreq, 0, 2 * n_channels, n_samples, b"",
        *clock, n_blocks, n_per_block, n_bytes, 0, b"",
    )  # fmt: skip
    with path.open("wb") as file:
        file.write(_FIRST_LINE + head)
        for i, (name, unit) in enumerate(channels):
            for half, prefix in enumerate(("(Lo) ", "(Hi) ")):
                ranges = (0.0, 1000.0, 0.0, 1000.0)
                texts = _pascal(prefix + name, 41), b"", _pascal(unit, 11)
                file.write(_SIGNAL.pack(*texts, *ranges, 2 * i + half, 0, b""))
        for block in range(n_blocks):
            at = block * n_per_block
            file.write(_BLOCK_HEAD.pack(at, b"", *clock, b""))
            block_BC = np.zeros((n_per_block, n_channels), dtype="<f4")
            part_CB = x_CT[:, at : at + n_per_block]
            block_BC[: part_CB.shape[1]] = part_CB.T
            file.write(block_BC.tobytes())


def _pascal(text: str, n_bytes: int) -> bytes:
    raw = text.encode("latin1")[: n_bytes - 1]
    return bytes([len(raw)]) + raw.ljust(n_bytes - 1, b"\0")
