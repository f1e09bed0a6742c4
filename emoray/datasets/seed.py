"""SEED (Zheng & Lu 2015): negative, neutral and positive film clips, 15 subjects, three visits.

One recording per file and visit; the same fifteen clips are shown at each visit.
Shapes: C electrodes, T samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import scipy.io

from emoray.datasets import _layout, _overlap, _seed_family
from emoray.datasets.formats import matlab
from emoray.vocabulary import electrodes
from emoray.vocabulary.schema import (
    Card,
    DataError,
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
    name="seed",
    title="SEED",
    reference="Zheng & Lu, Investigating critical frequency bands and channels for EEG-based "
    "emotion recognition with deep neural networks, IEEE TAMD 2015",
    layout="SEED/\nPreprocessed_EEG/{subject}_{yyyymmdd}.mat\nPreprocessed_EEG/label.mat",
    n_subjects=15,
    n_recordings=45,
    n_presentations=15,
    eeg=EEG,
    segment_s=5.0,
    # Classes of approval, not emotions: EMOD gives them no valence and arousal.
    emotions=("negative", "neutral", "positive"),
    n_segments_paper=30_375,
    n_segments_per_subject=2025,
    people=_overlap.SEED_FAMILY,
    notes="The clips are the same at all three visits. Each matrix holds 200 samples a second and "
    "one more, which is dropped. Microvolts by their size; the publisher does not say.",
)

SECONDS = (235, 233, 206, 238, 185, 195, 237, 216, 265, 237, 235, 233, 235, 238, 206)
"""Length of each clip."""

LABELS = (1, 0, -1, -1, 0, 1, -1, 0, 1, 1, 0, -1, 0, 1, -1)
"""What `label.mat` must hold: negative, neutral, positive as -1, 0, 1."""

DATES: dict[str, tuple[str, str, str]] = {
    "01": ("20131027", "20131030", "20131107"),
    "02": ("20140404", "20140413", "20140419"),
    "03": ("20140603", "20140611", "20140629"),
    "04": ("20140621", "20140702", "20140705"),
    "05": ("20140411", "20140418", "20140506"),
    "06": ("20130712", "20131016", "20131113"),
    "07": ("20131027", "20131030", "20131106"),
    "08": ("20140511", "20140514", "20140521"),
    "09": ("20140620", "20140627", "20140704"),
    "10": ("20131130", "20131204", "20131211"),
    "11": ("20140618", "20140625", "20140630"),
    "12": ("20131127", "20131201", "20131207"),
    "13": ("20140527", "20140603", "20140610"),
    "14": ("20140601", "20140615", "20140627"),
    "15": ("20130709", "20131016", "20131105"),
}
"""Days of the three visits of each subject, in order."""

PLANTED = ((-3.6, 2.4), (0.0, -2.8), (3.6, 2.4))
"""Valence and arousal that an example's signals follow, by class. Further apart than sadness, the
origin and joy (2 to 4 units): two people on five clips must be enough to learn them from, which is
what a rehearsal of `subjects_and_stimuli_apart` trains on."""

_FOLDER = "Preprocessed_EEG"
_LABEL_FILE = "label.mat"
_FILE = rf"{_FOLDER}/(\d+)_(\d{{8}})\.mat"
_BESIDE = (
    r"(ExtractedFeatures(_1s)?|SEED_RAW_EEG|SEED_Multimodal)/.*",
    r"channel-order\.xlsx",
    r"readme\.(txt|md)",
)


def find(root: Path) -> Listing:
    """List the recordings: one per subject and visit, visits in the order of their days.

    Raises:
        DataError: no recording at all, two files of one subject and day, or more than three
            files of a subject.
    """
    named = [
        (f"{int(match[1]):02d} on {match[2]}", path)
        for match, path in _layout.find_files(root, _FILE)
    ]
    files = _layout.one_each(root, named, what="subject")
    days: dict[str, list[str]] = {}
    for key in files:
        days.setdefault(key[:2], []).append(key[-8:])
    labels = {folder: _layout.companion(folder, _LABEL_FILE) for folder in _folders(files)}
    refs = []
    for key, path in files.items():
        session = _session(root, key[:2], key[-8:], days[key[:2]])
        opened = [p for p in (path, labels[path.parent]) if p is not None]
        names = tuple(_layout.relative(root, p) for p in opened)
        refs.append(RecordingRef(CARD.name, key[:2], str(session), names))
    missing = [
        _layout.relative(root, folder / _LABEL_FILE)
        for folder, path in labels.items()
        if path is None
    ]
    missing += _missing(days)
    return _layout.listing(CARD, root, refs, missing=missing, beside=_BESIDE)


def _folders(files: Mapping[str, Path]) -> list[Path]:
    return sorted({path.parent for path in files.values()})


def _session(root: Path, subject: str, day: str, days: Sequence[str]) -> int:
    """Rank of the visit, from 1: among the published days, so that a lost file shifts none."""
    if len(days) > len(DATES["01"]):
        raise DataError(
            f"{root / _FOLDER}: need at most three files of subject {subject}, found those of "
            f"{', '.join(days)}"
        )
    published = DATES.get(subject, ())
    order = published if set(days) <= set(published) else sorted(days)
    return order.index(day) + 1


def _missing(days: dict[str, list[str]]) -> list[str]:
    missing = []
    for subject, published in DATES.items():
        found = days.get(subject, [])
        if not found:
            missing.append(f"subject {subject}")
        elif len(found) < len(published):
            missing += [f"{int(subject)}_{day}.mat" for day in published if day not in found]
    return missing


def read(root: Path, ref: RecordingRef) -> Recording:
    """Read one visit: fifteen matrices, each a stretch and a presentation.

    Raises:
        DataError: `label.mat` is missing or differs from the published list; the file is
            truncated, lacks a matrix, or holds one of another shape.
    """
    path = root / ref.files[0]
    labels = _labels(path.with_name(_LABEL_FILE) if len(ref.files) < 2 else root / ref.files[1])
    numbers = range(1, CARD.n_presentations + 1)
    variables = _seed_family.numbered_variables(path, r"_eeg(\d+)$", numbers)
    return _seed_family.read_recording(
        CARD,
        ref,
        path,
        variables=list(variables.values()),
        stimuli=[f"{number:02d}" for number in numbers],
        labels=labels,
    )


def _labels(path: Path) -> list[int]:
    """Class of each presentation, from the publisher's file held against the published list."""
    found = np.ravel(matlab.load(path, ["label"])["label"])
    if found.tolist() != list(LABELS):
        raise DataError(f"{path} variable label: need {list(LABELS)}, found {found.tolist()}")
    return [label + 1 for label in LABELS]


