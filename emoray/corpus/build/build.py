"""Build a corpus: Ray Data over recordings, one task and one block each.

A task reads a recording, prepares it and writes its shard; only its name and counts travel back.
So memory is bounded by the recordings in flight, one per CPU, and all CPUs are used.
"""

from __future__ import annotations

import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from emoray import datasets as registry
from emoray.vocabulary.choices import OnError
from emoray.corpus.build.index import assemble
from emoray.corpus.build.release_folders import choose_folders
from emoray.corpus.manifest import MANIFEST, PARTS, SHARDS, Manifest, build_digest
from emoray.corpus.build.recording import (
    Job,
    Part,
    make_part,
    read_part,
    told,
    unchanged,
    write_part,
)
from emoray.corpus.build.progress import Progress
from emoray.corpus.build.tasks import join_ray, over_recordings
from emoray.rehearsal.release import is_rehearsal
from emoray.vocabulary.schema import Card, DataError, Listing, RecordingRef
from emoray.signals import Recipe
from emoray.runtime.storage import Storage, absolute


@dataclass(frozen=True, slots=True)
class DatasetReport:
    """One dataset after a build."""

    name: str
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
    seconds: float
    task_seconds: float
    """Of all tasks together; over `seconds`, the CPUs that were kept busy on average."""
    peak_task_bytes: int
    """Largest resident memory of a process that prepared recordings; 0 when none did."""

    @property
    def n_built(self) -> int:
        """Recordings that this build made."""
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
class _Plan:
    """One dataset of a build."""

    card: Card
    job: Job
    rehearsal: bool
    listing: Listing
    manifest: Manifest | None
    """Of a finished build; None where something is to be done."""
    todo: list[RecordingRef] = field(default_factory=list)


