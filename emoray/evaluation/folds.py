"""Protocols: which segments train, which choose the epoch, which test. Pure functions.

The same index gives the same folds on every machine and for every seed, whatever the order of
its rows. A protocol's name confesses what stands on two sides: `same_subjects`, `same_stimuli`.
Which dataset is evaluated by which protocol stands in a paper's `paper.toml`.

Shapes: S segments that have a class, N segments of one side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
import pyarrow as pa

from emoray.vocabulary.schema import IntArray
from emoray.vocabulary.targets import Classes, Levels, Target

Mix = Literal["neighbour", "subject", "stimulus"]
"""What may stand on two sides of a fold. `neighbour`: segments of one presentation."""

TRAIN, VAL, TEST, UNUSED = 0, 1, 2, -1

SUBJECT_GROUPS = 5
"""Folds with subjects apart; fewer where there are fewer subjects."""
RANDOM_GROUPS, RANDOM_TENTHS = 5, 10
GROUPS = 3
"""A group to train, one to choose the epoch, one to test: the least there can be. Stimuli are
cut in no more, because FACED shows three clips of a class and each side needs one."""

FACED_PARTS = (80, 20, 23)
"""Of FACED's 123 subjects, by number: those that train, choose the epoch and test."""


@dataclass(frozen=True, eq=False)
class Fold:
    """One assignment: rows of the index, sorted; no row is on two sides."""

    name: str
    """`2_of_5`."""
    train_N: IntArray
    val_N: IntArray
    test_N: IntArray
    untrained: tuple[int, ...] = ()
    """Levels of a rating that segments have, but none that trains: nobody can learn them, and those
    who are tested on them miss them."""


Splitter = Callable[[pa.Table], Iterable[IntArray]]
"""Segments that have a class -> for each fold, the side of each: shape (S,)."""


@dataclass(frozen=True)
class Protocol:
    """A rule that makes folds."""

    name: str
    mixes: frozenset[Mix]
    """All that its folds may have on two sides."""
    words: str
    """One line for people."""
    split: Splitter
    one_dataset: bool = False
    """Made for the layout of one dataset: its split is the publisher's numbers."""


