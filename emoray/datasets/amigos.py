"""AMIGOS: 40 subjects, 16 short videos watched alone, EEG and ECG (Miranda-Correa et al. 2021).

Read from the preprocessed files: EEG 4-45 Hz with average reference, ECG below 60 Hz, both at
128 Hz. The four long videos (cells 17-20) are left to other work, as EMOD does.
Shapes: C = 14 electrodes, L = 2 ECG leads, T samples.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from emoray.datasets import _layout, _overlap
from emoray.datasets.formats import matlab
from emoray.vocabulary import electrodes
from emoray.vocabulary.schema import (
    Card,
    DataError,
    Dropped,
    EcgCard,
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
    channels=electrodes.EPOC_14,
    sfreq=128.0,
    unit="uV",
    sfreq_paper=128.0,
    sfreq_code=128.0,
)
ECG = EcgCard(leads=("right", "left"), sfreq=128.0, unit="arbitrary")
CARD = Card(
    name="amigos",
    title="AMIGOS",
    reference="Miranda-Correa et al., AMIGOS: A Dataset for Affect, Personality and Mood Research "
    "on Individuals and Groups, IEEE Trans. Affective Computing 12(2), 2021",
    layout="""AMIGOS/
Data_preprocessed/Data_Preprocessed_P01.mat .. P40.mat
Data_preprocessed/Data_Preprocessed_P01/Data_Preprocessed_P01.mat (as some archives unpack)""",
    n_subjects=40,
    n_recordings=40,
    n_presentations=16,
    eeg=EEG,
    segment_s=10.0,
    scale=Scale(1.0, 9.0),
    n_segments_paper=4389,
    n_segments_per_subject=133,
    ecg=ECG,
    clips=_overlap.NUMBERED_FILMS,
    notes="EMOD's 4389 = 33 x 133: its code leaves out subjects 9, 12, 21, 22, 23, 24 and 33. "
    "Here only the presentations are left out that lack samples or ratings, or hold NaN.",
)

_RATINGS = ("arousal", "valence", "dominance", "liking")
"""First columns of `labels_selfassessment`: arousal comes first."""
_N_LABELS = 12
"""The four above, familiarity, and seven marks for emotions."""
_N_COLUMNS = 17
"""14 EEG, ECG right, ECG left, skin conductance."""
_N_SIGNALS = 16
"""Columns that are read."""
_N_CELLS = 20
_REST_S = 5.0
_SHORT_VIDEOS = tuple("4 5 9 10 13 18 19 20 23 30 31 34 36 58 80 138".split())
_LONG_VIDEOS = ("N1", "P1", "B1", "U1")
_BESIDE = (
    r"Data_original/.*",
    r"Data_Original_P\d+\.mat",
    r"(?:SelfAsessment|Experiment_Data|External_Annotations|Video_List)\.\w+",
    r"Participant_\w+\.\w+",
    r"readme[^/]*",
)

_N_SEGMENTS = (8, 10, 7, 8, 6, 7, 11, 7, 10, 7, 13, 7, 7, 6, 9, 10)
"""Of the example's videos. Their true lengths are not published; these follow the number of
external annotations and give the 133 segments of 10 s that EMOD counts for a subject."""
_ODD_SAMPLES = 61
"""Added to each presentation of the example, so that none is a whole number of seconds."""
_EXAMPLE_SUBJECTS = (8, 9, *range(1, 8), *range(10, 41))
"""The two with gaps come first."""


def find(root: Path) -> Listing:
    """List the subjects' files.

    Raises:
        DataError: no file at all, or two for one subject.
    """
    found = (
        (match[1], path)
        for match, path in _layout.find_files(root, r"Data_Preprocessed_P(\d{2})\.mat")
    )
    files = _layout.one_each(root, found, what="subject")
    expected = [f"{n:02}" for n in range(1, CARD.n_subjects + 1)]
    refs = [
        RecordingRef(CARD.name, subject, "1", (_layout.relative(root, files[subject]),))
        for subject in expected
        if subject in files
    ]
    missing = _layout.missing_subjects(files, expected)
    return _layout.listing(CARD, root, refs, missing=missing, beside=_BESIDE)


def read(root: Path, ref: RecordingRef) -> Recording:
    """Read one subject: a stretch for each short video, which starts after 5 s of rest.

    A presentation without samples, without a complete self-assessment, or with NaN in either is
    left out and reported in `dropped`.

    Raises:
        DataError: truncated file, another video than the published ones, samples and columns
            exchanged, rating outside 1-9.
    """
    path = root / ref.files[0]
    cells: list[matlab.Part] = [("joined_data", i) for i in range(CARD.n_presentations)]
    ids, labels, *data = matlab.load_parts(
        path, [("VideoIDs",), ("labels_selfassessment",), *cells]
    )
    stretches: list[Stretch] = []
    presentations: list[Presentation] = []
    dropped: list[Dropped] = []
    for i, stimulus in enumerate(_stimuli(path, ids)):
        where = f"{path.name} presentation {i + 1} (video {stimulus})"
        row = _label_row(path, labels, i)
        if reason := _gap(data[i], row, where):
            dropped.append(Dropped("presentation", where, reason))
            continue
        stop_s = len(data[i]) / EEG.sfreq
        presentations.append(_presentation(i, stimulus, len(stretches), stop_s, row, where))
        stretches.append(_stretch(data[i]))
    return Recording(
        ref=ref,
        eeg_channels=EEG.channels,
        eeg_sfreq=EEG.sfreq,
        stretches=tuple(stretches),
        presentations=tuple(presentations),
        ecg_leads=ECG.leads,
        ecg_sfreq=ECG.sfreq,
        dropped=tuple(dropped),
    )


def _stimuli(path: Path, ids: Any) -> list[str]:
    """Names of the short videos in the order of the cells."""
    names = [str(np.ravel(name)[0]).strip("'\" ") for name in np.ravel(ids) if np.size(name)]
    short = names[: CARD.n_presentations]
    if sorted(short) != sorted(_SHORT_VIDEOS):
        raise DataError(
            f"{path} VideoIDs: need the 16 short videos {' '.join(_SHORT_VIDEOS)} first, "
            f"found {' '.join(short) or 'none'}"
        )
    return short


def _label_row(path: Path, labels: Any, i: int) -> FloatArray:
    """The numbers of one self-assessment; none where it is missing."""
    cells = np.ravel(labels)
    if cells.dtype != object or cells.size < CARD.n_presentations:
        raise DataError(
            f"{path} labels_selfassessment: need {_N_CELLS} cells, "
            f"found {cells.dtype} of shape {np.shape(labels)}"
        )
    where = f"{path} labels_selfassessment {i + 1}"
    row = _layout.check_shape(cells[i], (None, None), where=where, axes="1, ratings")
    return row.astype(np.float64).ravel()


def _gap(data_TK: FloatArray, labels: FloatArray, where: str) -> str:
    """Why a presentation must be left out; empty if it need not."""
    if data_TK.size == 0:
        return "no samples"
    _layout.check_shape(
        data_TK, (None, _N_COLUMNS), where=f"{where} joined_data", axes="samples, columns"
    )
    if len(data_TK) <= _REST_S * EEG.sfreq:
        return "no samples after the rest"
    if labels.size < _N_LABELS:
        return "no complete self-assessment"
    if np.isnan(labels).any():
        return "NaN in labels"
    if np.isnan(data_TK[:, :_N_SIGNALS]).any():
        return "NaN in signals"
    return ""


def _stretch(data_TK: FloatArray) -> Stretch:
    n_eeg = len(EEG.channels)
    return Stretch(
        _layout.signals(data_TK[:, :n_eeg].T), _layout.signals(data_TK[:, n_eeg:_N_SIGNALS].T)
    )


def _presentation(
    i: int, stimulus: str, stretch: int, stop_s: float, labels: FloatArray, where: str
) -> Presentation:
    assert CARD.scale is not None
    return Presentation(
        stimulus=stimulus,
        ordinal=i,
        stretch=stretch,
        start_s=_REST_S,
        stop_s=stop_s,
        ratings={
            name: _layout.check_rating(float(rating), CARD.scale, name=name, where=where)
            for name, rating in zip(_RATINGS, labels, strict=False)  # the rest are other marks
        },
    )


def write_example(
    root: Path, source: SignalSource, *, n_subjects: int, duration_s: float | None
) -> None:
    """Write one file a subject, P08 and P09 first.

    The traps: arousal before valence, the right ECG lead before the left, lengths that are no
    whole seconds, long videos that hold a constant; P08's long cells are empty, and four of P09's
    short ones lack samples, labels, or hold NaN in one of them.
    """
    folder = root / "Data_preprocessed"
    folder.mkdir(parents=True, exist_ok=True)
    for subject in _layout.example_subjects(CARD, n_subjects, of=_EXAMPLE_SUBJECTS):
        cells = _example_cells(source, subject, duration_s)
        if subject == 8:
            for i in range(CARD.n_presentations, _N_CELLS):
                cells["joined_data"][0, i] = np.zeros((0, 0))
                cells["labels_selfassessment"][0, i] = np.zeros((1, 0))
        if subject == 9:
            cells["joined_data"][0, 2][700, 3] = np.nan
            cells["joined_data"][0, 5] = np.zeros((0, 0))
            cells["labels_selfassessment"][0, 7] = np.zeros((1, 0))
            cells["labels_selfassessment"][0, 11][0, 1] = np.nan
        scipy.io.savemat(folder / f"Data_Preprocessed_P{subject:02}.mat", cells)


def _example_cells(source: SignalSource, subject: int, duration_s: float | None) -> dict[str, Any]:
    names = ("VideoIDs", "joined_data", "labels_selfassessment", "labels_ext_annotation")
    cells = {name: np.empty((1, _N_CELLS), dtype=object) for name in names}
    for i, video in enumerate((*_SHORT_VIDEOS, *_LONG_VIDEOS)):
        cells["VideoIDs"][0, i] = video
        cells["joined_data"][0, i] = np.ones((1280, _N_COLUMNS))
        cells["labels_selfassessment"][0, i] = np.ones((1, _N_LABELS))
        cells["labels_ext_annotation"][0, i] = np.ones((1, 3))
        if video in _SHORT_VIDEOS:
            seconds = duration_s or 10.0 * _N_SEGMENTS[i]
            data, labels = _example_presentation(source, subject, video, seconds)
            cells["joined_data"][0, i] = data
            cells["labels_selfassessment"][0, i] = labels
    return cells


def _example_presentation(
    source: SignalSource, subject: int, video: str, seconds: float
) -> tuple[FloatArray, FloatArray]:
    """Samples by columns, and the row of labels."""
    assert CARD.scale is not None
    va = source.rating(CARD.name, subject, video)
    ratings = _layout.to_scale(va, CARD.scale, integer=False)
    shown_s = seconds + _ODD_SAMPLES / EEG.sfreq
    parts = []
    for stimulus, length_s, point in (
        (f"rest before {video}", _REST_S, (0.0, 0.0)),
        (video, shown_s, va),
    ):
        eeg_CT = source.eeg(CARD.name, subject, stimulus, EEG.channels, EEG.sfreq, length_s, point)
        ecg_LT = source.ecg(
            CARD.name, subject, stimulus, len(ECG.leads), ECG.sfreq, length_s, point, EEG.sfreq
        )
        skin_1T = np.full((1, eeg_CT.shape[1]), 500.0)
        parts.append(np.concatenate((eeg_CT, ecg_LT, skin_1T)))
    labels = np.zeros((1, _N_LABELS))
    labels[0, :4] = (ratings[1], ratings[0], _layout.other_rating(ratings, CARD.scale), 5.0)
    labels[0, 4] = CARD.scale.low
    return np.concatenate(parts, axis=1).T, labels
