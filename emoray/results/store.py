"""Result rows: one file for each evaluated run, and which runs are still missing.

A row is plain data under a key that says what was run: method, stage, settings, data, target,
protocol, fold, seed, starts, rule of choice and code. Asking for the same thing again finds the
row; nothing is overwritten.

Shapes: K classes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

import numpy as np

from emoray.evaluation import metrics
from emoray.runtime import config as configs
from emoray.runtime.storage import Storage
from emoray.vocabulary import targets
from emoray.vocabulary.schema import DataError

FORMAT = 3
"""Of a row's file; raise it when a field changes its meaning."""
ROWS = "rows"
_TOLERANCE = 1e-9
_KEY_DIGITS = 32


@dataclass(frozen=True, kw_only=True)
class ResultRow:
    """One evaluated run: what it was, what came out, what it cost.

    Held to be true of every row, made or read: numbers are finite; the key is the one of its parts;
    the scores that a confusion matrix tells are those of its own.

    Raises:
        ValueError: one of these does not hold; the message names the field.
    """

    key: str
    """`key_of` the parts."""
    method: str
    stage: str
    config: Mapping[str, Any]
    """The stage's settings, as `config.to_dict` gives them."""
    dataset: str
    builds: Mapping[str, str]
    """What was read: digest of the index by the build's folder (`faced-eeg-0d9cf00c654e`)."""
    target: Mapping[str, Any]
    """What the classes are (`vocabulary.targets`), as plain data."""
    protocol: str
    fold: str
    seed: int
    starts: Mapping[str, Mapping[str, Any]]
    """Where the weights came from, by what the stage calls it (`encoder`): which run's, its method,
    stage and settings, and its own starts; none: from scratch."""
    chosen_by: str
    """Metric on the validation segments by which the best epoch was chosen."""
    code: str
    """Version of the code that ran (`runtime.code`)."""
    n_classes: int
    n_train: int
    """Segments."""
    n_val: int
    n_test: int
    scores: Mapping[str, float]
    """On the test segments, by metric, as fractions; one that is not defined for them is left
    out."""
    confusion: tuple[tuple[int, ...], ...]
    """Test segments, (K, K): rows are true classes, columns predicted ones."""
    val_score: float
    """`chosen_by` of the best epoch, on the validation segments."""
    best_epoch: int
    """By `val_score`; from 0."""
    n_epochs: int
    """That were trained."""
    audit: Mapping[str, Any]
    """The leakage audit as plain data; its `verdict` in words."""
    n_parameters: int
    """Trainable numbers, all."""
    n_head_parameters: int
    """Of these, the head's."""
    seconds: float
    """The whole run; of processes that were interrupted, their training steps."""
    segments_per_s: float
    """While training."""
    waiting: float
    """Share of the training time spent waiting for data, in [0, 1]."""
    device: str
    machine: Mapping[str, Any]
    """Versions and hardware."""
    rehearsal: bool
    """Whether the corpus was recorded from nobody."""
    finished: str
    """ISO 8601, UTC."""
    curves: Mapping[str, tuple[float, ...]]
    """`train_loss`, `val_<metric>`: one value for each epoch."""

    def __post_init__(self) -> None:
        plain = configs.to_dict(self)  # refuses what JSON cannot say, NaN among it
        for name in ("config", "builds", "target", "starts", "scores", "audit", "machine"):
            object.__setattr__(self, name, plain[name])
        object.__setattr__(self, "confusion", tuple(map(tuple, plain["confusion"])))
        curves = {name: tuple(values) for name, values in plain["curves"].items()}
        object.__setattr__(self, "curves", curves)
        _check_ranges(self)
        _check_scores(self)
        _check_epochs(self)
        key = key_of(**{name: plain[name] for name in KEY_PARTS})
        if self.key != key:
            _refuse("key", f"{key}, which its parts give", self.key)

    def metric(self, name: str) -> float | None:
        """A score by name, as a fraction; None where there is none.

        Raises:
            ValueError: there is no such metric.
        """
        return self.scores.get(metrics.get(name).name)

    @property
    def lineage(self) -> dict[str, Mapping[str, Any]]:
        """Settings of every stage that it descends from, by the way there: `encoder`,
        `student.teacher`."""
        return dict(_ancestors(self.starts, ""))

    @property
    def val_curve(self) -> str:
        """Name of the curve of the metric that chose the epoch."""
        return val_curve(self.chosen_by)

    @property
    def verdict(self) -> str:
        """Of the leakage audit, in words."""
        return str(self.audit["verdict"])

    def to_json(self) -> str:
        """The text of the row's file: format, checksum, row."""
        row = configs.to_dict(self)
        return json.dumps({"format": FORMAT, "sha256": _sha256(row), "row": row}, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> ResultRow:
        """Parse `to_json`.

        Raises:
            ValueError: not a row of this format, or a row that was changed since it was written.
        """
        found = json.loads(text, parse_constant=_no_constant)
        if not isinstance(found, dict) or set(found) != {"format", "sha256", "row"}:
            raise ValueError("need a result row with format, sha256 and row, got something else")
        if found["format"] != FORMAT:
            raise ValueError(
                f"need a result row of format {FORMAT}, got {found['format']}: another version of "
                "emoray wrote it"
            )
        if found["sha256"] != _sha256(found["row"]):
            raise ValueError("need the row as it was written, got another checksum: it is damaged")
        return configs.from_dict(cls, found["row"])


def val_curve(metric: str) -> str:
    """Name of a metric's curve over the epochs, on the validation segments."""
    return f"val_{metric}"


def _ancestors(
    starts: Mapping[str, Mapping[str, Any]], at: str
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for role, start in starts.items():
        if "config" in start:  # published weights have none
            yield f"{at}{role}", start["config"]
            yield from _ancestors(start["starts"], f"{at}{role}.")


KEY_PARTS = (
    *("method", "stage", "config", "builds", "target", "protocol", "fold"),
    *("seed", "starts", "chosen_by", "code"),
)
"""Fields of a row that make its key: what was asked for, not what came out."""


def key_of(*, held_out: Mapping[str, Sequence[str]] = MappingProxyType({}), **parts: Any) -> str:
    """32 hex digits that change with any part and with nothing else.

    Args:
        held_out: whom a run without a fold must not see; nobody for a row.
        parts: `KEY_PARTS`, all of them, as plain data: 5 and 5.0 are two settings here. Starts name
            their weights (the run and step that made them), not only their place.

    Raises:
        ValueError: a part that is no plain data, one too many or too few.
    """
    if set(parts) != set(KEY_PARTS):
        raise ValueError(f"need {', '.join(KEY_PARTS)} for a key, got {', '.join(sorted(parts))}")
    asked = {"held_out": held_out, **parts}
    return _sha256(configs.plain_dict(asked))[:_KEY_DIGITS]


class ResultStore:
    """Rows in a folder, one file each; safe for any number of writers and readers at once."""

    def __init__(self, location: str | Path | Storage) -> None:
        self.storage = Storage.at(location)
        self._rows = self.storage.sub(ROWS)
        self._read: dict[str, ResultRow] = {}  # a row never changes
        self._is_swept = False

    def __str__(self) -> str:
        return str(self.storage)

    def add(self, row: ResultRow) -> bool:
        """Keep a row, unless there is one of its key: the first writer wins.

        Returns:
            Whether it was added.

        Raises:
            OSError: the folder cannot be written; the message says which.
            DataError: the row that is there is damaged.
        """
        if not self._is_swept:
            self._rows.sweep()  # what killed writers left
            self._is_swept = True
        is_new = self._rows.create(_file(row.key), row.to_json().encode())
        if not is_new:
            self.get(row.key)
        return is_new

    def get(self, key: str) -> ResultRow | None:
        """The row of a key; None where there is none.

        Raises:
            DataError: its file is damaged, of another format, or holds another row.
        """
        if key not in self._read:
            text = self._rows.read(_file(key))
            if text is None:
                return None
            self._read[key] = self._parse(key, text)
        return self._read[key]

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Keys without a row, each once, in the order in which they came.

        Raises:
            DataError: files of rows that were asked for are damaged; all are named.
        """
        wanted = list(dict.fromkeys(keys))
        there = {row.key for row in self.rows(wanted)}
        return [key for key in wanted if key not in there]

    def rows(self, keys: Iterable[str] | None = None) -> list[ResultRow]:
        """Rows that are there.

        Args:
            keys: which, and in what order; those without a row are left out. None: all rows, in
                the order in which they were finished.

        Raises:
            DataError: files that are damaged, of another format, or no rows; all are named. Names
                that begin with a dot are the file system's own and are passed over.
        """
        files = self._rows.files()
        wanted = dict.fromkeys(self._keys_of(files) if keys is None else keys)
        rows, errors = self._found(key for key in wanted if _file(key) in files)
        if errors:
            raise DataError("\n".join(errors))
        return sorted(rows, key=_when) if keys is None else rows

    def readable(self) -> tuple[list[ResultRow], list[str]]:
        """All rows that can be read, for who can do without the others, and what is wrong with
        each other file.
        """
        names = sorted(name for name in self._rows.files() if not name.startswith("."))
        rows, errors = self._found(_key_in(name) for name in names if _is_row_file(name))
        foreign = [self._rows.place(name) for name in names if not _is_row_file(name)]
        errors += [f"{path}: need a result row, got another file" for path in foreign]
        return sorted(rows, key=_when), errors

    def place(self, key: str) -> str:
        """Where the row of a key lies, or will."""
        return self._rows.place(_file(key))

    def _found(self, keys: Iterable[str]) -> tuple[list[ResultRow], list[str]]:
        """Rows, and why others could not be read."""
        rows, errors = [], []
        for key in keys:
            try:
                row = self.get(key)
            except DataError as error:
                errors.append(str(error))
            else:
                rows += [row] if row else []  # removed since the files were listed
        return rows, errors

    def _keys_of(self, files: Iterable[str]) -> list[str]:
        shown = sorted(name for name in files if not name.startswith("."))
        if foreign := [name for name in shown if not _is_row_file(name)]:
            listed = ", ".join(self._rows.place(name) for name in foreign)
            raise DataError(f"need nothing but result rows in {self._rows}, got {listed}")
        return [_key_in(name) for name in shown]

    def _parse(self, key: str, text: bytes) -> ResultRow:
        try:
            row = ResultRow.from_json(text)
            if row.key != key:
                raise ValueError(f"need the row {key}, got {row.key}")
        except ValueError as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
            path = self._rows.place(_file(key))
            raise DataError(f"{path}: {error}; without the file its run is done again") from error
        return row


def _file(key: str) -> str:
    return f"{key}.json"


def _key_in(name: str) -> str:
    return name.removesuffix(".json")


def _is_row_file(name: str) -> bool:
    stem = _key_in(name)
    return name != stem and len(stem) == _KEY_DIGITS and set(stem) <= set("0123456789abcdef")


def _when(row: ResultRow) -> tuple[datetime, str]:
    return _utc(row.finished), row.key


def _sha256(plain: object) -> str:
    return hashlib.sha256(configs.canonical_json(plain).encode()).hexdigest()


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"need finite numbers, got {name}")


# What must hold of a row --------------------------------------------------------------------------


def _refuse(field: str, need: str, got: object) -> NoReturn:
    raise ValueError(f"need {field} to be {need}, got {got!r}")


_TEXTS = ("method", "stage", "dataset", "builds", "protocol", "fold", "code", "device")
_LEAST: Mapping[str, float] = {
    "seed": 0,
    "n_classes": 2,
    "n_train": 1,
    "n_val": 1,
    "n_test": 1,
    "n_epochs": 1,
    "n_head_parameters": 0,
    "seconds": 0,
    "segments_per_s": 0,
    "waiting": 0,
}


def _check_ranges(row: ResultRow) -> None:
    for name in _TEXTS:
        if not getattr(row, name):
            _refuse(name, "some text", "")
    for name, least in _LEAST.items():
        if getattr(row, name) < least:
            _refuse(name, f"{least} or more", getattr(row, name))
    if row.waiting > 1:
        _refuse("waiting", "1 or less", row.waiting)
    targets.from_plain(row.target)
    _check_metric("val_score", row.chosen_by, row.val_score)
    for name, score in row.scores.items():
        _check_metric(f"scores.{name}", name, score)
    if row.n_parameters < row.n_head_parameters:
        _refuse("n_parameters", f"{row.n_head_parameters} or more, as its head", row.n_parameters)
    if not isinstance(row.audit.get("verdict"), str):
        _refuse("audit", "a table with a verdict", row.audit)
    _utc(row.finished)


def _check_metric(field: str, name: str, score: float) -> None:
    metric = metrics.get(name)
    if not metric.low <= score <= 1:
        _refuse(field, f"from {metric.low:g} to 1", score)


def _utc(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        _refuse("finished", "a time in ISO 8601", text)
    if found.utcoffset() != timedelta(0):
        _refuse("finished", "a time in UTC", text)
    return found


def _check_epochs(row: ResultRow) -> None:
    if not 0 <= row.best_epoch < row.n_epochs:
        _refuse("best_epoch", f"from 0 to {row.n_epochs - 1}", row.best_epoch)
    for name, values in row.curves.items():
        if len(values) != row.n_epochs:
            _refuse(f"curves.{name}", f"{row.n_epochs} values", len(values))
    of_best = row.curves.get(row.val_curve, (row.val_score,) * row.n_epochs)[row.best_epoch]
    if abs(of_best - row.val_score) > _TOLERANCE:
        _refuse("val_score", f"{of_best!r}, as its curve in the best epoch", row.val_score)


def _check_scores(row: ResultRow) -> None:
    """Whether the scores that the confusion matrix tells are its own.

    One that is not there is no error: a metric that came later outdates no row.
    """
    k = row.n_classes
    if len(row.confusion) != k or any(len(counts) != k for counts in row.confusion):
        _refuse("confusion", f"{k} x {k}", [len(counts) for counts in row.confusion])
    counts_KK = np.array(row.confusion, dtype=np.int64)
    if counts_KK.min() < 0 or counts_KK.sum() != row.n_test:
        _refuse("confusion", f"counts of {row.n_test} test segments", row.confusion)
    for name, needed in metrics.scores_of(counts_KK).items():
        found = row.scores.get(name)
        if found is not None and abs(found - needed) > _TOLERANCE:
            _refuse(f"scores.{name}", f"{needed!r}, as its confusion matrix says", found)
