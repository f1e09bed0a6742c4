"""Maps of embeddings: colours, centroids and numbers are those of the data; discs keep apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from emoray.evaluation.maps import Map
from emoray.reports.figures import embedding_map, embeddings
from tests.reports.pictures import is_whole, lightness, small_print

READ_OUT = {"untrained": (0.03, -0.01), "pretrained": (0.62, None)}


def ratings(n: int = 300) -> np.ndarray:
    return np.random.default_rng(1).uniform(-4, 4, (n, 2)).round(2)


def a_map(va_N2: np.ndarray, spread: float = 0.0, shift: float = 0.0) -> Map:
    """Points that follow the ratings by `spread`, in noise."""
    noise_N2 = np.random.default_rng(2).standard_normal(va_N2.shape)
    points_N2 = shift + 10 * noise_N2 + spread * np.nan_to_num(va_N2)
    return Map(points_N2, va_N2, tuple(f"deap-{i % 7}" for i in range(len(va_N2))), "deap")


def drawn(
    untrained: Map, pretrained: Map, read_out: Mapping[str, Sequence[float | None]] | None = None
) -> Figure:
    return embeddings._figure(untrained, pretrained, "DEAP", True, read_out or {})


@dataclass
class Panels:
    """The four panels, by axis and arm."""

    figure: Figure

    def __getitem__(self, place: tuple[int, int]) -> Axes:
        return self.figure.axes[2 * place[0] + place[1]]


def points(axes: Axes) -> tuple[np.ndarray, np.ndarray]:
    """Where the points lie and which value colours each."""
    (scatter,) = axes.collections
    return np.asarray(scatter.get_offsets()), np.asarray(scatter.get_array())


def discs(axes: Axes) -> dict[int, np.ndarray]:
    """Score -> where its disc stands."""
    found = [line for line in axes.lines if str(line.get_gid() or "").startswith("disc")]
    return {int(line.get_gid().split()[1]): np.array(line.get_data()).ravel() for line in found}


def roots(axes: Axes) -> list[np.ndarray]:
    """Centroids: where the thin lines to the discs begin."""
    return [np.array(line.get_data())[:, 0] for line in axes.lines if len(line.get_xdata()) == 2]


def by_hand(points_N2: np.ndarray, values_N: np.ndarray) -> dict[int, np.ndarray]:
    """Centroids of the rounded values, one segment at a time."""
    groups: dict[int, list[np.ndarray]] = {}
    for point_2, value in zip(points_N2, values_N, strict=True):
        if not np.isnan(value):
            groups.setdefault(round(float(value)), []).append(point_2)  # halves to even
    return {s: sum(groups[s]) / len(groups[s]) for s in sorted(groups)}


# What is drawn ------------------------------------------------------------------------------------


def test_points_stand_where_the_map_has_them_coloured_by_their_rating() -> None:
    va_N2 = ratings()
    maps = (a_map(va_N2), a_map(va_N2, spread=9))
    panels = Panels(drawn(*maps))
    for axis in (0, 1):
        for arm, layout in enumerate(maps):
            places, values = points(panels[axis, arm])
            found = {(x, y): v for (x, y), v in zip(places, values, strict=True)}
            expected = zip(layout.points_N2, va_N2[:, axis], strict=True)
            assert found == {(x, y): v for (x, y), v in expected}


def test_valence_stands_above_arousal_and_untrained_left_of_pretrained() -> None:
    panels = Panels(drawn(a_map(ratings()), a_map(ratings())))
    assert [panels[axis, 0].get_ylabel() for axis in (0, 1)] == ["valence", "arousal"]
    assert [panels[0, arm].get_title() for arm in (0, 1)] == ["untrained", "pretrained"]
    panels.figure.draw_without_rendering()
    boxes = [axes.get_position() for axes in panels.figure.axes]
    assert boxes[0].y0 > boxes[2].y1
    assert boxes[0].x1 < boxes[1].x0


def test_centroids_are_those_of_plain_loops() -> None:
    va_N2 = ratings()
    va_N2[:20, 1] = np.nan
    va_N2[20:24, 0] = [0.5, 1.5, -0.5, -2.5]  # halves
    layout = a_map(va_N2, spread=9)
    panels = Panels(drawn(layout, layout))
    for axis in (0, 1):
        expected = by_hand(layout.points_N2, va_N2[:, axis])
        assert list(discs(panels[axis, 1])) == list(expected) == list(range(-4, 5))
        np.testing.assert_allclose(roots(panels[axis, 1]), list(expected.values()))


def test_only_scores_that_occur_have_a_disc() -> None:
    va_N2 = np.array([[-3.0, 2.0]] * 5 + [[3.6, 2.2]] * 4)
    panels = Panels(drawn(a_map(va_N2), a_map(va_N2, spread=9)))
    assert list(discs(panels[0, 1])) == [-3, 4]
    assert list(discs(panels[1, 1])) == [2]
    assert [text.get_text() for text in panels[0, 1].texts] == ["\u22123", "4"]


def test_discs_far_apart_stand_on_their_centroids() -> None:
    va_N2 = np.repeat([[-4.0, 0.0], [4.0, 0.0]], 50, axis=0)
    layout = a_map(va_N2, spread=100)
    axes = Panels(drawn(layout, layout))[0, 1]
    expected = by_hand(layout.points_N2, va_N2[:, 0])
    for score, disc_2 in discs(axes).items():
        np.testing.assert_allclose(disc_2, expected[score])


def test_segments_without_a_rating_are_left_out_of_their_panel() -> None:
    va_N2 = ratings(50)
    va_N2[:10, 1] = np.nan
    panels = Panels(drawn(a_map(va_N2), a_map(va_N2)))
    assert [len(points(panels[axis, 0])[0]) for axis in (0, 1)] == [50, 40]
    assert panels[1, 0].get_xlabel() == "40 segments, 7 subjects"


def test_an_axis_that_nobody_rated_is_an_empty_panel() -> None:
    va_N2 = ratings(50)
    va_N2[:, 1] = np.nan
    figure = drawn(a_map(va_N2), a_map(va_N2))
    assert discs(Panels(figure)[1, 0]) == {}
    assert Panels(figure)[1, 0].get_xlabel() == "0 segments, 0 subjects"


def test_the_read_out_stands_below_its_panel_and_is_blank_where_there_is_none() -> None:
    panels = Panels(drawn(a_map(ratings()), a_map(ratings()), READ_OUT))
    said = [panels[axis, arm].get_xlabel() for axis in (0, 1) for arm in (0, 1)]
    size = "300 segments, 7 subjects"
    assert said == [
        f"{size}\nread-out r = +0.03",
        f"{size}\nread-out r = +0.62",
        f"{size}\nread-out r = \u22120.01",
        size,
    ]
    assert "straight line" in small_print(panels.figure)
    bare = drawn(a_map(ratings()), a_map(ratings()))
    assert {axes.get_xlabel() for axes in bare.axes[:4]} == {size}
    assert "straight line" not in small_print(bare)


def test_maps_of_other_segments_are_refused() -> None:
    va_N2 = ratings()
    one, shuffled = a_map(va_N2), a_map(va_N2[::-1].copy())
    with pytest.raises(ValueError, match="same segments"):
        embedding_map(one, shuffled, title="", rehearsal=True)
    others = Map(one.points_N2, va_N2, ("deap-9",) * len(va_N2), "deap")
    with pytest.raises(ValueError, match="same segments"):
        embedding_map(one, others, title="", rehearsal=True)


# Legible ------------------------------------------------------------------------------------------


def test_low_high_and_neutral_differ_in_grayscale_and_in_hue() -> None:
    colours = embeddings.RATINGS(np.linspace(0, 1, 101))[:, :3]
    assert np.all(np.diff(lightness(colours)) > 0)
    assert lightness(colours)[-1] - lightness(colours)[0] > 0.5
    assert np.ptp(colours[50]) < 0.02  # zero is grey
    assert colours[0, 2] > colours[0, 0] + 0.2  # low is blue,
    assert colours[-1, 0] > colours[-1, 2] + 0.5  # high is yellow


@pytest.mark.parametrize("spread", [0.0, 0.5, 9.0])
def test_no_disc_covers_another_and_none_is_cut(spread: float) -> None:
    figure = drawn(a_map(ratings()), a_map(ratings(), spread=spread), READ_OUT)
    figure.draw_without_rendering()
    for axes in figure.axes[:4]:
        centres = axes.transData.transform(np.stack(list(discs(axes).values())))
        far = np.linalg.norm(centres[:, None] - centres[None], axis=-1) * 72 / figure.dpi
        assert far[~np.eye(9, dtype=bool)].min() >= embeddings._DISC_PT
        box = axes.get_window_extent()
        radius = embeddings._DISC_PT / 2 * figure.dpi / 72
        assert np.all(centres >= np.array(box.p0) + radius - 1)
        assert np.all(centres <= np.array(box.p1) - radius + 1)


PLACE = st.floats(0, 150).map(lambda x: round(x, 1))


@given(st.lists(st.tuples(PLACE, PLACE), min_size=1, max_size=9))
@settings(deadline=None)
def test_discs_part_wherever_their_places_lie(places: list[tuple[float, float]]) -> None:
    found = embeddings.apart(np.array(places), np.zeros(2), np.full(2, 150.0))
    far = np.linalg.norm(found[:, None] - found[None], axis=-1)
    far[np.eye(len(found), dtype=bool)] = np.inf
    assert far.min() >= embeddings._DISC_PT
    margin = embeddings._DISC_PT / 2
    assert np.all((found >= margin) & (found <= 150 - margin))


@pytest.mark.parametrize("corner", [(0.0, 0.0), (150.0, 0.0), (75.0, 75.0)])
def test_discs_of_one_place_part(corner: tuple[float, float]) -> None:
    found = embeddings.apart(np.array([corner] * 9), np.zeros(2), np.full(2, 150.0))
    far = np.linalg.norm(found[:, None] - found[None], axis=-1)
    assert far[~np.eye(9, dtype=bool)].min() >= embeddings._DISC_PT


def test_encoders_that_tell_nothing_apart_have_a_picture() -> None:
    """All centroids are one place: their discs stand in a ring around it, close by."""
    va_N2 = ratings()
    dot = Map(np.zeros_like(va_N2), va_N2, ("deap-1",) * len(va_N2), "deap")
    assert is_whole(embedding_map(dot, dot, title="DEAP", rehearsal=True))
    figure = drawn(dot, dot)
    figure.draw_without_rendering()
    for axes in figure.axes[:4]:
        centre, *around = axes.transData.transform([(0, 0), *discs(axes).values()])
        far = np.linalg.norm(around - centre, axis=1) * 72 / figure.dpi
        assert far.max() < 3 * embeddings._DISC_PT


@pytest.mark.parametrize("read_out", [None, READ_OUT])
def test_nothing_is_cut(read_out: Mapping[str, Sequence[float | None]] | None) -> None:
    maps = (a_map(ratings()), a_map(ratings(), spread=9))
    png = embedding_map(
        *maps, title="DEAP: " + "a title that goes on " * 6, rehearsal=True, read_out=read_out
    )
    assert is_whole(png)


def test_rehearsal_data_are_marked_when_told() -> None:
    maps = (a_map(ratings()), a_map(ratings()))
    assert small_print(embeddings._figure(*maps, "DEAP", True, {})).endswith("rehearsal data")
    assert "rehearsal" not in small_print(embeddings._figure(*maps, "DEAP", False, {}))


def test_maps_of_whom_the_pretraining_saw_say_so() -> None:
    maps = (a_map(ratings()), a_map(ratings()))
    told = embeddings._figure(*maps, "DEAP", False, READ_OUT, seen=True)
    words = " ".join(small_print(told).split())
    assert "pretrained on these people's ratings" in words
    assert "not of others" in words
    others = embeddings._figure(*maps, "DEAP", False, READ_OUT)
    assert "pretrained on" not in " ".join(small_print(others).split())
    png = embedding_map(*maps, title="DEAP", rehearsal=True, read_out=READ_OUT, seen=True)
    assert is_whole(png)


def test_the_same_maps_have_the_same_picture() -> None:
    maps = (a_map(ratings()), a_map(ratings()))
    first, second = (embedding_map(*maps, title="DEAP", rehearsal=False) for _ in range(2))
    assert first == second
