"""Which code made a number: emoray's version and a digest of the source files that decide it."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import emoray


@cache
def source_version(patterns: tuple[str, ...]) -> str:
    """Version and digest of source files, as in `0.1.0+0d9cf00c654e`.

    Args:
        patterns: of files below the package, as `methods/**/*.py`.

    Raises:
        ValueError: no file is of a pattern; what it stood for would be left out in silence.
    """
    package = Path(emoray.__file__).parent
    found = {pattern: set(package.glob(pattern)) for pattern in patterns}
    if empty := [pattern for pattern, paths in found.items() if not paths]:
        raise ValueError(f"{package}: need source files like {', '.join(empty)}, got none")
    digest = hashlib.sha256()
    for path in sorted(set().union(*found.values())):
        digest.update(f"{path.relative_to(package).as_posix()}\0".encode())
        digest.update(path.read_bytes())
    return f"{emoray.__version__}+{digest.hexdigest()[:12]}"
