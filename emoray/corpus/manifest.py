"""What a built dataset says of itself: its address, sources, shards, and what was left out.

A build is of one stream of a dataset by one recipe. It lies in
`<corpus>/<name>-<stream>-<digest12>/`, where the digest covers everything that decides the numbers:
card, recipe, reader version, format version; so builds by several recipes lie side by side. In
each: `manifest.json` (this file's `Manifest`), `index.parquet` (one row per segment),
`shards/*.arrow` (signals), `parts/*.json` (what each recording gave; a build resumes from these).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, is_dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from emoray.runtime.config import canonical_json
from emoray.signals.amplitude import Affine
from emoray.vocabulary.schema import STREAMS, Card, DataError, Stream

if TYPE_CHECKING:
    from emoray.signals import Recipe

FORMAT_VERSION = 2
"""Raise it when the files' layout changes; corpora of another version are refused."""

MANIFEST = "manifest.json"
INDEX = "index.parquet"
SHARDS = "shards"
PARTS = "parts"

INDEX_FIELDS: tuple[tuple[str, pa.DataType], ...] = (
    ("dataset", pa.string()),
    ("recording", pa.string()),
    ("subject", pa.string()),
    ("session", pa.string()),
    ("stimulus", pa.string()),
    ("presentation", pa.int32()),
    ("segment", pa.int32()),
    ("start_s", pa.float64()),
    ("stop_s", pa.float64()),
    ("valence", pa.float64()),
    ("arousal", pa.float64()),
    ("label", pa.int32()),
    ("emotion", pa.string()),
    ("shard", pa.string()),
    ("row", pa.int32()),
    ("rehearsal", pa.bool_()),
)
"""Columns of `index.parquet`, in order; after them a column for each of the publisher's ratings,
and, of a build in which R waves were sought, `R_PEAKS` and a column of `QUALITY` for each lead."""

RATING = "rating_"
"""What the names of the ratings' columns start with (`rating_valence`): float64, on the dataset's
own scale, NaN where a presentation lacks it."""

R_PEAKS = "r_peaks"
"""Samples of a segment at which R waves peak: list of int32."""

QUALITY = "quality_"
"""What the names of the columns of the leads' quality start with (`quality_ecg1`): float64 in
[0, 1] (`signals.ecg.beats`)."""

DECIDING = (
    "subject",
    "session",
    "stimulus",
    "presentation",
    "segment",
    "valence",
    "arousal",
    "label",
)
"""Columns that decide what a plan draws; `index_digest` covers these and no path or machine."""

_PROSE = ("title", "reference", "layout", "notes", "people", "clips")
_N_HEX = 12


@dataclass(frozen=True, slots=True)
class Source:
    """A publisher's file that a recording was read from."""

    file: str
    """Relative to the dataset's folder, with forward slashes."""
    size: int
    """Bytes."""
    mtime_ns: int
    """Changed time when it was read. With the size it tells cheaply that nothing changed."""
    sha256: str


