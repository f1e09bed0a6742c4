"""Comparisons with made-up runs: the paper's tables as they look when something ran.

No number of "ours" here was trained: confusion matrices are drawn around a share of hits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from emoray.evaluation.folds import PROTOCOLS
from emoray.results import published
from emoray.results.comparison import Block, Cell, Comparison
from emoray.results.paper import PaperTable
from emoray.results.store import ResultRow
from tests.evaluations import paper_protocol, protocols_of
from tests.rows import made_row

TITLES = {"faced": "FACED", "seed_v": "SEED-V", "seed": "SEED"}
VERDICTS = {
    "paper_same_stimuli": "same stimuli",
    "paper_same_subjects": "same subjects",
    "paper_same_subjects_same_stimuli": "same subjects, same stimuli",
    "subjects_apart_same_stimuli": "same stimuli",
    "stimuli_apart_same_subjects": "same subjects; scale and ICA fitted on test recordings too",
    "subjects_and_stimuli_apart": "clean",
}
FAMILY = "people not known to be apart (SEED family)"
"""Of EMOD's pretraining and SEED; the longest verdict that no fault is needed for."""
PRETRAINED = {"encoder": {"words": "pretrained by emod on 8 datasets", "run": "emod-0123456789ab"}}
N_SEEDS = 5
FOLDS = ("1_of_3", "2_of_3", "3_of_3")
"""Of every protocol but the paper's, which has one."""
ARMS = {"EMOD-Scratch": 0.58, "EMOD-Augment": 0.585, "EMOD-HardVA": 0.60, "EMOD-SoftVA": 0.62}
"""Table 3's rows: share of hits."""


def confusion(hits: float, n_classes: int, seed: int) -> list[list[int]]:
    """200 test segments of each class, about that share of them right."""
    rng = np.random.default_rng(seed)
    others = (1 - hits) / (n_classes - 1)
    shares_KK = np.full((n_classes, n_classes), others) + np.eye(n_classes) * (hits - others)
    return [[int(n) for n in rng.multinomial(200, share_K)] for share_K in shares_KK]


def runs(
    hits: float,
    *,
    seeds: Iterable[int] = range(N_SEEDS),
    folds: Iterable[str] = ("0",),
    n_classes: int = 3,
    salt: int = 0,
    **fields: Any,
) -> tuple[ResultRow, ...]:
    """One row for each seed and fold; `salt` tells draws of equal seeds apart."""
    return tuple(
        made_row(
            confusion(hits, n_classes, 1000 * salt + 100 * i + seed), seed=seed, fold=fold, **fields
        )
        for seed in seeds
        for i, fold in enumerate(folds)
    )


def comparison(
    table: str,
    hits: Mapping[str, float],
    *,
    datasets: Iterable[str] = ("seed",),
    rehearsal: bool = False,
    notes: tuple[str, ...] = (),
) -> Comparison:
    """A table of the paper; the rows of `hits` ran on `datasets`, with five seeds."""
    paper = published.load("emod")
    blocks = [
        _block(
            paper.tables[table], dataset, protocol, hits if dataset in datasets else {}, rehearsal
        )
        for dataset in TITLES
        for protocol in protocols_of(dataset)
    ]
    return Comparison(
        name=table.replace("_", ""),
        title=paper.title,
        caption=paper.tables[table].caption,
        reference=paper.tables[table].rows[0].name,
        published_parameters={row.name: row.n_parameters_m for row in paper.tables[table].rows},
        blocks=tuple(blocks),
        rehearsal=rehearsal,
        notes=notes,
    )


def _block(
    table: PaperTable,
    dataset: str,
    protocol: str,
    hits: Mapping[str, float],
    rehearsal: bool,
) -> Block:
    is_paper = protocol == paper_protocol(dataset)
    folds = ("0",) if is_paper else FOLDS
    cells = []
    for i, row in enumerate(table.rows):
        found: tuple[ResultRow, ...] = ()
        if row.name in hits:
            found = runs(
                hits[row.name] if is_paper else hits[row.name] - 0.1,
                folds=folds,
                salt=100 * i + len(protocol),
                dataset=dataset,
                protocol=protocol,
                builds={f"{dataset}-eeg-0d9cf00c654e": "0123"},
                audit={"verdict": _verdict(protocol, pretrained=i > 0)},
                starts=PRETRAINED if i else {},
                rehearsal=rehearsal,
                seconds=40.0 + i,
            )
        published = row.published.get(dataset, {}) if is_paper else {}
        cells.append(Cell(row.name, published, found, N_SEEDS * len(folds), (), len(folds)))
    words = PROTOCOLS[protocol].words
    return Block(
        name=dataset,
        dataset=dataset,
        title=TITLES[dataset],
        protocol=protocol,
        is_paper=is_paper,
        words=words,
        metrics=("bacc", "kappa", "wf1"),
        cells=tuple(cells),
    )


def _verdict(protocol: str, *, pretrained: bool) -> str:
    said = [word for word in VERDICTS[protocol].split("; ") if word != "clean"]
    return "; ".join([*said, FAMILY] if pretrained else said) or "clean"


@cache
def table3(**changes: Any) -> Comparison:
    """The four arms of pretraining, run on SEED unless told otherwise."""
    return comparison("table_3", ARMS, **changes)


@cache
def table2(**changes: Any) -> Comparison:
    """The eleven methods, run on SEED: the widest table there is."""
    names = [row.name for row in published.load("emod").tables["table_2"].rows]
    return comparison("table_2", {name: 0.4 + 0.02 * i for i, name in enumerate(names)}, **changes)


def with_cells(found: Comparison, change: Callable[[Block, Cell], Cell]) -> Comparison:
    """The same with each cell changed."""
    blocks = (
        replace(block, cells=tuple(change(block, cell) for cell in block.cells))
        for block in found.blocks
    )
    return replace(found, blocks=tuple(blocks))


def with_runs(found: Comparison, row: str, **fields: Any) -> Comparison:
    """The same with fields of one row's runs changed, and their keys with them."""

    def change(_: Block, cell: Cell) -> Cell:
        if cell.row != row:
            return cell
        changed = tuple(_remade(result, **fields) for result in cell.results)
        return replace(cell, results=changed)

    return with_cells(found, change)


def _remade(row: ResultRow, **changes: Any) -> ResultRow:
    kept = ("seed", "fold", "dataset", "protocol", "builds", "audit", "starts", "rehearsal")
    fields = {name: getattr(row, name) for name in (*kept, "seconds")}
    return made_row(row.confusion, **{**fields, **changes})
