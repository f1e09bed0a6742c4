"""A throw-away dataset of ECG alone, in one file outside the package.

Its file is all that there is of it: `known` puts the file's folder beside the registry's own, here
and in every process that starts meanwhile (jobs, Ray's workers).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from emoray import datasets
from emoray.rehearsal.release import write_release

NAME = "chest"
LEADS, SFREQ, SEGMENT_S = ("I", "II"), 250.0, 10.0
N_SUBJECTS, N_CLIPS = 4, 6

DATASET = '''
"""CHEST: a made-up dataset, two leads of ECG of people who watch clips and rate them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from emoray.datasets import _layout
from emoray.vocabulary.schema import (
    Card, DataError, EcgCard, Listing, Presentation, Recording, RecordingRef, Scale, SignalSource,
    Stretch,
)

ECG = EcgCard(leads=("I", "II"), sfreq=250.0, unit="arbitrary")
SCALE = Scale(1.0, 9.0)
CARD = Card(
    name="chest",
    title="CHEST",
    reference="nobody",
    layout="CHEST/\\ns{nn}.npz",
    n_subjects=4,
    n_recordings=4,
    n_presentations=6,
    ecg=ECG,
    segment_s=10.0,
    scale=SCALE,
)
_RATINGS = ("valence", "arousal", "dominance")


def find(root: Path) -> Listing:
    """List the subjects, a file each."""
    found = [(match[1], path) for match, path in _layout.find_files(root, r"s(\\d\\d)\\.npz")]
    paths = _layout.one_each(root, found, what="subject")
    refs = [
        RecordingRef(CARD.name, subject, "1", (_layout.relative(root, path),))
        for subject, path in paths.items()
    ]
    expected = [f"{n:02}" for n in range(1, CARD.n_subjects + 1)]
    missing = _layout.missing_subjects(paths, expected)
    return _layout.listing(CARD, root, refs, missing=missing)


def read(root: Path, ref: RecordingRef) -> Recording:
    """Read one subject: a stretch for each clip."""
    path = root / ref.files[0]
    try:
        with np.load(path) as file:
            ecg_PLT, ratings_P3 = file["ecg"], file["ratings"]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path}: need an archive of arrays, found {error}") from error
    axes = "presentations, leads, samples"
    _layout.check_shape(ecg_PLT, (None, len(ECG.leads), None), where=f"{path}", axes=axes)
    return Recording(
        ref=ref,
        stretches=tuple(Stretch(ecg_LT=_layout.signals(x_LT)) for x_LT in ecg_PLT),
        presentations=tuple(
            Presentation(
                stimulus=f"{p + 1:02}",
                ordinal=p,
                stretch=p,
                start_s=0.0,
                stop_s=ecg_PLT.shape[2] / ECG.sfreq,
                ratings={
                    name: _layout.check_rating(rating, SCALE, name=name, where=f"{path} {p}")
                    for name, rating in zip(_RATINGS, ratings_3, strict=True)
                },
            )
            for p, ratings_3 in enumerate(ratings_P3)
        ),
        ecg_leads=ECG.leads,
        ecg_sfreq=ECG.sfreq,
    )


def write_example(
    root: Path, source: SignalSource, *, n_subjects: int, duration_s: float | None
) -> None:
    """Write a release, half a minute a clip unless said otherwise."""
    root.mkdir(parents=True, exist_ok=True)
    seconds = duration_s or 30.0
    for subject in _layout.example_subjects(CARD, n_subjects):
        clips = [f"{n:02}" for n in range(1, CARD.n_presentations + 1)]
        va = [source.rating(CARD.name, subject, clip) for clip in clips]
        rated = [_layout.to_scale(point, SCALE, integer=True) for point in va]
        ecg = [
            source.ecg(
                CARD.name, subject, clip, len(ECG.leads), ECG.sfreq, seconds,
                _layout.from_scale(pair, SCALE),
            )
            for clip, pair in zip(clips, rated, strict=True)
        ]
        ratings = [(*pair, _layout.other_rating(pair, SCALE)) for pair in rated]
        np.savez(root / f"s{subject:02}.npz", ecg=np.array(ecg), ratings=np.array(ratings, float))
'''
"""The dataset's file."""

_AT_START = """
import emoray.datasets
emoray.datasets.__path__.append({folder!r})
"""
"""What Python runs first in a process that has its folder on PYTHONPATH."""


@contextmanager
def known(folder: Path) -> Iterator[None]:
    """Write the dataset's file; the registry knows it until the end, here and in new processes.

    Ray's workers know it where Ray is started meanwhile.

    Args:
        folder: an empty one, to be left alone until the end.
    """
    own, start = folder / "datasets", folder / "start"
    own.mkdir(parents=True)
    start.mkdir()
    (own / f"{NAME}.py").write_text(DATASET)
    (start / "sitecustomize.py").write_text(_AT_START.format(folder=str(own)))
    before = os.environ.get("PYTHONPATH")
    paths = [str(start), str(Path(__file__).parents[1]), *([before] if before else [])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    datasets.__path__.append(str(own))
    try:
        yield
    finally:
        datasets.__path__.remove(str(own))
        sys.modules.pop(f"{datasets.__name__}.{NAME}", None)
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def write_example(root: Path, *, duration_s: float = 21.0) -> Path:
    """A whole release of it among the datasets of `root`: rehearsal data, two segments a clip."""
    write_release(root, datasets=[NAME], n_subjects=N_SUBJECTS, seed=0, duration_s=duration_s)
    return root / NAME
