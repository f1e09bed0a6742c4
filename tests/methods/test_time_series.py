"""What TS-TCC and TF-C share: convolutions, how segments reach them, classes on an encoder.

Shapes: B segments, C leads, T samples, D width of a feature, L features in time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from emoray import methods
from emoray.batches.batch import Batch
from emoray.methods.base import Stage, Start, StreamSpec
from emoray.methods.conv_blocks import ConvBlocks, keys_of, segments_of
from emoray.methods.counter_draws import DropoutKey
from emoray.methods.settings import OptimizerConfig
from emoray.methods.time_series import ConvConfig, optimizer
from emoray.runtime.config import set_all, to_dict
from emoray.signals import EcgRecipe
from emoray.training.optimizers import make_optimizer
from tests.leads import SFREQ, beats, group, inputs, leads

pytestmark = pytest.mark.usefixtures("one_thread")
CLASSES = ("low", "high")
BOTH = pytest.mark.parametrize("method", ["ts_tcc", "tf_c"])


# Convolutions -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kernel", "stride", "n_times", "n_features"),
    [
        (25, 3, 3000, 127),  # `features_len` of TS-TCC's released configuration for sleep
        (25, 3, 178, 10),  # `CNNoutput_channel` of TF-C's for sleep, cut to 178 samples
        (8, 1, 1500, 190),  # and of its one for ECG
        (25, 3, 2560, 109),  # ours, by hand: 854 after the stride, pools 428, 215, 109
        (8, 1, 2560, 322),  # ours, by hand: 2,561, pools 1281, 642, 322
    ],
)
def test_a_segment_gives_as_many_features_as_released(
    kernel: int, stride: int, n_times: int, n_features: int
) -> None:
    config = ConvConfig(n_filters=(2, 2, 3), kernels=(kernel, 8, 8), stride=stride)
    assert config.n_features(n_times) == n_features
    with torch.no_grad():
        assert ConvBlocks(config, 1)(torch.randn(1, 1, n_times), None).shape == (1, 3, n_features)


def test_the_convolutions_are_their_definition_in_plain_loops() -> None:
    config = ConvConfig(n_filters=(2, 3), kernels=(5, 4), stride=3)
    blocks = ConvBlocks(config, 2).double().eval()
    generator = torch.Generator().manual_seed(1)
    for tensor in blocks.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.1)
    x_BCT = group(1, 40)["ecg"].x_BCT - 1
    h = x_BCT[0].tolist()
    for block, stride in zip(blocks.blocks, (3, 1), strict=True):
        assert isinstance(block, nn.Sequential)
        convolution, norm = block[0], block[1]
        h = pooled(normalised(convolved(h, convolution.weight.tolist(), stride), norm))
    got = blocks(x_BCT, None)[0]
    torch.testing.assert_close(got, torch.tensor(h, dtype=torch.float64), rtol=1e-10, atol=1e-12)


def convolved(rows: list[list[float]], weights: Any, stride: int) -> list[list[float]]:
    """Half a kernel of zeros before and behind, no bias."""
    length = len(weights[0][0])
    padded = [[0.0] * (length // 2) + row + [0.0] * (length // 2) for row in rows]
    firsts = range(0, len(padded[0]) - length + 1, stride)
    return [
        [
            sum(
                taps[k] * row[at + k]
                for row, taps in zip(padded, kernel, strict=True)
                for k in range(length)
            )
            for at in firsts
        ]
        for kernel in weights
    ]


def normalised(rows: list[list[float]], norm: Any) -> list[list[float]]:
    """By the running statistics, then nothing below zero."""
    found = []
    for c, row in enumerate(rows):
        weight, bias, mean, variance = (
            tensor[c].item()
            for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var)
        )
        scale = weight / (variance + 1e-5) ** 0.5
        found.append([max(0.0, (x - mean) * scale + bias) for x in row])
    return found


def pooled(rows: list[list[float]]) -> list[list[float]]:
    """The larger of two, one place before and one behind the signal counted in."""
    low = float("-inf")
    padded = [[low, *row, low] for row in rows]
    return [[max(row[t : t + 2]) for t in range(0, len(row) - 1, 2)] for row in padded]


def test_dropout_follows_the_segment_and_not_the_batch() -> None:
    blocks = ConvBlocks(ConvConfig(n_filters=(4, 4), kernels=(5, 4)), 2).double().eval()
    whole, late = group(6, 120), group(2, 120, first=4)
    found = []
    for part in (whole, late):
        key_B = keys_of([part], DropoutKey(0, 3), 1)
        found.append(blocks(part["ecg"].x_BCT, key_B))
    torch.testing.assert_close(found[0][4:], found[1], rtol=1e-12, atol=0)
    key_B = keys_of([whole], DropoutKey(0, 4), 1)
    assert not torch.equal(found[0], blocks(whole["ecg"].x_BCT, key_B))
    assert not torch.equal(found[0], blocks(whole["ecg"].x_BCT, None))


def test_other_segments_than_it_was_built_for_are_refused() -> None:
    spec = StreamSpec(leads(2), SFREQ, 120)
    parts = group(2, 120), group(3, 120, first=2)
    assert torch.equal(segments_of(parts, spec), torch.cat([p["ecg"].x_BCT for p in parts]))
    for other in (group(2, 119), group(2, 120, n_leads=1)):
        with pytest.raises(ValueError, match="made: need segments of 2 leads x 120 samples at 256"):
            segments_of((parts[0], other), spec)


@pytest.mark.parametrize(
    ("wrong", "need"),
    [
        ({"n_filters": (3, 4)}, "need n_filters and kernels for the same blocks, got 2 and 3"),
        ({"n_filters": (), "kernels": ()}, "need n_filters and kernels for the same blocks"),
        ({"stride": 0}, "need n_filters, kernels and stride of at least 1"),
        ({"dropout": 1.0}, r"need dropout in \[0, 1\), got 1"),
    ],
)
def test_convolutions_that_cannot_be_are_refused(wrong: dict[str, Any], need: str) -> None:
    with pytest.raises(ValueError, match=need):
        ConvConfig(**wrong)


def test_updates_are_the_released_ones() -> None:
    found = optimizer()
    assert (found.name, found.schedule, found.learning_rate) == ("adam", "constant", 3e-4)
    assert (found.betas, found.weight_decay, found.decay_biases) == ((0.9, 0.99), 3e-4, True)


# Stages -------------------------------------------------------------------------------------------


def stage(method: str, name: str, *, n_leads: int = 2, n_times: int = 120, **more: Any) -> Stage:
    """A rehearsal's, in float64 and without dropout unless asked for."""
    kind = methods.stage(method, name)
    settings = {"precision": "float64", **more.pop("settings", {})}
    classes = CLASSES if kind.target == "label" else ()
    config = set_all(kind.rehearsal(), settings)
    return kind(config, inputs(n_times, n_leads, classes), more.get("starts", {}))


