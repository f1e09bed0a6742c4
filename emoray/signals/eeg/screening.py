"""Where signals are not signals: missing, absurd, flat or clipped, before anything is filtered.

Shapes: C channels, T samples, S segments (candidates, before any is dropped).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emoray.signals import excursions
from emoray.signals.excursions import Excursions
from emoray.signals.segmentation import Span
from emoray.vocabulary.schema import FloatArray

BoolArray = NDArray[np.bool_]

REASONS = ("NaN", excursions.REASON, "flat", "clipped")
"""Defects in the order of their codes from 1; a segment gets the first that applies."""

MOST_SEGMENTS = 0.5
"""A channel that is defective in more than this share of segments is bad as a whole: dropping all
those segments would cost more than the channel is worth."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong with which channel and which segment."""

    bad_channels: dict[int, str]
    """Channel to the defect it shows most often."""
    bad_segments: dict[int, str]
    """Segment to its defect, bad channels left aside."""
    absurd: Excursions
    """What is absurd, and what filters see instead."""


def screen(
    stretches_CT: Sequence[FloatArray],
    spans: Sequence[Span],
    absurd: Excursions,
    *,
    max_clipped: float,
) -> Verdict:
    """Judge every channel in every segment.

    A channel is NaN in a segment where one sample is not finite; absurd where an excursion that is
    too long for interpolation touches it; flat where more than half of the steps from sample to
    sample are exactly zero; clipped where more than `max_clipped` of the samples stay exactly at
    its largest or smallest value in the recording, absurd ones aside (a peak only touches it).
    """
    n_channels = len(stretches_CT[0]) if stretches_CT else 0
    codes_SC = np.zeros((len(spans), n_channels), dtype=np.int8)
    low_C, high_C = _extremes(stretches_CT, n_channels, absurd)
    for codes_C, span in zip(codes_SC, spans, strict=True):
        raw_CT = stretches_CT[span.stretch][:, span.start : span.stop]
        x_CT = absurd.blank(span.stretch, raw_CT, start=span.start)
        stays_CT = np.diff(x_CT, axis=-1) == 0
        rails_CT = (x_CT == low_C[:, None]) | (x_CT == high_C[:, None])
        codes_C[(stays_CT & rails_CT[:, 1:]).mean(axis=-1) > max_clipped] = 4
        codes_C[stays_CT.mean(axis=-1) > 0.5] = 3
        codes_C[absurd.spoilt(span.stretch, span.start, span.stop)] = 2
        codes_C[~np.isfinite(raw_CT).all(axis=-1)] = 1
    return Verdict(*_judge(codes_SC), absurd)


def _extremes(
    stretches_CT: Sequence[FloatArray], n_channels: int, absurd: Excursions
) -> tuple[FloatArray, FloatArray]:
    low_C = np.full(n_channels, np.inf)
    high_C = np.full(n_channels, -np.inf)
    for i, x_CT in enumerate(stretches_CT):
        for c in range(n_channels):
            x_T = absurd.blank(i, x_CT[c : c + 1], channel=c)
            finite_T = np.isfinite(x_T)
            low_C[c] = min(low_C[c], x_T.min(where=finite_T, initial=np.inf))
            high_C[c] = max(high_C[c], x_T.max(where=finite_T, initial=-np.inf))
    return low_C, high_C


def _judge(codes_SC: NDArray[np.int8]) -> tuple[dict[int, str], dict[int, str]]:
    """Bad channels and bad segments, each with its defect."""
    if len(codes_SC) == 0:
        return {}, {}
    bad_C = (codes_SC > 0).mean(axis=0) > MOST_SEGMENTS
    bad_channels = {}
    for c in np.flatnonzero(bad_C):
        most = int(np.bincount(codes_SC[:, c], minlength=len(REASONS) + 1)[1:].argmax())
        bad_channels[int(c)] = REASONS[most]
    rest_SC = np.where(bad_C[None, :], 0, codes_SC)
    bad_segments = {}
    for s in np.flatnonzero(rest_SC.any(axis=1)):
        worst = int(rest_SC[s][rest_SC[s] > 0].min())
        bad_segments[int(s)] = REASONS[worst - 1]
    return bad_channels, bad_segments
