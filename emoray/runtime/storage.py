"""Where files lie: a local folder or anything `pyarrow.fs` opens, by one set of verbs.

Writing is atomic everywhere. Locally: a temporary name, fsync, rename; a lock on the temporary
file tells the files of a live writer from those of one that was killed. Object stores show a
file only once it is complete.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
from filelock import lock_descriptor
from pyarrow import fs

from emoray.vocabulary.schema import DataError

_TEMPORARY = ".tmp-"
_DAY_S = 86_400.0
_COPY_BYTES = 8 << 20

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""One part of a path in any file system; a leading dot is kept for what is not a person's."""
_PASSWORD = re.compile(r"://[^/?@]*:[^/?@]*@")


class _ProbeError(Exception):
    """Ends a write before the file gets its name."""


class HashingFile:
    """A file being written that counts and hashes what passes."""

    def __init__(self, sink: IO[bytes] | Any) -> None:
        self._sink = sink
        self._sha256 = hashlib.sha256()
        self.size = 0
        self.closed = False

    def write(self, data: bytes | memoryview) -> int:
        """Append bytes."""
        self._sink.write(data)
        self._sha256.update(data)
        self.size += len(data)
        return len(data)

    def tell(self) -> int:
        """Bytes written so far."""
        return self.size

    def flush(self) -> None:
        """Hand everything to the system."""
        self._sink.flush()

    def close(self) -> None:
        """Take no more; the file itself is closed and named by `Storage.write`."""
        self.closed = True

    @property
    def sha256(self) -> str:
        """Of everything written so far, in hex."""
        return self._sha256.hexdigest()


