"""SSL-ECG's transformations, each against its definition by plain loops.

Shapes: B segments, T samples, V = 7 versions.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from emoray.methods import counter_draws
from emoray.methods.counter_draws import DropoutKey
from emoray.methods.ssl_ecg.config import TransformationConfig
from emoray.methods.ssl_ecg.transforms import TASKS, noised, permuted, versions, warped

PAPER = TransformationConfig()
T = 2560
Array = NDArray[np.float64]


def keys(n: int, step: int = 3) -> Tensor:
    return counter_draws.segment_keys(
        DropoutKey(5, step), torch.arange(n), counter_draws.AUGMENTATION
    )


def signals(n: int, n_times: int = T) -> Tensor:
    """Of other loudness and level each: a mean that is not zero tells power from variance."""
    generator = torch.Generator().manual_seed(n_times)
    x_BT = torch.randn(n, n_times, generator=generator, dtype=torch.float64)
    loud_B1 = 10.0 ** torch.arange(n)[:, None].remainder(3).double()
    return (x_BT + 0.7) * loud_B1


def test_versions_stand_in_the_order_of_the_tasks() -> None:
    x_BT = signals(3)
    made = dict(zip(TASKS, versions(x_BT, keys(3), PAPER).unbind(1), strict=True))
    assert TASKS == (
        "original", "noise", "scaling", "negation", "inversion", "permutation", "warping",
    )  # fmt: skip
    for b in range(3):
        x = x_BT[b].tolist()
        assert made["original"][b].tolist() == x
        assert made["scaling"][b].tolist() == [v * 1.1 for v in x]
        assert made["negation"][b].tolist() == [-v for v in x]
        assert made["inversion"][b].tolist() == [x[len(x) - 1 - t] for t in range(len(x))]
    drawn = {"noise", "permutation", "warping"}
    assert all(not torch.equal(made[task], x_BT) for task in drawn)


# Noise --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("snr_db", [15.0, 3.0])
def test_noise_lies_as_far_below_the_signal_as_was_asked(snr_db: float) -> None:
    x_BT = signals(40)
    noise_BT = (noised(x_BT, keys(40), snr_db) - x_BT).numpy()
    for b, noise_T in enumerate(noise_BT):
        power = sum(v * v for v in x_BT[b].tolist()) / T
        found = sum(v * v for v in noise_T.tolist()) / T
        # The power of 2,560 draws strays by 2.8 % (0.12 dB): five of 40 may by twice as much.
        assert abs(10 * math.log10(power / found) - snr_db) < 0.5
    of_all = (x_BT.square().mean(1) / torch.from_numpy(noise_BT**2).mean(1)).mean()
    assert abs(10 * math.log10(of_all) - snr_db) < 0.2


def test_noise_is_white_and_of_each_segment_its_own() -> None:
    x_BT = torch.ones(30, T, dtype=torch.float64)
    noise_BT = (noised(x_BT, keys(30), 15.0) - x_BT) * 10**0.75  # of variance 1
    assert abs(float(noise_BT.mean())) < 0.02
    assert abs(float((noise_BT[:, 1:] * noise_BT[:, :-1]).mean())) < 0.02
    assert abs(float((noise_BT[1:] * noise_BT[:-1]).mean())) < 0.02
    assert abs(float((noise_BT.abs() > 1.959964).double().mean()) - 0.05) < 0.005


# Permutation --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_times", "n_pieces", "length"), [(2560, 20, 128), (128, 20, 6)])
def test_equal_pieces_change_places_and_none_is_lost(
    n_times: int, n_pieces: int, length: int
) -> None:
    x_BT = signals(12, n_times)
    moved_BT = permuted(x_BT, keys(12), n_pieces)
    for x_T, moved_T in zip(x_BT.numpy(), moved_BT.numpy(), strict=True):
        pieces = [x_T[i * length : (i + 1) * length].tolist() for i in range(n_pieces)]
        places = [
            pieces.index(moved_T[i * length : (i + 1) * length].tolist()) for i in range(n_pieces)
        ]
        assert sorted(places) == list(range(n_pieces))
        assert places != list(range(n_pieces))
        assert moved_T[n_pieces * length :].tolist() == x_T[n_pieces * length :].tolist()


def test_a_piece_may_come_to_any_place() -> None:
    places_BP = permuted(torch.arange(20.0).expand(4000, 20), keys(4000), 20)
    for place in range(20):
        counts = torch.bincount(places_BP[:, place].long(), minlength=20)
        assert counts.min() > 200 - 5 * 14  # 4,000 / 20, give or take five deviations of 13.8
        assert counts.max() < 200 + 5 * 14


# Time warp ----------------------------------------------------------------------------------------


def warped_by_loop(x_T: Array, longer: set[int], start: int) -> Array:
    """The definition, one sample after the other."""
    made: list[float] = []
    for piece in range(9):
        own = x_T[piece * 284 : (piece + 1) * 284].tolist()
        n = 299 if piece in longer else 271
        for j in range(n):
            place = min(max((j + 0.5) * 284 / n - 0.5, 0.0), 283.0)
            left = int(place)
            right = min(left + 1, 283)
            made.append(own[left] * (1 - (place - left)) + own[right] * (place - left))
    assert len(made) == 2579
    return np.array(made[start : start + T])


def drawn(keys_B: Tensor) -> list[tuple[set[int], int]]:
    """Which pieces are stretched and where the cut begins, as a straight line tells it."""
    line_BT = torch.arange(T, dtype=torch.float64).expand(len(keys_B), T)
    found = []
    for y_T in warped(line_BT, keys_B, 9, 1.05).numpy():
        # A piece is interpolated among its own samples: from 284 p to 284 p + 283.
        piece_T = np.clip(np.floor((y_T + 1e-9) / 284), 0, 8).astype(int)
        counts = np.bincount(piece_T, minlength=9).tolist()
        middle = [(piece_T == p).nonzero()[0][counts[p] // 2] for p in range(9)]
        steps = [y_T[m + 1] - y_T[m] for m in middle]
        longer = {p for p in range(9) if steps[p] < 1}
        assert all(math.isclose(s, 284 / (299 if s < 1 else 271), rel_tol=1e-9) for s in steps)
        lengths = [299 if p in longer else 271 for p in range(9)]
        assert counts[1:8] == lengths[1:8]
        start = lengths[0] - counts[0]
        assert counts[8] == lengths[8] - (2579 - T - start)
        found.append((longer, start))
    return found


def test_a_warp_is_what_its_definition_says_sample_by_sample() -> None:
    x_BT, keys_B = signals(8), keys(8)
    got_BT = warped(x_BT, keys_B, 9, 1.05)
    assert got_BT.shape == (8, T)
    for b, (longer, start) in enumerate(drawn(keys_B)):
        want_T = warped_by_loop(x_BT[b].numpy(), longer, start)
        np.testing.assert_allclose(got_BT[b].numpy(), want_T, rtol=0, atol=1e-9 * abs(want_T).max())


def test_five_pieces_are_stretched_and_the_cut_begins_anywhere() -> None:
    found = drawn(keys(400))
    assert {len(longer) for longer, _ in found} == {5}
    assert {start for _, start in found} == set(range(20))
    share_P = np.array([[p in longer for p in range(9)] for longer, _ in found]).mean(axis=0)
    assert np.abs(share_P - 5 / 9).max() < 5 * math.sqrt(20 / 81 / 400)


@pytest.mark.parametrize("n_times", [125, 128, 256, 512, 1280])
def test_a_warp_of_any_length_leaves_that_length(n_times: int) -> None:
    line_BT = torch.arange(n_times, dtype=torch.float64).expand(50, n_times)
    got_BT = warped(line_BT, keys(50), 9, 1.05)
    assert got_BT.shape == (50, n_times)
    assert (got_BT.diff(dim=1) >= 0).all()
    assert got_BT.min() >= 0
    assert got_BT.max() <= n_times - 1


# All ----------------------------------------------------------------------------------------------


def test_many_at_once_are_what_each_is_by_itself() -> None:
    x_BT, keys_B = signals(7), keys(7)
    at_once = versions(x_BT, keys_B, PAPER)
    for b in (6, 0, 3):
        alone = versions(x_BT[b : b + 1], keys_B[b : b + 1], PAPER)[0]
        assert torch.equal(at_once[b], alone)


def test_draws_change_with_the_step() -> None:
    x_BT = signals(2)
    one, two = (versions(x_BT, keys(2, step), PAPER) for step in (3, 4))
    changed = {task: not torch.equal(one[:, i], two[:, i]) for i, task in enumerate(TASKS)}
    assert {task for task, moved in changed.items() if moved} == {"noise", "permutation", "warping"}


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="need segments of at least 20 samples, got 19"):
        versions(signals(1, 19), keys(1), PAPER)


@pytest.mark.parametrize(
    ("wrong", "need"),
    [
        ({"scale": 0.0}, "need scale > 0"),
        ({"warp": 1.0}, "and warp > 1"),
        ({"n_permuted": 1}, "need two pieces or more"),
        ({"n_warped": 0}, "need two pieces or more"),
    ],
)
def test_transformations_that_change_nothing_are_refused(
    wrong: dict[str, float], need: str
) -> None:
    with pytest.raises(ValueError, match=need):
        TransformationConfig(**wrong)  # type: ignore[arg-type]
