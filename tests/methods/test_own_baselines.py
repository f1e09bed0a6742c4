"""ST-Transformer, ICaps-ResLSTM and MACTN: what they compute, and how large they are."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emoray.methods.base import InputSpec
from emoray.methods.baselines import icaps_reslstm, mactn
from emoray.methods.baselines.icaps_reslstm import ICapsResLSTM, Routing, route, squash
from emoray.methods.baselines.mactn import MACTN, KernelAttention
from emoray.methods.baselines.parts import SelfAttention, TransformerBlock
from emoray.methods.baselines.st_transformer import ElectrodeAttention, STTransformer
from emoray.vocabulary.electrodes import EPOC_14, GENEVA_32, SEED_62

Model = type[STTransformer] | type[ICapsResLSTM] | type[MACTN]
MODELS: tuple[Model, ...] = (STTransformer, ICapsResLSTM, MACTN)
FIXED_LENGTH: tuple[Model, ...] = (STTransformer, MACTN)

SPECS = {
    "faced": InputSpec(channels=GENEVA_32, sfreq=200.0, n_times=2000, n_outputs=9),
    "faced at 250 Hz": InputSpec(channels=GENEVA_32, sfreq=250.0, n_times=2500, n_outputs=9),
    "seed_v": InputSpec(channels=SEED_62, sfreq=200.0, n_times=200, n_outputs=5),
    "seed": InputSpec(channels=SEED_62, sfreq=200.0, n_times=1000, n_outputs=3),
}
SMALL = InputSpec(channels=EPOC_14[:4], sfreq=128.0, n_times=192, n_outputs=3)


def build(model: Model, spec: InputSpec = SMALL, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return model(
        n_chans=spec.n_chans,
        n_outputs=spec.n_outputs,
        n_times=spec.n_times,
        sfreq=spec.sfreq,
        channels=spec.channels,
    )


def segments(spec: InputSpec = SMALL, n: int = 3, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, spec.n_chans, spec.n_times, generator=generator)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


# All three ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("dataset", SPECS)
def test_scores_of_every_class_for_every_dataset(model: Model, dataset: str) -> None:
    spec = SPECS[dataset]
    scores_BK = build(model, spec)(segments(spec, n=2))
    assert scores_BK.shape == (2, spec.n_outputs)
    assert scores_BK.isfinite().all()


N_PARAMETERS = [  # ours; Table 2 says 3.5, 1.1 and 6.8 million without naming a dataset
    (STTransformer, "faced", 3_444_553),
    (STTransformer, "faced at 250 Hz", 3_445_553),
    (STTransformer, "seed_v", 3_477_455),
    (STTransformer, "seed", 3_478_541),
    (ICapsResLSTM, "faced", 1_094_537),
    (ICapsResLSTM, "faced at 250 Hz", 1_094_537),
    (ICapsResLSTM, "seed_v", 1_163_141),
    (ICapsResLSTM, "seed", 1_162_883),
    (MACTN, "faced", 6_869_417),
    (MACTN, "faced at 250 Hz", 6_872_617),
    (MACTN, "seed_v", 13_917_851),
    (MACTN, "seed", 13_927_273),
]
IN_TABLE_2: dict[Model, float] = {STTransformer: 3.5e6, ICapsResLSTM: 1.1e6, MACTN: 6.8e6}


@pytest.mark.parametrize(("model", "dataset", "n"), N_PARAMETERS)
def test_number_of_parameters(model: Model, dataset: str, n: int) -> None:
    assert count(build(model, SPECS[dataset])) == n


@pytest.mark.parametrize("model", MODELS)
def test_faceds_number_of_parameters_is_table_2s_to_two_percent(model: Model) -> None:
    assert count(build(model, SPECS["faced"])) == pytest.approx(IN_TABLE_2[model], rel=0.02)


@pytest.mark.parametrize("model", MODELS)
def test_gradients_reach_every_parameter(model: Model) -> None:
    module, x_BCT = build(model), segments(n=6)
    F.cross_entropy(module(x_BCT), torch.arange(6) % 3).backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 1e-9, name


@pytest.mark.parametrize("model", MODELS)
def test_same_seed_same_weights_same_scores(model: Model) -> None:
    x_BCT = segments()
    first, second, other = (build(model, seed=seed) for seed in (0, 0, 1))
    torch.manual_seed(3)
    scores_BK = first(x_BCT)
    torch.manual_seed(3)
    assert torch.equal(second(x_BCT), scores_BK)
    assert not torch.equal(other(x_BCT), scores_BK)


@pytest.mark.parametrize("model", MODELS)
def test_in_evaluation_a_segments_scores_depend_on_itself_alone(model: Model) -> None:
    module, x_BCT = build(model).eval(), segments(n=4)
    scores_BK = module(x_BCT)
    torch.testing.assert_close(module(x_BCT[2:3]), scores_BK[2:3])
    torch.testing.assert_close(module(x_BCT.flip(0)).flip(0), scores_BK)


@pytest.mark.parametrize("model", MODELS)
def test_every_electrode_and_both_ends_of_a_segment_matter(model: Model) -> None:
    x_BCT = segments(n=1).double().requires_grad_()
    build(model).double().eval()(x_BCT)[0, 0].backward()
    assert x_BCT.grad is not None
    size_CT = x_BCT.grad[0].abs()
    assert (size_CT.amax(1) > 1e-12).all()
    assert size_CT[:, :20].max() > 1e-12
    assert size_CT[:, -32:].max() > 1e-12


@pytest.mark.parametrize("model", MODELS)
def test_half_precision_forward_is_near_single(model: Model) -> None:
    module, x_BCT = build(model).eval(), segments()
    with torch.autocast("cpu", torch.bfloat16):
        scores_BK = module(x_BCT)
    torch.testing.assert_close(scores_BK.float(), module(x_BCT), atol=0.05, rtol=0.1)


@pytest.mark.parametrize("model", MODELS)
def test_the_head_is_what_knows_the_classes(model: Model) -> None:
    module = build(model)
    assert isinstance(module.head, nn.Linear)
    module.head = nn.Linear(module.head.in_features, 7)
    assert module(segments()).shape == (3, 7)
    fewer = {name: p.shape for name, p in build(model).named_parameters() if "head" not in name}
    assert fewer == {n: p.shape for n, p in module.named_parameters() if "head" not in n}


def rhythms(n: int) -> tuple[Tensor, Tensor]:
    """Segments of 6, 11 or 21 Hz under noise of the same power, and which it is."""
    generator = torch.Generator().manual_seed(2)
    labels_B = torch.arange(n) % 3
    cycles_B1T = torch.tensor([6.0, 11.0, 21.0])[labels_B, None, None] * (
        torch.arange(SMALL.n_times) / SMALL.sfreq
    )
    phase_B11 = torch.rand(n, 1, 1, generator=generator)
    waves_B1T = math.sqrt(2) * torch.sin(2 * math.pi * (cycles_B1T + phase_B11))
    return waves_B1T + torch.randn(n, SMALL.n_chans, SMALL.n_times, generator=generator), labels_B


@pytest.mark.parametrize("model", MODELS)
def test_32_segments_are_learnt_by_heart(model: Model) -> None:
    module, (x_BCT, labels_B) = build(model), rhythms(32)
    for layer in module.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0  # which is there to prevent just this
        elif isinstance(layer, SelfAttention):
            layer.dropout = 0.0
        elif isinstance(layer, nn.BatchNorm1d):
            # Running variances start at one. MACTN's are 0.003 to 0.1, and at the usual 0.1 it
            # takes them longer to get there than the learning takes.
            layer.momentum = 0.5
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3)
    for _ in range(40):
        optimizer.zero_grad()
        F.cross_entropy(module(x_BCT), labels_B).backward()
        optimizer.step()
    with torch.no_grad():
        found_B = module.eval()(x_BCT).argmax(1)
    assert (found_B == labels_B).float().mean() > 0.9


@pytest.mark.parametrize("model", MODELS)
def test_segments_of_other_electrodes_are_refused(model: Model) -> None:
    with pytest.raises(ValueError, match=r"need EEG of shape \(B, 4, .*got \(2, 5, 192\)"):
        build(model)(torch.zeros(2, 5, 192))
    with pytest.raises(ValueError, match="need EEG of shape"):
        build(model)(torch.zeros(4, 192))


@pytest.mark.parametrize("model", FIXED_LENGTH)
def test_segments_of_another_length_are_refused(model: Model) -> None:
    with pytest.raises(ValueError, match=r"need EEG of shape \(B, 4, 192\), got \(2, 4, 193\)"):
        build(model)(torch.zeros(2, 4, 193))


@pytest.mark.parametrize("n_times", [1, 50, 191, 1000])
def test_icaps_reslstm_takes_any_length(n_times: int) -> None:
    module = build(ICapsResLSTM)
    assert module(torch.randn(2, 4, n_times)).shape == (2, 3)
    assert count(module) == count(build(ICapsResLSTM, SMALL))


@pytest.mark.parametrize(
    ("model", "shortest"), [(STTransformer, 127), (ICapsResLSTM, 1), (MACTN, 48)]
)
def test_the_shortest_segment_makes_one_token_and_shorter_ones_are_refused(
    model: Model, shortest: int
) -> None:
    spec = InputSpec(EPOC_14, 128.0, shortest, 2)
    assert build(model, spec)(torch.randn(2, 14, shortest)).shape == (2, 2)
    with pytest.raises(ValueError, match=f"at least {shortest} samples, got {shortest - 1}"):
        build(model, InputSpec(EPOC_14, 128.0, shortest - 1, 2))


@pytest.mark.parametrize("model", MODELS)
def test_names_and_number_of_electrodes_must_agree(model: Model) -> None:
    with pytest.raises(ValueError, match="need 5 electrode names, got 4"):
        model(n_chans=5, n_outputs=3, n_times=192, sfreq=128.0, channels=SMALL.channels)


# Transformer --------------------------------------------------------------------------------------


def attention_in_loops(attention: SelfAttention, x_ND: Tensor) -> Tensor:
    """One segment's tokens, one head and one query at a time."""
    q, k, v = attention.queries(x_ND), attention.keys(x_ND), attention.values(x_ND)
    width = q.shape[1] // attention.n_heads
    mixed = torch.zeros_like(q)
    for head in range(attention.n_heads):
        part = slice(head * width, (head + 1) * width)
        for i in range(len(x_ND)):
            weights = [
                math.exp(attention.scale * float((q[i, part] @ k_j[part]).detach())) for k_j in k
            ]
            for weight, v_j in zip(weights, v, strict=True):
                mixed[i, part] += weight / sum(weights) * v_j[part]
    return attention.out(mixed)


