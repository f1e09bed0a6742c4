"""EMOD's instance augmentations (its released code; the paper's EMOD-Augment names none).

Shapes: B segments, C electrodes, T samples.
Every draw is a function of the step and of the segment's place in the step's global batch
(`draws`), so views do not depend on how the batch is dealt to workers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from emoray.batches.batch import Group
from emoray.methods import counter_draws
from emoray.methods.counter_draws import DropoutKey


@dataclass(frozen=True)
class AugmentConfig:
    """How far each augmentation goes; the released code's values. Zero leaves one out."""

    noise: float = 0.1
    """Standard deviation of the added Gaussian noise, as a share of the segment's own."""
    shuffle: float = 0.5
    """Share of electrodes whose signals change places among themselves."""
    time_mask: float = 0.2
    """Share of the segment, in one piece, that is set to zero on all electrodes."""

    def __post_init__(self) -> None:
        if not (self.noise >= 0 and 0 <= self.shuffle <= 1 and 0 <= self.time_mask <= 1):
            raise ValueError(
                "need noise >= 0, shuffle and time_mask in [0, 1], "
                f"got {self.noise:g}, {self.shuffle:g} and {self.time_mask:g}"
            )


def augmented(
    group: Group, key: DropoutKey, *, view: int, config: AugmentConfig | None = None
) -> Group:
    """One view of each segment. View 0 is the segment itself; of another, one augmentation.

    The released code lays untouched and augmented copies side by side as well. Which of the
    augmentations a segment gets is drawn anew in every step, evenly among those that are on.
    """
    config = config or AugmentConfig()
    on = [
        (change, strength)
        for change, strength in (
            (add_noise, config.noise),
            (shuffle_electrodes, config.shuffle),
            (mask_time, config.time_mask),
        )
        if strength > 0
    ]
    if view == 0 or not on:
        return group
    keys_B = counter_draws.segment_keys(key, group.positions_B, counter_draws.AUGMENTATION + view)
    choice_B = (counter_draws.uniforms(counter_draws.fold(keys_B, 0), 1)[:, 0] * len(on)).long()
    eeg = group["eeg"]
    x_BCT = eeg.x_BCT
    for i, (change, strength) in enumerate(on):
        changed_BCT = change(eeg.x_BCT, counter_draws.fold(keys_B, 1), strength)
        x_BCT = torch.where((choice_B == i)[:, None, None], changed_BCT, x_BCT)
    return replace(group, signals={**group.signals, "eeg": replace(eeg, x_BCT=x_BCT)})


def add_noise(x_BCT: Tensor, keys_B: Tensor, strength: float) -> Tensor:
    """Add Gaussian noise of `strength` times each segment's standard deviation.

    The released code also adds `strength` times the segment's mean; ours does not: segments are
    band-passed and their mean carries nothing.
    """
    noise_BCT = counter_draws.normals(keys_B, x_BCT[0].numel()).view(x_BCT.shape).to(x_BCT.dtype)
    return x_BCT + noise_BCT * x_BCT.std((1, 2), correction=0, keepdim=True) * strength


def shuffle_electrodes(x_BCT: Tensor, keys_B: Tensor, share: float) -> Tensor:
    """Let the signals of a drawn `share` of the electrodes change places.

    The released code moves the electrode ids along with the signals, to which a model that treats
    electrodes as a set is blind; here the ids stay, so that the view differs.
    """
    n_electrodes = x_BCT.shape[1]
    n_moved = int(n_electrodes * share)
    places_BC = counter_draws.uniforms(counter_draws.fold(keys_B, 0), n_electrodes).argsort(1)
    moved_BM = places_BC[:, :n_moved]
    order_BM = counter_draws.uniforms(counter_draws.fold(keys_B, 1), n_moved).argsort(1)
    source_BC = torch.arange(n_electrodes, device=x_BCT.device).repeat(len(x_BCT), 1)
    source_BC = source_BC.scatter(1, moved_BM, moved_BM.gather(1, order_BM))
    return x_BCT.gather(1, source_BC[:, :, None].expand_as(x_BCT))


def mask_time(x_BCT: Tensor, keys_B: Tensor, share: float) -> Tensor:
    """Set one stretch of `share` of the samples to zero, on all electrodes."""
    n_samples = x_BCT.shape[2]
    n_masked = int(n_samples * share)
    u_B1 = counter_draws.uniforms(keys_B, 1)
    start_B1 = (u_B1 * (n_samples - n_masked + 1)).long()
    at_T = torch.arange(n_samples, device=x_BCT.device)
    masked_BT = (at_T >= start_B1) & (at_T < start_B1 + n_masked)
    return x_BCT.masked_fill(masked_BT[:, None], 0.0)
