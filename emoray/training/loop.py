"""The one loop: whatever the method, a stage's batches become weights here.

It runs the same in a Ray Train worker, in a plain process and in a test; what differs is handed
in: a feed, a place for checkpoints, an ear for progress.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from emoray.batches import distributed
from emoray.batches.batch import Batch
from emoray.batches.feeds import Feed
from emoray.methods.base import Stage
from emoray.training.batch_norm import over_all_workers
from emoray.training.checkpoint import HISTORY, Best, State
from emoray.training.optimizers import learning_rate, make_optimizer
from emoray.training.rows import Rows

FLUSH_S = 1.0
"""Seconds between two looks at the losses; each look waits for the device."""


class Checkpoints(Protocol):
    """Where a run's states go. Every worker calls `save`; one of them writes."""

    def latest(self) -> State | None:
        """The state to go on from, None at a fresh start."""
        ...

    def save(self, state: State) -> None:
        """Keep this state; returns when losing the process no longer loses it."""
        ...


@dataclass(frozen=True)
class Trained:
    """What a run of the loop leaves."""

    module: nn.Module
    """Not wrapped, on the device; with the weights of the best epoch where epochs were scored."""
    history: dict[str, list[float]]
    """`HISTORY` columns, one value a step."""
    best: Best | None
    """None where no epoch was scored."""
    first_step: int = 0
    """That this process began with; steps before it are another's, as is their time."""


def train(
    stage: Stage,
    feed: Feed,
    *,
    steps_per_epoch: int,
    checkpoints: Checkpoints,
    checkpoint_every: int,
    device: torch.device,
    listen: Callable[[Rows], None] = lambda rows: None,
    score: Callable[[nn.Module], float] | None = None,
) -> Trained:
    """Run a stage from its latest checkpoint to its last epoch.

    Args:
        stage: builds the module and its losses.
        feed: this worker's share of the plan.
        steps_per_epoch: steps in one pass over the plan.
        checkpoints: where the run was, and where it is kept.
        checkpoint_every: steps between two checkpoints; the last step always makes one.
        device: of this worker.
        listen: hears where training begins, then of finished steps about once a second.
        score: of the module after each epoch, more is better; the first epoch with the highest is
            the best one. Without it the last epoch's weights are what the run leaves.

    Raises:
        FloatingPointError: the loss is no longer finite; names the step.
    """
    module = stage.build().to(device, _weight_dtype(stage))
    if distributed.world_size() > 1:
        module = over_all_workers(module)
    if stage.compile:
        module.compile()
    optimizer = make_optimizer(stage.optimizer, module)
    log = _Log()
    first_step, best = _restore(checkpoints, module, optimizer, log)
    listen(Rows(first_step, {name: [] for name in HISTORY}))
    n_steps = stage.epochs * steps_per_epoch
    parallel = in_parallel(module, device)
    log.rest_is_no_step()
    with contextlib.closing(feed.batches(first_step, n_steps)) as batches:
        for batch in batches:
            rate = learning_rate(
                stage.optimizer, batch.step, steps_per_epoch=steps_per_epoch, n_epochs=stage.epochs
            )
            losses, norm = take_step(
                stage, parallel, optimizer, batch.to(device, _weight_dtype(stage)), rate
            )
            log.add(losses, norm, rate, feed.waited_s)
            done = batch.step + 1
            at_checkpoint = done % checkpoint_every == 0 or done == n_steps
            is_scored = score is not None and done % steps_per_epoch == 0
            if at_checkpoint or is_scored or log.is_due():
                listen(log.flush(done))
            if score is not None and is_scored:
                best = _better(best, score(module), module)
                module.train()
            if at_checkpoint:
                checkpoints.save(
                    State(done, module.state_dict(), optimizer.state_dict(), log.history, best)
                )
            if at_checkpoint or is_scored:
                log.rest_is_no_step()
    if best is not None:
        module.load_state_dict(dict(best.model))
    return Trained(module, log.history, best, first_step)


def _better(best: Best | None, score: float, module: nn.Module) -> Best:
    """The best epoch once the module's, which has just ended, has this score.

    Raises:
        FloatingPointError: the score is not finite.
    """
    epoch = 0 if best is None else len(best.scores)
    if not math.isfinite(score):
        raise FloatingPointError(f"score of epoch {epoch} is {score}")
    if best is not None and score <= max(best.scores):
        return replace(best, scores=(*best.scores, score))
    scores = () if best is None else best.scores
    weights = {name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()}
    return Best(epoch, (*scores, score), weights)