def pretrained(method: str) -> Start:
    """Weights and statistics that no seed gives."""
    made = stage(method, "pretrain")
    model = {
        name: x + 0.01 if x.is_floating_point() else x
        for name, x in made.build().state_dict().items()
    }
    return Start(to_dict(methods.stage(method, "pretrain").rehearsal()), model)


@BOTH
def test_all_read_the_one_build_of_ten_seconds(method: str) -> None:
    for kind in methods.get(method).STAGES.values():
        assert kind.streams == ("ecg",)
        assert kind.scope == "fold"
        recipe = kind.recipes["ecg"]
        assert isinstance(recipe, EcgRecipe)
        assert (recipe.sfreq, recipe.segment_s, recipe.highpass_hz) == (256.0, 10.0, 0.8)
        assert (recipe.highpass_filter, recipe.amplitude) == ("iir", "z")
        assert (recipe.scale_scope, recipe.r_peaks) == ("person", "sleepecg")


@BOTH
def test_the_classifier_begins_where_pretraining_ended(method: str) -> None:
    start = pretrained(method)
    module = stage(method, "classify", starts={"encoder": start}).build()
    for name, tensor in module.get_submodule("encoder").state_dict().items():
        assert torch.equal(tensor, start.model[f"encoder.{name}"]), name
    scratch = stage(method, "classify").build().get_submodule("encoder").state_dict()
    assert any(not torch.equal(x, start.model[f"encoder.{n}"]) for n, x in scratch.items())


@BOTH
def test_all_of_the_classifier_learns(method: str) -> None:
    made = stage(method, "classify", starts={"encoder": pretrained(method)})
    module = made.build().double()
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    updates = make_optimizer(made.optimizer, module)
    for step in range(2):
        batch = Batch(step, (group(4, 120),), {"label": torch.tensor([0, 1, 0, 1])})
        updates.zero_grad()
        made.losses(module, batch)["cross_entropy"].backward()  # type: ignore[no-untyped-call]
        updates.step()
    for name, parameter in module.named_parameters():
        assert not torch.equal(parameter, before[name]), name


