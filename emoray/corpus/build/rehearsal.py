"""The rehearsal corpus: example releases written, read and cleaned like real ones, once.

Releases lie in a folder of this machine, the corpus where all workers see it; both are kept, and
asking again takes a second.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from emoray.corpus.build.build import BuildReport, build
from emoray.corpus.manifest import parse_folder
from emoray.rehearsal.release import stale_releases, write_release
from emoray.runtime import cluster
from emoray.runtime.storage import Storage, join, last_part
from emoray.signals import EcgRecipe, EegRecipe
from emoray.vocabulary.schema import Stream

N_SUBJECTS = 3
"""Of each dataset: two to learn from and one to hold out."""
DURATION_S = 11.0
"""Of a presentation, where a layout leaves it free: one segment and a second to spare."""
SEED = 1
"""Of the rehearsal world. World 0 is the one that its strengths were tuned on."""


def rehearsal_corpus(
    raw: Path,
    out: str,
    *,
    datasets: Sequence[str],
    n_subjects: int = N_SUBJECTS,
    duration_s: float = DURATION_S,
    recipe: EegRecipe | None = None,
    ecg: EcgRecipe | None = None,
    streams: Sequence[Stream] | None = None,
    progress: bool = True,
) -> BuildReport:
    """Write rehearsal releases in the publishers' formats and build a corpus from them.

    Args:
        raw: folder on this machine for the releases, about 1 GB.
        out: folder or URI of the corpus. Builds of the same streams of the same datasets by other
            recipes or other versions of the code are removed there: rehearsal data need no history.
        datasets: names.
        n_subjects: of each dataset.
        duration_s: of a presentation, where the layout leaves it free.
        recipe: as in `build`.
        ecg: as in `build`.
        streams: as in `build`.
        progress: show the build's.

    Returns:
        What the build did.
    """
    stale = stale_releases(
        raw, datasets=datasets, n_subjects=n_subjects, seed=SEED, duration_s=duration_s
    )
    if stale:  # processes take seconds to start
        _write_all(raw, stale, n_subjects, duration_s)
    report = build(
        raw,
        out,
        recipe=recipe,
        ecg=ecg,
        streams=streams,
        datasets=datasets,
        progress=progress,
        here=True,
    )
    _remove_others(Storage.at(out), report)
    return report


def rehearsal_folders(storage: str, paper: str) -> tuple[Path, str]:
    """Where a paper's rehearsal lies: releases on this machine, and the corpus.

    One for each paper: another would want other people and other recipes of the same datasets.
    """
    raw = cluster.local_folder(storage) / "rehearsal" / paper / "raw"
    return raw, join(storage, "rehearsal", paper, "corpus")


def _write_all(raw: Path, names: Sequence[str], n_subjects: int, duration_s: float) -> None:
    # New processes rather than forks: numpy and Ray may already run threads here.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(len(names), os.cpu_count() or 1), mp_context=context) as workers:
        waiting = [workers.submit(_write, raw, name, n_subjects, duration_s) for name in names]
        for done in waiting:
            done.result()


def _remove_others(corpus: Storage, report: BuildReport) -> None:
    current = {last_part(dataset.folder) for dataset in report.datasets}
    made = {(dataset.name, dataset.stream) for dataset in report.datasets}
    for folder in corpus.folders():
        found = parse_folder(folder)
        if found and folder not in current and (found.dataset, found.stream) in made:
            corpus.filesystem.delete_dir(corpus.path(folder))


def _write(raw: Path, name: str, n_subjects: int, duration_s: float) -> None:
    write_release(raw, datasets=[name], n_subjects=n_subjects, seed=SEED, duration_s=duration_s)
