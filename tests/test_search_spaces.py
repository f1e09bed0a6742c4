"""Every search space names fields of its method's Config, with values that these can hold."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from emoray import methods
from emoray.runtime.config import dotted_fields, set_dotted

FOLDER = Path(__file__).parents[1] / "search_spaces"
SPACES = sorted(FOLDER.iterdir())

KEYS = {
    "float": ({"low", "high"}, {"log"}),
    "int": ({"low", "high"}, {"log", "step"}),
    "categorical": ({"choices"}, set()),
}
"""Keys of a parameter by its type: needed and allowed besides."""


def parameters(table: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Parameters by dotted name: a table with a `type` is one, others lead further."""
    if "type" in table:
        yield at, dict(table)
        return
    for key, inner in table.items():
        name = f"{at}.{key}" if at else key
        assert isinstance(inner, dict), f"{name} stands outside every parameter"
        yield from parameters(inner, name)


def space_of(path: Path) -> dict[str, dict[str, Any]]:
    return dict(parameters(tomllib.loads(path.read_text())))


def test_each_file_is_toml_and_named_after_a_method() -> None:
    assert SPACES
    assert {path.suffix for path in SPACES} == {".toml"}
    assert {path.stem for path in SPACES} <= set(methods.names())


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_every_parameter_has_the_keys_of_its_type(path: Path) -> None:
    for name, parameter in space_of(path).items():
        assert parameter["type"] in KEYS, name
        needed, allowed = KEYS[parameter["type"]]
        keys = set(parameter) - {"type"}
        assert needed <= keys <= needed | allowed, f"{name} has {sorted(keys)}"


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_every_range_can_be_drawn_from(path: Path) -> None:
    for name, parameter in space_of(path).items():
        if parameter["type"] == "categorical":
            assert len(set(map(repr, parameter["choices"]))) == len(parameter["choices"]) > 1, name
            continue
        low, high = parameter["low"], parameter["high"]
        assert -math.inf < low < high < math.inf, name
        assert low > 0 or not parameter.get("log"), f"{name}: no logarithm of {low}"


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_every_parameter_is_a_field_that_holds_all_its_values(path: Path) -> None:
    config = methods.get(path.stem).STAGES["pretrain"].config_type()
    fields = dotted_fields(type(config))
    for name, parameter in space_of(path).items():
        assert name in fields, f"{path.name}: {name} is no field of {type(config).__name__}"
        values = parameter.get("choices") or [parameter["low"], parameter["high"]]
        for value in values:
            set_dotted(config, name, value)


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_the_default_lies_inside_every_range(path: Path) -> None:
    config = methods.get(path.stem).STAGES["pretrain"].config_type()
    for name, parameter in space_of(path).items():
        default: Any = config
        for step in name.split("."):
            default = getattr(default, step)
        if parameter["type"] == "categorical":
            assert default in parameter["choices"], name
        else:
            assert parameter["low"] <= default <= parameter["high"], name
