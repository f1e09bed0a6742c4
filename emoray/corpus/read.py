"""Open a corpus: decisions from the index, signals by row out of memory-mapped shards.

Shapes: N rows asked for, S segments of a dataset, C channels (electrodes or leads), T samples,
2 = (valence, arousal).
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import DTypeLike, NDArray

from emoray.corpus.fingerprints import Indexed, fingerprints
from emoray.corpus.manifest import (
    INDEX,
    INDEX_FIELDS,
    MANIFEST,
    SHARDS,
    Layout,
    Manifest,
    digest_of,
    index_digest,
    layout_from_metadata,
    other_settings,
    parse_folder,
    recipe_digest,
)
from emoray.corpus.node_cache import LocalShards
from emoray.corpus.shards import Signals
from emoray.runtime.storage import Storage
from emoray.vocabulary.schema import DataError, FloatArray, IntArray, Stream

if TYPE_CHECKING:
    from emoray.signals import Recipe

_VERIFY_THREADS = 4


class CorpusDataset:
    """One stream of a dataset of a corpus: its index in memory, its signals by row.

    Pickling sends the location; the index is read and shards are mapped where it arrives.
    """

    def __init__(self, storage: Storage, *, cache_dir: Path, verify: bool) -> None:
        self._opened = (storage, cache_dir, verify)
        self.manifest = read_manifest(storage)
        self.index, self.layout = _read_index(storage, self.manifest)
        self._local = LocalShards(storage.sub(SHARDS), cache_dir, verify=verify)
        self._check_shards(storage)

    def __reduce__(self) -> tuple[object, ...]:
        return _reopen_dataset, self._opened

    def __len__(self) -> int:
        return int(self.index.num_rows)

    def __repr__(self) -> str:
        return f"CorpusDataset({self.manifest.folder}: {len(self)} segments)"

    @property
    def name(self) -> str:
        """The dataset's name."""
        return self.manifest.dataset

    @property
    def is_local(self) -> bool:
        """Whether shards are read where they lie, without a copy in the cache."""
        return self._opened[0].is_local

    @property
    def fits_here(self) -> bool:
        """Whether all its shards lie on this node or find room in the cache."""
        return self.is_local or self._local.has_room(self.manifest.shards)

    @property
    def rehearsal(self) -> bool:
        """Whether these are rehearsal data."""
        return self.manifest.rehearsal

    @property
    def digest(self) -> str:
        """Digest of the index rows that decide a plan; no path or machine enters it."""
        return self.manifest.index_digest

    @property
    def builds(self) -> dict[str, str]:
        """Digest of the index by the build's folder: which segments these are."""
        return {self.manifest.folder: self.digest}

    @property
    def recipes(self) -> tuple[Mapping[str, Any], ...]:
        """Of the build, as plain data."""
        return (self.manifest.recipe,)

    def stream(self, name: Stream) -> Self:
        """Itself, for the stream that it is of.

        Raises:
            ValueError: it is of another.
        """
        if name != self.manifest.stream:
            raise ValueError(f"need {name} of {self.name}, got {self.manifest.folder}")
        return self

    @property
    def channels(self) -> tuple[str, ...]:
        """Electrodes or leads in the order of the arrays."""
        return self.layout.channels

    @property
    def n_chans(self) -> int:
        """Electrodes or leads."""
        return self.layout.n_chans

    @property
    def n_times(self) -> int:
        """Samples of a segment."""
        return self.layout.n_times

    @property
    def sfreq(self) -> float:
        """Hz."""
        return self.layout.sfreq

    @property
    def dtype(self) -> np.dtype[Any]:
        """As stored: float32 or float16."""
        return np.dtype(self.layout.dtype)

    @cached_property
    def va_S2(self) -> FloatArray:
        """Valence and arousal in [-4, 4]; nan where the dataset has none."""
        return np.stack([self.column("valence"), self.column("arousal")], axis=1)

    @property
    def has_coordinates(self) -> bool:
        """Whether a segment has valence and arousal; SEED's, for one, have neither."""
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
        """Whom and what these rows show: subject -> stimuli. Leakage audits rely on it."""
        subjects, stimuli = self.column("subject")[rows_N], self.column("stimulus")[rows_N]
        found: dict[str, list[str]] = {}
        for subject, stimulus in sorted(set(zip(subjects.tolist(), stimuli.tolist(), strict=True))):
            found.setdefault(subject, []).append(stimulus)
        return found

    def signals(self, rows_N: IntArray) -> dict[str, list[str]]:
        """Fingerprints of the recordings that these rows are of (`corpus.fingerprints`), by name.

        Leakage audits find by them a recording under another name.
        """
        names = sorted(set(self.column("recording")[rows_N].tolist()))
        return {name: list(self._fingerprints[name]) for name in names}

    @cached_property
    def _fingerprints(self) -> dict[str, tuple[str, ...]]:
        columns = ("recording", "subject", "session", "shard")
        rows = set(zip(*(self.column(name).tolist() for name in columns), strict=True))
        return fingerprints(self.manifest, {name: Indexed(*found) for name, *found in rows})

    def gather(
        self,
        rows: IntArray | Sequence[int],
        *,
        out: Signals | None = None,
        dtype: DTypeLike | None = None,
    ) -> Signals:
        """Signals of these rows, in their order, copied once from the mapped shards.

        Where a scale holds over several recordings, they come on it (`Manifest.affine`).

        Args:
            rows: N rows of the index, repeats allowed.
            out: where to write, shape (N, C, T), of any dtype (pinned memory, for example).
            dtype: of a new array; the stored one without it.

        Returns:
            `out`, or a new array of shape (N, C, T).

        Raises:
            IndexError: a row lies outside the index.
            ValueError: `out` has another shape.
            DataError: a shard is missing or damaged.
        """
        shape = (self.n_chans, self.n_times)
        rows_N = self._checked(rows)
        if out is None:
            out = np.empty((len(rows_N), *shape), self.dtype if dtype is None else dtype)
        if out.shape != (len(rows_N), *shape):
            raise ValueError(f"need out of shape {(len(rows_N), *shape)}, got {out.shape}")
        shards_N, places_N = self._places[0][rows_N], self._places[1][rows_N]
        # Along the shards, so that pages are touched in the order in which they lie on the disk.
        order_N = np.lexsort((places_N, shards_N))
        for shard, of_shard in groupby(order_N.tolist(), key=shards_N.tolist().__getitem__):
            mapped = self._local.map(self.manifest.shards[shard])
            affine = self.manifest.affine.get(self.manifest.shards[shard].file)
            for i in of_shard:
                x_CT = mapped.signals[places_N[i]].reshape(shape)
                out[i] = x_CT if affine is None else affine(x_CT)
            mapped.release()
        return out

    def _checked(self, rows: IntArray | Sequence[int]) -> IntArray:
        rows_N = np.asarray(rows, dtype=np.int64)
        if rows_N.size and not (rows_N.min() >= 0 and rows_N.max() < len(self)):
            raise IndexError(
                f"need rows of {self.name} in [0, {len(self)}), "
                f"got {rows_N.min()} to {rows_N.max()}"
            )
        return rows_N

    @cached_property
    def _places(self) -> tuple[IntArray, IntArray]:
        """Of each index row: the shard's place in the manifest, the row in the shard."""
        order = {shard.file: i for i, shard in enumerate(self.manifest.shards)}
        files = self.index.column("shard").combine_chunks()
        lookup = np.array([order[file] for file in files.dictionary.to_pylist()], np.int64)
        return lookup[files.indices.to_numpy()], self.column("row").astype(np.int64)

    def _check_shards(self, storage: Storage) -> None:
        found = storage.sub(SHARDS).files()
        for shard in self.manifest.shards:
            where = storage.sub(SHARDS).place(shard.file)
            if shard.file not in found:
                raise DataError(f"need the shard {where}, got no file")
            if found[shard.file] != shard.bytes:
                raise DataError(f"{where}: need {shard.bytes:,} bytes, got {found[shard.file]:,}")

    def prepare(self, *, threads: int = _VERIFY_THREADS) -> None:
        """Fetch, check and map all shards now rather than on first use.

        Raises:
            DataError: a shard is missing or damaged.
        """
        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(self._local.map, self.manifest.shards):
                pass


