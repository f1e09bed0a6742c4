"""One absurd sample spoils itself alone; what a head can do is left as it came.

Shapes: S segments, C electrodes, L ECG leads, T samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

from emoray import datasets
from emoray.corpus.build.index import assemble
from emoray.corpus.build.recording import Build, make_part
from emoray.rehearsal.world import World
from emoray.runtime.storage import Storage
from emoray.signals import EcgRecipe, EegRecipe, excursions
from emoray.signals.ecg import prepare as ecg_prepare
from emoray.signals.eeg.prepare import prepare
from emoray.signals.segments import Prepared
from emoray.vocabulary.electrodes import EPOC_14
from emoray.vocabulary.schema import Card, DataError, EcgCard, FloatArray, Recording
from tests.recordings import make_card, make_recording, noise, reasons

NO_ICA = EegRecipe(ica="none")
ECG_CARD = EcgCard(("I", "II"), 256.0, "arbitrary")
INTERPOLATED = ("excursion", "absurd amplitude: interpolated")
TOO_LONG = ("excursion", "absurd amplitude: too long to interpolate")
HURT = 5
"""A channel."""
AT = 1500
"""A sample, of the second segment of a stretch."""


def amigos_example(folder: Path, seed: int = 1) -> Path:
    """One subject's file of 16 presentations, and where it lies."""
    amigos = datasets.get("amigos")
    amigos.write_example(folder, World(seed), n_subjects=2, duration_s=15.0)
    path: Path = folder / amigos.find(folder).recordings[-1].files[0]
    return path


def through_amigos(path: Path) -> Prepared:
    amigos = datasets.get("amigos")
    root = path.parents[1]
    ref = amigos.find(root).recordings[-1]
    return prepare(amigos.read(root, ref), amigos.CARD, EegRecipe())


def spoil(path: Path, samples: Mapping[tuple[int, int, int], float]) -> None:
    """Other values in a subject's file, by video, sample and column."""
    held = scipy.io.loadmat(path)
    for (video, sample, column), value in samples.items():
        held["joined_data"][0, video][sample, column] = value
    scipy.io.savemat(path, {k: v for k, v in held.items() if not k.startswith("__")})


def agreement(one: Prepared, other: Prepared) -> dict[tuple[int, int], float]:
    """Correlation of the segments that both hold, by presentation and segment."""
    there = {(row.presentation, row.segment): x for row, x in zip(one.rows, one.x_SCT, strict=True)}
    return {
        (row.presentation, row.segment): float(
            np.corrcoef(there[row.presentation, row.segment].ravel(), x_CT.ravel())[0, 1]
        )
        for row, x_CT in zip(other.rows, other.x_SCT, strict=True)
    }


def test_one_absurd_sample_of_a_publisher_s_file_spoils_nothing_else(tmp_path: Path) -> None:
    path = amigos_example(tmp_path)
    sound = through_amigos(path)
    spoil(path, {(3, AT, HURT): 1e6})
    made = through_amigos(path)
    found, before = made.facts["ica"], sound.facts["ica"]
    assert isinstance(found, dict)
    assert isinstance(before, dict)
    assert found["n_components"] == before["n_components"] >= 10
    assert len(made.rows) == len(sound.rows)
    assert min(agreement(sound, made).values()) > 0.999
    assert reasons(made)[INTERPOLATED] == 1
    assert f"{path.name} {EPOC_14[HURT]}" in made.dropped[0].where
    assert made.facts["excursions"] == {
        "P7": {"n": 1, "longest_s": 1 / 128, "largest": pytest.approx(1e6, 1e-4), "limit": 1000.0}
    }


# --- kinds of damage

Damage = Callable[[FloatArray], None]


def put(where: Any, value: float) -> Damage:
    def damage(x_CT: FloatArray) -> None:
        x_CT[where] = value

    return damage


def several(x_CT: FloatArray) -> None:
    random = np.random.default_rng(0)
    for t in random.choice(x_CT.shape[1], 20, replace=False):
        x_CT[random.integers(len(x_CT)), t] = 1e6 * random.choice([-1, 1])


