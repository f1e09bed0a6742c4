"""What holds for every stage of every method, told by nothing but what the stage declares.

Shapes: B segments, C channels, T samples, S segments of a dataset, K classes.
"""

from __future__ import annotations

import importlib
import itertools
import pkgutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from inspect import isabstract
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from emoray import methods
from emoray.batches import distributed
from emoray.batches.batch import Batch, Group, Signal
from emoray.batches.feeds import Feed
from emoray.batches.plans import Plan, Pool, make_plan
from emoray.batches.sampling import RegionRounds
from emoray.methods.base import Inputs, Stage, Start, StreamSpec
from emoray.methods.baselines.model import MODELS
from emoray.methods.settings import OptimizerConfig
from emoray.results import published
from emoray.runtime.config import dotted_values, from_dict, set_all, to_dict
from emoray.training import loop
from emoray.training.batch_norm import over_all_workers
from emoray.training.optimizers import make_optimizer
from tests.memory import Memory
from tests.workers import found_by

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")
N_STEPS = 2
"""Of the comparison between one worker and two."""
TOLERANCE = 1e-10
"""Of two workers against one in float64, relative to the largest value."""
N_SEGMENTS = 36
"""Of a dataset."""
CLASSES = ("negative", "neutral", "positive")
STREAMS: Mapping[str, tuple[StreamSpec, ...]] = {
    "eeg": (
        StreamSpec(("F7", "F8", "P3", "P4"), 200.0, 200),
        StreamSpec(("Fz", "Cz", "Pz"), 100.0, 100),
    ),
    "ecg": (StreamSpec(("ECG",), 128.0, 128), StreamSpec(("ECG",), 256.0, 256)),
}
"""One second of each stream, as two datasets have it."""


# Which stages, with which settings ----------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A stage with settings."""

    method: str
    stage: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    """By dotted name, what differs from its rehearsal's."""
    starts: Mapping[str, str] = field(default_factory=dict)
    """By the start's name, the stage that it comes from: of the same method, or `method stage`."""

    @property
    def kind(self) -> type[Stage]:
        kind: type[Stage] = methods.get(self.method).STAGES[self.stage]
        return kind

    def __str__(self) -> str:
        words = [str(value) for value in self.settings.values()]
        return " ".join([self.method, self.stage, *words, *self.starts])


PATCHES: Mapping[str, Any] = {"encoder.patch_s": 0.25}
"""Several in the second that segments last here."""
OF_STARTS: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("alignment", stage): PATCHES for stage in ("reconstruct", "teach", "align")
}
"""Settings of stages that others start from, where they are not their rehearsal's."""
VARIANTS: Mapping[tuple[str, str], tuple[Case, ...]] = {
    ("emod", "pretrain"): tuple(
        Case("emod", "pretrain", {"loss.objective": objective})
        for objective in ("soft_va", "hard_va", "augment")
    ),
    ("emod", "finetune"): (
        Case("emod", "finetune"),
        Case("emod", "finetune", {"head": "mlp"}),
        Case("emod", "finetune", starts={"encoder": "pretrain"}),
        Case("emod", "finetune", {"frozen": True}, {"encoder": "pretrain"}),
    ),
    ("ssl_ecg", "emotion"): (
        Case("ssl_ecg", "emotion"),
        Case("ssl_ecg", "emotion", {"output": "sigmoid", "dropout": 0.4}),
        Case("ssl_ecg", "emotion", {"frozen": True}, {"encoder": "pretext"}),
        Case("ssl_ecg", "emotion", {"frozen": False, "dropout": 0.4}, {"encoder": "pretext"}),
    ),
    **{
        (method, "classify"): (
            Case(method, "classify"),
            Case(method, "classify", starts={"encoder": "pretrain"}),
        )
        for method in ("ts_tcc", "tf_c")
    },
    ("alignment", "reconstruct"): (
        Case("alignment", "reconstruct", PATCHES),
        Case("alignment", "reconstruct", {**PATCHES, "masked": 0.4, "encoder.dropout": 0.2}),
    ),
    ("alignment", "align"): tuple(
        Case("alignment", "align", {**PATCHES, **settings}, starts)
        for settings, starts in (
            ({}, {}),
            ({"encoder.dropout": 0.2, "n_shuffles": 3}, {"teacher": "teach"}),
            ({"levels": "patch"}, {"teacher": "teach"}),
            ({"levels": "sequence", "shuffle": False}, {"teacher": "reconstruct"}),
            ({"pairing": "permuted"}, {"student": "ssl_ecg pretext"}),
        )
    ),
    ("alignment", "align_va"): tuple(
        Case("alignment", "align_va", PATCHES, starts)
        for starts in ({}, {"teacher": "teach", "student": "ssl_ecg pretext"})
    ),
    ("pipeline", "align"): tuple(
        Case("pipeline", "align", PATCHES, {"teacher": teacher, **student})
        for teacher, student in (
            ("emod pretrain", {}),
            ("emod finetune", {"student": "ssl_ecg pretext"}),
        )
    ),
    ("alignment", "teach"): (
        Case("alignment", "teach", PATCHES),
        Case("alignment", "teach", {"encoder.dropout": 0.2}, {"encoder": "reconstruct"}),
    ),
    ("alignment", "classify"): (
        Case("alignment", "classify", PATCHES),
        Case("alignment", "classify", {**PATCHES, "student": "convolutions"}),
        Case("alignment", "classify", {"encoder.dropout": 0.2}, {"encoder": "align"}),
        Case("alignment", "classify", {"frozen": True}, {"encoder": "align"}),
    ),
    ("baselines", "train"): tuple(Case("baselines", "train", {"model": name}) for name in MODELS),
}
"""Where one case is not enough. Of a stage that is not here it is its rehearsal's settings."""
OWN_DROPOUT = (("baselines", "train"), ("alignment", "eeg_baseline"))
"""Stages with torch's dropout, whose masks are of each worker's share: compared without."""


