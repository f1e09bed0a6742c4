from __future__ import annotations

import errno
import hashlib
import os
import pickle
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from pyarrow import fs

from emoray.runtime.storage import Storage, absolute, check_name, join, last_part, sha256_of
from emoray.vocabulary.schema import DataError

ENDLESS = """
import sys
from emoray.runtime.storage import Storage
storage = Storage.at(sys.argv[1])
for i in range(10**6):
    with storage.write(f"{i % 3}.bin", n_bytes=1) as file:
        for _ in range(20):
            file.write(bytes([i % 3]) * 100_000)
    print(i, flush=True)
"""


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage.at(tmp_path / "store")


def _break_off(storage: Storage) -> None:
    with storage.write("a", n_bytes=3) as file:
        file.write(b"new")
        raise KeyError


def test_a_file_appears_only_when_it_is_complete(storage: Storage) -> None:
    with storage.write("a", n_bytes=6) as file:
        file.write(b"abc")
        assert storage.files() == {}
        file.write(b"def")
    assert storage.read("a") == b"abcdef"
    assert (file.size, file.sha256) == (6, hashlib.sha256(b"abcdef").hexdigest())


def test_an_error_while_writing_leaves_nothing(storage: Storage) -> None:
    with pytest.raises(KeyError):
        _break_off(storage)
    assert list(Path(storage.root).iterdir()) == []


def test_an_error_while_writing_keeps_what_was_there(storage: Storage) -> None:
    storage.write_bytes("a", b"old")
    with pytest.raises(KeyError):
        _break_off(storage)
    assert storage.read("a") == b"old"


def test_the_same_bytes_are_not_written_again(storage: Storage) -> None:
    storage.write_bytes("a", b"same")
    before = Path(storage.path("a")).stat().st_mtime_ns
    storage.write_bytes("a", b"same")
    assert Path(storage.path("a")).stat().st_mtime_ns == before


def test_a_full_disk_is_named_with_what_was_needed(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with (
        pytest.raises(OSError, match=r"store/a, which needs 1,234 bytes: .*No space.* are free"),
        storage.write("a", n_bytes=1234) as file,
    ):
        file.write(b"abc")
    assert list(Path(storage.root).iterdir()) == []


def test_a_place_that_cannot_be_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    storage = Storage.at(tmp_path / "file" / "corpus")
    with pytest.raises(OSError, match=r"cannot write .*file/corpus"):
        storage.check_writable()
    assert storage.files() == {}
    assert not storage.exists()


def test_checking_that_a_folder_can_be_written_leaves_it_empty(storage: Storage) -> None:
    storage.check_writable()
    assert list(Path(storage.root).iterdir()) == []


def test_the_sweep_spares_a_living_writer(storage: Storage) -> None:
    with storage.write("a", n_bytes=1) as file:
        file.write(b"a")
        assert storage.sweep() == 0
    assert storage.read("a") == b"a"


def test_writers_killed_at_any_moment_leave_whole_files_and_rubbish_that_is_swept(
    storage: Storage,
) -> None:
    command = [sys.executable, "-c", ENDLESS, storage.root]
    for pause_s in (0.0, 0.0013, 0.0037, 0.011):
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            for _ in range(3):
                writer.stdout.readline()
            time.sleep(pause_s)
            writer.send_signal(signal.SIGKILL)
        storage.sweep()
        assert {path.name for path in Path(storage.root).iterdir()} == {"0.bin", "1.bin", "2.bin"}
        for i in range(3):
            assert storage.read(f"{i}.bin") == bytes([i]) * 2_000_000


def test_two_writers_of_one_name_do_not_disturb_each_other(storage: Storage) -> None:
    def write(letter: bytes) -> None:
        with storage.write("a", n_bytes=1) as file:
            for _ in range(50):
                file.write(letter * 1000)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, [b"a", b"b", b"c", b"d"] * 5))
    content = storage.read("a") or b""
    assert len(content) == 50_000
    assert len(set(content)) == 1
    assert list(storage.files()) == ["a"]


def test_a_file_system_that_is_not_local_has_the_same_verbs(tmp_path: Path) -> None:
    remote = Storage(fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem()), "bucket")
    assert not remote.is_local
    assert not remote.exists()
    remote.write_bytes("x/a", b"abc")
    assert remote.folders() == ["x"]
    assert remote.sub("x").files() == {"a": 3}
    assert remote.read("x/a") == b"abc"
    assert remote.read("x/b") is None
    assert remote.sweep() == 0
    assert pickle.loads(pickle.dumps(remote)).read("x/a") == b"abc"


def test_a_failed_write_to_a_remote_file_system_leaves_no_file(tmp_path: Path) -> None:
    remote = Storage(fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem()), "bucket")
    with pytest.raises(KeyError):
        _break_off(remote)
    assert remote.files() == {}


def test_a_uri_opens_like_the_folder_it_names(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert Storage.at(tmp_path.as_uri()).read("a") == b"abc"


def test_an_unknown_uri_is_refused() -> None:
    with pytest.raises(ValueError, match="got nowhere://x"):
        Storage.at("nowhere://x")


def test_a_fetched_file_with_another_checksum_is_refused_and_not_kept(tmp_path: Path) -> None:
    remote = Storage(fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem()), "bucket")
    remote.write_bytes("a", b"abc")
    target = tmp_path / "cache" / "a"
    with pytest.raises(DataError, match=r"bucket/a: need SHA-256 0000.*damaged"):
        remote.fetch("a", target, n_bytes=3, sha256="0" * 64)
    assert list(target.parent.iterdir()) == []
    remote.fetch("a", target, n_bytes=3, sha256=hashlib.sha256(b"abc").hexdigest())
    assert sha256_of(target) == hashlib.sha256(b"abc").hexdigest()
    with pytest.raises(DataError, match="need the file subtree:bucket/b, got none"):
        remote.fetch("b", target, n_bytes=3, sha256="")


