"""Gathers and sums of workers that hold different numbers of rows: what one process has.

Shapes: B rows of the global batch, D width.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from emoray.batches import distributed
from emoray.batches.distributed import gather_in_order, gather_with_grad, sum_with_grad
from tests.workers import Found, found_by

SHARES = {"fewer first": ((0, 1), (2, 3, 4, 5, 6)), "fewer last": ((0, 2, 4, 6, 1), (5, 3))}
"""Rows of the global batch on each of two workers; in the second dealt out of order."""
TOLERANCE = 1e-10


def whole() -> tuple[Tensor, Tensor]:
    """Rows (B, D) and a number of each (B,), of the global batch."""
    generator = torch.Generator().manual_seed(5)
    x_BD = torch.randn(7, 3, generator=generator, dtype=torch.float64)
    return x_BD, torch.arange(10, 17)


def rows_of(share: str) -> list[int]:
    """This worker's; all, in order of rank, where it is alone."""
    parts = SHARES[share]
    if distributed.world_size() == 1:
        return [row for part in parts for row in part]
    return list(parts[distributed.rank()])


def loss_of(x_BD: Tensor) -> Tensor:
    """Every row matters by its place, and to every other."""
    places_B = torch.arange(1.0, len(x_BD) + 1, dtype=torch.float64)
    return (torch.softmax(x_BD @ x_BD.T, 1) * places_B * places_B[:, None] ** 2).sum()


def everything() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for share in SHARES:
        found |= {f"{share} {name}": value for name, value in gathered(share).items()}
        found |= {f"{share} {name}": value for name, value in ordered(share).items()}
        found |= {f"{share} {name}": value for name, value in summed(share).items()}
    return found


def gathered(share: str) -> dict[str, Tensor]:
    x_BD = whole()[0][rows_of(share)].requires_grad_()
    rows_BD = gather_with_grad(x_BD)
    loss = loss_of(rows_BD)
    loss.backward()  # type: ignore[no-untyped-call]
    assert x_BD.grad is not None
    return {"rows": rows_BD.detach(), "loss": loss.detach(), "gradient": x_BD.grad}


def ordered(share: str) -> dict[str, Tensor]:
    x_BD, number_B = (column[rows_of(share)] for column in whole())
    x_BD.requires_grad_()
    sorted_BD, sorted_B = gather_in_order(torch.tensor(rows_of(share)), x_BD, number_B)
    loss_of(sorted_BD).backward()  # type: ignore[no-untyped-call]
    assert x_BD.grad is not None
    return {
        "rows in order": sorted_BD.detach(),
        "numbers in order": sorted_B,
        "gradient in order": x_BD.grad,
    }


def summed(share: str) -> dict[str, Tensor]:
    x_BD = whole()[0][rows_of(share)].requires_grad_()
    total_D = sum_with_grad((x_BD**2).sum(0))
    loss_of(total_D[:, None]).backward()  # type: ignore[no-untyped-call]
    assert x_BD.grad is not None
    return {"sum": total_D.detach(), "gradient of the sum": x_BD.grad}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    return found_by(1, tmp_path_factory.mktemp("alone"), everything)[0]


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Found:
    return found_by(2, tmp_path_factory.mktemp("together"), everything)


def close(got: Tensor, want: Tensor) -> bool:
    return bool((got - want).abs().max() <= TOLERANCE * want.abs().max())


@pytest.mark.parametrize("share", SHARES)
def test_rows_come_in_order_of_rank_or_of_their_places(share: str, together: Found) -> None:
    x_BD, number_B = whole()
    in_rank = [row for part in SHARES[share] for row in part]
    for found in together:
        assert torch.equal(found[f"{share} rows"], x_BD[in_rank])
        assert torch.equal(found[f"{share} rows in order"], x_BD)
        assert torch.equal(found[f"{share} numbers in order"], number_B)


@pytest.mark.parametrize("what", ["loss", "sum"])
@pytest.mark.parametrize("share", SHARES)
def test_every_worker_has_the_value_of_one_process(
    share: str, what: str, together: Found, alone: dict[str, Tensor]
) -> None:
    for found in together:
        assert close(found[f"{share} {what}"], alone[f"{share} {what}"])


@pytest.mark.parametrize("what", ["gradient", "gradient in order", "gradient of the sum"])
@pytest.mark.parametrize("share", SHARES)
def test_gradients_averaged_over_workers_are_those_of_one_process(
    share: str, what: str, together: Found, alone: dict[str, Tensor]
) -> None:
    """Each worker's is W times its part, which DDP divides by W."""
    want_BD = alone[f"{share} {what}"]
    got_BD = torch.cat([found[f"{share} {what}"] for found in together]) / len(together)
    assert [len(found[f"{share} {what}"]) for found in together] == [*map(len, SHARES[share])]
    assert want_BD.abs().min() > 0
    assert close(got_BD, want_BD)
