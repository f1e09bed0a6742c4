"""EMOD's augmentations: what they change, and that dealing does not change them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from emoray.batches.batch import Group
from emoray.methods import counter_draws
from emoray.methods.counter_draws import DropoutKey
from emoray.methods.emod.augment import (
    AugmentConfig,
    add_noise,
    augmented,
    mask_time,
    shuffle_electrodes,
)
from emoray.vocabulary.electrodes import VOCABULARY
from tests.groups import eeg_group, with_eeg

KEY = DropoutKey(5, 3)


def group(n_segments: int = 12) -> Group:
    generator = torch.Generator().manual_seed(0)
    x_BCT = torch.randn(n_segments, 6, 200, generator=generator)
    return eeg_group(x_BCT, VOCABULARY[:6], 100.0, torch.arange(40, 40 + n_segments))


def keys(n: int) -> Tensor:
    return counter_draws.segment_keys(KEY, torch.arange(n), counter_draws.AUGMENTATION)


def test_noise_has_the_share_of_each_segments_deviation() -> None:
    scale_B11 = torch.tensor([1.0, 10.0, 100.0])[:, None, None]
    x_BCT = torch.randn(3, 10, 2000) * scale_B11
    noise_BCT = add_noise(x_BCT, keys(3), 0.1) - x_BCT
    assert torch.allclose(noise_BCT.std((1, 2)) / scale_B11.flatten(), torch.tensor(0.1), rtol=0.05)
    z_BCT = noise_BCT / scale_B11 / 0.1
    assert abs(z_BCT.mean()) < 0.02
    assert abs((z_BCT[0] * z_BCT[1]).mean()) < 0.03


def test_shuffling_moves_no_more_electrodes_than_its_share_and_loses_none() -> None:
    x_BCT = torch.arange(6.0)[None, :, None].expand(50, 6, 4)
    moved_BCT = shuffle_electrodes(x_BCT, keys(50), 0.5)
    assert torch.equal(moved_BCT.sort(1).values, x_BCT)
    n_moved_B = (moved_BCT[..., 0] != x_BCT[..., 0]).sum(1)
    assert n_moved_B.max() == 3  # int(6 x 0.5)
    assert (n_moved_B > 0).float().mean() > 0.5
    assert torch.equal(moved_BCT[..., 0], moved_BCT[..., 3])


def test_the_time_mask_is_one_stretch_on_all_electrodes() -> None:
    masked_BCT = mask_time(torch.ones(50, 3, 100), keys(50), 0.2)
    gone_BT = masked_BCT[:, 0] == 0
    assert torch.equal(masked_BCT[:, 0], masked_BCT[:, 2])
    assert gone_BT.sum(1).tolist() == [20] * 50
    starts_B = gone_BT.float().argmax(1)
    assert all(gone[s : s + 20].all() for gone, s in zip(gone_BT, starts_B, strict=True))
    assert starts_B.min() < 20
    assert starts_B.max() > 60


def test_the_first_view_is_the_segment_itself() -> None:
    whole = group()
    assert augmented(whole, KEY, view=0) is whole
    assert augmented(whole, KEY, view=1, config=AugmentConfig(0.0, 0.0, 0.0)) is whole


def test_every_segment_gets_one_augmentation() -> None:
    whole = group(300)
    view = augmented(whole, KEY, view=1)
    x_BCT, before_BCT = view["eeg"].x_BCT, whole["eeg"].x_BCT
    untouched_B = (x_BCT == before_BCT).all(1).float().mean(1)
    zeroed_B = (x_BCT == 0).float().mean((1, 2)) > 0.1
    same_BCT = x_BCT.sort(1).values == before_BCT.sort(1).values
    noisy_B = (untouched_B == 0) & ~same_BCT.any(2).any(1)
    shares = [zeroed_B.float().mean().item(), noisy_B.float().mean().item()]
    assert all(0.2 < share < 0.47 for share in shares)
    assert not (zeroed_B & noisy_B).any()
    assert (view["eeg"].channels, view["eeg"].sfreq) == (whole["eeg"].channels, 100.0)
    assert torch.equal(view.positions_B, whole.positions_B)


def test_views_do_not_depend_on_how_a_batch_is_dealt() -> None:
    whole = group()
    want = augmented(whole, KEY, view=1)["eeg"].x_BCT
    for share in torch.randperm(12, generator=torch.Generator().manual_seed(2)).view(3, 4):
        part = with_eeg(whole, x_BCT=whole["eeg"].x_BCT[share])
        part = replace(part, positions_B=whole.positions_B[share])
        got = augmented(part, KEY, view=1)["eeg"].x_BCT
        assert torch.allclose(got, want[share], rtol=0, atol=1e-6)


def test_views_change_with_step_and_view() -> None:
    whole = group()
    one = augmented(whole, KEY, view=1)["eeg"].x_BCT
    for other in (
        augmented(whole, DropoutKey(5, 4), view=1)["eeg"].x_BCT,
        augmented(whole, KEY, view=2)["eeg"].x_BCT,
    ):
        assert not torch.equal(one, other)
    assert torch.equal(one, augmented(whole, KEY, view=1)["eeg"].x_BCT)


@pytest.mark.parametrize("wrong", [{"noise": -0.1}, {"shuffle": 1.5}, {"time_mask": -1.0}])
def test_strengths_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="need noise >= 0"):
        AugmentConfig(**wrong)
