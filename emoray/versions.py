"""Which code made a number: emoray's version and a digest of the source files that decide it."""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from pathlib import Path

import emoray


@cache
def source_version(patterns: tuple[str, ...], *, words: bool = True) -> str:
    """Version and digest of source files, as in `0.1.0+0d9cf00c654e`.

    Args:
        patterns: of files below the package, as `methods/**/*.py`.
        words: whether comments, docstrings and layout count; without them only what is executed
            does, so that a better sentence makes no result stale.

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
        digest.update(path.read_bytes() if words else _executed(path).encode())
    return f"{emoray.__version__}+{digest.hexdigest()[:12]}"


def _executed(path: Path) -> str:
    """A file's statements without comments and docstrings, laid out in one way."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [line for line in body if not _is_text(line)] or [ast.Pass()]  # type: ignore[attr-defined]
    return ast.unparse(tree)


def _is_text(line: object) -> bool:
    """Whether a statement is a text by itself: a docstring, or words below a field."""
    return (
        isinstance(line, ast.Expr)
        and isinstance(line.value, ast.Constant)
        and isinstance(line.value.value, str)
    )
