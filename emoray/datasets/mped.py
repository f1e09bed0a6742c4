"""MPED (Song et al. 2019): seven emotions, 23 subjects, 28 film clips, raw EEG at 1000 Hz.

One recording per participant. The folders are named after the participants: here they are only
numbers, in refs and in messages alike; `locate` finds the files again.
Shapes: C electrodes, T samples.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.io

from emoray.datasets import _layout, _seed_family
from emoray.datasets.formats import matlab
from emoray.vocabulary import affect, electrodes
from emoray.vocabulary.schema import (
    Card,
    DataError,
    EegCard,
    Float32Array,
    FloatArray,
    Listing,
    Presentation,
    Recording,
    RecordingRef,
    SignalSource,
    Stretch,
)

EEG = EegCard(
    channels=electrodes.SEED_62,
    sfreq=1000.0,
    unit="uV",
    sfreq_paper=200.0,
    sfreq_code=200.0,
)
CARD = Card(
    name="mped",
    title="MPED",
    reference="Song et al., MPED: a multi-modal physiological emotion database for discrete "
    "emotion recognition, IEEE Access 2019",
    layout="MPED/\n"
    "raw_EEG_signals/{participant}/{name}_d.mat\n"
    "raw_EEG_signals/{participant}/{name}_dd.mat\n"
    "raw_EEG_signals/raw_EEG_Label.mat",
    n_subjects=23,
    n_recordings=23,
    n_presentations=28,
    eeg=EEG,
    segment_s=10.0,
    emotions=("neutral", "joy", "amusement", "anger", "fear", "disgust", "sadness"),
    n_segments_paper=12_190,
    n_segments_per_subject=530,
    notes="Classes are the publisher's less one (0 is rest). EMOD counts 530 segments per "
    "subject; the published clip lengths give 534. Its Table 1 writes 28 channels: that is the "
    "number of clips. Six of 34 presentations are rest or of an unexplained class 8. ECG lies in "
    "a folder of its own whose format is not documented, and is not read.",
)

PUBLISHED = (
    # Publisher's class of presentations 1 to 34: 0 rest, 1 neutral, 2 joy, 3 funny, 4 angry,
    # 5 fear, 6 disgust, 7 sadness; 8 is in EMOD's list only and nowhere explained.
    *(0, 2, 1, 4, 3, 5, 6, 7, 8, 1, 2, 3, 8, 6, 7, 4, 5),
    *(0, 1, 5, 6, 2, 2, 1, 8, 7, 6, 4, 4, 3, 5, 3, 7, 8),
)
STIMULI = (*range(2, 9), *range(10, 13), *range(14, 18), *range(19, 25), *range(26, 34))
"""Presentations that show a stimulus, from 1: four of each emotion. The others are not read."""

CLIP_SECONDS: dict[str, tuple[int, int, int, int]] = {
    "joy": (146, 164, 216, 122),
    "amusement": (284, 201, 150, 178),
    "anger": (170, 280, 150, 189),
    "sadness": (232, 182, 196, 198),
    "fear": (295, 179, 245, 141),
    "disgust": (241, 180, 154, 182),
    "neutral": (197, 173, 172, 227),
}
"""Lengths of the clips of each emotion; in which order they were shown is not published."""

NEUROSCAN_64 = tuple(
    name
    for site in electrodes.SEED_62
    for name in ((site, "M1") if site == "T8" else (site, "M2") if site == "TP8" else (site,))
)
"""The first 64 rows of a matrix: a mastoid stands after T8 (row 32) and after TP8 (row 42)."""

_ROWS = [row for row, name in enumerate(NEUROSCAN_64) if name not in ("M1", "M2")]
_FOLDER = "raw_EEG_signals"
_LABEL_FILE = "raw_EEG_Label.mat"
_LAST_OF_FIRST_FILE = 17
_BESIDE = (
    *("EEG_feature", "GSR_RSP_ECG_raw_signals", "GSR_RSP_ECG_features"),
    *("MPED license.pdf", "README.md", _layout.REHEARSAL),
)
"""Folders and files beside `_FOLDER` that are not read."""


@dataclass(frozen=True, slots=True)
class _Participant:
    """A folder with its number; `halves` are the files `_d.mat` and `_dd.mat` found in it."""

    number: str
    folder: Path
    halves: dict[str, Path]

    def opened(self, half: str) -> str:
        """How refs and messages call a file."""
        return f"{_FOLDER}/participant {self.number}/{half}.mat"


def find(root: Path) -> Listing:
    """List the recordings: one per participant's folder, numbered in the order of their names.

    The number of a participant changes when a folder that sorts before is added or removed.

    Raises:
        DataError: no recording at all, two folders of participants, or two files for one half of
            a participant's.
    """
    top = _top(root)
    participants = _participants(top) if top is not None else []
    labels = _labels_of(top)
    refs = tuple(
        RecordingRef(CARD.name, p.number, "1", (p.opened("_d"), p.opened("_dd"), *labels))
        for p in participants
        if len(p.halves) == 2
    )
    if not refs or top is None:
        return _layout.listing(CARD, root, refs)  # says what was looked for
    missing = [p.opened(h) for p in participants for h in ("_d", "_dd") if h not in p.halves]
    missing += [] if labels else [f"{_FOLDER}/{_LABEL_FILE}"]
    numbers = [f"{number:02d}" for number in range(1, CARD.n_subjects + 1)]
    missing += _layout.missing_subjects([p.number for p in participants], numbers)
    return Listing(refs, tuple(missing), _unexpected(root, top, participants))


def locate(root: Path, ref: RecordingRef) -> tuple[Path, ...]:
    """Where the files of `ref.files` lie; their real names stay on this machine.

    Raises:
        DataError: there is no such participant any more, or no label file.
    """
    top = _top(root)
    for p in _participants(top) if top is not None else ():
        if top is not None and p.number == ref.subject and len(p.halves) == 2:
            labels = (top / Path(name).name for name in ref.files[2:])
            return (p.halves["_d"], p.halves["_dd"], *labels)
    raise DataError(f"{root}: need both files of participant {ref.subject}, found none")


def _top(root: Path) -> Path | None:
    """The folder of the participants' folders; None without one."""
    found = [p for p in _layout.walk(root).folders if p.name.lower() == _FOLDER.lower()]
    if len(found) > 1:
        names = " and ".join(_layout.relative(root, path) for path in found)
        raise DataError(f"{root}: need one folder {_FOLDER}, found {len(found)}: {names}")
    return found[0] if found else None


