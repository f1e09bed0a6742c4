"""FACED (Chen et al. 2023): nine emotions, 123 subjects, the last 30 s of 28 film clips.

One recording per subject, from the publisher's processed pickles.
Shapes: C electrodes, T samples.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np

from emoray import affect
from emoray.datasets import _layout, _pickle, _shared
from emoray.schema import (
    Card,
    FloatArray,
    Listing,
    Presentation,
    Recording,
    RecordingRef,
    SignalSource,
    Stretch,
)

CARD = Card(
    name="faced",
    title="FACED",
    reference="Chen et al., A large finer-grained affective computing EEG dataset, "
    "Scientific Data 10:740, 2023",
    role="evaluation",
    layout="FACED/\nProcessed_data/sub{nnn}.pkl",
    n_subjects=123,
    n_recordings=123,
    n_presentations=28,
    eeg_channels=tuple(
        """
        Fp1 Fp2 Fz F3 F4 F7 F8 FC1 FC2 FC5 FC6 Cz C3 C4 T7 T8 CP1 CP2 CP5 CP6 Pz P3 P4 P7 P8 PO3
        PO4 Oz O1 O2
        """.split()
    ),
    eeg_sfreq=250.0,
    eeg_unit="uV",
    sfreq_paper=200.0,
    sfreq_code=250.0,
    segment_s=10.0,
    emotions=(
        *("anger", "disgust", "fear", "sadness", "neutral"),
        *("amusement", "inspiration", "joy", "tenderness"),
    ),
    n_segments_paper=10_332,
    n_segments_per_subject=84,
    people=_shared.TSINGHUA,
    notes="The files hold 32 channels, of which the last two are not scalp: EMOD calls them A1 "
    "and A2, others A2 and A1, and two readers that checked the publisher's table HEOR and HEOL. "
    "They are dropped; EMOD and CBraMod keep all 32. EMOD's paper says resampled to 200 Hz, its "
    "code leaves 250 Hz. Already filtered 0.05-47 Hz, cleaned by ICA and average-referenced.",
)

LABELS = tuple(label for label in range(9) for _ in range(4 if label == 4 else 3))
"""Class of each video by its index: index into the card's emotions."""

SHAPE = (28, 32, 7500)
"""Videos in the order of their index (not as shown), channels, samples of 30 s."""

_FILE = r"Processed_data/sub(\d{3})\.pkl(?:\.pkl)?"
_BESIDE = (
    r"(Data|EEG_Features)/.*",
    r"(Task_event|Stimuli_info|Electrode_Location|DataStructureOfBehaviouralData)\.xlsx",
    r"Recording_info\.csv",
    r"(Dataset_description|readme)\.(md|txt)",
)


def find(root: Path) -> Listing:
    """List the recordings: one per subject.

    Raises:
        DataError: no recording at all, or `sub000.pkl` beside `sub000.pkl.pkl`.
    """
    named = [(match[1], path) for match, path in _layout.find_files(root, _FILE)]
    files = _layout.one_each(root, named, what="subject")
    refs = [
        RecordingRef(CARD.name, subject, "1", (_layout.relative(root, path),))
        for subject, path in files.items()
    ]
    missing = _layout.missing_subjects(files, [f"{k:03d}" for k in range(CARD.n_subjects)])
    return _layout.listing(CARD, root, refs, missing=missing, beside=_BESIDE)


def read(root: Path, ref: RecordingRef) -> Recording:
    """Read one subject: 28 videos, each a stretch and a presentation of 30 s.

    Raises:
        DataError: the pickle is truncated, asks for anything but an array, or holds one of
            another shape.
    """
    path = root / ref.files[0]
    eeg_VCT = _layout.check_shape(
        _pickle.load_arrays(path), SHAPE, where=str(path), axes="videos, channels, samples"
    )
    n_scalp = len(CARD.eeg_channels)
    return Recording(
        ref=ref,
        eeg_channels=CARD.eeg_channels,
        eeg_sfreq=CARD.eeg_sfreq,
        stretches=tuple(Stretch(_layout.signals(eeg_CT[:n_scalp])) for eeg_CT in eeg_VCT),
        presentations=tuple(
            Presentation(
                stimulus=f"{k + 1:02d}",
                ordinal=k,
                stretch=k,
                start_s=0.0,
                stop_s=SHAPE[2] / CARD.eeg_sfreq,
                emotion=CARD.emotions[label],
                label=label,
            )
            for k, label in enumerate(LABELS)
        ),
    )


def write_example(
    root: Path, source: SignalSource, *, n_subjects: int, duration_s: float | None
) -> None:
    """Write bare float64 arrays, every second file under the doubled ending.

    The layout fixes 30 s, so `duration_s` is not used. The two channels that are not scalp hold
    5 mV.
    """
    folder = root / "Processed_data"
    folder.mkdir(parents=True, exist_ok=True)
    for subject in _layout.example_subjects(CARD, n_subjects, of=range(CARD.n_subjects)):
        ending = ".pkl.pkl" if subject % 2 else ".pkl"
        with (folder / f"sub{subject:03d}{ending}").open("wb") as file:
            pickle.dump(_subject(source, subject), file, protocol=4)


def _subject(source: SignalSource, subject: int) -> FloatArray:
    eeg_VCT = np.full(SHAPE, 5000.0)
    for k, label in enumerate(LABELS):
        eeg_VCT[k, : len(CARD.eeg_channels)] = source.eeg(
            CARD.name,
            subject,
            f"{k + 1:02d}",
            CARD.eeg_channels,
            CARD.eeg_sfreq,
            SHAPE[2] / CARD.eeg_sfreq,
            affect.place_emotion(CARD.emotions[label]),
        )
    return eeg_VCT
