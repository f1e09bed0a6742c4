"""MPED's reader: mastoids among the rows, presentations by number, and nobody's name anywhere."""

import shutil
import traceback
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from emoray import datasets
from emoray.datasets import mped
from emoray.vocabulary.electrodes import SEED_62
from emoray.vocabulary.schema import DataError
from tests.datasets.numbering import (
    LengthSource,
    NumberSource,
    assert_each_shows_its_own,
    change_mat,
    cut_short,
)
from tests.sources import ToneSource, channels_by_tone

LABEL_FILE = "raw_EEG_signals/raw_EEG_Label.mat"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    mped.write_example(tmp_path, NumberSource(), n_subjects=2, duration_s=0.4)
    return tmp_path


def folder(root: Path, participant: int) -> Path:
    return sorted(p for p in (root / "raw_EEG_signals").iterdir() if p.is_dir())[participant - 1]


def half(root: Path, participant: int, ending: str) -> Path:
    return next(folder(root, participant).glob(f"*{ending}.mat"))


def test_mastoids_among_the_rows_shift_no_electrode(tmp_path: Path) -> None:
    mped.write_example(tmp_path, ToneSource(), n_subjects=1, duration_s=4.0)
    stored = scipy.io.loadmat(half(tmp_path, 1, "_d"), variable_names=["raw_eeg2"])["raw_eeg2"]
    assert stored.shape == (66, 4000)
    assert np.ptp(stored[[32, 42]]) == 0
    recording = mped.read(tmp_path, mped.find(tmp_path).recordings[0])
    assert recording.eeg_channels == SEED_62
    assert channels_by_tone(recording.stretches[20].eeg_CT, 1000.0) == list(range(62))


def test_the_first_64_rows_are_neuroscans_order() -> None:
    assert mped.NEUROSCAN_64[30:34] == ("C6", "T8", "M1", "TP7")
    assert mped.NEUROSCAN_64[40:44] == ("CP6", "TP8", "M2", "P7")
    assert len(mped.NEUROSCAN_64) == 64


def test_the_28_stimuli_are_read_by_their_numbers_over_both_files(root: Path) -> None:
    for ref in mped.find(root).recordings:
        recording = mped.read(root, ref)
        numbers = [int(p.stimulus) for p in recording.presentations]
        assert numbers == [
            *(2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 14, 15, 16, 17),
            *(19, 20, 21, 22, 23, 24, 26, 27, 28, 29, 30, 31, 32, 33),
        ]
        assert [p.ordinal for p in recording.presentations] == [n - 1 for n in numbers]
        assert_each_shows_its_own(recording)


def test_presentations_without_stimulus_are_not_read(root: Path) -> None:
    assert np.isnan(scipy.io.loadmat(half(root, 1, "_d"))["raw_eeg13"]).all()
    recording = mped.read(root, mped.find(root).recordings[0])
    assert all(np.isfinite(s.eeg_CT).all() for s in recording.stretches)


def test_labels_are_the_publishers_less_one_four_of_each(root: Path) -> None:
    shown = mped.read(root, mped.find(root).recordings[0]).presentations
    first = [p.emotion for p in shown[:8]]
    assert first == [
        "joy",
        "neutral",
        "anger",
        "amusement",
        "fear",
        "disgust",
        "sadness",
        "neutral",
    ]
    labels = [p.label for p in shown]
    assert [labels.count(k) for k in range(7)] == [4] * 7
    assert all(mped.CARD.emotions[p.label or 0] == p.emotion for p in shown)


def test_clip_lengths_give_534_segments_where_emod_counts_530(tmp_path: Path) -> None:
    # 63 joy, 80 amusement, 78 anger, 79 sadness, 84 fear, 75 disgust, 75 neutral. EMOD's files
    # must be up to 9 s shorter per clip somewhere; its code does not say where.
    n = {e: sum(s // 10 for s in seconds) for e, seconds in mped.CLIP_SECONDS.items()}
    assert sum(n.values()) == 534
    assert mped.CARD.n_segments_per_subject == 530
    source = LengthSource()
    mped.write_example(tmp_path, source, n_subjects=1, duration_s=None)
    published = sorted(s for seconds in mped.CLIP_SECONDS.values() for s in seconds)
    assert sorted(s for _, s in source.asked) == published


def everything_said(root: Path) -> str:
    """All that a log or manifest can get to see of the folder."""
    listing = mped.find(root)
    read = [mped.read(root, ref) for ref in listing.recordings]
    return " ".join(map(str, [listing, *(r.ref for r in read), *(r.dropped for r in read)]))


def test_no_listing_and_no_recording_bears_a_name(root: Path) -> None:
    (folder(root, 1) / f"{folder(root, 1).name}_notes.txt").write_text("?")
    half(root, 2, "_dd").rename(folder(root, 2) / "other.txt")
    (root / "EEG_feature/PSD").mkdir(parents=True)
    (root / "EEG_feature/PSD/cc_invented.mat").write_text("?")
    said = everything_said(root)
    assert "invented" not in said
    assert "raw_EEG_signals/participant 02/_dd.mat" in mped.find(root).missing
    assert mped.find(root).unexpected[0].startswith("2 files of no known kind")
    assert [r.subject for r in mped.find(root).recordings] == ["01"]


def broken(root: Path, how: str) -> None:
    path = half(root, 2, "_dd")
    if how == "truncated":
        cut_short(path)
    elif how == "turned":
        change_mat(path, raw_eeg20=np.zeros((400, 66)))
    elif how == "62 rows":
        change_mat(path, raw_eeg20=np.zeros((62, 400)))
    elif how == "lacking":
        change_mat(path, raw_eeg33=None)
    elif how == "a folder":
        path.unlink()
        path.mkdir()
    else:
        shutil.copy(path, path.with_name("copy_dd.mat"))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("truncated", r"participant 02/_dd\.mat: need a whole MATLAB file"),
        ("turned", r"participant 02/_dd\.mat variable raw_eeg20: need at least 64 rows"),
        ("62 rows", r"raw_eeg20: need at least 64 rows .* found shape \(62, 400\)"),
        ("lacking", r"participant 02/_dd\.mat: need variable raw_eeg33"),
        ("a folder", r"participant 02"),
        ("twice", r"participant 02: need one file that ends in _dd\.mat, found 2"),
    ],
)
def test_errors_say_which_file_and_never_whose(root: Path, how: str, message: str) -> None:
    ref = mped.find(root).recordings[1]
    broken(root, how)
    with pytest.raises(DataError, match=message) as error:
        mped.read(root, ref)
    assert "invented" not in "".join(traceback.format_exception(error.value))


