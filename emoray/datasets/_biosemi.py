"""BioSemi's `.bdf` container: its header, held against the file's size, and a writer for examples.

Format: biosemi.com, "Which file format does BioSemi use": 256 bytes of header, 256 bytes per
signal, then records of 24-bit little-endian samples, signal after signal.
Shapes: N signals, T samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emoray import files
from emoray.schema import DataError, FloatArray, IntArray

_FIELDS = (16, 80, 8, 8, 8, 8, 8, 80, 8, 32)
"""Bytes of each field of a signal; the fields of all signals stand together."""
_LABEL, _N_SAMPLES = 0, 8  # which of the fields
_DIGITAL = (-8388608, 8388608)
_PHYSICAL_UV = (-262144, 262144)
_UV_PER_STEP = 262144 / 8388608
_DATE, _TIME = "01.01.00", "00.00.00"


@dataclass(frozen=True)
class Header:
    """What the head of a `.bdf` says."""

    labels: tuple[str, ...]
    samples_per_record: tuple[int, ...]
    n_records: int
    record_s: float


def read_header(path: Path) -> Header:
    """Read the header and make sure that all records it announces are there.

    Raises:
        DataError: no BioSemi file, or one cut short.
    """
    with files.open_file(path) as file:
        head = file.read(256)
        try:
            if head[:8] != b"\xffBIOSEMI":
                raise ValueError(f"it starts with {head[:8]!r}")
            n_header, n_records = int(head[184:192]), int(head[236:244])
            record_s, n_signals = float(head[244:252]), int(head[252:256])
            rest = file.read(256 * n_signals)
            labels = tuple(text.decode("latin1") for text in _field(rest, n_signals, _LABEL))
            samples = tuple(int(text) for text in _field(rest, n_signals, _N_SAMPLES))
        except ValueError as error:
            raise DataError(f"{path}: need the header of a BioSemi file ({error})") from error
    expected = n_header + 3 * n_records * sum(samples)
    found = path.stat().st_size
    if n_records < 1 or found < expected:
        raise DataError(
            f"{path}: need {expected} bytes for the {n_records} records that its header "
            f"announces, found {found}; the file is truncated"
        )
    return Header(labels, samples, n_records, record_s)


def _field(signals: bytes, n_signals: int, which: int) -> list[bytes]:
    start = n_signals * sum(_FIELDS[:which])
    width = _FIELDS[which]
    return [signals[start + i * width : start + (i + 1) * width].strip() for i in range(n_signals)]


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
