"""DEAP: 32 subjects, 40 music videos of one minute, ratings by the subjects (Koelstra et al. 2012).

Read from the preprocessed files, Python's or else MATLAB's: 128 Hz, 4-45 Hz, average reference,
presentations already in the order of `Experiment_id`, hence alike for all subjects.
Shapes: C = 32 electrodes, T samples.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from emoray.datasets import _layout
from emoray.datasets.formats import matlab, plain_pickle
from emoray.vocabulary import electrodes
from emoray.vocabulary.schema import (
    Card,
    DataError,
    EegCard,
    FloatArray,
    Listing,
    Presentation,
    Recording,
    RecordingRef,
    Scale,
    SignalSource,
    Stretch,
)

EEG = EegCard(
    channels=electrodes.GENEVA_32,
    sfreq=128.0,
    unit="uV",
    sfreq_paper=128.0,
    sfreq_code=128.0,
)
CARD = Card(
    name="deap",
    title="DEAP",
    reference="Koelstra et al., DEAP: A Database for Emotion Analysis using Physiological Signals, "
    "IEEE Trans. Affective Computing 3(1), 2012",
    layout="""DEAP/
data_preprocessed_python/s01.dat .. s32.dat
data_preprocessed_matlab/s01.mat .. s32.mat (for subjects without a .dat)""",
    n_subjects=32,
    n_recordings=32,
    n_presentations=40,
    eeg=EEG,
    segment_s=10.0,
    scale=Scale(1.0, 9.0),
    n_segments_paper=3840,
    n_segments_per_subject=240,
    notes="EMOD counts 3840 = 32 x 40 x 3 because its code stops after 30 of the 60 seconds, and "
    "takes the second column for valence; here all 60 seconds and the published columns.",
)

_RATINGS = ("valence", "arousal", "dominance", "liking")
"""Columns of `labels`, by the publisher's readme."""
_N_CHANNELS = 40
"""32 EEG, then 2 EOG, 2 EMG, skin, breath, pulse, temperature; no ECG."""
_REST_S = 3.0
_PRESENTATION_S = 60.0
_N_SAMPLES = 8064
"""(3 + 60) s x 128 Hz."""
_N_SHOWN = round(_PRESENTATION_S * EEG.sfreq)
REST_MARKER = 50.0
"""Microvolts in the 3 s before each presentation of the example."""
_BESIDE = (
    r"data_preprocessed_matlab/s\d+\.mat",
    r"(?:face_video|data_original)/.*",
    r"(?:metadata.*/)?(?:Online_ratings|Video_list|Participant_\w+)\.\w+",
    r"readme[^/]*",
)


def find(root: Path) -> Listing:
    """List the subjects' files; a `.dat` goes before a `.mat` of the same subject.

    Raises:
        DataError: no file at all, or two of the same kind for one subject.
    """
    files: dict[str, Path] = {}
    for pattern in (r"s(\d{2})\.mat", r"s(\d{2})\.dat"):
        found = ((m[1], path) for m, path in _layout.find_files(root, pattern))
        files |= _layout.one_each(root, found, what="subject")
    expected = [f"{n:02}" for n in range(1, CARD.n_subjects + 1)]
    refs = [
        RecordingRef(CARD.name, subject, "1", (_layout.relative(root, files[subject]),))
        for subject in expected
        if subject in files
    ]
    missing = _layout.missing_subjects(files, expected)
    return _layout.listing(CARD, root, refs, missing=missing, beside=_BESIDE)


def read(root: Path, ref: RecordingRef) -> Recording:
    """Read one subject: 40 stretches of 63 s, each shown from its fourth second on.

    Raises:
        DataError: truncated file, refused pickle, wrong shape, rating outside 1-9.
    """
    path = root / ref.files[0]
    data, labels = _arrays(path)
    data = _layout.check_shape(
        data,
        (CARD.n_presentations, _N_CHANNELS, _N_SAMPLES),
        where=f"{path} data",
        axes="presentations, channels, samples",
    )
    labels = _layout.check_shape(
        labels,
        (CARD.n_presentations, len(_RATINGS)),
        where=f"{path} labels",
        axes="presentations, ratings",
    )
    presentations = tuple(
        _presentation(i, row, f"{path.name} presentation {i + 1}") for i, row in enumerate(labels)
    )
    n_eeg = len(EEG.channels)
    return Recording(
        ref=ref,
        eeg_channels=EEG.channels,
        eeg_sfreq=EEG.sfreq,
        stretches=tuple(Stretch(_layout.signals(x_CT[:n_eeg])) for x_CT in data),
        presentations=presentations,
    )


def _arrays(path: Path) -> tuple[Any, Any]:
    names = ["data", "labels"]
    if path.suffix.lower() == ".mat":
        content: Any = matlab.load(path, names)
    else:
        content = plain_pickle.load_arrays(path)
    if not isinstance(content, dict) or not set(names) <= set(content):
        found = list(content) if isinstance(content, dict) else type(content).__name__
        raise DataError(f"{path}: need a dictionary with data and labels, found {found}")
    return content["data"], content["labels"]


def _presentation(i: int, labels: FloatArray, where: str) -> Presentation:
    assert CARD.scale is not None
    return Presentation(
        stimulus=f"{i + 1:02}",
        ordinal=i,
        stretch=i,
        start_s=_REST_S,
        stop_s=_REST_S + _PRESENTATION_S,
        ratings={
            name: _layout.check_rating(float(rating), CARD.scale, name=name, where=where)
            for name, rating in zip(_RATINGS, labels, strict=True)
        },
    )


def write_example(
    root: Path, source: SignalSource, *, n_subjects: int, duration_s: float | None
) -> None:
    """Write `.dat` files as Python 2 wrote them; 103 MB a subject.

    The trap: a constant fills the 3 s before each presentation and the eight channels after the
    EEG, and the second column is arousal. The constant before a presentation is the same on all
    electrodes, so the average reference removes it. `duration_s` is ignored: the layout fixes
    8064 samples.
    """
    folder = root / "data_preprocessed_python"
    folder.mkdir(parents=True, exist_ok=True)
    for subject in _layout.example_subjects(CARD, n_subjects):
        data = np.full((CARD.n_presentations, _N_CHANNELS, _N_SAMPLES), REST_MARKER)
        labels = np.zeros((CARD.n_presentations, len(_RATINGS)))
        for i in range(CARD.n_presentations):
            labels[i], data[i, : len(EEG.channels), -_N_SHOWN:] = _example_presentation(
                source, subject, f"{i + 1:02}"
            )
        plain_pickle.dump_python2(folder / f"s{subject:02}.dat", {"data": data, "labels": labels})


def _example_presentation(
    source: SignalSource, subject: int, stimulus: str
) -> tuple[tuple[float, ...], FloatArray]:
    """A row of labels, and the EEG of the 60 s that were shown."""
    assert CARD.scale is not None
    va = source.rating(CARD.name, subject, stimulus)
    ratings = _layout.to_scale(va, CARD.scale, integer=False)
    x_CT = source.eeg(CARD.name, subject, stimulus, EEG.channels, EEG.sfreq, _PRESENTATION_S, va)
    third = _layout.other_rating(ratings, CARD.scale)
    return (*ratings, third, CARD.scale.low), x_CT
