"""DEAP: columns as published, the rest cut off, 32 of 40 channels."""

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from emoray.datasets import deap
from emoray.datasets.formats import plain_pickle
from emoray.vocabulary import affect
from emoray.vocabulary.schema import DataError, Recording
from tests.sources import ToneSource, channels_by_tone

Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("DEAP")
    deap.write_example(root, ToneSource(), n_subjects=1, duration_s=None)
    return root


@pytest.fixture(scope="module")
def recording(example: Path) -> Recording:
    return deap.read(example, deap.find(example).recordings[0])


def arrays() -> Arrays:
    return {"data": np.zeros((40, 40, 8064)), "labels": np.full((40, 4), 5.0)}


def write(root: Path, content: Arrays, name: str = "s01.dat") -> Path:
    folder = root / "data_preprocessed_python"
    folder.mkdir(parents=True, exist_ok=True)
    plain_pickle.dump_python2(folder / name, content)
    return root


@pytest.fixture
def unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Arrays], Path]:
    """Let the reader find this content in a file, without the 103 MB."""

    def hold(content: Arrays) -> Path:
        monkeypatch.setattr(plain_pickle, "load_arrays", lambda path: content)
        return write(tmp_path, {})

    return hold


def refused(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        deap.read(root, deap.find(root).recordings[0])
    return str(caught.value)


def test_valence_is_the_first_column_and_arousal_the_second(recording: Recording) -> None:
    source = ToneSource()
    for shown in recording.presentations:
        valence, arousal = source.rating("deap", 1, shown.stimulus)
        assert valence != arousal
        for name, value in (("valence", valence), ("arousal", arousal)):
            placed = affect.place_rating(shown.ratings[name], deap.CARD.scale, name=name, where="")
            assert placed == value


def test_a_presentation_starts_after_the_three_seconds_of_rest(recording: Recording) -> None:
    assert len(recording.stretches) == len(recording.presentations) == 40
    for shown in recording.presentations:
        x_CT = recording.stretches[shown.stretch].eeg_CT
        assert x_CT.shape == (32, 8064)
        rest = x_CT[:, : round(shown.start_s * 128)]
        assert rest.shape == (32, 384)
        assert np.all(rest == deap.REST_MARKER)
        assert not np.any(x_CT[:, round(shown.start_s * 128) :] == deap.REST_MARKER)
        assert (shown.start_s, shown.stop_s) == (3.0, 63.0)


def test_only_the_scalp_is_read_and_in_order(recording: Recording) -> None:
    x_CT = recording.stretches[7].eeg_CT[:, 384:]
    assert channels_by_tone(x_CT, 128.0) == list(range(32))
    assert recording.stretches[0].eeg_CT.base is None  # the file's whole array is let go


def test_stimuli_are_named_by_the_experiments_number(recording: Recording) -> None:
    assert [p.stimulus for p in recording.presentations][::13] == ["01", "14", "27", "40"]


def test_the_matlab_file_gives_the_same(
    example: Path, recording: Recording, tmp_path: Path
) -> None:
    content = plain_pickle.load_arrays(example / "data_preprocessed_python" / "s01.dat")
    (tmp_path / "data_preprocessed_matlab").mkdir()
    scipy.io.savemat(tmp_path / "data_preprocessed_matlab" / "s01.mat", content)
    again = deap.read(tmp_path, deap.find(tmp_path).recordings[0])
    assert again.presentations == recording.presentations
    np.testing.assert_array_equal(again.stretches[39].eeg_CT, recording.stretches[39].eeg_CT)


def test_the_pickle_goes_before_the_matlab_file(tmp_path: Path) -> None:
    for name in ("data_preprocessed_python/s01.dat", "data_preprocessed_matlab/s01.mat"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    (tmp_path / "data_preprocessed_matlab/s02.mat").touch()
    (tmp_path / "notes.txt").touch()
    listing = deap.find(tmp_path)
    assert [r.files[0] for r in listing.recordings] == [
        "data_preprocessed_python/s01.dat",
        "data_preprocessed_matlab/s02.mat",
    ]
    assert listing.missing[0] == "subject 03"
    assert len(listing.missing) == 30
    assert listing.unexpected == ("notes.txt",)


def test_a_subject_twice_is_refused_with_both_files(tmp_path: Path) -> None:
    for folder in ("data_preprocessed_python", "copy"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "s01.dat").touch()
    with pytest.raises(DataError, match=r"subject 01.*copy/s01\.dat and data_pre.*/s01\.dat"):
        deap.find(tmp_path)


def test_an_empty_folder_is_refused_with_what_was_expected(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "absent"):
        with pytest.raises(DataError, match=r"need DEAP files as .*s01\.dat \.\. s32\.dat"):
            deap.find(root)


@pytest.mark.parametrize("shape", [(40, 8064, 40), (40, 32, 8064), (39, 40, 8064), (40, 40, 7680)])
def test_another_shape_is_refused(
    unpickled: Callable[[Arrays], Path], shape: tuple[int, ...]
) -> None:
    message = refused(unpickled(arrays() | {"data": np.zeros(shape)}))
    assert "s01.dat data: need shape (40, 40, 8064)" in message
    assert f"found {shape}" in message


def test_labels_of_another_shape_are_refused(unpickled: Callable[[Arrays], Path]) -> None:
    message = refused(unpickled(arrays() | {"labels": np.full((4, 40), 5.0)}))
    assert "s01.dat labels: need shape (40, 4)" in message
    assert "found (4, 40)" in message


@pytest.mark.parametrize(("column", "name"), [(0, "valence"), (1, "arousal"), (3, "liking")])
@pytest.mark.parametrize("value", [0.0, 9.5, np.nan])
def test_a_rating_outside_the_scale_is_refused(
    unpickled: Callable[[Arrays], Path], column: int, name: str, value: float
) -> None:
    content = arrays()
    content["labels"][11, column] = value
    message = refused(unpickled(content))
    assert f"need {name} in [1, 9], got {value:g} in s01.dat presentation 12" in message


def test_missing_labels_are_refused(tmp_path: Path) -> None:
    message = refused(write(tmp_path, {"data": np.zeros((2, 2))}))
    assert "s01.dat: need a dictionary with data and labels, found ['data']" in message


def test_a_truncated_file_is_refused(example: Path, tmp_path: Path) -> None:
    root = write(tmp_path, {})
    path = root / "data_preprocessed_python" / "s01.dat"
    shutil.copy(example / "data_preprocessed_python" / "s01.dat", path)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    assert "s01.dat: need a whole pickle" in refused(root)


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'ran'}",)

    root = write(tmp_path, {})
    (root / "data_preprocessed_python" / "s01.dat").write_bytes(pickle.dumps({"data": Attack()}))
    assert "posix.system; refused" in refused(root)
    assert not (tmp_path / "ran").exists()


def test_an_example_of_more_subjects_than_the_release_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="need 1 to 32 subjects for an example of deap, got 33"):
        deap.write_example(tmp_path, ToneSource(), n_subjects=33, duration_s=None)
