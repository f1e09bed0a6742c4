"""MAHNOB-HCI: sessions gathered by subject, signals by label, the clip between two pulses."""

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from emoray.datasets import mahnob_hci
from emoray.datasets.formats import biosemi
from emoray.vocabulary import affect
from emoray.vocabulary.schema import DataError, Recording
from tests.sources import SilentSource, ToneSource, channels_by_tone

FIRST = "Sessions/2/Part_1_S_Trial1_emotion.bdf"


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("MAHNOB-HCI")
    mahnob_hci.write_example(root, ToneSource(), n_subjects=3, duration_s=4.3)
    return root


@pytest.fixture(scope="module")
def recording(example: Path) -> Recording:
    return mahnob_hci.read(example, mahnob_hci.find(example).recordings[0])


@pytest.fixture
def one(tmp_path: Path) -> Path:
    """A release of a single session, to be spoilt."""
    folder = tmp_path / "Sessions" / "2"
    folder.mkdir(parents=True)
    mahnob_hci._write_session(folder, 1, "5.avi", (3.0, 8.0))
    path = tmp_path / FIRST
    mahnob_hci._write_signals(path, SilentSource(), 1, "5", (3.0, 8.0), 2.0)
    return tmp_path


def refused(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        mahnob_hci.read(root, mahnob_hci.find(root).recordings[0])
    return str(caught.value)


def set_attribute(root: Path, name: str, value: str | None) -> None:
    path = root / "Sessions" / "2" / "session.xml"
    tree = ET.parse(path)
    if value is None:
        del tree.getroot().attrib[name]
    else:
        tree.getroot().set(name, value)
    tree.write(path)


def test_ratings_are_read_by_name(recording: Recording) -> None:
    scale = mahnob_hci.CARD.scale
    assert scale is not None
    for shown in recording.presentations:
        va = ToneSource().rating("mahnob_hci", 1, shown.stimulus)
        placed = [
            affect.place_rating(shown.ratings[name], scale, name=name, where="")
            for name in ("valence", "arousal")
        ]
        assert np.abs(np.subtract(placed, va)).max() <= 0.5  # rounded to whole ratings
        assert shown.ratings["valence"] != shown.ratings["arousal"]


def test_electrodes_are_picked_by_label_from_a_shuffled_header(
    example: Path, recording: Recording
) -> None:
    labels = biosemi.read_header(example / FIRST).labels
    assert labels[:32] != mahnob_hci.EEG.channels
    stretch = recording.stretches[4]
    shown = recording.presentations[4]
    inside = slice(round(shown.start_s * 256), round(shown.stop_s * 256))
    assert channels_by_tone(stretch.eeg_CT[:, inside], 256.0) == list(range(32))
    assert stretch.ecg_LT is not None
    assert channels_by_tone(stretch.ecg_LT[:, inside], 256.0) == [0, 1, 2]


def test_signals_are_in_microvolts(recording: Recording) -> None:
    stretch = recording.stretches[0]
    assert stretch.ecg_LT is not None
    assert abs(stretch.eeg_CT).max() == pytest.approx(10.0, rel=1e-2)  # the source's microvolts
    assert abs(stretch.ecg_LT).max() == pytest.approx(1000.0, rel=1e-3)  # its millivolt


def test_the_clip_lies_between_the_pulses(recording: Recording) -> None:
    for shown in recording.presentations:
        n = recording.stretches[shown.stretch].eeg_CT.shape[1]
        assert shown.start_s == pytest.approx(4.3, abs=1 / 256)
        assert shown.duration_s == pytest.approx(4.3, abs=1 / 256)
        assert n % 256 == 0
        assert n / 256 >= shown.stop_s + 4.3 - 1 / 256


def test_sessions_of_a_subject_are_one_recording_in_order_of_trials(
    example: Path, recording: Recording
) -> None:
    listing = mahnob_hci.find(example)
    assert [r.subject for r in listing.recordings] == ["01", "02", "03"]
    assert [len(r.files) for r in listing.recordings] == [40, 40, 34]
    assert listing.recordings[0].files[:2] == (FIRST, "Sessions/2/session.xml")
    assert [p.ordinal for p in recording.presentations] == list(range(20))
    assert sorted(int(p.stimulus) for p in recording.presentations) == list(range(1, 21))
    assert recording.presentations[0].stimulus != "1"


def test_decoys_are_neither_read_nor_unexpected(example: Path) -> None:
    listing = mahnob_hci.find(example)
    files = {file for ref in listing.recordings for file in ref.files}
    assert (example / "Sessions/1/Part_1_N_Trial1_emotion.bdf").exists()
    assert (example / "Sessions/41/Part_1_S_Trial1_taggingVideos.bdf").exists()
    assert not any("_N_" in file or "tagging" in file for file in files)
    assert listing.unexpected == ()
    assert listing.missing[0] == "subject 04"
    assert len(listing.missing) == 24


def test_missing_recordings_of_a_subject_are_counted(one: Path) -> None:
    assert mahnob_hci.find(one).missing[0] == "subject 01, 19 of 20 recordings"


def test_a_missing_session_xml_is_listed_and_refused(one: Path) -> None:
    (one / "Sessions" / "2" / "session.xml").unlink()
    assert "Sessions/2/session.xml" in mahnob_hci.find(one).missing
    assert "Sessions/2/session.xml: need a file, found no such file" in refused(one)


def test_a_damaged_session_xml_is_refused(one: Path) -> None:
    path = one / "Sessions" / "2" / "session.xml"
    path.write_text(path.read_text()[:40])
    assert "session.xml: need a whole session.xml" in refused(one)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"<!DOCTYPE html>\n<html><body><p>Please log in<br></body></html>", b"<!DOCTYPE html>"),
        (b"<html><body>Please log in</body></html>", b"found <html>, a web page"),
        (b"<x:html xmlns:x='http://www.w3.org/1999/xhtml'/>", b"found <html>, a web page"),
        (b'<?xml version="1.0" encoding="foo"?><session/>', b"need a whole session.xml"),
        (b'<?xml version="1.0" encoding="utf-7"?><session/>', b"need a whole session.xml"),
        (b"", b"need a whole session.xml"),
        (b"<session>" + b" " * (1 << 20), b"need at most 1,048,576 bytes"),
    ],
)
def test_what_is_no_session_xml_is_said_to_be_what_it_is(
    one: Path, text: bytes, said: bytes
) -> None:
    (one / "Sessions" / "2" / "session.xml").write_bytes(text)
    message = refused(one)
    assert "Sessions/2/session.xml: need" in message
    assert said.decode() in message


