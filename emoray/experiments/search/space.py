"""A search space: which settings of a row's stages are searched, and in which ranges.

`search_spaces/<method>.toml` says it. Everything in it is checked before anything runs, and a
mistake is an error with the file's line: a field that nothing reads would be searched in vain, and
a range without the paper's value would never try what others are compared with.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from emoray import methods
from emoray.evaluation.metrics import METRICS
from emoray.experiments.paper_tables import row_settings
from emoray.results import published
from emoray.results.paper import Evaluation, Paper, PaperRow, StageOfRow
from emoray.runtime.config import dotted_fields, dotted_values, set_all, to_dict

HEAD = "search"
"""Table of the file that says what is searched for."""
_HEAD_KEYS = {"row", "evaluation", "protocol", "metric"}
_KEYS: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    "float": (frozenset({"low", "high"}), frozenset({"log", "symbol"})),
    "int": (frozenset({"low", "high"}), frozenset({"log", "step", "symbol"})),
    "categorical": (frozenset({"choices"}), frozenset({"symbol"})),
}
"""Keys of a parameter by its type: needed, and allowed besides."""


@dataclass(frozen=True)
class Parameter:
    """One setting that is searched."""

    stage: str
    """Of the row, by name."""
    field: str
    """Of its settings, dotted."""
    symbol: str
    """As the paper writes it; the field's last name where it has none."""
    distribution: BaseDistribution
    published: Any
    """The row's value: the paper's, or where it is silent ours."""

    @property
    def name(self) -> str:
        """`align.tau_patch`."""
        return f"{self.stage}.{self.field}"


@dataclass(frozen=True)
class Space:
    """What is searched for, and where."""

    paper: Paper
    row: PaperRow
    evaluation: Evaluation
    protocol: str
    metric: str
    """Of the validation segments, by person."""
    parameters: tuple[Parameter, ...]

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """By parameter."""
        return {one.name: one.distribution for one in self.parameters}

    @property
    def published(self) -> dict[str, Any]:
        """The row's own point: the first one to be tried."""
        return {one.name: one.published for one in self.parameters}


def read_space(path: Path) -> Space:
    """Read a search space; its name is the method's.

    Raises:
        ValueError: not TOML, or anything in it that cannot be searched; the message starts with the
            file and the line.
    """
    return _Reader(path).space()


