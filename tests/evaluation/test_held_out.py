"""The read-out on held-out subjects: who stands on which side, and what an encoder is worth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from emoray.batches.batch import Group
from emoray.corpus.read import Corpus, CorpusDataset, open_corpus
from emoray.evaluation import held_out
from emoray.evaluation.embed import embed, evenly
from emoray.evaluation.held_out import read_out_held_out
from emoray.evaluation.readout import AxesScores, ReadOut
from emoray.vocabulary.schema import Float32Array, FloatArray, IntArray
from tests.corpora import write_corpus

CPU = torch.device("cpu")
Sides = list[tuple[str, tuple[str, ...], IntArray]]
"""Dataset, subjects and rows of each embedding, in the order in which they were made."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """`made_a` and `made_b`, three subjects of thirty segments each."""
    return open_corpus(write_corpus(tmp_path_factory.mktemp("corpus")))


class Oracle(nn.Module):
    """Knows each segment's valence and arousal by its first samples, and adds them as noise."""

    def __init__(self, corpus: Corpus) -> None:
        super().__init__()
        self._known = {
            dataset.gather([row])[0, 0, :2].tobytes(): dataset.va_S2[row]
            for dataset in corpus.datasets
            for row in range(len(dataset))
        }

    def embed(self, groups: Sequence[Group]) -> Tensor:
        x_B2 = torch.cat([group["eeg"].x_BCT[:, 0, :2] for group in groups])
        va_B2 = np.stack([self._known[x_2.numpy().tobytes()] for x_2 in x_B2])
        return torch.from_numpy(va_B2) + 0.1 * x_B2


class Blind(nn.Module):
    """Sees noise, and nothing of the emotion."""

    def embed(self, groups: Sequence[Group]) -> Tensor:
        return torch.cat([group["eeg"].x_BCT[:, 0, :4] for group in groups])


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> Sides:
    """What was embedded, dataset by dataset."""
    sides: Sides = []

    def watched(
        module: nn.Module, dataset: CorpusDataset, rows_N: IntArray, **how: Any
    ) -> Float32Array:
        subjects = tuple(sorted(set(dataset.column("subject")[rows_N])))
        sides.append((dataset.name, subjects, rows_N))
        return embed(module, dataset, rows_N, **how)

    monkeypatch.setattr(held_out, "embed", watched)
    return sides


def scored(module: nn.Module, corpus: Corpus, **of: tuple[str, ...]) -> ReadOut:
    """Of all segments of everybody."""
    found = read_out_held_out(module, corpus, of, device=CPU, a_person=30)
    assert found is not None
    return found


def test_what_an_encoder_knows_is_read_from_people_it_never_saw(corpus: Corpus) -> None:
    found = scored(Oracle(corpus), corpus, made_a=("02",), made_b=("01",))
    for scores in (found.scores, *found.by_dataset.values()):
        assert scores.mean_r is not None
        assert scores.mean_r > 0.99
    assert set(found.by_dataset) == {"made_a", "made_b"}
    assert (found.n_train, found.scores.valence.n) == (120, 60)


def test_an_encoder_that_knows_nothing_reads_nothing(corpus: Corpus) -> None:
    found = scored(Blind(), corpus, made_a=("02",), made_b=("01",))
    for axis in (found.scores.valence, found.scores.arousal):
        assert (
            axis.pooled_r is None or abs(axis.pooled_r) < 0.4
        )  # 60 segments: four standard errors are 0.5


def test_no_subject_stands_on_both_sides(corpus: Corpus, embedded: Sides) -> None:
    scored(Oracle(corpus), corpus, made_a=("02",), made_b=("01", "03"))
    assert [(name, subjects) for name, subjects, _ in embedded] == [
        ("made_a", ("01", "03")),
        ("made_b", ("02",)),
        ("made_a", ("02",)),
        ("made_b", ("01", "03")),
    ]
    for train, test in ((embedded[0], embedded[2]), (embedded[1], embedded[3])):
        assert sorted([*train[2], *test[2]]) == list(range(90))


def test_a_dataset_that_holds_nobody_out_is_still_fitted_on(
    corpus: Corpus, embedded: Sides
) -> None:
    found = scored(Oracle(corpus), corpus, made_b=("03",))
    assert [(name, subjects) for name, subjects, _ in embedded] == [
        ("made_a", ("01", "02", "03")),
        ("made_b", ("01", "02")),
        ("made_b", ("03",)),
    ]
    assert set(found.by_dataset) == {"made_b"}
    assert (found.n_train, found.scores.valence.n) == (150, 30)


