"""Folds hold apart what their names say, at the published sizes; who is held out by name alone."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import KFold

from emoray import datasets
from emoray.evaluation.folds import (
    PROTOCOLS,
    Fold,
    folds,
    held_out_subjects,
)
from emoray.vocabulary.targets import Classes, Cut, Levels
from tests.evaluations import paper_protocol, protocols_of
from tests.indexes import Shown, index_table, published, shuffled, thinned
from tests.sources import ToneSource

KEYS_APART = ("subject", "stimulus")
EVALUATED = ("faced", "seed", "seed_v")
OF_PAPER = {paper_protocol(dataset): dataset for dataset in EVALUATED}
RANDOM = "random_segments_same_subjects_same_stimuli"
RANDOM_TENTHS = "random_segments_10fold_same_subjects_same_stimuli"
IN_TURN = (*(name for name in PROTOCOLS if "apart" in name), RANDOM, RANDOM_TENTHS)
"""Protocols for any dataset: every group tests once."""

NAMES = st.text("0123456789abS-", min_size=1, max_size=6)
SUBJECTS = st.lists(NAMES, min_size=1, max_size=40, unique=True)
FRACTIONS = st.floats(0, 1, exclude_max=True)
SEEDS = st.integers(0, 2**32)


@given(SUBJECTS, FRACTIONS, SEEDS, st.randoms(use_true_random=False))
def test_order_and_repeats_change_nothing(
    subjects: list[str], fraction: float, seed: int, dice: random.Random
) -> None:
    first = held_out_subjects("deap", subjects, fraction=fraction, seed=seed)
    shuffled = dice.sample(subjects, len(subjects)) + subjects[: len(subjects) // 2]
    assert held_out_subjects("deap", iter(shuffled), fraction=fraction, seed=seed) == first
    assert list(first) == sorted(set(first) & set(subjects))


@given(st.lists(NAMES, min_size=2, max_size=40, unique=True), FRACTIONS, SEEDS)
def test_somebody_is_held_out_and_somebody_is_left(
    subjects: list[str], fraction: float, seed: int
) -> None:
    n = len(held_out_subjects("deap", subjects, fraction=fraction, seed=seed))
    assert n < len(subjects)
    assert (n >= 1) == (fraction > 0)
    if 1 < n < len(subjects) - 1:
        assert abs(n - fraction * len(subjects)) <= 0.5


@given(SUBJECTS, SEEDS)
def test_nobody_is_held_out_at_zero(subjects: list[str], seed: int) -> None:
    assert held_out_subjects("deap", subjects, fraction=0, seed=seed) == ()


@given(NAMES, FRACTIONS, SEEDS)
def test_a_dataset_of_one_subject_is_trained_on(subject: str, fraction: float, seed: int) -> None:
    assert held_out_subjects("deap", [subject] * 3, fraction=fraction, seed=seed) == ()


def ranking(subjects: list[str], seed: int) -> list[str]:
    """Subjects in the order in which a growing fraction takes them; the one never taken last."""
    n = len(subjects)
    taken: list[str] = []
    for k in range(1, n):
        chosen = held_out_subjects("deap", subjects, fraction=k / n, seed=seed)
        assert set(taken) < set(chosen)
        taken += set(chosen) - set(taken)
    return taken + [subject for subject in subjects if subject not in taken]


@given(st.lists(NAMES, min_size=2, max_size=9, unique=True), NAMES, SEEDS)
def test_a_subject_added_later_changes_nobody_elses_rank(
    subjects: list[str], late: str, seed: int
) -> None:
    everyone = sorted({*subjects, late})
    others = [subject for subject in ranking(everyone, seed) if subject in subjects]
    assert others == ranking(subjects, seed)


def test_another_seed_or_another_dataset_is_another_choice() -> None:
    subjects = [f"{i:02}" for i in range(32)]
    chosen = {
        held_out_subjects(name, subjects, fraction=0.25, seed=seed)
        for name in ("deap", "faced")
        for seed in range(3)
    }
    assert len(chosen) == 6
    assert {len(subjects) for subjects in chosen} == {8}


def test_the_choice_is_the_same_on_every_machine() -> None:
    subjects = [f"{i:02}" for i in range(1, 16)]
    assert held_out_subjects("deap", subjects, fraction=0.2, seed=0) == ("01", "08", "14")


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 20.0, float("nan"), float("inf")])
def test_a_fraction_outside_its_range_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match=rf"held-out fraction in \[0, 1\), got {fraction:g}"):
        held_out_subjects("deap", ["01", "02"], fraction=fraction, seed=0)


# Protocols ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def full() -> dict[str, pa.Table]:
    """Indexes of the published size."""
    return {dataset: index_table(published(dataset)) for dataset in EVALUATED}


@st.composite
def indexes(draw: st.DrawFn, protocol: str) -> tuple[str, pa.Table]:
    """A dataset that the protocol fits and an index of it, its rows in any order."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    if protocol in OF_PAPER:
        dataset = OF_PAPER[protocol]
        shown = published(dataset, draw(st.integers(3, 9)))
    else:
        dataset = "made"
        shown = made_up(draw, rng)
    # Presentations without a class are there and take no part.
    shown = [replace(one, label=-1) if one.stimulus == "none" else one for one in shown]
    index = index_table(thinned(shown, rng), rehearsal=protocol in OF_PAPER)
    return dataset, shuffled(index, rng)[0]