def opposite(x_CT: FloatArray) -> None:
    """On both sides of the border between two segments."""
    x_CT[HURT, 1279], x_CT[HURT, 1280] = 1e6, -1e6


SHORT: Mapping[str, tuple[Damage, int]] = {
    "one": (put((HURT, AT), 1e6), 1),
    "small": (put((HURT, AT), 1500.0), 1),
    "largest float": (put((HURT, AT), 3.3e38), 1),
    "first sample": (put((HURT, 0), 1e6), 1),
    "last sample": (put((HURT, -1), -1e6), 1),
    "several": (several, 20),
    "all channels": (put((slice(None), AT), 1e6), 14),
    "six samples": (put((HURT, slice(AT, AT + 6)), 1e6), 1),
    "across a border": (opposite, 1),
}


def planted(offset: float = 0.0) -> tuple[list[FloatArray], Card]:
    world = World(0)
    made = [world.eeg("example", 2, str(k), EPOC_14, 128.0, 25.3, (0.0, 0.0)) for k in range(3)]
    return [x.astype(np.float32) + np.float32(offset) for x in made], make_card(EPOC_14)


def in_unit(card: Card, unit: str) -> Card:
    assert card.eeg is not None
    return replace(card, eeg=replace(card.eeg, unit="uV" if unit == "uV" else "arbitrary"))


def hurt(damage: Damage, *, offset: float = 0.0, unit: str = "uV") -> tuple[Prepared, Prepared]:
    """Sound and damaged in the middle of three stretches."""
    stretches, card = planted(offset)
    card = in_unit(card, unit)
    sound = prepare(make_recording(stretches, EPOC_14), card, NO_ICA)
    damage(stretches[1])
    return sound, prepare(make_recording(stretches, EPOC_14), card, NO_ICA)


@pytest.mark.parametrize("name", SHORT)
@pytest.mark.parametrize("unit", ["uV", "counts"])
def test_a_short_excursion_is_interpolated_and_counted(name: str, unit: str) -> None:
    damage, n = SHORT[name]
    sound, made = hurt(damage, offset=0.0 if unit == "uV" else 4000.0, unit=unit)
    assert reasons(made) == {INTERPOLATED: n}
    assert len(made.rows) == len(sound.rows) == 6
    agreed = agreement(sound, made)
    assert min(agreed.values()) > 0.999
    assert min(r for (presentation, _), r in agreed.items() if presentation != 1) > 0.99999


def step(x_CT: FloatArray) -> None:
    x_CT[HURT, AT:] += 1e5


def burst(x_CT: FloatArray) -> None:
    x_CT[HURT, AT : AT + 500] *= 1e4


LONG: Mapping[str, Damage] = {
    "rail": put((HURT, slice(AT, AT + 300)), 32767.0),
    "rail of half a second": put((HURT, slice(AT, AT + 64)), -32768.0),
    "step": step,
    "burst": burst,
}


@pytest.mark.parametrize("name", LONG)
def test_a_long_excursion_drops_the_segments_that_it_touches(name: str) -> None:
    sound, made = hurt(LONG[name])
    assert [(r.presentation, r.segment) for r in made.rows] == [
        (0, 0), (0, 1), (1, 0), (2, 0), (2, 1)
    ]  # fmt: skip
    said = reasons(made)
    assert said.pop(TOO_LONG) >= 1
    assert said == {("segment", "absurd amplitude"): 1}
    assert min(agreement(sound, made).values()) > 0.99


def test_the_segment_beside_a_long_excursion_is_kept() -> None:
    # It ends a tenth of a second before the border, and fills most of that second.
    sound, made = hurt(put((HURT, slice(1280 - 125, 1280 - 13)), 1e5))
    assert [(r.presentation, r.segment) for r in made.rows] == [
        (0, 0), (0, 1), (1, 1), (2, 0), (2, 1)
    ]  # fmt: skip
    assert min(agreement(sound, made).values()) > 0.999


