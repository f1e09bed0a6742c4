"""Absurd amplitudes, found before anything is filtered, so that one sample spoils itself alone.

A filter spreads a sample over seconds, the average reference over all electrodes, a fit of ICA
over the whole recording. What is absurd is told from the channel itself: how far a sample lies
from the channel's level around it, against how far the channel gets in a usual second.
Shapes: C channels (electrodes or leads), T samples, K blocks of about a second, N excursions.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter1d, median_filter, minimum_filter1d

from emoray.signals.recipe import Recipe
from emoray.signals.segmentation import where
from emoray.vocabulary.schema import Dropped, FloatArray, IntArray, Recording, Stream

Float64Array = NDArray[np.float64]

LIMITS_UV: Mapping[Stream, tuple[float, float]] = {
    "eeg": (1_000.0, 10_000.0),
    "ecg": (5_000.0, 50_000.0),
}
"""Where the unit is known: nothing below the first is absurd, everything above the second is. A
blink or a clenched jaw reaches 500 uV on the scalp, an R wave 3,000 uV on the chest."""

REASON = "absurd amplitude"

_BLOCK_S = 1.0
"""A blink is a small part of it, and it holds a heart beat."""
_LEVEL_BLOCKS = 5
"""The level goes along with a drift, and with nothing that lasts less than two blocks."""
_MEDIAN_OF = 32  # samples of a block give its median to a fifth of its spread
_UNLIKE = 10.0
"""A channel counts as at most so many times livelier or quieter than the middle one: what is absurd
from end to end is no measure of itself."""
_BESIDE_S = 0.25  # on either side of an excursion tell the level before from the level after


@dataclass(frozen=True, slots=True)
class Places:
    """Excursions of one channel in one stretch, in order; no two touch."""

    start_N: IntArray
    stop_N: IntArray
    """The sample after the last."""
    peak_N: Float64Array
    """Largest deviation from the channel's level, in the signal's unit."""
    jump_N: Float64Array
    """How much higher the channel lies afterwards; 0 unless that alone is absurd (a step)."""

    def __len__(self) -> int:
        return len(self.start_N)

    @property
    def length_N(self) -> IntArray:
        """Samples."""
        return self.stop_N - self.start_N

    def touched(self, start: int, stop: int) -> NDArray[np.bool_]:
        """Which of them have samples between these, shape (N,)."""
        touched_N: NDArray[np.bool_] = (self.start_N < stop) & (self.stop_N > start)
        return touched_N


@dataclass(frozen=True, slots=True)
class Excursions:
    """All that is absurd in a recording's EEG, or in its ECG."""

    places: Mapping[tuple[int, int], Places] = field(default_factory=dict)
    """By stretch and channel, where there are any."""
    limit_C: Float64Array = field(default_factory=lambda: np.zeros(0))
    """Deviation from its level from which a channel is absurd, in the signal's unit."""
    max_samples: int = 0
    """Longest that is interpolated; a segment that touches a longer one is dropped."""

    def spoilt(self, stretch: int, start: int, stop: int) -> list[int]:
        """Channels in which an excursion too long for interpolation touches these samples."""
        return [
            c
            for (s, c), places in self.places.items()
            if s == stretch
            and (places.touched(start, stop) & (places.length_N > self.max_samples)).any()
        ]

    def blank(
        self, stretch: int, x_CT: FloatArray, *, channel: int = 0, start: int = 0
    ) -> FloatArray:
        """A part of a stretch with NaN in place of excursions, and with steps undone.

        Args:
            stretch: which.
            x_CT: the part; it is not changed, and comes back itself where nothing is to be done.
            channel: the first of its channels.
            start: the first of its samples.
        """
        touched = {
            c - channel: places
            for (s, c), places in self.places.items()
            if s == stretch and channel <= c < channel + len(x_CT)
        }
        if not touched:
            return x_CT
        blanked_CT = x_CT.copy()
        for row, places in touched.items():
            _blank_T(blanked_CT[row], places, start)
        return blanked_CT

    def of_channel(self, channel: int) -> list[Places]:
        """Excursions of a channel in all stretches."""
        return [places for (_, c), places in self.places.items() if c == channel]

    @property
    def channels(self) -> list[int]:
        """Those that have excursions."""
        return sorted({c for _, c in self.places})

    def facts(self, names: Sequence[str], sfreq: float) -> dict[str, object]:
        """By channel: how many, the longest in seconds, the largest, and from where on."""
        return {
            names[c]: {
                "n": sum(len(places) for places in self.of_channel(c)),
                "longest_s": max(float(r.length_N.max()) for r in self.of_channel(c)) / sfreq,
                "largest": max(float(places.peak_N.max()) for places in self.of_channel(c)),
                "limit": float(self.limit_C[c]),
            }
            for c in self.channels
        }


