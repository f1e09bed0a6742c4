"""Whatever a reader raises belongs to its file: named and set aside, the others are built."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from emoray import datasets
from emoray.corpus.build import check as checking
from emoray.corpus.build.build import build
from emoray.corpus.build.check import Found, _Counter, _list
from emoray.corpus.build.recording import Build, hash_sources, make_part, stat_sources, unchanged
from emoray.runtime.storage import Storage, sha256_of
from emoray.signals import EegRecipe
from emoray.vocabulary.schema import DataError
from tests.sources import ToneSource

RAISED = [
    AssertionError("of MNE's, about a header"),
    LookupError("unknown encoding: foo"),
    csv.Error("field larger than field limit (131072)"),
    RuntimeError("of HDF5's"),
    ZeroDivisionError("float division by zero"),
    RecursionError("maximum recursion depth exceeded"),
]


def job(name: str, root: Path, out: Path) -> Build:
    return Build(name, root, Storage.at(out), EegRecipe())


@pytest.fixture
def seed(tiny_release: Path) -> Path:
    return tiny_release / "seed"


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_an_error_nobody_foresaw_is_quarantined_with_its_type(
    seed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    ref = datasets.get("seed").find(seed).recordings[1]
    monkeypatch.setattr(datasets.get("seed"), "read", _raising(error))
    said = make_part(job("seed", seed, tmp_path), ref).error or ""
    assert f"{type(error).__name__}: {error}" in said
    assert ref.files[0] in said
    answer = _Counter({"seed": seed})(ref)
    assert f"{type(error).__name__}: {error}" in answer["error"]


@pytest.mark.parametrize("kind", [DataError, ValueError])
def test_a_foreseen_error_is_said_without_its_type(
    seed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    ref = datasets.get("seed").find(seed).recordings[0]
    monkeypatch.setattr(datasets.get("seed"), "read", _raising(kind("need a, got b")))
    said = make_part(job("seed", seed, tmp_path), ref).error or ""
    assert said.endswith("): need a, got b")


@pytest.mark.parametrize("error", [MemoryError(), KeyboardInterrupt(), SystemExit()])
def test_what_is_no_files_fault_goes_through(
    seed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    ref = datasets.get("seed").find(seed).recordings[0]
    monkeypatch.setattr(datasets.get("seed"), "read", _raising(error))
    for run in (
        lambda: make_part(job("seed", seed, tmp_path), ref),
        lambda: _Counter({"seed": seed})(ref),
    ):
        with pytest.raises(type(error)):
            run()


def _raising(error: BaseException) -> Callable[..., object]:
    def read(*_: object) -> object:
        raise error

    return read


# Files that were found to raise what nobody caught ------------------------------------------------


def patch(path: Path, at: int, raw: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(raw)


def header_of_256_bytes(root: Path) -> Path:
    path = sorted((root / "Sessions").rglob("*_S_*.bdf"))[3]
    patch(path, 184, b"256     ")
    return path


def unknown_encoding(root: Path) -> Path:
    path = root / "Sessions" / "4" / "session.xml"
    path.write_bytes(b'<?xml version="1.0" encoding="foo"?>' + path.read_bytes().partition(b">")[2])
    return path


def endless_field(root: Path) -> Path:
    path = next(root.rglob("Arousal_Valence.csv"))
    path.write_text(path.read_text() + '31,5,"' + "5" * 140_000 + '"\n')
    return path


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("mahnob_hci", header_of_256_bytes),
        ("mahnob_hci", unknown_encoding),
        ("mdme", endless_field),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_damaged_file_is_quarantined_by_name(
    tmp_path: Path, name: str, damage: Callable[[Path], Path]
) -> None:
    root = tmp_path / "data"
    datasets.get(name).write_example(root, ToneSource(), n_subjects=1, duration_s=1.0)
    path = damage(root)
    (ref,) = datasets.get(name).find(root).recordings
    said = make_part(job(name, root, tmp_path / "out"), ref).error or ""
    assert f"{path}: need" in said
    assert _Counter({name: root})(ref)["error"]


def test_a_pipe_is_not_hashed(seed: Path, tmp_path: Path) -> None:
    ref = datasets.get("seed").find(seed).recordings[0]
    shutil.copytree(seed, tmp_path / "seed")
    path = tmp_path / "seed" / ref.files[0]
    path.unlink()
    os.mkfifo(path)
    assert stat_sources(tmp_path / "seed", ref)[0].size == -1
    part = make_part(job("seed", tmp_path / "seed", tmp_path / "out"), ref)
    assert "need a regular file, found a named pipe" in (part.error or "")


def test_an_error_of_find_is_its_folders(
    seed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.get("seed"), "find", _raising(AssertionError("ours")))
    row = Found(datasets.get("seed").CARD, seed)
    assert _list(row, seed, rehearsal=True) == ()
    assert row.errors == ["AssertionError: ours"]
    with pytest.raises(DataError, match=r"seed: need a folder of seed, found AssertionError: ours"):
        build(seed.parent, tmp_path / "out", recipe=EegRecipe(), datasets=["seed"])
    monkeypatch.setattr(datasets.get("seed"), "find", _raising(MemoryError()))
    with pytest.raises(MemoryError):
        checking._list(row, seed, rehearsal=True)


def test_files_whose_names_are_not_told_are_watched_like_others(tmp_path: Path) -> None:
    # MPED's folders bear people's names: the manifest knows them by number, and by their bytes.
    root = tmp_path / "MPED"
    datasets.get("mped").write_example(root, ToneSource(), n_subjects=1, duration_s=1.0)
    (ref,) = datasets.get("mped").find(root).recordings
    paths = datasets.paths(root, ref)
    sources = hash_sources(root, ref)
    assert [s.file for s in sources] == list(ref.files)
    assert [s.size for s in sources] == [path.stat().st_size for path in paths]
    assert [s.sha256 for s in sources] == [sha256_of(path) for path in paths]
    assert "invented" not in str(sources)
    assert unchanged(sources, root, ref)
    paths[1].write_bytes(paths[1].read_bytes()[:-1])
    assert not unchanged(sources, root, ref)


def test_an_unforeseen_error_tells_nobodys_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "MPED"
    datasets.get("mped").write_example(root, ToneSource(), n_subjects=1, duration_s=1.0)
    (ref,) = datasets.get("mped").find(root).recordings

    def load(path: Path, names: object) -> object:
        raise AssertionError(f"in {path}")

    monkeypatch.setattr("emoray.datasets.formats.matlab.load", load)
    monkeypatch.setattr("emoray.datasets.mped._check_labels", lambda path: None)
    said = make_part(job("mped", root, tmp_path / "out"), ref).error or ""
    assert "AssertionError: in raw_EEG_signals/participant 01/_d.mat" in said
    assert "invented" not in said
