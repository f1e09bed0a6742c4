"""EMOD's losses against their equations in plain loops, and at their edges."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from emoray.methods.contrast import nt_xent
from emoray.methods.emod.loss import hard_va_contrast, soft_va_contrast
from emoray.vocabulary import affect

TAU = 0.07
D_MAX = 5.0


def embeddings(n: int, width: int = 6, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    z_BD = torch.randn(n, width, generator=generator, dtype=torch.float64)
    return torch.nn.functional.normalize(z_BD, dim=-1)


def ratings(n: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, 2, generator=generator, dtype=torch.float64) * 8 - 4


def softmax_term(z: list[list[float]], i: int, j: int, temperature: float) -> float:
    """log exp(z_i z_j / tau) / sum_{k != i} exp(z_i z_k / tau)."""

    def similarity(a: int, b: int) -> float:
        return sum(p * q for p, q in zip(z[a], z[b], strict=True)) / temperature

    others = sum(math.exp(similarity(i, k)) for k in range(len(z)) if k != i)
    return similarity(i, j) - math.log(others)


def equation_6(z_BD: Tensor, va_B2: Tensor, temperature: float, d_max: float) -> float:
    z, va = z_BD.tolist(), va_B2.tolist()
    per_anchor = []
    for i in range(len(z)):
        weights = {
            j: max(0.0, 1 - math.dist(va[i], va[j]) / d_max) for j in range(len(z)) if j != i
        }
        total = sum(weights.values())
        if total > 0:
            drawn = sum(w * softmax_term(z, i, j, temperature) for j, w in weights.items())
            per_anchor.append(-drawn / total)
    return sum(per_anchor) / len(per_anchor) if per_anchor else 0.0


def equation_4(z_BD: Tensor, classes: list[object], temperature: float) -> float:
    z = z_BD.tolist()
    per_anchor = []
    for i in range(len(z)):
        positives = [p for p in range(len(z)) if p != i and classes[p] == classes[i]]
        if positives:
            terms = [softmax_term(z, i, p, temperature) for p in positives]
            per_anchor.append(-sum(terms) / len(positives))
    return sum(per_anchor) / len(per_anchor) if per_anchor else 0.0


@given(
    n=st.integers(1, 9),
    seed=st.integers(0, 10**6),
    temperature=st.floats(0.05, 2),
    d_max=st.floats(0.1, 12),
)
@settings(max_examples=60, deadline=None)
def test_soft_loss_is_equation_6(n: int, seed: int, temperature: float, d_max: float) -> None:
    z_BD, va_B2 = embeddings(n, seed=seed), ratings(n, seed=seed + 1)
    got = soft_va_contrast(z_BD, va_B2, temperature=temperature, d_max=d_max).item()
    assert got == pytest.approx(equation_6(z_BD, va_B2, temperature, d_max), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("same", ["cell", "region"])
@given(n=st.integers(1, 12), seed=st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_hard_loss_is_equation_4_over_cells_or_regions(same: str, n: int, seed: int) -> None:
    z_BD, va_B2 = embeddings(n, seed=seed), ratings(n, seed=seed + 1) / 3
    classes: list[object] = (
        [tuple(cell) for cell in affect.cells(va_B2.numpy())]
        if same == "cell"
        else affect.regions(va_B2.numpy()).tolist()
    )
    got = hard_va_contrast(z_BD, va_B2, temperature=TAU, same=same).item()
    assert got == pytest.approx(equation_4(z_BD, classes, TAU), rel=1e-9, abs=1e-12)


def test_halves_fall_into_the_same_cells_as_in_the_grid() -> None:
    halves = torch.arange(-3.5, 4, 1.0, dtype=torch.float64)
    va_B2 = torch.stack([halves, torch.zeros_like(halves)], 1)
    classes: list[object] = [tuple(cell) for cell in affect.cells(va_B2.numpy())]
    z_BD = embeddings(len(va_B2))
    got = hard_va_contrast(z_BD, va_B2, temperature=TAU).item()
    assert got == pytest.approx(equation_4(z_BD, classes, TAU), rel=1e-12)


@given(n=st.integers(1, 9), seed=st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_augmentation_loss_is_equation_4_with_the_other_view_as_positive(n: int, seed: int) -> None:
    z_1_BD, z_2_BD = embeddings(n, seed=seed), embeddings(n, seed=seed + 1)
    got = nt_xent(z_1_BD, z_2_BD, temperature=TAU).item()
    want = equation_4(torch.cat([z_1_BD, z_2_BD]), [*range(n), *range(n)], TAU)
    assert got == pytest.approx(want, rel=1e-9, abs=1e-12)


# Edges --------------------------------------------------------------------------------------------


def test_one_segment_costs_nothing_and_keeps_its_graph() -> None:
    z_BD = embeddings(1).requires_grad_()
    for loss in (
        soft_va_contrast(z_BD, ratings(1), temperature=TAU, d_max=D_MAX),
        hard_va_contrast(z_BD, ratings(1), temperature=TAU),
    ):
        assert loss.item() == 0
        (gradient,) = torch.autograd.grad(loss, z_BD)
        assert torch.equal(gradient, torch.zeros_like(z_BD))


def test_no_neighbour_costs_nothing_and_keeps_its_graph() -> None:
    z_BD = embeddings(3).requires_grad_()
    far_B2 = torch.tensor([[-4.0, -4.0], [4.0, 4.0], [4.0, -4.0]], dtype=torch.float64)
    for loss in (
        soft_va_contrast(z_BD, far_B2, temperature=TAU, d_max=D_MAX),
        hard_va_contrast(z_BD, far_B2, temperature=TAU),
    ):
        assert loss.item() == 0
        (gradient,) = torch.autograd.grad(loss, z_BD)
        assert torch.equal(gradient, torch.zeros_like(z_BD))


def test_a_pair_at_exactly_d_max_does_not_attract() -> None:
    z_BD = embeddings(2)
    va_B2 = torch.tensor([[-1.0, -2.0], [2.0, 2.0]], dtype=torch.float64)  # 3, 4, 5
    assert soft_va_contrast(z_BD, va_B2, temperature=TAU, d_max=5.0).item() == 0
    three_BD, three_B2 = embeddings(3), torch.cat([va_B2, va_B2[1:]])
    want = equation_6(three_BD, three_B2, TAU, 5.0)
    got = soft_va_contrast(three_BD, three_B2, temperature=TAU, d_max=5.0).item()
    assert got == pytest.approx(want, rel=1e-12)


def test_segments_at_one_point_attract_alike() -> None:
    """All weights are 1: Eq. 6 is then Eq. 4 with one class."""
    z_BD, va_B2 = embeddings(5), torch.full((5, 2), 1.5, dtype=torch.float64)
    got = soft_va_contrast(z_BD, va_B2, temperature=TAU, d_max=D_MAX)
    assert got.item() == pytest.approx(equation_4(z_BD, [0] * 5, TAU), rel=1e-12)
    assert got.item() == pytest.approx(hard_va_contrast(z_BD, va_B2, temperature=TAU).item())


def test_anchors_without_a_neighbour_are_left_out_of_the_mean() -> None:
    z_BD = embeddings(3)
    va_B2 = torch.tensor([[0.0, 0.0], [1.0, 0.0], [-4.0, 4.0]], dtype=torch.float64)
    got = soft_va_contrast(z_BD, va_B2, temperature=TAU, d_max=1.5).item()
    z = z_BD.tolist()
    want = -(softmax_term(z, 0, 1, TAU) + softmax_term(z, 1, 0, TAU)) / 2
    assert got == pytest.approx(want, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_temperature_of_a_hundredth_stays_finite_and_exact(dtype: torch.dtype) -> None:
    z_BD = embeddings(8, seed=3)
    z_BD[1] = -z_BD[0]  # similarities from -100 to 100 beside the anchor's own 100
    z_BD, va_B2 = z_BD.to(dtype).requires_grad_(), ratings(8).float()
    loss = soft_va_contrast(z_BD, va_B2, temperature=0.01, d_max=D_MAX)
    assert loss.dtype == torch.float32
    want = soft_va_contrast(z_BD.detach().double(), va_B2.double(), temperature=0.01, d_max=D_MAX)
    assert loss.item() == pytest.approx(want.item(), rel=1e-4)
    (gradient,) = torch.autograd.grad(loss, z_BD)
    assert torch.isfinite(gradient).all()


def test_autocast_does_not_reach_the_loss() -> None:
    z_BD, va_B2 = embeddings(8).float(), ratings(8).float()
    want = soft_va_contrast(z_BD, va_B2, temperature=TAU, d_max=D_MAX)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = soft_va_contrast(z_BD, va_B2, temperature=TAU, d_max=D_MAX)
    assert got.dtype == torch.float32
    assert torch.equal(got, want)


def test_gradients_are_those_of_finite_differences() -> None:
    va_B2 = ratings(6)
    for loss in (
        lambda z: soft_va_contrast(z, va_B2, temperature=0.3, d_max=D_MAX),
        lambda z: hard_va_contrast(z, va_B2 / 4, temperature=0.3),
        lambda z: nt_xent(z[:3], z[3:], temperature=0.3),
    ):
        assert torch.autograd.gradcheck(loss, embeddings(6, 3).requires_grad_())


@given(n=st.integers(2, 12), seed=st.integers(0, 10**6), data=st.data())
@settings(max_examples=30, deadline=None)
def test_the_order_of_segments_does_not_matter(n: int, seed: int, data: st.DataObject) -> None:
    order = torch.tensor(data.draw(st.permutations(range(n))))
    z_BD, va_B2, other_BD = embeddings(n, seed=seed), ratings(n), embeddings(n, seed=seed + 1)
    for one, two in (
        (
            soft_va_contrast(z_BD, va_B2, temperature=TAU, d_max=D_MAX),
            soft_va_contrast(z_BD[order], va_B2[order], temperature=TAU, d_max=D_MAX),
        ),
        (
            hard_va_contrast(z_BD, va_B2, temperature=TAU, same="region"),
            hard_va_contrast(z_BD[order], va_B2[order], temperature=TAU, same="region"),
        ),
        (
            nt_xent(z_BD, other_BD, temperature=TAU),
            nt_xent(z_BD[order], other_BD[order], temperature=TAU),
        ),
    ):
        assert one.item() == pytest.approx(two.item(), rel=1e-10, abs=1e-12)


def test_attraction_falls_with_distance() -> None:
    """Of two neighbours the nearer in emotion is pulled harder."""
    z_BD = torch.eye(3, dtype=torch.float64).requires_grad_()
    va_B2 = torch.tensor([[0.0, 0.0], [1.0, 0.0], [3.0, 0.0]], dtype=torch.float64)
    loss = soft_va_contrast(z_BD, va_B2, temperature=1.0, d_max=D_MAX)
    (gradient_BD,) = torch.autograd.grad(loss, z_BD)
    assert gradient_BD[0, 1] < gradient_BD[0, 2]


# Refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_temperature_and_d_max_must_be_positive_and_finite(bad: float) -> None:
    z_BD, va_B2 = embeddings(4), ratings(4)
    with pytest.raises(ValueError, match="need temperature > 0"):
        soft_va_contrast(z_BD, va_B2, temperature=bad, d_max=D_MAX)
    with pytest.raises(ValueError, match="need d_max > 0"):
        soft_va_contrast(z_BD, va_B2, temperature=TAU, d_max=bad)
    with pytest.raises(ValueError, match="need temperature > 0"):
        hard_va_contrast(z_BD, va_B2, temperature=bad)
    with pytest.raises(ValueError, match="need temperature > 0"):
        nt_xent(z_BD, z_BD, temperature=bad)


def test_inputs_must_agree_in_b() -> None:
    with pytest.raises(ValueError, match=r"\(4, 6\) and \(3, 2\)"):
        soft_va_contrast(embeddings(4), ratings(3), temperature=TAU, d_max=D_MAX)
    with pytest.raises(ValueError, match=r"\(4, 6\) and \(3, 2\)"):
        hard_va_contrast(embeddings(4), ratings(3), temperature=TAU)
    with pytest.raises(ValueError, match="two views of one shape"):
        nt_xent(embeddings(4), embeddings(3), temperature=TAU)


@pytest.mark.parametrize("bad", [4.01, -5.0, math.nan])
def test_ratings_must_lie_in_the_square(bad: float) -> None:
    va_B2 = ratings(4)
    va_B2[2, 1] = bad
    with pytest.raises(ValueError, match=r"\[-4, 4\]"):
        soft_va_contrast(embeddings(4), va_B2, temperature=TAU, d_max=D_MAX)
