"""Search spaces: those that are shipped, and what is refused with its file and line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from emoray import methods
from emoray.experiments.search.space import Space, followed, read_space
from emoray.runtime.config import dotted_values

FOLDER = Path(__file__).parents[1] / "search_spaces"
SPACES = sorted(FOLDER.iterdir())


def test_each_paper_with_settings_of_its_own_to_search_has_a_space() -> None:
    assert [path.name for path in SPACES] == ["alignment.toml", "emod.toml", "ssl_ecg.toml"]
    assert {path.stem for path in SPACES} <= set(methods.names())


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_its_ends_are_settings_that_its_stages_have(path: Path) -> None:
    space = read_space(path)
    assert space.row.reproduce is not None
    stages = {stage.name: stage for stage in space.row.reproduce.stages}
    for one in space.parameters:
        found = one.distribution
        if isinstance(found, CategoricalDistribution):
            values = found.choices
        else:
            assert isinstance(found, FloatDistribution | IntDistribution)
            values = (found.low, found.high)
        assert len(set(values)) > 1
        for value in values:
            config = followed(space.row, stages[one.stage], {one.name: value})
            assert dotted_values(config)[one.field] == value


def by_symbol(name: str) -> dict[str, object]:
    space = read_space(FOLDER / f"{name}.toml")
    return {one.symbol: one.published for one in space.parameters}


def test_what_the_papers_say_is_the_point_that_is_tried_first() -> None:
    # EMOD's tau and d_max; SSL-ECG's released code, and the rate of its paper.
    assert by_symbol("emod") == {"tau": 0.07, "d_max": 5.0}
    found = by_symbol("ssl_ecg")
    assert (found["warp"], found["SNR"], found["rate"]) == (1.05, 15.0, 1e-3)
    assert set(by_symbol("alignment")) >= {"alpha", "tau_p", "tau_s", "patch"}


def test_a_row_is_set_as_in_the_table_that_is_searched_on() -> None:
    # The released code drops 0.2 for DREAMER; for SWELL, which has a row of that name too, nothing.
    space = read_space(FOLDER / "ssl_ecg.toml")
    assert space.evaluation.dataset == "dreamer"
    assert space.published["emotion.dropout"] == 0.2


# What is refused ----------------------------------------------------------------------------------

HEAD = """\
[search]
evaluation = "dreamer_arousal"
protocol = "subjects_apart_same_stimuli"
metric = "bacc"
"""
ALPHA = """
[align.alpha]
type = "float"
low = 0.1
high = 0.9
"""


def space_of(folder: Path, text: str, name: str = "alignment") -> Space:
    path = folder / f"{name}.toml"
    path.write_text(text)
    return read_space(path)


def test_a_small_space_is_read(tmp_path: Path) -> None:
    space = space_of(tmp_path, HEAD + ALPHA)
    assert space.row.name == "Ours"  # the full model
    assert space.published == {"align.alpha": 0.5}
    assert space.distributions == {"align.alpha": FloatDistribution(0.1, 0.9)}


def replaced(old: str, new: str) -> str:
    text = HEAD + ALPHA
    assert old in text
    return text.replace(old, new)


WRONG: dict[str, tuple[str, int, str]] = {
    "no table of the search": (ALPHA, 1, r"need a table \[search\]"),
    "no metric": (replaced('metric = "bacc"\n', ""), 1, "need metric, got none"),
    "an unknown metric": (replaced('"bacc"', '"luck"'), 4, "need one of .*bacc.*; got 'luck'"),
    "an unknown key": (replaced("metric =", "metrics ="), 4, "got metrics = 'bacc'"),
    "an unknown evaluation": (replaced("dreamer_a", "deap_a"), 2, "got 'deap_arousal'"),
    "a protocol of others": (
        replaced("subjects_apart_same_stimuli", "stimuli_apart_same_subjects"),
        3,
        "need one of random_segments_same_subjects_same_stimuli, subjects_apart_same_stimuli",
    ),
    "an unknown row": (replaced("metric", 'row = "TS-TCX"\nmetric'), 4, "got 'TS-TCX'"),
    "nothing": (HEAD, 1, "need a setting to search"),
    "an unknown stage": (replaced("[align.alpha]", "[aligns.alpha]"), 6, r"need a stage of 'Ours'"),
    "an unknown field": (replaced("align.alpha", "align.alfa"), 6, "need a field of align .*alpha"),
    "a seed": (replaced("align.alpha", "align.seed"), 6, "nothing reads seed"),
    "the radius of another stage": (
        replaced("align.alpha", "align.d_max"),
        6,
        "nothing reads d_max as 'Ours' is set",
    ),
    "sizes of the student that it is not": (
        replaced("align.alpha", "align.convolutions.pool"),
        6,
        r"nothing reads convolutions\.pool",
    ),
    "what a start decides": (
        replaced("align.alpha", "align.encoder.patch_s")
        .replace("0.1", "0.5")
        .replace("0.9", "2.0"),
        6,
        r"nothing reads encoder\.patch_s: what align starts from decides it",
    ),
    "no type": (replaced('type = "float"\n', ""), 7, "need a `type` beside low"),
    "an unknown type": (replaced('"float"', '"real"'), 7, "need a type among float, int"),
    "no high": (replaced("high = 0.9\n", ""), 6, "need high, got none"),
    "a key of another type": (replaced("high", "step = 1\nhigh"), 9, "got step"),
    "an empty range": (replaced("high = 0.9", "high = 0.1"), 8, "need low < high, got 0.1 and 0.1"),
    "no number": (replaced("low = 0.1", 'low = "0.1"'), 8, "need a finite number, got '0.1'"),
    "no finite number": (replaced("high = 0.9", "high = inf"), 9, "need a finite number, got inf"),
    "the logarithm of zero": (
        replaced("low = 0.1", "low = 0.0\nlog = true"),
        8,
        "need low > 0 for a logarithm, got 0",
    ),
    "a value that cannot be": (replaced("high = 0.9", "high = 1.0"), 6, r"need alpha in \(0, 1\)"),
    "the row's value outside": (replaced("low = 0.1", "low = 0.6"), 6, "own value inside, 0.5"),
    "one choice": (
        HEAD + '[align.levels]\ntype = "categorical"\nchoices = ["both"]\n',
        7,
        "need two different choices",
    ),
    "a choice twice": (
        HEAD + '[align.levels]\ntype = "categorical"\nchoices = ["both", "both", "patch"]\n',
        7,
        "need different choices",
    ),
    "a choice that cannot be": (
        HEAD + '[align.levels]\ntype = "categorical"\nchoices = ["both", "all"]\n',
        5,
        "levels",
    ),
    "half an integer": (
        HEAD + '[align.epochs]\ntype = "int"\nlow = 10\nhigh = 60.5\n',
        8,
        "need a whole number, got 60.5",
    ),
    "a step that leads elsewhere": (
        HEAD + '[align.epochs]\ntype = "int"\nlow = 10\nhigh = 60\nstep = 7\n',
        9,
        "need a step that leads from low to high",
    ),
    "no symbol": (replaced("high", 'symbol = ""\nhigh'), 9, "need text, got ''"),
    "no TOML": ("[search\n", 1, "Expected"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_searched_is_refused_with_its_line(what: str, tmp_path: Path) -> None:
    text, line, words = WRONG[what]
    with pytest.raises(ValueError, match=words) as raised:
        space_of(tmp_path, text)
    said = str(raised.value)
    assert said.startswith(str(tmp_path / "alignment.toml"))
    where = re.search(r"alignment\.toml:(\d+):|line (\d+)", said)
    assert where is not None, said
    assert int(next(filter(None, where.groups()))) == line


def test_a_file_of_no_method_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"need a paper among .*; got 'emodd'"):
        space_of(tmp_path, HEAD + ALPHA, "emodd")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"emod\.toml: .*No such file"):
        read_space(tmp_path / "emod.toml")


# `Stage.unread` says what is so -------------------------------------------------------------------


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_no_searched_field_is_unread(path: Path) -> None:
    space = read_space(path)
    assert space.row.reproduce is not None
    for stage in space.row.reproduce.stages:
        kind = methods.stage(stage.method, stage.stage)
        unread = kind.unread(followed(space.row, stage, {}), stage.starts)
        fields = dotted_values(kind.config_type())
        for name in unread:
            assert any(field == name or field.startswith(f"{name}.") for field in fields), name
