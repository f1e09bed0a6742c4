from __future__ import annotations

import subprocess
import sys
from importlib import resources

import pytest

from emoray.results import published
from emoray.results.paper import (
    Evaluation,
    Paper,
    PaperRow,
    PaperSimilarity,
    PublishedSpread,
    Reproduce,
    StageOfRow,
)
from emoray.vocabulary.targets import Classes, Cut, Levels

TEXT = (resources.files("emoray") / "methods" / "emod" / "paper.toml").read_text(encoding="utf-8")

# Copied by hand from the paper: BACC, Kappa, WF1 as mean/standard deviation.
PUBLISHED = {
    ("table_2", "EEGNet", "faced"): "40.90/1.22 33.42/2.51 41.24/1.41",
    ("table_2", "EEGConformer", "seed_v"): "35.37/1.12 17.72/1.74 34.87/1.36",
    ("table_2", "ContraWR", "seed"): "57.96/0.74 37.17/1.15 58.46/0.78",
    ("table_2", "ST-Transformer", "seed"): "48.27/1.96 22.50/3.01 48.07/2.31",
    ("table_2", "TSception", "faced"): "18.40/1.80 8.35/2.05 11.54/3.01",
    ("table_2", "ICaps-ReLSTM", "seed_v"): "35.61/0.56 19.46/0.78 36.10/0.69",
    ("table_2", "MACTN", "faced"): "43.34/2.83 36.00/3.27 43.87/2.90",
    ("table_2", "BIOT", "seed_v"): "38.37/1.87 22.61/2.62 38.56/2.03",
    ("table_2", "LaBraM-Base", "faced"): "52.73/1.07 46.98/1.88 52.88/1.02",
    ("table_2", "CBraMod", "seed"): "60.17/0.85 40.58/0.91 60.63/0.96",
    ("table_2", "EMOD", "seed"): "61.14/0.83 41.95/0.93 61.19/0.90",
    ("table_3", "EMOD-Scratch", "faced"): "58.99/0.94 53.57/1.12 59.37/1.06",
    ("table_3", "EMOD-Augment", "seed_v"): "38.49/0.99 25.00/1.26 39.18/0.97",
    ("table_3", "EMOD-HardVA", "seed"): "59.83/1.33 40.73/1.62 60.76/0.95",
    ("table_3", "EMOD-SoftVA", "faced"): "62.87/0.76 57.97/0.85 63.05/0.66",
    ("table_3", "EMOD-SoftVA", "seed_v"): "41.24/0.86 27.12/0.89 42.15/0.87",
}
PARAMETERS = {
    "EEGNet": 0.003,
    "EEGConformer": 0.55,
    "ContraWR": 1.6,
    "ST-Transformer": 3.5,
    "TSception": 0.03,
    "ICaps-ReLSTM": 1.1,
    "MACTN": 6.8,
    "BIOT": 3.2,
    "LaBraM-Base": 5.8,
    "CBraMod": 4.0,
    "EMOD": 0.81,
}
MODELS = (
    "eegnet eegconformer contrawr st_transformer tsception icaps_reslstm mactn biot labram cbramod"
)


@pytest.fixture(scope="module")
def emod() -> Paper:
    return published.load("emod")


@pytest.mark.parametrize(("place", "numbers"), PUBLISHED.items(), ids=lambda x: str(x))
def test_published_numbers_are_the_papers(
    emod: Paper, place: tuple[str, str, str], numbers: str
) -> None:
    table, row, dataset = place
    found = emod.tables[table].row(row).published[dataset]
    said = [tuple(map(float, pair.split("/"))) for pair in numbers.split()]
    assert list(found.items()) == list(zip(("bacc", "kappa", "wf1"), said, strict=True))


