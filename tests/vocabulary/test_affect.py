"""The V-A square: names and ratings enter it, cells and regions divide it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emoray import datasets
from emoray.vocabulary import affect
from emoray.vocabulary.affect import EMOD_CODE, RESCALED, SYNONYMS
from emoray.vocabulary.schema import DataError, Scale
from tests.evaluations import EMOD

COWEN_KELTNER = {
    "joy": (7.32, 6.06),
    "amusement": (6.11, 5.77),
    "surprise": (4.71, 6.24),
    "fear": (3.16, 6.23),
    "anger": (3.07, 6.01),
    "sadness": (3.05, 5.37),
    "disgust": (2.32, 5.12),
    "anxiety": (3.62, 6.34),
    "calmness": (7.16, 5.16),
    "excitement": (6.25, 6.81),
}
"""Mean valence and arousal, 1-9, over the clips whose most frequent category it is."""

WARRINER = {"inspiration": (6.53, 4.77), "tenderness": (6.89, 3.10)}
"""Word norms, 1-9."""

FILLED = {
    "seed_iv": {"rescaled": {3, 4, 5}, "emod_code": {4, 7, 8}},
    "seed_vii": {"rescaled": {3, 4, 5}, "emod_code": {3, 4, 7, 8}},
    "mped": {"rescaled": {3, 4, 5}, "emod_code": {3, 4, 5, 7, 8}},
}
"""Regions that the emotion names of a dataset reach.