def folds(
    protocol: str, dataset: str, index: pa.Table, target: Target | None = None
) -> tuple[Fold, ...]:
    """The folds of a protocol. Segments without a class take no part.

    Args:
        protocol: a name in `PROTOCOLS`.
        dataset: whose index it is.
        index: as `CorpusDataset.index`.
        target: what the classes are; the publisher's without it.

    Raises:
        ValueError: no such protocol, one made for a dataset of another layout, another dataset's
            index, too few subjects or stimuli, an empty side, one class alone in train, or a class
            that no segment of train has and that is not one of several levels of a rating. The
            message names dataset, protocol and what was needed.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"need a protocol among {', '.join(sorted(PROTOCOLS))}; got {protocol!r}")
    check_dataset(index, dataset)
    try:
        return tuple(_folds(PROTOCOLS[protocol], index, target or Classes()))
    except ValueError as error:
        raise ValueError(f"{dataset} {protocol}: {error}") from None


def check_dataset(index: pa.Table, dataset: str) -> None:
    """Refuse the index of another dataset.

    Raises:
        ValueError: a row is of another dataset.
    """
    found = set(index.column("dataset").unique().to_pylist())
    if not found <= {dataset}:
        raise ValueError(f"need an index of {dataset}, got one of {', '.join(sorted(found))}")


def coded(column: pa.ChunkedArray) -> tuple[IntArray, list[str]]:
    """Words as places in the sorted list of those that occur, and that list."""
    if pa.types.is_dictionary(column.type):
        # A dictionary may hold words that no row has, in an order that depends on the rows'.
        column = column.cast(column.type.value_type)
    encoded = column.combine_chunks().dictionary_encode()
    words = encoded.dictionary.to_pylist()
    order = sorted(range(len(words)), key=words.__getitem__)
    place = np.argsort(np.array(order, dtype=np.int64))
    return place[encoded.indices.to_numpy()], [words[i] for i in order]


def _folds(protocol: Protocol, index: pa.Table, target: Target) -> Iterable[Fold]:
    labelled = _with_labels(index, target.labels(index))
    rows_S = np.flatnonzero(labelled.column("label").to_numpy() >= 0)
    if not len(rows_S):
        raise ValueError("need segments that have a class, got none")
    segments = labelled.take(pa.array(rows_S))
    if isinstance(target, Classes) and "stimulus" not in protocol.mixes:
        _check_one_class_each(segments)
    sides = list(protocol.split(segments))
    label_S = segments.column("label").to_numpy()
    for k, side_S in enumerate(sides):
        name = f"{k + 1}_of_{len(sides)}"
        _check_sides(name, side_S, label_S)
        untrained = _untrained(side_S, label_S)
        if untrained and not isinstance(target, Levels):
            raise ValueError(
                f"need every class in train of fold {name}, got none of class "
                f"{', '.join(map(str, untrained))}"
            )
        train_N, val_N, test_N = (rows_S[side_S == side] for side in (TRAIN, VAL, TEST))
        yield Fold(name, train_N, val_N, test_N, untrained)


def _with_labels(index: pa.Table, label_S: IntArray) -> pa.Table:
    """The index with other classes in it."""
    place = index.column_names.index("label")
    return index.set_column(place, "label", pa.array(label_S))


def _check_one_class_each(segments: pa.Table) -> None:
    """Refuse a stimulus of several classes: only ratings differ from person to person.

    Raises:
        ValueError: names the first one.
    """
    stimulus_S, stimuli = coded(segments.column("stimulus"))
    n_classes = _n_classes(stimulus_S, segments.column("label").to_numpy())
    if several := [s for s, k in zip(stimuli, n_classes, strict=True) if k > 1]:
        raise ValueError(f"need one class for each stimulus, got several for {several[0]}")


def _check_sides(name: str, side_S: IntArray, label_S: IntArray) -> None:
    for side, words in ((TRAIN, "train"), (VAL, "validation"), (TEST, "test")):
        if not np.any(side_S == side):
            raise ValueError(f"need segments in {words} of fold {name}, got none")
    if len(found := np.unique(label_S[side_S == TRAIN])) < 2:
        raise ValueError(
            f"need segments of two classes or more in train of fold {name}, got those of class "
            f"{found[0]} alone"
        )


def _untrained(side_S: IntArray, label_S: IntArray) -> tuple[int, ...]:
    """Classes that no segment of train has, sorted.

    Of nine levels of a rating the outer ones are one or two people's, who may all be tested.
    """
    return tuple(sorted(set(label_S.tolist()) - set(label_S[side_S == TRAIN].tolist())))


# Made for one dataset -----------------------------------------------------------------------------


def _faced_paper(segments: pa.Table) -> Iterable[IntArray]:
    """By the publisher's number; rehearsal data have few subjects and keep the shares."""
    n_train, n_val, n_test = FACED_PARTS
    _check_numbered(segments, n_train + n_val + n_test)
    number_S = _numbers(segments, "subject")
    if segments.column("rehearsal").to_numpy().any():
        present, number_S = np.unique(number_S, return_inverse=True)
        _at_least(GROUPS, len(present), "subjects")
        n_val, n_test = (
            max(1, round(len(present) * n / sum(FACED_PARTS))) for n in (n_val, n_test)
        )
        n_train = len(present) - n_val - n_test
    yield np.digitize(number_S, (n_train, n_train + n_val))


def _check_numbered(segments: pa.Table, n_subjects: int) -> None:
    """Refuse an index of subjects that came several times or have no number of FACED's."""
    _, subjects = coded(segments.column("subject"))
    for name in subjects:
        if not name.isdecimal() or int(name) >= n_subjects:
            raise ValueError(f"need subjects numbered from 0 to {n_subjects - 1}, got {name}")
    _, sessions = coded(segments.column("session"))
    if len(sessions) > 1:
        raise ValueError(f"need one session, got {', '.join(sessions)}")


def _seed_v_paper(segments: pa.Table) -> Iterable[IntArray]:
    """Presentations 0-4, 5-9 and 10-14 of each session; each block shows each class once."""
    presentation_S = segments.column("presentation").to_numpy()
    if presentation_S.max() > 14:
        raise ValueError(f"need presentations 0 to 14 of each session, got {presentation_S.max()}")
    if again := _shown_in_several_sessions(segments):
        raise ValueError(f"need other stimuli in every session, got {again[0]} in several")
    yield np.digitize(presentation_S, (5, 10))


def _seed_paper(segments: pa.Table) -> Iterable[IntArray]:
    """The first visit, the second, the third; each shows the same stimuli."""
    _, sessions = coded(segments.column("session"))
    if foreign := sorted(set(sessions) - {"1", "2", "3"}):
        raise ValueError(f"need sessions 1, 2 and 3, got {foreign[0]}")
    if len(sessions) > 1 and not _shown_in_several_sessions(segments):
        raise ValueError("need the same stimuli in every session, got others in each")
    yield np.digitize(_numbers(segments, "session"), (2, 3))


