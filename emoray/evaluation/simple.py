"""Features that anybody would try first: what an encoder reads must be more than they do.

Shapes: N segments, C electrodes, T samples, F frequencies, 6 = five bands and all of them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from emoray.corpus.read import CorpusDataset
from emoray.vocabulary.schema import FloatArray, IntArray

BANDS_HZ: dict[str, tuple[float, float]] = {
    "delta": (1.0, 4.0),
    "theta": (4.0, 8.0),
    "alpha": (8.0, 13.0),
    "beta": (13.0, 30.0),
    "gamma": (30.0, 45.0),
    "all": (1.0, 45.0),
}
AT_ONCE = 64
"""Segments whose spectra are held at once."""


class SimpleFeatures(NamedTuple):
    """Log powers of each segment, columns as in `BANDS_HZ`."""

    of_mean_N6: FloatArray
    """The logarithm of a band's mean power over electrodes."""
    mean_of_N6: FloatArray
    """The mean over electrodes of the logarithm of a band's power."""


def simple_features(dataset: CorpusDataset, rows_N: IntArray) -> SimpleFeatures:
    """Log power of each band over all electrodes, for some rows of a dataset."""
    parts = [
        _log_powers(dataset.gather(rows_N[i : i + AT_ONCE], dtype=np.float32), dataset.sfreq)
        for i in range(0, len(rows_N), AT_ONCE)
    ]
    return SimpleFeatures(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _log_powers(x_NCT: FloatArray, sfreq: float) -> SimpleFeatures:
    power_NCF = np.abs(np.fft.rfft(x_NCT, axis=-1)) ** 2
    frequency_F = np.fft.rfftfreq(x_NCT.shape[-1], 1 / sfreq)
    bands = [
        power_NCF[..., (low <= frequency_F) & (frequency_F < high)].mean(axis=-1)
        for low, high in BANDS_HZ.values()
    ]
    power_NC6 = np.stack(bands, axis=-1).astype(np.float64)
    power_NC6 = np.maximum(power_NC6, np.finfo(np.float64).tiny)  # a flat electrode
    return SimpleFeatures(np.log(power_NC6.mean(axis=1)), np.log(power_NC6).mean(axis=1))
