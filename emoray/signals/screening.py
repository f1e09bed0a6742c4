"""Where signals are not signals: missing, flat or clipped, found before anything is filtered.

Shapes: C channels, T samples, S segments (candidates, before any is dropped).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emoray.schema import FloatArray
from emoray.signals.slots import Span

BoolArray = NDArray[np.bool_]

REASONS = ("NaN", "flat", "clipped")
"""Defects in the order of their codes 1, 2, 3; a segment gets the first that applies."""

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


def screen(
    stretches_CT: Sequence[FloatArray], spans: Sequence[Span], *, max_clipped: float
) -> Verdict:
    """Judge every channel in every segment.

    A channel is NaN in a segment where one sample is not finite; flat where more than half of the
    steps from sample to sample are exactly zero; clipped where more than `max_clipped` of the
    samples stay exactly at its largest or smallest value in the recording (a peak only touches it).
    """
    n_channels = len(stretches_CT[0]) if stretches_CT else 0
    codes_SC = np.zeros((len(spans), n_channels), dtype=np.int8)
    low_C, high_C = _extremes(stretches_CT, n_channels)
    for codes_C, span in zip(codes_SC, spans, strict=True):
        x_CT = stretches_CT[span.stretch][:, span.start : span.stop]
        stays_CT = np.diff(x_CT, axis=-1) == 0
        rails_CT = (x_CT == low_C[:, None]) | (x_CT == high_C[:, None])
        codes_C[(stays_CT & rails_CT[:, 1:]).mean(axis=-1) > max_clipped] = 3
        codes_C[stays_CT.mean(axis=-1) > 0.5] = 2
        codes_C[~np.isfinite(x_CT).all(axis=-1)] = 1
    return _judge(codes_SC)


def _extremes(stretches_CT: Sequence[FloatArray], n_channels: int) -> tuple[FloatArray, FloatArray]:
    low_C = np.full(n_channels, np.inf)
    high_C = np.full(n_channels, -np.inf)
    for x_CT in stretches_CT:
        finite_CT = np.isfinite(x_CT)
        low_C = np.minimum(low_C, x_CT.min(axis=-1, where=finite_CT, initial=np.inf))
        high_C = np.maximum(high_C, x_CT.max(axis=-1, where=finite_CT, initial=-np.inf))
    return low_C, high_C


def _judge(codes_SC: NDArray[np.int8]) -> Verdict:
    if len(codes_SC) == 0:
        return Verdict({}, {})
    bad_C = (codes_SC > 0).mean(axis=0) > MOST_SEGMENTS
    bad_channels = {}
    for c in np.flatnonzero(bad_C):
        most = int(np.bincount(codes_SC[:, c], minlength=4)[1:].argmax())
        bad_channels[int(c)] = REASONS[most]
    rest_SC = np.where(bad_C[None, :], 0, codes_SC)
    bad_segments = {}
    for s in np.flatnonzero(rest_SC.any(axis=1)):
        worst = int(rest_SC[s][rest_SC[s] > 0].min())
        bad_segments[int(s)] = REASONS[worst - 1]
    return Verdict(bad_channels, bad_segments)
