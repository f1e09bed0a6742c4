"""The alignment's encoders and stages against what is known of them from outside.

Shapes: B segments, C channels, T samples, P patches, M samples of a patch, R orders, Z width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from emoray.batches.batch import Batch, Group, Signal
from emoray.methods.alignment.config import EncoderConfig
from emoray.methods.alignment.method import (
    Alignment,
    EcgClassification,
    Reconstruction,
    Teaching,
    VaAlignment,
)
from emoray.methods.alignment.model import Encoder, as_patches, reordered
from emoray.methods.base import Inputs, Stage, Start, StreamSpec
from emoray.methods.baselines.method import Config as BaselineConfig
from emoray.methods.baselines.method import Training
from emoray.methods.counter_draws import DropoutKey
from emoray.methods.emod import config as emod
from emoray.methods.emod.method import Finetuning, Pretraining
from emoray.methods.pipeline.method import EmodAlignment
from emoray.methods.ssl_ecg.config import EncoderConfig as ConvolutionConfig
from emoray.methods.ssl_ecg.config import PretextConfig
from emoray.methods.ssl_ecg.method import Pretext
from emoray.runtime.config import to_dict
from emoray.training.optimizers import make_optimizer
from tests.aligned import (
    CLASSES,
    SMALL,
    SPECS,
    WIDER,
    alignment_config,
    classification_config,
    group,
    inputs,
    pieces,
    reconstructed,
    reconstruction_config,
    started,
    step_of,
    taught,
    teacher_config,
)

pytestmark = pytest.mark.usefixtures("one_thread")
CONVOLUTIONS = ConvolutionConfig(n_filters=(3, 4, 5))
EMOD = emod.EncoderConfig(d_model=8, n_heads=2, n_layers=1, d_feedforward=16, tokens_per_s=8.0)


def encoder(config: EncoderConfig = SMALL, spec: StreamSpec = SPECS["eeg"]) -> Encoder:
    """With weights that nothing is zero or one of."""
    module = Encoder(config, spec, "eeg").double()
    generator = torch.Generator().manual_seed(1)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3, generator=generator)
    return module


def eeg(b: int, n_times: int = 128) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    return torch.randn(b, 3, n_times, generator=generator, dtype=torch.float64)


# The encoder --------------------------------------------------------------------------------------


def torchs_layer(block: Any, config: EncoderConfig) -> nn.TransformerEncoderLayer:
    """Torch's own, post-norm and with GELU as iTransformer's, with the block's weights."""
    layer = nn.TransformerEncoderLayer(
        config.width,
        config.n_heads,
        config.n_hidden,
        dropout=0.0,
        activation="gelu",
        batch_first=True,
        norm_first=False,
        dtype=torch.float64,
    )
    pairs = {
        "self_attn.in_proj_": block.attention.qkv,
        "self_attn.out_proj.": block.attention.proj,
        "linear1.": block.widen,
        "linear2.": block.narrow,
        "norm1.": block.attention_norm,
        "norm2.": block.feedforward_norm,
    }
    layer.load_state_dict(
        {f"{head}{n}": getattr(part, n) for head, part in pairs.items() for n in ("weight", "bias")}
    )
    return layer


def through_torch(module: Encoder, config: EncoderConfig, x_BCT: Tensor) -> Tensor:
    """Tokens of each channel's patches, one after the other, through torch's layers."""
    n_patches = x_BCT.shape[-1] // module.n_samples
    tokens = [
        torch.stack([module.embedding(x_BM) for x_BM in patches_of(x_BCT[:, c], module.n_samples)])
        + module.channels_CZ[c]
        + module.places_PZ[:, None]
        for c in range(x_BCT.shape[1])
    ]
    h_BNZ = torch.cat(tokens).transpose(0, 1)
    for block in module.blocks:
        h_BNZ = torchs_layer(block, config)(h_BNZ)
    return module.norm(h_BNZ).view(len(x_BCT), x_BCT.shape[1], n_patches, -1)


def patches_of(x_BT: Tensor, n_samples: int) -> list[Tensor]:
    n_patches = x_BT.shape[1] // n_samples
    return [x_BT[:, p * n_samples : (p + 1) * n_samples] for p in range(n_patches)]


