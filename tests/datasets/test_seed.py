"""SEED's reader: numbers in names, days, labels, and the sample too many."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from emoray.datasets import seed
from emoray.vocabulary.schema import DataError
from tests.datasets.numbering import (
    LengthSource,
    NumberSource,
    assert_each_shows_its_own,
    change_mat,
    cut_short,
    n_segments,
    shown,
)

FIRST = "Preprocessed_EEG/1_20131027.mat"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    seed.write_example(tmp_path, NumberSource(), n_subjects=2, duration_s=1.0)
    return tmp_path


def test_presentations_are_taken_by_number_not_in_the_files_order(root: Path) -> None:
    names = [name for name, _, _ in scipy.io.whosmat(root / FIRST)]
    assert names[:3] == ["ax_eeg1", "ax_eeg10", "ax_eeg11"]
    for ref in seed.find(root).recordings:
        recording = seed.read(root, ref)
        assert [p.stimulus for p in recording.presentations] == [f"{k:02d}" for k in range(1, 16)]
        assert_each_shows_its_own(recording)


def test_labels_are_the_published_ones_raised_to_class_numbers(root: Path) -> None:
    recording = seed.read(root, seed.find(root).recordings[0])
    labels = [p.label for p in recording.presentations]
    assert labels == [2, 1, 0, 0, 1, 2, 0, 1, 2, 2, 1, 0, 1, 2, 0]
    assert {p.emotion for p in recording.presentations} == {None}


def test_the_sample_past_the_last_second_is_dropped(root: Path) -> None:
    stored = scipy.io.loadmat(root / FIRST, variable_names=["ax_eeg1"])["ax_eeg1"]
    assert stored.shape == (62, 201)
    recording = seed.read(root, seed.find(root).recordings[0])
    assert shown(recording, recording.presentations[0]).shape == (62, 200)
    assert max(s.eeg_CT.max() for s in recording.stretches) < 5000


def test_sessions_follow_the_days_of_each_subject(root: Path) -> None:
    found = {(r.subject, r.session): r.files[0][-12:-4] for r in seed.find(root).recordings}
    assert found[("01", "1")] == "20131027"
    assert found[("02", "1")] == "20140404"
    assert found[("02", "3")] == "20140419"


def test_a_lost_file_moves_no_other_session(root: Path) -> None:
    (root / FIRST).unlink()
    listing = seed.find(root)
    assert [(r.subject, r.session) for r in listing.recordings][:2] == [("01", "2"), ("01", "3")]
    assert "1_20131027.mat" in listing.missing


def test_days_that_were_never_published_are_ranked(root: Path) -> None:
    for day, other in zip(seed.DATES["02"], ("20200303", "20200102", "20200201"), strict=True):
        path = root / f"Preprocessed_EEG/2_{day}.mat"
        path.rename(path.with_name(f"2_{other}.mat"))
    sessions = {r.files[0][-12:-4]: r.session for r in seed.find(root).recordings}
    assert (sessions["20200102"], sessions["20200201"], sessions["20200303"]) == ("1", "2", "3")


def test_files_beside_are_no_recordings_and_only_strangers_are_named(root: Path) -> None:
    (root / "Preprocessed_EEG/notes.docx").write_text("?")
    listing = seed.find(root)
    assert len(listing.recordings) == 6
    assert listing.unexpected == ("Preprocessed_EEG/notes.docx",)
    assert [m for m in listing.missing if "subject" in m] == [
        f"subject {k:02d}" for k in range(3, 16)
    ]


def test_the_published_days_ascend() -> None:
    assert all(list(days) == sorted(set(days)) for days in seed.DATES.values())
    assert len(seed.DATES) == seed.CARD.n_subjects


def test_without_labels_nothing_is_read(root: Path) -> None:
    ref = seed.find(root).recordings[0]
    (root / "Preprocessed_EEG/label.mat").unlink()
    assert "Preprocessed_EEG/label.mat" in seed.find(root).missing
    for before_or_after in (ref, seed.find(root).recordings[0]):
        with pytest.raises(DataError, match=r"label\.mat.*found no such file"):
            seed.read(root, before_or_after)


def test_other_labels_than_the_published_are_refused(root: Path) -> None:
    change_mat(root / "Preprocessed_EEG/label.mat", label=np.ones((1, 15)))
    with pytest.raises(DataError, match=r"label\.mat variable label: need \[1, 0, -1"):
        seed.read(root, seed.find(root).recordings[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ax_eeg3": np.zeros((201, 62))}, r"ax_eeg3: need shape \(62, any\).*\(201, 62\)"),
        ({"ax_eeg3": np.zeros((62, 100))}, "at least a second"),
        ({"ax_eeg3": np.array([["text"]])}, "ax_eeg3: need numbers"),
        ({"ax_eeg7": None}, r"presentations 1 to 15, found 1, 2, 3, 4, 5, 6, 8"),
        ({"bx_eeg3": np.zeros((62, 201))}, "one variable for presentation 3"),
        ({"ax_eeg16": np.zeros((62, 201))}, r"found 1, .*, 16$"),
    ],
)
def test_a_file_that_differs_from_the_layout_is_refused(
    root: Path, changes: dict[str, np.ndarray | None], message: str
) -> None:
    change_mat(root / FIRST, **changes)
    with pytest.raises(DataError, match=message) as error:
        seed.read(root, seed.find(root).recordings[0])
    assert "1_20131027.mat" in str(error.value)


def test_a_truncated_file_is_refused_by_name(root: Path) -> None:
    cut_short(root / FIRST)
    with pytest.raises(DataError, match=r"1_20131027\.mat"):
        seed.read(root, seed.find(root).recordings[0])


def test_a_fourth_file_of_a_subject_is_refused(root: Path) -> None:
    shutil.copy(root / FIRST, root / "Preprocessed_EEG/1_20150101.mat")
    with pytest.raises(DataError, match=r"at most three files of subject 01.*20150101"):
        seed.find(root)


def test_two_files_of_one_subject_and_day_are_refused(root: Path) -> None:
    shutil.copy(root / FIRST, root / "Preprocessed_EEG/01_20131027.mat")
    with pytest.raises(DataError, match=r"01_20131027\.mat and Preprocessed_EEG/1_20131027\.mat"):
        seed.find(root)


def test_a_file_of_published_lengths_gives_675_segments(root: Path) -> None:
    # Bytes instead of doubles keep 680,000 samples of 62 electrodes at 42 MB.
    matrices = {f"ab_eeg{k + 1}": np.zeros((62, 200 * s + 1), np.int8) for k, s in LENGTHS}
    scipy.io.savemat(root / FIRST, matrices)
    recording = seed.read(root, seed.find(root).recordings[0])
    assert n_segments(recording.presentations, seed.CARD.segment_s) == 675
    assert seed.CARD.n_segments_per_subject == 3 * 675
    assert seed.CARD.n_segments_paper == 45 * 675


LENGTHS = list(enumerate(seed.SECONDS))


def test_lengths_are_the_published_sample_counts() -> None:
    published = (
        *(47001, 46601, 41201, 47601, 37001, 39001, 47401, 43201),
        *(53001, 47401, 47001, 46601, 47001, 47601, 41201),
    )
    assert tuple(200 * s + 1 for s in seed.SECONDS) == published


def test_a_full_size_example_has_the_published_lengths(tmp_path: Path) -> None:
    source = LengthSource()
    seed.write_example(tmp_path, source, n_subjects=1, duration_s=None)
    expected = {f"{k:02d}@{v}": s for k, s in enumerate(seed.SECONDS, 1) for v in (1, 2, 3)}
    assert dict(source.asked) == expected
    assert len(source.asked) == 45