def made_up(draw: st.DrawFn, rng: np.random.Generator) -> list[Shown]:
    """Several subjects, sessions, stimuli and classes; a stimulus may recur in other sessions."""
    recurs = draw(st.booleans())
    n_sessions = draw(st.integers(1, 2))
    stimuli = [
        (f"{k:02d}", label)
        for k, label in enumerate(
            rng.permutation(np.repeat(np.arange(draw(st.integers(2, 4))), draw(st.integers(3, 5))))
        )
    ]
    return [
        Shown("made", f"{s:02d}", f"{v}", name if recurs else f"{v}-{name}", k, int(label), 1)
        for s in range(draw(st.integers(3, 8)))
        for v in range(n_sessions)
        for k, (name, label) in enumerate([*stimuli, ("none", -1)])
    ]


def sides_of(fold: Fold) -> dict[str, list[int]]:
    rows = {"train": fold.train_N, "validation": fold.val_N, "test": fold.test_N}
    return {side: rows_N.tolist() for side, rows_N in rows.items()}


def keys(index: pa.Table, *columns: str) -> list[tuple[object, ...]]:
    return list(zip(*(index.column(name).to_pylist() for name in columns), strict=True))


KEYS: dict[str, tuple[str, ...]] = {
    "neighbour": ("recording", "presentation"),
    "subject": ("subject",),
    "stimulus": ("stimulus",),
}


def mixed(index: pa.Table, fold: Fold) -> set[str]:
    """What really stands on two sides, counted segment by segment."""
    found = set()
    for mix, columns in KEYS.items():
        key_S = keys(index, *columns)
        sets = [{key_S[row] for row in rows} for rows in sides_of(fold).values()]
        if any(a & b for a, b in combinations(sets, 2)):
            found.add(mix)
    return found


@pytest.mark.parametrize("protocol", PROTOCOLS)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_fold_mixes_only_what_its_name_confesses(protocol: str, data: st.DataObject) -> None:
    dataset, index = data.draw(indexes(protocol))
    for fold in folds(protocol, dataset, index):
        found = mixed(index, fold)
        assert ("subject" in found) <= ("same_subjects" in protocol)
        assert ("stimulus" in found) <= ("same_stimuli" in protocol)
        assert ("neighbour" in found) <= protocol.startswith("random_segments")
        assert found <= PROTOCOLS[protocol].mixes


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_names_and_facts_of_a_protocol_agree(protocol: str) -> None:
    found = PROTOCOLS[protocol]
    assert found.name == protocol
    assert ("subject" in found.mixes) == ("same_subjects" in protocol)
    assert ("stimulus" in found.mixes) == ("same_stimuli" in protocol)
    assert ("neighbour" in found.mixes) == protocol.startswith("random_segments")
    assert "\n" not in found.words


