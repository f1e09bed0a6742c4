"""SSL-ECG's networks, losses and stages against what is known of them from outside.

Shapes: B segments, T samples, V = 7 versions, H = 7 tasks, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emoray.batches import distributed
from emoray.batches.batch import Batch, Group, Signal
from emoray.methods import counter_draws
from emoray.methods.base import Inputs, Start, StreamSpec
from emoray.methods.counter_draws import DropoutKey
from emoray.methods.ssl_ecg.config import (
    EmotionConfig,
    EncoderConfig,
    PretextConfig,
    TaskWeights,
)
from emoray.methods.ssl_ecg.loss import chance_loss, recognition_losses
from emoray.methods.ssl_ecg.method import Emotion, Pretext
from emoray.methods.ssl_ecg.model import SLOPE, Encoder, PretextNetwork
from emoray.methods.ssl_ecg.transforms import TASKS, versions
from emoray.runtime.config import to_dict
from emoray.training.optimizers import learning_rate, make_optimizer
from tests.workers import found_by

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = EncoderConfig(n_filters=(3, 4, 5))
CLASSES = ("low", "middle", "high")
N_TIMES = 96


def group(n: int, n_times: int = N_TIMES, n_leads: int = 2, first: int = 0) -> Group:
    """Segments whose leads differ; the same samples at the same place in the step."""
    places_B = torch.arange(first, first + n)
    at_T = torch.arange(n_times, dtype=torch.float64)
    beats_BLT = torch.stack(
        [(at_T * (0.1 + 0.013 * places_B[:, None]) + lead).sin() for lead in range(n_leads)], dim=1
    )
    leads = tuple(f"ecg{i}" for i in range(n_leads))
    return Group("made", {"ecg": Signal(beats_BLT, leads, 256.0)}, places_B)


def inputs() -> Inputs:
    return Inputs({"ecg": StreamSpec(("ecg0", "ecg1"), 256.0, N_TIMES)}, CLASSES)


def small_pretext(**changes: Any) -> PretextConfig:
    return PretextConfig(encoder=SMALL, n_hidden=6, precision="float64", **changes)


def small_emotion(**changes: Any) -> EmotionConfig:
    return EmotionConfig(encoder=SMALL, hidden=(7, 6), precision="float64", **changes)


def n_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


# What is known of the network ---------------------------------------------------------------------


def test_the_papers_network_has_its_parameters() -> None:
    """Of the graph that the released checkpoint holds; a dense layer is n_in x n_out + n_out."""
    stage = Pretext(PretextConfig())
    module = stage.build()
    convolutions = ((1, 32, 32), (32, 32, 32), (32, 64, 16), (64, 64, 16), (64, 128, 8))
    by_hand = sum(i * o * k + o for i, o, k in (*convolutions, (128, 128, 8)))
    assert n_parameters(module.encoder) == by_hand == 329_152
    assert {n_parameters(head) for head in module.head.values()} == {33_153}
    assert n_parameters(module) == 561_223
    assert stage.n_parameters(module) == {"encoder": 329_152, "head": 7 * 33_153}
    assert sum(p.ndim > 1 for p in module.parameters()) == 27


def test_ten_seconds_have_the_lengths_of_the_papers_table() -> None:
    encoder = Encoder(EncoderConfig())
    seen: list[tuple[int, ...]] = []
    for block in encoder.blocks:
        block.register_forward_hook(lambda _, __, out: seen.append(tuple(out.shape)))
    with torch.no_grad():
        embedding_ND = encoder(torch.randn(1, 2560))
    assert seen == [(1, 32, 2560), (1, 64, 1277), (1, 128, 635)]
    assert embedding_ND.shape == (1, 128)
    assert EncoderConfig().lengths(2560) == (2560, 1277, 635)


@pytest.mark.parametrize("activation", ["leaky_relu", "relu"])
def test_the_encoder_is_its_definition_in_plain_loops(activation: str) -> None:
    encoder = Encoder(replace(SMALL, activation=activation)).double()  # type: ignore[arg-type]
    for parameter in encoder.parameters():
        nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))
    x_T = group(1)["ecg"].x_BCT[0, 0]
    slope = {"leaky_relu": 0.2, "relu": 0.0}[activation]
    h = [x_T.tolist()]
    for i, block in enumerate(encoder.blocks):
        if i:
            h = [[max(row[t : t + 8]) for t in range(0, len(row) - 7, 2)] for row in h]
        assert isinstance(block, nn.Sequential)
        for layer in (block[1], block[4]):
            h = convolved(h, layer.weight.tolist(), layer.bias.tolist(), slope)
    want = torch.tensor([max(row) for row in h], dtype=torch.float64)
    got = encoder(x_T[None])[0]
    torch.testing.assert_close(got, want, rtol=1e-10, atol=0)
    assert SLOPE == 0.2


def convolved(
    rows: list[list[float]], weights: list[Any], biases: list[float], slope: float
) -> list[list[float]]:
    """'Same' with zeros around; of an even kernel the half after the middle is the longer one."""
    n_times, out = len(rows[0]), []
    for kernel, bias in zip(weights, biases, strict=True):
        length = len(kernel[0])
        before = (length - 1) // 2
        made = []
        for t in range(n_times):
            total = bias
            for row, taps in zip(rows, kernel, strict=True):
                for k in range(length):
                    if 0 <= t + k - before < n_times:
                        total += taps[k] * row[t + k - before]
            made.append(total if total > 0 else slope * total)
        out.append(made)
    return out


def test_segments_too_short_for_the_pools_are_refused() -> None:
    assert EncoderConfig().lengths(22) == (22, 8, 1)
    for n_times in (21, 7):
        with pytest.raises(ValueError, match=f"need segments of which 2 pools .* got {n_times}"):
            Encoder(EncoderConfig())(torch.randn(2, n_times))


def test_weights_begin_as_glorots_and_biases_as_zero() -> None:
    for module in (
        Pretext(small_pretext()).build(),
        Emotion(small_emotion(), inputs(), {}).build(),
    ):
        for name, parameter in module.named_parameters():
            if parameter.ndim == 1:
                assert not parameter.any(), name
                continue
            area = math.prod(parameter.shape[2:])
            limit = math.sqrt(6 / (area * (parameter.shape[0] + parameter.shape[1])))
            assert 0.5 * limit < parameter.abs().max() <= limit, name


@pytest.mark.parametrize(
    ("wrong", "need"),
    [
        ({"n_filters": (3, 4)}, "need n_filters and kernels for the same blocks, got 2 and 3"),
        ({"n_filters": (), "kernels": ()}, "need n_filters and kernels for the same blocks"),
        ({"pool": 0}, "need n_filters, kernels, pool and pool_stride of at least 1"),
    ],
)
def test_an_encoder_that_cannot_be_is_refused(wrong: dict[str, Any], need: str) -> None:
    with pytest.raises(ValueError, match=need):
        EncoderConfig(**wrong)


# Losses -------------------------------------------------------------------------------------------


def losses_by_loop(logits: Sequence[Sequence[Sequence[float]]]) -> dict[str, float]:
    """-y log s - (1 - y) log(1 - s) of every version of every segment, the mean for each task.

    s is 1 / (1 + exp(-x)), so that -log s is log(1 + exp(-x)) and -log(1 - s) is log(1 + exp(x)).
    """
    found = {}
    for h, task in enumerate(TASKS):
        total, n = 0.0, 0
        for of_segment in logits:
            for v, of_version in enumerate(of_segment):
                x = of_version[h]
                total += math.log1p(math.exp(-x if v == h else x))
                n += 1
        found[task] = total / n
    return found


def test_each_loss_is_its_equation_in_plain_loops() -> None:
    logits_BVH = 3 * torch.randn(5, 7, 7, generator=torch.Generator().manual_seed(2)).double()
    got = recognition_losses(logits_BVH)
    assert got.keys() == set(TASKS)
    for task, want in losses_by_loop(logits_BVH.tolist()).items():
        assert float(got[task]) == pytest.approx(want, rel=1e-12)


def test_each_task_knows_its_own_version_and_nothing_is_chance() -> None:
    sure_BVH = (torch.eye(7) * 2 - 1).expand(3, 7, 7) * 50
    assert all(float(loss) < 1e-12 for loss in recognition_losses(sure_BVH).values())
    constant_BVH = torch.full((3, 7, 7), math.log(1 / 6))
    for loss in recognition_losses(constant_BVH).values():
        assert float(loss) == pytest.approx(chance_loss(), rel=1e-6)
    stage = Pretext(PretextConfig())
    assert stage.chance_loss(128) == pytest.approx(chance_loss())  # the weights add to 1


def test_tasks_weigh_as_published() -> None:
    weights = Pretext(PretextConfig()).loss_weights
    assert {task for task, weight in weights.items() if weight == 0.195} == {
        "original", "noise", "scaling", "permutation", "warping",
    }  # fmt: skip
    assert {task for task, weight in weights.items() if weight == 0.0125} == {
        "negation", "inversion",
    }  # fmt: skip
    assert sum(weights.values()) == pytest.approx(1)
    assert tuple(weights) == TASKS
    with pytest.raises(ValueError, match="need weights of tasks of at least 0"):
        TaskWeights(noise=-1.0)


SHARES = {1: (range(6),), 2: (range(2), range(2, 6))}
"""Places of the step's segments that each worker holds, by the number of workers."""
DROPOUTS = (0.0, 0.6)


