"""One scale for all electrodes, of a recording or of each of its presentations.

Shapes: S segments, C electrodes, T samples.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    """Segments that share a scale; those of a presentation follow each other."""
    if recipe.scale_scope == "recording":
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
