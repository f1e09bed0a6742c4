"""MDME: 73 subjects, 32 film clips of pure and mixed emotions (Yang et al. 2024).

A subject's file joins what was shown end to end, and its last row says for each sample which clip
it belongs to: presentations are cut by that row. Signals do not run on across a joint, so every
clip is a stretch of its own.
Shapes: C = 18 electrodes, T samples, N samples of the whole file.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import scipy.io

from emoray.datasets import _layout, _overlap
from emoray.datasets.formats import files, matlab
from emoray.vocabulary import electrodes
from emoray.vocabulary.schema import (
    Card,
    DataError,
    Dropped,
    EegCard,
    FloatArray,
    IntArray,
    Listing,
    Presentation,
    Recording,
    RecordingRef,
    Scale,
    SignalSource,
    Stretch,
)

EMOD_ROWS: tuple[str, ...] = tuple(
    map(electrodes.canonical, "Fp1 Fp2 Fz F3 F4 F7 F8 Cz C3 C4 T3 T4 P3 P4 T5 T6 O1 O2".split())
)
"""Order of the EEG rows that EMOD's code assumes."""
NATIVE_ROWS: tuple[str, ...] = tuple(
    map(electrodes.canonical, "P3 C3 F3 Fz F4 C4 P4 Cz Fp1 Fp2 T3 T5 O1 O2 F7 F8 T6 T4".split())
)
"""Order in which the DSI-24 headset writes them, without reference, ears and triggers.

The release does not name its rows, and the two orders cannot both be right. `read` follows
EMOD's, whose numbers ours are compared with; `read_rows` takes either.
"""

EEG = EegCard(
    channels=EMOD_ROWS,
    sfreq=300.0,
    unit="uV",
    sfreq_paper=300.0,
    sfreq_code=300.0,
)
CARD = Card(
    name="mdme",
    title="MDME",
    reference="Yang et al., A Multimodal Dataset for Mixed Emotion Recognition, "
    "Scientific Data 11:847, 2024",
    layout="""MME/
raw_data/<subject>/datas.mat
raw_data/<subject>/<subject>/Arousal_Valence.csv""",
    n_subjects=73,
    n_recordings=73,
    n_presentations=32,
    eeg=EEG,
    segment_s=10.0,
    scale=Scale(1.0, 9.0),
    n_segments_paper=5329,
    n_segments_per_subject=73,
    people=_overlap.TSINGHUA,
    notes="EMOD cuts by a table of lengths from sample 0, which the rest at the head of the file "
    "would shift. Table 1 says 21 channels: 18 rows, the reference and two ears.",
)

_VARIABLE = "eeg_datas"
_RATINGS_FILE = "Arousal_Valence.csv"
_COLUMNS = ("arousal", "valence", "dominance")
"""After the video's id; the last one is not always there."""
_REST, _PRACTICE = 40, 50
_N_ROWS = 19
"""18 EEG, then the id of the video."""
_BESIDE = (r"\d+/(?!datas\.mat)[^/]+", r"\d+/\d+/[^/]+", r"readme[^/]*")

_LENGTHS = (
    6000, 8700, 8700, 9000, 8700, 9000, 9000, 8400, 6600, 6900, 9000, 9300, 7200, 8400, 8700, 8100,
    8700, 8400, 8100, 9000, 9300, 7800, 9600, 7200, 7800, 6600, 9000, 6900, 7200, 6900, 6000, 8700,
)  # fmt: skip
"""Samples of the 32 clips at 300 Hz, for the example; from EMOD's code."""
_REST_S = 10.0


