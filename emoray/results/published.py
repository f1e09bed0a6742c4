"""What the papers published, read from `methods/<name>/paper.toml`, and what reproduces each row.

The file is read without importing its method. Every table and every row is checked: a misspelt key
would be a number that silently is not there.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import resources
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from emoray import datasets
from emoray.evaluation.folds import PROTOCOLS
from emoray.evaluation.metrics import METRICS
from emoray.results.paper import (
    Evaluation,
    MeanSd,
    Paper,
    PaperFigure,
    PaperProjection,
    PaperRow,
    PaperSimilarity,
    PaperTable,
    PublishedSpread,
    Reproduce,
    StageOfRow,
    twice,
)
from emoray.vocabulary.targets import Classes, from_plain


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
        return replace(parse(path.read_text(encoding="utf-8")), name=name)
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise ValueError(f"methods/{name}/paper.toml: {error}") from error


def parse(text: str) -> Paper:
    """The paper that a `paper.toml` describes.

    Raises:
        ValueError: as `load`.
    """
    found = tomllib.loads(text)
    sections = {name: _section(found, name) for name in found if name not in _Head.model_fields}
    known = {name: value for name, value in found.items() if name in _Head.model_fields}
    head = _checked(_Head, known, "")
    shared = _evaluations(head.evaluation, "the file")
    corpora = {name: _corpus(s, name) for name, s in sections.items() if _lists_datasets(s)}
    others = {name: section for name, section in sections.items() if name not in corpora}
    tables = {name: _table(s, name, shared) for name, s in others.items() if "rows" in s}
    figures = {name: _figure(s, name, tables) for name, s in others.items() if "rows" not in s}
    full = _full_model(head.full_model, tables)
    for table in tables.values():
        _check_reference(table, full)
    pretraining = _pretraining(head.pretraining, corpora)
    return Paper(head.title, head.code, tables, figures, shared, pretraining, full)


def _section(found: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    if not name.startswith(("table_", "figure_")):
        raise ValueError(f"need {', '.join(_Head.model_fields)}, table_N or figure_N, got {name!r}")
    section = found[name]
    if not isinstance(section, dict):
        raise ValueError(f"need a table for {name}, got {section!r}")
    return section


# What the file may hold ---------------------------------------------------------------------------


def _finite_in(value: object, low: float, high: float) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    number = float(value) if is_number else math.nan  # type: ignore[arg-type]
    if math.isfinite(number) and low <= number <= high:
        return number
    raise ValueError(f"need a number in [{low:g}, {high:g}]")


def _within(low: float, high: float) -> BeforeValidator:
    return BeforeValidator(lambda value: _finite_in(value, low, high))


def _among(names: Callable[[], Iterable[str]], what: str) -> BeforeValidator:
    def check(value: object) -> object:
        known = tuple(names())
        if value not in known:
            raise ValueError(f"need {what} among {', '.join(known)}")
        return value

    return BeforeValidator(check)


_Text = Annotated[str, StringConstraints(min_length=1)]
_Texts = Annotated[list[_Text], Field(min_length=1)]
_Dataset = Annotated[str, _among(datasets.names, "a dataset")]
_Protocol = Annotated[str, _among(PROTOCOLS.keys, "a protocol")]
_Metric = Annotated[str, _among(METRICS.keys, "a metric")]
_Target = Annotated[Any, BeforeValidator(from_plain)]
_Percent = Annotated[float, _within(-100, 100)]
_Cosine = Annotated[float, _within(-1, 1)]
_Positive = Annotated[float, _within(0, math.inf)]


class _Section(BaseModel):
    """Part of the file: nothing but its fields, and no value of another type."""

    model_config = ConfigDict(extra="forbid", strict=True)


class _Evaluation(_Section):
    dataset: _Dataset
    name: _Text | None = None
    protocol: _Protocol
    safer: list[_Protocol] = []
    target: _Target = Classes()
    metrics: Annotated[list[_Metric], Field(min_length=1)]
    chosen_by: _Metric
    # What the paper says of the dataset; tests hold it against the card.
    n_classes: int | None = None
    segment_s: _Positive | None = None
    sfreq: _Positive | None = None
    n_segments: int | None = None
    n_subjects: int | None = None


class _FullModel(_Section):
    table: _Text
    row: _Text


class _Head(_Section):
    title: _Text
    code: _Text
    settings: dict[str, Any] = {}
    cost: dict[str, Any] = {}
    pretraining: Any = None
    full_model: _FullModel | None = None
    evaluation: list[_Evaluation] = []


class _Corpus(_Section):
    dataset: _Dataset
    title: _Text
    sfreq: _Positive
    n_electrodes: int | None = None
    n_subjects: int
    n_segments: int
    ours: _Text | None = None


class _Corpora(_Section):
    rows: list[_Corpus]
    n_segments_text: int | None = None
    n_segments_rows: int | None = None


class _Stage(_Section):
    name: _Text | None = None
    stage: _Text
    method: _Text | None = None
    starts: dict[str, _Text] = {}
    set: dict[str, Any] = {}


class _Reproduce(_Section):
    method: _Text
    stages: Annotated[list[Any], Field(min_length=1)]
    set: dict[str, Any] = {}


class _Row(_Section):
    name: _Text
    n_parameters_m: _Positive | None = None
    published: dict[str, dict[str, Any]] = {}
    drop: dict[str, _Percent] = {}
    reproduce: _Reproduce | None = None


class _Table(_Section):
    caption: _Text
    reference: _Text | None = None
    deviations: bool = True
    evaluation: list[_Evaluation] = []
    rows: Annotated[list[_Row], Field(min_length=1)]


class _Projection(_Section):
    caption: _Text
    dataset: _Dataset
    projection: _Text
    arms: _Texts
    coloured_by: _Texts
    centroids: Annotated[list[int], Field(min_length=1)]
    reproduce: _Reproduce


class _Spread(_Section):
    name: _Text
    low: _Cosine
    high: _Cosine
    mean: _Cosine


class _StageOfTable(_Section):
    table: _Text
    row: _Text
    stage: _Text
    evaluation: _Text
    protocol: _Text


class _Similarity(_Section):
    caption: _Text
    similarity: Literal["cosine"]
    query: _Text
    key: _Text
    projection: _Text
    without: _Spread
    trained: _Spread
    reproduce: _StageOfTable


# From what it holds to what it means --------------------------------------------------------------


def _evaluations(found: Sequence[_Evaluation], at: str) -> tuple[Evaluation, ...]:
    listed = tuple(
        Evaluation(
            name=one.name or one.dataset,
            dataset=one.dataset,
            protocol=one.protocol,
            safer=tuple(one.safer),
            target=one.target,
            metrics=tuple(one.metrics),
            chosen_by=one.chosen_by,
        )
        for one in found
    )
    if repeated := twice([one.name for one in listed]):
        raise ValueError(f"need each evaluation of {at} under its own name, got {repeated} again")
    for one in listed:
        if repeated := twice(one.protocols) or twice(one.metrics):
            raise ValueError(f"need each once in {at} evaluation {one.name}, got {repeated} again")
        if one.name in _Row.model_fields:
            raise ValueError(f"need another name of an evaluation of {at} than {one.name!r}")
    return listed


def _lists_datasets(section: Mapping[str, Any]) -> bool:
    """Whether the rows of a table are datasets: facts of a corpus, no scores."""
    rows = section.get("rows")
    return isinstance(rows, list) and any(isinstance(r, dict) and "dataset" in r for r in rows)


def _corpus(section: Mapping[str, Any], at: str) -> tuple[str, ...]:
    return tuple(row.dataset for row in _checked(_Corpora, section, at).rows)


def _pretraining(found: object, corpora: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Names of datasets, or those of a table that lists them."""
    if found is None:
        return ()
    if isinstance(found, str):
        if found not in corpora:
            listed = ", ".join(corpora) or "none"
            raise ValueError(
                f"need a table of datasets for pretraining among {listed}, got {found!r}"
            )
        return corpora[found]
    if not isinstance(found, list) or not found or not set(found) <= set(datasets.names()):
        raise ValueError(f"need a list of datasets for pretraining, got {found!r}")
    return tuple(found)


