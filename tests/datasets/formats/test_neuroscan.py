"""Neuroscan files: bytes put together by hand and held against MNE, and what is refused.

`Recorded.raw` knows nothing of our writer: offsets are those of Neuroscan's SETUP, ELECTLOC and
TEEG structures as MNE and EEGLAB's loadcnt read them.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import mne
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emoray.datasets.formats import neuroscan
from emoray.vocabulary.schema import DataError, FloatArray, IntArray
from tests.signals.test_real import REAL, needs

HALF_A_COUNT = 0.5 / 204.8 + 1e-6
SEED_V_COUNT = -732
"""At byte 864 of the published files of 66 channels; unsigned it is 4294966564, and the product
with 66 that MNE reports is the one of torcheeg#145 and CBraMod#11."""


def noise(n_channels: int, n_samples: int) -> FloatArray:
    return 20 * np.random.default_rng(0).standard_normal((n_channels, n_samples))


def drifting(n_channels: int, n_samples: int, *, step: float, offset: float) -> IntArray:
    """Counts that wander as EEG does, each channel around an electrode offset of its own."""
    rng = np.random.default_rng(n_channels)
    walk_CT = np.cumsum(rng.normal(scale=step, size=(n_channels, n_samples)), axis=1)
    walk_CT -= walk_CT.mean(axis=1, keepdims=True)
    return np.rint(walk_CT + rng.normal(scale=offset, size=(n_channels, 1))).astype(np.int64)


@dataclass(frozen=True)
class Recorded:
    """One file, field by field."""

    counts_CT: IntArray
    n_bytes: int = 4
    announced: int = SEED_V_COUNT
    table: int | None = None
    """Where the header places the event table, if not where it is."""
    block: int = 0
    kind: int = 1
    events: bytes = b""
    behind: bytes = b""
    baseline: int = 0
    sensitivity: float = 1.0
    calibration: float = 1.0

    @property
    def first(self) -> int:
        return 900 + 75 * len(self.counts_CT)

    @property
    def data(self) -> bytes:
        blocks_CNK = self.counts_CT.reshape(len(self.counts_CT), -1, self.block or 1)
        return blocks_CNK.swapaxes(0, 1).astype(f"<i{self.n_bytes}").tobytes()

    @property
    def raw(self) -> bytes:
        n_channels = len(self.counts_CT)
        head = bytearray(900)
        head[:11] = b"Version 3.0"
        head[225:243] = b"08/04/18\x00\x0010:00:00"
        struct.pack_into("<HxxxxH", head, 370, n_channels, 1000)
        struct.pack_into("<i", head, 864, self.announced)
        place = self.first + len(self.data) if self.table is None else self.table
        struct.pack_into("<Ifi", head, 886, place, 0.0, self.block * self.n_bytes)
        for c in range(n_channels):
            entry = bytearray(75)
            entry[:4] = b"E%03d" % c
            struct.pack_into("<ff", entry, 19, 10.0 * np.cos(c), 10.0 * np.sin(c))
            struct.pack_into("<h", entry, 47, self.baseline)
            struct.pack_into("<f", entry, 59, self.sensitivity)
            struct.pack_into("<f", entry, 71, self.calibration)
            head += entry
        teeg = struct.pack("<Bll", self.kind, len(self.events), 0)
        return bytes(head) + self.data + teeg + self.events + self.behind

    def write(self, path: Path) -> Path:
        path.write_bytes(self.raw)
        return path


def assert_read_as_mne_does(path: Path, n_bytes: int) -> neuroscan.CntHeader:
    """All samples, and a window of some channels, are MNE's where it is told the width."""
    raw = mne.io.read_raw_cnt(path, data_format=f"int{8 * n_bytes}", verbose="ERROR")
    header = neuroscan.check_cnt(path)
    assert (header.n_samples, header.n_bytes) == (raw.n_times, n_bytes)
    assert list(header.channels) == raw.ch_names
    rows = range(len(header.channels))
    (whole_CT,) = neuroscan.read_windows(path, header, rows, [(0, raw.n_times)])
    # MNE goes by way of volts: ties of the last place may round the other way.
    np.testing.assert_array_max_ulp(whole_CT, (raw.get_data() * 1e6).astype(np.float32), maxulp=1)
    (part_CT,) = neuroscan.read_windows(path, header, [1, 0], [(7, raw.n_times - 3)])
    np.testing.assert_array_equal(part_CT, whole_CT[[1, 0], 7:-3])
    return header


