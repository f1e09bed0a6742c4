"""One recording on its way into the corpus: read, prepared, written, and what remains to be known.

A part is written after its shard and says all that the index and the manifest take from the
recording, so that a build can be ended at any moment and goes on from the parts that are there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, Any

from threadpoolctl import threadpool_limits

from emoray import datasets
from emoray.corpus.manifest import PARTS, SHARDS, Layout, ShardFile, Source
from emoray.corpus.shards import write_shard
from emoray.runtime.code import source_version
from emoray.runtime.storage import Storage, sha256_of
from emoray.signals import EcgRecipe, EegRecipe
from emoray.signals.amplitude import Moments
from emoray.vocabulary.schema import DataError, Recording, RecordingRef

if TYPE_CHECKING:
    from emoray.signals.segments import Prepared


@dataclass(frozen=True, slots=True)
class Part:
    """What one recording gave to a build."""

    recording: str
    subject: str
    session: str
    sources: tuple[Source, ...]
    code: str
    """`code_version` that made it."""
    shard: ShardFile | None = None
    """None where no segment came out, or the recording could not be read."""
    layout: Layout | None = None
    rows: tuple[Mapping[str, Any], ...] = ()
    """`signals.segments.SegmentRow` as dictionaries, in the shard's order."""
    dropped: tuple[Mapping[str, Any], ...] = ()
    facts: Mapping[str, Any] | None = None
    error: str | None = None
    """Why the recording is in quarantine."""
    moments: Moments | None = None
    """What its segments were scaled by, where the scale is to be a person's."""

    def to_json(self) -> str:
        """The text of the part's file."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> Part:
        """Parse `to_json`."""
        found = json.loads(text)
        found["sources"] = tuple(Source(**source) for source in found["sources"])
        found["shard"] = ShardFile(**found["shard"]) if found["shard"] else None
        if found["layout"]:
            layout = found["layout"]
            found["layout"] = Layout(**{**layout, "channels": tuple(layout["channels"])})
        if moments := found.get("moments"):
            mean_C, sd_C = tuple(moments["mean_C"]), tuple(moments["sd_C"])
            found["moments"] = Moments(moments["n"], mean_C, sd_C)
        found["rows"], found["dropped"] = tuple(found["rows"]), tuple(found["dropped"])
        return cls(**found)


@dataclass(frozen=True, slots=True)
class Build:
    """Where one build comes from and goes to; small, it travels to every task."""

    dataset: str
    root: Path
    """The dataset's own folder."""
    storage: Storage
    """The build's folder in the corpus."""
    recipe: EegRecipe | EcgRecipe
    """With this dataset's exceptions applied."""


def make_part(build: Build, ref: RecordingRef, read: Callable[[], Recording] | None = None) -> Part:
    """Read one recording, prepare it, write its shard.

    The part itself is not written: whether a recording that cannot be read ends the build or
    goes into quarantine is not decided here.

    Args:
        build: for which.
        ref: the recording.
        read: reads it, where another build may have done so; the dataset's reader without it.

    Raises:
        OSError: the storage cannot be written.
        MemoryError: there is not enough memory for the recording.
    """
    # Before the limit below, which holds for loaded libraries.
    module, prepare = datasets.get(ref.dataset), preparation(build.recipe)
    sources = hash_sources(build.root, ref)
    code = code_version(ref.dataset, prepare.func.__module__)
    blank = Part(ref.key, ref.subject, ref.session, sources, code)
    previous = read_part(build.storage, ref)
    if previous is not None and _same_bytes(build.storage, previous, sources):
        return replace(previous, sources=sources)
    try:
        # One CPU a task; and the number of BLAS threads changes the last bits of a shard.
        with threadpool_limits(1):
            recording = module.read(build.root, ref) if read is None else read()
            prepared = prepare(recording, module.CARD)
    except MemoryError:
        raise  # the machine's, not the file's
    except Exception as error:
        # Whatever a reader raises belongs to its file: the others can still be built.
        return replace(blank, error=_say(build, ref, error))
    return _written(build, blank, recording, prepared)


def preparation(recipe: EegRecipe | EcgRecipe) -> partial[Prepared]:
    """What makes segments of a recording and its card by this recipe.

    Imported here and not above: mne, scipy and scikit-learn are loaded where a recording is made,
    not by whoever asks what is to be made.
    """
    if isinstance(recipe, EcgRecipe):
        from emoray.signals.ecg import prepare as ecg

        return partial(ecg.prepare, recipe=recipe)
    from emoray.signals.eeg import prepare as eeg

    return partial(eeg.prepare, recipe=recipe)


