"""How a job ends: by itself, with an error in one line, or because it is asked to stop.

SIGTERM comes from `ray job stop`, from SLURM and from a cloud that wants its spot machine back,
SIGINT from a keyboard. A job that hears one says in one line how to go on, and leaves no process.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import NoReturn

STOPPING = (signal.SIGTERM, signal.SIGINT)
GRACE_S = 8.0
"""Seconds that a job has to let go of what it holds; `ray job stop` and SLURM kill it at last."""

_again: list[str] = []
"""Commands that go on with what runs now, innermost last."""


class Stopped(BaseException):
    """The job is asked to stop. No Exception: nobody may take it for a fault and try again."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"asked to stop by {signal.Signals(signum).name}")
        self.code = 128 + signum
        """Exit status by the shells' convention: 143 for SIGTERM, 130 for SIGINT."""


def run_job(main: Callable[[], int | None]) -> NoReturn:
    """Run a job in the main thread until it ends, and the process with it.

    The exit status is what `main` returns; 1 after an error that a person can do something about,
    which is told in one line; 128 and the signal's number where the job was asked to stop.
    """
    before = {signum: signal.signal(signum, _stop) for signum in STOPPING}
    try:
        with resumable("python", *sys.argv):
            code = main() or 0
    except Stopped as stopped:
        _end(stopped.code)
    except Exception as error:
        said = _in_one_line(error)
        if said is None:
            raise
        _leave(f"error: {said}")
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
    _leave(code)


@contextlib.contextmanager
def resumable(*command: str) -> Iterator[None]:
    """While the block runs, this is the command that goes on with what the job does."""
    _again.append(shlex.join(command))
    try:
        yield
    except Stopped as stopped:
        _say_stopped()
        raise stopped from None
    finally:
        _again.pop()


def _stop(signum: int, frame: object) -> None:
    """Let the main thread unwind, and see to it that the process ends if it cannot."""
    for each in STOPPING:
        signal.signal(each, signal.SIG_IGN)
    stopped = Stopped(signum)
    late = threading.Timer(GRACE_S, _end, (stopped.code,))
    late.daemon = True
    late.start()
    raise stopped


_said = threading.Lock()
"""Taken by whoever says that the job stops: once is enough."""


def _say_stopped() -> None:
    if _said.acquire(blocking=False):
        with contextlib.suppress(OSError):
            print(f"stopped; go on with: {_again[-1]}", file=sys.stderr, flush=True)


def _end(code: int) -> NoReturn:
    """End this process and all that it started, whatever its threads are at."""
    if _again:
        _say_stopped()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    if "ray" in sys.modules:
        from emoray import ray_process

        ray_process.leave()
    os._exit(code)


def _leave(code: int | str) -> NoReturn:
    """Leave the cluster, where there is one, and end the process.

    Args:
        code: exit status, or what to say before status 1.
    """
    if "ray" in sys.modules:  # else nothing was joined, and it takes seconds to load
        from emoray import ray_process

        if not ray_process.leave():
            print(code, file=sys.stderr) if isinstance(code, str) else None
            _end(1 if isinstance(code, str) else code)
    sys.exit(code)


def _in_one_line(error: Exception) -> str | None:
    """What to say of an error; None where it is our own mistake, whose trace is needed."""
    if "ray" in sys.modules:
        from emoray import ray_process

        if ray_process.is_fault(error):
            return ray_process.said_by(error)
    return str(error) if isinstance(error, ValueError | OSError | RuntimeError) else None
