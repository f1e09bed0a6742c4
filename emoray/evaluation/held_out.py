"""What a frozen encoder says of people it never saw: embeddings of both sides, then the read-out.

Shapes: N segments to fit on, M to score on, Z width of an embedding, 2 = (valence, arousal).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

from emoray.corpus.read import Corpus, CorpusDataset
from emoray.evaluation.embed import embed, evenly
from emoray.evaluation.readout import ReadOut, read_out
from emoray.feed import eligible_rows
from emoray.schema import FloatArray, IntArray

AT_MOST = 2000
"""Segments of a dataset embedded on either side: a line in 128 dimensions needs no more."""


def read_out_held_out(
    module: nn.Module,
    corpus: Corpus,
    held_out: Mapping[str, Sequence[str]],
    *,
    device: torch.device,
    at_most: int = AT_MOST,
) -> ReadOut | None:
    """Fit on the subjects that training saw, score on those held out, all datasets together.

    Args:
        module: offers `embed`; used frozen.
        corpus: datasets with valence and arousal.
        held_out: subjects by dataset.
        device: where embeddings are computed.
        at_most: segments of a dataset on either side, spread evenly over its index.

    Returns:
        None where no segment with valence and arousal is of a held-out subject: there is then no
        number to trust.
    """
    train = [
        (d, evenly(eligible_rows(d, held_out.get(d.name, ())), at_most)) for d in corpus.datasets
    ]
    test = [
        (d, evenly(_held_out_rows(d, held_out.get(d.name, ())), at_most)) for d in corpus.datasets
    ]
    if not any(len(rows) for _, rows in test):
        return None
    return read_out(
        _embedded(module, train, device),
        _coordinates(train),
        _embedded(module, test, device),
        _coordinates(test),
        train_subjects=[f"{d.name}-{s}" for d, rows in train for s in d.column("subject")[rows]],
        test_datasets=[d.name for d, rows in test for _ in rows],
    )


def _held_out_rows(dataset: CorpusDataset, subjects: Sequence[str]) -> IntArray:
    everyone_S = eligible_rows(dataset, ())
    return everyone_S[np.isin(dataset.column("subject")[everyone_S], list(subjects))]


def _embedded(
    module: nn.Module, sides: Sequence[tuple[CorpusDataset, IntArray]], device: torch.device
) -> FloatArray:
    parts = [embed(module, dataset, rows, device=device) for dataset, rows in sides if len(rows)]
    return np.concatenate(parts)


def _coordinates(sides: Sequence[tuple[CorpusDataset, IntArray]]) -> FloatArray:
    return np.concatenate([dataset.va_S2[rows] for dataset, rows in sides])
