"""Figures from what a run left behind; the only room that knows matplotlib."""

from __future__ import annotations

import io
from collections.abc import Sequence

import matplotlib as mpl

mpl.use("Agg")  # no screen on a cluster

import numpy as np
from matplotlib.figure import Figure

INK, FAINT = "#1b4965", "#9db4c0"


def loss_curve(
    loss: Sequence[float], *, steps_per_epoch: int, blind: float, title: str, rehearsal: bool
) -> bytes:
    """A run's loss against its epochs, as PNG.

    Args:
        loss: one value a step.
        steps_per_epoch: to turn steps into epochs.
        blind: loss of embeddings that tell no two segments apart, drawn as a line.
        title: above the axes.
        rehearsal: whether to say in the picture that it shows rehearsal data.
    """
    values = np.asarray(loss, dtype=np.float64)
    epochs = np.arange(1, len(values) + 1) / steps_per_epoch
    figure = Figure(figsize=(7.0, 4.0), dpi=130, layout="constrained")
    axes = figure.subplots()
    axes.plot(epochs, values, color=FAINT, linewidth=1.2, label="each step")
    window = min(steps_per_epoch, len(values) // 10)
    if window > 1:
        smooth = np.convolve(values, np.ones(window) / window, mode="valid")
        label = f"mean of {window} steps"
        axes.plot(epochs[window - 1 :], smooth, color=INK, linewidth=2.0, label=label)
    axes.axhline(blind, color="#888888", linestyle=":", linewidth=1.2, label="nothing told apart")
    axes.set(xlabel="epoch", ylabel="loss (nats)", title=title)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    if rehearsal:
        _mark_rehearsal(figure)
    return _png(figure)


def _mark_rehearsal(figure: Figure) -> None:
    figure.text(0.99, 0.01, "rehearsal data", ha="right", va="bottom", color="#b23a48", fontsize=9)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
