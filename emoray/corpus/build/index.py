"""From the parts of a dataset's recordings to its index and its manifest."""

from __future__ import annotations

import io
import math
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from emoray.corpus.build.recording import Part
from emoray.corpus.manifest import (
    INDEX,
    INDEX_FIELDS,
    MANIFEST,
    QUALITY,
    R_PEAKS,
    RATING,
    Layout,
    Manifest,
    build_digest,
    card_digest,
    index_digest,
    layout_to_metadata,
    recipe_digest,
)
from emoray.runtime.storage import Storage
from emoray.signals import Recipe
from emoray.signals.amplitude import Affine, Moments, to_person
from emoray.vocabulary.schema import Card, DataError

_PACKAGES = ("numpy", "scipy", "mne", "scikit-learn", "pyarrow", "ray")


def assemble(
    storage: Storage,
    card: Card,
    recipe: Recipe,
    parts: Sequence[Part],
    *,
    rehearsal: bool,
    missing: Sequence[str] = (),
) -> Manifest:
    """Write the index and, last of all, the manifest: from now on the dataset can be opened.

    Args:
        storage: the build's folder in the corpus.
        card: of the dataset.
        recipe: with this dataset's exceptions applied.
        parts: of all recordings, in any order.
        rehearsal: whether these are rehearsal data.
        missing: what the card expects and the folder lacked.

    Raises:
        DataError: no recording gave a segment, or two differ in channels, rate or length.
        OSError: the storage cannot be written.
    """
    parts = sorted(parts, key=lambda part: (part.subject, part.session))
    layout = _common_layout(card, parts)
    index = index_table(card.name, parts, rehearsal=rehearsal)
    digest = index_digest(index)
    index = index.replace_schema_metadata(layout_to_metadata(layout, digest))
    storage.write_bytes(INDEX, _parquet(index))
    manifest = _manifest(card, recipe, parts, digest, rehearsal, missing)
    storage.write_bytes(MANIFEST, manifest.to_json().encode())
    return manifest


def index_table(dataset: str, parts: Sequence[Part], *, rehearsal: bool) -> pa.Table:
    """One row per segment in canonical order: subject, session, presentation, segment."""
    rows = [_index_row(dataset, part, place, rehearsal) for part in parts for place in _order(part)]
    columns = {name: pa.array([row[name] for row in rows], kind) for name, kind in INDEX_FIELDS}
    for rating in sorted({name for row in rows for name in row["ratings"]}):
        values = [row["ratings"].get(rating, math.nan) for row in rows]
        columns[f"{RATING}{rating}"] = pa.array(values, pa.float64())
    return pa.table({**columns, **_beats(rows)})


def _beats(rows: Sequence[Mapping[str, Any]]) -> dict[str, pa.Array]:
    """Columns that are there where R waves were sought; parts may be older than these."""
    peaks = [row.get("r_peaks") for row in rows]
    if all(found is None for found in peaks):
        return {}
    leads = dict.fromkeys(lead for row in rows for lead in row["quality"])
    quality = {
        f"{QUALITY}{lead}": pa.array([row["quality"][lead] for row in rows], pa.float64())
        for lead in leads
    }
    return {R_PEAKS: pa.array(peaks, pa.list_(pa.int32())), **quality}


def _order(part: Part) -> list[int]:
    """Places in the shard, sorted by presentation and segment."""
    return sorted(
        range(len(part.rows)),
        key=lambda place: (part.rows[place]["presentation"], part.rows[place]["segment"]),
    )


def _index_row(dataset: str, part: Part, place: int, rehearsal: bool) -> dict[str, Any]:
    assert part.shard is not None  # a part with rows has one
    return {
        **part.rows[place],
        "dataset": dataset,
        "recording": part.recording,
        "subject": part.subject,
        "session": part.session,
        "shard": part.shard.file,
        "row": place,
        "rehearsal": rehearsal,
    }


def _parquet(index: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(index, sink, compression="zstd")
    return sink.getvalue()


def _common_layout(card: Card, parts: Sequence[Part]) -> Layout:
    layouts = {part.recording: part.layout for part in parts if part.layout is not None}
    if not layouts:
        errors = [part.error for part in parts if part.error is not None]
        reason = f"; the first error: {errors[0]}" if errors else ""
        raise DataError(f"need segments of {card.name}, got none in {len(parts)} files{reason}")
    first, chosen = next(iter(layouts.items()))
    for recording, layout in layouts.items():
        if layout != chosen:
            raise DataError(
                f"{recording}: need segments like those of {first} ({_say(chosen)}), "
                f"got {_say(layout)}"
            )
    return chosen


def _say(layout: Layout) -> str:
    return f"{layout.n_chans} channels, {layout.n_times} samples at {layout.sfreq:g} Hz"


def _manifest(
    card: Card,
    recipe: Recipe,
    parts: Sequence[Part],
    digest: str,
    rehearsal: bool,
    missing: Sequence[str],
) -> Manifest:
    return Manifest(
        dataset=card.name,
        stream=recipe.stream,
        digest=build_digest(card, recipe, rehearsal=rehearsal),
        rehearsal=rehearsal,
        recipe=asdict(recipe),
        recipe_digest=recipe_digest(recipe),
        card_digest=card_digest(card, recipe.stream),
        reader_version=card.reader_version,
        index_digest=digest,
        shards=tuple(part.shard for part in parts if part.shard is not None),
        sources={part.recording: part.sources for part in parts},
        counts=_counts(parts),
        dropped=tuple({**entry, "recording": p.recording} for p in parts for entry in p.dropped),
        quarantined={part.recording: part.error for part in parts if part.error is not None},
        missing=tuple(missing),
        facts={part.recording: part.facts for part in parts if part.facts},
        packages=_packages(),
        code=", ".join(sorted({part.code for part in parts})),
        affine=_affine(parts),
    )


def _affine(parts: Sequence[Part]) -> dict[str, Affine]:
    """By shard, for people of whom several recordings gave segments and have one scale."""
    people: dict[str, dict[str, Moments]] = {}
    for part in parts:
        if part.shard is not None and part.moments is not None:
            people.setdefault(part.subject, {})[part.shard.file] = part.moments
    return {shard: to for found in people.values() for shard, to in to_person(found).items()}


def _counts(parts: Sequence[Part]) -> Mapping[str, int]:
    counts: Counter[str] = Counter()
    for part in parts:
        counts[part.subject] += len(part.rows)
    return dict(sorted(counts.items()))


def _packages() -> dict[str, str]:
    versions = {name: metadata.version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), **versions}