@pytest.mark.parametrize("training", [False, True])
def test_the_encoder_is_torchs_transformer_on_tokens_of_channels_and_patches(
    training: bool,
) -> None:
    config = replace(SMALL, n_layers=2)
    module, x_BCT = encoder(config).train(training), eeg(3)
    want = through_torch(module, config, x_BCT)
    torch.testing.assert_close(module(x_BCT), want, rtol=0, atol=1e-10)
    found = module.patches(group_of(x_BCT), 4)
    by_hand = torch.stack([want[:, :, p].sum(1) / 3 for p in range(4)], dim=1)
    torch.testing.assert_close(found, by_hand, rtol=0, atol=1e-10)


def group_of(x_BCT: Tensor) -> Group:
    signal = Signal(x_BCT, SPECS["eeg"].channels, 128.0)
    return Group("made", {"eeg": signal}, torch.arange(len(x_BCT)))


def test_patches_as_long_as_segments_are_itransformers_tokens() -> None:
    """A channel's whole series through one linear map; nothing says which channel it is."""
    config = replace(SMALL, patch_s=1.0)
    module, x_BCT = encoder(config), eeg(2)
    assert module.embedding.in_features == 128
    with torch.no_grad():
        module.channels_CZ.zero_()
        module.places_PZ.zero_()
    h_BCZ = x_BCT @ module.embedding.weight.T + module.embedding.bias
    for block in module.blocks:
        h_BCZ = torchs_layer(block, config)(h_BCZ)
    torch.testing.assert_close(module(x_BCT)[:, :, 0], module.norm(h_BCZ), rtol=0, atol=1e-10)
    turned = module(x_BCT[:, [2, 0, 1]])[:, [1, 2, 0]]
    torch.testing.assert_close(turned, module(x_BCT), rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("n_times", "patch_s", "n_patches"),
    [
        (1280, 1.0, 10),
        (1280, 3.0, 3),
        (1280, 4.0, 2),
        (1280, 10.0, 1),
        (320, 0.5, 5),
        (40, 0.25, 1),
    ],
)
def test_a_segment_has_as_many_patches_as_fit_and_the_rest_is_not_read(
    n_times: int, patch_s: float, n_patches: int
) -> None:
    spec = StreamSpec(("F7", "F8", "P3"), 128.0, n_times)
    module = encoder(replace(SMALL, patch_s=patch_s), spec)
    n_samples = int(128 * patch_s)
    assert (module.n_patches, module.n_samples) == (n_patches, n_samples)
    assert n_patches == n_times // n_samples
    x_BCT = eeg(2, n_times)
    spoilt = x_BCT.clone()
    spoilt[..., n_patches * n_samples :] = 1e6
    assert module(x_BCT).shape == (2, 3, n_patches, 8)
    assert torch.equal(module(x_BCT), module(spoilt))
    spoilt[..., n_patches * n_samples - 1] += 1
    assert not torch.equal(module(x_BCT), module(spoilt))


def test_tenths_of_a_second_are_not_lost_to_rounding() -> None:
    config = replace(SMALL, patch_s=0.1)
    assert [config.n_patches(seconds) for seconds in (0.3, 0.7, 1.0, 10.0)] == [3, 7, 10, 100]
    assert config.n_samples(130.0) == 13


def test_where_a_patch_stands_and_which_channel_it_is_of_matter() -> None:
    module, x_BCT = encoder(), eeg(1)
    turned = torch.cat([pieces(x_BCT[0], 4)[p] for p in (1, 0, 2, 3)], dim=1)[None]
    sets = [module(x)[0].flatten(0, 1).sum(0) for x in (x_BCT, turned, x_BCT.flip(1))]
    assert not torch.allclose(sets[0], sets[1])
    assert not torch.allclose(sets[0], sets[2])


def test_dropout_is_a_segments_own_whoever_is_beside_it() -> None:
    module = encoder(replace(SMALL, dropout=0.3)).train()
    whole, key = group_of(eeg(3)), DropoutKey(0, 2)
    together = module.patches(whole, 4, key)
    assert not torch.allclose(together, module.patches(whole, 4))
    for i in range(3):
        signal = replace(whole["eeg"], x_BCT=whole["eeg"].x_BCT[i : i + 1])
        alone = Group("made", {"eeg": signal}, whole.positions_B[i : i + 1])
        torch.testing.assert_close(module.patches(alone, 4, key)[0], together[i])
    assert torch.equal(module.eval().patches(whole, 4, key), module.patches(whole, 4))


