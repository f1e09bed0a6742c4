"""SEED-IV (Zheng et al. 2019): four emotions, 15 subjects, three sessions of other clips.

One recording per file; the folder's name is the session.
Shapes: C electrodes, T samples.
"""

from __future__ import annotations

from pathlib import Path

from emoray.datasets import _layout, _overlap, _seed_family
from emoray.vocabulary import affect, electrodes
from emoray.vocabulary.schema import (
    Card,
    EegCard,
    FloatArray,
    Listing,
    Recording,
    RecordingRef,
    SignalSource,
)

EEG = EegCard(
    channels=electrodes.SEED_62,
    sfreq=200.0,
    unit="uV",
    sfreq_paper=200.0,
    sfreq_code=200.0,
)
CARD = Card(
    name="seed_iv",
    title="SEED-IV",
    reference="Zheng et al., EmotionMeter: a multimodal framework for recognizing human "
    "emotions, IEEE T. Cybernetics 2019",
    layout="SEED_IV/\neeg_raw_data/{session}/{subject}_{yyyymmdd}.mat",
    n_subjects=15,
    n_recordings=45,
    n_presentations=24,
    eeg=EEG,
    segment_s=10.0,
    emotions=("neutral", "sadness", "fear", "joy"),
    n_segments_paper=14_655,
    n_segments_per_subject=977,
    people=_overlap.SEED_FAMILY,
    notes="The session is the folder's name; the days in the file names need not follow it. "
    "Each matrix holds 200 samples a second and one more, which is dropped (from EMOD's code). "
    "Lengths of the single clips are not published. Microvolts by their size.",
)

LABELS: dict[str, tuple[int, ...]] = {
    "1": (1, 2, 3, 0, 2, 0, 0, 1, 0, 1, 2, 1, 1, 1, 2, 3, 2, 2, 3, 3, 0, 3, 0, 3),
    "2": (2, 1, 3, 0, 0, 2, 0, 2, 3, 3, 2, 3, 2, 0, 1, 1, 2, 1, 0, 3, 0, 1, 3, 1),
    "3": (1, 2, 2, 1, 3, 3, 3, 1, 1, 2, 1, 0, 2, 3, 3, 0, 2, 3, 0, 0, 2, 0, 1, 0),
}
"""Class of each presentation by session: index into the card's emotions."""

_FILE = r"eeg_raw_data/([1-3])/(\d+)_(\d{8})\.mat"
_BESIDE = (
    r"(eeg_feature_smooth|eye_raw_data|eye_feature_smooth)/.*",
    r"Channel Order\.xlsx",
    r"ReadMe\.txt",
)


def find(root: Path) -> Listing:
    """List the recordings: one per subject and session.

    Raises:
        DataError: no recording at all, or a subject twice in a session's folder.
    """
    named = [
        (f"{int(match[2]):02d} session {match[1]}", path)
        for match, path in _layout.find_files(root, _FILE)
    ]
    files = _layout.one_each(root, named, what="subject")
    refs = [
        RecordingRef(CARD.name, key[:2], key[-1], (_layout.relative(root, path),))
        for key, path in files.items()
    ]
    subjects = range(1, CARD.n_subjects + 1)
    expected = [f"{subject:02d} session {session}" for subject in subjects for session in LABELS]
    missing = _layout.missing_subjects(files, expected)
    return _layout.listing(CARD, root, refs, missing=missing, beside=_BESIDE)


def read(root: Path, ref: RecordingRef) -> Recording:
    """Read one file: 24 matrices, each a stretch and a presentation.

    Raises:
        DataError: the file is truncated, lacks a matrix, or holds one of another shape.
    """
    path = root / ref.files[0]
    numbers = range(1, CARD.n_presentations + 1)
    variables = _seed_family.numbered_variables(path, r"_eeg(\d+)$", numbers)
    return _seed_family.read_recording(
        CARD,
        ref,
        path,
        variables=list(variables.values()),
        stimuli=[stimulus_name(ref.session, number) for number in numbers],
        labels=LABELS[ref.session],
    )


def stimulus_name(session: str, number: int) -> str:
    """`2-07`: every session has clips of its own."""
    return f"{session}-{number:02d}"


def example_seconds(session: str) -> list[int]:
    """Lengths for a full-size example, in whole seconds.

    The publisher gives none. EMOD's count is 977 segments of 10 s over 72 presentations: here
    41 of 14 segments and 31 of 13, and up to 9 s that fill none.
    """
    first = (int(session) - 1) * CARD.n_presentations
    return [
        10 * (14 if place < 41 else 13) + place * 7 % 10
        for place in range(first, first + CARD.n_presentations)
    ]


def write_example(
    root: Path, source: SignalSource, *, n_subjects: int, duration_s: float | None
) -> None:
    """Write files in which every second subject's second session is dated before the first.

    Matrices stand in the order of their names as text; the sample past the last second is 5 mV.
    """
    for subject in _layout.example_subjects(CARD, n_subjects):
        days = {"1": "20160518", "2": "20161125", "3": "20161126"}
        if subject % 2 == 0:
            days = {"1": "20150915", "2": "20150904", "3": "20151005"}
        for session, day in days.items():
            matrices = (
                (f"cz_eeg{number}", _matrix(source, subject, session, number, duration_s))
                for number in sorted(range(1, CARD.n_presentations + 1), key=str)
            )
            path = root / "eeg_raw_data" / session / f"{subject}_{day}.mat"
            _seed_family.write_mat(path, matrices)


def _matrix(
    source: SignalSource, subject: int, session: str, number: int, duration_s: float | None
) -> FloatArray:
    eeg_CT = source.eeg(
        CARD.name,
        subject,
        stimulus_name(session, number),
        EEG.channels,
        EEG.sfreq,
        duration_s or example_seconds(session)[number - 1],
        affect.place_emotion(CARD.emotions[LABELS[session][number - 1]]),
    )
    return _seed_family.with_last_sample(eeg_CT)
