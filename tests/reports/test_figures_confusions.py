"""Confusion matrices: the counts that the runs left, rows true, colours by share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

from emoray.reports.figures import confusion_matrices, confusions
from emoray.results.comparison import Block, Cell
from tests.reports.pictures import block, is_whole, lightness, overlapping, small_print
from tests.rows import made_row

NAMES = ("negative", "neutral", "positive")
FACED = "amusement inspiration joy tenderness anger fear disgust sadness neutral".split()
FIRST, SECOND = [[8, 1, 1], [2, 7, 1], [0, 3, 7]], [[6, 2, 2], [1, 9, 0], [4, 0, 6]]


def runs(row: str, *matrices: list[list[int]], seeds: int = 1, **fields: Any) -> Cell:
    """The matrices are folds `a`, `b` ... of each seed."""
    results = tuple(
        made_row(
            matrix,
            seed=seed,
            fold="abcdef"[i],
            dataset="seed",
            protocol="paper_same_subjects_same_stimuli",
            **fields,
        )
        for seed in range(seeds)
        for i, matrix in enumerate(matrices)
    )
    return Cell(row, results=results, n_wanted=len(results), folds_per_seed=len(matrices))


def panels(found: Block, names: Any = NAMES) -> dict[str, Axes]:
    """Row -> its matrix."""
    axes = confusions._figure(found, names).axes
    return {a.get_title().split("\n")[0]: a for a in axes if a.images}


def written(axes: Axes) -> list[list[str]]:
    """What stands in the cells, row by row from the top."""
    places = {text.get_position(): text.get_text() for text in axes.texts}
    k = len(axes.get_xticklabels())
    return [[places[j, i] for j in range(k)] for i in range(k)]


def test_counts_are_summed_over_seeds_and_folds() -> None:
    axes = panels(block(runs("EMOD", FIRST, SECOND, seeds=2)))["EMOD"]
    total = 2 * (np.array(FIRST) + np.array(SECOND))
    assert written(axes) == [[str(n) for n in row] for row in total]
    assert axes.get_title() == "EMOD\n2 seeds, 2 folds"
    assert "summed over seeds and folds" in small_print(
        confusions._figure(block(runs("EMOD", FIRST)), NAMES)
    )


def test_rows_are_true_classes_and_columns_predicted_ones() -> None:
    axes = panels(block(runs("EMOD", FIRST)))["EMOD"]
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("true", "predicted")
    assert written(axes)[2] == ["0", "3", "7"]  # positive taken for neutral three times
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert [label.get_text() for label in labels] == list(NAMES)
    (image,) = axes.images
    assert axes.get_ylim() == (2.5, -0.5)  # the first class on top
    np.testing.assert_allclose(image.get_array()[2], [0, 30, 70])


def test_colours_are_shares_of_the_true_class() -> None:
    (image,) = panels(block(runs("EMOD", FIRST, SECOND)))["EMOD"].images
    total = np.array(FIRST) + np.array(SECOND)
    np.testing.assert_allclose(image.get_array(), 100 * total / total.sum(axis=1, keepdims=True))
    assert image.get_clim() == (0, 100)


@given(st.lists(st.lists(st.integers(0, 1000), min_size=4, max_size=4), min_size=4, max_size=4))
def test_shares_of_a_class_add_to_one_or_there_is_none(counts: list[list[int]]) -> None:
    found = confusions.shares_of(np.array(counts))
    for row, share_K in zip(counts, found, strict=True):
        assert share_K.sum() == pytest.approx(1.0 if any(row) else 0.0)


def test_a_class_that_no_segment_has_is_blank_and_not_a_number_undefined() -> None:
    (image,) = panels(block(runs("EMOD", [[5, 5, 0], [0, 0, 0], [1, 0, 9]])))["EMOD"].images
    np.testing.assert_array_equal(image.get_array()[1], [0, 0, 0])


def test_many_segments_are_counted_in_thousands_in_every_matrix() -> None:
    many = runs("BIOT", [[12_340, 60, 0], [0, 9_000, 0], [0, 0, 9_000]])
    found = block(many, runs("EMOD", FIRST))
    axes = panels(found)
    assert written(axes["BIOT"])[0] == ["12.3", "0.1", "0.0"]
    assert written(axes["EMOD"])[0] == ["0.0", "0.0", "0.0"]
    assert "thousands of test segments" in small_print(confusions._figure(found, NAMES))
    few = small_print(confusions._figure(block(runs("EMOD", FIRST)), NAMES))
    assert "thousands" not in few


def test_incomplete_seeds_are_told() -> None:
    whole = runs("EMOD", FIRST, SECOND, seeds=2)
    part = Cell("EMOD", results=whole.results[:3], n_wanted=4, folds_per_seed=2)
    (title,) = [axes.get_title() for axes in panels(block(part)).values()]
    assert title == "EMOD\n2 seeds, 2 folds, 3 runs in all"


def test_rows_that_did_not_run_are_named_and_have_no_matrix() -> None:
    found = block(runs("EMOD", FIRST), Cell("BIOT", n_wanted=5), Cell("EEGNet", n_wanted=5))
    assert list(panels(found)) == ["EMOD"]
    assert "Not run: BIOT, EEGNet." in small_print(confusions._figure(found, NAMES))


def test_a_block_in_which_nothing_ran_says_so() -> None:
    figure = confusions._figure(block(Cell("EMOD", n_wanted=5)), NAMES)
    assert figure.axes == []
    assert "not run" in small_print(figure)


def test_class_names_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="need 3 class names for EMOD, got 2"):
        confusion_matrices(block(runs("EMOD", FIRST)), class_names=("sad", "happy"))


def test_the_sum_of_no_run_is_refused() -> None:
    with pytest.raises(ValueError, match="need runs of EMOD"):
        confusions.confusion_of(Cell("EMOD"))


def test_rehearsal_data_are_marked() -> None:
    marked = confusions._figure(block(runs("EMOD", FIRST, rehearsal=True)), NAMES)
    assert small_print(marked).endswith("rehearsal data")
    assert "rehearsal" not in small_print(confusions._figure(block(runs("EMOD", FIRST)), NAMES))


@pytest.mark.parametrize(
    "words",
    [
        "CONTAMINATED: pretraining saw test subjects",
        "people not known to be apart (SEED family)",
    ],
)
def test_rows_tested_on_what_they_had_seen_or_may_have_are_named(words: str) -> None:
    found = block(runs("EMOD", FIRST, audit={"verdict": words}), runs("BIOT", FIRST))
    assert f"EMOD: {words}." in small_print(confusions._figure(found, NAMES))


def test_darker_is_more_and_numbers_stand_out() -> None:
    light = lightness(confusions.SHARES(np.linspace(0, 1, 101)))
    assert np.all(np.diff(light) < 0)
    matrix = [[55, 45, 0], [20, 80, 0], [36, 28, 36]]
    axes = panels(block(runs("EMOD", matrix)))["EMOD"]
    for text in axes.texts:
        j, i = text.get_position()
        ground = confusions.SHARES(matrix[i][j] / 100)
        contrast = abs(lightness(np.array(ground)) - lightness(np.array(to_rgb(text.get_color()))))
        assert contrast > 0.4, (i, j)


@pytest.mark.parametrize(
    ("names", "n_rows"), [(NAMES, 1), (NAMES, 4), (tuple("abcde"), 3), (tuple(FACED), 2)]
)
def test_nothing_is_cut_and_nothing_covered(names: tuple[str, ...], n_rows: int) -> None:
    k = len(names)
    matrix = (np.full((k, k), 8_000) + np.eye(k, dtype=int) * 1_999).tolist()  # widest numbers
    cells = [runs(f"ICaps-ResLSTM {i}", matrix, rehearsal=True) for i in range(n_rows)]
    found = block(*cells)
    assert is_whole(confusion_matrices(found, class_names=names))
    figure = confusions._figure(found, names)
    assert overlapping(figure, [axes for axes in figure.axes if axes.images]) == []