def _written(build: Build, blank: Part, recording: Recording, prepared: Prepared) -> Part:
    part = replace(
        blank,
        rows=tuple(asdict(row) for row in prepared.rows),
        dropped=tuple(asdict(entry) for entry in (*recording.dropped, *prepared.dropped)),
        facts=prepared.facts,
        moments=prepared.moments,
    )
    if not prepared.rows:
        return part
    x_SCT = prepared.x_SCT
    shard = write_shard(build.storage, part.recording, x_SCT, build.recipe.stream)
    layout = Layout(prepared.channels, prepared.sfreq, x_SCT.shape[2], str(x_SCT.dtype))
    return replace(part, shard=shard, layout=layout)


def _say(build: Build, ref: RecordingRef, error: Exception) -> str:
    return f"{ref.key}, read from {build.root} ({', '.join(ref.files)}): {told(error)}"


def told(error: Exception) -> str:
    """What an error says, after its type where nobody foresaw it: it may be our own mistake."""
    foreseen = type(error) in (DataError, ValueError)
    return str(error) if foreseen else f"{type(error).__name__}: {error}"


def part_name(ref: RecordingRef) -> str:
    """Name of a recording's part in the dataset's folder."""
    return f"{PARTS}/{ref.key}.json"


def read_part(storage: Storage, ref: RecordingRef) -> Part | None:
    """The part of a recording; None where there is none."""
    text = storage.read(part_name(ref))
    return None if text is None else Part.from_json(text)


def write_part(storage: Storage, ref: RecordingRef, part: Part) -> None:
    """Write a part, atomically: from now on its recording counts as done.

    Raises:
        OSError: the storage cannot be written.
    """
    storage.write_bytes(part_name(ref), part.to_json().encode())


def stat_sources(root: Path, ref: RecordingRef) -> tuple[Source, ...]:
    """Sizes and times of source files without reading them; SHA-256 is left empty.

    What is not there, or no regular file, or cannot be looked at, has size -1.
    """
    return tuple(_stat(file, path) for file, path in _places(root, ref))


def _places(root: Path, ref: RecordingRef) -> list[tuple[str, Path]]:
    """Each file as the manifest calls it, and where it lies, which may be a name not to be told."""
    try:
        paths = datasets.paths(root, ref)
    except (DataError, OSError):  # gone; the reader says so
        paths = tuple(root / file for file in ref.files)
    return list(zip(ref.files, paths, strict=True))


def _stat(file: str, path: Path) -> Source:
    try:
        stat = path.stat()
    except OSError:
        return Source(file, -1, 0, "")
    if not S_ISREG(stat.st_mode):
        return Source(file, -1, 0, "")
    return Source(file, stat.st_size, stat.st_mtime_ns, "")


def hash_sources(root: Path, ref: RecordingRef) -> tuple[Source, ...]:
    """Sizes, times and SHA-256 of source files; it stays empty where a file cannot be read."""
    found = ((_stat(file, path), path) for file, path in _places(root, ref))
    return tuple(
        replace(s, sha256=_sha256(path, s.size, s.mtime_ns) if s.size >= 0 else "")
        for s, path in found
    )


@lru_cache(maxsize=256)
def _sha256(path: Path, size: int, mtime_ns: int) -> str:
    """Remembered per process: one DREAMER.mat holds all of its subjects."""
    try:
        return sha256_of(path)
    except OSError:
        return ""  # the reader says what is wrong with it


def unchanged(sources: Sequence[Source], root: Path, ref: RecordingRef) -> bool:
    """Whether the files still have the sizes and times they were read with."""
    now = stat_sources(root, ref)
    return [(s.file, s.size, s.mtime_ns) for s in sources] == [
        (s.file, s.size, s.mtime_ns) for s in now
    ]


def _same_bytes(storage: Storage, part: Part, sources: Sequence[Source]) -> bool:
    """Whether only times changed (a copied or touched file) and the shard is still there."""
    if part.error is not None or [s.sha256 for s in part.sources] != [s.sha256 for s in sources]:
        return False
    found = storage.sub(SHARDS).files() if part.shard else {}
    return part.shard is None or found.get(part.shard.file) == part.shard.bytes


def code_version(dataset: str, preparation: str) -> str:
    """emoray's version and a digest of the code that decides what a dataset's segments are.

    Args:
        dataset: whose reader.
        preparation: name of the module that makes segments of a recording.
    """
    return source_version((f"{datasets.__name__}.{dataset}", preparation))
