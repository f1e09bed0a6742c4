"""ECG of several leads, made by a formula: the same samples at the same place in a step."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from emoray.batches import distributed
from emoray.batches.batch import Batch, Group, Signal
from emoray.methods.base import Inputs, Stage, StreamSpec
from emoray.training.batch_norm import over_all_workers

SFREQ = 256.0
SHARES = {1: (range(6),), 2: (range(2), range(2, 6))}
"""Places of a step's segments that each worker holds, by the number of workers."""
STEP = 4


def leads(n: int) -> tuple[str, ...]:
    return tuple(f"ecg{i}" for i in range(n))


def inputs(n_times: int, n_leads: int = 2, classes: tuple[str, ...] = ()) -> Inputs:
    return Inputs({"ecg": StreamSpec(leads(n_leads), SFREQ, n_times)}, classes)


def group(n: int, n_times: int, n_leads: int = 2, first: int = 0) -> Group:
    """Waves whose rate follows the segment and whose phase follows the lead, float64."""
    places_B = torch.arange(first, first + n)
    at_T = torch.arange(n_times, dtype=torch.float64)
    waves = [
        (at_T * (0.1 + 0.013 * places_B[:, None]) + lead).sin() + 0.1 * at_T.sqrt() * lead
        for lead in range(n_leads)
    ]
    return Group(
        "made", {"ecg": Signal(torch.stack(waves, dim=1), leads(n_leads), SFREQ)}, places_B
    )


def beats(step: int, n: int = 16, n_times: int = 512) -> Batch:
    """Segments of one lead in float32; class 1 has 1.6 times the rate of class 0."""
    generator = torch.Generator().manual_seed(step)
    label_B = torch.arange(n) % 2
    period_B1 = torch.where(label_B == 1, 110.0, 176.0)[:, None]
    first_B1 = period_B1 * torch.rand(n, 1, generator=generator)
    phase_BT = (torch.arange(n_times) - first_B1) % period_B1
    x_BT = sum(
        (
            height * torch.exp(-(phase_BT - 50 - lag).square() / (2 * width**2))
            for height, lag, width in ((6.0, 0, 3), (-1.5, 8, 4), (1.2, 40, 10))
        ),
        torch.zeros(n, n_times),
    )
    noise_BT = 0.1 * torch.randn(n, n_times, generator=generator)
    signal = Signal((x_BT + noise_BT)[:, None], leads(1), SFREQ)
    return Batch(step, (Group("made", {"ecg": signal}, torch.arange(n)),), {"label": label_B})


def moved(module: nn.Module) -> nn.Module:
    """In float64, with weights that tell segments apart."""
    for parameter in module.double().parameters():
        nn.init.normal_(parameter, std=0.4, generator=torch.Generator().manual_seed(3))
    return module


def losses_here(stage: Stage, n_times: int) -> dict[str, float]:
    """The losses of a step as this worker computes them from its share."""
    share = SHARES[distributed.world_size()][distributed.rank()]
    module = moved(stage.build())
    if distributed.world_size() > 1:
        over_all_workers(module)
    batch = Batch(STEP, (group(len(share), n_times, first=share.start),), {})
    return {name: loss.item() for name, loss in stage.losses(module, batch).items()}


def nt_xent_by_loop(one: Tensor, two: Tensor, temperature: float) -> float:
    """Of each of 2 B views: minus the log of its partner's share among all but itself."""
    rows = [*one.tolist(), *two.tolist()]
    n, total = len(one), 0.0
    for i, row in enumerate(rows):
        shares = [math.exp(cosine(row, other) / temperature) for other in rows]
        total -= math.log(shares[(i + n) % (2 * n)] / (sum(shares) - shares[i]))
    return total / (2 * n)


def cosine(one: list[float], two: list[float]) -> float:
    product = sum(a * b for a, b in zip(one, two, strict=True))
    return product / math.sqrt(sum(a * a for a in one) * sum(b * b for b in two))
