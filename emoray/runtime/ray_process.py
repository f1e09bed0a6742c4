"""Ray in a job's process: its start and end, its node, the errors that it passes on.

Signals and output stay the job's, and no process is left. What Ray offers no option for is set
where it looks; each place says what happens without it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
import ray._private.ray_constants as constants
import ray._private.utils
import ray._private.worker
from ray._common.network_utils import get_localhost_ip
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

SHUTDOWN_S = 5.0
"""Seconds that Ray has to end by itself; a raylet that does not answer would take minutes."""
PR_SET_CHILD_SUBREAPER = 36
"""Of Linux's prctl(2)."""

_here = False
"""Whether this process joined the cluster that it is connected to by `init`."""


def init(**options: Any) -> None:
    """`ray.init` for a process that hears signals itself, where it does, and prints its own lines.

    Args:
        options: of `ray.init`.
    """
    global _here
    if callable(signal.getsignal(signal.SIGTERM)):
        # Else SIGTERM prints C++ stacks, and exits with 15 or 134.
        ray._private.utils.set_sigterm_handler = _ignore
        constants.RAY_DISABLE_FAILURE_SIGNAL_HANDLER = True
    # Else raylets' dumps and warnings are printed; what they mean for us comes as an exception.
    ray._private.worker.listen_error_messages = _ignore
    _here = True  # also where it is stopped half-way
    ray.init(**options)


def init_local(**options: Any) -> None:
    """Start Ray on this machine, for this machine: it listens on the loopback interface only."""
    _adopt_orphans()
    with _alone():
        init(address="local", _node_ip_address=get_localhost_ip(), **options)


def leave() -> bool:
    """Leave the cluster, and end all processes that this one has started.

    Returns:
        Whether Ray ended by itself. Where it did not, only `os._exit` ends this process.
    """
    global _here
    if not _here:
        return True
    _here = False
    started = descendants()
    node = ray._private.worker._global_node
    by_itself = node is None or not any(node.dead_processes())
    if by_itself:  # Ray would wait for the dead
        closing = threading.Thread(target=ray.shutdown, name="shutdown", daemon=True)
        closing.start()
        closing.join(SHUTDOWN_S)
        by_itself = not closing.is_alive()
    for pid in started | descendants():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return by_itself


def on_this_node() -> NodeAffinitySchedulingStrategy:
    """Where to start what must not be lost with another node: on this process's, and no other."""
    here = ray.get_runtime_context().get_node_id()
    return NodeAffinitySchedulingStrategy(node_id=here, soft=False)


def is_lost() -> bool:
    """Whether Ray on this node has ended, or the cluster has given the node up."""
    try:
        here = ray.get_runtime_context().get_node_id()
        return not any(node["Alive"] and node["NodeID"] == here for node in ray.nodes())
    except (RayError, RuntimeError):  # nothing answers
        return True


def is_fault(error: BaseException) -> bool:
    """Whether Ray passed an error on, or raised one of its own."""
    return isinstance(error, RayError)


def said_by(error: BaseException) -> str:
    """An error in one line: of one that Ray passed on, a task's own words without the trace."""
    cause = getattr(error, "cause", None) or error
    lines = str(cause).strip().splitlines() or ["no message"]
    return f"{type(cause).__name__}: {lines[0]}"


def descendants() -> set[int]:
    """Processes below this one; none where the system has no /proc."""
    children: dict[int, set[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, set()).add(int(stat.parent.name))
    found: set[int] = set()
    new = children.get(os.getpid(), set())
    while new:
        found |= new
        new = {child for pid in new for child in children.get(pid, set())} - found
    return found


def _adopt_orphans() -> None:
    """Become the parent of what a killed raylet leaves, which would else live on unseen."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Let Ray take the loopback address, in whose place it puts one that other machines reach."""
    before = constants.ENABLE_RAY_CLUSTER
    constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before


def _ignore(*_: object) -> None:
    """Stands in the place of what Ray would do."""
