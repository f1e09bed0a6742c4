"""What the papers published, read from `methods/<name>/paper.toml`, and what reproduces each row.

The file is read without importing its method. Every table and every row is checked: a misspelt key
would be a number that silently is not there.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from emoray import datasets
from emoray.results.store import METRICS, Metric

MeanSd = tuple[float, float]
"""Mean and standard deviation over runs, in percent."""

_SECTIONS = ("title", "code", "settings", "cost", "table_1", "evaluation")
"""Beside tables and figures. Settings, cost and corpus facts are held against the method and the
dataset cards by tests; nothing renders them."""
_ROW = ("name", "n_parameters_m", "drop", "reproduce")
_TABLE = ("caption", "rows")


@dataclass(frozen=True, slots=True)
class Reproduce:
    """What runs to reproduce a row."""

    method: str
    """A folder of `emoray/methods`."""
    stages: tuple[str, ...]
    """In order; each starts from the one before it."""
    set: Mapping[str, Any] = field(default_factory=dict)
    """Dotted fields of the stages' settings that differ from their defaults."""


@dataclass(frozen=True, slots=True)
class PaperRow:
    """One row of a table, or one bar of an ablation."""

    name: str
    """As the paper writes it."""
    n_parameters_m: float | None = None
    """Millions of parameters, as published."""
    published: Mapping[str, Mapping[Metric, MeanSd]] = field(default_factory=dict)
    """Dataset -> metric -> mean and standard deviation in percent; blanks are left out."""
    drop: Mapping[str, float] = field(default_factory=dict)
    """Dataset -> percentage points of bacc below the full method."""
    reproduce: Reproduce | None = None
    """None: the row is quoted only."""


@dataclass(frozen=True, slots=True)
class PaperTable:
    """A table of results, or an ablation figure whose bars are rows."""

    name: str
    """`table_2`, `figure_3`."""
    caption: str
    rows: tuple[PaperRow, ...]

    def row(self, name: str) -> PaperRow:
        """A row by its name.

        Raises:
            ValueError: there is none; the message lists those there are.
        """
        for row in self.rows:
            if row.name == name:
                return row
        known = ", ".join(row.name for row in self.rows)
        raise ValueError(f"need a row of {self.name} among {known}; got {name!r}")


@dataclass(frozen=True, slots=True)
class PaperProjection:
    """A figure that lays embeddings out in the plane; it publishes no number."""

    name: str
    caption: str
    dataset: str
    """Whose segments are shown."""
    projection: str
    """`t-SNE`."""
    arms: tuple[str, ...]
    """Encoders side by side, left to right."""
    coloured_by: tuple[str, ...]
    """Axes, top to bottom."""
    centroids: tuple[int, ...]
    """Values of the axis whose centroids are numbered."""
    reproduce: Reproduce


@dataclass(frozen=True, slots=True)
class Paper:
    """What one paper published."""

    title: str
    code: str
    """Where its authors released their code."""
    tables: Mapping[str, PaperTable]
    """By name, in the file's order."""
    figures: Mapping[str, PaperProjection]


def names() -> tuple[str, ...]:
    """Methods that have a `paper.toml`, sorted."""
    folders = (resources.files("emoray") / "methods").iterdir()
    return tuple(sorted(f.name for f in folders if (f / "paper.toml").is_file()))


def load(name: str) -> Paper:
    """The paper of a method.

    Args:
        name: the method's folder (`emod`).

    Raises:
        ValueError: there is no such paper, or its file holds an unknown key, lacks one, or has a
            value that cannot be; the message names the place in the file.
    """
    if name not in names():
        raise ValueError(f"need a paper among {', '.join(names())}; got {name!r}")
    path = resources.files("emoray") / "methods" / name / "paper.toml"
    try:
        return parse(path.read_text(encoding="utf-8"))
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise ValueError(f"methods/{name}/paper.toml: {error}") from error


def parse(text: str) -> Paper:
    """The paper that a `paper.toml` describes.

    Raises:
        ValueError: as `load`.
    """
    found = tomllib.loads(text)
    tables, figures = {}, {}
    for name, section in found.items():
        if name in _SECTIONS:
            continue
        if not name.startswith(("table_", "figure_")):
            raise ValueError(f"need {', '.join(_SECTIONS)}, table_N or figure_N, got {name!r}")
        if "rows" in _mapping(section, name):
            tables[name] = _table(section, name)
        else:
            figures[name] = _projection(section, name)
    title, code = (_text(found, key, "the file") for key in ("title", "code"))
    return Paper(title, code, tables, figures)


