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


@needs("mitdb_100.dat")
def test_half_an_hour_of_heart_beats_is_not_absurd() -> None:
    # Format 212: two samples of 12 bits in three bytes.
    low, both, high = np.fromfile(REAL / "mitdb_100.dat", np.uint8).reshape(-1, 3).T.astype(int)
    leads = np.stack([low | (both & 15) << 8, high | (both >> 4) << 8])
    ecg_LT = ((leads - 4096 * (leads > 2047) - 1024) / 200).astype(np.float32)
    found = excursions.find([ecg_LT], 360.0, EcgRecipe(), kind="ecg", unit="mV")
    assert not found.places
    ecg_LT[0, 100_000] = 1e3
    found = excursions.find([ecg_LT], 360.0, EcgRecipe(), kind="ecg", unit="mV")
    assert [(s, c, *places.start_N) for (s, c), places in found.places.items()] == [(0, 0, 100_000)]


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
