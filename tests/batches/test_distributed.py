"""Two and four workers take exactly the step of one (gloo, one process per worker).

Shapes: B segments, C electrodes, T samples, D datasets, M rounds of a step, 9 regions,
2 = (valence, arousal).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch
from torch import Tensor

from emoray.batches import distributed
from emoray.batches.batch import Batch
from emoray.batches.plans import share
from emoray.methods.emod.config import Config, EncoderConfig, LossConfig
from emoray.methods.emod.method import Pretraining
from emoray.methods.settings import OptimizerConfig
from emoray.training import loop
from emoray.vocabulary.electrodes import VOCABULARY
from tests.groups import eeg_group
from tests.workers import Found, found_by

N_ROUNDS = 4
N_STEPS = 3
FIRST_SEED = 300
"""AdamW's first step divides each gradient by its own size, so a weight whose gradient is rounding
noise moves as far as any. Where such a weight matters, float32 on W workers strays beyond 1e-5 of
float32 on one; with these seeds none does."""
DATASETS = ((5, 128.0), (3, 100.0))
"""Electrodes and Hz; two-second segments, so that both give ten tokens."""
ENCODER = EncoderConfig(d_model=16, n_heads=2, n_layers=2, d_feedforward=32, dropout=0.1)
CLIP_NORM = 1.0
"""Below the norm of every gradient here, so that every step is clipped."""
OBJECTIVES: tuple[str, ...] = get_args(get_type_hints(LossConfig)["objective"])
TOLERANCES = {"float64": 1e-10, "float32": 1e-5}
"""By precision, relative to the largest value."""
DTYPES = {"float64": torch.float64, "float32": torch.float32}


def everything() -> dict[str, Tensor]:
    found = gather_rows() | {"message": complaint_about(2, 3 + distributed.rank())}
    found |= {
        "type": complaint_about(2, 3, dtype=(torch.float32, torch.int64)[distributed.rank() % 2])
    }
    for objective in OBJECTIVES:
        for precision in TOLERANCES:
            found |= train(objective, precision)
    return found


# The step -----------------------------------------------------------------------------------------


def whole_step(step: int) -> tuple[list[Tensor], Tensor]:
    """Signals (M 9, C, T) of each dataset and ratings (D M 9, 2) of a step's global batch."""
    generator = torch.Generator().manual_seed(FIRST_SEED + step)
    signals = []
    for n_electrodes, sfreq in DATASETS:
        shape = (N_ROUNDS * 9, n_electrodes, int(2 * sfreq))
        x_BCT = torch.randn(shape, generator=generator, dtype=torch.float64)
        # Segments of unequal colour: pure noise pools to one point, where rounding is all there is.
        colour_BC1 = torch.rand((*shape[:2], 1), generator=generator, dtype=torch.float64)
        signals.append(torch.lerp(x_BCT, x_BCT.cumsum(-1) / 4, colour_BC1))
    n_segments = len(DATASETS) * N_ROUNDS * 9
    return signals, torch.rand((n_segments, 2), generator=generator, dtype=torch.float64) * 8 - 4


def batch(step: int, rank: int, n_workers: int) -> Batch:
    """A worker's share of a step, as the feed deals it: some rounds of every dataset."""
    signals, va_B2 = whole_step(step)
    positions_DM9 = np.arange(len(va_B2)).reshape(len(DATASETS), N_ROUNDS, 9)
    positions_DB = torch.from_numpy(share(positions_DM9, rank, n_workers)).flatten(1)
    groups = tuple(
        eeg_group(x_BCT[positions_B % len(x_BCT)], VOCABULARY[:n_electrodes], sfreq, positions_B)
        for x_BCT, (n_electrodes, sfreq), positions_B in zip(
            signals, DATASETS, positions_DB, strict=True
        )
    )
    return Batch(step, groups, {"va": va_B2[positions_DB.flatten()]})


def pretraining(objective: str, precision: str) -> Pretraining:
    return Pretraining(
        Config(
            encoder=ENCODER,
            loss=LossConfig(objective=objective),  # type: ignore[arg-type]
            optimizer=OptimizerConfig(clip_norm=CLIP_NORM),
            rounds_per_step=N_ROUNDS,
            precision=precision,  # type: ignore[arg-type]
        )
    )


def train(objective: str, precision: str) -> dict[str, Tensor]:
    """Three steps of pretraining, as the loop takes them."""
    stage, device, dtype = pretraining(objective, precision), torch.device("cpu"), DTYPES[precision]
    module = stage.build().to(device, dtype)
    parallel = loop.in_parallel(module, device)
    optimizer = torch.optim.AdamW(
        module.parameters(),
        lr=stage.optimizer.learning_rate,
        weight_decay=stage.optimizer.weight_decay,
    )
    losses, norms, gradients = [], [], []
    for step in range(N_STEPS):
        own = batch(step, distributed.rank(), distributed.world_size()).to(device, dtype)
        found, norm = loop.take_step(stage, parallel, optimizer, own, stage.optimizer.learning_rate)
        losses.append(found["loss"])
        norms.append(norm)
        gradients.append(flat(p.grad for p in module.parameters() if p.grad is not None))
    results = {
        "losses": torch.stack(losses),
        "norms": torch.stack(norms),
        "gradients": torch.stack(gradients),
        "weights": flat(p.detach() for p in module.parameters()),
        "statistics": flat(module.buffers()),
    }
    return {f"{objective} {precision} {name}": tensor for name, tensor in results.items()}


