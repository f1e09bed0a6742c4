"""SWELL-KW: 25 office workers, undisturbed, under time pressure, interrupted (Koldijk et al. 2014).

A person worked in three blocks, each recorded by itself (TMSi Poly5) and begun with some minutes
of relaxation. Which minutes were what, and what was answered after each block, stands in one table
for all. A block is a recording here, its number the session.
Shapes: L = 1 ECG lead, T samples.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path

import numpy as np

from emoray.datasets import _ecg_quality, _layout
from emoray.datasets.formats import files, poly5, spreadsheet
from emoray.vocabulary.schema import (
    Card,
    DataError,
    Dropped,
    EcgCard,
    Float32Array,
    FloatArray,
    Listing,
    Presentation,
    Recording,
    RecordingRef,
    Scale,
    SignalSource,
    Stretch,
)

ECG = EcgCard(leads=("heart",), sfreq=2048.0, unit="uV")
SCALE = Scale(1.0, 9.0)
CARD = Card(
    name="swell_kw",
    title="SWELL-KW",
    reference="Koldijk et al., The SWELL Knowledge Work Dataset for Stress and User Modeling "
    "Research, ICMI 2014 (doi 10.17026/dans-x55-69zp)",
    layout="""SWELL/
0 - Raw data/D - Physiology - raw data/Mobi signals (raw and filtered)/pp<n>_<date>_c<block>.S00
Behavioral-features - per minute.xlsx""",
    n_subjects=25,
    n_recordings=75,
    n_presentations=2,
    segment_s=10.0,
    scale=SCALE,
    emotions=("neutral", "time pressure", "interruptions"),
    ecg=ECG,
    notes="Only the ECG is read: the release has skin conductance in the same files, and facial "
    "expressions, postures and computer use. The class is the condition; relaxation, which comes "
    "first in each block, has none and no ratings. SSL-ECG's code takes the block's number for the "
    "class `stress`: that is the rating `block` (1-3, of relaxation too; Levels with edges 1, 2). "
    "Block 1 is neutral for all; 12 people go on with time pressure, 13 with interruptions. "
    "Minutes outside of the recording and those in which no heartbeat can be told are left out; "
    "the publisher's own heart rate lacks 1,650 of 3,140 minutes. Not seen in a file: the names of "
    "the channels, the clock of the recordings against that of the table, the ends of the "
    "ratings' scales, the number of files.",
)

_S00 = r"pp(\d+)[_-](?:\d+-\d+-\d+[_-])?c([1-3])(_cont)?\.S00"
_TABLE = "Behavioral-features - per minute.xlsx"
_PERSON, _BLOCK, _CONDITION, _TIME = _WHEN = ("PP", "Blok", "Condition", "timestamp")
_RATINGS = {
    "valence": "Valence_rc",
    "arousal": "Arousal_rc",
    "dominance": "Dominance",
    "stress": "Stress",
    "mental_effort": "MentalEffort",
    "mental_demand": "MentalDemand",
    "physical_demand": "PhysicalDemand",
    "temporal_demand": "TemporalDemand",
    "effort": "Effort",
    "performance": "Performance_rc",
    "frustration": "Frustration",
}
"""Columns of the table; the first two are held to the scale."""
_RELAXATION = "R"
_CONDITIONS = {
    _RELAXATION: "relaxation",
    "N": "neutral",
    "T": "time pressure",
    "I": "interruptions",
}
_LEADS = (r"heart.*pre", r"^(?:ecg|ekg)", r"heart(?!.*rate)")
"""Names that the ECG may have, the likeliest first: `portiHeartPre`, the filtered one, is what the
publisher's script calls it."""
_MICROVOLTS = {"u": 1.0, "m": 1e3, "": 1e6}
_MINUTE_S = 60.0
_LONGEST_S = 4 * 3600.0
"""From the first sample of a block to the last, its continuation included."""
_BESIDE = (
    r"\d - [^/]+/(?:.*/)?[^/]+\.(?!s00$)[^./]+",
    r"[^/]+\.(?:xlsx?|ods|tab|csv|pdf|txt|docx?)",
)

