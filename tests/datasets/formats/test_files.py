"""Opening what lies in a data folder: regular files, of a sensible size, or an error that says."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from emoray.datasets.formats import files
from emoray.vocabulary.schema import DataError


@pytest.mark.parametrize(
    "name",
    ["._s01.dat", ".DS_Store", "Thumbs.db", "THUMBS.DB", "desktop.ini", "__MACOSX", "$RECYCLE.BIN"],
)
def test_litter_is_known_in_any_case(name: str) -> None:
    assert files.is_litter(name)


@pytest.mark.parametrize("name", ["s01.dat", "label.mat", "MACOSX", "Icon", "thumbs", "_x_d.mat"])
def test_publishers_names_are_no_litter(name: str) -> None:
    assert not files.is_litter(name)


def test_what_is_no_regular_file_is_refused_by_its_kind(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    for name, said in (
        ("pipe", "need a regular file, found a named pipe"),
        ("folder", "need a regular file, found a folder"),
        ("link", "need a file, found no such file"),
    ):
        with pytest.raises(DataError, match=rf"{name}: {said}"):
            files.open_file(tmp_path / name)
    with pytest.raises(DataError, match="null: need a regular file, found a device"):
        files.open_file(Path("/dev/null"))
    assert files.kind_of(tmp_path / "link") == "a link to nothing"


def test_a_socket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's whole path may have a hundred bytes
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        with pytest.raises(DataError, match=r"socket: need .* opened, found No such"):
            files.open_file(Path("socket"))
        assert files.kind_of(Path("socket")) == "a socket"


def test_a_file_through_a_link_is_opened(tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"content")
    (tmp_path / "link").symlink_to(tmp_path / "there")
    with files.open_file(tmp_path / "link") as file:
        assert file.read() == b"content"


def test_a_text_larger_than_any_of_its_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "session.xml"
    path.write_bytes(b"x" * 101)
    assert files.read_small(path, at_most=101) == b"x" * 101
    with pytest.raises(DataError, match=r"session\.xml: need at most 100 bytes, found 101"):
        files.read_small(path, at_most=100)


def test_a_name_of_another_encoding_can_be_printed(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xca\xfd\xbe\xdd.mat"))  # GBK
    assert files.spell(path).encode().endswith(rb"/\xca\xfd\xbe\xdd.mat")