# Files that are made once -------------------------------------------------------------------------


def test_a_file_is_made_once_and_stays(storage: Storage) -> None:
    assert storage.create("x/a", b"first")
    assert not storage.create("x/a", b"second")
    assert storage.read("x/a") == b"first"
    assert [path.name for path in Path(storage.path("x")).iterdir()] == ["a"]


def test_of_many_writers_of_one_name_one_is_told_that_it_was_first(storage: Storage) -> None:
    for i in range(20):
        ready = Barrier(4)

        def write(letter: bytes, ready: Barrier = ready, name: str = str(i)) -> bool:
            ready.wait()
            return storage.create(name, letter * 50_000)

        letters = [b"a", b"b", b"c", b"d"]
        with ThreadPoolExecutor(4) as pool:
            was_first = list(pool.map(write, letters))
        assert sum(was_first) == 1
        assert storage.read(str(i)) == letters[was_first.index(True)] * 50_000


def test_a_file_is_made_once_where_there_are_no_links(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_link(source: object, target: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "no links here")

    monkeypatch.setattr(os, "link", no_link)
    assert storage.create("a", b"first")
    assert not storage.create("a", b"second")
    monkeypatch.setattr(Storage, "read", lambda self, name: None)  # looked too early
    with pytest.raises(FileExistsError, match="there already"):
        storage.create("a", b"second")
    assert Path(storage.path("a")).read_bytes() == b"first"
    assert list(storage.files()) == ["a"]


def test_a_place_that_cannot_be_a_folder_is_no_file_that_was_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match=r"cannot write .*file/x/a, which needs 3 bytes"):
        Storage.at(tmp_path / "file").create("x/a", b"abc")
    with pytest.raises(OSError, match="cannot write"):
        Storage.at(tmp_path / "file").create("a", b"abc")


def test_a_file_is_made_once_on_a_remote_file_system(tmp_path: Path) -> None:
    remote = Storage(fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem()), "bucket")
    assert remote.create("x/a", b"first")
    assert not remote.create("x/a", b"second")
    assert remote.read("x/a") == b"first"


# Locations and names ------------------------------------------------------------------------------

QUERY = "endpoint_override=127.0.0.1:9000&scheme=http"


@pytest.mark.parametrize(
    ("location", "joined"),
    [
        (f"s3://b/x?{QUERY}", f"s3://b/x/runs/one?{QUERY}"),
        (f"s3://b/x/?{QUERY}", f"s3://b/x/runs/one?{QUERY}"),
        (f"s3://b?{QUERY}", f"s3://b/runs/one?{QUERY}"),
        ("s3://b/x/", "s3://b/x/runs/one"),
        ("/data/why?/x", "/data/why?/x/runs/one"),
        ("/", "/runs/one"),
    ],
)
def test_what_lies_in_a_folder_is_named_before_the_query(location: str, joined: str) -> None:
    assert join(location, "runs", "one") == joined
    assert last_part(joined) == "one"


@pytest.mark.parametrize("location", [f"s3://bucket/x?{QUERY}", f"s3://bucket/x/?{QUERY}"])
def test_a_place_in_a_store_is_the_whole_uri(location: str) -> None:
    folder = Storage.at(location).sub("runs").sub("one")
    assert str(folder) == f"s3://bucket/x/runs/one?{QUERY}"
    assert folder.place("a.json") == f"s3://bucket/x/runs/one/a.json?{QUERY}"
    assert folder.path("a.json") == "bucket/x/runs/one/a.json"
    again = Storage.at(str(folder))
    assert (again.root, again.filesystem) == (folder.root, folder.filesystem)
    assert str(pickle.loads(pickle.dumps(folder))) == str(folder)


def test_a_location_means_the_same_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    assert absolute("a") == str(tmp_path / "a")
    assert absolute("~/a") == "/home/me/a"
    assert absolute("file:///data/a%20b/") == "/data/a b"
    assert absolute(f"s3://b/x/?{QUERY}") == f"s3://b/x?{QUERY}"


def test_a_uri_with_a_password_is_refused_and_not_repeated() -> None:
    with pytest.raises(ValueError, match="AWS_SECRET_ACCESS_KEY") as refused:
        Storage.at(f"s3://KEY:SECRET@bucket/x?{QUERY}")
    assert "SECRET@" not in str(refused.value)
    assert "KEY:" not in str(refused.value)


@pytest.mark.parametrize("name", ["emod-20261121-140000", "a", "A.b_c-9", "x" * 100])
def test_a_plain_name_is_one(name: str) -> None:
    assert check_name(name, "a run's name") == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../../x", "a/b", "/x", ".locks", "-x", "a b", "a\n", "naïve", "x" * 101, "~"],
)
def test_a_name_that_is_more_or_less_than_a_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="need a run's name of 1 to 100 letters") as refused:
        check_name(name, "a run's name")
    assert repr(name) in str(refused.value)


def test_an_error_without_a_number_is_told_with_its_place(tmp_path: Path) -> None:
    """As object stores raise them."""
    folder = Storage.at(tmp_path)
    said = rf"^cannot write {tmp_path}/x, which needs 3 bytes: AWS Error NETWORK_CONNECTION"
    with pytest.raises(OSError, match=said), folder.explaining("x", n_bytes=3):
        raise OSError("AWS Error NETWORK_CONNECTION during PutObject")