_ORDERS = ("NTI", "NIT")
_N_MINUTES = {_RELAXATION: 6, "N": 41, "T": 26, "I": 40}
"""Of the example's conditions, about the mean of the release; one more of relaxation has no ECG."""
_PLANTED = {
    "neutral": (2.0, -2.5),
    "time pressure": (-1.0, 3.0),
    "interruptions": (-3.0, 0.5),
}
"""Valence and arousal that people of the example are near to, by condition."""
_BETWEEN_S = 20.0
"""Of the example: between relaxation and work; not in its table."""
_EXAMPLE_CHANNELS = (("ECG raw 1", "mV"), ("portiSkinRaw", "mV"), ("portiHeartPre", "uV"))
_BEGIN = datetime(2012, 9, 18, 9, 0)


@dataclass(slots=True)
class _Block:
    """What the table says of one person's block."""

    minutes: dict[str, list[datetime]] = field(default_factory=dict)
    """Beginnings, by condition."""
    ratings: dict[str, float] = field(default_factory=dict)


def find(root: Path) -> Listing:
    """List the blocks' files; the one table belongs to each.

    Raises:
        DataError: no file at all, two for one block (a continuation is no second), or two tables.
    """
    found = (
        (f"{int(m[1]):02} block {m[2]}{' continued' if m[3] else ''}", path)
        for m, path in _layout.find_files(root, _S00)
        if 1 <= int(m[1]) <= CARD.n_subjects
    )
    chosen = _layout.one_each(root, found, what="subject")
    tables = _layout.find_files(root, re.escape(_TABLE))
    table = _layout.one_each(root, ((_TABLE, path) for _, path in tables), what="all blocks")
    last = _layout.relative(root, table[_TABLE]) if table else _TABLE
    refs, missing = [], [] if table else [_TABLE]
    for subject in (f"{n:02}" for n in range(1, CARD.n_subjects + 1)):
        blocks = {n: _of_block(chosen, f"{subject} block {n}") for n in ("1", "2", "3")}
        absent = [n for n, paths in blocks.items() if not paths]
        if absent:
            some = f" block {', '.join(absent)}" if len(absent) < len(blocks) else ""
            missing.append(f"subject {subject}{some}")
        for n, paths in blocks.items():
            names = [_layout.relative(root, path) for path in paths]
            if names:
                refs.append(RecordingRef(CARD.name, subject, n, (*names, last)))
    return _layout.listing(CARD, root, refs, missing=missing, beside=_BESIDE)


def _of_block(chosen: Mapping[str, Path], key: str) -> list[Path]:
    return [chosen[k] for k in (key, f"{key} continued") if k in chosen]


def read(root: Path, ref: RecordingRef) -> Recording:
    """Read one block: one stretch, in which relaxation and the condition lie.

    A presentation goes from its first usable minute to its last; what lies between and is not
    usable is NaN, and counted in `dropped`.

    Raises:
        DataError: no Poly5 file, one of another size than its header says, another rate than
            2,048 Hz, no channel of ECG or several, no questionnaire of this block, minutes of one
            block that answer differently, valence or arousal outside 1-9.
    """
    *paths, table = (root / name for name in ref.files)
    block = _block(table, int(ref.subject), int(ref.session))
    start, x_T = _joined([_signal(path) for path in paths], ref.files[0])
    usable, dropped = _usable(x_T, start, block, ref.files[0])
    presentations = []
    for code, seconds in usable.items():
        if not seconds:
            where = f"{ref.files[0]} {_CONDITIONS[code]}"
            dropped.append(Dropped("presentation", where, "no usable minute"))
            continue
        presentations.append(_presentation(code, seconds, block, int(ref.session)))
    _blank_rest(x_T, [s for seconds in usable.values() for s in seconds])
    return Recording(
        ref=ref,
        stretches=(Stretch(ecg_LT=x_T[None]),),
        presentations=tuple(presentations),
        ecg_leads=ECG.leads,
        ecg_sfreq=ECG.sfreq,
        dropped=tuple(dropped),
    )


def _presentation(code: str, seconds: Sequence[float], block: _Block, number: int) -> Presentation:
    name = _CONDITIONS[code]
    works = code != _RELAXATION
    return Presentation(
        stimulus=name,
        ordinal=int(works),
        stretch=0,
        start_s=seconds[0],
        stop_s=seconds[-1] + _MINUTE_S,
        ratings={"block": float(number), **(block.ratings if works else {})},
        label=CARD.emotions.index(name) if works else None,
    )


