"""A second Ray cluster beside the tests' own, started by the real command line.

Its home, temporary folder and ports are its own, and it is ended by the process that started it:
`ray stop` would end every cluster of the machine.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
FOREIGN = ("RAY_", "EMORAY_", "PYTHONPATH", "PYTEST_", "TMPDIR")
"""What must not leak from the process that runs the tests."""


@dataclass(frozen=True)
class Head:
    """A running head node."""

    address: str
    """host:port of its GCS."""
    dashboard: str
    """http://host:port of its job server; nothing answers there without a dashboard."""
    home: Path
    """Home folder of its processes, hence of the jobs that run on it."""
    environment: dict[str, str]
    """For commands of the same user on the same machine."""

    def run(self, *command: str | Path, cwd: Path = REPO, timeout: float = 120) -> str:
        """Output of a command of that user; its failure is ours, with all it said."""
        done = subprocess.run(
            [str(part) for part in command],
            cwd=cwd,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, f"exit {done.returncode}:\n{done.stdout}"
        return done.stdout


def clean_environment(folder: Path) -> dict[str, str]:
    """Environment of a user who has never used Ray, with the tests' Python first."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(FOREIGN)}
    return kept | {
        "HOME": str(folder / "home"),
        "RAY_TMPDIR": str(folder),
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",  # else a finished job is waited for, 30 s
    }


@contextmanager
def short_folder() -> Iterator[Path]:
    """A temporary folder whose name leaves room for Ray's sockets (107 characters in all)."""
    folder = Path(tempfile.mkdtemp(prefix="er", dir="/tmp"))
    (folder / "home").mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def ray_head(
    *options: str, environment: dict[str, str] | None = None, token: bool = False
) -> Iterator[Head]:
    """Run `ray start --head --block` with these options until the block ends.

    With `token` the user has one in the home folder, and the cluster demands it.
    """
    with short_folder() as folder:
        variables = clean_environment(folder) | (environment or {})
        if token:
            (folder / "home/.ray").mkdir()
            (folder / "home/.ray/auth_token").write_text(secrets.token_hex(32))
        gcs, dashboard, agent, client = free_ports(4)
        command = [
            *(str(BIN / "ray"), "start", "--head", "--block", f"--port={gcs}"),
            # The agent starts the jobs; where its port is taken, Ray runs on and starts none.
            *(f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}"),
            *(f"--ray-client-server-port={client}", "--object-store-memory=150000000", *options),
        ]
        with (folder / "start.log").open("w") as log:
            process = subprocess.Popen(
                command, env=variables, stdout=log, stderr=log, cwd=folder, start_new_session=True
            )
            try:
                address = wait_for_address(folder, process)
                url = f"http://127.0.0.1:{dashboard}"
                yield Head(address, url, folder / "home", variables)
            finally:
                end(process)


def wait_for_address(folder: Path, process: subprocess.Popen[bytes], seconds: float = 60) -> str:
    """The GCS address, once Ray has noted it in its temporary folder."""
    noted = folder / "ray" / "ray_current_cluster"
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        if noted.exists() and (address := noted.read_text().strip()):
            return address
        time.sleep(0.1)
    raise RuntimeError(f"Ray did not start:\n{(folder / 'start.log').read_text()}")


def end(process: subprocess.Popen[bytes]) -> None:
    """End the head, which ends what it started."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=45)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_ports(n: int) -> list[int]:
    """Ports below those that Ray gives to its workers (from 10002 up) and the kernel to anybody."""
    found: list[int] = []
    for port in range(7000 + os.getpid() % 1000, 10000):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                found.append(port)
        if len(found) == n:
            return found
    raise RuntimeError("no free ports between 7000 and 10000")
