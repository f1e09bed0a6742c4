"""Rehearsal data look like EEG and ECG, and hold the relation to emotion that they promise."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import butter, find_peaks, sosfiltfilt, welch

from emoray.rehearsal import release
from emoray.rehearsal.release import MARKER, is_rehearsal, write_release
from emoray.rehearsal.world import World, position
from emoray.vocabulary import affect, electrodes
from emoray.vocabulary.schema import DataError

CAPS = {
    "epoc": (electrodes.EPOC_14, 128.0),
    "seed": (electrodes.SEED_62, 200.0),
    "geneva": (electrodes.GENEVA_32, 256.0),
}


def density(x_CT, sfreq):
    frequency_F, density_CF = welch(x_CT, sfreq, nperseg=int(2 * sfreq), axis=-1)
    return frequency_F, density_CF


def log_power(x_CT, sfreq, low_hz, high_hz):
    """Log power in a band after the average reference, per electrode."""
    frequency_F, density_CF = density(x_CT - x_CT.mean(0), sfreq)
    inside_F = (frequency_F >= low_hz) & (frequency_F <= high_hz)
    return np.log(density_CF[:, inside_F].mean(1))


def one(world=None, dataset="deap", subject=1, stimulus="5", cap="geneva", seconds=40.0, va=(0, 0)):
    channels, sfreq = CAPS[cap]
    return (world or World(0)).eeg(dataset, subject, stimulus, channels, sfreq, seconds, va)


def digest(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


# --- what it looks like


@pytest.mark.parametrize("cap", CAPS)
@pytest.mark.parametrize("subject", [1, 2])
def test_the_background_falls_as_one_over_f(cap, subject):
    x_CT = one(cap=cap, subject=subject, seconds=120.0)
    frequency_F, density_CF = density(x_CT, CAPS[cap][1])
    # Away from the rhythms and the mains; over the back, away from blinks.
    pick_F = ((frequency_F >= 1.5) & (frequency_F <= 3.5)) | (
        (frequency_F >= 38) & (frequency_F <= 46)
    )
    back = [i for i, c in enumerate(CAPS[cap][0]) if position(c)[1] < -0.4]
    slope, _ = np.polyfit(
        np.log(frequency_F[pick_F]), np.log(density_CF[back][:, pick_F].mean(0)), 1
    )
    assert -1.6 < slope < -0.7


@pytest.mark.parametrize("cap", CAPS)
def test_mains_stand_out_at_50_hz(cap):
    frequency_F, density_CF = density(one(cap=cap), CAPS[cap][1])
    line_C = density_CF[:, np.argmin(np.abs(frequency_F - 50))]
    beside_C = density_CF[:, np.argmin(np.abs(frequency_F - 54))]
    assert np.median(line_C / beside_C) > 5


def test_blinks_are_larger_at_the_front_than_at_the_back():
    x_CT = one(cap="geneva", seconds=60.0)
    row = dict(zip(electrodes.GENEVA_32, x_CT, strict=True))
    sfreq = CAPS["geneva"][1]
    peaks, _ = find_peaks(row["Fp1"] + row["Fp2"], height=140, distance=sfreq / 2)
    assert 5 <= len(peaks) <= 30
    size = {c: np.mean([row[c][p] for p in peaks]) for c in ("Fp1", "AF3", "F7", "Oz")}
    assert size["Fp1"] > size["AF3"] > size["F7"] > 3 * abs(size["Oz"])


def test_caps_without_fp_still_see_blinks():
    x_CT = one(cap="epoc", seconds=60.0)
    row = dict(zip(electrodes.EPOC_14, x_CT, strict=True))
    front = row["AF3"] + row["AF4"]
    back = row["O1"] + row["O2"]
    assert np.percentile(front, 99.5) > 2 * np.percentile(back, 99.5)


@pytest.mark.parametrize("cap", CAPS)
def test_amplitudes_are_those_of_eeg(cap):
    x_CT = one(cap=cap)
    assert np.isfinite(x_CT).all()
    assert 5 < np.median(x_CT.std(1)) < 40
    assert np.abs(x_CT).max() < 600


@pytest.mark.parametrize("sfreq", [128.0, 200.0, 300.0, 512.0, 1000.0])
def test_power_in_a_band_does_not_depend_on_the_rate(sfreq):
    channels = electrodes.EPOC_14
    reference = World(0).eeg("deap", 1, "1", channels, 256.0, 60.0, (0.0, 0.0))
    other = World(0).eeg("deap", 1, "1", channels, sfreq, 60.0, (0.0, 0.0))
    assert other.shape == (14, round(60 * sfreq))
    for band in ((2, 4), (20, 30)):
        difference_C = log_power(other, sfreq, *band) - log_power(reference, 256.0, *band)
        assert abs(difference_C.mean()) < 0.5


def test_neighbouring_electrodes_see_the_same_sources():
    x_CT = one(cap="seed")
    row = dict(zip(electrodes.SEED_62, x_CT, strict=True))
    near = np.corrcoef(row["P3"], row["P5"])[0, 1]
    far = np.corrcoef(row["P3"], row["F8"])[0, 1]
    assert near > 0.7
    assert near > far + 0.2


def test_every_electrode_of_the_vocabulary_has_a_place_on_the_head():
    places = [position(c) for c in electrodes.VOCABULARY]
    assert len(set(places)) == len(places)
    assert all(x**2 + y**2 < 1.35 for x, y in places)
    assert position("F4")[0] == -position("F3")[0] > 0
    assert position("Fp1")[1] > position("F3")[1] > position("C3")[1] > position("O1")[1]


def test_an_unknown_electrode_is_named():
    with pytest.raises(DataError, match=r"rehearsal of seed_v.*'VEO'"):
        World(0).eeg("seed_v", 1, "1", ("Fp1", "VEO"), 200.0, 1.0, (0.0, 0.0))


# --- what is planted


def within_subject(feature, n=36, seconds=20.0, dataset="deap", cap="geneva", subject=3):
    """Correlations of a feature of each presentation with valence and with arousal."""
    world, (channels, sfreq) = World(0), CAPS[cap]
    va_N2 = np.array([world.rating(dataset, subject, str(k)) for k in range(n)])
    values_N = [
        feature(
            world.eeg(dataset, subject, str(k), channels, sfreq, seconds, (v, a)), sfreq, channels
        )
        for k, (v, a) in enumerate(va_N2)
    ]
    return [np.corrcoef(values_N, va_N2[:, axis])[0, 1] for axis in (0, 1)]


def asymmetry(band, right, left):
    """Log power over some electrodes of the right half, less that over their mirrors."""

    def of(x_CT, sfreq, channels):
        power_C = log_power(x_CT, sfreq, *band)
        return np.mean(
            [
                power_C[channels.index(r)] - power_C[channels.index(c)]
                for r, c in zip(right, left, strict=True)
            ]
        )

    return of


ALPHA, BETA = (8, 13), (16, 36)
frontal_alpha = asymmetry(ALPHA, ["F4"], ["F3"])
alpha_over_the_back = asymmetry(ALPHA, ["O2", "P8"], ["O1", "P7"])
beta_at_the_temples = asymmetry(BETA, ["T8", "FC6"], ["T7", "FC5"])


@pytest.mark.parametrize("cap", CAPS)
@pytest.mark.parametrize("subject", [3, 4])
def test_valence_moves_frontal_alpha_to_the_right(cap, subject):
    valence, arousal = within_subject(frontal_alpha, cap=cap, subject=subject)
    assert valence > 0.5
    assert abs(arousal) < valence - 0.2


@pytest.mark.parametrize("cap", CAPS)
@pytest.mark.parametrize("subject", [3, 4])
def test_arousal_moves_alpha_over_the_back_to_the_left(cap, subject):
    valence, arousal = within_subject(alpha_over_the_back, cap=cap, subject=subject)
    assert arousal < -0.5
    assert abs(valence) < -arousal - 0.2


@pytest.mark.parametrize("cap", CAPS)
@pytest.mark.parametrize("subject", [3, 4])
def test_arousal_moves_beta_at_the_temples_to_the_right(cap, subject):
    valence, arousal = within_subject(beta_at_the_temples, cap=cap, subject=subject)
    assert arousal > 0.5
    assert abs(valence) < arousal - 0.2


def test_people_differ_about_as_much_as_emotion_moves_them():
    world, (channels, sfreq) = World(0), CAPS["epoc"]

    def alpha(subject, va):
        x_CT = world.eeg("amigos", subject, "1", channels, sfreq, 30.0, va)
        return alpha_over_the_back(x_CT, sfreq, channels)

    people = np.std([alpha(s, (0.0, 0.0)) for s in range(12)])
    emotion = np.std([alpha(1, (0.0, a)) for a in np.linspace(-4, 4, 9)])
    assert people > 0.4 * emotion


# --- heart


def beats_s(lead_T, sfreq):
    peaks, _ = find_peaks(lead_T, height=0.55 * np.percentile(lead_T, 99.7), distance=0.35 * sfreq)
    return peaks / sfreq


def heart(va, subject=2, stimulus="1", seconds=60.0, world=None):
    return (world or World(0)).ecg("dreamer", subject, stimulus, 2, 256.0, seconds, va)


@pytest.mark.parametrize("subject", range(1, 7))
def test_beats_can_be_counted_and_come_at_a_human_pace(subject):
    gaps_s = np.diff(beats_s(heart((0.0, 0.0), subject)[1], 256.0))
    assert 0.55 < gaps_s.mean() < 1.15
    assert gaps_s.min() > 0.5 * gaps_s.mean()
    assert gaps_s.max() < 1.6 * gaps_s.mean()


def test_the_heart_beats_faster_with_arousal():
    arousal = np.linspace(-4, 4, 12)
    rate = [
        60 / np.diff(beats_s(heart((0.0, a), stimulus=str(k))[1], 256.0)).mean()
        for k, a in enumerate(arousal)
    ]
    assert np.corrcoef(rate, arousal)[0, 1] > 0.8
    assert rate[-1] - rate[0] > 10


def test_heart_rate_variability_follows_valence():
    valence = np.linspace(-4, 4, 16)
    log_rmssd = [
        np.log(
            np.sqrt(np.mean(np.diff(beats_s(heart((v, 0.0), stimulus=str(k))[1], 256.0), 2) ** 2))
        )
        for k, v in enumerate(valence)
    ]
    assert np.corrcoef(log_rmssd, valence)[0, 1] > 0.6


def test_the_leads_are_views_of_one_heart():
    one_T, two_T = heart((0.0, 0.0))
    assert len(beats_s(one_T, 256.0)) == len(beats_s(two_T, 256.0))
    beats = butter(2, (1, 40), "band", fs=256.0, output="sos")  # each lead wanders by itself
    assert 0.5 < np.corrcoef(*sosfiltfilt(beats, (one_T, two_T)))[0, 1] < 0.999


def test_three_electrodes_differ_by_the_leads():
    chest_LT = World(0).ecg("mahnob_hci", 1, "1", 3, 256.0, 40.0, (0.0, 0.0))
    lead_two_T = chest_LT[2] - chest_LT[0]
    assert 30 < len(beats_s(lead_two_T, 256.0)) < 60
    assert np.percentile(lead_two_T, 99.7) > 0.5


@pytest.mark.parametrize("n_leads", [0, 4])
def test_a_number_of_leads_that_nobody_records_is_refused(n_leads):
    with pytest.raises(ValueError, match=f"need 1 to 3 ECG leads, got {n_leads} for dreamer"):
        World(0).ecg("dreamer", 1, "1", n_leads, 256.0, 10.0, (0.0, 0.0))


# --- ratings


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 3), st.integers(1, 80), st.text(max_size=8))
def test_ratings_lie_in_the_square_and_repeat(seed, subject, stimulus):
    first = World(seed).rating("deap", subject, stimulus)
    assert first == World(seed).rating("deap", subject, stimulus)
    assert all(-affect.LIMIT <= value <= affect.LIMIT for value in first)


@pytest.mark.parametrize("n_stimuli", [16, 18, 20, 40])
def test_few_subjects_fill_all_nine_regions(n_stimuli):
    for seed in range(3):
        world = World(seed)
        va_S2 = np.array(
            [
                world.rating("amigos", s, f"{k}")
                for s in range(1, 5)
                for k in range(1, n_stimuli + 1)
            ]
        )
        counts = np.bincount(affect.regions(va_S2), minlength=9)
        assert counts.min() >= 1


def test_people_agree_on_a_stimulus_but_not_fully():
    world = World(0)
    va_SN2 = np.array([[world.rating("deap", s, str(k)) for k in range(40)] for s in range(1, 5)])
    agreement = np.corrcoef(va_SN2[0, :, 0], va_SN2[1, :, 0])[0, 1]
    assert 0.6 < agreement < 0.99


# --- the same for ever


def test_the_order_of_calls_changes_nothing():
    forward, backward = World(5), World(5)
    first = [digest(one(forward, subject=s, stimulus=k)) for s in (1, 2) for k in "12"]
    second = [digest(one(backward, subject=s, stimulus=k)) for s in (2, 1) for k in "21"]
    assert first == second[::-1]
    assert digest(heart((1.0, 1.0), world=forward)) == digest(heart((1.0, 1.0), world=backward))


def test_another_process_makes_the_same_signals():
    program = (
        "import hashlib; from emoray.rehearsal.world import World; w = World(3);"
        "x = w.eeg('deap', 2, '7', ('F3', 'F4', 'O1'), 128.0, 5.0, (1.0, -2.0));"
        "y = w.ecg('deap', 2, '7', 2, 128.0, 5.0, (1.0, -2.0));"
        "print(hashlib.sha256(x.tobytes() + y.tobytes()).hexdigest())"
    )
    there = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.strip()
    world = World(3)
    x = world.eeg("deap", 2, "7", ("F3", "F4", "O1"), 128.0, 5.0, (1.0, -2.0))
    y = world.ecg("deap", 2, "7", 2, 128.0, 5.0, (1.0, -2.0))
    assert hashlib.sha256(x.tobytes() + y.tobytes()).hexdigest() == there


def test_seed_dataset_subject_and_stimulus_each_change_the_signal():
    signals = {
        digest(one(World(0))),
        digest(one(World(1))),
        digest(one(dataset="dreamer")),
        digest(one(subject=2)),
        digest(one(stimulus="6")),
    }
    assert len(signals) == 5


def test_subjects_of_one_number_in_two_datasets_are_two_people():
    world = World(0)
    here, there = world._person("deap", 1), world._person("dreamer", 1)
    assert here.alpha_hz != there.alpha_hz
    assert here.gain != there.gain


# --- releases


class _Example:
    """A dataset module whose example is one file."""

    def __init__(self):
        self.calls = 0
        self.fails = False

    def write_example(self, root: Path, source, *, n_subjects, duration_s):
        self.calls += 1
        (root / "sub").mkdir()
        (root / "sub" / "data.txt").write_text(f"{source.seed} {n_subjects} {duration_s}")
        if self.fails:
            raise OSError("No space left on device")


@pytest.fixture
def example(monkeypatch):
    example = _Example()
    monkeypatch.setattr(release.registry, "get", lambda name: example)
    monkeypatch.setattr(release, "_code", lambda name: "c0de")
    return example


def test_a_release_is_marked_and_kept(tmp_path, example):
    arguments = {"datasets": ["deap", "seed"], "n_subjects": 2, "seed": 4, "duration_s": 20.0}
    assert write_release(tmp_path / "r", **arguments) == ("deap", "seed")
    assert (tmp_path / "r" / "deap" / "sub" / "data.txt").read_text() == "4 2 20.0"
    assert is_rehearsal(tmp_path / "r")
    assert is_rehearsal(tmp_path / "r" / "deap")
    assert "rehearsal data" in (tmp_path / "r" / "deap" / MARKER).read_text()
    assert write_release(tmp_path / "r", **arguments) == ()
    assert example.calls == 2
    assert {p.name for p in (tmp_path / "r").iterdir()} == {"deap", "seed", MARKER}


def test_other_arguments_or_other_code_write_it_anew(tmp_path, example, monkeypatch):
    write_release(tmp_path, datasets=["deap"], n_subjects=2, seed=4)
    assert write_release(tmp_path, datasets=["deap"], n_subjects=3, seed=4) == ("deap",)
    assert (tmp_path / "deap" / "sub" / "data.txt").read_text() == "4 3 None"
    monkeypatch.setattr(release, "_code", lambda name: "0ther")
    assert write_release(tmp_path, datasets=["deap"], n_subjects=3, seed=4) == ("deap",)


def test_a_failed_write_leaves_nothing_and_an_old_release_as_it_was(tmp_path, example):
    example.fails = True
    with pytest.raises(OSError, match="No space left"):
        write_release(tmp_path, datasets=["deap"], n_subjects=2, seed=0)
    assert list(tmp_path.iterdir()) == []
    example.fails = False
    write_release(tmp_path, datasets=["deap"], n_subjects=2, seed=0)
    example.fails = True
    with pytest.raises(OSError, match="No space left"):
        write_release(tmp_path, datasets=["deap"], n_subjects=5, seed=0)
    assert (tmp_path / "deap" / "sub" / "data.txt").read_text() == "0 2 None"
    assert is_rehearsal(tmp_path / "deap")


def test_real_data_are_never_replaced(tmp_path, example):
    (tmp_path / "deap").mkdir()
    (tmp_path / "deap" / "s01.dat").write_text("somebody's recording")
    with pytest.raises(ValueError, match="may hold real data"):
        write_release(tmp_path, datasets=["deap"], n_subjects=2, seed=0)
    assert (tmp_path / "deap" / "s01.dat").read_text() == "somebody's recording"
    assert not is_rehearsal(tmp_path / "deap")


def test_an_unknown_dataset_is_named(tmp_path):
    with pytest.raises(ValueError, match="got 'nonesuch'"):
        write_release(tmp_path, datasets=["nonesuch"], n_subjects=1, seed=0)


def test_a_folder_that_is_not_there_is_no_rehearsal(tmp_path):
    assert not is_rehearsal(tmp_path / "nowhere")
