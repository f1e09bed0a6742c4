"""A classifier out of a checkpoint: what it says of segments, how it cuts, what it refuses."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from emoray.corpus.read import open_corpus
from emoray.evaluation.predict import predict
from emoray.methods.base import Inputs, StreamSpec
from emoray.methods.ecg_segments import ECG_10_S
from emoray.methods.ssl_ecg.config import rehearsal_emotion_config, rehearsal_pretext_config
from emoray.methods.ssl_ecg.method import Emotion, Pretext
from emoray.runtime.config import to_dict
from emoray.runtime.storage import Storage
from emoray.signals import EcgRecipe
from emoray.training import checkpoint
from emoray.training.checkpoint import CheckpointError, State
from emoray.training.classifier import Classifier, load_classifier
from emoray.training.data import open_data
from emoray.training.execute import execute
from tests.corpora import SEED, write_corpus
from tests.small_experiments import tiny_run

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")
SFREQ, SEGMENT_S = 256.0, 10.0
ECG = StreamSpec(("ecg1", "ecg2"), SFREQ, 2560)
"""As the recipe cuts DREAMER's."""
CLASSES = ("arousal <= 3", "arousal > 3")
RNG = np.random.default_rng(0)


def emotion() -> Emotion:
    return Emotion(rehearsal_emotion_config(), Inputs({"ecg": ECG}, CLASSES), {})


def write(
    folder: Path, recipe: EcgRecipe | None = ECG_10_S, dataset: str = "dreamer", **facts: Any
) -> Path:
    """A checkpoint of a network that nobody has trained."""
    stage = emotion()
    said: dict[str, Any] = {
        "method": "ssl_ecg",
        "stage": "emotion",
        "config": to_dict(rehearsal_emotion_config()),
        "inputs": to_dict(stage.inputs),
        "builds": {f"{dataset}-ecg-0123456789ab": "0"},
        **({} if recipe is None else {"recipes": {dataset: {"ecg": asdict(recipe)}}}),
        **facts,
    }
    checkpoint.save(folder, State(0, stage.build().state_dict(), {}), said)
    return folder


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    return load_classifier(write(tmp_path_factory.mktemp("classifier")))


# Segments -----------------------------------------------------------------------------------------


