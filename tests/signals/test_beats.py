"""R waves and the quality of leads, on hearts that beat when they are told to.

Shapes: S segments, L leads, T samples, B beats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from emoray.signals import EcgRecipe
from emoray.signals.ecg.beats import find
from emoray.signals.ecg.prepare import prepare
from emoray.signals.segments import Prepared
from emoray.vocabulary.schema import FloatArray
from tests.recordings import LEADS, make_card, make_recording

SFREQ = LEADS.sfreq
RECIPE = EcgRecipe(r_peaks="sleepecg")
EVERY_SECOND = np.arange(0.5, 60)
"""Beats of a minute, in the middle of each second."""


def heart(beats_s: Sequence[float] | FloatArray, seconds: float = 60.0) -> FloatArray:
    """R and T waves, (T,)."""
    t_T = np.arange(round(seconds * SFREQ)) / SFREQ
    x_T = np.zeros_like(t_T)
    for beat_s in beats_s:
        x_T += np.exp(-(((t_T - beat_s) / 0.012) ** 2))
        x_T += 0.25 * np.exp(-(((t_T - beat_s - 0.25) / 0.05) ** 2))
    return x_T


def noise_T(scale: float, seed: int = 0, seconds: float = 60.0) -> FloatArray:
    return scale * np.random.default_rng(seed).standard_normal(round(seconds * SFREQ))


def made(*leads_T: FloatArray, recipe: EcgRecipe = RECIPE) -> Prepared:
    """Two leads of a minute; a second one that is not given is the first, upside down."""
    first_T, second_T = leads_T if len(leads_T) == 2 else (leads_T[0], -leads_T[0])
    ecg_LT = np.stack([first_T, second_T]).astype(np.float32)
    eeg_CT = np.zeros((5, round(len(first_T) / SFREQ * 128)))
    recording = make_recording([eeg_CT], ecg=[ecg_LT], ecg_sfreq=SFREQ)
    return prepare(recording, make_card(ecg=LEADS), recipe)


def found_s(prepared: Prepared) -> FloatArray:
    """R peaks in seconds from the start of the recording."""
    return np.array(
        [row.start_s + peak / prepared.sfreq for row in prepared.rows for peak in row.r_peaks or ()]
    )


def qualities(prepared: Prepared, lead: str = "I") -> list[float]:
    return [row.quality[lead] for row in prepared.rows]


# --- where R waves peak


def test_every_planted_beat_is_found_within_a_hundredth_of_a_second() -> None:
    rng = np.random.default_rng(1)
    beats_s = np.cumsum(rng.uniform(0.7, 0.95, 80))
    beats_s = beats_s[beats_s < 59.5]
    found = found_s(made(heart(beats_s) + noise_T(0.02)))
    np.testing.assert_allclose(found, beats_s, atol=0.01)


def test_peaks_lie_at_samples_of_their_segment_at_the_recipe_s_rate() -> None:
    at_128 = made(heart(EVERY_SECOND), recipe=EcgRecipe(r_peaks="sleepecg", sfreq=128.0))
    for row in at_128.rows:
        np.testing.assert_allclose(row.r_peaks or (), 64 + 128 * np.arange(10), atol=1)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_lead_upside_down_gives_the_same_beats(sign: int) -> None:
    (peak_B,) = find([sign * (heart(EVERY_SECOND) + noise_T(0.01))], SFREQ)
    np.testing.assert_allclose(peak_B / SFREQ, EVERY_SECOND, atol=0.004)


def test_the_signals_do_not_depend_on_it() -> None:
    x_T = heart(EVERY_SECOND) + noise_T(0.1)
    sought, not_sought = made(x_T), made(x_T, recipe=EcgRecipe())
    np.testing.assert_array_equal(sought.x_SCT, not_sought.x_SCT)
    assert sought.facts.pop("r_peaks").startswith("sleepecg 0.")  # type: ignore[attr-defined]
    assert sought.facts == not_sought.facts
    assert all(row.r_peaks is None and row.quality == {} for row in not_sought.rows)


def test_beats_are_those_of_the_lead_that_is_best_in_the_segment() -> None:
    # Half of the time one lead is off, the other half the other.
    half = round(30 * SFREQ)
    first_T, second_T = heart(EVERY_SECOND), heart(EVERY_SECOND)
    first_T[:half] = noise_T(0.3, 1)[:half]
    second_T[half:] = noise_T(0.3, 2)[half:]
    prepared = made(first_T, second_T)
    np.testing.assert_allclose(found_s(prepared), EVERY_SECOND, atol=0.02)
    better = [row.quality["I"] > row.quality["II"] for row in prepared.rows]
    assert better == [False] * 3 + [True] * 3


def test_nothing_is_found_where_nothing_beats() -> None:
    silent = [np.zeros(2560), np.zeros(0), heart([0.5], seconds=1.0)]
    assert [peak_B.tolist() for peak_B in find(silent, SFREQ)] == [[], [], []]
    assert find([], SFREQ) == []


def test_a_rate_too_low_for_r_waves_is_refused() -> None:
    slow = EcgRecipe(r_peaks="sleepecg", sfreq=50.0)
    with pytest.raises(ValueError, match=r"s01\.dat: need ECG at more than 60 Hz .* got 50 Hz"):
        made(heart(EVERY_SECOND), recipe=slow)


# --- how good a lead is


def test_a_heart_without_noise_has_a_quality_near_one() -> None:
    assert min(qualities(made(heart(EVERY_SECOND) + noise_T(1e-3)))) > 0.99


def test_quality_falls_with_noise_and_noise_alone_has_almost_none() -> None:
    clean_T = heart(EVERY_SECOND)
    means = [np.mean(qualities(made(clean_T + noise_T(s)))) for s in (0.0, 0.05, 0.2, 0.8)]
    assert means == sorted(means, reverse=True)
    assert means[1] - means[3] > 0.5
    assert max(qualities(made(noise_T(1.0)))) < 0.3


def flat(x_T: FloatArray) -> None:
    """0.3 s without a change, between two beats, in two seconds."""
    x_T[round(13.9 * SFREQ) : round(14.2 * SFREQ)] = x_T[round(13.9 * SFREQ)]


def clipped(x_T: FloatArray) -> None:
    """Two beats cut off at the end of the converter's range, which no other reaches."""
    for second in (13, 14):
        of = slice(round(second * SFREQ), round((second + 1) * SFREQ))
        x_T[of] = np.minimum(1.3 * x_T[of], 1.1)


