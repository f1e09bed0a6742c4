"""One scale for a whole recording."""

from __future__ import annotations

import numpy as np

from emoray.schema import FloatArray

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
