"""One recording's segments as an Arrow IPC file: written once, mapped, read a row at a time.

A file holds one record batch with one column, named after the stream (`eeg`, `ecg`): fixed-size
lists of C*T values, so that a row is one slice of the file.
Shapes: S segments, C channels (electrodes or leads), T samples.
"""

from __future__ import annotations

import ctypes
import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from emoray.corpus.manifest import SHARDS, ShardFile
from emoray.runtime.storage import Storage
from emoray.vocabulary.schema import STREAMS, DataError, Stream

Signals = NDArray[np.floating[Any]]


def write_shard(
    storage: Storage, recording: str, x_SCT: Signals, stream: Stream = "eeg"
) -> ShardFile:
    """Write one recording's signals, atomically.

    The same arrays always give the same bytes.

    Args:
        storage: the build's folder in the corpus.
        recording: names the file.
        x_SCT: float32 or float16.
        stream: what the signals are.

    Raises:
        OSError: the folder cannot be written or is full.
    """
    batch = pa.RecordBatch.from_pydict({stream: _column(x_SCT)})
    name = f"{recording}.arrow"
    with storage.write(f"{SHARDS}/{name}", n_bytes=batch.nbytes) as file:
        with pa.ipc.new_file(file, batch.schema) as writer:
            writer.write_batch(batch)
        return ShardFile(name, len(x_SCT), file.size, file.sha256)


def _column(signals: Signals) -> pa.FixedSizeListArray:
    flat = np.ascontiguousarray(signals).reshape(-1)  # no copy when contiguous already
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), int(np.prod(signals.shape[1:])))


@dataclass(frozen=True, slots=True)
class ShardMap:
    """A mapped shard; rows are read from the page cache when they are touched."""

    signals: Signals
    """Shape (S, C*T)."""

    def release(self) -> None:
        """Let the pages that were touched leave this process; the system's cache keeps them.

        Without it a worker that draws from everywhere would come to hold the whole corpus.
        """
        _let_go(self.signals)


def map_shard(path: Path) -> ShardMap:
    """Map a shard into memory without reading its signals.

    The file is closed again at once, so that any number of shards may be mapped at a time.

    Raises:
        DataError: the file is missing, or not a shard.
    """
    try:
        # Closing the file gives its descriptor back; the mapping lives as long as the arrays.
        with pa.memory_map(str(path)) as source:
            batch = pa.ipc.open_file(source).get_batch(0)
    except FileNotFoundError as error:
        raise DataError(f"need the shard {path}, got no such file") from error
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: need an Arrow file with one record batch, got {error}") from error
    names = batch.schema.names
    if len(names) != 1 or names[0] not in STREAMS:
        raise DataError(f"{path}: need one column, {' or '.join(STREAMS)}, got {', '.join(names)}")
    return ShardMap(_rows(batch.column(0)))


_MADVISE = getattr(ctypes.CDLL(None), "madvise", None)
"""Python's own mmap would keep a descriptor open for every shard, so the C function is called."""


def _let_go(signals: Signals) -> None:
    """Tell the system that the whole pages behind a mapped array are not needed for now."""
    start, size = signals.ctypes.data, signals.nbytes
    first, end = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE, start + size
    length = (end - first) // mmap.PAGESIZE * mmap.PAGESIZE
    if _MADVISE is not None and length > 0:
        _MADVISE(ctypes.c_void_p(first), ctypes.c_size_t(length), mmap.MADV_DONTNEED)


def _rows(column: pa.FixedSizeListArray) -> Signals:
    values: Signals = column.values.to_numpy(zero_copy_only=True)
    return values.reshape(len(column), column.type.list_size)
