"""SEED-VII's reader: one file, four recordings, variables in no order."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

from emoray.datasets import seed_vii
from emoray.datasets.formats import matlab
from emoray.vocabulary.schema import DataError
from tests.datasets.numbering import (
    LengthSource,
    NumberSource,
    assert_each_shows_its_own,
    change_mat,
    cut_short,
    n_segments,
)

FIRST = "EEG_preprocessed/1.mat"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    seed_vii.write_example(tmp_path, NumberSource(), n_subjects=2, duration_s=1.0)
    return tmp_path


def test_variables_are_taken_by_number_not_in_the_files_order(root: Path) -> None:
    names = [name for name, _, _ in scipy.io.whosmat(root / FIRST)]
    assert names != sorted(names, key=int)
    assert names != sorted(names)
    for ref in seed_vii.find(root).recordings:
        recording = seed_vii.read(root, ref)
        assert {p.stimulus[:2] for p in recording.presentations} == {f"{ref.session}-"}
        assert_each_shows_its_own(recording)


def test_numbers_count_on_over_the_sessions() -> None:
    assert seed_vii.global_number("1", 1) == 1
    assert seed_vii.global_number("2", 1) == 21
    assert seed_vii.global_number("4", 20) == 80


def test_only_the_twenty_variables_of_the_session_are_read(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    load = matlab.load

    def spy(path: Path, names: list[str]) -> dict[str, Any]:
        asked.extend(names)
        return load(path, names)

    monkeypatch.setattr(matlab, "load", spy)
    third = seed_vii.find(root).recordings[2]
    seed_vii.read(root, third)
    assert asked == [str(number) for number in range(41, 61)]


def test_emotions_follow_the_published_order(root: Path) -> None:
    emotions = []
    for ref in seed_vii.find(root).recordings[:4]:
        shown = seed_vii.read(root, ref).presentations
        emotions += [p.emotion for p in shown]
        assert [p.emotion for p in shown[:10]] == [p.emotion for p in shown[10:]]
        assert all(seed_vii.CARD.emotions[p.label or 0] == p.emotion for p in shown)
    assert emotions[:5] == ["joy", "neutral", "disgust", "sadness", "anger"]
    assert emotions[20:25] == ["anger", "sadness", "fear", "neutral", "surprise"]
    assert emotions[40:45] == ["joy", "surprise", "disgust", "fear", "anger"]
    assert emotions[60:65] == ["disgust", "sadness", "fear", "surprise", "joy"]
    n_of = {emotion: emotions.count(emotion) for emotion in seed_vii.CARD.emotions}
    assert n_of.pop("neutral") == 8
    assert set(n_of.values()) == {12}


def test_raw_files_are_no_recordings_and_not_strange(root: Path) -> None:
    listing = seed_vii.find(root)
    assert (root / "EEG_raw/1_20221001_2.cnt").exists()
    assert [(r.subject, r.session) for r in listing.recordings] == [
        (subject, session) for subject in ("01", "02") for session in "1234"
    ]
    assert listing.unexpected == ()
    assert listing.missing == tuple(f"subject {k:02d}" for k in range(3, 21))


def test_a_subject_twice_is_refused(root: Path) -> None:
    shutil.copy(root / FIRST, root / "EEG_preprocessed/01.mat")
    with pytest.raises(DataError, match=r"subject 01, found two: .*01\.mat and .*1\.mat"):
        seed_vii.find(root)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"7": np.zeros((200, 62))}, r"variable 7: need shape \(62, any\).*\(200, 62\)"),
        ({"80": None}, "presentations 1 to 80, found 1, 2"),
        ({"81": np.zeros((62, 200))}, "found 1, 2, .* 81"),
    ],
)
def test_a_file_that_differs_from_the_layout_is_refused(
    root: Path, changes: dict[str, np.ndarray | None], message: str
) -> None:
    change_mat(root / FIRST, **changes)
    with pytest.raises(DataError, match=message) as error:
        seed_vii.read(root, seed_vii.find(root).recordings[0])
    assert FIRST in str(error.value)


def test_a_truncated_file_is_refused_by_name(root: Path) -> None:
    cut_short(root / FIRST)
    with pytest.raises(DataError, match=r"1\.mat"):
        seed_vii.read(root, seed_vii.find(root).recordings[0])


def test_a_full_size_example_gives_1367_segments_a_subject(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    lengths = [s for session in "1234" for s in seed_vii.example_seconds(session)]
    assert sum(lengths) == round(14_097.86)
    source = LengthSource()
    seed_vii.write_example(tmp_path_factory.mktemp("full"), source, n_subjects=1, duration_s=None)
    assert [s for _, s in sorted(source.asked)] == lengths
    matrices = {str(k): np.zeros((62, 200 * s), np.int8) for k, s in enumerate(lengths, 1)}
    scipy.io.savemat(root / FIRST, matrices)
    del matrices
    read = (seed_vii.read(root, ref) for ref in seed_vii.find(root).recordings[:4])
    total = sum(n_segments(r.presentations, seed_vii.CARD.segment_s) for r in read)
    assert total == 1367 == seed_vii.CARD.n_segments_per_subject
    assert seed_vii.CARD.n_segments_paper == 20 * 1367