class _Reader:
    """One file, and where in it things stand."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._text = path.read_text(encoding="utf-8")
            self._found = tomllib.loads(self._text)
        except (OSError, ValueError) as error:  # TOMLDecodeError is a ValueError, with its line
            raise ValueError(f"{path}: {error}") from error

    def space(self) -> Space:
        """All of it."""
        try:
            paper = published.load(self._path.stem)
        except ValueError as error:
            raise self._wrong("", str(error)) from error
        head = self._head()
        evaluation = self._one_of(
            "evaluation", head.get("evaluation"), {one.name: one for one in paper.evaluations}
        )
        row = self._row(paper, evaluation, head.get("row"))
        protocols = {name: name for name in evaluation.protocols}
        parameters = tuple(self._parameter(at, found, row) for at, found in self._tables())
        if not parameters:
            raise self._wrong("", "need a setting to search, got none")
        return Space(
            paper=paper,
            row=row,
            evaluation=evaluation,
            protocol=self._one_of("protocol", head.get("protocol"), protocols),
            metric=self._one_of("metric", head.get("metric"), {name: name for name in METRICS}),
            parameters=parameters,
        )

    # What is searched for -------------------------------------------------------------------------

    def _head(self) -> dict[str, str]:
        head = self._found.get(HEAD)
        if not isinstance(head, dict):
            raise self._wrong("", f"need a table [{HEAD}] with {', '.join(sorted(_HEAD_KEYS))}")
        for key, value in head.items():
            if key not in _HEAD_KEYS or not isinstance(value, str):
                known = ", ".join(sorted(_HEAD_KEYS))
                raise self._wrong(HEAD, f"need text for {known}; got {key} = {value!r}", key)
        if missing := sorted(_HEAD_KEYS - {"row"} - set(head)):
            raise self._wrong(HEAD, f"need {', '.join(missing)}, got none")
        return dict(head)

    def _row(self, paper: Paper, evaluation: Evaluation, name: str | None) -> PaperRow:
        """The row of the table that has the evaluation: in another one it may be set otherwise."""
        rows = {
            row.name: row
            for table in paper.tables.values()
            if evaluation in table.evaluation
            for row in table.rows
            if row.reproduce is not None
        }
        full = paper.full_model.name if paper.full_model is not None else None
        return cast(PaperRow, self._one_of("row", name or full, rows))

    def _one_of(self, key: str, asked: str | None, known: Mapping[str, Any]) -> Any:
        if asked is None or asked not in known:
            said = f"need one of {', '.join(known) or 'none'}; got {asked!r}"
            raise self._wrong(HEAD, f"{key}: {said}", key)
        return known[asked]

    # What is searched -----------------------------------------------------------------------------

    def _tables(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Parameters by dotted name: a table with a `type` is one, others lead further."""

        def walk(table: Mapping[str, Any], at: str) -> Iterator[tuple[str, dict[str, Any]]]:
            if not isinstance(table.get("type", {}), dict):
                yield at, dict(table)
                return
            for key, inner in table.items():
                if not isinstance(inner, dict):
                    raise self._wrong(at, f"need a `type` beside {key}, got none", key)
                yield from walk(inner, f"{at}.{key}" if at else key)

        yield from walk({k: v for k, v in self._found.items() if k != HEAD}, "")

    def _parameter(self, at: str, found: dict[str, Any], row: PaperRow) -> Parameter:
        of, _, field = at.partition(".")
        assert row.reproduce is not None  # `_row` chose so
        stages = {stage.name: stage for stage in row.reproduce.stages}
        if of not in stages:
            raise self._wrong(at, f"need a stage of {row.name!r} ({', '.join(stages)}), got {of!r}")
        kind = methods.stage(stages[of].method, stages[of].stage)
        config = row_settings(row, stages[of])
        if field not in (fields := sorted(dotted_fields(kind.config_type))):
            raise self._wrong(at, f"need a field of {of} ({', '.join(fields)}), got {field!r}")
        unread = kind.unread(config, stages[of].starts)
        if field == "seed" or any(_is_below(field, one) for one in unread):
            raise self._wrong(at, f"nothing reads {field} as {row.name!r} is set")
        distribution = self._distribution(at, found)
        value = dotted_values(config)[field]
        if not _contains(distribution, value):
            raise self._wrong(at, f"need the row's own value inside, {value!r}")
        for end in _ends(distribution):
            try:
                changed = followed(row, stages[of], {at: end})
            except ValueError as error:
                raise self._wrong(at, str(error)) from error
            if dotted_values(changed)[field] != end:
                raise self._wrong(at, f"nothing reads {field}: what {of} starts from decides it")
        symbol = found.get("symbol", field.rpartition(".")[2])
        if not isinstance(symbol, str) or not symbol:
            raise self._wrong(at, f"need text, got {symbol!r}", "symbol")
        return Parameter(of, field, symbol, distribution, value)

    def _distribution(self, at: str, found: Mapping[str, Any]) -> BaseDistribution:
        kind = found["type"]
        if kind not in _KEYS:
            raise self._wrong(at, f"need a type among {', '.join(_KEYS)}; got {kind!r}", "type")
        needed, allowed = _KEYS[kind]
        keys = set(found) - {"type"}
        if missing := sorted(needed - keys):
            raise self._wrong(at, f"need {', '.join(missing)}, got none")
        if unknown := sorted(keys - needed - allowed):
            known = ", ".join(sorted(needed | allowed))
            raise self._wrong(at, f"need {known}; got {unknown[0]}", unknown[0])
        if kind == "categorical":
            return self._choice(at, found["choices"])
        return self._range(at, found, whole=kind == "int")

    def _choice(self, at: str, choices: Any) -> BaseDistribution:
        if not isinstance(choices, list) or len({repr(one) for one in choices}) < 2:
            raise self._wrong(at, f"need two different choices or more, got {choices!r}", "choices")
        if len({repr(one) for one in choices}) < len(choices):
            raise self._wrong(at, f"need different choices, got {choices!r}", "choices")
        return CategoricalDistribution(choices)

    def _range(self, at: str, found: Mapping[str, Any], *, whole: bool) -> BaseDistribution:
        low, high, log = found["low"], found["high"], found.get("log", False)
        for key, value in (("low", low), ("high", high), ("step", found.get("step", 1))):
            kinds = (int,) if whole or key == "step" else (int, float)
            if isinstance(value, bool) or not isinstance(value, kinds) or not math.isfinite(value):
                kind = "whole" if int in kinds and len(kinds) == 1 else "finite"
                raise self._wrong(at, f"need a {kind} number, got {value!r}", key)
        if not isinstance(log, bool):
            raise self._wrong(at, f"need true or false, got {log!r}", "log")
        if low >= high:
            raise self._wrong(at, f"need low < high, got {low:g} and {high:g}", "low")
        if log and low <= 0:
            raise self._wrong(at, f"need low > 0 for a logarithm, got {low:g}", "low")
        if not whole:
            return FloatDistribution(low, high, log=log)
        step = found.get("step", 1)
        if step < 1 or (high - low) % step or (log and step != 1):
            said = "need a step that leads from low to high, and of a logarithm 1"
            raise self._wrong(at, f"{said}; got {step}", "step")
        return IntDistribution(low, high, log=log, step=step)

    # Where it stands ------------------------------------------------------------------------------

    def _wrong(self, at: str, words: str, key: str = "") -> ValueError:
        place = f"[{at}] " if at else ""
        return ValueError(f"{self._path}:{self._line(at, key)}: {place}{words}")

    def _line(self, at: str, key: str) -> int:
        """Of a table's head, or of a key in it; the first where the file has neither."""
        lines = self._text.splitlines()
        head = next((i for i, line in enumerate(lines) if _names(line, at)), None)
        if head is None:
            return 1
        for i in range(head + 1, len(lines)):
            if lines[i].startswith("["):
                break
            if key and re.match(rf"\s*{re.escape(key)}\s*=", lines[i]):
                return i + 1
        return head + 1