def refused(path: Path, rows: tuple[int, ...] = ()) -> str:
    with pytest.raises(DataError) as caught:
        neuroscan.read_windows(path, neuroscan.check_cnt(path), rows, [(0, 1)])
    assert str(path) in str(caught.value)
    return str(caught.value)


EEG_32 = drifting(66, 1700, step=40, offset=200_000)
EEG_16 = drifting(66, 1700, step=4, offset=30)


def test_the_sample_count_of_the_published_seed_v_files_is_not_believed(tmp_path: Path) -> None:
    path = Recorded(EEG_32).write(tmp_path / "1_1_20180804.cnt")
    (announced,) = struct.unpack_from("<I", path.read_bytes(), 864)
    assert announced * 66 == 283_467_793_224
    header = assert_read_as_mne_does(path, 4)
    assert (header.n_samples, header.width_from) == (1700, "data")


@pytest.mark.parametrize("announced", [0, SEED_V_COUNT, 3400, 1699, 2**31 - 1])
def test_sixteen_bits_are_told_from_the_signals(tmp_path: Path, announced: int) -> None:
    events = struct.pack("<HBcl", 7, 0, b"\0", 900 + 75 * 66 + 2 * 66 * 333)
    path = Recorded(EEG_16, 2, announced, events=events, behind=bytes(61)).write(tmp_path / "x.cnt")
    header = neuroscan.check_cnt(path)
    assert (header.n_bytes, header.n_samples, header.width_from) == (2, 1700, "data")
    if announced <= 0:  # MNE believes a positive count
        assert_read_as_mne_does(path, 2)


