"""Benchmarks time what they say: how many runs are at work at once, in processes that are there."""

from __future__ import annotations

import pytest
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import finetune, pretext, start
from emoray.experiments.schedule import Resources
from emoray.methods.ssl_ecg.config import EncoderConfig, PretextConfig
from emoray.methods.ssl_ecg.method import Pretext
from emoray.training import loop
from emoray.training.optimizers import make_optimizer


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


def test_the_arithmetic_of_a_pretext_step_is_what_torch_counts() -> None:
    """By hand: 2,560 x 32 x 32 + 2,560 x 32 x 32 x 32 in the first block, and so on."""
    by_hand = 2560 * 32 * (32 + 32 * 32) + 1277 * 16 * (32 * 64 + 64 * 64)
    by_hand += 635 * 8 * (64 * 128 + 128 * 128)
    assert sum(pretext.multiply_adds(EncoderConfig(), 2560)) == by_hand == 336_887_808
    config = PretextConfig(encoder=EncoderConfig.small(), n_hidden=4)
    stage, batch = Pretext(config), pretext.made(3, "cpu")
    module = stage.build()
    with FlopCounterMode(display=False) as counter:
        loop.take_step(stage, module, make_optimizer(stage.optimizer, module), batch, 1e-3)
    counted = counter.get_flop_counts()["Global"].items()
    of_convolutions = sum(n for operation, n in counted if "convolution" in str(operation))
    assert 3 * pretext.step_flop(config.encoder, 2560) == of_convolutions