@pytest.mark.parametrize("protocol", PROTOCOLS)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_sides_are_disjoint_sorted_and_have_a_class(protocol: str, data: st.DataObject) -> None:
    dataset, index = data.draw(indexes(protocol))
    label_S = index.column("label").to_numpy()
    for fold in folds(protocol, dataset, index):
        rows = [row for side in sides_of(fold).values() for row in side]
        assert len(rows) == len(set(rows))
        assert all(side == sorted(side) and side for side in sides_of(fold).values())
        assert (label_S[rows] >= 0).all()
        assert set(label_S[fold.train_N]) == set(label_S[label_S >= 0])


@pytest.mark.parametrize("protocol", sorted({*PROTOCOLS} - {"subjects_and_stimuli_apart"}))
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_every_segment_with_a_class_is_used_in_every_fold(
    protocol: str, data: st.DataObject
) -> None:
    dataset, index = data.draw(indexes(protocol))
    everything = set(np.flatnonzero(index.column("label").to_numpy() >= 0).tolist())
    found = folds(protocol, dataset, index)
    for fold in found:
        assert {row for side in sides_of(fold).values() for row in side} == everything
    for side in ("validation", "test"):
        if protocol in IN_TURN:
            assert sorted(row for fold in found for row in sides_of(fold)[side]) == sorted(
                everything
            )


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_both_apart_tests_every_subject_and_every_stimulus_once(data: st.DataObject) -> None:
    _, index = data.draw(indexes("subjects_and_stimuli_apart"))
    found = folds("subjects_and_stimuli_apart", "made", index)
    with_class = index.column("label").to_numpy() >= 0
    for column in ("subject", "stimulus"):
        names_S = np.array(index.column(column).to_pylist())
        tested = [name for fold in found for name in set(names_S[fold.test_N])]
        assert sorted(tested) == sorted(set(names_S[with_class]))
    pair_S = keys(index, "subject", "stimulus")
    known = {pair for pair, known in zip(pair_S, with_class, strict=True) if known}
    for fold in found:  # a whole rectangle: each of its subjects with each of its stimuli
        for side in sides_of(fold).values():
            pairs = {pair_S[row] for row in side}
            who, what = ({pair[i] for pair in pairs} for i in (0, 1))
            assert pairs == {(s, t) for s, t in known if s in who and t in what}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_the_order_of_rows_changes_nothing(protocol: str, data: st.DataObject) -> None:
    dataset, index = data.draw(indexes(protocol))
    other, order = shuffled(index, np.random.default_rng(data.draw(st.integers(0, 9))))
    first, second = folds(protocol, dataset, index), folds(protocol, dataset, other)
    assert [fold.name for fold in first] == [fold.name for fold in second]
    for one, two in zip(first, second, strict=True):
        for side, rows in sides_of(two).items():
            assert sorted(order[rows].tolist()) == sides_of(one)[side]


def test_how_words_are_stored_changes_nothing(full: dict[str, pa.Table]) -> None:
    """A filtered index keeps words in its dictionaries that no row has any more."""
    index = full["seed"].filter(full["seed"].column("subject").to_numpy() > "05")
    plain = pa.table(
        {
            name: column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column
            for name, column in zip(index.column_names, index.columns, strict=True)
        }
    )
    for protocol in protocols_of("seed"):
        one, two = folds(protocol, "seed", index), folds(protocol, "seed", plain)
        assert [sides_of(fold) for fold in one] == [sides_of(fold) for fold in two]


SIZES = {"faced": (6720, 1680, 1932), "seed_v": (34_432, 42_960, 40_352), "seed": (10_125,) * 3}


