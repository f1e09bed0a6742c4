"""Which figures go with a comparison, each with its words."""

from __future__ import annotations

from collections.abc import Iterator

from emoray.evaluation import metrics
from emoray.reports import grids
from emoray.reports.figures.ablations import Drops, ablation_bars
from emoray.reports.figures.confusions import confusion_matrices
from emoray.reports.figures.curves import training_curves
from emoray.reports.page import Figure
from emoray.results.comparison import Block, Comparison


def of_comparison(comparison: Comparison, *, drops: Drops | None = None) -> tuple[Figure, ...]:
    """Bars where the comparison is itself a figure; matrices and curves of every block that ran.

    Args:
        comparison: blocks without a run have no figure.
        drops: as `ablation_bars`.
    """
    return tuple(_figures(comparison, drops or {}))


def _figures(comparison: Comparison, drops: Drops) -> Iterator[Figure]:
    shown = [block for block in comparison.blocks if any(c.results for c in block.cells)]
    if comparison.name.startswith("figure") and shown:
        scored = " and ".join(dict.fromkeys(grids.capitalised(b.metrics[0]) for b in shown))
        yield Figure(
            "ablations",
            comparison.caption,
            f"{scored} without each part, against the full model.",
            ablation_bars(comparison, drops),
        )
    for block in shown:
        yield from _of_block(block)


def _of_block(block: Block) -> Iterator[Figure]:
    where = f"{block.title}, {block.protocol}"
    yield Figure(
        f"confusion-{block.name}-{block.protocol}",
        f"Confusion matrices: {where}",
        "Rows are true classes, columns predicted ones; summed over seeds and folds.",
        confusion_matrices(block, class_names=block.class_names or _indices(block)),
    )
    chosen_by = next(row.chosen_by for cell in block.cells for row in cell.results)
    yield Figure(
        f"curves-{block.name}-{block.protocol}",
        f"Training: {where}",
        f"Loss on the training segments and {metrics.get(chosen_by).words} on the validation "
        "segments, epoch by epoch.",
        training_curves(block),
    )


def _indices(block: Block) -> tuple[str, ...]:
    n_classes = next(row.n_classes for cell in block.cells for row in cell.results)
    return tuple(str(i) for i in range(n_classes))
