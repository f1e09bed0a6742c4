"""How long runs should take: told by rows of the same model, timed where there are none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from emoray.batches.batch import Batch
from emoray.evaluation.folds import Fold
from emoray.experiments import cost
from emoray.experiments.cost import Estimate, estimate_ancestors, estimate_runs
from emoray.experiments.experiment import runs_of
from emoray.experiments.graph import still_needed
from emoray.methods.base import Stage
from emoray.methods.settings import OptimizerConfig
from emoray.results.store import ResultRow
from emoray.runtime.config import to_dict
from emoray.training.data import RunData, open_data
from emoray.training.run import Run
from tests.small_experiments import SETTINGS, TINY, reproduction, row_of, tiny_run, write_both

STEP_S = 0.25
"""Of a timed step, where a test says how long one takes."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_both(tmp_path_factory.mktemp("corpus"))


def run_on(corpus: Path, dataset: str = "faced", **changes: Any) -> Run:
    config = to_dict(replace(TINY, **changes))
    return tiny_run(corpus, dataset, config=config, protocol="stimuli_apart_same_subjects")


def fold_of(run: Run) -> Fold:
    fold = open_data(run).fold
    assert fold is not None
    return fold


def done(run: Run, seconds: float, **changes: Any) -> ResultRow:
    """The run's row, with the segments that its fold really has."""
    fold = fold_of(run)
    n_train, n_val, n_test = len(fold.train_N), len(fold.val_N), len(fold.test_N)
    n_epochs = run.config["epochs"]
    counts = {
        "confusion": ((n_test, 0), (0, 0)),
        "n_train": n_train,
        "n_val": n_val,
        "n_epochs": n_epochs,
        "best_epoch": 0,
        "curves": {"val_kappa": [0.5] * n_epochs},
    }
    return row_of(run, seconds=seconds, **{**counts, **changes})


def estimate(runs: Sequence[Run], rows: Sequence[ResultRow], *, on_gpu: bool = False) -> Estimate:
    names = {run.key: "EMOD" for run in runs}
    (found,) = estimate_runs(runs, rows, names, on_gpu=on_gpu)
    return found


class Timed(list[Stage]):
    """Stages that were timed."""

    rate = 0.0
    """Segments a second of the last one."""


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> Timed:
    """Every timed step takes `STEP_S`; which stages were timed."""
    stages = Timed()

    def seconds(stage: Stage, batches: Sequence[Batch], device: torch.device) -> float:
        one, two = (len(batch.positions_B) for batch in batches)
        assert max(one, two) <= 18  # a round of two datasets
        stages.append(stage)
        stages.rate = (one + two) / 2 / STEP_S
        return STEP_S

    monkeypatch.setattr(cost, "_seconds", seconds)
    return stages


def test_the_same_run_takes_what_its_row_says(corpus: Path, timed: Timed) -> None:
    run = run_on(corpus)
    found = estimate([replace(run, code="0.1.0+000000000000")], [done(run, 12.0)])
    assert found.seconds == pytest.approx(12.0)
    assert found == Estimate("EMOD on faced", 1, found.seconds, "earlier runs")
    assert timed == []


def test_what_learning_is_set_to_changes_no_segments_cost(corpus: Path, timed: Timed) -> None:
    row = done(run_on(corpus), 12.0)
    other = run_on(corpus, seed=7, batch_size=8, optimizer=OptimizerConfig(learning_rate=1e-2))
    assert estimate([other], [row]).seconds == pytest.approx(12.0)
    assert timed == []


def test_seconds_follow_epochs_and_segments(corpus: Path, timed: Timed) -> None:
    run = run_on(corpus, epochs=2)
    fold = fold_of(run)
    epoch, test = len(fold.train_N) + len(fold.val_N) / 3, len(fold.test_N) / 3
    for n_epochs in (1, 2, 20):
        found = estimate([run_on(corpus, epochs=n_epochs)], [done(run, 12.0)])
        assert found.seconds == pytest.approx(12 * (n_epochs * epoch + test) / (2 * epoch + test))
    larger = done(run, 12.0, n_train=10 * len(fold.train_N), n_val=10 * len(fold.val_N))
    assert estimate([run], [larger]).seconds < 2.0


