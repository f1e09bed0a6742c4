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


class Stopped(KeyboardInterrupt):
    """The job is asked to stop.

    Of this kind alone Ray's C++ lets a signal's exception through, as a plain KeyboardInterrupt.
    """


def exit_status(signum: int) -> int:
    """By the shells' convention: 143 for SIGTERM, 130 for SIGINT."""
    return 128 + signum


def run_job(main: Callable[[], int | None]) -> NoReturn:
    """Run a job in the main thread until it ends, and the process with it.

    The exit status is what `main` returns; 1 after an error that a person can do something about,
    which is told in one line; 128 and the signal's number where the job was asked to stop.
    """
    before = {signum: signal.signal(signum, _stop) for signum in STOPPING}
    try:
        with resumable("python", *sys.argv):
            code = main() or 0
    except BaseException as error:
        if _late is not None:
            _late.cancel()
            _end(*_late.args)
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
    except BaseException:
        if _late is not None:  # whatever became of the exception on its way
            _say_stopped()
        raise
    finally:
        _again.pop()


_late: threading.Timer | None = None
"""Ends the process if it was asked to stop and cannot."""


def _stop(signum: int, frame: object) -> None:
    """Let the main thread unwind, and see to it that the process ends if it does not."""
    global _late
    for each in STOPPING:
        signal.signal(each, signal.SIG_IGN)
    _late = threading.Timer(GRACE_S, _end, (exit_status(signum),))
    _late.daemon = True
    _late.start()
    raise Stopped


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
        from emoray.runtime import ray_process

        ray_process.leave()
    os._exit(code)


def _leave(code: int | str) -> NoReturn:
    """Leave the cluster, where there is one, and end the process.

    Args:
        code: exit status, or what to say before status 1.
    """
    if "ray" in sys.modules:  # else nothing was joined, and it takes seconds to load
        from emoray.runtime import ray_process

        if not ray_process.leave():
            if isinstance(code, str):
                print(code, file=sys.stderr)
                code = 1
            _end(code)
    sys.exit(code)


def _in_one_line(error: BaseException) -> str | None:
    """What to say of an error; None where it is our own mistake, whose trace is needed."""
    if "ray" in sys.modules:
        from emoray.runtime import ray_process

        if ray_process.is_fault(error):
            return ray_process.said_by(error)
    return str(error) if isinstance(error, ValueError | OSError | RuntimeError) else None
