"""DREAMER: 23 subjects, 18 film clips, EEG and ECG of cheap devices (Katsigiannis & Ramzan 2018).

The release is one structure in one file; a subject is taken out of it without loading the others.
Shapes: C = 14 electrodes, L = 2 ECG leads, T samples.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from emoray.datasets import _layout
from emoray.datasets.formats import matlab
from emoray.vocabulary import electrodes
from emoray.vocabulary.schema import (
    Card,
    DataError,
    EcgCard,
    EegCard,
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

EEG = EegCard(
    channels=electrodes.EPOC_14,
    sfreq=128.0,
    unit="arbitrary",
    sfreq_paper=128.0,
    sfreq_code=128.0,
)
ECG = EcgCard(leads=("ecg1", "ecg2"), sfreq=256.0, unit="arbitrary")
CARD = Card(
    name="dreamer",
    title="DREAMER",
    reference="Katsigiannis & Ramzan, DREAMER: A Database for Emotion Recognition Through EEG and "
    "ECG Signals From Wireless Low-cost Off-the-Shelf Devices, IEEE J-BHI 22(1), 2018",
    layout="""DREAMER/
DREAMER.mat""",
    n_subjects=23,
    n_recordings=23,
    n_presentations=18,
    eeg=EEG,
    segment_s=10.0,
    scale=Scale(1.0, 5.0),
    n_segments_paper=8372,
    n_segments_per_subject=364,
    ecg=ECG,
    notes="Raw Emotiv values with an offset near 4000. The 61 s before each clip are arrays of "
    "their own and are not read.",
)

_FILE = "DREAMER.mat"
_RATINGS = {"valence": "ScoreValence", "arousal": "ScoreArousal", "dominance": "ScoreDominance"}
_HEAD: tuple[matlab.Part, ...] = (
    ("DREAMER", "EEG_SamplingRate"),
    ("DREAMER", "ECG_SamplingRate"),
    ("DREAMER", "EEG_Electrodes"),
)
"""What all subjects share, checked with each of them."""
_BESIDE = (r"[^/]*\.(?:pdf|txt|md|html?|docx?)",)

OFFSET = 4000.0
"""Added to the example's EEG, as the device does."""
_REST_S = 61.0
_LENGTHS_S = (
    65, 104, 113, 122, 131, 152, 164, 173, 182, 194, 205, 215, 227, 251, 285, 343, 387, 393,
)  # fmt: skip
"""Of the example's clips. The true ones are not published; these span the published range and
give the 364 segments of 10 s that EMOD counts for a subject."""


def find(root: Path) -> Listing:
    """List the subjects of the one file; opens only the head of its list of subjects.

    Raises:
        DataError: no file, two of them, or one that is not MATLAB's.
    """
    found = ((_FILE, path) for _, path in _layout.find_files(root, r"DREAMER\.mat"))
    files = _layout.one_each(root, found, what="file")
    expected = [f"{n:02}" for n in range(1, CARD.n_subjects + 1)]
    refs = [
        RecordingRef(CARD.name, subject, "1", (_layout.relative(root, path),))
        for path in files.values()
        for subject in expected[: _n_cells(path)]
    ]
    missing = _layout.missing_subjects((ref.subject for ref in refs), expected)
    return _layout.listing(CARD, root, refs, missing=missing, beside=_BESIDE)


def read(root: Path, ref: RecordingRef) -> Recording:
    """Read one subject: a stretch for each of the 18 clips, EEG at 128 Hz and ECG at 256 Hz.

    Raises:
        DataError: truncated file, another rate or electrode than published, samples and
            electrodes exchanged, EEG and ECG of different lengths, a rating that is not a whole
            number in 1-5.
    """
    path = root / ref.files[0]
    own: matlab.Part = ("DREAMER", "Data", int(ref.subject) - 1)
    clips: list[matlab.Part] = [(*own, device, "stimuli") for device in ("EEG", "ECG")]
    fields: list[matlab.Part] = [(*own, field) for field in _RATINGS.values()]
    eeg_hz, ecg_hz, names, eeg, ecg, *scores = matlab.load_parts(path, [*_HEAD, *clips, *fields])
    _check_head(path, eeg_hz, ecg_hz, names)
    where = f"{path} subject {ref.subject}"
    eeg, ecg = _clips(eeg, f"{where} EEG"), _clips(ecg, f"{where} ECG")
    rows = {k: _scores(v, f"{where} {k}") for k, v in zip(_RATINGS, scores, strict=True)}
    place = f"{path.name} subject {ref.subject} presentation"
    shown = [_same_seconds(eeg[i], ecg[i], f"{place} {i + 1}") for i in range(len(eeg))]
    return Recording(
        ref=ref,
        eeg_channels=EEG.channels,
        eeg_sfreq=EEG.sfreq,
        stretches=tuple(Stretch(eeg_CT, ecg_LT) for eeg_CT, ecg_LT in shown),
        presentations=tuple(
            _presentation(i, eeg_CT, {k: v[i] for k, v in rows.items()}, f"{place} {i + 1}")
            for i, (eeg_CT, _) in enumerate(shown)
        ),
        ecg_leads=ECG.leads,
        ecg_sfreq=ECG.sfreq,
    )


def _n_cells(path: Path) -> int:
    return int(np.prod(matlab.shape(path, ("DREAMER", "Data"))))


def _check_head(path: Path, eeg_hz: Any, ecg_hz: Any, names: Any) -> None:
    for name, value, published in (
        ("EEG_SamplingRate", eeg_hz, EEG.sfreq),
        ("ECG_SamplingRate", ecg_hz, ECG.sfreq),
    ):
        if np.ravel(value).tolist() != [published]:
            raise DataError(
                f"{path} {name}: need {published:g} Hz, found {np.ravel(value).tolist()}"
            )
    where = f"{path} EEG_Electrodes"
    found = tuple(
        electrodes.canonical(str(np.ravel(name)[0]), where=where) for name in np.ravel(names)
    )
    if found != EEG.channels:
        raise DataError(f"{where}: need {' '.join(EEG.channels)}, found {' '.join(found)}")


