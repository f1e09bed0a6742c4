"""Embeddings laid out in the plane by t-SNE, for figures.

A map shows who lies beside whom. Distances between groups, their sizes and all directions in it
are the layout's, not the encoder's: no number is to be read from a map.

Shapes: N segments, D width of an embedding, 2 = the plane, or (valence, arousal).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from emoray.evaluation.arrays import read_arrays, write_arrays
from emoray.runtime.storage import Storage
from emoray.vocabulary.schema import Float32Array, FloatArray

PERPLEXITY = 30.0
"""About how many neighbours a segment keeps. EMOD does not say; 30 is scikit-learn's default."""
FEWEST = 4
"""Segments that a map needs: the rule of `perplexity_for` leaves fewer no neighbour at all."""


def perplexity_for(n: int, perplexity: float = PERPLEXITY) -> float:
    """The perplexity that N segments allow: as asked, but a third of the others at most.

    t-SNE looks at the nearest 3 x perplexity segments of each, so that many others must be there:
    91 segments allow 30, 31 allow 10, 4 allow 1.

    Raises:
        ValueError: `n` is below 4, or `perplexity` is not a number of 1 or more.
    """
    if n < FEWEST:
        raise ValueError(f"need {FEWEST} segments or more for a map, got {n}")
    if not 1 <= perplexity < np.inf:
        raise ValueError(f"need a perplexity of 1 or more, got {perplexity:g}")
    return min(float(perplexity), (n - 1) / 3)


def tsne_map(
    embeddings_ND: FloatArray, *, seed: int, perplexity: float = PERPLEXITY
) -> Float32Array:
    """Lay segments out in the plane so that neighbours stay neighbours, shape (N, 2).

    Starts from the first two principal components, which keeps the coarse arrangement, and takes
    the embeddings as they are, neither scaled nor whitened. It runs on one thread: two threads add
    in another order, and t-SNE turns the last digit into another picture.

    Args:
        embeddings_ND: of width 2 or more. Where all are equal, every segment lies at the origin.
        seed: of the layout. The same embeddings and seed give the same map on one machine.
        perplexity: lowered where there are few segments (`perplexity_for`).

    Raises:
        ValueError: not (N, D) with N >= 4 and D >= 2, an embedding that is not finite, or a
            perplexity below 1.
    """
    embeddings_ND = np.asarray(embeddings_ND)
    if embeddings_ND.ndim != 2 or embeddings_ND.shape[1] < 2:
        raise ValueError(f"need (N, D) embeddings with D >= 2, got {embeddings_ND.shape}")
    allowed = perplexity_for(len(embeddings_ND), perplexity)
    if not np.all(np.isfinite(embeddings_ND)):
        row = int(np.flatnonzero(~np.isfinite(embeddings_ND).all(axis=1))[0])
        raise ValueError(f"need finite embeddings, got others in row {row}")
    centred_ND = embeddings_ND - embeddings_ND.mean(axis=0, dtype=np.float64)
    reach = float(np.abs(centred_ND).max())
    if reach <= 1e-7 * float(np.abs(embeddings_ND).max()):  # what rounding of float32 leaves
        return np.zeros((len(embeddings_ND), 2), dtype=np.float32)
    # t-SNE looks at distances only: shift and common scale change nothing but keep float32 exact.
    layout = TSNE(perplexity=allowed, init="pca", learning_rate="auto", random_state=seed)
    with threadpool_limits(1):
        points_N2 = layout.fit_transform((centred_ND / reach).astype(np.float32))
    return np.asarray(points_N2, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Map:
    """Segments in the plane, and what was felt during each.

    Raises:
        ValueError: the parts are not of one length, a point is not finite, or a value lies outside
            [-4, 4].
    """

    points_N2: FloatArray
    """As `tsne_map` gives them; without unit."""
    va_N2: FloatArray
    """Valence and arousal in [-4, 4]; NaN where there is none."""
    subjects: tuple[str, ...]
    """Whose each segment is."""
    name: str
    """What is shown (`deap, pretrained`)."""

    def __post_init__(self) -> None:
        n = len(self.subjects)
        if self.points_N2.shape != (n, 2) or self.va_N2.shape != (n, 2):
            raise ValueError(
                f"{self.name}: need (N, 2) points, (N, 2) valence and arousal and N subjects, got "
                f"{self.points_N2.shape}, {self.va_N2.shape} and {n}"
            )
        if not np.all(np.isfinite(self.points_N2)):
            raise ValueError(f"{self.name}: need finite points, got others")
        if np.any(np.abs(self.va_N2) > 4):  # false for NaN
            raise ValueError(f"{self.name}: need valence and arousal in [-4, 4], got others")

    def save(self, storage: Storage, file: str) -> None:
        """Write the map as .npz; it appears complete or not at all.

        Raises:
            OSError: the folder cannot be written; the message says which.
        """
        write_arrays(
            storage,
            file,
            points=self.points_N2,
            va=self.va_N2,
            subjects=np.asarray(self.subjects, dtype=np.str_),
            name=np.asarray(self.name, dtype=np.str_),
        )

    @classmethod
    def load(cls, storage: Storage, file: str) -> Map:
        """Read a map that `save` wrote.

        Raises:
            DataError: there is no such file, or it holds no map.
        """

        def made(points: Any, va: Any, subjects: Any, name: Any) -> Map:
            return cls(points, va, tuple(map(str, subjects)), str(name))

        return read_arrays(storage, file, made, "map")
