"""Predictions stand in the order of the rows, and a score that is no number stops them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from emoray.batches.batch import Group
from emoray.batches.sampling import ShuffledSegments
from emoray.corpus.read import CorpusDataset, open_corpus
from emoray.evaluation.predict import predict
from emoray.vocabulary.schema import IntArray
from tests.corpora import SEED, write_corpus

CPU = torch.device("cpu")
ROWS = np.array([70, 3, 3, 107, 0, 55, 54, 20, 8, 91])


class FirstSamples:
    """A stage whose class scores are the first sample of each electrode."""

    streams = ("eeg",)
    batch_size = 4
    sampling = ShuffledSegments(batch_size)

    def __init__(self) -> None:
        self.calls: list[tuple[int, bool, bool, torch.dtype]] = []

    def scores(self, module: nn.Module, groups: Sequence[Group]) -> Tensor:
        (group,) = groups
        x_BCT = group["eeg"].x_BCT
        called = (len(x_BCT), module.training, torch.is_grad_enabled(), x_BCT.dtype)
        self.calls.append(called)
        return self.of(x_BCT[:, :, 0])

    def of(self, scores_BK: Tensor) -> Tensor:
        return scores_BK


class Spoiling(FirstSamples):
    """Its last score of all is no number."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def of(self, scores_BK: Tensor) -> Tensor:
        scores_BK = scores_BK.clone()
        if len(scores_BK) == len(ROWS) % self.batch_size:
            scores_BK[-1, -1] = self.value
        return scores_BK


class Undecided(FirstSamples):
    """Gives the last two classes the same score, above the first one's."""

    def of(self, scores_BK: Tensor) -> Tensor:
        return torch.tensor([0.0, 1.0, 1.0]).expand(len(scores_BK), 3)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> CorpusDataset:
    (opened,) = open_corpus(write_corpus(tmp_path_factory.mktemp("corpus"), (SEED,))).datasets
    return opened


def predicted(stage: Any, dataset: CorpusDataset, module: nn.Module | None = None) -> IntArray:
    return predict(stage, module or nn.Linear(1, 1), dataset, ROWS, device=CPU).class_N


def test_each_row_gets_the_class_of_its_own_segment_in_the_order_of_the_rows(
    dataset: CorpusDataset,
) -> None:
    stage = FirstSamples()
    expected = dataset.gather(ROWS)[:, :, 0].argmax(1)
    assert len(set(expected.tolist())) == 3
    found = predicted(stage, dataset)
    assert found.dtype == np.int64
    assert found.tolist() == expected.tolist()
    assert [n for n, *_ in stage.calls] == [4, 4, 2]  # the last ones are not left out


def test_the_module_is_in_evaluation_mode_and_computes_in_the_type_of_its_weights(
    dataset: CorpusDataset,
) -> None:
    stage, module = FirstSamples(), nn.Sequential(nn.Dropout(), nn.Linear(1, 1)).double()
    assert module.training
    predicted(stage, dataset, module)
    assert {call[1:] for call in stage.calls} == {(False, False, torch.float64)}
    assert not any(part.training for part in module.modules())


def test_of_equal_scores_the_first_class_is_the_answer(dataset: CorpusDataset) -> None:
    assert predicted(Undecided(), dataset).tolist() == [1] * len(ROWS)


def test_probabilities_are_the_softmax_of_the_scores_in_double_precision(
    dataset: CorpusDataset,
) -> None:
    found = predict(FirstSamples(), nn.Linear(1, 1), dataset, ROWS, device=CPU)
    score_NK = dataset.gather(ROWS)[:, :, 0].astype(np.float64)
    raised_NK = np.exp(score_NK - score_NK.max(axis=1, keepdims=True))
    assert found.probability_NK.dtype == np.float64
    np.testing.assert_allclose(
        found.probability_NK, raised_NK / raised_NK.sum(axis=1, keepdims=True), rtol=1e-12
    )


class Sure(FirstSamples):
    """Scores so far apart that single precision would round their probabilities to equals."""

    def of(self, scores_BK: Tensor) -> Tensor:
        return torch.tensor([0.0, 20.0, 0.0]) * torch.arange(1, len(scores_BK) + 1)[:, None] ** 0.5


def test_scores_far_apart_keep_their_order_as_probabilities(dataset: CorpusDataset) -> None:
    found = predict(Sure(), nn.Linear(1, 1), dataset, ROWS[:3], device=CPU)
    assert len(set(found.probability_NK[:, 1].tolist())) == 3


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_score_that_is_no_number_ends_it(dataset: CorpusDataset, value: float) -> None:
    with pytest.raises(FloatingPointError, match="seed: class scores are not finite"):
        predicted(Spoiling(value), dataset)


class Watched(Tensor):
    """Counts how often a decision was taken from one: each waits for the device."""

    n_looks = 0

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        Watched.n_looks += func is Tensor.__bool__
        return super().__torch_function__(func, types, args, kwargs or {})  # type: ignore[no-untyped-call]


class OnDevice(FirstSamples):
    """Its scores tell when somebody looks."""

    def of(self, scores_BK: Tensor) -> Tensor:
        return scores_BK.as_subclass(Watched)


def test_scores_are_looked_at_once_and_not_by_batch(
    dataset: CorpusDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Watched, "n_looks", 0)
    stage = OnDevice()
    predicted(stage, dataset)
    assert (len(stage.calls), Watched.n_looks) == (3, 1)


def test_a_shard_that_was_changed_ends_it(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", (SEED,))
    (opened,) = open_corpus(corpus, cache_dir=tmp_path / "cache").datasets
    for shard in corpus.glob("*/shards/*.arrow"):
        shard.write_bytes(shard.read_bytes()[:-8] + bytes(8))
    with pytest.raises(ValueError, match="SHA-256"):
        predicted(FirstSamples(), opened)
