"""How jobs end: real processes, real signals, and what is left of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.heads import REPO, clean_environment, short_folder
from tests.processes import in_session, left_after, listening

TERM, INT = signal.SIGTERM, signal.SIGINT
AGAIN = "stopped; go on with: python {} --steps '1 2'\n"


@contextmanager
def job(
    program: str, folder: Path, *words: str, **environment: str
) -> Iterator[subprocess.Popen[str]]:
    """A program in a session of its own; it says READY once it may be stopped."""
    script = folder / "job.py"
    script.write_text(program)
    process = subprocess.Popen(
        [sys.executable, str(script), *words],
        cwd=REPO,
        env=clean_environment(folder) | {"PYTHONPATH": str(REPO)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        for pid in in_session(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.wait()


def wait_until_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "READY\n", process.communicate()


def run(program: str, folder: Path) -> tuple[int, str, str]:
    """Exit status and all that a program says by itself."""
    with job(program, folder) as process:
        said, complained = process.communicate(timeout=60)
    return process.returncode, said, complained


@pytest.mark.parametrize(
    ("main", "code", "said"),
    [
        ("lambda: None", 0, ""),
        ("lambda: 3", 3, ""),
        ("lambda: int('x')", 1, "error: invalid literal for int() with base 10: 'x'\n"),
        ("lambda: open('/none')", 1, "error: [Errno 2] No such file or directory: '/none'\n"),
    ],
)
def test_a_job_ends_with_what_it_returns_or_an_error_in_one_line(
    tmp_path: Path, main: str, code: int, said: str
) -> None:
    program = f"from emoray.runtime import ending\nending.run_job({main})"
    assert run(program, tmp_path) == (code, "", said)


def test_our_own_mistake_shows_its_trace(tmp_path: Path) -> None:
    code, _, said = run(
        "from emoray.runtime import ending\nending.run_job(lambda: {}[1])", tmp_path
    )
    assert code == 1
    assert said.startswith("Traceback")
    assert said.endswith("KeyError: 1\n")


WAITING = """
import time
from emoray.runtime import ending

def main():
    try:
        print("READY", flush=True)
        time.sleep(60)
    finally:
        time.sleep({last_s})

ending.GRACE_S = 2.0
ending.run_job(main)
"""


@pytest.mark.parametrize(("signum", "code"), [(TERM, 143), (INT, 130)])
@pytest.mark.parametrize("last_s", [0, 60])
def test_a_job_that_is_asked_to_stop_says_how_to_go_on_even_if_it_hangs(
    tmp_path: Path, signum: signal.Signals, code: int, last_s: int
) -> None:
    with job(WAITING.format(last_s=last_s), tmp_path, "--steps", "1 2") as process:
        wait_until_ready(process)
        process.send_signal(signum)
        time.sleep(0.2)
        process.send_signal(signum)  # asked twice, it still ends as it began to
        _, said = process.communicate(timeout=20)
    assert process.returncode == code
    assert said == AGAIN.format(tmp_path / "job.py")


def test_the_command_of_the_innermost_part_is_said(tmp_path: Path) -> None:
    program = """
import os, signal
from emoray.runtime import ending

def main():
    with ending.resumable("python", "job.py", "--resume", "a b"):
        os.kill(os.getpid(), signal.SIGTERM)

ending.run_job(main)
"""
    assert run(program, tmp_path) == (
        143,
        "",
        "stopped; go on with: python job.py --resume 'a b'\n",
    )


ON_RAY = """
import time, ray
from emoray.runtime import cluster, ending

@ray.remote(num_cpus=0)
class Busy:
    def ready(self):
        return True
    def work(self):
        time.sleep(600)

def main():
    cluster.connect(address="local")
    busy = [Busy.remote() for _ in range(2)]
    ray.get([each.ready.remote() for each in busy])
    working = [each.work.remote() for each in busy]
    print("READY", flush=True)
    ray.get(working)

ending.run_job(main)
"""


@pytest.mark.slow
@pytest.mark.parametrize("whom", ["driver", "group"])
def test_a_stopped_job_leaves_no_process_and_ray_says_nothing(whom: str) -> None:
    with short_folder() as folder, job(ON_RAY, folder, "--steps", "1 2") as process:
        wait_until_ready(process)
        assert any("raylet" in title for title in in_session(process.pid).values())
        (os.kill if whom == "driver" else os.killpg)(process.pid, TERM)
        said, complained = process.communicate(timeout=30)
        left = left_after(process.pid, 1.0)
    assert (process.returncode, said) == (143, "")
    assert complained == AGAIN.format(folder / "job.py")
    assert left == {}


@pytest.mark.slow
def test_a_raylet_that_is_killed_dumps_nothing_and_leaves_no_process() -> None:
    """With its agents, which look for it every few seconds unless told to watch it."""
    with short_folder() as folder, job(ON_RAY, folder, "--steps", "1 2") as process:
        wait_until_ready(process)
        processes = in_session(process.pid)
        (raylet,) = (pid for pid, title in processes.items() if "raylet/raylet" in title)
        agents = [pid for pid, title in processes.items() if title.endswith("Agent")]
        assert len(agents) == 2
        os.kill(raylet, signal.SIGKILL)
        time.sleep(5)
        assert not set(agents) & set(in_session(process.pid))
        process.send_signal(TERM)
        said, complained = process.communicate(timeout=30)
        left = left_after(process.pid, 1.0)
    assert "state-dump" not in said + complained
    assert "(raylet)" not in said + complained
    assert process.returncode == 143
    assert left == {}


@pytest.mark.slow
def test_a_cluster_of_this_machine_listens_on_the_loopback_interface_only() -> None:
    with short_folder() as folder, job(ON_RAY, folder) as process:
        wait_until_ready(process)
        found = {title: listening(pid) for pid, title in in_session(process.pid).items()}
    assert {place for places in found.values() for place in places} == {"127.0.0.1"}, found
    assert sum(map(bool, found.values())) > 5  # GCS, raylet, agents, driver and workers do listen