# The signal ---------------------------------------------------------------------------------------


def _signal(path: Path) -> tuple[datetime, Float32Array]:
    """When a file begins, and its ECG in microvolts (T,)."""
    header = poly5.read_header(path)
    if header.sfreq != ECG.sfreq:
        raise DataError(f"{path}: need {ECG.sfreq:g} Hz, found {header.sfreq:g} Hz")
    place = _lead(path, header.names)
    x_T = poly5.read(path, header, [place])[0]
    x_T *= np.float32(_microvolts(path, header.channels[place]))
    return header.start, x_T


def _lead(path: Path, names: Sequence[str]) -> int:
    """Place of the ECG among the channels, by its name."""
    for pattern in _LEADS:
        places = [i for i, n in enumerate(names) if re.search(pattern, n, re.IGNORECASE)]
        if len(places) == 1:
            return places[0]
        if places:
            found = ", ".join(names[i] for i in places)
            raise DataError(f"{path}: need one channel of ECG, found {len(places)}: {found}")
    raise DataError(f"{path}: need a channel of ECG (portiHeartPre, ECG), found {', '.join(names)}")


def _microvolts(path: Path, channel: poly5.Channel) -> float:
    """Of one unit: `uV`, `mVolt`, `\\xb5V` or, on old computers, `\\xe6V`."""
    unit = re.sub("[\xb5\u03bc\xe6]", "u", channel.unit)
    match = re.fullmatch(r"([um]?)v(?:olts?)?", unit, re.IGNORECASE)
    if match is None:
        raise DataError(f"{path} {channel.name}: need volts, found the unit {channel.unit!r}")
    return _MICROVOLTS[match[1].lower()]


def _joined(
    parts: Sequence[tuple[datetime, Float32Array]], file: str
) -> tuple[datetime, Float32Array]:
    """A block and its continuation as one signal, NaN between them, by their clock."""
    if len(parts) == 1:
        return parts[0]
    parts = sorted(parts, key=lambda part: part[0])
    begin = parts[0][0]
    starts = [round((start - begin).total_seconds() * ECG.sfreq) for start, _ in parts]
    stops = [start + len(x_T) for start, (_, x_T) in zip(starts, parts, strict=True)]
    if stops[-1] > _LONGEST_S * ECG.sfreq or any(
        later < stop for later, stop in zip(starts[1:], stops, strict=False)
    ):
        clocks = " and ".join(f"{start:%d-%m-%Y %H:%M:%S}" for start, _ in parts)
        raise DataError(
            f"{file}: need a continuation that begins after the first part's "
            f"{len(parts[0][1]) / ECG.sfreq:g} s and on the same day, found them at {clocks}"
        )
    joined_T = np.full(stops[-1], np.nan, dtype=np.float32)
    for start, stop, (_, x_T) in zip(starts, stops, parts, strict=True):
        joined_T[start:stop] = x_T
    return begin, joined_T


def _usable(
    x_T: Float32Array, start: datetime, block: _Block, file: str
) -> tuple[dict[str, list[float]], list[Dropped]]:
    """By condition: where usable minutes begin, in seconds; and why the others are none."""
    usable: dict[str, list[float]] = {}
    dropped: list[Dropped] = []
    for code in sorted(block.minutes, key=lambda code: code != _RELAXATION):
        usable[code], lost = [], Counter[str]()
        for minute in sorted(block.minutes[code]):
            begin_s = (minute - start).total_seconds()
            if fault := _fault(x_T, begin_s):
                lost[fault] += 1
            else:
                usable[code].append(begin_s)
        where = f"{file} {_CONDITIONS[code]}"
        dropped += [Dropped("minute", where, reason, n) for reason, n in lost.items()]
    return usable, dropped


def _fault(x_T: Float32Array, begin_s: float) -> str:
    first, last = (round(s * ECG.sfreq) for s in (begin_s, begin_s + _MINUTE_S))
    if first < 0 or last > len(x_T):
        return "minute outside of the recording"
    return _ecg_quality.fault(x_T[first:last], ECG.sfreq)


