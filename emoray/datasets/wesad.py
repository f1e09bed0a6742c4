"""WESAD: 15 subjects, baseline, stress, amusement and two meditations (Schmidt et al. 2018).

A subject's pickle holds the signals of a chest and a wrist device and the condition of every
sample; a table beside it holds the order of the conditions and what the subject said after each.
Of the signals the chest's ECG is read.
Shapes: L = 1 ECG lead, T samples.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emoray.datasets import _layout
from emoray.datasets.formats import files, plain_pickle
from emoray.vocabulary.schema import (
    Card,
    DataError,
    Dropped,
    EcgCard,
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

ECG = EcgCard(leads=("chest",), sfreq=700.0, unit="mV")
SCALE = Scale(1.0, 9.0)
CARD = Card(
    name="wesad",
    title="WESAD",
    reference="Schmidt et al., Introducing WESAD, a Multimodal Dataset for Wearable Stress and "
    "Affect Detection, ICMI 2018",
    layout="""WESAD/
S<subject>/S<subject>.pkl
S<subject>/S<subject>_quest.csv""",
    n_subjects=15,
    n_recordings=15,
    n_presentations=5,
    segment_s=10.0,
    scale=SCALE,
    emotions=("baseline", "stress", "amusement", "meditation"),
    ecg=ECG,
    notes="Subjects 1 and 12 are not in the release; SSL-ECG's table speaks of 17. Only the ECG is "
    "read: the release has EMG, respiration, skin conductance, temperature and acceleration of the "
    "chest, and pulse, skin conductance, temperature and acceleration of the wrist besides. Of the "
    "four classes amusement alone is an emotion's name; what lies between conditions (label 0) "
    "and what the publisher says to ignore (5-7) is left out. Ratings are those of the SAM; the "
    "other questionnaires (PANAS, STAI, SSSQ) are not read. Whether labels fill the times in the "
    "table but for some seconds at both ends was not seen in a file: only a third more or less in "
    "all is refused.",
)

_RATINGS = ("valence", "arousal")
"""Of a line of the SAM, in this order."""
_SAM = "# DIM"
_CONDITIONS = {
    "base": (1, "baseline"),
    "tsst": (2, "stress"),
    "fun": (3, "amusement"),
    "medi1": (4, "meditation 1"),
    "medi2": (4, "meditation 2"),
}
"""Label and stimulus of each condition, by its name in the table without blanks."""
_READINGS = ("bread", "sread", "fread")
"""In the table as well: texts that were read aloud, to be ignored."""
_LABELS = range(8)
_SUBJECTS = tuple(n for n in range(2, 18) if n != 12)
_BESIDE = (
    r"S\d+/S\d+_(?:respiban\.txt|readme\.txt|E4_Data\.zip)",
    r"S\d+/S\d+_E4_Data/[^/]+",
    r"wesad_readme\.pdf",
    r"readme[^/]*",
)
_LEAST_SHARE, _MOST_SHARE = 2 / 3, 4 / 3
"""Of the seconds that the labels fill at 700 Hz, against those of the table."""

_ORDERS = (("Base", "TSST", "Medi 1", "Fun", "Medi 2"), ("Base", "Fun", "Medi 1", "TSST", "Medi 2"))
_PLANTED = {
    "baseline": (0.5, -0.5),
    "stress": (-2.5, 3.0),
    "amusement": (3.0, 1.0),
    "meditation 1": (1.5, -3.0),
    "meditation 2": (1.5, -3.0),
}
"""Valence and arousal that people of the example are near to, by stimulus: a class must be told by
the heart of people whom no one has seen, so all are moved alike."""
_LENGTHS_S = {"Base": 1200.0, "TSST": 600.0, "Fun": 392.0, "Medi 1": 420.0, "Medi 2": 420.0}
"""Of the example's conditions: the protocol's 20 minutes, 10, 392 s and twice 7."""
_BETWEEN_S, _READING_S = 1.0, 2.0


@dataclass(frozen=True, slots=True)
class _Condition:
    """What the table says of one."""

    name: str
    label: int
    stimulus: str
    seconds: float
    ratings: dict[str, float]


def find(root: Path) -> Listing:
    """List the subjects' files.

    Raises:
        DataError: no file at all, or two for one subject.
    """
    found = ((f"{int(m[1]):02}", path) for m, path in _layout.find_files(root, r"S(\d+)\.pkl"))
    wanted = {f"{n:02}": n for n in _SUBJECTS}
    known = ((subject, path) for subject, path in found if subject in wanted)
    chosen = _layout.one_each(root, known, what="subject")
    refs, missing = [], _layout.missing_subjects(chosen, wanted)
    for subject, path in chosen.items():
        name = f"S{wanted[subject]}_quest.csv"
        table = _layout.companion(path.parent, name)
        names = [_layout.relative(root, p) for p in (path, table or path.with_name(name))]
        refs.append(RecordingRef(CARD.name, subject, "1", tuple(names)))
        if table is None:
            missing.append(names[1])
    return _layout.listing(CARD, root, refs, missing=missing, beside=_BESIDE)


def read(root: Path, ref: RecordingRef) -> Recording:
    """Read one subject: one stretch, and the conditions where its labels say that they were.

    Raises:
        DataError: a pickle that asks for anything but arrays, a truncated one, no ECG of the
            chest, another number of labels than samples, a label that is none of 0-7, conditions
            in another order than in the table, labels that at 700 Hz last much longer or shorter
            than the table's times, a table without ratings, a rating that is not a whole number
            in 1-9.
    """
    path, table_path = (root / name for name in ref.files)
    conditions = _table(table_path)
    ecg_TL, label_T = _arrays(path, int(ref.subject))
    pieces = _pieces(label_T)
    spans = [piece for piece in pieces if piece[0] in range(1, 5)]
    _check_conditions(path, spans, conditions, table_path)
    presentations = tuple(
        Presentation(
            stimulus=condition.stimulus,
            ordinal=i,
            stretch=0,
            start_s=start / ECG.sfreq,
            stop_s=stop / ECG.sfreq,
            ratings=condition.ratings,
            label=label - 1,
        )
        for i, (condition, (label, start, stop)) in enumerate(zip(conditions, spans, strict=True))
    )
    return Recording(
        ref=ref,
        stretches=(Stretch(ecg_LT=_layout.signals(ecg_TL.T)),),
        presentations=presentations,
        ecg_leads=ECG.leads,
        ecg_sfreq=ECG.sfreq,
        dropped=_left_out(ref.files[0], pieces),
    )


def _arrays(path: Path, subject: int) -> tuple[FloatArray, IntArray]:
    """The chest's ECG (T, 1) and the condition of each sample (T,)."""
    content = plain_pickle.load_arrays(path)
    ecg: Any = content
    for depth, key in enumerate(("signal", "chest", "ECG")):
        if not isinstance(ecg, dict) or key not in ecg:
            found = ", ".join(ecg) if isinstance(ecg, dict) else type(ecg).__name__
            at = "".join(f"[{k!r}]" for k in ("signal", "chest")[:depth])
            raise DataError(f"{path} {at}: need {key!r}, found {found or 'nothing'}")
        ecg = ecg[key]
    if content.get("subject") != f"S{subject}":
        raise DataError(f"{path}: need subject S{subject}, found {content.get('subject')!r}")
    place = f"{path} signal chest ECG"
    ecg_TL = _layout.check_shape(ecg, (None, len(ECG.leads)), where=place, axes="samples, leads")
    label_T = _layout.check_shape(
        content.get("label"), (None,), where=f"{path} label", axes="samples"
    )
    if len(label_T) != len(ecg_TL):
        raise DataError(
            f"{place}: need a sample for each of the {len(label_T):,} labels at {ECG.sfreq:g} Hz, "
            f"found {len(ecg_TL):,}; was it resampled?"
        )
    if strange := sorted(set(np.unique(label_T).tolist()) - set(_LABELS)):
        raise DataError(f"{path} label: need labels 0-7, found {strange[0]:g}")
    return ecg_TL, label_T.astype(np.int64)


