"""What readers share: names, shapes and ratings held against a publisher's layout."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emoray.datasets import _layout, deap
from emoray.vocabulary.schema import DataError, RecordingRef, Scale

CARD = replace(deap.CARD, title="TOY", layout="TOY/\ns01.dat")
va_values = st.floats(-4, 4)
scales = st.sampled_from([Scale(1, 9), Scale(1, 5), Scale(0, 7)])


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_files_are_found_at_any_depth_sorted_and_in_any_case(tmp_path: Path) -> None:
    touch(tmp_path, "b/s02.dat", "a/S01.DAT", "s03.dat", "s04.dat.zip", "as05.dat")
    found = _layout.find_files(tmp_path, r"(?:.*/)?s(\d{2})\.dat")
    assert [match[1] for match, _ in found] == ["01", "02", "03"]


def test_hidden_files_are_passed_over(tmp_path: Path) -> None:
    touch(tmp_path, "._s01.dat", "__MACOSX/._s01.dat", ".cache/s01.dat")
    assert _layout.find_files(tmp_path, ".*") == []


def test_linked_folders_are_followed_and_a_circle_ends(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/s01.dat", "root/readme")
    (tmp_path / "root" / "data").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "root")
    found = _layout.find_files(tmp_path / "root", ".*s01.dat")
    assert [_layout.relative(tmp_path / "root", path) for _, path in found] == ["data/s01.dat"]


def test_a_folders_own_name_goes_before_a_link_to_it(tmp_path: Path) -> None:
    touch(tmp_path, "data/s01.dat")
    (tmp_path / "a link").symlink_to(tmp_path / "data")  # sorts before
    ((_, path),) = _layout.find_files(tmp_path, r"s01\.dat")
    assert path == tmp_path / "data" / "s01.dat"


def test_whole_names_count_and_no_part_of_one(tmp_path: Path) -> None:
    touch(tmp_path, "x_label.mat", "Old_EEG/label.mat")
    found = _layout.find_files(tmp_path, r"(?:EEG/)?label\.mat")
    assert [path.parent.name for _, path in found] == ["Old_EEG"]
    assert _layout.find_files(tmp_path, r"EEG/label\.mat") == []


def test_a_companion_is_found_under_its_name_on_this_disk(tmp_path: Path) -> None:
    touch(tmp_path, "A/Session.XML", "A/1/arousal_valence.CSV")
    assert _layout.companion(tmp_path / "A", "session.xml") == tmp_path / "A" / "Session.XML"
    found = _layout.companion(tmp_path / "A", "1/Arousal_Valence.csv")
    assert found == tmp_path / "A" / "1" / "arousal_valence.CSV"
    assert _layout.companion(tmp_path / "A", "label.mat") is None
    assert _layout.companion(tmp_path / "gone", "label.mat") is None
    touch(tmp_path, "A/session.xml")
    with pytest.raises(DataError, match=r"need one session\.xml, found 2: Session\.XML and sess"):
        _layout.companion(tmp_path / "A", "session.xml")


def test_a_link_to_a_chosen_file_is_no_second_one(tmp_path: Path) -> None:
    touch(tmp_path, "data/s01.dat")
    (tmp_path / "s01.dat").symlink_to(tmp_path / "data" / "s01.dat")
    found = [(m[1], path) for m, path in _layout.find_files(tmp_path, r"s(\d\d)\.dat")]
    assert len(found) == 2
    assert list(_layout.one_each(tmp_path, found, what="subject")) == ["01"]


def test_names_in_another_encoding_are_listed_so_that_they_can_be_printed(tmp_path: Path) -> None:
    touch(tmp_path, "s01.dat")
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xca\xfd.bin"))).touch()  # GBK
    listing = _layout.listing(CARD, tmp_path, [RecordingRef("toy", "01", "1", ("s01.dat",))])
    assert listing.unexpected == (r"\xca\xfd.bin",)


def test_two_files_of_one_key_are_both_named(tmp_path: Path) -> None:
    touch(tmp_path, "a", "b", "c")
    found = [("01", tmp_path / "a"), ("02", tmp_path / "b"), ("01", tmp_path / "c")]
    with pytest.raises(DataError, match="need one file for subject 01, found two: a and c"):
        _layout.one_each(tmp_path, found, what="subject")


def test_only_strangers_are_unexpected(tmp_path: Path) -> None:
    touch(tmp_path, "s01.dat", "readme.txt", "video/1.avi", "odd.bin", "label.mat")
    ref = RecordingRef("toy", "01", "1", ("s01.dat",))
    listing = _layout.listing(
        CARD, tmp_path, [ref], beside=(r"readme\.txt", r"video/.*"), known=(r"label\.mat",)
    )
    assert listing.unexpected == ("odd.bin",)


def test_a_pipe_in_the_place_of_the_only_file_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "s01.dat")
    (tmp_path / "s02.dat").symlink_to(tmp_path / "gone")
    with pytest.raises(
        DataError, match=r"s01\.dat \(a named pipe\), s02\.dat \(a link to nothing\)"
    ):
        _layout.listing(CARD, tmp_path, [])


@pytest.mark.parametrize(("there", "said"), [(True, "foreign folder"), (False, "no such folder")])
def test_no_recording_is_an_error_that_says_what_was_looked_for(
    tmp_path: Path, there: bool, said: str
) -> None:
    root = tmp_path if there else tmp_path / "absent"
    with pytest.raises(DataError, match=rf"need TOY files as TOY/; s01\.dat; found .*{said}"):
        _layout.listing(CARD, root, [])


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((3, 2)), r"need shape \(any, 3\) = \(samples, rows\), found \(3, 2\)"),
        (np.zeros(3), r"found \(3,\)"),
        (np.array([["a", "b", "c"]]), r"need numbers of shape \(any, 3\).*found <U1"),
        ([[1, 2, 3], [4]], r"need numbers .*found list"),
        (None, r"need numbers .*found NoneType"),
        (np.array([{}]), r"need numbers .*found object of shape \(1,\)"),
        (np.zeros((1, 3), dtype=complex), r"need numbers .*found complex128"),
    ],
)
def test_what_is_not_an_array_of_that_shape_is_refused(array: object, said: str) -> None:
    with pytest.raises(DataError, match=rf"x\.mat data: .*{said}"):
        _layout.check_shape(array, (None, 3), where="x.mat data", axes="samples, rows")


def test_signals_are_a_copy_of_their_own() -> None:
    x_TC = np.arange(12.0).reshape(4, 3)
    x_CT = _layout.signals(x_TC.T)
    assert x_CT.dtype == np.float32
    assert x_CT.flags.c_contiguous
    assert not np.shares_memory(x_CT, x_TC)


@given(va_values, va_values, scales)
def test_a_point_goes_to_the_scale_and_comes_back(
    valence: float, arousal: float, scale: Scale
) -> None:
    ratings = _layout.to_scale((valence, arousal), scale, integer=False)
    assert _layout.from_scale(ratings, scale) == pytest.approx((valence, arousal), abs=1e-9)


@given(va_values, va_values, scales)
def test_a_whole_rating_means_a_point_within_half_a_step(
    valence: float, arousal: float, scale: Scale
) -> None:
    ratings = _layout.to_scale((valence, arousal), scale, integer=True)
    assert all(r == round(r) and scale.low <= r <= scale.high for r in ratings)
    half = 4 / (scale.high - scale.low) + 1e-9
    assert _layout.from_scale(ratings, scale) == pytest.approx((valence, arousal), abs=half)


@given(va_values, va_values, scales)
def test_the_third_rating_is_neither_of_the_two(
    valence: float, arousal: float, scale: Scale
) -> None:
    ratings = _layout.to_scale((valence, arousal), scale, integer=True)
    third = _layout.other_rating(ratings, scale)
    assert third not in ratings
    assert scale.low <= third <= scale.high


@pytest.mark.parametrize("n", [0, 33])
def test_an_example_has_between_one_subject_and_all(n: int) -> None:
    with pytest.raises(ValueError, match=f"need 1 to 32 subjects for an example of deap, got {n}"):
        _layout.example_subjects(deap.CARD, n)