def build(
    root: Path,
    out: str | Path | Storage,
    *,
    recipe: Recipe,
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
        recipe: how recordings become segments.
        datasets: names; all that are in `root` without it.
        on_error: what a recording that cannot be read does.
        progress: show recordings done, segments a second and the remaining time.
        here: use the CPUs of this node only, because no other sees `root`.
        connect: joins or starts Ray when it is not running; `cluster.connect` without it.

    Raises:
        DataError: a dataset is missing or its folder empty, a recording appears twice, or, with
            `on_error="fail"`, a recording cannot be read; its files are named.
        ValueError: no such dataset.
        OSError: `out` cannot be written or is full.
    """
    started = time.monotonic()
    root, storage = Path(absolute(root)), Storage.at(out)
    plans = [
        _plan(name, folder, storage, recipe, on_error, rehearsal=is_rehearsal(root))
        for name, folder in choose_folders(root, datasets).items()
    ]
    effort = _Effort()
    if any(plan.todo for plan in plans):
        effort = _make(plans, on_error, progress, here, connect)
    reports = tuple(_finish(plan) for plan in plans)
    seconds = time.monotonic() - started
    return BuildReport(str(storage), reports, seconds, effort.seconds, effort.peak_bytes)


def _plan(
    name: str, folder: Path, out: Storage, recipe: Recipe, on_error: OnError, *, rehearsal: bool
) -> _Plan:
    card, recipe = registry.get(name).CARD, recipe.for_dataset(name)
    rehearsal = rehearsal or is_rehearsal(folder)
    digest = build_digest(card, asdict(recipe), rehearsal=rehearsal)
    job = Job(name, folder, out.sub(f"{name}-{digest}"), recipe)
    listing = _list(name, folder)
    _sweep(job.storage)
    plan = _Plan(card, job, rehearsal, listing, _finished(job, listing, on_error))
    if plan.manifest is None:
        shards = job.storage.sub(SHARDS).files()
        plan.todo = [r for r in listing.recordings if not _is_done(job, r, shards, on_error)]
    return plan


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


def _finished(job: Job, listing: Listing, on_error: OnError) -> Manifest | None:
    """The manifest, if it says of exactly these files that they are built."""
    text = job.storage.read(MANIFEST)
    if text is None:
        return None
    manifest = Manifest.from_json(text, where=job.storage.place(MANIFEST))
    refs = {ref.key: ref for ref in listing.recordings}
    shards = job.storage.sub(SHARDS).files()
    same = (
        manifest.sources.keys() == refs.keys()
        and manifest.missing == listing.missing
        and all(shards.get(shard.file) == shard.bytes for shard in manifest.shards)
        and all(unchanged(manifest.sources[k], job.root, ref) for k, ref in refs.items())
    )
    return manifest if same and (on_error == "skip" or not manifest.quarantined) else None


def _is_done(job: Job, ref: RecordingRef, shards: Mapping[str, int], on_error: OnError) -> bool:
    """Whether a part is there and still true; one in quarantine is tried again under `fail`."""
    part = read_part(job.storage, ref)
    if part is None or not unchanged(part.sources, job.root, ref):
        return False
    if part.error is not None:
        return on_error == "skip"
    return part.shard is None or shards.get(part.shard.file) == part.shard.bytes


def _finish(plan: _Plan) -> DatasetReport:
    job, manifest = plan.job, plan.manifest
    if manifest is None:
        parts = [_required_part(job, ref) for ref in plan.listing.recordings]
        manifest = assemble(
            job.storage,
            plan.card,
            job.recipe,
            parts,
            rehearsal=plan.rehearsal,
            missing=plan.listing.missing,
        )
        # Tasks of a driver that was killed live on for seconds: longer than the first sweep.
        _sweep(job.storage)
    dropped: Counter[tuple[str, str]] = Counter()
    for entry in manifest.dropped:
        dropped[entry["what"], entry["reason"]] += entry["n"]
    return DatasetReport(
        name=plan.card.name,
        folder=str(job.storage),
        n_recordings=len(manifest.shards),
        n_built=len(plan.todo),
        n_segments=manifest.n_segments,
        rehearsal=plan.rehearsal,
        dropped=dict(dropped.most_common()),
        quarantined=manifest.quarantined,
        missing=manifest.missing,
    )


def _required_part(job: Job, ref: RecordingRef) -> Part:
    part = read_part(job.storage, ref)
    if part is None:
        raise DataError(f"{job.storage}: need the part of {ref.key}, got none: was it deleted?")
    return part


# --- the tasks ----------------------------------------------------------------------------------


class _Maker:
    """What a task does with a recording; the recordings themselves are its rows."""

    def __init__(self, jobs: Mapping[str, Job], on_error: OnError) -> None:
        self._jobs = jobs
        self._on_error = on_error

    def __call__(self, ref: RecordingRef) -> dict[str, Any]:
        """Errors come back as text: that of Ray would bury the file's name."""
        job = self._jobs[ref.dataset]
        started = time.monotonic()
        result: dict[str, Any] = {"recording": ref.key, "n_segments": 0, "error": None}
        try:
            part = make_part(job, ref)
            if part.error is None or self._on_error == "skip":
                write_part(job.storage, ref, part)
        except OSError as error:
            return {**result, "errno": error.errno, "unwritable": error.strerror or str(error)}
        return {
            **result,
            "n_segments": len(part.rows),
            "error": part.error,
            "seconds": time.monotonic() - started,
            "peak_bytes": _peak_bytes(),
        }


def _peak_bytes() -> int:
    """Largest resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _make(
    plans: Sequence[_Plan],
    on_error: OnError,
    progress: bool,
    here: bool,
    connect: Callable[[], object] | None,
) -> _Effort:
    """Make what is missing."""
    refs = [ref for plan in plans for ref in plan.todo]
    maker = _Maker({plan.card.name: plan.job for plan in plans}, on_error)
    for plan in plans:
        if plan.todo:
            plan.job.storage.check_writable()
    join_ray(connect)
    effort = _Effort()
    with (
        Progress(len(refs), shown=progress) as shown,
        closing(over_recordings(maker, refs, here=here)) as results,
    ):
        for result in results:
            if "unwritable" in result:
                raise OSError(result["errno"], result["unwritable"])
            if result["error"] is not None:
                if on_error == "fail":
                    raise DataError(result["error"])
                shown.say(f"quarantined: {result['error']}")
            effort.seconds += result["seconds"]
            effort.peak_bytes = max(effort.peak_bytes, result["peak_bytes"])
            shown.advance(result["n_segments"])
    return effort
