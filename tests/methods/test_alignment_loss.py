"""The two-level contrast against Eqs 1-4 of Wu et al., in plain loops, on one worker and on two.

Shapes: B segments, V versions of each, S = V B sequences, P patches, Z width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from emoray.batches import distributed
from emoray.batches.batch import Batch
from emoray.methods.alignment.loss import (
    chance_losses,
    distance_share,
    info_nce,
    patch_contrast,
    sequence_contrast,
)
from emoray.methods.alignment.method import Alignment, VaAlignment
from emoray.training import loop
from tests.aligned import alignment_config, group, inputs, pieces, step_of, taught
from tests.workers import found_by

pytestmark = pytest.mark.usefixtures("one_thread")
TAU_P, TAU_S, D_MAX = 0.2, 0.3, 3.0
Sequences = Mapping[tuple[int, int], Sequence[Tensor]]
"""Vectors of each patch of (segment, version)."""


# The equations ------------------------------------------------------------------------------------


def similarity(a_Z: Tensor, b_Z: Tensor) -> Tensor:
    """The cosine."""
    return (a_Z * b_Z).sum() / ((a_Z * a_Z).sum().sqrt() * (b_Z * b_Z).sum().sqrt())


def equation_1(
    query_Z: Tensor, own_Z: Tensor, others: Sequence[tuple[float, Tensor]], tau: float
) -> Tensor:
    """-log of the share that the own key has of the sum; others count what stands beside them."""
    own = (similarity(query_Z, own_Z) / tau).exp()
    below = own
    for counts, key_Z in others:
        below = below + counts * (similarity(query_Z, key_Z) / tau).exp()
    return -(own / below).log()


def counted(va: Sequence[Sequence[float]] | None, i: int, m: int, d_max: float) -> float:
    """What segment m counts as a negative of segment i."""
    return 1.0 if va is None else min(1.0, math.dist(va[i], va[m]) / d_max)


def equation_2(
    ecg: Sequences,
    eeg: Sequences,
    tau: float,
    va: Sequence[Sequence[float]] | None = None,
    d_max: float = 1.0,
) -> Tensor:
    """Z_ij holds the patch of the same time, and all patches of all other segments."""
    terms = []
    for (i, v), queries in ecg.items():
        others = [
            (counted(va, i, m, d_max), key_Z)
            for (m, _), keys in eeg.items()
            if m != i
            for key_Z in keys
        ]
        terms += [
            equation_1(query_Z, own_Z, others, tau)
            for query_Z, own_Z in zip(queries, eeg[i, v], strict=True)
        ]
    return torch.stack(terms).mean()


def equation_3(
    ecg: Sequences,
    eeg: Sequences,
    tau: float,
    va: Sequence[Sequence[float]] | None = None,
    d_max: float = 1.0,
) -> Tensor:
    """Z_i holds every sequence, all patches of each; a segment's other version among them."""
    whole = [{at: torch.cat(list(p)) for at, p in of.items()} for of in (ecg, eeg)]
    terms = [
        equation_1(
            query_Z,
            whole[1][i, v],
            [
                (counted(va, i, m, d_max), key_Z)
                for (m, w), key_Z in whole[1].items()
                if (m, w) != (i, v)
            ],
            tau,
        )
        for (i, v), query_Z in whole[0].items()
    ]
    return torch.stack(terms).mean()


