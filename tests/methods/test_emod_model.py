"""EMOD's encoder and head: what they compute, and that nothing but the segment decides it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
import torch._dynamo.testing
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from emoray.batches.batch import Group
from emoray.methods import attention, counter_draws
from emoray.methods.attention import SegmentDropout
from emoray.methods.counter_draws import DropoutKey
from emoray.methods.emod import frontend, model
from emoray.methods.emod.frontend import Branch, spectrum, tap_moments, token_windows
from emoray.methods.emod.model import (
    DatasetNorm,
    EmodPretraining,
    Encoder,
    EncoderConfig,
    ProjectionHead,
    relative_attention,
)
from emoray.vocabulary.electrodes import VOCABULARY
from tests.groups import eeg_group, with_eeg

SMALL = EncoderConfig(d_model=16, n_heads=2, n_layers=2, d_feedforward=32)
ABLATIONS = (
    "frequency_tokens",
    "time_tokens",
    "spatial_attention",
    "temporal_attention",
    "electrode_embedding",
    "relative_time",
)


def group(
    n_segments: int = 3,
    n_electrodes: int = 4,
    sfreq: float = 128.0,
    seconds: float = 2.0,
    first: int = 0,
    seed: int = 0,
) -> Group:
    generator = torch.Generator().manual_seed(seed)
    shape = (n_segments, n_electrodes, round(seconds * sfreq))
    x_BCT = torch.randn(shape, generator=generator, dtype=torch.float64)
    positions_B = torch.arange(first, first + n_segments)
    return eeg_group(x_BCT, VOCABULARY[:n_electrodes], sfreq, positions_B)


def rows(whole: Group, chosen: Tensor) -> Group:
    part = with_eeg(whole, x_BCT=whole["eeg"].x_BCT[chosen])
    return replace(part, positions_B=whole.positions_B[chosen])


def encoder(config: EncoderConfig = SMALL, seed: int = 0) -> Encoder:
    torch.manual_seed(seed)
    return Encoder(config).double()


def close(one: Tensor, two: Tensor, tolerance: float = 1e-10) -> bool:
    return bool((one - two).abs().max() <= tolerance * max(1.0, two.abs().max().item()))


# Size ---------------------------------------------------------------------------------------------


def test_the_papers_settings_give_845384_parameters() -> None:
    counted = sum(p.numel() for p in Encoder().parameters())
    attention = 2 * (128 * 384 + 384 + 128 * 128 + 128) + 99 * 8
    feedforward = 128 * 512 + 512 + 512 * 128 + 128
    front = 2 * (128 * 25 + 128) + 2 * 256 + 256 * 128 + 128 + 72 * 128
    assert counted == front + 3 * (attention + feedforward + 3 * 256) == 845_384


@pytest.mark.parametrize("part", ABLATIONS)
def test_each_part_of_figure_3_can_be_left_out(part: str) -> None:
    whole, without = encoder(), encoder(replace(SMALL, **{part: False}))
    n_whole, n_without = (sum(p.numel() for p in m.parameters()) for m in (whole, without))
    assert n_without < n_whole
    (tokens_BCKD,) = without.eval()([group()])
    assert tokens_BCKD.shape == (3, 4, 10, 16)
    assert torch.isfinite(tokens_BCKD).all()


def test_every_parameter_learns_but_what_cancels_in_a_softmax() -> None:
    torch.manual_seed(0)
    module = EmodPretraining(SMALL).double()
    z_BD = module([group()], DropoutKey(0, 0))
    (z_BD * torch.randn_like(z_BD)).sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        gradient = parameter.grad
        if name.endswith("qkv.bias"):
            keys = gradient[16:32]
            assert torch.equal(keys, torch.zeros_like(keys)), name
            gradient = torch.cat([gradient[:16], gradient[32:]])
        assert gradient.abs().max() > 0, name


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n_heads": 3}, "divisible by n_heads"),
        ({"n_norm_groups": 3}, "n_norm_groups"),
        ({"kernel": 24}, "odd kernel"),
        ({"dropout": 1.0}, r"dropout in \[0, 1\)"),
        ({"time_tokens": False, "frequency_tokens": False}, "neither"),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **wrong)


# Front end ----------------------------------------------------------------------------------------


@given(
    n_segments=st.integers(1, 3),
    n_electrodes=st.integers(1, 4),
    n_samples=st.integers(5, 90),
    n_tokens=st.integers(1, 12),
    chunk=st.sampled_from([1, 300, 1000, 1 << 20]),
    offset=st.sampled_from([0.0, 40.0]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=40, deadline=None)
def test_the_chunked_front_end_is_the_plain_one(
    n_segments: int,
    n_electrodes: int,
    n_samples: int,
    n_tokens: int,
    chunk: int,
    offset: float,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    chunked, plain = (Branch(8, 25, 4, mode).double() for mode in ("chunked", "plain"))
    for parameter in chunked.parameters():
        nn.init.normal_(parameter)
    plain.load_state_dict(chunked.state_dict())
    x_BCT = torch.randn(n_segments, n_electrodes, n_samples, dtype=torch.float64) + offset
    x_1, x_2 = x_BCT.clone().requires_grad_(), x_BCT.clone().requires_grad_()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frontend, "CHUNK_CPU", chunk)
        got, want = chunked(x_1, n_tokens), plain(x_2, n_tokens)
        weights = torch.randn_like(want)
        (got * weights).sum().backward()
        (want * weights).sum().backward()
    assert close(got, want)
    assert x_1.grad is not None
    assert x_2.grad is not None
    assert close(x_1.grad, x_2.grad)
    for one, two in zip(chunked.parameters(), plain.parameters(), strict=True):
        assert one.grad is not None
        assert two.grad is not None
        assert close(one.grad, two.grad)


def test_tap_moments_are_those_of_all_taps_written_out() -> None:
    x_BCT = torch.randn(2, 3, 40, dtype=torch.float64) + 1
    taps_BSJ = F.pad(x_BCT, (3, 3)).unfold(-1, 7, 1).flatten(1, 2)
    mean_BJ, covariance_BJJ = tap_moments(x_BCT, 3)
    assert close(mean_BJ, taps_BSJ.mean(1), 1e-12)
    for found, taps_SJ in zip(covariance_BJJ, taps_BSJ, strict=True):
        assert close(found, torch.cov(taps_SJ.T, correction=0), 1e-12)


@pytest.mark.parametrize(("n_samples", "n_tokens"), [(2000, 50), (1280, 50), (641, 50), (30, 50)])
def test_token_windows_are_those_of_adaptive_pooling(n_samples: int, n_tokens: int) -> None:
    signal = torch.randn(n_samples, dtype=torch.float64)
    windows = token_windows(n_samples, n_tokens, torch.device("cpu"))
    taken = signal if windows.places_P is None else signal[windows.places_P]
    taken_KL = taken.view(n_tokens, -1)
    shares = windows.shares_KL1
    pooled = taken_KL.mean(1) if shares is None else (taken_KL * shares[..., 0]).sum(1)
    assert close(pooled, F.adaptive_avg_pool1d(signal[None], n_tokens)[0], 1e-12)


def test_group_statistics_belong_to_one_segment() -> None:
    whole = group(n_segments=3)
    loudness_B11 = torch.tensor([1.0, 50.0, 1.0])[:, None, None]
    louder = with_eeg(whole, x_BCT=whole["eeg"].x_BCT * loudness_B11)
    backbone = encoder().eval()
    (before,), (after,) = backbone([whole]), backbone([louder])
    assert close(before[[0, 2]], after[[0, 2]], 1e-12)


@pytest.mark.parametrize("part", ["real", "magnitude"])
def test_both_branches_start_out_seeing_the_signal_whatever_its_scale(part: str) -> None:
    """Fourier coefficients are some fifty times smaller than the signal they come from."""
    x_BCT = group(seconds=10)["eeg"].x_BCT
    spectrum_BCF = spectrum(x_BCT, 128.0, part, None)
    torch.manual_seed(0)
    branch = Branch(8, 25, 4).double()
    for signal in (x_BCT, spectrum_BCF):
        scaled = branch(signal * 1000, 10)
        assert close(branch(signal, 10), scaled, 0.1)
        assert scaled.std(2).mean() > 0.02  # over tokens: more than a constant


def test_the_spectrum_is_the_released_one_and_pools_equal_hz_on_request() -> None:
    x_BCT = group(sfreq=100.0)["eeg"].x_BCT
    at = torch.arange(200, dtype=torch.float64) / 200
    for f in (0, 3, 100):
        want = (x_BCT * torch.cos(2 * math.pi * f * at)).mean(-1)
        assert close(spectrum(x_BCT, 100.0, "real", None)[..., f], want, 1e-12)
    assert torch.equal(
        spectrum(x_BCT, 100.0, "magnitude", None), torch.fft.rfft(x_BCT, norm="forward").abs()
    )
    for sfreq in (128.0, 200.0, 300.0):
        segment_BCT = torch.zeros(1, 1, round(4 * sfreq))
        assert spectrum(segment_BCT, sfreq, "real", 50.0).shape[-1] == 4 * 50 + 1
    with pytest.raises(ValueError, match="up to 64 at 128 Hz, got 80"):
        spectrum(x_BCT, 128.0, "real", 80.0)


def test_magnitudes_do_not_depend_on_where_a_segment_starts() -> None:
    x_BCT = group()["eeg"].x_BCT
    moved_BCT = x_BCT.roll(17, -1)
    assert close(*(spectrum(x, 128.0, "magnitude", None) for x in (x_BCT, moved_BCT)), 1e-12)
    assert not close(*(spectrum(x, 128.0, "real", None) for x in (x_BCT, moved_BCT)), 1e-3)


# Attention ----------------------------------------------------------------------------------------


def attention_in_loops(q: Tensor, k: Tensor, v: Tensor, table_OE: Tensor) -> Tensor:
    """Eq. 3 for one head: softmax of q_i k_j / sqrt(E) + q_i r_(i-j), far offsets sharing a row."""
    n, width = q.shape
    furthest = len(table_OE) // 2
    out = torch.zeros_like(v)
    for i in range(n):
        scores = torch.stack(
            [
                q[i] @ k[j] / math.sqrt(width)
                + q[i] @ table_OE[max(-furthest, min(furthest, i - j)) + furthest]
                for j in range(n)
            ]
        )
        out[i] = torch.softmax(scores, 0) @ v
    return out


@pytest.mark.parametrize("n_tokens", [1, 4, 9])
@pytest.mark.parametrize("at_once", [1, 1 << 27])
def test_temporal_attention_is_equation_3(
    n_tokens: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "SCORES_AT_ONCE", at_once)
    layer = model.TemporalAttention(replace(SMALL, max_offset=4)).double()
    q, k, v = torch.randn(3, 5, 2, n_tokens, 8, dtype=torch.float64)
    got = relative_attention(q, k, v, layer._offsets(n_tokens))
    assert layer.offsets_OE is not None
    assert layer.offsets_OE.shape == (7, 8)
    for n in range(5):
        for h in range(2):
            want = attention_in_loops(q[n, h], k[n, h], v[n, h], layer.offsets_OE.detach())
            assert close(got[n, h], want, 1e-12)


def test_attention_in_parts_gives_the_same_gradients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gradients = []
    for at_once in (1, 1 << 27):
        monkeypatch.setattr(model, "SCORES_AT_ONCE", at_once)
        monkeypatch.setattr(attention, "SEQUENCES_AT_ONCE", at_once)
        backbone = encoder()
        backbone([group()], DropoutKey(0, 0))[0].square().sum().backward()
        gradients.append(
            torch.cat([p.grad.flatten() for p in backbone.parameters() if p.grad is not None])
        )
    assert close(*gradients)


def test_temporal_attention_stays_within_an_electrode() -> None:
    """Without spatial attention electrodes meet in the group statistics only."""
    h_NKD = torch.randn(6, 10, 16, dtype=torch.float64)
    layer = model.TemporalAttention(SMALL).double()
    changed = h_NKD.clone()
    changed[2, 3] += 1
    moved = (layer(changed) - layer(h_NKD)).abs().amax((1, 2)) > 0
    assert moved.tolist() == [False, False, True, False, False, False]


def test_spatial_attention_stays_within_a_segment_and_a_time_token() -> None:
    h_NKD = torch.randn(2 * 3 + 4, 10, 16, dtype=torch.float64)  # (2, 3) and (1, 4)
    layer = model.SpatialAttention(SMALL).double()
    changed = h_NKD.clone()
    changed[4, 7] += 1  # second segment of the first group
    shapes = [(2, 3), (1, 4)]
    moved_NK = (layer(changed, shapes) - layer(h_NKD, shapes)).abs().amax(2) > 1e-12
    assert moved_NK.any(1).tolist() == [False] * 3 + [True] * 3 + [False] * 4
    assert moved_NK.any(0).nonzero().flatten().tolist() == [7]


# Segments, groups and electrodes ------------------------------------------------------------------

MIXED = (
    group(3, 4, 128.0, 2.0, first=0, seed=1),
    group(2, 7, 100.0, 1.0, first=3, seed=2),
    group(2, 5, 200.0, 2.0, first=5, seed=3),
)


def test_one_forward_over_all_groups_equals_one_per_group() -> None:
    torch.manual_seed(0)
    module = EmodPretraining(SMALL).double()
    key = DropoutKey(3, 5)
    together = module(MIXED, key)
    alone = torch.cat([module([each], key) for each in MIXED])
    assert together.shape == (7, 16)
    assert close(together, alone, 1e-12)


def test_lengths_from_1_to_60_seconds_go_through_one_encoder() -> None:
    backbone = encoder().float().eval()
    groups = [group(1, 2, 100.0, seconds, seed=4) for seconds in (1, 10, 60)]
    shapes = [tuple(tokens.shape) for tokens in backbone(groups)]
    assert shapes == [(1, 2, 5, 16), (1, 2, 50, 16), (1, 2, 300, 16)]


def test_electrodes_are_a_set_known_by_their_ids() -> None:
    whole, order = group(), [2, 0, 3, 1]
    eeg = whole["eeg"]
    channels = tuple(eeg.channels[i] for i in order)
    moved = with_eeg(whole, x_BCT=eeg.x_BCT[:, order], channels=channels)
    module = EmodPretraining(SMALL).double().eval()
    assert close(module.encoder([whole])[0][:, order], module.encoder([moved])[0], 1e-11)
    assert close(module([whole]), module([moved]), 1e-11)
    renamed = with_eeg(whole, channels=VOCABULARY[1:5])
    assert not close(module([whole]), module([renamed]), 1e-3)


def test_inputs_that_disagree_are_refused() -> None:
    whole, backbone = group(), encoder().eval()
    with pytest.raises(ValueError, match="at least one group"):
        backbone([])
    with pytest.raises(ValueError, match=r"C electrodes, got \(3, 4, 256\) and 3 electrodes"):
        backbone([with_eeg(whole, channels=VOCABULARY[:3])])
    with pytest.raises(ValueError, match="one position per segment"):
        backbone([replace(whole, positions_B=torch.arange(2))])
    with pytest.raises(ValueError, match=r"at least one token, got 0\.05 s"):
        backbone([group(seconds=0.05, sfreq=100.0)])
    with pytest.raises(ValueError, match="need a DropoutKey"):
        backbone.train()([whole])


# Dropout ------------------------------------------------------------------------------------------


def test_masks_keep_the_rate_they_should() -> None:
    keys_N = counter_draws.segment_keys(DropoutKey(0, 0), torch.arange(500), counter_draws.DROPOUT)
    for p in (0.1, 0.5):
        kept_NKD = counter_draws.keep_mask(keys_N, 20, 33, p).double()
        n = kept_NKD.numel()
        sd = math.sqrt(p * (1 - p))
        assert abs(kept_NKD.mean() - (1 - p)) < 5 * sd / math.sqrt(n)
        # No element, token or key is favoured, and neighbours do not follow each other.
        for axes in ((0, 1), (0, 2), (1, 2)):
            means = kept_NKD.mean(axes)
            assert (means - (1 - p)).abs().max() < 6 * sd / math.sqrt(n / len(means))
        z = (kept_NKD - kept_NKD.mean()) / sd
        for axis in range(3):
            ahead, behind = (
                z.narrow(axis, 1, z.shape[axis] - 1),
                z.narrow(axis, 0, z.shape[axis] - 1),
            )
            assert abs((ahead * behind).mean()) < 5 / math.sqrt(ahead.numel())


def test_dropout_keeps_the_mean() -> None:
    keys_N = counter_draws.segment_keys(DropoutKey(0, 0), torch.arange(1000), counter_draws.DROPOUT)
    dropped = counter_draws.dropout(torch.ones(1000, 10, 16, dtype=torch.float64), keys_N, 0.3)
    assert set(dropped.unique().tolist()) == {0.0, 1 / (1 - round(0.3 * 65536) / 65536)}
    assert abs(dropped.mean() - 1) < 0.01


def test_masks_change_with_seed_step_segment_and_site() -> None:
    x_NKD = torch.ones(2, 5, 64)
    keys = [
        counter_draws.segment_keys(
            DropoutKey(seed, step), torch.tensor([place, 9]), counter_draws.DROPOUT
        )
        for seed, step, place in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))
    ]
    masks = [SegmentDropout(0.5, 0)(x_NKD, key)[0] for key in keys]
    masks.append(SegmentDropout(0.5, 1)(x_NKD, keys[0])[0])
    for i, one in enumerate(masks):
        assert torch.equal(one, SegmentDropout(0.5, i // 4)(x_NKD, keys[i % 4])[0])
        assert all(0.3 < (one != two).float().mean() < 0.7 for two in masks[:i])


@pytest.mark.parametrize("n_workers", [2, 4])
def test_masks_do_not_depend_on_how_a_batch_is_dealt(n_workers: int) -> None:
    whole, backbone, key = group(n_segments=8), encoder(), DropoutKey(11, 2)
    (want,) = backbone([whole], key)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(1))
    for share in order.view(n_workers, -1):
        assert close(backbone([rows(whole, share)], key)[0], want[share], 1e-12)
    assert not close(backbone([whole], DropoutKey(11, 3))[0], want, 1e-3)


def test_no_dropout_in_evaluation_or_at_zero() -> None:
    keys_N = counter_draws.segment_keys(DropoutKey(0, 0), torch.arange(2), counter_draws.DROPOUT)
    x_NKD = torch.randn(2, 3, 8)
    assert SegmentDropout(0.0, 0)(x_NKD, keys_N) is x_NKD
    assert SegmentDropout(0.5, 0).eval()(x_NKD, keys_N) is x_NKD
    free = encoder(replace(SMALL, dropout=0.0))
    assert torch.equal(free([group()])[0], free([group()], DropoutKey(0, 0))[0])


# Head ---------------------------------------------------------------------------------------------


def test_pooling_is_attention_over_electrodes_then_time() -> None:
    head, tokens_BCKD = ProjectionHead(4).double(), torch.randn(2, 3, 5, 4, dtype=torch.float64)
    w_D, u_D = head.electrode_score.weight[0], head.time_score.weight[0]
    for got, tokens_CKD in zip(head.pool(tokens_BCKD), tokens_BCKD, strict=True):
        per_token = [
            sum(
                share * tokens_CKD[c, k]
                for c, share in enumerate(torch.softmax(tokens_CKD[:, k] @ w_D, 0))
            )
            for k in range(5)
        ]
        over_time_KD = torch.stack([torch.as_tensor(vector) for vector in per_token])
        assert close(got, torch.softmax(over_time_KD @ u_D, 0) @ over_time_KD, 1e-12)


def test_the_head_normalises_each_dataset_by_itself() -> None:
    """As torch's BatchNorm1d does on each dataset's segments."""
    norm, sizes = DatasetNorm(6).double(), (3, 4)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x_BD = torch.randn(7, 6, dtype=torch.float64) * 5 + 2
    got, means, variances = norm(x_BD, sizes), [], []
    for part_BD, got_BD in zip(x_BD.split(sizes), got.split(sizes), strict=True):
        want_BD = F.batch_norm(part_BD, None, None, norm.weight, norm.bias, training=True)
        assert close(got_BD, want_BD, 1e-12)
        means.append(part_BD.mean(0))
        variances.append(part_BD.var(0, correction=0))
    assert close(norm.running_mean, 0.1 * sum(means) / 2, 1e-12)
    assert close(norm.running_var, 0.9 + 0.1 * sum(variances) / 2, 1e-12)
    want_BD = F.batch_norm(x_BD, norm.running_mean, norm.running_var, norm.weight, norm.bias)
    assert close(norm.eval()(x_BD, sizes), want_BD, 1e-12)


def test_embeddings_have_unit_length() -> None:
    torch.manual_seed(0)
    module = EmodPretraining(SMALL).double()
    z_BD = module(MIXED, DropoutKey(0, 0))
    assert close(z_BD.norm(dim=1), torch.ones(7, dtype=torch.float64), 1e-12)


def test_in_evaluation_a_segment_knows_no_other() -> None:
    module = EmodPretraining(SMALL).double().eval()
    whole = group(n_segments=4)
    assert close(module([rows(whole, torch.tensor([2]))]), module([whole])[2:3], 1e-12)


def test_read_outs_see_the_mean_token() -> None:
    module = EmodPretraining(SMALL).double().eval()
    tokens: Sequence[Tensor] = module.encoder(MIXED)
    want = torch.cat([each.mean((1, 2)) for each in tokens])
    got = module.embed(MIXED)
    assert torch.equal(got, want)
    assert not got.requires_grad


# Precision and compilation ------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["chunked", "plain"])
def test_bf16_autocast_stays_near_float32(mode: frontend.Mode) -> None:
    torch.manual_seed(0)
    module = EmodPretraining(replace(SMALL, frontend=mode)).float().eval()
    groups = [with_eeg(g, x_BCT=g["eeg"].x_BCT.float()) for g in MIXED]
    want = module(groups)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = module(groups)
        tokens = module.encoder(groups)
    assert got.dtype == torch.float32
    assert all(each.dtype == torch.float32 for each in tokens)
    assert F.cosine_similarity(got, want).min() > 0.995


def test_a_float16_corpus_is_read_in_the_parameters_type() -> None:
    module = EmodPretraining(SMALL).float().eval()
    halved = with_eeg(group(), x_BCT=group()["eeg"].x_BCT.half())
    assert torch.isfinite(module([halved])).all()


def test_the_model_compiles_into_one_graph_that_serves_every_step() -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    module = EmodPretraining(replace(SMALL, n_layers=1)).double()
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(module, backend=counter, fullgraph=True)
    whole = group(2, 3, 100.0, 1.0)
    for step in range(3):
        got, want = (run([whole], DropoutKey(0, step)) for run in (compiled, module))
        assert close(got, want)
    weights, parameters = torch.randn_like(got), list(module.parameters())
    gradients = [torch.autograd.grad((z * weights).sum(), parameters) for z in (got, want)]
    assert all(close(one, two) for one, two in zip(*gradients, strict=True))
    assert counter.frame_count == 1
    torch._dynamo.reset()