@pytest.mark.parametrize("dataset", EVALUATED)
def test_the_papers_split_has_the_published_sizes(full: dict[str, pa.Table], dataset: str) -> None:
    (fold,) = folds(paper_protocol(dataset), dataset, full[dataset])
    assert fold.name == "1_of_1"
    assert tuple(len(side) for side in sides_of(fold).values()) == SIZES[dataset]
    card = datasets.get(dataset).CARD
    assert sum(SIZES[dataset]) == card.n_segments_paper


def test_the_papers_subjects_sessions_and_presentations(full: dict[str, pa.Table]) -> None:
    """Who and what is on which side, by the publishers' names."""
    expected = {
        "faced": ("subject", ("000", "079"), ("080", "099"), ("100", "122")),
        "seed": ("session", ("1", "1"), ("2", "2"), ("3", "3")),
        "seed_v": ("presentation", (0, 4), (5, 9), (10, 14)),
    }
    for dataset, (column, *ranges) in expected.items():
        (fold,) = folds(paper_protocol(dataset), dataset, full[dataset])
        values = full[dataset].column(column).to_pylist()
        found = [{values[row] for row in side} for side in sides_of(fold).values()]
        assert [(min(side), max(side)) for side in found] == ranges


SHORTEST = {"faced": None, "seed": 5.0, "seed_v": 1.0}


@pytest.mark.parametrize("dataset", EVALUATED)
def test_the_simulated_indexes_name_things_as_the_readers_do(dataset: str, tmp_path: Path) -> None:
    module = datasets.get(dataset)
    module.write_example(tmp_path, ToneSource(), n_subjects=1, duration_s=SHORTEST[dataset])
    recordings = [module.read(tmp_path, ref) for ref in module.find(tmp_path).recordings]
    found = [
        (r.ref.key, r.ref.subject, r.ref.session, p.stimulus, p.ordinal, p.label)
        for r in recordings
        for p in r.presentations
    ]
    expected = [
        (one.recording, one.subject, one.session, one.stimulus, one.presentation, one.label)
        for one in published(dataset, 1)
    ]
    assert found == expected


@pytest.mark.parametrize("dataset", EVALUATED)
@pytest.mark.parametrize("n_subjects", [None, 3])
def test_every_class_is_on_every_side(dataset: str, n_subjects: int | None) -> None:
    """Of the published release, and of rehearsal data of three subjects."""
    index = index_table(published(dataset, n_subjects), rehearsal=n_subjects is not None)
    label_S = index.column("label").to_numpy()
    for protocol in protocols_of(dataset):
        for fold in folds(protocol, dataset, index):
            for side, rows in sides_of(fold).items():
                assert set(label_S[rows]) == set(label_S), (protocol, fold.name, side)


@pytest.mark.parametrize("dataset", EVALUATED)
def test_groups_are_even(full: dict[str, pa.Table], dataset: str) -> None:
    """No group of subjects or of stimuli of a class has two more than another."""
    index = full[dataset]
    subjects, stimuli, labels = (
        np.array(index.column(c).to_pylist()) for c in ("subject", "stimulus", "label")
    )
    apart = folds("subjects_apart_same_stimuli", dataset, index)
    n_subjects = [len(set(subjects[fold.test_N])) for fold in apart]
    assert len(apart) == 5
    assert max(n_subjects) - min(n_subjects) <= 1
    for label in set(labels.tolist()):
        per_fold = [
            len(set(stimuli[fold.test_N][labels[fold.test_N] == label]))
            for fold in folds("stimuli_apart_same_subjects", dataset, index)
        ]
        assert len(per_fold) == 3
        assert max(per_fold) - min(per_fold) <= 1


