"""Who holds a name: other processes, killed ones, other machines; in folders and on S3."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from emoray.runtime import locks
from emoray.runtime.locks import LOCKS, HeldError, Holder, hold
from emoray.runtime.storage import Storage

CONTEXT = multiprocessing.get_context("spawn")


def no_locks(folder: Path) -> bool:
    """What a file system without locks answers."""
    return False


def keep(location: str, has_locks: bool, told: Any, go_on: Any) -> None:
    """Another process: holds `one` until it may go on."""
    if not has_locks:
        locks._has_locks = no_locks
    with hold(Storage.at(location), "one", tell=silent):
        told.set()
        go_on.wait(60)


def keep_and_fork(location: str, told: Any) -> None:
    """Another process: holds `one` until it is killed, and has a child that outlives it."""
    with hold(Storage.at(location), "one", tell=silent):
        if os.fork() == 0:
            told.put(os.getpid())
            time.sleep(60)
            os._exit(0)
        time.sleep(60)


def silent(said: str) -> None:
    raise AssertionError(said)


@pytest.fixture(params=["folder", "folder without locks", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A location, and below which kind of lock it has."""
    if request.param == "s3":
        return str(request.getfixturevalue("s3"))
    if request.param == "folder without locks":
        monkeypatch.setattr(locks, "_has_locks", no_locks)
    return str(tmp_path / "runs")


@pytest.fixture
def other(place: str) -> Iterator[Any]:
    """A process that holds `one`; it leaves when the test ends."""
    told, go_on = CONTEXT.Event(), CONTEXT.Event()
    has_locks = locks._has_locks is not no_locks
    process = CONTEXT.Process(target=keep, args=(place, has_locks, told, go_on))
    process.start()
    assert told.wait(60)
    process.go_on = go_on  # type: ignore[attr-defined]
    yield process
    if process.is_alive():  # an event would wait for one that was killed to hear it
        go_on.set()
    process.join()


def test_a_name_that_is_held_is_refused_in_one_line_that_says_who(place: str, other: Any) -> None:
    who = rf"process {other.pid} on {socket.gethostname()} since 20\S+ \S+ UTC"
    with (
        pytest.raises(HeldError, match=rf"one.* is held by {who}") as refused,
        hold(Storage.at(place), "one", tell=silent),
    ):
        pass
    assert str(refused.value).count("\n") == 0
    assert Storage.at(place).place("one") in str(refused.value)
    with hold(Storage.at(place), "two", tell=silent):  # another name is another lock
        pass


def test_a_killed_holder_stops_nobody(place: str, other: Any) -> None:
    os.kill(other.pid, signal.SIGKILL)
    other.join()
    with hold(Storage.at(place), "one", tell=silent):
        pass


def test_a_holder_that_was_killed_and_not_yet_buried_stops_nobody(place: str, other: Any) -> None:
    os.kill(other.pid, signal.SIGKILL)
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # dead, and its number is still taken
    with hold(Storage.at(place), "one", tell=silent):
        pass


def test_a_killed_holders_child_stops_nobody(tmp_path: Path) -> None:
    told = CONTEXT.SimpleQueue()
    process = CONTEXT.Process(target=keep_and_fork, args=(str(tmp_path), told))
    process.start()
    child = told.get()
    with pytest.raises(HeldError), hold(Storage.at(tmp_path), "one", tell=silent):
        pass
    process.kill()
    process.join()
    try:
        with hold(Storage.at(tmp_path), "one", tell=silent):
            pass
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_thread_is_refused_what_it_holds_itself(place: str) -> None:
    with (
        hold(Storage.at(place), "one", tell=silent),
        pytest.raises(HeldError, match=rf"held by process {os.getpid()} "),
        hold(Storage.at(place), "one", tell=silent),
    ):
        pass


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(NotADirectoryError),
        hold(Storage.at(tmp_path / "file"), "one", tell=silent),
    ):
        pass


def test_who_waits_is_told_for_whom_and_comes_next(place: str, other: Any) -> None:
    said: list[str] = []

    def tell(text: str) -> None:
        said.append(text)
        other.go_on.set()

    with hold(Storage.at(place), "one", tell=tell, wait=True):
        pass
    (text,) = said
    assert f"one is held by process {other.pid} on " in text


def test_a_name_is_free_again_after_its_holder_and_after_an_error(place: str) -> None:
    for _ in range(2):
        with pytest.raises(KeyError), hold(Storage.at(place), "one", tell=silent):
            raise KeyError
    with hold(Storage.at(place), "one", tell=silent):
        pass


def test_a_folder_that_was_removed_meanwhile_is_left_all_the_same(tmp_path: Path) -> None:
    with hold(Storage.at(tmp_path / "runs"), "one", tell=silent):
        shutil.rmtree(tmp_path / "runs")


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".locks", "x" * 101])
def test_only_a_name_can_be_held(tmp_path: Path, name: str) -> None:
    with (
        pytest.raises(ValueError, match="need a name of 1 to 100"),
        hold(Storage.at(tmp_path), name, tell=silent),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


# Holders on other machines, whose processes nobody here can see -----------------------------------


def lease_of(place: str, holder: Holder) -> None:
    Storage.at(place).write_bytes(f"{LOCKS}/one.lease/abc", holder.to_json())


@pytest.fixture
def elsewhere() -> Holder:
    return replace(Holder.here(), host="node-7", pid=1234, machine="another boot")


def test_a_lease_that_is_renewed_on_another_machine_is_refused(
    s3: str, elsewhere: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease_of(s3, elsewhere)
    said: list[str] = []

    def tell(text: str) -> None:
        said.append(text)
        lease_of(s3, replace(elsewhere, since="later"))  # as a living holder does

    with (
        pytest.raises(HeldError, match="held by process 1234 on node-7"),
        hold(Storage.at(s3), "one", tell=tell),
    ):
        pass
    assert "node-7" in said[0]
    assert "60 s at most, it may have ended" in said[0]


def test_a_lease_of_another_machine_runs_out(
    s3: str, elsewhere: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "LEASE_S", 2.0)
    lease_of(s3, elsewhere)
    said: list[str] = []
    with hold(Storage.at(s3), "one", tell=said.append):
        assert len(Storage.at(s3).sub(LOCKS).sub("one.lease").files()) == 1  # its file is swept
    assert len(said) == 1


def test_a_lease_that_is_renewed_outlives_its_length(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "LEASE_S", 2.0)
    monkeypatch.setattr(locks, "RENEW_S", 0.2)
    monkeypatch.setattr(locks, "_machine", lambda: "")  # nobody can see whether it lives
    with (
        hold(Storage.at(s3), "one", tell=silent),
        pytest.raises(HeldError),
        hold(Storage.at(s3), "one", tell=lambda said: None),
    ):
        pass


def test_a_process_of_the_same_number_is_not_the_holder() -> None:
    here = Holder.here()
    assert not here.is_dead
    assert replace(here, started="1").is_dead  # its number has come again
    assert not replace(here, machine="another boot", started="1").is_dead