@pytest.mark.parametrize(
    ("table", "dataset", "sums"),
    # Of each column of the printed table: what is mistyped anywhere moves one of them.
    [
        ("table_2", "faced", "510.81 12.98 436.63 19.47 505.74 14.24"),
        ("table_2", "seed_v", "402.65 11.82 221.40 16.93 400.35 12.99"),
        ("table_2", "seed", "544.45 10.95 318.19 15.39 545.92 13.15"),
        ("table_3", "faced", "240.49 3.62 220.49 4.25 238.01 3.59"),
        ("table_3", "seed_v", "157.56 3.81 100.60 4.76 159.54 3.96"),
        ("table_3", "seed", "237.74 4.20 158.42 5.60 240.05 4.20"),
    ],
)
def test_every_column_adds_to_what_the_printed_column_adds_to(
    emod: Paper, table: str, dataset: str, sums: str
) -> None:
    rows = [row.published[dataset] for row in emod.tables[table].rows if dataset in row.published]
    metrics = ("bacc", "kappa", "wf1")
    found = [sum(row[metric][i] for row in rows) for metric in metrics for i in (0, 1)]
    assert found == pytest.approx(list(map(float, sums.split())), abs=1e-9)


def test_only_one_cell_of_the_tables_is_blank(emod: Paper) -> None:
    blank = [
        (row.name, dataset)
        for table in ("table_2", "table_3")
        for row in emod.tables[table].rows
        for dataset in ("faced", "seed_v", "seed")
        if dataset not in row.published
    ]
    assert blank == [("LaBraM-Base", "seed")]


def test_rows_and_parameters_of_table_2_are_the_papers(emod: Paper) -> None:
    rows = emod.tables["table_2"].rows
    assert {row.name: row.n_parameters_m for row in rows} == PARAMETERS
    assert emod.tables["table_2"].caption == "Performance comparison on three benchmark datasets"


def test_every_row_says_what_reproduces_it(emod: Paper) -> None:
    rows = emod.tables["table_2"].rows
    *others, own = [row.reproduce for row in rows]
    chain = Reproduce.chain
    assert others == [chain("baselines", ["train"], {"model": m}) for m in MODELS.split()]
    assert own == chain("emod", ["pretrain", "finetune"])
    assert [row.reproduce for row in emod.tables["table_3"].rows] == [
        chain("emod", ["finetune"]),
        chain("emod", ["pretrain", "finetune"], {"loss.objective": "augment"}),
        chain("emod", ["pretrain", "finetune"], {"loss.objective": "hard_va"}),
        chain("emod", ["pretrain", "finetune"]),
    ]
    switches = [row.reproduce.set for row in emod.tables["figure_3"].rows if row.reproduce]
    assert [list(switch.values()) for switch in switches] == [[False]] * 6


def test_figure_3_has_drops_and_no_scores(emod: Paper) -> None:
    rows = {row.name: row for row in emod.tables["figure_3"].rows}
    assert {name: row.drop for name, row in rows.items() if row.drop} == {
        "w/o FreqDomain.": {"seed": 1.89},
        "w/o TempDomain.": {"faced": 4.49, "seed_v": 2.05},
    }
    assert len(rows) == 6
    assert not any(row.published for row in rows.values())


def test_figure_4_shows_deap_before_and_after_pretraining(emod: Paper) -> None:
    figure = emod.figures["figure_4"]
    assert (figure.dataset, figure.projection) == ("deap", "t-SNE")
    assert figure.arms == ("untrained", "pretrained")
    assert figure.coloured_by == ("valence", "arousal")
    assert figure.centroids == tuple(range(-4, 5))
    assert figure.reproduce == Reproduce.chain("emod", ["pretrain"])


def test_tables_and_figures_have_their_places(emod: Paper) -> None:
    assert list(emod.tables) == ["table_2", "table_3", "figure_3"]
    assert [emod.table(name).name for name in ("table2", "table_3")] == ["table_2", "table_3"]
    references = {table.name: table.reference for table in emod.tables.values()}
    assert references == {"table_2": "EMOD", "table_3": "EMOD-Scratch", "figure_3": "EMOD"}
    assert emod.full_model == emod.tables["table_2"].row("EMOD")
    assert list(emod.figures) == ["figure_4"]
    assert emod.title.startswith("EMOD: A Unified EEG Emotion Representation Framework")
    assert emod.code == "https://github.com/cyn4396/EMOD"
    assert "emod" in published.names()