def test_a_long_stimulus_or_a_diligent_subject_starves_no_group() -> None:
    """Subjects and stimuli are evened out before segments are."""
    shown = [
        replace(one, n_segments=500 if one.stimulus == "04" or one.subject == "02" else 1)
        for one in published("seed", 9)
    ]
    index = index_table(shown)
    by_subject = folds("subjects_apart_same_stimuli", "seed", index)
    by_stimulus = folds("stimuli_apart_same_subjects", "seed", index)
    subjects, stimuli, labels = (
        np.array(index.column(c).to_pylist()) for c in ("subject", "stimulus", "label")
    )
    assert sorted(len(set(subjects[fold.test_N])) for fold in by_subject) == [1, 2, 2, 2, 2]
    for label in range(3):
        n = [len(set(stimuli[f.test_N][labels[f.test_N] == label])) for f in by_stimulus]
        assert sorted(n) == [1, 2, 2]


@pytest.mark.parametrize("n_subjects", [3, 4, 5, 6])
def test_there_are_as_many_folds_as_subjects_up_to_five(n_subjects: int) -> None:
    index = index_table(published("seed", n_subjects))
    found = folds("subjects_apart_same_stimuli", "seed", index)
    assert [fold.name for fold in found] == [
        f"{k + 1}_of_{min(5, n_subjects)}" for k in range(min(5, n_subjects))
    ]


@pytest.mark.parametrize(
    ("n_subjects", "sizes"), [(3, (1, 1, 1)), (6, (4, 1, 1)), (12, (8, 2, 2)), (123, (80, 20, 23))]
)
def test_a_rehearsal_of_faced_keeps_the_shares(n_subjects: int, sizes: tuple[int, ...]) -> None:
    index = index_table(published("faced", n_subjects), rehearsal=True)
    (fold,) = folds("paper_same_stimuli", "faced", index)
    subjects = np.array(index.column("subject").to_pylist())
    found = [set(subjects[side]) for side in sides_of(fold).values()]
    assert tuple(len(side) for side in found) == sizes
    assert max(found[0]) < min(found[1]) <= max(found[1]) < min(found[2])