def find(root: Path) -> Listing:
    """List the subjects' files; which numbers the release leaves out is not published.

    Raises:
        DataError: no file at all, or two for one subject.
    """
    found = (
        (f"{int(match[1]):02}", path)
        for match, path in _layout.find_files(root, r"(\d+)/datas\.mat")
    )
    chosen = _layout.one_each(root, found, what="subject")
    refs, missing = [], []
    for subject, path in chosen.items():
        wanted = f"{path.parent.name}/{_RATINGS_FILE}"
        ratings = _layout.companion(path.parent, wanted)
        names = [_layout.relative(root, p) for p in (path, ratings or path.parent / wanted)]
        refs.append(RecordingRef(CARD.name, subject, "1", tuple(names)))
        if ratings is None:
            missing.append(names[1])
    if len(refs) < CARD.n_subjects:
        missing.append(f"{CARD.n_subjects - len(refs)} of {CARD.n_subjects} subjects")
    return _layout.listing(CARD, root, refs, missing=missing, beside=_BESIDE)


def read(root: Path, ref: RecordingRef) -> Recording:
    """Read one subject: a stretch for each clip, without the rest before them; rows as EMOD's.

    Raises:
        DataError: as `read_rows`.
    """
    return read_rows(root, ref, EMOD_ROWS)


def read_rows(root: Path, ref: RecordingRef, rows: tuple[str, ...]) -> Recording:
    """The same, with the order of the file's rows as the caller believes it to be.

    Args:
        root: the dataset's top folder.
        ref: the subject.
        rows: electrodes of the file's rows, `EMOD_ROWS` or `NATIVE_ROWS`; the recording has them
            in the card's order in either case.

    Raises:
        DataError: truncated file, wrong shape, an id that is no video's or comes back, ratings
            missing or outside 1-9.
        ValueError: `rows` are not the card's electrodes.
    """
    if sorted(rows) != sorted(EEG.channels):
        raise ValueError(
            f"need rows of {' '.join(sorted(EEG.channels))}, got {' '.join(sorted(rows))}"
        )
    path, ratings_path = (root / name for name in ref.files)
    ratings = _ratings(ratings_path)
    x_KN = _layout.check_shape(
        matlab.load(path, [_VARIABLE])[_VARIABLE],
        (_N_ROWS, None),
        where=f"{path} {_VARIABLE}",
        axes="18 electrodes and the video's id, samples",
    )
    pieces = _pieces(x_KN[-1], where=f"{path} {_VARIABLE} row {_N_ROWS}")
    order = [rows.index(name) for name in EEG.channels]
    stretches: list[Stretch] = []
    presentations: list[Presentation] = []
    dropped: list[Dropped] = []
    for video in range(CARD.n_presentations):
        if video not in pieces:
            where = f"{ref.files[0]} video {video}"
            dropped.append(Dropped("presentation", where, "no samples"))
            continue
        if video not in ratings:
            raise DataError(f"{ratings_path}: need a row for video {video}, found {list(ratings)}")
        start, stop = pieces[video]
        presentations.append(
            Presentation(
                stimulus=f"{video:02}",
                ordinal=video,
                stretch=len(stretches),
                start_s=0.0,
                stop_s=(stop - start) / EEG.sfreq,
                ratings=ratings[video],
            )
        )
        stretches.append(Stretch(_layout.signals(x_KN[order, start:stop])))
    return Recording(
        ref=ref,
        eeg_channels=EEG.channels,
        eeg_sfreq=EEG.sfreq,
        stretches=tuple(stretches),
        presentations=tuple(presentations),
        dropped=tuple(dropped),
    )


def _pieces(ids_N: FloatArray, *, where: str) -> dict[int, tuple[int, int]]:
    """First sample of each video's unbroken piece, and the one after its last."""
    known = {*range(CARD.n_presentations), _REST, _PRACTICE}
    edges: IntArray = np.flatnonzero(np.diff(ids_N)) + 1
    pieces: dict[int, tuple[int, int]] = {}
    for start, stop in zip([0, *edges], [*edges, len(ids_N)], strict=True):
        if stop == start:  # no samples at all
            break
        if ids_N[start] not in known:
            raise DataError(
                f"{where} sample {start}: need the id of a video in 0-31, of the rest (40) or the "
                f"practice (50), found {ids_N[start]:g}"
            )
        video = int(ids_N[start])
        if video in pieces and video < CARD.n_presentations:
            raise DataError(
                f"{where} sample {start}: need video {video} in one piece, found a second after "
                f"the one that ends at sample {pieces[video][1]}"
            )
        pieces[video] = (int(start), int(stop))
    return pieces


