"""What SSL-ECG published, as transcribed: held against a second reading and the defaults."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib import resources
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from emoray import datasets
from emoray.methods.base import Inputs, Start, StreamSpec
from emoray.methods.ssl_ecg.config import EmotionConfig, PretextConfig
from emoray.methods.ssl_ecg.method import STAGES
from emoray.results import published
from emoray.runtime.config import dotted_values, set_all, to_dict
from emoray.signals import EcgRecipe

PAPER: dict[str, Any] = tomllib.loads(
    resources.files("emoray.methods.ssl_ecg").joinpath("paper.toml").read_text(encoding="utf-8")
)
TABLES = published.load("ssl_ecg").tables

# Read once more from the tables, row by row: accuracy and F1 of each column, those of COLUMNS.
COLUMNS = {
    "table_amigos": ("amigos_arousal", "amigos_valence"),
    "table_dreamer": ("dreamer_arousal", "dreamer_valence"),
    "table_wesad": ("wesad",),
    "table_swell": ("swell_stress", "swell_block", "swell_arousal", "swell_valence"),
}
READ_AGAIN = {
    ("table_amigos", "GNB"): "- .545 - .551",
    ("table_amigos", "CNN"): ".81 .76 .71 .68",
    ("table_amigos", "Fully-Supervised CNN"): ".844 .835 .811 .809",
    ("table_amigos", "Self-Supervised CNN"): ".889 .884 .875 .874",
    ("table_dreamer", "SVM"): ".624 .580 .624 .531",
    ("table_dreamer", "Fully-Supervised CNN"): ".707 .708 .666 .658",
    ("table_dreamer", "Self-Supervised CNN"): ".859 .859 .850 .845",
    ("table_dreamer", "Self-Supervised CNN, notes"): "- - - -",
    ("table_wesad", "kNN"): ".548 .478",
    ("table_wesad", "DT"): ".578 .517",
    ("table_wesad", "RF"): ".604 .522",
    ("table_wesad", "AB"): ".617 .525",
    ("table_wesad", "LDA"): ".663 .560",
    ("table_wesad", "CNN"): ".83 .81",
    ("table_wesad", "Fully-Supervised CNN"): ".932 .912",
    ("table_wesad", "Self-Supervised CNN"): ".969 .963",
    ("table_swell", "kNN"): ".769 - - - - - - -",
    ("table_swell", "SVM"): ".864 - - - - - - -",
    ("table_swell", "Fully-Supervised CNN"): "- - .894 .874 .956 .962 .961 .956",
    ("table_swell", "Self-Supervised CNN"): "- - .933 .924 .967 .964 .973 .969",
}


def test_every_row_has_the_numbers_of_a_second_reading() -> None:
    found = {}
    for table in TABLES.values():
        assert tuple(one.name for one in table.evaluation) == COLUMNS[table.name]
        for row in table.rows:
            cells = (
                row.published.get(column, {}).get(metric)
                for column in COLUMNS[table.name]
                for metric in ("acc", "f1_of_means")
            )
            found[table.name, row.name] = [cell and cell[0] for cell in cells]
    assert found.keys() == READ_AGAIN.keys()
    for row, words in READ_AGAIN.items():
        want = [None if word == "-" else 100 * float(word) for word in words.split()]
        assert found[row] == pytest.approx(want), row


def test_the_usual_f1_stands_beside_the_papers_and_is_published_by_nobody() -> None:
    for table in TABLES.values():
        assert {one.metrics for one in table.evaluation} == {("acc", "f1_of_means", "f1")}
        assert not any("f1" in scores for row in table.rows for scores in row.published.values())


def test_segments_are_split_into_ten_and_beside_it_people_apart() -> None:
    for table in TABLES.values():
        for one in table.evaluation:
            assert one.protocols == (
                "random_segments_10fold_same_subjects_same_stimuli",
                "subjects_apart_same_stimuli",
            )


def test_what_is_trained_before_beats_what_is_not_by_what_the_tables_say() -> None:
    for table in TABLES.values():
        ours, scratch = table.row("Self-Supervised CNN"), table.row("Fully-Supervised CNN")
        for column, scores in ours.published.items():
            for metric, (mean, _) in scores.items():
                assert mean > scratch.published[column][metric][0]


def test_of_the_own_classes_wesad_has_states_and_swell_conditions() -> None:
    names = {
        one.name: one.class_names
        for table in TABLES.values()
        for one in table.evaluation
        if one.target.to_plain() == {"kind": "classes"}
    }
    assert names == {
        "wesad": ("baseline", "stress", "amusement", "meditation"),
        "swell_stress": ("neutral", "time pressure", "interruptions"),
    }


def test_no_row_is_made_with_the_stage_that_has_seen_whole_datasets() -> None:
    """It has seen the segments of every test fold, which the audit calls contaminated."""
    rows = [row.reproduce for table in TABLES.values() for row in table.rows if row.reproduce]
    stages = {(stage.method, stage.stage) for row in rows for stage in row.stages}
    assert stages == {("ssl_ecg", "pretext"), ("ssl_ecg", "emotion")}
    assert {name: kind.scope for name, kind in STAGES.items()} == {
        "pretext": "fold",
        "pretrain": "corpus",
        "emotion": "fold",
    }
    assert published.load("ssl_ecg").pretraining == ("amigos", "dreamer", "swell_kw", "wesad")


def test_every_stage_reads_the_segments_of_the_papers_preprocessing() -> None:
    """Section 4.2: 256 Hz, IIR high-pass at 0.8 Hz, z-scores by user, 10 s."""
    (recipe,) = {kind.recipes["ecg"] for kind in STAGES.values()}
    assert isinstance(recipe, EcgRecipe)
    assert (recipe.sfreq, recipe.segment_s) == (256.0, 10.0)
    assert (recipe.highpass_hz, recipe.highpass_filter) == (0.8, "iir")
    assert (recipe.amplitude, recipe.scale_scope) == ("z", "person")


def test_defaults_are_the_papers_values() -> None:
    values = dotted_values(PretextConfig())
    for name, value in PAPER["settings"].items():
        found = values[name]
        assert (list(found) if isinstance(found, tuple) else found) == value, name
    cost, encoder = PAPER["cost"], PretextConfig().encoder
    assert list(encoder.lengths(10 * 256)) == cost["lengths"]
    assert cost["n_parameters"] == (
        cost["n_parameters_shared"] + cost["n_tasks"] * cost["n_parameters_task"]
    )


def test_each_column_has_the_classes_segments_and_people_that_its_card_says() -> None:
    for table in TABLES.values():
        for entry, one in zip(PAPER[table.name]["evaluation"], table.evaluation, strict=True):
            card = datasets.get(one.dataset).CARD
            assert entry["n_classes"] == len(one.class_names)
            assert entry["segment_s"] == card.segment_s
            assert entry["n_subjects"] == card.n_subjects
            assert card.ecg is not None


def test_levels_are_the_ratings_of_each_dataset_rounded() -> None:
    for table in TABLES.values():
        for one in table.evaluation:
            plain, card = one.target.to_plain(), datasets.get(one.dataset).CARD
            if plain["kind"] == "classes":
                continue
            low, high = (1, 3) if plain["rating"] == "block" else (card.scale.low, card.scale.high)
            rating_S = np.round(np.arange(low, high + 0.01, 0.01), 2)
            rating_S = rating_S[rating_S % 1 != 0.5]  # halves go up or down, as one likes
            label_S = one.target.labels(pa.table({f"rating_{plain['rating']}": rating_S}))
            assert label_S.tolist() == (np.round(rating_S) - 1).astype(int).tolist()


@pytest.mark.parametrize("table", TABLES)
def test_the_supervised_arm_differs_by_its_start_alone(table: str) -> None:
    rows = {row.name: row.reproduce for row in TABLES[table].rows if row.reproduce is not None}
    (scratch,) = rows["Fully-Supervised CNN"].stages
    pretext, emotion = rows["Self-Supervised CNN"].stages
    assert (pretext.set, scratch.starts, emotion.starts) == ({}, {}, {"encoder": "pretext"})
    assert dict(scratch.set) == dict(emotion.set)


def test_what_reproduces_a_row_differs_from_the_defaults() -> None:
    defaults = dotted_values(EmotionConfig())
    for table in TABLES.values():
        for row in table.rows:
            for stage in row.reproduce.stages if row.reproduce else ():
                for name, value in stage.set.items():
                    now = defaults[name]
                    assert (list(now) if isinstance(now, tuple) else now) != value, row.name


@pytest.mark.parametrize("rehearsal", [False, True])
def test_every_row_can_be_built_from_its_settings(rehearsal: bool) -> None:
    inputs = Inputs({"ecg": StreamSpec(("ecg1", "ecg2"), 256.0, 2560)}, ("low", "high"))
    for row in (row for table in TABLES.values() for row in table.rows if row.reproduce):
        starts: dict[str, Start] = {}
        for stage in row.reproduce.stages:
            kind = STAGES[stage.stage]
            config = kind.rehearsal() if rehearsal else kind.config_type()
            known = dotted_values(config)
            shared = {name: v for name, v in row.reproduce.set.items() if name in known}
            config = set_all(config, {**shared, **stage.set})
            built = kind(
                config, inputs, {role: starts[name] for role, name in stage.starts.items()}
            )
            weights = built.build().state_dict()
            starts[stage.name] = Start(to_dict(config), weights)
        hidden = [len(w) for name, w in weights.items() if name.startswith("head.layers.")]
        assert hidden == [n for n in config.hidden for _ in ("weight", "bias")]


def test_settings_load_no_torch() -> None:
    program = "import sys; import emoray.methods.ssl_ecg.config; print('torch' in sys.modules)"
    words = [sys.executable, "-c", program]
    said = subprocess.run(words, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "False"
