"""One holder for each name in a folder that machines share: who trains a run, and nobody beside.

Folders have the system's locks (by `filelock`), which end with their process, on NFS too. Object
stores have none, and pyarrow cannot write a file only where there is none, so there, and in folders
whose file system has no locks, a lock is a lease: each process writes a file of its own, then looks
for others, so that of two at least one sees the other. A lease is renewed while its process lives.
What that promises: two never hold one name while both reach the store at least once in `LEASE_S`;
two that come in the same moment may both be refused. A holder that was killed stops nobody: on its
own machine its process is seen to be gone, elsewhere its lease runs out.

Leases and the words about a holder are our own: those of `filelock` need a file system in which a
file can be made only where there is none, and its locks do not say who holds them.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from filelock import Timeout, UnixFileLock, lock_descriptor

from emoray.runtime.storage import Storage, check_name

LOCKS = ".locks"
"""Folder of the locks, in the folder that is shared: no name that a person may give."""
LEASE_S = 60.0
"""After which a holder who was not heard of is gone, by the store's own clock."""
RENEW_S = 10.0
POLL_S = 0.2
"""Seconds between the first looks at who holds what is waited for; they grow to `RENEW_S`."""


class HeldError(BlockingIOError):
    """Somebody else holds it; says who."""


@dataclass(frozen=True)
class Holder:
    """A process that holds a lock."""

    host: str
    pid: int
    since: str
    """UTC."""
    machine: str
    """Within which `pid` means something: a boot, and a container's own numbers."""
    started: str
    """When the process started, as the kernel counts: numbers of processes come again."""

    @classmethod
    def here(cls) -> Holder:
        """This process."""
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        pid = os.getpid()
        return cls(socket.gethostname(), pid, now, _machine(), _started(pid) or "")

    @classmethod
    def parse(cls, text: bytes | None) -> Holder | None:
        """Back from `to_json`; None for a file that is gone, empty or another's."""
        try:
            return cls(**json.loads(text or b""))
        except (ValueError, TypeError):
            return None

    def to_json(self) -> bytes:
        """As a lock's file keeps it."""
        return json.dumps(asdict(self)).encode()

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"

    @property
    def is_here(self) -> bool:
        """Whether this machine can tell if it lives."""
        return bool(self.machine) and self.machine == _machine()

    @property
    def is_dead(self) -> bool:
        """Whether it is known to have ended."""
        if not self.is_here:
            return False
        started = _started(self.pid)
        return started is None or started not in ("", self.started)


@contextlib.contextmanager
def hold(
    folder: Storage, name: str, *, tell: Callable[[str], object], wait: bool = False
) -> Iterator[None]:
    """Hold a name in a folder, alone among all processes on all machines that share it.

    Args:
        folder: which is shared; `LOCKS` in it is made.
        name: of what is held, a single safe part of a path.
        tell: hears once, where there is something to wait for, who holds it.
        wait: until it is free. Otherwise only until a holder on another machine, who may have
            been killed, is heard of again or its lease runs out: `LEASE_S` at most.

    Raises:
        HeldError: somebody else holds it.
        ValueError: the name is none.
        OSError: the folder cannot be written.
    """
    lock = _lock(folder, check_name(name, "a name"))
    first, pause_s = None, POLL_S
    while (held := lock.take()) is not None:
        if not wait and (not held.may_be_dead or (first is not None and first != held)):
            raise HeldError(f"{folder.place(name)} is held by {held.holder or 'another process'}")
        if first is None:
            reason = "until it is free" if wait else f"{LEASE_S:.0f} s at most, it may have ended"
            tell(f"{name} is held by {held.holder or 'another process'}: waiting {reason}")
            first = held
        time.sleep(pause_s * random.uniform(0.5, 1.0))  # two that wait must not meet for ever
        pause_s = min(1.5 * pause_s, RENEW_S)
    try:
        yield
    finally:
        lock.leave()


@dataclass(frozen=True)
class _Held:
    """A lock that could not be had."""

    holder: Holder | None
    """None: it has not said yet."""
    may_be_dead: bool = False
    heard_ns: int = 0
    """When its lease was renewed."""


class _Lock(Protocol):
    def take(self) -> _Held | None:
        """Take it, or say why not."""
        ...

    def leave(self) -> None:
        """Let go of it."""
        ...


def _lock(folder: Storage, name: str) -> _Lock:
    if folder.is_local:
        path = Path(folder.path(LOCKS)) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if _has_locks(path.parent):
            return _FileLock(path)
    return _Lease(folder.sub(LOCKS).sub(f"{name}.lease"))


def _has_locks(folder: Path) -> bool:
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            return lock_descriptor(file.fileno(), blocking=False)
        except OSError:
            return False


class _FileLock:
    """The system's lock on a file that stays, and says who holds it.

    A forked child does not inherit it: a dead holder's children hold up nobody.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = UnixFileLock(path, blocking=False, thread_local=False, preserve_lock_file=True)

    def take(self) -> _Held | None:
        try:
            self._lock.acquire()
        except Timeout:
            return _Held(Holder.parse(self._path.read_bytes()))
        self._path.write_bytes(Holder.here().to_json())  # and closed: only then NFS shows it
        return None

    def leave(self) -> None:
        with contextlib.suppress(OSError):  # it is gone, and so are its words
            os.truncate(self._path, 0)
        self._lock.release()


class _Lease:
    """A file for each process that holds a name or asks for it."""

    def __init__(self, folder: Storage) -> None:
        self._folder = folder
        self._mine = uuid.uuid4().hex
        self._me = Holder.here().to_json()
        self._left = threading.Event()
        self._renewing = threading.Thread(target=self._renew, name="lease", daemon=True)

    def take(self) -> _Held | None:
        self._write()
        held = self._other()
        if held is not None:
            self._folder.remove(self._mine)
            return held
        self._renewing.start()
        return None

    def leave(self) -> None:
        self._left.set()
        self._renewing.join()
        self._folder.remove(self._mine)

    def _other(self) -> _Held | None:
        """Whoever else lives; files of those who do not are removed."""
        heard_ns = self._folder.times()
        now_ns = heard_ns.pop(self._mine, time.time_ns())
        for name, then_ns in sorted(heard_ns.items()):
            holder = Holder.parse(self._folder.read(name))
            if holder is None:
                continue  # it has left
            if holder.is_dead or now_ns - then_ns > LEASE_S * 1e9:
                self._folder.remove(name)
            else:
                return _Held(holder, not holder.is_here, then_ns)
        return None

    def _renew(self) -> None:
        while not self._left.wait(RENEW_S):
            with contextlib.suppress(OSError):  # the store is away; it may come back in time
                self._write()

    def _write(self) -> None:
        with self._folder.write(self._mine, n_bytes=len(self._me)) as file:
            file.write(self._me)


def _machine() -> str:
    """This boot and this container's processes; empty where the system does not say."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _started(pid: int) -> str | None:
    """When a process started, in ticks since the boot; None for one that has ended.

    Empty where it lives and the system does not say more.
    """
    try:
        # What precedes `)` is the program's name, which may hold anything.
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "" if _lives(pid) else None
    return None if state in "ZX" else rest[18]


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
