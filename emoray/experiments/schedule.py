"""Many runs spread over a cluster: what is ready goes out, what fails is named, the rest goes on.

A run waits until those that it starts from have ended. Every row is in the store before its task
ends, so a driver that is killed loses nothing that was finished.
"""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import floor
from typing import Any, Protocol, TextIO, cast

import ray
import torch

from emoray.experiments.graph import still_needed
from emoray.results.store import ResultRow, ResultStore
from emoray.runtime.cluster import CPUS_FOR_DATA
from emoray.runtime.console import open_console
from emoray.runtime.locks import hold
from emoray.runtime.ray_process import on_this_node, said_by
from emoray.runtime.storage import Storage
from emoray.training import checkpoint, driver
from emoray.training.data import open_data
from emoray.training.execute import UNFINISHED, check_code, execute
from emoray.training.progress import taken
from emoray.training.run import Execution, Run, Submission
from emoray.vocabulary.targets import from_plain

POLL_S = 2.0
"""Seconds between two looks at what such a run says."""


@dataclass(frozen=True)
class Resources:
    """What a run on one fold gets of a node."""

    cpus: float = 1.0
    gpus: float = 0.0
    """A fraction lets several small models share one GPU."""
    workers: int = 1
    """That have its steps together, each with so much."""


class Listener(Protocol):
    """Is told how the runs fare."""

    def group(self, run: Run, seconds: float | None) -> None:
        """A run on a group of workers begins (None) or has ended."""
        ...

    def said(self, line: str) -> None:
        """A line of the run that goes on a group of workers."""
        ...

    def finished(self, run: Run, row: ResultRow | None) -> None:
        """A run on a fold has ended; its row, where it is scored, is in the store."""
        ...

    def failed(self, what: str, runs: Sequence[Run], error: str) -> None:
        """Runs that will have no row this time, for one reason; `what` failed."""
        ...


@dataclass(frozen=True)
class Folders:
    """Where things are kept; every node must see them."""

    store: str
    """Of result rows."""
    runs: str
    """Of the runs' own folders."""

    def folder(self, run: Run) -> Storage:
        """A run's own folder."""
        return Storage.at(self.runs).sub(run.folder_name)


@dataclass(frozen=True)
class Rules:
    """How all runs are executed."""

    resources: Resources
    """Of each run on a fold."""
    over_corpus: Callable[[Run], Execution]
    """Of a run over the corpus: its workers."""
    allow_contaminated: bool = False
    """See `execute`."""
    keep: bool = False
    """Whether scored runs that nobody starts from leave their weights too."""
    watched: bool = False
    """Whether runs on a fold tell each step too, as those over the corpus do, and leave it to
    TensorBoard: as a group of workers, be it of one."""

    def execution(self, run: Run) -> Execution | None:
        """How a run goes on a group of workers; None where it is a task of its own."""
        if not run.fold:
            return self.over_corpus(run)
        resources = self.resources
        if resources.workers == 1 and not self.watched:
            return None
        return Execution(resources.workers, resources.cpus, resources.gpus)


def run_all(
    runs: Sequence[Run], *, folders: Folders, rules: Rules, listen: Listener
) -> dict[str, str]:
    """Run what is asked for and what that descends from, as many at a time as there is room for.

    Runs on groups of workers come first, and while one goes, only as many others as fit beside it:
    its workers must start together, and would wait behind a queue of runs that each take what gets
    free.

    Args:
        runs: that have no row yet.
        folders: where rows and checkpoints go.
        rules: how runs are executed.
        listen: is told of each end.

    Returns:
        Errors by the key of the asked run that they ended, in words.
    """
    state = _State(runs, rules, listen)
    # In `options`, GPUs would not end the process with its task, and CUDA would stay on the first.
    submit = ray.remote(num_cpus=rules.resources.cpus, num_gpus=rules.resources.gpus)(_run)
    relay = _start_relay()
    while state.unfinished:
        for run, execution in state.take_groups():
            submission = Submission(run, folders.runs, execution)
            task = _submit(submission, folders, rules, relay, keep=state.keeps(run))
            state.groups[task] = (run, time.monotonic())
            listen.group(run, None)
        for run in state.take_ready():
            task = submit.remote(
                run, folders, rules.resources, rules.allow_contaminated, state.keeps(run)
            )
            state.running[task] = run
        done, _ = ray.wait([*state.running, *state.groups], timeout=POLL_S)
        for line in taken(relay):
            listen.said(line)
        for task in done:
            state.take_in(task)
    return state.errors


