"""The feed hands each worker its share of the plan, whole and in order, wherever it is gathered."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from emoray.batches.batch import Batch
from emoray.batches.feeds import (
    PlanFeed,
    eligible_rows,
    for_pretraining,
    in_order,
    pools,
    targets_of,
    with_coordinates,
)
from emoray.batches.plans import Plan, Pool, RoundPlan, SegmentPlan
from emoray.corpus.read import Corpus, CorpusDataset, open_corpus
from emoray.vocabulary.targets import Classes
from tests.corpora import SEED, Made, write_corpus
from tests.evaluations import EMOD


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return open_corpus(write_corpus(tmp_path_factory.mktemp("corpus")))


def plan_of(corpus: Corpus, *, rounds: int = 4) -> RoundPlan:
    return RoundPlan(pools(corpus.datasets, {}), seed=7, rounds_per_step=rounds)


def feed_of(corpus: Corpus, plan: Plan, **options: Any) -> PlanFeed:
    targets = targets_of(corpus.datasets, "va")
    return PlanFeed(corpus.datasets, plan, targets=targets, **options)


def test_a_batch_holds_the_segments_that_the_plan_names(corpus: Corpus) -> None:
    plan = plan_of(corpus)
    for step, batch in enumerate(feed_of(corpus, plan).batches(0, 2)):
        assert batch.step == step
        rows_DM9 = plan.step(0, step)
        for dataset, rows, group in zip(corpus.datasets, rows_DM9, batch.groups, strict=True):
            np.testing.assert_array_equal(group["eeg"].x_BCT, dataset.gather(rows.reshape(-1)))
            assert group.dataset == dataset.name
        va = np.concatenate(
            [d.va_S2[rows.reshape(-1)] for d, rows in zip(corpus.datasets, rows_DM9, strict=True)]
        )
        np.testing.assert_array_equal(batch["va"], va)


@pytest.mark.parametrize("world_size", [2, 4])
def test_shares_of_all_workers_are_the_batch_of_one(corpus: Corpus, world_size: int) -> None:
    plan = plan_of(corpus)
    (whole,) = feed_of(corpus, plan).batches(5, 6)
    shares = [
        next(iter(feed_of(corpus, plan, rank=r, world_size=world_size).batches(5, 6)))
        for r in range(world_size)
    ]
    for i, group in enumerate(whole.groups):
        positions = torch.cat([share.groups[i].positions_B for share in shares])
        signals = torch.cat([share.groups[i]["eeg"].x_BCT for share in shares])
        torch.testing.assert_close(positions, group.positions_B, rtol=0, atol=0)
        torch.testing.assert_close(signals, group["eeg"].x_BCT, rtol=0, atol=0)
    everyone = torch.cat([share.positions_B for share in shares])
    assert sorted(everyone.tolist()) == list(range(plan.n_segments_per_step))


def test_a_run_picked_up_in_mid_epoch_sees_what_an_unbroken_one_sees(corpus: Corpus) -> None:
    plan = plan_of(corpus)
    first = plan.n_steps + 1
    unbroken = list(feed_of(corpus, plan).batches(0, first + 2))[first:]
    picked_up = list(feed_of(corpus, plan).batches(first, first + 2))
    assert_same(unbroken, picked_up)


def test_a_number_of_workers_that_does_not_divide_the_rounds_is_refused(corpus: Corpus) -> None:
    with pytest.raises(ValueError, match=r"divides the 4 rounds of a step \(1, 2, 4\), got 3"):
        feed_of(corpus, plan_of(corpus), rank=0, world_size=3)


def test_subjects_held_out_are_never_drawn(corpus: Corpus) -> None:
    held_out = {"made_a": ("02",), "made_b": ()}
    plan = RoundPlan(pools(corpus.datasets, held_out), seed=0, rounds_per_step=2)
    subjects = corpus["made_a"].column("subject")
    drawn = {s for step in range(20) for s in subjects[plan.step(0, step % plan.n_steps)[0]].flat}
    assert drawn == {"01", "03"}
    assert set(subjects[eligible_rows(corpus["made_a"], ("02",))]) == {"01", "03"}


def test_datasets_without_valence_and_arousal_are_left_out(tmp_path: Path) -> None:
    corpus = open_corpus(write_corpus(tmp_path))
    corpus["made_a"].va_S2[1:] = np.nan  # one segment is enough to draw from
    assert with_coordinates(corpus).names == ("made_a", "made_b")
    corpus["made_b"].va_S2[:, 1] = np.nan  # valence alone is no place in the square
    assert with_coordinates(corpus).names == ("made_a",)
    corpus["made_a"].va_S2[:] = np.nan
    with pytest.raises(ValueError, match=r"with valence and arousal, got made_a, made_b"):
        with_coordinates(corpus)


def test_an_error_while_gathering_reaches_the_worker(tmp_path: Path) -> None:
    corpus = open_corpus(write_corpus(tmp_path))
    feed = feed_of(corpus, plan_of(corpus))
    for shard in tmp_path.glob("*/shards/*.arrow"):
        shard.write_bytes(shard.read_bytes()[:-8] + bytes(8))
    with pytest.raises(ValueError, match=r"SHA-256"):
        list(feed.batches(0, 2))


def test_once_closed_a_feed_reads_nothing(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    gather, closed, late = CorpusDataset.gather, threading.Event(), []

    def slow(self: CorpusDataset, rows: Any, **how: Any) -> Any:
        time.sleep(0.05)
        found = gather(self, rows, **how)
        late.append(closed.is_set())
        return found

    monkeypatch.setattr(CorpusDataset, "gather", slow)
    batches = feed_of(corpus, plan_of(corpus)).batches(0, 1000)
    next(batches)
    batches.close()
    closed.set()
    assert not [thread for thread in threading.enumerate() if thread.name == "feed"]
    assert set(late) == {False}


def test_a_feed_that_nobody_closes_lets_its_thread_go(corpus: Corpus) -> None:
    batches = feed_of(corpus, plan_of(corpus)).batches(0, 1000)
    next(batches)
    del batches
    assert not [thread for thread in threading.enumerate() if thread.name == "feed"]


def test_a_float16_corpus_stays_float16_until_it_reaches_the_device(tmp_path: Path) -> None:
    corpus = open_corpus(write_corpus(tmp_path, (Made("made_h", dtype="float16"),)))
    (batch,) = feed_of(corpus, plan_of(corpus)).batches(0, 1)
    assert batch.groups[0]["eeg"].x_BCT.dtype == torch.float16
    moved = batch.to(torch.device("cpu"), torch.float32)
    assert moved.groups[0]["eeg"].x_BCT.dtype == torch.float32


@pytest.mark.ray
def test_ray_data_gathers_what_the_worker_would(corpus: Corpus, ray_cluster: object) -> None:
    plan = plan_of(corpus)
    for rank in range(2):
        kwargs = {"rank": rank, "world_size": 2}
        near = list(feed_of(corpus, plan, gather="worker", **kwargs).batches(1, 5))
        far = list(feed_of(corpus, plan, gather="cluster", **kwargs).batches(1, 5))
        assert_same(near, far)


# Segments of several datasets in one order -------------------------------------------------------


def mixed(corpus: Corpus) -> SegmentPlan:
    """Steps of three segments: of some, one dataset has none, and of more one worker's share."""
    return SegmentPlan(pools(corpus.datasets, {}), seed=1, batch_size=3)