@dataclass(frozen=True, slots=True)
class ShardFile:
    """One recording's signals."""

    file: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Layout:
    """The one shape that all segments of a build have."""

    channels: tuple[str, ...]
    """Electrodes or leads."""
    sfreq: float
    """Hz."""
    n_times: int
    dtype: str
    """`float32` or `float16`."""

    @property
    def n_chans(self) -> int:
        """Electrodes or leads."""
        return len(self.channels)


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything a reader must know before it opens a shard."""

    dataset: str
    stream: Stream
    digest: str
    """First 12 hex digits of `build_digest`; part of the folder's name."""
    rehearsal: bool
    """Made from rehearsal data, not from people."""
    recipe: Mapping[str, Any]
    recipe_digest: str
    card_digest: str
    reader_version: int
    index_digest: str
    """`index_digest` of the index that belongs to this manifest."""
    shards: tuple[ShardFile, ...]
    sources: Mapping[str, tuple[Source, ...]]
    """Files by recording, those in quarantine included."""
    counts: Mapping[str, int]
    """Segments by subject."""
    dropped: tuple[Mapping[str, Any], ...]
    """`schema.Dropped` as dictionaries, each with its `recording`."""
    quarantined: Mapping[str, str]
    """Recordings that could not be read, with the error's text."""
    missing: tuple[str, ...]
    """What the card expects and the folder lacked."""
    facts: Mapping[str, Any]
    """By recording: what the recipe found (ICA components removed, channels interpolated)."""
    packages: Mapping[str, str]
    code: str
    """Version of emoray and a digest of its source files."""
    affine: Mapping[str, Affine] = field(default_factory=dict)
    """By shard, what a reader does to its segments, where a scale holds over several recordings:
    each is stored on its own, so that one more moves none of the others' shards."""
    format_version: int = FORMAT_VERSION

    @property
    def folder(self) -> str:
        """Name of the folder in the corpus."""
        return folder_name(self.dataset, self.stream, self.digest)

    @property
    def n_segments(self) -> int:
        """Segments in all shards."""
        return sum(shard.rows for shard in self.shards)

    def to_json(self) -> str:
        """The text of `manifest.json`; the same manifest always gives the same text."""
        found = asdict(self)
        if not self.affine:
            del found["affine"]  # as in builds that are older than it
        return json.dumps(found, sort_keys=True, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, *, where: str) -> Manifest:
        """Parse `manifest.json`.

        Raises:
            DataError: not JSON, another format version, or a field is missing.
        """
        try:
            found = json.loads(text)
        except ValueError as error:
            raise DataError(f"{where}: need a manifest in JSON, got {error}") from error
        version = found.get("format_version") if isinstance(found, dict) else None
        if version != FORMAT_VERSION:
            raise DataError(
                f"{where}: need corpus format {FORMAT_VERSION}, got {version}; build it again"
            )
        found.setdefault("affine", {})
        absent = [f.name for f in fields(cls) if f.name not in found]
        if absent:
            raise DataError(f"{where}: need the fields {', '.join(absent)}, got none of them")
        found["shards"] = tuple(ShardFile(**shard) for shard in found["shards"])
        found["sources"] = {
            key: tuple(Source(**source) for source in sources)
            for key, sources in found["sources"].items()
        }
        found["affine"] = {
            shard: Affine(**{name: tuple(of) for name, of in affine.items()})
            for shard, affine in found["affine"].items()
        }
        found["dropped"] = tuple(found["dropped"])
        found["missing"] = tuple(found["missing"])
        return cls(**found)


def digest_of(value: object) -> str:
    """SHA-256 of the canonical JSON, in hex."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


class BuildName(NamedTuple):
    """What the name of a build's folder says."""

    dataset: str
    stream: Stream
    digest: str


def folder_name(dataset: str, stream: Stream, digest: str) -> str:
    """Name of a build's folder in the corpus: `deap-eeg-0123456789ab`."""
    return f"{dataset}-{stream}-{digest}"


def parse_folder(folder: str) -> BuildName | None:
    """Read `folder_name` back; None where the folder is no build's."""
    dataset, _, rest = folder.partition("-")
    stream, _, digest = rest.partition("-")
    if dataset and stream in STREAMS and len(digest) == _N_HEX and digest.isalnum():
        return BuildName(dataset, stream, digest)
    return None


def changed(value: object) -> object:
    """A dataclass as plain data, less the fields that have their default.

    So a new optional field changes no digest of what does not use it. A default must then never
    change by itself: `Recipe.version`, `Card.reader_version` and `FORMAT_VERSION` say so.
    """
    if is_dataclass(value) and not isinstance(value, type):
        found = {f.name: getattr(value, f.name) for f in fields(value)}
        defaults = {f.name: _default(f) for f in fields(value)}
        return {n: changed(v) for n, v in found.items() if v != defaults[n]}
    if isinstance(value, Mapping):
        return {key: changed(entry) for key, entry in value.items()}
    if isinstance(value, (tuple, list)):
        return [changed(entry) for entry in value]
    return value


