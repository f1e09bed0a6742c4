"""The heart of rehearsal data: plausible, following emotion, and moved with the EEG beside it.

Shapes: C electrodes, T samples, F frequencies, W windows of 10 s, P presentations.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import find_peaks

from emoray import datasets
from emoray.rehearsal.world import World
from emoray.vocabulary import electrodes

ECG_HZ, EEG_HZ, WINDOW_S, SECONDS = 256.0, 128.0, 10.0, 60.0

EEG_AS_IT_WAS = {
    ("deap", 7, "39", electrodes.GENEVA_32, 256.0, (4.0, 4.0)): (
        9.6943,
        12.1071,
        5.0181,
        -12.1136,
        14.2536,
        -5.5798,
    ),
    ("dreamer", 1, "03", electrodes.EPOC_14, 128.0, (1.0, -2.0)): (
        -41.2375,
        1.7166,
        -10.8700,
        -12.5701,
        -17.0237,
        -14.5067,
    ),
    ("seed", 1, "01@1", electrodes.SEED_62, 200.0, (3.6, 2.4)): (
        4.1462,
        21.1649,
        -10.1589,
        -0.3983,
        28.1322,
        -10.2612,
    ),
}
"""Of a recording: samples 0, 500 and 999 of its first and last electrode, in uV, as they were
before hearts knew of moments. Not a digest: the last bits hang on how a machine sums."""


@pytest.mark.parametrize("asked", EEG_AS_IT_WAS, ids=lambda asked: asked[0])
def test_the_heart_left_the_eeg_as_it_was(asked: tuple) -> None:
    *who, va = asked
    x_CT = World(1).eeg(*who, 10.0, va)
    found = x_CT[[0, -1]][:, [0, 500, 999]]
    np.testing.assert_allclose(found.ravel(), EEG_AS_IT_WAS[asked], rtol=1e-3, atol=1e-3)


def beats_s(ecg_LT: np.ndarray) -> np.ndarray:
    lead_T = ecg_LT[1]
    height = 0.55 * np.percentile(lead_T, 99.7)
    return find_peaks(lead_T, height=height, distance=0.35 * ECG_HZ)[0] / ECG_HZ


def heart(subject: int, stimulus: str, va: tuple[float, float], eeg_hz: float | None = EEG_HZ):
    return World(0).ecg("dreamer", subject, stimulus, 2, ECG_HZ, SECONDS, va, eeg_hz)


def rates_W(ecg_LT: np.ndarray) -> np.ndarray:
    """Beats a minute in each window."""
    peaks = beats_s(ecg_LT)
    windows = np.arange(0, SECONDS, WINDOW_S)
    inside = [peaks[(peaks >= start) & (peaks < start + WINDOW_S)] for start in windows]
    return np.array([60 / np.diff(found).mean() for found in inside])


@pytest.mark.parametrize("subject", range(1, 13))
@pytest.mark.parametrize("va", [(-4.0, 4.0), (4.0, 4.0), (-4.0, -4.0), (4.0, -4.0)])
def test_at_the_ends_of_emotion_a_heart_is_still_a_heart(
    subject: int, va: tuple[float, float]
) -> None:
    ecg_LT = heart(subject, "1", va)
    rate_W = rates_W(ecg_LT)
    assert 50 < rate_W.min() < rate_W.max() < 120
    gap_s = np.diff(beats_s(ecg_LT))
    assert np.abs(np.diff(np.log(gap_s))).max() < 0.2  # no beat is missed, none comes early


@pytest.mark.parametrize("subject", range(1, 7))
def test_the_rate_swings_with_the_breath(subject: int) -> None:
    peaks = beats_s(heart(subject, "1", (4.0, 0.0)))
    grid = np.arange(1.0, SECONDS - 1.0, 0.25)
    rate = np.interp(grid, peaks[1:], 1 / np.diff(peaks))
    power = np.abs(np.fft.rfft((rate - rate.mean()) * np.hanning(len(rate)))) ** 2
    hz = np.fft.rfftfreq(len(rate), 0.25)
    above_slow = hz > 0.14
    assert 0.18 < hz[above_slow][np.argmax(power[above_slow])] < 0.32


# What EEG and ECG of one instant have in common ---------------------------------------------------


def asymmetry_W(eeg_CT: np.ndarray, right: str, left: str, low_hz: float, high_hz: float):
    """Log power of an electrode over the right half, less that of its mirror, by window."""
    rows = [electrodes.EPOC_14.index(name) for name in (right, left)]
    x_2WT = eeg_CT[rows].reshape(2, -1, round(WINDOW_S * EEG_HZ))
    hz_F = np.fft.rfftfreq(x_2WT.shape[-1], 1 / EEG_HZ)
    power_2W = (np.abs(np.fft.rfft(x_2WT)) ** 2)[..., (hz_F >= low_hz) & (hz_F < high_hz)].mean(-1)
    return np.log(power_2W[0]) - np.log(power_2W[1])


@cache
def moments(with_eeg: bool) -> tuple[np.ndarray, np.ndarray]:
    """Log heart rate, and how aroused the EEG looks, less their means in the presentation: (P, W).

    One emotion throughout: there is no label to have in common.
    """
    rate_PW, looks_PW = [], []
    for subject in range(1, 9):
        for stimulus in "1234":
            va = (0.0, 0.0)
            eeg_CT = World(0).eeg(
                "dreamer", subject, stimulus, electrodes.EPOC_14, EEG_HZ, SECONDS, va
            )
            temples_W = asymmetry_W(eeg_CT, "T8", "T7", 16, 36)
            back_W = asymmetry_W(eeg_CT, "O2", "O1", 8, 13)
            looks_PW.append(temples_W - back_W)
            ecg_LT = heart(subject, stimulus, va, EEG_HZ if with_eeg else None)
            rate_PW.append(np.log(rates_W(ecg_LT)))
    rate, looks = np.array(rate_PW), np.array(looks_PW)
    return rate - rate.mean(1, keepdims=True), looks - looks.mean(1, keepdims=True)


def r(rate_PW: np.ndarray, looks_PW: np.ndarray) -> float:
    return float(np.corrcoef(rate_PW.ravel(), looks_PW.ravel())[0, 1])


def test_the_heart_follows_the_moments_of_the_eeg_beside_it() -> None:
    assert r(*moments(with_eeg=True)) > 0.5


def test_the_eeg_of_another_moment_tells_nothing() -> None:
    # 32 presentations of 6 windows, of which 5 are free: a standard error is 0.08.
    rate_PW, looks_PW = moments(with_eeg=True)
    assert abs(r(rate_PW, np.roll(looks_PW, 3, axis=1))) < 0.3
    assert abs(r(rate_PW, np.roll(looks_PW, 1, axis=0))) < 0.25


def test_a_heart_recorded_alone_follows_no_eeg() -> None:
    assert abs(r(*moments(with_eeg=False))) < 0.25


def test_moments_move_the_heart_less_than_emotion_does() -> None:
    rate_PW, _ = moments(with_eeg=True)
    by_emotion = [np.log(rates_W(heart(1, "1", (0.0, a))).mean()) for a in np.linspace(-4, 4, 5)]
    assert 0.01 < rate_PW.std() < 0.6 * np.std(by_emotion)


# Conditions of which the heart alone is recorded --------------------------------------------------


@pytest.mark.parametrize("name", ["wesad", "swell_kw"])
def test_conditions_move_the_hearts_of_all_people_alike(name: str, tmp_path: Path) -> None:
    module = datasets.get(name)
    module.write_example(tmp_path, World(3), n_subjects=3, duration_s=30.0)
    rate: dict[int, list[float]] = {}
    for ref in module.find(tmp_path).recordings:
        recording = module.read(tmp_path, ref)
        assert recording.ecg_sfreq is not None
        for p in recording.presentations:
            ecg_LT = recording.stretches[p.stretch].ecg_LT
            assert ecg_LT is not None
            first, last = (round(s * recording.ecg_sfreq) for s in (p.start_s, p.stop_s))
            lead_T = ecg_LT[0, first:last]
            height = 0.55 * np.percentile(lead_T, 99.7)
            peaks, _ = find_peaks(lead_T, height=height, distance=0.35 * recording.ecg_sfreq)
            if p.label is not None:
                beat_s = np.diff(peaks).mean() / recording.ecg_sfreq
                rate.setdefault(p.label, []).append(60 / beat_s)
    by_class = {
        module.CARD.emotions[label]: np.array(found).reshape(3, -1).mean(1)
        for label, found in sorted(rate.items())
    }
    slow, fast = CALM_AND_AROUSED[name]
    assert np.all(by_class[fast] > 1.08 * by_class[slow])  # of each person
    others = set(by_class) - {slow, fast}
    assert all(by_class[slow].mean() < by_class[n].mean() < by_class[fast].mean() for n in others)


CALM_AND_AROUSED = {
    "wesad": ("meditation", "stress"),
    "swell_kw": ("neutral", "time pressure"),
}
"""Of a dataset's classes the one with the slowest hearts, and the one with the fastest."""