def test_segments_of_several_datasets_meet_as_the_plan_says(corpus: Corpus) -> None:
    plan = mixed(corpus)
    n_groups = set()
    for batch in feed_of(corpus, plan).batches(0, plan.n_steps):
        draws = dict(zip(corpus.names, plan.draws(batch.step), strict=True))
        n_groups.add(len(batch.groups))
        assert {g.dataset for g in batch.groups} == {n for n, d in draws.items() if len(d.rows_B)}
        for group in batch.groups:
            rows_B = draws[group.dataset].rows_B
            np.testing.assert_array_equal(group["eeg"].x_BCT, corpus[group.dataset].gather(rows_B))
            assert group["eeg"].channels == corpus[group.dataset].channels
        va = np.concatenate(
            [corpus[g.dataset].va_S2[draws[g.dataset].rows_B] for g in batch.groups]
        )
        np.testing.assert_array_equal(batch["va"], va)
        assert sorted(batch.positions_B.tolist()) == [0, 1, 2]
    assert n_groups == {1, 2}


def test_uneven_shares_of_several_datasets_are_the_batch_of_one(corpus: Corpus) -> None:
    plan = mixed(corpus)
    whole = list(feed_of(corpus, plan).batches(0, 6))
    feeds = [feed_of(corpus, plan, rank=rank, world_size=2) for rank in range(2)]
    for batch, *shares in zip(whole, *(feed.batches(0, 6) for feed in feeds), strict=True):
        assert [len(share.positions_B) for share in shares] == [1, 2]
        found = {place: va for share in shares for place, va in by_place(share).items()}
        assert found == by_place(batch)


