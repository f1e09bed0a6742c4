"""Shards on this node: copied if need be, checked once, mapped.

Threads and processes may use the same folder and the same cache at once.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from filelock import UnixFileLock

from emoray.corpus.manifest import ShardFile
from emoray.corpus.shards import ShardMap, map_shard
from emoray.runtime.storage import Storage, check_sha256, sha256_of
from emoray.vocabulary.schema import DataError


class LocalShards:
    """One dataset's shards, each fetched, checked and mapped on first use."""

    def __init__(self, storage: Storage, cache_dir: Path, *, verify: bool) -> None:
        self.storage = storage
        self.cache_dir = cache_dir
        self.verify = verify
        self._maps: dict[str, ShardMap] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()

    def map(self, shard: ShardFile) -> ShardMap:
        """The mapped shard.

        Raises:
            DataError: it is missing or damaged.
        """
        mapped = self._maps.get(shard.file)
        if mapped is not None:
            return mapped
        with self._guard:
            lock = self._locks.setdefault(shard.file, threading.Lock())
        with lock:  # one thread prepares a shard, others work on other shards meanwhile
            if shard.file not in self._maps:
                self._maps[shard.file] = map_shard(self.local(shard))
        return self._maps[shard.file]

    def local(self, shard: ShardFile) -> Path:
        """Path of the shard on this node, its bytes checked where `verify` says so."""
        if self.storage.is_local:
            path = Path(self.storage.path(shard.file))
            if self.verify:
                self._check(path, shard)
            return path
        path = self._cached(shard)
        if not _has_size(path, shard.bytes):
            with _alone(path.with_name(f"{path.name}.lock")):
                if not _has_size(path, shard.bytes):  # nobody was quicker
                    self.storage.fetch(shard.file, path, n_bytes=shard.bytes, sha256=shard.sha256)
        return path

    def has_room(self, shards: Sequence[ShardFile]) -> bool:
        """Whether those of these shards that are not in the cache yet fit on its disk twice.

        Twice, because other datasets and other jobs write there too.
        """
        absent = [s for s in shards if not _has_size(self._cached(s), s.bytes)]
        folder = next(p for p in (self.cache_dir, *self.cache_dir.parents) if p.exists())
        return 2 * sum(shard.bytes for shard in absent) <= shutil.disk_usage(folder).free

    def _cached(self, shard: ShardFile) -> Path:
        """Named by content: corpora that share bytes share files, others cannot be mixed up."""
        return self.cache_dir / f"{shard.sha256}.arrow"

    def _check(self, path: Path, shard: ShardFile) -> None:
        """Hash a shard once per node: a mark in the cache remembers path, size and time."""
        try:
            stat = path.stat()
        except FileNotFoundError as error:
            raise DataError(f"need the shard {path}, got no such file") from error
        seen = f"{path.resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}\0{shard.sha256}"
        mark = self.cache_dir / "verified" / hashlib.sha256(seen.encode()).hexdigest()
        if not mark.exists():
            check_sha256(sha256_of(path), shard.sha256, what=str(path))
            _leave_mark(mark)


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """One process of this node at a time; the lock dies with its process and leaves no file.

    Where there can be no lock nobody waits: a file fetched twice costs its bytes only.
    """
    held = UnixFileLock(lock, thread_local=False, fallback_to_soft=False)
    try:
        held.acquire()  # once more where whoever held it before took the file away
    except OSError:  # no locks here, or a folder that cannot be written: the fetch says which
        yield
        return
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        held.release()


def _leave_mark(mark: Path) -> None:
    try:
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
    except OSError:
        return  # a cache that cannot be written only means that the next process hashes again
