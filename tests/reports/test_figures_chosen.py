"""Which figures a comparison has; and the paper that all figures are drawn on."""

from __future__ import annotations

from typing import Any

import pytest

from emoray.reports.figures import of_comparison
from emoray.reports.figures.sheet import png, sheet, wrapped
from emoray.results.comparison import Block, Cell, Comparison
from tests.reports.pictures import block, cell, is_whole, pixels, small_print

NAMES = ("negative", "neutral", "positive")


def comparison(*blocks: Block, name: str = "table3", **changes: Any) -> Comparison:
    given = {"title": "EMOD", "caption": "Effect", "reference": "EMOD", "rehearsal": False}
    return Comparison(name=name, published_parameters={}, blocks=blocks, **{**given, **changes})


def blocks(class_names: tuple[str, ...] = ()) -> tuple[Block, Block]:
    cells = (cell("EMOD", (60, 62)), cell("w/o TempDomain.", (50, 52)))
    ran = block(*cells, class_names=class_names)
    return ran, block(Cell("EMOD", n_wanted=5), dataset="faced", title="FACED")


def test_every_block_that_ran_has_matrices_and_curves() -> None:
    found = of_comparison(comparison(*blocks(NAMES)))
    where = "seed-paper_same_subjects_same_stimuli"
    assert [figure.name for figure in found] == [f"confusion-{where}", f"curves-{where}"]
    for figure in found:
        assert pixels(figure.png).shape[1] == 1080
        assert figure.title.endswith("SEED, paper_same_subjects_same_stimuli")


def test_an_ablation_is_a_figure_before_all() -> None:
    found = of_comparison(comparison(*blocks(NAMES), name="figure3"))
    assert [figure.name.split("-")[0] for figure in found] == ["ablations", "confusion", "curves"]
    assert found[0].title == "Effect"


def test_published_drops_reach_the_picture() -> None:
    ablation = comparison(*blocks(), name="figure3")
    without = of_comparison(ablation)[0].png
    assert of_comparison(ablation, drops={"seed": {"w/o TempDomain.": 2.05}})[0].png != without


def test_classes_without_names_have_their_indices() -> None:
    named = of_comparison(comparison(*blocks(("0", "1", "2"))))
    assert of_comparison(comparison(*blocks()))[0].png == named[0].png


def test_a_comparison_in_which_nothing_ran_has_no_figure() -> None:
    assert of_comparison(comparison(blocks()[1], name="figure3")) == ()


# Paper --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rehearsal", [False, True])
def test_small_print_of_any_length_stays_inside(rehearsal: bool) -> None:
    notes = ["WIDE " * 60, "random_segments_same_subjects_same_stimuli_" * 4, "a few words"]
    figure = sheet(1.0, title="MOSTLY WIDE " * 12, rehearsal=rehearsal, notes=notes)
    assert is_whole(png(figure))
    assert small_print(figure).endswith("rehearsal data") == rehearsal


def test_lines_lose_no_word() -> None:
    words = "a few words that go on and on " * 8
    assert " ".join(wrapped(words)).split() == words.split()
    assert len(wrapped(words)) > 1
    assert "".join(wrapped("same_subjects_" * 12)) == "same_subjects_" * 12


def test_a_dollar_in_a_name_is_a_dollar() -> None:
    assert is_whole(png(sheet(0.5, title="$x_1", rehearsal=False, notes=["costs $\\frac$"])))
