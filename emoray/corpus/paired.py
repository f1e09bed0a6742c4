"""EEG and ECG of the same instants: two builds of a dataset, seen as one.

Shapes: N rows asked for, S segments of the pair, C channels, T samples, 2 = (valence, arousal).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import DTypeLike, NDArray

from emoray.corpus.manifest import index_digest
from emoray.corpus.read import CorpusDataset
from emoray.corpus.shards import Signals
from emoray.vocabulary.schema import DataError, FloatArray, IntArray, Stream

_INSTANT = ("recording", "presentation", "start_s", "stop_s")
"""Columns that say which seconds a segment holds, of whichever stream."""
_PLACE = ("shard", "row")
"""Columns that say where one stream's signals lie."""


class PairedStream:
    """One stream of a pair: signals by the pair's rows."""

    def __init__(self, dataset: CorpusDataset, rows_S: IntArray) -> None:
        self._dataset = dataset
        self._rows_S = rows_S

    @property
    def channels(self) -> tuple[str, ...]:
        """Electrodes or leads in the order of the arrays."""
        return self._dataset.channels

    @property
    def sfreq(self) -> float:
        """Hz."""
        return self._dataset.sfreq

    @property
    def n_times(self) -> int:
        """Samples of a segment."""
        return self._dataset.n_times

    @property
    def dtype(self) -> np.dtype[Any]:
        """As stored: float32 or float16."""
        return self._dataset.dtype

    def gather(
        self,
        rows: IntArray | Sequence[int],
        *,
        out: Signals | None = None,
        dtype: DTypeLike | None = None,
    ) -> Signals:
        """Signals of these rows of the pair, (N, C, T), as `CorpusDataset.gather`.

        Raises:
            IndexError: a row lies outside the pair.
            ValueError: `out` has another shape.
            DataError: a shard is missing or damaged.
        """
        rows_N = np.asarray(rows, dtype=np.int64)
        n = len(self._rows_S)
        if rows_N.size and not (rows_N.min() >= 0 and rows_N.max() < n):
            raise IndexError(
                f"need rows of {self._dataset.name} in [0, {n}), got {rows_N.min()} to "
                f"{rows_N.max()}"
            )
        return self._dataset.gather(self._rows_S[rows_N], out=out, dtype=dtype)