def test_runs_of_a_kind_are_added_up_at_the_median_rate(corpus: Path, timed: Timed) -> None:
    rows = [done(run_on(corpus, seed=i), seconds) for i, seconds in enumerate((10.0, 11.0, 900.0))]
    runs = [run_on(corpus, seed=10 + i) for i in range(4)]
    found = estimate(runs, rows)
    assert found.n_runs == 4
    assert found.seconds == pytest.approx(4 * 11.0)


@pytest.mark.parametrize("other", ["width", "dataset", "method", "stage"])
def test_rows_of_other_models_and_datasets_tell_nothing(
    corpus: Path, timed: Timed, other: str
) -> None:
    run = run_on(corpus)
    rows = {
        "width": done(run_on(corpus, encoder=replace(TINY.encoder, d_feedforward=32)), 900.0),
        "dataset": done(run_on(corpus, "seed"), 900.0),
        "method": done(run, 900.0, method="baselines"),
        "stage": done(run, 900.0, stage="pretrain"),
    }
    found = estimate([run], [rows[other]])
    assert found.source == "timed here"
    assert len(timed) == 1
    fold = fold_of(run)
    trained = 2 * (len(fold.train_N) + len(fold.val_N) / 3) + len(fold.test_N) / 3
    assert found.seconds == pytest.approx(trained / timed.rate)
    assert estimate([run], [*rows.values(), done(run, 5.0)]).seconds == pytest.approx(5.0)


def test_each_row_and_dataset_is_a_kind_of_its_own(corpus: Path, timed: Timed) -> None:
    runs = [run_on(corpus), run_on(corpus, "seed"), run_on(corpus, frozen=True)]
    names = dict(zip([run.key for run in runs], ("EMOD", "EMOD", "frozen"), strict=True))
    found = estimate_runs(runs, [done(runs[1], 3.0)], names, on_gpu=False)
    assert [(one.words, one.source) for one in found] == [
        ("EMOD on faced", "timed here"),
        ("EMOD on seed", "earlier runs"),
        ("frozen on faced", "timed here"),
    ]