def with_starts(method: str) -> Iterator[Case]:
    """Stages of a method with the starts that the rows of its paper give them."""
    if method not in published.names():
        return
    rows = [row for table in published.load(method).tables.values() for row in table.rows]
    for stages in (row.reproduce.stages for row in rows if row.reproduce is not None):
        named = {one.name: one.stage for one in stages if one.method == method}
        for one in stages:
            if one.method == method and one.starts and set(one.starts.values()) <= set(named):
                starts = {role: named[name] for role, name in one.starts.items()}
                yield Case(method, one.stage, starts=starts)


def cases() -> tuple[Case, ...]:
    """Every stage of every method: its variants, or its rehearsal, and with what it starts from."""
    found = [
        case
        for method in methods.names()
        for stage in methods.get(method).STAGES
        for case in VARIANTS.get((method, stage), (Case(method, stage),))
    ]
    found += [case for method in methods.names() for case in with_starts(method)]
    return tuple({str(case): case for case in found}.values())


CASES = cases()


# A stage, and what it reads -----------------------------------------------------------------------


def stage_of(case: Case, **settings: Any) -> Stage:
    """The case's stage, small steps of two rounds at most."""
    starts = starts_of(case)
    config = set_all(case.kind.rehearsal(), {**case.settings, **settings})
    config = case.kind.following(config, {name: start.config for name, start in starts.items()})
    stage = case.kind(config, inputs_of(case.kind), starts)
    if isinstance(stage.sampling, RegionRounds) and stage.sampling.rounds_per_step < 2:
        return stage_of(case, **settings, rounds_per_step=2)  # two workers share them
    return stage


def inputs_of(kind: type[Stage]) -> Inputs:
    """What a stage of one fold is built for; a corpus's datasets have no shape in common."""
    streams = {name: STREAMS[name][0] for name in kind.streams} if kind.scope == "fold" else {}
    return Inputs(streams, CLASSES if kind.target == "label" else ())


def starts_of(case: Case) -> dict[str, Start]:
    found = {}
    for name, words in case.starts.items():
        method, _, stage = words.rpartition(" ")
        found[name] = trained(method or case.method, stage)
    return found


@cache
def trained(method: str, stage: str) -> Start:
    """Weights that no seed gives."""
    case = Case(method, stage, OF_STARTS.get((method, stage), {}))
    built = stage_of(case)
    model = built.build().state_dict()
    moved = {name: x + 0.01 if x.is_floating_point() else x for name, x in model.items()}
    return Start(to_dict(config_of(built)), moved, case.kind)


def config_of(stage: Stage) -> Any:
    return stage._config


