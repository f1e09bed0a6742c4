"""Signals that tell which stimulus and electrode they were made for, and small measures."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import scipy.io

from emoray.vocabulary.schema import FloatArray, Presentation, Recording
from tests.sources import ToneSource

REST = -1


def number_of(stimulus: str) -> int:
    """`2-07` -> 207, `07` and `07@2` (second visit) -> 7; a rest is -1."""
    clip = stimulus.split("@")[0]
    return REST if "rest" in clip else int("".join(re.findall(r"\d", clip)))


class NumberSource(ToneSource):
    """Electrode c of stimulus n is the constant n + c / 100, in microvolts."""

    def eeg(
        self,
        dataset: str,
        subject: int,
        stimulus: str,
        channels: tuple[str, ...],
        sfreq: float,
        duration_s: float,
        va: tuple[float, float],
    ) -> FloatArray:
        values_C = number_of(stimulus) + np.arange(len(channels)) / 100
        return np.repeat(values_C[:, None], round(duration_s * sfreq), axis=1)


class LengthSource(ToneSource):
    """Remembers how long each stimulus was to last, in order, and gives two samples of each."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, float]] = []

    def eeg(
        self,
        dataset: str,
        subject: int,
        stimulus: str,
        channels: tuple[str, ...],
        sfreq: float,
        duration_s: float,
        va: tuple[float, float],
    ) -> FloatArray:
        self.asked.append((stimulus, duration_s))
        return np.zeros((len(channels), 2))


def shown(recording: Recording, presentation: Presentation) -> FloatArray:
    """The samples of a presentation, (C, T): of its EEG, or of its ECG where there is no other."""
    stretch = recording.stretches[presentation.stretch]
    x_CT = stretch.ecg_LT if stretch.eeg_CT is None else stretch.eeg_CT
    assert x_CT is not None
    start, stop = (round(s * recording.sfreq) for s in (presentation.start_s, presentation.stop_s))
    return x_CT[:, start:stop]


def assert_each_shows_its_own(recording: Recording) -> None:
    """Every presentation holds the constants of `NumberSource` for its stimulus, all of them."""
    for presentation in recording.presentations:
        eeg_CT = shown(recording, presentation)
        expected_C = number_of(presentation.stimulus) + np.arange(eeg_CT.shape[0]) / 100
        assert eeg_CT.size
        np.testing.assert_allclose(eeg_CT, expected_C[:, None] + 0 * eeg_CT, atol=3e-3)


def n_segments(presentations: Iterable[Presentation], segment_s: float) -> int:
    return sum(int(p.duration_s / segment_s + 1e-9) for p in presentations)


def cut_short(path: Path, *, keep: float = 0.6) -> None:
    """Leave the first part of a file, as an interrupted copy does."""
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * keep)])


def change_mat(path: Path, **changes: FloatArray | None) -> None:
    """Replace variables of a `.mat` file; None takes one out."""
    content = {k: v for k, v in scipy.io.loadmat(path).items() if not k.startswith("__")}
    content |= {k: v for k, v in changes.items() if v is not None}
    scipy.io.savemat(path, {k: v for k, v in content.items() if changes.get(k, v) is not None})