@pytest.mark.parametrize(
    ("wrong", "need"),
    [
        ({"patch_s": 0.0}, "need patch_s > 0, got 0"),
        ({"patch_s": math.nan}, "need patch_s > 0, got nan"),
        ({"n_layers": 0}, "need width, n_heads, n_layers and n_hidden of at least 1"),
        ({"n_heads": 3}, "need a width that n_heads divides, got 8 and 3"),
        ({"dropout": 1.0}, r"need dropout in \[0, 1\), got 1"),
    ],
)
def test_an_encoder_that_cannot_be_is_refused(wrong: dict[str, Any], need: str) -> None:
    with pytest.raises(ValueError, match=need):
        replace(SMALL, **wrong)


@pytest.mark.parametrize("patch_s", [1.5, 11.0])
def test_a_patch_longer_than_the_segment_is_refused(patch_s: float) -> None:
    config = replace(SMALL, patch_s=patch_s)
    match = f"need patches no longer than the segments' 1 s, got patch_s {patch_s:g}"
    stages: Sequence[Stage] = (
        Reconstruction(reconstruction_config(encoder=config), inputs(), {}),
        Teaching(teacher_config(encoder=config), inputs(), {}),
        Alignment(alignment_config(encoder=config), inputs(), {}),
        EcgClassification(classification_config(encoder=config), inputs(), {}),
        EcgClassification(
            classification_config(encoder=config, student="convolutions"), inputs(), {}
        ),
    )
    for stage in stages:
        with pytest.raises(ValueError, match=match):
            prepared(stage)


def prepared(stage: Stage) -> None:
    """As before a first step: stages without a start of their own have some only now."""
    stage.build()
    stage.chance_loss(4)


def test_patches_that_are_no_whole_samples_are_refused() -> None:
    """At 128 and at 256 Hz they would be of unequal length, and drift apart."""
    with pytest.raises(ValueError, match=r"need patches of whole samples, got patch_s 0.3 at 128"):
        encoder(replace(SMALL, patch_s=0.3))


def test_segments_of_another_shape_are_refused() -> None:
    module = encoder()
    for x in (eeg(2)[:, :2], eeg(2)[..., :127], eeg(2)[0]):
        with pytest.raises(ValueError, match=r"need eeg of shape \(B, 3, 128 or more\), got"):
            module(x)
    with pytest.raises(ValueError, match="need the encoder's 4 patches a segment, got 5"):
        module.patches(group_of(eeg(2)), 5)
    with pytest.raises(TypeError, match="need an encoder by patches of time, got Linear"):
        as_patches(nn.Linear(2, 2))


# Reconstruction and classes -----------------------------------------------------------------------


@pytest.mark.parametrize("masked", [0.0, 0.5])
def test_reconstruction_is_the_mean_square_of_what_is_missing_to_each_patch(masked: float) -> None:
    stage = Reconstruction(reconstruction_config(masked=masked), inputs(), {})
    module, whole = stage.build().double(), group(range(5))
    seen: list[Tensor | None] = []
    module.encoder.register_forward_pre_hook(lambda _, args: seen.append(args[2]))
    with torch.no_grad():
        got = stage.losses(module, Batch(3, (whole,), {}))["reconstruction"]
        told_BCPM = module.head(module.encoder(whole["eeg"].x_BCT, None, seen[0]))
    assert (seen[0] is None) is (masked == 0)
    of_segments = []
    for b in range(5):
        errors = []
        for c in range(3):
            for p, x_M in enumerate(whole["eeg"].x_BCT[b, c].view(4, 32)):
                if seen[0] is None or not seen[0][b, c, p]:
                    errors.append(float((told_BCPM[b, c, p] - x_M).square().mean()))
        of_segments.append(sum(errors) / max(1, len(errors)))
    assert float(got) == pytest.approx(sum(of_segments) / 5, abs=1e-10)


def test_what_is_masked_is_seen_by_nobody() -> None:
    module, x_BCT = encoder(), eeg(2)
    seen_BCP = torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(0)) < 0.5
    spoilt = torch.where(seen_BCP.repeat_interleave(32, -1), x_BCT, x_BCT + 50)
    assert torch.equal(module(x_BCT, None, seen_BCP), module(spoilt, None, seen_BCP))
    assert not torch.allclose(module(x_BCT, None, seen_BCP), module(x_BCT))


