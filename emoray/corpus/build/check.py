"""What a folder of datasets holds, against the cards: nothing is built, nothing is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emoray import datasets as registry
from emoray.corpus.build.progress import Progress
from emoray.corpus.build.recording import told
from emoray.corpus.build.release_folders import find_folders, top_folder
from emoray.corpus.build.tasks import join_ray, over_recordings
from emoray.rehearsal.release import MARKER, is_rehearsal
from emoray.runtime.storage import absolute
from emoray.signals import count_segments
from emoray.vocabulary.schema import Card, Listing, RecordingRef


@dataclass(slots=True)
class Found:
    """One dataset as it was found; the card says what there should be."""

    card: Card
    folder: Path | None
    """None: there is no such folder."""
    rehearsal: bool = False
    n_files: int = 0
    """Files that its recordings are read from."""
    n_subjects: int = 0
    n_recordings: int = 0
    n_presentations: int | None = None
    """None: no recording was opened."""
    n_segments: int | None = None
    """That fit into the presentations, by the card's length."""
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    dropped: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By what and why: what the reader leaves out."""
    errors: list[str] = field(default_factory=list)
    """Recordings that cannot be read, or the whole folder."""

    @property
    def is_complete(self) -> bool:
        """Whether everything that the card expects is there and can be read."""
        return self.folder is not None and not self.missing and not self.errors


@dataclass(frozen=True, slots=True)
class Check:
    """All datasets, found or not."""

    root: Path
    found: tuple[Found, ...]
    unexpected: tuple[str, ...]
    """Entries at the top that belong to no dataset."""


def check(
    root: Path,
    *,
    datasets: Sequence[str] | None = None,
    quick: bool = False,
    progress: bool = True,
    here: bool = False,
    connect: Callable[[], object] | None = None,
) -> Check:
    """Hold a folder of datasets against the cards.

    Args:
        root: folder of datasets, each under its name or its publisher's.
        datasets: names; all without it.
        quick: look at names only and open no recording.
        progress: show how far it is.
        here: use the CPUs of this node only, because no other sees `root`.
        connect: joins or starts Ray when it is not running; `cluster.connect` without it.

    Raises:
        DataError: `root` is no folder, or two folders stand for one dataset.
        ValueError: no such dataset.
    """
    root = Path(absolute(root))
    data = find_folders(root)
    names = registry.names() if datasets is None else tuple(datasets)
    rows: dict[str, Found] = {}
    refs: list[RecordingRef] = []
    for name in names:
        folder = data.folders.get(name)
        rows[name] = Found(registry.get(name).CARD, folder)
        if folder is not None:
            refs += _list(rows[name], folder, is_rehearsal(root))
    if refs and not quick:
        folders = {name: data.folders[name] for name in rows if rows[name].folder is not None}
        join_ray(connect)
        with (
            Progress(len(refs), shown=progress) as shown,
            closing(over_recordings(_Counter(folders), refs, here=here)) as answers,
        ):
            for answer in answers:
                _add(rows[answer["dataset"]], answer)
                shown.advance(answer["n_segments"])
    return Check(root, tuple(rows.values()), data.unexpected)


def expected(card: Card) -> str:
    """Where the card's dataset should lie."""
    return f"{top_folder(card)}/"


def _list(row: Found, folder: Path, rehearsal: bool) -> Sequence[RecordingRef]:
    row.rehearsal = rehearsal or is_rehearsal(folder)
    try:
        listing: Listing = registry.get(row.card.name).find(folder)
    except MemoryError:
        raise
    except Exception as error:
        row.errors.append(told(error))
        return ()
    row.n_files = len({file for ref in listing.recordings for file in ref.files})
    row.n_subjects = len({ref.subject for ref in listing.recordings})
    row.n_recordings = len(listing.recordings)
    row.missing = listing.missing
    row.unexpected = tuple(name for name in listing.unexpected if name != MARKER)
    return listing.recordings


class _Counter:
    """Opens one recording and counts what is in it."""

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self._folders = folders

    def __call__(self, ref: RecordingRef) -> dict[str, Any]:
        module = registry.get(ref.dataset)
        answer: dict[str, Any] = {"dataset": ref.dataset, "n_segments": 0}
        try:
            recording = module.read(self._folders[ref.dataset], ref)
            n_segments = count_segments(recording, module.CARD.segment_s)
        except MemoryError:
            raise  # the machine's, not the file's
        except Exception as error:
            return {**answer, "error": f"{ref.key} ({', '.join(ref.files)}): {told(error)}"}
        return {
            **answer,
            "error": None,
            "n_presentations": len(recording.presentations),
            "n_segments": n_segments,
            "dropped": [[entry.what, entry.reason, entry.n] for entry in recording.dropped],
        }


def _add(row: Found, answer: Mapping[str, Any]) -> None:
    row.n_presentations = row.n_presentations or 0
    row.n_segments = row.n_segments or 0
    if answer["error"] is not None:
        row.errors.append(answer["error"])
        return
    row.n_presentations += answer["n_presentations"]
    row.n_segments += answer["n_segments"]
    for what, reason, n in answer["dropped"]:
        row.dropped[what, reason] += n
