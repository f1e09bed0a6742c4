"""What each part of a model is worth: a paper's ablations, as bars."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from emoray.evaluation import metrics
from emoray.evaluation.statistics import Interval
from emoray.reports import grids
from emoray.reports.figures.sheet import (
    ALARM,
    FAINT,
    GREY,
    INK,
    PALE,
    SMALL,
    nothing,
    plain,
    png,
    sheet,
    warnings,
)
from emoray.reports.summary import REHEARSAL_MARK
from emoray.results.comparison import Block, Cell, Comparison

Drops = Mapping[str, Mapping[str, float]]
"""Evaluation -> row -> percentage points of its first metric below the full model, as published."""

_BAR_IN, _PANEL_IN = 0.37, 1.05
_MEAN_PT, _OURS_PT, _PAPER_PT = 29.0, 93.0, 126.0
"""Right edges of the columns of numbers, in points right of the axes."""


def ablation_bars(comparison: Comparison, drops: Drops | None = None) -> bytes:
    """A block's first metric without each part, against the full model, as PNG.

    A panel for every dataset and protocol with results. A bar is the mean over seeds, in percent,
    and begins at chance, where a model that knows nothing stands: differences keep their size and
    no bar is cut. The whisker is the 95 % interval, a dot a seed. The dashed line and its band are
    the full model (the comparison's reference row) and its interval. The numbers beside are paired
    differences to it. A row that did not run is a gap that says so.

    Args:
        comparison: its reference row is the full model; None draws no line.
        drops: published differences, written where the protocol is the paper's. Under another
            they would be compared with something else.
    """
    return png(_figure(comparison, drops or {}))


def _figure(comparison: Comparison, drops: Drops) -> Figure:
    blocks = [b for b in comparison.blocks if any(cell.results for cell in b.cells)]
    if not blocks:
        return nothing(comparison.caption, "not run", rehearsal=comparison.rehearsal)
    n_bars = [len(_ablations(block, comparison.reference)) for block in blocks]
    heights = [_PANEL_IN + _BAR_IN * n for n in n_bars]
    notes = [
        "Bars: mean over seeds, from chance. Whiskers: 95 % interval. Dots: seeds. Dashed line and "
        "band: full model and its interval. Difference to it: percentage points, paired by seed, "
        "[95 % interval]."
    ]
    for block in blocks:
        notes += [f"{block.title}, {block.protocol}: {said}" for said in warnings(block)]
    figure = sheet(
        sum(heights), title=comparison.caption, rehearsal=comparison.rehearsal, notes=notes
    )
    panels = figure.subplots(len(blocks), 1, squeeze=False, height_ratios=heights).ravel()
    for axes, block in zip(panels, blocks, strict=True):
        published = drops.get(block.name, {}) if block.is_paper else {}
        _panel(axes, block, comparison.reference, published)
    return figure


def _ablations(block: Block, reference: str | None) -> list[Cell]:
    return [cell for cell in block.cells if cell.row != reference]


def _panel(axes: Axes, block: Block, reference: str | None, published: Mapping[str, float]) -> None:
    full = block.cell(reference) if reference else None
    cells = _ablations(block, reference)
    metric = metrics.get(block.metrics[0])
    n_classes = next(row.n_classes for cell in block.cells for row in cell.results)
    chance = 100 * metric.chance(n_classes)
    for y, cell in enumerate(cells):
        _bar(axes, y, cell, metric.name, chance)
        _numbers(axes, y, cell, metric.name, full, published.get(cell.row))
    heads = {_MEAN_PT: "mean"}
    if full is not None and full.per_seed(metric.name):
        heads[_OURS_PT] = "difference"
    if published:
        heads[_PAPER_PT] = "paper"
    for x_pt, head in heads.items():
        _beside(axes, x_pt, -0.75, head, color=GREY)
    axes.axvline(chance, color="black", linewidth=0.9)
    axes.set_ylim(len(cells) - 0.4, -0.6)
    axes.set_yticks(range(len(cells)), [_name(cell) for cell in cells], fontsize=SMALL)
    axes.set_xlabel(f"{metric.words} (%), chance {chance:.1f}", fontsize=SMALL)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.set_title(_heading(block), fontsize=SMALL, loc="left", pad=18)
    plain(axes)
    axes.tick_params(axis="y", length=0)
    if full is not None:
        _full_model(axes, full, metric.name)


def _name(cell: Cell) -> str:
    """The row's name, and how many seeds are there where some are missing."""
    n, wanted = cell.n_complete, cell.n_wanted // cell.folds_per_seed
    return f"{cell.row}\n{n} of {wanted} seeds" if 0 < n < wanted else cell.row


def _heading(block: Block) -> str:
    whose = "the paper's protocol" if block.is_paper else "not the paper's protocol"
    lines = [f"{block.title}, {whose}", block.protocol]
    if grids.is_rehearsal(block):
        lines[0] += f" ({REHEARSAL_MARK})"
    return "\n".join(lines)


def _why_blank(cell: Cell) -> str:
    if cell.errors:
        return "failed"
    return "no seed complete" if cell.results else "not run"


def _bar(axes: Axes, y: int, cell: Cell, metric: str, chance: float) -> None:
    summary = cell.summary(metric)
    if summary is None:
        gap = axes.text(chance, y, f"  {_why_blank(cell)}", va="center", color=GREY)
        gap.set(fontsize=SMALL, style="italic")
        return
    axes.barh(y, summary.mean - chance, left=chance, height=0.7, color=FAINT, label=cell.row)
    seeds = list(cell.per_seed(metric).values())
    dots = axes.plot(seeds, [y + 0.2] * len(seeds), "o", color=INK, label="seeds")[0]
    dots.set(markersize=3.2, markerfacecolor="white", markeredgewidth=0.8)
    if summary.interval is not None:
        _whisker(axes, y - 0.1, summary.interval)


def _whisker(axes: Axes, y: float, interval: Interval) -> None:
    reach = [[interval.mean - interval.low], [interval.high - interval.mean]]
    axes.errorbar(
        interval.mean,
        y,
        xerr=reach,
        color="black",
        capsize=3,
        elinewidth=1.3,
        capthick=1.3,
        fmt="none",
        label="95 % interval",
    )


def _full_model(axes: Axes, full: Cell, metric: str) -> None:
    summary = full.summary(metric)
    if summary is None:
        _above(axes, f"full model: {_why_blank(full)}", is_left=True)
        return
    if summary.interval is not None:
        low, high = summary.interval.low, summary.interval.high
        axes.axvspan(low, high, color=PALE, zorder=0, label="full model, 95 % interval")
    axes.axvline(summary.mean, color=ALARM, linestyle="--", linewidth=1.6, label="full model")
    is_left = summary.mean < sum(axes.get_xlim()) / 2
    _above(axes, f"full model {summary.mean:.1f}", is_left=is_left)


def _above(axes: Axes, text: str, *, is_left: bool) -> None:
    """On one side, so that it ends within the axes."""
    place = (0, 1) if is_left else (1, 1)
    said = axes.annotate(text, place, xycoords="axes fraction", va="bottom", color=ALARM)
    said.set(ha="left" if is_left else "right", fontsize=SMALL)


def _numbers(
    axes: Axes, y: int, cell: Cell, metric: str, full: Cell | None, drop: float | None
) -> None:
    """Mean and differences to the full model, ours and published, right of the axes."""
    if (summary := cell.summary(metric)) is not None:
        _beside(axes, _MEAN_PT, y, f"{summary.mean:.1f}")
    if full is not None:
        _beside(axes, _OURS_PT, y, _difference(cell, full, metric))
    if drop is not None:
        _beside(axes, _PAPER_PT, y, signed(-drop, 2))


def _beside(axes: Axes, x_pt: float, y: float, text: str, *, color: str = "black") -> None:
    axes.annotate(
        text,
        (1, y),
        xycoords=("axes fraction", "data"),
        xytext=(x_pt, 0),
        textcoords="offset points",
        ha="right",
        va="center" if y >= 0 else "bottom",
        color=color,
        fontsize=SMALL,
        annotation_clip=False,
    )


def _difference(cell: Cell, full: Cell, metric: str) -> str:
    paired = cell.against(full, metric)
    if paired is None:
        return ""
    if paired.interval is None:
        return f"{signed(paired.mean)}\n(n = {paired.n})"
    low, high = signed(paired.interval.low), signed(paired.interval.high)
    return f"{signed(paired.mean)}\n[{low}, {high}]"


def signed(value: float, digits: int = 1) -> str:
    """A difference with its sign, a minus as long as the plus."""
    return f"{value:+.{digits}f}".replace("-", "\u2212")
