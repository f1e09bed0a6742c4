"""Recordings and their cards made of arrays, without a publisher's file.

Shapes: C electrodes, T samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from emoray.signals.segments import Prepared
from emoray.vocabulary.schema import (
    Card,
    EcgCard,
    EegCard,
    FloatArray,
    Presentation,
    Recording,
    RecordingRef,
    Scale,
    Stretch,
    Unit,
)

FIVE = ("Fz", "C3", "C4", "Pz", "Oz")


LEADS = EcgCard(("I", "II"), 256.0, "arbitrary")


def make_card(
    channels: Sequence[str] = FIVE,
    sfreq: float = 128.0,
    *,
    unit: Unit = "uV",
    sfreq_paper: float | None = None,
    sfreq_code: float | None = None,
    **changes: Any,
) -> Card:
    facts: dict[str, Any] = {
        "name": "example",
        "title": "Example",
        "reference": "nobody",
        "layout": "s*.dat",
        "n_subjects": 1,
        "n_recordings": 1,
        "n_presentations": 1,
        "eeg": EegCard(tuple(channels), sfreq, unit, sfreq_paper or sfreq, sfreq_code or sfreq),
        "segment_s": 10.0,
        "scale": Scale(1, 9),
    }
    return Card(**{**facts, **changes})


def make_recording(
    stretches_CT: Sequence[FloatArray],
    channels: Sequence[str] = FIVE,
    sfreq: float = 128.0,
    places: Sequence[tuple[int, float, float]] | None = None,
    ecg: Sequence[FloatArray | None] | None = None,
    ecg_sfreq: float | None = None,
    **changes: Any,
) -> Recording:
    if places is None:
        places = [(i, 0.0, x.shape[1] / sfreq) for i, x in enumerate(stretches_CT)]
    said: dict[str, Any] = {"ratings": {"valence": 3.0, "arousal": 7.0}, **changes}
    ecgs = [None] * len(stretches_CT) if ecg is None else ecg
    return Recording(
        ref=RecordingRef("example", "01", "1", ("s01.dat",)),
        eeg_channels=tuple(channels),
        eeg_sfreq=sfreq,
        stretches=tuple(
            Stretch(x.astype(np.float32), e) for x, e in zip(stretches_CT, ecgs, strict=True)
        ),
        presentations=tuple(
            Presentation(f"v{i}", i, stretch, start_s, stop_s, **said)
            for i, (stretch, start_s, stop_s) in enumerate(places)
        ),
        ecg_leads=LEADS.leads if ecg is not None else (),
        ecg_sfreq=ecg_sfreq,
    )


def noise(n_channels: int, seconds: float, sfreq: float = 128.0, seed: int = 0) -> FloatArray:
    shape = (n_channels, round(seconds * sfreq))
    return 10 * np.random.default_rng(seed).standard_normal(shape)


def reasons(prepared: Prepared) -> dict[tuple[str, str], int]:
    counts: dict[tuple[str, str], int] = {}
    for d in prepared.dropped:
        counts[d.what, d.reason] = counts.get((d.what, d.reason), 0) + d.n
    return counts
