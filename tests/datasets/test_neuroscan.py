"""Neuroscan files: written, read back, and refused when they are not whole."""

import struct
from collections.abc import Iterator
from pathlib import Path

import mne
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emoray.datasets import _neuroscan
from emoray.schema import DataError, FloatArray

HALF_A_COUNT = 0.5 / 204.8 + 1e-6


def noise(n_channels: int, n_samples: int) -> FloatArray:
    return 20 * np.random.default_rng(0).standard_normal((n_channels, n_samples))


@pytest.fixture
def cnt(tmp_path: Path) -> Path:
    path = tmp_path / "1_1_20180804.cnt"
    _neuroscan.write_cnt(path, [noise(3, 2000)], ["FP1", "FPZ", "VEO"], 1000)
    return path


@settings(max_examples=25, deadline=None)
@given(n_channels=st.integers(2, 70), cuts=st.lists(st.integers(0, 400), max_size=3))
def test_what_is_written_in_blocks_is_read_in_windows(
    tmp_path_factory: pytest.TempPathFactory, n_channels: int, cuts: list[int]
) -> None:
    path = tmp_path_factory.mktemp("cnt") / "x.cnt"
    x_CT = noise(n_channels, 400)
    names = [f"E{k}" for k in range(n_channels)]
    _neuroscan.write_cnt(path, np.split(x_CT, sorted(cuts), axis=1), names, 250)
    header = _neuroscan.check_cnt(path)
    assert header == _neuroscan.CntHeader(tuple(names), 250.0, 400, 4)
    rows = [n_channels - 1, 0]
    whole, tail = _neuroscan.read_windows(path, header, rows, [(0, 400), (300, 333)])
    assert whole.dtype == np.float32
    np.testing.assert_allclose(whole, x_CT[rows], atol=HALF_A_COUNT)
    np.testing.assert_array_equal(tail, whole[:, 300:333])


def test_mne_alone_reads_what_is_written(cnt: Path) -> None:
    raw = mne.io.read_raw_cnt(cnt, preload=True, verbose="ERROR")
    assert raw.ch_names == ["FP1", "FPZ", "VEO"]
    assert raw.info["sfreq"] == 1000
    assert raw.info["bads"] == []
    np.testing.assert_allclose(raw.get_data() * 1e6, noise(3, 2000), atol=HALF_A_COUNT)


def test_counts_of_two_bytes_are_recognised(cnt: Path) -> None:
    raw = cnt.read_bytes()
    first, n = 900 + 75 * 3, 3 * 2000
    counts = np.frombuffer(raw[first : first + 4 * n], "<i4").astype("<i2").tobytes()
    head = bytearray(raw[:first])
    struct.pack_into("<i", head, 886, first + 2 * n)
    cnt.write_bytes(bytes(head) + counts + raw[first + 4 * n :])
    header = _neuroscan.check_cnt(cnt)
    assert header.n_bytes == 2
    (x_CT,) = _neuroscan.read_windows(cnt, header, [0, 1, 2], [(0, 2000)])
    np.testing.assert_allclose(x_CT, noise(3, 2000), atol=HALF_A_COUNT)


@pytest.mark.parametrize("kept", [0, 5, 899, 900, 1000, 1125, 10_000, 25_124, 25_125, 25_133])
def test_a_truncated_file_is_refused_wherever_it_stops(cnt: Path, kept: int) -> None:
    assert cnt.stat().st_size == 900 + 3 * 75 + 3 * 2000 * 4 + 9
    cnt.write_bytes(cnt.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"1_1_20180804\.cnt"):
        _neuroscan.check_cnt(cnt)


def test_the_message_says_what_was_promised_and_where_the_file_ends(cnt: Path) -> None:
    cnt.write_bytes(cnt.read_bytes()[:10_000])
    with pytest.raises(DataError, match=r"promises 2000 samples .* ends at byte 10000"):
        _neuroscan.check_cnt(cnt)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (0, b"RIFF....", "starts with 'Version'"),
        (864, struct.pack("<i", 1999), "event table behind"),
        (864, struct.pack("<i", 0), "channels and samples"),
        (370, struct.pack("<H", 4), "event table behind"),
        (370, struct.pack("<H", 0), "channels and samples"),
        (376, struct.pack("<H", 0), "sampling rate"),
        (886, struct.pack("<i", 0), "event table behind"),
        (25_125, b"\x09", "type 1, 2 or 3"),
        (25_126, struct.pack("<i", 80), "promises 80 bytes"),
    ],
)
def test_a_header_that_contradicts_itself_is_refused(
    cnt: Path, place: int, value: bytes, message: str
) -> None:
    raw = bytearray(cnt.read_bytes())
    raw[place : place + len(value)] = value
    cnt.write_bytes(raw)
    with pytest.raises(DataError, match=message):
        _neuroscan.check_cnt(cnt)


def test_writing_that_is_interrupted_leaves_no_file(tmp_path: Path) -> None:
    def blocks() -> Iterator[FloatArray]:
        yield noise(2, 10)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _neuroscan.write_cnt(tmp_path / "x.cnt", blocks(), ["FP1", "FP2"], 1000)
    assert not (tmp_path / "x.cnt").exists()
