"""Matrices of similarities: one scale, people parted, published numbers beside ours."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from emoray.evaluation.similarity import Beside
from emoray.reports.figures import NO_MEASURE, Pair, similarities, similarity_figure, spread_words
from emoray.results.paper import PublishedSpread
from tests.reports.pictures import is_whole, small_print

WITHOUT = PublishedSpread("w/o align", -0.6261, -0.2758, -0.4963)
TRAINED = PublishedSpread("align", -0.4661, 0.2892, -0.1802)
SUBJECTS = ("p1",) * 30 + ("p2",) * 20
CLASSES = ("low", "high")


def an_arm(shift: float, diagonal: float, seed: int = 0) -> Beside:
    """Similarities about `shift`, those of pairs higher by `diagonal`."""
    rng = np.random.default_rng(seed)
    matrix_NN = shift + rng.uniform(-0.1, 0.1, (50, 50)) + diagonal * np.eye(50)
    return Beside(matrix_NN, rng.standard_normal((50, 2)), np.arange(50) % 2, SUBJECTS)


def arms(n_seeds: int = 1) -> list[Pair]:
    return [
        Pair(WITHOUT, {seed: an_arm(-0.5, 0.0, seed) for seed in range(n_seeds)}),
        Pair(TRAINED, {seed: an_arm(-0.1, 0.3, seed + 10) for seed in range(n_seeds)}),
    ]


WORDS = {"title": "DREAMER", "shown": "test segments", "query": "ECG", "key": "EEG"}


def drawn(found: list[Pair] | None = None, *, rehearsal: bool = True) -> Figure:
    return similarities._figure(
        found or arms(), *WORDS.values(), classes=CLASSES, rehearsal=rehearsal
    )


@dataclass
class Panels:
    """Matrices above, planes below."""

    figure: Figure

    @property
    def matrices(self) -> list[Axes]:
        return self.figure.axes[:2]

    @property
    def planes(self) -> list[Axes]:
        return self.figure.axes[2:4]


def test_both_matrices_have_one_scale_with_zero_in_the_middle() -> None:
    images = [axes.images[0] for axes in Panels(drawn()).matrices]
    for image, arm in zip(images, arms(), strict=True):
        np.testing.assert_array_equal(image.get_array(), arm.drawn.similarity_NN)
    (first, second) = (image.get_clim() for image in images)
    assert first == second
    assert first[0] == -first[1]
    assert first[1] == max(np.abs(arm.drawn.similarity_NN).max() for arm in arms())


def test_lines_part_people() -> None:
    for axes in Panels(drawn()).matrices:
        across, down = ([*line.get_xdata(), *line.get_ydata()] for line in axes.lines)
        assert across == [0, 1, 29.5, 29.5]
        assert down == [29.5, 29.5, 0, 1]


def test_the_papers_numbers_stand_below_ours() -> None:
    without, trained = (axes.get_xlabel() for axes in Panels(drawn()).matrices)
    assert "paper: mean \u22120.50, \u22120.63 to \u22120.28" in without
    assert "paper: mean \u22120.18, \u22120.47 to 0.29" in trained
    found = arms()[1].drawn.similarity_NN
    pairs = sum(found[i, i] for i in range(50)) / 50
    assert f"pairs {pairs:.2f}, others \u22120.10" in trained
    assert "others of the same person \u22120.10" in trained


def test_classes_differ_in_colour_and_form() -> None:
    for axes, arm in zip(Panels(drawn()).planes, arms(), strict=True):
        low, high = axes.collections
        np.testing.assert_array_equal(low.get_offsets(), arm.drawn.points_N2[::2])
        np.testing.assert_array_equal(high.get_offsets(), arm.drawn.points_N2[1::2])
        assert not np.array_equal(low.get_facecolor(), high.get_facecolor())
        assert len(low.get_paths()[0].vertices) != len(high.get_paths()[0].vertices)
        assert [text.get_text() for text in axes.get_legend().get_texts()] == [
            "low (25)",
            "high (25)",
        ]


def test_the_small_print_warns_of_the_mean_and_of_rehearsal_data() -> None:
    said = [text.get_text() for text in drawn().texts]
    *lines, mark = sorted(said[:-1], reverse=True, key=said.index) + said[-1:]
    words = " ".join(lines)
    assert "50 test segments, of 2 people" in words
    assert NO_MEASURE in words
    assert mark == "rehearsal data"
    assert "rehearsal" not in small_print(drawn(rehearsal=False))


def test_arms_of_other_segments_are_refused() -> None:
    first, second = arms()
    other = replace(second.drawn, subjects=("p9",) * 50)
    with pytest.raises(ValueError, match="same segments"):
        drawn([first, Pair(TRAINED, {0: other})])


def test_nothing_is_cut() -> None:
    assert is_whole(similarity_figure(arms(), **WORDS, classes=CLASSES, rehearsal=True))


# In words -----------------------------------------------------------------------------------------


def test_published_numbers_are_quoted_as_printed() -> None:
    without, trained, *_ = spread_words(arms())
    assert "w/o align: published mean \u22120.4963, \u22120.6261 to \u22120.2758;" in without
    assert "align: published mean \u22120.1802, \u22120.4661 to 0.2892;" in trained


def numbers(text: str) -> list[float]:
    return [float(n) for n in re.findall(r"-?\d+\.\d{4}", text.replace("\u2212", "-"))]


def test_several_seeds_have_mean_and_range() -> None:
    found = arms(3)
    trained = numbers(spread_words(found)[1])[3:]  # after the published ones
    matrices = [one.similarity_NN for one in found[1].found.values()]
    means = [m.sum() / 2500 for m in matrices]
    expected = [sum(means) / 3, min(means), max(means)]
    expected += [min(m.min() for m in matrices), max(m.max() for m in matrices)]
    assert trained[:5] == pytest.approx(expected, abs=6e-5)


def test_the_gain_of_pairs_has_an_interval_over_seeds() -> None:
    gain = spread_words(arms(3))[2]
    assert "95 % interval over 3 seeds" in gain
    difference, low, high = numbers(gain.partition("difference is")[2])
    assert low < difference < high
    assert difference == pytest.approx(0.3, abs=0.02)
    assert "(one seed)" in spread_words(arms(1))[2]
    assert spread_words(arms(1))[3] == NO_MEASURE
