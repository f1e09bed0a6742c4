"""Corpora that hold datasets of both kinds, and experiments so small that one takes seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from emoray import datasets
from emoray.corpus.catalog import Catalog
from emoray.experiments.experiment import CellRuns
from emoray.experiments.paper_tables import Reproduction
from emoray.methods.emod.config import EncoderConfig, FinetuneConfig
from emoray.results import published
from emoray.results.store import KEY_PARTS, ResultRow
from emoray.runtime.config import to_dict
from emoray.training.execute import code_of
from emoray.training.run import Run
from tests.corpora import Made, write_corpus
from tests.rows import made_row

PRETRAINED = ("deap", "dreamer")
"""Datasets of pretraining in a small corpus."""

TINY = FinetuneConfig(
    encoder=EncoderConfig(d_model=8, n_heads=2, n_layers=1, d_feedforward=16),
    epochs=2,
    batch_size=32,
)
SETTINGS: Mapping[str, Any] = {
    **{
        f"{stage}.encoder.{name}": value
        for stage in ("pretrain", "finetune")
        for name, value in to_dict(TINY.encoder).items()
        if value != to_dict(EncoderConfig())[name]
    },
    "pretrain.epochs": 2,
    "pretrain.rounds_per_step": 1,
    "finetune.epochs": TINY.epochs,
    "finetune.batch_size": TINY.batch_size,
}
"""What makes EMOD's two stages as small as `TINY`, as a job is told it."""


def write_both(
    folder: Path,
    *,
    evaluated: Sequence[str] = ("faced", "seed"),
    pretrained: Sequence[str] = PRETRAINED,
    n_subjects: int = 3,
    n_segments: int = 30,
) -> Path:
    """A corpus with datasets of evaluation (classes) and of pretraining, under registered names.

    Every dataset has valence and arousal: only the paper keeps one out of pretraining.

    Args:
        folder: of the corpus.
        evaluated: three stimuli of each class in each session, a segment of each.
        pretrained: as `corpora.write_corpus` makes them.
        n_subjects: of each dataset.
        n_segments: of each subject of pretraining.
    """
    made = [Made(name, n_segments=n_segments) for name in pretrained]
    made += [_evaluated(name) for name in evaluated]
    return write_corpus(folder, tuple(replace(one, n_subjects=n_subjects) for one in made))


def _evaluated(name: str) -> Made:
    classes = datasets.get(name).CARD.emotions
    return Made(
        name,
        channels=("Fz", "Cz", "Pz", "F3", "F4", "C3", "C4", "P3", "P4")[: len(classes)],
        segment_s=1.0,
        n_sessions=1 if name == "faced" else 3,
        n_segments=3 * len(classes),
        classes=classes,
        planted=1.0,
    )


def reproduction(corpus: Path, storage: Path, **changes: Any) -> Reproduction:
    """The paper on a small corpus, by settings of a small encoder."""
    fields = {
        "paper": published.load("emod"),
        "catalog": Catalog(str(corpus)),
        "storage": str(storage / "runs"),
        "datasets": ("faced",),
        "seeds": (0, 1),
        "set": SETTINGS,
        **changes,
    }
    return Reproduction(**fields)


def by_cell(plan: Sequence[CellRuns]) -> dict[tuple[str, str, str], CellRuns]:
    """Cells of a plan by row, dataset and protocol."""
    return {(cell.arm.row, cell.dataset, cell.protocol): cell for cell in plan}


def tiny_run(corpus: Path, dataset: str = "faced", **changes: Any) -> Run:
    """EMOD's classifier of a small encoder on the first of three folds."""
    found = Run(
        method="emod",
        stage="finetune",
        config=to_dict(TINY),
        corpus=str(corpus),
        builds=Catalog(str(corpus)).dataset(dataset).builds,
        target={"kind": "classes"},
        protocol="subjects_and_stimuli_apart",
        fold="1_of_3",
        chosen_by="kappa",
        code=code_of("emod", (dataset,), "score"),
    )
    return replace(found, **changes)


def row_of(run: Run, **changes: Any) -> ResultRow:
    """A row as if the run had been done."""
    asked = {name: part for name, part in run.to_key().items() if name in KEY_PARTS}
    (dataset,) = run.datasets
    return made_row(**{**asked, "dataset": dataset, **changes})
