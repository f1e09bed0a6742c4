"""BioSemi's `.bdf` container: its header, held against the file's size, and a writer for examples.

Format: biosemi.com, "Which file format does BioSemi use": 256 bytes of header, 256 bytes per
signal, then records of 24-bit little-endian samples, signal after signal.
Shapes: N signals, T samples.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import numpy as np

from emoray.datasets.formats import files
from emoray.vocabulary.schema import DataError, FloatArray, IntArray

STATUS = "Status"
"""Label of the last signal: triggers, and the amplifier's state."""

_FIELDS = (16, 80, 8, 8, 8, 8, 8, 80, 8, 32)
"""Bytes of each field of a signal; the fields of all signals stand together."""
_LABEL, _UNIT, _RANGES, _N_SAMPLES = 0, 2, slice(3, 7), 8  # which of the fields
_DIGITAL = (-8388608, 8388608)
_PHYSICAL_UV = (-262144, 262144)
_UV_PER_STEP = 262144 / 8388608
_DATE, _TIME = "01.01.00", "00.00.00"
_UNKNOWN = -1
"""Number of records while recording, and for good where the recorder was not stopped."""
_GAINS = {"uV": _UV_PER_STEP, "Boolean": 1.0}
"""Of one step, in the units that an amplifier writes: BioSemi's gain is fixed."""
_GAIN_TOLERANCE = 1e-4
"""Relative. BioSemi's own table has 262143 uV for 8388607 steps, 2e-6 less than 1/32."""
_MOST_OFFSET = 1.0
"""In units. The same table puts step 0 at -0.5 uV."""


@dataclass(frozen=True)
class Signal:
    """What the head of a `.bdf` says of one signal."""

    label: str
    unit: str
    ranges: tuple[str, ...]
    """Physical minimum and maximum, digital minimum and maximum, as written."""
    n_samples: int
    """In a record."""


@dataclass(frozen=True)
class Header:
    """What the head of a `.bdf` says, once the file's size has confirmed it."""

    signals: tuple[Signal, ...]
    n_records: int
    record_s: float

    @property
    def labels(self) -> tuple[str, ...]:
        """Of all signals, in the file's order."""
        return tuple(signal.label for signal in self.signals)


def read_header(path: Path) -> Header:
    """Read the header and hold it exactly against the size of the file.

    A number of records that is unknown (-1) is counted. Neither then nor where it is known may
    a byte be left over: a record cut off while recording cannot be told from a byte that was
    inserted and shifts all samples behind it.

    Raises:
        DataError: no BioSemi file, one cut short, or one with bytes too many.
    """
    with files.open_file(path) as file:
        try:
            header = _parse(file.read(256), file)
        except ValueError as error:
            raise DataError(f"{path}: need the header of a BioSemi file ({error})") from error
    return replace(header, n_records=_n_records(path, header))


def _parse(head: bytes, file: IO[bytes]) -> Header:
    if head[:8] != b"\xffBIOSEMI":
        raise ValueError(f"it starts with {head[:8]!r}")
    n_header, n_records = int(head[184:192]), int(head[236:244])
    record_s, n_signals = float(head[244:252]), int(head[252:256])
    if n_signals < 1 or n_header != 256 * (n_signals + 1):
        raise ValueError(f"it has {n_header} bytes for {n_signals} signals")
    rest = file.read(256 * n_signals)
    if len(rest) < 256 * n_signals:
        raise ValueError(f"it ends after {256 + len(rest)} of {n_header} bytes")
    columns = [_field(rest, n_signals, which) for which in range(len(_FIELDS))]
    signals = tuple(
        Signal(column[_LABEL], column[_UNIT], column[_RANGES], int(column[_N_SAMPLES]))
        for column in zip(*columns, strict=True)
    )
    if not (math.isfinite(record_s) and record_s > 0 and min(s.n_samples for s in signals) > 0):
        raise ValueError(f"its records last {record_s:g} s and may hold no samples")
    return Header(signals, n_records, record_s)


def _n_records(path: Path, header: Header) -> int:
    """Number of records in the file, which must end with the last of them."""
    n_header = 256 * (len(header.signals) + 1)
    n_bytes = 3 * sum(signal.n_samples for signal in header.signals)
    found = path.stat().st_size
    if header.n_records == _UNKNOWN:
        n_records, left_over = divmod(found - n_header, n_bytes)
        if left_over or n_records == 0:
            raise DataError(
                f"{path}: need whole records of {n_bytes} bytes behind {n_header} bytes of "
                f"header, found {n_records} and {left_over} bytes: the last record is cut off, or "
                f"samples are shifted"
            )
        return n_records
    expected = n_header + n_bytes * header.n_records
    if header.n_records < 1 or found != expected:
        fault = "is truncated" if found < expected else "has bytes that shift samples, or more"
        raise DataError(
            f"{path}: need {expected} bytes for the {header.n_records} records that its header "
            f"announces, found {found}; the file {fault}"
        )
    return header.n_records