def _clips(cells: Any, where: str) -> Any:
    """The 18 arrays of one device."""
    if cells.dtype != object or cells.size != CARD.n_presentations:
        raise DataError(
            f"{where}.stimuli: need {CARD.n_presentations} cells, "
            f"found {cells.dtype} of shape {cells.shape}"
        )
    return cells.ravel()


def _scores(scores: Any, where: str) -> list[float]:
    row = np.ravel(scores)
    _layout.check_shape(row, (CARD.n_presentations,), where=where, axes="presentations")
    return [float(score) for score in row]


def _same_seconds(
    eeg_TC: FloatArray, ecg_TL: FloatArray, where: str
) -> tuple[Float32Array, Float32Array]:
    """Both devices' samples of the same seconds; the longer loses what is under a second more."""
    n_eeg, n_leads = len(EEG.channels), len(ECG.leads)
    _layout.check_shape(eeg_TC, (None, n_eeg), where=f"{where} EEG", axes="samples, electrodes")
    _layout.check_shape(ecg_TL, (None, n_leads), where=f"{where} ECG", axes="samples, leads")
    eeg_s, ecg_s = len(eeg_TC) / EEG.sfreq, len(ecg_TL) / ECG.sfreq
    if abs(eeg_s - ecg_s) >= 1.0:
        raise DataError(
            f"{where}: need EEG and ECG of the same seconds, "
            f"found {eeg_s:g} s at {EEG.sfreq:g} Hz and {ecg_s:g} s at {ECG.sfreq:g} Hz"
        )
    n = int(min(eeg_s, ecg_s) * EEG.sfreq)
    n_ecg = round(n * ECG.sfreq / EEG.sfreq)
    return _layout.signals(eeg_TC[:n].T), _layout.signals(ecg_TL[:n_ecg].T)


def _presentation(
    i: int, eeg_CT: Float32Array, scores: dict[str, float], where: str
) -> Presentation:
    assert CARD.scale is not None
    return Presentation(
        stimulus=f"{i + 1:02}",
        ordinal=i,
        stretch=i,
        start_s=0.0,
        stop_s=eeg_CT.shape[1] / EEG.sfreq,
        ratings={
            name: _layout.check_rating(score, CARD.scale, name=name, where=where, integer=True)
            for name, score in scores.items()
        },
    )


def write_example(
    root: Path, source: SignalSource, *, n_subjects: int, duration_s: float | None
) -> None:
    """Write one `DREAMER.mat`; all its subjects pass through memory, 87 MB each at full length.

    The traps: EEG and ECG at two rates, samples before electrodes, an offset of 4000, three
    different scores, and a rest before each clip that holds nothing but the offset.
    """
    root.mkdir(parents=True, exist_ok=True)
    subjects = _layout.example_subjects(CARD, n_subjects)
    lengths = [duration_s or float(seconds) for seconds in _LENGTHS_S]
    data = np.empty((1, len(subjects)), dtype=object)
    for i, subject in enumerate(subjects):
        data[0, i] = _example_subject(source, subject, lengths, min(_REST_S, duration_s or _REST_S))
    release = {
        "Data": data,
        "EEG_SamplingRate": EEG.sfreq,
        "ECG_SamplingRate": ECG.sfreq,
        "EEG_Electrodes": np.array([EEG.channels], dtype=object),
        "noOfSubjects": float(len(subjects)),
        "noOfVideoSequences": float(CARD.n_presentations),
    }
    scipy.io.savemat(root / _FILE, {"DREAMER": release})


def _example_subject(
    source: SignalSource, subject: int, lengths: list[float], rest_s: float
) -> dict[str, Any]:
    assert CARD.scale is not None
    cells = {
        name: np.empty((CARD.n_presentations, 1), dtype=object)
        for name in ("eeg", "eeg_rest", "ecg", "ecg_rest")
    }
    scores = np.zeros((len(_RATINGS), CARD.n_presentations, 1))
    for i, seconds in enumerate(lengths):
        stimulus = f"{i + 1:02}"
        ratings = _layout.to_scale(
            source.rating(CARD.name, subject, stimulus), CARD.scale, integer=True
        )
        va = _layout.from_scale(ratings, CARD.scale)
        eeg_CT = source.eeg(CARD.name, subject, stimulus, EEG.channels, EEG.sfreq, seconds, va)
        ecg_LT = source.ecg(
            CARD.name, subject, stimulus, len(ECG.leads), ECG.sfreq, seconds, va, EEG.sfreq
        )
        cells["eeg"][i, 0] = eeg_CT.T + OFFSET
        cells["ecg"][i, 0] = ecg_LT.T
        cells["eeg_rest"][i, 0] = np.full((round(rest_s * EEG.sfreq), len(eeg_CT)), OFFSET)
        cells["ecg_rest"][i, 0] = np.zeros((round(rest_s * ECG.sfreq), len(ecg_LT)))
        scores[:, i, 0] = (*ratings, _layout.other_rating(ratings, CARD.scale))
    return {
        "Age": str(20 + subject),
        "Gender": "female" if subject % 2 else "male",
        "EEG": {"baseline": cells["eeg_rest"], "stimuli": cells["eeg"]},
        "ECG": {"baseline": cells["ecg_rest"], "stimuli": cells["ecg"]},
        **dict(zip(_RATINGS.values(), scores, strict=True)),
    }