def by_place(batch: Batch) -> dict[int, tuple[float, ...]]:
    """Valence and arousal, and the first samples, by place in the step."""
    firsts = [row for group in batch.groups for row in group["eeg"].x_BCT[:, 0, :3].tolist()]
    return {
        place: (*va, *first)
        for place, va, first in zip(
            batch.positions_B.tolist(), batch["va"].tolist(), firsts, strict=True
        )
    }


@pytest.mark.ray
def test_ray_data_gathers_shares_in_which_a_dataset_has_nothing(
    corpus: Corpus, ray_cluster: object
) -> None:
    options = {"rank": 0, "world_size": 2}
    near = list(feed_of(corpus, mixed(corpus), gather="worker", **options).batches(0, 6))
    far = list(feed_of(corpus, mixed(corpus), gather="cluster", **options).batches(0, 6))
    assert {len(batch.groups) for batch in near} == {1}
    assert_same(near, far)


def test_a_stream_or_target_that_is_not_there_is_named(corpus: Corpus) -> None:
    plan = mixed(corpus)
    with pytest.raises(ValueError, match="need ecg of made_a, got made_a-eeg-"):
        next(PlanFeed(corpus.datasets, plan, streams=("eeg", "ecg")).batches(0, 1))
    (batch,) = PlanFeed(corpus.datasets, plan, targets=targets_of(corpus.datasets, None)).batches(
        0, 1
    )
    with pytest.raises(ValueError, match="need the target 'va' in a batch, got nothing"):
        batch["va"]
    with pytest.raises(ValueError, match="need a stream among eeg; got 'ecg'"):
        batch.groups[0]["ecg"]


# One dataset's segments with their labels --------------------------------------------------------


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> CorpusDataset:
    (dataset,) = open_corpus(write_corpus(tmp_path_factory.mktemp("seed"), (SEED,))).datasets
    return dataset


def segments_of(dataset: CorpusDataset, *, batch_size: int = 10) -> SegmentPlan:
    """A plan of two thirds of the rows, in three steps an epoch of unequal size by one."""
    rows_S = np.flatnonzero(np.arange(len(dataset)) % 3)[:29]
    pool = Pool("seed", dataset.digest, rows_S)
    return SegmentPlan([pool], seed=3, batch_size=batch_size)


def labelled_feed(dataset: CorpusDataset, plan: Plan) -> PlanFeed:
    labels = {dataset.name: Classes().labels(dataset.index)}
    return PlanFeed([dataset], plan, targets=targets_of([dataset], "label", labels))


def test_a_labelled_batch_holds_the_segments_that_the_plan_names(labelled: CorpusDataset) -> None:
    plan = segments_of(labelled)
    batches = list(labelled_feed(labelled, plan).batches(0, 2 * plan.n_steps))
    assert [batch.step for batch in batches] == list(range(6))
    for batch in batches:
        (draw,) = plan.draws(batch.step)
        rows_B = draw.rows_B
        (group,) = batch.groups
        np.testing.assert_array_equal(group["eeg"].x_BCT, labelled.gather(rows_B))
        assert list(batch.targets) == ["label"]
        assert batch["label"].dtype == torch.int64
        assert batch["label"].tolist() == labelled.column("label")[rows_B].tolist()
        assert group.positions_B.tolist() == list(range(len(rows_B)))
        assert group["eeg"].channels == labelled.channels
        assert group["eeg"].sfreq == labelled.sfreq