class Made(Feed):
    """One worker's share of made segments, as the stage's own sampling draws them."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.stage = stage
        self.pools = [
            Pool(
                name,
                f"content of {name}",
                np.arange(N_SEGMENTS),
                va_S2=np.stack(
                    [np.arange(N_SEGMENTS) % 9 - 4.0, np.arange(N_SEGMENTS) % 7 - 3.0], 1
                ),
                label_S=np.arange(N_SEGMENTS) % len(CLASSES),
            )
            for name in ("made_a", "made_b")[: 2 if stage.scope == "corpus" else 1]
        ]
        self.plan: Plan = make_plan(stage.sampling, self.pools, seed=stage.seed)
        everything = np.arange(N_SEGMENTS)
        self.constants = [
            stage.constants(self._signals(i, everything).to(CPU, torch.float64))
            for i in range(len(self.pools))
        ]

    def _make(self, steps: range) -> Iterator[Batch]:
        for step in steps:
            draws = self.plan.draws(step, distributed.rank(), distributed.world_size())
            drawn = [(i, draw) for i, draw in enumerate(draws) if len(draw.rows_B)]
            groups = tuple(
                self._group(i, draw.rows_B, torch.from_numpy(draw.positions_B)) for i, draw in drawn
            )
            yield Batch(step, groups, self._targets([(i, draw.rows_B) for i, draw in drawn]))

    def _group(self, i: int, rows_B: np.ndarray, positions_B: Tensor) -> Group:
        constants = {name: x_S[rows_B] for name, x_S in self.constants[i].items()}
        return replace(self._signals(i, rows_B), positions_B=positions_B, constants=constants)

    def _signals(self, i: int, rows_B: np.ndarray) -> Group:
        signals = {}
        for name in self.stage.streams:
            spec = STREAMS[name][i]
            x_SCT = segments(name, i)
            signals[name] = Signal(x_SCT[rows_B], spec.channels, spec.sfreq)
        return Group(self.pools[i].name, signals, torch.from_numpy(rows_B))

    def _targets(self, drawn: Iterable[tuple[int, np.ndarray]]) -> dict[str, Tensor]:
        if self.stage.target is None:
            return {}
        columns = {"va": "va_S2", "label": "label_S"}
        of_pools = [getattr(pool, columns[self.stage.target]) for pool in self.pools]
        values = np.concatenate([of_pools[i][rows_B] for i, rows_B in drawn])
        return {self.stage.target: torch.from_numpy(values)}


@cache
def segments(stream: str, i: int) -> Tensor:
    """A dataset's signals, (S, C, T), of unequal loudness."""
    spec = STREAMS[stream][i]
    generator = torch.Generator().manual_seed(len(stream) + 10 * i)
    x_SCT = torch.randn((N_SEGMENTS, spec.n_chans, spec.n_times), generator=generator)
    return x_SCT * (1 + torch.rand((N_SEGMENTS, spec.n_chans, 1), generator=generator))


def batches(stage: Stage, n: int = 1, dtype: torch.dtype = torch.float32) -> list[Batch]:
    return [batch.to(CPU, dtype) for batch in Made(stage).batches(0, n)]


