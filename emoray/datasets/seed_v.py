"""SEED-V (Liu et al. 2021): five emotions, 16 subjects, three stimulus sets, raw Neuroscan files.

One recording per file. Presentations are cut by the publisher's clock; each becomes a stretch
with some seconds of the recording on either side, so that a filter settles outside of it.
Shapes: C electrodes, T samples.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from emoray.datasets import _layout, _overlap
from emoray.datasets.formats import files, neuroscan
from emoray.vocabulary import affect, electrodes
from emoray.vocabulary.schema import (
    Card,
    DataError,
    Dropped,
    EegCard,
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
    name="seed_v",
    title="SEED-V",
    reference="Liu et al., Comparing recognition performance and robustness of multimodal deep "
    "learning models for multimodal emotion recognition, IEEE TCDS 2021",
    layout="SEED-V/\nEEG_raw/{subject}_{session}_{yyyymmdd}.cnt",
    n_subjects=16,
    n_recordings=48,
    n_presentations=15,
    eeg=EEG,
    segment_s=1.0,
    emotions=("disgust", "fear", "sadness", "neutral", "joy"),
    n_segments_paper=117_744,
    n_segments_per_subject=7359,
    people=_overlap.SEED_FAMILY,
    notes="The session in a file's name is the stimulus set, not the order of the visits. "
    "20 subjects were recorded, 16 released. M1, M2, VEO and HEO are dropped. One public loader "
    "calls 7_1_20180411 troublesome, without saying why.",
)

NOT_SCALP = frozenset({"M1", "M2", "VEO", "HEO"})
"""Channels of the file that are not returned: mastoids and the two EOG pairs."""

MARGIN_S = 10.0
"""Seconds kept on either side of a presentation; a 0.3 Hz FIR high-pass needs 5.5."""

Clock = tuple[tuple[float, float], ...]
"""Start and stop of each presentation, in seconds from the start of the file."""

CLOCK: dict[str, Clock] = {
    session: tuple(zip(map(float, starts.split()), map(float, stops.split()), strict=True))
    for session, starts, stops in (
        (
            "1",
            "30 132 287 555 773 982 1271 1628 1730 2025 2227 2435 2667 2932 3204",
            "102 228 524 742 920 1240 1568 1697 1994 2166 2401 2607 2901 3172 3359",
        ),
        (
            "2",
            "30 299 548 646 836 1000 1091 1392 1657 1809 1966 2186 2333 2490 2741",
            "267 488 614 773 967 1059 1331 1622 1777 1908 2153 2302 2428 2709 2817",
        ),
        (
            "3",
            "30 353 478 674 825 908 1200 1346 1451 1711 2055 2307 2457 2726 2888",
            "321 418 643 764 877 1147 1284 1418 1679 1996 2275 2425 2664 2857 3066",
        ),
    )
}
"""The publisher's table. `trial_start_end_timestamp.txt` has it too, in a form not documented."""

LABELS: dict[str, tuple[int, ...]] = {
    "1": (4, 1, 3, 2, 0, 4, 1, 3, 2, 0, 4, 1, 3, 2, 0),
    "2": (2, 1, 3, 0, 4, 4, 0, 3, 2, 1, 3, 4, 1, 2, 0),
    "3": (2, 1, 3, 0, 4, 4, 0, 3, 2, 1, 3, 4, 1, 2, 0),
}
"""Class of each presentation: index into the card's emotions."""

_NOTE = "rehearsal.json"
"""Left by `write_example` when it shortens the presentations: {"clock_s": {session: [[start,
stop], ...]}}. A published release has no such file, and then the publisher's clock holds."""

_PUBLISHED_COUNT = -732
"""Number of samples in the headers of published files: 66 x 4294966564 in the error messages of
torcheeg#145 and CBraMod#11."""

_FILE = r"EEG_raw/(\d+)_([1-3])_(\d{8})\.cnt"
_BESIDE = (
    r"(EEG_DE_features|Eye_raw|Eye_movement_features)/.*",
    r"(Channel Order|emotion_label_and_stimuli_order)\.xlsx",
    r"trial_start_end_timestamp\.txt",
    r"Read ?me\.txt",
)