def _blank_rest(x_T: Float32Array, usable: Sequence[float]) -> None:
    """NaN, in place, wherever no usable minute lies: no segment may be cut there."""
    keeps_T = np.zeros(len(x_T), dtype=bool)
    for begin_s in usable:
        keeps_T[round(begin_s * ECG.sfreq) : round((begin_s + _MINUTE_S) * ECG.sfreq)] = True
    x_T[~keeps_T] = np.nan


# The table ----------------------------------------------------------------------------------------


def _block(path: Path, subject: int, number: int) -> _Block:
    files.check_file(path)  # also where its rows are remembered
    stat = path.stat()
    blocks = _blocks(path, stat.st_size, stat.st_mtime_ns)
    block = blocks.get((subject, number))
    where = f"PP{subject} block {number}"
    if block is None or not set(block.minutes) - {_RELAXATION}:
        raise DataError(f"{path}: need minutes of work of {where}, found none")
    if len(block.minutes) > 2 or (len(block.minutes) == 2 and _RELAXATION not in block.minutes):
        found = ", ".join(block.minutes)
        raise DataError(f"{path}: need one condition in {where}, found {found}")
    if absent := [column for name, column in _RATINGS.items() if name not in block.ratings]:
        raise DataError(f"{path}: need the questionnaire of {where}, found no {', '.join(absent)}")
    for name in ("valence", "arousal"):
        _layout.check_rating(
            block.ratings[name], SCALE, name=name, where=f"{path} {where} {_RATINGS[name]}"
        )
    return block


@lru_cache(maxsize=2)
def _blocks(path: Path, size: int, mtime_ns: int) -> Mapping[tuple[int, int], _Block]:
    """What the table says, by person and block; each row is a minute. Remembered per process."""
    blocks: dict[tuple[int, int], _Block] = {}
    for i, row in enumerate(spreadsheet.read_columns(path, [*_WHEN, *_RATINGS.values()]), 2):
        where = f"{path} row {i}"
        person = re.fullmatch(r"PP(\d+)", str(row.get(_PERSON, "")), re.IGNORECASE)
        code = str(row.get(_CONDITION, "")).upper()
        number = row.get(_BLOCK)
        if (
            person is None
            or code not in _CONDITIONS
            or number not in (1.0, 2.0, 3.0, "1", "2", "3")
        ):
            raise DataError(
                f"{where}: need a person PP<n>, a block 1-3 and a condition R, N, T or I, found "
                f"{row.get(_PERSON)!r}, {number!r}, {row.get(_CONDITION)!r}"
            )
        block = blocks.setdefault((int(person[1]), int(number or 0)), _Block())
        minutes = block.minutes.setdefault(code, [])
        if (minute := _minute(row.get(_TIME), where)) not in minutes:
            minutes.append(minute)
        if code != _RELAXATION:
            _add_ratings(block.ratings, row, where)
    return blocks


def _minute(text: spreadsheet.Cell | None, where: str) -> datetime:
    """`20120918T090000000`: the last three digits are milliseconds."""
    match = re.fullmatch(r"(\d{8}T\d{6})(\d{3})?", str(text))
    try:
        minute = datetime.strptime(match[1] if match else "", "%Y%m%dT%H%M%S")
    except ValueError:
        raise DataError(
            f"{where} {_TIME}: need a time such as 20120918T090000000, found {text!r}"
        ) from None
    return minute + timedelta(milliseconds=int(match[2] or 0) if match else 0)


def _add_ratings(
    ratings: dict[str, float], row: Mapping[str, spreadsheet.Cell], where: str
) -> None:
    """The answers to a block's questionnaire, which each of its minutes repeats."""
    for name, column in _RATINGS.items():
        if column not in row:
            continue
        try:
            rating = float(row[column])
        except ValueError:
            rating = math.nan
        if not math.isfinite(rating):
            raise DataError(f"{where} {column}: need a number, found {row[column]!r}")
        if ratings.setdefault(name, rating) != rating:
            raise DataError(
                f"{where} {column}: need one answer in a block, found {ratings[name]:g} and "
                f"{rating:g}"
            )


# The example --------------------------------------------------------------------------------------


