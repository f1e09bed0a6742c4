"""What a comparison says, in words and in rows and columns; every format prints these.

Numbers become text here and nowhere else, so that terminal, Markdown, LaTeX and page say the same.
Scores are percent with two decimals, as the paper prints them. What is not there is an empty text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from emoray.evaluation import metrics
from emoray.evaluation.statistics import Interval, Summary
from emoray.results.comparison import Block, Cell, Comparison, Paired

Kind = Literal["name", "short", "number", "below", "words", "verdict"]
"""What a column holds. `below`: numbers that may stand below those of the column on its left."""
Tone = Literal["good", "mixed", "bad"]

MOST_ABREAST = 3
"""Metrics whose scores stand side by side where there is little width."""
LONGEST_REMARK = 160
"""Characters of an error outside the page, which has all of it."""


_SCORES = "Ours: mean ± standard deviation over n complete seeds."
_SURE = (
    "Intervals of the mean over seeds (Student's t); differences seed by seed, two-sided paired "
    "t-test."
)
_COST = "Audit: what test segments share with what was trained on. A run: one seed and fold."


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a grid."""

    head: str
    group: str = ""
    """What it shares with its neighbours, above their heads."""
    kind: Kind = "number"
    optional: bool = False
    """Left out where every row is blank."""

    @property
    def title(self) -> str:
        """Group and head in one line."""
        return f"{self.group} {self.head}".strip()


@dataclass(frozen=True, slots=True)
class Grid:
    """A table of texts; the first column names the row."""

    title: str
    words: str
    """What must be known to read it where there is no legend."""
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Remark:
    """Something about one row that no column holds."""

    row: str
    short: str
    """One line."""
    full: str = ""
    """All of it, where that is more."""


# Which blocks -------------------------------------------------------------------------------------


def datasets(comparison: Comparison) -> list[tuple[str, list[Block]]]:
    """Each evaluation's title and its blocks, the paper's protocol first."""
    found: dict[str, list[Block]] = {}
    for block in comparison.blocks:
        found.setdefault(block.name, []).append(block)
    ordered = [sorted(blocks, key=lambda b: not b.is_paper) for blocks in found.values()]
    return [(one_line(blocks[0].title), blocks) for blocks in ordered]


def ran(block: Block) -> bool:
    """Whether a run of the block ended, well or badly."""
    return any(cell.results or cell.errors for cell in block.cells)


def quoted(block: Block) -> bool:
    """Whether the paper has a number for the block."""
    return any(cell.published for cell in block.cells)


def is_rehearsal(block: Block) -> bool:
    """Whether a number of the block comes from data recorded from nobody."""
    return any(row.rehearsal for cell in block.cells for row in cell.results)


def not_run(comparison: Comparison) -> list[tuple[str, list[str]]]:
    """Each dataset's name and its protocols in which nothing ran."""
    found = [
        (title, [one_line(block.protocol) for block in blocks if not ran(block)])
        for title, blocks in datasets(comparison)
    ]
    return [(title, protocols) for title, protocols in found if protocols]


def label(comparison: Comparison) -> str:
    """What of the paper this is: `Table 3` for `table3` and `table_3`."""
    found = re.fullmatch(r"(table|figure)_?(\d+)", comparison.name)
    return f"{found[1].capitalize()} {found[2]}" if found else one_line(comparison.name)


def heading(block: Block) -> str:
    """A block's title: dataset and protocol, and whether it is the paper's."""
    whose = "paper's protocol" if block.is_paper else "protocol"
    return one_line(f"{block.title}, {whose} {block.protocol}")


def tone(verdict: str) -> Tone:
    """How much an audit's verdict takes from a number."""
    if verdict == "clean":
        return "good"
    return "bad" if "LEAK" in verdict or "CONTAMINATED" in verdict else "mixed"


# Grids --------------------------------------------------------------------------------------------


def of_block(block: Block, comparison: Comparison) -> list[Grid]:
    """For a page: scores with their intervals and audit, differences, cost; one line a row."""
    found = (
        scores(block, comparison.published_parameters if quoted(block) else {}),
        differences(block, comparison.reference),
        costs(block, comparison.published_parameters),
    )
    return [grid for grid in found if grid is not None]


