"""Cheap signals for reader tests: every channel has its own tone, valence is never arousal."""

from __future__ import annotations

import zlib

import numpy as np

from emoray.vocabulary.schema import FloatArray

AMPLITUDE_UV = 10.0
ECG_AMPLITUDE_MV = 1.0


def tone_hz(channel: int) -> float:
    """Frequency of EEG channel or ECG lead k: 1, 1.5, 2 ... Hz; 31.5 Hz for the 62nd."""
    return 1.0 + 0.5 * channel


def dominant_hz(x_T: FloatArray, sfreq: float) -> float:
    """Frequency of the largest peak of the spectrum, the mean removed."""
    spectrum = np.abs(np.fft.rfft(x_T - x_T.mean(), n=max(x_T.size, int(20 * sfreq))))
    return float(np.argmax(spectrum) * sfreq / max(x_T.size, int(20 * sfreq)))


def channels_by_tone(x_CT: FloatArray, sfreq: float) -> list[int]:
    """Which source channel each row carries. Rows need about 4 s to be told apart."""
    return [round((dominant_hz(x_T, sfreq) - 1.0) / 0.5) for x_T in x_CT]


def tones(n_channels: int, sfreq: float, duration_s: float, amplitude: float) -> FloatArray:
    time_T = np.arange(round(duration_s * sfreq)) / sfreq
    hz_C = np.array([tone_hz(k) for k in range(n_channels)])
    return amplitude * np.sin(2 * np.pi * hz_C[:, None] * time_T)


class ToneSource:
    """Channel k carries a sinusoid of `tone_hz(k)`; arousal is valence shifted by 4."""

    def rating(
        self,
        dataset: str,
        subject: int,
        stimulus: str,
        near: tuple[float, float] | None = None,
    ) -> tuple[float, float]:
        valence = (zlib.crc32(f"{dataset}/{stimulus}".encode()) + subject) % 17 / 2 - 4
        return valence, valence + 4 if valence <= 0 else valence - 4

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
        return tones(len(channels), sfreq, duration_s, AMPLITUDE_UV)

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
    ) -> FloatArray:
        return tones(n_leads, sfreq, duration_s, ECG_AMPLITUDE_MV)


class SilentSource(ToneSource):
    """Zeros, for files of full length."""

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
        return np.zeros((len(channels), round(duration_s * sfreq)))

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
    ) -> FloatArray:
        return np.zeros((n_leads, round(duration_s * sfreq)))
