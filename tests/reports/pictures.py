"""What tests of figures share: made-up blocks, pictures as arrays, what must hold of all."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib.image
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from emoray.results.comparison import Block, Cell
from tests.rows import made_row

DATASET, PROTOCOL = "seed", "paper_same_subjects_same_stimuli"


def confusion(percent: int, n_classes: int = 3, per_class: int = 100) -> list[list[int]]:
    """Of each class `percent` of 100 right, the others spread evenly; bacc is `percent`."""
    wrong, more = divmod(100 - percent, n_classes - 1)
    found = []
    for i in range(n_classes):
        others = [wrong + (1 if j < more else 0) for j in range(n_classes - 1)]
        row = [*others[:i], percent, *others[i:]]
        found.append([n * per_class // 100 for n in row])
    return found


def cell(row: str, percents: Sequence[int], *, wanted: int = 0, **fields: Any) -> Cell:
    """A run for each percentage, seeds from 0."""
    n_classes, per_class = fields.pop("n_classes", 3), fields.pop("per_class", 100)
    fields = {"dataset": DATASET, "protocol": PROTOCOL, **fields}
    results = tuple(
        made_row(confusion(percent, n_classes, per_class), seed=seed, **fields)
        for seed, percent in enumerate(percents)
    )
    return Cell(row, results=results, n_wanted=wanted or len(percents))


def block(*cells: Cell, is_paper: bool = True, **fields: Any) -> Block:
    given = {"dataset": DATASET, "title": "SEED", "protocol": PROTOCOL, "words": "w", **fields}
    given = {"name": given["dataset"], "metrics": ("bacc", "kappa", "wf1"), **given}
    return Block(is_paper=is_paper, cells=cells, **given)


def pixels(png: bytes) -> np.ndarray:
    """Height, width, colours in [0, 1]."""
    return np.asarray(matplotlib.image.imread(io.BytesIO(png), format="png"))[..., :3]


def is_whole(png: bytes) -> bool:
    """Whether nothing drawn touches the edge, where it would be cut."""
    image = pixels(png)
    edges = (image[:3], image[-3:], image[:, :3], image[:, -3:])
    return all(bool((edge == 1).all()) for edge in edges)


def small_print(figure: Figure) -> str:
    """All words below and above the panels, in one line."""
    return " ".join(text.get_text() for text in figure.texts)


def words(axes: Axes) -> list[str]:
    """What is written in and beside a panel."""
    return [text.get_text().strip() for text in axes.texts]


def lines(axes: Axes, label: str) -> list[np.ndarray]:
    """(2, n) abscissae and ordinates of the lines of that name."""
    return [np.array(line.get_data()) for line in axes.lines if line.get_label() == label]


def overlapping(figure: Figure, axes: Iterable[Axes]) -> list[tuple[str, str]]:
    """Texts inside these panels, and their titles, that cover one another."""
    figure.draw_without_rendering()
    texts = [text for a in axes for text in (*a.texts, a.title, a._left_title) if text.get_text()]
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts]
    return [
        (a, b)
        for i, (a, box) in enumerate(boxes)
        for b, other in boxes[i + 1 :]
        if box.overlaps(other)
    ]


def lightness(colours: np.ndarray) -> np.ndarray:
    """What a grayscale print shows (Rec. 709)."""
    return np.asarray(colours)[..., :3] @ np.array([0.2126, 0.7152, 0.0722])
