"""Many runs spread over a cluster: what is ready goes out, what fails is named, the rest goes on.

A run that starts from a checkpoint waits until that is there. Every row is in the store before
its task ends, so a driver that is killed loses nothing that was finished.
"""

from __future__ import annotations

import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import ray
import torch
from rich.console import Console

from emoray.results import ResultRow, ResultStore
from emoray.storage import Storage
from emoray.training import driver
from emoray.training.run import FoldRun, execute

AT_ONCE = 1
"""Pretrainings that run at a time: each may take the whole cluster."""


@dataclass(frozen=True)
class Share:
    """What one classifier run gets of a node."""

    cpus: float = 1.0
    gpus: float = 0.0
    """A fraction lets several small models share one GPU."""


class Listener(Protocol):
    """Hears how the runs fare."""

    def pretraining(self, name: str, seconds: float | None) -> None:
        """One begins (None) or has ended."""
        ...

    def finished(self, run: FoldRun, row: ResultRow) -> None:
        """A row is in the store."""
        ...

    def failed(self, what: str, runs: Sequence[FoldRun], error: str) -> None:
        """Runs that will have no row this time, for one reason; `what` failed."""
        ...


@dataclass(frozen=True)
class Places:
    """Where things are kept; every node must see them."""

    store: str
    """Of result rows."""
    scratch: str
    """Of the runs' own checkpoints, a folder each."""

    def folder(self, run: FoldRun) -> Storage:
        """A run's own folder."""
        return Storage.at(self.scratch).sub(run.key)


def run_all(
    runs: Sequence[FoldRun],
    pretrainings: Mapping[str, driver.Request],
    *,
    places: Places,
    share: Share,
    listen: Listener,
    allow_contaminated: bool = False,
    keep: bool = False,
) -> dict[str, str]:
    """Run what is asked for, as many at a time as the cluster has room for.

    Args:
        runs: that have no row yet.
        pretrainings: by the checkpoint that they end with; those that no run starts from are
            left alone, and one that has ended is not run again.
        places: where rows and checkpoints go.
        share: of each run.
        listen: hears of each end.
        allow_contaminated: see `run.execute`.
        keep: see `run.execute`.

    Returns:
        Errors by the key of the run that they ended, in words.
    """
    state = _State(list(runs), pretrainings, listen)
    submit = ray.remote(_run).options(num_cpus=share.cpus, num_gpus=share.gpus)
    while state.unfinished:
        for run in state.take_ready():
            task = submit.remote(run, places, share, allow_contaminated, keep)
            state.running[task] = run
        for location in state.take_pretrainings():
            task = ray.remote(_pretrain).options(num_cpus=0).remote(pretrainings[location])
            state.pretraining[task] = (location, time.monotonic())
            listen.pretraining(pretrainings[location].name, None)
        (task,), _ = ray.wait([*state.running, *state.pretraining], num_returns=1)
        state.take_in(task)
    return state.errors


def pretrain(request: driver.Request, listen: Listener) -> None:
    """Run one pretraining, unless it has ended already.

    Raises:
        RuntimeError: it failed; in the worker's own words.
    """
    began = time.monotonic()
    listen.pretraining(request.name, None)
    try:
        ray.get(ray.remote(_pretrain).options(num_cpus=0).remote(request))
    except ray.exceptions.RayError as error:
        raise RuntimeError(f"pretraining {request.name}: {said_by(error)}") from error
    listen.pretraining(request.name, time.monotonic() - began)


class _State:
    """Who waits for what."""

    def __init__(
        self, runs: list[FoldRun], pretrainings: Mapping[str, driver.Request], listen: Listener
    ) -> None:
        self._requests = pretrainings
        self._listen = listen
        self._waiting = [run for run in runs if run.checkpoint in pretrainings]
        self._ready = [run for run in runs if run.checkpoint not in pretrainings]
        # In the order of the runs that wait for them.
        self._to_pretrain = list(dict.fromkeys(run.checkpoint for run in self._waiting))
        self.running: dict[Any, FoldRun] = {}
        self.pretraining: dict[Any, tuple[str, float]] = {}
        self.errors: dict[str, str] = {}

    @property
    def unfinished(self) -> bool:
        return bool(self._ready or self._waiting or self.running)

    def take_ready(self) -> list[FoldRun]:
        ready, self._ready = self._ready, []
        return ready

    def take_pretrainings(self) -> list[str]:
        n_free = AT_ONCE - len(self.pretraining)
        taken, self._to_pretrain = self._to_pretrain[:n_free], self._to_pretrain[n_free:]
        return taken

    def take_in(self, task: Any) -> None:
        """Take note of a task's end."""
        if task in self.running:
            self._end_run(task, self.running.pop(task))
        else:
            self._end_pretraining(task, *self.pretraining.pop(task))

    def _end_run(self, task: Any, run: FoldRun) -> None:
        try:
            row = ray.get(task)
        except ray.exceptions.RayError as error:
            self._fail(f"{run.dataset} {run.protocol} {run.fold} seed {run.seed}", [run], error)
        else:
            self._listen.finished(run, row)

    def _end_pretraining(self, task: Any, location: str, began: float) -> None:
        mine = [run for run in self._waiting if run.checkpoint == location]
        self._waiting = [run for run in self._waiting if run.checkpoint != location]
        name = self._requests[location].name
        try:
            ray.get(task)
        except ray.exceptions.RayError as error:
            self._fail(f"pretraining {name}", mine, error)
        else:
            self._listen.pretraining(name, time.monotonic() - began)
            self._ready.extend(mine)

    def _fail(self, what: str, runs: Sequence[FoldRun], error: Exception) -> None:
        said = said_by(error)
        self.errors.update({run.key: f"{what}: {said}" for run in runs})
        self._listen.failed(what, runs, said)


def said_by(error: Exception) -> str:
    """A task's own words, without the trace of where Ray passed them on."""
    cause = getattr(error, "cause", None) or error
    lines = str(cause).strip().splitlines() or ["no message"]
    return f"{type(cause).__name__}: {lines[0]}"


def _run(
    run: FoldRun, places: Places, share: Share, allow_contaminated: bool, keep: bool
) -> ResultRow:
    """The task of one run."""
    device = torch.device("cuda" if share.gpus else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(max(1, int(share.cpus)))
    row = execute(
        run,
        scratch=places.folder(run),
        device=device,
        allow_contaminated=allow_contaminated,
        keep=keep,
    )
    ResultStore(places.store).add(row)
    if device.type == "cuda":
        torch.cuda.empty_cache()  # the process stays, and other runs share the GPU
    return row


def _pretrain(request: driver.Request) -> None:
    """The task of one pretraining: it waits while Ray Train's workers do the work."""
    plan = request.make_plan(request.open_corpus())
    driver.check(request, plan)
    if not driver.has_ended(request):
        driver.start(request, plan)
        driver.fit(request, plan, console=Console(file=io.StringIO()))