class Corpus:
    """Built datasets, sorted by name."""

    def __init__(self, datasets: Iterable[CorpusDataset]) -> None:
        self.datasets = tuple(sorted(datasets, key=lambda dataset: dataset.name))

    def __getitem__(self, name: str) -> CorpusDataset:
        """The dataset of that name."""
        for dataset in self.datasets:
            if dataset.name == name:
                return dataset
        known = ", ".join(dataset.name for dataset in self.datasets)
        raise KeyError(f"need a dataset among {known}; got {name!r}")

    def __len__(self) -> int:
        return sum(len(dataset) for dataset in self.datasets)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the datasets."""
        return tuple(dataset.name for dataset in self.datasets)

    @property
    def is_local(self) -> bool:
        """Whether all shards are read where they lie."""
        return all(dataset.is_local for dataset in self.datasets)

    @property
    def fits_here(self) -> bool:
        """Whether every shard lies on this node or finds room in its cache."""
        return all(dataset.fits_here for dataset in self.datasets)

    @property
    def rehearsal(self) -> bool:
        """Whether any dataset holds rehearsal data."""
        return any(dataset.rehearsal for dataset in self.datasets)

    @property
    def digest(self) -> str:
        """Digest of the datasets' names and digests."""
        return digest_of([[dataset.name, dataset.digest] for dataset in self.datasets])

    def prepare(self, *, threads: int = _VERIFY_THREADS) -> None:
        """Fetch, check and map all shards of all datasets (`CorpusDataset.prepare`)."""
        for dataset in self.datasets:
            dataset.prepare(threads=threads)


