"""TF-C's spectrum, views, networks and losses against what is known of them from outside.

Shapes: B segments, C leads, T samples or amplitudes.
"""

from __future__ import annotations

import cmath
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from emoray.methods import counter_draws
from emoray.methods.conv_blocks import keys_of
from emoray.methods.counter_draws import DropoutKey
from emoray.methods.tf_c.augment import jittered, perturbed, spectrum
from emoray.methods.tf_c.config import (
    AugmentConfig,
    ClassifyConfig,
    EncoderConfig,
    PretrainConfig,
)
from emoray.methods.tf_c.method import Classify, Pretrain
from emoray.methods.time_series import ConvConfig
from tests.leads import STEP, group, inputs, losses_here, moved, nt_xent_by_loop
from tests.workers import found_by

pytestmark = pytest.mark.usefixtures("one_thread")
N_TIMES = 96
SMALL = EncoderConfig(ConvConfig(n_filters=(3, 4), kernels=(8, 8), stride=2), n_hidden=6, width=5)


def small(**changes: Any) -> PretrainConfig:
    return PretrainConfig(encoder=SMALL, precision="float64", **changes)


def pretraining() -> Pretrain:
    return Pretrain(small(), inputs(N_TIMES), {})


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
    n_in x n_out + n_out. 10 s at 256 Hz give 322 features of 128."""
    stage = Pretrain(PretrainConfig(), inputs(2560, n_leads), {})
    module = stage.build()
    blocks = 32 * n_leads * 8 + 64 * 32 * 8 + 128 * 64 * 8 + 2 * (32 + 64 + 128)
    projector = (322 * 128 * 256 + 256) + 2 * 256 + (256 * 128 + 128)
    assert n_parameters(module.encoder.time.blocks) == blocks
    assert n_parameters(module.encoder.frequency.projector) == projector == 10_584_960
    assert n_parameters(module) == 2 * (blocks + projector)
    assert n_parameters(module) == {1: 21_335_168, 2: 21_335_680}[n_leads]
    head = (2 * 128 * 64 + 64) + (64 * 2 + 2)
    classifier = Classify(ClassifyConfig(), inputs(2560, n_leads, ("a", "b")), {})
    counted = classifier.n_parameters(classifier.build())
    assert counted == {"encoder": 2 * (blocks + projector), "head": head}
    assert head == 16_578


def test_settings_are_the_released_ones() -> None:
    config = PretrainConfig()
    assert (config.epochs, config.batch_size, config.temperature) == (40, 128, 0.2)
    weights = Pretrain(config, inputs(2560), {}).loss_weights
    assert weights == {"time": 0.2, "frequency": 0.2, "consistency": 1.0}
    assert (config.augment.removed, config.augment.added, config.augment.most_added) == (0.1,) * 3


def test_a_linear_head_has_no_hidden_layer() -> None:
    config = ClassifyConfig(encoder=SMALL, n_hidden=0)
    module = Classify(config, inputs(N_TIMES, 2, ("a", "b", "c")), {}).build()
    assert n_parameters(module.get_submodule("head")) == 10 * 3 + 3


def test_a_score_does_not_depend_on_what_else_is_scored() -> None:
    """As it does with the later network, which attends from one segment to another."""
    stage = Classify(ClassifyConfig(encoder=SMALL), inputs(N_TIMES, 2, ("a", "b")), {})
    module = stage.build().double().eval()
    together = stage.scores(module, [group(5, N_TIMES)])
    torch.testing.assert_close(together[3:], stage.scores(module, [group(2, N_TIMES, first=3)]))


# Spectrum and views -------------------------------------------------------------------------------


def test_the_spectrum_is_its_definition_in_plain_loops() -> None:
    x_BCT = group(2, 24)["ecg"].x_BCT
    want = [
        [
            [
                abs(sum(x * cmath.exp(-2j * math.pi * f * t / 24) for t, x in enumerate(lead)))
                for f in range(24)
            ]
            for lead in segment
        ]
        for segment in x_BCT.tolist()
    ]
    torch.testing.assert_close(spectrum(x_BCT), torch.tensor(want, dtype=torch.float64))


def test_amplitudes_are_removed_and_added_as_defined() -> None:
    f_BCT = spectrum(group(50, 1000)["ecg"].x_BCT - 0.7) + 1e-3
    changed_BCT = perturbed(f_BCT, drawn(50), AugmentConfig())
    most_BC1 = 0.1 * f_BCT.max(-1, keepdim=True).values
    is_same = changed_BCT == f_BCT
    grown = changed_BCT - f_BCT
    removed_only = changed_BCT == 0
    both = (changed_BCT > 0) & (grown < 0)
    assert float(removed_only.double().mean()) == pytest.approx(0.1 * 0.9, abs=0.005)
    assert float(is_same.double().mean()) == pytest.approx(0.9 * 0.9, abs=0.005)
    assert bool((grown <= most_BC1).all())
    assert float((grown / most_BC1)[grown > 0].mean()) == pytest.approx(0.5, abs=0.05)
    assert float((grown / most_BC1).max()) > 0.99
    assert bool((changed_BCT[both] <= most_BC1.expand_as(f_BCT)[both]).all())
    for config, share in ((AugmentConfig(added=0.0), 0.1), (AugmentConfig(removed=0.0), 0.0)):
        found = perturbed(f_BCT, drawn(50), config)
        assert float((found == 0).double().mean()) == pytest.approx(share, abs=0.005)
        assert bool((found <= f_BCT).all()) is (config.added == 0)
    leads_alike = (removed_only[:, 0] == removed_only[:, 1]).double().mean()
    assert float(leads_alike) == pytest.approx(0.09**2 + 0.91**2, abs=0.01)


def test_jitter_is_white_noise_of_its_own_on_each_lead() -> None:
    x_BCT = group(40, 500)["ecg"].x_BCT
    noise_BCT = jittered(x_BCT, drawn(40), AugmentConfig()) - x_BCT
    assert float(noise_BCT.std()) == pytest.approx(0.8, abs=0.02)
    between = torch.corrcoef(torch.stack([noise_BCT[:, 0].flatten(), noise_BCT[:, 1].flatten()]))
    assert abs(float(between[0, 1])) < 0.05


def test_views_follow_the_segment_and_are_others_in_every_step() -> None:
    """The released code draws them once, before training."""
    whole, late, config = group(6, 120), group(2, 120, first=4), AugmentConfig()
    for make in (jittered, perturbed):
        found = []
        for part in (whole, late):
            keys_B = keys_of([part], DropoutKey(0, 7), counter_draws.AUGMENTATION)
            found.append(make(part["ecg"].x_BCT.abs(), keys_B, config))
        assert torch.equal(found[0][4:], found[1])
        other = make(whole["ecg"].x_BCT.abs(), drawn(6, 8), config)
        assert not (found[0] == other).all(-1).any()


@pytest.mark.parametrize(
    ("make", "need"),
    [
        (lambda: AugmentConfig(jitter_sd=-1.0), "need jitter_sd and most_added of at least 0"),
        (lambda: AugmentConfig(removed=1.5), r"need removed and added in \[0, 1\], got 1.5"),
        (lambda: EncoderConfig(width=0), "need n_hidden and width of at least 1"),
        (lambda: ClassifyConfig(n_hidden=-1), "need n_hidden of at least 0, got -1"),
    ],
)
def test_settings_that_cannot_be_are_refused(make: Any, need: str) -> None:
    with pytest.raises(ValueError, match=need):
        make()


# Losses -------------------------------------------------------------------------------------------


def contrasted() -> dict[str, Any]:
    return losses_here(pretraining(), N_TIMES)


def contrasted_by_loop() -> dict[str, float]:
    """Of what the parts give: dropout and views are theirs."""
    stage = pretraining()
    encoder: Any = moved(stage.build()).get_submodule("encoder")
    whole = group(6, N_TIMES)
    drawn_B, masked_B = (keys_of([whole], DropoutKey(0, STEP), purpose) for purpose in (2, 1))
    x_BCT = whole["ecg"].x_BCT
    f_BCT = torch.fft.fft(x_BCT).abs()
    augment, found = stage.config.augment, {}
    with torch.no_grad():
        z = []
        for i, (name, branch, inputs_of) in enumerate(
            (
                ("time", encoder.time, (x_BCT, jittered(x_BCT, drawn_B, augment))),
                ("frequency", encoder.frequency, (f_BCT, perturbed(f_BCT, drawn_B, augment))),
            )
        ):
            h = [
                branch.blocks(of, counter_draws.fold(masked_B, 2 * v + i)).flatten(1)
                for v, of in enumerate(inputs_of)
            ]
            found[name] = nt_xent_by_loop(h[0], h[1], 0.2)
            z.append(branch.projector(h[0]))
    return {**found, "consistency": nt_xent_by_loop(z[0], z[1], 0.2)}


@pytest.mark.parametrize("n_workers", [1, 2])
def test_the_losses_of_a_step_are_those_of_all_its_segments(n_workers: int, tmp_path: Path) -> None:
    want = contrasted_by_loop()
    for found in found_by(n_workers, tmp_path, contrasted):
        assert found == pytest.approx(want, rel=1e-10)


def test_chance_is_an_equal_share_of_all_other_views() -> None:
    assert pretraining().chance_loss(7) == pytest.approx(1.4 * math.log(13))
