"""The recipe on recordings of real people: eye channels kept aside tell what ICA took away."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import mne
import numpy as np
import pytest
from scipy.signal import welch

from emoray.signals import EcgRecipe, EegRecipe, excursions, filters
from emoray.signals.ecg import prepare as ecg_prepare
from emoray.signals.eeg.prepare import Prepared, prepare
from emoray.vocabulary.electrodes import canonical
from emoray.vocabulary.schema import (
    Card,
    EcgCard,
    EegCard,
    FloatArray,
    Presentation,
    Recording,
    RecordingRef,
    Stretch,
)

REAL = Path(__file__).parents[3] / "shared" / "real"

RAW_UV = EegRecipe(amplitude="none")
SSL_ECG = EcgRecipe(
    sfreq=256.0, highpass_hz=0.8, highpass_filter="iir", amplitude="z", scale_scope="person"
)
"""Sarkar & Etemad's; segments are the card's."""


def needs(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not (REAL / name).exists(), reason=f"no {name} in {REAL}")


def as_recording(
    path: Path, eeg_CT: FloatArray, names: tuple[str, ...], sfreq: float, ecg_LT: FloatArray | None
) -> tuple[Recording, Card]:
    whole = Presentation("task", 0, 0, 0.0, eeg_CT.shape[1] / sfreq)
    ecg = None if ecg_LT is None else ecg_LT.astype(np.float32)
    recording = Recording(
        ref=RecordingRef("real", "01", "1", (path.name,)),
        eeg_channels=names,
        eeg_sfreq=sfreq,
        stretches=(Stretch(eeg_CT.astype(np.float32), ecg),),
        presentations=(whole,),
        ecg_leads=() if ecg is None else tuple(f"Ekg{i + 1}" for i in range(len(ecg))),
        ecg_sfreq=None if ecg is None else sfreq,
    )
    card = Card(
        name="real",
        title="Real",
        reference="EEGLAB sample data",
        layout=path.name,
        n_subjects=1,
        n_recordings=1,
        n_presentations=1,
        eeg=EegCard(names, sfreq, "uV", sfreq, sfreq),
        ecg=None if ecg is None else EcgCard(recording.ecg_leads, sfreq, "arbitrary"),
        segment_s=10.0,
    )
    return recording, card


def alone(ecg_LT: FloatArray, sfreq: float) -> tuple[Recording, Card]:
    """ECG without EEG."""
    recording, card = as_recording(REAL / "mitdb_100.dat", ecg_LT, (), sfreq, ecg_LT)
    stretches = tuple(replace(stretch, eeg_CT=None) for stretch in recording.stretches)
    return replace(recording, eeg_sfreq=None, stretches=stretches), replace(card, eeg=None)


@cache
def task() -> tuple[Recording, Card, FloatArray]:
    """The visual task, and its two eye channels in the recipe's band."""
    path = REAL / "eeglab_data.set"
    raw = mne.io.read_raw_eeglab(path, preload=True, verbose="ERROR")
    scalp = [name for name in raw.ch_names if not name.startswith("EOG")]
    sfreq = float(raw.info["sfreq"])
    taps = filters.design(sfreq, 0.3, 49.0, high_width_hz=RAW_UV.band_high_width_hz)
    eyes_CT = filters.convolve(raw.get_data(["EOG1", "EOG2"]) * 1e6, taps)
    names = tuple(canonical(name) for name in scalp)
    recording, card = as_recording(path, raw.get_data(scalp) * 1e6, names, sfreq, None)
    return recording, card, eyes_CT


def eyes_left(prepared: Prepared) -> float:
    """Mean over the front of the larger |r| with the two eye channels."""
    recording, _, eyes_CT = task()
    x_CT = np.concatenate(list(prepared.x_SCT.astype(np.float64)), axis=1)
    largest = []
    for name in ("Fpz", "F3", "Fz", "F4"):
        x_T = x_CT[recording.eeg_channels.index(name)]
        largest.append(max(abs(np.corrcoef(x_T, e_T[: len(x_T)])[0, 1]) for e_T in eyes_CT))
    return float(np.mean(largest))


def alpha_power(prepared: Prepared) -> float:
    """8-13 Hz over the back of the head."""
    recording, _, _ = task()
    at = [recording.eeg_channels.index(name) for name in ("O1", "Oz", "O2")]
    hz, power = welch(prepared.x_SCT[:, at].astype(np.float64), recording.eeg_sfreq, nperseg=256)
    return float(power[..., (hz >= 8) & (hz <= 13)].sum())


@needs("eeglab_data.set")
@pytest.mark.parametrize("seed", range(5))
def test_eyes_go_by_a_quarter_and_alpha_stays_within_five_percent(seed: int) -> None:
    recording, card, _ = task()
    before = prepare(recording, card, replace(RAW_UV, ica="none"))
    after = prepare(recording, card, replace(RAW_UV, ica_seed=seed))
    assert before.dropped == after.dropped == ()
    assert len(after.rows) == 23
    fall = 1 - eyes_left(after) / eyes_left(before)
    change = alpha_power(after) / alpha_power(before) - 1
    print(f"seed {seed}: |r| with the eyes falls by {fall:.1%}, alpha changes by {change:+.1%}")
    assert fall >= 0.25
    assert abs(change) <= 0.05


