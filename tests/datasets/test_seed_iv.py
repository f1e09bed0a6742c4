"""SEED-IV's reader: the session is the folder's, the presentation is the variable's number."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from emoray.datasets import seed_iv
from emoray.vocabulary.schema import DataError
from tests.datasets.numbering import (
    LengthSource,
    NumberSource,
    assert_each_shows_its_own,
    change_mat,
    cut_short,
    n_segments,
)

SECOND_OF_2 = "eeg_raw_data/2/2_20150904.mat"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    seed_iv.write_example(tmp_path, NumberSource(), n_subjects=2, duration_s=1.0)
    return tmp_path


def test_the_session_is_the_folders_not_the_days(root: Path) -> None:
    by_session = {r.session: r.files[0] for r in seed_iv.find(root).recordings if r.subject == "02"}
    assert by_session["2"] == SECOND_OF_2
    days = [by_session[session][-12:-4] for session in "123"]
    assert days != sorted(days)
    for ref in seed_iv.find(root).recordings:
        recording = seed_iv.read(root, ref)
        assert {p.stimulus[:2] for p in recording.presentations} == {f"{ref.session}-"}
        assert_each_shows_its_own(recording)


def test_presentations_are_taken_by_number_not_in_the_files_order(root: Path) -> None:
    names = [name for name, _, _ in scipy.io.whosmat(root / SECOND_OF_2)]
    assert names[:3] == ["cz_eeg1", "cz_eeg10", "cz_eeg11"]
    recording = seed_iv.read(root, seed_iv.find(root).recordings[-1])
    assert [p.ordinal for p in recording.presentations] == list(range(24))
    assert_each_shows_its_own(recording)


def test_every_session_has_its_own_labels_six_of_each(root: Path) -> None:
    for ref in seed_iv.find(root).recordings[:3]:
        shown = seed_iv.read(root, ref).presentations
        assert [p.label for p in shown] == list(seed_iv.LABELS[ref.session])
        assert [(p.label, p.emotion) for p in shown[:3]] == {
            "1": [(1, "sadness"), (2, "fear"), (3, "joy")],
            "2": [(2, "fear"), (1, "sadness"), (3, "joy")],
            "3": [(1, "sadness"), (2, "fear"), (2, "fear")],
        }[ref.session]
        assert [sum(p.label == label for p in shown) for label in range(4)] == [6] * 4


def test_the_sample_past_the_last_second_is_dropped_where_there_is_one(root: Path) -> None:
    # That there is one is known from EMOD's code only, so a file without is read as it is.
    path = root / "eeg_raw_data/1/1_20160518.mat"
    change_mat(path, cz_eeg2=np.zeros((62, 400)), cz_eeg3=np.zeros((62, 450)))
    stretches = seed_iv.read(root, seed_iv.find(root).recordings[0]).stretches
    assert [s.eeg_CT.shape[1] for s in stretches[:4]] == [200, 400, 450, 200]


def test_what_is_missing_and_what_is_strange_is_named(root: Path) -> None:
    (root / SECOND_OF_2).unlink()
    (root / "eeg_raw_data/4").mkdir()
    (root / "eeg_raw_data/4/1_20160518.mat").write_text("?")
    listing = seed_iv.find(root)
    assert "subject 02 session 2" in listing.missing
    assert "subject 02 session 1" not in listing.missing
    assert listing.unexpected == ("eeg_raw_data/4/1_20160518.mat",)


def test_a_subject_twice_in_a_session_is_refused(root: Path) -> None:
    shutil.copy(root / SECOND_OF_2, root / "eeg_raw_data/2/2_20200101.mat")
    with pytest.raises(DataError, match=r"subject 02 session 2, found two: .*2_20150904.*20200101"):
        seed_iv.find(root)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cz_eeg3": np.zeros((201, 62))}, r"cz_eeg3: need shape \(62, any\).*\(201, 62\)"),
        ({"cz_eeg24": None}, "presentations 1 to 24, found 1, 2"),
    ],
)
def test_a_file_that_differs_from_the_layout_is_refused(
    root: Path, changes: dict[str, np.ndarray | None], message: str
) -> None:
    change_mat(root / SECOND_OF_2, **changes)
    ref = next(r for r in seed_iv.find(root).recordings if r.files == (SECOND_OF_2,))
    with pytest.raises(DataError, match=message) as error:
        seed_iv.read(root, ref)
    assert SECOND_OF_2 in str(error.value)


def test_a_truncated_file_is_refused_by_name(root: Path) -> None:
    cut_short(root / SECOND_OF_2)
    ref = next(r for r in seed_iv.find(root).recordings if r.files == (SECOND_OF_2,))
    with pytest.raises(DataError, match=r"2_20150904\.mat"):
        seed_iv.read(root, ref)


def test_a_full_size_example_gives_977_segments_a_subject(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    source = LengthSource()
    seed_iv.write_example(tmp_path_factory.mktemp("full"), source, n_subjects=1, duration_s=None)
    lengths = [s for session in "123" for s in seed_iv.example_seconds(session)]
    assert sorted(s for _, s in source.asked) == sorted(lengths)
    listing = seed_iv.find(root)
    total = 0
    for ref in listing.recordings[:3]:
        lengths = seed_iv.example_seconds(ref.session)
        matrices = {
            f"cz_eeg{k}": np.zeros((62, 200 * s + 1), np.int8) for k, s in enumerate(lengths, 1)
        }
        scipy.io.savemat(root / ref.files[0], matrices)
        total += n_segments(seed_iv.read(root, ref).presentations, seed_iv.CARD.segment_s)
    assert total == 977 == seed_iv.CARD.n_segments_per_subject
    assert seed_iv.CARD.n_segments_paper == 15 * 977