def test_zero_for_everything_is_the_chance_loss_of_reconstruction() -> None:
    """Of signals of variance one, which z-scores are."""
    stage = Reconstruction(reconstruction_config(), inputs(), {})
    module = stage.build().double()
    for parameter in module.head.parameters():
        nn.init.zeros_(parameter)
    loss = stage.losses(module, Batch(0, (group(range(40)),), {}))["reconstruction"]
    assert float(loss.detach()) == pytest.approx(stage.chance_loss(40), abs=0.05)


@pytest.mark.parametrize("kind", [Teaching, EcgClassification])
def test_scores_are_one_layer_on_the_mean_of_the_patches(kind: Any) -> None:
    stream = kind.streams[0]
    config = teacher_config() if kind is Teaching else classification_config()
    stage = kind(config, inputs(stream), {})
    module, whole = stage.build().double().eval(), group(range(3))
    x_BCT = whole[stream].x_BCT
    want = []
    for b in range(3):
        tokens_CPZ = module.encoder(x_BCT[b : b + 1])[0]
        z_Z = sum(z for channel in tokens_CPZ for z in channel) / tokens_CPZ.shape[0] / 4
        want.append(module.head.weight @ z_Z + module.head.bias)
    torch.testing.assert_close(module((whole,)), torch.stack(want), rtol=0, atol=1e-10)
    alone = replace(whole, signals={stream: whole[stream]})
    assert torch.equal(module((alone,)), module((whole,)))  # nothing else is read


# One order for both -------------------------------------------------------------------------------


def test_patches_change_places_and_nothing_else() -> None:
    x_BCT, order_BP = eeg(3, 26), torch.tensor([[2, 0, 3, 1], [0, 1, 2, 3], [3, 2, 1, 0]])
    found = reordered(Signal(x_BCT, SPECS["eeg"].channels, 128.0), order_BP)
    assert found.shape == (3, 3, 24)
    for b in range(3):
        for c in range(3):
            for p in range(4):
                for m in range(6):
                    old = int(order_BP[b, p]) * 6 + m
                    assert found[b, c, p * 6 + m] == x_BCT[b, c, old]


TEACHERS: Mapping[str, Any] = {
    "reconstruction's": reconstructed,
    "the alignment's": taught,
    "EMOD's pretrained": lambda: started(Pretraining, emod.Config(encoder=EMOD), Inputs()),
    "EMOD's fine-tuned": lambda: started(Finetuning, emod.FinetuneConfig(encoder=EMOD)),
}


def aligned(
    teacher: str = "the alignment's", of_ssl_ecg: Start | None = None, **changes: Any
) -> Alignment:
    """The stage with what follows from its starts."""
    kind = EmodAlignment if teacher.startswith("EMOD") else Alignment
    starts = {"teacher": TEACHERS[teacher]()}
    if of_ssl_ecg is not None:
        starts["student"] = of_ssl_ecg
    config = kind.following(
        alignment_config(**changes), {role: start.config for role, start in starts.items()}
    )
    return kind(config, inputs(), starts)


@pytest.mark.parametrize(
    ("teacher", "patch_s"),
    [
        *((teacher, 0.25) for teacher in TEACHERS),
        ("the alignment's", 0.375),
        ("EMOD's pretrained", 0.375),
    ],
)
def test_what_the_teacher_says_is_of_the_patches_shuffled_by_hand(
    teacher: str, patch_s: float
) -> None:
    """Patches of 0.375 s leave a quarter of a second that nobody sees."""
    size = {"encoder": replace(WIDER, patch_s=patch_s)}
    start = TEACHERS[teacher](**size) if "EMOD" not in teacher else TEACHERS[teacher]()
    kind = EmodAlignment if "EMOD" in teacher else Alignment
    config = alignment_config(n_shuffles=3, encoder=replace(SMALL, patch_s=patch_s))
    stage = kind(config, inputs(), {"teacher": start})
    n_patches, n_samples = int(1 / patch_s), int(128 * patch_s)
    rows = [4, 9, 2]
    found = stage.constants(group(rows))
    assert found["order"].shape == (3, 3, n_patches)
    sees = as_patches(stage.teacher)
    for b, row in enumerate(rows):
        x_CT = group([row])["eeg"].x_BCT[0, :, : n_patches * n_samples]
        own = pieces(x_CT, n_patches)
        want = sees.patches(with_eeg([row], x_CT[None]), n_patches)[0]
        torch.testing.assert_close(found["eeg"][b], want, rtol=0, atol=1e-10)
        for r in range(3):
            order = found["order"][b, r].tolist()
            assert sorted(order) == list(range(n_patches))
            by_hand = torch.cat([own[p] for p in order], dim=1)[None]
            want = sees.patches(with_eeg([row], by_hand), n_patches)[0]
            torch.testing.assert_close(found["eeg_shuffled"][b, r], want, rtol=0, atol=1e-10)


