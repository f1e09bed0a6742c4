"""SEED-VII (Jiang et al. 2024): seven emotions, 20 subjects, four sessions of 20 clips.

One file per subject; a recording is one session of it, and only its twenty matrices are read.
The raw `.cnt` files, whose names end in the session and which carry one ECG channel, are not
opened: the preprocessed release is what EMOD used.
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
    name="seed_vii",
    title="SEED-VII",
    reference="Jiang et al., SEED-VII: a multimodal dataset of six basic emotions with "
    "continuous labels for emotion recognition, IEEE T. Affective Computing 2024",
    layout="SEED-VII/\nEEG_preprocessed/{subject}.mat",
    n_subjects=20,
    n_recordings=80,
    n_presentations=20,
    eeg=EEG,
    segment_s=10.0,
    emotions=("joy", "neutral", "disgust", "sadness", "anger", "fear", "surprise"),
    n_segments_paper=27_340,
    n_segments_per_subject=1367,
    people=_overlap.SEED_FAMILY,
    notes="Variables '1' to '80' count over the sessions. 80 clips last 14,097.86 s in all; "
    "lengths of the single clips are not published. Bad channels were interpolated, 0.1-70 Hz "
    "and a 50 Hz notch applied. ECG is only in the raw files and not read.",
)

_PATTERNS: dict[str, tuple[int, ...]] = {
    "1": (0, 1, 2, 3, 4, 4, 3, 2, 1, 0),
    "2": (4, 3, 5, 1, 6, 6, 1, 5, 3, 4),
    "3": (0, 6, 2, 5, 4, 4, 5, 2, 6, 0),
    "4": (2, 3, 5, 6, 0, 0, 6, 5, 3, 2),
}
LABELS = {session: pattern * 2 for session, pattern in _PATTERNS.items()}
"""Class of each presentation by session (each pattern is played twice): index into the card's
emotions. 12 of each, 8 of neutral."""

_FILE = r"EEG_preprocessed/(\d+)\.mat"
_BESIDE = (
    r"(EEG_raw|EEG_features|EYE_raw|EYE_features|continuous_labels|save_info)/.*",
    r"(emotion_label_and_stimuli_order|Channel Order)\.xlsx",
    r"(subject info|readme).*",
)


def find(root: Path) -> Listing:
    """List the recordings: four per file, without opening it.

    Raises:
        DataError: no recording at all, or two files of a subject.
    """
    named = [(f"{int(match[1]):02d}", path) for match, path in _layout.find_files(root, _FILE)]
    files = _layout.one_each(root, named, what="subject")
    refs = [
        RecordingRef(CARD.name, subject, session, (_layout.relative(root, path),))
        for subject, path in files.items()
        for session in LABELS
    ]
    expected = [f"{subject:02d}" for subject in range(1, CARD.n_subjects + 1)]
    missing = _layout.missing_subjects(files, expected)
    return _layout.listing(CARD, root, refs, missing=missing, beside=_BESIDE)


def read(root: Path, ref: RecordingRef) -> Recording:
    """Read one session: 20 of the subject's 80 matrices, each a stretch and a presentation.

    Raises:
        DataError: the file is truncated, lacks a matrix, or holds one of another shape.
    """
    path = root / ref.files[0]
    variables = _seed_family.numbered_variables(path, r"^(\d+)$", range(1, 81))
    numbers = range(1, CARD.n_presentations + 1)
    return _seed_family.read_recording(
        CARD,
        ref,
        path,
        variables=[variables[global_number(ref.session, number)] for number in numbers],
        stimuli=[stimulus_name(ref.session, number) for number in numbers],
        labels=LABELS[ref.session],
    )


def global_number(session: str, number: int) -> int:
    """Variable of a session's presentation, both from 1: the sessions count on to 80."""
    return (int(session) - 1) * CARD.n_presentations + number


def stimulus_name(session: str, number: int) -> str:
    """`2-07`: every session has clips of its own."""
    return f"{session}-{number:02d}"


def example_seconds(session: str) -> list[int]:
    """Lengths for a full-size example, in whole seconds.

    The publisher gives only the sum, 14,097.86 s, and EMOD's count is 1367 segments of 10 s:
    here 7 of 18 segments and 73 of 17, and 28 x 6 s + 52 x 5 s that fill none (14,098 s).
    """
    return [
        10 * (18 if number <= 7 else 17) + (6 if number <= 28 else 5)
        for number in (global_number(session, k) for k in range(1, CARD.n_presentations + 1))
    ]


def write_example(
    root: Path, source: SignalSource, *, n_subjects: int, duration_s: float | None
) -> None:
    """Write files whose 80 matrices stand in no order, beside a raw file that is not read.

    A reader that takes them as they come pairs every one with another's emotion.
    """
    raw = root / "EEG_raw" / "1_20221001_2.cnt"
    raw.parent.mkdir(parents=True, exist_ok=True)
    raw.write_bytes(b"not read")
    for subject in _layout.example_subjects(CARD, n_subjects):
        # 27 shares no factor with 80, so this visits every place once.
        places = (place * 27 % 80 for place in range(80))
        matrices = (
            (str(place + 1), _matrix(source, subject, place, duration_s)) for place in places
        )
        _seed_family.write_mat(root / "EEG_preprocessed" / f"{subject}.mat", matrices)


def _matrix(source: SignalSource, subject: int, place: int, duration_s: float | None) -> FloatArray:
    session, k = str(place // CARD.n_presentations + 1), place % CARD.n_presentations
    return source.eeg(
        CARD.name,
        subject,
        stimulus_name(session, k + 1),
        EEG.channels,
        EEG.sfreq,
        duration_s or example_seconds(session)[k],
        affect.place_emotion(CARD.emotions[LABELS[session][k]]),
    )