The means of Cowen & Keltner hardly differ in arousal: rescaled, they stay in the middle row.
"""

scales = st.sampled_from([Scale(1, 9), Scale(1, 5), Scale(0, 8), Scale(0, 100)])
coordinates = st.floats(-4, 4)


# Emotion names ------------------------------------------------------------------------------------


def test_no_two_names_share_a_point_except_declared_synonyms() -> None:
    assert len(set(RESCALED.values())) == len(RESCALED)
    assert set(SYNONYMS.values()) <= set(RESCALED)
    assert not set(SYNONYMS) & set(RESCALED)


def test_the_released_code_confuses_anger_with_fear_and_nothing_else() -> None:
    same = {(a, b) for a in EMOD_CODE for b in EMOD_CODE if a < b and EMOD_CODE[a] == EMOD_CODE[b]}
    assert same == {("anger", "fear")}


def test_every_point_is_its_published_mean_on_1_to_9_minus_5() -> None:
    for name, (valence, arousal) in (COWEN_KELTNER | WARRINER).items():
        assert RESCALED[name] == pytest.approx((valence - 5, arousal - 5))
    assert set(RESCALED) == {"neutral", *COWEN_KELTNER, *WARRINER}
    assert RESCALED["neutral"] == (0, 0)


def test_the_released_integers_are_the_floors_of_the_same_means_read_on_0_to_8() -> None:
    for name, point in EMOD_CODE.items():
        if name != "neutral":
            assert point == tuple(math.floor(mean) - 4 for mean in COWEN_KELTNER[name])


@pytest.mark.parametrize("table", [RESCALED, EMOD_CODE])
def test_every_point_lies_in_the_square(table: dict[str, tuple[float, float]]) -> None:
    assert np.abs(list(table.values())).max() <= affect.LIMIT


@pytest.mark.parametrize(
    ("word", "emotion"), [*SYNONYMS.items(), *((name, name) for name in RESCALED)]
)
def test_words_are_folded_whatever_their_case_and_blanks(word: str, emotion: str) -> None:
    assert affect.canonical_emotion(f"  {word.upper()} ") == emotion
    assert affect.place_emotion(word.title()) == RESCALED[emotion]


def test_an_unknown_emotion_is_named_with_its_file() -> None:
    with pytest.raises(DataError, match=r"^s03\.csv row 4: need an emotion among .*got 'boredom'"):
        affect.canonical_emotion("boredom", where="s03.csv row 4")
    with pytest.raises(DataError, match=r"^label: need an emotion among .*joy.*got ''"):
        affect.place_emotion("")


def test_an_emotion_that_the_released_code_lacks_is_refused_for_that_table_only() -> None:
    assert affect.place_emotion("tender") == RESCALED["tenderness"]
    with pytest.raises(DataError, match=r"labels\.mat: EMOD's code has no .* 'tenderness'"):
        affect.place_emotion("tender", table="emod_code", where="labels.mat")


def test_every_dataset_with_names_reaches_the_regions_that_are_known_of_it() -> None:
    cards = [datasets.get(name).CARD for name in sorted(EMOD.pretraining)]
    for card in cards:
        for table, regions in FILLED[card.name].items() if card.emotions else ():
            va_S2 = np.array([affect.place_emotion(e, table=table) for e in card.emotions])
            assert set(affect.regions(va_S2).tolist()) == regions, (card.name, table)


def test_the_names_of_every_card_are_canonical() -> None:
    cards = [datasets.get(name).CARD for name in sorted(EMOD.pretraining)]
    names = {(card.name, emotion) for card in cards for emotion in card.emotions}
    assert {(card, affect.canonical_emotion(emotion)) for card, emotion in names} == names


# Ratings ------------------------------------------------------------------------------------------


@given(scale=scales)
def test_a_scales_ends_and_middle_are_the_squares(scale: Scale) -> None:
    middle = (scale.low + scale.high) / 2
    placed = [
        affect.place_rating(rating, scale, name="valence", where="here")
        for rating in (scale.low, middle, scale.high)
    ]
    assert placed == [-4, 0, 4]


@given(scale=scales, shares=st.tuples(st.floats(0, 1), st.floats(0, 1)), mix=st.floats(0, 1))
def test_placing_a_rating_is_linear_and_stays_in_the_square(
    scale: Scale, shares: tuple[float, float], mix: float
) -> None:
    def place(share: float) -> float:
        rating = min(scale.low + share * (scale.high - scale.low), scale.high)
        return affect.place_rating(rating, scale, name="arousal", where="here")

    low, high = shares
    between = mix * low + (1 - mix) * high
    assert place(between) == pytest.approx(mix * place(low) + (1 - mix) * place(high), abs=1e-9)
    assert -4 <= place(low) <= 4


def test_dreamers_integers_land_on_even_numbers() -> None:
    placed = [affect.place_rating(r, Scale(1, 5), name="valence", where="") for r in range(1, 6)]
    assert placed == [-4, -2, 0, 2, 4]


@pytest.mark.parametrize("rating", [0.0, 0.999, 9.001, math.nan, math.inf, -math.inf])
def test_a_rating_outside_its_scale_is_named_with_scale_and_place(rating: float) -> None:
    with pytest.raises(DataError, match=r"^need valence in \[1, 9\], got .* in s03\.dat present"):
        affect.place_rating(rating, Scale(1, 9), name="valence", where="s03.dat presentation 12")


# Cells, regions, distances ------------------------------------------------------------------------


def test_halves_round_to_even_on_both_sides_of_zero() -> None:
    halves = np.array([-3.5, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5])
    cells = affect.cells(np.stack([halves, -halves], axis=1))
    assert cells[:, 0].tolist() == [-4, -2, -2, 0, 0, 2, 2, 4]
    assert cells[:, 1].tolist() == [4, 2, 2, 0, 0, -2, -2, -4]


def test_the_grid_has_81_cells_and_each_region_nine() -> None:
    grid = np.array([(v, a) for v in range(-4, 5) for a in range(-4, 5)], dtype=float)
    np.testing.assert_array_equal(affect.cells(grid), grid)
    assert np.bincount(affect.regions(grid)).tolist() == [9] * affect.N_REGIONS


@pytest.mark.parametrize(
    ("point", "region"),
    [
        ((-4, -4), 0),
        ((0, -2), 1),
        ((4, -4), 2),
        ((-2, -1), 3),
        ((1, 1), 4),
        ((2, 0), 5),
        ((-3, 2), 6),
        ((0, 3), 7),
        ((4, 4), 8),
        ((1.5, 0), 5),  # half to even: cell 2
        ((-1.5, 0), 3),
        ((1.49, 0), 4),
    ],
)
def test_regions_are_numbered_valence_first(point: tuple[float, float], region: int) -> None:
    assert affect.regions(np.array([point])).tolist() == [region]


@given(point=st.tuples(coordinates, coordinates))
def test_a_regions_mirror_image_is_the_mirrored_region(point: tuple[float, float]) -> None:
    va_S2 = np.array([point, (-point[0], point[1]), (point[0], -point[1])])
    here, mirrored_v, mirrored_a = affect.regions(va_S2)
    assert (mirrored_v % 3, mirrored_v // 3) == (2 - here % 3, here // 3)
    assert (mirrored_a % 3, mirrored_a // 3) == (here % 3, 2 - here // 3)


@pytest.mark.parametrize("value", [4.001, -4.001, math.nan, math.inf])
def test_a_point_outside_the_square_has_no_cell(value: float) -> None:
    with pytest.raises(ValueError, match=r"need valence and arousal in \[-4, 4\], got"):
        affect.regions(np.array([(0.0, 0.0), (value, 0.0)]))


@given(
    a=st.lists(st.tuples(coordinates, coordinates), min_size=1, max_size=5),
    b=st.lists(st.tuples(coordinates, coordinates), min_size=1, max_size=5),
)
def test_distances_are_euclidean(
    a: list[tuple[float, float]], b: list[tuple[float, float]]
) -> None:
    found = affect.distances(np.array(a), np.array(b))
    expected = [[math.dist(p, q) for q in b] for p in a]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert found.max() <= math.dist((-4, -4), (4, 4)) + 1e-12
