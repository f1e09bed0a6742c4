from __future__ import annotations

import errno
from collections import Counter
from pathlib import Path

import pytest

from emoray import datasets
from emoray.corpus.build.release_folders import (
    _aliases,
    choose_folders,
    find_folders,
    top_folder,
)
from emoray.rehearsal.release import MARKER
from emoray.vocabulary.schema import DataError
from tests.sources import ToneSource


@pytest.mark.parametrize("name", ["seed_iv", "SEED-IV", "SEED_IV", "Seed IV", "SEEDIV"])
def test_spelling_of_a_folder_does_not_matter(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    assert find_folders(tmp_path).folders == {"seed_iv": tmp_path / name}


@pytest.mark.parametrize("name", datasets.names())
def test_every_dataset_is_found_under_its_name_title_and_publisher_s_folder(
    tmp_path: Path, name: str
) -> None:
    card = datasets.get(name).CARD
    for i, alias in enumerate((name, card.title, top_folder(card))):
        (tmp_path / str(i) / alias).mkdir(parents=True)
        assert list(find_folders(tmp_path / str(i)).folders) == [name]


@pytest.mark.parametrize("name", ["SEED_EEG", "seed eeg", "SEED-Dataset", "SEED"])
def test_what_people_add_to_a_name_does_not_matter(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    assert find_folders(tmp_path).folders == {"seed": tmp_path / name}


def test_no_two_datasets_answer_to_one_name() -> None:
    taken = Counter(alias for name in datasets.names() for alias in _aliases(name))
    assert max(taken.values()) == 1


@pytest.mark.parametrize(
    ("name", "inside"),
    [
        ("seed", "SEED/SEED_EEG/Preprocessed_EEG"),
        ("seed", "SEED_EEG/Preprocessed_EEG"),
        ("seed_vii", "SEED-VII/SEED-VII/EEG_preprocessed"),
        ("dreamer", "DREAMER/dreamer"),
    ],
)
def test_folders_as_they_were_found_in_labs_are_read(
    tmp_path: Path, name: str, inside: str
) -> None:
    datasets.get(name).write_example(tmp_path / "x", ToneSource(), n_subjects=1, duration_s=1.0)
    made = next(p.parent for p in (tmp_path / "x").rglob("*.mat"))
    (tmp_path / "data" / inside).parent.mkdir(parents=True)
    made.rename(tmp_path / "data" / inside)
    folder = find_folders(tmp_path / "data").folders[name]
    listing = datasets.get(name).find(folder)
    assert listing.unexpected == ()
    assert datasets.get(name).read(folder, listing.recordings[0]).presentations


def test_litter_is_no_stranger(tmp_path: Path) -> None:
    (tmp_path / "__MACOSX" / "DEAP").mkdir(parents=True)
    for name in (".DS_Store", "._DEAP", "Thumbs.db", "desktop.ini"):
        (tmp_path / name).write_text("")
    assert find_folders(tmp_path).unexpected == ()


def test_a_folder_that_cannot_be_listed_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(DataError, match=r"got one that cannot be listed \(Permission denied\)"):
        find_folders(tmp_path)


def test_what_belongs_to_no_dataset_is_listed(tmp_path: Path) -> None:
    for name in ("DEAP", "holiday", ".cache"):
        (tmp_path / name).mkdir()
    for name in ("notes.txt", "seed", MARKER):
        (tmp_path / name).write_text("")
    found = find_folders(tmp_path)
    assert list(found.folders) == ["deap"]
    assert found.unexpected == ("holiday", "notes.txt", "seed")


def test_two_folders_of_one_dataset_are_refused(tmp_path: Path) -> None:
    (tmp_path / "DEAP").mkdir()
    (tmp_path / "deap ").mkdir()
    with pytest.raises(DataError, match=r"need one folder for deap, got .*DEAP and .*deap"):
        find_folders(tmp_path)


def test_a_dataset_without_a_folder_is_named_with_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "DEAP").mkdir()
    assert list(choose_folders(tmp_path, None)) == ["deap"]
    with pytest.raises(DataError, match=r"need all of the folders SEED_IV; got DEAP"):
        choose_folders(tmp_path, ["deap", "seed_iv"])
    with pytest.raises(ValueError, match="need a dataset among"):
        choose_folders(tmp_path, ["deep"])


def test_a_folder_without_datasets_is_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday").mkdir()
    with pytest.raises(DataError, match=r"need some of the folders .*DEAP.*; got holiday"):
        choose_folders(tmp_path, None)
    with pytest.raises(DataError, match=r"need a folder of datasets at .*none, got no such folder"):
        choose_folders(tmp_path / "none", None)