def followed(row: PaperRow, stage: StageOfRow, values: Mapping[str, Any]) -> Any:
    """A stage's settings as a run has them: those that its starts decide are theirs.

    Args:
        row: whose.
        stage: one of its stages.
        values: that differ from the row's, by stage and field.

    Raises:
        ValueError: a field cannot hold its value, or a start does not fit.
    """
    assert row.reproduce is not None
    stages = {one.name: one for one in row.reproduce.stages}
    own = {
        name.removeprefix(f"{stage.name}."): value
        for name, value in values.items()
        if name.startswith(f"{stage.name}.")
    }
    starts = {
        role: to_dict(followed(row, stages[name], values)) for role, name in stage.starts.items()
    }
    kind = methods.stage(stage.method, stage.stage)
    return kind.following(set_all(row_settings(row, stage), own), starts)


def _names(line: str, table: str) -> bool:
    """Whether a line is a table's head."""
    found = re.match(r"\s*\[([^\]]*)\]", line)
    return bool(table) and found is not None and found.group(1).replace(" ", "") == table


def _is_below(field: str, name: str) -> bool:
    return field == name or field.startswith(f"{name}.")


def _ends(distribution: BaseDistribution) -> tuple[Any, ...]:
    """Values that a field must be able to hold: if it holds these, it holds those between."""
    if isinstance(distribution, CategoricalDistribution):
        return tuple(distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return (distribution.low, distribution.high)


def _contains(distribution: BaseDistribution, value: Any) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    inside = distribution.low <= value <= distribution.high
    if isinstance(distribution, IntDistribution):
        return inside and (value - distribution.low) % distribution.step == 0
    return inside
