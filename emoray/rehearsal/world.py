"""Rehearsal data: signals that nobody recorded, with an effect of emotion planted in them.

A pipeline that works can be told from one that does not, because here the answer is known. It lies
in *where* a rhythm is strong: emotion moves power between mirrored places of the left and the right
half of the head, so that nothing of it is left in an average over a cap's electrodes, which are
mirrored too; and people differ among each other about as much. No band's mean power tells emotions
apart. An encoder reads some of valence untrained (r within people +.47, mean of five seeds, against
+.72 trained) and little of arousal (+.08 against +.28, which two seeds of the five learn): the
benchmark `read_out` tells what was learned, against ratings that mean nothing. And everything that
ran on these signals says "rehearsal data".

Planted in the EEG, as power that moves to the right half as the axis rises (`RHYTHMS`):
    valence: alpha over the front (the F4 - F3 asymmetry), and theta, to the left, over the side;
    arousal: beta at the temples, and alpha, to the left, over the back.
Planted in the ECG: heart rate rises with arousal, respiratory sinus arrhythmia with valence.
Planted in both: where they are recorded together, the heart follows the moments of the EEG. That
rhythms wax and wane on either side of the head for some seconds is in every EEG here and tells
nothing of a presentation's emotion; read as emotion (`_moments_2T`), it moves the heart for those
seconds as emotion does. So segments of one instant have more in common than their labels.

Shapes: C electrodes, L leads, T samples, F frequencies, K sources inside the head, N beats, G times
of a grid, W waves of a beat (P Q R S T), 2 = (x, y) or (valence, arousal).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import scipy.fft

from emoray.vocabulary import electrodes
from emoray.vocabulary.affect import LIMIT
from emoray.vocabulary.schema import Float32Array, FloatArray


@dataclass(frozen=True, slots=True)
class _Rhythm:
    """A rhythm: where on the scalp, at which frequencies, how strong, and how emotion moves it.

    Away from the midline it has a source in either half, of one power together whatever the
    emotion: the right one has the share (1 + tanh lean) / 2 of it.
    """

    x: float
    y: float
    band: str
    amplitude_uv: float
    """Of each source where both are equal."""
    valence: float = 0.0
    """Change of the lean between valence 0 and valence 4."""
    arousal: float = 0.0


RHYTHMS: dict[str, _Rhythm] = {
    "alpha front": _Rhythm(0.50, 0.60, "alpha", 8.0, valence=1.6),
    "theta side": _Rhythm(0.55, -0.30, "theta", 7.0, valence=-1.6),
    "beta temples": _Rhythm(0.80, 0.05, "beta", 4.5, arousal=1.6),
    "alpha back": _Rhythm(0.40, -0.75, "alpha", 8.0, arousal=-1.6),
    "alpha centre": _Rhythm(0.0, -0.05, "alpha", 6.0),
    "beta middle": _Rhythm(0.0, 0.0, "beta", 4.0),
    "theta front": _Rhythm(0.0, 0.60, "theta", 6.0),
}
WHIM_SD = 0.15
"""Of a rhythm's log amplitude, and of its lean, between presentations, whatever the emotion."""
REACH = 0.35
"""Width of a rhythm on the scalp, whose radius is 1."""

N_BACKGROUND = 14
BACKGROUND_UV = 4.0
"""Of each of the sources of the background; about 10 uV on an electrode together."""

# Spread of log amplitudes between people and within a presentation, and of leans between people.
PERSON_SD, MOMENT_SD, LEAN_SD = 0.30, 0.25, 0.45
BACKGROUND_PRESENTATION_SD = 0.30
"""Of the log amplitude of each source of the background between presentations."""
EXPONENT_SD = 0.15
"""Of 1/f^exponent between presentations: the tilt of a spectrum says nothing about emotion."""

# The waves of a heartbeat: peak in mV, direction in degrees of the frontal plane (lead I is 0,
# lead II is 60), time from the R peak in s and width in s, of a beat of one second.
WAVES: dict[str, tuple[float, float, float, float]] = {
    "P": (0.15, 55.0, -0.17, 0.025),
    "Q": (0.12, 215.0, -0.03, 0.010),
    "R": (1.20, 50.0, 0.0, 0.011),
    "S": (0.25, 250.0, 0.03, 0.012),
    "T": (0.30, 45.0, 0.27, 0.050),
}
HEART_RATE_PER_AROUSAL = 0.035
"""Change of the log heart rate for one unit of arousal: 70 bpm become 80 at the top."""
ARRHYTHMIA_PER_VALENCE = 0.30
"""Change of the log amplitude of respiratory sinus arrhythmia for one unit of valence."""
MOST_ARRHYTHMIA = 0.12
"""Amplitude that it does not pass: the vagus saturates, and neighbouring beats stay alike."""
MOMENTS_AT_HEART = 2.5
"""Times as much as a presentation's emotion do moments of the EEG move the heart. With 1 their
effect on the rate of 10 s, 1 % (SD), would hide behind what the heart does by itself."""