def drawn(b: int, v: int, p: int, z: int = 4, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """ECG and EEG, (S, P, Z), the versions one after the other, and valence and arousal (B, 2)."""
    generator = torch.Generator().manual_seed(seed)
    ecg_SPZ, eeg_SPZ = (torch.randn(b * v, p, z, generator=generator).double() for _ in range(2))
    return ecg_SPZ, eeg_SPZ, 8 * torch.rand(b, 2, generator=generator).double() - 4


def by_place(x_SPZ: Tensor, b: int) -> Sequences:
    return {(s % b, s // b): tuple(x_SPZ[s]) for s in range(len(x_SPZ))}


SHAPES = [(3, 2, 4), (4, 1, 2), (2, 2, 1), (1, 2, 3), (1, 1, 1)]


@pytest.mark.parametrize("with_va", [False, True])
@pytest.mark.parametrize(("b", "v", "p"), SHAPES)
def test_both_levels_are_their_equations_in_plain_loops(
    b: int, v: int, p: int, with_va: bool
) -> None:
    ecg_SPZ, eeg_SPZ, va_B2 = drawn(b, v, p)
    segment_S = torch.arange(b).repeat(v)
    va_S2 = va_B2.repeat(v, 1) if with_va else None
    va = va_B2.tolist() if with_va else None
    ecg, eeg = by_place(ecg_SPZ, b), by_place(eeg_SPZ, b)
    got = patch_contrast(ecg_SPZ, eeg_SPZ, segment_S, TAU_P, va_S2, D_MAX)
    assert float(got) == pytest.approx(float(equation_2(ecg, eeg, TAU_P, va, D_MAX)), abs=1e-10)
    got = sequence_contrast(ecg_SPZ, eeg_SPZ, TAU_S, va_S2, D_MAX)
    assert float(got) == pytest.approx(float(equation_3(ecg, eeg, TAU_S, va, D_MAX)), abs=1e-10)


def test_other_patches_of_a_segment_change_nothing_of_the_first_level() -> None:
    """Neither of the version at hand nor of the other one."""
    ecg_SPZ, eeg_SPZ, _ = drawn(2, 2, 3)
    segment_S = torch.tensor([0, 1, 0, 1])

    def of_first_patch(keys_SPZ: Tensor) -> Tensor:
        query_SPZ = ecg_SPZ.clone().requires_grad_()
        loss = patch_contrast(query_SPZ, keys_SPZ, segment_S, TAU_P, None, D_MAX)
        (gradient_SPZ,) = torch.autograd.grad(loss, query_SPZ)
        return gradient_SPZ[0, 0]

    others = eeg_SPZ.clone()
    others[0, 1:], others[2] = 7.0, -7.0
    assert torch.equal(of_first_patch(eeg_SPZ), of_first_patch(others))
    others[1, 2] = 7.0  # another segment's
    assert not torch.equal(of_first_patch(eeg_SPZ), of_first_patch(others))


def test_a_segments_other_version_is_a_negative_of_the_second_level() -> None:
    ecg_SPZ, eeg_SPZ, _ = drawn(1, 2, 3)
    alone = sequence_contrast(ecg_SPZ[:1], eeg_SPZ[:1], TAU_S, None, D_MAX)
    assert float(alone) == 0
    assert float(sequence_contrast(ecg_SPZ, eeg_SPZ, TAU_S, None, D_MAX)) > 0.01


def test_a_sequence_knows_the_order_of_its_patches() -> None:
    """Else its shuffled version would be no negative but the positive once more."""
    ecg_SPZ, eeg_SPZ, _ = drawn(1, 1, 4)
    keys = torch.cat([eeg_SPZ, eeg_SPZ[:, [2, 0, 3, 1]]])
    queries = torch.cat([ecg_SPZ, ecg_SPZ[:, [2, 0, 3, 1]]])
    found = float(sequence_contrast(queries, keys, TAU_S, None, D_MAX))
    assert abs(found - math.log(2)) > 0.05


def test_similarity_is_the_cosine_so_that_lengths_do_not_count() -> None:
    ecg_SPZ, eeg_SPZ, _ = drawn(3, 2, 2)
    longer = ecg_SPZ * 17, eeg_SPZ * torch.linspace(0.1, 9, 6).double()[:, None, None]
    segment_S = torch.arange(3).repeat(2)
    for ecg, eeg in ((ecg_SPZ, eeg_SPZ), longer):
        found = patch_contrast(ecg, eeg, segment_S, TAU_P, None, D_MAX)
        want = patch_contrast(ecg_SPZ, eeg_SPZ, segment_S, TAU_P, None, D_MAX)
        # Of a sequence the patches' lengths count.
        assert float(found) == pytest.approx(float(want), abs=1e-10)


@pytest.mark.parametrize(("b", "v", "p"), SHAPES)
def test_equal_similarities_give_the_chance_losses(b: int, v: int, p: int) -> None:
    same_SPZ = torch.ones(b * v, p, 4).double()
    segment_S = torch.arange(b).repeat(v)
    found = (
        patch_contrast(same_SPZ, same_SPZ, segment_S, TAU_P, None, D_MAX),
        sequence_contrast(same_SPZ, same_SPZ, TAU_S, None, D_MAX),
    )
    n_patches = 1 + sum(m != 0 for m in range(b) for _ in range(v) for _ in range(p))
    want = math.log(n_patches), math.log(b * v)
    assert [float(one) for one in found] == pytest.approx(want, abs=1e-10)
    assert chance_losses(b, v, p) == pytest.approx(want)


def test_what_feels_alike_is_no_negative_and_beyond_the_radius_all_count_alike() -> None:
    va_S2 = torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.0, 1.5], [3.0, 4.0], [-4.0, 4.0]]).double()
    want = [[min(1.0, math.dist(a, b) / D_MAX) for b in va_S2.tolist()] for a in va_S2.tolist()]
    torch.testing.assert_close(distance_share(va_S2, D_MAX), torch.tensor(want).double())
    assert want[0] == [0.0, 0.0, 0.5, 1.0, 1.0]
    ecg_SPZ, eeg_SPZ, _ = drawn(5, 1, 2)
    nobody = torch.zeros_like(va_S2)
    assert float(sequence_contrast(ecg_SPZ, eeg_SPZ, TAU_S, nobody, D_MAX)) == 0
    far = 100 * torch.arange(10).double().view(5, 2)
    plain = sequence_contrast(ecg_SPZ, eeg_SPZ, TAU_S, None, D_MAX)
    assert float(sequence_contrast(ecg_SPZ, eeg_SPZ, TAU_S, far, D_MAX)) == pytest.approx(
        float(plain), abs=1e-12
    )


