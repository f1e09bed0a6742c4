"""What weights have seen, run after run: what is a fold's own, what came before, what nobody knows.

Hand-made: four people at three stimuli, one presentation each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from emoray.corpus.catalog import Catalog
from emoray.evaluation.folds import folds
from emoray.training.account import Account, Past, joined, merged
from emoray.training.data import RunData, data_of
from emoray.training.run import Run
from tests.small_experiments import tiny_run, write_both

APART = "subjects_apart_same_stimuli"


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    corpus = write_both(tmp_path_factory.mktemp("corpus"), evaluated=("seed",), pretrained=())
    return Catalog(str(corpus))


def on_fold(catalog: Catalog, protocol: str, fold: int = 0, **changes: Any) -> RunData:
    """EMOD's classifier on one of a protocol's folds."""
    run = replace(tiny_run(Path(catalog.location), "seed"), protocol=protocol, **changes)
    dataset = catalog.dataset("seed")
    names = [one.name for one in folds(protocol, "seed", dataset.index)]
    return data_of(replace(run, fold=names[fold]), [dataset])


def account(found: RunData, *starts: Account) -> Account:
    return Account.of(found, Past(found.seen()), starts)


def moved(one: Account, build: str) -> Account:
    """The same account of a run on another build, of another stream perhaps."""
    return replace(one, place={**one.place, "builds": {build: "0"}})


def of_corpus(seen: Mapping[str, Mapping[str, Sequence[str]]], **more: Any) -> Account:
    """Of a pretraining that saw these people at these stimuli."""
    past = Past(seen, **more)
    run = Run("emod", "pretrain", {"seed": 0}, "corpus", {"deap-eeg-0": "1"})
    place = {"protocol": run.protocol, "fold": "", "target": None, "builds": run.builds}
    return Account(past, past, Past(), place)


@pytest.mark.parametrize("protocol", [APART, "random_segments_same_subjects_same_stimuli"])
def test_what_a_start_on_the_same_fold_saw_is_not_held_against_the_test(
    catalog: Catalog, protocol: str
) -> None:
    here = on_fold(catalog, protocol)
    assert account(here).beside(here) == Past()


def test_what_a_start_on_another_fold_saw_is(catalog: Catalog) -> None:
    here, there = on_fold(catalog, APART), on_fold(catalog, APART, 1)
    other = account(there)
    assert other.beside(here) == other.all
    assert other.all.seen["seed"]


@pytest.mark.parametrize(
    "other",
    [
        {"protocol": "subjects_and_stimuli_apart"},
        {"target": {"kind": "cut", "rating": "valence", "above": 0.0}},
    ],
)
def test_a_fold_of_that_name_by_another_protocol_or_target_is_another(
    catalog: Catalog, other: dict[str, Any]
) -> None:
    here = on_fold(catalog, APART)
    start = account(here)
    there = replace(start, place={**start.place, **other})
    assert there.beside(here) == there.all


def test_of_another_stream_the_people_and_their_stimuli_decide(catalog: Catalog) -> None:
    here, there = on_fold(catalog, APART), on_fold(catalog, APART, 1)
    assert moved(account(here), "seed-ecg-1").beside(here) == Past()
    beyond = replace(account(there), place=account(here).place)  # same name, dealt otherwise
    assert moved(beyond, "seed-ecg-1").beside(here) == beyond.all


def test_where_a_subject_at_a_stimulus_is_on_both_sides_they_decide_nothing(
    catalog: Catalog,
) -> None:
    here = on_fold(catalog, "random_segments_same_subjects_same_stimuli")
    start = moved(account(here), "seed-ecg-1")
    assert start.beside(here) == start.all


def test_what_came_before_the_fold_stays_whatever_lies_between(catalog: Catalog) -> None:
    here = on_fold(catalog, APART)
    everybody = of_corpus({"deap": {"01": ["07"]}, "seed": {"09": ["00"]}})
    first = account(here, everybody)
    second = account(here, first)
    for one in (first, second):
        assert one.beside(here).seen == everybody.all.seen
        assert one.all.seen == merged([everybody.all.seen, here.seen()])


def test_what_nobody_knows_of_weights_is_not_forgotten_by_those_that_descend(
    catalog: Catalog,
) -> None:
    here = on_fold(catalog, APART)
    published = of_corpus({}, trained_on=("seed_iv",), unaudited=True)
    last = account(here, account(here, published))
    assert last.beside(here).unaudited
    assert last.beside(here).trained_on == ("seed_iv",)


def test_an_account_is_read_back_as_it_was_written(catalog: Catalog) -> None:
    here = on_fold(catalog, APART)
    prints = {"seed-s01-v1": ["a", "b"]}
    whole = of_corpus({"deap": {"01": ["07"]}}, signals=prints, trained_on=("mped",))
    one = account(here, whole)
    facts = {**here.run.to_key(), **one.to_facts()}
    assert Account.from_facts(facts) == one
    assert Account.from_facts(facts).digest == one.digest
    assert one.all.signals == prints


def test_fingerprints_of_several_accounts_add_up() -> None:
    assert joined([{"b": ["2"]}, {"a": ["1"], "b": ["1", "2"]}]) == {"a": ["1"], "b": ["1", "2"]}
