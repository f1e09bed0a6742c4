"""SEED-V's reader: electrodes by name, presentations by the clock, windows instead of files."""

import json
import re
import shutil
import struct
import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import mne
import numpy as np
import pytest

from emoray.datasets import seed_v
from emoray.datasets.formats import neuroscan
from emoray.vocabulary.electrodes import SEED_62
from emoray.vocabulary.schema import DataError, Presentation, RecordingRef
from tests.datasets.numbering import (
    LengthSource,
    NumberSource,
    assert_each_shows_its_own,
    cut_short,
    n_segments,
)
from tests.sources import ToneSource, channels_by_tone

FIRST = "EEG_raw/1_1_20180804.cnt"
REF = RecordingRef("seed_v", "01", "1", (FIRST,))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    seed_v.write_example(tmp_path, NumberSource(), n_subjects=1, duration_s=0.4)
    return tmp_path


def rewrite(path: Path, channels: list[str], *, seconds: float, sfreq: int = 1000) -> None:
    silence = np.zeros((len(channels), round(seconds * sfreq)))
    neuroscan.write_cnt(path, [silence], channels, sfreq)


def test_mastoids_and_eog_in_the_middle_shift_no_electrode(tmp_path: Path) -> None:
    seed_v.write_example(tmp_path, ToneSource(), n_subjects=1, duration_s=4.0)
    written = neuroscan.check_cnt(tmp_path / FIRST).channels
    assert [written.index(name) for name in ("M1", "M2", "VEO", "HEO")] == [32, 42, 60, 61]
    recording = seed_v.read(tmp_path, REF)
    shown = recording.presentations[3]
    start, stop = (round(s * 1000) for s in (shown.start_s, shown.stop_s))
    eeg_CT = recording.stretches[3].eeg_CT[:, start:stop]
    assert recording.eeg_channels == SEED_62
    assert channels_by_tone(eeg_CT, 1000.0) == list(range(62))


def test_the_example_announces_samples_as_the_published_files_do(tmp_path: Path) -> None:
    """And its signals are those that MNE reads when told that counts have 32 bits."""
    seed_v.write_example(tmp_path, ToneSource(), n_subjects=1, duration_s=1.0)
    path = tmp_path / FIRST
    n_channels, announced = struct.unpack_from("<H492xI", path.read_bytes(), 370)
    assert n_channels * announced == 283_467_793_224  # torcheeg#145, CBraMod#11
    raw = mne.io.read_raw_cnt(path, data_format="int32", verbose="ERROR")
    recording = seed_v.read(tmp_path, REF)
    scalp = [next(n for n in raw.ch_names if n == site.upper()) for site in SEED_62]
    first_CT = raw.get_data(scalp, stop=recording.stretches[0].eeg_CT.shape[1]) * 1e6
    np.testing.assert_allclose(recording.stretches[0].eeg_CT, first_CT, rtol=2e-7)
    assert sum(s.eeg_CT.shape[1] for s in recording.stretches) == raw.n_times


def test_an_electrode_without_calibration_is_refused_by_name(root: Path) -> None:
    raw = bytearray((root / FIRST).read_bytes())
    struct.pack_into("<f", raw, 900 + 75 * 2 + 71, 0.0)
    (root / FIRST).write_bytes(raw)
    with pytest.raises(DataError, match=r"1_1_20180804\.cnt channel 3 \(FP2\): need 1e-06 to"):
        seed_v.read(root, REF)
    struct.pack_into("<f", raw, 900 + 75 * 2 + 71, 1.0)
    struct.pack_into("<f", raw, 900 + 75 * 60 + 71, 0.0)
    (root / FIRST).write_bytes(raw)
    assert len(seed_v.read(root, REF).stretches) == 15  # VEO is not read


def test_presentations_are_cut_by_the_clock(root: Path) -> None:
    for ref in seed_v.find(root).recordings:
        recording = seed_v.read(root, ref)
        assert [p.ordinal for p in recording.presentations] == list(range(15))
        assert {p.stimulus[:2] for p in recording.presentations} == {f"{ref.session}-"}
        assert_each_shows_its_own(recording)


