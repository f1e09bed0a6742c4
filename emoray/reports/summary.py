"""What a pretraining run tells a person: before it starts, and when it has ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from emoray.console import keep_names
from emoray.sampling import Occupancy

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


def read_out(scores: Mapping[str, Any], *, rehearsal: bool) -> RenderableType:
    """Frozen embeddings read out on held-out subjects: pretrained beside untrained.

    Args:
        scores: `pretrained` and `untrained`, each a `ReadOut` as a dict, or None.
        rehearsal: marks the title.
    """
    title = heading("Linear read-out on held-out subjects (Pearson r)", rehearsal=rehearsal)
    if scores["pretrained"] is None:
        return Group(title, Text("nobody was held out: no read-out", style="dim"))
    grid = Table(box=None, pad_edge=False, padding=(0, 2))
    grid.add_column("dataset")
    grid.add_column("segments", justify="right")
    for axis in ("valence", "arousal"):
        for arm in ("pretrained", "untrained"):
            grid.add_column(f"{axis}\n{arm}", justify="right")
    parts = {
        name: (a, scores["untrained"]["by_dataset"][name])
        for name, a in scores["pretrained"]["by_dataset"].items()
    }
    parts["all"] = (scores["pretrained"]["scores"], scores["untrained"]["scores"])
    for name, (trained, untrained) in parts.items():
        cells = [
            _r(arm[axis]["r"]) for axis in ("valence", "arousal") for arm in (trained, untrained)
        ]
        grid.add_row(
            name, str(trained["valence"]["n"]), *cells, style="bold" if name == "all" else ""
        )
    return Group(title, keep_names(grid))


def _r(value: float | None) -> str:
    return "" if value is None else f"{value:+.2f}"


def doubts(lines: Sequence[str]) -> RenderableType:
    """Below a read-out: why people who were held out may be no strangers; nothing without lines."""
    return Group(*(Text(line, style="yellow") for line in lines))


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
