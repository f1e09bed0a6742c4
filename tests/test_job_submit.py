"""A job submitted through Ray's command line to a running head, as the README tells people to.

The head has a home folder of its own, which is where the README says that results lie.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from tests.heads import REPO, Head, ray_head

pytestmark = pytest.mark.slow

WHO_AM_I = """
import json
import ray
import emoray
from emoray import cluster

cluster.connect()

@ray.remote
def where():
    import emoray
    return emoray.__file__

print("SAID", json.dumps([emoray.__file__, ray.get(where.remote()), cluster.storage_root()]))
"""


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    """`ray start --head` with its job server, on ports of its own."""
    with ray_head("--num-cpus=3", "--include-dashboard=true") as started:
        wait_for_job_server(started)
        yield started


def wait_for_job_server(head: Head, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            urllib.request.urlopen(f"{head.dashboard}/api/version", timeout=5).close()
        except (urllib.error.URLError, TimeoutError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return


def submit(head: Head, *command: str, timeout: float = 60) -> str:
    """What `ray job submit` prints from the repository's folder until the job has succeeded."""
    address = ("--address", head.dashboard)
    return head.run(
        *("ray", "job", "submit", *address, "--working-dir", ".", "--", *command), timeout=timeout
    )


def test_driver_and_workers_import_the_submitted_code(head: Head) -> None:
    """Also where emoray is not installed, or another checkout of it is."""
    script = f"python -c '{WHO_AM_I}'"
    said = json.loads(submit(head, "bash", "-c", script).partition("SAID ")[2].splitlines()[0])
    driver, worker, storage = said
    assert "working_dir_files" in driver
    assert worker == driver
    assert not driver.startswith(str(REPO))
    assert storage == str(head.home / "emoray")