def test_the_rest_around_a_presentation_is_kept_for_filters(root: Path) -> None:
    recording = seed_v.read(root, REF)
    shown = recording.presentations[4]
    stretch_CT = recording.stretches[4].eeg_CT
    assert shown.start_s == pytest.approx(0.1)  # half of the gap of 0.2 s
    assert stretch_CT.shape[1] == 600
    np.testing.assert_allclose(stretch_CT[0, :100], -1, atol=3e-3)
    np.testing.assert_allclose(stretch_CT[0, 500:], -1, atol=3e-3)


def test_margins_end_with_the_file_and_halfway_to_a_neighbour() -> None:
    clock = ((4.0, 50.0), (56.0, 90.0), (130.0, 150.0))
    assert seed_v.with_margins(clock, 0, 155.0) == (0.0, 53.0)
    assert seed_v.with_margins(clock, 1, 155.0) == (53.0, 100.0)
    assert seed_v.with_margins(clock, 2, 155.0) == (120.0, 155.0)
    spans = [seed_v.with_margins(seed_v.CLOCK["1"], k, 4000.0) for k in range(15)]
    assert spans[0] == (20.0, 112.0)
    assert all(a[1] <= b[0] for a, b in pairwise(spans))


def test_the_session_is_the_stimulus_set_not_the_order_of_days(root: Path) -> None:
    refs = {ref.session: ref for ref in seed_v.find(root).recordings}
    assert refs["3"].files[0][-12:-4] < refs["2"].files[0][-12:-4]
    labels = {s: [p.label for p in seed_v.read(root, ref).presentations] for s, ref in refs.items()}
    assert labels["1"] == [4, 1, 3, 2, 0] * 3
    assert labels["2"] == labels["3"] == [2, 1, 3, 0, 4, 4, 0, 3, 2, 1, 3, 4, 1, 2, 0]
    emotions = [p.emotion for p in seed_v.read(root, refs["1"]).presentations]
    assert emotions[:5] == ["joy", "fear", "neutral", "sadness", "disgust"]


