"""TensorBoard's event files: one value a step for each column of a run's history.

TensorBoard's own writer has a thread that prints a trace when its disk is full. This one writes
where it is called, so that its caller hears of that.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter


class Scalars:
    """A new event file in a folder, beside those that earlier processes wrote.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / f"events.out.tfevents.{time.time_ns()}.{os.getpid()}").open("wb")
        self._records = RecordWriter(self._file)
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def add(self, columns: Mapping[str, Sequence[float]], first_step: int) -> None:
        """Write `train/NAME` for each column, one value a step.

        Raises:
            OSError: they cannot be written; the file is of no more use.
        """
        for name, values in columns.items():
            for step, value in enumerate(values, first_step):
                kept = Summary.Value(tag=f"train/{name}", simple_value=value)
                self._write(Event(wall_time=time.time(), step=step, summary=Summary(value=[kept])))
        self._file.flush()

    def close(self) -> None:
        """Write no more."""
        self._file.close()

    def _write(self, event: Event) -> None:
        self._records.write(event.SerializeToString())


def write_scalars(folder: Path, columns: Mapping[str, Sequence[float]]) -> None:
    """An event file of a whole run, from step 0."""
    scalars = Scalars(folder)
    scalars.add(columns, 0)
    scalars.close()
