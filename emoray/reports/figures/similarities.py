"""Two streams beside each other, without and with alignment: Figure 2 of the alignment's paper.

Shapes: N segments, 2 = the plane, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from emoray.evaluation.statistics import summarise
from emoray.reports.figures.embeddings import LAYOUT, RATINGS
from emoray.reports.figures.sheet import (
    GREY,
    INK,
    SMALL,
    TEXT,
    WIDTH_IN,
    png,
    sheet,
)
from emoray.results.paper import PublishedSpread
from emoray.vocabulary.schema import FloatArray, IntArray

NO_MEASURE = (
    "A mean similarity is no measure of quality by itself: one vector added to all features moves "
    "it anywhere. What tells alignment from such a shift is how far pairs lie above others; above "
    "others of the same person, that it is more than who it is."
)
"""What must stand beside a mean of similarities."""

_COLOURS = (INK, "#d39c40", "#7a7a7a", "#8f4f6d", "#4f8f7a")
_FORMS = "o^sDv"


class Numbers(Protocol):
    """What a matrix offers in numbers (`emoray.evaluation.similarity.Spread`)."""

    @property
    def low(self) -> float:
        """Of all."""

    @property
    def high(self) -> float:
        """Of all."""

    @property
    def mean(self) -> float:
        """Of all."""

    @property
    def pairs(self) -> float:
        """Mean of segments of the same instant."""

    @property
    def others(self) -> float:
        """Mean of all other places."""

    @property
    def same_person(self) -> float | None:
        """Mean of those of them whose segments are of one person."""


class Matrix(Protocol):
    """What an arm offers (`emoray.evaluation.similarity.Beside`)."""

    @property
    def similarity_NN(self) -> FloatArray:
        """In [-1, 1]; row i and column i are of the same instant."""

    @property
    def points_N2(self) -> FloatArray:
        """The rows in the plane; without unit."""

    @property
    def label_N(self) -> IntArray:
        """Class of each."""

    @property
    def subjects(self) -> Sequence[str]:
        """Whose each segment is; one person's stand together."""

    @property
    def spread(self) -> Numbers:
        """The matrix in numbers."""


@dataclass(frozen=True)
class Pair:
    """One arm as published, and as found for each seed."""

    published: PublishedSpread
    found: Mapping[int, Matrix]
    """By seed; the first is drawn."""

    @property
    def drawn(self) -> Matrix:
        """Of the first seed."""
        return next(iter(self.found.values()))

    def gains(self) -> list[float]:
        """By how much pairs lie above others, for each seed."""
        return [one.spread.pairs - one.spread.others for one in self.found.values()]


def similarity_figure(
    arms: Sequence[Pair],
    *,
    title: str,
    shown: str,
    query: str,
    key: str,
    classes: Sequence[str],
    rehearsal: bool,
) -> bytes:
    """Matrices of both arms on one scale of colours, below them the rows' features by class.

    Args:
        arms: left to right, two.
        title: above the panels.
        shown: which segments, in words.
        query: what the rows are of (`ECG`).
        key: what the columns are of (`EEG`).
        classes: names by class index.
        rehearsal: whether to say in the picture that it shows rehearsal data.

    Raises:
        ValueError: the arms are not of the same segments.
    """
    return png(_figure(arms, title, shown, query, key, classes, rehearsal=rehearsal))


def spread_words(arms: Sequence[Pair]) -> tuple[str, ...]:
    """Published and found numbers of each arm, and what pairs gain, over seeds: a line each."""
    return (*(_words(arm) for arm in arms), _gain_words(arms), NO_MEASURE)


def _words(arm: Pair) -> str:
    published, found = arm.published, [one.spread for one in arm.found.values()]
    said = f"{published.name}: published mean {_signed(published.mean, 4)}, "
    said += f"{_signed(published.low, 4)} to {_signed(published.high, 4)}; ours mean "
    said += _over_seeds([one.mean for one in found])
    said += f", {_signed(min(one.low for one in found), 4)} to "
    said += f"{_signed(max(one.high for one in found), 4)}; pairs "
    said += _over_seeds([one.pairs for one in found])
    said += f", others {_over_seeds([one.others for one in found])}"
    known = [one.same_person for one in found if one.same_person is not None]
    if known:
        said += f", of them those of the same person {_over_seeds(known)}"
    return f"{said}."


def _over_seeds(values: Sequence[float]) -> str:
    mean = _signed(float(np.mean(values)), 4)
    if len(values) == 1:
        return mean
    return f"{mean} ({_signed(min(values), 4)} to {_signed(max(values), 4)})"


