"""Indexes without a corpus: whole releases from the readers' published facts, or made up.

`published` has the size of the real thing and no signal: what folds and audits decide by.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from emoray.corpus.manifest import INDEX_FIELDS
from emoray.datasets import faced, seed, seed_v
from emoray.vocabulary.schema import RecordingRef


@dataclass(frozen=True)
class Shown:
    """One presentation and how many segments it gave."""

    dataset: str
    subject: str
    session: str
    stimulus: str
    presentation: int
    label: int
    n_segments: int

    @property
    def recording(self) -> str:
        """As the corpus names it."""
        return RecordingRef(self.dataset, self.subject, self.session, ()).key


def published(dataset: str, n_subjects: int | None = None) -> list[Shown]:
    """Every presentation of a release, of all its subjects or of the first few."""
    return list({"faced": _faced, "seed": _seed, "seed_v": _seed_v}[dataset](n_subjects))


def _faced(n_subjects: int | None) -> Iterable[Shown]:
    n_segments = int(faced.SHAPE[2] / faced.EEG.sfreq / faced.CARD.segment_s)
    for subject in range(n_subjects or faced.CARD.n_subjects):
        for k, label in enumerate(faced.LABELS):
            yield Shown("faced", f"{subject:03d}", "1", f"{k + 1:02d}", k, label, n_segments)


def _seed(n_subjects: int | None) -> Iterable[Shown]:
    for subject in range(1, (n_subjects or seed.CARD.n_subjects) + 1):
        for session in "123":
            for k, (label, seconds) in enumerate(zip(seed.LABELS, seed.SECONDS, strict=True)):
                n = int(seconds / seed.CARD.segment_s)
                yield Shown("seed", f"{subject:02d}", session, f"{k + 1:02d}", k, label + 1, n)


def _seed_v(n_subjects: int | None) -> Iterable[Shown]:
    for subject in range(1, (n_subjects or seed_v.CARD.n_subjects) + 1):
        for session, clock in seed_v.CLOCK.items():
            for k, (start_s, stop_s) in enumerate(clock):
                stimulus = seed_v.stimulus_name(session, k)
                label = seed_v.LABELS[session][k]
                n = int((stop_s - start_s) / seed_v.CARD.segment_s)
                yield Shown("seed_v", f"{subject:02d}", session, stimulus, k, label, n)


def thinned(shown: Sequence[Shown], rng: np.random.Generator, most: int = 3) -> list[Shown]:
    """The same presentations with one to `most` segments each."""
    return [
        replace(one, n_segments=int(n))
        for one, n in zip(shown, rng.integers(1, most + 1, len(shown)), strict=True)
    ]


def index_table(shown: Sequence[Shown], *, rehearsal: bool = False) -> pa.Table:
    """One row for each segment; words as dictionaries, as `CorpusDataset.index` has them."""
    n_P = [one.n_segments for one in shown]
    columns: dict[str, NDArray[Any]] = {
        name: np.repeat(np.array([getattr(one, name) for one in shown], dtype=kind), n_P)
        for name, kind in (
            *(
                (word, object)
                for word in ("dataset", "recording", "subject", "session", "stimulus")
            ),
            *((number, np.int32) for number in ("presentation", "label")),
        )
    }
    n = sum(n_P)
    columns["segment"] = np.concatenate([np.arange(k) for k in n_P])
    columns["start_s"], columns["stop_s"] = columns["segment"] + 0.0, columns["segment"] + 1.0
    columns["valence"] = columns["arousal"] = np.full(n, np.nan)
    columns["emotion"] = np.full(n, "", dtype=object)
    columns["shard"], columns["row"] = columns["recording"], np.arange(n)
    columns["rehearsal"] = np.full(n, rehearsal)
    arrays = {name: pa.array(columns[name], kind) for name, kind in INDEX_FIELDS}
    words = {name for name, kind in INDEX_FIELDS if kind == pa.string()}
    return pa.table(
        {
            name: array.dictionary_encode() if name in words else array
            for name, array in arrays.items()
        }
    )


def shuffled(index: pa.Table, rng: np.random.Generator) -> tuple[pa.Table, NDArray[np.int64]]:
    """The rows in another order, and where each of them was before."""
    order = rng.permutation(index.num_rows)
    return index.take(pa.array(order)), order