def _labels_of(top: Path | None) -> tuple[str, ...]:
    """The label file as refs call it, under its name on this disk; none where there is none."""
    path = _layout.companion(top, _LABEL_FILE) if top is not None else None
    return (f"{_FOLDER}/{path.name}",) if path is not None else ()


def _participants(top: Path) -> list[_Participant]:
    found = []
    folders = [path for path in _layout.entries(top) if path.is_dir()]
    for place, person in enumerate(folders, start=1):
        number = f"{place:02d}"
        where = f"{top}/participant {number}"
        try:
            inside = _layout.entries(person)
        except DataError as error:
            raise DataError(str(error).replace(str(person), where)) from None
        halves: dict[str, Path] = {}
        for half in ("_d", "_dd"):
            chosen = [p for p in inside if p.name.lower().endswith(f"{half}.mat")]
            if len(chosen) > 1:
                raise DataError(
                    f"{where}: need one file that ends in {half}.mat, found {len(chosen)}"
                )
            if chosen:
                halves[half] = chosen[0]
        found.append(_Participant(number, person, halves))
    return found


def _unexpected(root: Path, top: Path, participants: list[_Participant]) -> tuple[str, ...]:
    """Files of no known kind, counted and not named: any of them may bear a name."""
    tree = _layout.walk(root)
    opened = {file for p in participants for file in p.halves.values()}
    opened |= {p for p in (_layout.companion(top, _LABEL_FILE),) if p is not None}
    beside = {name.lower() for name in _BESIDE}
    n = sum(
        path not in opened and not _is_beside(path, top.parent, beside)
        for path in (*tree.files, *tree.others)
    )
    said = [f"{n} files of no known kind (not named, for their names may be people's)"] * (n > 0)
    closed = [p for p in tree.closed if not _is_beside(p, top.parent, beside)]
    said += [f"{len(closed)} folders that cannot be listed ({tree.closed[p]})" for p in closed[:1]]
    return tuple(said)


def _is_beside(path: Path, base: Path, names: set[str]) -> bool:
    return path.is_relative_to(base) and path.relative_to(base).parts[0].lower() in names