def test_it_says_what_the_run_said_that_trained_it(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", (SEED,))
    run = tiny_run(corpus, "seed", protocol="subjects_apart_same_stimuli", fold="1_of_3")
    execute(run, folder=Storage.at(tmp_path / "run"), device=CPU, keep=True)
    (step,) = (tmp_path / "run").glob("step-*")
    dataset, found = open_corpus(corpus)["seed"], open_data(run)
    assert found.fold is not None
    rows_N = found.fold.test_N
    loaded = load_classifier(step)
    told = loaded.predict(dataset.gather(rows_N), sfreq=SEED.sfreq, channels=SEED.channels)
    expected = predict(found.stage(), checkpoint.load_trained(step), dataset, rows_N, device=CPU)
    assert (told.class_S == expected.class_N).all()
    assert told.probability_SK == pytest.approx(expected.probability_NK, abs=1e-6)
    assert told.classes == SEED.classes
    assert told.names == [SEED.classes[label] for label in expected.class_N]
    assert len(set(told.names)) > 1
    assert loaded.dataset == "seed"
    assert set(loaded.facts["seen"]) == {"seed"}


def test_many_segments_are_told_as_one_at_a_time(classifier: Classifier) -> None:
    x_SCT = RNG.standard_normal((70, 2, 2560))  # more than one forward
    told = classifier.predict(x_SCT)
    assert told.probability_SK.sum(1) == pytest.approx(np.ones(70))
    for place in (0, 63, 64, 69):
        alone = classifier.predict(x_SCT[place : place + 1])
        assert alone.probability_SK[0] == pytest.approx(told.probability_SK[place], abs=1e-6)


def test_segments_by_stream_are_the_same_segments(classifier: Classifier) -> None:
    x_SCT = RNG.standard_normal((3, 2, 2560))
    bare, named = classifier.predict(x_SCT), classifier.predict({"ecg": x_SCT}, sfreq=SFREQ)
    assert (bare.probability_SK == named.probability_SK).all()


def zeros(*shape: int) -> np.ndarray[Any, Any]:
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize(
    ("asked", "needed"),
    [
        (lambda c: c.predict(zeros(3, 1, 2560)), "ecg: need segments of shape (S, 2, 2560)"),
        (lambda c: c.predict(zeros(3, 2, 1280)), "10 s at 256 Hz, got (3, 2, 1280)"),
        (lambda c: c.predict(zeros(2, 2560)), "got (2, 2560)"),
        (lambda c: c.predict(zeros(0, 2, 2560)), "got (0, 2, 2560)"),
        (lambda c: c.predict(zeros(3, 2, 2560), sfreq=128), "need segments at 256 Hz, got 128 Hz"),
        (
            lambda c: c.predict(zeros(3, 2, 2560), channels=("ecg2", "ecg1")),
            "need channels ecg1 ecg2, got ecg2 ecg1",
        ),
        (lambda c: c.predict({"eeg": zeros(3, 2, 2560)}), "need segments of ecg, got eeg"),
        (
            lambda c: c.predict(np.stack([zeros(2, 2560), np.full((2, 2560), np.nan)])),
            "need finite numbers, got others in segment 1",
        ),
        (lambda c: c.cut(zeros(5000), sfreq=500), "need a recording of shape (2, samples)"),
        (lambda c: c.cut(zeros(1, 5000), sfreq=500), "channels ecg1 ecg2, got (1, 5000)"),
        (lambda c: c.cut(zeros(2, 4999), sfreq=500), "got none: shorter than a segment of 10 s"),
        (lambda c: c.cut(zeros(2, 15000), sfreq=500), "got none: flat (3)"),
    ],
)
def test_what_does_not_fit_is_refused(
    classifier: Classifier, asked: Callable[[Classifier], object], needed: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(needed)):
        asked(classifier)


# Recordings ---------------------------------------------------------------------------------------


def tones(sfreq: float, seconds: float = 30.0) -> np.ndarray[Any, Any]:
    """5 Hz on one lead, 11 Hz on the other; (2, samples)."""
    at = np.arange(round(seconds * sfreq)) / sfreq
    return np.stack([np.sin(2 * np.pi * hz * at) for hz in (5.0, 11.0)])


@pytest.mark.parametrize("sfreq", [256.0, 500.0, 1000.0])
def test_a_recording_is_cut_into_segments_of_variance_one_at_the_classifiers_rate(
    classifier: Classifier, sfreq: float
) -> None:
    """A tone of variance one is the root of 2 times a sine, wherever and at whatever rate."""
    mv_LT = 1.7 * tones(sfreq) + 4.0
    cut = classifier.cut(mv_LT, sfreq=sfreq)
    assert cut.x_SCT.shape == (3, 2, 2560)
    assert cut.start_s_S.tolist() == [0.0, 10.0, 20.0]
    expected_SCT = np.sqrt(2) * tones(256.0).reshape(2, 3, 2560).transpose(1, 0, 2)
    assert cut.x_SCT[1] == pytest.approx(expected_SCT[1], abs=0.05)  # far from both ends
    assert len(classifier.predict(cut.x_SCT, sfreq=256).names) == 3


def test_the_scale_is_that_of_the_whole_recording(classifier: Classifier) -> None:
    louder_LT = np.concatenate([tones(256.0), 3.0 * tones(256.0)], axis=1)
    cut = classifier.cut(louder_LT, sfreq=256.0)
    assert cut.x_SCT.std(axis=(0, 2)) == pytest.approx([1.0, 1.0], abs=1e-4)
    assert cut.x_SCT[4].std() / cut.x_SCT[1].std() == pytest.approx(3.0, rel=0.02)


def test_segments_that_the_recipe_drops_are_told(classifier: Classifier) -> None:
    mv_LT = tones(256.0)
    mv_LT[0, 3000:4000] = np.nan
    cut = classifier.cut(mv_LT, sfreq=256.0)
    assert cut.start_s_S.tolist() == [0.0, 20.0]
    assert [(lost.reason, lost.n) for lost in cut.dropped] == [("NaN", 1)]


def test_millivolts_are_what_a_card_in_microvolts_means(tmp_path: Path) -> None:
    """SWELL's unit is known: 0.2 V are absurd, 2 mV are not."""
    lead = StreamSpec(("heart",), SFREQ, 2560)
    inputs = to_dict(Inputs({"ecg": lead}, CLASSES))
    folder = write(tmp_path, dataset="swell_kw", inputs=inputs)
    found = load_classifier(folder)
    mv_LT = 2.0 * tones(256.0)[:1]
    assert len(found.cut(mv_LT, sfreq=256.0).x_SCT) == 3
    mv_LT[0, 3000:4000] += 200.0
    assert found.cut(mv_LT, sfreq=256.0).start_s_S.tolist() == [0.0, 20.0]


# Checkpoints that are none ------------------------------------------------------------------------


def test_a_stage_that_tells_no_classes_is_refused(tmp_path: Path) -> None:
    stage = Pretext(rehearsal_pretext_config(), Inputs({"ecg": ECG}), {})
    said: Mapping[str, Any] = {
        "method": "ssl_ecg",
        "stage": "pretext",
        "config": to_dict(rehearsal_pretext_config()),
        "inputs": to_dict(stage.inputs),
    }
    checkpoint.save(tmp_path, State(0, stage.build().state_dict(), {}), said)
    with pytest.raises(CheckpointError, match="got one of ssl_ecg pretext, which tells no classes"):
        load_classifier(tmp_path)


def test_without_its_recipe_a_classifier_cuts_nothing(tmp_path: Path) -> None:
    found = load_classifier(write(tmp_path, recipe=None))
    assert len(found.predict(zeros(1, 2, 2560)).names) == 1
    with pytest.raises(CheckpointError, match="need a checkpoint that says how its ecg was cut"):
        found.cut(tones(256.0), sfreq=256.0)


def test_a_unit_that_nobody_knows_needs_a_scale(tmp_path: Path) -> None:
    recipe = EcgRecipe(sfreq=256.0, segment_s=10.0, amplitude="none")
    found = load_classifier(write(tmp_path, recipe=recipe))
    with pytest.raises(ValueError, match="need a recipe that scales recordings, got none, and DRE"):
        found.cut(tones(256.0), sfreq=256.0)