def test_a_rail_of_whole_segments_spoils_no_neighbour() -> None:
    stretches = [np.hstack(planted()[0])]
    card = make_card(EPOC_14)
    sound = prepare(make_recording(stretches, EPOC_14), card, NO_ICA)
    stretches[0][HURT, 3000:6000] = 1e5
    made = prepare(make_recording(stretches, EPOC_14), card, NO_ICA)
    assert [row.segment for row in made.rows] == [0, 1, 5, 6]
    assert reasons(made)["segment", "absurd amplitude"] == 2
    assert reasons(made)["segment", "flat"] == 1
    assert min(agreement(sound, made).values()) > 0.99


def test_missing_samples_beside_absurd_ones_stay_missing() -> None:
    def damage(x_CT: FloatArray) -> None:
        x_CT[HURT, AT - 3 : AT + 4] = [1e6, np.nan, np.nan, -1e6, np.inf, 1e30, np.nan]

    sound, made = hurt(damage)
    assert reasons(made) == {INTERPOLATED: 1, ("segment", "NaN"): 1}
    assert len(made.rows) == 5
    assert min(agreement(sound, made).values()) > 0.999


def test_a_channel_that_is_absurd_from_end_to_end_is_made_from_the_others() -> None:
    for unit in ("uV", "arbitrary"):
        stretches, card = planted()
        for k, x_CT in enumerate(stretches):
            x_CT[HURT] = 1e6 * noise(1, 25.3, seed=k)[0]
        made = prepare(make_recording(stretches, EPOC_14), in_unit(card, unit), NO_ICA)
        assert len(made.rows) == 6
        assert reasons(made) == {("channel", "absurd amplitude: interpolated"): 1}
        assert made.facts["interpolated"] == [EPOC_14[HURT]]
        assert np.abs(made.x_SCT[:, HURT]).max() < 2 * np.abs(made.x_SCT).max()


def test_a_recording_in_another_unit_is_refused_with_the_limit() -> None:
    stretches, card = planted()
    recording = make_recording([1e6 * x for x in stretches], EPOC_14)
    with pytest.raises(DataError, match=r"14 of 14: AF3 absurd .* 10000 uV off .*max_excursion 0"):
        prepare(recording, card, NO_ICA)


def test_an_excursion_does_not_hide_a_clipped_segment() -> None:
    x_CT = noise(5, 60)
    x_CT[1, 1500:1560] = np.abs(x_CT).max() + 100
    x_CT[1, 5000] = 1e6
    made = prepare(make_recording([x_CT]), make_card(), NO_ICA)
    assert reasons(made) == {INTERPOLATED: 1, ("segment", "clipped"): 1}


def test_the_longest_gap_and_the_bound_are_settings() -> None:
    stretches, card = planted()
    stretches[1][HURT, AT : AT + 12] = 1e6
    recording = make_recording(stretches, EPOC_14)
    assert reasons(prepare(recording, card, replace(NO_ICA, max_gap_s=0.1))) == {INTERPOLATED: 1}
    unbounded = replace(NO_ICA, exceptions={"example": {"max_excursion": 0.0}})
    assert reasons(prepare(recording, card, unbounded)) == {}
    assert TOO_LONG in reasons(prepare(recording, card, NO_ICA))


# --- ECG


def with_ecg(damage: Damage) -> tuple[Prepared, Prepared]:
    world = World(0)
    ecgs = [world.ecg("example", 2, str(k), 2, 256.0, 25.0, (0.0, 0.0)) for k in range(2)]
    ecgs = [x.astype(np.float32) for x in ecgs]
    eegs = [noise(5, 25.0, seed=k) for k in range(2)]

    def run() -> Prepared:
        recording = make_recording(eegs, ecg=[x.copy() for x in ecgs], ecg_sfreq=256.0)
        return ecg_prepare.prepare(recording, make_card(ecg=ECG_CARD), EcgRecipe())

    sound = run()
    damage(ecgs[1])
    return sound, run()


@pytest.mark.parametrize("at", [0, 4000, -1])
def test_a_spike_in_the_ecg_spoils_neither_its_segment_nor_the_next(at: int) -> None:
    sound, made = with_ecg(put((0, at), 1e6))
    assert np.corrcoef(sound.x_SCT.ravel(), made.x_SCT.ravel())[0, 1] > 0.999
    assert reasons(made) == {INTERPOLATED: 1}
    assert "excursions" in made.facts