@contextmanager
def _anonymous(path: Path, name: str) -> Iterator[None]:
    """Put the number for the person in any message about a participant's file."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        kind = "" if isinstance(error, DataError) else f"{type(error).__name__}: "
        message = kind + str(error).replace(str(path), name).replace(path.name, name)
        person = rf"(?<![^\W_]){re.escape(path.parent.name)}(?![^\W_])"  # as a whole word
        raise DataError(re.sub(person, "participant", message)) from None


def read(root: Path, ref: RecordingRef) -> Recording:
    """Read one participant: 28 of 34 matrices, each a stretch and a presentation.

    Raises:
        DataError: the label file differs from the published list, or a file is truncated,
            lacks a matrix, or holds one of another shape.
    """
    paths = locate(root, ref)
    for path in paths[2:]:
        _check_labels(path)
    eeg = []
    for number in STIMULI:
        half = int(number > _LAST_OF_FIRST_FILE)
        with _anonymous(paths[half], ref.files[half]):
            eeg.append(_read_eeg(paths[half], f"raw_eeg{number}"))
    return Recording(
        ref=ref,
        eeg_channels=EEG.channels,
        eeg_sfreq=EEG.sfreq,
        stretches=tuple(Stretch(eeg_CT) for eeg_CT in eeg),
        presentations=tuple(
            Presentation(
                stimulus=f"{number:02d}",
                ordinal=number - 1,
                stretch=i,
                start_s=0.0,
                stop_s=eeg[i].shape[1] / EEG.sfreq,
                emotion=emotion_of(number),
                label=PUBLISHED[number - 1] - 1,
            )
            for i, number in enumerate(STIMULI)
        ),
    )


def emotion_of(number: int) -> str:
    """Emotion of a presentation among `STIMULI`."""
    return CARD.emotions[PUBLISHED[number - 1] - 1]


def _read_eeg(path: Path, variable: str) -> Float32Array:
    """The 62 scalp rows in microvolts, (62, T); further rows than 64 are not documented."""
    where = f"{path} variable {variable}"
    eeg_CT = _layout.check_shape(
        matlab.load(path, [variable])[variable],
        (None, None),
        where=where,
        axes="electrodes, samples",
    )
    if not len(NEUROSCAN_64) <= eeg_CT.shape[0] < eeg_CT.shape[1]:
        raise DataError(
            f"{where}: need at least 64 rows (electrodes), and more columns (samples) than rows; "
            f"found shape {eeg_CT.shape}"
        )
    return _layout.signals(eeg_CT[_ROWS])


def _check_labels(path: Path) -> None:
    """Hold the publisher's file against the list, where the two speak of stimuli.

    How long it is, is not documented: all 34, the 30 without the class 8, or the 28.
    """
    found = np.ravel(matlab.load(path, ["eeg_label"])["eeg_label"]).tolist()
    if not any(found):
        raise DataError(f"{path} variable eeg_label: need labels, found {len(found)} zeros")
    kept = {
        34: range(1, 35),
        30: [n for n in range(1, 35) if PUBLISHED[n - 1] != 8],
        28: STIMULI,
    }.get(len(found))
    if kept is None:
        raise DataError(f"{path} variable eeg_label: need 34, 30 or 28 labels, got {len(found)}")
    for number, label in zip(kept, found, strict=True):
        if number in STIMULI and label != PUBLISHED[number - 1]:
            raise DataError(
                f"{path} variable eeg_label presentation {number}: need "
                f"{PUBLISHED[number - 1]}, found {label}"
            )


def example_seconds(number: int) -> int:
    """Length of a presentation in a full-size example: the clips in the order of the table."""
    emotion = emotion_of(number)
    earlier = [n for n in STIMULI if n < number and emotion_of(n) == emotion]
    return CLIP_SECONDS[emotion][len(earlier)]


def write_example(
    root: Path, source: SignalSource, *, n_subjects: int, duration_s: float | None
) -> None:
    """Write matrices of 66 rows, mastoids among them and two unknown ones at the end.

    The rows that are not scalp hold 9 mV; the presentations that show no stimulus hold NaN.
    """
    (root / _FOLDER).mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(root / _FOLDER / _LABEL_FILE, {"eeg_label": np.array([PUBLISHED])})
    for subject in _layout.example_subjects(CARD, n_subjects):
        # In this release the names are inventions; sorted, they must give 1, 2, 3 ...
        name = f"{chr(96 + (subject - 1) // 26 + 1)}{chr(96 + (subject - 1) % 26 + 1)}_invented"
        for ending, numbers in (("d", range(1, 18)), ("dd", range(18, 35))):
            matrices = (
                (f"raw_eeg{number}", _matrix(source, subject, number, duration_s))
                for number in numbers
            )
            _seed_family.write_mat(root / _FOLDER / name / f"{name}_{ending}.mat", matrices)


def _matrix(
    source: SignalSource, subject: int, number: int, duration_s: float | None
) -> FloatArray:
    if number not in STIMULI:
        return np.full((66, 2000), np.nan)
    eeg_CT = source.eeg(
        CARD.name,
        subject,
        f"{number:02d}",
        EEG.channels,
        EEG.sfreq,
        duration_s or example_seconds(number),
        affect.place_emotion(emotion_of(number)),
    )
    matrix_CT = np.full((66, eeg_CT.shape[1]), 9000.0)
    matrix_CT[_ROWS] = eeg_CT
    return matrix_CT
