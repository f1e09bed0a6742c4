"""A job submitted through Ray's command line to a running head, as the README tells people to.

The head has a home folder of its own, which is where the README says that results lie.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.heads import REPO, Head, ray_head

pytestmark = pytest.mark.slow

WHO_AM_I = """
import json
import ray
import emoray
from emoray.runtime import cluster

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


def wait_for_job_server(head: Head, seconds: float = 90) -> None:
    """It answers before it has an agent that could start a job, so start one that does nothing."""
    command = ("ray", "job", "submit", "--no-wait", "--address", head.dashboard, "--", "true")
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(AssertionError):
            head.run(*command)
            return
        time.sleep(0.5)
    head.run(*command)


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


SMALL = (
    *("--epochs", "1", "--rounds-per-step", "1", "--held-out", "0.5"),
    *("--encoder.d-model", "16", "--encoder.n-heads", "2", "--encoder.n-layers", "1"),
    *("--encoder.d-feedforward", "16", "--encoder.n-norm-groups", "2"),
)


def test_the_main_job_finishes_and_its_results_lie_where_the_readme_says(
    head: Head, tiny_corpus_path: Path
) -> None:
    job = ("python", "jobs/pretrain_emod.py", "--name", "submitted", "--corpus")
    said = submit(head, *job, str(tiny_corpus_path), *SMALL, timeout=300)
    assert "succeeded" in said
    run = head.home / "emoray" / "runs" / "submitted"
    assert str(run) in said
    assert (run / "loss.png").stat().st_size
    assert (run / "summary.json").stat().st_size
    assert len(list(run.glob("step-*/state.pt"))) == 1