def test_real_faced_is_split_by_number_whoever_is_absent(full: dict[str, pa.Table]) -> None:
    index = full["faced"]
    absent = pa.array(["007", "085", "121"])
    number = np.array([int(s) for s in index.column("subject").to_pylist()])
    kept = index.filter(~np.isin(number, [int(s) for s in absent.to_pylist()]))
    (fold,) = folds("paper_same_stimuli", "faced", kept)
    assert tuple(len(side) // 84 for side in sides_of(fold).values()) == (79, 19, 22)
    with pytest.raises(
        ValueError,
        match="faced paper_same_stimuli: need segments in test of fold 1_of_1, got none",
    ):
        folds("paper_same_stimuli", "faced", index.filter(number < 100))


def test_the_folds_are_the_same_on_every_machine(full: dict[str, pa.Table]) -> None:
    subjects, stimuli = (np.array(full["seed"].column(c).to_pylist()) for c in KEYS_APART)
    first = folds("subjects_apart_same_stimuli", "seed", full["seed"])[0]
    assert sorted(set(subjects[first.test_N])) == ["01", "06", "11"]
    assert sorted(set(subjects[first.val_N])) == ["02", "07", "12"]
    first = folds("stimuli_apart_same_subjects", "seed", full["seed"])[0]
    assert sorted(set(stimuli[first.test_N])) == ["02", "04", "05", "10", "15"]
    assert folds(RANDOM, "seed", full["seed"])[0].test_N[:6].tolist() == [15, 31, 33, 41, 44, 50]


@pytest.mark.parametrize(("protocol", "n_folds"), [(RANDOM, 5), (RANDOM_TENTHS, 10)])
def test_random_segments_put_neighbours_on_all_sides(
    full: dict[str, pa.Table], protocol: str, n_folds: int
) -> None:
    made = folds(protocol, "faced", full["faced"])
    assert len(made) == n_folds
    for fold in made:
        assert mixed(full["faced"], fold) == {"neighbour", "subject", "stimulus"}
    assert not any(protocol in protocols_of(dataset) for dataset in EVALUATED)


def test_tenths_are_as_large_as_those_of_a_shuffled_ten_fold_split() -> None:
    index = index_table(thinned(published("seed", 3), np.random.default_rng(0)))
    want = [
        len(test_N)
        for _, test_N in KFold(10, shuffle=True, random_state=0).split(np.zeros(index.num_rows))
    ]
    made = folds(RANDOM_TENTHS, "seed", index)
    assert sorted(len(fold.test_N) for fold in made) == sorted(want)
    for fold, after in zip(made, [*made[1:], made[0]], strict=True):
        assert fold.val_N.tolist() == after.test_N.tolist()


def test_the_papers_protocol_comes_first_and_safer_ones_follow() -> None:
    for dataset in EVALUATED:
        first, *safer = protocols_of(dataset)
        assert first == paper_protocol(dataset)
        assert first.startswith("paper_")
        assert not PROTOCOLS[safer[-1]].mixes
        kept_apart = {mix for p in safer for mix in {"subject", "stimulus"} - PROTOCOLS[p].mixes}
        assert kept_apart == {"subject", "stimulus"}


def test_a_protocol_for_one_dataset_says_so_and_is_the_papers_of_that_one() -> None:
    made_for_one = {name for name, found in PROTOCOLS.items() if found.one_dataset}
    assert made_for_one == set(OF_PAPER)


def without_class(index: pa.Table) -> pa.Table:
    place = index.column_names.index("label")
    return index.set_column(place, "label", pa.array(np.full(index.num_rows, -1, np.int32)))


REFUSED: dict[str, tuple[str, str, Callable[[], pa.Table], str]] = {
    "an unknown protocol": (
        "paper",
        "seed",
        lambda: index_table(published("seed", 3)),
        "need a protocol among paper_same_stimuli, .*_apart_same_stimuli; got 'paper'",
    ),
    "another dataset's": (
        "paper_same_stimuli",
        "seed",
        lambda: index_table(published("seed", 3)),
        "seed paper_same_stimuli: need one session, got 1, 2, 3",
    ),
    "SEED as if it were SEED-V": (
        "paper_same_subjects",
        "seed",
        lambda: index_table(published("seed", 3)),
        "seed paper_same_subjects: need other stimuli in every session, got 01 in several",
    ),
    "SEED-V as if it were SEED": (
        "paper_same_subjects_same_stimuli",
        "seed_v",
        lambda: index_table(published("seed_v", 3)),
        "need the same stimuli in every session, got others in each",
    ),
    "FACED as if it were SEED-V": (
        "paper_same_subjects",
        "faced",
        lambda: index_table(published("faced", 3)),
        "faced paper_same_subjects: need presentations 0 to 14 of each session, got 27",
    ),
    "people without FACED's numbers": (
        "paper_same_stimuli",
        "faced",
        lambda: index_table([replace(one, subject="P1") for one in published("faced", 1)]),
        "need subjects numbered from 0 to 122, got P1",
    ),
    "a session too many": (
        "paper_same_subjects_same_stimuli",
        "seed",
        lambda: index_table([replace(one, session="4") for one in published("seed", 1)]),
        "need sessions 1, 2 and 3, got 4",
    ),
    "another index": (
        "paper_same_subjects",
        "seed_v",
        lambda: index_table(published("seed", 3)),
        "need an index of seed_v, got one of seed",
    ),
    "two subjects": (
        "subjects_apart_same_stimuli",
        "seed",
        lambda: index_table(published("seed", 2)),
        "seed subjects_apart_same_stimuli: need at least 3 subjects, got 2",
    ),
    "two subjects for both": (
        "subjects_and_stimuli_apart",
        "seed",
        lambda: index_table(published("seed", 2)),
        "seed subjects_and_stimuli_apart: need at least 3 subjects, got 2",
    ),
    "a rehearsal of two subjects": (
        "paper_same_stimuli",
        "faced",
        lambda: index_table(published("faced", 2), rehearsal=True),
        "faced paper_same_stimuli: need at least 3 subjects, got 2",
    ),
    "two stimuli of a class": (
        "stimuli_apart_same_subjects",
        "faced",
        lambda: index_table([one for one in published("faced", 3) if one.stimulus != "01"]),
        "need every class in train of fold 1_of_3, got none of class 0",
    ),
    "two classes of a stimulus": (
        "stimuli_apart_same_subjects",
        "faced",
        lambda: index_table(
            [
                replace(one, label=3) if one.stimulus == "07" and one.subject == "001" else one
                for one in published("faced", 3)
            ]
        ),
        "need one class for each stimulus, got several for 07",
    ),
    "no class at all": (
        "subjects_apart_same_stimuli",
        "seed",
        lambda: without_class(index_table(published("seed", 3))),
        "need segments that have a class, got none",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_split_is_refused(case: str) -> None:
    protocol, dataset, index, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        folds(protocol, dataset, index())


# Targets ------------------------------------------------------------------------------------------


def rated(index: pa.Table, rating_S: np.ndarray) -> pa.Table:
    return index.append_column("rating_valence", pa.array(rating_S))


@pytest.mark.parametrize("protocol", [p for p in IN_TURN if "apart" in p])
def test_folds_of_a_cut_rating_are_those_of_its_classes(protocol: str) -> None:
    """People differ: a stimulus is above the cut for some and below it for others."""
    index = index_table(published("seed", 9))
    rng = np.random.default_rng(3)
    of = dict.fromkeys(keys(index, "subject", "stimulus"))
    for key in of:
        of[key] = rng.integers(1, 10)
    rating_S = np.array([of[key] for key in keys(index, "subject", "stimulus")], dtype=float)
    rating_S[rng.random(len(rating_S)) < 0.1] = np.nan
    made = folds(protocol, "seed", rated(index, rating_S), Cut("valence", 5.0))
    for fold in made:
        assert mixed(index, fold) == PROTOCOLS[protocol].mixes
        for rows in sides_of(fold).values():
            assert np.isfinite(rating_S[rows]).all()
            assert {True, False} == set((rating_S[rows] > 5).tolist())
    assert [fold.name for fold in made] == [fold.name for fold in folds(protocol, "seed", index)]


def test_the_publishers_classes_are_the_target_without_one(full: dict[str, pa.Table]) -> None:
    for protocol in protocols_of("faced"):
        one = folds(protocol, "faced", full["faced"])
        two = folds(protocol, "faced", full["faced"], Classes())
        assert [sides_of(fold) for fold in one] == [sides_of(fold) for fold in two]


def test_a_target_that_the_index_does_not_have_is_named_with_dataset_and_protocol() -> None:
    index = index_table(published("seed", 3))
    with pytest.raises(ValueError, match="seed subjects_apart_same_stimuli: need a rating among"):
        folds("subjects_apart_same_stimuli", "seed", index, Cut("boredom", 3))


LEVELS = Levels("valence", (3.0, 6.0))


@pytest.mark.parametrize("target", [LEVELS, Cut("valence", 5.0)])
def test_a_fold_of_one_class_is_refused(target: Levels | Cut) -> None:
    index = rated(index_table(published("seed", 3)), np.full(6075, 2.0))
    with pytest.raises(
        ValueError,
        match="seed subjects_apart_same_stimuli: need segments of two classes or more in train of "
        "fold 1_of_3, got those of class 0 alone",
    ):
        folds("subjects_apart_same_stimuli", "seed", index, target)


def test_a_level_that_one_person_used_is_tested_although_nobody_learned_it() -> None:
    """The publisher's classes are refused then, as above."""
    index = index_table(published("seed", 5))
    subjects = index.column("subject").to_pylist()
    at_S = np.arange(index.num_rows)
    rating_S = np.where(at_S % 2 == 0, 2.0, 5.0)
    rating_S[np.array(subjects) == "03"] = 9.0
    made = folds("subjects_apart_same_stimuli", "seed", rated(index, rating_S), LEVELS)
    for fold in made:
        learned = {subjects[row] for row in fold.train_N}
        assert fold.untrained == (() if "03" in learned else (2,))
    assert [fold.untrained for fold in made].count((2,)) == 2
