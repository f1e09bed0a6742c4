"""What tells a recording from every other, whatever it is called: digests of its signals and files.

Two recordings with a fingerprint in common are one recording under two names: a file that was
copied under a second number, in this dataset or another. Signals are compared as the corpus holds
them, so they match within one recipe, whatever file they were read from; the publisher's files
match across recipes. What is not found: the same person recorded twice, and a copy of which a part
was cut off or changed, because preparing it then gives other signals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from emoray.corpus.manifest import Manifest, Source, digest_of

Signals = Mapping[str, Sequence[str]]
"""Fingerprints by recording: one in common is one recording."""

Seen = Mapping[str, Mapping[str, Sequence[str]]]
"""Whom and what a checkpoint was trained on: dataset -> subject -> stimuli."""

_N_HEX = 32
_LEAST_SHARE = 0.1
"""Of the largest file of a recording. Smaller ones hold labels or notes, which may be equal."""


@dataclass(frozen=True, slots=True)
class Indexed:
    """What the index says of a recording."""

    subject: str
    session: str
    shard: str
    """Name of the file with its signals."""


def fingerprints(
    manifest: Manifest, recordings: Mapping[str, Indexed]
) -> dict[str, tuple[str, ...]]:
    """Digests of each recording, sorted; none of them depends on a name.

    Args:
        manifest: of the dataset.
        recordings: by name, those that gave segments.
    """
    shards = {shard.file: shard.sha256 for shard in manifest.shards}
    readers = _readers(manifest, recordings)
    return {
        name: tuple(
            sorted(
                {
                    shards[found.shard][:_N_HEX],
                    *_of_files(manifest.sources[name], found, readers),
                }
            )
        )
        for name, found in recordings.items()
    }


def _readers(manifest: Manifest, recordings: Mapping[str, Indexed]) -> dict[str, set[Indexed]]:
    """Which recordings each of the publisher's files was read for."""
    found: dict[str, set[Indexed]] = {}
    for name, recording in recordings.items():
        for source in manifest.sources[name]:
            found.setdefault(source.file, set()).add(recording)
    return found


def _of_files(
    sources: tuple[Source, ...], recording: Indexed, readers: Mapping[str, set[Indexed]]
) -> set[str]:
    """Of the files with a recording's signals. One that holds several people tells none apart."""
    least = _LEAST_SHARE * max((source.size for source in sources), default=0)
    found = set()
    for source in sources:
        read_for = readers[source.file]
        if not source.sha256 or source.size < least or len({r.subject for r in read_for}) > 1:
            continue
        visits = len(read_for) > 1  # all of one person, in one file
        whole = digest_of([source.sha256, recording.session]) if visits else source.sha256
        found.add(whole[:_N_HEX])
    return found


def same_recordings(own: Signals, known: Sequence[Signals]) -> dict[str, str]:
    """Of recordings that have a fingerprint in common with one of another name: both names."""
    owners: dict[str, set[str]] = {}
    for name, prints in ((n, prints) for one in known for n, prints in one.items()):
        for found in prints:
            owners.setdefault(found, set()).add(name)
    twins = {
        name: {other for found in prints for other in owners.get(found, ())} - {name}
        for name, prints in own.items()
    }
    return {name: min(others) for name, others in twins.items() if others}