@pytest.mark.parametrize("bias", [False, True])
def test_attention_is_the_softmax_of_products_in_every_head(bias: bool) -> None:
    torch.manual_seed(0)
    attention = SelfAttention(6, 2, 5, scale=0.7, dropout=0.4, bias=bias).double().eval()
    x_BND = torch.randn(2, 7, 6, dtype=torch.float64)
    expected = torch.stack([attention_in_loops(attention, x_ND) for x_ND in x_BND])
    torch.testing.assert_close(attention(x_BND), expected)


def test_attention_weights_are_dropped_in_training_only() -> None:
    torch.manual_seed(0)
    attention = SelfAttention(6, 2, 3, scale=1.0, dropout=0.5)
    x_BND = torch.randn(1, 7, 6)
    assert not torch.equal(attention(x_BND), attention(x_BND))
    attention.eval()
    assert torch.equal(attention(x_BND), attention(x_BND))


def test_a_block_whose_layers_give_nothing_is_the_identity() -> None:
    block = TransformerBlock(SelfAttention(6, 2, 3, scale=1.0), 6, 12)
    for layer in (block.mix[1].out, block.feed_forward[4]):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    x_BND = torch.randn(2, 5, 6)
    assert torch.equal(block(x_BND), x_BND)


# ST-Transformer -----------------------------------------------------------------------------------


