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

from emoray.signals import EcgRecipe, EegRecipe, filters
from emoray.signals.amplitude import Moments, to_person
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
        ({"sfreq": 0.0}, "sfreq > 0"),
        ({"highpass_filter": "boxcar"}, "need highpass_filter among fir, iir"),
        ({"r_peaks": "eye"}, "need r_peaks among none, sleepecg"),
        ({"scale_scope": "person"}, "need amplitude z for scale_scope person, got robust_z"),
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


# --- rate, filter, scale of a person

SSL_ECG = EcgRecipe(
    sfreq=256.0,
    highpass_hz=0.8,
    highpass_filter="iir",
    amplitude="z",
    scale_scope="person",
    segment_s=10.0,
)
"""Sarkar & Etemad's."""


@pytest.mark.parametrize("sfreq", [128.0, 250.0, 360.0, 700.0, 2048.0])
def test_sample_k_of_a_segment_lies_at_its_256th_of_a_second(sfreq: float) -> None:
    t_T = np.arange(round(30 * sfreq)) / sfreq
    wave_T = np.sin(2 * np.pi * 7 * t_T)
    recording = without_eeg(
        make_recording([noise(5, 30)], ecg=[np.stack([wave_T, -wave_T])], ecg_sfreq=sfreq)
    )
    made = prepare(recording, card(eeg=None), EcgRecipe(sfreq=256.0, amplitude="none"))
    assert (made.x_SCT.shape, made.sfreq) == ((3, 2, 2560), 256.0)
    at_T = 10 + np.arange(2560) / 256  # the second segment, away from the ends
    np.testing.assert_allclose(made.x_SCT[1, 0], np.sin(2 * np.pi * 7 * at_T), atol=2e-3)
    np.testing.assert_array_equal(made.x_SCT[1, 1], -made.x_SCT[1, 0])


def test_a_stretch_that_ends_before_the_eeg_s_last_sample_is_still_filled() -> None:
    # Its place, from 3.5 ms on, is rounded to 0 at 128 Hz and to 4 ms at 1,000 Hz.
    eeg, ecg = noise(5, 10.006, 1000.0), noise(2, 10.0, 128.0)[:, :1280]
    recording = make_recording(
        [eeg], sfreq=1000.0, ecg=[ecg], ecg_sfreq=128.0, places=[(0, 0.0035, 10.0035)]
    )
    made = prepare(recording, card(sfreq=1000.0), EcgRecipe(sfreq=1000.0))
    assert made.x_SCT.shape == (1, 2, 10_000)


def test_the_iir_loses_one_decibel_at_its_edge_and_delays_nothing() -> None:
    t_T = np.arange(120 * 256) / 256
    for hz, lost_db in ((0.8, 1.0), (0.3, 50.0), (0.2, 78.0), (1.2, 0.05), (10.0, 0.0)):
        wave_T = np.sin(2 * np.pi * hz * t_T)
        passed_T = filters.highpass_iir(wave_T[None], 256.0, 0.8)[0]
        inner = slice(30 * 256, 90 * 256)
        phases = np.exp(2j * np.pi * hz * t_T[inner])
        response = (passed_T[inner] @ phases.conj()) / (wave_T[inner] @ phases.conj())
        assert -20 * np.log10(abs(response)) == pytest.approx(lost_db, abs=0.5 + 0.02 * lost_db)
        if lost_db < 40:
            assert abs(np.angle(response)) < 1e-3


def test_the_iir_is_the_same_backwards_and_leaves_no_offset_at_the_ends() -> None:
    x_LT = noise(2, 20, 256.0)
    forth, back = (filters.highpass_iir(x, 256.0, 0.8) for x in (x_LT, x_LT[:, ::-1]))
    np.testing.assert_allclose(forth, back[:, ::-1], atol=1e-3)
    offset_LT = filters.highpass_iir(np.full((2, 300), 4000.0), 256.0, 0.8)
    assert np.abs(offset_LT).max() < 1e-3
    assert filters.highpass_iir(np.zeros((2, 0)), 256.0, 0.8).shape == (2, 0)


def pooled(recordings: Sequence[Prepared]) -> list[FloatArray]:
    """Segments of a person's recordings on the person's scale."""
    moments = {str(i): one.moments for i, one in enumerate(recordings) if one.moments}
    to = to_person(moments)
    return [
        np.stack([to[str(i)](x_CT) for x_CT in one.x_SCT]) if str(i) in to else one.x_SCT
        for i, one in enumerate(recordings)
    ]


def test_a_person_in_three_recordings_has_the_scale_of_one() -> None:
    stretches = [(1 + 4 * i) * beating(20 + 10 * i, seed=i) + 9 * i for i in range(3)]
    whole = without_eeg(
        make_recording(
            [noise(5, x.shape[1] / SFREQ) for x in stretches], ecg=stretches, ecg_sfreq=SFREQ
        )
    )
    parts = [
        dataclasses.replace(
            whole,
            stretches=(stretch,),
            presentations=(dataclasses.replace(whole.presentations[i], stretch=0),),
        )
        for i, stretch in enumerate(whole.stretches)
    ]
    of = card(eeg=None)
    (together,), apart = (
        pooled([prepare(one, of, SSL_ECG) for one in recordings]) for recordings in ([whole], parts)
    )
    np.testing.assert_allclose(np.concatenate(apart), together, atol=2e-6)
    # The scale itself, from the samples.
    unscaled = dataclasses.replace(SSL_ECG, amplitude="none", scale_scope="recording")
    plain_SLT = np.concatenate([prepare(one, of, unscaled).x_SCT for one in parts]).astype("f8")
    for lead in range(2):
        samples = plain_SLT[:, lead]
        expected = (samples - samples.mean()) / samples.std()
        np.testing.assert_allclose(np.concatenate(apart)[:, lead], expected, atol=2e-6)


def test_one_recording_is_its_person_s_scale_to_the_last_bit() -> None:
    recording = both([beating(30)])
    made = prepare(recording, card(), SSL_ECG)
    alone = prepare(recording, card(), dataclasses.replace(SSL_ECG, scale_scope="recording"))
    assert to_person({"only": made.moments} if made.moments else {}) == {}
    np.testing.assert_array_equal(made.x_SCT, alone.x_SCT)
    assert alone.moments is None


def test_a_recording_without_a_segment_has_no_part_in_its_person_s_scale() -> None:
    made = prepare(make_recording([noise(5, 20)]), card(), SSL_ECG)
    assert (len(made.x_SCT), made.moments) == (0, None)


def test_a_lead_that_never_moves_stays_zero_in_every_recording() -> None:
    still = Moments(100, (3.0,), (0.0,))
    for to in to_person({"a": still, "b": still}).values():
        np.testing.assert_array_equal(to(np.zeros((1, 5), np.float32)), np.zeros((1, 5)))


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