def with_eeg(rows: Sequence[int], x_BCT: Tensor) -> Group:
    whole = group(rows)
    return replace(whole, signals={"eeg": replace(whole["eeg"], x_BCT=x_BCT)})


def test_a_segments_orders_are_its_own_whoever_is_beside_it_and_by_the_seed() -> None:
    stage = aligned(n_shuffles=2)
    orders = {row: stage.constants(group([row]))["order"][0].tolist() for row in range(12)}
    together = stage.constants(group([7, 3, 11]))["order"].tolist()
    assert together == [orders[7], orders[3], orders[11]]
    assert len({str(order) for order in orders.values()}) > 10
    other = aligned(n_shuffles=2, seed=4).constants(group([7, 3, 11]))["order"].tolist()
    assert other != together


def test_the_ecg_of_a_step_is_shuffled_as_the_eeg_was() -> None:
    """By each segment's own order of those that there are, another one in other steps."""
    eighths = [replace(one, patch_s=0.125) for one in (SMALL, WIDER)]
    config = alignment_config(n_shuffles=3, encoder=eighths[0])
    stage = Alignment(config, inputs(), {"teacher": taught(encoder=eighths[1])})
    rows, module = [4, 9, 2, 6], aligned_module(stage)
    inputs_seen: list[tuple[Group, ...]] = []
    module.register_forward_pre_hook(lambda _, args: inputs_seen.append(args[0]))
    taken: dict[int, set[int]] = {row: set() for row in rows}
    for step in range(8):
        batch = step_of(stage, rows, range(4), step=step)
        stage.losses(module, batch)
        plain, shuffled = inputs_seen[-1]
        assert set(shuffled.signals) == {"ecg"}
        assert torch.equal(plain["ecg"].x_BCT, group(rows)["ecg"].x_BCT)
        assert not set(plain.positions_B.tolist()) & set(shuffled.positions_B.tolist())
        for b, row in enumerate(rows):
            own = pieces(group([row])["ecg"].x_BCT[0], 8)
            orders = batch.groups[0].constants["order"][b].tolist()
            made = [torch.cat([own[p] for p in order], dim=1) for order in orders]
            same = [torch.equal(one, shuffled["ecg"].x_BCT[b]) for one in made]
            assert sum(same) == 1
            taken[row].add(same.index(True))
    assert set().union(*taken.values()) == {0, 1, 2}
    assert all(len(which) > 1 for which in taken.values())


def aligned_module(stage: Alignment) -> nn.Module:
    return stage.build().double()


def test_without_shuffling_each_segment_is_there_once() -> None:
    stage = aligned(shuffle=False)
    assert set(stage.constants(group([1, 2]))) == {"eeg"}
    module, seen = aligned_module(stage), []
    module.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    stage.losses(module, step_of(stage, [1, 2], [0, 1]))
    assert seen == [1]


def test_eeg_is_read_for_the_constants_and_not_for_the_steps() -> None:
    assert (Alignment.streams, Alignment.streams_each_step) == (("eeg", "ecg"), ("ecg",))
    for kind in (VaAlignment, EmodAlignment):
        assert kind.streams_each_step == ("ecg",)


# Teacher and student ------------------------------------------------------------------------------


@pytest.mark.parametrize("teacher", TEACHERS)
def test_the_teacher_is_the_starts_encoder_frozen_and_no_part_of_the_module(teacher: str) -> None:
    stage = aligned(teacher)
    assert not any(part.training for part in stage.teacher.modules())
    assert not any(p.requires_grad for p in stage.teacher.parameters())
    start = stage.starts["teacher"].part("encoder")
    state = stage.teacher.state_dict()
    assert state.keys() == start.keys()
    assert all(torch.equal(state[name], start[name]) for name in start)
    module = aligned_module(stage)
    owned = {id(p) for p in module.parameters()}
    assert not owned & {id(p) for p in stage.teacher.parameters()}
    assert not set(module.state_dict()) & {f"teacher.{name}" for name in start}


