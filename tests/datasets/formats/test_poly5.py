"""Poly5: what the writer writes by the published layout, and sizes held exactly."""

from __future__ import annotations

import contextlib
import struct
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emoray.datasets.formats import poly5
from emoray.vocabulary.schema import DataError

CHANNELS = (("ECG", "mV"), ("Skin", "uS"), ("HR", "bpm"))
START = datetime(2012, 9, 18, 13, 16, 5)
N_SAMPLES, N_PER_BLOCK = 1000, 128
X_CT = np.random.default_rng(0).normal(size=(3, N_SAMPLES)).astype(np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "pp1.S00"
    poly5.write(path, CHANNELS, X_CT, sfreq=2048, start=START, n_per_block=N_PER_BLOCK)
    return path


def refused(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        poly5.read(path, poly5.read_header(path), [0])
    assert str(path) in str(caught.value)
    return str(caught.value)


def patch(path: Path, at: int, raw: bytes) -> None:
    content = bytearray(path.read_bytes())
    content[at : at + len(raw)] = raw
    path.write_bytes(content)


def test_what_was_written_comes_back(path: Path) -> None:
    header = poly5.read_header(path)
    assert header.names == ("ECG", "Skin", "HR")
    assert [channel.unit for channel in header.channels] == ["mV", "uS", "bpm"]
    assert (header.sfreq, header.start, header.n_samples) == (2048.0, START, N_SAMPLES)
    np.testing.assert_array_equal(poly5.read(path, header, [2, 0]), X_CT[[2, 0]])


def test_the_bytes_lie_where_the_layout_says(path: Path) -> None:
    """Offsets counted by hand from the published table of fields."""
    raw = path.read_bytes()
    assert raw[:31] == b"POLY SAMPLE FILEversion 2.03\r\n\x1a"
    assert struct.unpack_from("<h", raw, 31) == (203,)
    assert struct.unpack_from("<hhB", raw, 114) == (2048, 2048, 0)
    assert struct.unpack_from("<hi", raw, 119) == (6, N_SAMPLES)
    assert struct.unpack_from("<7h", raw, 129) == (2012, 9, 18, 2, 13, 16, 5)  # a Tuesday
    assert struct.unpack_from("<iHHh", raw, 143) == (8, N_PER_BLOCK, N_PER_BLOCK * 3 * 4, 0)
    assert raw[217 : 217 + 9] == b"\x08(Lo) ECG"
    assert raw[217 + 136 : 217 + 136 + 9] == b"\x08(Hi) ECG"
    assert raw[217 + 45 : 217 + 48] == b"\x02mV"
    first = 217 + 6 * 136
    assert struct.unpack_from("<i", raw, first) == (0,)
    assert struct.unpack_from("<3f", raw, first + 86) == tuple(X_CT[:, 0])
    second = first + 86 + N_PER_BLOCK * 3 * 4
    assert struct.unpack_from("<i", raw, second) == (N_PER_BLOCK,)
    assert struct.unpack_from("<3f", raw, second + 86) == tuple(X_CT[:, N_PER_BLOCK])
    assert len(raw) == first + 8 * (86 + N_PER_BLOCK * 3 * 4)


def test_a_later_version_has_a_byte_more(path: Path) -> None:
    raw = path.read_bytes()
    later = raw[:28] + b"\r\n\x1a\0" + struct.pack("<h", 204) + raw[33:]
    path.write_bytes(later)
    header = poly5.read_header(path)
    assert header.data_at == 218 + 6 * 136
    np.testing.assert_array_equal(poly5.read(path, header, [1])[0], X_CT[1])


def test_a_last_block_may_end_with_its_last_sample(path: Path) -> None:
    raw = path.read_bytes()
    n_padded = 8 * N_PER_BLOCK - N_SAMPLES
    path.write_bytes(raw[: -n_padded * 3 * 4])
    np.testing.assert_array_equal(poly5.read(path, poly5.read_header(path), range(3)), X_CT)


def test_steps_become_units(path: Path) -> None:
    for signal in (0, 1):
        patch(path, 217 + signal * 136 + 56, struct.pack("<4f", -10.0, 10.0, 0.0, 1.0))
    found = poly5.read(path, poly5.read_header(path), [0])[0]
    np.testing.assert_allclose(found, X_CT[0] * 20 - 10, atol=1e-5)


N_PADDED = (8 * N_PER_BLOCK - N_SAMPLES) * 3 * 4
"""Bytes behind the last sample."""


@pytest.mark.parametrize(
    ("n", "said"),
    [
        (1, "has bytes that shift samples"),
        (100, "has bytes that shift samples"),
        (-1, "has bytes that shift samples"),
        (-N_PADDED - 1, "is truncated"),
        (-86 - N_PER_BLOCK * 12, "is truncated"),
    ],
)
def test_every_byte_too_many_or_too_few_is_refused(path: Path, n: int, said: str) -> None:
    raw = path.read_bytes()
    path.write_bytes(raw[:n] if n < 0 else raw + bytes(n))
    assert said in refused(path)


@pytest.mark.parametrize(
    ("at", "raw", "said"),
    [
        (0, b"RIFF", "it starts with b'RIFF"),
        (31, b"\0\0", "its version is none of 203 and 204"),
        (114, struct.pack("<h", 0), "at 0 Hz"),
        (119, struct.pack("<h", 5), "it has 5 signals, which come in pairs"),
        (119, struct.pack("<h", -2), "it has -2 signals"),
        (121, struct.pack("<i", 10**9), "it has 1000000000 samples in 8 blocks of 128"),
        (129, struct.pack("<h", 0), "need the header of a Poly5 file"),
        (143, struct.pack("<i", 10**9), "samples in 1000000000 blocks"),
        (149, struct.pack("<H", 7), "only 32-bit floats are read"),
        (151, struct.pack("<h", 1), "and compressed"),
    ],
)
def test_a_header_that_cannot_be_is_refused(path: Path, at: int, raw: bytes, said: str) -> None:
    patch(path, at, raw)
    assert said in refused(path)


def test_a_range_of_nothing_is_refused(path: Path) -> None:
    patch(path, 217 + 136 + 56, struct.pack("<4f", 0.0, 0.0, 0.0, 1.0))
    assert "ECG: need a range in units and one in steps, found 0 to 0" in refused(path)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.data())
def test_an_altered_head_does_no_worse_than_an_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "altered.S00"
    poly5.write(path, CHANNELS, X_CT[:, :200], sfreq=2048, start=START)
    for _ in range(data.draw(st.integers(1, 3))):
        patch(
            path, data.draw(st.integers(0, 217 + 6 * 136)), bytes([data.draw(st.integers(0, 255))])
        )
    with contextlib.suppress(DataError):
        header = poly5.read_header(path)
        assert poly5.read(path, header, range(len(header.channels))).size
