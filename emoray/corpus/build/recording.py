"""One recording on its way into the corpus: read, prepared, written, and what remains to be known.

A part is written after its shard and says all that the index and the manifest take from the
recording, so that a build can be ended at any moment and goes on from the parts that are there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, Any

from threadpoolctl import threadpool_limits

from emoray import datasets
from emoray.corpus.manifest import PARTS, SHARDS, Layout, ShardFile, Source
from emoray.corpus.shards import write_shard
from emoray.vocabulary.schema import DataError, Recording, RecordingRef
from emoray.signals import Recipe
from emoray.runtime.storage import Storage, sha256_of
from emoray.runtime.code import source_version

if TYPE_CHECKING:
    from emoray.signals.eeg.prepare import Prepared



@dataclass(frozen=True, slots=True)
class Part:
    """What one recording gave."""

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
    """`signals.SegmentRow` as dictionaries, in the shard's order."""
    dropped: tuple[Mapping[str, Any], ...] = ()
    facts: Mapping[str, Any] | None = None
    error: str | None = None
    """Why the recording is in quarantine."""

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
            lists = {name: tuple(layout[name]) for name in ("channels", "ecg_leads")}
            found["layout"] = Layout(**{**layout, **lists})
        found["rows"], found["dropped"] = tuple(found["rows"]), tuple(found["dropped"])
        return cls(**found)


@dataclass(frozen=True, slots=True)
class Job:
    """Where one dataset comes from and goes to; small, it travels to every task."""

    dataset: str
    root: Path
    """The dataset's own folder."""
    storage: Storage
    """Its folder in the corpus."""
    recipe: Recipe
    """With this dataset's exceptions applied."""


def make_part(job: Job, ref: RecordingRef) -> Part:
    """Read one recording, prepare it, write its shard.

    The part itself is not written: whether a recording that cannot be read ends the build or
    goes into quarantine is not decided here.

    Raises:
        OSError: the storage cannot be written.
        MemoryError: there is not enough memory for the recording.
    """
    # Here and not above: mne, scipy and scikit-learn are loaded where a recording is made, not by
    # whoever asks what is to be made. Before the limit below, which holds for loaded libraries.
    from emoray.signals.eeg.prepare import prepare

    sources = hash_sources(job.root, ref)
    blank = Part(ref.key, ref.subject, ref.session, sources, code_version(ref.dataset))
    previous = read_part(job.storage, ref)
    if previous is not None and _same_bytes(job.storage, previous, sources):
        return replace(previous, sources=sources)
    module = datasets.get(ref.dataset)
    try:
        # One CPU a task; and the number of BLAS threads changes the last bits of a shard.
        with threadpool_limits(1):
            recording = module.read(job.root, ref)
            prepared = prepare(recording, module.CARD, job.recipe)
    except MemoryError:
        raise  # the machine's, not the file's
    except Exception as error:
        # Whatever a reader raises belongs to its file: the others can still be built.
        return replace(blank, error=_say(job, ref, error))
    return _written(job, blank, recording, prepared)


def _written(job: Job, blank: Part, recording: Recording, prepared: Prepared) -> Part:
    part = replace(
        blank,
        rows=tuple(asdict(row) for row in prepared.rows),
        dropped=tuple(asdict(entry) for entry in (*recording.dropped, *prepared.dropped)),
        facts=prepared.facts,
    )
    if not prepared.rows:
        return part
    shard = write_shard(job.storage, part.recording, prepared.eeg_SCT, prepared.ecg_SLT)
    sfreq = job.recipe.sfreq_of(datasets.get(job.dataset).CARD)
    return replace(part, shard=shard, layout=_layout(recording, prepared, sfreq))


def _layout(recording: Recording, prepared: Prepared, sfreq: float) -> Layout:
    ecg_SLT = prepared.ecg_SLT
    return Layout(
        channels=recording.eeg_channels,
        sfreq=sfreq,
        n_times=prepared.eeg_SCT.shape[2],
        dtype=str(prepared.eeg_SCT.dtype),
        ecg_leads=recording.ecg_leads if ecg_SLT is not None else (),
        ecg_sfreq=recording.ecg_sfreq if ecg_SLT is not None else None,
        ecg_n_times=ecg_SLT.shape[2] if ecg_SLT is not None else 0,
    )


def _say(job: Job, ref: RecordingRef, error: Exception) -> str:
    return f"{ref.key}, read from {job.root} ({', '.join(ref.files)}): {told(error)}"


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


def code_version(dataset: str) -> str:
    """emoray's version and a digest of the code that decides what a dataset's segments are."""
    return source_version((f"{datasets.__name__}.{dataset}", "emoray.signals.eeg.prepare"))
