"""The recipe on signals whose truth is known.

Shapes: S segments, C electrodes, L ECG leads, T samples.
"""

from __future__ import annotations

import dataclasses
import json
import math
import warnings
from typing import Any

import mne
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emoray.rehearsal.world import World
from emoray.signals import EcgRecipe, EegRecipe, count_segments, filters
from emoray.signals.ecg import prepare as ecg_prepare
from emoray.signals.eeg import montage
from emoray.signals.eeg.prepare import prepare
from emoray.signals.segments import Prepared
from emoray.vocabulary.electrodes import EPOC_14, GENEVA_32, SEED_62, VOCABULARY
from emoray.vocabulary.schema import DataError, FloatArray
from tests.recordings import FIVE, LEADS, make_card, make_recording, noise, reasons

PLAIN = EegRecipe(ica="none", amplitude="none", reference="none")


def sine(hz: float, seconds: float, sfreq: float = 128.0, n_channels: int = 5) -> FloatArray:
    return np.tile(
        np.sin(2 * np.pi * hz * np.arange(round(seconds * sfreq)) / sfreq), (n_channels, 1)
    )


def through(x_CT: FloatArray, recipe: EegRecipe = PLAIN, **card: Any) -> Prepared:
    return prepare(make_recording([x_CT]), make_card(**card), recipe)


# --- the recipe as data


def test_a_recipe_survives_json() -> None:
    recipe = EegRecipe(segment_s=5.0, exceptions={"faced": {"ica": "none", "band_low_hz": 0.5}})
    assert EegRecipe(**json.loads(json.dumps(dataclasses.asdict(recipe)))) == recipe


def test_an_exception_holds_for_its_dataset_alone() -> None:
    recipe = EegRecipe(exceptions={"faced": {"ica": "none"}})
    assert recipe.for_dataset("faced") == EegRecipe(ica="none")
    assert recipe.for_dataset("deap") == EegRecipe()
    x_CT = noise(5, 40)
    excepted = prepare(make_recording([x_CT]), make_card(name="faced"), recipe)
    assert "ica" not in excepted.facts
    assert "ica" in prepare(make_recording([x_CT]), make_card(), recipe).facts


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"band_low_hz": 50.0}, "band_low_hz < band_high_hz"),
        ({"band_low_hz": 0.0}, "band_low_hz < band_high_hz"),
        ({"segment_s": 0.0}, "segment_s > 0"),
        ({"segment_s": math.nan}, "segment_s > 0"),
        ({"max_excursion": -1.0}, "max_excursion >= 0"),
        ({"max_gap_s": 0.0}, "max_gap_s > 0"),
        ({"scale_scope": "dataset"}, "need scale_scope among recording, presentation"),
        ({"max_clipped": 1.5}, r"max_clipped in \[0, 1\]"),
        ({"ica": "sobi"}, "need ica among fastica, none; got 'sobi'"),
        ({"sfreq": "fast"}, "need sfreq among paper, code"),
        ({"emotions": "mine"}, "need emotions among rescaled, emod_code"),
        ({"exceptions": {"faced": {"icaa": "none"}}}, "exceptions of faced, got icaa"),
        ({"exceptions": {"faced": {"ica": "sobi"}}}, "need ica among"),
    ],
)
def test_a_recipe_out_of_range_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        EegRecipe(**wrong)


def test_a_band_above_the_new_rate_is_refused() -> None:
    with pytest.raises(ValueError, match=r"s01\.dat: need a band that ends below 40 Hz at 80 Hz"):
        through(noise(5, 20), sfreq_paper=80.0)


# --- filters


@pytest.mark.parametrize("hz", [1.0, 10.0, 30.0, 48.0])
def test_the_band_passes_within_one_percent(hz: float) -> None:
    gain = np.abs(through(sine(hz, 60)).x_SCT[2:4]).max()
    assert gain == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(("hz", "most"), [(0.1, 0.25), (0.05, 0.06), (50.0, 0.01), (60.0, 0.01)])
def test_drift_and_line_noise_are_gone(hz: float, most: float) -> None:
    rest = through(sine(hz, 80)).x_SCT[3:5]
    assert np.abs(rest).max() < most


