"""What has to be built for a paper: of which datasets, which streams, cut by which recipes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from emoray import methods
from emoray.methods.base import Stage
from emoray.results.paper import Paper
from emoray.signals import EcgRecipe, EegRecipe, Recipe
from emoray.vocabulary.schema import Stream

Reading = tuple[type[Stage], Sequence[str]]
"""A stage, and the datasets that it is trained on."""


@dataclass(frozen=True)
class Built:
    """How datasets are built."""

    is_evaluated: bool
    """Whether the paper scores on them, rather than pretrain alone."""
    streams: tuple[Stream, ...] = ()
    eeg: EegRecipe | None = None
    """None for whatever recipe, as for `ecg`."""
    ecg: EcgRecipe | None = None


def builds_of(paper: Paper, reading: Sequence[Reading] = ()) -> dict[Built, set[str]]:
    """What stages of a paper read: how it is built, and of which datasets.

    Args:
        paper: whose.
        reading: the stages; all that reproduce something without any.

    Raises:
        ValueError: stages that want one stream of a dataset by several recipes.
    """
    read: dict[str, dict[Stream, Recipe | None]] = {}
    for kind, names in reading or tuple(_stages_of(paper)):
        for name in names:
            of_dataset = read.setdefault(name, {})
            for stream in kind.streams:
                wanted, before = kind.recipes.get(stream), of_dataset.get(stream)
                if None not in (wanted, before) and wanted != before:
                    raise ValueError(f"need one recipe for {stream} of {name}, got several")
                of_dataset[stream] = wanted or before
    evaluated = {*paper.evaluated, *(one.dataset for one in paper.evaluation)}
    found: dict[Built, set[str]] = {}
    for name, recipes in read.items():
        eeg, ecg = recipes.get("eeg"), recipes.get("ecg")
        assert eeg is None or isinstance(eeg, EegRecipe)
        assert ecg is None or isinstance(ecg, EcgRecipe)
        built = Built(name in evaluated, tuple(sorted(recipes, reverse=True)), eeg, ecg)
        found.setdefault(built, set()).add(name)
    return found


def _stages_of(paper: Paper) -> Iterator[Reading]:
    """Stages that reproduce something."""
    found = [
        (stage, [one.dataset for one in table.evaluation])
        for table in paper.tables.values()
        for row in table.rows
        if row.reproduce is not None
        for stage in row.reproduce.stages
    ]
    found += [(s, [f.dataset]) for f in paper.figures.values() for s in f.reproduce.stages]
    for stage, names in found:
        kind = methods.stage(stage.method, stage.stage)
        yield kind, paper.pretraining if kind.scope == "corpus" else names