def train(run: Run, *, folders: Folders, rules: Rules, listen: Listener) -> None:
    """Run one run over the corpus, unless it has ended already.

    Raises:
        RuntimeError: it failed; in the worker's own words.
    """
    errors = run_all([run], folders=folders, rules=rules, listen=listen)
    if errors:
        raise RuntimeError(errors[run.key])


class _State:
    """Which run waits for what."""

    def __init__(self, runs: Sequence[Run], rules: Rules, listen: Listener) -> None:
        self._rules = rules
        self._listen = listen
        self._asked = {run.key: run for run in runs}
        needed = still_needed(runs)
        self._started_from = {
            origin.run.key
            for run in needed.values()
            for origin in run.starts.values()
            if origin.run is not None
        }
        self._waiting = needed
        """By key, in the order in which they may go."""
        self.running: dict[Any, Run] = {}
        self.groups: dict[Any, tuple[Run, float]] = {}
        self.errors: dict[str, str] = {}

    @property
    def unfinished(self) -> bool:
        return bool(self._waiting or self.running or self.groups)

    def keeps(self, run: Run) -> bool:
        """Whether a run's weights are wanted beside its row."""
        return self._rules.keep or run.key in self._started_from

    def take_groups(self) -> list[tuple[Run, Execution]]:
        """Runs that a group of workers may begin now.

        One over the corpus has no other group beside it: it may take the whole cluster.
        """
        taken: list[tuple[Run, Execution]] = []
        going = [run for run, _ in self.groups.values()]
        for run in self._ready():
            execution = self._rules.execution(run)
            if execution is None:
                continue
            if going and not (all(one.fold for one in (run, *going)) and self._fits(going)):
                break
            taken.append((self._waiting.pop(run.key), execution))
            going.append(run)
        return taken

    def _fits(self, going: Sequence[Run]) -> bool:
        """Whether one more group of a run on a fold has room beside these."""
        return _room_beside(going, self._rules) >= self._rules.resources.workers

    def take_ready(self) -> list[Run]:
        """Runs that may begin now as tasks of their own."""
        ready = [run for run in self._ready() if self._rules.execution(run) is None]
        if self.groups:
            busy = [run for run, _ in self.groups.values()]
            ready = ready[: max(0, _room_beside(busy, self._rules) - len(self.running))]
        return [self._waiting.pop(run.key) for run in ready]

    def _ready(self) -> list[Run]:
        """Of those that wait the ones that nothing keeps."""
        going = {run.key for run in self.running.values()}
        going |= {run.key for run, _ in self.groups.values()}
        open_ones = going | set(self._waiting)
        return [
            run
            for run in self._waiting.values()
            if not any(o.run is not None and o.run.key in open_ones for o in run.starts.values())
        ]

    def take_in(self, task: Any) -> None:
        """Take note of a task's end."""
        if task in self.running:
            run = self.running.pop(task)
            self._end(task, run)
        else:
            run, began = self.groups.pop(task)
            if self._end(task, run):
                self._listen.group(run, time.monotonic() - began)

    def _end(self, task: Any, run: Run) -> bool:
        """Whether it ended well."""
        try:
            row = ray.get(task)
        except ray.exceptions.RayError as error:
            self._fail(run, error)
            return False
        if run.fold:
            self._listen.finished(run, row)
        return True

    def _fail(self, run: Run, error: Exception) -> None:
        what = words_of(run)
        lost = [run, *self._drop_descendants(run)]
        said = said_by(error)
        asked = [one for one in lost if one.key in self._asked]
        self.errors.update({one.key: f"{what}: {said}" for one in asked})
        self._listen.failed(what, [one for one in lost if one.fold], said)

    def _drop_descendants(self, run: Run) -> list[Run]:
        """Those that start from it, from one of these, and so on; not from weights that are there.

        Each waits behind those that it starts from: one look is enough.
        """
        lost = {run.key: run}
        for one in list(self._waiting.values()):
            before = [origin.run for origin in one.starts.values() if origin.run is not None]
            if any(start.key in lost for start in before):
                lost[one.key] = self._waiting.pop(one.key)
        return list(lost.values())[1:]


def words_of(run: Run) -> str:
    """`faced-eeg-0d9cf00c654e subjects_apart 1_of_3 seed 0`, `pretraining emod-pretrain-0d9cf0`;
    of a run that only others need, by its stage: `student on faced-eeg-0d9cf00c654e ...`."""
    if not run.fold:
        return f"pretraining {run.folder_name}"
    stage = "" if run.chosen_by else f"{run.stage} on "
    data = " ".join([*run.builds, *target_words(run)])
    return f"{stage}{data} {run.protocol} {run.fold} seed {run.seed}"


