"""Small corpora written straight from arrays, for tests that start after preprocessing."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from emoray.corpus.assemble import assemble
from emoray.corpus.manifest import Layout, build_digest
from emoray.corpus.parts import Part
from emoray.corpus.shards import write_shard
from emoray.schema import Card
from emoray.signals import Recipe
from emoray.storage import Storage


@dataclass(frozen=True)
class Made:
    """What one dataset of a made corpus holds."""

    name: str
    channels: tuple[str, ...] = ("Fz", "Cz", "Pz")
    sfreq: float = 50.0
    segment_s: float = 2.0
    n_subjects: int = 3
    n_segments: int = 30
    dtype: str = "float32"
    filled: tuple[int, ...] = tuple(range(9))
    """Regions that its segments lie in."""


TWO = (Made("made_a"), Made("made_b", channels=("T3", "O1"), sfreq=40.0, filled=(3, 4, 5)))


def write_corpus(folder: Path, made: tuple[Made, ...] = TWO, *, seed: int = 0) -> Path:
    """Write each dataset with random signals; every value is a function of the arguments."""
    for dataset in made:
        _write(Storage.at(folder), dataset, np.random.default_rng([seed, *dataset.name.encode()]))
    return folder


def _write(corpus: Storage, made: Made, rng: np.random.Generator) -> None:
    card, recipe = _card(made), Recipe(ica="none")
    digest = build_digest(card, asdict(recipe), rehearsal=True)
    storage = corpus.sub(f"{made.name}-{digest}")
    parts = [_part(storage, made, i, rng) for i in range(made.n_subjects)]
    assemble(storage, card, recipe, parts, rehearsal=True)


def _part(storage: Storage, made: Made, subject: int, rng: np.random.Generator) -> Part:
    n_times = round(made.segment_s * made.sfreq)
    eeg_SCT = rng.standard_normal((made.n_segments, len(made.channels), n_times))
    name = f"{made.name}-s{subject + 1:02}-v1"
    shard = write_shard(storage, name, eeg_SCT.astype(made.dtype))
    rows = tuple(_row(made, segment, rng) for segment in range(made.n_segments))
    layout = Layout(made.channels, made.sfreq, n_times, made.dtype)
    return Part(name, f"{subject + 1:02}", "1", (), "tests", shard, layout, rows, (), {})


def _row(made: Made, segment: int, rng: np.random.Generator) -> dict[str, object]:
    region = made.filled[segment % len(made.filled)]
    centre = 3.0 * np.array([region % 3 - 1, region // 3 - 1])
    valence, arousal = np.clip(centre + rng.uniform(-0.9, 0.9, 2), -4, 4).tolist()
    return {
        "stimulus": f"{segment:02}",
        "presentation": segment,
        "segment": 0,
        "start_s": 0.0,
        "stop_s": made.segment_s,
        "valence": valence,
        "arousal": arousal,
        "label": -1,
        "emotion": "",
        "has_ecg": False,
    }


def _card(made: Made) -> Card:
    return Card(
        name=made.name,
        title=made.name,
        reference="tests",
        role="pretraining",
        layout=made.name,
        n_subjects=made.n_subjects,
        n_recordings=made.n_subjects,
        n_presentations=made.n_segments,
        eeg_channels=made.channels,
        eeg_sfreq=made.sfreq,
        eeg_unit="uV",
        sfreq_paper=made.sfreq,
        sfreq_code=made.sfreq,
        segment_s=made.segment_s,
    )