def dropped(
    absurd: Excursions,
    recording: Recording,
    names: Sequence[str],
    what: str,
    *,
    besides: Container[int] = (),
) -> list[Dropped]:
    """What is not used as it came, by channel; channels that are bad as a whole are named apart."""
    found = []
    for c in (c for c in absurd.channels if c not in besides):
        n = sum(len(places) for places in absurd.of_channel(c))
        n_long = sum(
            int((places.length_N > absurd.max_samples).sum()) for places in absurd.of_channel(c)
        )
        place = f"{where(recording)} {names[c]}"
        found += [
            Dropped(what, place, f"{REASON}: {ending}", n_of)
            for ending, n_of in (("interpolated", n - n_long), ("too long to interpolate", n_long))
            if n_of
        ]
    return found


def _blank_T(x_T: FloatArray, places: Places, start: int) -> None:
    """In place; sample 0 of `x_T` is sample `start` of the stretch."""
    for i in np.flatnonzero(places.touched(start, start + len(x_T))):
        x_T[max(places.start_N[i] - start, 0) : places.stop_N[i] - start] = np.nan
    for i in np.flatnonzero(places.jump_N):
        x_T[max(places.stop_N[i] - start, 0) :] -= x_T.dtype.type(places.jump_N[i])


def find(
    stretches_CT: Sequence[FloatArray], sfreq: float, recipe: Recipe, *, kind: Stream, unit: str
) -> Excursions:
    """Find what is absurd in every channel of a recording.

    A channel's level is the running median of its medians by second, so that an offset (DREAMER's
    is about 4,000) or a drift is no excursion. Missing samples are left to others.

    Args:
        stretches_CT: as they were read.
        sfreq: Hz.
        recipe: its `max_excursion` and `max_gap_s`.
        kind: whose physical limits hold.
        unit: of the signals; the limits are known for `uV`.
    """
    if recipe.max_excursion == 0:
        return Excursions()
    n_times = max(1, round(_BLOCK_S * sfreq))
    blocks = {
        (s, c): _blocks(x_T, n_times)
        for s, x_CT in enumerate(stretches_CT)
        for c, x_T in enumerate(x_CT)
        if len(x_T)
    }
    if not blocks:
        return Excursions()
    limit_C = _limits(blocks, recipe.max_excursion, LIMITS_UV[kind] if unit == "uV" else None)
    max_samples, n_beside = max(1, int(recipe.max_gap_s * sfreq)), max(1, round(_BESIDE_S * sfreq))
    places = {
        (s, c): _places(stretches_CT[s][c], of, limit_C[c], max_samples, n_beside)
        for (s, c), of in blocks.items()
        if of.may_exceed(limit_C[c])
    }
    return Excursions({at: of for at, of in places.items() if len(of)}, limit_C, max_samples)


@dataclass(frozen=True, slots=True)
class _Blocks:
    """One channel of one stretch, second by second; finite samples alone."""

    centre_K: Float64Array
    """In samples."""
    level_K: Float64Array
    low_K: Float64Array
    """Smallest sample; NaN where none is finite."""
    high_K: Float64Array

    @property
    def peak_K(self) -> Float64Array:
        """Largest deviation from the level; NaN where no sample is finite."""
        return np.maximum(self.high_K - self.level_K, self.level_K - self.low_K)

    def may_exceed(self, limit: float) -> bool:
        """Whether a sample may deviate by more; the level between two centres lies between both."""
        lowest_K = minimum_filter1d(self.level_K, 3, mode="nearest")
        highest_K = maximum_filter1d(self.level_K, 3, mode="nearest")
        beyond_K = (self.high_K - lowest_K > limit) | (highest_K - self.low_K > limit)
        return bool(beyond_K.any())


