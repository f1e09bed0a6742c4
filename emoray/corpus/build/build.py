"""Build a corpus: Ray Data over recordings, one task and one block each.

A task reads a recording once, prepares it for each build that lacks it and writes a shard each;
only its name and counts travel back. So memory is bounded by the recordings in flight, one per
CPU, and all CPUs are used.
"""

from __future__ import annotations

import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from emoray import datasets as registry
from emoray.corpus.build.index import assemble
from emoray.corpus.build.progress import Progress
from emoray.corpus.build.recording import (
    Build,
    Part,
    make_part,
    read_part,
    told,
    unchanged,
    write_part,
)
from emoray.corpus.build.release_folders import choose_folders
from emoray.corpus.build.tasks import join_ray, over_recordings
from emoray.corpus.manifest import (
    MANIFEST,
    PARTS,
    SHARDS,
    Manifest,
    build_digest,
    folder_name,
    other_settings,
)
from emoray.rehearsal.release import is_rehearsal
from emoray.runtime.storage import Storage, absolute
from emoray.signals import EcgRecipe, EegRecipe
from emoray.vocabulary.choices import OnError
from emoray.vocabulary.schema import Card, DataError, Listing, RecordingRef, Stream


@dataclass(frozen=True, slots=True)
class DatasetReport:
    """One stream of a dataset after a build."""

    name: str
    stream: Stream
    folder: str
    """Where it lies."""
    n_recordings: int
    """In the index."""
    n_built: int
    """Of these, made by this build; the others were there."""
    n_segments: int
    rehearsal: bool
    dropped: Mapping[tuple[str, str], int]
    """How many by what and why."""
    quarantined: Mapping[str, str]
    """Errors by recording."""
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What a build did."""

    out: str
    datasets: tuple[DatasetReport, ...]
    """One for each stream of each."""
    seconds: float
    task_seconds: float
    """Of all tasks together; over `seconds`, the CPUs that were kept busy on average."""
    peak_task_bytes: int
    """Largest resident memory of a process that prepared recordings; 0 when none did."""

    @property
    def n_built(self) -> int:
        """Recordings that this build made, each once for each stream."""
        return sum(dataset.n_built for dataset in self.datasets)

    @property
    def n_segments(self) -> int:
        """Segments in the corpus."""
        return sum(dataset.n_segments for dataset in self.datasets)


@dataclass(slots=True)
class _Effort:
    """What the tasks of a build took."""

    seconds: float = 0.0
    peak_bytes: int = 0


@dataclass(slots=True)
class _State:
    """One build, and what of it is to be made."""

    card: Card
    build: Build
    rehearsal: bool
    listing: Listing
    manifest: Manifest | None
    """Of a finished build; None where something is to be done."""
    todo: list[RecordingRef] = field(default_factory=list)


def build(
    root: Path,
    out: str | Path | Storage,
    *,
    recipe: EegRecipe | None = None,
    ecg: EcgRecipe | None = None,
    streams: Sequence[Stream] | None = None,
    datasets: Sequence[str] | None = None,
    on_error: OnError = "fail",
    progress: bool = True,
    here: bool = False,
    connect: Callable[[], object] | None = None,
) -> BuildReport:
    """Bring a corpus up to date: what is missing is made, what is there stays.

    Whether something is missing is told from names, sizes and times of the source files; their
    contents are hashed only when a recording is made. A finished build asked for again does
    nothing and does not start Ray.

    Args:
        root: folder of datasets, each under its name or its publisher's; nothing is written there.
        out: the corpus: folder, or URI that `pyarrow.fs` opens. On a cluster of several nodes
            both must be reachable from all of them under the same name.
        recipe: how recordings become segments of EEG; the paper's without it.
        ecg: how they become segments of ECG; its defaults without it.
        streams: what to build of datasets that have it; EEG without it, and ECG of a dataset that
            has nothing else.
        datasets: names; all that are in `root` without it.
        on_error: what a recording that cannot be read does.
        progress: show recordings done, segments a second and the remaining time.
        here: use the CPUs of this node only, because no other sees `root`.
        connect: joins or starts Ray when it is not running; `cluster.connect` without it.

    Raises:
        DataError: a dataset is missing or its folder empty, a recording appears twice, or, with
            `on_error="fail"`, a recording cannot be read; its files are named.
        ValueError: no such dataset, or none of these streams in one that was named.
        OSError: `out` cannot be written or is full.
    """
    started = time.monotonic()
    root, storage = Path(absolute(root)), Storage.at(out)
    recipes: dict[Stream, EegRecipe | EcgRecipe] = {
        "eeg": EegRecipe() if recipe is None else recipe,
        "ecg": EcgRecipe() if ecg is None else ecg,
    }
    states = [
        _state(name, folder, listing, storage, recipes[stream], on_error, is_rehearsal(root))
        for name, folder, asked in _asked(root, datasets, streams)
        for listing in [_list(name, folder)]
        for stream in asked
    ]
    effort = _Effort()
    if any(state.todo for state in states):
        effort = _make(states, on_error, progress, here, connect)
    reports = tuple(_finish(state) for state in states)
    seconds = time.monotonic() - started
    return BuildReport(str(storage), reports, seconds, effort.seconds, effort.peak_bytes)


def _asked(
    root: Path, datasets: Sequence[str] | None, streams: Sequence[Stream] | None
) -> list[tuple[str, Path, tuple[Stream, ...]]]:
    """Datasets with their folders and the streams of each that are to be built."""
    found, without = [], []
    for name, folder in choose_folders(root, datasets).items():
        there = registry.get(name).CARD.streams
        asked = there[:1] if streams is None else tuple(s for s in there if s in streams)
        if asked:
            found.append((name, folder, asked))
        else:
            without.append(name)
    if without and (datasets is not None or not found):
        raise ValueError(
            f"{root}: need datasets with {' or '.join(streams or ())}, got {', '.join(without)}"
        )
    return found


def _state(
    name: str,
    folder: Path,
    listing: Listing,
    out: Storage,
    recipe: EegRecipe | EcgRecipe,
    on_error: OnError,
    rehearsal: bool,
) -> _State:
    card, recipe = registry.get(name).CARD, recipe.for_dataset(name)
    rehearsal = rehearsal or is_rehearsal(folder)
    digest = build_digest(card, recipe, rehearsal=rehearsal)
    build = Build(name, folder, out.sub(folder_name(name, recipe.stream, digest)), recipe)
    _sweep(build.storage)
    state = _State(card, build, rehearsal, listing, _finished(build, listing, on_error))
    if state.manifest is None:
        shards = build.storage.sub(SHARDS).files()
        state.todo = [r for r in listing.recordings if not _is_done(build, r, shards, on_error)]
    return state


def _sweep(storage: Storage) -> None:
    for folder in (storage, storage.sub(SHARDS), storage.sub(PARTS)):
        folder.sweep()


def _list(name: str, folder: Path) -> Listing:
    """The recordings of a folder, each once."""
    try:
        listing = registry.get(name).find(folder)
    except (DataError, MemoryError):
        raise
    except Exception as error:
        raise DataError(f"{folder}: need a folder of {name}, found {told(error)}") from error
    twice = [key for key, n in Counter(ref.key for ref in listing.recordings).items() if n > 1]
    if twice:
        raise DataError(f"{folder}: need each recording once, got {', '.join(twice)} twice")
    if not listing.recordings:
        raise DataError(f"{folder}: need recordings, got none; missing: {listing.missing}")
    return listing


def _finished(build: Build, listing: Listing, on_error: OnError) -> Manifest | None:
    """The manifest, if it says of exactly these files that they are built."""
    text = build.storage.read(MANIFEST)
    if text is None:
        return None
    manifest = Manifest.from_json(text, where=build.storage.place(MANIFEST))
    if said := other_settings(manifest.recipe, build.recipe):
        raise DataError(
            f"{build.storage}: need a build by this recipe, got {said}: a default has changed, "
            f"and {type(build.recipe).__name__}.version has not"
        )
    refs = {ref.key: ref for ref in listing.recordings}
    shards = build.storage.sub(SHARDS).files()
    same = (
        manifest.sources.keys() == refs.keys()
        and manifest.missing == listing.missing
        and all(shards.get(shard.file) == shard.bytes for shard in manifest.shards)
        and all(unchanged(manifest.sources[k], build.root, ref) for k, ref in refs.items())
    )
    return manifest if same and (on_error == "skip" or not manifest.quarantined) else None


def _is_done(build: Build, ref: RecordingRef, shards: Mapping[str, int], on_error: OnError) -> bool:
    """Whether a part is there and still true; one in quarantine is tried again under `fail`."""
    part = read_part(build.storage, ref)
    if part is None or not unchanged(part.sources, build.root, ref):
        return False
    if part.error is not None:
        return on_error == "skip"
    return part.shard is None or shards.get(part.shard.file) == part.shard.bytes


def _finish(state: _State) -> DatasetReport:
    build, manifest = state.build, state.manifest
    if manifest is None:
        parts = [_required_part(build, ref) for ref in state.listing.recordings]
        manifest = assemble(
            build.storage,
            state.card,
            build.recipe,
            parts,
            rehearsal=state.rehearsal,
            missing=state.listing.missing,
        )
        # Tasks of a driver that was killed live on for seconds: longer than the first sweep.
        _sweep(build.storage)
    dropped: Counter[tuple[str, str]] = Counter()
    for entry in manifest.dropped:
        dropped[entry["what"], entry["reason"]] += entry["n"]
    return DatasetReport(
        name=state.card.name,
        stream=build.recipe.stream,
        folder=str(build.storage),
        n_recordings=len(manifest.shards),
        n_built=len(state.todo),
        n_segments=manifest.n_segments,
        rehearsal=state.rehearsal,
        dropped=dict(dropped.most_common()),
        quarantined=manifest.quarantined,
        missing=manifest.missing,
    )


def _required_part(build: Build, ref: RecordingRef) -> Part:
    part = read_part(build.storage, ref)
    if part is None:
        raise DataError(f"{build.storage}: need the part of {ref.key}, got none: was it deleted?")
    return part


# --- the tasks ----------------------------------------------------------------------------------


class _Maker:
    """What a task does with a recording; the recordings themselves are its rows."""

    def __init__(self, builds: Mapping[str, Sequence[Build]], on_error: OnError) -> None:
        self._builds = builds
        self._on_error = on_error

    def __call__(self, ref: RecordingRef) -> dict[str, Any]:
        """Errors come back as text: that of Ray would bury the file's name."""
        builds = self._builds[ref.key]
        started = time.monotonic()
        # One file for both streams; an error is not remembered, each build says it again.
        read = cache(lambda: registry.get(ref.dataset).read(builds[0].root, ref))
        result: dict[str, Any] = {"recording": ref.key, "n_segments": 0, "errors": []}
        try:
            for build in builds:
                part = make_part(build, ref, read)
                result["n_segments"] += len(part.rows)
                if part.error is not None:
                    result["errors"].append(part.error)
                if part.error is None or self._on_error == "skip":
                    write_part(build.storage, ref, part)
        except OSError as error:
            return {**result, "errno": error.errno, "unwritable": error.strerror or str(error)}
        return {**result, "seconds": time.monotonic() - started, "peak_bytes": _peak_bytes()}


def _peak_bytes() -> int:
    """Largest resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _make(
    states: Sequence[_State],
    on_error: OnError,
    progress: bool,
    here: bool,
    connect: Callable[[], object] | None,
) -> _Effort:
    """Make what is missing."""
    builds: dict[str, list[Build]] = {}
    refs: dict[str, RecordingRef] = {}
    for state in states:
        for ref in state.todo:
            refs[ref.key] = ref
            builds.setdefault(ref.key, []).append(state.build)
        if state.todo:
            state.build.storage.check_writable()
    maker, waiting = _Maker(builds, on_error), list(refs.values())
    join_ray(connect)
    effort = _Effort()
    with (
        Progress(len(waiting), shown=progress) as shown,
        closing(over_recordings(maker, waiting, here=here)) as results,
    ):
        for result in results:
            if "unwritable" in result:
                raise OSError(result["errno"], result["unwritable"])
            for error in result["errors"]:
                if on_error == "fail":
                    raise DataError(error)
                shown.say(f"quarantined: {error}")
            effort.seconds += result["seconds"]
            effort.peak_bytes = max(effort.peak_bytes, result["peak_bytes"])
            shown.advance(result["n_segments"])
    return effort
