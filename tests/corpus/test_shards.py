from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emoray.corpus.manifest import SHARDS
from emoray.corpus.shards import map_shard, write_shard
from emoray.runtime.storage import Storage, sha256_of
from emoray.vocabulary.schema import STREAMS, DataError, Stream


@settings(max_examples=20, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 9)),
    dtype=st.sampled_from(["float32", "float16"]),
    stream=st.sampled_from(STREAMS),
)
def test_what_is_written_is_mapped_back(
    tmp_path_factory: pytest.TempPathFactory,
    shape: tuple[int, int, int],
    dtype: str,
    stream: Stream,
) -> None:
    storage = Storage.at(tmp_path_factory.mktemp("shards"))
    x_SCT = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    shard = write_shard(storage, "r", x_SCT, stream)
    path = Path(storage.path(f"{SHARDS}/{shard.file}"))
    assert (shard.rows, shard.bytes, shard.sha256) == (
        shape[0],
        path.stat().st_size,
        sha256_of(path),
    )
    mapped = map_shard(path)
    assert mapped.signals.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(mapped.signals.reshape(shape), x_SCT)


def test_the_same_arrays_give_the_same_bytes(tmp_path: Path) -> None:
    eeg_SCT = np.ones((2, 3, 4), np.float32)
    first = write_shard(Storage.at(tmp_path / "a"), "r", eeg_SCT)
    second = write_shard(Storage.at(tmp_path / "b"), "r", np.asfortranarray(eeg_SCT))
    assert first == second


def test_mapped_shards_hold_no_open_files(tmp_path: Path) -> None:
    shard = write_shard(Storage.at(tmp_path), "r", np.ones((2, 3, 4), np.float32))
    path = tmp_path / SHARDS / shard.file
    before = len(list(Path("/proc/self/fd").iterdir()))
    maps = [map_shard(path) for _ in range(50)]
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert all(mapped.signals.sum() == 24 for mapped in maps)


def test_mapping_reads_no_signals(tmp_path: Path) -> None:
    """32 MB are mapped; the resident memory of this process grows by less than one."""
    shard = write_shard(Storage.at(tmp_path), "r", np.ones((8, 1000, 1000), np.float32))
    before = _resident_bytes()
    mapped = map_shard(tmp_path / SHARDS / shard.file)
    assert _resident_bytes() - before < 2**20
    assert mapped.signals.nbytes == 32_000_000


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_what_is_no_shard_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"need the shard .*none\.arrow, got no such file"):
        map_shard(tmp_path / "none.arrow")
    (tmp_path / "text.arrow").write_text("not Arrow")
    with pytest.raises(DataError, match=r"text\.arrow: need an Arrow file"):
        map_shard(tmp_path / "text.arrow")
    (tmp_path / "empty.arrow").write_text("")
    with pytest.raises(DataError, match=r"empty\.arrow: need an Arrow file"):
        map_shard(tmp_path / "empty.arrow")
    table = pa.table({"other": [1.0]})
    with pa.ipc.new_file(str(tmp_path / "other.arrow"), table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(DataError, match="need one column, eeg or ecg, got other"):
        map_shard(tmp_path / "other.arrow")


def test_released_pages_leave_the_process_and_come_back(tmp_path: Path) -> None:
    shard = write_shard(Storage.at(tmp_path), "r", np.ones((8, 1000, 1000), np.float32))
    mapped = map_shard(tmp_path / SHARDS / shard.file)
    before = _resident_bytes()
    assert mapped.signals.sum() == 8e6
    assert _resident_bytes() - before > 30_000_000
    mapped.release()
    assert _resident_bytes() - before < 2**20
    assert mapped.signals[3].sum() == 1e6