def _field(signals: bytes, n_signals: int, which: int) -> list[str]:
    start = n_signals * sum(_FIELDS[:which])
    width = _FIELDS[which]
    places = range(start, start + n_signals * width, width)
    return [signals[i : i + width].decode("latin1").strip() for i in places]


def check_signals(path: Path, header: Header, labels: Iterable[str], *, sfreq: float) -> None:
    """Hold what the header says of some signals against what a BioSemi amplifier writes.

    Voltages are in microvolts and 1/32 of one for a step, `Status` is `Boolean` and 1.

    Raises:
        DataError: a signal twice, at another rate, in another unit or with another gain.
    """
    for label in labels:
        signals = [signal for signal in header.signals if signal.label == label]
        if len(signals) != 1:
            raise DataError(f"{path}: need one signal {label}, found {len(signals)}")
        rate = signals[0].n_samples / header.record_s
        if rate != sfreq:
            raise DataError(f"{path} {label}: need {sfreq:g} Hz, found {rate:g} Hz")
        _check_gain(f"{path} {label}", signals[0], "Boolean" if label == STATUS else "uV")


def _check_gain(where: str, signal: Signal, unit: str) -> None:
    if signal.unit.replace("\N{MICRO SIGN}", "u") != unit:
        raise DataError(f"{where}: need the unit {unit}, found {signal.unit!r}")
    try:
        low, high, first, last = (float(text) for text in signal.ranges)
    except ValueError as error:
        raise DataError(f"{where}: need physical and digital ranges, found {error}") from None
    gain = (high - low) / (last - first) if last > first else 0.0
    fits = abs(gain / _GAINS[unit] - 1) <= _GAIN_TOLERANCE
    if not (fits and abs(low - gain * first) <= _MOST_OFFSET):
        raise DataError(
            f"{where}: need {_GAINS[unit]:g} {unit} for a step and 0 for step 0, found "
            f"{low:g} to {high:g} {unit} for steps {first:g} to {last:g}"
        )


def write_bdf(
    path: Path, labels: Sequence[str], x_NT: FloatArray, status_T: IntArray, *, sfreq: int
) -> None:
    """Write signals in microvolts, and `Status` after them, in records of one second.

    Raises:
        ValueError: T is not a whole number of seconds, or the lengths disagree.
    """
    n_signals, n_samples = x_NT.shape
    if len(labels) != n_signals or status_T.shape != (n_samples,) or n_samples % sfreq:
        raise ValueError(
            f"need {len(labels)} signals and a status of whole seconds at {sfreq} Hz, "
            f"got {x_NT.shape} and {status_T.shape}"
        )
    steps_NT = np.vstack((np.rint(x_NT / _UV_PER_STEP), status_T[None])).clip(
        _DIGITAL[0], _DIGITAL[1] - 1
    )
    # Seconds first, then signals; of each little-endian integer the three lower bytes.
    steps = steps_NT.astype("<i4").reshape(n_signals + 1, -1, sfreq).swapaxes(0, 1)
    raw = np.ascontiguousarray(steps)[..., None].view(np.uint8)[..., :3]
    path.write_bytes(_header(labels, n_samples // sfreq, sfreq) + raw.tobytes())


def _header(labels: Sequence[str], n_records: int, sfreq: int) -> bytes:
    n = len(labels) + 1
    head = f"{'':80}{'':80}{_DATE}{_TIME}{256 * (n + 1):<8}{'24BIT':<44}{n_records:<8}{1:<8}{n:<4}"
    signal = (_PHYSICAL_UV, _DIGITAL, "uV", "active electrode")
    status = (_DIGITAL, _DIGITAL, "Boolean", "triggers and status")
    columns = [
        (label, kind, unit, *physical, *digital, "", sfreq, "")
        for label, (physical, digital, unit, kind) in zip(
            (*labels, "Status"), [signal] * len(labels) + [status], strict=True
        )
    ]
    fields = "".join(
        f"{column[i]!s:<{width}}" for i, width in enumerate(_FIELDS) for column in columns
    )
    return b"\xffBIOSEMI" + (head + fields).encode("ascii")
