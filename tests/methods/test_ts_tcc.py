"""TS-TCC's views, networks and losses against what is known of them from outside.

Shapes: B segments, C leads, T samples, D width of a feature, K features ahead, V = 2 views.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emoray.methods import counter_draws
from emoray.methods.conv_blocks import keys_of
from emoray.methods.counter_draws import DropoutKey
from emoray.methods.time_series import ConvConfig
from emoray.methods.ts_tcc.augment import jittered, permuted, scaled, views
from emoray.methods.ts_tcc.config import (
    AugmentConfig,
    ClassifyConfig,
    ContextConfig,
    PretrainConfig,
)
from emoray.methods.ts_tcc.loss import temporal_contrast
from emoray.methods.ts_tcc.method import Classify, Pretrain
from emoray.methods.ts_tcc.model import Layer
from tests.leads import STEP, group, inputs, losses_here, moved, nt_xent_by_loop
from tests.workers import found_by

pytestmark = pytest.mark.usefixtures("one_thread")
N_TIMES = 160
"""15 features: 54 after the stride, of which the pools leave 28 and 15."""
SMALL = ConvConfig(n_filters=(3, 8), kernels=(25, 8), dropout=0.3)
CONTEXT = ContextConfig(n_future=4, width=6, n_layers=2, n_heads=3, n_hidden=5, dropout=0.2)


def small(**changes: Any) -> PretrainConfig:
    return PretrainConfig(encoder=SMALL, context=CONTEXT, precision="float64", **changes)


def pretraining(config: PretrainConfig | None = None, n_times: int = N_TIMES) -> Pretrain:
    return Pretrain(config or small(), inputs(n_times), {})


def n_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def drawn(n: int, step: int = 0) -> Tensor:
    return counter_draws.segment_keys(
        DropoutKey(0, step), torch.arange(n), counter_draws.AUGMENTATION
    )


# What is known of the networks --------------------------------------------------------------------


@pytest.mark.parametrize("n_leads", [1, 2])
def test_the_released_network_has_its_parameters(n_leads: int) -> None:
    """Convolutions without bias and a pair of numbers for each normalised channel; a linear map has
    n_in x n_out + n_out."""
    stage = Pretrain(PretrainConfig(), inputs(2560, n_leads), {})
    module = stage.build()
    encoder = 32 * n_leads * 25 + 64 * 32 * 8 + 128 * 64 * 8 + 2 * (32 + 64 + 128)
    assert n_parameters(module.encoder) == encoder == {1: 83_168, 2: 83_968}[n_leads]
    attention = 64 * 3 * 64 + (64 * 64 + 64)
    layer = attention + 2 * (64 * 64 + 64) + 2 * (2 * 64)
    context = (128 * 64 + 64) + 64 + 4 * layer
    predictions = 50 * (64 * 128 + 128)
    projection = (64 * 64 + 64) + 2 * 64 + (64 * 32 + 32)
    assert n_parameters(module.head) == context + predictions + projection == 530_784
    assert stage.n_parameters(module) == {"encoder": encoder, "head": 530_784}
    classifier = Classify(ClassifyConfig(), inputs(2560, n_leads, ("a", "b", "c")), {})
    counted = classifier.n_parameters(classifier.build())
    assert counted == {"encoder": encoder, "head": 109 * 128 * 3 + 3}


def test_settings_are_those_of_sleep() -> None:
    config = PretrainConfig()
    assert (config.epochs, config.batch_size, config.temperature) == (40, 128, 0.2)
    assert Pretrain(config, inputs(2560), {}).loss_weights == {"temporal": 1.0, "contextual": 0.7}
    assert (config.encoder.kernels[0], config.encoder.stride) == (25, 3)
    assert (config.encoder.dropout, config.context.n_future) == (0.35, 50)


def test_a_layer_is_torchs_own_but_for_the_scale() -> None:
    """Torch divides products by the root of a head's width: queries make up for it."""
    config = replace(CONTEXT, n_hidden=7)
    layer = Layer(config).double()
    torchs = nn.TransformerEncoderLayer(
        6, 3, 7, dropout=0.0, norm_first=True, batch_first=True, dtype=torch.float64
    )
    weight = layer.queries_keys_values.weight.detach().clone()
    weight[:6] *= math.sqrt(2) / math.sqrt(6)
    state = {
        "self_attn.in_proj_weight": weight,
        "self_attn.in_proj_bias": torch.zeros(18),
        **{f"self_attn.out_proj.{n}": p for n, p in layer.out.state_dict().items()},
        **{f"linear1.{n}": p for n, p in layer.wider.state_dict().items()},
        **{f"linear2.{n}": p for n, p in layer.back.state_dict().items()},
        **{f"norm1.{n}": p for n, p in layer.norm_1.state_dict().items()},
        **{f"norm2.{n}": p for n, p in layer.norm_2.state_dict().items()},
    }
    torchs.load_state_dict(state)
    x_BNW = torch.randn(4, 9, 6, dtype=torch.float64)
    torch.testing.assert_close(layer(x_BNW, None), torchs(x_BNW), rtol=1e-10, atol=1e-12)


