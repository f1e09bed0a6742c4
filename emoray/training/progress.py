"""What a person sees of a run while it runs, and the scalars that TensorBoard reads.

Workers may sit on other machines, so rank 0 tells a small actor (`Board`), and the driver asks it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayError
from rich.console import Console

from emoray.runtime.progress import Progress
from emoray.training.rows import NO_FAULT, Fault, Rows

if TYPE_CHECKING:
    from emoray.training.scalars import Scalars

POLL_S = 0.5
ANSWER_S = 5.0
"""Seconds that an actor has for its answer. What it carries is worth no longer wait."""


@ray.remote(num_cpus=0, max_restarts=-1)
class Board:
    """Holds what the driver has not fetched yet; where it is lost, Ray starts an empty one."""

    def __init__(self) -> None:
        self._rows: list[Rows] = []
        self._fault = NO_FAULT

    def tell_fault(self, fault: Fault) -> None:
        """Keep a worker's error; the first one is the cause, others follow from it.

        One that cannot pass is no consequence, whenever it comes.
        """
        if not self._fault.words or (self._fault.can_pass and not fault.can_pass):
            self._fault = fault

    def take_fault(self) -> Fault:
        """Hand over what was told since the last call; no words where workers were merely lost."""
        fault, self._fault = self._fault, NO_FAULT
        return fault

    def tell(self, rows: Rows) -> None:
        """Add finished steps."""
        self._rows.append(rows)

    def take(self) -> list[Rows]:
        """Hand over what came since the last call."""
        rows, self._rows = self._rows, []
        return rows


def tell_fault(board: Any, fault: Fault) -> None:
    """Tell a board of a worker's error, unless it is gone: the error itself rises all the same."""
    with contextlib.suppress(RayError):
        ray.get(board.tell_fault.remote(fault), timeout=ANSWER_S)


def last_fault(board: Any) -> Fault:
    """What workers told a board; `NO_FAULT` where it is gone or was told nothing."""
    try:
        fault: Fault = ray.get(board.take_fault.remote(), timeout=ANSWER_S)
    except RayError:
        return NO_FAULT
    return fault


def taken(actor: Any) -> list[Any]:
    """What an actor hands over since the last call; nothing where it is gone."""
    try:
        found: list[Any] = ray.get(actor.take.remote(), timeout=ANSWER_S)
    except RayError:
        return []
    return found


class Display:
    """Turns rows into progress and TensorBoard scalars.

    Args:
        n_steps: of the whole run.
        steps_per_epoch: to name the epoch.
        segments_per_step: of all workers together.
        tensorboard: folder for event files; None writes none.
        console: where to print.
    """

    def __init__(
        self,
        *,
        n_steps: int,
        steps_per_epoch: int,
        segments_per_step: int,
        tensorboard: Path | None,
        console: Console,
    ) -> None:
        self._n_steps = n_steps
        self._steps_per_epoch = steps_per_epoch
        self._segments_per_step = segments_per_step
        self._tensorboard = tensorboard
        self._scalars: Scalars | None = None
        self._progress = Progress(console, "starting workers", n_all=n_steps)
        self._done = 0
        self._done_before = 0
        self._has_begun = False
        if tensorboard:
            with self._bearing():
                from emoray.training.scalars import Scalars  # not what the actor above needs

                self._scalars = Scalars(tensorboard)

    @property
    def furthest(self) -> int:
        """Steps done, counted once however often they were repeated."""
        return self._done_before

    def __enter__(self) -> Display:
        self._progress.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.__exit__(*error)
        if self._scalars:
            with self._bearing():
                self._scalars.close()

    def show(self, rows: Rows) -> None:
        """Take in finished steps."""
        n = len(rows.columns["loss"])
        if n == 0:
            self._say_where_it_begins(rows.first_step)
            return
        self._write_scalars(rows)
        self._done = rows.first_step + n
        self._done_before = max(self._done_before, self._done)
        self._progress.show(self._done, self.line(rows), more=f"  {self._remaining(rows)}")

    def _say_where_it_begins(self, step: int) -> None:
        if step == self._n_steps:
            self._progress.say("the run is complete already")
        elif step or self._has_begun:
            self._progress.say(f"the run goes on from step {step}")
        self._has_begun = True

    def line(self, rows: Rows) -> str:
        """`epoch 3/100  step 812/27800  loss 5.1234  140 segments/s  data wait 2 %`."""
        n, spent_s = len(rows.columns["loss"]), sum(rows.columns["step_s"])
        done = rows.first_step + n
        epoch = (done - 1) // self._steps_per_epoch + 1
        rate = n * self._segments_per_step / max(spent_s, 1e-9)
        waiting = 100 * sum(rows.columns["wait_s"]) / max(spent_s, 1e-9)
        return (
            f"epoch {epoch}/{-(-self._n_steps // self._steps_per_epoch)}  "
            f"step {done}/{self._n_steps}  loss {rows.columns['loss'][-1]:.4f}  "
            f"{rate:.0f} segments/s  data wait {waiting:.0f} %"
        )

    def _remaining(self, rows: Rows) -> str:
        step_s = sum(rows.columns["step_s"]) / len(rows.columns["step_s"])
        seconds = round((self._n_steps - self._done) * step_s)
        hours, rest = divmod(seconds, 3600)
        return f"{hours}:{rest // 60:02}:{rest % 60:02} to go"

    def _write_scalars(self, rows: Rows) -> None:
        if self._scalars is not None:
            # Steps done again after a loss are the same numbers; once is enough.
            known = max(0, self._done_before - rows.first_step)
            fresh = {name: values[known:] for name, values in rows.columns.items()}
            with self._bearing():
                self._scalars.add(fresh, rows.first_step + known)

    @contextlib.contextmanager
    def _bearing(self) -> Iterator[None]:
        """Go on without TensorBoard's files where they cannot be written, and say so once."""
        try:
            yield
        except OSError as error:
            self._scalars = None
            self._progress.say(f"no more scalars for {self._tensorboard}: {error}")


class Counting:
    """Something done piece by piece.

    Args:
        what: is done: `read-out`.
        pieces: that are counted: `segments`.
        console: where to print.
    """

    def __init__(self, what: str, pieces: str, *, console: Console) -> None:
        self._what = what
        self._pieces = pieces
        self._progress = Progress(console, f"{what} starts")

    def __enter__(self) -> Counting:
        self._progress.__enter__()
        self._progress.log(f"{self._what} starts")
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.__exit__(*error)

    def show(self, n_done: int, n_all: int) -> None:
        """So many of so many are done."""
        self._progress.show(n_done, f"{self._what}  {n_done}/{n_all} {self._pieces}", n_all=n_all)


@contextlib.contextmanager
def watching(board: Any, display: Display) -> Iterator[None]:
    """Show a board's rows from a thread while the block runs."""
    stopped = threading.Event()

    def show_new() -> None:
        for rows in taken(board):
            display.show(rows)

    def poll() -> None:
        while not stopped.wait(POLL_S):
            show_new()

    with display:
        thread = threading.Thread(target=poll, name="progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stopped.set()
            thread.join()
            show_new()