def recognised() -> dict[str, Any]:
    """The losses of a step as this worker computes them from its share, by dropout."""
    share = SHARES[distributed.world_size()][distributed.rank()]
    batch = Batch(4, (group(len(share), first=share.start),), {})
    found = {}
    for dropout in DROPOUTS:
        stage = Pretext(small_pretext(dropout=dropout))
        losses = stage.losses(moved(stage.build().double()), batch)
        found[f"{dropout}"] = {name: loss.item() for name, loss in losses.items()}
    return found


def moved(module: PretextNetwork) -> PretextNetwork:
    """With weights that tell versions apart."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.4, generator=torch.Generator().manual_seed(3))
    return module


def recognised_by_loop(dropout: float) -> dict[str, float]:
    """One segment after the other."""
    config = small_pretext(dropout=dropout)
    module, key, logits = moved(Pretext(config).build().double()), DropoutKey(0, 4), []
    for place in range(6):
        of_one = group(1, first=place)
        drawn_B, masked_B = (
            counter_draws.segment_keys(key, of_one.positions_B, purpose) for purpose in (2, 1)
        )
        x_BVT = versions(of_one["ecg"].x_BCT[:, 0], drawn_B, config.transformations)
        with torch.no_grad():
            logits.append(module([x_BVT], [masked_B])[0].tolist())
    return losses_by_loop(logits)


@pytest.mark.parametrize("n_workers", [1, 2])
def test_the_losses_of_a_step_are_those_of_its_segments_one_by_one(
    n_workers: int, tmp_path: Path
) -> None:
    want = {dropout: recognised_by_loop(dropout) for dropout in DROPOUTS}
    assert want[0.0] != want[0.6]
    for found in found_by(n_workers, tmp_path, recognised):
        for dropout in DROPOUTS:
            assert found[f"{dropout}"] == pytest.approx(want[dropout], rel=1e-10)


def test_dropout_is_another_one_for_each_version_task_and_layer() -> None:
    config = small_pretext(dropout=0.5)
    module = moved(Pretext(config).build().double())
    x_BVT = group(1)["ecg"].x_BCT[:, :1].expand(-1, 7, -1)  # seven times the same
    key_B = counter_draws.segment_keys(DropoutKey(0, 0), torch.arange(1), counter_draws.DROPOUT)
    whole, dropped = module([x_BVT], None), module([x_BVT], [key_B])
    torch.testing.assert_close(whole, whole[:, :1].expand_as(whole))
    assert len({tuple(row) for row in dropped[0].tolist()}) == 7
    task = module.head["noise"]
    for head in module.head.values():
        head.load_state_dict(task.state_dict())
    assert len(set(module([x_BVT], [key_B])[0, 0].tolist())) > 1


# Emotion ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_the_loss_of_emotions_is_its_equation_in_plain_loops(output: str) -> None:
    stage = Emotion(small_emotion(output=output), inputs(), {})
    module = stage.build().double()
    whole, label_B = group(5), torch.tensor([0, 2, 1, 2, 0])
    with torch.no_grad():
        last_BK = module.head.out(hidden(module.head, module.embed([whole])))
        got = stage.losses(module, Batch(0, (whole,), {"label": label_B}))["cross_entropy"]
    total = 0.0
    for scores, label in zip(last_BK.tolist(), label_B.tolist(), strict=True):
        made = [math.exp(s) if output == "softmax" else 1 / (1 + math.exp(-s)) for s in scores]
        total -= math.log(made[label] / sum(made))
    assert float(got) == pytest.approx(total / 5, rel=1e-6)


def hidden(head: Any, z_BD: Tensor) -> Tensor:
    for layer in head.layers:
        z_BD = F.linear(z_BD, layer.weight, layer.bias).clamp(min=0)
    return z_BD


def pretext_start(config: PretextConfig | None = None) -> Start:
    config = config or small_pretext()
    model = moved(Pretext(config).build()).state_dict()
    return Start(to_dict(config), model)


@pytest.mark.parametrize(
    ("frozen", "with_start", "learns"),
    [(True, True, "head"), (False, True, "all"), (True, False, "all"), (False, False, "all")],
)
def test_gradients_are_where_nothing_is_frozen(frozen: bool, with_start: bool, learns: str) -> None:
    starts = {"encoder": pretext_start()} if with_start else {}
    stage = Emotion(small_emotion(frozen=frozen, dropout=0.2), inputs(), starts)
    module = stage.build().double()
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    optimizer = make_optimizer(stage.optimizer, module)
    for step in range(3):
        batch = Batch(step, (group(4),), {"label": torch.tensor([0, 1, 2, 1])})
        optimizer.zero_grad()
        stage.losses(module, batch)["cross_entropy"].backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    for name, parameter in module.named_parameters():
        moves = learns == "all" or name.startswith("head.")
        assert (parameter.grad is not None) is moves, name
        assert torch.equal(parameter, before[name]) is not moves, name
    n_head = n_parameters(module.head)
    n_encoder = n_parameters(module.encoder) if learns == "all" else 0
    assert stage.n_parameters(module) == {"encoder": n_encoder, "head": n_head}


def test_the_emotion_network_has_the_pretexts_convolutions() -> None:
    start = pretext_start()
    module = Emotion(small_emotion(), inputs(), {"encoder": start}).build()
    for name, weights in module.encoder.state_dict().items():
        assert torch.equal(weights, start.model[f"encoder.{name}"])
    scratch = Emotion(small_emotion(), inputs(), {}).build().encoder.state_dict()
    assert all(not torch.equal(w, start.model[f"encoder.{n}"]) for n, w in scratch.items())


def test_its_sizes_follow_from_the_checkpoint() -> None:
    other = small_pretext(leads="last")
    config = Emotion.following(EmotionConfig(hidden=(7,)), {"encoder": to_dict(other)})
    assert config == EmotionConfig(encoder=SMALL, hidden=(7,), leads="last")
    assert Emotion.following(EmotionConfig(), {}) == EmotionConfig()
    with pytest.raises(ValueError, match="need a checkpoint of SSL-ECG, got another"):
        Emotion.following(EmotionConfig(), {"encoder": {"encoder": {}}})


def test_weights_of_other_convolutions_are_refused() -> None:
    config = EmotionConfig(encoder=replace(SMALL, pool=4))
    with pytest.raises(ValueError, match=r"got encoder\.pool 4 instead of 8"):
        Emotion(config, inputs(), {"encoder": pretext_start()})
    with pytest.raises(ValueError, match="got one without settings of an encoder"):
        Emotion(EmotionConfig(), inputs(), {"encoder": Start({}, {})})


# Leads and settings -------------------------------------------------------------------------------


def test_one_lead_is_read_and_no_other() -> None:
    whole = group(3)
    spoilt = whole["ecg"].x_BCT.clone()
    spoilt[:, 1] = 100
    other = replace(whole, signals={"ecg": replace(whole["ecg"], x_BCT=spoilt)})
    alone = group(3, n_leads=1)
    for stage in (Pretext(small_pretext()), Emotion(small_emotion(), inputs(), {})):
        first = stage.build().double()
        assert torch.equal(first.embed([whole]), first.embed([other]))
        assert torch.equal(first.embed([whole]), first.embed([alone]))
    for config in (small_pretext(leads="first"), small_pretext(leads="last")):
        stage = Pretext(config)
        module = stage.build().double()
        found = [stage.losses(module, Batch(0, (g,), {}))["noise"].item() for g in (whole, other)]
        assert (found[0] == found[1]) is (config.leads == "first")


def test_segments_of_unequal_length_meet_in_a_step() -> None:
    stage = Pretext(small_pretext(dropout=0.0))
    module = moved(stage.build().double())
    parts = group(2), group(3, n_times=64, first=2)
    together = stage.losses(module, Batch(0, parts, {}))
    alone = [stage.losses(module, Batch(0, (part,), {})) for part in parts]
    for task in TASKS:
        want = (2 * alone[0][task] + 3 * alone[1][task]) / 5
        assert together[task].item() == pytest.approx(want.item(), rel=1e-10)


def test_decay_is_what_the_released_code_adds_to_its_loss() -> None:
    """1e-4 / 2 times the squared norm of the 27 kernels, and nothing of biases."""
    config = small_pretext(dropout=0.0)
    by_optimizer, by_loss = (moved(Pretext(config).build().double()) for _ in range(2))
    ours = make_optimizer(config.optimizer, by_optimizer)
    plain = torch.optim.Adam(by_loss.parameters(), lr=1e-3)
    stage = Pretext(config)
    for step in range(3):
        for module, optimizer in ((by_optimizer, ours), (by_loss, plain)):
            losses = stage.losses(module, Batch(step, (group(2),), {}))
            loss = sum(stage.loss_weights[name] * each for name, each in losses.items())
            if module is by_loss:
                kernels = [p for p in module.parameters() if p.ndim > 1]
                assert len(kernels) == 27
                loss = loss + 1e-4 / 2 * sum(p.square().sum() for p in kernels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[union-attr]
            optimizer.step()
    for ours_p, plain_p in zip(by_optimizer.parameters(), by_loss.parameters(), strict=True):
        torch.testing.assert_close(ours_p, plain_p, rtol=1e-8, atol=1e-10)


def test_the_rate_falls_by_a_tenth_every_ten_thousand_steps() -> None:
    optimizer = PretextConfig().optimizer
    rates = [
        learning_rate(optimizer, step, steps_per_epoch=100, n_epochs=1000)
        for step in (0, 9_999, 10_000, 20_000)
    ]
    assert rates == pytest.approx([1e-3, 1e-3, 9e-4, 8.1e-4])
    emotion = EmotionConfig().optimizer
    assert learning_rate(emotion, 50_000, steps_per_epoch=100, n_epochs=1000) == 1e-3


@pytest.mark.parametrize(
    ("make", "need"),
    [
        (lambda: PretextConfig(dropout=1.0), r"need dropout in \[0, 1\), got 1"),
        (lambda: EmotionConfig(dropout=-0.1), r"need dropout in \[0, 1\), got -0.1"),
        (lambda: PretextConfig(batch_size=0), "need epochs and batch_size of at least 1"),
        (lambda: EmotionConfig(hidden=(512, 0)), "need hidden layers of at least 1"),
        (lambda: EmotionConfig(epochs=0), "need epochs and batch_size of at least 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(make: Any, need: str) -> None:
    with pytest.raises(ValueError, match=need):
        make()


def test_transformations_of_beats_are_recognised_after_some_steps() -> None:
    """Beats at places of their own, so that only their shape and order can tell."""
    config = Pretext.rehearsal()
    calm = replace(config.optimizer, learning_rate=3e-3)
    stage = Pretext(replace(config, optimizer=calm, dropout=0.0))
    module = stage.build()
    optimizer = make_optimizer(stage.optimizer, module)
    for step in range(60):
        losses = stage.losses(module, beats(step))
        loss = sum(stage.loss_weights[name] * each for name, each in losses.items())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[union-attr]
        optimizer.step()
    with torch.no_grad():
        found = {name: float(v) for name, v in stage.losses(module, beats(1000)).items()}
    assert found["negation"] < 0.25 * chance_loss()
    for task in ("noise", "inversion", "permutation"):
        assert found[task] < 0.75 * chance_loss(), task


def beats(step: int) -> Batch:
    """16 segments of 2 s at 256 Hz."""
    generator = torch.Generator().manual_seed(step)
    first_B1 = 200 * torch.rand(16, 1, generator=generator)
    at_T = torch.arange(512)
    x_BT = sum(
        height * torch.exp(-((at_T - first_B1 - lag) % 200 - 100).square() / (2 * width**2))
        for height, lag, width in ((6.0, 0, 3), (-1.5, 8, 4), (1.2, 60, 12))
    )
    signal = Signal(torch.as_tensor(x_BT)[:, None], ("ecg",), 256.0)
    return Batch(step, (Group("made", {"ecg": signal}, torch.arange(16)),), {})