class PairedDataset:
    """Segments of which both streams are there; what the index says is the EEG's, and what only
    the ECG's says beside it (R peaks).

    Pickling sends the locations of the two builds.
    """

    def __init__(self, eeg: CorpusDataset, ecg: CorpusDataset) -> None:
        self._both: dict[Stream, CorpusDataset] = {
            "eeg": eeg.stream("eeg"),
            "ecg": ecg.stream("ecg"),
        }
        if (eeg.name, eeg.rehearsal) != (ecg.name, ecg.rehearsal):
            raise ValueError(
                f"need EEG and ECG of one dataset, got {eeg.manifest.folder} "
                f"and {ecg.manifest.folder}"
            )
        rows_S, ecg_rows_S = _same_instants(eeg, ecg)
        if not len(rows_S):
            raise DataError(
                f"need segments of the same seconds in {eeg.manifest.folder} and "
                f"{ecg.manifest.folder}, got none: of {eeg.n_times / eeg.sfreq:g} s and of "
                f"{ecg.n_times / ecg.sfreq:g} s"
            )
        self._rows: dict[Stream, IntArray] = {"eeg": rows_S, "ecg": ecg_rows_S}
        self.index: pa.Table = eeg.index.drop_columns(list(_PLACE)).take(pa.array(rows_S))
        for name in ecg.index.column_names:
            if name not in eeg.index.column_names:
                beside = ecg.index.column(name).take(pa.array(ecg_rows_S))
                self.index = self.index.append_column(name, beside)
        self.digest: str = index_digest(self.index)
        """Digest of the rows that decide a plan; no path or machine enters it."""

    def __reduce__(self) -> tuple[object, ...]:
        return pair, (self._both["eeg"], self._both["ecg"])

    def __len__(self) -> int:
        return int(self.index.num_rows)

    def __repr__(self) -> str:
        folders = " and ".join(dataset.manifest.folder for dataset in self._both.values())
        return f"PairedDataset({folders}: {len(self)} segments)"

    @property
    def name(self) -> str:
        """The dataset's name."""
        return self._both["eeg"].name

    @property
    def rehearsal(self) -> bool:
        """Whether these are rehearsal data."""
        return self._both["eeg"].rehearsal

    @property
    def builds(self) -> dict[str, str]:
        """Digest of the index by each build's folder: which segments these are."""
        return {f: digest for one in self._both.values() for f, digest in one.builds.items()}

    @property
    def recipes(self) -> tuple[Mapping[str, Any], ...]:
        """Of both builds, as plain data."""
        return tuple(recipe for one in self._both.values() for recipe in one.recipes)

    @property
    def is_local(self) -> bool:
        """Whether shards are read where they lie, without a copy in the cache."""
        return all(dataset.is_local for dataset in self._both.values())

    @property
    def fits_here(self) -> bool:
        """Whether all shards of both lie on this node or find room in the cache."""
        return all(dataset.fits_here for dataset in self._both.values())

    @cached_property
    def va_S2(self) -> FloatArray:
        """Valence and arousal in [-4, 4]; nan where the dataset has none."""
        return np.stack([self.column("valence"), self.column("arousal")], axis=1)

    def stream(self, name: Stream) -> PairedStream:
        """One of the two.

        Raises:
            ValueError: no such stream.
        """
        if name not in self._both:
            raise ValueError(f"need a stream among {', '.join(self._both)}; got {name!r}")
        return PairedStream(self._both[name], self._rows[name])

    @property
    def has_coordinates(self) -> bool:
        """Whether a segment has valence and arousal."""
        return bool(np.isfinite(self.va_S2).all(axis=1).any())

    def column(self, name: str) -> NDArray[Any]:
        """A column of the index, shape (S,); strings come as objects.

        Raises:
            ValueError: the index has no such column.
        """
        if name not in self.index.column_names:
            known = ", ".join(self.index.column_names)
            raise ValueError(f"need a column among {known}; got {name!r}")
        return cast(NDArray[Any], self.index.column(name).to_numpy())

    def seen(self, rows_N: IntArray) -> dict[str, list[str]]:
        """Whom and what these rows show: subject -> stimuli."""
        return self._both["eeg"].seen(self._rows["eeg"][rows_N])

    def signals(self, rows_N: IntArray) -> dict[str, list[str]]:
        """Fingerprints of the recordings that these rows are of, those of both streams."""
        found: dict[str, set[str]] = {}
        for stream, dataset in self._both.items():
            for name, prints in dataset.signals(self._rows[stream][rows_N]).items():
                found.setdefault(name, set()).update(prints)
        return {name: sorted(prints) for name, prints in found.items()}

    def prepare(self, *, threads: int = 4) -> None:
        """Fetch, check and map all shards of both now rather than on first use.

        Raises:
            DataError: a shard is missing or damaged.
        """
        for dataset in self._both.values():
            dataset.prepare(threads=threads)


def pair(eeg: CorpusDataset, ecg: CorpusDataset) -> PairedDataset:
    """Two builds of a dataset as one, of the segments that both have.

    Args:
        eeg: one stream.
        ecg: the other, cut to the same length.

    Raises:
        ValueError: other streams than these, or two datasets.
        DataError: no segment of one is of the same seconds as one of the other.
    """
    return PairedDataset(eeg, ecg)


def _same_instants(eeg: CorpusDataset, ecg: CorpusDataset) -> tuple[IntArray, IntArray]:
    """Rows of both, in the order of the EEG's index."""
    places = {instant: row for row, instant in enumerate(_instants(ecg))}
    found = [
        (row, places[instant]) for row, instant in enumerate(_instants(eeg)) if instant in places
    ]
    rows_S2 = np.array(found, dtype=np.int64).reshape(-1, 2)
    return rows_S2[:, 0], rows_S2[:, 1]


def _instants(dataset: CorpusDataset) -> zip[tuple[Any, ...]]:
    return zip(*(dataset.column(name).tolist() for name in _INSTANT), strict=True)