@pytest.mark.parametrize("fault", [flat, clipped])
def test_two_bad_seconds_cost_a_fifth_of_their_segment_and_others_nothing(
    fault: Callable[[FloatArray], None],
) -> None:
    x_T = heart(EVERY_SECOND) + noise_T(1e-3)
    fault(x_T)
    found = qualities(made(x_T))
    assert found[1] == pytest.approx(0.8, abs=0.02)
    assert min(found[:1] + found[2:]) > 0.99


def test_seconds_without_a_beat_cost_at_least_their_share() -> None:
    # None between 12.5 and 17.5 s. What the detector marks in the noise there is unlike a beat.
    found = qualities(made(heart([s for s in EVERY_SECOND if not 13 <= s <= 17]) + noise_T(1e-3)))
    assert 0.1 < found[1] < 0.55
    assert min(found[:1] + found[2:]) > 0.99


def test_quality_is_the_product_of_its_parts_in_plain_loops() -> None:
    rng = np.random.default_rng(3)
    beats_s = np.cumsum(rng.uniform(0.35, 2.6, 60))
    x_T = heart(beats_s[beats_s < 59.5]) + noise_T(0.1)
    prepared = made(x_T, recipe=EcgRecipe(r_peaks="sleepecg", amplitude="none"))
    clean_T = prepared.x_SCT[:, 0].reshape(-1)
    peaks = find([clean_T], SFREQ)[0].tolist()
    before, after = round(0.2 * SFREQ), round(0.6 * SFREQ) - round(0.2 * SFREQ)
    whole = {p: clean_T[p - before : p + after] for p in peaks if before <= p < 15360 - after}
    median = np.median(np.stack(list(whole.values())), axis=0)
    for s, quality in enumerate(qualities(prepared)):
        here = range(2560 * s, 2560 * (s + 1))
        timely = 0
        for t in here:
            last = max((p for p in peaks if p <= t), default=None)
            following = min((p for p in peaks if p > t), default=None)
            length = ((15360 if following is None else following) - (last or 0)) / SFREQ
            timely += length <= 2 and (last is None or following is None or length >= 0.3)
        r = [max(0, np.corrcoef(whole[p], median)[0, 1]) for p in peaks if p in here and p in whole]
        assert quality == pytest.approx(timely / 2560 * np.mean(r), abs=1e-6)
