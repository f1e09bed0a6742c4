"""Figures as PNG; the only room that knows matplotlib."""

from emoray.reports.figures.ablations import ablation_bars
from emoray.reports.figures.chosen import of_comparison
from emoray.reports.figures.confusions import confusion_matrices
from emoray.reports.figures.curves import loss_curve, training_curves
from emoray.reports.figures.embeddings import SEEN, Layout, embedding_map
from emoray.reports.figures.similarities import NO_MEASURE, Pair, similarity_figure, spread_words

__all__ = [
    "NO_MEASURE",
    "SEEN",
    "Layout",
    "Pair",
    "ablation_bars",
    "confusion_matrices",
    "embedding_map",
    "loss_curve",
    "of_comparison",
    "similarity_figure",
    "spread_words",
    "training_curves",
]