@needs("eeglab_data.set")
def test_blinks_and_movement_of_real_people_are_not_absurd() -> None:
    recording, card, _ = task()
    made, unbounded = (prepare(recording, card, EegRecipe(max_excursion=m)) for m in (30.0, 0.0))
    assert made.dropped == ()
    assert np.array_equal(made.x_SCT, unbounded.x_SCT)
    assert "excursions" not in made.facts


def heart_100() -> FloatArray:
    """Half an hour of a person's ECG, mV at 360 Hz; two samples of 12 bits in three bytes."""
    low, both, high = np.fromfile(REAL / "mitdb_100.dat", np.uint8).reshape(-1, 3).T.astype(int)
    leads = np.stack([low | (both & 15) << 8, high | (both >> 4) << 8])
    return ((leads - 4096 * (leads > 2047) - 1024) / 200).astype(np.float32)


def marked_100() -> FloatArray:
    """Samples of the beats that were marked by hand; MIT's format of annotations."""
    words = iter(np.fromfile(REAL / "mitdb_100.atr", "<u2").tolist())
    at, beats = 0, []
    for word in words:
        kind, n = word >> 10, word & 1023
        if kind == 63:  # n characters of text, in whole words
            for _ in range((n + 1) // 2):
                next(words)
        elif kind == 59:
            raise ValueError("need annotations less than 1,024 samples apart, got a longer one")
        elif kind < 59:
            at += n
            beats += [at] if 0 < kind < 14 else []
    return np.array(beats)


@needs("mitdb_100.dat")
def test_half_an_hour_of_heart_beats_is_not_absurd() -> None:
    ecg_LT = heart_100()
    found = excursions.find([ecg_LT], 360.0, EcgRecipe(), kind="ecg", unit="mV")
    assert not found.places
    ecg_LT[0, 100_000] = 1e3
    found = excursions.find([ecg_LT], 360.0, EcgRecipe(), kind="ecg", unit="mV")
    assert [(s, c, *places.start_N) for (s, c), places in found.places.items()] == [(0, 0, 100_000)]


@pytest.mark.parametrize("sign", [1, -1])
@needs("mitdb_100.atr")
def test_r_peaks_are_those_that_cardiologists_marked(sign: int) -> None:
    ecg_LT = sign * heart_100()
    recording, card = alone(ecg_LT, 360.0)
    made = ecg_prepare.prepare(recording, card, replace(SSL_ECG, r_peaks="sleepecg"))
    assert made.x_SCT.shape == (180, 2, 2560)
    found_s = np.array([10 * row.segment + p / 256 for row in made.rows for p in row.r_peaks or ()])
    marked_s = marked_100() / 360
    assert len(marked_s) == 2273  # by the database's own table of beats
    marked_s = marked_s[marked_s < 1800]
    apart_BB = np.abs(marked_s[:, None] - found_s)
    for nearest_s in (apart_BB.min(axis=0), apart_BB.min(axis=1)):  # neither more nor fewer
        print(f"within 50 ms {np.mean(nearest_s <= 0.05):.2%}, median {np.median(nearest_s):.4f} s")
        assert np.mean(nearest_s <= 0.05) >= 0.99
    assert np.median([row.quality["Ekg1"] for row in made.rows]) > 0.95


@needs("mitdb_100.dat")
def test_quality_of_a_real_heart_falls_with_added_noise() -> None:
    ecg_LT = heart_100()[:, : 300 * 360]
    noise_LT = np.random.default_rng(0).normal(0, 1, ecg_LT.shape) * ecg_LT.std(axis=1)[:, None]
    recipe, medians = replace(SSL_ECG, r_peaks="sleepecg"), []
    for db in (20, 6, -6, -40):
        recording, card = alone(ecg_LT + noise_LT * 10 ** (-db / 20), 360.0)
        made = ecg_prepare.prepare(recording, card, recipe)
        medians.append(np.median([row.quality["Ekg1"] for row in made.rows]))
    assert medians == sorted(medians, reverse=True)
    assert medians[0] > 0.9
    assert medians[-1] < 0.2


@needs("testbva.vhdr")
def test_eeg_and_ecg_of_one_moment_go_through_together() -> None:
    path = REAL / "testbva.vhdr"
    raw = mne.io.read_raw_brainvision(path, preload=True, verbose="ERROR")
    beside = {"Eog", "Ekg1", "Ekg2"}
    scalp = [n for n in raw.ch_names if n not in beside]
    sfreq = float(raw.info["sfreq"])
    recording, card = as_recording(
        path, raw.get_data(scalp) * 1e6, tuple(scalp), sfreq, raw.get_data(["Ekg1", "Ekg2"]) * 1e3
    )
    made = prepare(recording, card, EegRecipe())
    assert made.x_SCT.shape == (1, 29, 2000)
    ecg = ecg_prepare.prepare(recording, card, EcgRecipe())
    assert ecg.x_SCT.shape == (1, 2, 2000)
    assert repr(ecg.rows) == repr(made.rows)  # coordinates are nan in both
    # Ten seconds hold no blinks to speak of: ICA says that it did not run.
    assert [(d.what, d.reason) for d in made.dropped] == [("ica", "shorter than 30 s")]
    assert np.abs(made.x_SCT.sum(axis=1)).max() < 0.1
    unbounded = prepare(recording, card, EegRecipe(max_excursion=0.0))
    assert np.array_equal(made.x_SCT, unbounded.x_SCT)
    unbounded = ecg_prepare.prepare(recording, card, EcgRecipe(max_excursion=0.0))
    assert np.array_equal(ecg.x_SCT, unbounded.x_SCT)