def write_example(
    root: Path, source: SignalSource, *, n_subjects: int, duration_s: float | None
) -> None:
    """Write Poly5 files and the table; whole minutes, 1.5 MB each, 193 MB a subject at full length.

    The traps: a block's number is not its condition; relaxation comes first, and its last minute
    has no ECG; the ECG is the last of three channels; seconds between relaxation and work that
    belong to neither; a last minute in the table that was not recorded; names of files with other
    signs between; cells that are left out.
    """
    folder = root / "0 - Raw data" / "D - Physiology - raw data"
    folder /= "Mobi signals (raw and filtered)"
    folder.mkdir(parents=True, exist_ok=True)
    head = ("Subject nr", *_WHEN, "HR", *_RATINGS.values())
    rows: list[Sequence[spreadsheet.Cell | None]] = [head]
    for i, subject in enumerate(_layout.example_subjects(CARD, n_subjects)):
        for k, code in enumerate(_ORDERS[i % len(_ORDERS)]):
            start = _BEGIN + timedelta(days=i, hours=1.25 * k)
            between = "-" if subject % 10 == 2 else "_"
            name = f"pp{subject}_{start.day}-{start.month}-{start.year}{between}c{k + 1}.S00"
            ratings, va = _example_ratings(source, subject, _CONDITIONS[code])
            n_minutes = {
                c: max(1, math.ceil(duration_s / _MINUTE_S)) if duration_s else _N_MINUTES[c]
                for c in (_RELAXATION, code)
            }
            n_minutes[_RELAXATION] += 1
            x_CT = _example_signal(source, subject, (_RELAXATION, code), n_minutes, va)
            poly5.write(folder / name, _EXAMPLE_CHANNELS, x_CT, sfreq=round(ECG.sfreq), start=start)
            rows += _example_rows(subject, k + 1, code, n_minutes, start, ratings)
    spreadsheet.write(root / _TABLE, rows)


def _example_ratings(
    source: SignalSource, subject: int, stimulus: str
) -> tuple[list[float], tuple[float, float]]:
    """Answers in the order of `_RATINGS`, and the point of [-4, 4] that they mean."""
    felt = source.rating(CARD.name, subject, stimulus, _PLANTED[stimulus])
    rated = _layout.to_scale(felt, SCALE, integer=True)
    third = _layout.other_rating(rated, SCALE)
    others = [third, *(third / 2 + n for n in range(len(_RATINGS) - 3))]
    return [*rated, *others], _layout.from_scale(rated, SCALE)


def _example_signal(
    source: SignalSource,
    subject: int,
    codes: Sequence[str],
    n_minutes: Mapping[str, int],
    va: tuple[float, float],
) -> FloatArray:
    """Three channels: relaxation, a minute without ECG, seconds of neither, and work."""
    relaxation, work = (
        source.ecg(CARD.name, subject, stimulus, len(ECG.leads), ECG.sfreq, n * _MINUTE_S, point)
        for stimulus, n, point in (
            (f"rest before {_CONDITIONS[codes[1]]}", n_minutes[codes[0]] - 1, (0.0, 0.0)),
            (_CONDITIONS[codes[1]], n_minutes[codes[1]], va),
        )
    )
    off_1T = np.zeros((1, round((_MINUTE_S + _BETWEEN_S) * ECG.sfreq)))
    heart_1T = 1e3 * np.concatenate((relaxation, off_1T, work), axis=1)
    others_2T = np.full((2, heart_1T.shape[1]), 80.0)
    return np.concatenate((others_2T, heart_1T))


def _example_rows(
    subject: int,
    number: int,
    code: str,
    n_minutes: Mapping[str, int],
    start: datetime,
    ratings: Sequence[float],
) -> list[Sequence[spreadsheet.Cell | None]]:
    """A row a minute; relaxation has no answers, and the last minute was not recorded."""
    rows: list[Sequence[spreadsheet.Cell | None]] = []
    at = start
    for condition, n in ((_RELAXATION, n_minutes[_RELAXATION]), (code, n_minutes[code] + 1)):
        answers = [None] * len(ratings) if condition == _RELAXATION else ratings
        for minute in range(n):
            time = at + timedelta(minutes=minute)
            written = f"{time:%Y%m%dT%H%M%S}000"
            heart_rate = 70.0 if minute % 2 else None
            when = (f"PP{subject}", float(number), condition, written)
            rows.append((float(subject), *when, heart_rate, *answers))
        at += timedelta(minutes=n, seconds=_BETWEEN_S)
    return rows
