"""The ECG's recipe on signals whose truth is known, with and without EEG beside it.

Shapes: S segments, L leads, T samples.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from emoray.signals import EcgRecipe, EegRecipe
from emoray.signals.ecg.prepare import prepare
from emoray.signals.eeg import prepare as eeg_prepare
from emoray.signals.segments import Prepared
from emoray.vocabulary.schema import Card, DataError, FloatArray, Recording, Stretch
from tests.recordings import LEADS, make_card, make_recording, noise, reasons

SFREQ = LEADS.sfreq
PLAIN = EcgRecipe(amplitude="none")
EEG = EegRecipe(ica="none", amplitude="none", reference="none")


def beating(seconds: float, seed: int = 0) -> FloatArray:
    return 0.01 * noise(2, seconds, SFREQ, seed=seed).astype(np.float32)


def both(ecg: Sequence[FloatArray | None], seconds: float = 30.0) -> Recording:
    """Stretches of EEG, and of ECG at its own rate."""
    eeg = [noise(5, seconds, seed=i) for i in range(len(ecg))]
    return make_recording(eeg, ecg=ecg, ecg_sfreq=SFREQ)


def card(**changes: Any) -> Card:
    return make_card(ecg=LEADS, **changes)


def without_eeg(recording: Recording) -> Recording:
    return dataclasses.replace(
        recording,
        eeg_channels=(),
        eeg_sfreq=None,
        stretches=tuple(Stretch(ecg_LT=stretch.ecg_LT) for stretch in recording.stretches),
    )


def places(made: Prepared) -> list[tuple[int, int]]:
    return [(row.presentation, row.segment) for row in made.rows]


# --- the recipe as data


def test_a_recipe_survives_json() -> None:
    recipe = EcgRecipe(segment_s=5.0, exceptions={"dreamer": {"highpass_hz": 1.0}})
    assert EcgRecipe(**json.loads(json.dumps(dataclasses.asdict(recipe)))) == recipe
    assert recipe.for_dataset("dreamer") == EcgRecipe(segment_s=5.0, highpass_hz=1.0)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"highpass_hz": 0.0}, "highpass_hz > 0"),
        ({"max_gap_s": 0.0}, "max_gap_s > 0"),
        ({"dtype": "float8"}, "need dtype among float32, float16"),
        ({"exceptions": {"dreamer": {"ica": "none"}}}, "fields of EcgRecipe in exceptions .* ica"),
    ],
)
def test_a_recipe_out_of_range_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        EcgRecipe(**wrong)


# --- segments


def test_segments_are_of_the_seconds_of_the_eeg_at_the_ecg_s_rate() -> None:
    # A pulse at 13 s stands 3 s into the second segment of both.
    x_CT, e_LT = noise(5, 30), beating(30)
    x_CT[:, 13 * 128] += 500
    e_LT[:, 13 * 256] += 4
    recording = make_recording([x_CT], ecg=[e_LT], ecg_sfreq=SFREQ)
    eeg, ecg = eeg_prepare.prepare(recording, card(), EEG), prepare(recording, card(), PLAIN)
    assert ecg.x_SCT.shape == (3, 2, 2560)
    assert (ecg.channels, ecg.sfreq) == (("I", "II"), 256.0)
    assert np.abs(eeg.x_SCT[1, 0]).argmax() == 3 * 128
    assert np.abs(ecg.x_SCT[1, 0]).argmax() == 3 * 256
    assert ecg.rows == eeg.rows


def test_a_recording_of_ecg_alone_gives_the_same_segments() -> None:
    recording = both([beating(30, seed=i) for i in range(2)])
    beside, alone = (
        prepare(one, of, EcgRecipe())
        for one, of in ((recording, card()), (without_eeg(recording), card(eeg=None)))
    )
    assert beside.rows == alone.rows
    assert beside.facts == alone.facts
    np.testing.assert_array_equal(beside.x_SCT, alone.x_SCT)


def test_wander_goes_and_each_lead_gets_its_scale() -> None:
    t_T = np.arange(60 * 256) / 256
    wander_T = 5 * np.sin(2 * np.pi * 0.2 * t_T)
    beat_T = np.sin(2 * np.pi * 8 * t_T)
    ecg = np.stack([beat_T + wander_T, 30 * beat_T + wander_T]).astype(np.float32)
    made = prepare(both([ecg], seconds=60), card(), EcgRecipe())
    peak_L = np.abs(made.x_SCT[2]).max(axis=1)
    assert peak_L[0] == pytest.approx(peak_L[1], rel=0.05)


@pytest.mark.parametrize("scope", ["recording", "presentation"])
def test_a_scale_by_presentation_knows_no_other_presentation(scope: Any) -> None:
    recipe = EcgRecipe(scale_scope=scope)
    one, other = (
        prepare(both([beating(30), factor * beating(30, seed=1)]), card(), recipe)
        for factor in (1, 5)
    )
    assert np.array_equal(one.x_SCT[:3], other.x_SCT[:3]) is (scope == "presentation")


# --- screening, apart from the EEG's


@pytest.mark.parametrize(("fault", "said"), [("nan", "NaN"), ("flat", "flat"), ("gone", "missing")])
def test_a_segment_without_ecg_is_dropped_and_its_eeg_kept(fault: str, said: str) -> None:
    ecgs: list[FloatArray | None] = [beating(20), beating(20, seed=1)]
    second = ecgs[1]
    assert second is not None
    if fault == "nan":
        second[0] = np.nan
    elif fault == "flat":
        second[1] = 0.0
    else:
        ecgs[1] = None
    recording = both(ecgs, seconds=20)
    made = prepare(recording, card(), EcgRecipe())
    assert places(made) == [(0, 0), (0, 1)]
    assert np.isfinite(made.x_SCT).all()
    assert reasons(made) == {("segment", said): 2}
    assert len(eeg_prepare.prepare(recording, card(), EEG).rows) == 4


def test_bad_eeg_costs_no_ecg() -> None:
    recording = both([beating(30)])
    eeg_CT = recording.stretches[0].eeg_CT
    assert eeg_CT is not None
    eeg_CT[:, 1500] = np.nan
    assert places(eeg_prepare.prepare(recording, card(), EEG)) == [(0, 0), (0, 2)]
    assert places(prepare(recording, card(), EcgRecipe())) == [(0, 0), (0, 1), (0, 2)]
    eeg_CT[:3] = np.nan  # more bad channels than may be interpolated: the EEG is refused
    with pytest.raises(DataError, match="of channels bad"):
        eeg_prepare.prepare(recording, card(), EEG)
    assert len(prepare(recording, card(), EcgRecipe()).rows) == 3


def test_a_recording_without_ecg_in_a_dataset_with_it_gives_nothing_and_says_so() -> None:
    made = prepare(make_recording([noise(5, 20)]), card(), EcgRecipe())
    assert made.x_SCT.shape == (0, 2, 2560)
    assert reasons(made) == {("segment", "missing"): 2}


def test_other_leads_than_the_card_s_are_refused() -> None:
    recording = dataclasses.replace(both([beating(30)]), ecg_leads=("II", "I"))
    with pytest.raises(DataError, match=r"s01\.dat: need leads I II, got II I"):
        prepare(recording, card(), EcgRecipe())
    with pytest.raises(DataError, match=r"stretch 0: need \(2, samples\), got \(1, 7680\)"):
        prepare(both([beating(30)[:1]]), card(), EcgRecipe())


def test_each_stream_of_a_dataset_that_lacks_it_is_refused() -> None:
    recording = both([beating(30)])
    with pytest.raises(DataError, match="need ECG, got a recording of example, which has none"):
        prepare(recording, make_card(), EcgRecipe())
    with pytest.raises(DataError, match="need EEG, got a recording of example without"):
        eeg_prepare.prepare(without_eeg(recording), card(eeg=None), EEG)
