"""From one recording to the segments of its ECG, at its own rate: high-pass, cut, scale per lead.

Shapes: S segments, L leads, T samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from emoray.signals import excursions, filters
from emoray.signals.amplitude import robust_scale, scopes
from emoray.signals.ecg.recipe import EcgRecipe
from emoray.signals.excursions import Excursions
from emoray.signals.segmentation import (
    Span,
    check_whole,
    find_slots,
    span,
    tally,
    unused_s,
    where,
)
from emoray.signals.segments import Prepared, segment_row, stored
from emoray.vocabulary.schema import (
    Card,
    DataError,
    EcgCard,
    Float32Array,
    FloatArray,
    Recording,
)


def prepare(recording: Recording, card: Card, recipe: EcgRecipe) -> Prepared:
    """Clean a recording's ECG and cut its segments. The recording is not changed.

    A segment in which a lead is missing, NaN, absurd or flat is dropped; a short absurd excursion
    is interpolated in time. Where nothing is left, S is 0 and `dropped` says why.

    Args:
        recording: as its dataset's reader returns it.
        card: facts of that dataset.
        recipe: exceptions for this dataset are applied here.

    Raises:
        DataError: a dataset without ECG; leads or places that contradict the card or the signals;
            a rating outside its scale; an emotion without a place.
        ValueError: a segment is no whole number of samples.
    """
    recipe = recipe.for_dataset(card.name)
    segment_s, raw = recipe.segment_s_of(card), _raw(recording, card)
    slots, dropped = find_slots(recording, segment_s)
    spans = [span(recording, slot, segment_s, raw.sfreq) for slot in slots]
    absurd = excursions.find(raw.present, raw.sfreq, recipe, kind="ecg", unit=raw.ecg.unit)
    defects = [_defect(raw.stretches_LT[at.stretch], at, absurd) for at in spans]
    kept = [i for i, defect in enumerate(defects) if not defect]
    ecg_SLT = _cut(raw, [spans[i] for i in kept], absurd, recipe, segment_s, where(recording))
    kept_slots = [slots[i] for i in kept]
    if recipe.amplitude == "robust_z":
        for scope in scopes(kept_slots, recipe):
            _standardise(ecg_SLT[scope])
    lost = [(slot, defect) for slot, defect in zip(slots, defects, strict=True) if defect]
    dropped += excursions.dropped(absurd, recording, raw.ecg.leads, "excursion")
    facts: dict[str, object] = {"seconds_in_no_segment": unused_s(recording, segment_s)}
    if found := absurd.facts(raw.ecg.leads, raw.sfreq):
        facts["excursions"] = found
    return Prepared(
        x_SCT=stored(ecg_SLT, recipe, f"{where(recording)} ECG"),
        channels=raw.ecg.leads,
        sfreq=raw.sfreq,
        rows=[segment_row(recording, card, recipe, slot, segment_s) for slot in kept_slots],
        dropped=(*dropped, *tally(recording, "segment", lost)),
        facts=facts,
    )


@dataclass(frozen=True, slots=True)
class _Raw:
    """A recording's ECG as it came."""

    ecg: EcgCard
    sfreq: float
    stretches_LT: tuple[Float32Array | None, ...]
    """None where a stretch has none."""

    @property
    def present(self) -> list[Float32Array]:
        """An empty array where a stretch has none."""
        return [np.zeros((0, 0), np.float32) if x is None else x for x in self.stretches_LT]


def _raw(recording: Recording, card: Card) -> _Raw:
    """The ECG, held against the card; a recording of the dataset may have none."""
    place = where(recording)
    if card.ecg is None:
        raise DataError(f"{place}: need ECG, got a recording of {card.name}, which has none")
    found = tuple(stretch.ecg_LT for stretch in recording.stretches)
    if recording.ecg_sfreq is None:
        return _Raw(card.ecg, card.ecg.sfreq, (None,) * len(found))
    if recording.ecg_leads != card.ecg.leads:
        raise DataError(
            f"{place}: need leads {' '.join(card.ecg.leads)}, got {' '.join(recording.ecg_leads)}"
        )
    for i, x_LT in enumerate(found):
        if x_LT is not None and (x_LT.ndim != 2 or len(x_LT) != len(card.ecg.leads)):
            raise DataError(
                f"{place} stretch {i}: need ({len(card.ecg.leads)}, samples), got {x_LT.shape}"
            )
    return _Raw(card.ecg, recording.ecg_sfreq, found)


def _cut(
    raw: _Raw,
    spans: Sequence[Span],
    absurd: Excursions,
    recipe: EcgRecipe,
    segment_s: float,
    place: str,
) -> Float32Array:
    """High-passed segments, (S, L, T)."""
    n_times = check_whole(segment_s, raw.sfreq, f"{place} ECG")
    ecg_SLT = np.empty((len(spans), len(raw.ecg.leads), n_times), dtype=np.float32)
    clean = _high_passed(raw, absurd, recipe)
    for segment_LT, at in zip(ecg_SLT, spans, strict=True):
        segment_LT[:] = clean[at.stretch][:, at.start : at.stop]
    return ecg_SLT


def _high_passed(raw: _Raw, absurd: Excursions, recipe: EcgRecipe) -> list[Float32Array]:
    """Every stretch; an empty array where there was nothing."""
    low_hz = recipe.highpass_hz
    # Half as wide as MNE's transition, which would let half of a breath at 0.25 Hz through.
    taps = filters.design(raw.sfreq, low_hz, None, low_width_hz=low_hz / 2)
    return [
        filters.convolve(filters.bridge_gaps(absurd.blank(i, x_LT)), taps).astype(np.float32)
        if x_LT.size
        else x_LT
        for i, x_LT in enumerate(raw.present)
    ]


def _standardise(ecg_SLT: Float32Array) -> None:
    """Each lead by itself, in place."""
    for lead in range(ecg_SLT.shape[1]):
        median, scale = robust_scale(ecg_SLT[:, lead])
        if scale > 0:
            ecg_SLT[:, lead] = (ecg_SLT[:, lead] - median) / scale


def _defect(x_LT: FloatArray | None, at: Span, absurd: Excursions) -> str:
    """What is wrong with these samples of the ECG; empty for nothing."""
    if x_LT is None or x_LT.shape[1] < at.stop:
        return "missing"
    x_LT = x_LT[:, at.start : at.stop]
    if not np.isfinite(x_LT).all():
        return "NaN"
    if absurd.spoilt(at.stretch, at.start, at.stop):
        return excursions.REASON
    return "flat" if ((np.diff(x_LT, axis=-1) == 0).mean(axis=-1) > 0.5).any() else ""