def _pieces(label_T: IntArray) -> list[tuple[int, int, int]]:
    """Label, first sample and the one after the last, of each unbroken piece."""
    edges = np.flatnonzero(np.diff(label_T)) + 1
    bounds = [0, *edges.tolist(), len(label_T)]
    return [(int(label_T[start]), start, stop) for start, stop in pairwise(bounds) if stop > start]


def _check_conditions(
    path: Path,
    spans: Sequence[tuple[int, int, int]],
    conditions: Sequence[_Condition],
    table: Path,
) -> None:
    labels = [label for label, _, _ in spans]
    wanted = [condition.label for condition in conditions]
    if labels != wanted:
        raise DataError(
            f"{path} label: need conditions {wanted} as {table.name} says, found {labels}"
        )
    found_s = sum(stop - start for _, start, stop in spans) / ECG.sfreq
    wanted_s = sum(condition.seconds for condition in conditions)
    if not _LEAST_SHARE * wanted_s < found_s < _MOST_SHARE * wanted_s:
        raise DataError(
            f"{path}: need {ECG.sfreq:g} Hz, at which the conditions would last {found_s:g} s; "
            f"by {table.name} they lasted {wanted_s:g} s: was it resampled?"
        )


def _left_out(file: str, pieces: Sequence[tuple[int, int, int]]) -> tuple[Dropped, ...]:
    """Seconds outside of all conditions, by the publisher's label."""
    reasons = {0: "between conditions (label 0)"}
    reasons |= {n: f"to be ignored (label {n})" for n in (5, 6, 7)}
    found = []
    for label, reason in reasons.items():
        n_samples = sum(stop - start for known, start, stop in pieces if known == label)
        if n_samples:
            n = max(1, round(n_samples / ECG.sfreq))
            found.append(Dropped("second", f"{file} label {label}", reason, n))
    return tuple(found)