def test_a_session_without_ratings_is_dropped_and_named(one: Path) -> None:
    set_attribute(one, "feltArsl", None)
    recording = mahnob_hci.read(one, mahnob_hci.find(one).recordings[0])
    assert recording.presentations == recording.stretches == ()
    assert recording.dropped[0].where == f"{FIRST} presentation 1"
    assert recording.dropped[0].reason == "no feltArsl"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("0", "need valence in [1, 9], got 0"),
        ("10", "in [1, 9], got 10"),
        ("nan", "got nan"),
        ("4.5", "need a whole number for valence, got 4.5"),
        ("high", "need a number for feltVlnc, found 'high'"),
    ],
)
def test_a_rating_that_is_not_one_to_nine_is_refused(one: Path, value: str, said: str) -> None:
    set_attribute(one, "feltVlnc", value)
    message = refused(one)
    assert said in message
    assert "Sessions/2/session.xml" in message


def test_a_session_without_a_clip_is_refused(one: Path) -> None:
    set_attribute(one, "mediaFile", None)
    assert "session.xml: need attribute mediaFile" in refused(one)


def rewrite(root: Path, labels: list[str], onsets: list[int], *, sfreq: int = 256) -> Path:
    status_T = np.zeros(6 * sfreq, dtype=np.int64)
    for onset in onsets:
        status_T[onset : onset + 20] = 16
    x_NT = np.zeros((len(labels), 6 * sfreq))
    biosemi.write_bdf(root / FIRST, labels, x_NT, status_T, sfreq=sfreq)
    return root


