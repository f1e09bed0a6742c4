"""Independent components: fitted on a recording, named by MNE's detectors, taken out.

Components mix channels and know no time, so all that ICA does to a recording is one matrix.
Fitted on a copy high-passed at 1 Hz, for slow drifts would fill the components; the matrix is
applied to the data at 0.3 Hz. What the principal components leave out passes through unchanged.
Shapes: C channels, T samples.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

import mne
import numpy as np
from sklearn.exceptions import ConvergenceWarning

from emoray.signals import filters
from emoray.signals.eeg import montage
from emoray.signals.eeg.recipe import EegRecipe
from emoray.signals.filters import Float64Array
from emoray.vocabulary.schema import FloatArray

SHORTEST_S = 30.0
"""Less than that of a recording holds a handful of blinks; ICA is skipped."""

FRONTAL = (("Fp1", "Fp2"), ("Fpz",), ("AF7", "AF8"), ("AF3", "AF4"))
"""Stand-ins for eye channels, nearest to the eyes first; the first set that is there is used. A
difference such as F7 - F8 for sideways glances took frontal background along in simulated caps."""

MUSCLE_BAND_HZ = (15.0, 45.0)
"""Where the slope of the spectrum is read. From MNE's 7 Hz on, a beta rhythm has the slope of
muscle: planted in simulated caps of 14 and 32 electrodes, the two scored alike; from 15 Hz not."""

_NAMING_S = 300.0  # of a recording are enough to name components; MNE filters every one
_PIECE_S = 10.0


@dataclass(frozen=True, slots=True)
class Cleaning:
    """What to do to every sample, and what is known about it."""

    matrix_CC: Float64Array
    facts: dict[str, object] = field(default_factory=dict)
    skipped: str = ""
    """Why nothing was fitted; empty where it was."""


def clean(
    stretches_CT: Sequence[FloatArray], channels: Sequence[str], sfreq: float, recipe: EegRecipe
) -> Cleaning:
    """Find the matrix that takes ocular and muscle components out of a recording.

    Too little data to fit at least half of the components (`ica_samples_per_weight` samples for
    each of n x n weights), or less than 30 s, leaves the recording as it is and says so.

    Args:
        stretches_CT: band-passed signals of the good channels.
        channels: their names, of the vocabulary.
        sfreq: Hz.
        recipe: the fields that start with `ica`.
    """
    unchanged = np.eye(len(channels))
    n_samples = sum(x_CT.shape[1] for x_CT in stretches_CT)
    n_fitted = min(n_samples, recipe.ica_n_samples)
    n_most = min(math.isqrt(n_fitted // recipe.ica_samples_per_weight), len(channels))
    if n_samples < SHORTEST_S * sfreq:
        return Cleaning(unchanged, skipped=f"shorter than {SHORTEST_S:g} s")
    if n_most < len(channels) / 2:
        return Cleaning(unchanged, skipped=f"{n_fitted} samples fit only {n_most} components")
    fit_CT, named_CT = _excerpts(stretches_CT, sfreq, recipe)
    n_components = min(n_most, _n_principal(fit_CT, recipe.ica_variance))
    ica = mne.preprocessing.ICA(
        n_components,
        method="fastica",
        random_state=recipe.ica_seed,
        max_iter=recipe.ica_max_iter,
        verbose="ERROR",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # reported as a fact instead
        ica.fit(montage.raw(fit_CT, channels, sfreq), verbose="ERROR")
    removed, facts = _name(ica, named_CT, channels, sfreq, recipe)
    facts |= {
        "n_components": int(ica.n_components_),
        "n_samples": fit_CT.shape[1],
        "n_iterations": int(ica.n_iter_),
        "converged": bool(ica.n_iter_ < recipe.ica_max_iter),
    }
    return Cleaning(_matrix(ica, channels, sfreq, removed), facts)


def _excerpts(
    stretches_CT: Sequence[FloatArray], sfreq: float, recipe: EegRecipe
) -> tuple[Float64Array, Float64Array]:
    """High-passed samples to fit on, evenly spaced, and unbroken pieces to name components by.

    Taking every n-th sample folds frequencies into each other, which a mixture that knows no time
    does not notice.
    """
    taps = filters.design(sfreq, recipe.ica_highpass_hz, None)
    n_samples = sum(x_CT.shape[1] for x_CT in stretches_CT)
    every = math.ceil(n_samples / recipe.ica_n_samples)
    pieces = _pieces([x_CT.shape[1] for x_CT in stretches_CT], sfreq)
    fit, named = [], []
    for x_CT, places in zip(stretches_CT, pieces, strict=True):
        if x_CT.shape[1] == 0:
            continue
        few_CT = np.empty((len(x_CT), math.ceil(x_CT.shape[1] / every)))
        some_CT = np.empty((len(x_CT), sum(stop - start for start, stop in places)))
        for c, x_T in enumerate(x_CT):  # one at a time: an hour of 62 channels is large in float64
            high_T = filters.convolve(x_T[None], taps)[0]
            few_CT[c] = high_T[::every]
            some_CT[c] = np.concatenate([high_T[a:b] for a, b in places]) if places else ()
        fit.append(few_CT)
        named.append(some_CT)
    return np.concatenate(fit, axis=1), np.concatenate(named, axis=1)


def _pieces(lengths: Sequence[int], sfreq: float) -> list[list[tuple[int, int]]]:
    """Every n-th piece of 10 s, in samples of each stretch, so that about 300 s are taken."""
    n_times = round(_PIECE_S * sfreq)
    every = math.ceil(sum(lengths) / (_NAMING_S * sfreq))
    number = itertools.count()
    return [
        [
            (start, min(start + n_times, length))
            for start in range(0, length, n_times)
            if next(number) % every == 0
        ]
        for length in lengths
    ]


def _n_principal(x_CT: Float64Array, share: float) -> int:
    """Principal components that hold this share of the variance, at least 2, at most the rank."""
    variance_C = np.clip(np.linalg.eigvalsh(np.cov(x_CT))[::-1], 0, None)
    held_C = np.cumsum(variance_C) / variance_C.sum()
    rank = int((variance_C > 1e-10 * variance_C[0]).sum())
    return max(2, min(rank, int(np.searchsorted(held_C, share)) + 1))


def _name(
    ica: mne.preprocessing.ICA,
    x_CT: Float64Array,
    channels: Sequence[str],
    sfreq: float,
    recipe: EegRecipe,
) -> tuple[list[int], dict[str, object]]:
    """Components to remove, and why, by MNE's detectors."""
    eyes = _eye_channels(x_CT, channels)
    made = montage.raw(np.vstack([x_CT, *eyes.values()]), channels, sfreq, tuple(eyes))
    ocular: dict[int, float] = {}
    if eyes:
        found, scores = ica.find_bads_eog(
            made, measure="correlation", threshold=recipe.ica_eog_correlation, verbose="ERROR"
        )
        best = np.abs(np.atleast_2d(scores)).max(axis=0)
        ocular = {int(i): round(float(best[i]), 3) for i in found}
    muscle: dict[int, float] = {}
    if len(channels) >= recipe.ica_muscle_electrodes:
        muscle = _muscle(ica, made, recipe, spared=set(ocular))
    facts: dict[str, object] = {
        "eye_channels": list(eyes),
        "muscle_sought": len(channels) >= recipe.ica_muscle_electrodes,
        "ocular": {str(i): score for i, score in ocular.items()},
        "muscle": {str(i): score for i, score in muscle.items()},
    }
    return sorted({*ocular, *muscle}), facts