def find(root: Path) -> Listing:
    """List the recordings: one per subject and stimulus set.

    Raises:
        DataError: no recording at all, or two files of one subject and set.
    """
    named = [
        (f"{int(match[1]):02d} session {match[2]}", path)
        for match, path in _layout.find_files(root, _FILE)
    ]
    chosen = _layout.one_each(root, named, what="subject")
    note = (_NOTE,) if (root / _NOTE).is_file() else ()
    refs = [
        RecordingRef(CARD.name, key[:2], key[-1], (_layout.relative(root, path), *note))
        for key, path in chosen.items()
    ]
    subjects = range(1, CARD.n_subjects + 1)
    expected = [f"{subject:02d} session {session}" for subject in subjects for session in CLOCK]
    missing = _layout.missing_subjects(chosen, expected)
    return _layout.listing(CARD, root, refs, missing=missing, beside=_BESIDE)


def read(root: Path, ref: RecordingRef) -> Recording:
    """Read the stretches around the presentations of one file; the rest stays on the disk.

    Raises:
        DataError: the file is truncated or shifted, is not at 1000 Hz, lacks an electrode or its
            calibration, has one that the 10-10 system does not know, or ends before its first
            presentation does.
    """
    path = root / ref.files[0]
    header = neuroscan.check_cnt(path)
    if header.sfreq != EEG.sfreq:
        raise DataError(f"{path}: need {EEG.sfreq:g} Hz, found {header.sfreq:g} Hz")
    rows = _scalp_rows(path, header.channels)
    n_s = header.n_samples / header.sfreq
    clock = clock_of(root, ref.session)
    kept = [k for k, (_, stop) in enumerate(clock) if stop <= n_s]
    if not kept:
        raise DataError(
            f"{path}: need {clock[0][1]:g} s to hold the first presentation, found {n_s:g} s"
        )
    spans = [with_margins(clock, k, n_s) for k in kept]
    windows = [(round(a * header.sfreq), round(b * header.sfreq)) for a, b in spans]
    eeg = neuroscan.read_windows(path, header, rows, windows)
    return Recording(
        ref=ref,
        eeg_channels=EEG.channels,
        eeg_sfreq=EEG.sfreq,
        stretches=tuple(Stretch(eeg_CT) for eeg_CT in eeg),
        presentations=tuple(
            _presentation(ref.session, k, i, clock[k], windows[i][0]) for i, k in enumerate(kept)
        ),
        dropped=tuple(
            Dropped("presentation", f"{ref.files[0]} presentation {k + 1}", "recording ends early")
            for k in range(len(clock))
            if k not in kept
        ),
    )


def clock_of(root: Path, session: str) -> Clock:
    """When each presentation starts and stops, in seconds from the start of the file.

    The publisher's table, unless `write_example` left a shorter one beside the files.

    Raises:
        DataError: that note does not hold 15 pairs in ascending order for the session.
    """
    note = root / _NOTE
    if not note.exists():
        return CLOCK[session]
    try:
        pairs = json.loads(files.read_small(note))["clock_s"][session]
        clock = tuple((float(start), float(stop)) for start, stop in pairs)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{note}: need clock_s of session {session}, found none: {error}") from None
    ticks = [second for pair in clock for second in pair]
    if len(clock) != CARD.n_presentations or any(np.diff(ticks) <= 0):
        raise DataError(f"{note}: need 15 ascending pairs for session {session}, found {clock}")
    return clock


def with_margins(clock: Clock, k: int, n_s: float) -> tuple[float, float]:
    """Span of the stretch around presentation k: at most half the gap to each neighbour."""
    start, stop = clock[k]
    before = start - clock[k - 1][1] if k > 0 else 2 * start
    after = clock[k + 1][0] - stop if k + 1 < len(clock) else 2 * (n_s - stop)
    return start - min(MARGIN_S, before / 2), min(n_s, stop + min(MARGIN_S, after / 2))


def stimulus_name(session: str, k: int) -> str:
    """`2-07` for presentation 6 from 0: every stimulus set has clips of its own."""
    return f"{session}-{k + 1:02d}"