def _table(path: Path) -> list[_Condition]:
    """The conditions in their order, with what the subject said after each."""
    rows = _rows(path)
    heads = {name: _row(rows, name, path) for name in ("# ORDER", "# START", "# END")}
    scores = [row for name, row in rows if name == _SAM]
    columns = [(i, n) for i, n in enumerate(heads["# ORDER"]) if _fold(n) not in ("", *_READINGS)]
    names = sorted(_fold(name) for _, name in columns)
    if names != sorted(_CONDITIONS):
        raise DataError(
            f"{path} # ORDER: need Base, TSST, Fun, Medi 1 and Medi 2, found "
            f"{', '.join(name for _, name in columns) or 'nothing'}"
        )
    if len(scores) != len(columns):
        raise DataError(
            f"{path}: need {len(columns)} lines {_SAM} with valence and arousal, found "
            f"{len(scores)}"
        )
    return [
        _condition(name, i, heads, row, path)
        for (i, name), row in zip(columns, scores, strict=True)
    ]


def _condition(
    name: str, i: int, heads: dict[str, list[str]], score: list[str], path: Path
) -> _Condition:
    where = f"{path} {name}"
    start_s, stop_s = (
        _clock_s(heads[head][i] if i < len(heads[head]) else "", f"{where} {head}")
        for head in ("# START", "# END")
    )
    if stop_s <= start_s:
        raise DataError(f"{where}: need an end after its start, found {start_s:g} to {stop_s:g} s")
    label, stimulus = _CONDITIONS[_fold(name)]
    ratings = {
        rating: _rating(score[k] if k < len(score) else "", rating, where)
        for k, rating in enumerate(_RATINGS)
    }
    return _Condition(name, label, stimulus, stop_s - start_s, ratings)


def _fold(name: str) -> str:
    return re.sub(r"\s", "", name).lower()


def _rating(text: str, name: str, where: str) -> float:
    try:
        rating = float(text)
    except ValueError:
        raise DataError(f"{where} {_SAM}: need a number for {name}, found {text!r}") from None
    return _layout.check_rating(rating, SCALE, name=name, where=where, integer=True)


def _clock_s(text: str, where: str) -> float:
    """Seconds of `39.55`, 39 minutes and 55 seconds; `50.3` has lost its last zero."""
    match = re.fullmatch(r"(\d+)(?:\.(\d{1,2}))?", text.strip())
    if match is None or int((match[2] or "").ljust(2, "0")) > 59:
        raise DataError(f"{where}: need minutes.seconds, found {text!r}")
    return 60.0 * int(match[1]) + int((match[2] or "").ljust(2, "0"))


def _rows(path: Path) -> list[tuple[str, list[str]]]:
    """Name and fields of each line that has a name."""
    content = files.read_small(path)
    try:
        text = content.decode("utf-8-sig")
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=";"))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path}: need lines of fields as UTF-8 text, found {error}; it starts with "
            f"{content[:40]!r}"
        ) from error
    return [(row[0].strip(), row[1:]) for row in rows if row and row[0].startswith("#")]


def _row(rows: Sequence[tuple[str, list[str]]], name: str, path: Path) -> list[str]:
    found = [row for known, row in rows if known.upper() == name]
    if len(found) != 1:
        raise DataError(f"{path}: need one line {name}, found {len(found)}")
    return found[0]