def target_words(run: Run) -> tuple[str, ...]:
    """What a run on a fold tells apart, in words; none where it is the publisher's classes."""
    words = from_plain(run.target).words if run.target is not None else ""
    return (words,) if words else ()


def _room_beside(groups: Sequence[Run], rules: Rules) -> int:
    """Runs that fit on what the cluster has now beside the workers of these.

    The CPU that is kept for data stays out: on a laptop it is no core, and threads of a worker that
    wait for each other on taken cores slow it down tenfold.
    """
    total: dict[str, float] = ray.cluster_resources()
    how = [execution for run in groups if (execution := rules.execution(run))]
    cpus = sum(one.n_workers * one.cpus_per_worker for one in how)
    gpus = sum(one.n_workers * one.gpus_per_worker for one in how)
    room = (total.get("CPU", 0.0) - CPUS_FOR_DATA - cpus) / rules.resources.cpus
    if rules.resources.gpus:
        room = min(room, (total.get("GPU", 0.0) - gpus) / rules.resources.gpus)
    return floor(room + 1e-6)


def _run(
    run: Run, folders: Folders, resources: Resources, allow_contaminated: bool, keep: bool
) -> ResultRow | None:
    """The task of one run; of two jobs that ask for the same, the second finds what it left."""
    device = torch.device("cuda" if resources.gpus else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(max(1, int(resources.cpus)))
    store = ResultStore(folders.store)
    with hold(Storage.at(folders.runs), run.key, wait=True, tell=print):
        is_done, row = _known(run, folders, store, keep=keep)
        if is_done:
            _tidy(run, folders.folder(run), keep=keep)
            return row
        return execute(
            run,
            folder=folders.folder(run),
            device=device,
            allow_contaminated=allow_contaminated,
            keep=keep,
            store=store,
        )


def _tidy(run: Run, folder: Storage, *, keep: bool) -> None:
    """Leave of a run on a fold that has ended what is wanted of it, and no more."""
    if not run.fold or not folder.exists():
        return
    if run.chosen_by and not keep:
        folder.filesystem.delete_dir(folder.root)
    else:
        checkpoint.sweep(folder, keep=1)
        with contextlib.suppress(FileNotFoundError):
            folder.filesystem.delete_dir(folder.path(UNFINISHED))


def _known(
    run: Run, folders: Folders, store: ResultStore, *, keep: bool
) -> tuple[bool, ResultRow | None]:
    """Whether a run has left already what is wanted of it, and its row."""
    row = store.get(run.key) if run.chosen_by else None
    has_weights = driver.has_ended(folders.folder(run), run)
    if run.chosen_by:
        return row is not None and (has_weights or not keep), row
    return has_weights, None


@ray.remote(num_cpus=0, max_restarts=-1)
class _Relay:
    """Carries lines from a task to whoever shows them; lost, it begins afresh."""

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


def _submit(
    submission: Submission, folders: Folders, rules: Rules, relay: Any, *, keep: bool
) -> Any:
    """Start the task of a run on a group of workers; it takes nothing, its workers do.

    It stays on this node, and so does the controller that it starts: on any other it would be one
    more node whose end costs the run its driver.
    """
    task = ray.remote(num_cpus=0, scheduling_strategy=on_this_node())(_fit)
    return task.remote(submission, folders, rules.allow_contaminated, keep, relay)


def _fit(
    submission: Submission, folders: Folders, allow_contaminated: bool, keep: bool, relay: Any
) -> ResultRow | None:
    """The task: it waits while Ray Train's workers do the work.

    Raises:
        ValueError: this process runs other code than the one that planned the run.
    """
    run, store = submission.run, ResultStore(folders.store)
    check_code(run)
    with hold(Storage.at(folders.runs), run.folder_name, wait=True, tell=relay.tell.remote):
        is_done, row = _known(run, folders, store, keep=keep)
        if is_done:
            _tidy(run, submission.folder, keep=keep)
            return row
        found = open_data(run)
        plan = found.plan(found.stage())
        driver.check(submission, plan)
        driver.start(submission, plan)
        driver.fit(
            submission,
            found,
            console=open_console(file=cast(TextIO, _ToRelay(relay))),
            store=folders.store if run.chosen_by else "",
            allow_contaminated=allow_contaminated,
            keep=keep,
        )
        _tidy(run, submission.folder, keep=keep)
        return store.get(run.key) if run.chosen_by else None
