"""Figures as PNG; the only room that knows matplotlib."""

from emoray.reports.figures.ablations import ablation_bars
from emoray.reports.figures.chosen import of_comparison
from emoray.reports.figures.confusions import confusion_matrices
from emoray.reports.figures.curves import loss_curve, training_curves
from emoray.reports.figures.embeddings import SEEN, Layout, embedding_map

__all__ = [
    "SEEN",
    "Layout",
    "ablation_bars",
    "confusion_matrices",
    "embedding_map",
    "loss_curve",
    "of_comparison",
    "training_curves",
]