def test_the_filter_does_not_delay() -> None:
    x_CT = sine(10.0, 60)
    y_T = through(x_CT).x_SCT[2, 0]
    assert np.abs(y_T - x_CT[0, 20 * 128 : 30 * 128]).max() < 0.01


@pytest.mark.parametrize(("seconds", "tolerance"), [(30, 1e-9), (7, 1e-9)])
def test_filtering_equals_that_of_mne(seconds: float, tolerance: float) -> None:
    x_CT = noise(3, seconds)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MNE warns of signals shorter than the filter
        theirs_CT = mne.filter.filter_data(x_CT, 128.0, 0.3, 49.0, verbose="ERROR")
    ours_CT = filters.convolve(x_CT, filters.design(128.0, 0.3, 49.0))
    assert np.abs(ours_CT - theirs_CT).max() < tolerance


@given(seconds=st.floats(0.1, 12.0), offset=st.floats(-5000, 5000))
@settings(deadline=None, max_examples=25)
def test_an_offset_vanishes_however_short_the_stretch(seconds: float, offset: float) -> None:
    x_CT = np.full((2, max(2, round(seconds * 128))), offset)
    rest_CT = filters.convolve(x_CT, filters.design(128.0, 0.3, 49.0, high_width_hz=1.0))
    assert np.abs(rest_CT).max() <= 0.01 * abs(offset) + 1e-9


def test_no_stretch_leaks_into_another() -> None:
    quiet_CT, loud_CT = noise(5, 20, seed=1), 1000 * noise(5, 20, seed=2)
    card = make_card(unit="arbitrary")
    alone = prepare(make_recording([quiet_CT]), card, PLAIN)
    beside = prepare(make_recording([quiet_CT, loud_CT]), card, PLAIN)
    assert len(beside.rows) == 4
    assert np.array_equal(alone.x_SCT, beside.x_SCT[:2])


# --- resampling


@pytest.mark.parametrize(("sfreq", "new_sfreq"), [(1000, 200), (256, 128), (250, 200), (128, 200)])
def test_resampling_keeps_a_sine_in_place(sfreq: float, new_sfreq: float) -> None:
    x_CT, wanted_CT = sine(10.0, 30, sfreq), sine(10.0, 30, new_sfreq)
    recording = make_recording([x_CT], sfreq=sfreq)
    made = prepare(recording, make_card(sfreq=sfreq, sfreq_paper=new_sfreq), PLAIN)
    n_times = round(10 * new_sfreq)
    assert made.x_SCT.shape == (3, 5, n_times)
    assert np.abs(made.x_SCT[1, 0] - wanted_CT[0, n_times : 2 * n_times]).max() < 0.01


def test_paper_and_code_may_differ_in_rate() -> None:
    card = make_card(sfreq=256.0, sfreq_code=128.0)
    recording = make_recording([noise(5, 20, 256.0)], sfreq=256.0)
    by_paper = prepare(recording, card, PLAIN)
    by_code = prepare(recording, card, dataclasses.replace(PLAIN, sfreq="code"))
    assert (by_paper.x_SCT.shape[2], by_code.x_SCT.shape[2]) == (2560, 1280)


def test_rates_in_no_simple_ratio_are_refused() -> None:
    with pytest.raises(ValueError, match="simple ratio"):
        filters.resample(noise(1, 2), 128.0, 100.0 * math.sqrt(2))


# --- cutting


@given(
    places=st.lists(
        st.tuples(st.integers(0, 1), st.floats(0, 20), st.floats(0.5, 39.0)), min_size=1, max_size=6
    )
)
@settings(deadline=None, max_examples=25)
def test_segments_stay_inside_their_presentation(places: list[tuple[int, float, float]]) -> None:
    # The channel is a clock; without filter and scale every sample tells where it came from.
    clock_T = np.arange(60 * 128) / 128.0
    stretches = [np.tile(clock_T + 1000 * i, (5, 1)) for i in range(2)]
    inside = [(s, start, start + length) for s, start, length in places]
    recording = make_recording(stretches, places=inside)
    made = prepare(recording, make_card(), PLAIN)
    n_fitting = sum(math.floor((stop - start + 1e-6) / 10) for _, start, stop in inside)
    assert len(made.rows) == len(made.x_SCT) == n_fitting == count_segments(recording, 10.0)
    n_dropped = sum(1 for _, start, stop in inside if stop - start + 1e-6 < 10)
    assert len(made.dropped) == n_dropped
    for row in made.rows:
        _, start_s, stop_s = inside[row.presentation]
        assert row.start_s == 10.0 * row.segment
        assert row.stop_s <= stop_s - start_s + 1e-6