def _ratings(path: Path) -> dict[int, dict[str, float]]:
    """Ratings by video; the rows stand in the order in which they were given."""
    assert CARD.scale is not None
    ratings: dict[int, dict[str, float]] = {}
    for i, row in _rows(path):
        where = f"{path} row {i}"
        video, *values = _numbers(row, where)
        if video in ratings:
            raise DataError(f"{where}: need one row for video {video:g}, found a second")
        if video not in range(CARD.n_presentations):
            raise DataError(f"{where}: need the id of a video in 0-31, found {video:g}")
        ratings[int(video)] = {
            name: _layout.check_rating(value, CARD.scale, name=name, where=where)
            for name, value in zip(_COLUMNS, values, strict=False)  # dominance may be absent
        }
    return ratings


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """Rows that are not blank, with their numbers from 1."""
    content = files.read_small(path)
    try:
        text = content.decode("utf-8-sig")
        rows = list(csv.reader(io.StringIO(text, newline="")))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path}: need rows of numbers as UTF-8 text, found {error}; "
            f"it starts with {content[:40]!r}"
        ) from error
    return [(i, row) for i, row in enumerate(rows, start=1) if any(map(str.strip, row))]


def _numbers(row: list[str], where: str) -> list[float]:
    try:
        numbers = [float(field) for field in row if field.strip()]
    except ValueError:
        numbers = []
    if len(numbers) < 3:
        raise DataError(f"{where}: need video id, arousal, valence; found {','.join(row)[:80]!r}")
    return numbers


def write_example(
    root: Path, source: SignalSource, *, n_subjects: int, duration_s: float | None
) -> None:
    """Write `datas.mat` and `Arousal_Valence.csv` for each subject.

    The traps: the rest comes first and shifts every cut by length; the rows of ratings are
    shuffled, arousal before valence. Rows of signals are in `EMOD_ROWS`.
    """
    for subject in _layout.example_subjects(CARD, n_subjects):
        folder = root / "raw_data" / str(subject)
        (folder / str(subject)).mkdir(parents=True, exist_ok=True)
        pieces = [_example_piece(source, subject, _REST, "rest", (0.0, 0.0), _REST_S)]
        lines = []
        for video, n in enumerate(_LENGTHS):
            (valence, arousal, third), va = _example_rating(source, subject, f"{video:02}")
            lines.append(f"{video},{arousal:g},{valence:g},{third:g}\n")
            seconds = duration_s or n / EEG.sfreq
            pieces.append(_example_piece(source, subject, video, f"{video:02}", va, seconds))
        scipy.io.savemat(folder / "datas.mat", {_VARIABLE: np.concatenate(pieces, axis=1)})
        order = np.random.default_rng(subject).permutation(len(lines))
        text = "".join(lines[i] for i in order)
        (folder / str(subject) / _RATINGS_FILE).write_text(text)


def _example_rating(
    source: SignalSource, subject: int, stimulus: str
) -> tuple[tuple[float, float, float], tuple[float, float]]:
    """The stored valence, arousal and dominance, and the point of [-4, 4] that they mean."""
    assert CARD.scale is not None
    va = source.rating(CARD.name, subject, stimulus)
    ratings = _layout.to_scale(va, CARD.scale, integer=True)
    third = _layout.other_rating(ratings, CARD.scale)
    return (*ratings, third), _layout.from_scale(ratings, CARD.scale)


def _example_piece(
    source: SignalSource,
    subject: int,
    video: int,
    stimulus: str,
    va: tuple[float, float],
    seconds: float,
) -> FloatArray:
    x_CT = source.eeg(CARD.name, subject, stimulus, EMOD_ROWS, EEG.sfreq, seconds, va)
    return np.concatenate((x_CT, np.full((1, x_CT.shape[1]), float(video))))
