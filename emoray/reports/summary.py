"""What a pretraining run tells a person: before it starts, and when it has ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from emoray.batches.occupancy import Occupancy
from emoray.runtime.console import keep_names

REHEARSAL_MARK = "rehearsal data"


def heading(text: str, *, rehearsal: bool) -> Text:
    """A title line, marked where nothing behind it was recorded from anybody."""
    title = Text(text, style="bold")
    if rehearsal:
        title.append(f"   [{REHEARSAL_MARK}]", style="bold red")
    return title


def occupancy(table: Occupancy, *, rehearsal: bool) -> RenderableType:
    """Dataset by region: segments available, and how often the plan draws them."""
    grid = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for i, name in enumerate(table.header()):
        grid.add_column(name.replace(" ", "\n"), justify="left" if i == 0 else "right")
    for row in table.rows():
        grid.add_row(*(cell.replace(" > ", "\n") for cell in row), end_section=True)
    title = heading("Valence-arousal regions", rehearsal=rehearsal)
    below = f"upper line: segments available; lower line: draws in {table.n_rounds:,} rounds"
    return Group(title, keep_names(grid), Text(below, style="dim"))


ARMS = ("pretrained", "untrained")
"""Of a read-out, as they stand side by side."""


def read_out(scores: Mapping[str, Any], *, rehearsal: bool) -> RenderableType:
    """Frozen embeddings read out on held-out subjects: pretrained beside untrained.

    Args:
        scores: `pretrained` and `untrained`, each a `ReadOut` as a dict, or None.
        rehearsal: marks the title.
    """
    title = heading(
        "Linear read-out on held-out subjects (mean of Pearson r within people)",
        rehearsal=rehearsal,
    )
    if scores["pretrained"] is None:
        return Group(title, Text("nobody was held out: no read-out", style="dim"))
    grid = Table(box=None, pad_edge=False, padding=(0, 2))
    grid.add_column("dataset")
    for name in ("segments", "people"):
        grid.add_column(name, justify="right")
    for axis in AXES:
        for arm in ARMS:
            grid.add_column(f"{axis}\n{arm}", justify="right")
    for name in scores["pretrained"]["by_dataset"]:
        _row(grid, name, [scores[arm]["by_dataset"][name] for arm in ARMS])
    everyone = [scores[arm]["scores"] for arm in ARMS]
    _row(grid, "all", everyone, style="bold")
    for name, value in _BELOW.items():
        grid.add_row(name, "", "", *(value(arm[axis]) for axis in AXES for arm in everyone))
    left_out = (Text(line, style="dim") for line in _left_out(everyone))
    return Group(title, keep_names(grid), *left_out)


AXES = ("valence", "arousal")
_BELOW: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "95 % interval": lambda scores: _interval(scores["people"]["interval"]),
    "r in datasets": lambda scores: _r(scores["datasets_r"]),
    "pooled r": lambda scores: _r(scores["pooled_r"]),
}
"""Lines below the figure: how sure it is, and what it would be with offsets of people in it."""


def _row(grid: Table, name: str, arms: Sequence[Mapping[str, Any]], style: str = "") -> None:
    """One line; of an axis that fewer people count for, the smaller number is told."""
    n_people = min(arm[axis]["people"]["n_people"] for axis in AXES for arm in arms)
    cells = [_r(arm[axis]["people"]["r"]) for axis in AXES for arm in arms]
    grid.add_row(name, str(arms[0]["valence"]["n"]), str(n_people), *cells, style=style)


def _left_out(arms: Sequence[Mapping[str, Any]]) -> list[str]:
    """Who does not count and why: in which arm and on which axis, where not in all."""
    places: dict[tuple[str, str], list[str]] = {}
    for name, arm in zip(ARMS, arms, strict=True):
        for axis in AXES:
            for person, why in arm[axis]["people"]["left_out"].items():
                places.setdefault((person, why), []).append(f"{axis} {name}")
    return [
        f"not counted: {person}, {why}"
        + (f" ({', '.join(where)})" if len(where) < len(ARMS) * len(AXES) else "")
        for (person, why), where in places.items()
    ]


def _r(value: float | None) -> str:
    return "" if value is None else f"{value:+.2f}"


def doubts(lines: Sequence[str]) -> RenderableType:
    """Below a read-out: why people who were held out may be no strangers; nothing without lines."""
    return Group(*(Text(line, style="yellow") for line in lines))


def _interval(found: Mapping[str, float] | None) -> str:
    return "" if found is None else f"{found['low']:+.2f} {found['high']:+.2f}"


def files(places: Mapping[str, str]) -> RenderableType:
    """Where things lie, one a line."""
    grid = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2))
    for style in ("dim", ""):
        grid.add_column(style=style, overflow="fold")
    for what, where in places.items():
        grid.add_row(what, Text(where))  # as it is: brackets in a path are no markup
    return grid


def end(places: Mapping[str, str], seconds: float, *, rehearsal: bool) -> RenderableType:
    """Where everything lies, once a run has ended."""
    minutes, rest = divmod(round(seconds), 60)
    title = f"Done in {minutes} min {rest} s" if minutes else f"Done in {rest} s"
    return Group(heading(title, rehearsal=rehearsal), files(places))


def run(facts: Mapping[str, str], *, rehearsal: bool) -> RenderableType:
    """What is about to run, one fact a line."""
    return Group(heading("Run", rehearsal=rehearsal), files(facts))