def _full_model(found: _FullModel | None, tables: Mapping[str, PaperTable]) -> PaperRow | None:
    if found is None:
        return None
    if found.table not in tables:
        raise ValueError(
            f"need a table among {', '.join(tables)} for full_model, got {found.table!r}"
        )
    return tables[found.table].row(found.row)


def _check_reference(table: PaperTable, full: PaperRow | None) -> None:
    known = [row.name for row in table.rows] + ([full.name] if full else [])
    if table.reference is not None and table.reference not in known:
        raise ValueError(
            f"need a row or the full model for {table.name} reference, got {table.reference!r}"
        )


def _table(section: Mapping[str, Any], at: str, shared: Sequence[Evaluation]) -> PaperTable:
    found = section.get("evaluation", [])
    own = [_checked(_Evaluation, one, f"{at} evaluation {i}") for i, one in _numbered(found)]
    evaluation = _evaluations(own, at) or tuple(shared)
    by_name = {one.name: one for one in evaluation}
    rows = section["rows"]
    if isinstance(rows, list):
        rows = [_gathered(row, by_name) for row in rows]
    table = _checked(_Table, {**section, "rows": rows}, at, columns=tuple(by_name))
    if repeated := twice([row.name for row in table.rows]):
        raise ValueError(f"need each row of {at} once, got {repeated} again")
    built = tuple(
        _row(row, by_name, f"{at} row {i} ({row.name})", deviations=table.deviations)
        for i, row in enumerate(table.rows, 1)
    )
    return PaperTable(at, table.caption, built, evaluation, table.reference)