def test_dropout_is_another_one_for_each_view_and_layer() -> None:
    module = pretraining().build().double().eval()
    x_BCT = group(3, N_TIMES)["ecg"].x_BCT
    key_B = drawn(3)
    predicted, future, projected = module((x_BCT, x_BCT), key_B, 5)
    for of_views in (predicted, future, projected):
        assert not torch.allclose(of_views[:, 0], of_views[:, 1])
    predicted, future, projected = module((x_BCT, x_BCT), None, 5)
    for of_views in (predicted, future, projected):
        torch.testing.assert_close(of_views[:, 0], of_views[:, 1])
    layers = [Layer(CONTEXT), Layer(CONTEXT)]
    layers[1].load_state_dict(layers[0].state_dict())
    x_BNW = torch.randn(2, 4, 6)
    assert not torch.equal(*(layer(x_BNW, drawn(2, i)) for i, layer in enumerate(layers)))


def test_the_future_is_what_follows_the_past() -> None:
    module = pretraining().build().double().eval()
    x_BCT = group(2, N_TIMES)["ecg"].x_BCT
    z_BDL = F.normalize(module.encoder(x_BCT, None), dim=1)
    assert z_BDL.shape == (2, 8, 15)
    for n_past in (1, 11):
        predicted, future, projected = module((x_BCT, x_BCT), None, n_past)
        assert (predicted.shape, projected.shape) == ((2, 2, 4, 8), (2, 2, 2))
        want = z_BDL[:, :, n_past : n_past + 4].transpose(1, 2)
        torch.testing.assert_close(future[:, 0], want)
    later = x_BCT.clone()
    later[..., -40:] += 5.0  # beyond what the first feature's convolutions span
    for i, one in enumerate(module((x_BCT, later), None, 1)):
        same = torch.allclose(one[:, 0], one[:, 1])
        assert same or i == 1
    assert not torch.allclose(*module((x_BCT, later), None, 11)[1].unbind(1))


# Where the past ends ------------------------------------------------------------------------------


def test_the_past_ends_anywhere_that_leaves_a_future() -> None:
    stage = pretraining()  # 15 features, of which four are ahead
    found = Counter(stage.n_past(step) for step in range(2200))
    assert set(found) == set(range(1, 12))
    assert all(abs(n - 200) < 5 * math.sqrt(200) for n in found.values())
    assert [stage.n_past(step) for step in range(9)] == [stage.n_past(step) for step in range(9)]
    other = pretraining(small(seed=1))
    assert [stage.n_past(s) for s in range(30)] != [other.n_past(s) for s in range(30)]


def test_segments_without_a_past_are_refused() -> None:
    need = "need segments of more than n_future = 4 features, got 4 of 30 samples"
    with pytest.raises(ValueError, match=need):
        pretraining(n_times=30).build()
    assert pretraining(n_times=36).n_past(0) == 1


# Views --------------------------------------------------------------------------------------------


def test_the_weak_view_has_a_factor_for_each_time() -> None:
    x_BCT = group(40, 500)["ecg"].x_BCT.abs() + 0.1
    factor_BCT = scaled(x_BCT, drawn(40), 1.5) / x_BCT
    torch.testing.assert_close(factor_BCT[:, 0], factor_BCT[:, 1])
    factors = factor_BCT[:, 0]
    assert float(factors.mean()) == pytest.approx(2, abs=0.05)
    assert float(factors.std()) == pytest.approx(1.5, abs=0.05)
    neighbours = torch.corrcoef(torch.stack([factors[:, 1:].flatten(), factors[:, :-1].flatten()]))
    assert abs(float(neighbours[0, 1])) < 0.05


def test_jitter_is_white_noise_of_its_own_on_each_lead() -> None:
    x_BCT = group(40, 500)["ecg"].x_BCT
    noise_BCT = jittered(x_BCT, drawn(40), 2.0) - x_BCT
    assert float(noise_BCT.std()) == pytest.approx(2, abs=0.05)
    assert float(noise_BCT.mean()) == pytest.approx(0, abs=0.05)
    between = torch.corrcoef(torch.stack([noise_BCT[:, 0].flatten(), noise_BCT[:, 1].flatten()]))
    assert abs(float(between[0, 1])) < 0.05


def pieces_of(places: list[int]) -> int:
    """Stretches in which one place follows the other."""
    return 1 + sum(b != a + 1 for a, b in pairwise(places))


def test_pieces_change_places_and_every_lead_keeps_its_own() -> None:
    """The released code writes the first lead into all."""
    n, n_times = 600, 90
    at_T = torch.arange(n_times, dtype=torch.float64)
    x_BCT = torch.stack([at_T, 1000 + at_T]).repeat(n, 1, 1)
    moved_BCT = permuted(x_BCT, drawn(n), 11)
    assert torch.equal(moved_BCT[:, 1], 1000 + moved_BCT[:, 0])
    found = Counter()
    for row in moved_BCT[:, 0].long().tolist():
        assert sorted(row) == list(range(n_times))
        found[pieces_of(row)] += 1
    assert max(found) <= 11
    assert found[1] > n / 11 * 0.6  # one piece, and pieces whose order came out as it was
    assert all(found[k] > n / 11 * 0.4 for k in range(3, 10))
    firsts = Counter(moved_BCT[:, 0, 0].long().tolist())
    assert len(firsts) > n_times / 2