def _table(section: Mapping[str, Any], at: str) -> PaperTable:
    _only(section, _TABLE, at)
    rows = tuple(_row(row, f"{at} row {i}") for i, row in enumerate(_list(section, "rows", at), 1))
    listed = [row.name for row in rows]
    if twice := sorted({name for name in listed if listed.count(name) > 1}):
        raise ValueError(f"need each row of {at} once, got {', '.join(twice)} again")
    return PaperTable(at, _text(section, "caption", at), rows)


def _row(row: object, at: str) -> PaperRow:
    row = _mapping(row, at)
    name = _text(row, "name", at)
    at = f"{at} ({name})"
    _only(row, (*_ROW, *datasets.names()), at)
    scores = {key: value for key, value in row.items() if key not in _ROW}
    drop = _mapping(row.get("drop", {}), f"{at} drop")
    _only(drop, datasets.names(), f"{at} drop")
    millions = row.get("n_parameters_m")
    return PaperRow(
        name=name,
        n_parameters_m=None if millions is None else _number(millions, 0, math.inf, at),
        published={key: _scores(value, f"{at} {key}") for key, value in scores.items()},
        drop={key: _number(value, -100, 100, f"{at} drop {key}") for key, value in drop.items()},
        reproduce=_reproduce(row["reproduce"], at) if "reproduce" in row else None,
    )


def _scores(found: object, at: str) -> dict[Metric, MeanSd]:
    scores = _mapping(found, at)
    _only(scores, METRICS, at)
    if missing := [metric for metric in METRICS if metric not in scores]:
        raise ValueError(f"need {', '.join(missing)} in {at}, got {', '.join(scores) or 'nothing'}")
    return {metric: _mean_sd(scores[metric], f"{at} {metric}") for metric in METRICS}


def _mean_sd(found: object, at: str) -> MeanSd:
    if not isinstance(found, list) or len(found) != 2:
        raise ValueError(f"need [mean, sd] in percent for {at}, got {found!r}")
    return _number(found[0], -100, 100, at), _number(found[1], 0, 100, at)


def _projection(section: Mapping[str, Any], at: str) -> PaperProjection:
    texts, lists = ("caption", "dataset", "projection"), ("arms", "coloured_by", "centroids")
    _only(section, (*texts, *lists, "reproduce"), at)
    caption, dataset, projection = (_text(section, key, at) for key in texts)
    if dataset not in datasets.names():
        raise ValueError(f"need a dataset for {at} dataset, got {dataset!r}")
    centroids = _list(section, "centroids", at)
    if any(type(value) is not int for value in centroids):
        raise ValueError(f"need whole numbers for {at} centroids, got {centroids}")
    if "reproduce" not in section:
        raise ValueError(f"need reproduce in {at}, got {', '.join(section)}")
    return PaperProjection(
        name=at,
        caption=caption,
        dataset=dataset,
        projection=projection,
        arms=_texts(section, "arms", at),
        coloured_by=_texts(section, "coloured_by", at),
        centroids=tuple(centroids),
        reproduce=_reproduce(section["reproduce"], at),
    )


def _reproduce(found: object, at: str) -> Reproduce:
    at = f"{at} reproduce"
    found = _mapping(found, at)
    _only(found, ("method", "stages", "set"), at)
    fields = _mapping(found.get("set", {}), f"{at} set")
    return Reproduce(_text(found, "method", at), _texts(found, "stages", at), fields)


# Values, or an error that names the place ---------------------------------------------------------


def _only(found: Mapping[str, Any], known: Iterable[str], at: str) -> None:
    known = tuple(known)
    if unknown := [key for key in found if key not in known]:
        raise ValueError(f"need {', '.join(known)} in {at}, got {', '.join(unknown)}")


def _mapping(found: object, at: str) -> Mapping[str, Any]:
    if not isinstance(found, dict):
        raise ValueError(f"need a table for {at}, got {found!r}")
    return found


def _list(found: Mapping[str, Any], key: str, at: str) -> list[Any]:
    values = found.get(key)
    if not isinstance(values, list) or not values:
        raise ValueError(f"need a list for {at} {key}, got {values!r}")
    return values


def _texts(found: Mapping[str, Any], key: str, at: str) -> tuple[str, ...]:
    values = _list(found, key, at)
    if not all(isinstance(value, str) and value for value in values):
        raise ValueError(f"need a list of names for {at} {key}, got {values}")
    return tuple(values)


def _text(found: Mapping[str, Any], key: str, at: str) -> str:
    value = found.get(key)
    if not isinstance(value, str) or not value:
        raise ValueError(f"need some text for {key} in {at}, got {value!r}")
    return value


def _number(value: object, low: float, high: float, at: str) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not low <= float(value) <= high or not math.isfinite(float(value)):  # type: ignore[arg-type]
        raise ValueError(f"need a number in [{low:g}, {high:g}] for {at}, got {value!r}")
    return float(value)  # type: ignore[arg-type]