def _numbered(found: object) -> Iterator[tuple[int, Any]]:
    return enumerate(found, 1) if isinstance(found, list) else enumerate([found], 1)


def _gathered(row: object, evaluation: Mapping[str, Evaluation]) -> object:
    """A row with its scores, which stand under the names of evaluations, in one place."""
    if not isinstance(row, dict):
        return row
    scores = {name: value for name, value in row.items() if name in evaluation}
    return {**{k: v for k, v in row.items() if k not in scores}, "published": scores}


def _row(row: _Row, evaluation: Mapping[str, Evaluation], at: str, *, deviations: bool) -> PaperRow:
    _only(row.drop, tuple(evaluation), f"{at} drop")
    published = {
        name: _scores(scores, evaluation[name].metrics, f"{at} {name}", deviations=deviations)
        for name, scores in row.published.items()
    }
    return PaperRow(
        name=row.name,
        n_parameters_m=row.n_parameters_m,
        published=published,
        drop=row.drop,
        reproduce=_reproduce(row.reproduce, f"{at} reproduce") if row.reproduce else None,
    )


def _scores(
    found: Mapping[str, Any], metrics: Sequence[str], at: str, *, deviations: bool
) -> dict[str, MeanSd]:
    """Of every metric of the evaluation, in its order; a blank is an empty list."""
    _only(found, metrics, at)
    if missing := [metric for metric in metrics if metric not in found]:
        raise ValueError(f"need {', '.join(missing)} in {at}, got {', '.join(found) or 'nothing'}")
    return {
        metric: _mean_sd(found[metric], f"{at} {metric}", deviations=deviations)
        for metric in metrics
        if found[metric] != []
    }


def _mean_sd(found: object, at: str, *, deviations: bool) -> MeanSd:
    if not deviations:
        return _number(found, -100, 100, at), None
    if not isinstance(found, list) or len(found) != 2:
        raise ValueError(f"need [mean, sd] in percent for {at}, got {found!r}")
    return _number(found[0], -100, 100, at), _number(found[1], 0, 100, at)


_Named = TypeVar("_Named")


