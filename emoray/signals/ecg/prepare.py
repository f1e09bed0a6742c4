"""From one recording to the segments of its ECG: rate, high-pass, cut, scale per lead, R waves.

Shapes: S segments, L leads, T samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from emoray.signals import excursions, filters
from emoray.signals.amplitude import Moments, robust_scale, scopes, z_score
from emoray.signals.ecg import beats
from emoray.signals.ecg.recipe import EcgRecipe
from emoray.signals.excursions import Excursions
from emoray.signals.segmentation import (
    Slot,
    Span,
    check_whole,
    find_slots,
    span,
    tally,
    unused_s,
    where,
)
from emoray.signals.segments import Prepared, SegmentRow, segment_row, stored
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
        ValueError: a segment is no whole number of samples; rates in no simple ratio.
    """
    recipe = recipe.for_dataset(card.name)
    segment_s, raw = recipe.segment_s_of(card), _raw(recording, card)
    sfreq = recipe.sfreq or raw.sfreq
    n_times = check_whole(segment_s, sfreq, f"{where(recording)} ECG")
    slots, dropped = find_slots(recording, segment_s)
    raw_spans = [span(recording, slot, segment_s, raw.sfreq) for slot in slots]
    absurd = excursions.find(raw.present, raw.sfreq, recipe, kind="ecg", unit=raw.ecg.unit)
    defects = [_defect(raw.stretches_LT[at.stretch], at, absurd) for at in raw_spans]
    kept = [slot for slot, defect in zip(slots, defects, strict=True) if not defect]
    clean = _high_passed(raw, absurd, recipe, sfreq)
    spans = [_inside(span(recording, slot, segment_s, sfreq), clean) for slot in kept]
    ecg_SLT = np.empty((len(kept), len(raw.ecg.leads), n_times), dtype=np.float32)
    for segment_LT, at in zip(ecg_SLT, spans, strict=True):
        segment_LT[:] = clean[at.stretch][:, at.start : at.stop]
    rows = [segment_row(recording, card, recipe, slot, segment_s) for slot in kept]
    facts: dict[str, object] = {"seconds_in_no_segment": unused_s(recording, segment_s)}
    if recipe.r_peaks != "none":
        kept_spans = [at for at, defect in zip(raw_spans, defects, strict=True) if not defect]
        leads = _leads(raw, absurd, clean, sfreq)
        heard = beats.listen(leads, kept_spans, spans, where(recording))
        rows = [_with_beats(row, of, raw.ecg) for row, of in zip(rows, heard, strict=True)]
        facts["r_peaks"] = beats.detector()
    lost = [(slot, defect) for slot, defect in zip(slots, defects, strict=True) if defect]
    dropped += excursions.dropped(absurd, recording, raw.ecg.leads, "excursion")
    if found := absurd.facts(raw.ecg.leads, raw.sfreq):
        facts["excursions"] = found
    moments = _scale(ecg_SLT, kept, recipe)
    return Prepared(
        x_SCT=stored(ecg_SLT, recipe, f"{where(recording)} ECG"),
        channels=raw.ecg.leads,
        sfreq=sfreq,
        rows=rows,
        dropped=(*dropped, *tally(recording, "segment", lost)),
        facts=facts,
        moments=moments,
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


def _high_passed(
    raw: _Raw, absurd: Excursions, recipe: EcgRecipe, sfreq: float
) -> list[Float32Array]:
    """Every stretch at the segments' rate; an empty array where there was nothing."""
    low_hz = recipe.highpass_hz
    # Half as wide as MNE's transition, which would let half of a breath at 0.25 Hz through.
    taps = filters.design(sfreq, low_hz, None, low_width_hz=low_hz / 2)
    clean = []
    for i, x_LT in enumerate(raw.present):
        if not x_LT.size:
            clean.append(x_LT)
            continue
        passed_LT = filters.bridge_gaps(absurd.blank(i, x_LT))
        passed_LT = filters.resample(passed_LT, raw.sfreq, sfreq)
        if recipe.highpass_filter == "fir":
            passed_LT = filters.convolve(passed_LT, taps)
        else:
            passed_LT = filters.highpass_iir(passed_LT, sfreq, low_hz)
        clean.append(passed_LT.astype(np.float32))
    return clean


def _inside(at: Span, clean: Sequence[FloatArray]) -> Span:
    """At a higher rate a place may end past its stretch, by half a sample of the old rate."""
    beyond = max(0, at.stop - clean[at.stretch].shape[1])
    return Span(at.stretch, at.start - beyond, at.stop - beyond)


def _scale(ecg_SLT: Float32Array, slots: Sequence[Slot], recipe: EcgRecipe) -> Moments | None:
    """Each lead by itself, in place; what was done, where the scale is to be a person's."""
    if recipe.amplitude == "z":
        return z_score(ecg_SLT, slots, recipe)
    if recipe.amplitude == "robust_z":
        for scope in scopes(slots, recipe):
            _standardise(ecg_SLT[scope])
    return None


def _standardise(ecg_SLT: Float32Array) -> None:
    """Each lead by itself, in place."""
    for lead in range(ecg_SLT.shape[1]):
        median, scale = robust_scale(ecg_SLT[:, lead])
        if scale > 0:
            ecg_SLT[:, lead] = (ecg_SLT[:, lead] - median) / scale


def _leads(
    raw: _Raw, absurd: Excursions, clean: Sequence[Float32Array], sfreq: float
) -> list[beats.Lead]:
    """The recording lead by lead, as it came and as it is."""
    came = [absurd.blank(i, x_LT) for i, x_LT in enumerate(raw.present)]

    def of(stretches_LT: Sequence[FloatArray], lead: int) -> list[FloatArray]:
        return [x_LT[lead] if x_LT.size else np.zeros(0, np.float32) for x_LT in stretches_LT]

    return [
        beats.Lead(of(came, lead), raw.sfreq, of(clean, lead), sfreq)
        for lead in range(len(raw.ecg.leads))
    ]


def _with_beats(row: SegmentRow, heard: beats.Heard, ecg: EcgCard) -> SegmentRow:
    quality = dict(zip(ecg.leads, heard.quality_L, strict=True))
    return replace(row, r_peaks=heard.peak_B, quality=quality)


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