def default_cache() -> Path:
    """Where shards and marks are kept on a node when nothing else is said.

    Nothing is ever removed there; it may be emptied whenever no run uses it.
    """
    return Path.home() / ".cache" / "emoray" / "shards"


def open_corpus(
    location: str | Path | Storage,
    *,
    datasets: Sequence[str] | None = None,
    stream: Stream = "eeg",
    recipe: Recipe | None = None,
    cache_dir: Path | None = None,
    verify: bool = True,
) -> Corpus:
    """Open the datasets of a corpus; no signal is read yet.

    Args:
        location: folder, or URI that `pyarrow.fs` opens (`s3://bucket/corpus`). Shards that are
            not local are copied to `cache_dir` on first use.
        datasets: those wanted, each by its name or by the exact folder of one build
            (`deap-eeg-0123456789ab`); all that have the stream without it.
        stream: which signals.
        recipe: the recipe that they must have been built by; without it each must have one build.
        cache_dir: node-local folder for copies and for the marks of checked files.
        verify: compare each shard's SHA-256 with the manifest before its first use on a node.

    Raises:
        DataError: there is no corpus, a dataset or its stream is missing, was built by another
            recipe or format version, or by several, or a shard is missing or has another size.
        ValueError: a recipe of another stream.
    """
    if recipe is not None and recipe.stream != stream:
        raise ValueError(f"need a recipe of {stream}, got {type(recipe).__name__}")
    storage = Storage.at(location)
    cache = default_cache() if cache_dir is None else Path(cache_dir)
    found = _built(storage, stream)
    wanted = found if datasets is None else _wanted(storage, found, datasets)
    chosen = [_choose(storage, name, folders, recipe) for name, folders in wanted.items()]
    return Corpus(
        CorpusDataset(storage.sub(folder), cache_dir=cache, verify=verify) for folder in chosen
    )


def _reopen_dataset(storage: Storage, cache_dir: Path, verify: bool) -> CorpusDataset:
    return CorpusDataset(storage, cache_dir=cache_dir, verify=verify)


def built_folders(storage: Storage) -> tuple[str, ...]:
    """Folders of all builds that have ended, of whatever stream, sorted.

    Raises:
        DataError: there is no corpus.
    """
    if not storage.exists():
        raise DataError(f"need a corpus at {storage}, got no such folder")
    return tuple(
        folder
        for folder in sorted(storage.folders())
        if parse_folder(folder) and MANIFEST in storage.sub(folder).files()
    )