def take_step(
    stage: Stage,
    parallel: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    rate: float,
) -> tuple[dict[str, Tensor], Tensor]:
    """One update of the weights.

    Args:
        stage: gives losses, precision and the norm to clip at.
        parallel: its module as `in_parallel` returned it.
        optimizer: of the module's parameters.
        batch: this worker's share of the step, on its device.
        rate: learning rate of this step.

    Returns:
        Scalars: `loss`, which is the weighted sum of the stage's, and, where it has several, each
        by its name; and the norm of the global gradient before clipping.

    Raises:
        ValueError: a weight for a loss that the stage does not have.
    """
    for group in optimizer.param_groups:
        group["lr"] = rate
    with _autocast(stage, batch.device):
        losses = stage.losses(parallel, batch)
    loss = _weighted(losses, stage.loss_weights)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    norm = nn.utils.clip_grad_norm_(parallel.parameters(), stage.optimizer.clip_norm)
    optimizer.step()
    named = losses if len(losses) > 1 else {}
    return {name: each.detach() for name, each in {"loss": loss, **named}.items()}, norm.detach()


def _weighted(losses: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """The sum that is minimised."""
    if unknown := sorted(set(weights) - set(losses)):
        raise ValueError(
            f"need weights of losses among {', '.join(losses)}; got {', '.join(unknown)}"
        )
    if "loss" in losses and len(losses) > 1:
        raise ValueError("need another name for one of several losses: `loss` is their sum")
    total, *others = [loss * weights.get(name, 1.0) for name, loss in losses.items()]
    for other in others:
        total = total + other
    return total


def _weight_dtype(stage: Stage) -> torch.dtype:
    return torch.float64 if stage.precision == "float64" else torch.float32


def _autocast(stage: Stage, device: torch.device) -> contextlib.AbstractContextManager[None]:
    if stage.precision != "bf16":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def in_parallel(module: nn.Module, device: torch.device) -> nn.Module:
    """The module as its gradient is shared: wrapped where there is somebody to share it with."""
    if distributed.world_size() == 1:
        return module
    return DistributedDataParallel(
        module,
        device_ids=[device] if device.type == "cuda" else None,
        gradient_as_bucket_view=True,
        broadcast_buffers=False,  # running statistics are of the global batch: equal already
    )


def _restore(
    checkpoints: Checkpoints, module: nn.Module, optimizer: torch.optim.Optimizer, log: _Log
) -> tuple[int, Best | None]:
    """Put the latest state into module, optimizer and log.

    Returns:
        The step to go on with, and the best epoch so far.
    """
    state = checkpoints.latest()
    if state is None:
        return 0, None
    module.load_state_dict(dict(state.model))
    optimizer.load_state_dict(dict(state.optimizer))
    log.history = {name: list(values) for name, values in state.history.items()}
    return state.step, state.best


@dataclass
class _Log:
    """Steps since the start; losses stay on the device until somebody looks.

    A GPU computes behind the process: handing it a step takes little of the step's time. The rest
    passes in `flush`, which waits for the losses and deals it out to the steps it waited for.
    """

    history: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in HISTORY})
    _pending: list[tuple[dict[str, Tensor], Tensor, float, float, float]] = field(
        default_factory=list
    )
    _step_began: float = field(default_factory=time.perf_counter)
    _flushed: float = field(default_factory=time.perf_counter)
    _waited_s: float = 0.0

    def add(self, losses: dict[str, Tensor], norm: Tensor, rate: float, waited_s: float) -> None:
        now = time.perf_counter()
        step_s, wait_s = now - self._step_began, waited_s - self._waited_s
        self._pending.append((losses, norm, rate, step_s, wait_s))
        self._step_began, self._waited_s = now, waited_s

    def rest_is_no_step(self) -> None:
        """What has passed since the last step is not the next one's.

        Then an epoch was scored or a checkpoint kept. Flush first: what is pending on the device
        would be waited for in there.
        """
        self._step_began = time.perf_counter()

    def is_due(self) -> bool:
        return time.perf_counter() - self._flushed > FLUSH_S

    def flush(self, done: int) -> Rows:
        """Move pending steps into the history; `done` steps of the run are finished."""
        first_step = done - len(self._pending)
        columns = self._columns()
        for name, values in columns.items():
            self.history.setdefault(name, []).extend(values)
        for i, loss in enumerate(columns["loss"]):
            if not math.isfinite(loss):
                raise FloatingPointError(f"loss is {loss} at step {first_step + i}")
        self._pending.clear()
        self._flushed = time.perf_counter()
        return Rows(first_step, columns)

    def _columns(self) -> dict[str, list[float]]:
        """Columns of the pending steps: those of `HISTORY`, then a loss each of several."""
        losses, norms, rates, steps_s, waits_s = zip(*self._pending, strict=True)
        by_name = {name: _values(each[name] for each in losses) for name in losses[0]}
        norm = _values(norms)
        now = time.perf_counter()
        behind_s = (now - self._step_began) / len(self._pending)
        self._step_began = now
        found = (
            by_name.pop("loss"),
            norm,
            list(rates),
            [step_s + behind_s for step_s in steps_s],
            list(waits_s),
        )
        return dict(zip(HISTORY, found, strict=True)) | by_name


def _values(scalars: Iterable[Tensor]) -> list[float]:
    """Numbers out of tensors; waits for the device."""
    return cast("list[float]", torch.stack(list(scalars)).double().tolist())
