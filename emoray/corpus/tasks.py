"""One Ray Data task per recording: as many at a time as there are CPUs, small answers only."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict
from typing import Any

from emoray.schema import RecordingRef


class _Task:
    """Carries recordings and answers through Ray's table as text."""

    def __init__(self, function: Callable[[RecordingRef], dict[str, Any]]) -> None:
        self._function = function

    def __call__(self, row: dict[str, str]) -> dict[str, str]:
        found = json.loads(row["ref"])
        ref = RecordingRef(**{**found, "files": tuple(found["files"])})
        return {"answer": json.dumps(self._function(ref))}


def join_ray(connect: Callable[[], object] | None = None) -> None:
    """Join or start Ray, unless this process is connected.

    Args:
        connect: does it; `cluster.connect` without it.
    """
    import ray  # seconds that a finished build does not pay

    from emoray import cluster

    if not ray.is_initialized():
        (connect or cluster.connect)()


def over_recordings(
    function: Callable[[RecordingRef], dict[str, Any]],
    refs: Sequence[RecordingRef],
) -> Generator[dict[str, Any], None, None]:
    """Call a function for each recording on all CPUs; answers come as soon as they are there.

    Closing the generator cancels what still runs.

    Args:
        function: its answer is plain JSON; it is sent to the tasks, so it holds no arrays.
        refs: one task each.
    """
    import ray

    rows = [{"ref": json.dumps(asdict(ref))} for ref in refs]
    # One block per recording: a block is what Ray hands to a task.
    table = ray.data.from_items(rows, override_num_blocks=len(rows))
    answers = table.map(_Task(function), num_cpus=1)
    _silence(answers)
    for row in answers.iter_rows():
        yield json.loads(row["answer"])


def _silence(table: Any) -> None:
    """Ray Data's own bars and plans would stand between ours."""
    table.context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)
