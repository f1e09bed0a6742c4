"""The loop without Ray: what it computes, where it goes on, when it stops."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from emoray.batches.batch import Batch
from emoray.batches.feeds import PlanFeed, pools, targets_of
from emoray.batches.plans import Plan, RoundPlan
from emoray.corpus.read import Corpus, open_corpus
from emoray.methods.emod.config import Config, EncoderConfig, LossConfig
from emoray.methods.emod.method import Pretraining
from emoray.methods.settings import OptimizerConfig
from emoray.training import checkpoint, loop
from emoray.training.checkpoint import HISTORY, State
from emoray.training.loop import Trained
from emoray.training.optimizers import make_optimizer
from tests.corpora import write_corpus
from tests.memory import Memory

pytestmark = pytest.mark.usefixtures("one_thread")
TINY = Config(
    encoder=EncoderConfig(d_model=8, n_heads=2, n_layers=1, d_feedforward=16),
    epochs=3,
    rounds_per_step=2,
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return open_corpus(write_corpus(tmp_path_factory.mktemp("corpus")))


def feed_of(corpus: Corpus, plan: Plan) -> PlanFeed:
    return PlanFeed(corpus.datasets, plan, targets=targets_of(corpus.datasets, "va"))


def run(
    corpus: Corpus,
    config: Config,
    memory: Memory,
    *,
    every: int = 100,
    score: Callable[[nn.Module], float] | None = None,
    stage: type[Pretraining] = Pretraining,
) -> Trained:
    plan = RoundPlan(
        pools(corpus.datasets, {}), seed=config.seed, rounds_per_step=config.rounds_per_step
    )
    return loop.train(
        stage(config),
        feed_of(corpus, plan),
        steps_per_epoch=plan.n_steps,
        checkpoints=memory,
        checkpoint_every=every,
        device=torch.device("cpu"),
        score=score,
    )


class Scores:
    """Gives out scores in turn and keeps the weights they were given for."""

    def __init__(self, *scores: float) -> None:
        self.left = list(scores)
        self.seen: list[dict[str, Tensor]] = []

    def __call__(self, module: nn.Module) -> float:
        module.eval()  # as whoever scores does
        self.seen.append({name: t.clone() for name, t in module.state_dict().items()})
        return self.left.pop(0)


def test_the_run_leaves_the_weights_of_the_first_best_epoch(corpus: Corpus) -> None:
    scores, memory = Scores(0.1, 0.4, 0.4), Memory()
    trained = run(corpus, TINY, memory, score=scores)
    assert trained.best is not None
    assert (trained.best.epoch, trained.best.scores) == (1, (0.1, 0.4, 0.4))
    for name, weights in trained.module.state_dict().items():
        assert torch.equal(weights, scores.seen[1][name]), name
    assert not all(torch.equal(scores.seen[1][n], scores.seen[2][n]) for n in scores.seen[1])


def test_scoring_changes_no_step(corpus: Corpus) -> None:
    plain, scored = Memory(), Memory()
    run(corpus, TINY, plain)
    run(corpus, TINY, scored, score=Scores(1.0, 2.0, 3.0))
    assert plain.states[-1].history["loss"] == scored.states[-1].history["loss"]


def test_a_scored_run_picked_up_in_mid_epoch_knows_its_best(corpus: Corpus) -> None:
    unbroken = Memory()
    whole = run(corpus, TINY, unbroken, every=2, score=Scores(0.5, 0.2, 0.3))
    assert whole.best is not None
    picked = 0
    for state in unbroken.states[:-1]:
        scored = 0 if state.best is None else len(state.best.scores)
        left = Scores(*(0.5, 0.2, 0.3)[scored:])
        trained = run(corpus, TINY, Memory(state), score=left)
        assert trained.best is not None
        assert trained.best.scores == (0.5, 0.2, 0.3)
        for name, weights in whole.module.state_dict().items():
            assert torch.equal(trained.module.state_dict()[name], weights), name
        picked += scored
    assert picked  # some states were of after a scored epoch


def test_a_score_that_is_no_number_ends_the_run(corpus: Corpus) -> None:
    with pytest.raises(FloatingPointError, match="score of epoch 1 is nan"):
        run(corpus, TINY, Memory(), score=Scores(0.1, float("nan")))


@pytest.mark.parametrize("objective", ["soft_va", "augment"])
def test_a_run_picked_up_at_any_checkpoint_ends_like_an_unbroken_one(
    corpus: Corpus, objective: str
) -> None:
    config = replace(TINY, loss=LossConfig(objective=objective))  # type: ignore[arg-type]
    unbroken = Memory()
    run(corpus, config, unbroken, every=2)
    for state in unbroken.states[:-1]:
        picked_up = Memory(state)
        run(corpus, config, picked_up)
        for name, weights in unbroken.states[-1].model.items():
            assert torch.equal(picked_up.states[-1].model[name], weights), name
        assert picked_up.states[-1].history["loss"] == unbroken.states[-1].history["loss"]


def test_a_finished_run_is_not_trained_further(corpus: Corpus) -> None:
    first = Memory()
    run(corpus, TINY, first)
    again = Memory(first.states[-1])
    trained = run(corpus, TINY, again)
    assert len(again.states) == 1
    for name, weights in trained.module.state_dict().items():
        assert torch.equal(weights, first.states[-1].model[name])


def test_every_step_leaves_a_row(corpus: Corpus) -> None:
    memory = Memory()
    run(corpus, TINY, memory)
    history = memory.states[-1].history
    n_steps = TINY.epochs * RoundPlan(pools(corpus.datasets, {}), seed=0, rounds_per_step=2).n_steps
    assert {len(column) for column in history.values()} == {n_steps}
    waited_and_took = zip(history["wait_s"], history["step_s"], strict=True)
    assert all(0 <= wait_s <= step_s for wait_s, step_s in waited_and_took)


class Device:
    """A clock, and a device that computes only while it is waited for.

    Taking a loss's value waits for all that was handed out until then.
    """

    LAUNCH_S, STEP_S, SCORE_S, SAVE_S, RESTORE_S = 0.01, 0.25, 30.0, 500.0, 7000.0

    def __init__(self) -> None:
        self.now = 0.0
        self.owed_s = 0.0

    def perf_counter(self) -> float:
        return self.now

    def wait(self) -> None:
        self.now += self.owed_s
        self.owed_s = 0.0

    def passes(self, seconds: float) -> None:
        self.wait()  # scores and checkpoints need the weights of the last step
        self.now += seconds


def on(device: Device) -> type[Tensor]:
    """Tensors whose values come from this device."""

    class OnDevice(Tensor):
        @classmethod
        def __torch_function__(
            cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if func is torch.stack:
                device.wait()
            return super().__torch_function__(func, types, args, kwargs or {})  # type: ignore[no-untyped-call]

    return OnDevice


class TimedMemory(Memory):
    """Takes time to go on from and to keep."""

    def __init__(self, device: Device) -> None:
        super().__init__()
        self.device = device

    def latest(self) -> State | None:
        self.device.passes(Device.RESTORE_S)
        return super().latest()

    def save(self, state: State) -> None:
        self.device.passes(Device.SAVE_S)
        super().save(state)


@pytest.mark.parametrize("scored", [False, True])
@pytest.mark.parametrize("every", [1, 2, 100])
@pytest.mark.parametrize("launch_s", [Device.LAUNCH_S, 2 * loop.FLUSH_S])
def test_steps_take_the_devices_time_and_nobody_elses(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch, scored: bool, every: int, launch_s: float
) -> None:
    device = Device()
    OnDevice, take_step = on(device), loop.take_step

    def launched(*args: Any) -> tuple[dict[str, Tensor], Tensor]:
        losses, norm = take_step(*args)
        device.now += launch_s
        device.owed_s += Device.STEP_S
        on_device = {name: loss.as_subclass(OnDevice) for name, loss in losses.items()}
        return on_device, norm.as_subclass(OnDevice)

    def score(module: nn.Module) -> float:
        device.passes(Device.SCORE_S)
        return 0.5

    monkeypatch.setattr(loop, "time", device)
    monkeypatch.setattr(loop, "take_step", launched)
    memory = TimedMemory(device)
    trained = run(corpus, TINY, memory, every=every, score=score if scored else None)
    steps_s = trained.history["step_s"]
    assert steps_s == pytest.approx([launch_s + Device.STEP_S] * len(steps_s))
    n_scored = TINY.epochs if scored else 0
    elsewhere_s = Device.RESTORE_S + n_scored * Device.SCORE_S + len(memory.states) * Device.SAVE_S
    assert device.now == pytest.approx(sum(steps_s) + elsewhere_s)


def test_learning_lowers_the_loss(corpus: Corpus) -> None:
    memory = Memory()
    config = replace(TINY, epochs=15, optimizer=OptimizerConfig(learning_rate=3e-3))
    run(corpus, config, memory)
    loss = memory.states[-1].history["loss"]
    assert sum(loss[-5:]) < sum(loss[:5])


class Diverging(Pretraining):
    """Its loss is infinite from step 2 on."""

    def losses(self, module: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        contrast = super().losses(module, batch)["contrast"]
        return {"contrast": contrast * float("inf") if batch.step >= 2 else contrast}


def test_a_loss_that_is_not_finite_ends_the_run_by_its_step(corpus: Corpus) -> None:
    plan = RoundPlan(pools(corpus.datasets, {}), seed=0, rounds_per_step=2)
    with pytest.raises(FloatingPointError, match=r"loss is inf at step 2") as raised:
        loop.train(
            Diverging(TINY),
            feed_of(corpus, plan),
            steps_per_epoch=plan.n_steps,
            checkpoints=Memory(),
            checkpoint_every=100,
            device=torch.device("cpu"),
        )
    # Though the error, and with it all that the loop held, is still here.
    assert raised.tb is not None
    assert not [thread for thread in threading.enumerate() if thread.name == "feed"]


@pytest.mark.parametrize(
    ("field", "value"), [("temperature", 0.0), ("temperature", -1.0), ("d_max", 0.0)]
)
def test_a_temperature_or_d_max_that_is_not_positive_is_refused(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"need loss\.{field} > 0, got {value:g}"):
        LossConfig(**{field: value})


def test_the_checkpoint_folder_is_enough_to_use_the_encoder(corpus: Corpus, tmp_path: Path) -> None:
    memory = Memory()
    module = run(corpus, TINY, memory).module
    checkpoint.save(tmp_path, memory.states[-1], {"method": "emod"})
    fresh = Pretraining(replace(TINY, seed=5)).build()
    checkpoint.load_model(tmp_path, fresh)
    plan = RoundPlan(pools(corpus.datasets, {}), seed=0, rounds_per_step=1)
    (batch,) = feed_of(corpus, plan).batches(0, 1)
    with torch.no_grad():
        expected = module.eval().embed(batch.groups)  # type: ignore[operator]
        torch.testing.assert_close(fresh.eval().embed(batch.groups), expected)


# Named losses ------------------------------------------------------------------------------------


class Several(Pretraining):
    """The contrast, half the size of the embeddings' weights, and a loss that is watched only."""

    weights: ClassVar[Mapping[str, float]] = {"size": 0.5, "watched": 0.0}

    @property
    def loss_weights(self) -> Mapping[str, float]:
        return self.weights

    def losses(self, module: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        size = sum((p.square().sum() for p in module.parameters()), torch.zeros(()))
        return {**super().losses(module, batch), "size": size, "watched": 3 * size}


class Sum(Several):
    """What `Several` minimises, as one loss."""

    weights: ClassVar[Mapping[str, float]] = {}

    def losses(self, module: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        found = super().losses(module, batch)
        return {"sum": found["contrast"] + 0.5 * found["size"]}


def test_each_of_several_losses_has_a_column_and_their_weighted_sum_is_the_loss(
    corpus: Corpus,
) -> None:
    history = run(corpus, TINY, Memory(), stage=Several).history
    assert set(history) == {*HISTORY, "contrast", "size", "watched"}
    assert len({len(column) for column in history.values()}) == 1
    columns = (history[name] for name in ("loss", "contrast", "size", "watched"))
    for loss, contrast, size, watched in zip(*columns, strict=True):
        assert loss == pytest.approx(contrast + 0.5 * size, rel=1e-6)
        assert watched == pytest.approx(3 * size, rel=1e-6)


def test_one_loss_is_the_column_loss_and_no_other(corpus: Corpus) -> None:
    assert tuple(run(corpus, TINY, Memory()).history) == HISTORY


def test_the_weighted_sum_is_what_is_minimised(corpus: Corpus) -> None:
    weighted, whole = (run(corpus, TINY, Memory(), stage=kind) for kind in (Several, Sum))
    alone = run(corpus, TINY, Memory())
    assert weighted.history["loss"] == whole.history["loss"]
    for name, weights in whole.module.state_dict().items():
        assert torch.equal(weighted.module.state_dict()[name], weights), name
    assert weighted.history["contrast"][0] == alone.history["loss"][0]
    assert weighted.history["contrast"][-1] != alone.history["loss"][-1]


class WithHead(Pretraining):
    """Watches a head of its own."""

    @property
    def loss_weights(self) -> Mapping[str, float]:
        return {"watched": 0.0}

    def build(self) -> nn.Module:
        module = super().build()
        module.watched = nn.Linear(1, 1)
        return module

    def losses(self, module: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        watched: nn.Module = module.get_submodule("watched")
        squared = watched(torch.ones(1)).square().sum()
        return {**super().losses(module, batch), "watched": squared}


def test_what_only_a_watched_loss_reaches_has_a_gradient_of_zero(corpus: Corpus) -> None:
    """Not none: workers wait for the gradient of every parameter."""
    stage = WithHead(TINY)
    module = stage.build()
    plan = RoundPlan(pools(corpus.datasets, {}), seed=0, rounds_per_step=1)
    (batch,) = feed_of(corpus, plan).batches(0, 1)
    loop.take_step(stage, module, make_optimizer(stage.optimizer, module), batch, 0.1)
    for parameter in module.get_submodule("watched").parameters():
        assert parameter.grad is not None
        assert not parameter.grad.any()


@pytest.mark.parametrize("first", [1, 2])
def test_a_run_picked_up_keeps_the_columns_of_its_losses(corpus: Corpus, first: int) -> None:
    unbroken = Memory()
    run(corpus, TINY, unbroken, every=first, stage=Several)
    picked_up = Memory(unbroken.states[0])
    assert set(unbroken.states[0].history) > {"contrast", "size", "watched"}
    run(corpus, TINY, picked_up, stage=Several)
    for name in ("loss", "contrast", "size", "watched"):
        assert picked_up.states[-1].history[name] == unbroken.states[-1].history[name], name


def test_the_columns_of_losses_come_back_from_a_folder(corpus: Corpus, tmp_path: Path) -> None:
    memory = Memory()
    history = run(corpus, TINY, memory, stage=Several).history
    checkpoint.save(tmp_path, memory.states[-1], {"method": "emod"})
    assert checkpoint.load(tmp_path).history == history


class Misnamed(Several):
    weights: ClassVar[Mapping[str, float]] = {"size": 0.5, "sise": 1.0}


class NamedLikeTheSum(Several):
    def losses(self, module: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        found = super().losses(module, batch)
        return {"loss": found["contrast"], "size": found["size"], "watched": found["watched"]}


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Misnamed, "need weights of losses among contrast, size, watched; got sise"),
        (NamedLikeTheSum, "need another name for one of several losses: `loss` is their sum"),
    ],
)
def test_weights_and_names_that_cannot_be_are_refused(
    corpus: Corpus, kind: type[Pretraining], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        run(corpus, TINY, Memory(), stage=kind)
