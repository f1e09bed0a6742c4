"""AMIGOS: arousal first, right lead first, five seconds of rest, gaps that are reported."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

from emoray.datasets import amigos
from emoray.vocabulary import affect
from emoray.vocabulary.schema import DataError, Recording
from tests.sources import SilentSource, ToneSource, channels_by_tone

Change = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("AMIGOS")
    amigos.write_example(root, ToneSource(), n_subjects=3, duration_s=10.0)
    return root


@pytest.fixture(scope="module")
def recordings(example: Path) -> dict[str, Recording]:
    return {r.subject: amigos.read(example, r) for r in amigos.find(example).recordings}


@pytest.fixture
def altered(tmp_path: Path) -> Callable[[Change], Path]:
    def write(change: Change) -> Path:
        amigos.write_example(tmp_path, SilentSource(), n_subjects=1, duration_s=2.0)
        path = tmp_path / "Data_preprocessed" / "Data_Preprocessed_P08.mat"
        content = scipy.io.loadmat(path)
        change(content)
        scipy.io.savemat(path, {k: v for k, v in content.items() if k[0] != "_"})
        return tmp_path

    return write


def refused(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        amigos.read(root, amigos.find(root).recordings[0])
    return str(caught.value)


def test_arousal_is_read_before_valence(recordings: dict[str, Recording]) -> None:
    scale = amigos.CARD.scale
    assert scale is not None
    for shown in recordings["01"].presentations:
        va = ToneSource().rating("amigos", 1, shown.stimulus)
        assert va[0] != va[1]
        for name, value in zip(("valence", "arousal"), va, strict=True):
            assert affect.place_rating(shown.ratings[name], scale, name=name, where="") == value


def test_the_right_ecg_lead_is_read_before_the_left(recordings: dict[str, Recording]) -> None:
    recording = recordings["01"]
    assert recording.ecg_leads == ("right", "left")
    stretch = recording.stretches[0]
    assert stretch.ecg_LT is not None
    assert channels_by_tone(stretch.ecg_LT[:, 640:], 128.0) == [0, 1]
    assert channels_by_tone(stretch.eeg_CT[:, 640:], 128.0) == list(range(14))


def test_the_first_five_seconds_are_rest_and_lengths_need_not_be_whole_seconds(
    recordings: dict[str, Recording],
) -> None:
    for shown in recordings["01"].presentations:
        n = recordings["01"].stretches[shown.stretch].eeg_CT.shape[1]
        assert n % 128 == 61
        assert shown.start_s == 5.0
        assert shown.stop_s == n / 128
        assert shown.duration_s == 10.0 + 61 / 128


def test_only_the_short_videos_are_read(recordings: dict[str, Recording]) -> None:
    names = [p.stimulus for p in recordings["08"].presentations]
    assert names == "4 5 9 10 13 18 19 20 23 30 31 34 36 58 80 138".split()
    assert recordings["08"].dropped == ()


def test_gaps_are_dropped_and_named(recordings: dict[str, Recording]) -> None:
    recording = recordings["09"]
    assert [(d.where, d.reason) for d in recording.dropped] == [
        ("Data_Preprocessed_P09.mat presentation 3 (video 9)", "NaN in signals"),
        ("Data_Preprocessed_P09.mat presentation 6 (video 18)", "no samples"),
        ("Data_Preprocessed_P09.mat presentation 8 (video 20)", "no complete self-assessment"),
        ("Data_Preprocessed_P09.mat presentation 12 (video 34)", "NaN in labels"),
    ]
    assert len(recording.presentations) == len(recording.stretches) == 12
    assert [p.ordinal for p in recording.presentations][:4] == [0, 1, 3, 4]
    assert [p.stretch for p in recording.presentations] == list(range(12))
    assert not any(np.isnan(s.eeg_CT).any() for s in recording.stretches)


def test_a_subject_without_any_data_is_all_dropped(altered: Callable[[Change], Path]) -> None:
    def empty(content: dict[str, Any]) -> None:
        for i in range(20):
            content["joined_data"][0, i] = np.zeros((0, 0))

    root = altered(empty)
    recording = amigos.read(root, amigos.find(root).recordings[0])
    assert recording.presentations == ()
    assert [d.reason for d in recording.dropped] == ["no samples"] * 16


def test_videos_keep_their_names_in_whatever_order_the_file_has_them(
    altered: Callable[[Change], Path],
) -> None:
    def reverse(content: dict[str, Any]) -> None:
        content["VideoIDs"][0, :16] = content["VideoIDs"][0, 15::-1].copy()
        content["VideoIDs"][0, 3] = np.array(["'36'"])

    root = altered(reverse)
    recording = amigos.read(root, amigos.find(root).recordings[0])
    names = [p.stimulus for p in recording.presentations]
    assert names[0] == "138"
    assert names[3] == "36"


def test_an_unknown_video_is_refused(altered: Callable[[Change], Path]) -> None:
    def rename(content: dict[str, Any]) -> None:
        content["VideoIDs"][0, 0] = "999"

    assert "P08.mat VideoIDs: need the 16 short videos 4 5 9" in refused(altered(rename))


def test_exchanged_samples_and_columns_are_refused(altered: Callable[[Change], Path]) -> None:
    def turn(content: dict[str, Any]) -> None:
        content["joined_data"][0, 4] = content["joined_data"][0, 4].T

    message = refused(altered(turn))
    assert "P08.mat presentation 5 (video 13) joined_data: need shape (any, 17)" in message
    assert "found (17, 957)" in message


@pytest.mark.parametrize(("column", "name"), [(0, "arousal"), (1, "valence")])
@pytest.mark.parametrize("value", [0.0, 9.5])
def test_a_rating_outside_the_scale_is_refused(
    altered: Callable[[Change], Path], column: int, name: str, value: float
) -> None:
    def spoil(content: dict[str, Any]) -> None:
        content["labels_selfassessment"][0, 6][0, column] = value

    message = refused(altered(spoil))
    assert f"need {name} in [1, 9], got {value:g}" in message
    assert "Data_Preprocessed_P08.mat presentation 7 (video 19)" in message


def test_missing_labels_are_refused(altered: Callable[[Change], Path]) -> None:
    message = refused(altered(lambda content: content.pop("labels_selfassessment")))
    assert "P08.mat: need labels_selfassessment; found no such" in message


def test_files_in_folders_of_their_own_are_found(example: Path, tmp_path: Path) -> None:
    folder = tmp_path / "Data_preprocessed" / "Data_Preprocessed_P01"
    folder.mkdir(parents=True)
    source = example / "Data_preprocessed" / "Data_Preprocessed_P01.mat"
    (folder / source.name).write_bytes(source.read_bytes())
    (tmp_path / "SelfAsessment.xlsx").touch()
    listing = amigos.find(tmp_path)
    assert [r.subject for r in listing.recordings] == ["01"]
    assert listing.missing[0] == "subject 02"
    assert len(listing.missing) == 39
    assert listing.unexpected == ()
    assert len(amigos.read(tmp_path, listing.recordings[0]).presentations) == 16


def test_a_subject_twice_is_refused_with_both_files(tmp_path: Path) -> None:
    name = "Data_Preprocessed_P01"
    (tmp_path / name).mkdir()
    (tmp_path / name / f"{name}.mat").touch()
    (tmp_path / f"{name}.mat").touch()
    with pytest.raises(DataError, match=rf"subject 01, found two: {name}\S*\.mat and {name}\S*"):
        amigos.find(tmp_path)


def test_a_truncated_file_is_refused(example: Path, tmp_path: Path) -> None:
    raw = (example / "Data_preprocessed" / "Data_Preprocessed_P01.mat").read_bytes()
    (tmp_path / "Data_Preprocessed_P01.mat").write_bytes(raw[: len(raw) // 3])
    assert "Data_Preprocessed_P01.mat: need a whole MATLAB file" in refused(tmp_path)


def test_an_empty_folder_is_refused_with_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"need AMIGOS files as .*Data_Preprocessed_P01\.mat"):
        amigos.find(tmp_path)


def test_a_full_recording_gives_the_published_segments(tmp_path: Path) -> None:
    amigos.write_example(tmp_path, SilentSource(), n_subjects=1, duration_s=None)
    recording = amigos.read(tmp_path, amigos.find(tmp_path).recordings[0])
    n_segments = sum(int(p.duration_s // 10) for p in recording.presentations)
    assert n_segments == amigos.CARD.n_segments_per_subject == 133