def _built(storage: Storage, stream: Stream) -> dict[str, list[str]]:
    """Folders with a manifest by dataset name."""
    found: dict[str, list[str]] = {}
    others = []
    for folder in built_folders(storage):
        name = parse_folder(folder)
        assert name is not None  # as every build's
        if name.stream == stream:
            found.setdefault(name.dataset, []).append(folder)
        else:
            others.append(folder)
    if not found:
        raise DataError(
            f"{storage}: need folders such as deap-{stream}-0123456789ab with a {MANIFEST}, "
            f"got {', '.join(others) or 'none'}; a build that has not ended shows none either"
        )
    return found


def _wanted(
    storage: Storage, found: Mapping[str, Sequence[str]], asked: Sequence[str]
) -> dict[str, Sequence[str]]:
    """Folders that may be opened by dataset name: one where its folder was asked for."""
    names = {folder: name for name, folders in found.items() for folder in folders}
    absent = [entry for entry in asked if entry not in found and entry not in names]
    if absent:
        there = [
            name if len(found[name]) == 1 else ", ".join(found[name]) for name in sorted(found)
        ]
        raise DataError(f"{storage}: need the datasets {', '.join(absent)}, got {', '.join(there)}")
    wanted = {entry: found[entry] for entry in asked if entry in found}
    for folder in dict.fromkeys(entry for entry in asked if entry in names):
        name = names[folder]
        if wanted.get(name, [folder]) != [folder]:
            several = [entry for entry in asked if names.get(entry, entry) == name]
            raise DataError(f"{storage}: need one build of {name}, asked for {', '.join(several)}")
        wanted[name] = [folder]
    return wanted


def _choose(storage: Storage, name: str, folders: Sequence[str], recipe: Recipe | None) -> str:
    if recipe is not None:
        folders = _built_by(storage, name, folders, recipe.for_dataset(name))
    if len(folders) > 1:
        raise DataError(
            f"{storage}: need one build of {name}, got {', '.join(folders)}; "
            "each can be asked for by that name, or by its recipe"
        )
    return folders[0]


def _built_by(storage: Storage, name: str, folders: Sequence[str], recipe: Recipe) -> Sequence[str]:
    """Those of the folders that the recipe made; two where one holds rehearsal data."""
    wanted = recipe_digest(recipe)
    manifests = [read_manifest(storage.sub(folder)) for folder in folders]
    differs = {m.folder: other_settings(m.recipe, recipe) for m in manifests}
    matching = [m.folder for m in manifests if m.recipe_digest == wanted and not differs[m.folder]]
    if matching:
        return matching
    said = "; ".join(f"{f} has {how or 'another version'}" for f, how in differs.items())
    raise DataError(f"{storage}: need {name} built by another recipe: {said}")


def read_manifest(storage: Storage) -> Manifest:
    """What a build says of itself.

    Raises:
        DataError: there is none, or it is damaged.
    """
    text = storage.read(MANIFEST)
    if text is None:
        raise DataError(f"need {storage.place(MANIFEST)}, got no such file")
    return Manifest.from_json(text, where=storage.place(MANIFEST))


def _read_index(storage: Storage, manifest: Manifest) -> tuple[pa.Table, Layout]:
    where = storage.place(INDEX)
    data = storage.read(INDEX)
    if data is None:
        raise DataError(f"need {where}, got no such file")
    try:
        # Words repeat: as a dictionary a row takes 80 bytes rather than 130.
        words = [name for name, kind in INDEX_FIELDS if kind == pa.string()]
        index = pq.read_table(io.BytesIO(data), read_dictionary=words).combine_chunks()
    except pa.ArrowException as error:
        raise DataError(f"{where}: need a Parquet file, got {error}") from error
    absent = [name for name, _ in INDEX_FIELDS if name not in index.column_names]
    if absent:
        raise DataError(f"{where}: need the columns {', '.join(absent)}, got none of them")
    if index_digest(index) != manifest.index_digest:
        raise DataError(
            f"{where}: need the index of digest {manifest.index_digest[:16]}…, got "
            f"{index_digest(index)[:16]}…: it is damaged, or is being built at this moment"
        )
    return index, layout_from_metadata(index.schema.metadata, where=where)
