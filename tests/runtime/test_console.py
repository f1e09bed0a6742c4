"""Where no terminal says how wide it is, and that no table cuts what names its rows."""

from __future__ import annotations

import ast
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import RenderableType

from emoray import datasets
from emoray.batches.occupancy import Occupancy
from emoray.corpus.build.build import BuildReport, DatasetReport
from emoray.corpus.build.check import Check, Found
from emoray.corpus.build.tables import build_tables, check_tables
from emoray.experiments.cost import Estimate
from emoray.experiments.session import estimates_table
from emoray.reports import summary, tables
from emoray.results.comparison import Comparison
from emoray.runtime.console import WIDTH, open_console
from tests.evaluations import EMOD
from tests.reports.comparisons import table2, table3

REPO = Path(__file__).parents[2]
ALL = datasets.names()
PRETRAINING = sorted(EMOD.pretraining)


def test_what_is_no_terminal_is_a_hundred_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert open_console(file=io.StringIO()).width == WIDTH == 100


@pytest.mark.parametrize("columns", [80, 132])
def test_columns_that_are_asked_for_are_kept(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert open_console(file=io.StringIO()).width == columns
    assert open_console(stderr=True).width == columns


def test_consoles_are_made_in_one_place() -> None:
    files = [p for top in ("emoray", "jobs", "benchmarks") for p in (REPO / top).rglob("*.py")]
    made = {
        path.relative_to(REPO).as_posix()
        for path in files
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Console"
    }
    assert made == {"emoray/runtime/console.py"}


# Tables -------------------------------------------------------------------------------------------


def occupancy() -> RenderableType:
    shape = (len(PRETRAINING), 9)
    counts = Occupancy(PRETRAINING, 111_200, np.full(shape, 12_345), np.full(shape, 27_800))
    return summary.occupancy(counts, rehearsal=True)


def read_out() -> RenderableType:
    people = {"r": -0.5, "n_people": 123, "interval": None, "left_out": {}}
    axis = {"n": 12_345, "people": people, "datasets_r": -0.5, "pooled_r": -0.5}
    arm = {
        "by_dataset": {name: {"valence": axis, "arousal": axis} for name in ALL},
        "scores": {"valence": axis, "arousal": axis},
    }
    return summary.read_out({"pretrained": arm, "untrained": arm}, rehearsal=True)


def built() -> RenderableType:
    reports = tuple(
        DatasetReport(
            name=name,
            stream="eeg",
            folder=f"/corpus/{name}-eeg-0123456789ab",
            n_recordings=12_345,
            n_built=12_345,
            n_segments=1_234_567,
            rehearsal=True,
            dropped={("presentation", "shorter than a segment of ten seconds"): 12_345},
            quarantined={},
            missing=(),
        )
        for name in ALL
    )
    return build_tables(BuildReport("/corpus", reports, 1.0, 1.0, 0))


def checked() -> RenderableType:
    cards = [datasets.get(name).CARD for name in ALL]
    counts = {"n_files": 12_345, "n_subjects": 123, "n_recordings": 1_234}
    counts |= {"n_presentations": 12_345, "n_segments": 12_345}
    found = (Found(card, Path("/data") / card.name, True, **counts) for card in cards)
    return check_tables(Check(Path("/data"), tuple(found), ()), PRETRAINING)


def to_come() -> RenderableType:
    words = [f"EMOD-SoftVA = w/o spatial encoder = the whole model on {name}" for name in ALL]
    estimates = [Estimate(text, 25, 123_456.0, "earlier runs") for text in words]
    return estimates_table(estimates, rehearsal=True)


def of(comparison: Callable[[], Comparison]) -> Callable[[], RenderableType]:
    return lambda: tables.terminal(comparison())


SHOWN: dict[str, tuple[Callable[[], RenderableType], tuple[str, ...]]] = {
    "occupancy": (occupancy, PRETRAINING),
    "read_out": (read_out, ALL),
    "build": (built, ALL),
    "check": (checked, ALL),
    "estimates": (to_come, ALL),
    "table2": (of(table2), ("FACED", "SEED-V")),
    "table3": (of(table3), ("FACED", "SEED", "SEED-V")),
}
"""Tables, and the datasets that each names."""


@pytest.mark.parametrize("columns", [80, 100])
@pytest.mark.parametrize("name", SHOWN)
def test_no_table_cuts_a_name_or_a_number(
    monkeypatch: pytest.MonkeyPatch, name: str, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    said, (what, named) = io.StringIO(), SHOWN[name]
    open_console(file=said).print(what())
    text = said.getvalue()
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= columns
    words = set(text.replace(",", " ").replace(":", " ").split())
    assert not [dataset for dataset in named if dataset not in words]