def _blocks(x_T: FloatArray, n_times: int) -> _Blocks:
    """The last block takes what is left over: a median of few samples could be an excursion."""
    n_blocks = max(1, len(x_T) // n_times)
    edge = (n_blocks - 1) * n_times
    found_3K = np.hstack(
        [_of_rows(x_KT) for x_KT in (x_T[:edge].reshape(-1, n_times), x_T[None, edge:])]
    )
    for k in np.flatnonzero(~np.isfinite(found_3K).all(axis=0)):
        piece_T = x_T[k * n_times : len(x_T) if k == n_blocks - 1 else (k + 1) * n_times]
        finite_T = piece_T[np.isfinite(piece_T)]
        found_3K[:, k] = _of_rows(finite_T[None])[:, 0] if finite_T.size else np.nan
    low_K, middle_K, high_K = found_3K
    centre_K = np.append(np.arange(n_blocks - 1) * n_times + (n_times - 1) / 2, 0.0)
    centre_K[-1] = (edge + len(x_T) - 1) / 2
    return _Blocks(centre_K, _level(middle_K, centre_K), low_K, high_K)


def _level(middle_K: Float64Array, centre_K: Float64Array) -> Float64Array:
    """Running median; blocks without a finite sample take theirs from those beside them."""
    known_K = np.isfinite(middle_K)
    if not known_K.any():
        return middle_K
    middle_K = np.interp(centre_K, centre_K[known_K], middle_K[known_K])
    return np.asarray(median_filter(middle_K, _LEVEL_BLOCKS, mode="nearest"), dtype=np.float64)


def _of_rows(x_KT: FloatArray) -> Float64Array:
    """Smallest, median of some, largest of each row."""
    some_KT = x_KT[:, :: max(1, x_KT.shape[1] // _MEDIAN_OF)]
    with np.errstate(invalid="ignore"):
        found = (x_KT.min(axis=1), np.median(some_KT, axis=1), x_KT.max(axis=1))
    return np.array(found, dtype=np.float64)


def _limits(
    blocks: Mapping[tuple[int, int], _Blocks],
    max_excursion: float,
    physical: tuple[float, float] | None,
) -> Float64Array:
    """By channel; infinite where nothing is known of its unit and no channel moves."""
    typical_C = np.zeros(1 + max(c for _, c in blocks))
    for channel in range(len(typical_C)):
        peak_K = np.hstack([of.peak_K for (_, c), of in blocks.items() if c == channel])
        peak_K = peak_K[np.isfinite(peak_K)]
        typical_C[channel] = np.median(peak_K) if len(peak_K) else 0.0
    alive_C = typical_C > 0
    if alive_C.any():
        middle = float(np.percentile(typical_C[alive_C], 50, method="lower"))
        typical_C = np.clip(typical_C, middle / _UNLIKE, middle * _UNLIKE)
    limit_C = max_excursion * typical_C if alive_C.any() else np.full(len(typical_C), np.inf)
    return limit_C if physical is None else np.clip(limit_C, *physical)


def _places(x_T: FloatArray, of: _Blocks, limit: float, max_samples: int, n_beside: int) -> Places:
    """Excursions with no more than `max_samples` between them are one."""
    level_T = np.interp(np.arange(len(x_T)), of.centre_K, of.level_K)
    deviation_T = np.abs(x_T - level_T)
    at = np.flatnonzero((deviation_T > limit) & np.isfinite(x_T))
    first = np.flatnonzero(np.diff(at, prepend=-max_samples - 2) > max_samples + 1)
    start_N, stop_N = at[first], np.append(at[first[1:] - 1], at[-1:]) + 1
    peak_N = np.maximum.reduceat(deviation_T[at], first) if len(at) else np.zeros(0)
    jump_N = np.zeros(len(start_N))
    for i in np.flatnonzero(stop_N - start_N > max_samples):
        jump = _middle(x_T[stop_N[i] :][:n_beside]) - _middle(
            x_T[max(start_N[i] - n_beside, 0) : start_N[i]]
        )
        jump_N[i] = jump if abs(jump) > limit else 0.0  # NaN, at an end, is no jump
    return Places(start_N, stop_N, peak_N, jump_N)


def _middle(x_T: FloatArray) -> float:
    """Median of what is finite; NaN where nothing is."""
    finite_T = x_T[np.isfinite(x_T)]
    return float(np.median(finite_T)) if finite_T.size else float("nan")
