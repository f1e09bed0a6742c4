"""A corpus by what a stage reads: of each dataset one stream, or both of the same instants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from emoray.corpus.manifest import parse_folder
from emoray.corpus.paired import PairedDataset, pair
from emoray.corpus.read import CorpusDataset, built_folders, open_corpus, read_manifest
from emoray.runtime.storage import Storage
from emoray.vocabulary.schema import DataError, Stream

if TYPE_CHECKING:
    from emoray.signals import Recipe

Segments = CorpusDataset | PairedDataset
"""One dataset's segments: of one stream, or of two of the same instants."""

NO_RECIPES: Mapping[Stream, Recipe] = {}


def open_segments(location: str, builds: Sequence[str]) -> tuple[Segments, ...]:
    """The builds of these folders, those of one dataset as a pair, sorted by dataset.

    Raises:
        ValueError: a folder that names no build, or two builds of one stream of a dataset.
        DataError: as `open_corpus` and `pair`.
    """
    folders: dict[str, dict[Stream, str]] = {}
    for folder in builds:
        name = parse_folder(folder)
        if name is None:
            raise ValueError(f"need folders such as deap-eeg-0123456789ab, got {folder!r}")
        of_dataset = folders.setdefault(name.dataset, {})
        if name.stream in of_dataset:
            other = of_dataset[name.stream]
            raise ValueError(
                f"need one build of {name.dataset}'s {name.stream}, got {other} and {folder}"
            )
        of_dataset[name.stream] = folder
    opened: dict[str, CorpusDataset] = {}
    streams: set[Stream] = {stream for found in folders.values() for stream in found}
    for stream in sorted(streams):
        wanted = [found[stream] for found in folders.values() if stream in found]
        corpus = open_corpus(location, datasets=wanted, stream=stream)
        opened.update({dataset.manifest.folder: dataset for dataset in corpus.datasets})
    return tuple(
        _joined([opened[folder] for folder in folders[name].values()]) for name in sorted(folders)
    )


class Catalog:
    """The datasets of a corpus, each opened once for each choice of streams.

    Args:
        location: folder or URI of the corpus.

    Raises:
        DataError: there is no corpus.
    """

    def __init__(self, location: str) -> None:
        self.location = location
        self._folders = built_folders(Storage.at(location))
        self._opened: dict[tuple[str, tuple[Stream, ...], str], Segments] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Datasets of which there is a build of whatever stream."""
        found = (parse_folder(folder) for folder in self._folders)
        return tuple(sorted({name.dataset for name in found if name}))

    @property
    def words(self) -> str:
        """What there is: `deap (eeg), dreamer (ecg, eeg)`."""
        streams: dict[str, set[Stream]] = {}
        for name in map(parse_folder, self._folders):
            if name:
                streams.setdefault(name.dataset, set()).add(name.stream)
        said = [f"{name} ({', '.join(sorted(streams[name]))})" for name in sorted(streams)]
        return ", ".join(said) or "nothing"

    @cached_property
    def rehearsal(self) -> bool:
        """Whether any build holds rehearsal data."""
        storage = Storage.at(self.location)
        return any(read_manifest(storage.sub(folder)).rehearsal for folder in self._folders)

    def having(self, streams: Sequence[Stream], names: Sequence[str]) -> tuple[str, ...]:
        """Of these datasets those of which every one of these streams is built, sorted."""
        found = {(name.dataset, name.stream) for name in map(parse_folder, self._folders) if name}
        return tuple(n for n in sorted(names) if all((n, stream) in found for stream in streams))

    def dataset(
        self,
        name: str,
        streams: Sequence[Stream] = ("eeg",),
        recipes: Mapping[Stream, Recipe] = NO_RECIPES,
    ) -> Segments:
        """A dataset's segments.

        Args:
            name: of the dataset.
            streams: which of its signals.
            recipes: by which a stream's segments must have been cut; the build of a stream without
                an entry must be its only one.

        Raises:
            DataError: as `open_corpus` and `pair`.
        """
        at = (name, tuple(streams), repr([recipes.get(stream) for stream in streams]))
        if at not in self._opened:
            self._opened[at] = _joined(
                [
                    open_corpus(
                        self.location, datasets=[name], stream=stream, recipe=recipes.get(stream)
                    )[name]
                    for stream in streams
                ]
            )
        return self._opened[at]


def _joined(of_streams: Sequence[CorpusDataset]) -> Segments:
    if len(of_streams) == 1:
        return of_streams[0]
    by_stream = {dataset.manifest.stream: dataset for dataset in of_streams}
    if set(by_stream) != {"eeg", "ecg"}:
        raise DataError(f"need EEG and ECG to pair, got {', '.join(by_stream)}")
    return pair(by_stream["eeg"], by_stream["ecg"])