def of_block_narrow(block: Block, comparison: Comparison, *, sizes: bool) -> list[Grid]:
    """The same in less width: intervals stand with the differences, the audit with the cost.

    Args:
        block: of the comparison.
        comparison: names the reference row and knows the published parameters.
        sizes: whether the scores have room for the published parameters.
    """
    parameters = comparison.published_parameters
    found = (
        *bare_scores(block, parameters if sizes and quoted(block) else {}),
        certainty(block, comparison.reference),
        costs(block, parameters, audit=True),
    )
    return [grid for grid in found if grid is not None]


def scores(block: Block, parameters: Mapping[str, float | None]) -> Grid:
    """Published and ours side by side for each metric, how sure, how many seeds, the audit.

    Args:
        block: whose cells are the rows.
        parameters: row -> millions, as published; empty for no such column.
    """
    columns = [Column("method", kind="name"), Column("parameters", optional=True)]
    for metric in block.metrics:
        columns += [*_pair(metric), Column("95 % interval", title(metric), "below", True)]
    columns += [Column("n", kind="short"), Column("audit", kind="verdict", optional=True)]
    rows = []
    for cell in block.cells:
        size = _as_published(parameters.get(cell.row))
        numbers = (text for m in block.metrics for text in (*_pair_of(cell, m), _interval(cell, m)))
        rows.append((cell.row, size, *numbers, seeds(cell), cell.verdict or ""))
    return _grid("Scores, %", _SCORES, columns, rows)


def bare_scores(block: Block, parameters: Mapping[str, float | None]) -> list[Grid]:
    """As `scores`, without intervals and audit; of many metrics a few in each grid."""
    together = [
        block.metrics[i : i + MOST_ABREAST] for i in range(0, len(block.metrics), MOST_ABREAST)
    ]
    return [_bare_scores(block, parameters if i == 0 else {}, m) for i, m in enumerate(together)]


def _bare_scores(
    block: Block, parameters: Mapping[str, float | None], shown: Sequence[str]
) -> Grid:
    columns = [Column("method", kind="name"), Column("parameters", optional=True)]
    columns += [*(column for m in shown for column in _pair(m)), Column("n", kind="short")]
    rows = []
    for cell in block.cells:
        numbers = (text for m in shown for text in _pair_of(cell, m))
        rows.append((cell.row, _as_published(parameters.get(cell.row)), *numbers, seeds(cell)))
    return _grid("Scores, %", _SCORES, columns, rows)


def side_by_side(blocks: Sequence[Block]) -> Grid | None:
    """A dataset's first metric under every protocol in which something ran.

    Args:
        blocks: of one evaluation, the paper's first.

    Returns:
        None where fewer than two have runs: there is nothing to hold against each other.
    """
    shown = [block for block in blocks if ran(block)]
    if len(shown) < 2:
        return None
    metric = blocks[0].metrics[0]
    columns = [Column("method", kind="name"), Column("published", optional=True)]
    columns += [Column(one_line(block.protocol), "ours") for block in shown]
    rows = []
    for name in dict.fromkeys(cell.row for block in blocks for cell in block.cells):
        quotes = [published(cell, metric) for b in blocks if (cell := b.cell(name))]
        quote = next((text for text in quotes if text), "")
        rows.append((name, quote, *(_with_doubts(block.cell(name), metric) for block in shown)))
    return _grid(f"{capitalised(metric)} side by side, %", _SCORES, columns, rows)


def differences(block: Block, reference: str | None) -> Grid | None:
    """How far the rows are from the reference row, one line a row; None where none is."""
    columns = [Column("method", kind="name")]
    columns += [column for m in block.metrics for column in _distance_columns(title(m))]
    rows = [
        (cell.row, *(text for m in block.metrics for text in _distance(block, cell, reference, m)))
        for cell in block.cells
    ]
    rows = [row for row in rows if any(row[1:])]
    said = f"Differences to {reference}, percentage points"
    return _grid(said, _SURE, columns, rows) if rows else None


def certainty(block: Block, reference: str | None) -> Grid | None:
    """Intervals and differences, one line for each metric of a row; None where there is none."""
    columns = [Column("method", kind="name"), Column("metric", kind="short")]
    columns += [Column("95 % interval"), *_distance_columns("")]
    rows = [
        (
            cell.row if metric == block.metrics[0] else "",
            title(metric),
            _interval(cell, metric),
            *_distance(block, cell, reference, metric),
        )
        for cell in block.cells
        if cell.results
        for metric in block.metrics
    ]
    said = "Intervals, %"
    if reference is not None:
        said += f", and differences to {reference}, percentage points"
    return _grid(said, _SURE, columns, rows) if any(any(row[2:]) for row in rows) else None


