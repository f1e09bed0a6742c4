"""Faults of a run: which of them can pass, in which words, and how long to wait for that.

A lost worker, node or controller and storage that does not answer may be back in a moment. A full
disk, a damaged file or a loss that is not finite would be met again.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

import ray
import ray.train
import torch
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.train.v2._internal.exceptions import RayTrainError

from emoray.runtime.ray_process import said_by
from emoray.training.rows import Fault

T = TypeVar("T")

PAUSES_S = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)
"""Waited after the first fault in a row, the second, ...; the last one after all further ones."""

LASTING = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS),
    *(errno.EACCES, errno.EPERM, errno.ENAMETOOLONG),
}
"""What a file system says that it will say again; all else (a server that is away) may pass."""

ARISING = (RayTrainError, RayError, OSError)
"""What a cluster or a storage throws at a driver; all else is a mistake of ours."""


def fault_of(error: Exception, *, who: str = "") -> Fault:
    """An error as a fault.

    Args:
        error: as a worker's code or a driver's call of Ray raised it.
        who: met it, said before the error's own words.
    """
    before = f"{who}: " if who else ""
    return Fault(_words(error, before), _can_pass(error))


def _can_pass(error: BaseException) -> bool:
    """Whether a fresh process may be spared what this one met."""
    if isinstance(error, ray.train.ControllerError):
        cause = error.controller_failure
        return _can_pass(cause) if isinstance(cause, OSError) else True
    if isinstance(error, RayTaskError):
        return _can_pass(error.cause)
    if isinstance(error, OSError):
        return error.errno not in LASTING
    if isinstance(error, torch.OutOfMemoryError | NotImplementedError | RecursionError):
        return False
    # A peer that is gone is a plain RuntimeError in torch's words.
    return isinstance(error, RayTrainError | RayError | RuntimeError)


def _words(error: Exception, before: str) -> str:
    if isinstance(error, ray.train.WorkerGroupError):
        return "a worker was lost"
    if isinstance(error, ray.train.ControllerError):
        return f"{before}Ray Train's controller: {said_by(error.controller_failure)}"
    if isinstance(error, RayActorError):
        return f"{before}Ray Train's controller was lost"
    return before + said_by(error)


class Patience:
    """Counts faults in a row, between which a run made no progress.

    Args:
        most: faults in a row that are survived.
        pauses_s: see `PAUSES_S`.
    """

    def __init__(self, most: int, pauses_s: tuple[float, ...] = PAUSES_S) -> None:
        self._most = most
        self._pauses_s = pauses_s
        self._n = 0
        self._reached = -1

    def pause_s(self, reached: int) -> float | None:
        """Seconds to wait after another fault; None where it is time to give up.

        Args:
            reached: steps that the run has done so far; more than at the last fault is progress.
        """
        self._n = 1 if reached > self._reached else self._n + 1
        self._reached = max(reached, self._reached)
        if self._n > self._most:
            return None
        return self._pauses_s[min(self._n, len(self._pauses_s)) - 1]


def persist(action: Callable[[], T], *, most: int, pauses_s: tuple[float, ...] = PAUSES_S) -> T:
    """Do something until no fault that can pass comes between.

    Args:
        action: may be done again from the start at any time.
        most: faults that are survived.
        pauses_s: see `PAUSES_S`.

    Raises:
        Exception: the first error that cannot pass, or the last one that could.
    """
    patience = Patience(most, pauses_s)
    while True:
        try:
            return action()
        except ARISING as error:
            pause_s = patience.pause_s(0) if fault_of(error).can_pass else None
            if pause_s is None:
                raise
            time.sleep(pause_s)


def apart(action: Callable[[], T]) -> T:
    """Do something in a thread of its own, and wait for its end.

    In the main thread Ray Train puts a handler of its own in the place of whoever listens for
    SIGINT, for good; and signals are heard at once while that thread waits here.
    """
    future: Future[T] = Future()

    def act() -> None:
        try:
            future.set_result(action())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=act, name="apart", daemon=True).start()
    return future.result()
