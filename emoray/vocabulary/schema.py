"""The vocabulary: what passes between the rooms, as types.

Shapes: C electrodes, L ECG leads, T samples, S segments.
Nothing here reads a file or computes a signal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]
Float32Array = NDArray[np.float32]
IntArray = NDArray[np.int64]

Unit = Literal["uV", "arbitrary"]
"""Unit of an EEG array. `arbitrary`: the publisher does not say (DREAMER's raw Emotiv counts)."""


class DataError(ValueError):
    """A file does not hold what its publisher's layout promises.

    The message names the file, the place in it, what was expected and what came.
    """


@dataclass(frozen=True, slots=True)
class Scale:
    """The closed interval of a rating, as the subjects saw it."""

    low: float
    high: float


Stream = Literal["eeg", "ecg"]
"""One kind of signal of a recording, with a recipe and builds of its own."""
STREAMS: tuple[Stream, ...] = get_args(Stream)


@dataclass(frozen=True, slots=True)
class EegCard:
    """Published facts of a dataset's EEG."""

    channels: tuple[str, ...]
    """Scalp electrodes, canonical names, in the order in which the reader returns them."""
    sfreq: float
    """Hz, as the reader returns it."""
    unit: Unit
    sfreq_paper: float
    """Hz of the segments in Table 1 of EMOD (or its Evaluation section)."""
    sfreq_code: float
    """Hz of the segments in EMOD's released code."""


@dataclass(frozen=True, slots=True)
class EcgCard:
    """Published facts of a dataset's ECG."""

    leads: tuple[str, ...]
    """Names in the order in which the reader returns them."""
    sfreq: float
    """Hz, as the reader returns it."""
    unit: str
    """As published; `arbitrary` where the publisher does not say."""


@dataclass(frozen=True, slots=True)
class InCommon:
    """Datasets that may have people, or clips, in common: no source says that they have none.

    Each of them states the same on its own card.
    """

    name: str
    """In a verdict's brackets: `SEED family`."""
    datasets: tuple[str, ...]
    """All of them, the one whose card it is among them."""
    source: str
    """What is known, from where, and what is not."""


@dataclass(frozen=True, slots=True)
class Card:
    """Published facts of one dataset; tests and `--check` hold what is found against it.

    Raises:
        ValueError: neither EEG nor ECG.
    """

    name: str
    """The name used everywhere: file, folder, table (`seed_iv`)."""
    title: str
    """The name that people write (`SEED-IV`)."""
    reference: str
    """Whom to cite."""
    layout: str
    """The publisher's folders and files that the reader opens, one pattern a line."""
    n_subjects: int
    """Subjects in the release."""
    n_recordings: int
    """Recordings (subject and visit) in the release."""
    n_presentations: int
    """Presentations with ratings or labels in one complete recording."""
    segment_s: float
    """Seconds of a segment in EMOD's paper; of a dataset that it does not use, of whoever does."""
    eeg: EegCard | None = None
    """None: a dataset of ECG only."""
    ecg: EcgCard | None = None
    """None: a dataset of EEG only."""
    scale: Scale | None = None
    """Of valence and arousal; None where nobody rated them."""
    emotions: tuple[str, ...] = ()
    """Canonical emotion names by class index (SEED, WESAD: names of classes that are no emotions);
    empty where there are ratings only."""
    n_segments_paper: int | None = None
    """Segments that the paper counts in the whole dataset."""
    n_segments_per_subject: int | None = None
    """Segments per complete subject, where it is known and equal for all."""
    people: InCommon | None = None
    """Where the same people may have taken part under another number; None: nothing suggests it."""
    clips: InCommon | None = None
    """Where the same clips may have been shown; None: nothing suggests it."""
    reader_version: int = 1
    """Raise it when `read` returns other numbers: corpora built before are then built again."""
    notes: str = ""

    def __post_init__(self) -> None:
        if not self.streams:
            raise ValueError(f"need EEG or ECG on the card of {self.name}, got neither")

    @property
    def streams(self) -> tuple[Stream, ...]:
        """What the release holds."""
        there: dict[Stream, object] = {"eeg": self.eeg, "ecg": self.ecg}
        return tuple(stream for stream, card in there.items() if card is not None)


@dataclass(frozen=True, slots=True, order=True)
class RecordingRef:
    """Where a recording lies; found without reading a signal."""

    dataset: str
    subject: str
    """Zero-padded number, the same in every session (`07`). Never a person's name."""
    session: str
    """Visit or stimulus set (`1`)."""
    files: tuple[str, ...]
    """All files it is read from, relative to the dataset's root, with forward slashes."""

    @property
    def key(self) -> str:
        """Unique name, also of its shard: `deap-s07-v1`."""
        return f"{self.dataset}-s{self.subject}-v{self.session}"


@dataclass(frozen=True, slots=True)
class Listing:
    """What a dataset's folder holds, against what its card expects."""

    recordings: tuple[RecordingRef, ...]
    missing: tuple[str, ...] = ()
    """Expected and not there (a file, or `subject 07`)."""
    unexpected: tuple[str, ...] = ()
    """There and known to no reader; files that the publisher ships beside are not listed."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """Something left out, with the reason in words a person can act on."""

    what: str
    """`presentation`, `minute` or `second` of what was shown or lay between, `segment`, `channel`,
    `excursion` (samples of a channel) or `ica`."""
    where: str
    """File and place: `s03.dat presentation 12`."""
    reason: str
    """Short and countable: `shorter than a segment`, `NaN in labels`."""
    n: int = 1
    """How many of `what`."""


@dataclass(frozen=True, slots=True)
class Presentation:
    """One showing of a stimulus to one subject, inside one stretch of the recording."""

    stimulus: str
    """The clip: the same name for every subject and session that saw it."""
    ordinal: int
    """Place in the publisher's list for this recording, from 0."""
    stretch: int
    """Index into `Recording.stretches`."""
    start_s: float
    """Seconds from the start of the stretch."""
    stop_s: float
    ratings: Mapping[str, float] = field(default_factory=dict)
    """`valence`, `arousal` (and `dominance` ...) on the dataset's own scale; empty for names."""
    emotion: str | None = None
    """Canonical emotion name, where the publisher gives one."""
    label: int | None = None
    """Class index into the card's `emotions`."""

    @property
    def duration_s(self) -> float:
        """Seconds."""
        return self.stop_s - self.start_s


@dataclass(frozen=True, slots=True)
class Stretch:
    """An unbroken piece of a recording: filters run within it, never across two."""

    eeg_CT: Float32Array | None = None
    """Electrodes by samples, in the card's unit; None in a dataset of ECG only."""
    ecg_LT: Float32Array | None = None
    """Leads by samples of the same seconds, at the ECG's own rate."""


@dataclass(frozen=True, slots=True)
class Recording:
    """Continuous signals of one subject and visit, with what was shown and how it was rated.

    A publisher who ships one array per presentation gives one stretch per presentation.
    """

    ref: RecordingRef
    stretches: tuple[Stretch, ...]
    presentations: tuple[Presentation, ...]
    eeg_channels: tuple[str, ...] = ()
    eeg_sfreq: float | None = None
    """Hz; None where there is no EEG."""
    ecg_leads: tuple[str, ...] = ()
    ecg_sfreq: float | None = None
    """Hz; None where there is no ECG."""
    dropped: tuple[Dropped, ...] = ()
    """Presentations that the reader left out (missing data, missing rating), never silently."""

    @property
    def sfreq(self) -> float:
        """Hz of the EEG where there is any, else of the ECG.

        Raises:
            DataError: there is neither.
        """
        for sfreq in (self.eeg_sfreq, self.ecg_sfreq):
            if sfreq is not None:
                return sfreq
        raise DataError(f"{self.ref.key}: need the rate of EEG or ECG, got neither")

    def length_s(self, stretch: int) -> float:
        """Seconds of a stretch: by its EEG where the recording has any, else by its ECG.

        Raises:
            DataError: the stretch lacks these signals.
        """
        found = self.stretches[stretch]
        x_CT = found.ecg_LT if self.eeg_sfreq is None else found.eeg_CT
        if x_CT is None:
            raise DataError(f"{self.ref.key} stretch {stretch}: need signals, got none")
        return float(x_CT.shape[1] / self.sfreq)


class SignalSource(Protocol):
    """Where `write_example` takes signals and ratings from (see `emoray.rehearsal`)."""

    def rating(
        self,
        dataset: str,
        subject: int,
        stimulus: str,
        near: tuple[float, float] | None = None,
    ) -> tuple[float, float]:
        """Valence and arousal in [-4, 4] that this subject gives this stimulus.

        People's ratings of it lie around `near`; without it, wherever the source puts them.
        """
        ...

    def eeg(
        self,
        dataset: str,
        subject: int,
        stimulus: str,
        channels: tuple[str, ...],
        sfreq: float,
        duration_s: float,
        va: tuple[float, float],
    ) -> FloatArray:
        """EEG in microvolts, shape (C, T), T = round(duration_s * sfreq)."""
        ...

    def ecg(
        self,
        dataset: str,
        subject: int,
        stimulus: str,
        n_leads: int,
        sfreq: float,
        duration_s: float,
        va: tuple[float, float],
        eeg_sfreq: float | None = None,
    ) -> FloatArray:
        """ECG in millivolts, shape (L, T), T = round(duration_s * sfreq).

        `eeg_sfreq` is that of the EEG of the same seconds, None where none is recorded.
        """
        ...


class DatasetModule(Protocol):
    """What every file in `emoray/datasets/` offers; the file is its own registration."""

    CARD: Card

    def find(self, root: Path) -> Listing:
        """List the recordings under `root` from names alone, without reading signals."""
        ...

    def read(self, root: Path, ref: RecordingRef) -> Recording:
        """Read one recording, and nothing of any other."""
        ...

    def write_example(
        self, root: Path, source: SignalSource, *, n_subjects: int, duration_s: float | None
    ) -> None:
        """Write a release in the publisher's layout, with the trap of this dataset in it.

        Args:
            root: folder that stands for the publisher's top folder; made if absent.
            source: where signals and ratings come from.
            n_subjects: how many subjects to write.
            duration_s: seconds of every presentation where the layout leaves them free;
                None for the published lengths.
        """
        ...