def _eye_channels(x_CT: Float64Array, channels: Sequence[str]) -> dict[str, Float64Array]:
    at = {name: i for i, name in enumerate(channels)}
    nearest = next((names for names in FRONTAL if set(names) <= at.keys()), ())
    return {f"eye {name}": x_CT[at[name]] for name in nearest}


def _muscle(
    ica: mne.preprocessing.ICA, made: mne.io.RawArray, recipe: EegRecipe, *, spared: set[int]
) -> dict[int, float]:
    """The highest scores of MNE's detector above the threshold, at most a share of all."""
    low_hz, high_hz = MUSCLE_BAND_HZ
    found, scores = ica.find_bads_muscle(
        made,
        threshold=recipe.ica_muscle_score ** (1 / 3),  # MNE compares with its cube
        l_freq=low_hz,
        h_freq=min(high_hz, recipe.band_high_hz),
        verbose="ERROR",
    )
    n_most = int(recipe.ica_max_muscle * ica.n_components_)
    worst = sorted((i for i in found if i not in spared), key=lambda i: -scores[i])[:n_most]
    return {int(i): round(float(scores[i]), 3) for i in worst}


def _matrix(
    ica: mne.preprocessing.ICA, channels: Sequence[str], sfreq: float, removed: Sequence[int]
) -> Float64Array:
    """What MNE makes of unit vectors, less what it makes of zero."""
    n = len(channels)
    units = montage.raw(np.hstack([np.zeros((n, 1)), np.eye(n)]), channels, sfreq)
    ica.apply(units, exclude=list(removed), verbose="ERROR")
    made = units.get_data(verbose="ERROR")
    matrix_CC: Float64Array = made[:, 1:] - made[:, :1]
    return matrix_CC
