"""The read-out's benchmark: what its arm of permuted ratings keeps, and what it breaks."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from benchmarks.read_out import permuted
from emoray.batches.feeds import pools
from emoray.corpus.read import Corpus, open_corpus
from emoray.vocabulary.affect import regions
from tests.corpora import Made, write_corpus

MADE = (
    Made("made_a", n_stimuli=10, n_subjects=4),
    Made("made_b", n_stimuli=15, n_subjects=4, filled=(3, 4, 5)),
)
HELD_OUT = {"made_a": ("02",), "made_b": ()}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Of presentations of two or three segments with one rating."""
    opened = open_corpus(write_corpus(tmp_path_factory.mktemp("corpus"), MADE))
    for dataset in opened.datasets:
        first = {}
        shown = zip(dataset.column("recording"), dataset.column("presentation"), strict=True)
        for row, key in enumerate(shown):
            dataset.va_S2[row] = dataset.va_S2[first.setdefault(key, row)]
    return opened


def by_presentation(corpus: Corpus, name: str, subjects: set[str]) -> dict[str, set[bytes]]:
    dataset = corpus[name]
    found: dict[str, set[bytes]] = {}
    columns = (dataset.column(c) for c in ("recording", "presentation", "subject"))
    for recording, presentation, subject, va_2 in zip(*columns, dataset.va_S2, strict=True):
        if subject in subjects:
            found.setdefault(f"{recording}/{presentation}", set()).add(va_2.tobytes())
    return found


@pytest.mark.parametrize("name", ["made_a", "made_b"])
def test_ratings_stay_as_a_whole_and_with_a_presentations_segments(
    corpus: Corpus, name: str
) -> None:
    other = permuted(corpus, HELD_OUT, seed=3)
    kept = set(corpus[name].column("subject")) - set(HELD_OUT[name])
    before, after = (by_presentation(c, name, kept) for c in (corpus, other))
    pairs = [Counter(next(iter(v)) for v in of.values()) for of in (before, after)]
    assert pairs[0] == pairs[1]  # valence and arousal together
    assert all(len(values) == 1 for values in after.values())
    moved = [key for key in before if before[key] != after[key]]
    assert len(moved) > 0.7 * len(before)


def test_as_many_segments_of_each_region_can_be_drawn(corpus: Corpus) -> None:
    other = permuted(corpus, HELD_OUT, seed=0)
    for one, two in zip(
        pools(corpus.datasets, HELD_OUT), pools(other.datasets, HELD_OUT), strict=True
    ):
        np.testing.assert_array_equal(one.rows_S, two.rows_S)
        counts = [np.bincount(regions(pool.va_S2), minlength=9) for pool in (one, two)]
        np.testing.assert_array_equal(*counts)


def test_those_held_out_and_the_corpus_itself_keep_their_ratings(corpus: Corpus) -> None:
    before = {d.name: d.va_S2.copy() for d in corpus.datasets}
    other = permuted(corpus, HELD_OUT, seed=0)
    held = corpus["made_a"].column("subject") == "02"
    np.testing.assert_array_equal(other["made_a"].va_S2[held], before["made_a"][held])
    for dataset in corpus.datasets:
        np.testing.assert_array_equal(dataset.va_S2, before[dataset.name])


def test_another_seed_is_another_permutation_and_the_same_seed_is_the_same(corpus: Corpus) -> None:
    first, again, other = (permuted(corpus, {}, seed)["made_a"].va_S2 for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