@dataclass(frozen=True)
class Storage:
    """A folder of a file system."""

    filesystem: fs.FileSystem
    root: str
    """Path inside the file system."""
    uri: str = ""
    """By which `at` opens it again; empty for a local folder, which its path opens."""

    @classmethod
    def at(cls, location: str | Path | Storage) -> Storage:
        """Open a location: a path, or a URI such as `s3://bucket/corpus`.

        Raises:
            ValueError: the URI's file system is unknown or cannot be reached, or the URI holds
                a password, which would be written into everything that names the place.
        """
        if isinstance(location, Storage):
            return location
        location = absolute(location)
        if not is_uri(location):
            return cls(fs.LocalFileSystem(), location)
        if _PASSWORD.search(location):
            raise ValueError(
                "need keys in the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), because "
                f"a location is printed and stored; got them in a URI of {location[:5]}"
            )
        try:
            filesystem, root = fs.FileSystem.from_uri(location)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(
                f"need a folder or a URI of pyarrow.fs, got {location}: {error}"
            ) from (error)
        return cls(filesystem, root, location)

    @property
    def is_local(self) -> bool:
        """Whether files can be memory-mapped where they lie."""
        return isinstance(self.filesystem, fs.LocalFileSystem)

    def __str__(self) -> str:
        if self.is_local:
            return self.root
        return self.uri or f"{self.filesystem.type_name}:{self.root}"

    def sub(self, name: str) -> Storage:
        """A folder in this one."""
        return Storage(self.filesystem, self.path(name), self.uri and join(self.uri, name))

    def path(self, name: str) -> str:
        """Path of a file in this folder, inside the file system."""
        return f"{self.root.rstrip('/')}/{name}"

    def place(self, name: str) -> str:
        """Where a file or folder in this one lies, for a person, and for `at` to open it again."""
        return join(str(self), name)

    def files(self) -> dict[str, int]:
        """Names and sizes of the files in this folder; temporary ones are not among them."""
        return {info.base_name: info.size for info in self._shown()}

    def times(self) -> dict[str, int]:
        """When each file in this folder was written, by the file system's clock, in ns."""
        return {info.base_name: info.mtime_ns for info in self._shown()}

    def folders(self) -> list[str]:
        """Sorted names of the folders in this one."""
        return sorted(i.base_name for i in self._list() if i.type == fs.FileType.Directory)

    def exists(self) -> bool:
        """Whether this folder is there."""
        return bool(self.filesystem.get_file_info(self.root).type == fs.FileType.Directory)

    def _shown(self) -> list[Any]:
        """Files that are no temporary ones."""
        is_file = fs.FileType.File
        return [i for i in self._list() if i.type == is_file and _TEMPORARY not in i.base_name]

    def _list(self) -> list[Any]:
        selector = fs.FileSelector(self.root, allow_not_found=True)
        return list(self.filesystem.get_file_info(selector))

    def read(self, name: str) -> bytes | None:
        """The whole of a small file; None where there is none."""
        try:
            with self.filesystem.open_input_file(self.path(name)) as source:
                return bytes(source.read())
        except (FileNotFoundError, NotADirectoryError):
            return None

    @contextlib.contextmanager
    def write(self, name: str, *, n_bytes: int) -> Iterator[HashingFile]:
        """Write a file that appears under its name complete or not at all.

        Args:
            name: of the file in this folder; folders on the way are made.
            n_bytes: how large it will be, about; an error says so.

        Raises:
            OSError: the folder cannot be written or is full; the message says which, how many
                bytes were needed and how many are free.
        """
        with (
            self.explaining(name, n_bytes=n_bytes),
            self._local(name) if self.is_local else self._remote(name) as sink,
        ):
            yield HashingFile(sink)

    @contextlib.contextmanager
    def explaining(self, name: str, *, n_bytes: int) -> Iterator[None]:
        """Let errors of whatever writes a file or folder in this one say which it was.

        Raises:
            OSError: with the same number; says where, how many bytes were needed, how many are
                free.
        """
        try:
            yield
        except OSError as error:
            said = self._explain(name, error, n_bytes)
            # An object store's errors have no number.
            raise (OSError(error.errno, said) if error.errno else OSError(said)) from error

    def create(self, name: str, data: bytes) -> bool:
        """Write a small file unless there is one of that name already.

        Of two writers on a local or shared folder exactly one is the first. An object store
        cannot be asked that: there both may be told that they were, and the later file stays.

        Returns:
            Whether this call made the file.

        Raises:
            OSError: the folder cannot be written or is full; the message says which.
        """
        if self.read(name) is not None:
            return False
        if not self.is_local:
            self.write_bytes(name, data)
            return True
        try:
            with self._local(name, place=_place_new) as sink:
                sink.write(data)
        except OSError as error:
            if isinstance(error, FileExistsError) and self.read(name) is not None:
                return False  # another writer was quicker
            raise OSError(error.errno, self._explain(name, error, len(data))) from error
        return True

    def _explain(self, name: str, error: OSError, n_bytes: int) -> str:
        message = f"cannot write {self.place(name)}, which needs {n_bytes:,} bytes: {error}"
        if self.is_local and error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = shutil.disk_usage(_existing_parent(Path(self.root))).free
            message += f"; {free:,} are free"
        return message

    @contextlib.contextmanager
    def _local(
        self, name: str, *, place: Callable[[Path, Path], object] = Path.replace
    ) -> Iterator[IO[bytes]]:
        final = Path(self.path(name))
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = final.with_name(f"{final.name}{_TEMPORARY}{uuid.uuid4().hex[:12]}")
        with _locked(temporary) as sink:
            try:
                yield sink
                sink.flush()
                os.fsync(sink.fileno())
                place(temporary, final)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
        _sync_folder(final.parent)

    @contextlib.contextmanager
    def _remote(self, name: str) -> Iterator[Any]:
        path = self.path(name)
        self.filesystem.create_dir(path.rpartition("/")[0], recursive=True)
        sink = self.filesystem.open_output_stream(path)
        try:
            yield sink
        except BaseException:
            # An object store publishes what is there when a stream closes, so the file goes
            # again; a reader who was quicker finds that its checksum is wrong.
            sink.close()
            self.filesystem.delete_file(path)
            raise
        sink.close()

    def write_bytes(self, name: str, data: bytes) -> None:
        """Write a small file, unless it holds exactly these bytes already."""
        if self.read(name) == data:
            return
        with self.write(name, n_bytes=len(data)) as file:
            file.write(data)

    def remove(self, name: str) -> None:
        """Delete a file, if it is there still."""
        with contextlib.suppress(FileNotFoundError):
            self.filesystem.delete_file(self.path(name))

    def check_writable(self) -> None:
        """Make the folder and a file in it, and remove the file again.

        Raises:
            OSError: that failed; the message names the place.
        """
        if self.is_local:  # an object store is not asked: rights to delete may be lacking
            with contextlib.suppress(_ProbeError), self.write("probe", n_bytes=1) as file:
                file.write(b"0")
                raise _ProbeError

    def sweep(self) -> int:
        """Remove what killed writers left in this folder; how many files that were."""
        if not self.is_local or not Path(self.root).is_dir():
            return 0
        left = Path(self.root).glob(f"*{_TEMPORARY}*")
        return sum(_remove_if_abandoned(path) for path in left)

    def fetch(self, name: str, to: Path, *, n_bytes: int, sha256: str) -> None:
        """Copy a file to a local path, atomically, and check it on the way.

        Two processes may fetch the same file at once: each writes its own temporary file.

        Raises:
            DataError: the file is missing, or its SHA-256 is another.
        """
        target = Storage.at(to.parent)
        try:
            source = self.filesystem.open_input_stream(self.path(name))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise DataError(f"need the file {self.place(name)}, got none") from error
        with source, target.write(to.name, n_bytes=n_bytes) as file:
            while block := source.read(_COPY_BYTES):
                file.write(block)
            check_sha256(file.sha256, sha256, what=self.place(name))


