"""Where segments lie: which fit into a presentation, and which samples they are at which rate."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from emoray.vocabulary.schema import DataError, Dropped, Presentation, Recording

_TOLERANCE_S = 1e-6  # a minute written as 59.99999999 s holds six segments


@dataclass(frozen=True, slots=True)
class Slot:
    """The place of a segment: the n-th of its presentation, from 0."""

    presentation: Presentation
    segment: int


@dataclass(frozen=True, slots=True)
class Span:
    """Samples of a segment in its stretch."""

    stretch: int
    start: int
    stop: int


def count_segments(presentations: Recording | Sequence[Presentation], segment_s: float) -> int:
    """Segments that fit into presentations, from their durations alone."""
    if isinstance(presentations, Recording):
        presentations = presentations.presentations
    return sum(_n_fitting(p, segment_s) for p in presentations)


def find_slots(recording: Recording, segment_s: float) -> tuple[list[Slot], list[Dropped]]:
    """All segments that fit, and the presentations that are too short for one.

    Raises:
        DataError: a presentation lies outside its stretch.
    """
    slots: list[Slot] = []
    dropped: list[Dropped] = []
    for p in recording.presentations:
        _check_place(recording, p)
        n = _n_fitting(p, segment_s)
        slots += [Slot(p, i) for i in range(n)]
        if n == 0:
            reason = f"shorter than a segment of {segment_s:g} s"
            dropped.append(Dropped("presentation", where(recording, p), reason))
    return slots, dropped


def span(recording: Recording, slot: Slot, segment_s: float, sfreq: float) -> Span:
    """Samples of a segment at a rate, from the one nearest to its start."""
    n_times = round(segment_s * sfreq)
    p = slot.presentation
    start = round(p.start_s * sfreq) + round(slot.segment * segment_s * sfreq)
    length_s = recording.length_s(p.stretch)
    # Rounding may lead one sample past the end, where a presentation fills its stretch.
    start = max(0, min(start, math.ceil(length_s * sfreq - 1e-6) - n_times))
    return Span(p.stretch, start, start + n_times)


def check_whole(segment_s: float, sfreq: float, place: str) -> int:
    """Samples of a segment.

    Raises:
        ValueError: they are no whole number.
    """
    n_times = round(segment_s * sfreq)
    if n_times < 1 or abs(n_times - segment_s * sfreq) > 1e-6:
        raise ValueError(
            f"{place}: need a whole number of samples in a segment, "
            f"got {segment_s:g} s at {sfreq:g} Hz"
        )
    return n_times


def unused_s(recording: Recording, segment_s: float) -> float:
    """Seconds of presentations that fill no segment."""
    rest = (p.duration_s - _n_fitting(p, segment_s) * segment_s for p in recording.presentations)
    return round(sum(max(r, 0.0) for r in rest), 3)


def where(recording: Recording, presentation: Presentation | None = None) -> str:
    """File and place, as messages and `Dropped` name them: `s03.dat presentation 12`."""
    files = recording.ref.files
    name = files[0] if len(files) == 1 else recording.ref.key
    return name if presentation is None else f"{name} presentation {presentation.ordinal}"


def tally(recording: Recording, what: str, found: Iterable[tuple[Slot, str]]) -> list[Dropped]:
    """One entry per presentation and reason, with its count."""
    counts = Counter((where(recording, slot.presentation), reason) for slot, reason in found)
    return [Dropped(what, place, reason, n) for (place, reason), n in counts.items()]


def _n_fitting(presentation: Presentation, segment_s: float) -> int:
    return max(0, int((presentation.duration_s + _TOLERANCE_S) // segment_s))


def _check_place(recording: Recording, presentation: Presentation) -> None:
    place = where(recording, presentation)
    if not 0 <= presentation.stretch < len(recording.stretches):
        raise DataError(
            f"{place}: need a stretch below {len(recording.stretches)}, got {presentation.stretch}"
        )
    length_s = recording.length_s(presentation.stretch)
    start_s, stop_s = presentation.start_s, presentation.stop_s
    # A stop may be rounded to the next sample, no further.
    if not 0 <= start_s <= stop_s <= length_s + 1 / recording.sfreq:
        raise DataError(
            f"{place}: need a place in [0, {length_s:g}] s, got [{start_s:g}, {stop_s:g}]"
        )
