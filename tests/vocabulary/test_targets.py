"""Targets: which class a segment has, how classes are called, and what stands in a key."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emoray.vocabulary.targets import Classes, Cut, Levels, Target, from_plain

NAN = math.nan
INDEX = pa.table(
    {
        "label": pa.array([2, -1, 0, 1], pa.int32()),
        "rating_valence": pa.array([5.0, 5.1, NAN, 1.0]),
        "rating_arousal": pa.array([1.0, 3.0, 3.5, 9.0]),
        "valence": pa.array([0.0, 0.1, NAN, -4.0]),
    }
)
TARGETS: tuple[Target, ...] = (
    Classes(),
    Cut("valence", 5),
    Levels("arousal", (3.0, 6.0)),
    Levels("valence", (5.0,)),
)


def test_the_publishers_classes_are_the_labels() -> None:
    assert Classes().labels(INDEX).tolist() == [2, -1, 0, 1]
    assert Classes().labels(INDEX).dtype == np.int64
    assert Classes().names(("sad", "happy")) == ("sad", "happy")


def test_a_cut_has_its_threshold_below_and_no_class_where_nobody_rated() -> None:
    found = Cut("valence", 5)
    assert found.labels(INDEX).tolist() == [0, 1, -1, 0]
    assert found.names(("sad",)) == ("valence <= 5", "valence > 5")
    assert found.words == "valence > 5"


def test_levels_are_ordered_and_hold_their_upper_edge() -> None:
    found = Levels("arousal", (3.0, 6.0))
    assert found.labels(INDEX).tolist() == [0, 0, 1, 2]
    assert found.names(()) == ("arousal <= 3", "3 < arousal <= 6", "arousal > 6")


@pytest.mark.parametrize(
    ("edges", "said"),
    [
        ((3, 6), "3, 6"),
        ((1.5, 2.5, 3.5, 4.5), "1.5, 2.5, 3.5, 4.5"),
        ((1.5, 2.5, 3.5, 4.5, 5.5), "1.5, 2.5, ..., 5.5"),
        ((1.5, 2.5, 3.5, 4.5, 6), "1.5, 2.5, 3.5, 4.5, 6"),
    ],
)
def test_many_even_levels_are_said_by_their_first_and_last(
    edges: tuple[float, ...], said: str
) -> None:
    assert Levels("arousal", edges).words == f"arousal cut at {said}"


RATINGS = st.lists(st.one_of(st.floats(-10, 10), st.just(NAN)), min_size=1, max_size=20)
EDGES = st.lists(st.floats(-9, 9), min_size=1, max_size=5, unique=True).map(sorted)


@given(RATINGS, EDGES)
def test_a_level_is_how_many_edges_a_rating_exceeds(
    ratings: list[float], edges: list[float]
) -> None:
    index = pa.table({"rating_stress": pa.array(ratings)})
    found = Levels("stress", tuple(edges)).labels(index).tolist()
    assert found == [
        -1 if math.isnan(rating) else sum(rating > edge for edge in edges) for rating in ratings
    ]
    assert len(Levels("stress", tuple(edges)).names(())) == len(edges) + 1


@given(RATINGS, st.floats(-9, 9))
def test_a_cut_is_two_levels(ratings: list[float], above: float) -> None:
    index = pa.table({"rating_stress": pa.array(ratings)})
    two = Levels("stress", (above,)).labels(index)
    assert Cut("stress", above).labels(index).tolist() == two.tolist()


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_reads_back_from_plain_data(target: Target) -> None:
    plain = json.loads(json.dumps(target.to_plain()))
    assert from_plain(plain) == target
    assert plain == target.to_plain()


def test_no_two_targets_are_the_same_plain_data() -> None:
    assert len({json.dumps(target.to_plain()) for target in TARGETS}) == len(TARGETS)


def test_a_rating_that_the_index_lacks_is_told_with_those_it_has() -> None:
    with pytest.raises(ValueError, match="rating among valence, arousal; got 'dominance'"):
        Cut("dominance", 3).labels(INDEX)
    with pytest.raises(ValueError, match="need a rating among none; got 'valence'"):
        Levels("valence", (3.0,)).labels(INDEX.select(["label", "valence"]))


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ({}, r"need a target of kind classes, cut, levels, got \{\}"),
        ({"kind": "cuts"}, "need a target of kind classes, cut, levels"),
        ({"kind": ["cut"]}, "need a target of kind classes, cut, levels"),
        ("classes", "need a target of kind classes, cut, levels, got 'classes'"),
        ({"kind": "classes", "above": 3}, "need kind in a target of kind classes, got kind, above"),
        ({"kind": "cut", "rating": "valence"}, "need kind, rating, above .*, got kind, rating"),
        ({"kind": "cut", "rating": "", "above": 3}, "need the name of a rating, got ''"),
        ({"kind": "cut", "rating": "valence", "above": NAN}, "finite number for above, got nan"),
        ({"kind": "cut", "rating": "valence", "above": True}, "finite number for above, got True"),
        ({"kind": "levels", "rating": "valence", "edges": 3}, "need a list of edges, got 3"),
        ({"kind": "levels", "rating": "valence", "edges": []}, r"one or more edges .*, got \[\]"),
        ({"kind": "levels", "rating": "valence", "edges": [3, 3]}, "edges in rising order"),
        ({"kind": "levels", "rating": "valence", "edges": [5, 3]}, "edges in rising order"),
        ({"kind": "levels", "rating": "valence", "edges": ["3"]}, "number for edges, got '3'"),
    ],
)
def test_a_target_that_cannot_be_is_refused(plain: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_plain(plain)
