"""What a frozen encoder says of people it never saw: embeddings of both sides, then the read-out.

Shapes: N segments to fit on, M to score on, Z width of an embedding, 2 = (valence, arousal).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import nn

from emoray.batches.feeds import eligible_rows
from emoray.corpus.read import Corpus, CorpusDataset
from emoray.evaluation.embed import embed, evenly
from emoray.evaluation.readout import ReadOut, read_out
from emoray.evaluation.simple import simple_features
from emoray.vocabulary.schema import FloatArray, IntArray

A_PERSON = 24
"""Segments of a person that are embedded, spread evenly over the person's index. Segments of one
presentation share its rating: more of them tell a line of 128 numbers little, and nearly all of the
read-out's time goes into embedding."""

Side = Sequence[tuple[CorpusDataset, IntArray]]
"""Rows of each dataset that stand on one side."""


def sides(
    corpus: Corpus, held_out: Mapping[str, Sequence[str]], *, a_person: int = A_PERSON
) -> tuple[Side, Side]:
    """Rows to fit on and rows to score on, at most so many of each person."""
    people = [(d, held_out.get(d.name, ())) for d in corpus.datasets]
    train = [(d, _of_each(d, eligible_rows(d, out), a_person)) for d, out in people]
    test = [(d, _of_each(d, _held_out_rows(d, out), a_person)) for d, out in people]
    return train, test


def read_out_held_out(
    module: nn.Module,
    corpus: Corpus,
    held_out: Mapping[str, Sequence[str]],
    *,
    device: torch.device,
    a_person: int = A_PERSON,
    advance: Callable[[int], None] = lambda n_segments: None,
) -> ReadOut | None:
    """Fit on the subjects that training saw, score on those held out, all datasets together.

    Args:
        module: offers `embed`; used frozen.
        corpus: datasets with valence and arousal.
        held_out: subjects by dataset.
        device: where embeddings are computed.
        a_person: segments of a person at most, spread evenly.
        advance: told how many segments have just been embedded, from any thread.

    Returns:
        None where no segment with valence and arousal is of a held-out subject: there is then no
        number to trust.
    """
    return _read_out(
        lambda dataset, rows_N: embed(module, dataset, rows_N, device=device, advance=advance),
        *sides(corpus, held_out, a_person=a_person),
    )


def read_out_simple(
    corpus: Corpus, held_out: Mapping[str, Sequence[str]], *, a_person: int = A_PERSON
) -> ReadOut | None:
    """The same of features that nobody had to learn: both means over electrodes of each band."""
    return _read_out(
        lambda dataset, rows_N: np.concatenate(simple_features(dataset, rows_N), axis=1),
        *sides(corpus, held_out, a_person=a_person),
    )


def _read_out(
    features: Callable[[CorpusDataset, IntArray], FloatArray], train: Side, test: Side
) -> ReadOut | None:
    if not n_rows(test):
        return None
    train_ZD, test_ZD = (
        np.concatenate([features(dataset, rows_N) for dataset, rows_N in side if len(rows_N)])
        for side in (train, test)
    )
    return read_out(
        train_ZD,
        _coordinates(train),
        test_ZD,
        _coordinates(test),
        train_subjects=_people(train),
        test_subjects=_people(test),
        test_datasets=[d.name for d, rows in test for _ in rows],
    )


def n_rows(side: Side) -> int:
    """How many segments stand on a side."""
    return sum(len(rows) for _, rows in side)


def _of_each(dataset: CorpusDataset, rows_N: IntArray, at_most: int) -> IntArray:
    """At most so many rows of each subject, in the order of the index."""
    subjects_N = dataset.column("subject")[rows_N]
    kept = [evenly(rows_N[subjects_N == s], at_most) for s in sorted(set(subjects_N.tolist()))]
    return np.sort(np.concatenate(kept)) if kept else rows_N


def _held_out_rows(dataset: CorpusDataset, subjects: Sequence[str]) -> IntArray:
    everyone_S = eligible_rows(dataset, ())
    return everyone_S[np.isin(dataset.column("subject")[everyone_S], list(subjects))]


def _coordinates(side: Side) -> FloatArray:
    return np.concatenate([dataset.va_S2[rows] for dataset, rows in side])


def _people(side: Side) -> list[str]:
    """Whose each row is; subjects of two datasets are different people."""
    return [f"{d.name}-{s}" for d, rows in side for s in d.column("subject")[rows]]