def test_a_paper_is_read_without_its_method() -> None:
    program = (
        "import sys; from emoray.results import published; published.load('emod'); "
        "print([m for m in sys.modules if m == 'torch' or m.startswith('emoray.methods')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_paper_or_row_that_is_not_there_is_told_with_those_that_are(emod: Paper) -> None:
    with pytest.raises(ValueError, match=r"need a paper among .*emod.*; got 'emodd'"):
        published.load("emodd")
    with pytest.raises(ValueError, match=r"need a row of table_3 among EMOD-Scratch, .*'EMOD'"):
        emod.tables["table_3"].row("EMOD")
    with pytest.raises(ValueError, match="among table2, table3, figure3; got 'table4'"):
        emod.table("table4")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "BIOT"\n', 'name = "BIOT"\nn_params = 3\n', r"need .* in table_2 row 8 \(BIOT\)"),
        ("wf1 = [41.24, 1.41]", "f1 = [41.24, 1.41]", r"row 1 \(EEGNet\) faced, got f1"),
        (", wf1 = [41.24, 1.41]", "", r"need wf1 in table_2 row 1 \(EEGNet\) faced"),
        ("bacc = [40.90, 1.22]", "bacc = [40.90]", r"\[mean, sd\] .* faced bacc, got \[40\.9\]"),
        ("bacc = [40.90, 1.22]", "bacc = 40.90", r"\[mean, sd\] .* faced bacc, got 40\.9"),
        ("bacc = [40.90, 1.22]", "bacc = [4090, 1.22]", r"in \[-100, 100\] .* bacc, got 4090"),
        ("bacc = [40.90, 1.22]", "bacc = [40.90, -1]", r"number in \[0, 100\] .* bacc, got -1"),
        ("bacc = [40.90, 1.22]", "bacc = [nan, 1.22]", "faced bacc, got nan"),
        ("bacc = [40.90, 1.22]", "bacc = [true, 1.22]", "faced bacc, got True"),
        ("\nfaced = { bacc = [40", "\nfacde = { bacc = [40", r"faced, .* \(EEGNet\), got facde"),
        ('name = "MACTN"', 'name = "BIOT"', "need each row of table_2 once, got BIOT again"),
        ('name = "MACTN"', 'named = "MACTN"', "need name, .* in table_2 row 7, got named"),
        (
            "n_parameters_m = 6.8",
            'n_parameters_m = "6.8"',
            r"\(MACTN\) n_parameters_m, got '6.8'",
        ),
        ("drop = { seed = 1.89 }", "drop = { sede = 1.89 }", "FreqDomain.* drop, got sede"),
        ('model = "biot" } }', 'model = "biot" }, seed = 1 }', r"\(BIOT\) reproduce, got seed"),
        ('stages = ["train"]', 'stages = "train"', "list for .* reproduce stages, got 'train'"),
        ('stages = ["train"]', "stages = []", r"list for .* reproduce stages, got \[\]"),
        ('method = "baselines", ', "", r"text for method in table_2 row 1 \(EEGNet\) reproduce"),
        ("[figure_4]", "[figure_4]\nperplexity = 30", "in figure_4, got perplexity"),
        ('dataset = "deap"\nproj', 'dataset = "daep"\nproj', "figure_4 dataset, got 'daep'"),
        ("[-4, -3", "[-4.5, -3", r"whole numbers for figure_4 centroid 1, got -4\.5"),
        ("[cost]", "[costs]", "need title, .*, got 'costs'"),
        (
            "[table_3]\n",
            "[table_3]\nnote = 1\n",
            "need caption, .*, rows in table_3, got note",
        ),
        ("title = ", "titel = ", "need title, .*, got 'titel'"),
        ("code = ", "table_9 = ", "need a table for table_9, got 'https"),
        ("n_parameters_m = 6.8", "n_parameters_m = true", r"\(MACTN\) n_parameters_m, got True"),
        ("reproduce = { method", "reproduce = 1 #", r"a table for table_2 row 1 \(EEGNet\) repr"),
        ('pretraining = "table_1"', 'pretraining = "table_2"', "datasets for pretraining among ta"),
        ('pretraining = "table_1"', 'pretraining = ["dep"]', r"for pretraining, got \['dep'\]"),
        ('dataset = "deap"\ntitle', 'dataset = "dep"\ntitle', r"table_1 row 1 \(dep\) dataset, g"),
        ('row = "EMOD" }', 'row = "EMODD" }', "need a row of table_2 among .*; got 'EMODD'"),
        ('{ table = "table_2"', '{ table = "table_1"', "for full_model, got 'table_1'"),
        ('reference = "EMOD-Sc', 'reference = "EMOD-sc', "for table_3 reference, got 'EMOD-sc"),
        ('protocol = "paper_same_stimuli"', "", r"text for protocol in evaluation 1 \(faced\)"),
        (
            'protocol = "paper_same_st',
            'protocol = "same_st',
            r"a protocol .* 1 \(faced\) proto",
        ),
        ('metrics = ["bacc", ', 'metrics = ["bac", ', r"\(faced\) metric 1, got 'bac'"),
        ('metrics = ["bacc", ', 'metrics = ["kappa", ', "evaluation faced, got kappa again"),
        ('chosen_by = "kappa"', 'chosen_by = "loss"', r"need a metric among .* chosen_by, got 'lo"),
        ('chosen_by = "kappa"', 'chosen = "kappa"', r"need dataset, .* in evaluation 1 \(faced\)"),
        ('chosen_by = "kappa"', "", r"for chosen_by in evaluation 1 \(faced\)"),
        ('dataset = "seed"\nproto', 'dataset = "faced"\nproto', "own name, got faced again"),
    ],
)
def test_what_does_not_belong_is_named_with_its_place(old: str, new: str, message: str) -> None:
    assert old in TEXT
    with pytest.raises(ValueError, match=message):
        published.parse(TEXT.replace(old, new, 1))


