"""Many runs spread over a cluster: what is ready goes out, what fails is named, the rest goes on.

A run that starts from a checkpoint waits until that is there. Every row is in the store before
its task ends, so a driver that is killed loses nothing that was finished.
"""

from __future__ import annotations

import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor
from typing import Any, Protocol, TextIO, cast

import ray
import torch

from emoray.results.store import ResultRow, ResultStore
from emoray.runtime.cluster import CPUS_FOR_DATA
from emoray.runtime.console import open_console
from emoray.runtime.locks import hold
from emoray.runtime.ray_process import on_this_node, said_by
from emoray.runtime.storage import Storage
from emoray.training import driver
from emoray.training.loop import training_code
from emoray.training.progress import taken
from emoray.training.run import FoldRun, execute

AT_ONCE = 1
"""Pretrainings that run at a time: each may take the whole cluster."""
POLL_S = 2.0
"""Seconds between two looks at what a pretraining says."""


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

    def said(self, line: str) -> None:
        """A line of the pretraining that runs."""
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

    Pretrainings come first, and while one runs, only as many runs as fit beside it: its workers
    must start together, and would wait behind a queue of runs that each take what gets free.

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
    ended = {at for at, request in pretrainings.items() if driver.has_ended(request)}
    state = _State(runs, {at: r for at, r in pretrainings.items() if at not in ended}, listen)
    # In `options`, GPUs would not end the process with its task, and CUDA would stay on the first.
    submit = ray.remote(num_cpus=share.cpus, num_gpus=share.gpus)(_run)
    relay = _start_relay()
    while state.unfinished:
        for location in state.take_pretrainings():
            request = state.requests[location]
            task = _submit(request, relay)
            state.pretraining[task] = (location, time.monotonic())
            listen.pretraining(request.name, None)
        for run in state.take_ready(share):
            task = submit.remote(run, places, share, allow_contaminated, keep)
            state.running[task] = run
        done, _ = ray.wait([*state.running, *state.pretraining], timeout=POLL_S)
        for line in taken(relay):
            listen.said(line)
        for task in done:
            state.take_in(task)
    return state.errors


def pretrain(request: driver.Request, listen: Listener) -> None:
    """Run one pretraining, unless it has ended already.

    Raises:
        RuntimeError: it failed; in the worker's own words.
    """
    if driver.has_ended(request):
        return
    began = time.monotonic()
    listen.pretraining(request.name, None)
    relay = _start_relay()
    task = _submit(request, relay)
    try:
        while not ray.wait([task], timeout=POLL_S)[0]:
            for line in taken(relay):
                listen.said(line)
        ray.get(task)
    except ray.exceptions.RayError as error:
        raise RuntimeError(f"pretraining {request.name}: {said_by(error)}") from error
    listen.pretraining(request.name, time.monotonic() - began)


class _State:
    """Who waits for what."""

    def __init__(
        self,
        runs: Sequence[FoldRun],
        requests: Mapping[str, driver.Request],
        listen: Listener,
    ) -> None:
        self.requests = requests
        """Pretrainings that have not ended, by the checkpoint that they end with."""
        self._listen = listen
        self._waiting = [run for run in runs if run.checkpoint in requests]
        self._ready = [run for run in runs if run.checkpoint not in requests]
        # In the order of the runs that wait for them.
        self._to_pretrain = list(dict.fromkeys(run.checkpoint for run in self._waiting))
        self.running: dict[Any, FoldRun] = {}
        self.pretraining: dict[Any, tuple[str, float]] = {}
        self.errors: dict[str, str] = {}

    @property
    def unfinished(self) -> bool:
        return bool(self._ready or self._waiting or self.running)

    def take_ready(self, share: Share) -> list[FoldRun]:
        n = len(self._ready)
        if self.pretraining:
            taken = [self.requests[location] for location, _ in self.pretraining.values()]
            n = max(0, _room_beside(taken, share) - len(self.running))
        ready, self._ready = self._ready[:n], self._ready[n:]
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
        name = self.requests[location].name
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


def _room_beside(pretrainings: Sequence[driver.Request], share: Share) -> int:
    """Runs that fit on what the cluster has now beside the workers of these pretrainings.

    The CPU that is kept for data stays out: on a laptop it is no core, and threads of a worker that
    wait for each other on taken cores slow it down tenfold.
    """
    total: dict[str, float] = ray.cluster_resources()
    cpus = sum(request.n_workers * request.cpus_per_worker for request in pretrainings)
    gpus = sum(request.n_workers * request.gpus_per_worker for request in pretrainings)
    room = (total.get("CPU", 0.0) - CPUS_FOR_DATA - cpus) / share.cpus
    if share.gpus:
        room = min(room, (total.get("GPU", 0.0) - gpus) / share.gpus)
    return floor(room + 1e-6)


def _run(
    run: FoldRun, places: Places, share: Share, allow_contaminated: bool, keep: bool
) -> ResultRow:
    """The task of one run; of two jobs that ask for the same, the second finds the row."""
    device = torch.device("cuda" if share.gpus else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(max(1, int(share.cpus)))
    store = ResultStore(places.store)
    with hold(Storage.at(places.scratch), run.key, wait=True, tell=print):
        known = store.get(run.key)
        if known is not None:
            return known
        return execute(
            run,
            scratch=places.folder(run),
            device=device,
            allow_contaminated=allow_contaminated,
            keep=keep,
            store=store,
        )


@ray.remote(num_cpus=0, max_restarts=-1)
class _Relay:
    """Carries lines from a pretraining's task to whoever shows them; lost, it begins afresh."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def tell(self, text: str) -> None:
        """Add what was printed."""
        self._lines += [line for line in text.splitlines() if line.strip()]

    def take(self) -> list[str]:
        """Hand over what came since the last call."""
        lines, self._lines = self._lines, []
        return lines


def _start_relay() -> Any:
    """A relay that no other node's end takes with it."""
    return _Relay.options(scheduling_strategy=on_this_node()).remote()  # type: ignore[attr-defined]


class _ToRelay(io.TextIOBase):
    """A file whose lines go to a relay."""

    def __init__(self, relay: Any) -> None:
        self._relay = relay

    def write(self, text: str) -> int:
        """Pass on what is printed."""
        self._relay.tell.remote(text)
        return len(text)


def _submit(request: driver.Request, relay: Any) -> Any:
    """Start a pretraining's task; it takes nothing, its workers do.

    It stays on this node, and so does the controller that it starts: on any other it would be one
    more node whose end costs the run its driver.
    """
    task = ray.remote(num_cpus=0, scheduling_strategy=on_this_node())(_pretrain)
    return task.remote(request, training_code(request.method), relay)


def _pretrain(request: driver.Request, code: str, relay: Any) -> None:
    """The task of one pretraining: it waits while Ray Train's workers do the work.

    Raises:
        ValueError: this process runs other code than the one that named the pretraining.
    """
    here = training_code(request.method)
    if here != code:
        raise ValueError(f"need the code that it was planned with ({code}), got {here}")
    plan = request.make_plan(request.open_corpus())
    with hold(Storage.at(request.storage), request.name, wait=True, tell=relay.tell.remote):
        if driver.has_ended(request):
            return
        driver.check(request, plan)
        driver.start(request, plan)
        relayed = open_console(file=cast(TextIO, _ToRelay(relay)))
        driver.fit(request, plan, console=relayed)
