"""Building a corpus, or checking what a folder of datasets holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from emoray.corpus.build.build import BuildReport, build
from emoray.corpus.build.check import check
from emoray.corpus.build.release_folders import choose_folders
from emoray.corpus.build.tables import build_tables, check_tables, print_tables
from emoray.experiments.builds import builds_of
from emoray.experiments.options import Build
from emoray.results import published
from emoray.runtime import cluster
from emoray.runtime.config import load_toml
from emoray.runtime.storage import join
from emoray.signals import EcgRecipe, EegRecipe
from emoray.vocabulary.schema import DataError, Stream


def run(options: Build) -> int:
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
        print_tables(check_tables(found, published.load("emod").pretraining))
        asked = [row for row in found.found if names or row.folder is not None]
        return 0 if asked and all(row.is_complete for row in asked) else 1
    quarantined = False
    for asked_for in _asked(options):
        report = build(
            options.root,
            options.out or join(cluster.storage_root(), "corpus"),
            recipe=asked_for.eeg,
            ecg=asked_for.ecg,
            streams=asked_for.streams,
            datasets=asked_for.datasets,
            on_error=options.on_error,
            here=here,
            connect=partial(_connect, options),
        )
        print_tables(build_tables(report))
        print(f"{report.n_segments:,} segments in {report.out}; {_effort(report)}")
        quarantined |= any(dataset.quarantined for dataset in report.datasets)
    return 1 if quarantined else 0


@dataclass(frozen=True)
class _Asked:
    """One call of `build`."""

    datasets: Sequence[str] | None
    streams: Sequence[Stream] | None
    eeg: EegRecipe | None
    ecg: EcgRecipe | None


def _asked(options: Build) -> list[_Asked]:
    """What is to be built: as the options say, or what a paper reads of the datasets there are.

    Raises:
        DataError: the folder holds none of them, or not all that were named.
        ValueError: the paper does not read a dataset that was named.
    """
    names, streams = options.datasets or None, options.streams or None
    if options.paper is None:
        return [_Asked(names, streams, _recipe(options), options.ecg)]
    read = builds_of(published.load(options.paper))
    known = sorted(set().union(*read.values()))
    if unread := sorted(set(options.datasets) - set(known)):
        raise ValueError(
            f"need datasets that {options.paper} reads ({', '.join(known)}), "
            f"got {', '.join(unread)}"
        )
    there = choose_folders(options.root, options.datasets or None)
    found = [
        _Asked(kept, built.streams, built.eeg, built.ecg)
        for built, of_paper in read.items()
        if (kept := sorted(of_paper & set(there)))
    ]
    if not found:
        raise DataError(
            f"{options.root}: need one of {', '.join(known)} for {options.paper}, "
            f"got {', '.join(there)}"
        )
    return found


def _connect(options: Build) -> None:
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


def _recipe(options: Build) -> EegRecipe:
    if options.recipe_file is None:
        return options.recipe
    if options.recipe != EegRecipe():
        raise ValueError("need either --recipe-file or recipe options, got both")
    return load_toml(EegRecipe, options.recipe_file)