@pytest.mark.parametrize(
    ("counts_CT", "n_bytes"),
    [
        (drifting(5, 1700, step=40, offset=200_000), 4),
        (drifting(66, 1700, step=40, offset=0), 4),  # signs change all the time
        (drifting(66, 1700, step=3000, offset=3e6), 4),  # 24 bits of a sensitive amplifier
        (drifting(66, 1700, step=0.4, offset=0), 4),  # next to nothing
        (drifting(66, 1700, step=40, offset=200_000) * 256, 4),  # 24 bits in the upper ones
        (drifting(66, 20_000, step=40, offset=9e5) * (np.arange(20_000) > 3000), 4),  # late
        (np.rint(noise(66, 1700) * 204.8).astype(np.int64), 4),
        (drifting(66, 20_000, step=40, offset=200_000), 4),  # looked at in pieces
        (drifting(66, 1700, step=300, offset=9000).clip(-32768, 32767), 2),  # to the brim
        (drifting(66, 1700, step=0.4, offset=0), 2),
        (np.rint(noise(66, 1700) * 204.8).astype(np.int64), 2),
        (drifting(66, 20_000, step=4, offset=30), 2),
        (EEG_16 * (np.arange(66) == 4)[:, None] * 100 + EEG_16 // 8, 2),  # a broken electrode
    ],
)
def test_both_widths_are_told_from_signals_of_any_size(
    tmp_path: Path, counts_CT: IntArray, n_bytes: int
) -> None:
    path = Recorded(counts_CT, n_bytes).write(tmp_path / "x.cnt")
    header = assert_read_as_mne_does(path, n_bytes)
    assert (header.n_samples, header.width_from) == (counts_CT.shape[1], "data")


@needs("eeglab_data.set")
@pytest.mark.parametrize(
    ("n_bytes", "uv_per_count"), [(2, 2.0), (2, 0.168), (2, 0.03), (4, 1 / 204.8), (4, 2e-4)]
)
def test_both_widths_are_told_from_a_real_recording(
    tmp_path: Path, n_bytes: int, uv_per_count: float
) -> None:
    raw = mne.io.read_raw_eeglab(REAL / "eeglab_data.set", preload=True, verbose="ERROR")
    counts_CT = np.rint(raw.get_data(stop=20_000) * 1e6 / uv_per_count).astype(np.int64)
    path = Recorded(counts_CT, n_bytes).write(tmp_path / "x.cnt")
    header = neuroscan.check_cnt(path)
    assert (header.n_bytes, header.width_from) == (n_bytes, "data")


def test_an_exact_sample_count_settles_the_width_of_a_silent_file(tmp_path: Path) -> None:
    silent = np.zeros((66, 1000), dtype=np.int64)
    for n_bytes in (2, 4):
        path = Recorded(silent, n_bytes, announced=1000).write(tmp_path / "x.cnt")
        header = assert_read_as_mne_does(path, n_bytes)
        assert header.width_from == "sample count"


def test_a_width_that_nothing_tells_is_refused_not_guessed(tmp_path: Path) -> None:
    path = Recorded(np.zeros((66, 1000), dtype=np.int64)).write(tmp_path / "x.cnt")
    message = refused(path)
    assert "need counts of 16 or 32 bits, found nothing that tells which" in message
    assert "whole samples of 66 channels in both, and the header says 4294966564" in message


def test_one_width_that_fits_settles_it_where_the_signals_rest(tmp_path: Path) -> None:
    path = Recorded(np.zeros((3, 999), dtype=np.int64), 2, announced=0).write(tmp_path / "x.cnt")
    header = neuroscan.check_cnt(path)
    assert (header.n_bytes, header.n_samples, header.width_from) == (2, 999, "size")


@pytest.mark.parametrize(("counts_CT", "n_bytes"), [(EEG_32, 4), (EEG_16, 2)])
@pytest.mark.parametrize("n_more", [1, 66, 2 * 66, 102])
def test_a_part_of_a_sample_before_the_table_is_left_out(
    tmp_path: Path, counts_CT: IntArray, n_bytes: int, n_more: int
) -> None:
    """As in `test_CNT_events_mne_JWoess_clipped.cnt`, where MNE warns and rounds down too."""
    recorded = Recorded(counts_CT, n_bytes)
    raw, end = recorded.raw, recorded.first + len(recorded.data)
    path = tmp_path / "x.cnt"
    path.write_bytes(raw[:end] + bytes(n_more) + raw[end:])
    assert "need an event table of type 1, 2 or 3" in refused(path)
    replace(recorded, table=end + n_more).write(path)
    path.write_bytes(path.read_bytes()[:end] + bytes(n_more) + raw[end:])
    header = assert_read_as_mne_does(path, n_bytes)
    assert (header.n_samples, header.n_left_over) == divmod(
        len(recorded.data) + n_more, 66 * n_bytes
    )


@pytest.mark.parametrize("at", [0, 1, 5000, 448_799])
@pytest.mark.parametrize("n_more", [1, 2, 3, 4, 100, -1, -4, -264])
@pytest.mark.parametrize("announced", [1700, SEED_V_COUNT])
def test_bytes_inserted_or_lost_are_refused(
    tmp_path: Path, at: int, n_more: int, announced: int
) -> None:
    recorded = Recorded(EEG_32, announced=announced, events=bytes(16))
    raw, place = recorded.raw, recorded.first + at
    path = tmp_path / "x.cnt"
    path.write_bytes(raw[:place] + bytes(max(n_more, 0)) + raw[place + max(-n_more, 0) :])
    message = refused(path)
    assert "event table" in message
    assert "454650" in message


@pytest.mark.parametrize("n_more", [1, 2, 3])
def test_signals_off_the_bounds_of_their_counts_are_refused(tmp_path: Path, n_more: int) -> None:
    recorded = Recorded(EEG_32, table=5850 + 4 * EEG_32.size + n_more)
    raw = recorded.raw
    path = tmp_path / "x.cnt"
    path.write_bytes(raw[:5850] + bytes(n_more) + raw[5850:])
    assert "the signals show neither" in refused(path)


@pytest.mark.parametrize(
    ("counts_CT", "n_bytes", "n_channels"),
    [(EEG_32, 4, n) for n in (63, 64, 65, 67, 68, 69)] + [(EEG_16, 2, n) for n in (63, 65, 67)],
)
def test_a_wrong_number_of_channels_is_refused(
    tmp_path: Path, counts_CT: IntArray, n_bytes: int, n_channels: int
) -> None:
    """The data begin 75 bytes off for each, which shows where that cuts through counts."""
    raw = bytearray(Recorded(counts_CT, n_bytes).raw)
    struct.pack_into("<H", raw, 370, n_channels)
    path = tmp_path / "x.cnt"
    path.write_bytes(raw)
    assert "the signals show neither" in refused(path)


@pytest.mark.parametrize("n_bytes", [2, 4])
def test_blocks_of_a_synamps_are_put_in_order(tmp_path: Path, n_bytes: int) -> None:
    path = Recorded(EEG_16, n_bytes, block=20, announced=0).write(tmp_path / "x.cnt")
    header = neuroscan.check_cnt(path)
    assert (header.block, header.n_bytes, header.width_from) == (20, n_bytes, "data")
    raw = mne.io.read_raw_cnt(path, data_format=f"int{8 * n_bytes}", verbose="ERROR")
    windows = [(0, 1700), (20, 60), (133, 1431), (39, 41), (5, 6)]
    read = neuroscan.read_windows(path, header, range(66), windows)
    np.testing.assert_array_equal(read[0], (raw.get_data() * 1e6).astype(np.float32))
    for (start, stop), x_CT in zip(windows, read, strict=True):
        np.testing.assert_allclose(x_CT, EEG_16[:, start:stop] / 204.8, atol=1e-5)


@pytest.mark.parametrize("announced", [1700, SEED_V_COUNT])
def test_a_part_of_a_block_is_refused(tmp_path: Path, announced: int) -> None:
    raw = bytearray(Recorded(EEG_32, announced=announced).raw)
    struct.pack_into("<i", raw, 894, 4 * 16)
    path = tmp_path / "x.cnt"
    path.write_bytes(raw)
    assert "need whole samples of 66 channels in blocks of 16" in refused(path)


def test_baseline_sensitivity_and_calibration_are_those_of_mne(tmp_path: Path) -> None:
    path = Recorded(EEG_32, baseline=-311, sensitivity=0.51, calibration=1.37).write(
        tmp_path / "x.cnt"
    )
    header = assert_read_as_mne_does(path, 4)
    (x_CT,) = neuroscan.read_windows(path, header, [3], [(10, 11)])
    expected = (EEG_32[3, 10] + 311) * np.float32(0.51) * np.float32(1.37) / 204.8
    assert x_CT[0, 0] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("place", [59, 71])
@pytest.mark.parametrize("value", [0.0, np.nan, np.inf, 1e-30, 1e30])
def test_a_channel_without_calibration_is_refused_by_name(
    tmp_path: Path, place: int, value: float
) -> None:
    raw = bytearray(Recorded(EEG_32).raw)
    struct.pack_into("<f", raw, 900 + 75 * 2 + place, value)
    path = tmp_path / "1_2_20180822.cnt"
    path.write_bytes(raw)
    message = refused(path, rows=(1, 2))
    assert "1_2_20180822.cnt channel 3 (E002): need 1e-06 to 1000 microvolts for a count" in message
    header = neuroscan.check_cnt(path)
    assert len(neuroscan.read_windows(path, header, [0, 1, 3], [(0, 1)])) == 1


@pytest.mark.parametrize(("kind", "record"), [(1, 8), (2, 19), (3, 19)])
def test_what_follows_the_events_is_left_alone(tmp_path: Path, kind: int, record: int) -> None:
    events = bytes(3 * record)
    path = Recorded(EEG_32, kind=kind, events=events, behind=b"\1" * 1000).write(tmp_path / "x.cnt")
    assert assert_read_as_mne_does(path, 4).n_samples == 1700


def test_a_table_that_the_header_places_elsewhere_is_found_behind_the_samples(
    tmp_path: Path,
) -> None:
    """MNE does so where the place lies behind the end of the file."""
    path = Recorded(EEG_32, announced=1700, table=900_000).write(tmp_path / "x.cnt")
    assert assert_read_as_mne_does(path, 4).width_from == "sample count"
    for table in (0, 899, 100_000):
        replace(Recorded(EEG_32, announced=1700), table=table).write(path)
        assert neuroscan.check_cnt(path).n_samples == 1700
        replace(Recorded(EEG_32), table=table).write(path)
        assert "need an event table" in refused(path)


@pytest.mark.parametrize("giga", [2.2, 4.5, 9.0])
def test_the_table_of_a_large_file_is_known_up_to_32_bits(tmp_path: Path, giga: float) -> None:
    """SCAN writes the lower 32 bits of the place; the middle takes no room on the disk."""
    recorded = Recorded(EEG_32)
    n_samples = round(giga * 1e9) // (4 * 66)
    table = recorded.first + 4 * 66 * n_samples
    head = bytearray(recorded.raw[: recorded.first])
    struct.pack_into("<I", head, 886, table % 2**32)
    path = tmp_path / "x.cnt"
    with path.open("wb") as file:
        file.write(bytes(head) + recorded.data)
        file.seek(table - len(recorded.data))
        file.write(recorded.data + b"\1" + bytes(8))
    header = neuroscan.check_cnt(path)
    assert (header.n_samples, header.n_bytes, header.width_from) == (n_samples, 4, "data")
    rows = [0, 65]
    windows = [(3, 50), (n_samples - 1700, n_samples), (n_samples // 2, n_samples // 2 + 2)]
    start_CT, end_CT, middle_CT = neuroscan.read_windows(path, header, rows, windows)
    np.testing.assert_array_equal(start_CT, (EEG_32[rows, 3:50] / 204.8).astype(np.float32))
    np.testing.assert_array_equal(end_CT, (EEG_32[rows] / 204.8).astype(np.float32))
    assert not middle_CT.any()
    with path.open("r+b") as file:
        file.truncate(table)
    assert "need an event table" in refused(path)


@pytest.fixture
def cnt(tmp_path: Path) -> Path:
    path = tmp_path / "1_1_20180804.cnt"
    neuroscan.write_cnt(path, [noise(3, 2000)], ["FP1", "FPZ", "VEO"], 1000)
    return path


@settings(max_examples=25, deadline=None)
@given(n_channels=st.integers(2, 70), cuts=st.lists(st.integers(0, 400), max_size=3))
def test_what_is_written_in_blocks_is_read_in_windows(
    tmp_path_factory: pytest.TempPathFactory, n_channels: int, cuts: list[int]
) -> None:
    path = tmp_path_factory.mktemp("cnt") / "x.cnt"
    x_CT = noise(n_channels, 400)
    names = [f"E{k}" for k in range(n_channels)]
    neuroscan.write_cnt(path, np.split(x_CT, sorted(cuts), axis=1), names, 250)
    header = neuroscan.check_cnt(path)
    assert (header.channels, header.sfreq) == (tuple(names), 250.0)
    assert (header.n_samples, header.n_bytes, header.width_from) == (400, 4, "sample count")
    rows = [n_channels - 1, 0]
    whole, tail = neuroscan.read_windows(path, header, rows, [(0, 400), (300, 333)])
    assert whole.dtype == np.float32
    np.testing.assert_allclose(whole, x_CT[rows], atol=HALF_A_COUNT)
    np.testing.assert_array_equal(tail, whole[:, 300:333])


def test_mne_alone_reads_what_is_written(cnt: Path) -> None:
    raw = mne.io.read_raw_cnt(cnt, preload=True, verbose="ERROR")
    assert raw.ch_names == ["FP1", "FPZ", "VEO"]
    assert raw.info["sfreq"] == 1000
    assert raw.info["bads"] == []
    np.testing.assert_allclose(raw.get_data() * 1e6, noise(3, 2000), atol=HALF_A_COUNT)


@pytest.mark.parametrize("kept", [0, 5, 899, 900, 1000, 1125, 10_000, 25_124, 25_125, 25_133])
def test_a_truncated_file_is_refused_wherever_it_stops(cnt: Path, kept: int) -> None:
    assert cnt.stat().st_size == 900 + 3 * 75 + 3 * 2000 * 4 + 9
    cnt.write_bytes(cnt.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"1_1_20180804\.cnt"):
        neuroscan.check_cnt(cnt)


def test_the_message_says_what_was_promised_and_where_the_file_ends(cnt: Path) -> None:
    cnt.write_bytes(cnt.read_bytes()[:10_000])
    with pytest.raises(DataError, match=r"event table at byte 25125, .* ends at byte 10000"):
        neuroscan.check_cnt(cnt)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (0, b"RIFF....", "starts with 'Version'"),
        (370, struct.pack("<H", 4), "whole samples of 4 channels"),
        (370, struct.pack("<H", 0), "number of channels"),
        (376, struct.pack("<H", 0), "sampling rate"),
        (894, struct.pack("<i", 2002), "blocks of a second at most at byte 894, got 2002 bytes"),
        (25_125, b"\x09", "type 1, 2 or 3"),
        (25_126, struct.pack("<i", 80), "promises 80 bytes"),
        (25_126, struct.pack("<i", 7), "whole events at byte 25125, got type 1 of 7 bytes"),
    ],
)
def test_a_header_that_contradicts_itself_is_refused(
    cnt: Path, place: int, value: bytes, message: str
) -> None:
    raw = bytearray(cnt.read_bytes())
    raw[place : place + len(value)] = value
    cnt.write_bytes(raw)
    with pytest.raises(DataError, match=message):
        neuroscan.check_cnt(cnt)


def test_writing_that_is_interrupted_leaves_no_file(tmp_path: Path) -> None:
    def blocks() -> Iterator[FloatArray]:
        yield noise(2, 10)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        neuroscan.write_cnt(tmp_path / "x.cnt", blocks(), ["FP1", "FP2"], 1000)
    assert not (tmp_path / "x.cnt").exists()
