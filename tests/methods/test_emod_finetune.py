"""Fine-tuning: what it starts from, what learns, and what a classifier computes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from emoray.batches.batch import Batch, Group
from emoray.methods.base import InputSpec, Start
from emoray.methods.counter_draws import DropoutKey
from emoray.methods.emod.config import Config, EncoderConfig, FinetuneConfig
from emoray.methods.emod.method import Finetuning, Pretraining
from emoray.methods.emod.model import EmodClassifier, FeatureNorm, HeadKind
from emoray.runtime.config import to_dict
from emoray.training.loop import take_step
from emoray.vocabulary.electrodes import VOCABULARY
from tests.groups import eeg_group, inputs_of, with_eeg

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = EncoderConfig(d_model=8, n_heads=2, n_layers=2, d_feedforward=16)
TINY = FinetuneConfig(encoder=SMALL)
SPEC = InputSpec(("Fz", "Cz", "Pz"), 100.0, 200, 3)
SEED_SPEC = InputSpec(tuple(f"E{i}" for i in range(62)), 200.0, 1000, 3)


def finetuning(
    config: FinetuneConfig = TINY, spec: InputSpec = SPEC, start: Start | None = None
) -> Finetuning:
    return Finetuning(config, inputs_of(spec), {} if start is None else {"encoder": start})


def pretrained(config: EncoderConfig = SMALL) -> Start:
    """A pretraining's weights, none of which any seed of a fine-tuning would give."""
    stage = Config(encoder=config, seed=7)
    model = Pretraining(stage).build().state_dict()
    return Start(to_dict(stage), {name: tensor + 0.01 for name, tensor in model.items()})


def group(
    n_segments: int = 4, seconds: float = 2.0, sfreq: float = 100.0, *, seed: int = 0
) -> Group:
    generator = torch.Generator().manual_seed(seed)
    x_BCT = torch.randn(n_segments, 3, round(seconds * sfreq), generator=generator)
    channels = [VOCABULARY[i] for i in (2, 0, 1)]
    return eeg_group(x_BCT, channels, sfreq, torch.arange(n_segments))


def batch(*groups: Group, n_classes: int = 3, step: int = 5) -> Batch:
    n = sum(map(len, groups))
    return Batch(step, groups, {"label": torch.arange(n) % n_classes})


def weights_of(module: nn.Module, part: str = "") -> dict[str, Tensor]:
    return {n: t.clone() for n, t in module.state_dict().items() if n.startswith(part)}