def test_a_segment_holds_the_seconds_its_row_names() -> None:
    x_CT = noise(5, 60)
    recording = make_recording([x_CT], places=[(0, 3.0, 28.0), (0, 30.5, 55.0)])
    made = prepare(recording, make_card(), PLAIN)
    whole_CT = filters.convolve(
        recording.stretches[0].eeg_CT, filters.design(128.0, 0.3, 49.0, high_width_hz=1.0)
    )
    starts_s = [3.0, 13.0, 30.5, 40.5]
    for segment_CT, start_s in zip(made.x_SCT, starts_s, strict=True):
        start = round(start_s * 128)
        assert np.allclose(segment_CT, whole_CT[:, start : start + 1280], atol=1e-4)
    assert made.facts["seconds_in_no_segment"] == 9.5


def test_nothing_but_filter_context_comes_from_outside() -> None:
    x_CT = noise(5, 60)
    far_CT = x_CT.copy()
    far_CT[:, 50 * 128 :] += 900
    here = [(0, 0.0, 30.0)]
    near = prepare(make_recording([x_CT], places=here), make_card(), PLAIN)
    other = prepare(make_recording([far_CT], places=here), make_card(), PLAIN)
    # The filter is 11 s long and looks 5.5 s ahead: 44.5 s onwards could matter, 30 s cannot.
    assert np.abs(near.x_SCT - other.x_SCT).max() < 1e-6


def test_a_short_presentation_is_named() -> None:
    made = prepare(make_recording([noise(5, 9.9), noise(5, 12)]), make_card(), PLAIN)
    (dropped,) = made.dropped
    assert (dropped.what, dropped.where) == ("presentation", "s01.dat presentation 0")
    assert dropped.reason == "shorter than a segment of 10 s"
    assert [row.presentation for row in made.rows] == [1]


def test_nothing_left_is_no_error() -> None:
    made = through(noise(5, 4), EegRecipe())
    assert made.x_SCT.shape == (0, 5, 1280)
    assert made.rows == []
    assert len(made.dropped) == 1


def test_a_place_outside_the_stretch_is_refused() -> None:
    recording = make_recording([noise(5, 20)], places=[(0, 5.0, 25.0)])
    with pytest.raises(DataError, match=r"s01\.dat presentation 0: need a place in \[0, 20\] s"):
        prepare(recording, make_card(), PLAIN)


def test_channels_against_the_card_are_refused() -> None:
    recording = make_recording([noise(5, 20)], channels=FIVE[::-1])
    with pytest.raises(DataError, match=r"s01\.dat: need channels Fz C3 .* got Oz Pz"):
        prepare(recording, make_card(), PLAIN)
    with pytest.raises(DataError, match=r"stretch 0: need \(5, samples\), got \(4, 2560\)"):
        prepare(make_recording([noise(4, 20)]), make_card(), PLAIN)


def test_a_segment_of_no_whole_samples_is_refused() -> None:
    with pytest.raises(ValueError, match="whole number of samples"):
        through(noise(5, 20), dataclasses.replace(PLAIN, segment_s=1.001))


# --- reference, amplitude, number format


def test_the_average_reference_sums_to_zero() -> None:
    made = through(noise(5, 20), dataclasses.replace(PLAIN, reference="average"))
    assert np.abs(made.x_SCT.sum(axis=1)).max() < 1e-4


@given(gain=st.floats(1e-3, 1e4))
@settings(deadline=None, max_examples=10)
def test_units_leave_no_trace_and_electrodes_keep_their_differences(gain: float) -> None:
    x_CT = noise(5, 20) * np.array([[1], [2], [3], [4], [5]])
    recipe = EegRecipe(ica="none", reference="none")
    one, other = (through(x, recipe, unit="arbitrary") for x in (x_CT, gain * x_CT))
    assert np.allclose(one.x_SCT, other.x_SCT, rtol=1e-3, atol=1e-4)
    spread_C = one.x_SCT.std(axis=(0, 2))
    assert np.allclose(spread_C / spread_C[0], [1, 2, 3, 4, 5], rtol=0.1)
    assert 1.4826 * np.median(np.abs(one.x_SCT)) == pytest.approx(1, rel=0.01)