def test_gradients_stay_finite_where_every_negative_counts_nothing() -> None:
    ecg_SPZ, eeg_SPZ, _ = drawn(3, 2, 2)
    ecg_SPZ.requires_grad_()
    nobody = torch.zeros(6, 2).double()
    loss = patch_contrast(ecg_SPZ, eeg_SPZ, torch.arange(3).repeat(2), TAU_P, nobody, D_MAX)
    (gradient_SPZ,) = torch.autograd.grad(loss, ecg_SPZ)
    assert not gradient_SPZ.any()


@pytest.mark.parametrize("temperature", [0.0, -0.1, math.inf, math.nan])
def test_temperatures_and_radii_that_cannot_be_are_refused(temperature: float) -> None:
    ecg_SPZ, eeg_SPZ, va_B2 = drawn(3, 1, 2)
    with pytest.raises(ValueError, match="need temperature > 0 and finite, got"):
        info_nce(ecg_SPZ[:, 0], eeg_SPZ[:, 0], temperature)
    with pytest.raises(ValueError, match="need d_max > 0 and finite, got"):
        distance_share(va_B2, temperature)
    for name in ("tau_patch", "tau_sequence", "d_max"):
        with pytest.raises(ValueError, match=f"need {name} > 0 and finite, got {temperature:g}"):
            alignment_config(**{name: temperature})


def test_queries_and_keys_of_other_shapes_are_refused() -> None:
    for key_NZ in (torch.randn(4, 3), torch.randn(3, 4), torch.randn(3)):
        with pytest.raises(ValueError, match=r"need queries and keys of one shape \(N, Z\), got"):
            info_nce(torch.randn(3, 3), key_NZ, 0.1)


# A step -------------------------------------------------------------------------------------------

ROWS = (3, 11, 0, 7, 5)
"""Of the dataset's index, by their place in the step."""
VA = ((1.0, 2.0), (1.0, 2.5), (-3.0, 0.0), (1.0, 2.0), (4.0, -4.0))
SHARES = {1: (range(5),), 2: (range(2), range(2, 5))}
"""Places that each worker holds, by the number of workers."""
CASES: Mapping[str, Mapping[str, Any]] = {
    "one order": {"n_shuffles": 1},
    "three orders": {"n_shuffles": 3, "alpha": 0.2},
    "patches": {"levels": "patch", "n_shuffles": 2},
    "sequences": {"levels": "sequence"},
    "as recorded": {"shuffle": False},
    "another segment's": {"pairing": "permuted", "shuffle": False},
    "weighted": {"n_shuffles": 2, "d_max": D_MAX},
}


def stage_of(case: str) -> Alignment:
    kind = VaAlignment if case == "weighted" else Alignment
    config = alignment_config(tau_patch=TAU_P, tau_sequence=TAU_S, **CASES[case])
    return kind(config, inputs(), {"teacher": taught()})


def share_of(stage: Alignment, places: range) -> Batch:
    targets = {"va": torch.tensor(VA).double()[list(places)]} if stage.target else {}
    return step_of(stage, [ROWS[place] for place in places], places, targets, step=6)


def total(stage: Alignment, losses: Mapping[str, Tensor]) -> Tensor:
    """Eq. 4, by the weights that the loop takes."""
    return torch.stack([stage.loss_weights.get(n, 1.0) * x for n, x in losses.items()]).sum()


def stepped() -> dict[str, Any]:
    """Losses and the gradient of a step, as this worker finds them from its share."""
    places = SHARES[distributed.world_size()][distributed.rank()]
    found = {}
    for case in CASES:
        stage = stage_of(case)
        module = stage.build().double()
        parallel = loop.in_parallel(module, torch.device("cpu"))
        losses = stage.losses(parallel, share_of(stage, places))
        total(stage, losses).backward()  # type: ignore[no-untyped-call]
        found[case] = {
            "losses": {name: loss.item() for name, loss in losses.items()},
            "gradient": flat(module),
        }
    return found


