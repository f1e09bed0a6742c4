"""What a classifier is to tell: the publisher's classes, or ratings cut into classes.

A target is plain data in `paper.toml`, in keys and in result rows, and a function of the index.

Shapes: S segments of an index.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from emoray.vocabulary.schema import FloatArray, IntArray

NO_CLASS = -1
"""Label of a segment that takes no part."""


@dataclass(frozen=True, slots=True)
class Classes:
    """The classes that the publisher gives."""

    def labels(self, index: pa.Table) -> IntArray:
        """Class of each segment, shape (S,); -1 where it has none."""
        label_S: IntArray = index.column("label").to_numpy().astype(np.int64)
        return label_S

    def names(self, emotions: Sequence[str]) -> tuple[str, ...]:
        """Names of the classes by index.

        Args:
            emotions: the dataset's, by label (`Card.emotions`).
        """
        return tuple(emotions)

    @property
    def words(self) -> str:
        """Beside a dataset's name; empty, because a dataset's own classes go without saying."""
        return ""

    def to_plain(self) -> dict[str, Any]:
        """For keys and rows."""
        return {"kind": "classes"}


@dataclass(frozen=True, slots=True)
class Levels:
    """A rating cut at several places into ordered classes; an edge belongs to the class below it.

    Raises:
        ValueError: no rating, or edges that are not finite numbers in rising order.
    """

    rating: str
    """As the index has it, on the publisher's scale: `valence`, `arousal`, `dominance` ..."""
    edges: tuple[float, ...]
    """Class k holds the ratings above edge k - 1 and up to edge k."""

    def __post_init__(self) -> None:
        _check_rating(self.rating)
        edges = tuple(_finite(edge, "edges") for edge in self.edges)
        if not edges or list(edges) != sorted(set(edges)):
            raise ValueError(f"need one or more edges in rising order, got {list(self.edges)}")
        object.__setattr__(self, "edges", edges)

    def labels(self, index: pa.Table) -> IntArray:
        """Class of each segment, shape (S,); -1 where nobody rated it.

        Raises:
            ValueError: the index has no such rating.
        """
        return _levels(_ratings(index, self.rating), self.edges)

    def names(self, emotions: Sequence[str]) -> tuple[str, ...]:
        """`valence <= 3`, `3 < valence <= 6`, `valence > 6`."""
        inner = zip(self.edges, self.edges[1:], strict=False)
        return (
            f"{self.rating} <= {self.edges[0]:g}",
            *(f"{low:g} < {self.rating} <= {high:g}" for low, high in inner),
            f"{self.rating} > {self.edges[-1]:g}",
        )

    @property
    def words(self) -> str:
        """Beside a dataset's name; of many edges at one distance the first two and the last."""
        edges = [f"{edge:g}" for edge in self.edges]
        if len(edges) > 4 and len(set(np.diff(self.edges).round(9).tolist())) == 1:
            edges[2:-1] = ["..."]
        return f"{self.rating} cut at {', '.join(edges)}"

    def to_plain(self) -> dict[str, Any]:
        """For keys and rows."""
        return {"kind": "levels", "rating": self.rating, "edges": list(self.edges)}


@dataclass(frozen=True, slots=True)
class Cut:
    """A rating cut in two: class 1 lies above the threshold, class 0 on it or below.

    Raises:
        ValueError: no rating, or a threshold that is not finite.
    """

    rating: str
    """As in `Levels`."""
    above: float

    def __post_init__(self) -> None:
        _check_rating(self.rating)
        object.__setattr__(self, "above", _finite(self.above, "above"))

    def labels(self, index: pa.Table) -> IntArray:
        """Class of each segment, shape (S,); -1 where nobody rated it.

        Raises:
            ValueError: the index has no such rating.
        """
        return _levels(_ratings(index, self.rating), (self.above,))

    def names(self, emotions: Sequence[str]) -> tuple[str, ...]:
        """`valence <= 5`, `valence > 5`."""
        return f"{self.rating} <= {self.above:g}", f"{self.rating} > {self.above:g}"

    @property
    def words(self) -> str:
        """Beside a dataset's name."""
        return f"{self.rating} > {self.above:g}"

    def to_plain(self) -> dict[str, Any]:
        """For keys and rows."""
        return {"kind": "cut", "rating": self.rating, "above": self.above}


Target: TypeAlias = Classes | Cut | Levels

_KINDS: Mapping[str, tuple[type[Classes] | type[Cut] | type[Levels], tuple[str, ...]]] = {
    "classes": (Classes, ()),
    "cut": (Cut, ("rating", "above")),
    "levels": (Levels, ("rating", "edges")),
}


def from_plain(found: Mapping[str, Any]) -> Target:
    """The target that `to_plain` describes.

    Raises:
        ValueError: another kind, a field too many or too few, or a value that cannot be.
    """
    name = found.get("kind") if isinstance(found, Mapping) else None
    if not isinstance(name, str) or name not in _KINDS:
        raise ValueError(f"need a target of kind {', '.join(_KINDS)}, got {found!r}")
    kind, needed = _KINDS[name]
    given = {key: value for key, value in found.items() if key != "kind"}
    if set(given) != set(needed):
        raise ValueError(
            f"need {', '.join(('kind', *needed))} in a target of kind {name}, "
            f"got {', '.join(found)}"
        )
    if "edges" in given:
        if not isinstance(given["edges"], list | tuple):
            raise ValueError(f"need a list of edges, got {given['edges']!r}")
        given["edges"] = tuple(given["edges"])
    target: Target = kind(**given)
    return target


def _check_rating(rating: object) -> None:
    if not isinstance(rating, str) or not rating:
        raise ValueError(f"need the name of a rating, got {rating!r}")


def _finite(value: object, name: str) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value):  # type: ignore[arg-type]
        raise ValueError(f"need a finite number for {name}, got {value!r}")
    return float(value)  # type: ignore[arg-type]


def _ratings(index: pa.Table, rating: str) -> FloatArray:
    """Ratings on the publisher's scale, (S,); NaN where there is none."""
    prefix = "rating_"
    known = [c.removeprefix(prefix) for c in index.column_names if c.startswith(prefix)]
    if rating not in known:
        raise ValueError(f"need a rating among {', '.join(known) or 'none'}; got {rating!r}")
    rating_S: FloatArray = index.column(f"{prefix}{rating}").to_numpy()
    return rating_S


def _levels(rating_S: FloatArray, edges: Sequence[float]) -> IntArray:
    level_S = np.digitize(rating_S, edges, right=True).astype(np.int64)
    level_S[~np.isfinite(rating_S)] = NO_CLASS
    return level_S
