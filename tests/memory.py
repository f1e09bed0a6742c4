"""Checkpoints in memory, for tests of what the loop computes."""

from __future__ import annotations

import torch
from torch import Tensor

from emoray.training.checkpoint import State


class Memory:
    """Checkpoints that a test can look at."""

    def __init__(self, start: State | None = None) -> None:
        self.states: list[State] = [] if start is None else [start]
        self.start = start

    def latest(self) -> State | None:
        return self.start

    def save(self, state: State) -> None:
        copied = {name: tensor.clone() for name, tensor in state.model.items()}
        optimizer = torch.utils._pytree.tree_map(
            lambda x: x.clone() if isinstance(x, Tensor) else x, dict(state.optimizer)
        )
        history = {name: list(values) for name, values in state.history.items()}
        self.states.append(State(state.step, copied, optimizer, history, state.best))