def write_example(
    root: Path, source: SignalSource, *, n_subjects: int, duration_s: float | None
) -> None:
    """Write a pickle and a table for each subject; 53 MB each at full length.

    The traps: subjects 1 and 12 are not there; stretches without a condition between them, with
    labels to be ignored; stress and amusement change places from subject to subject; two
    meditations of one class; another signal of the chest before the ECG.
    """
    for i, subject in enumerate(_layout.example_subjects(CARD, n_subjects, of=_SUBJECTS)):
        folder = root / f"S{subject}"
        folder.mkdir(parents=True, exist_ok=True)
        _write_subject(folder, source, subject, _ORDERS[i % len(_ORDERS)], duration_s)


def _write_subject(
    folder: Path,
    source: SignalSource,
    subject: int,
    order: Sequence[str],
    duration_s: float | None,
) -> None:
    parts: list[tuple[int, FloatArray]] = []
    times: list[tuple[str, float, float]] = []
    scores: list[str] = []
    at_s = 0.0
    for name in order:
        label, stimulus = _CONDITIONS[_fold(name)]
        seconds = duration_s or _LENGTHS_S[name]
        felt = source.rating(CARD.name, subject, stimulus, _PLANTED[stimulus])
        ratings = _layout.to_scale(felt, SCALE, integer=True)
        va = _layout.from_scale(ratings, SCALE)
        rest = _example_part(source, subject, f"rest before {stimulus}", _BETWEEN_S, (0.0, 0.0))
        reading = _example_part(source, subject, f"rest after {stimulus}", _READING_S, (0.0, 0.0))
        shown = _example_part(source, subject, stimulus, seconds, va)
        parts += [(0, rest), (label, shown), (0, rest), (5 + len(times) % 3, reading)]
        at_s += _BETWEEN_S
        times.append((name, at_s, at_s + seconds))
        at_s += seconds + _BETWEEN_S + _READING_S
        scores.append(f"{_SAM};{ratings[0]:g};{ratings[1]:g};;")
    ecg_T1 = np.concatenate([x_1T for _, x_1T in parts], axis=1).T.astype(np.float64)
    label_T: NDArray[np.int32] = np.concatenate(
        [np.full(x_1T.shape[1], label, dtype=np.int32) for label, x_1T in parts]
    )
    chest = {"ACC": np.ones((len(ecg_T1), 3), dtype=np.float32), "ECG": ecg_T1}
    wrist = {"BVP": np.ones((len(ecg_T1) * 64 // 700, 1))}
    name = folder.name
    plain_pickle.dump_python2(
        folder / f"{name}.pkl",
        {"signal": {"chest": chest, "wrist": wrist}, "label": label_T, "subject": name},
    )
    (folder / f"{name}_quest.csv").write_text(_example_table(name, times, scores))


def _example_part(
    source: SignalSource, subject: int, stimulus: str, seconds: float, va: tuple[float, float]
) -> FloatArray:
    return source.ecg(CARD.name, subject, stimulus, len(ECG.leads), ECG.sfreq, seconds, va)


def _example_table(
    subject: str, times: Sequence[tuple[str, float, float]], scores: Sequence[str]
) -> str:
    """The table as the publisher's: readings behind the conditions, blank lines between."""
    starts = [_example_clock(start_s) for _, start_s, _ in times]
    stops = [_example_clock(stop_s) for _, _, stop_s in times]
    lines = [
        f"# Subj;{subject};;",
        ";".join(("# ORDER", *(name for name, _, _ in times), "sRead", "fRead", "", "")),
        ";".join(("# START", *starts, "1.00", "1.05", "", "")),
        ";".join(("# END", *stops, "1.04", "1.09", "", "")),
        ";;;",
        *("# PANAS;" + ";".join("3" * 24) for _ in times),
        ";;;",
        *("# STAI;2;3;1;4;2;1;;" for _ in times),
        ";;;",
        *scores,
        ";;;",
        "# SSSQ;3;3;3;2;2;2;;",
    ]
    return "\n".join(lines) + "\n"


def _example_clock(seconds: float) -> str:
    """`39.55`; a spreadsheet took the last zero of `50.30`."""
    whole = round(seconds)
    text = f"{whole // 60}.{whole % 60:02}"
    return text[:-1] if text.endswith("0") and not text.endswith("00") else text
