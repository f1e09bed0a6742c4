"""Weight updates as settings say: the optimizer, and the learning rate of each step."""

from __future__ import annotations

import math

import torch
from torch import nn

from emoray.methods.settings import OptimizerConfig


def make_optimizer(config: OptimizerConfig, module: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of all of a module's parameters."""
    groups = _groups(config, module)
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum)
    kind = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
    return kind(groups, lr=config.learning_rate, betas=config.betas)


def _groups(config: OptimizerConfig, module: nn.Module) -> list[dict[str, object]]:
    """Parameters with their decay; those of one axis (biases, norms) without, where asked."""
    everything = list(module.parameters())
    if config.decay_biases:
        return [{"params": everything, "weight_decay": config.weight_decay}]
    groups = []
    for is_bias, decay in ((False, config.weight_decay), (True, 0.0)):
        if found := [p for p in everything if (p.ndim < 2) is is_bias]:
            groups.append({"params": found, "weight_decay": decay})
    return groups


def learning_rate(
    config: OptimizerConfig, step: int, *, steps_per_epoch: int, n_epochs: int
) -> float:
    """Of a step, counted from the run's start: a function of its number, with no state to keep.

    `cosine` falls from `learning_rate` to `min_learning_rate` over all epochs and is constant
    within one (the paper's CosineAnnealingLR); `staircase` multiplies by `decay_factor` after every
    `decay_every` steps.
    """
    if config.schedule == "constant":
        return config.learning_rate
    if config.schedule == "staircase":
        return config.learning_rate * config.decay_factor ** (step // config.decay_every)
    cosine = (1 + math.cos(math.pi * (step // steps_per_epoch) / n_epochs)) / 2
    return config.min_learning_rate + (config.learning_rate - config.min_learning_rate) * cosine