def _one_of(known: Mapping[str, _Named], name: str, at: str) -> _Named:
    if name not in known:
        raise ValueError(f"need {', '.join(known) or 'what is there'} for {at}, got {name!r}")
    return known[name]


def _figure(section: Mapping[str, Any], at: str, tables: Mapping[str, PaperTable]) -> PaperFigure:
    if "similarity" in section:
        return _similarity(section, at, tables)
    return _projection(section, at)


def _similarity(
    section: Mapping[str, Any], at: str, tables: Mapping[str, PaperTable]
) -> PaperSimilarity:
    found = _checked(_Similarity, section, at)
    shown, place = found.reproduce, f"{at} reproduce"
    table = _one_of(tables, shown.table, f"{place} table")
    row = _one_of({row.name: row for row in table.rows}, shown.row, f"{place} row")
    stages = {one.name: one for one in row.reproduce.stages[:-1]} if row.reproduce else {}
    evaluation = {one.name: one for one in table.evaluation}
    one = _one_of(evaluation, shown.evaluation, f"{place} evaluation")
    protocols = {name: name for name in one.protocols}
    return PaperSimilarity(
        name=at,
        caption=found.caption,
        similarity=found.similarity,
        query=found.query,
        key=found.key,
        projection=found.projection,
        without=_spread(found.without, f"{at} without"),
        trained=_spread(found.trained, f"{at} trained"),
        row=row,
        stage=_one_of(stages, shown.stage, f"{place} stage").name,
        evaluation=one,
        protocol=_one_of(protocols, shown.protocol, f"{place} protocol"),
    )


def _spread(found: _Spread, at: str) -> PublishedSpread:
    if not found.low <= found.mean <= found.high:
        raise ValueError(
            f"need low <= mean <= high in {at}, got {found.low}, {found.mean}, {found.high}"
        )
    return PublishedSpread(found.name, found.low, found.high, found.mean)


def _projection(section: Mapping[str, Any], at: str) -> PaperProjection:
    found = _checked(_Projection, section, at)
    return PaperProjection(
        name=at,
        caption=found.caption,
        dataset=found.dataset,
        projection=found.projection,
        arms=tuple(found.arms),
        coloured_by=tuple(found.coloured_by),
        centroids=tuple(found.centroids),
        reproduce=_reproduce(found.reproduce, f"{at} reproduce"),
    )


def _reproduce(found: _Reproduce, at: str) -> Reproduce:
    """Names of stages are a chain; tables say a graph."""
    try:
        if all(isinstance(stage, str) and stage for stage in found.stages):
            return Reproduce.chain(found.method, found.stages, found.set)
    except ValueError as error:
        raise ValueError(f"{at}: {error}") from error
    if any(isinstance(stage, str) for stage in found.stages):
        raise ValueError(f"need names of stages or tables for {at} stages, got {found.stages}")
    stages = []
    for i, one in enumerate(found.stages, 1):
        stage = _checked(_Stage, one, f"{at} stage {i}")
        method = stage.method or found.method
        name = stage.name or stage.stage
        stages.append(StageOfRow(name, stage.stage, method, stage.starts, stage.set))
    _check_graph(stages, at)
    return Reproduce(found.method, tuple(stages), found.set)


def _check_graph(stages: Sequence[StageOfRow], at: str) -> None:
    """Each stage starts from earlier ones, so that there is no circle, and none is for nothing."""
    listed = [stage.name for stage in stages]
    if repeated := twice(listed):
        raise ValueError(f"need each stage of {at} under its own name, got {repeated} again")
    for i, stage in enumerate(stages):
        for role, start in stage.starts.items():
            place = f"{at} stage {i + 1} ({stage.name}) starts {role}"
            if start not in listed:
                known = ", ".join(listed[:i]) or "none"
                raise ValueError(f"need an earlier stage among {known} for {place}, got {start!r}")
            if listed.index(start) >= i:
                raise ValueError(
                    f"need a stage that stands earlier for {place}, got {start!r}: "
                    + ("a circle" if _leads_to(stages, start, stage.name) else "it comes later")
                )
    started = {start for stage in stages for start in stage.starts.values()}
    if unused := [name for name in listed[:-1] if name not in started]:
        raise ValueError(f"need stages of {at} that a later one starts from, got {unused[0]}")