_GRID_S = 0.02
"""Between two times at which the heart's rate is known."""

_ROWS = {
    "Fp": 0.92, "AF": 0.72, "F": 0.50, "FC": 0.26, "FT": 0.26, "C": 0.0, "T": 0.0, "CP": -0.26,
    "TP": -0.26, "P": -0.50, "PO": -0.72, "O": -0.92, "CB": -1.05, "M": -0.30,
}  # fmt: skip
_SHORT_ROWS = {"Fp": 0.30, "O": 0.30, "CB": 0.35, "M": 1.10}


def _rng(*key: object) -> np.random.Generator:
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


@cache
def position(channel: str) -> tuple[float, float]:
    """Where an electrode sits on a head of radius 1 seen from above: x right, y front.

    Rough by intention: rows of the 10-10 system are straight and evenly divided.
    """
    name = electrodes.canonical(channel)
    found = re.fullmatch(r"([A-Za-z]+?)(z|\d+)", name)
    assert found, name
    row, column = found.groups()
    y = _ROWS[row]
    if column == "z":
        return 0.0, y
    half = _SHORT_ROWS.get(row) or float(np.sqrt(1 - y**2)) * ((int(column) + 1) // 2) / 4
    return (half if int(column) % 2 == 0 else -half), y


def _bump_C(channels: Sequence[str], x: float, y: float, reach: float) -> FloatArray:
    """How strongly each electrode sees a source below (x, y)."""
    position_C2 = np.array([position(c) for c in channels])
    bump_C: FloatArray = np.exp(-((position_C2 - (x, y)) ** 2).sum(axis=1) / (2 * reach**2))
    return bump_C


def _band_F(band: str, frequency_F: FloatArray, alpha_hz: float, theta_hz: float) -> FloatArray:
    """Power spectral density of a rhythm of unit variance."""
    density_F: FloatArray
    if band == "beta":  # 16-36 Hz with soft edges
        density_F = 1 / (1 + np.exp(16 - frequency_F)) / (1 + np.exp((frequency_F - 36) / 1.5)) / 20
    else:
        centre, width = (alpha_hz, 0.8) if band == "alpha" else (theta_hz, 0.6)
        density_F = np.exp(-0.5 * ((frequency_F - centre) / width) ** 2)
        density_F /= width * np.sqrt(2 * np.pi)
    return density_F


def _background_F(frequency_F: FloatArray, exponent: float) -> FloatArray:
    """Power spectral density that falls as 1/f^exponent, of unit variance from 0.5 to 45 Hz."""

    # Flat below 0.2 Hz: no runaway drift.
    density_F: FloatArray = (frequency_F**2 + 0.2**2) ** (-exponent / 2)
    grid = np.linspace(0.5, 45, 512)
    return density_F / float(((grid**2 + 0.2**2) ** (-exponent / 2)).mean() * 44.5)


def _noise_KT(
    rng: np.random.Generator, density_KF: FloatArray, n_fft: int, n_times: int, sfreq: float
) -> Float32Array:
    """Gaussian noise with the given power spectral densities (unit^2 / Hz)."""
    shape = density_KF.shape
    spectrum_KF = np.empty(shape, dtype=np.complex64)
    spectrum_KF.real = rng.standard_normal(shape, dtype=np.float32)
    spectrum_KF.imag = rng.standard_normal(shape, dtype=np.float32)
    # A one-sided density P gives a variance of P sfreq / n_fft per bin.
    spectrum_KF *= np.sqrt(density_KF * (sfreq * n_fft / 4)).astype(np.float32)
    spectrum_KF[:, 0] = 0
    noise_KT: Float32Array = scipy.fft.irfft(spectrum_KF, n=n_fft, axis=1)[:, :n_times]
    return noise_KT


def _drift_KT(
    rng: np.random.Generator, n_sources: int, n_times: int, sfreq: float, sd: float
) -> Float32Array:
    """Factors that wander around 1, with a new aim every 4 s."""
    n_knots = int(n_times / sfreq / 4) + 2
    knots_K = np.exp(rng.normal(0, sd, (n_sources, n_knots)))
    at_T = np.arange(n_times) / (4 * sfreq)
    left_T = at_T.astype(np.int64)
    share_T = (at_T - left_T).astype(np.float32)
    knots_K = knots_K.astype(np.float32)
    drift_KT: Float32Array = knots_K[:, left_T]
    drift_KT += share_T * (knots_K[:, left_T + 1] - drift_KT)
    return drift_KT


def _events_T(
    rng: np.random.Generator,
    n_times: int,
    sfreq: float,
    per_minute: float,
    lasting_s: tuple[float, float],
) -> Float32Array:
    """Smooth bumps of height about 1 at random times: blinks, or the envelope of muscle."""
    signal_T = np.zeros(n_times, dtype=np.float32)
    for _ in range(rng.poisson(per_minute * n_times / sfreq / 60)):
        n = max(round(rng.uniform(*lasting_s) * sfreq), 3)
        start = int(rng.integers(0, n_times)) - n // 2
        bump = np.hanning(n + 2)[1:-1] * rng.uniform(0.8, 1.2)
        low, high = max(start, 0), min(start + n, n_times)
        signal_T[low:high] = np.maximum(signal_T[low:high], bump[low - start : high - start])
    return signal_T


class _Person:
    """What stays the same in one subject of one dataset."""

    def __init__(self, seed: int, dataset: str, subject: int) -> None:
        rng = _rng(seed, dataset, subject, "person")
        self.rating_shift_2 = rng.normal(0, 0.5, 2)
        self.alpha_hz = rng.uniform(9.0, 11.2)
        self.theta_hz = rng.uniform(5.0, 6.4)
        self.exponent = rng.uniform(0.9, 1.4)
        self.log_rhythm = dict(zip(RHYTHMS, rng.normal(0, PERSON_SD, len(RHYTHMS)), strict=True))
        self.lean = dict(zip(RHYTHMS, rng.normal(0, LEAN_SD, len(RHYTHMS)), strict=True))
        self.sources_K3 = np.column_stack(
            [rng.uniform(-0.9, 0.9, (N_BACKGROUND, 2)), rng.uniform(0.35, 0.7, N_BACKGROUND)]
        )
        self.background_K = rng.choice([-1, 1], N_BACKGROUND) * np.exp(
            rng.normal(0, PERSON_SD, N_BACKGROUND)
        )
        n = len(electrodes.VOCABULARY)
        self.gain = float(np.exp(rng.normal(0, 0.3)))
        self.gains = dict(zip(electrodes.VOCABULARY, np.exp(rng.normal(0, 0.12, n)), strict=True))
        self.mains_uv = dict(
            zip(electrodes.VOCABULARY, np.exp(rng.normal(0.3, 0.5, n)), strict=True)
        )
        self.blinks_per_minute = rng.uniform(10, 20)
        self.blink_uv = rng.uniform(110, 180)
        self.bursts_per_minute = rng.uniform(0.5, 3.0)
        self.heart_rate_bpm = rng.uniform(66, 86)
        self.arrhythmia = rng.uniform(0.02, 0.04)
        self.breaths_hz = rng.uniform(0.2, 0.3)
        self.heart_turn_degrees = rng.uniform(-12, 12)
        self.heart_gain = float(np.exp(rng.normal(0, 0.2)))


class World:
    """A population whose EEG and ECG follow valence and arousal.

    Every call depends on the seed, dataset, subject and stimulus alone, in whatever order and
    process it is made. The same subject number in two datasets is two people.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self._people: dict[tuple[str, int], _Person] = {}

    def _person(self, dataset: str, subject: int) -> _Person:
        key = (dataset, subject)
        if key not in self._people:
            self._people[key] = _Person(self.seed, dataset, subject)
        return self._people[key]

    def rating(
        self,
        dataset: str,
        subject: int,
        stimulus: str,
        near: tuple[float, float] | None = None,
    ) -> tuple[float, float]:
        """Valence and arousal in [-4, 4] that this subject gives this stimulus.

        The stimulus sets the mean, unless it is said (`near`); the subject adds a habit and a whim.
        Numbered stimuli spread evenly over the square (additive recurrence of Roberts, 2018), so
        that few of them fill all nine regions.
        """
        found = re.fullmatch(r"(.*?)(\d*)", stimulus, re.DOTALL)
        assert found
        prefix, number = found.groups()
        start_2 = _rng(self.seed, dataset, prefix, "stimuli").uniform(0, 1, 2)
        step_2 = int(number or 0) * np.array([0.7548776662466927, 0.5698402909980532])
        mean_2 = ((start_2 + step_2) % 1 - 0.5) * 2 * LIMIT if near is None else np.array(near)
        shift_2 = self._person(dataset, subject).rating_shift_2
        whim_2 = _rng(self.seed, dataset, subject, stimulus, "rating").normal(0, 0.6, 2)
        valence, arousal = np.clip(mean_2 + shift_2 + whim_2, -LIMIT, LIMIT)
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
    ) -> Float32Array:
        """EEG in microvolts, shape (C, T), T = round(duration_s * sfreq).

        Background and rhythms are sources inside the head that many electrodes see; blinks,
        muscle, mains and the noise of each electrode come on top, then the subject's gains.

        Raises:
            DataError: a channel is no electrode of the 10-10 system.
        """
        person = self._person(dataset, subject)
        rng = _rng(self.seed, dataset, subject, stimulus, "eeg")
        names = [electrodes.canonical(c, where=f"rehearsal of {dataset}") for c in channels]
        n_times = round(duration_s * sfreq)
        eeg_CT = _brain_CT(person, rng, names, sfreq, n_times, va)
        eeg_CT += _artefacts_CT(person, rng, names, sfreq, n_times)
        gain_C = person.gain * np.array([person.gains[n] for n in names])
        eeg_CT *= gain_C[:, None].astype(np.float32)
        return eeg_CT

    def ecg(
        self,
        dataset: str,
        subject: int,
        stimulus: str,
        n_leads: int,
        sfreq: float,
        duration_s: float,
        va: tuple[float, float],
        eeg_sfreq: float | None = None,
    ) -> Float32Array:
        """ECG in millivolts, shape (L, T), T = round(duration_s * sfreq).

        One or two leads are I and II. Three are unipolar electrodes: right chest, left chest,
        left abdomen, so that their differences give I and II.

        Args:
            dataset: whose person it is.
            subject: its number.
            stimulus: what is shown.
            n_leads: how many.
            sfreq: Hz.
            duration_s: seconds.
            va: valence and arousal that the heart follows.
            eeg_sfreq: of the EEG of the same seconds, whose moments the heart follows too; None
                where none is recorded.

        Raises:
            ValueError: more than three leads, or none.
        """
        if n_leads not in (1, 2, 3):
            raise ValueError(f"need 1 to 3 ECG leads, got {n_leads} for {dataset}")
        person = self._person(dataset, subject)
        rng = _rng(self.seed, dataset, subject, stimulus, "ecg")
        n_times = round(duration_s * sfreq)
        grid_G = np.arange(-2.0, duration_s + 2.0, _GRID_S)
        va_2G = np.broadcast_to(np.array(va)[:, None], (2, len(grid_G)))
        if eeg_sfreq is not None:
            eeg_rng = _rng(self.seed, dataset, subject, stimulus, "eeg")
            n_eeg = round(duration_s * eeg_sfreq)
            moments_2T = _moments_2T(person, eeg_rng, eeg_sfreq, n_eeg)
            time_T = np.arange(n_eeg) / eeg_sfreq
            moments_2G = np.array([np.interp(grid_G, time_T, moment_T) for moment_T in moments_2T])
            va_2G = va_2G + MOMENTS_AT_HEART * moments_2G
        beats_N = _beats_N(person, rng, grid_G, va_2G)
        ecg_LT = _heart_LT(person, beats_N, n_leads, sfreq, n_times)
        time_T = np.arange(n_times) / sfreq
        for lead_T in ecg_LT:
            phase = rng.uniform(0, 2 * np.pi, 2)
            lead_T += 0.12 * np.sin(2 * np.pi * person.breaths_hz * time_T + phase[0])
            lead_T += 0.02 * np.sin(2 * np.pi * 50 * time_T + phase[1])
        ecg_LT += 0.015 * rng.standard_normal(ecg_LT.shape, dtype=np.float32)
        return ecg_LT


def _brain_CT(
    person: _Person,
    rng: np.random.Generator,
    names: Sequence[str],
    sfreq: float,
    n_times: int,
    va: tuple[float, float],
) -> Float32Array:
    """Background and rhythms as the electrodes see them; only here emotion enters."""
    topography_KC, sources_KT, drift_KT = _sources(person, rng, names, sfreq, n_times, va)
    sources_KT *= drift_KT
    mixed_CT: Float32Array = np.array(topography_KC, dtype=np.float32).T @ sources_KT
    return mixed_CT


def _moments_2T(
    person: _Person, rng: np.random.Generator, sfreq: float, n_times: int
) -> FloatArray:
    """Valence and arousal, about 0, that the rhythms of an EEG show beyond its presentation's.

    Where a rhythm's two sources drift apart, its lean changes: read as if emotion had done it, by
    least squares over the rhythms that follow an axis. The EEG is drawn again for it, because its
    drifts come last of what its generator gives.

    Args:
        person: whose.
        rng: as the EEG's at its start.
        sfreq: the EEG's.
        n_times: its samples.
    """
    _, _, drift_KT = _sources(person, rng, ("Cz",), sfreq, n_times, (0.0, 0.0))
    first, moments_2T = 0, np.zeros((2, n_times))
    for rhythm in RHYTHMS.values():
        if rhythm.x != 0:  # left, right
            lean_T = np.log(drift_KT[first + 1] / drift_KT[first])
            moments_2T += np.array([[rhythm.valence], [rhythm.arousal]]) * lean_T
        first += 1 if rhythm.x == 0 else 2
    for axis_T, name in zip(moments_2T, ("valence", "arousal"), strict=True):
        axis_T *= LIMIT / sum(getattr(rhythm, name) ** 2 for rhythm in RHYTHMS.values())
    return moments_2T


def _sources(
    person: _Person,
    rng: np.random.Generator,
    names: Sequence[str],
    sfreq: float,
    n_times: int,
    va: tuple[float, float],
) -> tuple[list[FloatArray], Float32Array, Float32Array]:
    """What electrodes see of each source (K, C), what it does and how it wanders (K, T).

    In the order of `RHYTHMS`, the left source of a rhythm before the right one; then the
    background.
    """
    n_fft = int(scipy.fft.next_fast_len(max(n_times, 8), real=True))
    frequency_F = np.fft.rfftfreq(n_fft, 1 / sfreq)
    density_KF, topography_KC = [], []
    for name in RHYTHMS:
        band_F = _band_F(RHYTHMS[name].band, frequency_F, person.alpha_hz, person.theta_hz)
        topographies = _rhythm_KC(name, person, rng, names, va)
        topography_KC += topographies
        density_KF += [band_F] * len(topographies)
    exponent = person.exponent + rng.normal(0, EXPONENT_SD)
    background_F = _background_F(frequency_F, exponent)
    for (x, y, reach), amplitude in zip(person.sources_K3, person.background_K, strict=True):
        amplitude *= BACKGROUND_UV * np.exp(rng.normal(0, BACKGROUND_PRESENTATION_SD))
        density_KF.append(background_F)
        topography_KC.append(amplitude * _bump_C(names, x, y, reach))
    density_KF.append(background_F)  # the reference electrode: on all alike
    topography_KC.append(np.full(len(names), BACKGROUND_UV))
    sources_KT = _noise_KT(rng, np.array(density_KF), n_fft, n_times, sfreq)
    return topography_KC, sources_KT, _drift_KT(rng, len(sources_KT), n_times, sfreq, MOMENT_SD)


def _rhythm_KC(
    name: str,
    person: _Person,
    rng: np.random.Generator,
    names: Sequence[str],
    va: tuple[float, float],
) -> list[FloatArray]:
    """What the electrodes see of a rhythm's sources: one on the midline, else left and right."""
    rhythm = RHYTHMS[name]
    effect = (rhythm.valence * va[0] + rhythm.arousal * va[1]) / LIMIT
    log_gain, lean = rng.normal((person.log_rhythm[name], person.lean[name] + effect), WHIM_SD)
    gain = rhythm.amplitude_uv * np.exp(log_gain)
    if rhythm.x == 0:
        return [gain * _bump_C(names, 0.0, rhythm.y, REACH)]
    return [
        gain * np.sqrt(1 + side * np.tanh(lean)) * _bump_C(names, side * rhythm.x, rhythm.y, REACH)
        for side in (-1, 1)
    ]


def _artefacts_CT(
    person: _Person, rng: np.random.Generator, names: Sequence[str], sfreq: float, n_times: int
) -> Float32Array:
    """Blinks from the front, muscle at the temples, mains on every electrode, its own noise."""
    noise_CT: Float32Array = 0.8 * rng.standard_normal((len(names), n_times), dtype=np.float32)
    y_C = np.array([position(n)[1] for n in names])
    blink_C = person.blink_uv * np.exp(-(_ROWS["Fp"] - y_C) / 0.35)  # F7 sees a third of Fp1's
    blinks_T = _events_T(rng, n_times, sfreq, person.blinks_per_minute, (0.2, 0.4))
    sources: list[FloatArray] = [blinks_T]
    topographies: list[FloatArray] = [blink_C]
    for side in (-1.0, 1.0):
        burst_T = _events_T(rng, n_times, sfreq, person.bursts_per_minute, (0.3, 1.2))
        hiss_T = rng.standard_normal(n_times, dtype=np.float32)
        hiss_T[1:] -= hiss_T[:-1].copy()  # differences: more the higher the frequency, as EMG
        sources.append(burst_T * hiss_T)
        topographies.append(12.0 * _bump_C(names, side, 0.1, 0.25))
    time_T = np.arange(n_times) / sfreq
    phase = rng.uniform(0, 2 * np.pi)
    sources.append(np.sin(2 * np.pi * 50 * time_T + phase).astype(np.float32))
    topographies.append(np.array([person.mains_uv[n] for n in names]))
    noise_CT += np.array(topographies, dtype=np.float32).T @ np.array(sources, dtype=np.float32)
    return noise_CT


def _beats_N(
    person: _Person, rng: np.random.Generator, grid_G: FloatArray, va_2G: FloatArray
) -> FloatArray:
    """Times of the R peaks in s, a beat before and after included.

    The heart rate, modulated by breath and by slow waves, is integrated; a beat falls where the
    integral passes a whole number.
    """
    log_rate_G = np.log(person.heart_rate_bpm / 60) + HEART_RATE_PER_AROUSAL * va_2G[1]
    log_rate_G += rng.normal(0, 0.03)
    breath_G = person.arrhythmia * np.exp(ARRHYTHMIA_PER_VALENCE * va_2G[0] + rng.normal(0, 0.15))
    breath_G = MOST_ARRHYTHMIA * np.tanh(breath_G / MOST_ARRHYTHMIA)
    phase = rng.uniform(0, 2 * np.pi, 2)
    wave_G = breath_G * np.sin(2 * np.pi * person.breaths_hz * grid_G + phase[0])
    wave_G += 0.015 * np.sin(2 * np.pi * 0.09 * grid_G + phase[1])
    turns_G = np.cumsum(np.exp(log_rate_G + wave_G)) * _GRID_S + rng.uniform(0, 1)
    whole_N = np.arange(np.ceil(turns_G[0]), np.floor(turns_G[-1]) + 1)
    beats_N: FloatArray = np.interp(whole_N, turns_G, grid_G)
    beats_N += rng.normal(0, 0.003, len(beats_N))
    return beats_N


def _heart_LT(
    person: _Person, beats_N: FloatArray, n_leads: int, sfreq: float, n_times: int
) -> Float32Array:
    """Five Gaussian waves a beat, each with a direction, seen from the leads' directions."""
    angles_L = np.deg2rad([-150.0, -30.0, 90.0] if n_leads == 3 else [0.0, 60.0][:n_leads])
    # Lead vectors of the unipolar three: 1/sqrt(3), so that differences have length one.
    length = 1 / np.sqrt(3) if n_leads == 3 else 1.0
    ecg_LT = np.zeros((n_leads, n_times), dtype=np.float32)
    time_T = np.arange(n_times) / sfreq
    gap_N = np.diff(beats_N, append=2 * beats_N[-1] - beats_N[-2])
    for peak_mv, degrees, offset_s, width_s in WAVES.values():
        projection_L = np.cos(np.deg2rad(degrees + person.heart_turn_degrees) - angles_L)
        # The T wave keeps pace with the beat as its square root (Bazett); the rest does not.
        stretch_N = np.sqrt(gap_N) if offset_s > 0.1 else np.ones_like(gap_N)
        wave_T = np.zeros(n_times)
        for centre_s, s in zip(beats_N + offset_s * stretch_N, width_s * stretch_N, strict=True):
            low, high = np.searchsorted(time_T, (centre_s - 5 * s, centre_s + 5 * s))
            wave_T[low:high] += np.exp(-0.5 * ((time_T[low:high] - centre_s) / s) ** 2)
        scale_L = length * person.heart_gain * peak_mv * projection_L
        ecg_LT += (scale_L[:, None] * wave_T).astype(np.float32)
    return ecg_LT
