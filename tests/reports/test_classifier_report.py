"""What is told of one classifier, by hand."""

from __future__ import annotations

import io

import pytest
from rich.console import Console, RenderableType

from emoray.reports import classifier
from emoray.reports.classifier import Scored, TrainedStage
from tests.rows import made_row

CONFUSION = ((6, 2, 0), (1, 3, 0), (0, 0, 0))
"""Eight of the first class, four of the second, none of the third."""
N_SEGMENTS = {"train": (10, 20, 10), "validation": (5, 5, 0), "test": (8, 4, 0)}


@pytest.fixture
def tested() -> Scored:
    row = made_row(CONFUSION, n_classes=3, n_test=12)
    return Scored("SSL on WESAD", "people apart", ("calm", "tense", "glad"), N_SEGMENTS, row)


def said(shown: RenderableType) -> str:
    console = Console(file=io.StringIO(), width=100)
    console.print(shown)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def words(text: str, beginning: str) -> list[str]:
    """Of the one line that begins so."""
    (line,) = [line for line in text.splitlines() if line.startswith(beginning)]
    return line.removeprefix(beginning).split()


def test_who_always_says_the_commonest_class_of_training_finds_that_one(tested: Scored) -> None:
    """The second class, four of twelve: recall 0 and 1; the F1 of each 0 and 2 * 4 / (4 + 12)."""
    assert tested.commonest["acc"] == pytest.approx(4 / 12)
    assert tested.commonest["bacc"] == pytest.approx(1 / 2)
    assert tested.commonest["f1"] == pytest.approx((0 + 2 * 4 / (4 + 12)) / 2)
    assert tested.commonest["kappa"] == pytest.approx(0.0)


def test_a_class_that_nobody_is_tested_on_has_no_recall(tested: Scored) -> None:
    assert tested.recall_K == (6 / 8, 3 / 4, None)


def test_the_report_has_scores_balance_and_where_they_are_from(tested: Scored) -> None:
    text = said(classifier.test(tested, ("acc", "auc"), rehearsal=True))
    assert "[rehearsal data]" in text
    assert words(text, "accuracy") == ["75.0", "%", "33.3", "%"]
    assert words(text, "calm") == "10 (25 %) 5 (50 %) 8 (67 %) 75.0 %".split()
    assert words(text, "glad") == "10 (25 %) 0 (0 %) 0 (0 %)".split()
    assert words(text, "all") == ["40", "10", "12"]
    assert f"{tested.row.protocol}, fold {tested.row.fold}, seed {tested.row.seed}" in text
    assert tested.row.verdict in text
    assert max(map(len, text.splitlines())) <= 100


def test_a_line_for_each_stage() -> None:
    stages = [
        TrainedStage("pretext", 30, 1200, 0.5, 0.25, 83.4),
        TrainedStage("emotion", 8, 56, 1.5, 1.25, 2.0),
    ]
    text = said(classifier.stages(stages, rehearsal=False))
    assert words(text, "pretext") == ["30", "1,200", "0.5000", "0.2500", "1:23"]
    assert words(text, "emotion") == ["8", "56", "1.5000", "1.2500", "0:02"]
    assert "rehearsal" not in text