@pytest.mark.parametrize("nobody", [{}, {"made_a": (), "made_b": ()}])
def test_without_held_out_subjects_there_is_no_number(
    corpus: Corpus, embedded: Sides, nobody: dict[str, tuple[str, ...]]
) -> None:
    assert read_out_held_out(Oracle(corpus), corpus, nobody, device=CPU) is None
    assert embedded == []


def test_subjects_of_two_datasets_are_different_people(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str] = []

    def watched(*arrays: FloatArray, train_subjects: Sequence[str], **of_test: object) -> ReadOut:
        names.extend(train_subjects)
        return ReadOut(AxesScores())

    monkeypatch.setattr(held_out, "read_out", watched)
    scored(Blind(), corpus, made_a=("02",))
    kept = [f"made_a-{s}" for s in ("01", "03")] + [f"made_b-{s}" for s in ("01", "02", "03")]
    assert names == [name for name in kept for _ in range(30)]


def test_segments_without_valence_and_arousal_are_on_neither_side(
    tmp_path: Path, embedded: Sides
) -> None:
    corpus = open_corpus(write_corpus(tmp_path))
    oracle = Oracle(corpus)
    corpus["made_a"].va_S2[::10] = np.nan
    found = scored(oracle, corpus, made_a=("02",))
    assert not any(row % 10 == 0 for name, _, rows in embedded if name == "made_a" for row in rows)
    assert (found.n_train, found.scores.valence.n) == (54 + 90, 27)


def test_at_most_so_many_segments_of_each_person_spread_over_the_persons_index(
    corpus: Corpus, embedded: Sides
) -> None:
    found = read_out_held_out(
        Oracle(corpus), corpus, {"made_a": ("02",), "made_b": ()}, device=CPU, a_person=10
    )
    assert found is not None
    assert (found.n_train, found.scores.valence.n) == (50, 10)
    for name, subjects, rows_N in embedded:
        for subject in subjects:
            own = np.flatnonzero(corpus[name].column("subject") == subject)
            chosen = rows_N[np.isin(rows_N, own)]
            assert len(set(chosen.tolist())) == 10
            assert {own[0], own[-1]} <= set(chosen.tolist())
            assert set(np.diff(chosen)) <= {3, 4}  # 29 steps in nine


def test_progress_counts_every_segment_that_is_embedded(corpus: Corpus) -> None:
    told: list[int] = []
    held = {"made_a": ("02",), "made_b": ("01",)}
    read_out_held_out(Oracle(corpus), corpus, held, device=CPU, advance=told.append)
    assert sum(told) == sum(held_out.n_rows(side) for side in held_out.sides(corpus, held)) == 144
    assert len(told) > 10


def test_rows_are_spread_evenly_without_repeats() -> None:
    rows_N = np.arange(5, 105)
    assert evenly(rows_N, 100) is rows_N
    assert evenly(rows_N, 4).tolist() == [5, 38, 71, 104]
    for at_most in range(1, 100):
        assert len(np.unique(evenly(rows_N, at_most))) == at_most


def test_embeddings_keep_the_order_of_the_rows_whatever_the_batch(corpus: Corpus) -> None:
    dataset, rows_N = corpus["made_a"], np.array([7, 3, 3, 80, 0])
    whole = embed(Blind(), dataset, rows_N, device=CPU)
    np.testing.assert_array_equal(whole, dataset.gather(rows_N)[:, 0, :4])
    np.testing.assert_array_equal(embed(Blind(), dataset, rows_N, device=CPU, batch_size=2), whole)
    assert whole.dtype == np.float32


def test_an_encoder_is_read_frozen_and_in_evaluation_mode(corpus: Corpus) -> None:
    class Dropping(Blind):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def embed(self, groups: Sequence[Group]) -> Tensor:
            assert not torch.is_grad_enabled()
            return nn.functional.dropout(super().embed(groups), training=self.training) * self.scale

    module = Dropping().train()
    first, second = (embed(module, corpus["made_a"], np.arange(9), device=CPU) for _ in range(2))
    np.testing.assert_array_equal(first, second)