def test_half_precision_halves_the_bytes() -> None:
    full, half = (
        through(noise(5, 20)),
        through(noise(5, 20), dataclasses.replace(PLAIN, dtype="float16")),
    )
    assert half.x_SCT.dtype == np.float16
    assert np.allclose(full.x_SCT, half.x_SCT, atol=0.05)


def test_values_beyond_half_precision_are_refused() -> None:
    with pytest.raises(DataError, match=r"s01\.dat: need values that fit float16"):
        through(1e5 * noise(5, 20), dataclasses.replace(PLAIN, dtype="float16"), unit="arbitrary")


def two_presentations(second: float, recipe: EegRecipe) -> Prepared:
    """Two stretches; the second is so many times as large."""
    x = [noise(5, 30, seed=i) for i in range(2)]
    return prepare(make_recording([x[0], second * x[1]]), make_card(), recipe)


@pytest.mark.parametrize("change", [1.7, 20.0, 0.05])
def test_a_scale_by_presentation_knows_no_other_presentation(change: float) -> None:
    by_presentation = EegRecipe(ica="none", scale_scope="presentation")
    for recipe, same in ((by_presentation, True), (EegRecipe(ica="none"), False)):
        one, other = (two_presentations(factor, recipe) for factor in (1.0, change))
        assert len(one.rows) == len(other.rows) == 6
        assert np.array_equal(one.x_SCT[:3], other.x_SCT[:3]) is same


def test_a_scale_by_presentation_makes_presentations_alike() -> None:
    made = two_presentations(20.0, EegRecipe(ica="none", scale_scope="presentation"))
    for x_SCT in (made.x_SCT[:3], made.x_SCT[3:]):
        assert 1.4826 * np.median(np.abs(x_SCT)) == pytest.approx(1, rel=0.01)
    scales = made.facts["scale_by_presentation"]
    assert isinstance(scales, dict)
    assert scales["1"] == pytest.approx(20 * scales["0"], rel=0.05)
    json.dumps(made.facts)


# --- bad data


def test_a_dead_channel_is_interpolated_and_named() -> None:
    world = World(3)
    x_CT = world.eeg("deap", 1, "1", GENEVA_32, 128.0, 40.0, (0.0, 0.0)).astype(np.float64)
    dead = GENEVA_32.index("Cz")
    broken_CT = x_CT.copy()
    broken_CT[dead] = 7.0
    card = make_card(GENEVA_32)
    recipe = EegRecipe(ica="none", amplitude="none")
    made = prepare(make_recording([broken_CT], GENEVA_32), card, recipe)
    whole = prepare(make_recording([x_CT], GENEVA_32), card, recipe)
    assert reasons(made) == {("channel", "flat: interpolated"): 1}
    assert made.dropped[0].where == "s01.dat Cz"
    assert made.facts["interpolated"] == ["Cz"]
    guess_T, truth_T = made.x_SCT[:, dead].ravel(), whole.x_SCT[:, dead].ravel()
    assert np.corrcoef(guess_T, truth_T)[0, 1] > 0.9


def test_too_many_dead_channels_refuse_the_recording() -> None:
    x_CT = noise(5, 40)
    x_CT[2] = np.nan
    with pytest.raises(DataError, match=r"s01\.dat: need at most 15% .* 1 of 5: C4 NaN"):
        through(x_CT)


@pytest.mark.parametrize(("fault", "said"), [("nan", "NaN"), ("flat", "flat"), ("rail", "clipped")])
def test_a_spoilt_segment_is_dropped_and_counted(fault: str, said: str) -> None:
    x_CT = noise(5, 60)
    spoilt = {"nan": (slice(2000, 2001), np.nan), "flat": (slice(1400, 2400), 3.0)}
    where, value = spoilt.get(fault, (slice(1500, 1560), np.abs(x_CT).max() + 100))
    x_CT[1, where] = value
    made = through(x_CT)
    assert [row.segment for row in made.rows] == [0, 2, 3, 4, 5]
    assert reasons(made) == {("segment", said): 1}
    assert np.isfinite(made.x_SCT).all()


