"""Rehearsal data: signals that nobody recorded, with an effect of emotion planted in them.

Everything that ran on them says "rehearsal data".
Shapes: C electrodes, L leads, T samples.
"""

from __future__ import annotations

import hashlib

import numpy as np

from emoray.schema import FloatArray


def _rng(*key: object) -> np.random.Generator:
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


class World:
    """A small population whose EEG and ECG follow valence and arousal."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def rating(self, dataset: str, subject: int, stimulus: str) -> tuple[float, float]:
        """Valence and arousal in [-4, 4]."""
        valence, arousal = _rng(self.seed, dataset, subject, stimulus, "va").uniform(-4, 4, 2)
        return float(valence), float(arousal)

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
        """EEG in microvolts, shape (C, T)."""
        rng = _rng(self.seed, dataset, subject, stimulus, "eeg")
        return 10 * rng.standard_normal((len(channels), round(duration_s * sfreq)))

    def ecg(
        self,
        dataset: str,
        subject: int,
        stimulus: str,
        n_leads: int,
        sfreq: float,
        duration_s: float,
        va: tuple[float, float],
    ) -> FloatArray:
        """ECG in millivolts, shape (L, T)."""
        rng = _rng(self.seed, dataset, subject, stimulus, "ecg")
        return 0.1 * rng.standard_normal((n_leads, round(duration_s * sfreq)))