def _presentation(
    session: str, k: int, stretch: int, span: tuple[float, float], origin: int
) -> Presentation:
    """The presentation in a stretch that begins at sample `origin` of the file."""
    label = LABELS[session][k]
    start, stop = (round(second * EEG.sfreq) - origin for second in span)
    return Presentation(
        stimulus=stimulus_name(session, k),
        ordinal=k,
        stretch=stretch,
        start_s=start / EEG.sfreq,
        stop_s=stop / EEG.sfreq,
        emotion=CARD.emotions[label],
        label=label,
    )


def _scalp_rows(path: Path, channels: tuple[str, ...]) -> list[int]:
    """Row of the file of each electrode of the card."""
    rows: dict[str, int] = {}
    for row, name in enumerate(channels):
        if name.upper() in NOT_SCALP:
            continue
        site = electrodes.canonical(name, where=f"{path} channel {row + 1}")
        if site in rows:
            raise DataError(f"{path}: need {site} once, found it in rows {rows[site]} and {row}")
        rows[site] = row
    absent = [site for site in EEG.channels if site not in rows]
    if absent:
        raise DataError(f"{path}: need {len(EEG.channels)} electrodes, lacks {absent}")
    return [rows[site] for site in EEG.channels]


def write_example(
    root: Path, source: SignalSource, *, n_subjects: int, duration_s: float | None
) -> None:
    """Write `.cnt` files whose mastoids and EOG stand in the middle of the channel list.

    The other traps: the third stimulus set was recorded before the second, and the first set's
    files announce as many samples as the published ones do. Rows that are not scalp hold a
    constant 9 mV.
    """
    clocks = CLOCK if duration_s is None else {s: _shortened(duration_s) for s in CLOCK}
    folder = root / "EEG_raw"
    folder.mkdir(parents=True, exist_ok=True)
    if duration_s is not None:
        (root / _NOTE).write_text(json.dumps({"clock_s": clocks}, indent=1))
    (root / "trial_start_end_timestamp.txt").write_text("not read\n")
    days = {"1": "20180804", "2": "20180822", "3": "20180811"}
    channels = list(electrodes.SEED_62)
    for after, name in (("T8", "M1"), ("TP8", "M2"), ("CB1", "VEO"), ("VEO", "HEO")):
        channels.insert(channels.index(after) + 1, name)
    for subject in _layout.example_subjects(CARD, n_subjects):
        for session, clock in clocks.items():
            neuroscan.write_cnt(
                folder / f"{subject}_{session}_{days[session]}.cnt",
                _blocks(source, subject, session, clock, channels),
                [name.upper() for name in channels],
                int(EEG.sfreq),
                announced=_PUBLISHED_COUNT if session == "1" else None,
            )


def _shortened(duration_s: float) -> Clock:
    gap_s = min(5.0, duration_s / 2)
    starts = [gap_s + k * (duration_s + gap_s) for k in range(CARD.n_presentations)]
    return tuple((round(start, 3), round(start + duration_s, 3)) for start in starts)


def _blocks(
    source: SignalSource, subject: int, session: str, clock: Clock, channels: list[str]
) -> Iterator[FloatArray]:
    """Rest and presentation in turn, and a rest that closes the file."""
    now_s = 0.0
    for k, (start_s, stop_s) in enumerate(clock):
        stimulus = stimulus_name(session, k)
        va = affect.place_emotion(CARD.emotions[LABELS[session][k]])
        rest = f"{stimulus}-rest"
        yield _block(source, subject, rest, start_s - now_s, (0.0, 0.0), channels)
        yield _block(source, subject, stimulus, stop_s - start_s, va, channels)
        now_s = stop_s
    yield _block(source, subject, f"{session}-rest", clock[0][0], (0.0, 0.0), channels)


def _block(
    source: SignalSource,
    subject: int,
    stimulus: str,
    seconds: float,
    va: tuple[float, float],
    channels: list[str],
) -> FloatArray:
    eeg_CT = source.eeg(CARD.name, subject, stimulus, EEG.channels, EEG.sfreq, seconds, va)
    block_CT = np.full((len(channels), eeg_CT.shape[1]), 9000.0)
    block_CT[[row for row, name in enumerate(channels) if name not in NOT_SCALP]] = eeg_CT
    return block_CT
