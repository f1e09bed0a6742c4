"""What jobs may be asked: their options, known before torch and Ray are loaded.

A wrong option is refused, and `--help` answers, without the seconds that these take.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Annotated

import tyro

from emoray.signals import EcgRecipe, EegRecipe
from emoray.vocabulary.choices import FoldChoice, OnError, PretrainSeeds, is_named, short
from emoray.vocabulary.schema import Stream

# What several jobs share --------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where data and results lie."""

    corpus: str | None = None
    """Folder or URI of a corpus that jobs/build_corpus.py built; without it, rehearsal data."""
    storage: str | None = None
    """Folder or URI for results, runs and corpora; without it $EMORAY_STORAGE, else ~/emoray."""


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Which machines there are."""

    shared_storage: bool = False
    """The folders to work in are the same on all nodes (NFS and the like). Without it a build uses
    only the CPUs of this node."""
    address: str | None = None
    """Ray cluster, host:port; without it $RAY_ADDRESS, one running here, or a new one."""


@dataclass(frozen=True, kw_only=True)
class WorkerResources:
    """What each worker of a pretraining gets."""

    cpus_per_worker: float | None = None
    """CPU cores of a worker of a pretraining, each a thread; without it a fair share of what there
    is, or what a pretraining that goes on with as many workers had: threads decide the last bits of
    its numbers."""
    gpus_per_worker: float | None = None
    """GPUs of such a worker; 0 trains on CPUs, a fraction lets several share one. Without it one
    each where there are enough, or what a pretraining that goes on had."""


@dataclass(frozen=True)
class Where(WorkerResources, Cluster, Places):
    """Where data and results lie, and what runs get of the machines."""

    workers: int = 1
    """Workers of a run over the corpus (a pretraining), each with its share of every step."""
    workers_per_run: int = 1
    """Workers of a run on one fold, each with its share of every step."""
    cpus_per_run: float = 1.0
    """CPU cores of a worker of such a run."""
    gpus_per_run: float | None = None
    """GPUs of such a worker; a fraction lets several share one. Without it a quarter, where there
    are GPUs."""
    allow_contaminated: bool = False
    """Run although a pretraining has seen test subjects or stimuli; the table says so."""

    def __post_init__(self) -> None:
        if self.workers_per_run < 1:
            raise ValueError(f"need workers_per_run of 1 or more, got {self.workers_per_run}")
        if self.cpus_per_run <= 0:
            raise ValueError(f"need cpus_per_run > 0, got {self.cpus_per_run:g}")
        if self.gpus_per_run is not None and self.gpus_per_run < 0:
            raise ValueError(f"need gpus_per_run of 0 or more, got {self.gpus_per_run:g}")


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Which classifiers are trained and scored, and where."""

    where: Annotated[Where, tyro.conf.arg(name="")] = field(default_factory=Where)
    """Corpus, storage and cluster."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Of the runs."""
    folds: FoldChoice | None = None
    """`all` folds of a protocol for every seed, or `rotate`: seed i takes fold i, one run for each
    seed however many folds there are. Default: all; a rehearsal rotates."""
    dry_run: bool = False
    """List what is missing and how long it should take; run nothing."""


# The jobs -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Build(Cluster):
    """Build a corpus from publishers' files, or check what a folder of them holds."""

    root: tyro.conf.Positional[Path]
    """Folder that holds one folder per dataset, under its name or its publisher's."""
    out: str | None = None
    """The corpus: a folder, or a URI that pyarrow.fs opens (s3://bucket/corpus); without it
    `corpus` in $EMORAY_STORAGE, else in ~/emoray."""
    datasets: tuple[str, ...] = ()
    """Names, such as deap seed_iv; all that are in the folder without it."""
    streams: tuple[Stream, ...] = ()
    """Of `eeg` and `ecg`, those to build where a dataset has them; without it EEG, and ECG of a
    dataset that has nothing else."""
    paper: str | None = None
    """Build what reproduces this paper (`ssl_ecg`, `alignment`): its datasets and streams, by its
    recipes; options of recipes are then not allowed."""
    on_error: OnError = "fail"
    """When a recording cannot be read: end the build, or leave it out and say so."""
    check: bool = False
    """Build nothing: say per dataset what was found, missing and unexpected."""
    quick: bool = False
    """With --check: look at names only and open no recording."""
    recipe_file: Path | None = None
    """TOML with fields of the EEG's recipe, among them `exceptions` for single datasets. Its
    options on the command line are then not allowed."""
    recipe: Annotated[EegRecipe, tyro.conf.arg(name="")] = field(default_factory=EegRecipe)
    """How recordings become segments of EEG. The defaults are the paper's."""
    ecg: EcgRecipe = field(default_factory=EcgRecipe)
    """How they become segments of ECG."""

    def __post_init__(self) -> None:
        if self.paper is None:
            return
        _check_paper(self.paper)
        own = (self.recipe, self.ecg, self.recipe_file, self.streams)
        if own != (EegRecipe(), EcgRecipe(), None, ()):
            raise ValueError("need either --paper or streams and recipes, got both")


