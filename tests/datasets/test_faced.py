"""FACED's reader: a bare array by video index, either ending, and no code run."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from emoray.datasets import faced
from emoray.schema import DataError
from tests.datasets.numbering import (
    NumberSource,
    assert_each_shows_its_own,
    cut_short,
    n_segments,
)
from tests.sources import ToneSource, channels_by_tone

FIRST = "Processed_data/sub000.pkl"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("faced")
    faced.write_example(root, NumberSource(), n_subjects=2, duration_s=None)
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Files of no content, for what is decided by names."""
    (tmp_path / "Processed_data").mkdir()
    for name in ("sub000.pkl", "sub001.pkl.pkl"):
        (tmp_path / "Processed_data" / name).write_bytes(b"")
    return tmp_path


def test_both_endings_are_read(whole: Path) -> None:
    refs = faced.find(whole).recordings
    assert [ref.files[0][-15:] for ref in refs] == ["data/sub000.pkl", "/sub001.pkl.pkl"]
    for ref in refs:
        assert_each_shows_its_own(faced.read(whole, ref))


def test_the_stored_value_is_a_bare_array_of_doubles(whole: Path) -> None:
    stored = pickle.loads((whole / FIRST).read_bytes())
    assert isinstance(stored, np.ndarray)
    assert stored.dtype == np.float64
    assert stored.shape == (28, 32, 7500)


def test_classes_follow_the_video_index(whole: Path) -> None:
    shown = faced.read(whole, faced.find(whole).recordings[0]).presentations
    assert [p.stimulus for p in shown] == [f"{k:02d}" for k in range(1, 29)]
    n_of = [p.emotion for p in shown]
    assert n_of == (
        ["anger"] * 3 + ["disgust"] * 3 + ["fear"] * 3 + ["sadness"] * 3 + ["neutral"] * 4
        + ["amusement"] * 3 + ["inspiration"] * 3 + ["joy"] * 3 + ["tenderness"] * 3
    )  # fmt: skip
    assert all(faced.CARD.emotions[p.label or 0] == p.emotion for p in shown)


def test_a_subject_gives_84_segments(whole: Path) -> None:
    shown = faced.read(whole, faced.find(whole).recordings[0]).presentations
    assert n_segments(shown, 10.0) == 84 == faced.CARD.n_segments_per_subject
    assert faced.CARD.n_segments_paper == 123 * 84


def test_the_two_channels_that_are_not_scalp_are_dropped(tmp_path: Path) -> None:
    faced.write_example(tmp_path, ToneSource(), n_subjects=1, duration_s=None)
    recording = faced.read(tmp_path, faced.find(tmp_path).recordings[0])
    assert len(recording.eeg_channels) == 30
    assert recording.eeg_channels[-3:] == ("Oz", "O1", "O2")
    assert channels_by_tone(recording.stretches[27].eeg_CT[:, :2500], 250.0) == list(range(30))


def test_subjects_count_from_zero_and_the_absent_are_named(root: Path) -> None:
    (root / "Processed_data/sub7.pkl").write_bytes(b"")
    (root / "EEG_Features/DE").mkdir(parents=True)
    (root / "EEG_Features/DE/sub000.pkl.pkl").write_bytes(b"")
    listing = faced.find(root)
    assert [r.subject for r in listing.recordings] == ["000", "001"]
    assert listing.missing == tuple(f"subject {k:03d}" for k in range(2, 123))
    assert listing.unexpected == ("Processed_data/sub7.pkl",)


def test_both_endings_of_one_subject_are_refused(root: Path) -> None:
    shutil.copy(root / FIRST, root / "Processed_data/sub000.pkl.pkl")
    with pytest.raises(DataError, match=r"subject 000, found two: .*sub000\.pkl and .*\.pkl\.pkl"):
        faced.find(root)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.zeros((28, 7500, 32), np.float32), r"need shape \(28, 32, 7500\).*\(28, 7500, 32\)"),
        (np.zeros((28, 32, 6000), np.float32), r"\(28, 32, 6000\)"),
        (np.zeros((27, 32, 75)), r"\(27, 32, 75\)"),
        ({"data": np.zeros((28, 32, 7500), np.float32)}, "need numbers of shape"),
        (["a"], "need numbers of shape"),
    ],
    ids=["turned", "200 Hz", "27 videos", "dictionary", "text"],
)
def test_anything_but_the_bare_array_is_refused(root: Path, content: object, message: str) -> None:
    (root / FIRST).write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match=message) as error:
        faced.read(root, faced.find(root).recordings[0])
    assert "sub000.pkl" in str(error.value)


class Intruder:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("code ran",))


def test_a_pickle_that_would_run_code_is_refused(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / FIRST).write_bytes(pickle.dumps(Intruder()))
    with pytest.raises(DataError, match=r"sub000\.pkl"):
        faced.read(root, faced.find(root).recordings[0])
    assert "code ran" not in capsys.readouterr().out


def test_a_truncated_file_is_refused_by_name(root: Path) -> None:
    (root / FIRST).write_bytes(pickle.dumps(np.zeros((28, 32, 75))))
    cut_short(root / FIRST)
    with pytest.raises(DataError, match=r"sub000\.pkl"):
        faced.read(root, faced.find(root).recordings[0])