def _shown_in_several_sessions(segments: pa.Table) -> list[str]:
    """Stimuli that more than one session has, sorted."""
    stimulus_S, stimuli = coded(segments.column("stimulus"))
    session_S, _ = coded(segments.column("session"))
    n_sessions = _n_classes(stimulus_S, session_S)
    return [name for name, n in zip(stimuli, n_sessions, strict=True) if n > 1]


def _numbers(segments: pa.Table, column: str) -> IntArray:
    codes_S, words = coded(segments.column(column))
    return np.array([int(word) for word in words])[codes_S]


# With groups apart --------------------------------------------------------------------------------


def _subjects_apart(segments: pa.Table) -> Iterable[IntArray]:
    subject_S, subjects = coded(segments.column("subject"))
    _at_least(GROUPS, len(subjects), "subjects")
    n = min(SUBJECT_GROUPS, len(subjects))
    return _in_turn(_dealt(subject_S, n), n)


def _stimuli_apart(segments: pa.Table) -> Iterable[IntArray]:
    """A stimulus that people rated into several classes counts for the commonest of them."""
    stimulus_S, _ = coded(segments.column("stimulus"))
    class_S = _commonest(stimulus_S, segments.column("label").to_numpy())[stimulus_S]
    return _in_turn(_dealt(stimulus_S, GROUPS, class_S), GROUPS)


def _both_apart(segments: pa.Table) -> Iterable[IntArray]:
    """A segment takes part where its subject and its stimulus are on the same side."""
    subject_S, subjects = coded(segments.column("subject"))
    _at_least(GROUPS, len(subjects), "subjects")
    by_subject = _in_turn(_dealt(subject_S, GROUPS), GROUPS)
    for of_subject_S, of_stimulus_S in zip(by_subject, _stimuli_apart(segments), strict=True):
        yield np.where(of_subject_S == of_stimulus_S, of_subject_S, UNUSED)


def _random_segments(segments: pa.Table) -> Iterable[IntArray]:
    return _in_turn(_at_random(segments, RANDOM_GROUPS), RANDOM_GROUPS)


def _random_tenths(segments: pa.Table) -> Iterable[IntArray]:
    return _in_turn(_at_random(segments, RANDOM_TENTHS), RANDOM_TENTHS)


def _at_random(segments: pa.Table, n: int) -> IntArray:
    """Deal segments to n groups in the order of a digest of their names: random, and the same
    everywhere.

    Returns:
        Group of each segment, shape (S,).
    """
    names = zip(
        *(segments.column(c).to_pylist() for c in ("recording", "presentation", "segment")),
        strict=True,
    )
    digests = [hashlib.sha256("/".join(map(str, name)).encode()).digest() for name in names]
    order_S = sorted(range(len(digests)), key=digests.__getitem__)
    group_S = np.empty(len(digests), dtype=np.int64)
    group_S[order_S] = np.arange(len(digests)) % n
    return group_S


def _in_turn(group_S: IntArray, n: int) -> Iterable[IntArray]:
    """Each group tests once, while the next one chooses the epoch and the others train."""
    for k in range(n):
        side_S = np.full(len(group_S), TRAIN)
        side_S[group_S == k] = TEST
        side_S[group_S == (k + 1) % n] = VAL
        yield side_S


def _dealt(code_S: IntArray, n: int, class_S: IntArray | None = None) -> IntArray:
    """Deal codes (subjects or stimuli) to n groups, as evenly as they come.

    The largest of each class first, each to the group that has fewest of the class and of these
    to the one with fewest segments, ties in the order of names. scikit-learn's `GroupKFold` evens
    out segments alone and knows no class.

    Returns:
        Group of each segment, shape (S,).
    """
    sizes = np.bincount(code_S)
    class_of = np.zeros(len(sizes), dtype=np.int64)
    if class_S is not None:
        class_of[code_S] = class_S
    group_of = np.empty(len(sizes), dtype=np.int64)
    segments_of = np.zeros(n, dtype=np.int64)
    for label in np.unique(class_of):
        members_of = np.zeros(n, dtype=np.int64)
        members = np.flatnonzero(class_of == label)
        for code in members[np.argsort(-sizes[members], kind="stable")]:
            group = min(range(n), key=lambda g: (members_of[g], segments_of[g]))
            group_of[code] = group
            members_of[group] += 1
            segments_of[group] += int(sizes[code])
    return group_of[code_S]


