"""A corpus made of numbers that say where they belong, without a publisher's file or Ray."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from emoray import datasets
from emoray.corpus.build.index import assemble
from emoray.corpus.build.recording import Part
from emoray.corpus.manifest import Layout, Manifest, build_digest, folder_name
from emoray.corpus.shards import write_shard
from emoray.runtime.storage import Storage
from emoray.signals import EegRecipe, Recipe
from emoray.vocabulary.schema import Stream

N_CHANS, N_TIMES = 14, 40
N_LEADS, N_ECG = 2, 80


def eeg_of(recording: int, n_segments: int) -> np.ndarray:
    """Segment s of recording r holds 100 r + s plus a thousandth of its place."""
    base = 100 * recording + np.arange(n_segments)[:, None, None]
    return (base + np.arange(N_CHANS * N_TIMES).reshape(N_CHANS, N_TIMES) / 1000).astype("f4")


def ecg_of(recording: int, places: Sequence[int]) -> np.ndarray:
    """Segment s of recording r holds - 100 r - s."""
    base = -100 * recording - np.array(places)[:, None, None]
    return (base + np.zeros((N_LEADS, N_ECG))).astype("f4")


def make_dataset(
    out: Path,
    *,
    name: str = "dreamer",
    n_recordings: int = 3,
    n_segments: int = 5,
    dtype: str = "float32",
    recipe: Recipe | None = None,
    rehearsal: bool = True,
    without: Collection[int] = (),
    with_beats: bool = False,
) -> Manifest:
    """Write one stream of a dataset; segments lie in their shards in reversed order.

    Args:
        out: the corpus.
        name: of the dataset.
        n_recordings: of as many subjects.
        n_segments: of each recording, two a presentation; those `without` among them.
        dtype: of the signals.
        recipe: says which stream; EEG's without it.
        rehearsal: whether these are rehearsal data.
        without: places of segments that are left out of every recording.
        with_beats: as if R waves had been sought: one more in each segment, from none on.
    """
    recipe = (EegRecipe() if recipe is None else recipe).for_dataset(name)
    card = datasets.get(name).CARD
    digest = build_digest(card, recipe, rehearsal=rehearsal)
    storage = Storage.at(out / folder_name(name, recipe.stream, digest))
    places = [place for place in range(n_segments) if place not in without]
    parts = [_part(storage, name, r, places, dtype, recipe.stream) for r in range(n_recordings)]
    if with_beats:
        parts = [replace(part, rows=tuple(map(_with_beats, part.rows))) for part in parts]
    return assemble(storage, card, recipe, parts, rehearsal=rehearsal)


def _part(
    storage: Storage, name: str, recording: int, places: list[int], dtype: str, stream: Stream
) -> Part:
    key = f"{name}-s{recording:02d}-v1"
    eeg = datasets.get(name).CARD.eeg
    assert eeg is not None
    x_SCT = eeg_of(recording, max(places) + 1) if stream == "eeg" else ecg_of(recording, places)
    x_SCT = x_SCT[places if stream == "eeg" else slice(None)][::-1].astype(dtype)
    layout = (
        Layout(eeg.channels[:N_CHANS], 128.0, N_TIMES, dtype)
        if stream == "eeg"
        else Layout(("ecg1", "ecg2"), 256.0, N_ECG, dtype)
    )
    return Part(
        recording=key,
        subject=f"{recording:02d}",
        session="1",
        sources=(),
        code="0",
        shard=write_shard(storage, key, x_SCT, stream),
        layout=layout,
        rows=tuple(_row(recording, place) for place in reversed(places)),
    )


def _with_beats(row: Mapping[str, Any]) -> dict[str, Any]:
    place = 2 * row["presentation"] + row["segment"]
    quality = {"ecg1": place / 10, "ecg2": 1 - place / 10}
    return {**row, "r_peaks": list(range(place)), "quality": quality}


def _row(recording: int, segment: int) -> dict[str, object]:
    return {
        "presentation": segment // 2,
        "stimulus": f"{segment // 2:02d}",
        "segment": segment % 2,
        "start_s": 1.0 * (segment % 2),
        "stop_s": 1.0 + segment % 2,
        "valence": float(recording % 5) - 2,
        "arousal": float("nan") if segment == 0 else 1.0,
        "label": -1,
        "emotion": "",
        "ratings": {"valence": float(recording % 5) + 1} | ({"liking": 2.0} if segment else {}),
    }