def test_a_row_without_numbers_or_a_way_to_them_is_quoted_only() -> None:
    paper = published.parse(
        'title = "T"\ncode = "C"\n[cost]\n[table_7]\ncaption = "x"\n[[table_7.rows]]\nname = "a"\n'
    )
    assert paper.tables["table_7"].rows == (PaperRow("a"),)
    assert paper.figures == {}


# What columns are ---------------------------------------------------------------------------------


def test_emods_columns_are_three_datasets_by_the_papers_protocol_and_safer_ones(
    emod: Paper,
) -> None:
    assert [found.dataset for found in emod.evaluation] == ["faced", "seed_v", "seed"]
    for found in emod.evaluation:
        assert (found.name, found.target, found.chosen_by) == (found.dataset, Classes(), "kappa")
        assert found.metrics == ("bacc", "kappa", "wf1")
        assert found.title == {"faced": "FACED", "seed_v": "SEED-V", "seed": "SEED"}[found.name]
        assert found.rehearsed.protocols == (found.protocol, "subjects_and_stimuli_apart")
    assert all(table.evaluation == emod.evaluation for table in emod.tables.values())


def test_emod_is_pretrained_on_the_datasets_of_its_table_1(emod: Paper) -> None:
    assert sorted(emod.pretraining) == [
        *("amigos", "deap", "dreamer", "mahnob_hci", "mdme", "mped", "seed_iv", "seed_vii")
    ]


TWO_TARGETS = """
title = "T"
code = "C"
pretraining = ["dreamer", "amigos"]

[table_1]
caption = "DREAMER"
deviations = false

[[table_1.evaluation]]
name = "arousal"
dataset = "dreamer"
protocol = "random_segments_same_subjects_same_stimuli"
safer = ["subjects_apart_same_stimuli"]
target = { kind = "cut", rating = "arousal", above = 3 }
metrics = ["acc", "f1", "auc"]
chosen_by = "auc"

[[table_1.evaluation]]
name = "valence"
dataset = "dreamer"
protocol = "subjects_apart_same_stimuli"
target = { kind = "levels", rating = "valence", edges = [1.5, 2.5] }
metrics = ["acc"]
chosen_by = "acc"

[[table_1.rows]]
name = "theirs"
arousal = { acc = 62.4, f1 = [], auc = 64.8 }
"""


