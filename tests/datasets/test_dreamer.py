"""DREAMER: one subject out of one file, two rates, samples before electrodes."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from numpy.lib.recfunctions import drop_fields

from emoray.datasets import dreamer
from emoray.vocabulary import affect
from emoray.vocabulary.schema import DataError, Recording
from tests.sources import ECG_AMPLITUDE_MV, SilentSource, ToneSource, channels_by_tone

Release = dict[str, Any]


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("DREAMER")
    dreamer.write_example(root, ToneSource(), n_subjects=3, duration_s=12.0)
    return root


@pytest.fixture(scope="module")
def recording(example: Path) -> Recording:
    return dreamer.read(example, dreamer.find(example).recordings[1])


@pytest.fixture
def altered(tmp_path: Path) -> Callable[[Callable[[Any], None]], Path]:
    """Write a release of one subject after a change to the tree that scipy reads."""

    def write(change: Callable[[Any], None]) -> Path:
        dreamer.write_example(tmp_path, SilentSource(), n_subjects=1, duration_s=2.0)
        content = scipy.io.loadmat(tmp_path / "DREAMER.mat")
        change(content["DREAMER"][0, 0])
        scipy.io.savemat(tmp_path / "DREAMER.mat", {"DREAMER": content["DREAMER"]})
        return tmp_path

    return write


def refused(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        dreamer.read(root, dreamer.find(root).recordings[0])
    return str(caught.value)


def test_three_scores_are_read_from_their_own_fields(recording: Recording) -> None:
    source = ToneSource()
    for shown in recording.presentations:
        valence, arousal = source.rating("dreamer", 2, shown.stimulus)
        assert shown.ratings["valence"] == round(1 + (valence + 4) / 2)
        assert shown.ratings["arousal"] == round(1 + (arousal + 4) / 2)
        assert len(set(shown.ratings.values())) == 3


def test_the_planted_signal_belongs_to_the_stored_rating(tmp_path: Path) -> None:
    passed: dict[str, tuple[float, float]] = {}

    class Listening(ToneSource):
        def eeg(self, *arguments: Any) -> Any:
            passed[arguments[2]] = arguments[-1]
            return super().eeg(*arguments)

    dreamer.write_example(tmp_path, Listening(), n_subjects=1, duration_s=2.0)
    scale = dreamer.CARD.scale
    assert scale is not None
    for shown in dreamer.read(tmp_path, dreamer.find(tmp_path).recordings[0]).presentations:
        for name, value in zip(("valence", "arousal"), passed[shown.stimulus], strict=True):
            assert affect.place_rating(shown.ratings[name], scale, name=name, where="") == value


def test_eeg_and_ecg_cover_the_same_seconds_at_two_rates(recording: Recording) -> None:
    assert (recording.eeg_sfreq, recording.ecg_sfreq) == (128.0, 256.0)
    for shown, stretch in zip(recording.presentations, recording.stretches, strict=True):
        assert stretch.ecg_LT is not None
        assert stretch.eeg_CT.shape == (14, 12 * 128)
        assert stretch.ecg_LT.shape == (2, 12 * 256)
        assert (shown.start_s, shown.stop_s) == (0.0, 12.0)


def test_electrodes_are_rows_in_published_order_and_keep_the_offset(recording: Recording) -> None:
    stretch = recording.stretches[3]
    assert stretch.ecg_LT is not None
    assert channels_by_tone(stretch.eeg_CT, 128.0) == list(range(14))
    assert channels_by_tone(stretch.ecg_LT, 256.0) == [0, 1]
    assert stretch.eeg_CT.mean() == pytest.approx(dreamer.OFFSET, abs=1.0)
    assert abs(stretch.ecg_LT).max() == pytest.approx(ECG_AMPLITUDE_MV, rel=1e-3)


def test_the_rest_is_not_taken_for_the_clip(recording: Recording) -> None:
    assert all(np.ptp(stretch.eeg_CT) > 0 for stretch in recording.stretches)


def test_a_subject_is_found_by_its_number(example: Path, recording: Recording) -> None:
    listing = dreamer.find(example)
    assert [r.key for r in listing.recordings] == [f"dreamer-s0{n}-v1" for n in (1, 2, 3)]
    assert listing.missing[0] == "subject 04"
    assert len(listing.missing) == 20
    other = dreamer.read(example, listing.recordings[2])
    assert [p.ratings for p in other.presentations] != [p.ratings for p in recording.presentations]


def test_reading_agrees_with_scipy_on_the_whole_file_also_compressed(
    example: Path, recording: Recording, tmp_path: Path
) -> None:
    whole = scipy.io.loadmat(example / "DREAMER.mat")["DREAMER"]
    clip = whole[0, 0]["Data"][0, 1]["EEG"][0, 0]["stimuli"][0, 0][5, 0]
    np.testing.assert_array_equal(recording.stretches[5].eeg_CT, clip.T.astype(np.float32))
    scipy.io.savemat(tmp_path / "DREAMER.mat", {"DREAMER": whole}, do_compression=True)
    again = dreamer.read(tmp_path, dreamer.find(tmp_path).recordings[1])
    assert again.presentations == recording.presentations
    np.testing.assert_array_equal(again.stretches[5].eeg_CT, recording.stretches[5].eeg_CT)


def test_reading_a_subject_takes_the_memory_of_a_subject(example: Path, tmp_path: Path) -> None:
    whole = scipy.io.loadmat(example / "DREAMER.mat")
    scipy.io.savemat(tmp_path / "DREAMER.mat", {"DREAMER": whole["DREAMER"]}, do_compression=True)
    ref = dreamer.find(tmp_path).recordings[2]
    one = 18 * 12 * (14 * 128 + 2 * 256) * 8  # bytes of the clips as stored
    del whole
    tracemalloc.start()
    dreamer.read(tmp_path, ref)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Once as bytes, once as arrays, half of it as float32, and blocks of a few MB.
    assert peak < 2.5 * one + 6e6


def test_a_full_recording_gives_the_published_segments(tmp_path: Path) -> None:
    dreamer.write_example(tmp_path, SilentSource(), n_subjects=1, duration_s=None)
    recording = dreamer.read(tmp_path, dreamer.find(tmp_path).recordings[0])
    n_segments = sum(int(p.duration_s // 10) for p in recording.presentations)
    assert n_segments == dreamer.CARD.n_segments_per_subject == 364


def test_exchanged_samples_and_electrodes_are_refused(
    altered: Callable[[Callable[[Any], None]], Path],
) -> None:
    def turn(release: Any) -> None:
        clips = release["Data"][0, 0]["EEG"][0, 0]["stimuli"][0, 0]
        clips[4, 0] = clips[4, 0].T

    message = refused(altered(turn))
    assert "DREAMER.mat subject 01 presentation 5 EEG: need shape (any, 14)" in message
    assert "found (14, 256)" in message


def test_ecg_of_other_seconds_than_the_eeg_is_refused(
    altered: Callable[[Callable[[Any], None]], Path],
) -> None:
    def shorten(release: Any) -> None:
        clips = release["Data"][0, 0]["ECG"][0, 0]["stimuli"][0, 0]
        clips[0, 0] = clips[0, 0][:256]

    assert "presentation 1: need EEG and ECG of the same seconds, found 2 s at 128 Hz" in refused(
        altered(shorten)
    )


@pytest.mark.parametrize("field", ["ScoreValence", "ScoreArousal", "ScoreDominance"])
@pytest.mark.parametrize(
    ("value", "said"), [(0, "in [1, 5], got 0"), (np.nan, "got nan"), (2.5, "whole number")]
)
def test_a_score_that_is_not_one_to_five_is_refused(
    altered: Callable[[Callable[[Any], None]], Path], field: str, value: float, said: str
) -> None:
    def spoil(release: Any) -> None:
        release["Data"][0, 0][field][0, 0] = np.full((18, 1), 3.0)
        release["Data"][0, 0][field][0, 0][8, 0] = value

    message = refused(altered(spoil))
    assert said in message
    assert field.removeprefix("Score").lower() in message
    assert "DREAMER.mat subject 01 presentation 9" in message


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["AF3", "F7", "XX"], "need an electrode of the 10-10 system, got 'XX'"),
        (["F7", "AF3"], "need AF3 F7 F3 .* found F7 AF3"),
    ],
)
def test_other_electrodes_are_refused(
    altered: Callable[[Callable[[Any], None]], Path], names: list[str], said: str
) -> None:
    def rename(release: Any) -> None:
        release["EEG_Electrodes"] = np.array([names], dtype=object)

    root = altered(rename)
    with pytest.raises(DataError, match=rf"DREAMER\.mat EEG_Electrodes: {said}"):
        dreamer.read(root, dreamer.find(root).recordings[0])


def test_another_rate_is_refused(altered: Callable[[Callable[[Any], None]], Path]) -> None:
    def change(release: Any) -> None:
        release["EEG_SamplingRate"] = np.array([[256.0]])

    assert "EEG_SamplingRate: need 128 Hz, found [256.0]" in refused(altered(change))


def test_a_missing_field_is_refused(tmp_path: Path) -> None:
    dreamer.write_example(tmp_path, SilentSource(), n_subjects=1, duration_s=2.0)
    path = tmp_path / "DREAMER.mat"
    # The same length, so that the element tree stays whole.
    path.write_bytes(path.read_bytes().replace(b"ScoreArousal", b"ScoreOfVideo"))
    assert "DREAMER.mat: need DREAMER.Data{1}.ScoreArousal; found no such" in refused(tmp_path)


def test_a_file_without_ecg_is_refused(altered: Callable[[Callable[[Any], None]], Path]) -> None:
    """A release of which somebody kept the EEG alone."""

    def drop(release: Any) -> None:
        release["Data"][0, 0] = drop_fields(release["Data"][0, 0], "ECG", usemask=False)

    assert "DREAMER.mat: need DREAMER.Data{1}.ECG.stimuli; found no such" in refused(altered(drop))


def test_a_clip_without_ecg_is_refused(altered: Callable[[Callable[[Any], None]], Path]) -> None:
    def empty(release: Any) -> None:
        clips = release["Data"][0, 0]["ECG"][0, 0]["stimuli"][0, 0]
        clips[3, 0] = np.zeros((0, 2))

    message = refused(altered(empty))
    assert "presentation 4: need EEG and ECG of the same seconds, found 2 s at 128 Hz" in message


def test_a_truncated_file_is_refused(example: Path, tmp_path: Path) -> None:
    raw = (example / "DREAMER.mat").read_bytes()
    (tmp_path / "DREAMER.mat").write_bytes(raw[: len(raw) // 4])
    assert "DREAMER.mat: need a whole MATLAB file" in refused(tmp_path)


def test_two_files_are_refused_with_both_names(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "DREAMER.mat").touch()
    with pytest.raises(DataError, match=r"a/DREAMER\.mat and b/DREAMER\.mat"):
        dreamer.find(tmp_path)


def test_an_empty_folder_is_refused_with_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"need DREAMER files as .*DREAMER\.mat"):
        dreamer.find(tmp_path)