def flat(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    return found_by(1, tmp_path_factory.mktemp("alone"), everything)[0]


@pytest.fixture(scope="module", params=[2, 4])
def together(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Found:
    return found_by(request.param, tmp_path_factory.mktemp("together"), everything)


@pytest.mark.parametrize("what", ["losses", "norms", "gradients", "weights", "statistics"])
@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_workers_take_the_step_of_one(
    objective: str, precision: str, what: str, together: Found, alone: dict[str, Tensor]
) -> None:
    name = f"{objective} {precision} {what}"
    want = alone[name]
    assert want.dtype is DTYPES[precision]
    for found in together:
        assert (found[name] - want).abs().max() <= TOLERANCES[precision] * want.abs().max()


def test_workers_end_with_the_same_weights(together: Found) -> None:
    for name in (name for name in together[0] if name.endswith(("weights", "statistics"))):
        for found in together[1:]:
            assert torch.equal(found[name], together[0][name]), name


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_comparison_sees_masks_clipping_and_the_place_of_a_segment(
    objective: str, alone: dict[str, Tensor]
) -> None:
    """Equality above is no accident of p = 0 or of a small gradient."""
    stage, own = pretraining(objective, "float64"), batch(0, 0, 1)
    module = stage.build().double()
    assert alone[f"{objective} float64 norms"].min() > CLIP_NORM
    loss = alone[f"{objective} float64 losses"][0]
    moved = tuple(replace(group, positions_B=group.positions_B + 1) for group in own.groups)
    for other in (replace(own, step=1), replace(own, groups=moved)):
        assert (stage.losses(module, other)["contrast"] - loss).abs() > 1e-5


# The gather ---------------------------------------------------------------------------------------


def gather_rows() -> dict[str, Tensor]:
    rank, n_workers = distributed.rank(), distributed.world_size()
    x_BD = (torch.arange(6.0, dtype=torch.float64).view(2, 3) + 10 * rank).requires_grad_()
    gathered = distributed.gather_with_grad(x_BD)
    # Worker r's loss weighs row i with (r + 1) (i + 1): gradients of all workers must add up.
    weights = (rank + 1) * torch.arange(1.0, len(gathered) + 1, dtype=torch.float64)
    (weights[:, None] * gathered).sum().backward()
    places = distributed.gather_with_grad(torch.tensor([rank, rank]))
    distributed.barrier()
    assert x_BD.grad is not None
    world = torch.tensor([rank, n_workers])
    return {"rows": gathered.detach(), "gradient": x_BD.grad, "places": places, "world": world}


def complaint_about(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """What a gather of this worker's rows is refused with, as bytes; none where it is not."""
    message = ""
    try:
        distributed.gather_with_grad(torch.zeros(shape, dtype=dtype))
    except ValueError as error:
        message = str(error)
    return torch.tensor(list(message.encode()), dtype=torch.uint8)


def test_rows_arrive_in_order_of_rank_and_gradients_add_up(together: Found) -> None:
    n_workers = len(together)
    for rank, found in enumerate(together):
        assert found["world"].tolist() == [rank, n_workers]
        assert found["rows"][:, 0].tolist() == [
            10 * r + 3 * i for r in range(n_workers) for i in (0, 1)
        ]
        assert found["places"].tolist() == [r for r in range(n_workers) for _ in (0, 1)]
        # Rows 2r and 2r + 1 of the global batch, over workers that weigh them by 1, 2, ...
        weight = sum(range(1, n_workers + 1))
        want = torch.tensor([[2 * rank + 1.0], [2 * rank + 2.0]]).double() * weight
        assert torch.equal(found["gradient"], want.expand(2, 3))


def test_rows_of_other_shapes_or_types_are_named_on_every_worker(together: Found) -> None:
    for found in together:
        message = bytes(found["message"].tolist()).decode()
        assert "rank 0: (2, 3)" in message
        assert "rank 1: (2, 4)" in message
        message = bytes(found["type"].tolist()).decode()
        assert "rank 0: (2, 3) torch.float32, rank 1: (2, 3) torch.int64" in message


def test_one_process_is_a_world_of_one(alone: dict[str, Tensor]) -> None:
    x_BD = torch.randn(2, 3)
    assert distributed.gather_with_grad(x_BD) is x_BD
    assert alone["world"].tolist() == [0, 1]
    assert not alone["message"].numel()