def pooled_in_loops(layers: nn.Module, x_CT: Tensor, pool: int) -> list[list[float]]:
    """A linear map of all electrodes at every sample, then means of whole windows: (C, P)."""
    mapped = [layers(x_CT[:, t]).tolist() for t in range(x_CT.shape[1])]
    return [
        [
            sum(mapped[t][c] for t in range(p * pool, (p + 1) * pool)) / pool
            for p in range(len(mapped) // pool)
        ]
        for c in range(len(x_CT))
    ]


def electrode_attention_in_loops(attention: ElectrodeAttention, x_CT: Tensor) -> Tensor:
    q = pooled_in_loops(attention.queries, x_CT, attention.pool)
    k = pooled_in_loops(attention.keys, x_CT, attention.pool)
    mixed = torch.zeros_like(x_CT)
    for c in range(len(q)):
        products = [sum(a * b for a, b in zip(q[c], k_m, strict=True)) for k_m in k]
        weights = [math.exp(product / math.sqrt(len(q[c]))) for product in products]
        for m, weight in enumerate(weights):
            mixed[c] += weight / sum(weights) * x_CT[m]
    return torch.stack([attention.projection(mixed[:, t]) for t in range(x_CT.shape[1])], dim=1)


def test_electrodes_are_mixed_by_how_alike_their_pooled_courses_are() -> None:
    torch.manual_seed(0)
    attention = ElectrodeAttention(5, pool=4).double().eval()
    x_BCT = torch.randn(2, 5, 18, dtype=torch.float64)
    expected = torch.stack([electrode_attention_in_loops(attention, x_CT) for x_CT in x_BCT])
    torch.testing.assert_close(attention(x_BCT), expected)


# MACTN --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_times", "n"), [(1750, 86), (2000, 98), (2500, 123), (200, 8)])
def test_a_token_has_twenty_samples(n_times: int, n: int) -> None:
    """1,750 samples are the released code's, which makes 86 position embeddings for them."""
    module = build(MACTN, InputSpec(EPOC_14[:2], 125.0, n_times, 2))
    assert isinstance(module, MACTN)
    assert mactn.n_tokens(n_times) == n
    assert module.local(torch.zeros(1, 2, n_times)).shape == (1, 8, n)
    assert module.positions_NF.shape == (n + 1, 8)


def test_electrodes_stay_apart_until_filters_are_mixed() -> None:
    module = build(MACTN)
    assert isinstance(module, MACTN)
    first = module.local[:5].eval()
    x_BCT = segments(n=1)
    changed = x_BCT.clone()
    changed[0, 1] += torch.randn(x_BCT.shape[2])
    differs_F = (first(changed) != first(x_BCT)).any(-1)[0]
    assert differs_F.tolist() == [filter_ // 4 == 1 for filter_ in range(16)]


def kernel_attention_in_loops(attention: KernelAttention, x_FL: Tensor) -> Tensor:
    branches = [branch(x_FL[None])[0] for branch in attention.branches]
    summed = torch.zeros_like(x_FL)
    for branch in branches:
        summed += branch
    means = torch.tensor([float(row.mean().detach()) for row in summed], dtype=x_FL.dtype)
    scores = attention.weigh(attention.squeeze(means)).tolist()
    out = torch.zeros_like(x_FL)
    for f in range(len(x_FL)):
        weights = [math.exp(scores[r * len(x_FL) + f]) for r in range(len(branches))]
        for weight, branch in zip(weights, branches, strict=True):
            out[f] += weight / sum(weights) * branch[f]
    return out


def test_each_filter_weighs_its_kernels() -> None:
    torch.manual_seed(0)
    attention = KernelAttention(6).double().eval()
    x_BFL = 3 * torch.randn(2, 6, 9, dtype=torch.float64)
    expected = torch.stack([kernel_attention_in_loops(attention, x_FL) for x_FL in x_BFL])
    torch.testing.assert_close(attention(x_BFL), expected)


# ICaps-ResLSTM ------------------------------------------------------------------------------------


def squash_in_loops(s: list[float]) -> list[float]:
    squared = sum(x * x for x in s)
    return [squared / (1 + squared) * x / math.sqrt(squared) for x in s]


def routed_in_loops(votes: list[list[list[float]]], n_rounds: int) -> list[list[float]]:
    """Procedure 1 of Sabour et al. for one set of votes, [I][J][E] to [J][E]."""
    n_in, n_out, width = len(votes), len(votes[0]), len(votes[0][0])
    b = [[0.0] * n_out for _ in range(n_in)]
    above: list[list[float]] = []
    for _ in range(n_rounds):
        shares = [[math.exp(b_ij) / sum(map(math.exp, b_i)) for b_ij in b_i] for b_i in b]
        above = [
            squash_in_loops(
                [sum(shares[i][j] * votes[i][j][e] for i in range(n_in)) for e in range(width)]
            )
            for j in range(n_out)
        ]
        for i in range(n_in):
            for j in range(n_out):
                b[i][j] += sum(votes[i][j][e] * above[j][e] for e in range(width))
    return above


@pytest.mark.parametrize("n_rounds", [1, 2, 3, 5])
def test_routing_follows_sabours_procedure(n_rounds: int) -> None:
    torch.manual_seed(0)
    votes_NIJE = 2 * torch.randn(3, 7, 4, 5, dtype=torch.float64)
    expected = [routed_in_loops(votes, n_rounds) for votes in votes_NIJE.tolist()]
    torch.testing.assert_close(
        route(votes_NIJE, n_rounds), torch.tensor(expected, dtype=torch.float64)
    )


def test_votes_are_each_capsules_own_linear_maps() -> None:
    torch.manual_seed(0)
    routing = Routing(3, 2, 4, 5).double()
    x_NID = torch.randn(2, 3, 2, dtype=torch.float64)
    votes = torch.zeros(2, 3, 4, 5, dtype=torch.float64)
    for n in range(2):
        for i in range(3):
            for j in range(4):
                votes[n, i, j] = x_NID[n, i] @ routing.weight_IJDE[i, j].detach()
    torch.testing.assert_close(routing(x_NID), route(votes, icaps_reslstm.N_ROUNDS))


def test_rounds_favour_the_capsule_whose_votes_agree() -> None:
    """Six capsules vote alike for the first above, and each another way for the second."""
    votes_NIJE = torch.stack([torch.eye(6)[0].expand(6, -1), torch.eye(6)], dim=1)[None]
    lengths = [route(votes_NIJE, n)[0].norm(dim=-1) for n in (1, 2, 3)]
    assert lengths[0][0] < lengths[1][0] < lengths[2][0]
    assert lengths[0][1] > lengths[1][1] > lengths[2][1]


def test_routing_needs_a_round() -> None:
    with pytest.raises(ValueError, match="at least one round of routing, got 0"):
        route(torch.zeros(1, 2, 2, 2), 0)


def test_squash_keeps_directions_and_maps_lengths_below_one() -> None:
    length = torch.tensor([1e-3, 0.1, 1.0, 10.0, 1e6], dtype=torch.float64)[:, None]
    direction = F.normalize(torch.tensor([[3.0, -4.0, 12.0]], dtype=torch.float64), dim=-1)
    expected = length**2 / (1 + length**2) * direction
    torch.testing.assert_close(squash(length * direction), expected, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-6, 1.0, 1e6, 1e15])
def test_squash_and_routing_stay_finite_at_any_length(size: float) -> None:
    votes_NIJE = (size * torch.ones(2, 3, 4, 5)).requires_grad_()
    above_NJE = route(votes_NIJE, 3)
    above_NJE.sum().backward()
    assert above_NJE.isfinite().all()
    assert (above_NJE.norm(dim=-1) <= 1.0001).all()
    assert votes_NIJE.grad is not None
    assert votes_NIJE.grad.isfinite().all()


def test_ten_steps_a_second_at_200_hz() -> None:
    module = build(ICapsResLSTM)
    assert isinstance(module, ICapsResLSTM)
    for n_times, n_steps in ((200, 10), (1000, 50), (2000, 100)):
        capsules_BSJE = module.capsules(torch.randn(1, 4, n_times))
        assert capsules_BSJE.shape == (1, n_steps, 8, 16)
        assert (capsules_BSJE.norm(dim=-1) < 1).all()


def test_lstm_layers_add_to_the_capsules() -> None:
    """Gates at zero let nothing out, and the head sees the spatial module's mean."""
    module = build(ICapsResLSTM)
    assert isinstance(module, ICapsResLSTM)
    for parameter in module.layers.parameters():
        nn.init.zeros_(parameter)
    x_BCT = segments()
    module.eval()
    expected = module.head(module.capsules(x_BCT).flatten(2).mean(1))
    torch.testing.assert_close(module(x_BCT), expected)
