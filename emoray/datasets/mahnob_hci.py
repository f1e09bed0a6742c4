"""MAHNOB-HCI: 27 subjects, 20 film clips, EEG and ECG from one amplifier (Soleymani et al. 2012).

Each showing is a session folder with a BioSemi file, 30 s longer than the clip at both ends, and
a `session.xml` with the ratings. The sessions of one subject are one recording.
Shapes: C = 32 electrodes, L = 3 ECG electrodes, T samples.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path, PurePosixPath

import mne
import numpy as np

from emoray.datasets import _layout, _overlap
from emoray.datasets.formats import biosemi, files
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
    channels=electrodes.GENEVA_32,
    sfreq=256.0,
    unit="uV",
    sfreq_paper=256.0,
    sfreq_code=128.0,
)
ECG = EcgCard(leads=("EXG1", "EXG2", "EXG3"), sfreq=256.0, unit="uV")
CARD = Card(
    name="mahnob_hci",
    title="MAHNOB-HCI",
    reference="Soleymani et al., A Multimodal Database for Affect Recognition and Implicit "
    "Tagging, IEEE Trans. Affective Computing 3(1), 2012",
    layout="""MAHNOB-HCI/
Sessions/<id>/Part_<subject>_S_Trial<number>_emotion.bdf
Sessions/<id>/session.xml""",
    n_subjects=27,
    n_recordings=27,
    n_presentations=20,
    eeg=EEG,
    segment_s=10.0,
    scale=Scale(1.0, 9.0),
    n_segments_paper=3955,
    ecg=ECG,
    clips=_overlap.NUMBERED_FILMS,
    notes="Subjects 12, 15 and 26 are not in the release; 3, 9 and 16 saw 17, 14 and 16 clips. "
    "The ECG electrodes lie on the right and left upper chest and the left abdomen; a lead is the "
    "difference of two.",
)

_SESSION = r"\d+/Part_(\d+)_S_Trial(\d+)_emotion\.bdf"
_XML = "session.xml"
_RATINGS = {
    "valence": "feltVlnc",
    "arousal": "feltArsl",
    "dominance": "feltCtrl",
    "predictability": "feltPred",
}
"""Attributes of `session.xml`. Without the first two, a session is left out."""
_SUBJECTS = tuple(n for n in range(1, 31) if n not in (12, 15, 26))
_N_INCOMPLETE = {3: 17, 9: 14, 16: 16}
_BESIDE = (r"\d+/(?!Part_\d+_S_Trial\d+_emotion\.bdf)[^/]+", r"readme[^/]*")

_LEAD_S = 30.0
_LENGTHS_S = (
    34.9, 45, 52, 58, 62, 66, 70, 73, 76, 78, 80, 83, 85, 88, 91, 94, 98, 102, 108, 117,
)  # fmt: skip
"""Of the example's clips: the published range, and about the paper's 3955 / 527 = 7.5 segments
for each."""
_PULSE, _PULSE_SAMPLES = 16, 20


def find(root: Path) -> Listing:
    """Group the stimulus recordings by subject; other recordings of a session are passed over.

    Raises:
        DataError: no file at all, or the same trial of a subject in two sessions.
    """
    found = (
        (f"{int(match[1]):02} trial {int(match[2]):02}", path)
        for match, path in _layout.find_files(root, _SESSION)
        if int(match[1]) in _SUBJECTS
    )
    chosen = _layout.one_each(root, found, what="subject")
    refs, missing = [], []
    for number in _SUBJECTS:
        paths = [path for key, path in chosen.items() if key.startswith(f"{number:02} ")]
        n_expected = _N_INCOMPLETE.get(number, CARD.n_presentations)
        if len(paths) < n_expected:
            part = f", {n_expected - len(paths)} of {n_expected} recordings" if paths else ""
            missing.append(f"subject {number:02}{part}")
        if paths:
            xmls = {bdf: _layout.companion(bdf.parent, _XML) for bdf in paths}
            both = [p for bdf, xml in xmls.items() for p in (bdf, xml or bdf.with_name(_XML))]
            names = tuple(_layout.relative(root, p) for p in both)
            missing += [n for n, xml in zip(names[1::2], xmls.values(), strict=True) if not xml]
            refs.append(RecordingRef(CARD.name, f"{number:02}", "1", names))
    return _layout.listing(CARD, root, refs, missing=missing, beside=_BESIDE)


def read(root: Path, ref: RecordingRef) -> Recording:
    """Read one subject: a stretch for each session, its clip between the two status pulses.

    A session without ratings is left out and reported in `dropped`.

    Raises:
        DataError: truncated or shifted file, an electrode missing, another rate than 256 Hz,
            another unit or gain than the amplifier's, another number of pulses than two,
            `session.xml` missing or damaged, a rating that is not a whole number in 1-9.
    """
    stretches: list[Stretch] = []
    presentations: list[Presentation] = []
    dropped: list[Dropped] = []
    for name, xml in zip(ref.files[::2], ref.files[1::2], strict=True):
        path = root / name
        session = _session(root / xml)
        if absent := [a for a in ("feltVlnc", "feltArsl") if a not in session]:
            where = f"{name} presentation {_trial(name)}"
            dropped.append(Dropped("presentation", where, f"no {' and '.join(absent)}"))
            continue
        stretch, start_s, stop_s = _stretch(path)
        presentations.append(
            _presentation(path, root / xml, session, len(stretches), start_s=start_s, stop_s=stop_s)
        )
        stretches.append(stretch)
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


def _trial(name: str) -> int:
    match = re.search(rf"(?:^|/){_SESSION}$", name, re.IGNORECASE)
    assert match is not None
    return int(match[2])


def _session(path: Path) -> dict[str, str]:
    """Attributes of the root of `session.xml`."""
    text = files.read_small(path)
    try:
        root = ET.fromstring(text)
    # An encoding that Python does not know is a LookupError or a ValueError, by its name.
    except (ET.ParseError, LookupError, ValueError) as error:
        raise DataError(
            f"{path}: need a whole session.xml, found {error}; it starts with {text[:40]!r}"
        ) from error
    tag = root.tag.rpartition("}")[2]
    if tag != "session":
        page = ", a web page: was there a login before the download?" * (tag.lower() == "html")
        raise DataError(f"{path}: need the element <session>, found <{tag}>{page}")
    return dict(root.attrib)


def _stretch(path: Path) -> tuple[Stretch, float, float]:
    """Signals of one file in microvolts, and the seconds at which its clip starts and stops."""
    names = _names(path)
    try:
        raw = mne.io.read_raw_bdf(
            path, include=[*names.values()], stim_channel=biosemi.STATUS, verbose="ERROR"
        )
        pulses = mne.find_events(raw, stim_channel=biosemi.STATUS, verbose="ERROR")[:, 0]
        x_CT, ecg_LT = (
            raw.get_data(picks=[names[n] for n in group], verbose="ERROR") * 1e6  # volts
            for group in (EEG.channels, ECG.leads)
        )
    except MemoryError:
        raise
    except Exception as error:  # MNE also asserts; a recording has twenty files: say which
        raise DataError(
            f"{path}: need a BioSemi file that MNE reads, found {type(error).__name__}: {error}"
        ) from error
    sfreq = EEG.sfreq
    if len(pulses) != 2:
        at = ", ".join(f"{pulse / sfreq:.1f} s" for pulse in pulses) or "none"
        raise DataError(
            f"{path} {biosemi.STATUS}: need two pulses, at start and end of the clip; "
            f"found {len(pulses)}: {at}"
        )
    start_s, stop_s = (float(pulse) / sfreq for pulse in pulses)
    return Stretch(_layout.signals(x_CT), _layout.signals(ecg_LT)), start_s, stop_s


def _names(path: Path) -> dict[str, str]:
    """The file's label of each electrode and ECG electrode; the file has them in any order.

    What the header says of them has been checked then.
    """
    header = biosemi.read_header(path)
    names = {electrodes.canonical(x): x for x in header.labels if electrodes.is_electrode(x)}
    names |= {x: x for x in header.labels if x in (*ECG.leads, biosemi.STATUS)}
    wanted = (*EEG.channels, *ECG.leads, biosemi.STATUS)
    if absent := [name for name in wanted if name not in names]:
        found = ", ".join(header.labels)
        raise DataError(f"{path}: need signals {', '.join(absent)}; found {found}")
    names = {name: names[name] for name in wanted}
    biosemi.check_signals(path, header, names.values(), sfreq=EEG.sfreq)
    return names


def _presentation(
    path: Path, xml: Path, session: dict[str, str], stretch: int, *, start_s: float, stop_s: float
) -> Presentation:
    assert CARD.scale is not None
    where = f"{xml}"
    if "mediaFile" not in session:
        raise DataError(f"{where}: need attribute mediaFile, found {', '.join(session)}")
    ratings = {}
    for name, attribute in _RATINGS.items():
        if attribute not in session:
            continue
        try:
            rating = float(session[attribute])
        except ValueError:
            raise DataError(
                f"{where}: need a number for {attribute}, found {session[attribute]!r}"
            ) from None
        ratings[name] = _layout.check_rating(
            rating, CARD.scale, name=name, where=f"{where} {attribute}", integer=True
        )
    return Presentation(
        stimulus=PurePosixPath(session["mediaFile"]).stem,
        ordinal=_trial(path.as_posix()) - 1,
        stretch=stretch,
        start_s=start_s,
        stop_s=stop_s,
        ratings=ratings,
    )


def write_example(
    root: Path, source: SignalSource, *, n_subjects: int, duration_s: float | None
) -> None:
    """Write session folders with BioSemi files.

    The traps: electrodes shuffled in the header, signals after them that are no EEG, clips shown
    in another order to each subject, and decoys: a neutral session without ratings, and a
    `taggingVideos` recording. The 30 s around a clip shrink to `duration_s` if that is less.
    """
    for subject in _layout.example_subjects(CARD, n_subjects, of=_SUBJECTS):
        n_trials = _N_INCOMPLETE.get(subject, CARD.n_presentations)
        for trial in range(1, n_trials + 1):
            # 7 and 20 have no common factor: each subject sees every clip once.
            clip = (7 * trial + subject) % CARD.n_presentations
            seconds = duration_s or float(_LENGTHS_S[clip])
            folder = root / "Sessions" / str(130 * (subject - 1) + 2 * trial)
            folder.mkdir(parents=True, exist_ok=True)
            ratings = _example_ratings(source, subject, str(clip + 1))
            _write_session(folder, subject, f"{clip + 1}.avi", ratings)
            path = folder / f"Part_{subject}_S_Trial{trial}_emotion.bdf"
            _write_signals(path, source, subject, str(clip + 1), ratings, seconds)
        _write_decoys(root / "Sessions", subject)


def _example_ratings(source: SignalSource, subject: int, stimulus: str) -> tuple[float, float]:
    assert CARD.scale is not None
    va = source.rating(CARD.name, subject, stimulus)
    return _layout.to_scale(va, CARD.scale, integer=True)


def _write_session(
    folder: Path, subject: int, media: str, ratings: tuple[float, float] | None
) -> None:
    root = ET.Element("session", isStim="1" if ratings else "0", mediaFile=media)
    if ratings:
        assert CARD.scale is not None
        third = _layout.other_rating(ratings, CARD.scale)
        for attribute, rating in zip(_RATINGS.values(), (*ratings, third, third), strict=True):
            root.set(attribute, f"{rating:g}")
        root.set("feltEmo", "0")
    ET.SubElement(root, "subject", id=str(subject))
    ET.ElementTree(root).write(folder / "session.xml")


def _write_signals(
    path: Path,
    source: SignalSource,
    subject: int,
    stimulus: str,
    ratings: tuple[float, float],
    seconds: float,
) -> None:
    """One `.bdf`: what is read, in shuffled order, then eight signals that are not."""
    parts = _example_parts(source, subject, stimulus, ratings, seconds)
    x_KT = np.concatenate(parts, axis=1)
    others = ("EXG4", "EXG5", "EXG6", "EXG7", "EXG8", "GSR1", "Resp", "Temp")
    n_eeg = len(EEG.channels)
    order = np.random.default_rng(subject).permutation(n_eeg)
    labels = (*(EEG.channels[i] for i in order), *ECG.leads, *others)
    flat_KT = np.full((len(others), x_KT.shape[1]), 1000.0)
    status_T = np.zeros(x_KT.shape[1], dtype=np.int64)
    for onset in np.cumsum([part.shape[1] for part in parts[:2]]):
        status_T[onset : onset + _PULSE_SAMPLES] = _PULSE
    biosemi.write_bdf(
        path,
        labels,
        np.concatenate((x_KT[:n_eeg][order], x_KT[n_eeg:], flat_KT)),
        status_T,
        sfreq=round(EEG.sfreq),
    )


def _example_parts(
    source: SignalSource,
    subject: int,
    stimulus: str,
    ratings: tuple[float, float],
    seconds: float,
) -> list[FloatArray]:
    """Before, during and after the clip: electrodes, then ECG electrodes, in microvolts."""
    assert CARD.scale is not None
    sfreq = round(EEG.sfreq)
    n_lead, n_shown = round(min(_LEAD_S, seconds) * sfreq), round(seconds * sfreq)
    # Records last one second, so the time after the clip fills up the last of them.
    n_after = n_lead + -(2 * n_lead + n_shown) % sfreq
    parts = []
    for name, n, va in (
        (f"before {stimulus}", n_lead, (0.0, 0.0)),
        (stimulus, n_shown, _layout.from_scale(ratings, CARD.scale)),
        (f"after {stimulus}", n_after, (0.0, 0.0)),
    ):
        x_CT = source.eeg(CARD.name, subject, name, EEG.channels, sfreq, n / sfreq, va)
        ecg_LT = source.ecg(CARD.name, subject, name, len(ECG.leads), sfreq, n / sfreq, va, sfreq)
        parts.append(np.concatenate((x_CT, 1e3 * ecg_LT)))  # the source gives millivolts
    return parts


def _write_decoys(sessions: Path, subject: int) -> None:
    neutral = sessions / str(130 * (subject - 1) + 1)
    tagging = sessions / str(130 * (subject - 1) + 41)
    for folder in (neutral, tagging):
        folder.mkdir(exist_ok=True)
        _write_session(folder, subject, "neutral.avi", None)
    (neutral / f"Part_{subject}_N_Trial1_emotion.bdf").touch()
    (tagging / f"Part_{subject}_S_Trial1_taggingVideos.bdf").touch()