def test_a_dataset_may_be_told_by_several_targets_without_deviations_and_with_blanks() -> None:
    paper = published.parse(TWO_TARGETS)
    arousal, valence = paper.tables["table_1"].evaluation
    assert arousal == Evaluation(
        name="arousal",
        dataset="dreamer",
        protocol="random_segments_same_subjects_same_stimuli",
        safer=("subjects_apart_same_stimuli",),
        target=Cut("arousal", 3.0),
        metrics=("acc", "f1", "auc"),
        chosen_by="auc",
    )
    assert valence.target == Levels("valence", (1.5, 2.5))
    assert [found.title for found in (arousal, valence)] == [
        "DREAMER, arousal > 3",
        "DREAMER, valence cut at 1.5, 2.5",
    ]
    assert arousal.class_names == ("arousal <= 3", "arousal > 3")
    (row,) = paper.tables["table_1"].rows
    assert row.published == {"arousal": {"acc": (62.4, None), "auc": (64.8, None)}}
    assert (paper.pretraining, paper.evaluation) == (("dreamer", "amigos"), ())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("above = 3", "above = 'x'", r"number for above, got 'x' for table_1 evaluation 1 target"),
        ("above = 3", "edges = [3]", "need kind, rating, above in a target of kind cut"),
        ("[1.5, 2.5]", "[2.5, 1.5]", "edges in rising order, .* table_1 evaluation 2 target"),
        ('kind = "cut"', 'kind = "cuts"', "need a target of kind classes, cut, levels"),
        ("acc = 62.4", "acc = [62.4, 1.0]", r"for table_1 row 1 \(theirs\) arousal acc, got \["),
        ("auc = 64.8", "kappa = 64.8", r"acc, f1, auc in table_1 row 1 \(theirs\) arousal, got k"),
        ('name = "valence"', 'name = "drop"', "another name of an evaluation .* than 'drop'"),
        ('name = "valence"', 'name = "arousal"', "under its own name, got arousal again"),
        (
            "deviations = false",
            "deviations = 0",
            "true or false for table_1 deviations, got 0",
        ),
    ],
)
def test_a_column_that_cannot_be_is_named_with_its_place(old: str, new: str, message: str) -> None:
    assert old in TWO_TARGETS
    with pytest.raises(ValueError, match=message):
        published.parse(TWO_TARGETS.replace(old, new, 1))


# Graphs of stages ---------------------------------------------------------------------------------


def graph(stages: str) -> Reproduce:
    """What reproduces the one row of a paper, by its stages."""
    (row,) = (
        published.parse(
            'title = "T"\ncode = "C"\n[table_7]\ncaption = "x"\n[[table_7.rows]]\nname = "a"\n'
            f'reproduce = {{ method = "m", set = {{ "d" = 1 }}, stages = [{stages}] }}\n'
        )
        .tables["table_7"]
        .rows
    )
    assert row.reproduce is not None
    return row.reproduce


def test_a_graph_of_stages_says_what_each_starts_from() -> None:
    found = graph(
        '{ name = "eeg", stage = "pretrain", set = { "loss.temperature" = 0.1 } }, '
        '{ name = "ecg", stage = "pretrain", method = "n" }, '
        '{ stage = "align", starts = { teacher = "eeg", student = "ecg" } }'
    )
    assert found.stages == (
        StageOfRow("eeg", "pretrain", "m", {}, {"loss.temperature": 0.1}),
        StageOfRow("ecg", "pretrain", "n"),
        StageOfRow("align", "align", "m", {"teacher": "eeg", "student": "ecg"}),
    )
    assert (found.method, found.set) == ("m", {"d": 1})


