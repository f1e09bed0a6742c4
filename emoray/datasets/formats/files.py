"""Publishers' files as they lie on people's disks: litter left alone, regular files opened only.

Archives pass through Macs, Windows machines and network drives, which leave files of their own
beside the data. And a folder may hold what is no file: a named pipe waits for its other end, for
ever. So whatever is read from a data folder is opened here.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import IO

from emoray.vocabulary.schema import DataError

LITTER = frozenset(
    (
        *("__macosx", "icon\r"),  # Mac, beside its hidden `._*` and `.DS_Store`
        *("thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information"),
        *("@eadir", "#recycle", "lost+found"),  # network drives, Linux
    )
)
"""Names, in small letters, that operating systems leave behind."""

_KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISLNK, "a link to nothing"),
)


def is_litter(name: str) -> bool:
    """Whether no publisher gave a file or folder this name: hidden, or in `LITTER`."""
    return name.startswith(".") or name.lower() in LITTER


def spell(path: str | Path) -> str:
    """A path that can be printed: bytes that are no UTF-8 (names of another time) as `\\xb0`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def kind_of(path: Path) -> str:
    """What lies there instead of a regular file: `a named pipe`."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        mode = path.lstat().st_mode
    except OSError as error:
        return f"what cannot be looked at ({reason(error)})"
    return next((name for is_kind, name in _KINDS if is_kind(mode)), "a device")


def reason(error: OSError) -> str:
    """`Permission denied`: why the system refused."""
    return error.strerror or str(error)


def open_file(path: Path) -> IO[bytes]:
    """Open a regular file for reading, and nothing else: a pipe is not waited for.

    Raises:
        DataError: no such file, no permission, or not a regular file; the message says which.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise DataError(f"{path}: need a file, found no such file") from None
    except OSError as error:
        raise DataError(f"{path}: need a file that can be opened, found {reason(error)}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise DataError(f"{path}: need a regular file, found {kind_of(path)}")
    return os.fdopen(descriptor, "rb")


def check_file(path: Path) -> None:
    """Make sure that a library may be given this path.

    Raises:
        DataError: as `open_file`.
    """
    open_file(path).close()


def read_small(path: Path, *, at_most: int = 1 << 20) -> bytes:
    """The whole of a file of text, which has no reason to be large.

    Raises:
        DataError: as `open_file`, or more than `at_most` bytes, or they cannot be read.
    """
    with open_file(path) as file:
        try:
            content = file.read(at_most + 1)
        except OSError as error:
            raise DataError(
                f"{path}: need a file that can be read, found {reason(error)}"
            ) from error
    if len(content) > at_most:
        raise DataError(f"{path}: need at most {at_most:,} bytes, found {path.stat().st_size:,}")
    return content
