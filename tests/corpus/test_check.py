from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from emoray import datasets
from emoray.corpus.build import check as checking
from emoray.corpus.build.check import Check, check
from emoray.corpus.build.tables import WIDTH, check_tables
from emoray.vocabulary.schema import RecordingRef
from tests.evaluations import EMOD


@pytest.fixture
def root(tiny_release: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_release, tmp_path / "data"))


@pytest.fixture(autouse=True)
def _in_process(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    def over(
        function: Callable[[RecordingRef], dict[str, Any]],
        refs: Sequence[RecordingRef],
        *,
        here: bool = False,
    ) -> Generator[dict[str, Any], None, None]:
        yield from (function(ref) for ref in refs)

    if "ray_cluster" not in request.fixturenames:
        monkeypatch.setattr(checking, "over_recordings", over)
        monkeypatch.setattr(checking, "join_ray", lambda connect: None)


def _text(found: Check) -> str:
    console = Console(width=WIDTH, record=True, quiet=False)
    with console.capture() as captured:
        console.print(check_tables(found, EMOD.pretraining))
    return captured.get()


def test_a_release_is_counted_against_its_card(root: Path) -> None:
    (seed,) = check(root, datasets=["seed"], progress=False).found
    assert (seed.n_files, seed.n_subjects, seed.n_recordings) == (7, 2, 6)
    assert seed.n_presentations == 6 * seed.card.n_presentations
    assert seed.n_segments == 0  # 4.5 s hold no segment of the card's length
    assert seed.rehearsal
    assert seed.missing[0] == "subject 03"
    assert not seed.unexpected
    assert not seed.is_complete


def test_names_alone_are_enough_for_a_quick_look(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "over_recordings", None)
    (seed,) = check(root, datasets=["seed"], quick=True, progress=False).found
    assert (seed.n_recordings, seed.n_presentations, seed.n_segments) == (6, None, None)


def test_every_dataset_has_a_row_whether_it_is_there_or_not(root: Path) -> None:
    found = check(root, quick=True, progress=False)
    assert tuple(row.card.name for row in found.found) == datasets.names()
    there = [row.card.name for row in found.found if row.folder is not None]
    assert there == ["dreamer", "seed"]


def test_a_bad_file_and_a_foreign_one_are_named_and_the_rest_is_counted(root: Path) -> None:
    files = sorted((root / "seed").rglob("*_*.mat"))
    files[0].write_bytes(files[0].read_bytes()[:1000])
    (root / "seed" / "thesis.docx").write_text("")
    (root / "holiday").mkdir()
    found = check(root, datasets=["seed"], progress=False)
    (seed,) = found.found
    assert seed.n_presentations == 5 * seed.card.n_presentations
    assert len(seed.errors) == 1
    assert files[0].name in seed.errors[0]
    assert seed.unexpected == ("thesis.docx",)
    assert found.unexpected == ("holiday",)


def test_an_empty_dataset_is_an_error_of_that_dataset(root: Path) -> None:
    (root / "DEAP").mkdir()
    deap, seed = check(root, datasets=["deap", "seed"], progress=False).found
    assert "need DEAP files" in deap.errors[0]
    assert seed.n_recordings == 6


def test_the_table_fits_a_hundred_columns(root: Path) -> None:
    (root / "seed" / ("long" * 40)).write_text("")
    text = _text(check(root, progress=False))
    assert max(map(len, text.splitlines())) <= 100
    assert "…" not in text
    assert "presentations" in text
    assert "rehearsal data" in text
    assert "not there: " in text


def test_the_last_row_adds_the_pretraining_datasets_beside_both_totals_of_the_paper(
    root: Path,
) -> None:
    found = check(root, quick=True, progress=False)
    for row in found.found:
        row.n_segments = 100 if row.folder is not None else None
    lines = _text(found).splitlines()
    total = next(i for i, line in enumerate(lines) if line.strip().startswith("pretraining"))
    assert lines[total].split() == ["pretraining", "100", "80,070"]  # SEED is for evaluation
    assert lines[total + 1].split() == ["79,070"]
    assert "EMOD's Table 1 adds to 80,070 segments, its text says 79,070" in "".join(lines)
    assert "pretraining" not in _text(check(root, datasets=["seed"], quick=True, progress=False))


@pytest.mark.ray
def test_recordings_are_opened_on_the_cluster(ray_cluster: None, root: Path) -> None:
    (dreamer,) = check(root, datasets=["dreamer"], progress=False).found
    assert dreamer.n_presentations == 2 * dreamer.card.n_presentations