def test_names_of_stages_are_short_for_a_chain() -> None:
    linked = '{ stage = "a" }, { stage = "b", starts = { encoder = "a" } }, '
    linked += '{ stage = "c", starts = { encoder = "b" } }'
    assert graph('"a", "b", "c"') == graph(linked)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ('"a", "b", "a"', r"table_7 row 1 \(a\) reproduce: need each stage once, got a again"),
        ('"a", { stage = "b" }', "need names of stages or tables for .* reproduce stages"),
        ('"a", 1', r"a table for table_7 row 1 \(a\) reproduce stage 2, got 1|names of stages"),
        ('{ stage = "a" }, { stage = "a" }', "under its own name, got a again"),
        ('{ stage = "a", starts = { x = "z" } }', r"stage 1 \(a\) starts x, got 'z'"),
        ('{ stage = "a", starts = { x = "a" } }', "earlier .* got 'a': a circle"),
        (
            '{ stage = "a", starts = { x = "b" } }, { stage = "b", starts = { x = "a" } }',
            r"earlier for table_7 row 1 \(a\) reproduce stage 1 \(a\) starts x, got 'b': a circle",
        ),
        ('{ stage = "a", starts = { x = "b" } }, { stage = "b" }', "got 'b': it comes later"),
        ('{ stage = "a" }, { stage = "b" }', "that a later one starts from, got a"),
        ('{ stage = "a", start = {} }', "need name, stage, .* reproduce stage 1, got start"),
        ('{ name = "a" }', "need some text for stage in .* reproduce stage 1"),
    ],
)
def test_a_graph_that_cannot_be_is_named_with_its_place(stages: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        graph(stages)


# Figures of similarities --------------------------------------------------------------------------

ALIGNMENT = (resources.files("emoray") / "methods" / "alignment" / "paper.toml").read_text()


def test_figure_2_of_the_alignment_has_the_papers_numbers() -> None:
    """As printed in 3.3: both ranges and averages."""
    found = published.load("alignment").figures["figure_2"]
    assert isinstance(found, PaperSimilarity)
    assert found.without == PublishedSpread("w/o align", -0.6261, -0.2758, -0.4963)
    assert found.trained == PublishedSpread("align", -0.4661, 0.2892, -0.1802)
    # "improves the average cosine similarity by approximately 31.7%": points, not a ratio.
    assert found.trained.mean - found.without.mean == pytest.approx(0.317, abs=1e-3)
    assert (found.query, found.key, found.projection) == ("ECG", "EEG", "t-SNE")


def test_figure_2_shows_a_stage_of_the_full_row_on_people_apart() -> None:
    paper = published.load("alignment")
    found = paper.figure("figure2")
    assert isinstance(found, PaperSimilarity)
    assert (found.row, found.stage) == (paper.full_model, "align")
    assert found.reproduce == paper.tables["table_1"].row("Ours").reproduce
    assert (found.dataset, found.evaluation.name) == ("dreamer", "dreamer_arousal")
    assert found.protocol == "subjects_apart_same_stimuli"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("low = -0.6261", "low = -1.6261", r"in \[-1, 1\] for figure_2 without low, got -1\.6261"),
        ("low = -0.6261", "low = -0.4261", "low <= mean <= high in figure_2 without, got -0.4261"),
        ('similarity = "cosine"', 'similarity = "dot"', "figure_2 similarity, got 'dot'"),
        ('query = "ECG"\n', "", "need some text for query in figure_2"),
        ('query = "ECG"', 'querry = "ECG"', "in figure_2, got querry"),
        ('table = "table_1"\nrow', 'table = "table_9"\nrow', "figure_2 reproduce table, got"),
        ('row = "Ours"\nst', 'row = "Our"\nst', "Ours, .*for figure_2 reproduce row, got 'Our'"),
        ('stage = "align"\nev', 'stage = "classify"\nev', "reproduce stage, got 'classify'"),
        (
            'evaluation = "dreamer_arousal"',
            'evaluation = "dreamer"',
            "dreamer_arousal, .* for figure_2 reproduce evaluation, got 'dreamer'",
        ),
        (
            'protocol = "subjects_apart_same_stimuli"\n',
            'protocol = "leave_one_out"\n',
            "figure_2 reproduce protocol, got 'leave_one_out'",
        ),
    ],
)
def test_a_figure_of_similarities_that_cannot_be_is_named_with_its_place(
    old: str, new: str, message: str
) -> None:
    head, _, figure = ALIGNMENT.partition("[figure_2]")
    assert figure.count(old) == 1
    with pytest.raises(ValueError, match=message):
        published.parse(f"{head}[figure_2]{figure.replace(old, new)}")
