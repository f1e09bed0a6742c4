"""What training did, epoch by epoch and step by step."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from emoray.evaluation import metrics
from emoray.reports import grids
from emoray.reports.figures.sheet import (
    ALARM,
    FAINT,
    GREY,
    INK,
    SMALL,
    TEXT,
    nothing,
    plain,
    png,
    sheet,
    warnings,
    wrapped,
)
from emoray.results.comparison import Block, Cell
from emoray.results.store import ResultRow

LOSS = "train_loss"

_ROW_IN, _FOOT_IN = 1.6, 0.45


def loss_curve(
    loss: Sequence[float],
    *,
    steps_per_epoch: int,
    chance: float | None,
    title: str,
    rehearsal: bool,
) -> bytes:
    """A run's loss against its epochs, as PNG.

    Args:
        loss: one value a step.
        steps_per_epoch: to turn steps into epochs.
        chance: loss where nothing has been learned, drawn as a line; None where nobody can say.
        title: above the axes.
        rehearsal: whether to say in the picture that it shows rehearsal data.
    """
    return png(
        _loss_figure(
            loss, steps_per_epoch=steps_per_epoch, chance=chance, title=title, rehearsal=rehearsal
        )
    )


def _loss_figure(
    loss: Sequence[float],
    *,
    steps_per_epoch: int,
    chance: float | None,
    title: str,
    rehearsal: bool,
) -> Figure:
    values = np.asarray(loss, dtype=np.float64)
    epochs = np.arange(1, len(values) + 1) / steps_per_epoch
    figure = sheet(3.4, rehearsal=rehearsal)
    axes = figure.subplots()
    axes.plot(epochs, values, color=FAINT, linewidth=1.0, label="each step")
    window = min(steps_per_epoch, len(values) // 10)
    if window > 1:
        smooth = np.convolve(values, np.ones(window) / window, mode="valid")
        label = f"mean of {window} steps"
        axes.plot(epochs[window - 1 :], smooth, color=INK, linewidth=2.0, label=label)
    if chance is not None:
        axes.axhline(chance, color=GREY, linestyle=":", linewidth=1.2, label="chance")
    axes.set_title("\n".join(wrapped(title, size=TEXT)), fontsize=TEXT)
    axes.set_xlabel("epoch", fontsize=TEXT)
    axes.set_ylabel("loss (nats)", fontsize=TEXT)
    plain(axes)
    axes.legend(frameon=False, fontsize=SMALL)
    return figure


def training_curves(block: Block) -> bytes:
    """Training loss and validation kappa of every run of a block, a line of panels a row, as PNG.

    A thin line is a run (one seed and fold), the thick one their mean over the epochs that every
    run of the row has. The dot on a run's score is its best epoch, whose weights were tested.
    Epochs count from 1 here. Marked where a run is on rehearsal data.
    """
    return png(_training_figure(block))


def _training_figure(block: Block) -> Figure:
    rehearsal = grids.is_rehearsal(block)
    title = f"{block.title}: {block.protocol}"
    shown = [cell for cell in block.cells if any(_has_curves(row) for row in cell.results)]
    if not shown:
        return nothing(title, "no run has left curves", rehearsal=rehearsal)
    notes = [
        "Thin: single runs (seed, fold). Thick: their mean. Dots: best epoch, which was tested."
    ]
    first = next(row for row in shown[0].results if _has_curves(row))
    metric = metrics.get(first.chosen_by)
    chance = metric.chance(first.n_classes)
    notes += [f"Dotted: chance (loss of equal odds; {metric.words} {chance:.3g})."]
    if left_out := [cell.row for cell in block.cells if cell not in shown]:
        notes.append(f"No curves: {', '.join(left_out)}.")
    notes += warnings(block)
    height_in = _FOOT_IN + _ROW_IN * len(shown)
    figure = sheet(height_in, title=title, rehearsal=rehearsal, notes=notes)
    grid = figure.subplots(len(shown), 2, sharex=True, sharey="col", squeeze=False)
    for (left, right), cell in zip(grid, shown, strict=True):
        rows = [row for row in cell.results if _has_curves(row)]
        _curves(left, rows, LOSS, chance=math.log(rows[0].n_classes))
        _curves(right, rows, first.val_curve, chance=chance)
        _best_epochs(right, rows)
        left.set_title(_name(cell, rows), fontsize=TEXT, loc="left")
        left.set_ylabel("train loss (nats)", fontsize=SMALL)
        right.set_ylabel(f"validation {metric.words}", fontsize=SMALL)
    for axes in grid[-1]:
        axes.set_xlabel("epoch", fontsize=SMALL)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    return figure


def _has_curves(row: ResultRow) -> bool:
    return LOSS in row.curves and row.val_curve in row.curves


def _name(cell: Cell, rows: Sequence[ResultRow]) -> str:
    return f"{cell.row} ({len(rows)} {'run' if len(rows) == 1 else 'runs'})"


def _curves(axes: Axes, rows: Sequence[ResultRow], name: str, *, chance: float) -> None:
    curves = [np.asarray(row.curves[name]) for row in rows]
    n_common = min(len(curve) for curve in curves)
    mean = np.mean([curve[:n_common] for curve in curves], axis=0)
    # A single epoch is no line: it needs a mark to be seen.
    marker = "." if max(len(curve) for curve in curves) == 1 else None
    axes.axhline(chance, color=GREY, linestyle=":", linewidth=1.1, label="chance")
    for curve in curves:
        epochs = np.arange(1, len(curve) + 1)
        axes.plot(epochs, curve, color=FAINT, linewidth=0.8, marker=marker, label="run")
    if len(curves) > 1:
        epochs = np.arange(1, n_common + 1)
        axes.plot(epochs, mean, color=INK, linewidth=1.9, marker=marker, label="mean")
    plain(axes)


def _best_epochs(axes: Axes, rows: Sequence[ResultRow]) -> None:
    axes.scatter(
        [row.best_epoch + 1 for row in rows],
        [row.curves[row.val_curve][row.best_epoch] for row in rows],
        s=20,
        facecolor="white",
        edgecolor=ALARM,
        linewidth=1.2,
        zorder=3,
        label="best epoch",
    )