def _commonest(code_S: IntArray, class_S: IntArray) -> IntArray:
    """The class that most segments of each code have; of equals the first."""
    counts = np.zeros((code_S.max() + 1, class_S.max() + 1), dtype=np.int64)
    np.add.at(counts, (code_S, class_S), 1)
    commonest: IntArray = counts.argmax(axis=1)
    return commonest


def _n_classes(code_S: IntArray, class_S: IntArray) -> IntArray:
    """How many classes (or other codes) the segments of each code have."""
    pairs_P2 = np.unique(np.stack([code_S, class_S], axis=1), axis=0)
    return np.bincount(pairs_P2[:, 0])


def _at_least(wanted: int, found: int, what: str) -> None:
    if found < wanted:
        raise ValueError(f"need at least {wanted} {what}, got {found}")


# By name ------------------------------------------------------------------------------------------


_ALL = (
    Protocol(
        "paper_same_stimuli",
        frozenset({"stimulus"}),
        "the paper's: 80 subjects train, 20 choose the epoch, 23 test; all saw the same stimuli",
        _faced_paper,
        one_dataset=True,
    ),
    Protocol(
        "paper_same_subjects",
        frozenset({"subject"}),
        "the paper's: of each session the first five stimuli train, the next five choose the "
        "epoch, the last five test; same subjects",
        _seed_v_paper,
        one_dataset=True,
    ),
    Protocol(
        "paper_same_subjects_same_stimuli",
        frozenset({"subject", "stimulus"}),
        "the paper's: the first visit trains, the second chooses the epoch, the third tests; "
        "same subjects, same stimuli",
        _seed_paper,
        one_dataset=True,
    ),
    Protocol(
        "subjects_apart_same_stimuli",
        frozenset({"stimulus"}),
        "each fifth of the subjects tests once, the next chooses the epoch, the others train; "
        "same stimuli",
        _subjects_apart,
    ),
    Protocol(
        "stimuli_apart_same_subjects",
        frozenset({"subject"}),
        "each third of the stimuli of a class tests once, the next chooses the epoch, the last "
        "trains; same subjects",
        _stimuli_apart,
    ),
    Protocol(
        "subjects_and_stimuli_apart",
        frozenset(),
        "a third of the subjects on a third of the stimuli tests, trains or chooses the epoch; "
        "the rest is unused",
        _both_apart,
    ),
    Protocol(
        "random_segments_same_subjects_same_stimuli",
        frozenset({"neighbour", "subject", "stimulus"}),
        "each fifth of the segments, drawn at random, tests once: neighbours of a presentation "
        "on all sides; it shows what leakage is worth, not how good a method is",
        _random_segments,
    ),
    Protocol(
        "random_segments_10fold_same_subjects_same_stimuli",
        frozenset({"neighbour", "subject", "stimulus"}),
        "each tenth of the segments, drawn at random, tests once, the next chooses the epoch: "
        "neighbours of a presentation on all sides; it shows what leakage is worth, not how good "
        "a method is",
        _random_tenths,
    ),
)

PROTOCOLS: Mapping[str, Protocol] = MappingProxyType({p.name: p for p in _ALL})
"""Every protocol by name."""

# Held out of a pretraining ------------------------------------------------------------------------


def held_out_subjects(
    dataset: str, subjects: Iterable[str], *, fraction: float, seed: int
) -> tuple[str, ...]:
    """Choose the subjects of one dataset that training must not see.

    The choice depends on names and seed alone: a subject added later changes nobody else's rank.

    Args:
        dataset: its name; subjects of two datasets are different people.
        subjects: names, in any order, repeated or not.
        fraction: share to hold out, in [0, 1). At least one where it is above zero and the
            dataset has two or more; none in a dataset of one.
        seed: another seed, another choice.

    Returns:
        Names, sorted.

    Raises:
        ValueError: `fraction` lies outside [0, 1).
    """
    if not 0 <= fraction < 1:
        raise ValueError(f"need a held-out fraction in [0, 1), got {fraction:g}")
    everyone = sorted(set(subjects))
    if fraction == 0 or len(everyone) < 2:
        return ()
    n = min(max(1, round(fraction * len(everyone))), len(everyone) - 1)
    return tuple(sorted(sorted(everyone, key=lambda s: _rank(seed, dataset, s))[:n]))


def _rank(seed: int, dataset: str, subject: str) -> str:
    return hashlib.sha256(f"{seed}/{dataset}/{subject}".encode()).hexdigest()