def is_uri(location: str) -> bool:
    """Whether a location names its file system, or else a path on this machine."""
    return "://" in location


def absolute(location: str | Path) -> str:
    """A location that means the same in every process of this machine: a URI, or a whole path.

    A slash at the end of a URI's path is left out; `file:///a` is the path `/a`.
    """
    text = str(location)
    if text.startswith("file://"):
        text = str(fs.FileSystem.from_uri(text)[1])
    if is_uri(text):
        path, mark, query = text.partition("?")
        return f"{path.rstrip('/')}{mark}{query}"
    return str(Path(text).expanduser().absolute())


def join(location: str, *names: str) -> str:
    """Location of something in a folder: a URI's query stays behind its path.

    `s3://bucket/a?scheme=http` and `b` make `s3://bucket/a/b?scheme=http`. A path on this machine
    may hold a question mark.
    """
    path, mark, query = location.partition("?") if is_uri(location) else (location, "", "")
    return "/".join([path.rstrip("/"), *names]) + mark + query


def parent(location: str) -> str:
    """Location of the folder that something lies in; a URI's query stays behind its path."""
    path, mark, query = location.partition("?") if is_uri(location) else (location, "", "")
    return path.rpartition("/")[0] + mark + query


def last_part(location: str) -> str:
    """Name of the file or folder that a location ends with."""
    return (location.partition("?")[0] if is_uri(location) else location).rpartition("/")[2]


def check_name(name: str, what: str) -> str:
    """The name, which becomes one folder or file, if it can be no other.

    Args:
        name: as a person gave it.
        what: is named, for the error.

    Raises:
        ValueError: it is empty or longer than 100, starts with no letter or digit, or holds
            anything but letters, digits, `.`, `_` and `-` of ASCII.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"need {what} of 1 to 100 letters, digits, '.', '_' or '-', the first a letter or "
            f"digit, got {name!r}"
        )
    return name


def check_sha256(found: str, expected: str, *, what: str) -> None:
    """Compare checksums.

    Raises:
        DataError: they differ.
    """
    if found != expected:
        raise DataError(
            f"{what}: need SHA-256 {expected[:16]}…, got {found[:16]}…: the file is damaged"
        )


def sha256_of(path: Path, *, progress: Callable[[int], None] | None = None) -> str:
    """SHA-256 of a file, read in blocks of 8 MB."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as source:
        while block := source.read(_COPY_BYTES):
            digest.update(block)
            if progress is not None:
                progress(len(block))
    return digest.hexdigest()


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[IO[bytes]]:
    """A new file under an exclusive lock, which dies with its process."""
    while True:
        with path.open("xb") as sink:
            with contextlib.suppress(OSError):  # a file system without locks: see the sweep
                lock_descriptor(sink.fileno())
            if not path.exists():  # swept between its creation and the lock
                continue
            yield sink
            return


def _place_new(temporary: Path, final: Path) -> None:
    """Give a file its name unless the name is taken: a link, unlike a rename, replaces nothing."""
    try:
        os.link(temporary, final)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        # A file system without links leaves a moment between looking and naming.
        if final.exists():
            raise FileExistsError(errno.EEXIST, "there already", str(final)) from error
        temporary.replace(final)
    else:
        temporary.unlink()


def _remove_if_abandoned(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            try:
                if not lock_descriptor(file.fileno(), blocking=False):
                    return False  # its writer lives
            except OSError:  # no locks here: only what is surely old may go
                if time.time() - path.stat().st_mtime < _DAY_S:
                    return False
            path.unlink()
            return True
    except FileNotFoundError:
        return False  # another sweep was quicker


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _existing_parent(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path
