"""What a chain of stages is asked to be, before anything runs: rows, datasets, targets, folds."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from emoray.experiments import session
from emoray.experiments.graph import descent
from emoray.experiments.options import Chain, Where
from emoray.jobs import chain
from emoray.methods.ecg_segments import ECG_10_S
from emoray.methods.ssl_ecg.config import PretextConfig
from emoray.results import published
from emoray.runtime.config import from_dict
from emoray.training.run import Run
from emoray.vocabulary.targets import Classes, Cut, Levels
from tests.corpus.made import make_dataset

N_SUBJECTS = 10
FULL, SCRATCH = "Self-Supervised CNN", "Fully-Supervised CNN"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DREAMER's ECG, with valence alone: subject i rated i % 5 + 1."""
    folder = tmp_path_factory.mktemp("corpus")
    make_dataset(folder, recipe=ECG_10_S, n_recordings=N_SUBJECTS, n_segments=8)
    return folder


def asked(corpus: Path, method: str = "ssl_ecg", **options: Any) -> chain._Asked:
    where = Where(corpus=str(corpus))
    place = session.Place(
        where, Console(file=io.StringIO()), str(corpus.parent / "st"), str(corpus)
    )
    wanted = Chain(where, **{"target": "valence", **options})
    return chain._asked(wanted, published.load(method), place)


def stages(run: Run) -> list[str]:
    return [one.stage for one in descent(run)]


def test_without_words_it_is_the_full_model_on_the_papers_first_dataset_that_is_there(
    corpus: Path,
) -> None:
    found = asked(corpus)
    assert found.arm.row == FULL
    assert stages(found.run) == ["pretext", "emotion"]
    assert found.run.datasets == ("dreamer",)
    assert found.run.target == Levels("valence", (1.5, 2.5, 3.5, 4.5)).to_plain()
    assert (found.run.protocol, found.run.fold) == ("subjects_apart_same_stimuli", "1_of_5")
    assert found.run.config["hidden"] == [512, 512, 512]  # DREAMER's, as the paper's table has it
    assert {one.fold for one in descent(found.run)} == {"1_of_5"}
    assert found.run.chosen_by == "acc"


def test_what_is_asked_for_reaches_the_runs(corpus: Path) -> None:
    options = {"fold": "3_of_5", "seed": 4, "set": ("pretext.epochs=7", "emotion.dropout=0.1")}
    pretext, emotion = descent(asked(corpus, **options).run)
    assert from_dict(PretextConfig, pretext.config) == replace(PretextConfig(), epochs=7, seed=4)
    assert (emotion.config["dropout"], emotion.config["seed"]) == (0.1, 4)
    assert emotion.fold == pretext.fold == "3_of_5"


def test_another_row_runs_its_own_stages(corpus: Path) -> None:
    assert stages(asked(corpus, row=SCRATCH).run) == ["emotion"]


def test_a_rating_may_be_cut_where_one_wants(corpus: Path) -> None:
    found = asked(corpus, above=3.0, protocol="random_segments_same_subjects_same_stimuli")
    assert found.run.target == Cut("valence", 3.0).to_plain()
    assert found.evaluation.name == "dreamer_valence"


@pytest.mark.parametrize(
    ("dataset", "target", "expected"),
    [
        ("wesad", None, Classes()),
        ("wesad", "classes", Classes()),
        ("swell_kw", "block", Levels("block", (1.5, 2.5))),
        ("swell_kw", "swell_stress", Classes()),
        ("dreamer", "arousal", Levels("arousal", (1.5, 2.5, 3.5, 4.5))),
        ("seed", None, Classes()),  # of no table: the publisher's
    ],
)
def test_targets_have_the_papers_names(dataset: str, target: str | None, expected: object) -> None:
    paper = published.load("ssl_ecg")
    assert chain._evaluation(Chain(target=target), paper, dataset).target == expected


@pytest.mark.parametrize(
    ("options", "needed"),
    [
        ({"dataset": "deap"}, f"with ECG for {FULL}, got DEAP, which has no ECG"),
        ({"dataset": "amigos"}, r"need ecg of amigos in the corpus, got dreamer \(ecg\)"),
        ({"dataset": "dreamr"}, "need --dataset among amigos, .*; got dreamr"),
        ({"target": "joy"}, "need --target among arousal, valence .* for dreamer.*; got joy"),
        ({"fold": "6_of_5"}, "need --fold among 1_of_5, .*; got 6_of_5"),
        ({"protocol": "none_apart"}, "need --protocol among .*; got none_apart"),
        ({"row": "GNB"}, f"need a row of ssl_ecg that can be run .*{FULL}.*, got 'GNB'"),
        ({"set": ("pretext.epohcs=3",)}, "need a field of PretextConfig, got 'epohcs'"),
        ({"set": ("finetune.epochs=3",)}, "need a setting of a stage among emotion, pretext"),
        ({"set": ("emotion.seed=3",)}, r"need seeds as such, got the setting 'emotion\.seed'"),
        ({"target": "calm", "above": 3.0}, "need a rating among .*valence.*; got 'calm'"),
    ],
)
def test_what_cannot_be_is_refused(corpus: Path, options: dict[str, Any], needed: str) -> None:
    with pytest.raises(ValueError, match=needed):
        asked(corpus, **options)


def test_both_streams_have_to_be_there(corpus: Path) -> None:
    with pytest.raises(ValueError, match=r"need eeg and ecg of dreamer in the corpus, got dreamer"):
        asked(corpus, "alignment")


def test_a_threshold_needs_a_rating() -> None:
    with pytest.raises(ValueError, match="need --target, the rating to cut, beside --above"):
        Chain(above=2.5)


# Rehearsals ---------------------------------------------------------------------------------------


def test_a_rehearsal_writes_what_the_chain_reads_and_no_more() -> None:
    reads = chain._rehearsed(Chain(dataset="wesad"), published.load("ssl_ecg"))
    assert [(kind.streams, tuple(names)) for kind, names in reads] == [(("ecg",), ("wesad",))] * 2


def test_a_rehearsal_has_no_data_of_datasets_that_the_paper_does_not_evaluate_on() -> None:
    with pytest.raises(ValueError, match=r"need --corpus, or --dataset among .*; got mahnob"):
        chain._rehearsed(Chain(dataset="mahnob_hci"), published.load("ssl_ecg"))


# What the papers say ------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["ssl_ecg", "alignment"])
def test_every_dataset_of_a_paper_has_a_chain_of_its_own_table(method: str) -> None:
    paper = published.load(method)
    for table in paper.tables.values():
        for dataset in {one.dataset for one in table.evaluation}:
            found = paper.chain(dataset)
            assert found in table.rows, (table.name, dataset)
            assert paper.full_model is not None
            assert found.name == paper.full_model.name


def test_the_same_question_has_the_same_folder_and_another_one_another(corpus: Path) -> None:
    names = {chain._name(asked(corpus, **o), rehearsal=False) for o in ({}, {"seed": 1}, {})}
    assert len(names) == 2
    assert all(name.startswith("ssl_ecg-dreamer_valence-") for name in names)
    marked = chain._name(asked(corpus), rehearsal=True)
    assert marked.startswith("ssl_ecg-dreamer_valence-rehearsal-")
