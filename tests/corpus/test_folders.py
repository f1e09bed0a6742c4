from __future__ import annotations

from pathlib import Path

import pytest

from emoray import datasets
from emoray.corpus.folders import choose_folders, find_folders, top_folder
from emoray.rehearsal import MARKER
from emoray.schema import DataError


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
