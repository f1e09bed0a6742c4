"""What EMOD published, as transcribed: consistent in itself and with the method's defaults."""

from __future__ import annotations

import tomllib
from dataclasses import fields, is_dataclass
from importlib import resources
from typing import Any

import pytest

from emoray.methods.emod.config import Config

PAPER: dict[str, Any] = tomllib.loads(
    resources.files("emoray.methods.emod").joinpath("paper.toml").read_text(encoding="utf-8")
)
TABLES = ("table_2", "table_3", "figure_3")
ROWS = [(table, row) for table in TABLES for row in PAPER[table]["rows"]]


def setting(name: str) -> Any:
    """A field of the default configuration by its dotted name."""
    value: Any = Config()
    for part in name.split("."):
        assert is_dataclass(value)
        assert part in {field.name for field in fields(value)}, f"{name}: no field {part}"
        value = getattr(value, part)
    return value


@pytest.mark.parametrize("name", PAPER["settings"])
def test_defaults_are_the_papers_values(name: str) -> None:
    assert setting(name) == PAPER["settings"][name]


def test_rows_of_table_1_add_to_what_is_stated() -> None:
    found = sum(row["n_segments"] for row in PAPER["table_1"]["rows"])
    assert (
        found == PAPER["table_1"]["n_segments_rows"] == PAPER["table_1"]["n_segments_text"] + 1000
    )


def test_a_step_has_the_segments_of_its_rounds() -> None:
    per_step = len(PAPER["table_1"]["rows"]) * 9 * PAPER["settings"]["rounds_per_step"]
    assert per_step == PAPER["cost"]["n_segments_per_step"]


@pytest.mark.parametrize(
    ("table", "row"), ROWS, ids=lambda x: x if isinstance(x, str) else x["name"]
)
def test_scores_are_percent_and_say_how_they_spread(table: str, row: dict[str, Any]) -> None:
    for dataset in ("faced", "seed_v", "seed"):
        for mean, sd in row.get(dataset, {}).values():
            assert 0 < mean < 100
            assert 0 < sd < 5
    assert table == "figure_3" or {"faced", "seed_v"} <= set(row)


@pytest.mark.parametrize(
    "row",
    [row for _, row in ROWS if row["reproduce"]["method"] == "emod"],
    ids=lambda row: row["name"],
)
def test_what_reproduces_a_row_differs_from_the_defaults(row: dict[str, Any]) -> None:
    for name, value in row["reproduce"].get("set", {}).items():
        assert type(setting(name)) is type(value)
        assert setting(name) != value


def test_the_full_method_is_the_same_row_in_both_tables() -> None:
    (best,) = (row for row in PAPER["table_2"]["rows"] if row["name"] == "EMOD")
    (soft,) = (row for row in PAPER["table_3"]["rows"] if row["name"] == "EMOD-SoftVA")
    assert all(best[dataset] == soft[dataset] for dataset in ("faced", "seed_v", "seed"))
    gain = best["faced"]["bacc"][0] - 55.09
    assert gain == pytest.approx(7.78)  # the text's figure against CBraMod
