"""Which classes are taken for which.

Shapes: K classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure

from emoray.reports import grids
from emoray.reports.figures.sheet import (
    GREY,
    INK,
    SMALL,
    WIDTH_IN,
    nothing,
    png,
    sheet,
    warnings,
)
from emoray.results.comparison import Block, Cell
from emoray.vocabulary.schema import FloatArray, IntArray

SHARES = LinearSegmentedColormap.from_list("shares", ["#ffffff", "#8fb0c4", INK, "#0b2233"])
"""White to almost black: reads the same in grayscale."""

_FEW_CLASSES = 5
"""Up to here two matrices fit side by side with numbers that a phone shows."""
_BAR_IN, _WORDS_IN, _WIDEST_IN = 0.65, 0.75, 3.4
_LETTER_IN = 0.075
_MANY = 10_000
"""From this count on a matrix is written in thousands: five digits do not fit."""
_DARK = 0.45
"""Share from which the ground is too dark for black."""


def confusion_matrices(block: Block, *, class_names: Sequence[str]) -> bytes:
    """One matrix for every row of a block that ran, as PNG.

    Rows are true classes, columns predicted ones. The colour is the share of the true class, the
    number the count of test segments, summed over seeds and folds. Marked where a run is on
    rehearsal data.

    Args:
        block: its rows without a run are named below the matrices.
        class_names: by class index.

    Raises:
        ValueError: not as many names as a run has classes.
    """
    return png(_figure(block, class_names))


def confusion_of(cell: Cell) -> IntArray:
    """Sum of a cell's matrices, (K, K).

    Raises:
        ValueError: the cell has no run.
    """
    if not cell.results:
        raise ValueError(f"need runs of {cell.row}, got none")
    matrices = np.array([row.confusion for row in cell.results], dtype=np.int64)
    counts_KK: IntArray = matrices.sum(axis=0)
    return counts_KK


def shares_of(counts_KK: IntArray) -> FloatArray:
    """Each row divided by its sum; zeros where a class has no segment."""
    total_K1 = counts_KK.sum(axis=1, keepdims=True)
    shares_KK: FloatArray = counts_KK / np.maximum(total_K1, 1)
    return shares_KK


def _figure(block: Block, class_names: Sequence[str]) -> Figure:
    shown = [cell for cell in block.cells if cell.results]
    rehearsal = grids.is_rehearsal(block)
    title = f"{block.title}: {block.protocol}"
    if not shown:
        return nothing(title, "not run", rehearsal=rehearsal)
    k = len(class_names)
    if wrong := [cell.row for cell in shown if cell.results[0].n_classes != k]:
        n_classes = shown[0].results[0].n_classes
        raise ValueError(f"need {n_classes} class names for {', '.join(wrong)}, got {k}")
    n_columns = 2 if k <= _FEW_CLASSES and len(shown) > 1 else 1
    n_lines = math.ceil(len(shown) / n_columns)
    unit = 1000 if max(int(confusion_of(cell).max()) for cell in shown) >= _MANY else 1
    names_in = _LETTER_IN * max(map(len, class_names))
    matrix_in = min((WIDTH_IN - names_in - 0.4) / n_columns - 0.1, _WIDEST_IN)
    is_slanted = names_in > 0.95 * matrix_in / k
    below_in = names_in if is_slanted else 2 * _LETTER_IN
    height_in = _BAR_IN + (matrix_in + below_in + _WORDS_IN) * n_lines
    figure = sheet(height_in, title=title, rehearsal=rehearsal, notes=_notes(block, shown, unit))
    grid = figure.subplots(n_lines, n_columns, squeeze=False)
    for axes in grid.ravel()[len(shown) :]:
        axes.set_axis_off()
    for axes, cell in zip(grid.ravel(), shown, strict=False):
        _matrix(axes, cell, unit)
        _names(axes, class_names, is_first=axes in grid[:, 0], is_slanted=is_slanted)
    bar = figure.colorbar(
        ScalarMappable(Normalize(0, 100), SHARES),
        ax=list(grid.ravel()),
        location="bottom",
        shrink=0.7,
        aspect=35,
        pad=0.02,
    )
    bar.set_label("share of the true class (%)", fontsize=SMALL)
    bar.ax.tick_params(labelsize=SMALL)
    return figure


def _notes(block: Block, shown: Sequence[Cell], unit: int) -> list[str]:
    counted = "thousands of test segments" if unit > 1 else "test segments"
    notes = [f"Numbers: {counted}, summed over seeds and folds."]
    if missing := [cell.row for cell in block.cells if cell not in shown]:
        notes.append(f"Not run: {', '.join(missing)}.")
    return [*notes, *warnings(block)]


def _matrix(axes: Axes, cell: Cell, unit: int) -> None:
    counts_KK = confusion_of(cell)
    shares_KK = shares_of(counts_KK)
    axes.imshow(100 * shares_KK, cmap=SHARES, vmin=0, vmax=100)
    for i, j in np.ndindex(*counts_KK.shape):
        said = f"{counts_KK[i, j] / unit:.1f}" if unit > 1 else str(counts_KK[i, j])
        colour = "white" if shares_KK[i, j] > _DARK else "black"
        axes.text(j, i, said, ha="center", va="center", color=colour, fontsize=SMALL)
    axes.set_title(f"{cell.row}\n{_runs(cell)}", fontsize=SMALL, linespacing=1.3)


def _names(axes: Axes, class_names: Sequence[str], *, is_first: bool, is_slanted: bool) -> None:
    places = range(len(class_names))
    axes.set_xticks(places, class_names, rotation=90 if is_slanted else 0, fontsize=SMALL)
    axes.set_yticks(places, class_names if is_first else [""] * len(places), fontsize=SMALL)
    axes.tick_params(length=0)
    axes.set_xlabel("predicted", fontsize=SMALL, color=GREY)
    if is_first:
        axes.set_ylabel("true", fontsize=SMALL, color=GREY)


def _runs(cell: Cell) -> str:
    n_seeds, n_folds = (len({getattr(r, f) for r in cell.results}) for f in ("seed", "fold"))
    seeds = f"{n_seeds} {'seed' if n_seeds == 1 else 'seeds'}"
    folds = f"{n_folds} {'fold' if n_folds == 1 else 'folds'}"
    complete = len(cell.results) == n_seeds * n_folds
    return f"{seeds}, {folds}" + ("" if complete else f", {len(cell.results)} runs in all")
