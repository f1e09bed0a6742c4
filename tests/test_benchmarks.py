"""Benchmarks time what they say: how many runs are at work at once, in processes that are there."""

from __future__ import annotations

import pytest

from benchmarks import finetune, start
from emoray.experiments.schedule import Resources


@pytest.mark.parametrize("cpus", [1.0, 2.0, 16.0])
@pytest.mark.parametrize("gpus", [0.0, 1.0])
def test_one_after_another_is_one_at_a_time(cpus: float, gpus: float) -> None:
    here = Resources(cpus, gpus)
    found = finetune.shares(here, 5)
    assert finetune.at_once(found["one after another"], here, 5) == 1
    assert finetune.at_once(found["side by side"], here, 5) == min(5, cpus)
    assert 2 * found["one after another"].cpus > cpus  # no room for a second one


def test_as_many_processes_are_warm_as_will_run(ray_cluster: None) -> None:
    resources = Resources(cpus=1.0)
    n = finetune.at_once(resources, Resources(cpus=4.0), 3)
    assert len(finetune.warm_up(resources, n)) == n == 3


def test_waiting_is_counted_to_the_first_line_and_to_the_first_step() -> None:
    program = (
        "import time; print('hello', flush=True); time.sleep(1); print('step 1/9', flush=True)"
    )
    found = start.waited(("-c", f"{program}; time.sleep(99)"))
    assert found.first_line_s > 0
    assert 0.9 < found.first_step_s - found.first_line_s < 10


def test_a_job_without_a_step_has_no_figure() -> None:
    with pytest.raises(RuntimeError, match="need a step of -c, got none"):
        start.waited(("-c", "print('no such thing')"))
