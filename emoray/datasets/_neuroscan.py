"""Neuroscan `.cnt`: a header checked against the file's size, windows read by MNE, and a writer.

Layout (little endian): 900 bytes of header, 75 bytes a channel, then the counts of all channels
sample by sample as int16 or int32, then the event table. One count is
`(count - baseline) * sensitivity * calibration / 204.8` microvolts.
Shapes: C channels, T samples.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import mne
import numpy as np

from emoray import files
from emoray.schema import DataError, Float32Array, FloatArray

_HEADER = 900
_PER_CHANNEL = 75
_N_CHANNELS, _SFREQ, _N_SAMPLES, _EVENT_TABLE, _DURATION = 370, 376, 864, 886, 890
_EVENT_HEADER = struct.Struct("<Bll")  # type, bytes of the records, offset
_COUNTS_PER_UV = 204.8
_LARGEST = 2_000_000_000
"""From this size on MNE no longer trusts the place of the event table, a signed 32-bit number."""


@dataclass(frozen=True, slots=True)
class CntHeader:
    """What the header promises, once the file's size has confirmed it."""

    channels: tuple[str, ...]
    """As written in the file."""
    sfreq: float
    n_samples: int
    n_bytes: int
    """Of one count: 2 or 4."""


def check_cnt(path: Path) -> CntHeader:
    """Read the header and hold it against the size of the file; no signal is read.

    Raises:
        DataError: not a Neuroscan file, or it stops before the header's last sample or before
            the end of the event table.
    """
    with files.open_file(path) as file:
        size = path.stat().st_size
        head = file.read(_HEADER)
        if not head.startswith(b"Version") or len(head) < _HEADER:
            raise DataError(
                f"{path}: need a Neuroscan header of {_HEADER} bytes that starts with "
                f"'Version', got {len(head)} bytes that start with {head[:7]!r}"
            )
        (n_channels,) = struct.unpack_from("<H", head, _N_CHANNELS)
        (sfreq,) = struct.unpack_from("<H", head, _SFREQ)
        (n_samples,) = struct.unpack_from("<i", head, _N_SAMPLES)
        (table,) = struct.unpack_from("<i", head, _EVENT_TABLE)
        electrodes = file.read(_PER_CHANNEL * n_channels)
        _check_sizes(path, size, n_channels=n_channels, n_samples=n_samples, table=table)
        file.seek(table)
        _check_events(path, size, table, file.read(_EVENT_HEADER.size))
    if sfreq == 0:
        raise DataError(f"{path}: need a sampling rate in Hz at byte {_SFREQ}, got 0")
    names = [electrodes[i : i + 10] for i in range(0, len(electrodes), _PER_CHANNEL)]
    return CntHeader(
        channels=tuple(n.split(b"\0")[0].decode("latin1").strip() for n in names),
        sfreq=float(sfreq),
        n_samples=n_samples,
        n_bytes=(table - _HEADER - _PER_CHANNEL * n_channels) // (n_channels * n_samples),
    )


def _check_sizes(path: Path, size: int, *, n_channels: int, n_samples: int, table: int) -> None:
    if n_channels == 0 or n_samples <= 0:
        raise DataError(
            f"{path}: need channels and samples in the header, got {n_channels} channels "
            f"and {n_samples} samples"
        )
    if size >= _LARGEST:
        raise DataError(f"{path}: need a file below 2 GB, got {size} bytes")
    first = _HEADER + _PER_CHANNEL * n_channels
    if table not in (first + n_channels * n_samples * width for width in (2, 4)):
        raise DataError(
            f"{path}: need an event table behind {n_channels} channels of {n_samples} "
            f"samples of 2 or 4 bytes from byte {first}, got one at byte {table}"
        )
    if size < table + _EVENT_HEADER.size:
        raise DataError(
            f"{path}: truncated: the header promises {n_samples} samples and an event "
            f"table at byte {table}, the file ends at byte {size}"
        )


def _check_events(path: Path, size: int, table: int, head: bytes) -> None:
    kind, length, _ = _EVENT_HEADER.unpack(head)
    if kind not in (1, 2, 3) or length < 0:
        raise DataError(
            f"{path}: need an event table of type 1, 2 or 3 at byte {table}, got type "
            f"{kind} of {length} bytes"
        )
    if size < table + _EVENT_HEADER.size + length:
        raise DataError(
            f"{path}: truncated: the event table at byte {table} promises {length} bytes, "
            f"the file ends at byte {size}"
        )


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
    """
    raw = mne.io.read_raw_cnt(
        path,
        data_format="int32" if header.n_bytes == 4 else "int16",
        recompute_n_samples=False,
        preload=False,
        verbose="ERROR",
    )
    order = np.asarray(rows)
    read = (raw.get_data(start=start, stop=stop, verbose="ERROR") for start, stop in windows)
    return [(volts_CT[order] * 1e6).astype(np.float32) for volts_CT in read]


def write_cnt(
    path: Path,
    blocks_uv: Iterable[FloatArray],
    channels: Sequence[str],
    sfreq: int,
    *,
    recorded: str = "08/04/18",
) -> None:
    """Write an int32 file block by block, so that an hour of it is never in memory.

    Args:
        path: written under a temporary name first.
        blocks_uv: consecutive pieces (C, T) in microvolts; resolution is 1/204.8 microvolt.
        channels: C names of at most ten characters.
        sfreq: Hz.
        recorded: date, mm/dd/yy.
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
        file.write(_header(len(channels), sfreq, n_samples, table, recorded))
    part.replace(path)


def _header(n_channels: int, sfreq: int, n_samples: int, table: int, recorded: str) -> bytes:
    head = bytearray(_HEADER)
    head[:12] = b"Version 3.0\0"
    head[225:235] = recorded.encode().ljust(10, b"\0")
    head[235:247] = b"12:00:00".ljust(12, b"\0")
    struct.pack_into("<H", head, _N_CHANNELS, n_channels)
    struct.pack_into("<H", head, _SFREQ, sfreq)
    struct.pack_into("<i", head, _N_SAMPLES, n_samples)
    struct.pack_into("<i", head, _EVENT_TABLE, table)
    struct.pack_into("<f", head, _DURATION, n_samples / sfreq)
    return bytes(head)


def _electrode(name: str, *, angle: float) -> bytes:
    entry = bytearray(_PER_CHANNEL)
    entry[:10] = name.encode("latin1").ljust(10, b"\0")
    # MNE fits a sphere through the places, so they must not coincide.
    struct.pack_into("<ff", entry, 19, 100 + 50 * math.cos(angle), 100 + 50 * math.sin(angle))
    struct.pack_into("<f", entry, 59, 1.0)  # sensitivity
    struct.pack_into("<f", entry, 71, 1.0)  # calibration
    return bytes(entry)
