"""Build a corpus from publishers' files, or check what a folder of them holds.

    python jobs/build_corpus.py --check DATA            what is there, against the cards
    python jobs/build_corpus.py DATA --out CORPUS       make what is missing of the corpus

DATA has one folder per dataset, named as its publisher does (DEAP, SEED_IV, ...). A build that was
ended, however it was, goes on where it stood; a finished one does nothing. It uses all CPUs of this
machine or, where its folders are the same on all nodes (--shared-storage), of the Ray cluster.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import tyro

from emoray import cluster
from emoray.config import load_toml
from emoray.corpus.build import BuildReport, OnError, build
from emoray.corpus.check import check
from emoray.corpus.tables import build_tables, check_tables, print_tables
from emoray.signals import Recipe
from emoray.storage import join


@dataclass(frozen=True)
class Options:
    """Build a corpus from publishers' files, or check what a folder of them holds."""

    root: tyro.conf.Positional[Path]
    """Folder that holds one folder per dataset, under its name or its publisher's."""
    out: str | None = None
    """The corpus: a folder, or a URI that pyarrow.fs opens (s3://bucket/corpus); without it
    `corpus` in $EMORAY_STORAGE, else in ~/emoray."""
    shared_storage: bool = False
    """DATA and the corpus are the same folders on all nodes (NFS and the like). Without it only
    the CPUs of this node are used."""
    address: str | None = None
    """Ray cluster, host:port; without it $RAY_ADDRESS, one running here, or a new one."""
    datasets: tuple[str, ...] = ()
    """Names, such as deap seed_iv; all that are in the folder without it."""
    on_error: OnError = "fail"
    """When a recording cannot be read: end the build, or leave it out and say so."""
    check: bool = False
    """Build nothing: say per dataset what was found, missing and unexpected."""
    quick: bool = False
    """With --check: look at names only and open no recording."""
    recipe_file: Path | None = None
    """TOML with fields of the recipe, among them `exceptions` for single datasets. Recipe options
    on the command line are then not allowed."""
    recipe: Recipe = field(default_factory=Recipe)
    """How recordings become segments. The defaults are the paper's."""


def main(options: Options) -> int:
    """Run; 0 when all went well, 1 when a dataset is incomplete or something is quarantined."""
    names = options.datasets or None
    here = not options.shared_storage
    if options.check:
        found = check(
            options.root,
            datasets=names,
            quick=options.quick,
            here=here,
            connect=partial(cluster.connect, address=options.address),
        )
        print_tables(check_tables(found))
        asked = [row for row in found.found if names or row.folder is not None]
        return 0 if asked and all(row.is_complete for row in asked) else 1
    report = build(
        options.root,
        options.out or join(cluster.storage_root(), "corpus"),
        recipe=_recipe(options),
        datasets=names,
        on_error=options.on_error,
        here=here,
        connect=partial(_connect, options),
    )
    print_tables(build_tables(report))
    print(f"{report.n_segments:,} segments in {report.out}; {_effort(report)}")
    return 1 if any(dataset.quarantined for dataset in report.datasets) else 0


def _connect(options: Options) -> None:
    """Join Ray, and refuse a corpus on one machine of several: training would not find it."""
    cluster.connect(address=options.address)
    cluster.storage_root(options.out, shared=options.shared_storage)


def _effort(report: BuildReport) -> str:
    if not report.n_built:
        return f"nothing was to be done, found out in {report.seconds:.1f} s"
    return (
        f"{report.n_built:,} recordings made in {report.seconds:.1f} s, "
        f"in at most {report.peak_task_bytes / 1e9:.1f} GB of memory a task"
    )


def _recipe(options: Options) -> Recipe:
    if options.recipe_file is None:
        return options.recipe
    if options.recipe != Recipe():
        raise ValueError("need either --recipe-file or recipe options, got both")
    return load_toml(Recipe, options.recipe_file)


if __name__ == "__main__":
    parsed = tyro.cli(
        Options,
        description=__doc__,
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
    )
    try:
        sys.exit(main(parsed))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
