"""Which minutes hold an ECG: those of hearts, none of noise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from emoray.datasets import _ecg_quality
from emoray.rehearsal.world import World
from emoray.vocabulary.schema import FloatArray
from tests.sources import tones

SFREQ, N = 2048.0, 60 * 2048
RNG = np.random.default_rng(0)


def pink() -> FloatArray:
    hz_F = np.fft.rfftfreq(N, 1 / SFREQ)
    noise_F = RNG.normal(size=len(hz_F)) + 1j * RNG.normal(size=len(hz_F))
    return np.fft.irfft(noise_F / np.sqrt(np.maximum(hz_F, 0.1)), N)


def muscle() -> FloatArray:
    """Bursts of half a second, about one a second."""
    bursts_T = np.convolve(RNG.random(N) < 1 / SFREQ, np.hanning(int(0.6 * SFREQ)), "same")
    return (bursts_T + 0.1) * np.diff(RNG.normal(size=N + 1))


def hum() -> FloatArray:
    return 50 * np.sin(2 * np.pi * 50 * np.arange(N) / SFREQ) + RNG.normal(size=N)


@pytest.mark.parametrize("subject", [1, 2, 3, 4, 5])
def test_rehearsal_hearts_are_heard_at_any_rate(subject: int) -> None:
    for sfreq in (250.0, 700.0, SFREQ):
        ecg_LT = World(0).ecg("swell_kw", subject, "neutral", 1, sfreq, 60.0, (0.0, 3.0))
        assert _ecg_quality.fault(ecg_LT[0], sfreq) == ""


@pytest.mark.parametrize(
    "noise", [lambda: RNG.normal(size=N), pink, muscle, hum], ids=["white", "pink", "muscle", "hum"]
)
def test_noise_has_no_heartbeat(noise: Callable[[], FloatArray]) -> None:
    for _ in range(5):
        assert _ecg_quality.fault(noise(), SFREQ) == "no heartbeat in the ECG"


def test_rhythm_is_that_of_plain_loops() -> None:
    """The correlation of |slope| with itself a lag later, written out."""
    slope_K = RNG.random(400)
    centred_K = slope_K - slope_K.mean()
    found = []
    for lag in range(30, 200):
        pairs = [centred_K[i] * centred_K[i + lag] for i in range(400 - lag)]
        found.append(np.mean(pairs) / np.mean(centred_K**2))
    assert _ecg_quality._repeats(slope_K) == pytest.approx(max(found), abs=1e-9)


@pytest.mark.parametrize(
    ("x_T", "said"),
    [
        (np.zeros(N), "flat ECG"),
        (np.where(np.arange(N) == 7, np.nan, 1.0), "NaN in the ECG"),
        (np.clip(tones(1, SFREQ, 60.0, 1.0)[0], -0.9, 0.9), "clipped ECG"),
    ],
)
def test_other_faults_have_their_own_names(x_T: FloatArray, said: str) -> None:
    assert _ecg_quality.fault(x_T, SFREQ) == said
