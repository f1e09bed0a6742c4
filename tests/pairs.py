"""A small corpus of EEG and ECG of the same instants, written straight from arrays.

Under DREAMER's name and by whatever recipes a stage asks for, but with segments of two seconds:
what a run reads is said by the index and not by the recipe.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from emoray import datasets
from emoray.corpus.build.index import assemble
from emoray.corpus.build.recording import Part
from emoray.corpus.manifest import Layout, build_digest, folder_name
from emoray.corpus.shards import write_shard
from emoray.runtime.storage import Storage
from emoray.signals import Recipe
from emoray.vocabulary.schema import Stream

SEGMENT_S = 2.0
LAYOUTS: Mapping[Stream, Layout] = {
    "eeg": Layout(("AF3", "F7", "F3", "T7"), 128.0, 256, "float32"),
    "ecg": Layout(("ecg1", "ecg2"), 256.0, 512, "float32"),
}


@dataclass(frozen=True)
class Pairs:
    """What the dataset holds."""

    name: str = "dreamer"
    n_subjects: int = 5
    n_stimuli: int = 6
    """Of each subject; of every other one the ratings are high."""
    n_segments: int = 2
    """Of each presentation."""
    without: Mapping[Stream, Collection[int]] = field(default_factory=dict)
    """Places of segments in a recording that a stream lacks."""
    constant: tuple[str, ...] = ()
    """Ratings that nobody gives above 1."""
    seed: int = 0


def write_pairs(folder: Path, recipes: Mapping[Stream, Recipe], made: Pairs | None = None) -> Path:
    """Write a build for each recipe; every value is a function of the arguments."""
    made = made or Pairs()
    card = datasets.get(made.name).CARD
    for stream, recipe in recipes.items():
        recipe = recipe.for_dataset(made.name)
        digest = build_digest(card, recipe, rehearsal=True)
        storage = Storage.at(folder / folder_name(made.name, stream, digest))
        parts = [_part(storage, made, subject, stream) for subject in range(made.n_subjects)]
        assemble(storage, card, recipe, parts, rehearsal=True)
    return folder


def _part(storage: Storage, made: Pairs, subject: int, stream: Stream) -> Part:
    layout = LAYOUTS[stream]
    rng = np.random.default_rng([made.seed, subject, len(layout.channels)])
    places = range(made.n_stimuli * made.n_segments)
    x_SCT = rng.standard_normal((len(places), len(layout.channels), layout.n_times))
    for place in places:  # emotions are heard in the first channel
        x_SCT[place, 0] *= 1 + place // made.n_segments % 2
    kept = [place for place in places if place not in made.without.get(stream, ())]
    name = f"{made.name}-s{subject + 1:02}-v1"
    shard = write_shard(storage, name, x_SCT[kept].astype("f4"), stream)
    rows = tuple(_row(made, place) for place in kept)
    return Part(name, f"{subject + 1:02}", "1", (), "tests", shard, layout, rows, (), {})


def _row(made: Pairs, place: int) -> dict[str, Any]:
    presentation, segment = divmod(place, made.n_segments)
    high = presentation % 2
    ratings = {"valence": 1.0 + 3 * high, "arousal": 2.0 + 3 * high, "dominance": 5.0 - 3 * high}
    return {
        "stimulus": f"{presentation:02}",
        "presentation": presentation,
        "segment": segment,
        "start_s": segment * SEGMENT_S,
        "stop_s": (segment + 1) * SEGMENT_S,
        "valence": 4.0 * high - 2,
        "arousal": float(presentation - 2),
        "label": -1,
        "emotion": "",
        "ratings": {name: 1.0 if name in made.constant else r for name, r in ratings.items()},
    }