def costs(
    block: Block, parameters: Mapping[str, float | None], *, audit: bool = False
) -> Grid | None:
    """Of rows that ran: how large the models are, where they began, what a run takes.

    Args:
        block: some of whose cells may have no run.
        parameters: row -> millions, as published.
        audit: whether the audit's verdicts stand here, because the scores have no room for them.

    Returns:
        None where nothing ran.
    """
    columns = [Column("method", kind="name"), Column("audit", kind="verdict", optional=True)]
    columns += [
        Column("published", "parameters", optional=True),
        Column("encoder", "parameters"),
        Column("head", "parameters"),
        Column("weights", kind="words"),
        Column("a run"),
    ]
    rows = [
        (
            cell.row,
            cell.verdict or "" if audit else "",
            _as_published(parameters.get(cell.row)),
            *_encoder_and_head(cell),
            cell.start,
            duration(cell.seconds),
        )
        for cell in block.cells
        if cell.results
    ]
    return _grid("Audit and cost" if audit else "Cost", _COST, columns, rows) if rows else None


def remarks(block: Block) -> list[Remark]:
    """Runs that failed and seeds that lack folds, row by row."""
    found = []
    for cell in block.cells:
        row = one_line(cell.row)
        if cell.n_incomplete:
            said = f"{_counted(cell.n_incomplete, 'seed')} without all folds, in no number here"
            found.append(Remark(row, said))
        if cell.errors:
            n, first = _counted(len(cell.errors), "run"), _shortened(one_line(cell.errors[0]))
            found.append(Remark(row, f"{n} failed: {first}", _each_once(cell.errors)))
    return found


def _each_once(errors: Sequence[str]) -> str:
    """All that was said; what several runs said, once, with their number."""
    counts = Counter(errors)
    return "\n\n".join(t if n == 1 else f"{n} runs: {t}" for t, n in counts.items())


def _grid(
    title: str, words: str, columns: Sequence[Column], rows: Sequence[tuple[str, ...]]
) -> Grid:
    """Without the optional columns that are blank; each text in one line."""
    kept = [i for i, c in enumerate(columns) if not c.optional or any(row[i] for row in rows)]
    lines = tuple(tuple(one_line(row[i]) for i in kept) for row in rows)
    return Grid(one_line(title), words, tuple(columns[i] for i in kept), lines)


def _pair(metric: str) -> list[Column]:
    group = title(metric)
    return [Column("published", group, optional=True), Column("ours", group)]


def _pair_of(cell: Cell, metric: str) -> tuple[str, str]:
    return published(cell, metric), mean_sd(cell.summary(metric))


def _interval(cell: Cell, metric: str) -> str:
    summary = cell.summary(metric)
    return bounds(summary.interval if summary else None)


def _distance_columns(group: str) -> list[Column]:
    heads = ("difference", "its 95 % interval", "t-test")
    return [Column(head, group, optional=True) for head in heads]


def _distance(block: Block, cell: Cell, reference: str | None, metric: str) -> tuple[str, ...]:
    """Texts for `_distance_columns`; the pairs are told where they are fewer than the seeds."""
    other = block.cell(reference) if reference is not None else None
    paired = cell.against(other, metric) if other else None
    if paired is None:
        return "", "", ""
    summary = cell.summary(metric)
    fewer = summary is not None and paired.n < summary.n
    said = f"{paired.mean:+.2f}" + (f" (n {paired.n})" if fewer else "")
    return said, bounds(paired.interval, signed=True), p_value(paired)


def _as_published(found: float | None) -> str:
    return "" if found is None else f"{found} M"


def _encoder_and_head(cell: Cell) -> tuple[str, str]:
    if cell.n_parameters is None or cell.n_head_parameters is None:
        return "", ""
    encoder = cell.n_parameters - cell.n_head_parameters
    return millions(encoder), millions(cell.n_head_parameters)


def _with_doubts(cell: Cell | None, metric: str) -> str:
    """Mean and deviation of a metric, and what a reader must know at once."""
    text = mean_sd(cell.summary(metric)) if cell else ""
    if cell is None or not text:
        return ""
    doubts = [seeds(cell)] if " of " in seeds(cell) else []
    if (verdict := cell.verdict) and tone(verdict) == "bad":
        doubts.append("CONTAMINATED" if "CONTAMINATED" in verdict else "LEAK")
    return f"{text} ({', '.join(doubts)})" if doubts else text