@pytest.mark.parametrize("first", range(1, 6))
def test_a_labelled_feed_goes_on_at_any_step(labelled: CorpusDataset, first: int) -> None:
    plan = segments_of(labelled)
    unbroken = list(labelled_feed(labelled, plan).batches(0, 6))[first:]
    picked_up = list(labelled_feed(labelled, plan).batches(first, 6))
    assert_same(unbroken, picked_up)


def test_a_labelled_feed_counts_what_it_hands_out(labelled: CorpusDataset) -> None:
    feed = labelled_feed(labelled, segments_of(labelled))
    assert list(feed.batches(3, 3)) == []
    assert feed.n_bytes == 0
    list(feed.batches(0, 3))
    assert feed.n_bytes == 29 * labelled.n_chans * labelled.n_times * 4
    assert feed.waited_s > 0


def test_segments_come_in_the_order_that_was_asked_for(labelled: CorpusDataset) -> None:
    rows_N = np.array([50, 3, 107, 3, 0, 64, 51, 2, 1])
    groups = list(in_order(labelled, rows_N, batch_size=4))
    assert [len(group) for group in groups] == [4, 4, 1]
    np.testing.assert_array_equal(
        torch.cat([group["eeg"].x_BCT for group in groups]), labelled.gather(rows_N)
    )
    for group in groups:
        assert group.positions_B.tolist() == list(range(len(group)))
        assert group["eeg"].channels == labelled.channels
        assert group["eeg"].sfreq == labelled.sfreq


def test_no_rows_are_no_groups(labelled: CorpusDataset) -> None:
    assert list(in_order(labelled, np.empty(0, np.int64), batch_size=4)) == []


def test_an_error_in_the_prefetch_thread_reaches_who_asked(labelled: CorpusDataset) -> None:
    groups = in_order(labelled, np.array([0, 1, 2, len(labelled)]), batch_size=2)
    assert len(next(groups)) == 2  # what was made before it is handed out
    with pytest.raises(IndexError, match=r"need rows of seed in \[0, 108\), got 2 to 108"):
        next(groups)
    beyond = Pool("seed", "", np.array([len(labelled)]))
    plan = SegmentPlan([beyond], seed=0, batch_size=1)
    with pytest.raises(IndexError, match="got 108"):
        list(labelled_feed(labelled, plan).batches(0, 1))


def assert_same(first: list[Batch], second: list[Batch]) -> None:
    assert [batch.step for batch in first] == [batch.step for batch in second]
    for a, b in zip(first, second, strict=True):
        assert a.targets.keys() == b.targets.keys()
        for name in a.targets:
            torch.testing.assert_close(a[name], b[name], rtol=0, atol=0)
        for group_a, group_b in zip(a.groups, b.groups, strict=True):
            torch.testing.assert_close(group_a["eeg"].x_BCT, group_b["eeg"].x_BCT, rtol=0, atol=0)
            torch.testing.assert_close(group_a.positions_B, group_b.positions_B, rtol=0, atol=0)


def test_datasets_of_evaluation_are_pretrained_on_by_name_only(tmp_path: Path) -> None:
    both = open_corpus(write_corpus(tmp_path / "both", (Made("deap"), Made("faced"))))
    assert with_coordinates(both).names == ("deap", "faced")  # both have valence and arousal
    assert for_pretraining(both, EMOD.pretraining).names == ("deap",)
    alone = open_corpus(tmp_path / "both", datasets=["faced"])
    with pytest.raises(ValueError, match=r"need datasets to pretrain on \(deap, .*\), got faced"):
        for_pretraining(alone, EMOD.pretraining)