def test_a_step_is_timed_on_the_one_core_that_a_run_gets(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(2)
    threads: list[int] = []

    def seconds(stage: Stage, batches: Sequence[Batch], device: torch.device) -> float:
        threads.append(torch.get_num_threads())
        return STEP_S

    monkeypatch.setattr(cost, "_seconds", seconds)
    estimate([run_on(corpus)], [])
    assert (threads, torch.get_num_threads()) == ([1], 2)


@pytest.mark.parametrize("has_gpu", [False, True])
def test_rows_of_gpus_tell_of_gpus_and_rows_of_cpus_of_cpus(
    corpus: Path, timed: Timed, monkeypatch: pytest.MonkeyPatch, has_gpu: bool
) -> None:
    monkeypatch.setattr(cost, "_has_gpus", lambda: has_gpu)
    run = run_on(corpus)
    on_cpu, on_gpu = done(run, 600.0), done(run, 6.0, device="NVIDIA H200")
    both = [on_cpu, on_gpu, on_gpu]
    assert estimate([run], both, on_gpu=True).seconds == pytest.approx(6.0 if has_gpu else 600.0)
    assert estimate([run], both, on_gpu=False).seconds == pytest.approx(600.0)
    assert timed == []
    assert estimate([run], [on_gpu], on_gpu=False).source == "timed here"


@pytest.mark.parametrize("on_gpu", [False, True])
def test_a_gpu_is_timed_with_a_whole_batch(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, on_gpu: bool
) -> None:
    steps: list[tuple[str, int]] = []

    def seconds(stage: Stage, batches: Sequence[Batch], device: torch.device) -> float:
        steps.extend((device.type, len(batch.positions_B)) for batch in batches)
        return STEP_S

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(cost, "_has_gpus", lambda: True)
    monkeypatch.setattr(cost, "_seconds", seconds)
    run = run_on(corpus, batch_size=12)
    estimate([run], [], on_gpu=on_gpu)
    found = open_data(run)
    plan = found.plan(found.stage())
    whole = [("cuda", plan.step(0, step).size) for step in range(2)]
    assert cost.N_TIMED < min(n for _, n in whole) <= 12
    if on_gpu:
        assert steps == whole
    else:  # as evenly as the segments can be dealt
        assert {device for device, _ in steps} == {"cpu"}
        assert all(cost.N_TIMED // 2 < n <= cost.N_TIMED for _, n in steps)


def test_where_nothing_ran_a_step_is_really_taken(corpus: Path) -> None:
    found = estimate([run_on(corpus)], [])
    assert found.source == "timed here"
    assert 0 < found.seconds < 600


def test_a_thousand_runs_are_judged_without_opening_their_dataset_a_thousand_times(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_on(corpus)
    runs = [replace(run, config={**run.config, "seed": i}) for i in range(1000)]
    row = done(runs[0], 12.0)
    opened: list[Run] = []

    def once_more(run: Run) -> RunData:
        opened.append(run)
        return open_data(run)

    monkeypatch.setattr(cost, "open_data", once_more)
    assert estimate(runs, [row]).seconds == pytest.approx(12_000.0)
    assert len(opened) == 1


# What others start from -------------------------------------------------------------------------


def pretrainings(corpus: Path, storage: Path, **changes: Any) -> list[Run]:
    """Those that Table 3's rows start from."""
    plan = reproduction(corpus, storage, **changes).experiment("table3").cells()
    return [run for run in still_needed(runs_of(plan).values()).values() if not run.fold]


def test_a_pretraining_takes_its_rounds_of_what_a_round_took(
    corpus: Path, tmp_path: Path, timed: Timed
) -> None:
    for epochs in (1, 10):
        for rounds in (1, 2):
            settings = {**SETTINGS, "pretrain.epochs": epochs, "pretrain.rounds_per_step": rounds}
            *_, run = pretrainings(corpus, tmp_path, set=settings)
            assert run.config["loss"]["objective"] == "soft_va"
            (found,) = estimate_ancestors([run])
            data = open_data(run)
            n_steps = data.plan(data.stage()).n_steps
            assert found.seconds == pytest.approx(STEP_S * epochs * n_steps * rounds)
            assert (found.n_runs, found.source) == (1, "timed here")
            assert run.name in found.words


def test_each_kind_of_pretraining_is_timed_once(corpus: Path, tmp_path: Path, timed: Timed) -> None:
    runs = pretrainings(corpus, tmp_path, pretrain_seeds="each", seeds=(0, 1, 2))
    assert len(estimate_ancestors(runs)) == len(runs) == 9
    assert len(timed) == 3  # three objectives


def test_a_pretraining_is_really_timed(corpus: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    first, *_ = pretrainings(corpus, tmp_path)
    (found,) = estimate_ancestors([first])
    assert 0 < found.seconds < 600


def test_what_is_trained_for_each_fold_is_one_line(corpus: Path, timed: Timed) -> None:
    runs = [
        replace(run_on(corpus, seed=seed), fold=f"{fold}_of_3", chosen_by=chosen_by)
        for seed in (0, 1)
        for fold in (1, 2, 3)
        for chosen_by in ("", "kappa")
    ]
    (found,) = estimate_ancestors(runs)
    assert (found.words, found.n_runs) == ("emod finetune for each fold of faced", 12)
    assert len(timed) == 1
    # Where no epoch is chosen, nobody looks at the other segments.
    trained = [TINY.epochs * len(fold_of(run).train_N) for run in runs]
    scored = [
        TINY.epochs * len(fold.val_N) / 3 + len(fold.test_N) / 3
        for fold in (fold_of(run) for run in runs if run.chosen_by)
    ]
    assert found.seconds == pytest.approx((sum(trained) + sum(scored)) / timed.rate)


def test_stages_and_methods_that_share_settings_are_timed_apart(
    corpus: Path, timed: Timed, monkeypatch: pytest.MonkeyPatch
) -> None:
    from emoray.methods.emod.method import STAGES, Finetuning

    class Another(Finetuning):
        """The same settings and segments, another network."""

    monkeypatch.setattr(
        "emoray.methods.emod.method.STAGES", {**STAGES, "another": Another}, raising=True
    )
    run = run_on(corpus)
    estimate_ancestors([run, replace(run, stage="another")])
    assert [type(stage) for stage in timed] == [Finetuning, Another]