def test_the_published_clock_gives_the_published_segments(tmp_path: Path) -> None:
    per_block = [0, 0, 0]
    for session in "123":
        clock = seed_v.clock_of(tmp_path, session)
        for k, (start, stop) in enumerate(clock):
            shown = Presentation(f"{session}-{k + 1:02d}", k, k, start, stop)
            per_block[k // 5] += n_segments([shown], seed_v.CARD.segment_s)
    assert per_block == [2152, 2685, 2522]
    assert sum(per_block) == seed_v.CARD.n_segments_per_subject == 7359
    assert seed_v.CARD.n_segments_paper == 16 * 7359
    assert [round(clock[-1][1]) for clock in seed_v.CLOCK.values()] == [3359, 2817, 3066]


def test_a_release_without_the_rehearsal_note_is_cut_by_the_published_clock(root: Path) -> None:
    (root / "rehearsal.json").unlink()
    with pytest.raises(DataError, match="need 102 s to hold the first presentation"):
        seed_v.read(root, REF)


def test_a_full_size_example_follows_the_published_clock(tmp_path: Path) -> None:
    source = LengthSource()
    seed_v.write_example(tmp_path, source, n_subjects=1, duration_s=None)
    assert not (tmp_path / "rehearsal.json").exists()
    clock: dict[str, list[tuple[float, float]]] = {"1": [], "2": [], "3": []}
    now_s = 0.0
    for stimulus, seconds in source.asked:
        if "-rest" not in stimulus:
            clock[stimulus[0]].append((now_s, now_s + seconds))
        now_s = 0.0 if re.fullmatch(r"\d-rest", stimulus) else now_s + seconds
    assert {session: tuple(pairs) for session, pairs in clock.items()} == seed_v.CLOCK


def sparse_cnt(path: Path, seconds: int) -> None:
    """A file of zeros that takes no room on the disk."""
    rewrite(path, list(SEED_62), seconds=0.001)
    n_samples, table = 1000 * seconds, 900 + 75 * 62 + 4 * 62 * 1000 * seconds
    with path.open("r+b") as file:
        file.seek(864)
        file.write(struct.pack("<i", n_samples))
        file.seek(886)
        file.write(struct.pack("<i", table))
        file.seek(900 + 75 * 62)
        file.truncate()
        file.seek(table)
        file.write(b"\x01" + bytes(8))


def test_a_recording_that_ends_early_drops_the_rest_by_name(tmp_path: Path) -> None:
    (tmp_path / "EEG_raw").mkdir()
    sparse_cnt(tmp_path / FIRST, 240)
    recording = seed_v.read(tmp_path, REF)
    assert [p.stimulus for p in recording.presentations] == ["1-01", "1-02"]
    assert [(p.start_s, p.stop_s) for p in recording.presentations] == [(10, 82), (10, 106)]
    assert [s.eeg_CT.shape[1] for s in recording.stretches] == [92_000, 116_000]
    assert len(recording.dropped) == 13
    assert recording.dropped[0].where == f"{FIRST} presentation 3"
    assert recording.dropped[0].reason == "recording ends early"


def test_only_the_windows_are_read(tmp_path: Path) -> None:
    (tmp_path / "EEG_raw").mkdir()
    sparse_cnt(tmp_path / FIRST, 1200)
    clock = [[4.0 * k + 30, 4.0 * k + 31] for k in range(15)]
    (tmp_path / "rehearsal.json").write_text(json.dumps({"clock_s": {"1": clock}}))
    seed_v.read(tmp_path, REF)  # MNE imports as it goes; that is not what is measured
    tracemalloc.start()
    recording = seed_v.read(tmp_path, REF)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    kept = sum(s.eeg_CT.nbytes for s in recording.stretches)
    assert kept == (13 * 4_000 + 2 * 12_500) * 62 * 4
    assert (tmp_path / FIRST).stat().st_size > 290e6
    assert peak < kept + 30e6  # one window in float64, and MNE's block of the file


def test_what_is_missing_and_what_is_strange_is_named(root: Path) -> None:
    (root / FIRST).rename(root / "EEG_raw/1_4_20180804.cnt")
    listing = seed_v.find(root)
    assert listing.missing[:2] == ("subject 01 session 1", "subject 02 session 1")
    assert listing.unexpected == ("EEG_raw/1_4_20180804.cnt",)


def test_a_subject_twice_in_a_session_is_refused(root: Path) -> None:
    shutil.copy(root / FIRST, root / "EEG_raw/1_1_20180805.cnt")
    with pytest.raises(
        DataError, match=r"subject 01 session 1, found two: .*04\.cnt and .*05\.cnt"
    ):
        seed_v.find(root)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda names: [*names[:-1], "QZ9"], r"channel 66: need an electrode .* got 'QZ9'"),
        (lambda names: names[1:], r"need 62 electrodes, lacks \['Fp1'\]"),
        (lambda names: ["FPZ", *names[1:]], r"need Fpz once, found it in rows 0 and 1"),
    ],
)
def test_other_electrodes_than_the_caps_are_refused(
    root: Path, change: Callable[[list[str]], list[str]], message: str
) -> None:
    names = [*(n.upper() for n in SEED_62), "M1", "M2", "VEO", "HEO"]
    rewrite(root / FIRST, change(names), seconds=10)
    with pytest.raises(DataError, match=message) as error:
        seed_v.read(root, REF)
    assert "1_1_20180804.cnt" in str(error.value)


def test_another_rate_is_refused(root: Path) -> None:
    rewrite(root / FIRST, list(SEED_62), seconds=10, sfreq=500)
    with pytest.raises(DataError, match=r"1_1_20180804\.cnt: need 1000 Hz, found 500 Hz"):
        seed_v.read(root, REF)


def test_a_truncated_file_is_refused_by_name(root: Path) -> None:
    cut_short(root / FIRST)
    with pytest.raises(DataError, match=r"1_1_20180804\.cnt: truncated"):
        seed_v.read(root, REF)


@pytest.mark.parametrize(
    "note",
    [
        "not json",
        "{}",
        '{"clock_s": {"1": [[0, 1]]}}',
        '{"clock_s": {"1": 3}}',
        json.dumps({"clock_s": {"1": [[20 - k, 20.5 - k] for k in range(15)]}}),
    ],
)
def test_a_damaged_rehearsal_note_is_refused(root: Path, note: str) -> None:
    (root / "rehearsal.json").write_text(note)
    with pytest.raises(DataError, match=r"rehearsal\.json: need"):
        seed_v.read(root, REF)