def _leads_to(stages: Sequence[StageOfRow], start: str, end: str) -> bool:
    """Whether a stage has another one among those that it descends from, or is it."""
    by_name = {stage.name: stage for stage in stages}
    seen: set[str] = set()
    left = [start]
    while left:
        name = left.pop()
        if name == end:
            return True
        if name not in seen and name in by_name:
            seen.add(name)
            left += by_name[name].starts.values()
    return False


# Values, or an error that names the place ---------------------------------------------------------

_S = TypeVar("_S", bound=_Section)

_NEEDS = {
    "string_type": "some text",
    "string_too_short": "some text",
    "list_type": "a list",
    "too_short": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "int_type": "whole numbers",
    "int_from_float": "whole numbers",
    "bool_type": "true or false",
}
"""What was needed, by pydantic's name of an error; others say it themselves."""
_LISTS = ("rows", "stages", "metrics", "arms", "coloured_by", "centroids")


def _checked(kind: type[_S], found: object, at: str, columns: Sequence[str] = ()) -> _S:
    """A part of the file, as its model has it.

    Args:
        kind: what it should be.
        found: what stands there.
        at: where, in words.
        columns: keys of a row under which its scores stand.

    Raises:
        ValueError: one thing that is wrong, and where.
    """
    try:
        return kind.model_validate(found)
    except ValidationError as error:
        # A misspelt key also leaves the right one out: the misspelling is the cause.
        first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    where, what = first["loc"], first["type"]
    if what in ("extra_forbidden", "missing"):
        place = _place(found, where[:-1], at) or "the file"
        if what == "missing":
            need = "a list" if where[-1] in _LISTS else "some text"
            raise ValueError(f"need {need} for {where[-1]} in {place}, got None")
        known = ", ".join(_fields_at(kind, where[:-1], columns))
        raise ValueError(f"need {known} in {place}, got {where[-1]}")
    cause = first.get("ctx", {}).get("error")
    need = str(cause) if cause else f"need {_NEEDS.get(what, first['msg'])}"
    raise ValueError(f"{need} for {_place(found, where, at)}, got {first['input']!r}")


def _place(found: Any, where: Sequence[Any], at: str) -> str:
    """`table_3 row 2 (EMOD) faced`: where in the file a value stands, in words."""
    words = [at] if at else []
    for part in where:
        if isinstance(part, int):
            found = found[part] if isinstance(found, list) else None
            words[-1] = words[-1].removesuffix("s")
            name = found.get("name", found.get("dataset")) if isinstance(found, dict) else None
            words.append(f"{part + 1} ({name})" if isinstance(name, str) else f"{part + 1}")
        else:
            found = found.get(part) if isinstance(found, dict) else None
            words += [] if part == "published" else [part]
    return " ".join(words)


def _fields_at(
    kind: type[BaseModel], where: Sequence[str | int], columns: Sequence[str]
) -> list[str]:
    """Keys that a place of the file may have."""
    for part in where:
        if isinstance(part, str):
            kind = _model_in(kind.model_fields[part].annotation)
    keys = ([*columns] if name == "published" else [name] for name in kind.model_fields)
    return [key for some in keys for key in some]


def _model_in(annotation: Any) -> type[BaseModel]:
    """The model in `list[Model]` or `Model | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(
        found for found in map(_model_in, [a for a in get_args(annotation) if a is not type(None)])
    )


def _only(found: Mapping[str, Any], known: Sequence[str], at: str) -> None:
    if unknown := [key for key in found if key not in known]:
        raise ValueError(f"need {', '.join(known)} in {at}, got {', '.join(unknown)}")


def _number(value: object, low: float, high: float, at: str) -> float:
    try:
        return _finite_in(value, low, high)
    except ValueError as error:
        raise ValueError(f"{error} for {at}, got {value!r}") from error
