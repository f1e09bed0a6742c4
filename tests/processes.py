"""What the kernel says of processes: who belongs together, who is left, who listens where."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path


def in_session(leader: int) -> dict[int, str]:
    """Live processes of a session, which no child of its leader leaves unasked: id -> title."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, _, _, session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(session) == leader and state != "Z":
                title = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
                found[int(folder.name)] = title.decode(errors="replace").strip()
    return found


def left_after(leader: int, seconds: float) -> dict[int, str]:
    """What lives of a session at last; returns as soon as nothing does."""
    deadline = time.monotonic() + seconds
    while (left := in_session(leader)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def ancestors(pid: int) -> Iterator[int]:
    """A process, its parent, and so on."""
    while pid > 1:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        yield pid


def below_us(title: str) -> list[int]:
    """Ids of the processes under this one whose title begins so, the lowest first."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            pid = int(folder.name)
            is_one = (folder / "cmdline").read_bytes().startswith(title.encode())
            if is_one and os.getpid() in ancestors(pid):
                found.append(pid)
    return sorted(found)


def listening(pid: int) -> set[str]:
    """Addresses that a process listens at for TCP connections."""
    links = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            links.append(str(link.readlink()))
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == "0A" and f"socket:[{inode}]" in links:
                found.add(_address(local.partition(":")[0]))
    return found


def _address(written: str) -> str:
    """As people write an address that the kernel writes in hex, by words of its byte order."""
    words = [bytes.fromhex(written[i : i + 8])[::-1] for i in range(0, len(written), 8)]
    raw = b"".join(words)
    if len(raw) == 4:
        return socket.inet_ntoa(raw)
    found = ipaddress.IPv6Address(raw)
    return str(found.ipv4_mapped or found)
