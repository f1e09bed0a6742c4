"""MDME: cut by the row of ids, rated by the video's id, arousal before valence."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

from emoray.datasets import mdme
from emoray.vocabulary import affect
from emoray.vocabulary.schema import DataError, FloatArray, Recording
from tests.sources import SilentSource, ToneSource, channels_by_tone

CSV = "raw_data/1/1/Arousal_Valence.csv"


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("MME")
    mdme.write_example(root, ToneSource(), n_subjects=2, duration_s=4.5)
    return root


@pytest.fixture(scope="module")
def recording(example: Path) -> Recording:
    return mdme.read(example, mdme.find(example).recordings[0])


@pytest.fixture
def small(tmp_path: Path) -> Path:
    mdme.write_example(tmp_path, SilentSource(), n_subjects=1, duration_s=0.5)
    return tmp_path


def alter(root: Path, change: Callable[[FloatArray], FloatArray]) -> Path:
    path = root / "raw_data" / "1" / "datas.mat"
    x_KN = change(scipy.io.loadmat(path)["eeg_datas"])
    scipy.io.savemat(path, {"eeg_datas": x_KN})
    return root


def refused(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        mdme.read(root, mdme.find(root).recordings[0])
    return str(caught.value)


def test_ratings_are_found_by_video_and_arousal_comes_first(
    example: Path, recording: Recording
) -> None:
    rows = [line.split(",")[0] for line in (example / CSV).read_text().splitlines()]
    assert rows != sorted(rows, key=int)
    scale = mdme.CARD.scale
    assert scale is not None
    for shown in recording.presentations:
        va = ToneSource().rating("mdme", 1, shown.stimulus)
        placed = [
            affect.place_rating(shown.ratings[name], scale, name=name, where="")
            for name in ("valence", "arousal")
        ]
        assert np.abs(np.subtract(placed, va)).max() <= 0.5  # rounded to whole ratings
        assert shown.ratings["valence"] != shown.ratings["arousal"]


def test_presentations_are_cut_by_the_row_of_ids(tmp_path: Path) -> None:
    class Numbered(SilentSource):
        """Every sample holds the number of its video; the rest holds 40."""

        def eeg(self, *arguments: Any) -> FloatArray:
            stimulus = arguments[2]
            return super().eeg(*arguments) + (40 if stimulus == "rest" else int(stimulus))

    mdme.write_example(tmp_path, Numbered(), n_subjects=1, duration_s=None)
    recording = mdme.read(tmp_path, mdme.find(tmp_path).recordings[0])
    assert len(recording.presentations) == len(recording.stretches) == 32
    for shown in recording.presentations:
        x_CT = recording.stretches[shown.stretch].eeg_CT
        assert np.all(x_CT == int(shown.stimulus))
        assert x_CT.shape == (18, mdme._LENGTHS[int(shown.stimulus)])
        assert (shown.start_s, shown.stop_s) == (0.0, x_CT.shape[1] / 300)
    n_segments = sum(int(p.duration_s // 10) for p in recording.presentations)
    assert n_segments == mdme.CARD.n_segments_per_subject


def test_rows_are_electrodes_without_the_id(recording: Recording) -> None:
    assert recording.eeg_channels == mdme.EMOD_ROWS
    assert recording.eeg_channels[10:12] == ("T7", "T8")  # the release says T3 and T4
    assert channels_by_tone(recording.stretches[9].eeg_CT, 300.0) == list(range(18))


def test_the_other_order_of_rows_moves_signals_and_not_names(example: Path) -> None:
    recording = mdme.read_rows(example, mdme.find(example).recordings[0], mdme.NATIVE_ROWS)
    assert recording.eeg_channels == mdme.EEG.channels
    found = channels_by_tone(recording.stretches[0].eeg_CT, 300.0)
    assert found == [mdme.NATIVE_ROWS.index(name) for name in mdme.EEG.channels]
    assert sorted(mdme.NATIVE_ROWS) == sorted(mdme.EMOD_ROWS)


def test_rows_of_other_electrodes_are_refused(example: Path) -> None:
    ref = mdme.find(example).recordings[0]
    with pytest.raises(ValueError, match="need rows of C3 C4"):
        mdme.read_rows(example, ref, ("Cz", *mdme.EMOD_ROWS[1:]))


def test_subjects_are_listed_and_the_others_counted(example: Path) -> None:
    listing = mdme.find(example)
    assert [r.subject for r in listing.recordings] == ["01", "02"]
    assert listing.recordings[0].files == ("raw_data/1/datas.mat", CSV)
    assert listing.missing == ("71 of 73 subjects",)
    assert listing.unexpected == ()


def test_a_video_without_samples_is_dropped_and_named(small: Path) -> None:
    alter(small, lambda x_KN: x_KN[:, x_KN[-1] != 7])
    recording = mdme.read(small, mdme.find(small).recordings[0])
    assert [(d.where, d.reason) for d in recording.dropped] == [
        ("raw_data/1/datas.mat video 7", "no samples")
    ]
    assert [p.ordinal for p in recording.presentations][6:8] == [6, 8]


@pytest.mark.parametrize("value", [33.0, 2.5, np.nan])
def test_an_id_of_no_video_is_refused(small: Path, value: float) -> None:
    def spoil(x_KN: FloatArray) -> FloatArray:
        x_KN[-1, 5000] = value
        return x_KN

    message = refused(alter(small, spoil))
    assert "datas.mat eeg_datas row 19 sample 5000: need the id of a video in 0-31" in message
    assert f"found {value:g}" in message


def test_a_video_that_comes_back_is_refused(small: Path) -> None:
    back = alter(small, lambda x_KN: np.concatenate((x_KN, x_KN[:, 3000:3100]), axis=1))
    assert "need video 0 in one piece, found a second" in refused(back)


@pytest.mark.parametrize(
    ("change", "found"),
    [(lambda x_KN: x_KN.T, ", 19)"), (lambda x_KN: x_KN[:-1], "(18, ")],
)
def test_another_shape_is_refused(
    small: Path, change: Callable[[FloatArray], FloatArray], found: str
) -> None:
    message = refused(alter(small, change))
    assert "datas.mat eeg_datas: need shape (19, any)" in message
    assert found in message


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("3,0,5,5", "need arousal in [1, 9], got 0 in"),
        ("3,5,9.5,5", "need valence in [1, 9], got 9.5 in"),
        ("3,5,nan,5", "need valence in [1, 9], got nan in"),
        ("3,5", "need video id, arousal, valence; found '3,5'"),
        ("3,high,5,5", "need video id, arousal, valence; found '3,high,5,5'"),
        ("4,5,5,5", "need one row for video 4, found a second"),
        ("32,5,5,5", "need the id of a video in 0-31, found 32"),
        ("", "need a row for video 3, found"),
    ],
)
def test_a_row_that_is_no_rating_is_refused(small: Path, row: str, said: str) -> None:
    rows = {i: f"{i},5,5,5" for i in range(32)}
    (small / CSV).write_text("\n".join((rows | {3: row}).values()))
    message = refused(small)
    assert said in message
    assert CSV in message


def test_the_row_of_a_refused_rating_is_named(small: Path) -> None:
    (small / CSV).write_text("0,5,5\n\n1,5,12\n")
    assert f"{CSV} row 3" in refused(small)


def test_dominance_may_be_absent(small: Path) -> None:
    (small / CSV).write_text("".join(f"{i},2,7\n" for i in range(32)))
    recording = mdme.read(small, mdme.find(small).recordings[0])
    assert dict(recording.presentations[0].ratings) == {"arousal": 2.0, "valence": 7.0}


def test_missing_ratings_are_listed_and_refused(small: Path) -> None:
    (small / CSV).unlink()
    assert CSV in mdme.find(small).missing
    assert f"{CSV}: need a file, found no such file" in refused(small)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("0,5,6,7\n1,5,6\n\xe9".encode("latin1"), "can't decode byte 0xe9"),
        ("0,5,6,7\n".encode("utf-16"), "can't decode byte 0xff"),
        (b'0,5,"' + b"6" * 140_000 + b'",7\n', "field larger than field limit"),
        (b"0,5,6\0,7\n", "row 1"),
        (b"<!DOCTYPE html>\n<html></html>", "<!DOCTYPE html>"),
    ],
    ids=["latin 1", "utf 16", "one field", "zero byte", "web page"],
)
def test_a_csv_that_is_none_is_refused_by_name(small: Path, content: bytes, said: str) -> None:
    (small / CSV).write_bytes(content)
    message = refused(small)
    assert f"{small / CSV}" in message
    assert said in message


def test_a_truncated_file_is_refused(small: Path) -> None:
    path = small / "raw_data" / "1" / "datas.mat"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "datas.mat: need a whole MATLAB file" in refused(small)


def test_a_subject_twice_is_refused_with_both_files(small: Path) -> None:
    other = small / "raw_data" / "01"
    other.mkdir()
    (other / "datas.mat").touch()
    with pytest.raises(DataError, match=r"subject 01.*raw_data/01/datas\.mat and raw_data/1/"):
        mdme.find(small)


def test_an_empty_folder_is_refused_with_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"need MDME files as .*datas\.mat"):
        mdme.find(tmp_path)