@pytest.mark.parametrize("teacher", TEACHERS)
def test_steps_move_all_of_the_student_and_no_bit_of_the_teacher(teacher: str) -> None:
    stage = aligned(teacher)
    module, rows = aligned_module(stage), [4, 9, 2, 6]
    batch = step_of(stage, rows, range(4))
    before = {n: t.clone() for n, t in stage.teacher.state_dict().items()}
    said = {name: x.clone() for name, x in stage.constants(group(rows)).items()}
    first = {name: p.detach().clone() for name, p in module.named_parameters()}
    optimizer = make_optimizer(stage.optimizer, module)
    module.train()
    for step in range(3):
        losses = stage.losses(module, replace(batch, step=step))
        optimizer.zero_grad()
        (losses["patch"] + losses["sequence"]).backward()
        optimizer.step()
    after = stage.teacher.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert all(p.grad is None for p in stage.teacher.parameters())
    again = stage.constants(group(rows))
    assert all(torch.equal(again[name], said[name]) for name in said)
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert not torch.equal(parameter, first[name]), name


def test_a_teacher_that_was_trained_with_dropout_teaches_without() -> None:
    config = replace(WIDER, dropout=0.5)
    start = taught(encoder=config)
    without = replace(start, config={**start.config, "encoder": to_dict(WIDER)})
    found = [
        Alignment(alignment_config(), inputs(), {"teacher": one}).constants(group([1, 2]))["eeg"]
        for one in (start, without)
    ]
    assert torch.equal(*found)


def pretext() -> Start:
    config = PretextConfig(encoder=CONVOLUTIONS, n_hidden=6, leads="last")
    return started(Pretext, config)


def test_a_student_that_ssl_ecg_trained_begins_as_it_was() -> None:
    start = pretext()
    stage = aligned(of_ssl_ecg=start)
    assert stage.config.student == "convolutions"
    assert (stage.config.convolutions, stage.config.leads) == (CONVOLUTIONS, "last")
    module = stage.build()
    weights = module.encoder.state_dict()
    assert weights
    assert all(torch.equal(w, start.model[f"encoder.{name}"]) for name, w in weights.items())
    scratch = aligned().build()
    assert not set(scratch.encoder.state_dict()) & set(weights)
    assert module.head.weight.shape == (12, 5)  # from five filters to the teacher's width


def test_a_student_as_wide_as_its_teacher_needs_no_map() -> None:
    assert not list(aligned(encoder=replace(WIDER, n_layers=1)).build().head.parameters())
    assert aligned().build().head.weight.shape == (12, 8)