def _gain_words(arms: Sequence[Pair]) -> str:
    names = " and ".join(arm.published.name for arm in arms)
    said = [_over_seeds(arm.gains()) for arm in arms]
    without, trained = (arm.gains() for arm in arms)
    summary = summarise([b - a for a, b in zip(without, trained, strict=True)])
    assert summary is not None  # there is a seed
    words = f"Pairs above others, {names}: {' and '.join(said)}; the difference is "
    words += _signed(summary.mean, 4)
    if summary.interval is None:
        return f"{words} (one seed)." if summary.n == 1 else f"{words}."
    low, high = (_signed(end, 4) for end in (summary.interval.low, summary.interval.high))
    return f"{words}, 95 % interval over {summary.n} seeds {low} to {high}."


def _signed(value: float, digits: int) -> str:
    return f"{value:.{digits}f}".replace("-", "\u2212")


def _figure(
    arms: Sequence[Pair],
    title: str,
    shown: str,
    query: str,
    key: str,
    classes: Sequence[str],
    *,
    rehearsal: bool,
) -> Figure:
    first, second = (arm.drawn for arm in arms)
    same = np.array_equal(first.label_N, second.label_N)
    if not same or tuple(first.subjects) != tuple(second.subjects):
        raise ValueError("need both arms of the same segments, got others")
    figure = sheet(
        WIDTH_IN + 2.1,
        title=title,
        rehearsal=rehearsal,
        notes=_notes(first, shown, query, key),
    )
    grid = figure.subplots(2, 2)
    limit = max(float(np.abs(arm.drawn.similarity_NN).max()) for arm in arms) or 1.0
    for letter, axes, arm in zip("ab", grid[0], arms, strict=True):
        _matrix(axes, arm, limit)
        axes.set_title(f"({letter}) {arm.published.name}", fontsize=TEXT)
    grid[0, 0].set_ylabel(query, fontsize=SMALL)
    for letter, axes, arm in zip("cd", grid[1], arms, strict=True):
        _plane(axes, arm.drawn, classes)
        axes.set_title(f"({letter}) {arm.published.name}", fontsize=TEXT)
    bar = figure.colorbar(
        ScalarMappable(Normalize(-limit, limit), RATINGS),
        ax=list(grid[0]),
        location="bottom",
        shrink=0.7,
        aspect=35,
        pad=0.02,
    )
    bar.set_label(f"cosine of {query} (row) and {key} (column)", fontsize=SMALL)
    bar.ax.tick_params(labelsize=SMALL)
    return figure


def _notes(drawn: Matrix, shown: str, query: str, key: str) -> list[str]:
    n_people = len(set(drawn.subjects))
    people = "person" if n_people == 1 else "people, person by person (lines part them)"
    return [
        f"Shown: {len(drawn.label_N):,} {shown}, of {n_people} {people}.",
        f"(a), (b): on the diagonal pairs, {query} and {key} of the same instant. {NO_MEASURE}",
        f"(c), (d): features of {query} by class. {LAYOUT}",
    ]


def _matrix(axes: Axes, arm: Pair, limit: float) -> None:
    shown = arm.drawn
    axes.imshow(shown.similarity_NN, cmap=RATINGS, vmin=-limit, vmax=limit, interpolation="nearest")
    for place in _borders(shown.subjects):
        axes.axhline(place - 0.5, color="white", linewidth=0.7)
        axes.axvline(place - 0.5, color="white", linewidth=0.7)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_color(GREY)
    axes.set_xlabel("\n".join(_below(arm)), fontsize=SMALL, color=GREY)


def _below(arm: Pair) -> Iterator[str]:
    found, published = arm.drawn.spread, arm.published
    for who, one in (("ours", found), ("paper", published)):
        low, mean, high = (_signed(value, 2) for value in (one.low, one.mean, one.high))
        yield f"{who}: mean {mean}, {low} to {high}"
    yield f"pairs {_signed(found.pairs, 2)}, others {_signed(found.others, 2)}"
    if found.same_person is not None:
        yield f"others of the same person {_signed(found.same_person, 2)}"


def _borders(subjects: Sequence[str]) -> list[int]:
    """Where another person begins."""
    return [i for i, (a, b) in enumerate(pairwise(subjects), 1) if a != b]


def _plane(axes: Axes, shown: Matrix, classes: Sequence[str]) -> None:
    size = float(np.clip(6000 / max(len(shown.label_N), 1), 3, 16))
    for k, name in enumerate(classes):
        of_class_M2 = shown.points_N2[shown.label_N == k]
        axes.scatter(
            of_class_M2[:, 0],
            of_class_M2[:, 1],
            s=size,
            color=_COLOURS[k % len(_COLOURS)],
            marker=_FORMS[k % len(_FORMS)],
            linewidth=0,
            alpha=0.75,
            label=f"{name} ({len(of_class_M2):,})",
        )
    axes.set_aspect("equal", adjustable="datalim")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_color(GREY)
    axes.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, -0.02),
        fontsize=SMALL,
        frameon=False,
        handletextpad=0.1,
        labelspacing=0.2,
    )