def test_a_quantised_signal_is_neither_flat_nor_clipped() -> None:
    assert through(np.round(noise(5, 60) / 4)).dropped == ()


@given(places=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 7679)), max_size=3))
@settings(deadline=None, max_examples=20)
def test_nan_never_reaches_a_segment(places: list[tuple[int, int]]) -> None:
    x_CT = noise(5, 60)
    for c, t in places:
        x_CT[c, t] = np.nan
    made = through(x_CT)
    assert np.isfinite(made.x_SCT).all()
    spoilt = {t // 1280 for _, t in places}
    assert [row.segment for row in made.rows] == [s for s in range(6) if s not in spoilt]
    assert sum(d.n for d in made.dropped) == len(spoilt)


# --- ICA


def planted(
    dataset: str, channels: tuple[str, ...], n: int, seconds: float, sfreq: float = 128.0
) -> list[FloatArray]:
    world = World(0)
    return [world.eeg(dataset, 2, str(k), channels, sfreq, seconds, (0.0, 0.0)) for k in range(n)]


@pytest.mark.parametrize("channels", [EPOC_14, GENEVA_32, SEED_62], ids=len)
def test_blinks_go_and_the_back_of_the_head_stays(channels: tuple[str, ...]) -> None:
    stretches = planted("example", channels, 8, 20.0)
    card, recording = make_card(channels), make_recording(stretches, channels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = prepare(recording, card, EegRecipe(amplitude="none"))
    raw = prepare(recording, card, EegRecipe(amplitude="none", ica="none"))
    facts = made.facts["ica"]
    assert isinstance(facts, dict)
    assert len(facts["ocular"]) == 1
    before_CT, after_CT = (np.concatenate(list(p.x_SCT), axis=1) for p in (raw, made))
    front = channels.index("Fp1" if "Fp1" in channels else "AF3")
    assert np.abs(after_CT[front]).max() < 0.6 * np.abs(before_CT[front]).max()
    assert np.abs(made.x_SCT.sum(axis=1)).max() < 1e-2


def test_the_same_input_gives_the_same_output() -> None:
    recording = make_recording(planted("example", GENEVA_32, 4, 12.0), GENEVA_32)
    one, two = (prepare(recording, make_card(GENEVA_32), EegRecipe()) for _ in range(2))
    assert np.array_equal(one.x_SCT, two.x_SCT)
    assert one.facts == two.facts
    assert one.rows == two.rows
    json.dumps(one.facts)


def test_the_recording_is_not_changed() -> None:
    ecg = [noise(2, 20, 256.0, seed=i).astype(np.float32) for i in range(2)]
    x = [noise(14, 20, seed=i) for i in range(2)]
    x[0][3, 700] = np.nan
    recording = make_recording(x, EPOC_14, ecg=ecg, ecg_sfreq=256.0)
    for stretch in recording.stretches:
        for x_CT in (stretch.eeg_CT, stretch.ecg_LT):
            assert x_CT is not None
            x_CT.flags.writeable = False
    before = [(np.copy(s.eeg_CT), np.copy(s.ecg_LT)) for s in recording.stretches]  # type: ignore[arg-type]
    card = make_card(EPOC_14, ecg=LEADS)
    prepare(recording, card, EegRecipe())
    ecg_prepare.prepare(recording, card, EcgRecipe())
    for stretch, (eeg_CT, ecg_LT) in zip(recording.stretches, before, strict=True):
        assert np.array_equal(stretch.eeg_CT, eeg_CT, equal_nan=True)
        assert np.array_equal(stretch.ecg_LT, ecg_LT)


@pytest.mark.parametrize(
    ("channels", "seconds", "said"),
    [
        (GENEVA_32, 20.0, "shorter than 30 s"),
        (SEED_62, 40.0, "5120 samples fit only 16 components"),
    ],
    ids=["short", "wide"],
)
def test_too_little_for_ica_is_said(channels: tuple[str, ...], seconds: float, said: str) -> None:
    recording = make_recording([noise(len(channels), seconds)], channels)
    made = prepare(recording, make_card(channels), EegRecipe())
    assert reasons(made) == {("ica", said): 1}
    assert made.facts["ica"] == {"skipped": said}
    assert len(made.rows) == seconds // 10


def test_a_fit_that_stops_early_is_said() -> None:
    recording = make_recording([noise(14, 60)], EPOC_14)
    made = prepare(recording, make_card(EPOC_14), EegRecipe(ica_max_iter=2))
    facts = made.facts["ica"]
    assert isinstance(facts, dict)
    assert facts["converged"] is False


def test_ica_works_beside_a_dead_channel_and_average_referenced_data() -> None:
    stretches = planted("example", GENEVA_32, 6, 15.0)
    stretches = [x - x.mean(axis=0) for x in stretches]
    for x in stretches:
        x[GENEVA_32.index("O1")] = 0.0
    made = prepare(make_recording(stretches, GENEVA_32), make_card(GENEVA_32), EegRecipe())
    assert made.facts["interpolated"] == ["O1"]
    assert np.isfinite(made.x_SCT).all()


def test_planted_muscle_goes_from_the_temples() -> None:
    stretches = planted("example", GENEVA_32, 16, 20.0)
    recording, card = make_recording(stretches, GENEVA_32), make_card(GENEVA_32)
    raw = prepare(recording, card, EegRecipe(amplitude="none", ica_max_muscle=0.0))
    made = prepare(recording, card, EegRecipe(amplitude="none"))
    facts = made.facts["ica"]
    assert isinstance(facts, dict)
    assert 1 <= len(facts["muscle"]) <= 3
    temples = [GENEVA_32.index("T7"), GENEVA_32.index("T8")]
    bursts = [np.abs(np.diff(p.x_SCT[:, temples])).max() for p in (raw, made)]
    assert bursts[1] < 0.8 * bursts[0]


def test_muscle_is_not_sought_with_few_electrodes_and_that_is_said() -> None:
    recording = make_recording(planted("example", EPOC_14, 4, 20.0), EPOC_14)
    facts = prepare(recording, make_card(EPOC_14), EegRecipe()).facts["ica"]
    assert isinstance(facts, dict)
    assert (facts["muscle_sought"], facts["muscle"]) == (False, {})


def test_every_electrode_of_the_vocabulary_has_a_place_of_its_own() -> None:
    info = montage.raw(np.zeros((len(VOCABULARY), 1)), VOCABULARY, 100.0).info
    places = {tuple(np.round(ch["loc"][:3], 6)) for ch in info["chs"]}
    assert len(places) == len(VOCABULARY)
    assert np.isfinite(list(places)).all()


# --- labels


def test_ratings_are_placed_by_the_card_s_scale() -> None:
    (row, *_) = through(noise(5, 20)).rows
    assert (row.valence, row.arousal, row.label, row.emotion) == (-2.0, 2.0, -1, "")
    assert row.ratings == {"valence": 3.0, "arousal": 7.0}


def test_an_emotion_is_placed_by_the_recipe_s_table() -> None:
    recording = make_recording([noise(5, 20)], ratings={}, emotion="fear", label=2)
    card = make_card(scale=None, emotions=("neutral", "sadness", "fear", "joy"))
    row = prepare(recording, card, PLAIN).rows[0]
    assert (row.valence, row.arousal, row.label, row.emotion) == (-1.84, 1.23, 2, "fear")
    coded = prepare(recording, card, dataclasses.replace(PLAIN, emotions="emod_code")).rows[0]
    assert (coded.valence, coded.arousal) == (-1.0, 2.0)


def test_neither_rating_nor_emotion_gives_nan() -> None:
    recording = make_recording([noise(5, 20)], ratings={}, label=1)
    row = prepare(recording, make_card(scale=None), PLAIN).rows[0]
    assert math.isnan(row.valence)
    assert math.isnan(row.arousal)
    assert row.label == 1


def test_a_rating_outside_its_scale_names_file_and_presentation() -> None:
    recording = make_recording([noise(5, 20)], ratings={"valence": 0.0, "arousal": 5.0})
    with pytest.raises(DataError, match=r"valence in \[1, 9\], got 0 in s01\.dat presentation 0"):
        prepare(recording, make_card(), PLAIN)