def test_convolutions_give_the_largest_values_of_equal_parts_of_time() -> None:
    stage = aligned(student="convolutions", convolutions=CONVOLUTIONS)
    module, whole = aligned_module(stage), group([3, 5])
    maps_BDT = module.encoder.maps(whole["ecg"].x_BCT[:, 0])
    n = maps_BDT.shape[-1]
    parts = [maps_BDT[..., p * n // 4 : -(-(p + 1) * n // 4)].amax(-1) for p in range(4)]
    found = module.encoder.patches(whole, 4)
    torch.testing.assert_close(found, torch.stack(parts, dim=1))


@pytest.mark.parametrize("student", ["patches", "convolutions"])
def test_classes_start_from_the_aligned_encoder(student: str) -> None:
    config = alignment_config(
        student=student, convolutions=CONVOLUTIONS, leads="last", n_shuffles=2
    )
    start = started(Alignment, config)
    asked = classification_config(encoder=replace(SMALL, width=16, dropout=0.4))
    found = EcgClassification.following(asked, {"encoder": start.config})
    assert found.encoder == replace(SMALL, dropout=0.4)
    assert (found.student, found.convolutions, found.leads) == (student, CONVOLUTIONS, "last")
    module = EcgClassification(found, inputs("ecg"), {"encoder": start}).build()
    for name, weights in module.encoder.state_dict().items():
        assert torch.equal(weights, start.model[f"encoder.{name}"])
    assert all(p.requires_grad for p in module.parameters())


def test_the_teacher_decides_how_long_patches_are() -> None:
    of_teacher = to_dict(teacher_config(encoder=replace(WIDER, patch_s=0.5)))
    found = Alignment.following(alignment_config(), {"teacher": of_teacher})
    assert found.encoder == replace(SMALL, patch_s=0.5)
    unpatched = to_dict(emod.FinetuneConfig(encoder=EMOD))
    assert Alignment.following(alignment_config(), {"teacher": unpatched}) == alignment_config()


# What is refused ----------------------------------------------------------------------------------


def test_starts_of_other_methods_are_refused() -> None:
    other = to_dict(emod.FinetuneConfig(encoder=EMOD))
    for kind in (Teaching, EcgClassification):
        with pytest.raises(ValueError, match="need a checkpoint of the alignment, got another"):
            kind.following(kind.rehearsal(), {"encoder": other})
    for student in (other, to_dict(alignment_config()), {}):
        with pytest.raises(ValueError, match="need a student that SSL-ECG trained, got another"):
            Alignment.following(alignment_config(), {"student": student})


def test_starts_whose_encoder_is_of_another_stream_are_refused() -> None:
    of_ecg = started(EcgClassification, classification_config(), inputs("ecg"))
    with pytest.raises(ValueError, match="need a start 'teacher' that reads eeg, got EcgClass"):
        Alignment(alignment_config(), inputs(), {"teacher": of_ecg})
    with pytest.raises(ValueError, match="need a start 'student' that reads ecg, got Teaching"):
        Alignment(alignment_config(), inputs(), {"student": taught()})
    with pytest.raises(ValueError, match="need a start 'encoder' that reads ecg, got Teaching"):
        EcgClassification(classification_config(), inputs("ecg"), {"encoder": taught()})
    after = started(Alignment, alignment_config())
    with pytest.raises(ValueError, match="need a start 'encoder' that reads eeg, got Alignment"):
        Teaching(teacher_config(), inputs("eeg"), {"encoder": after})


def test_a_teacher_without_patches_of_time_is_refused() -> None:
    baseline = Start(to_dict(BaselineConfig()), {}, Training)
    with pytest.raises(ValueError, match="need a stage whose encoder sees patches of time, got Tr"):
        Alignment(alignment_config(), inputs(), {"teacher": baseline}).build()
    bare = replace(taught(), kind=None)
    with pytest.raises(ValueError, match="need a start that says which stage trained it"):
        Alignment(alignment_config(), inputs(), {"teacher": bare}).build()


def test_a_teacher_with_patches_of_another_length_is_refused() -> None:
    start = taught(encoder=replace(WIDER, patch_s=0.5))
    stage = Alignment(alignment_config(), inputs(), {"teacher": start})
    with pytest.raises(ValueError, match="need the encoder's 2 patches a segment, got 4"):
        stage.constants(group([1]))


def test_streams_with_other_numbers_of_patches_are_refused() -> None:
    longer = {**inputs().streams, "ecg": replace(SPECS["ecg"], n_times=512)}
    stage = Alignment(alignment_config(), Inputs(longer), {"teacher": taught()})
    with pytest.raises(ValueError, match=r"need as many patches of EEG as of ECG, got \[4, 8\]"):
        stage.constants(group([1]))


def test_one_patch_has_no_other_order() -> None:
    config = replace(SMALL, patch_s=1.0)
    stage = Alignment(alignment_config(encoder=config), inputs(), {})
    with pytest.raises(ValueError, match="need two patches or more of a segment to shuffle them"):
        stage.constants(group([1]))
    without = Alignment(alignment_config(encoder=config, shuffle=False), inputs(), {})
    assert without.constants(group([1]))["eeg"].shape == (1, 1, 8)


@pytest.mark.parametrize(
    ("make", "wrong", "need"),
    [
        (alignment_config, {"n_shuffles": 0}, "need n_shuffles of at least 1, got 0"),
        (alignment_config, {"epochs": 0}, "need epochs and batch_size of at least 1, got 0"),
        (reconstruction_config, {"masked": 1.0}, r"need masked in \[0, 1\), got 1"),
        (reconstruction_config, {"batch_size": 0}, "need epochs and batch_size of at least 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(make: Any, wrong: dict[str, Any], need: str) -> None:
    with pytest.raises(ValueError, match=need):
        make(**wrong)


def test_classes_are_needed_to_learn_them() -> None:
    without = replace(inputs("ecg"), classes=())
    with pytest.raises(ValueError, match="need class labels, got none"):
        EcgClassification(classification_config(), without, {}).build()
    assert len(CLASSES) == 2