def test_a_long_excursion_of_the_ecg_costs_its_segment_alone() -> None:
    sound, made = with_ecg(put((1, slice(4000, 4300)), 1e6))
    assert len(made.rows) == 3
    assert min(agreement(sound, made).values()) > 0.999
    assert reasons(made)["segment", "absurd amplitude"] == 1


# --- what is ordinary


@pytest.mark.parametrize("name", datasets.names())
def test_nothing_in_a_dataset_s_example_is_absurd(name: str, tmp_path: Path) -> None:
    module = datasets.get(name)
    module.write_example(tmp_path, World(1), n_subjects=1, duration_s=5.0)
    recording = module.read(tmp_path, module.find(tmp_path).recordings[0])
    assert untouched(recording, module.CARD)


def untouched(recording: Recording, card: Card) -> bool:
    """Whether no sample of EEG or ECG is altered, whatever the unit."""
    found = []
    eegs = [s.eeg_CT for s in recording.stretches if s.eeg_CT is not None]
    if recording.eeg_sfreq is not None and card.eeg is not None:
        found += [
            excursions.find(eegs, recording.eeg_sfreq, EegRecipe(), kind="eeg", unit=unit)
            for unit in (card.eeg.unit, "arbitrary")
        ]
    ecgs = [s.ecg_LT for s in recording.stretches if s.ecg_LT is not None]
    if recording.ecg_sfreq is not None:
        unit = "arbitrary" if card.ecg is None else card.ecg.unit
        found.append(excursions.find(ecgs, recording.ecg_sfreq, EcgRecipe(), kind="ecg", unit=unit))
    return not any(one.places for one in found)


@pytest.mark.parametrize(
    "drift",
    [
        lambda t_T: 200 * t_T,
        lambda t_T: 3e4 + 2000 * np.sin(2 * np.pi * t_T / 60),
        lambda t_T: 20_000 * np.exp(-t_T / 20),
        lambda t_T: 400 * (np.abs(t_T - 40) < 0.15),
        lambda t_T: 800 * (t_T > 40),
    ],
    ids=["slope", "wave", "settling", "blink", "pop"],
)
def test_drift_offset_blinks_and_pops_are_left_alone(
    drift: Callable[[FloatArray], FloatArray],
) -> None:
    x_CT = noise(5, 80.0)
    x_CT += drift(np.arange(x_CT.shape[1]) / 128.0)
    assert untouched(make_recording([x_CT]), make_card())


def test_short_empty_and_silent_stretches_hold_nothing_absurd() -> None:
    silent = [np.zeros((2, n), np.float32) for n in (0, 1, 100, 300)]
    missing = [np.full((2, 500), np.nan, np.float32)]
    for stretches in (silent, missing, silent[:1]):
        for unit in ("uV", "arbitrary"):
            found = excursions.find(stretches, 128.0, EegRecipe(), kind="eeg", unit=unit)
            assert not found.places


def test_a_corpus_counts_and_names_what_was_absurd(tmp_path: Path) -> None:
    path = amigos_example(tmp_path / "data")
    spoil(path, {(3, AT, HURT): 1e6, (3, AT, 14): 1e6})
    amigos, root = datasets.get("amigos"), path.parents[1]
    ref = amigos.find(root).recordings[-1]
    recipes: tuple[EegRecipe | EcgRecipe, ...] = (NO_ICA, EcgRecipe())
    for recipe in recipes:
        build = Build("amigos", root, Storage.at(tmp_path / recipe.stream), recipe)
        part = make_part(build, ref, lambda: amigos.read(root, ref))
        manifest = assemble(build.storage, amigos.CARD, recipe, [part], rehearsal=True)
        counted = {(entry["what"], entry["reason"]): entry["n"] for entry in manifest.dropped}
        assert counted[INTERPOLATED] == 1
        assert "excursions" in manifest.facts[ref.key]