def papers() -> dict[str, tuple[str, ...]]:
    """Tables and figures of every method with a `paper.toml`, as they are asked for: `table3`,
    `table_dreamer`.

    Read here without a look at what they hold, so that a wrong name is refused at once.
    """
    files = sorted((resources.files("emoray") / "methods").iterdir(), key=lambda path: path.name)
    found = {path.name: path / "paper.toml" for path in files if (path / "paper.toml").is_file()}
    return {
        name: tuple(
            short(section)
            for section, content in tomllib.loads(file.read_text(encoding="utf-8")).items()
            if section.startswith(("table_", "figure_"))
            and any("reproduce" in row for row in content.get("rows", [content]))
        )
        for name, file in found.items()
    }


@dataclass(frozen=True)
class Finetune(Evaluation):
    """Train a method's classifier from a checkpoint and from scratch."""

    method: tyro.conf.Positional[str]
    """Whose: a method with a paper.toml, such as emod."""
    checkpoint: str | None = None
    """Name of a run in the storage, or folder or URI of a step-... of one; without it the network
    is trained from scratch only. Settings that follow from it, such as the encoder's size, are
    taken from there."""
    stage: str | None = None
    """The method's stage, where several tell classes."""
    start_as: str | None = None
    """What the stage calls the checkpoint, where it may start from several things."""
    datasets: tuple[str, ...] = ()
    """Datasets to evaluate on; all of the paper that the corpus has without it."""
    protocols: tuple[str, ...] = ()
    """Protocols by name; the paper's and the safe ones without it."""
    set: tuple[str, ...] = ()
    """Settings that differ from the paper's, as `finetune.epochs=10`."""

    def __post_init__(self) -> None:
        _check_paper(self.method)


def _check_paper(name: str) -> None:
    """Refuse what is no method with a paper.

    Raises:
        ValueError: the message lists those there are.
    """
    known = papers()
    if name not in known:
        raise ValueError(f"need a paper among {', '.join(known)}; got {name!r}")


@dataclass(frozen=True)
class Reproduce(Evaluation):
    """Reproduce a table or figure."""

    paper: tyro.conf.Positional[str]
    """Whose: a method with a paper.toml, such as emod."""
    table: tyro.conf.Positional[str]
    """Which one, as table3, table_dreamer or figure4."""
    datasets: tuple[str, ...] = ()
    """Datasets to evaluate on; all of the paper without it."""
    protocols: tuple[str, ...] = ()
    """Protocols by name. Default: the paper's and three safe ones; a rehearsal takes the paper's
    and the one that keeps both subjects and stimuli apart."""
    pretrain_seeds: PretrainSeeds = "one"
    """`one` pretraining for all seeds, as the paper tells, or one for `each`."""
    set: tuple[str, ...] = ()
    """Settings that differ from the paper's, as `finetune.epochs=10`, for all rows with that
    stage."""
    weights: tuple[str, ...] = ()
    """Published weights of baselines, as `labram=FILE` or `cbramod=OWNER/NAME` of a hub; without
    them a baseline starts from scratch and its row says so."""

    def __post_init__(self) -> None:
        _check_paper(self.paper)
        known = papers()
        if not any(is_named(table, self.table) for table in known[self.paper]):
            tables = ", ".join(known[self.paper])
            raise ValueError(f"need a table of {self.paper} among {tables}; got {self.table!r}")


@dataclass(frozen=True)
class Chain:
    """Train a method's stages once, to a classifier of one dataset."""

    where: Annotated[Where, tyro.conf.arg(name="")] = field(default_factory=Where)
    """Corpus, storage and cluster."""
    dataset: str | None = None
    """Of the corpus, by name; without it the first that the paper evaluates on and the corpus
    has."""
    target: str | None = None
    """What is told apart: a name of the paper's for that dataset (`arousal`), or with --above any
    rating of it, or `classes`, the publisher's. Default: the paper's first."""
    above: float | None = None
    """Cut the rating --target in two: above this, on the dataset's own scale, or not."""
    row: str | None = None
    """Another row of the paper's tables than the full method, by its name there: its stages run."""
    protocol: str = "subjects_apart_same_stimuli"
    """By which the segments are split; the default tests on people whom no stage has seen."""
    fold: str | None = None
    """Of the protocol, as 1_of_5; without it the first."""
    seed: int = 0
    """Of all stages."""
    set: tuple[str, ...] = ()
    """Settings that differ from the paper's, as `STAGE.epochs=10`."""
    name: str | None = None
    """Of the classifier's folder; without it made of what is asked for."""
    dry_run: bool = False
    """List what is missing and how long it should take; run nothing."""

    def __post_init__(self) -> None:
        if self.above is not None and self.target is None:
            raise ValueError("need --target, the rating to cut, beside --above; got none")