def write_example(
    root: Path, source: SignalSource, *, n_subjects: int, duration_s: float | None
) -> None:
    """Write matrices in the order of their names as text, beside `label.mat` and `readme.txt`.

    Every subject has other initials. The sample past the last second is 5 mV.
    """
    folder = root / _FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(folder / "label.mat", {"label": np.array([LABELS])})
    (folder / "readme.txt").write_text("not read\n")
    for subject in _layout.example_subjects(CARD, n_subjects):
        initials = f"{chr(96 + subject)}x"
        for visit, day in enumerate(DATES[f"{subject:02d}"], start=1):
            matrices = (
                (f"{initials}_eeg{number}", _matrix(source, subject, visit, number, duration_s))
                for number in sorted(range(1, CARD.n_presentations + 1), key=str)
            )
            _seed_family.write_mat(folder / f"{subject}_{day}.mat", matrices)


def _matrix(
    source: SignalSource, subject: int, visit: int, number: int, duration_s: float | None
) -> FloatArray:
    """The clip is the same at every visit, the signals are not."""
    eeg_CT = source.eeg(
        CARD.name,
        subject,
        f"{number:02d}@{visit}",
        EEG.channels,
        EEG.sfreq,
        duration_s or SECONDS[number - 1],
        PLANTED[LABELS[number - 1] + 1],
    )
    return _seed_family.with_last_sample(eeg_CT)