def weighted(stage: Stage, losses: Mapping[str, Tensor]) -> Tensor:
    return sum(
        (loss * stage.loss_weights.get(name, 1.0) for name, loss in losses.items()),
        torch.zeros(()),
    )


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(one: Mapping[str, Tensor], two: Mapping[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


every_case = pytest.mark.parametrize("case", CASES, ids=str)


# Nobody is left out -------------------------------------------------------------------------------


def test_no_method_and_no_stage_is_left_out() -> None:
    """A folder without stages, or a stage that stands in no `STAGES`."""
    folder = Path(methods.__file__).parent
    folders = {path.name for path in folder.iterdir() if any(path.glob("*.py"))} - {"__pycache__"}
    assert folders == set(methods.names()) == {case.method for case in CASES}
    for found in pkgutil.walk_packages(methods.__path__, f"{methods.__name__}."):
        importlib.import_module(found.name)
    defined = {kind for kind in _below(Stage) if kind.__module__.startswith(methods.__name__)}
    assert {kind for kind in defined if not isabstract(kind)} == {case.kind for case in CASES}


def _below(kind: type[Stage]) -> set[type[Stage]]:
    return {each for derived in kind.__subclasses__() for each in ({derived} | _below(derived))}


def test_every_variant_is_of_a_stage_that_there_is() -> None:
    there = {(name, stage) for name in methods.names() for stage in methods.get(name).STAGES}
    assert set(VARIANTS) <= there
    assert all((case.method, case.stage) == at for at, cases in VARIANTS.items() for case in cases)
    assert len({str(case) for case in CASES}) == len(CASES)


def test_every_start_that_a_stage_may_have_is_looked_at() -> None:
    for kind in {case.kind for case in CASES}:
        given = {name for case in CASES if case.kind is kind for name in case.starts}
        assert given == set(kind.may_start_from), kind


# One step -----------------------------------------------------------------------------------------


@every_case
def test_it_is_built_from_its_rehearsals_settings_the_same_for_the_same_seed(case: Case) -> None:
    config = case.kind.rehearsal()
    assert isinstance(config, case.kind.config_type)
    assert from_dict(case.kind.config_type, to_dict(config)) == config
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = state(stage_of(case).build())
    assert torch.equal(torch.get_rng_state(), before), "building drew from the process's generator"
    torch.manual_seed(2)
    assert same(first, state(stage_of(case).build()))
    assert not same(first, state(stage_of(case, seed=11).build()))


@every_case
def test_it_says_what_it_reads_and_learns(case: Case) -> None:
    kind, stage = case.kind, stage_of(case)
    assert kind.scope in ("corpus", "fold")
    assert kind.target in ("va", "label", None)
    assert kind.streams
    assert set(kind.streams) <= set(STREAMS)
    assert Made(stage).plan.n_steps >= 2
    assert stage.start_words
    module = stage.build()
    counted = stage.n_parameters(module)
    assert sum(counted.values()) == sum(p.numel() for p in module.parameters() if p.requires_grad)
    with pytest.raises(ValueError, match="need "):
        kind(config_of(stage), stage.inputs, {"somebody": Start({}, {})})


@every_case
def test_its_losses_are_named_finite_scalars(case: Case) -> None:
    stage = stage_of(case)
    module = stage.build()
    found = [stage.losses(module, batch) for batch in batches(stage, 2)]
    assert found[0]
    assert found[0].keys() == found[1].keys() >= stage.loss_weights.keys()
    assert len(found[0]) == 1 or "loss" not in found[0]
    for losses in found:
        for loss in losses.values():
            assert loss.shape == ()
            assert loss.isfinite()
    chance = stage.chance_loss(Made(stage).plan.n_segments_per_step)
    assert chance is None or 0 < chance < 100


@every_case
def test_settings_that_it_says_nothing_reads_change_no_loss(case: Case) -> None:
    stage = stage_of(case)
    values = dotted_values(config_of(stage))
    unread = case.kind.unread(config_of(stage), case.starts)
    below = {name: [f for f in values if f == name or f.startswith(f"{name}.")] for name in unread}
    assert all(below.values()), "names a field that there is not"
    want = first_losses(stage)
    for name in itertools.chain.from_iterable(below.values()):
        if isinstance(values[name], int | float) and not isinstance(values[name], bool):
            other = stage_of(case, **{name: other_than(values[name])})
            assert first_losses(other) == want, name


def other_than(value: float) -> float:
    """Twice as much, and of a share one that is a share too."""
    return value + (1 - value) / 2 if 0 < value < 1 else 2 * value


def first_losses(stage: Stage) -> dict[str, float]:
    module = stage.build()
    return {name: loss.item() for name, loss in stage.losses(module, batches(stage)[0]).items()}


@every_case
def test_gradients_are_exactly_where_something_learns(case: Case) -> None:
    stage = stage_of(case)
    module = stage.build()
    (batch,) = batches(stage)
    weighted(stage, stage.losses(module, batch)).backward()  # type: ignore[no-untyped-call]
    learn = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    with_gradient = {n for n, parameter in module.named_parameters() if parameter.grad is not None}
    assert learn == with_gradient
    assert learn
    for name in learn:
        gradient = module.get_parameter(name).grad
        assert gradient is not None
        assert gradient.isfinite().all(), name
    if case.settings.get("frozen"):
        assert learn < {name for name, _ in module.named_parameters()}


@every_case
def test_a_step_in_any_precision_leaves_finite_weights(case: Case) -> None:
    for precision, dtype in (("float32", torch.float32), ("float64", torch.float64)):
        stage = stage_of(case, precision=precision)
        module = stage.build().to(dtype)
        (batch,) = batches(stage, dtype=dtype)
        optimizer = make_optimizer(stage.optimizer, module)
        losses, norm = loop.take_step(stage, module, optimizer, batch, 1e-3)
        assert losses["loss"].isfinite()
        assert norm > 0
        assert all(tensor.isfinite().all() for tensor in module.state_dict().values())


@pytest.mark.parametrize("case", [case for case in CASES if case.kind.target == "label"], ids=str)
def test_a_classifier_scores_every_class_of_every_segment(case: Case) -> None:
    stage = stage_of(case)
    module = stage.build().eval()
    (batch,) = batches(stage)
    scores_BK = stage.scores(module, batch.groups)
    assert scores_BK.shape == (len(batch["label"]), len(CLASSES))
    assert scores_BK.isfinite().all()
    assert not scores_BK.requires_grad
    assert torch.equal(scores_BK, stage.scores(module, batch.groups))


# Many steps ---------------------------------------------------------------------------------------


@every_case
def test_a_run_picked_up_after_two_of_four_steps_ends_with_the_same_weights(case: Case) -> None:
    stage, unbroken = stage_of(case, epochs=2), Memory()
    whole = picked_up_from(stage, unbroken, every=2)
    assert [kept.step for kept in unbroken.states] == [2, 4]
    torch.rand(5)  # the process's generator is elsewhere
    resumed = Memory(unbroken.states[0])
    again = picked_up_from(stage_of(case, epochs=2), resumed, every=4)
    assert again.first_step == 2
    assert same(state(whole.module), state(again.module))
    for name, losses in whole.history.items():
        if name not in ("step_s", "wait_s"):
            assert again.history[name] == losses, name
    before = unbroken.states[0].model
    assert not same(dict(before), state(whole.module))


def picked_up_from(stage: Stage, memory: Memory, *, every: int) -> loop.Trained:
    return loop.train(
        stage,
        Made(stage),
        steps_per_epoch=2,
        checkpoints=memory,
        checkpoint_every=every,
        device=CPU,
    )


# Two workers --------------------------------------------------------------------------------------

PLAIN = OptimizerConfig(name="sgd", schedule="constant", learning_rate=0.01, clip_norm=1.0)
"""AdamW would make a step of the rounding of a gradient that is zero."""
DROPS = ("p", "dropout", "drop_prob", "att_drop")
"""Attributes of layers that say how much is dropped."""


def without_dropout(module: nn.Module) -> nn.Module:
    for part in module.modules():
        for name in DROPS:
            if isinstance(getattr(part, name, None), float):
                setattr(part, name, 0.0)
    return module


def stepped(case: Case) -> dict[str, Tensor]:
    """A few steps in float64, as the loop takes them."""
    stage = stage_of(case, precision="float64")
    module = stage.build().double()
    if (case.method, case.stage) in OWN_DROPOUT:
        without_dropout(module)
    if distributed.world_size() > 1:
        over_all_workers(module)
    parallel, optimizer = loop.in_parallel(module, CPU), make_optimizer(PLAIN, module)
    losses, norms = [], []
    for batch in batches(stage, N_STEPS, torch.float64):
        found, norm = loop.take_step(stage, parallel, optimizer, batch, PLAIN.learning_rate)
        losses.append(torch.stack([*found.values()]))
        norms.append(norm)
    learned = [p for p in module.parameters() if p.requires_grad]
    return {
        "losses": torch.stack(losses),
        "norms": torch.stack(norms),
        "gradients": flat(p.grad for p in learned if p.grad is not None),
        "weights": flat(p.detach() for p in module.parameters()),
        "statistics": flat(module.buffers()),
    }


def flat(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([torch.zeros(1).double(), *(x.double().flatten() for x in tensors)])


@dataclass(frozen=True)
class Differing:
    """How far this worker is from one that works alone, by case and quantity."""

    alone: Path

    def __call__(self) -> dict[str, dict[str, float]]:
        return {str(case): self._of(case) for case in CASES}

    def _of(self, case: Case) -> dict[str, float]:
        want = torch.load(self.alone / f"{case}.pt")
        return {
            name: float((got - want[name]).abs().max() / want[name].abs().max().clamp(min=1e-300))
            for name, got in stepped(case).items()
        }


@pytest.fixture(scope="module")
def differences(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, float]]]:
    torch.set_num_threads(1)
    alone = tmp_path_factory.mktemp("alone")
    for case in CASES:
        torch.save(stepped(case), alone / f"{case}.pt")
    return found_by(2, tmp_path_factory.mktemp("together"), Differing(alone))


@every_case
def test_two_workers_take_the_step_of_one(
    case: Case, differences: list[dict[str, dict[str, float]]]
) -> None:
    for found in differences:
        assert set(found[str(case)]) == {"losses", "norms", "gradients", "weights", "statistics"}
        for name, difference in found[str(case)].items():
            assert difference <= TOLERANCE, name


@pytest.mark.parametrize("case", [c for c in CASES if (c.method, c.stage) in OWN_DROPOUT], ids=str)
def test_without_dropout_nothing_is_left_to_chance(case: Case) -> None:
    """Else two workers would be compared by luck."""
    stage = stage_of(case)
    module = without_dropout(stage.build())
    (batch,) = batches(stage)
    losses = []
    for step in (0, 1):
        weights = state(module)
        losses.append(weighted(stage, stage.losses(module, replace(batch, step=step))))
        module.load_state_dict(weights)
    assert torch.equal(*losses)