# Metrics and numbers as text ----------------------------------------------------------------------


def title(metric: str) -> str:
    """As short as papers have it; the legend says it in full."""
    return metrics.get(metric).title


def capitalised(metric: str) -> str:
    """In words, at the beginning of a sentence."""
    words = metrics.get(metric).words
    return words[0].upper() + words[1:]


def published(cell: Cell, metric: str) -> str:
    """`62.87 ± 0.76`, in percent, as the paper has it; the mean alone where it says no more."""
    mean, sd = cell.published.get(metric, (None, None))
    if mean is None:
        return ""
    return f"{mean:.2f}" if sd is None else f"{mean:.2f} ± {sd:.2f}"


def mean_sd(found: Summary | None) -> str:
    """`57.10 ± 1.20`; the mean alone for a single seed."""
    if found is None:
        return ""
    return f"{found.mean:.2f}" + ("" if found.sd is None else f" ± {found.sd:.2f}")


def seeds(cell: Cell) -> str:
    """Complete seeds: `5`, or `3 of 5` where some are missing; blank where nothing was tried."""
    if not cell.results and not cell.errors:
        return ""
    n, wanted = cell.n_complete, cell.n_wanted // cell.folds_per_seed
    return f"{n}" if n >= wanted else f"{n} of {wanted}"


def bounds(interval: Interval | None, *, signed: bool = False) -> str:
    """`[55.61, 58.59]`; with signs for a difference."""
    if interval is None:
        return ""
    form = "+.2f" if signed else ".2f"
    return f"[{interval.low:{form}}, {interval.high:{form}}]"


def p_value(paired: Paired) -> str:
    """`p = 0.012` or `p < 0.001`."""
    if paired.p is None:
        return ""
    return "p < 0.001" if paired.p < 0.001 else f"p = {paired.p:.3f}"


def millions(n: int) -> str:
    """`0.81 M`; small numbers keep two digits, as `0.0031 M`; below a thousand they are counted."""
    if n < 1000:
        return str(n)
    found = n / 1e6
    return f"{found:.2f} M" if found >= 0.1 else f"{found:.2g} M"


def duration(seconds: float | None) -> str:
    """`0.8 s`, `41 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds is None:
        return ""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min"


def one_line(text: str) -> str:
    """Without line breaks, tabs and control characters: a name cannot break a table."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_REMARK else f"{text[: LONGEST_REMARK - 1]}…"


def _counted(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


# Legend -------------------------------------------------------------------------------------------


def legend(comparison: Comparison) -> list[tuple[str, str]]:
    """What the words and signs of the tables mean; nothing where there is no table."""
    if not comparison.blocks:
        return []
    shown = dict.fromkeys(metric for block in comparison.blocks for metric in block.metrics)
    explained = ", ".join(metrics.get(metric).legend for metric in shown)
    reference = one_line(comparison.reference or "")
    paired = (
        f"of row and {reference}, seed by seed: same seed, same folds. Two-sided paired t-test, "
        "not corrected for the number of rows; blank where a spread is missing"
    )
    return [
        (", ".join(map(title, shown)), f"{explained}, in percent"),
        ("published", "the paper's number; blank where it has none for this dataset and protocol"),
        (
            "ours",
            "mean ± standard deviation (n - 1) over seeds; the folds of a seed are averaged",
        ),
        ("n", "seeds that are complete, of those wanted; blank where nothing ran"),
        (
            "95 % interval",
            "of the mean over seeds (Student's t); blank for one seed and where all are equal. It "
            "does not speak of other people or stimuli unless the folds rotate through them",
        ),
        *([("difference, t-test", paired)] if reference else []),
        (
            "audit",
            "what test segments share with training, validation and pretraining. clean: nothing; "
            "same subjects, same stimuli: what the protocol's name admits; LEAK: more than that; "
            "CONTAMINATED: pretraining saw test subjects or stimuli; not known to be apart: it saw "
            "another dataset that may have the same people; fitted on test recordings, "
            "people: they are on both sides, and each was prepared as one, without labels",
        ),
        ("parameters", "published, and ours as encoder + head"),
        ("a run", "mean time of one seed and fold"),
    ]