def test_cuts_never_fall_together_and_need_room() -> None:
    x_BCT = torch.arange(11, dtype=torch.float64).repeat(300, 1, 1)
    moved_BCT = permuted(x_BCT, drawn(300), 11)
    assert torch.equal(moved_BCT.sort(-1).values, x_BCT)
    assert torch.equal(permuted(x_BCT, drawn(300), 1), x_BCT)
    with pytest.raises(ValueError, match="need segments of at least 12 samples, got 11"):
        permuted(x_BCT, drawn(300), 12)


def test_views_follow_the_segment_and_are_others_in_every_step() -> None:
    """The released code draws them once, before training."""
    config = AugmentConfig()
    whole, late = group(6, 120), group(2, 120, first=4)
    both = []
    for part in (whole, late):
        keys_B = keys_of([part], DropoutKey(0, 7), counter_draws.AUGMENTATION)
        both.append(views(part["ecg"].x_BCT, keys_B, config))
    for one, two in zip(*both, strict=True):
        assert torch.equal(one[4:], two)
    for first, other in zip(both[0], views(whole["ecg"].x_BCT, drawn(6, 8), config), strict=True):
        assert not torch.isclose(first, other).all(-1).any()


@pytest.mark.parametrize(
    ("make", "need"),
    [
        (lambda: AugmentConfig(jitter_sd=-1.0), "need scale_sd and jitter_sd of at least 0"),
        (lambda: AugmentConfig(max_pieces=0), "max_pieces of at least 1"),
        (lambda: ContextConfig(n_heads=5), "n_heads that divide its width"),
        (lambda: ContextConfig(n_future=0), "need sizes of the context of at least 1"),
        (lambda: ContextConfig(dropout=1.0), r"need dropout in \[0, 1\), got 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(make: Any, need: str) -> None:
    with pytest.raises(ValueError, match=need):
        make()


# Losses -------------------------------------------------------------------------------------------


def temporal_by_loop(predicted: list[Any], future: list[Any]) -> float:
    """Over segments, features ahead: minus the log of the share of the own prediction."""
    n, n_future, total = len(future), len(future[0]), 0.0
    for i in range(n):
        for k in range(n_future):
            scores = [
                sum(a * b for a, b in zip(future[i][k], predicted[j][k], strict=True))
                for j in range(n)
            ]
            total -= scores[i] - math.log(sum(math.exp(score) for score in scores))
    return total / (n * n_future)


def test_the_temporal_contrast_is_its_definition_in_plain_loops() -> None:
    generator = torch.Generator().manual_seed(5)
    predicted, future = (torch.randn(5, 3, 4, generator=generator).double() for _ in range(2))
    got = float(temporal_contrast(predicted, future))
    assert got == pytest.approx(temporal_by_loop(predicted.tolist(), future.tolist()), rel=1e-12)
    assert got != pytest.approx(temporal_by_loop(future.tolist(), predicted.tolist()), rel=1e-3)


def test_of_equal_scores_the_temporal_contrast_is_chance() -> None:
    zeros = torch.zeros(7, 3, 4)
    assert float(temporal_contrast(zeros, torch.randn(7, 3, 4))) == pytest.approx(math.log(7))
    sure = 50 * torch.eye(7)[:, None]
    assert float(temporal_contrast(sure, torch.eye(7)[:, None])) < 1e-12
    stage = pretraining()
    assert stage.chance_loss(7) == pytest.approx(2 * math.log(7) + 0.7 * math.log(13))
    with pytest.raises(ValueError, match=r"of one shape \(B, K, D\), got \(7, 3, 4\) and \(6, 3"):
        temporal_contrast(zeros, zeros[:6])


def contrasted() -> dict[str, Any]:
    return losses_here(pretraining(), N_TIMES)


def contrasted_by_loop() -> dict[str, float]:
    stage = pretraining()
    module, whole = moved(stage.build()), group(6, N_TIMES)
    drawn_B, masked_B = (keys_of([whole], DropoutKey(0, STEP), purpose) for purpose in (2, 1))
    both = views(whole["ecg"].x_BCT, drawn_B, stage.config.augment)
    with torch.no_grad():
        predicted, future, projected = module(both, masked_B, stage.n_past(STEP))
    return {
        "temporal": sum(
            temporal_by_loop(predicted[:, one].tolist(), future[:, 1 - one].tolist())
            for one in (0, 1)
        ),
        "contextual": nt_xent_by_loop(projected[:, 0], projected[:, 1], 0.2),
    }


@pytest.mark.parametrize("n_workers", [1, 2])
def test_the_losses_of_a_step_are_those_of_all_its_segments(n_workers: int, tmp_path: Path) -> None:
    want = contrasted_by_loop()
    for found in found_by(n_workers, tmp_path, contrasted):
        assert found == pytest.approx(want, rel=1e-10)
