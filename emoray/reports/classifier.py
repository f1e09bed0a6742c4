"""What a person is told of one classifier: how it was trained, whom it was tested on, how well.

Shapes: K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from emoray.evaluation import metrics
from emoray.reports.summary import files, heading
from emoray.results.store import ResultRow

SIDES = ("train", "validation", "test")


@dataclass(frozen=True)
class TrainedStage:
    """One stage of the chain, which has ended."""

    name: str
    n_epochs: int
    n_steps: int
    first_loss: float
    """Mean over the first epoch."""
    last_loss: float
    """Mean over the last epoch."""
    seconds: float
    """Of its steps."""


@dataclass(frozen=True)
class Scored:
    """What was told apart, on whom, and what came out."""

    title: str
    """Dataset and target, in words."""
    protocol_words: str
    classes: tuple[str, ...]
    n_segments: Mapping[str, Sequence[int]]
    """By side of the fold (`SIDES`): segments of each class."""
    row: ResultRow

    @property
    def commonest(self) -> Mapping[str, float]:
        """Scores of one who always says the class that is commonest in training, by metric."""
        said = int(np.argmax(self.n_segments["train"]))
        k = len(self.classes)
        confusion_KK = np.zeros((k, k), dtype=np.int64)
        confusion_KK[:, said] = self.n_segments["test"]
        return metrics.scores_of(confusion_KK)

    @property
    def recall_K(self) -> tuple[float | None, ...]:
        """Share found of each class; None where the test has none of it."""
        rows = self.row.confusion
        return tuple(of[i] / sum(of) if sum(of) else None for i, of in enumerate(rows))


def stages(found: Sequence[TrainedStage], *, rehearsal: bool) -> RenderableType:
    """One line for each stage."""
    grid = _grid("stage", "epochs", "steps", "loss of\nfirst epoch", "last")
    grid.add_column("\ntime", justify="right")
    for one in found:
        minutes, seconds = divmod(round(one.seconds), 60)
        grid.add_row(
            one.name,
            str(one.n_epochs),
            f"{one.n_steps:,}",
            f"{one.first_loss:.4f}",
            f"{one.last_loss:.4f}",
            f"{minutes}:{seconds:02}",
        )
    return Group(heading("Stages", rehearsal=rehearsal), grid)


def test(found: Scored, shown: Sequence[str], *, rehearsal: bool) -> RenderableType:
    """Scores beside those of the commonest class, and the balance of classes.

    Args:
        found: what was tested.
        shown: metrics, by name.
        rehearsal: marks the title.
    """
    row = found.row
    chosen = metrics.get(row.chosen_by)
    facts = {
        "protocol": f"{row.protocol}, fold {row.fold}, seed {row.seed}",
        "": found.protocol_words,
        "audit": row.verdict,
        "epoch": f"{row.best_epoch + 1} of {row.n_epochs}, chosen by {chosen.words} on validation "
        f"({_percent(row.val_score)})",
        "trained": f"{row.n_parameters:,} parameters, of which {row.n_head_parameters:,} a head's",
    }
    return Group(
        heading(f"Test: {found.title}", rehearsal=rehearsal),
        files(facts),
        "",
        _scores(found, shown),
        "",
        _balance(found),
        Text("segments of each class, in percent of the side; recall: share found", style="dim"),
    )


def _scores(found: Scored, shown: Sequence[str]) -> Table:
    grid = _grid("on the test segments", "ours", "commonest class always")
    for name in shown:
        metric = metrics.get(name)
        ours, usual = found.row.metric(name), found.commonest.get(name)
        usual = metric.chance(len(found.classes)) if usual is None else usual
        grid.add_row(metric.legend, _percent(ours), _percent(usual))
    return grid


def _balance(found: Scored) -> Table:
    grid = _grid("class", *SIDES, "recall")
    for k, name in enumerate(found.classes):
        counts = [_share(found.n_segments[side], k) for side in SIDES]
        grid.add_row(name, *counts, _percent(found.recall_K[k]))
    totals = [str(sum(found.n_segments[side])) for side in SIDES]
    grid.add_row("all", *totals, "", style="bold")
    return grid


def _grid(first: str, *others: str) -> Table:
    grid = Table(box=None, pad_edge=False, padding=(0, 2))
    grid.add_column(first, overflow="fold", vertical="bottom")
    for name in others:
        grid.add_column(name, justify="right")
    return grid


def _share(counts: Sequence[int], k: int) -> str:
    return f"{counts[k]} ({100 * counts[k] / sum(counts):.0f} %)"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"
