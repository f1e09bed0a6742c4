"""The methods: one folder per paper, and the folder is the registry."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType


def names() -> tuple[str, ...]:
    """Names of all methods, sorted."""
    return tuple(sorted(m.name for m in pkgutil.iter_modules(__path__) if m.ispkg))


def get(name: str) -> ModuleType:
    """The room `method.py` of a method: its `STAGES` by name, each with a `config_type`.

    Raises:
        ValueError: there is no such method; the message lists those there are.
    """
    if name not in names():
        raise ValueError(f"need a method among {', '.join(names())}; got {name!r}")
    return importlib.import_module(module_of(name))


def module_of(name: str) -> str:
    """Full name of a method's room `method.py`, by which the code that it runs is found."""
    return f"{__name__}.{name}.method"
