"""One Ray Data task per recording: as many at a time as there are CPUs, small answers only."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from emoray.vocabulary.schema import RecordingRef

TASK_BYTES = 2 * 1024**3
"""Memory that a task asks Ray for, so that a node with many CPUs and little memory runs fewer at
a time. A full recording of SEED (62 electrodes, an hour at 200 Hz) takes 1.2 GB, of SEED-V (as
long at 1000 Hz) 1.4 GB."""


class _Task:
    """Carries recordings and answers through Ray's table as text."""

    def __init__(self, function: Callable[[RecordingRef], dict[str, Any]]) -> None:
        self._function = function

    def __call__(self, row: dict[str, str]) -> dict[str, str]:
        found = json.loads(row["ref"])
        ref = RecordingRef(**{**found, "files": tuple(found["files"])})
        with _named(ref):
            return {"answer": json.dumps(self._function(ref))}


@contextmanager
def _named(ref: RecordingRef) -> Iterator[None]:
    """An error that nobody foresaw still says in which recording it happened."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"This was {ref.key}, read from {', '.join(ref.files)}")
        raise


def join_ray(connect: Callable[[], object] | None = None) -> None:
    """Join or start Ray, unless this process is connected.

    Args:
        connect: does it; `cluster.connect` without it.
    """
    import ray  # seconds that a finished build does not pay

    from emoray.runtime import cluster

    if not ray.is_initialized():
        (connect or cluster.connect)()


def over_recordings(
    function: Callable[[RecordingRef], dict[str, Any]],
    refs: Sequence[RecordingRef],
    *,
    here: bool = False,
) -> Generator[dict[str, Any], None, None]:
    """Call a function for each recording on all CPUs; answers come as soon as they are there.

    Closing the generator cancels what still runs.

    Args:
        function: its answer is plain JSON; it is sent to the tasks, so it holds no arrays.
        refs: one task each.
        here: on this node only, because no other sees the files.

    Raises:
        ValueError: this node gives Ray no CPU.
    """
    import ray

    rows = [{"ref": json.dumps(asdict(ref))} for ref in refs]
    # One block per recording: a block is what Ray hands to a task.
    table = ray.data.from_items(rows, override_num_blocks=len(rows))
    nodes, selector = _nodes(), None
    if here:
        node_id = ray.get_runtime_context().get_node_id()
        nodes, selector = {node_id: nodes[node_id]}, {"ray.io/node-id": node_id}
        _check_cpus(nodes[node_id])
    memory = _memory(nodes.values())
    answers = table.map(_Task(function), num_cpus=1, memory=memory, label_selector=selector)
    _silence(answers)
    for row in answers.iter_rows():
        yield json.loads(row["answer"])


def _nodes() -> dict[str, Mapping[str, float]]:
    """Resources of the nodes that run, by id."""
    import ray

    return {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}


def _check_cpus(resources: Mapping[str, float]) -> None:
    """Ray would wait for ever."""
    n_cpus = resources.get("CPU", 0)
    if n_cpus < 1:
        raise ValueError(
            f"need a CPU of this node for Ray, got {n_cpus:g}: only this node is known to see the "
            "files; say so if all do, or start from one that has CPUs"
        )


def _memory(nodes: Iterable[Mapping[str, float]]) -> int:
    """`TASK_BYTES`, or all of the largest node's where no node has that much."""
    return min(TASK_BYTES, int(max(node.get("memory", 0) for node in nodes)))


def _silence(table: Any) -> None:
    """Ray Data's own bars and plans would stand between ours."""
    table.context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)
