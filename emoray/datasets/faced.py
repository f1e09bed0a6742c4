"""FACED (Chen et al. 2023): nine emotions, 123 subjects, the last 30 s of 28 film clips.

One recording per subject, from the publisher's processed pickles. The pickles name no rows, and
public readers place the two ears in two ways; which one a file has can be seen in it, because
neighbours on a head resemble each other (`ears_of`).
Shapes: V videos, C electrodes, T samples, R = 32 rows of a file, P pairs of electrodes.
"""

from __future__ import annotations

import pickle
from functools import cache
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

from emoray.datasets import _layout, _overlap
from emoray.datasets.formats import plain_pickle
from emoray.vocabulary import affect
from emoray.vocabulary.schema import (
    Card,
    Dropped,
    EegCard,
    FloatArray,
    IntArray,
    Listing,
    Presentation,
    Recording,
    RecordingRef,
    SignalSource,
    Stretch,
)

EEG = EegCard(
    channels=tuple(
        """
        Fp1 Fp2 Fz F3 F4 F7 F8 FC1 FC2 FC5 FC6 Cz C3 C4 T7 T8 CP1 CP2 CP5 CP6 Pz P3 P4 P7 P8 PO3
        PO4 Oz O1 O2
        """.split()
    ),
    sfreq=250.0,
    unit="uV",
    sfreq_paper=200.0,
    sfreq_code=250.0,
)
CARD = Card(
    name="faced",
    title="FACED",
    reference="Chen et al., A large finer-grained affective computing EEG dataset, "
    "Scientific Data 10:740, 2023",
    layout="FACED/\nProcessed_data/sub{nnn}.pkl",
    n_subjects=123,
    n_recordings=123,
    n_presentations=28,
    eeg=EEG,
    segment_s=10.0,
    emotions=(
        *("anger", "disgust", "fear", "sadness", "neutral"),
        *("amusement", "inspiration", "joy", "tenderness"),
    ),
    n_segments_paper=10_332,
    n_segments_per_subject=84,
    people=_overlap.TSINGHUA,
    reader_version=2,
    notes="The files hold 32 rows, of which two are not scalp. EMOD and TorchEEG's faced.py have "
    "them last (rows 30-31: A1 A2, or A2 A1; two readers that looked into the publisher's "
    "Electrode_Location.xlsx say HEOR HEOL). Other readers of Processed_data have A1 A2 behind T8 "
    "(rows 16-17) and with that all later electrodes two rows on. TorchEEG's bci2022.py has both "
    "orders, for the first and the second batch of a contest's data with the same 30 sites: two "
    "caps, and FACED too was recorded with two. Read as rows 30-31, unless a recording's own "
    "signals clearly say 16-17: then so, and reported. The two are dropped; EMOD and CBraMod keep "
    "all 32. EMOD's paper says resampled to 200 Hz, its code leaves 250 Hz. Already filtered "
    "0.05-47 Hz, cleaned by ICA and average-referenced.",
)

EARS: dict[str, tuple[int, ...]] = {
    "30-31": tuple(range(30)),
    "16-17": (*range(16), *range(18, 32)),
}
"""Rows of the card's electrodes, by the rows that hold the ears; the first is the default."""

LABELS = tuple(label for label in range(9) for _ in range(4 if label == 4 else 3))
"""Class of each video by its index: index into the card's emotions."""

SHAPE = (28, 32, 7500)
"""Videos in the order of their index (not as shown), channels, samples of 30 s."""

_FILE = r"Processed_data/sub(\d{3})\.pkl(?:\.pkl)?"
_BESIDE = (
    r"(Data|EEG_Features)/.*",
    r"(Task_event|Stimuli_info|Electrode_Location|DataStructureOfBehaviouralData)\.xlsx",
    r"Recording_info\.csv",
    r"(Dataset_description|readme)\.(md|txt)",
)


def find(root: Path) -> Listing:
    """List the recordings: one per subject.

    Raises:
        DataError: no recording at all, or `sub000.pkl` beside `sub000.pkl.pkl`.
    """
    named = [(match[1], path) for match, path in _layout.find_files(root, _FILE)]
    files = _layout.one_each(root, named, what="subject")
    refs = [
        RecordingRef(CARD.name, subject, "1", (_layout.relative(root, path),))
        for subject, path in files.items()
    ]
    missing = _layout.missing_subjects(files, [f"{k:03d}" for k in range(CARD.n_subjects)])
    return _layout.listing(CARD, root, refs, missing=missing, beside=_BESIDE)