def same(one: Mapping[str, Tensor], two: Mapping[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


# Where it starts ---------------------------------------------------------------------------------


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_fine_tuning_starts_with_the_pretrained_encoder_and_a_head_of_its_own(
    head: HeadKind,
) -> None:
    start, config = pretrained(), replace(TINY, head=head, seed=3)
    module, fresh = finetuning(config, SPEC, start).build(), finetuning(config, SPEC).build()
    encoder = {n: t for n, t in start.model.items() if n.startswith("encoder.")}
    assert len(encoder) < len(start.model)  # a pretraining's head is there too
    assert same(weights_of(module, "encoder."), encoder)
    assert same(weights_of(module, "head."), weights_of(fresh, "head."))
    for name, parameter in module.encoder.named_parameters():
        assert not torch.equal(parameter, fresh.encoder.get_parameter(name)), name
        assert parameter.requires_grad, name


def test_a_start_is_not_changed_by_who_starts_from_it() -> None:
    start = pretrained()
    before = {name: tensor.clone() for name, tensor in start.model.items()}
    stage = finetuning(TINY, SPEC, start)
    module = stage.build()
    optimizer = torch.optim.AdamW(module.parameters())
    take_step(stage, module, optimizer, batch(group()), 0.1)
    assert same(start.model, before)
    assert same(
        weights_of(stage.build(), "encoder."),
        weights_of(finetuning(TINY, SPEC, start).build(), "encoder."),
    )


def test_a_row_says_where_its_weights_come_from() -> None:
    assert finetuning(TINY, SPEC).start_words == "from scratch"
    assert finetuning(TINY, SPEC, pretrained()).start_words == "pretrained"


def test_a_fine_tuned_classifier_is_a_start_as_well() -> None:
    trained = finetuning(replace(TINY, seed=8), replace(SPEC, n_outputs=5)).build()
    start = Start(to_dict(TINY), trained.state_dict())
    module = finetuning(TINY, SPEC, start).build()
    assert same(weights_of(module, "encoder."), weights_of(trained, "encoder."))


def test_another_architecture_is_refused_by_the_settings_that_differ() -> None:
    wanted = replace(SMALL, d_model=16, spectrum="magnitude", temporal_attention=False)
    with pytest.raises(ValueError, match="need the encoder that the checkpoint was") as refused:
        finetuning(replace(TINY, encoder=wanted), SPEC, pretrained())
    said = str(refused.value)
    assert "encoder.d_model 16 instead of 8" in said
    assert "encoder.spectrum 'magnitude' instead of 'real'" in said
    assert "encoder.temporal_attention False instead of True" in said
    assert said.count("instead of") == 3


def test_dropout_and_how_convolutions_run_may_differ_from_the_pretraining() -> None:
    other = replace(SMALL, dropout=0.4, frontend="plain")
    module = finetuning(replace(TINY, encoder=other), SPEC, pretrained()).build()
    start = pretrained()
    assert same(
        weights_of(module, "encoder."),
        {n: t for n, t in start.model.items() if n.startswith("encoder.")},
    )


def test_a_start_without_an_encoder_is_refused() -> None:
    with pytest.raises(ValueError, match="need a checkpoint of EMOD, got one without settings"):
        finetuning(TINY, SPEC, Start({"model": "eegnet"}, {}))


@pytest.mark.parametrize("origin", [lambda: None, pretrained], ids=["scratch", "pretrained"])
def test_the_same_seed_gives_the_same_weights_and_touches_no_generator(
    origin: Callable[[], Start | None],
) -> None:
    start = origin()
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = finetuning(TINY, SPEC, start).build()
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    assert same(weights_of(first), weights_of(finetuning(TINY, SPEC, start).build()))
    other = finetuning(replace(TINY, seed=1), SPEC, start).build()
    assert not torch.equal(first.head.out.weight, other.head.out.weight)


# What learns -------------------------------------------------------------------------------------


def step_of(config: FinetuneConfig) -> tuple[EmodClassifier, dict[str, Tensor]]:
    """A module after one step, and its weights before."""
    stage = finetuning(config, SPEC, pretrained())
    module = stage.build()
    before = weights_of(module)
    optimizer = torch.optim.AdamW(module.parameters(), weight_decay=0.1)
    take_step(stage, module, optimizer, batch(group()), 0.01)
    return module, before


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_a_frozen_encoder_stays_bit_for_bit_while_the_head_learns(head: HeadKind) -> None:
    module, before = step_of(replace(TINY, frozen=True, head=head))
    after = weights_of(module)
    assert all(parameter.grad is None for parameter in module.encoder.parameters())
    for name, tensor in after.items():
        assert torch.equal(tensor, before[name]) == name.startswith("encoder."), name


def test_unfrozen_every_parameter_learns_but_what_cancels_in_a_softmax() -> None:
    module, before = step_of(TINY)
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        moved = parameter.detach() - before[name]
        if name.endswith("qkv.bias"):  # the keys' third cancels, all but rounding
            moved = torch.cat([moved[:8], moved[16:]])
        if name != "encoder.electrodes.weight":  # electrodes that are not in the batch
            assert moved.abs().max() > 0, name


def test_the_papers_encoder_has_845384_parameters_beside_the_head() -> None:
    linear = finetuning(FinetuneConfig(), SEED_SPEC)
    assert linear.n_parameters(linear.build()) == {"encoder": 845_384, "head": 128 * 3 + 3}
    mlp = finetuning(FinetuneConfig(head="mlp"), SEED_SPEC)
    n_head = 128 * 512 + 512 + 512 * 3 + 3
    assert mlp.n_parameters(mlp.build()) == {"encoder": 845_384, "head": n_head}


def test_a_frozen_encoder_has_no_parameters_that_learn() -> None:
    stage = finetuning(replace(TINY, frozen=True), SPEC)
    assert stage.n_parameters(stage.build()) == {"encoder": 0, "head": 8 * 3 + 3}


# What a classifier computes ----------------------------------------------------------------------


def test_features_are_standardised_over_the_batch_in_training() -> None:
    norm, x_BD = FeatureNorm(3).double(), spread(5)
    y_BD = norm(x_BD)
    for d in range(3):
        column = x_BD[:, d].tolist()
        mean = sum(column) / 5
        deviation = math.sqrt(sum((x - mean) ** 2 for x in column) / 5 + 1e-5)
        assert y_BD[:, d].tolist() == pytest.approx([(x - mean) / deviation for x in column])


def spread(n: int, seed: int = 0) -> Tensor:
    """Features of very different size and place, (n, 3)."""
    generator = torch.Generator().manual_seed(seed)
    x_BD = torch.randn(n, 3, generator=generator, dtype=torch.float64)
    return x_BD * torch.tensor([1.0, 20.0, 1e-3]) + torch.tensor([5.0, -300.0, 0.0])


def test_running_statistics_are_a_plain_mean_of_ten_batches_and_follow_by_a_tenth_after() -> None:
    norm = FeatureNorm(3).double()
    means: list[list[float]] = []
    variances: list[list[float]] = []
    wanted_mean, wanted_variance = [0.0] * 3, [1.0] * 3
    for number in range(1, 16):
        x_BD = spread(2 + number, seed=number)
        norm(x_BD)
        columns = x_BD.T.tolist()
        means.append([sum(c) / len(c) for c in columns])
        variances.append(
            [sum((x - m) ** 2 for x in c) / len(c) for c, m in zip(columns, means[-1], strict=True)]
        )
        if number <= 10:
            wanted_mean = [sum(column) / number for column in zip(*means, strict=True)]
            wanted_variance = [sum(column) / number for column in zip(*variances, strict=True)]
        else:
            wanted_mean = followed(wanted_mean, means[-1])
            wanted_variance = followed(wanted_variance, variances[-1])
        assert norm.mean.tolist() == pytest.approx(wanted_mean, rel=1e-9), number
        assert norm.variance.tolist() == pytest.approx(wanted_variance, rel=1e-9), number


def followed(old: list[float], new: list[float]) -> list[float]:
    return [0.9 * a + 0.1 * b for a, b in zip(old, new, strict=True)]


def test_in_evaluation_running_statistics_stand_in_and_stay() -> None:
    norm = FeatureNorm(3).double()
    for seed in range(3):
        norm(spread(6, seed))
    kept = weights_of(norm)
    x_BD = spread(2, seed=9)
    y_BD = norm.eval()(x_BD)
    assert same(weights_of(norm), kept)
    for d in range(3):
        mean, deviation = kept["mean"][d].item(), math.sqrt(kept["variance"][d].item() + 1e-5)
        expected = [(x - mean) / deviation for x in x_BD[:, d].tolist()]
        assert y_BD[:, d].tolist() == pytest.approx(expected)
    # One segment alone is scored as among others.
    torch.testing.assert_close(norm(x_BD[:1]), y_BD[:1], rtol=0, atol=0)


def test_no_gradient_reaches_the_running_statistics() -> None:
    norm, x_BD = FeatureNorm(3).double(), spread(5).requires_grad_()
    for _ in range(2):
        norm(x_BD).pow(3).sum().backward()
    assert not norm.mean.requires_grad
    assert not norm.variance.requires_grad


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_class_scores_are_a_map_of_the_mean_token(head: HeadKind) -> None:
    module = finetuning(replace(TINY, head=head), SPEC).build().double().eval()
    whole = doubled(group())
    with torch.no_grad():
        (tokens_BCKD,) = module.encoder([whole])
        n = tokens_BCKD.shape[1] * tokens_BCKD.shape[2]
        h_BD = tokens_BCKD.sum((1, 2)) / n / math.sqrt(1 + 1e-5)  # statistics as at the start
        if module.head.widen is not None:
            a_BH = h_BD @ module.head.widen.weight.T + module.head.widen.bias
            h_BD = a_BH * (1 + torch.erf(a_BH / math.sqrt(2))) / 2
        expected = h_BD @ module.head.out.weight.T + module.head.out.bias
        torch.testing.assert_close(module([whole]), expected)


def test_the_loss_is_cross_entropy_in_plain_loops() -> None:
    stage = finetuning(TINY, SPEC)
    module = stage.build()
    of_step = batch(group(5), step=9)
    total = stage.losses(module, of_step)["cross_entropy"]
    again = stage.build()  # running statistics and dropout as the first time
    scores_BK = again(of_step.groups, DropoutKey(stage.seed, 9))
    wanted = 0.0
    for scores, label in zip(scores_BK.tolist(), of_step["label"].tolist(), strict=True):
        wanted += math.log(sum(math.exp(s) for s in scores)) - scores[label]
    assert total.item() == pytest.approx(wanted / 5, rel=1e-5)


def test_dropout_depends_on_the_step_and_not_on_the_call() -> None:
    stage = finetuning(replace(TINY, encoder=replace(SMALL, dropout=0.5)), SPEC)

    def loss(step: int) -> float:
        return stage.losses(stage.build(), batch(group(), step=step))["cross_entropy"].item()

    assert loss(3) == loss(3)
    assert loss(3) != loss(4)


def test_a_batch_without_labels_is_refused() -> None:
    stage = finetuning(TINY, SPEC)
    with pytest.raises(ValueError, match="need the target 'label' in a batch, got nothing"):
        stage.losses(stage.build(), replace(batch(group()), targets={}))


@pytest.mark.parametrize("n_classes", [2, 3, 9])
def test_who_knows_nothing_loses_the_logarithm_of_the_number_of_classes(n_classes: int) -> None:
    stage = finetuning(TINY, replace(SPEC, n_outputs=n_classes))
    module = stage.build()
    nn.init.zeros_(module.head.out.weight)
    nn.init.zeros_(module.head.out.bias)
    total = stage.losses(module, batch(group(), n_classes=n_classes))["cross_entropy"].item()
    assert stage.chance_loss(64) == pytest.approx(math.log(n_classes))
    assert total == pytest.approx(stage.chance_loss(64), rel=1e-6)


def test_scores_are_of_the_module_without_dropout_or_gradient() -> None:
    stage = finetuning(replace(TINY, encoder=replace(SMALL, dropout=0.9)), SPEC)
    module = stage.build().eval()
    scores_BK = stage.scores(module, [group()])
    assert not scores_BK.requires_grad
    assert torch.equal(scores_BK, stage.scores(module, [group()]))
    assert torch.equal(scores_BK, module([group()]).detach())


# Segments of any length --------------------------------------------------------------------------

LENGTHS = (1.0, 5.0, 10.0, 60.0)
RATES = (128.0, 200.0, 250.0, 300.0)


def test_segments_of_1_to_60_seconds_at_128_to_300_hz_go_through_one_encoder() -> None:
    """Seconds and rates of the paper's datasets and beyond; 60 s are six times the offsets."""
    stage = finetuning(TINY, SPEC, pretrained())
    module = stage.build()
    for seconds in LENGTHS:
        for sfreq in RATES:
            module.zero_grad(set_to_none=True)
            total = stage.losses(module, batch(group(2, seconds, sfreq)))["cross_entropy"]
            assert torch.isfinite(total), (seconds, sfreq)
            total.backward()  # type: ignore[no-untyped-call]
            for name, parameter in module.named_parameters():
                assert parameter.grad is not None, (name, seconds, sfreq)
                assert torch.isfinite(parameter.grad).all(), (name, seconds, sfreq)
    assert module.encoder.n_tokens(group(2, 60.0, 300.0)) == 300


def test_a_segments_scores_do_not_depend_on_what_else_is_scored() -> None:
    module = finetuning(TINY, SPEC, pretrained()).build().double().eval()
    groups = [doubled(group(2, seconds, sfreq)) for seconds in (1.0, 3.0) for sfreq in RATES]
    with torch.no_grad():
        together = module(groups)
        alone = torch.cat([module([one]) for one in groups])
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-9)


def doubled(one: Group) -> Group:
    return with_eeg(one, x_BCT=one["eeg"].x_BCT.double())


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"batch_size": 0}])
def test_settings_that_train_nothing_are_refused(wrong: Mapping[str, Any]) -> None:
    with pytest.raises(ValueError, match="need epochs and batch_size of at least 1"):
        FinetuneConfig(**wrong)