def test_a_folder_named_like_a_word_of_the_message_leaves_it_readable(root: Path) -> None:
    folder(root, 2).rename(folder(root, 2).with_name("need"))
    path = half(root, 2, "_d")
    path.rename(path.with_name("need_d.mat"))
    cut_short(half(root, 2, "_d"))
    with pytest.raises(DataError, match=r"participant 02/_d\.mat: participant a whole MATLAB"):
        mped.read(root, mped.find(root).recordings[1])


def test_paths_find_the_files_behind_the_numbers(root: Path) -> None:
    for place, ref in enumerate(mped.find(root).recordings, start=1):
        found = datasets.paths(root, ref)
        assert found == (half(root, place, "_d"), half(root, place, "_dd"), root / LABEL_FILE)
        assert len(found) == len(ref.files)


def test_a_participant_who_is_gone_is_asked_for_by_number(root: Path) -> None:
    ref = mped.find(root).recordings[1]
    shutil.rmtree(folder(root, 2))
    with pytest.raises(DataError, match="need both files of participant 02"):
        mped.read(root, ref)


@pytest.mark.parametrize("n_labels", [34, 30, 28])
def test_the_label_file_may_count_all_or_only_the_meant(root: Path, n_labels: int) -> None:
    labels = {
        34: mped.PUBLISHED,
        30: [label for label in mped.PUBLISHED if label != 8],
        28: [mped.PUBLISHED[n - 1] for n in mped.STIMULI],
    }[n_labels]
    assert len(labels) == n_labels
    scipy.io.savemat(root / LABEL_FILE, {"eeg_label": np.array(labels)[:, None]})
    mped.read(root, mped.find(root).recordings[0])
    changed = np.array(labels)
    changed[-2] = 5
    scipy.io.savemat(root / LABEL_FILE, {"eeg_label": changed})
    with pytest.raises(DataError, match=r"raw_EEG_Label\.mat variable eeg_label presentation 3\d"):
        mped.read(root, mped.find(root).recordings[0])


def test_a_label_file_of_another_length_or_without_labels_is_refused(root: Path) -> None:
    ref = mped.find(root).recordings[0]
    scipy.io.savemat(root / LABEL_FILE, {"eeg_label": np.ones(29)})
    with pytest.raises(DataError, match="need 34, 30 or 28 labels, got 29"):
        mped.read(root, ref)
    scipy.io.savemat(root / LABEL_FILE, {"label": np.ones(34)})
    with pytest.raises(DataError, match=r"raw_EEG_Label\.mat: need variable eeg_label"):
        mped.read(root, ref)


def test_without_a_label_file_the_published_list_holds(root: Path) -> None:
    (root / LABEL_FILE).unlink()
    listing = mped.find(root)
    assert LABEL_FILE in listing.missing
    assert mped.read(root, listing.recordings[0]).presentations[0].emotion == "joy"


def test_the_label_file_bears_the_publishers_name_and_is_held_against_the_list(root: Path) -> None:
    # `raw_EEG_Label.mat`, key `eeg_label`: four public readers, one of which takes it out of the
    # folder's listing by that name, on Linux.
    (root / LABEL_FILE).unlink()
    labels = np.array([mped.PUBLISHED])
    scipy.io.savemat(root / "raw_EEG_signals" / "raw_EEG_Label.mat", {"eeg_label": labels})
    listing = mped.find(root)
    assert not any("abel" in name for name in listing.missing)
    labels[0, 5] = 1
    scipy.io.savemat(root / "raw_EEG_signals" / "raw_EEG_Label.mat", {"eeg_label": labels})
    with pytest.raises(DataError, match=r"raw_EEG_Label\.mat.*presentation 6: need 5, found 1"):
        mped.read(root, listing.recordings[0])


@pytest.mark.parametrize("n_labels", [34, 30, 28, 5])
def test_a_label_file_of_zeros_is_refused_as_that(root: Path, n_labels: int) -> None:
    scipy.io.savemat(root / LABEL_FILE, {"eeg_label": np.zeros((1, n_labels))})
    with pytest.raises(DataError, match=rf"need labels, found {n_labels} zeros"):
        mped.read(root, mped.find(root).recordings[0])


def test_two_folders_of_participants_are_refused(root: Path) -> None:
    shutil.copytree(root / "raw_EEG_signals", root / "old" / "RAW_EEG_signals")
    with pytest.raises(DataError, match=r"found 2: old/RAW_EEG_signals and raw_EEG_signals"):
        mped.find(root)


def test_apple_doubles_beside_a_persons_files_change_nothing(root: Path) -> None:
    before = mped.find(root)
    for path in list(root.rglob("*.mat")):
        path.with_name(f"._{path.name}").write_bytes(b"\x00\x05\x16\x07")
    assert mped.find(root) == before
