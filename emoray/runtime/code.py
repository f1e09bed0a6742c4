"""Which code made a number: emoray's version and a digest of the modules that decide it.

What decides is found, not listed: a module and all that it imports, directly or not. A new file
is in the digest from its first import on, and a file that is moved is found where it went.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

import emoray

PACKAGE = "emoray"
DECIDES_NOTHING = ("runtime", "results", "reports")
"""Rooms at which the search stops: they start, keep and show, and no number is made there."""


@cache
def source_version(modules: tuple[str, ...], *, words: bool = True) -> str:
    """Version and digest of modules and of what they import, as in `0.1.0+0d9cf00c654e`.

    Args:
        modules: by full name, as `emoray.training.loop`.
        words: whether comments, docstrings and layout count; without them only what is executed
            does, so that a better sentence makes no result stale.

    Raises:
        ValueError: there is no such module; what it stood for would be left out in silence.
    """
    digest = hashlib.sha256()
    for name in sorted(closure(modules)):
        path = _file(name)
        assert path is not None  # it was read to find what it imports
        digest.update(f"{name}\0".encode())
        digest.update(path.read_bytes() if words else _executed(path, _age(path)).encode())
    return f"{emoray.__version__}+{digest.hexdigest()[:12]}"


def closure(modules: Iterable[str]) -> frozenset[str]:
    """The modules of emoray that these import, directly or not, and they themselves.

    Read from the source, imports inside functions included; not those for type checkers only.

    Raises:
        ValueError: there is no such module.
    """
    found: set[str] = set()
    waiting = list(modules)
    if absent := [name for name in waiting if _file(name) is None]:
        raise ValueError(f"need modules of {PACKAGE}, got {', '.join(absent)}")
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += [i for i in _imported(name) if i.split(".")[1:2] not in _STOPS]
    return frozenset(found)


_STOPS = tuple([room] for room in DECIDES_NOTHING)


def _file(name: str) -> Path | None:
    """A module's file; None where there is no such module."""
    head, *rest = name.split(".")
    if head != PACKAGE:
        return None
    *folders, last = rest or ["__init__"]
    own = Path(emoray.__file__).parent.joinpath(*folders)
    for folder in (own, *_added(".".join((PACKAGE, *folders)))):
        for file in (folder / f"{last}.py", folder / last / "__init__.py"):
            if file.is_file():
                return file
    return None


def _added(package: str) -> Sequence[Path]:
    """Folders that a loaded package was given beside its own: modules lie there as well."""
    return [Path(path) for path in list(getattr(sys.modules.get(package), "__path__", ()))[1:]]


def _imported(name: str) -> Iterator[str]:
    """The package's modules that a module imports, and the packages that they lie in."""
    path = _file(name)
    assert path is not None  # whoever asks has found it
    for target in _all_targets(path, _age(path)):
        parts = target.split(".")
        for n in range(2, len(parts) + 1):
            if _file(".".join(parts[:n])) is not None:
                yield ".".join(parts[:n])


def _age(path: Path) -> int:
    """When a file was last written: what is known of it holds until it is written again."""
    return path.stat().st_mtime_ns


@cache
def _all_targets(path: Path, age: int) -> tuple[str, ...]:
    return tuple(_targets(ast.parse(path.read_text(encoding="utf-8"))))


def _targets(tree: ast.AST) -> Iterator[str]:
    """Full names that a piece of source imports from the package."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.startswith(f"{PACKAGE}."))
        elif isinstance(node, ast.ImportFrom):
            if (node.module or "").split(".")[0] == PACKAGE:
                yield from (f"{node.module}.{name.name}" for name in node.names)
        elif not _is_for_type_checkers(node):
            yield from _targets(node)


def _is_for_type_checkers(node: ast.AST) -> bool:
    test = getattr(node, "test", None)
    return isinstance(node, ast.If) and getattr(test, "id", None) == "TYPE_CHECKING"


@cache
def _executed(path: Path, age: int) -> str:
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