def read(root: Path, ref: RecordingRef) -> Recording:
    """Read one subject: 28 videos, each a stretch and a presentation of 30 s.

    Its rows are taken as the ears being last, unless the signals clearly say otherwise; then by
    what they say, and `dropped` reports it.

    Raises:
        DataError: the pickle is truncated, asks for anything but an array, or holds one of
            another shape.
    """
    path = root / ref.files[0]
    eeg_VRT = _layout.check_shape(
        plain_pickle.load_arrays(path), SHAPE, where=str(path), axes="videos, channels, samples"
    )
    default = next(iter(EARS))
    ears = ears_of(eeg_VRT) or default
    moved = Dropped("channel", path.name, f"ears in rows {ears} by the signals, not {default}", n=2)
    return Recording(
        ref=ref,
        eeg_channels=EEG.channels,
        eeg_sfreq=EEG.sfreq,
        stretches=tuple(Stretch(_layout.signals(x_RT[list(EARS[ears])])) for x_RT in eeg_VRT),
        presentations=tuple(
            Presentation(
                stimulus=f"{k + 1:02d}",
                ordinal=k,
                stretch=k,
                start_s=0.0,
                stop_s=SHAPE[2] / EEG.sfreq,
                emotion=CARD.emotions[label],
                label=label,
            )
            for k, label in enumerate(LABELS)
        ),
        dropped=(moved,) if ears != default else (),
    )


_STEP = 5
"""Samples from one to the next that a correlation takes in: 1500 of 7500 are plenty."""
_CLEAR_FIT, _CLEAR_GAIN, _CLEAR_SHARE = 0.3, 0.1, 0.9
"""What makes an order clear: how well it fits at the median video, how much better than the other,
and in which share of the videos. A recorded EEG (EEGLAB's example, pieces of 8 s) fits its true
order with 0.91 and the other with 0.47 to 0.59, always on the same side."""


def ears_of(eeg_VRT: FloatArray) -> str | None:
    """Which rows hold the ears, by the signals; a key of `EARS`, None where they do not say.

    The scalp conducts: the nearer two electrodes, the more alike their signals. Ears (or eyes)
    taken for the neighbours of CP1 and Pz break that, as does every later electrode two places
    from where it is.
    """
    fits_VO = np.array([_fits(x_RT) for x_RT in eeg_VRT])
    gains_V = fits_VO[:, 1] - fits_VO[:, 0]
    for order, name in enumerate(EARS):
        gain_V = gains_V if order else -gains_V
        if (
            np.median(fits_VO[:, order]) >= _CLEAR_FIT
            and np.median(gain_V) >= _CLEAR_GAIN
            and np.mean(gain_V > 0) >= _CLEAR_SHARE
        ):
            return name
    return None


def _fits(x_RT: FloatArray) -> list[float]:
    """Rank correlation, under each order, of how alike two rows are with how near their sites."""
    with np.errstate(divide="ignore", invalid="ignore"):  # rows that are flat or not finite
        x_RT = x_RT[:, ::_STEP] - x_RT[:, ::_STEP].mean(axis=1, keepdims=True)
        sd_R = x_RT.std(axis=1)
        alike_RR = np.nan_to_num(x_RT @ x_RT.T / x_RT.shape[1] / np.outer(sd_R, sd_R))
    i_P, j_P, near_P = _pairs()
    fits = []
    for rows in EARS.values():
        alike_P = rankdata(alike_RR[np.ix_(rows, rows)][i_P, j_P])
        fits.append(np.corrcoef(alike_P, near_P)[0, 1] if np.ptp(alike_P) else 0.0)
    return fits


@cache
def _pairs() -> tuple[IntArray, IntArray, FloatArray]:
    """Pairs of electrodes on whose rows the two orders disagree, and ranks of their nearness."""
    import mne  # takes seconds, which a listing need not

    sites = mne.channels.make_standard_montage("colin27_1020").get_positions()["ch_pos"]
    xyz_C3 = np.array([sites[name] for name in EEG.channels])
    apart_CC = np.linalg.norm(xyz_C3[:, None] - xyz_C3[None], axis=-1)
    first = next(k for k, rows in enumerate(zip(*EARS.values(), strict=True)) if len({*rows}) > 1)
    i_P, j_P = np.triu_indices(len(xyz_C3), k=1)
    i_P, j_P = i_P[j_P >= first], j_P[j_P >= first]
    return i_P, j_P, rankdata(-apart_CC[i_P, j_P])


def write_example(
    root: Path, source: SignalSource, *, n_subjects: int, duration_s: float | None
) -> None:
    """Write bare float64 arrays, every second file under the doubled ending.

    The layout fixes 30 s, so `duration_s` is not used. The two channels that are not scalp hold
    5 mV.
    """
    folder = root / "Processed_data"
    folder.mkdir(parents=True, exist_ok=True)
    for subject in _layout.example_subjects(CARD, n_subjects, of=range(CARD.n_subjects)):
        ending = ".pkl.pkl" if subject % 2 else ".pkl"
        with (folder / f"sub{subject:03d}{ending}").open("wb") as file:
            pickle.dump(_subject(source, subject), file, protocol=4)


def _subject(source: SignalSource, subject: int) -> FloatArray:
    eeg_VCT = np.full(SHAPE, 5000.0)
    for k, label in enumerate(LABELS):
        eeg_VCT[k, : len(EEG.channels)] = source.eeg(
            CARD.name,
            subject,
            f"{k + 1:02d}",
            EEG.channels,
            EEG.sfreq,
            SHAPE[2] / EEG.sfreq,
            affect.place_emotion(CARD.emotions[label]),
        )
    return eeg_VCT
