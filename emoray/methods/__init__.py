"""The methods: one folder per paper, and the folder is the registry."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emoray.methods.base import Stage


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


def stage(method: str, name: str) -> type[Stage]:
    """One of a method's stages.

    Raises:
        ValueError: there is no such method or stage; the message lists those there are.
    """
    found: Mapping[str, type[Stage]] = get(method).STAGES
    if name not in found:
        raise ValueError(f"need a stage of {method} among {', '.join(found)}; got {name!r}")
    return found[name]


def module_of(name: str) -> str:
    """Full name of a method's room `method.py`, by which the code that it runs is found."""
    return f"{__name__}.{name}.method"