def flat(module: torch.nn.Module) -> Tensor:
    gradients = [p.grad for p in module.parameters()]
    return torch.cat([g.flatten() for g in gradients if g is not None])


def by_loop(case: str) -> dict[str, Any]:
    """The same of segments one by one, the EEG shuffled by hand as the ECG is seen to be."""
    stage = stage_of(case)
    module = stage.build().double()
    n_patches, ecg, eeg = stage.n_patches, {}, {}
    for place, row in enumerate(ROWS):
        seen: list[Tensor] = []
        hook = module.encoder.register_forward_pre_hook(lambda _, args, to=seen: to.append(args[0]))
        stage.losses(module, share_of(stage, range(place, place + 1)))
        hook.remove()
        whole = group([row])
        for version, x_BCT in enumerate(torch.cat(seen)):
            ecg[place, version] = module.encoder(x_BCT[None])[0].mean(0)
            order = order_of(whole["ecg"].x_BCT[0], x_BCT, n_patches)
            own = pieces(whole["eeg"].x_BCT[0], n_patches)
            again_CT = torch.cat([own[p] for p in order], dim=1)
            eeg[place, version] = stage.teacher(again_CT[None])[0].mean(0)
    ecg = {at: tuple(module.head(z_PZ)) for at, z_PZ in ecg.items()}
    if stage.config.pairing == "permuted":
        eeg = {(i, v): eeg[(i - 1) % len(ROWS), v] for i, v in eeg}
    va = VA if stage.target else None
    equations = {
        "patch": equation_2(ecg, eeg, TAU_P, va, D_MAX),
        "sequence": equation_3(ecg, eeg, TAU_S, va, D_MAX),
    }
    wanted = {"both": ("patch", "sequence")}.get(stage.config.levels, (stage.config.levels,))
    alpha = stage.config.alpha
    of_both = {"patch": alpha, "sequence": 1 - alpha}
    weights = of_both if len(wanted) > 1 else {wanted[0]: 1.0}
    torch.stack([w * equations[name] for name, w in weights.items()]).sum().backward()  # type: ignore[no-untyped-call]
    return {"losses": {n: equations[n].item() for n in wanted}, "gradient": flat(module)}


def order_of(x_CT: Tensor, other_CT: Tensor, n_patches: int) -> list[int]:
    """Which patch of a signal stands at each place of another."""
    known = pieces(x_CT, n_patches)
    return [
        next(p for p, piece in enumerate(known) if torch.equal(piece, found))
        for found in pieces(other_CT, n_patches)
    ]


@pytest.fixture(scope="module")
def wanted() -> Mapping[str, Mapping[str, Any]]:
    torch.set_num_threads(1)
    return {case: by_loop(case) for case in CASES}


@pytest.mark.parametrize("n_workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_step_is_its_equations_in_plain_loops_on_one_worker_and_on_two(
    n_workers: int, tmp_path: Path, wanted: Mapping[str, Mapping[str, Any]]
) -> None:
    for found in found_by(n_workers, tmp_path, stepped):
        for case in CASES:
            assert found[case]["losses"] == pytest.approx(wanted[case]["losses"], abs=1e-10), case
            want = wanted[case]["gradient"]
            assert want.abs().max() > 1e-3
            torch.testing.assert_close(
                found[case]["gradient"], want, rtol=0, atol=1e-10 * float(want.abs().max())
            )
    assert len({str(one["losses"]) for one in wanted.values()}) == len(CASES)


def test_alpha_weighs_the_levels_and_one_alone_counts_in_full() -> None:
    assert stage_of("three orders").loss_weights == {"patch": 0.2, "sequence": 0.8}
    for case in ("patches", "sequences"):
        assert not stage_of(case).loss_weights


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, 1.5, math.nan])
def test_alpha_outside_its_range_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match=r"need alpha in \(0, 1\), got .* set levels"):
        alignment_config(alpha=alpha)


def test_the_chance_loss_of_a_step_is_that_of_equal_similarities() -> None:
    """Five segments of four patches in two versions; weighted negatives leave it open."""
    patch, sequence = math.log(1 + 2 * 4 * 4), math.log(10)
    want = {
        "one order": 0.5 * patch + 0.5 * sequence,
        "three orders": 0.2 * patch + 0.8 * sequence,
        "patches": patch,
        "sequences": sequence,
        "as recorded": 0.5 * math.log(1 + 4 * 4) + 0.5 * math.log(5),
    }
    for case, loss in want.items():
        assert stage_of(case).chance_loss(5) == pytest.approx(loss), case
    assert stage_of("weighted").chance_loss(5) is None