def _default(field: Field[Any]) -> object:
    """A field's; `MISSING`, which equals no value, where it has none."""
    return field.default if field.default_factory is MISSING else field.default_factory()


def card_digest(card: Card, stream: Stream) -> str:
    """Digest of a card's facts; what it says of other datasets, and prose, decide nothing.

    Nor does what it says of the other stream.
    """
    others = [name for name in STREAMS if name != stream]
    facts = changed(card)
    assert isinstance(facts, dict)
    return digest_of({n: v for n, v in facts.items() if n not in (*_PROSE, *others)})


def recipe_digest(recipe: Recipe) -> str:
    """Digest of what differs from a recipe's defaults, and of their version."""
    facts = {"version": recipe.version, "changed": changed(recipe)}
    return digest_of({"stream": recipe.stream, **facts})


def other_settings(found: Mapping[str, Any], recipe: Recipe) -> str:
    """Where a manifest's recipe has other values than this one; empty for nowhere.

    Fields that only one of them knows are newer than the build, and have their default.
    """
    wanted = asdict(recipe)
    return ", ".join(
        f"{name}={found[name]!r} instead of {wanted[name]!r}"
        for name in sorted(found.keys() & wanted.keys())
        if digest_of(found[name]) != digest_of(wanted[name])
    )


def build_digest(card: Card, recipe: Recipe, *, rehearsal: bool) -> str:
    """Address of a stream of a dataset built from this card by this recipe: 12 hex digits.

    Rehearsal data get another address than a publisher's, so neither replaces the other.
    """
    decides = {
        "card": card_digest(card, recipe.stream),
        "recipe": recipe_digest(recipe),
        "reader": card.reader_version,
        "format": FORMAT_VERSION,
        "rehearsal": rehearsal,
    }
    return digest_of(decides)[:_N_HEX]


def index_digest(index: pa.Table) -> str:
    """Digest of the columns that decide a plan (`DECIDING`), in the rows' order.

    Equal on every machine and wherever the files lie.
    """
    digest = hashlib.sha256(f"{index.num_rows}".encode())
    for name in DECIDING:
        digest.update(f"\0{name}\0".encode())
        for block in _column_bytes(index.column(name)):
            digest.update(block)
    return digest.hexdigest()


def _column_bytes(column: pa.ChunkedArray) -> Iterator[bytes]:
    """The values alone: no chunks, no dictionary, one NaN, little-endian."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_string(column.type):
        yield pc.binary_length(column).to_numpy().astype("<i4").tobytes()
        yield from (_text_bytes(chunk) for chunk in column.chunks)
    elif pa.types.is_floating(column.type):
        values = column.to_numpy().astype("<f8")
        values[np.isnan(values)] = np.nan
        yield values.tobytes()
    else:
        yield column.to_numpy().astype("<i8").tobytes()


def _text_bytes(chunk: pa.StringArray) -> bytes:
    """All strings one after the other, as UTF-8."""
    _, offsets, data = chunk.buffers()
    if data is None:
        return b""
    ends = np.frombuffer(offsets, np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
    return bytes(data[int(ends[0]) : int(ends[-1])])


def layout_to_metadata(layout: Layout, digest: str) -> dict[str, str]:
    """Schema metadata of `index.parquet`."""
    return {
        "n_chans": str(layout.n_chans),
        "n_times": str(layout.n_times),
        "sfreq": repr(layout.sfreq),
        "channels": json.dumps(layout.channels),
        "dtype": layout.dtype,
        "digest": digest,
    }


def layout_from_metadata(metadata: Mapping[bytes, bytes] | None, *, where: str) -> Layout:
    """Read `layout_to_metadata` back.

    Raises:
        DataError: a key is missing.
    """
    found = {key.decode(): value.decode() for key, value in (metadata or {}).items()}
    try:
        return Layout(
            channels=tuple(json.loads(found["channels"])),
            sfreq=float(found["sfreq"]),
            n_times=int(found["n_times"]),
            dtype=found["dtype"],
        )
    except KeyError as error:
        raise DataError(f"{where}: need {error} in the schema's metadata, got none") from error
