"""A corpus made of numbers that say where they belong, without a publisher's file or Ray."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from emoray import datasets
from emoray.corpus.build.index import assemble
from emoray.corpus.build.recording import Part
from emoray.corpus.manifest import Layout, Manifest, build_digest
from emoray.corpus.shards import write_shard
from emoray.runtime.storage import Storage
from emoray.signals import EegRecipe

N_CHANS, N_TIMES = 14, 40
N_LEADS, N_ECG = 2, 80


def eeg_of(recording: int, n_segments: int) -> np.ndarray:
    """Segment s of recording r holds 100 r + s plus a thousandth of its place."""
    base = 100 * recording + np.arange(n_segments)[:, None, None]
    return (base + np.arange(N_CHANS * N_TIMES).reshape(N_CHANS, N_TIMES) / 1000).astype("f4")


def make_dataset(
    out: Path,
    *,
    name: str = "dreamer",
    n_recordings: int = 3,
    n_segments: int = 5,
    dtype: str = "float32",
    ecg: bool = True,
    recipe: EegRecipe | None = None,
    rehearsal: bool = True,
) -> Manifest:
    """Write one dataset of a corpus; segments lie in their shards in reversed order."""
    recipe = EegRecipe() if recipe is None else recipe
    card = datasets.get(name).CARD
    effective = recipe.for_dataset(name)
    folder = f"{name}-{_digest(name, effective, rehearsal)}"
    storage = Storage.at(out / folder)
    parts = [
        _part(storage, name, r, n_segments, dtype, ecg, card.eeg_channels[:N_CHANS])
        for r in range(n_recordings)
    ]
    return assemble(storage, card, effective, parts, rehearsal=rehearsal)


def _digest(name: str, recipe: EegRecipe, rehearsal: bool) -> str:
    return build_digest(datasets.get(name).CARD, asdict(recipe), rehearsal=rehearsal)


def _part(
    storage: Storage,
    name: str,
    recording: int,
    n_segments: int,
    dtype: str,
    ecg: bool,
    channels: tuple[str, ...],
) -> Part:
    key = f"{name}-s{recording:02d}-v1"
    eeg_SCT = eeg_of(recording, n_segments)[::-1].astype(dtype)
    ecg_SLT = -np.ones((n_segments, N_LEADS, N_ECG), dtype) * recording if ecg else None
    layout = Layout(channels, 128.0, N_TIMES, dtype)
    if ecg:
        layout = replace(layout, ecg_leads=("ecg1", "ecg2"), ecg_sfreq=256.0, ecg_n_times=N_ECG)
    return Part(
        recording=key,
        subject=f"{recording:02d}",
        session="1",
        sources=(),
        code="0",
        shard=write_shard(storage, key, eeg_SCT, ecg_SLT),
        layout=layout,
        rows=tuple(_row(recording, segment) for segment in reversed(range(n_segments))),
    )


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
        "has_ecg": True,
    }