SIGNALS = [*mahnob_hci.EEG.channels, "EXG1", "EXG2", "EXG3"]


@pytest.mark.parametrize(
    ("onsets", "said"),
    [([], "found 0: none"), ([256], "found 1: 1.0 s"), ([256, 512, 768], "found 3: 1.0 s, 2.0 s")],
)
def test_another_number_of_pulses_than_two_is_refused(
    one: Path, onsets: list[int], said: str
) -> None:
    message = refused(rewrite(one, SIGNALS, onsets))
    assert "Trial1_emotion.bdf Status: need two pulses" in message
    assert said in message


@pytest.mark.parametrize(("name", "other"), [("Oz", "Q9"), ("Fp1", "Fpz"), ("EXG2", "EXG4")])
def test_an_unknown_or_missing_signal_is_refused(one: Path, name: str, other: str) -> None:
    labels = [other if label == name else label for label in SIGNALS]
    message = refused(rewrite(one, labels, [256, 512]))
    assert f"Trial1_emotion.bdf: need signals {name}; found" in message
    assert other in message


def test_another_rate_is_refused(one: Path) -> None:
    message = refused(rewrite(one, SIGNALS, [256, 512], sfreq=512))
    assert "Trial1_emotion.bdf Fp1: need 256 Hz, found 512 Hz" in message


@pytest.mark.parametrize(
    ("offset", "field", "said"),
    [
        (96 * 36, b"V       ", "Fp1: need the unit uV, found 'V'"),
        (104 * 36, b"262144  ", "Fp1: need 0.03125 uV for a step and 0 for step 0"),
        (112 * 36, b"524288  ", "Fp1: need 0.03125 uV for a step and 0 for step 0"),
    ],
)
def test_another_unit_or_gain_is_refused_by_name(
    one: Path, offset: int, field: bytes, said: str
) -> None:
    rewrite(one, SIGNALS, [256, 512])
    raw = bytearray((one / FIRST).read_bytes())
    raw[256 + offset : 256 + offset + 8] = field
    (one / FIRST).write_bytes(raw)
    assert f"Trial1_emotion.bdf {said}" in refused(one)


@pytest.mark.parametrize("n_records", [b"-1      ", b"6       "])
def test_a_byte_inserted_after_the_header_is_refused(one: Path, n_records: bytes) -> None:
    rewrite(one, SIGNALS, [256, 512])
    raw = (one / FIRST).read_bytes()
    raw = raw[:236] + n_records + raw[244:]
    (one / FIRST).write_bytes(raw)
    recording = mahnob_hci.read(one, mahnob_hci.find(one).recordings[0])
    assert recording.stretches[0].eeg_CT.shape == (32, 6 * 256)
    (one / FIRST).write_bytes(raw[: 256 * 37] + b"\0" + raw[256 * 37 :])
    assert "shift" in refused(one)


@pytest.mark.parametrize("keep", [0.1, 0.9])
def test_a_truncated_file_is_refused(one: Path, keep: float) -> None:
    raw = (one / FIRST).read_bytes()
    (one / FIRST).write_bytes(raw[: int(keep * len(raw))])
    message = refused(one)
    assert "Trial1_emotion.bdf: need" in message
    assert "BioSemi" in message or "truncated" in message


def test_a_trial_twice_is_refused_with_both_files(one: Path) -> None:
    (one / "Sessions" / "77").mkdir()
    (one / "Sessions" / "77" / Path(FIRST).name).touch()
    with pytest.raises(DataError, match=r"subject 01 trial 01.*Sessions/2/\S+ and Sessions/77/"):
        mahnob_hci.find(one)


def test_an_empty_folder_is_refused_with_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"need MAHNOB-HCI files as .*_S_Trial<number>_emotion"):
        mahnob_hci.find(tmp_path)


def test_subjects_that_are_not_in_the_release_are_unexpected(one: Path) -> None:
    stray = one / "Sessions" / "1432" / "Part_12_S_Trial1_emotion.bdf"
    stray.parent.mkdir()
    stray.touch()
    assert mahnob_hci.find(one).unexpected == (stray.relative_to(one).as_posix(),)
