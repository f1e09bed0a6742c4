"""Scales: one for all electrodes or one for each channel, of whichever segments share it.

The segments of a person may lie in several recordings that are prepared apart, perhaps on different
machines. So each is scaled by its own mean and deviation; what these were stays beside it
(`Moments`), and once all are known, `to_person` says what makes a person's scale of each.

Shapes: S segments, C channels (electrodes or leads), T samples, R recordings of a person.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby

import numpy as np

from emoray.signals.recipe import Recipe
from emoray.signals.segmentation import Slot, where
from emoray.vocabulary.schema import DataError, Float32Array, FloatArray, Recording

MAD_TO_SD = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""

_N_VALUES = 1_000_000  # fix a median to about a thousandth of the spread


def robust_scale(x: FloatArray) -> tuple[float, float]:
    """Median and 1.4826 times the median absolute deviation of all values together.

    Of more than a million values every n-th is looked at. Nothing at all gives (0, 0).
    """
    if x.size == 0:
        return 0.0, 0.0
    # An odd stride, so that it does not step in time with the even lengths of segments.
    stride = max(1, x.size // _N_VALUES) | 1
    values = np.ravel(x)[::stride].astype(np.float64)
    median = float(np.median(values))
    return median, MAD_TO_SD * float(np.median(np.abs(values - median)))


def scopes(slots: Sequence[Slot], recipe: Recipe) -> list[slice]:
    """Segments of a recording that share a scale; those of a presentation follow each other."""
    if recipe.scale_scope != "presentation":
        return [slice(0, len(slots))]
    sizes = [len(list(group)) for _, group in groupby(slots, lambda s: s.presentation.ordinal)]
    return [slice(stop - n, stop) for n, stop in zip(sizes, accumulate(sizes), strict=True)]


def standardise(
    x_SCT: Float32Array, recording: Recording, slots: Sequence[Slot], recipe: Recipe
) -> dict[str, object]:
    """Take the median off and divide by the scale, in place, scope by scope.

    Returns:
        Facts: `median` and `scale`; of presentations, by ordinal.

    Raises:
        DataError: a scope does not vary.
    """
    found: dict[str, tuple[float, float]] = {}
    for scope in scopes(slots, recipe):
        p = slots[scope.start].presentation if recipe.scale_scope == "presentation" else None
        median, scale = robust_scale(x_SCT[scope])
        if not scale > 0:
            raise DataError(f"{where(recording, p)}: need a signal, got a median deviation of 0")
        x_SCT[scope] -= np.float32(median)
        x_SCT[scope] /= np.float32(scale)
        found["" if p is None else str(p.ordinal)] = (median, scale)
    if recipe.scale_scope == "recording":
        return dict(zip(("median", "scale"), found[""], strict=True))
    return {
        "median_by_presentation": {ordinal: median for ordinal, (median, _) in found.items()},
        "scale_by_presentation": {ordinal: scale for ordinal, (_, scale) in found.items()},
    }


@dataclass(frozen=True, slots=True)
class Moments:
    """Of each channel over the kept segments of one recording, in the signals' unit."""

    n: int
    """Samples of a channel."""
    mean_C: tuple[float, ...]
    sd_C: tuple[float, ...]
    """Standard deviations: roots of the mean squared deviation."""


@dataclass(frozen=True, slots=True)
class Affine:
    """What a recording's stored segments are multiplied by, and what is then added, by channel."""

    factor_C: tuple[float, ...]
    offset_C: tuple[float, ...]

    def __call__(self, x_CT: FloatArray) -> Float32Array:
        """A segment on the other scale; in float32, whatever it is stored in."""
        factor_C, offset_C = (np.array(of, np.float32) for of in (self.factor_C, self.offset_C))
        scaled: Float32Array = np.asarray(x_CT, np.float32) * factor_C[:, None] + offset_C[:, None]
        return scaled


def z_score(x_SCT: Float32Array, slots: Sequence[Slot], recipe: Recipe) -> Moments | None:
    """Take each channel's mean off and divide by its standard deviation, in place, scope by scope.

    A channel that does not vary becomes zero.

    Returns:
        What was taken off and divided by, where the scale is a person's and there is a segment.
    """
    moments = [_z_score(x_SCT[scope]) for scope in scopes(slots, recipe) if slots]
    return moments[0] if moments and recipe.scale_scope == "person" else None


def _z_score(x_SCT: Float32Array) -> Moments:
    means, sds = [], []
    for c in range(x_SCT.shape[1]):  # one at a time: float64 doubles what it takes
        x_ST = x_SCT[:, c].astype(np.float64)
        means.append(float(x_ST.mean()))
        sds.append(float(x_ST.std()))
        x_SCT[:, c] = (x_ST - means[-1]) / (sds[-1] or 1.0)
    return Moments(len(x_SCT) * x_SCT.shape[2], tuple(means), tuple(sds))


def to_person(recordings: Mapping[str, Moments]) -> dict[str, Affine]:
    """From the scale of each recording to the one over all of them, which are one person's.

    Exact: the mean is that of all samples, the variance their mean squared deviation from it, as
    if they lay in one array. A recording alone has its person's scale already.

    Args:
        recordings: moments by name, in the order in which they are added up.
    """
    if len(recordings) < 2:
        return {}
    n_R1 = np.array([[one.n] for one in recordings.values()], np.float64)
    mean_RC = np.array([one.mean_C for one in recordings.values()])
    sd_RC = np.array([one.sd_C for one in recordings.values()])
    mean_C = (n_R1 * mean_RC).sum(axis=0) / n_R1.sum()
    # Samples deviate from the person's mean by what they do from their recording's, and by how
    # far that lies from the person's: squares add up.
    squares_RC = n_R1 * (sd_RC**2 + (mean_RC - mean_C) ** 2)
    sd_C = np.sqrt(squares_RC.sum(axis=0) / n_R1.sum())
    sd_RC, sd_C = (np.where(of > 0, of, 1.0) for of in (sd_RC, sd_C))
    factor_RC, offset_RC = sd_RC / sd_C, (mean_RC - mean_C) / sd_C
    return {
        name: Affine(tuple(factor_C.tolist()), tuple(offset_C.tolist()))
        for name, factor_C, offset_C in zip(recordings, factor_RC, offset_RC, strict=True)
    }
