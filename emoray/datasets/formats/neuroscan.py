"""Neuroscan `.cnt`: where its data lie, windows of them in microvolts, and a writer.

Layout (little endian): 900 bytes of header, 75 bytes a channel, then the counts of all channels
as int16 or int32, then the event table. Counts stand sample by sample, or in blocks of K samples
of one channel after another. One count is
`(count - baseline) * sensitivity * calibration / 204.8` microvolts.

The header's number of samples cannot be trusted: the published SEED-V files hold -732
(torcheeg#145, CBraMod#11), others 0. The data therefore reach from the last channel's entry to
the event table, and the header's number is evidence among others for how wide a count is.
Shapes: C channels, T samples, N blocks of K samples each.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emoray.datasets.formats import count_width, files
from emoray.vocabulary.schema import DataError, Float32Array, FloatArray

_HEADER = 900
_PER_CHANNEL = 75
_N_CHANNELS, _SFREQ, _N_SAMPLES, _EVENT_TABLE, _DURATION, _BLOCK = 370, 376, 864, 886, 890, 894
_BASELINE, _SENSITIVITY, _CALIBRATION = 47, 59, 71  # within a channel's entry
_EVENT_HEADER = struct.Struct("<BiI")  # type, bytes of the records, offset
_EVENT_RECORD = {1: 8, 2: 19, 3: 19}
"""Bytes of one event, by the type of the table."""
_COUNTS_PER_UV = 204.8
_GAINS_UV = (1e-6, 1e3)
"""Of one count. At less 24 bits end below 9 microvolts, at more EEG is within one count."""
_WRAP = 2**32
"""The place of the event table has 32 bits: in a larger file it is known up to multiples."""
_N_PROBES, _PROBE = 8, 1000
"""How many pieces of how many samples are looked at to tell the width of a count."""

WidthFrom = Literal["sample count", "data", "size"]
"""What settled the width of a count: the header's number of samples fits exactly, the signals
show it, or they do not and only one width divides the data into whole samples."""


@dataclass(frozen=True, slots=True)
class CntHeader:
    """What a file holds, once its places have been held against its size."""

    channels: tuple[str, ...]
    """As written in the file."""
    sfreq: float
    n_samples: int
    n_bytes: int
    """Of one count: 2 or 4."""
    width_from: WidthFrom
    n_left_over: int
    """Bytes between the last whole sample and the event table, fewer than a sample has."""
    block: int
    """K: successive samples of one channel; 1 where counts stand sample by sample."""
    baselines: tuple[int, ...]
    gains_uv: tuple[float, ...]
    """Microvolts of one count, of each channel."""


@dataclass(frozen=True, slots=True)
class _Setup:
    """Fields of the first 900 bytes, as they stand there."""

    n_channels: int
    sfreq: int
    n_samples: int
    """Unsigned: -732 is 4294966564."""
    table: int
    """Place of the event table, its lower 32 bits."""
    block_bytes: int

    @property
    def first(self) -> int:
        """Byte at which the data begin."""
        return _HEADER + _PER_CHANNEL * self.n_channels

    def block(self, n_bytes: int) -> int:
        return max(1, self.block_bytes // n_bytes)

    def n_samples_in(self, n_data: int, n_bytes: int) -> tuple[int, int]:
        """Whole samples (of whole blocks) in so many bytes, and the bytes left over."""
        block = self.block(n_bytes)
        n_blocks, left_over = divmod(n_data, self.n_channels * block * n_bytes)
        return n_blocks * block, left_over


class _Layout(NamedTuple):
    """Where a count stands."""

    first: int
    """Byte of the first count."""
    n_channels: int
    block: int
    n_bytes: int


def check_cnt(path: Path) -> CntHeader:
    """Read the header, find the data and hold them against the size of the file.

    The data end at the event table: where the header places it or, if none stands there, behind
    the header's number of samples. Bytes lost or inserted before it, which would shift all that
    comes after them, also move the table from its place, and then the file is refused. A part
    of a sample right before the table is left out: recorders write such files (a part of a block
    they do not). What follows the table is left alone.

    Raises:
        DataError: not a Neuroscan file, no whole event table where one should be, no sample, or
            nothing that tells 16-bit counts from 32-bit ones.
    """
    with files.open_file(path) as file:
        size = path.stat().st_size
        setup = _read_setup(path, file)
        entries = file.read(_PER_CHANNEL * setup.n_channels)
        n_data = _event_table(path, file, setup, size) - setup.first
        n_bytes, width_from = _width(path, file, setup, n_data)
    n_samples, n_left_over = setup.n_samples_in(n_data, n_bytes)
    block = setup.block(n_bytes)
    if n_samples == 0 or (block > 1 and n_left_over):
        raise DataError(
            f"{path}: need whole samples of {setup.n_channels} channels in blocks of {block} "
            f"between byte {setup.first} and the event table, got {n_data} bytes"
        )
    starts = range(0, len(entries), _PER_CHANNEL)
    factors = [struct.unpack_from("<f8xf", entries, i + _SENSITIVITY) for i in starts]
    return CntHeader(
        channels=tuple(
            entries[i : i + 10].split(b"\0")[0].decode("latin1").strip() for i in starts
        ),
        sfreq=float(setup.sfreq),
        n_samples=n_samples,
        n_bytes=n_bytes,
        width_from=width_from,
        n_left_over=n_left_over,
        block=block,
        baselines=tuple(struct.unpack_from("<h", entries, i + _BASELINE)[0] for i in starts),
        gains_uv=tuple(a * b / _COUNTS_PER_UV for a, b in factors),
    )


def _read_setup(path: Path, file: IO[bytes]) -> _Setup:
    head = file.read(_HEADER)
    if not head.startswith(b"Version") or len(head) < _HEADER:
        raise DataError(
            f"{path}: need a Neuroscan header of {_HEADER} bytes that starts with "
            f"'Version', got {len(head)} bytes that start with {head[:7]!r}"
        )
    fields = (
        ("<H", _N_CHANNELS),
        ("<H", _SFREQ),
        ("<I", _N_SAMPLES),
        ("<I", _EVENT_TABLE),
        ("<i", _BLOCK),
    )
    setup = _Setup(*(struct.unpack_from(kind, head, place)[0] for kind, place in fields))
    for name, number, place in (
        ("a number of channels", setup.n_channels, _N_CHANNELS),
        ("a sampling rate in Hz", setup.sfreq, _SFREQ),
    ):
        if number == 0:
            raise DataError(f"{path}: need {name} at byte {place}, got 0")
    if setup.block(2) > setup.sfreq:
        raise DataError(
            f"{path}: need blocks of a second at most at byte {_BLOCK}, got {setup.block_bytes} "
            f"bytes of a channel at {setup.sfreq} Hz"
        )
    return setup


def _event_table(path: Path, file: IO[bytes], setup: _Setup, size: int) -> int:
    """Byte at which the event table stands, one byte past the data."""
    n_counts = setup.n_channels * setup.n_samples
    placed = list(range(setup.table, max(size, setup.table + 1), _WRAP))
    counted = [setup.first + width * n_counts for width in (2, 4)]
    for places in (placed, counted):
        standing = [p for p in places if not _table_fault(file, setup.first, size, p)]
        if len(standing) > 1:
            raise DataError(f"{path}: need one event table, found tables at bytes {standing}")
        if standing:
            return standing[0]
    raise DataError(f"{path}: {_table_fault(file, setup.first, size, placed[-1])}")


def _table_fault(file: IO[bytes], first: int, size: int, place: int) -> str:
    """Why no whole event table stands at a byte; nothing where one does."""
    if place < first:
        return f"need an event table behind the data from byte {first}, the header has {place}"
    if size < place + _EVENT_HEADER.size:
        return f"truncated: need an event table at byte {place}, the file ends at byte {size}"
    file.seek(place)
    kind, length, _ = _EVENT_HEADER.unpack(file.read(_EVENT_HEADER.size))
    if kind not in _EVENT_RECORD or length < 0 or length % _EVENT_RECORD[kind]:
        return (
            f"need an event table of type 1, 2 or 3 and whole events at byte {place}, got type "
            f"{kind} of {length} bytes"
        )
    if size < place + _EVENT_HEADER.size + length:
        return (
            f"truncated: the event table at byte {place} promises {length} bytes, the file "
            f"ends at byte {size}"
        )
    return ""


def _width(path: Path, file: IO[bytes], setup: _Setup, n_data: int) -> tuple[int, WidthFrom]:
    """Bytes of one count, and what settled it."""
    for n_bytes in (2, 4):
        if n_data == setup.n_channels * setup.n_samples * n_bytes:
            return n_bytes, "sample count"
    shown = count_width.shown_by(_pieces(file, setup, n_data))
    if shown and (
        setup.n_samples_in(n_data, shown)[1] == 0
        or count_width.on_bounds(_pieces(file, setup, n_data), shown)
    ):
        return shown, "data"
    fitting = [n for n in (2, 4) if setup.n_samples_in(n_data, n)[1] == 0]
    if len(fitting) == 1 and shown in (None, fitting[0]):
        return fitting[0], "size"
    raise DataError(
        f"{path}: need counts of 16 or 32 bits, found nothing that tells which: the signals show "
        f"neither, {n_data} bytes are whole samples of {setup.n_channels} channels in "
        f"{'both' if fitting else 'neither'}, and the header says {setup.n_samples} samples"
    )


def _pieces(file: IO[bytes], setup: _Setup, n_data: int) -> Iterator[NDArray[np.int32]]:
    """Pieces (C, T) from all over the data, read as 32-bit counts."""
    layout = _Layout(setup.first, setup.n_channels, setup.block(4), 4)
    n_samples, _ = setup.n_samples_in(n_data, 4)
    length = min(n_samples, _PROBE)
    n_probes = min(_N_PROBES, math.ceil(n_samples / _PROBE))
    for start in np.linspace(0, n_samples - length, n_probes).astype(int).tolist():
        yield _counts(file, layout, start, start + length).astype("<i4")


def _counts(file: IO[bytes], layout: _Layout, start: int, stop: int) -> NDArray[np.integer]:
    """Counts (C, T) of all channels from sample `start` to before `stop`."""
    first, n_channels, block, n_bytes = layout
    from_block, to_block = start // block, -(-stop // block)
    bytes_per_block = n_channels * block * n_bytes
    file.seek(first + from_block * bytes_per_block)
    counts = np.frombuffer(file.read((to_block - from_block) * bytes_per_block), f"<i{n_bytes}")
    blocks_NCK = counts.reshape(-1, n_channels, block)
    skipped = from_block * block
    return blocks_NCK.swapaxes(0, 1).reshape(n_channels, -1)[:, start - skipped : stop - skipped]


def read_windows(
    path: Path, header: CntHeader, rows: Sequence[int], windows: Iterable[tuple[int, int]]
) -> list[Float32Array]:
    """Read windows [start, stop) in samples of some channels, in microvolts, each (C, T).

    Only the windows are read: an hour of 66 channels at 1000 Hz would be 1.9 GB in float64.

    Args:
        path: the file.
        header: what `check_cnt` returned for it.
        rows: which channels, by their place in the file, in the order wanted.
        windows: first and one past the last sample of each.

    Raises:
        DataError: sensitivity times calibration of a channel is zero, no number, or so far off
            that counts hold no EEG.
    """
    least, most = _GAINS_UV
    for row in rows:
        if not least <= abs(header.gains_uv[row]) <= most:
            raise DataError(
                f"{path} channel {row + 1} ({header.channels[row]}): need {least:g} to {most:g} "
                f"microvolts for a count from its sensitivity and calibration, got "
                f"{header.gains_uv[row]:g}"
            )
    n_channels = len(header.channels)
    layout = _Layout(_HEADER + _PER_CHANNEL * n_channels, n_channels, header.block, header.n_bytes)
    baselines_C1, gains_C1 = (
        np.array([of_channel[row] for row in rows], dtype=np.float64)[:, None]
        for of_channel in (header.baselines, header.gains_uv)
    )
    read = []
    with path.open("rb") as file:
        for start, stop in windows:
            x_CT = _counts(file, layout, start, stop)[list(rows)] - baselines_C1
            x_CT *= gains_C1
            read.append(x_CT.astype(np.float32))
    return read


def write_cnt(
    path: Path,
    blocks_uv: Iterable[FloatArray],
    channels: Sequence[str],
    sfreq: int,
    *,
    recorded: str = "08/04/18",
    announced: int | None = None,
) -> None:
    """Write an int32 file piece by piece, so that an hour of it is never in memory.

    Args:
        path: written under a temporary name first.
        blocks_uv: consecutive pieces (C, T) in microvolts; resolution is 1/204.8 microvolt.
        channels: C names of at most ten characters.
        sfreq: Hz.
        recorded: date, mm/dd/yy.
        announced: number of samples that the header is to hold instead of the true one.
    """
    part = path.with_suffix(path.suffix + ".part")
    n_samples = 0
    with part.open("wb") as file:
        file.write(bytes(_HEADER))
        for place, name in enumerate(channels):
            file.write(_electrode(name, angle=2 * math.pi * place / len(channels)))
        for block_CT in blocks_uv:
            counts_TC = np.rint(np.asarray(block_CT).T * _COUNTS_PER_UV).astype("<i4")
            file.write(np.ascontiguousarray(counts_TC).data)
            n_samples += len(counts_TC)
        table = file.tell()
        file.write(_EVENT_HEADER.pack(1, 0, 0))
        file.seek(0)
        file.write(
            _header(
                len(channels),
                sfreq,
                n_samples if announced is None else announced,
                table,
                recorded,
                duration_s=n_samples / sfreq,
            )
        )
    part.replace(path)


def _header(
    n_channels: int, sfreq: int, announced: int, table: int, recorded: str, *, duration_s: float
) -> bytes:
    head = bytearray(_HEADER)
    head[:12] = b"Version 3.0\0"
    head[225:235] = recorded.encode().ljust(10, b"\0")
    head[235:247] = b"12:00:00".ljust(12, b"\0")
    struct.pack_into("<H", head, _N_CHANNELS, n_channels)
    struct.pack_into("<H", head, _SFREQ, sfreq)
    struct.pack_into("<i", head, _N_SAMPLES, announced)
    struct.pack_into("<I", head, _EVENT_TABLE, table % _WRAP)
    struct.pack_into("<f", head, _DURATION, duration_s)
    return bytes(head)


def _electrode(name: str, *, angle: float) -> bytes:
    entry = bytearray(_PER_CHANNEL)
    entry[:10] = name.encode("latin1").ljust(10, b"\0")
    # MNE fits a sphere through the places, so they must not coincide.
    struct.pack_into("<ff", entry, 19, 100 + 50 * math.cos(angle), 100 + 50 * math.sin(angle))
    struct.pack_into("<f", entry, _SENSITIVITY, 1.0)
    struct.pack_into("<f", entry, _CALIBRATION, 1.0)
    return bytes(entry)
