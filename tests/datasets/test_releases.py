"""Releases as people have them: nested by archives, renamed by Windows, littered by every system.

Each dataset's example is changed as labs' folders are, and must be read as before or refused by
name. Nothing here knows how a reader finds its files.
"""

import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from emoray import datasets
from emoray.rehearsal.release import MARKER
from emoray.vocabulary.schema import DataError, Listing, Recording
from tests.sources import ToneSource

OURS = {"rehearsal.json", MARKER}
"""Files of the example that are no publisher's."""
APPLE_DOUBLE = bytes.fromhex("00051607000200004d6163204f532058") + bytes(4080)
"""Head of what a Mac writes beside a file on a foreign disk: magic, version, `Mac OS X`."""
NOBODY = 65534


@pytest.fixture(scope="module", params=datasets.names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def written(name: str) -> Iterator[Path]:
    """An example in a folder that other users may enter, unlike pytest's."""
    with tempfile.TemporaryDirectory(prefix="release-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        root = Path(folder) / "release"
        datasets.get(name).write_example(root, ToneSource(), n_subjects=1, duration_s=2.0)
        yield root


@pytest.fixture
def root(written: Path) -> Iterator[Path]:
    """A copy made of links to the example's files: cheap, and its names are its own."""
    copy = written.with_name("copy")
    linked(written, copy)
    yield copy
    for folder in (copy, *(p for p in copy.rglob("*") if p.is_dir())):
        folder.chmod(0o755)
    for path in sorted(copy.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    copy.rmdir()


def linked(source: Path, target: Path) -> None:
    for path in source.rglob("*"):
        if path.is_file():
            there = target / path.relative_to(source)
            there.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, there)


def publishers(root: Path) -> list[Path]:
    return [path for path in root.iterdir() if path.name not in OURS]


def one(name: str, root: Path) -> tuple[Listing, Recording]:
    listing = datasets.get(name).find(root)
    return listing, datasets.get(name).read(root, listing.recordings[0])


def assert_same(name: str, root: Path, written: Path) -> None:
    """What is read from a changed copy is what the example holds."""
    (listing, found), (before, expected) = one(name, root), one(name, written)
    assert [ref.key for ref in listing.recordings] == [ref.key for ref in before.recordings]
    assert len(listing.missing) == len(before.missing)
    assert listing.unexpected == before.unexpected
    assert found.presentations == expected.presentations
    np.testing.assert_array_equal(found.stretches[-1].eeg_CT, expected.stretches[-1].eeg_CT)
    np.testing.assert_array_equal(found.stretches[-1].ecg_LT, expected.stretches[-1].ecg_LT)


def nest(root: Path, *folders: str) -> None:
    paths = publishers(root)
    inner = root.joinpath(*folders)
    inner.mkdir(parents=True)
    for path in paths:
        path.rename(inner / path.name)


@pytest.mark.parametrize("folders", [("again",), ("SEED_EEG", "part 1")], ids=str)
def test_folders_that_an_archive_adds_do_not_matter(
    name: str, root: Path, written: Path, folders: tuple[str, ...]
) -> None:
    nest(root, *folders)
    assert_same(name, root, written)


@pytest.mark.parametrize("change", [str.upper, str.lower, str.swapcase])
def test_names_in_another_case_do_not_matter(
    name: str, root: Path, written: Path, change: Callable[[str], str]
) -> None:
    for path in sorted(root.rglob("*"), reverse=True):
        if path.name not in OURS:
            path.rename(path.with_name(change(path.name)))
    assert_same(name, root, written)


def test_what_operating_systems_leave_behind_does_not_matter(
    name: str, root: Path, written: Path
) -> None:
    paths = list(root.rglob("*"))
    linked(written, root / "__MACOSX")
    for folder in (root, *(p for p in paths if p.is_dir())):
        for litter in (".DS_Store", "Thumbs.db", "desktop.ini"):
            (folder / litter).write_bytes(b"litter")
        linked(written, folder / "@eaDir")
    for path in paths:
        path.with_name(f"._{path.name}").write_bytes(APPLE_DOUBLE)
    assert_same(name, root, written)


def test_two_files_that_differ_in_case_only_are_refused_and_named(name: str, root: Path) -> None:
    ref = datasets.get(name).find(root).recordings[0]
    for path in datasets.paths(root, ref):
        if path.name in OURS:
            continue
        twin = path.with_name(path.name.swapcase())
        os.link(path, twin.with_name("away"))
        twin.write_bytes(b"another file")
        with pytest.raises(DataError) as error:
            datasets.get(name).find(root)
        if name != "mped" or "Label" in path.name:  # names of people are counted, not said
            assert path.name in str(error.value)
            assert twin.name in str(error.value)
        twin.unlink()
        twin.with_name("away").unlink()


def test_a_whole_second_copy_is_refused_and_both_are_named(
    name: str, root: Path, written: Path
) -> None:
    for path in publishers(written):
        if path.is_dir():
            for inner in (p for p in path.rglob("*") if p.is_file()):
                there = root / "backup" / inner.relative_to(written)
                there.parent.mkdir(parents=True, exist_ok=True)
                there.write_bytes(b"another")
        else:
            (root / "backup").mkdir(exist_ok=True)
            (root / "backup" / path.name).write_bytes(b"another")
    with pytest.raises(
        DataError, match=r"need one .*found (two|2): .*backup/.* and |and .*backup/"
    ):
        datasets.get(name).find(root)


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise AssertionError(f"still waiting after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_named_pipes_are_not_waited_for(name: str, root: Path) -> None:
    module = datasets.get(name)
    ref = module.find(root).recordings[0]
    for path in datasets.paths(root, ref):
        path.rename(path.with_name("away"))
        os.mkfifo(path)
        with at_most(20), pytest.raises(DataError, match=r"named pipe|need both files of part"):
            module.read(root, ref)
        path.unlink()
        path.with_name("away").rename(path)


def test_a_pipe_among_the_files_is_listed_and_not_opened(name: str, root: Path) -> None:
    os.mkfifo(root / "pipe.mat")
    with at_most(20):
        (said,) = datasets.get(name).find(root).unexpected
    assert said.startswith("1 files of no known kind" if name == "mped" else "pipe.mat (a named p")


@contextmanager
def as_somebody_else() -> Iterator[None]:
    """Root may read everything, and tests may be run by it."""
    mine = os.geteuid()
    if mine == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(mine)


def test_files_that_may_not_be_read_are_said_to_be_that(name: str, root: Path) -> None:
    module = datasets.get(name)
    ref = module.find(root).recordings[0]
    module.read(root, ref)  # libraries are loaded while everything may be read
    for path in datasets.paths(root, ref):
        path.chmod(0)
        with as_somebody_else(), pytest.raises(DataError, match="Permission denied") as error:
            module.read(root, ref)
        path.chmod(0o644)
        assert "damaged" not in str(error.value)


def test_folders_that_may_not_be_listed_are_said_to_be_that(name: str, root: Path) -> None:
    module = datasets.get(name)
    ref = module.find(root).recordings[0]
    folder = datasets.paths(root, ref)[0].parent
    folder.chmod(0)
    try:
        with as_somebody_else(), pytest.raises(DataError, match="Permission denied") as error:
            module.find(root)
    finally:
        folder.chmod(0o755)
    assert "foreign" not in str(error.value)
    assert name != "mped" or "invented" not in str(error.value)
