"""Two and four workers take exactly the step of one (gloo, one process per worker)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing import spawn
from torch.nn.parallel import DistributedDataParallel

from emoray import distributed
from emoray.methods.base import Group
from emoray.methods.emod.draws import DropoutKey
from emoray.methods.emod.loss import soft_va_contrast
from emoray.methods.emod.model import EmodPretraining, EncoderConfig

ROUNDS = 4
STEPS = 3
DATASETS = ((5, 128.0), (3, 100.0))
"""Electrodes and Hz; two-second segments, so that both give ten tokens."""
CONFIG = EncoderConfig(d_model=16, n_heads=2, n_layers=2, d_feedforward=32, dropout=0.1)


def run(n_workers: int, out: Path) -> list[dict[str, Tensor]]:
    """Do everything below in so many processes of one group; what each found, by rank."""
    if n_workers == 1:
        everything(out)
    else:
        spawn(_worker, (n_workers, out), nprocs=n_workers)
    return [torch.load(out / f"{r}.pt") for r in range(n_workers)]


def _worker(rank: int, n_workers: int, out: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{out / 'rendezvous'}",
        rank=rank,
        world_size=n_workers,
        timeout=timedelta(seconds=120),
    )
    try:
        everything(out)
    finally:
        dist.destroy_process_group()


def everything(out: Path) -> None:
    found = train(torch.float64) | train(torch.float32) | gather_rows() | gather_unequal()
    torch.save(found, out / f"{distributed.rank()}.pt")


# The step -----------------------------------------------------------------------------------------


def batch(step: int, dtype: torch.dtype, rank: int, n_workers: int) -> tuple[list[Group], Tensor]:
    """A worker's rounds of a step's batch: rounds w m/W to (w + 1) m/W of every dataset."""
    generator = torch.Generator().manual_seed(step)
    groups, ratings = [], []
    for d, (n_electrodes, sfreq) in enumerate(DATASETS):
        shape = (ROUNDS, 9, n_electrodes, int(2 * sfreq))
        x_MRCT = torch.randn(shape, generator=generator, dtype=torch.float64)
        # Segments of unequal colour: pure noise pools to one point, where rounding is all there is.
        colour_MRC1 = torch.rand((*shape[:3], 1), generator=generator, dtype=torch.float64)
        x_MRCT = torch.lerp(x_MRCT, x_MRCT.cumsum(-1) / 4, colour_MRC1)
        va_MR2 = torch.rand((ROUNDS, 9, 2), generator=generator, dtype=torch.float64) * 8 - 4
        places_MR = torch.arange(ROUNDS * 9).view(ROUNDS, 9) + d * ROUNDS * 9
        own = slice(rank * ROUNDS // n_workers, (rank + 1) * ROUNDS // n_workers)
        ids_C = torch.arange(1, n_electrodes + 1)
        x_BCT = x_MRCT[own].flatten(0, 1).to(dtype)
        groups.append(Group(x_BCT, ids_C, sfreq, places_MR[own].flatten()))
        ratings.append(va_MR2[own].flatten(0, 1))
    return groups, torch.cat(ratings).to(dtype)


def train(dtype: torch.dtype) -> dict[str, Tensor]:
    """Three steps of the pretraining recipe, with dropout and clipping."""
    torch.manual_seed(0)
    model = EmodPretraining(CONFIG).to(dtype)
    module: nn.Module = model
    if distributed.is_distributed():
        module = DistributedDataParallel(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4, weight_decay=1e-4)
    losses, gradients = [], []
    for step in range(STEPS):
        groups, va_B2 = batch(step, dtype, distributed.rank(), distributed.world_size())
        z_BD = distributed.gather_with_grad(module(groups, DropoutKey(7, step)))
        loss = soft_va_contrast(
            z_BD, distributed.gather_with_grad(va_B2), temperature=0.07, d_max=5.0
        )
        optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 3.0)
        losses.append(loss.detach())
        gradients.append(flat([p.grad for p in model.parameters() if p.grad is not None]) * norm)
        optimizer.step()
    weights = flat([p.detach() for p in model.parameters()])
    found = {
        "losses": torch.stack(losses),
        "gradients": torch.stack(gradients),
        "weights": weights,
    }
    return {f"{dtype} {name}": tensor for name, tensor in found.items()}


def flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


Found = list[dict[str, Tensor]]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    return run(1, tmp_path_factory.mktemp("alone"))[0]


@pytest.fixture(scope="module", params=[2, 4])
def together(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Found:
    return run(request.param, tmp_path_factory.mktemp("together"))


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)], ids=str
)
@pytest.mark.parametrize("what", ["losses", "gradients", "weights"])
def test_workers_take_the_step_of_one(
    what: str, dtype: torch.dtype, tolerance: float, together: Found, alone: dict[str, Tensor]
) -> None:
    want = alone[f"{dtype} {what}"]
    for found in together:
        assert (found[f"{dtype} {what}"] - want).abs().max() <= tolerance * want.abs().max()


def test_workers_end_with_the_same_weights(together: Found) -> None:
    for found in together[1:]:
        assert torch.equal(found["torch.float32 weights"], together[0]["torch.float32 weights"])


def test_the_comparison_sees_dropout(alone: dict[str, Tensor]) -> None:
    """Another seed of the masks changes the losses: equality above is no accident of p = 0."""
    groups, va_B2 = batch(0, torch.float64, 0, 1)
    torch.manual_seed(0)
    model = EmodPretraining(CONFIG).double()
    loss = soft_va_contrast(model(groups, DropoutKey(8, 0)), va_B2, temperature=0.07, d_max=5.0)
    assert abs(loss.item() - alone["torch.float64 losses"][0].item()) > 1e-5


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


def gather_unequal() -> dict[str, Tensor]:
    message = ""
    try:
        distributed.gather_with_grad(torch.zeros(2 + distributed.rank(), 3))
    except ValueError as error:
        message = str(error)
    return {"message": torch.tensor(list(message.encode()), dtype=torch.uint8)}


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


def test_unequal_shares_are_named_on_every_worker(together: Found) -> None:
    for found in together:
        message = bytes(found["message"].tolist()).decode()
        assert "rank 0: (2, 3)" in message
        assert "rank 1: (3, 3)" in message


def test_one_process_is_a_world_of_one(alone: dict[str, Tensor]) -> None:
    x_BD = torch.randn(2, 3)
    assert distributed.gather_with_grad(x_BD) is x_BD
    assert alone["world"].tolist() == [0, 1]
    assert not alone["message"].numel()
