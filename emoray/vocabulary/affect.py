"""Valence-arousal space: ratings and emotion names -> [-4, 4], cells, regions, distance.

Source: Chen et al., EMOD, "Constructing the Unified V-A Space". The loss uses the floats; the
grid of 9x9 cells and 3x3 regions serves only to balance batches.
Shapes: S segments, 2 = (valence, arousal).
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from emoray.vocabulary.schema import DataError, FloatArray, IntArray, Scale

EmotionTable = Literal["rescaled", "emod_code"]
"""`rescaled`: means on 1-9 minus 5, as the paper describes. `emod_code`: the released integers."""

N_REGIONS = 9
LIMIT = 4.0
"""Valence and arousal lie in [-LIMIT, LIMIT]."""

RESCALED: dict[str, tuple[float, float]] = {
    # Cowen & Keltner 2017, public ratings: mean over the clips whose most frequent category it
    # is, on 1-9, minus 5. The comment names that category.
    "joy": (2.32, 1.06),  # Joy
    "amusement": (1.11, 0.77),  # Amusement
    "surprise": (-0.29, 1.24),  # Surprise
    "fear": (-1.84, 1.23),  # Fear
    "anger": (-1.93, 1.01),  # Anger
    "sadness": (-1.95, 0.37),  # Sadness
    "disgust": (-2.68, 0.12),  # Disgust
    "anxiety": (-1.38, 1.34),  # Anxiety
    "calmness": (2.16, 0.16),  # Calmness
    "excitement": (1.25, 1.81),  # Excitement
    # Not among their categories. Neutral is the origin by convention; the others are the word
    # norms of Warriner et al. 2013 (6.53, 4.77) and (6.89, 3.10), minus 5.
    "neutral": (0.0, 0.0),
    "inspiration": (1.53, -0.23),
    "tenderness": (1.89, -1.90),
}
"""Valence and arousal of an emotion name, in [-4, 4]."""

EMOD_CODE: dict[str, tuple[float, float]] = {
    # Integers of EMOD's released code, stored on 0-8, minus 4.
    "joy": (3.0, 2.0),
    "amusement": (2.0, 1.0),
    "surprise": (0.0, 2.0),
    "fear": (-1.0, 2.0),
    "anger": (-1.0, 2.0),
    "sadness": (-1.0, 1.0),
    "disgust": (-2.0, 1.0),
    "neutral": (0.0, 0.0),
}
"""The same in EMOD's released code: 0.2 to 1.0 higher, and anger equal to fear."""

SYNONYMS: dict[str, str] = {
    "happy": "joy",
    "happiness": "joy",
    "funny": "amusement",
    "sad": "sadness",
    "angry": "anger",
    "afraid": "fear",
    "disgusted": "disgust",
    "surprised": "surprise",
    "calm": "calmness",
    "tender": "tenderness",
    "inspired": "inspiration",
    "anxious": "anxiety",
    "excited": "excitement",
}
"""Names declared to mean the same; no other two names share a point of `RESCALED`."""


def canonical_emotion(name: str, *, where: str = "label") -> str:
    """Fold a publisher's word into the table's (`Happy` -> `joy`).

    Raises:
        DataError: the table has no such emotion; `where` says in which file it stood.
    """
    folded = name.strip().lower()
    folded = SYNONYMS.get(folded, folded)
    if folded not in RESCALED:
        known = ", ".join(sorted(RESCALED))
        raise DataError(f"{where}: need an emotion among {known}; got {name!r}")
    return folded


def place_emotion(
    name: str, *, table: EmotionTable = "rescaled", where: str = "label"
) -> tuple[float, float]:
    """Valence and arousal of an emotion name, in [-4, 4].

    Raises:
        DataError: the name is in no table, or not in the one asked for.
    """
    emotion = canonical_emotion(name, where=where)
    points = RESCALED if table == "rescaled" else EMOD_CODE
    if emotion not in points:
        raise DataError(f"{where}: EMOD's code has no valence and arousal for {emotion!r}")
    return points[emotion]


def place_rating(rating: float, scale: Scale, *, name: str, where: str) -> float:
    """Map a rating linearly from its scale to [-4, 4].

    Raises:
        DataError: the rating is not finite or lies outside the scale.
    """
    if not scale.low <= rating <= scale.high:  # also false for NaN
        raise DataError(
            f"need {name} in [{scale.low:g}, {scale.high:g}], got {rating:g} in {where}"
        )
    return (rating - scale.low) / (scale.high - scale.low) * 2 * LIMIT - LIMIT


def cells(va_S2: FloatArray) -> IntArray:
    """Cell of each point on the 9x9 grid, each coordinate in -4..4, shape (S, 2).

    Halves round to even, so that no side of zero is favoured.

    Raises:
        ValueError: a coordinate is not finite or lies outside [-4, 4].
    """
    va_S2 = np.asarray(va_S2, dtype=np.float64)
    if not np.all(np.abs(va_S2) <= LIMIT):  # also false for NaN
        worst = va_S2[~(np.abs(va_S2) <= LIMIT)][0]
        raise ValueError(f"need valence and arousal in [-4, 4], got {worst:g}")
    return np.rint(va_S2).astype(np.int64)


def regions(va_S2: FloatArray) -> IntArray:
    """Region of each point: 3x3 blocks of cells {-4,-3,-2}, {-1,0,1}, {2,3,4}; shape (S,).

    Numbered valence first: 0 is low valence and low arousal, 2 high valence and low arousal,
    8 high in both.
    """
    blocks_S2 = (cells(va_S2) + 4) // 3
    return blocks_S2[:, 0] + 3 * blocks_S2[:, 1]


def distances(va_A2: FloatArray, va_B2: FloatArray) -> FloatArray:
    """Euclidean distance between points of the V-A square, shape (A, B)."""
    difference_AB2 = va_A2[:, None, :] - va_B2[None, :, :]
    distance_AB: FloatArray = np.sqrt((difference_AB2**2).sum(axis=-1))
    return distance_AB
