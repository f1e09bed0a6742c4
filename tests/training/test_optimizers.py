"""Optimizers and learning rates are those that the settings name, held against plain loops."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from emoray.methods.settings import OptimizerConfig
from emoray.training.optimizers import learning_rate, make_optimizer

RATE, DECAY = 0.1, 0.3


def rates(config: OptimizerConfig, n_steps: int) -> list[float]:
    return [learning_rate(config, step, steps_per_epoch=4, n_epochs=5) for step in range(n_steps)]


def test_the_schedule_is_the_papers_cosine_over_epochs() -> None:
    config, n_epochs = OptimizerConfig(), 100
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=config.learning_rate)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimizer, n_epochs, eta_min=config.min_learning_rate
    )
    for epoch in range(n_epochs):
        expected = optimizer.param_groups[0]["lr"]
        for step in (0, 6):
            rate = learning_rate(config, 7 * epoch + step, steps_per_epoch=7, n_epochs=n_epochs)
            assert rate == pytest.approx(expected, rel=1e-6)
        optimizer.step()
        reference.step()


def test_a_cosine_begins_at_the_learning_rate_and_ends_above_the_lowest() -> None:
    config = OptimizerConfig(learning_rate=0.5, min_learning_rate=0.1)
    found = rates(config, 20)
    assert found[:4] == [0.5] * 4  # constant within an epoch
    assert found[8] == pytest.approx(0.1 + 0.4 * (1 + math.cos(math.pi * 2 / 5)) / 2)
    assert found == sorted(found, reverse=True)
    assert found[-1] > 0.1


def test_a_staircase_is_multiplied_after_every_so_many_steps() -> None:
    config = OptimizerConfig(
        schedule="staircase", learning_rate=0.5, decay_factor=0.9, decay_every=3
    )
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
    reference = torch.optim.lr_scheduler.StepLR(optimizer, step_size=3, gamma=0.9)
    for step, rate in enumerate(rates(config, 20)):
        assert rate == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12), step
        optimizer.step()
        reference.step()
    assert rates(config, 4) == [0.5, 0.5, 0.5, 0.5 * 0.9]


def test_a_constant_rate_stays() -> None:
    config = OptimizerConfig(schedule="constant", learning_rate=0.5, min_learning_rate=0.1)
    assert rates(config, 50) == [0.5] * 50


# Weights -----------------------------------------------------------------------------------------


def module() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(2, 3).double()


def gradients(step: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(step)
    shapes = {"weight": (3, 2), "bias": (3,)}
    return {
        name: torch.randn(shape, generator=generator, dtype=torch.float64)
        for name, shape in shapes.items()
    }


def stepped(n_steps: int = 3, **settings: Any) -> dict[str, Tensor]:
    """Weights after steps on gradients that do not depend on them."""
    trained = module()
    config = OptimizerConfig(learning_rate=RATE, weight_decay=DECAY, **settings)
    optimizer = make_optimizer(config, trained)
    for step in range(n_steps):
        for name, gradient in gradients(step).items():
            trained.get_parameter(name).grad = gradient
        optimizer.step()
    return trained.state_dict()


def in_loops(
    kind: str, n_steps: int = 3, betas: tuple[float, float] = (0.9, 0.999), momentum: float = 0.0
) -> dict[str, list[float]]:
    """The same, number by number, as the optimizers' papers have it."""
    found = {}
    for name, start in module().state_dict().items():
        weights, m, v = start.flatten().tolist(), [0.0] * start.numel(), [0.0] * start.numel()
        for step in range(n_steps):
            for i, g in enumerate(gradients(step)[name].flatten().tolist()):
                if kind == "adamw":
                    weights[i] *= 1 - RATE * DECAY
                else:
                    g += DECAY * weights[i]
                if kind == "sgd":
                    m[i] = momentum * m[i] + g
                    weights[i] -= RATE * m[i]
                    continue
                m[i] = betas[0] * m[i] + (1 - betas[0]) * g
                v[i] = betas[1] * v[i] + (1 - betas[1]) * g * g
                first = m[i] / (1 - betas[0] ** (step + 1))
                second = v[i] / (1 - betas[1] ** (step + 1))
                weights[i] -= RATE * first / (math.sqrt(second) + 1e-8)
        found[name] = weights
    return found


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("adamw", {}),
        ("adam", {}),  # decay added to the gradient
        ("adam", {"betas": (0.5, 0.9)}),
        ("adamw", {"betas": (0.5, 0.9)}),
        ("sgd", {}),
        ("sgd", {"momentum": 0.9}),
    ],
)
def test_steps_are_those_of_the_optimizer_that_is_named(
    kind: str, settings: Mapping[str, Any]
) -> None:
    got, want = stepped(name=kind, **settings), in_loops(kind, **settings)
    for name, weights in got.items():
        assert weights.flatten().tolist() == pytest.approx(want[name], rel=1e-12), name


@pytest.mark.parametrize("kind", ["adamw", "adam", "sgd"])
def test_biases_decay_only_where_that_is_asked_for(kind: str) -> None:
    before = module().state_dict()
    for decay_biases in (True, False):
        config = OptimizerConfig(
            name=kind,  # type: ignore[arg-type]
            learning_rate=RATE,
            weight_decay=DECAY,
            decay_biases=decay_biases,
        )
        trained = module()
        optimizer = make_optimizer(config, trained)
        for parameter in trained.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        assert torch.equal(trained.bias, before["bias"]) is not decay_biases
        moved = trained.weight - before["weight"]
        assert torch.equal(moved.sign(), -before["weight"].sign())


@pytest.mark.parametrize("decay_biases", [True, False])
@pytest.mark.parametrize("part", ["both", "weight", "bias"])
def test_every_parameter_is_in_one_group_and_no_group_is_empty(
    part: str, decay_biases: bool
) -> None:
    trained: nn.Module = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))
    if part == "weight":
        trained = nn.Linear(2, 3, bias=False)
    if part == "bias":
        trained = nn.LayerNorm(3)
    groups = make_optimizer(OptimizerConfig(decay_biases=decay_biases), trained).param_groups
    placed = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(placed) == sorted(map(id, trained.parameters()))
    assert all(group["params"] for group in groups)


def test_a_frozen_parameter_does_not_decay() -> None:
    trained = module()
    before = trained.bias.clone()
    trained.bias.requires_grad_(False)
    optimizer = make_optimizer(OptimizerConfig(learning_rate=RATE, weight_decay=DECAY), trained)
    trained.weight.grad = torch.ones_like(trained.weight)
    optimizer.step()
    assert torch.equal(trained.bias, before)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"learning_rate": 0.0}, "need learning_rate > 0"),
        ({"min_learning_rate": -1.0}, "min_learning_rate >= 0"),
        ({"clip_norm": 0.0}, "need clip_norm > 0"),
        ({"betas": (0.9, 1.0)}, r"need betas and momentum in \[0, 1\)"),
        ({"momentum": -0.1}, r"need betas and momentum in \[0, 1\)"),
        ({"decay_factor": 0.0}, r"need decay_factor in \(0, 1\]"),
        ({"decay_every": 0}, "decay_every of at least 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong: Mapping[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        OptimizerConfig(**wrong)
