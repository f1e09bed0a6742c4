"""A build or a check as tables of at most 100 columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from emoray.corpus.build.build import BuildReport
from emoray.corpus.build.check import Check, Found, expected
from emoray.runtime.console import WIDTH, keep_names, open_console

_SHOWN = 8
"""Names listed before the rest is only counted."""
TEXT_TOTAL = 79_070
"""Segments of the eight pretraining datasets by EMOD's text; its Table 1, whose rows the cards
repeat, adds to 80,070."""


def _table(title: str) -> Table:
    return Table(
        title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )


def print_tables(*tables: RenderableType) -> None:
    """Print to standard output, never wider than `WIDTH`."""
    console = open_console()
    console.width = min(console.width, WIDTH)
    console.print(*tables)


def build_tables(report: BuildReport) -> RenderableType:
    """What a build made, what it left out and why, what is in quarantine."""
    table = _table(f"Corpus in {report.out}")
    table.add_column("dataset")
    table.add_column("stream")
    for name in ("recordings", "of these new", "segments", "quarantined", "missing"):
        table.add_column(name, justify="right")
    for row in report.datasets:
        counts = (row.n_recordings, row.n_built, row.n_segments)
        lacks = (len(row.quarantined), len(row.missing))
        name = f"{row.name} (rehearsal data)" if row.rehearsal else row.name
        table.add_row(name, row.stream, *(f"{n:,}" for n in (*counts, *lacks)))
    quarantined = [error for row in report.datasets for error in row.quarantined.values()]
    return Group(keep_names(table), *_dropped(report), *_list("quarantined", quarantined))


def _dropped(report: BuildReport) -> list[RenderableType]:
    table = _table("Left out")
    table.add_column("dataset")
    table.add_column("stream")
    table.add_column("n", justify="right")
    table.add_column("what")
    table.add_column("reason")
    for row in report.datasets:
        for (what, reason), n in row.dropped.items():
            table.add_row(row.name, row.stream, f"{n:,}", what, reason)
    return [keep_names(table)] if table.row_count else []


def check_tables(found: Check, pretraining: Sequence[str]) -> RenderableType:
    """Per dataset: what was found, of what the card expects; then what is missing or broken.

    Args:
        found: to be told.
        pretraining: datasets that EMOD pretrains on, which are added up where all were looked for.
    """
    table = _table(f"{found.root} against the cards")
    table.add_column("dataset")
    for name in ("files", "subjects", "recordings", "presentations", "segments", "paper"):
        table.add_column(name, justify="right")
    for name in ("missing", "unexpected"):
        table.add_column(name, justify="right")
    details: list[RenderableType] = []
    for row in found.found:
        table.add_row(*_check_row(row))
        details += _details(row)
    together = [row for row in found.found if row.card.name in pretraining]
    if together and len(together) == len(pretraining):
        cells, note = _total(together)
        table.add_section()
        table.add_row(*cells)
        details.append(note)
    absent = [expected(row.card) for row in found.found if row.folder is None]
    if absent:
        details.append(Text(f"not there: {', '.join(absent)}"))
    if found.unexpected:
        details.append(Text(f"unexpected in {found.root}: {_names(found.unexpected)}"))
    return Group(keep_names(table), *details)


def _check_row(row: Found) -> Sequence[str]:
    card = row.card
    paper = "-" if card.n_segments_paper is None else f"{card.n_segments_paper:,}"
    if row.folder is None:
        return [card.name, "none", *["-"] * 4, paper, "-", "-"]
    n_presentations = card.n_recordings * card.n_presentations
    return [
        f"{card.name}*" if row.rehearsal else card.name,
        f"{row.n_files:,}",
        f"{row.n_subjects}/{card.n_subjects}",
        f"{row.n_recordings}/{card.n_recordings}",
        "-" if row.n_presentations is None else f"{row.n_presentations:,}/{n_presentations:,}",
        "-" if row.n_segments is None else f"{row.n_segments:,}",
        paper,
        f"{len(row.missing)}",
        f"{len(row.unexpected)}",
    ]


def _total(rows: Sequence[Found]) -> tuple[Sequence[str], Text]:
    """Segments for pretraining beside both of the paper's totals, and a note on them."""
    counts = [row.n_segments for row in rows if row.n_segments is not None]
    found = f"{sum(counts):,}" if counts else "-"
    table_1 = f"{sum(row.card.n_segments_paper or 0 for row in rows):,}"
    text = f"{TEXT_TOTAL:,}"
    note = f"pretraining: EMOD's Table 1 adds to {table_1} segments, its text says {text}"
    return ["pretraining", *[""] * 4, found, f"{table_1}\n{text}", "", ""], Text(note)


def _details(row: Found) -> Iterable[Text]:
    name = row.card.name
    if row.rehearsal:
        yield Text(f"{name}: * rehearsal data, recorded from nobody")
    if row.missing:
        yield Text(f"{name}: missing {_names(row.missing)}")
    if row.unexpected:
        yield Text(f"{name}: unexpected {_names(row.unexpected)}")
    for (what, reason), n in row.dropped.most_common():
        yield Text(f"{name}: the reader leaves out {n:,} {what}{'s' * (n != 1)}: {reason}")
    yield from _list(f"{name}: cannot be read", row.errors)


def _list(title: str, lines: Sequence[str]) -> list[Text]:
    shown = [Text(f"{title}: {line}") for line in lines[:_SHOWN]]
    return [*shown, Text(f"{title}: {len(lines):,} in all")] if len(lines) > _SHOWN else shown


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
