"""Which figures go with a comparison, each with its words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from emoray.reports.figures.ablations import Drops, ablation_bars
from emoray.reports.figures.confusions import confusion_matrices
from emoray.reports.figures.curves import training_curves
from emoray.reports.page import Figure
from emoray.results.comparison import Block, Comparison

ABLATIONS = "figure3"
"""The comparison that is itself a figure."""


def of_comparison(
    comparison: Comparison,
    *,
    drops: Drops | None = None,
    class_names: Mapping[str, Sequence[str]] | None = None,
) -> tuple[Figure, ...]:
    """Bars where the comparison is an ablation; matrices and curves of every block that ran.

    Args:
        comparison: blocks without a run have no figure.
        drops: as `ablation_bars`.
        class_names: by dataset, by class index; a dataset without them has its indices.
    """
    return tuple(_figures(comparison, drops or {}, class_names or {}))


def _figures(
    comparison: Comparison, drops: Drops, class_names: Mapping[str, Sequence[str]]
) -> Iterator[Figure]:
    shown = [block for block in comparison.blocks if any(c.results for c in block.cells)]
    if comparison.name == ABLATIONS and shown:
        yield Figure(
            "ablations",
            comparison.caption,
            "Balanced accuracy without each part, against the full model.",
            ablation_bars(comparison, drops),
        )
    for block in shown:
        yield from _of_block(block, class_names)


def _of_block(block: Block, class_names: Mapping[str, Sequence[str]]) -> Iterator[Figure]:
    where = f"{block.title}, {block.protocol}"
    names = class_names.get(block.dataset) or _indices(block)
    yield Figure(
        f"confusion-{block.dataset}-{block.protocol}",
        f"Confusion matrices: {where}",
        "Rows are true classes, columns predicted ones; summed over seeds and folds.",
        confusion_matrices(block, class_names=names),
    )
    yield Figure(
        f"curves-{block.dataset}-{block.protocol}",
        f"Training: {where}",
        "Loss on the training segments and kappa on the validation segments, epoch by epoch.",
        training_curves(block),
    )


def _indices(block: Block) -> tuple[str, ...]:
    n_classes = next(row.n_classes for cell in block.cells for row in cell.results)
    return tuple(str(i) for i in range(n_classes))
