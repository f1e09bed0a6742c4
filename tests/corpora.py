"""Small corpora written straight from arrays, for tests that start after preprocessing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emoray.corpus.build.index import assemble
from emoray.corpus.build.recording import Part
from emoray.corpus.manifest import Layout, build_digest, folder_name
from emoray.corpus.shards import write_shard
from emoray.runtime.storage import Storage
from emoray.signals import EegRecipe
from emoray.vocabulary.schema import Card, EegCard


@dataclass(frozen=True)
class Made:
    """What one dataset of a made corpus holds."""

    name: str
    channels: tuple[str, ...] = ("Fz", "Cz", "Pz")
    sfreq: float = 50.0
    segment_s: float = 2.0
    n_subjects: int = 3
    n_sessions: int = 1
    n_segments: int = 30
    """Of a session; they fall to its stimuli in turn."""
    n_stimuli: int | None = None
    """Of a session, the same in each; without it each segment has one of its own."""
    dtype: str = "float32"
    filled: tuple[int, ...] = tuple(range(9))
    """Regions that its segments lie in."""
    classes: tuple[str, ...] = ()
    """Emotion names by class index, which the stimuli show in turn; none: ratings alone."""
    planted: float = 0.0
    """How much stronger electrode k is while class k is shown."""


SEED = Made(
    "seed",
    segment_s=1.0,
    n_sessions=3,
    n_stimuli=6,
    n_segments=12,
    classes=("negative", "neutral", "positive"),
    planted=1.0,
)
"""A classifier's: under the name of a dataset that EMOD is evaluated on, with its classes."""

TWO = (Made("made_a"), Made("made_b", channels=("T3", "O1"), sfreq=40.0, filled=(3, 4, 5)))


def write_corpus(folder: Path, made: tuple[Made, ...] = TWO, *, seed: int = 0) -> Path:
    """Write each dataset with random signals; every value is a function of the arguments."""
    for dataset in made:
        _write(Storage.at(folder), dataset, np.random.default_rng([seed, *dataset.name.encode()]))
    return folder


def _write(corpus: Storage, made: Made, rng: np.random.Generator) -> None:
    card, recipe = _card(made), EegRecipe(ica="none")
    digest = build_digest(card, recipe, rehearsal=True)
    storage = corpus.sub(folder_name(made.name, recipe.stream, digest))
    parts = [
        _part(storage, made, f"{subject + 1:02}", f"{session + 1}", rng)
        for subject in range(made.n_subjects)
        for session in range(made.n_sessions)
    ]
    assemble(storage, card, recipe, parts, rehearsal=True)


def _part(
    storage: Storage, made: Made, subject: str, session: str, rng: np.random.Generator
) -> Part:
    n_times = round(made.segment_s * made.sfreq)
    eeg_SCT = rng.standard_normal((made.n_segments, len(made.channels), n_times))
    rows = tuple(_row(made, place, rng) for place in range(made.n_segments))
    for signal_CT, row in zip(eeg_SCT, rows, strict=True):
        if made.classes:
            signal_CT[row["label"]] *= 1 + made.planted
    name = f"{made.name}-s{subject}-v{session}"
    shard = write_shard(storage, name, eeg_SCT.astype(made.dtype))
    layout = Layout(made.channels, made.sfreq, n_times, made.dtype)
    return Part(name, subject, session, (), "tests", shard, layout, rows, (), {})


def _row(made: Made, place: int, rng: np.random.Generator) -> dict[str, Any]:
    segment, presentation = divmod(place, made.n_stimuli or made.n_segments)
    region = made.filled[place % len(made.filled)]
    centre = 3.0 * np.array([region % 3 - 1, region // 3 - 1])
    valence, arousal = np.clip(centre + rng.uniform(-0.9, 0.9, 2), -4, 4).tolist()
    label = presentation % len(made.classes) if made.classes else -1
    return {
        "stimulus": f"{presentation:02}",
        "presentation": presentation,
        "segment": segment,
        "start_s": segment * made.segment_s,
        "stop_s": (segment + 1) * made.segment_s,
        "valence": valence,
        "arousal": arousal,
        "label": label,
        "emotion": made.classes[label] if made.classes else "",
        "ratings": {},
    }


def _card(made: Made) -> Card:
    return Card(
        name=made.name,
        title=made.name,
        reference="tests",
        layout=made.name,
        n_subjects=made.n_subjects,
        n_recordings=made.n_subjects * made.n_sessions,
        n_presentations=made.n_stimuli or made.n_segments,
        eeg=EegCard(made.channels, made.sfreq, "uV", made.sfreq, made.sfreq),
        segment_s=made.segment_s,
        emotions=made.classes,
    )