@BOTH
@pytest.mark.parametrize("name", ["pretrain", "classify"])
def test_every_lead_is_read(method: str, name: str) -> None:
    made = stage(method, name)
    module: Any = made.build().double().eval()
    whole = group(3, 120)
    embedded = module.embed([whole])
    for lead in range(2):
        x_BCT = whole["ecg"].x_BCT.clone()
        x_BCT[:, lead] = -x_BCT[:, lead].flip(-1) * 3
        other = replace(whole, signals={"ecg": replace(whole["ecg"], x_BCT=x_BCT)})
        assert not torch.allclose(embedded, module.embed([other]))


@BOTH
def test_its_sizes_follow_from_the_checkpoint(method: str) -> None:
    kind = methods.stage(method, "classify")
    of_pretraining = methods.stage(method, "pretrain").rehearsal()
    assert kind.config_type().encoder != of_pretraining.encoder
    config = kind.following(kind.config_type(), {"encoder": to_dict(of_pretraining)})
    assert config == replace(kind.config_type(), encoder=of_pretraining.encoder)
    assert kind.following(kind.config_type(), {}) == kind.config_type()


@pytest.mark.parametrize(
    ("method", "words", "other"), [("ts_tcc", "TS-TCC", "tf_c"), ("tf_c", "TF-C", "ts_tcc")]
)
def test_a_checkpoint_of_another_method_is_refused(method: str, words: str, other: str) -> None:
    kind = methods.stage(method, "classify")
    config = kind.rehearsal()
    for start in (pretrained(other), Start({}, {})):
        with pytest.raises(ValueError, match=f"need a checkpoint of {words}, got another"):
            kind.following(config, {"encoder": start.config})
        with pytest.raises(ValueError, match=f"need a checkpoint of {words}, got another"):
            kind(config, inputs(120, 2, CLASSES), {"encoder": start})


@BOTH
def test_weights_of_other_convolutions_are_refused(method: str) -> None:
    kind = methods.stage(method, "classify")
    with pytest.raises(ValueError, match=r"got encoder\.\w+ .* instead of "):
        kind(kind.config_type(), inputs(2560, 2, CLASSES), {"encoder": pretrained(method)})


@BOTH
@pytest.mark.parametrize("name", ["pretrain", "classify"])
def test_segments_shorter_than_the_first_convolution_are_refused(method: str, name: str) -> None:
    with pytest.raises(ValueError, match=r"need segments of at least \d+ samples, .* got 7"):
        stage(method, name, n_times=7).build()


@BOTH
@pytest.mark.parametrize("name", ["pretrain", "classify"])
def test_steps_of_one_segment_are_refused(method: str, name: str) -> None:
    kind = methods.stage(method, name).config_type
    for wrong in ({"batch_size": 1}, {"epochs": 0}):
        with pytest.raises(ValueError, match="need epochs of at least 1 and batch_size of at leas"):
            kind(**wrong)


# Learning -----------------------------------------------------------------------------------------


def learned(made: Stage, n_steps: int, make: Callable[[int], Batch]) -> nn.Module:
    module = made.build()
    updates = make_optimizer(made.optimizer, module)
    for step in range(n_steps):
        losses = made.losses(module, make(step))
        total = sum(made.loss_weights.get(name, 1.0) * loss for name, loss in losses.items())
        updates.zero_grad()
        total.backward()  # type: ignore[union-attr]
        updates.step()
    return module


@BOTH
def test_pretraining_by_a_rehearsals_settings_tells_segments_of_beats_apart(method: str) -> None:
    made = stage(method, "pretrain", n_leads=1, n_times=512, settings={"precision": "float32"})
    chance = made.chance_loss(16)
    assert chance is not None
    assert of_new_beats(made, made.build()) > chance
    assert of_new_beats(made, learned(made, 50, beats)) < 0.92 * chance


def of_new_beats(made: Stage, module: nn.Module) -> float:
    """Mean of four steps: the past ends elsewhere in each."""
    with torch.no_grad():
        found = [made.losses(module, beats(step)) for step in range(1000, 1004)]
    return sum(
        made.loss_weights[name] * float(loss) for losses in found for name, loss in losses.items()
    ) / len(found)


@BOTH
def test_classes_of_two_heart_rates_are_told_apart(method: str) -> None:
    settings = {"precision": "float32", "optimizer": OptimizerConfig(learning_rate=2e-3)}
    made = stage(method, "classify", n_leads=1, n_times=512, settings=settings)
    module = learned(made, 40, beats).eval()
    batch = beats(1000, n=64)
    right_B = made.scores(module, batch.groups).argmax(1) == batch["label"]
    assert float(right_B.double().mean()) > 0.9
