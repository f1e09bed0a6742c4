"""Ablation bars: each number where the statistics put it, gaps where nothing ran."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from scipy import stats

from emoray.reports.figures import ablation_bars, ablations
from emoray.results import published
from emoray.results.comparison import Block, Cell, Comparison
from tests.reports.pictures import block, cell, is_whole, lines, overlapping, small_print, words

FULL = cell("EMOD", (60, 62, 64))
WORSE = cell("w/o TempDomain.", (55, 58, 58))
CHANCE = 100 / 3


def comparison(*blocks: Block, **changes: Any) -> Comparison:
    given = {
        "name": "figure3",
        "title": "EMOD",
        "caption": "Ablation study on model structure",
        "reference": "EMOD",
        "published_parameters": {},
        "rehearsal": False,
    }
    return Comparison(blocks=blocks, **{**given, **changes})


def drawn(*blocks: Block, drops: ablations.Drops | None = None, **changes: Any) -> Figure:
    return ablations._figure(comparison(*blocks, **changes), drops or {})


def panel(*cells: Cell, **changes: Any) -> Axes:
    (axes,) = drawn(block(FULL, *cells), **changes).axes
    return axes


def bars(axes: Axes) -> dict[float, tuple[float, float]]:
    """Row -> where its bar begins and ends."""
    return {
        bar.get_y() + bar.get_height() / 2: (bar.get_x(), bar.get_x() + bar.get_width())
        for bar in axes.patches
        if bar.get_height() == pytest.approx(0.7)
    }


def whiskers(axes: Axes) -> list[tuple[float, float]]:
    found = []
    for container in axes.containers:
        if isinstance(container, ErrorbarContainer):
            (segment,) = container[2][0].get_segments()
            found.append((segment[0][0], segment[1][0]))
    return found


# Numbers ------------------------------------------------------------------------------------------


def test_a_bar_ends_at_the_mean_over_seeds_and_begins_at_chance() -> None:
    axes = panel(WORSE, cell("w/o SpatAttn.", (61, 61, 64)))
    assert bars(axes) == {
        0.0: pytest.approx((CHANCE, 57.0)),
        1.0: pytest.approx((CHANCE, 62.0)),
    }
    assert axes.get_xlabel() == "balanced accuracy (%), chance 33.3"


def test_a_whisker_is_the_interval_of_the_mean() -> None:
    ((low, high),) = whiskers(panel(WORSE))
    reach = stats.t.ppf(0.975, 2) * np.std([55, 58, 58], ddof=1) / np.sqrt(3)
    assert (low, high) == pytest.approx((57 - reach, 57 + reach))


def test_every_seed_is_a_dot() -> None:
    (dots,) = lines(panel(WORSE), "seeds")
    assert sorted(dots[0]) == pytest.approx([55, 58, 58])


def test_the_full_model_is_a_line_with_its_interval_as_a_band() -> None:
    axes = panel(WORSE)
    (line,) = lines(axes, "full model")
    assert list(line[0]) == pytest.approx([62.0, 62.0])
    (band,) = [p for p in axes.patches if p.get_label() == "full model, 95 % interval"]
    reach = stats.t.ppf(0.975, 2) * 2 / np.sqrt(3)
    assert band.get_x() == pytest.approx(62 - reach)
    assert band.get_x() + band.get_width() == pytest.approx(62 + reach)
    assert "full model 62.0" in words(axes)
    assert "EMOD" not in [label.get_text() for label in axes.get_yticklabels()]


def test_differences_to_the_full_model_are_paired_by_seed() -> None:
    differences = np.array([-5, -4, -6])
    reach = stats.t.ppf(0.975, 2) * differences.std(ddof=1) / np.sqrt(3)
    said = f"-5.0\n[{-5 - reach:.1f}, {-5 + reach:.1f}]".replace("-", "\u2212")
    assert said in words(panel(WORSE))


def test_a_row_below_chance_is_a_bar_to_the_left() -> None:
    axes = panel(cell("w/o TempDomain.", (20, 22)))
    assert bars(axes) == {0.0: pytest.approx((CHANCE, 21.0))}
    assert axes.get_xlim()[0] < 20


# Few runs, or none --------------------------------------------------------------------------------


def test_a_single_seed_has_a_bar_and_a_dot_and_no_interval() -> None:
    axes = panel(cell("w/o TempDomain.", (57,), wanted=5))
    assert bars(axes) == {0.0: pytest.approx((CHANCE, 57.0))}
    assert whiskers(axes) == []
    assert "\u22123.0\n(n = 1)" in words(axes)
    (label,) = [text.get_text() for text in axes.get_yticklabels()]
    assert label == "w/o TempDomain.\n1 of 5 seeds"


def test_a_full_model_of_a_single_seed_is_a_line_without_a_band() -> None:
    (axes,) = drawn(block(cell("EMOD", (62,)), WORSE)).axes
    assert len(lines(axes, "full model")) == 1
    assert not [p for p in axes.patches if p.get_label() == "full model, 95 % interval"]


@pytest.mark.parametrize(
    ("blank", "said"),
    [
        (Cell("w/o SpatAttn.", n_wanted=5), "not run"),
        (Cell("w/o SpatAttn.", n_wanted=5, errors=("out of memory",)), "failed"),
        (
            Cell(
                "w/o SpatAttn.",
                results=cell("w/o SpatAttn.", (61,)).results,
                n_wanted=6,
                folds_per_seed=2,
            ),
            "no seed complete",
        ),
    ],
)
def test_a_row_without_a_number_is_a_gap_that_says_why(blank: Cell, said: str) -> None:
    axes = panel(WORSE, blank, cell("w/o TempAttn.", (59, 60)))
    assert set(bars(axes)) == {0.0, 2.0}
    (gap,) = [text for text in axes.texts if text.get_text().strip() == said]
    assert gap.get_position()[1] == 1
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names == ["w/o TempDomain.", "w/o SpatAttn.", "w/o TempAttn."]


def test_without_the_full_model_there_is_no_line_and_no_difference() -> None:
    (axes,) = drawn(block(Cell("EMOD", n_wanted=5), WORSE)).axes
    assert lines(axes, "full model") == []
    assert "full model: not run" in words(axes)
    assert not any("[" in word or word == "difference" for word in words(axes))
    (axes,) = drawn(block(WORSE), reference=None).axes
    assert not any("full model" in word or word == "difference" for word in words(axes))


def test_only_blocks_with_results_have_a_panel() -> None:
    blank = block(Cell("EMOD"), Cell("w/o TempDomain."), dataset="faced", title="FACED")
    figure = drawn(blank, block(FULL, WORSE))
    (axes,) = figure.axes
    assert axes.get_title("left").startswith("SEED, the paper's protocol\n")


def test_a_comparison_in_which_nothing_ran_says_so() -> None:
    figure = drawn(block(Cell("EMOD"), Cell("w/o TempDomain.")))
    assert figure.axes == []
    assert "not run" in small_print(figure)
    assert is_whole(ablation_bars(comparison(block(Cell("EMOD")))))


# Published ----------------------------------------------------------------------------------------


def test_published_drops_stand_beside_their_rows() -> None:
    other = cell("w/o SpatAttn.", (61, 62, 62))
    axes = panel(other, WORSE, drops={"seed": {"w/o TempDomain.": 4.49}, "faced": {"x": 1}})
    (paper,) = [text for text in axes.texts if text.get_text() == "\u22124.49"]
    assert paper.xy == (1, 1)  # beside the second row
    assert "paper" in words(axes)


def test_a_published_drop_stands_beside_a_gap_too() -> None:
    blank = Cell("w/o TempDomain.", n_wanted=5)
    assert "\u22124.49" in words(panel(blank, drops={"seed": {"w/o TempDomain.": 4.49}}))


def test_drops_are_not_held_against_another_protocol() -> None:
    apart = block(FULL, WORSE, is_paper=False)
    (axes,) = drawn(apart, drops={"seed": {"w/o TempDomain.": 4.49}}).axes
    assert not {"paper", "\u22124.49"} & set(words(axes))
    assert axes.get_title("left").startswith("SEED, not the paper's protocol")


# Honest and legible -------------------------------------------------------------------------------


def full_figure(*, rehearsal: bool) -> Comparison:
    """Six ablations on two protocols, some missing, under the longest names there are."""
    rows = [row.name for row in published.load("emod").tables["figure_3"].rows]
    protocol = "random_segments_same_subjects_same_stimuli"
    given = {"rehearsal": rehearsal, "audit": {"verdict": "LEAK: same neighbours"}}
    blocks = []
    for i, name in enumerate(("paper_same_subjects_same_stimuli", protocol)):
        cells = [cell("EMOD", (60, 62, 64), protocol=name, **given)]
        cells += [
            cell(row, (40 + 3 * k, 30 + 3 * k, 45 + 2 * k), protocol=name, wanted=5, **given)
            for k, row in enumerate(rows[:-1])
        ]
        cells.append(Cell(rows[-1], n_wanted=5))
        blocks.append(block(*cells, protocol=name, is_paper=i == 0))
    return comparison(*blocks, rehearsal=rehearsal)


DROPS = {"seed": {"w/o FreqDomain.": 1.89}}


def test_nothing_is_cut_and_nothing_covered() -> None:
    found = full_figure(rehearsal=True)
    assert is_whole(ablation_bars(found, DROPS))
    figure = ablations._figure(found, DROPS)
    for axes in figure.axes:
        assert overlapping(figure, [axes]) == []


def test_rehearsal_data_are_marked_on_the_figure_and_on_their_panels() -> None:
    figure = ablations._figure(full_figure(rehearsal=True), {})
    assert small_print(figure).endswith("rehearsal data")
    assert all("(rehearsal data)" in axes.get_title("left") for axes in figure.axes)
    real = ablations._figure(full_figure(rehearsal=False), {})
    assert "rehearsal" not in small_print(real)
    assert not any("rehearsal" in axes.get_title("left") for axes in real.axes)


def test_rows_tested_on_what_they_had_seen_are_named() -> None:
    said = re.sub(r"\s+", " ", small_print(drawn(*full_figure(rehearsal=False).blocks)))
    assert "w/o SpatAttn.: LEAK: same neighbours." in said
    assert "LEAK" not in small_print(drawn(block(FULL, WORSE)))


def test_the_same_comparison_has_the_same_picture() -> None:
    assert ablation_bars(comparison(block(FULL, WORSE))) == ablation_bars(
        comparison(block(FULL, WORSE))
    )
