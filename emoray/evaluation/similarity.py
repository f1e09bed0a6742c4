"""How alike the features of two streams are: every segment of one beside every one of the other.

A mean similarity is no measure of quality by itself: one vector added to all features moves it
anywhere. What tells that two streams were aligned is how far pairs, segments of the same instant,
lie above all others; above others of the same person, that it is more than who it is.

Shapes: N segments of each stream, row i of both the same instant; Z width of a feature.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from emoray.batches.feeds import in_order
from emoray.corpus.catalog import Segments
from emoray.evaluation.arrays import read_arrays, write_arrays
from emoray.evaluation.embed import evenly
from emoray.evaluation.predict import BATCH_SIZE
from emoray.methods.base import Stage
from emoray.runtime.storage import Storage
from emoray.vocabulary.schema import Float32Array, FloatArray, IntArray


def by_person(rows_N: IntArray, subject_S: NDArray[Any], at_most: int) -> IntArray:
    """At most so many of some rows, person by person, spread evenly over each one's.

    Args:
        rows_N: of an index.
        subject_S: whose each row of the index is.
        at_most: how many.
    """
    rows_N = np.sort(rows_N)
    order_N = np.argsort(subject_S[rows_N].astype(str), kind="stable")
    return evenly(rows_N[order_N], at_most)


@torch.inference_mode()
def paired_features(
    stage: Stage,
    module: nn.Module,
    dataset: Segments,
    rows_N: IntArray,
    *,
    device: torch.device,
) -> tuple[Float32Array, Float32Array]:
    """What a stage says of both streams of some rows, in their order, (N, Z) each.

    The module is put into evaluation mode and float32.

    Raises:
        ValueError: the stage draws no stream to another.
    """
    module.to(device, torch.float32).eval()
    found = [
        [z_BZ.float().cpu() for z_BZ in stage.paired(module, group.to(device, torch.float32))]
        for group in in_order(dataset, rows_N, batch_size=BATCH_SIZE, streams=stage.streams)
    ]
    query_NZ, key_NZ = (torch.cat(parts).numpy() for parts in zip(*found, strict=True))
    return query_NZ, key_NZ


def cosines(query_NZ: FloatArray, key_NZ: FloatArray) -> FloatArray:
    """Cosine of each query (row) with each key (column), (N, N); 0 where a feature is all zeros.

    Raises:
        ValueError: not two arrays of one shape (N, Z), or a feature that is not finite.
    """
    query_NZ, key_NZ = np.asarray(query_NZ, np.float64), np.asarray(key_NZ, np.float64)
    if query_NZ.ndim != 2 or query_NZ.shape != key_NZ.shape:
        raise ValueError(f"need two (N, Z) of one shape, got {query_NZ.shape} and {key_NZ.shape}")
    if not (np.isfinite(query_NZ).all() and np.isfinite(key_NZ).all()):
        raise ValueError("need finite features, got others")
    cosine_NN: FloatArray = np.clip(_unit(query_NZ) @ _unit(key_NZ).T, -1.0, 1.0)
    return cosine_NN


def _unit(z_NZ: FloatArray) -> FloatArray:
    length_N = np.linalg.norm(z_NZ, axis=1)
    unit_NZ: FloatArray = z_NZ / np.where(length_N > 0, length_N, 1.0)[:, None]
    return unit_NZ


@dataclass(frozen=True, slots=True)
class Spread:
    """A matrix of similarities in numbers, each in [-1, 1]."""

    low: float
    high: float
    mean: float
    """Of all N x N."""
    pairs: float
    """Mean of the diagonal: segments of the same instant."""
    others: float
    """Mean of all but the diagonal."""
    same_person: float | None
    """Mean of the others whose two segments are of one person; None where there are none."""

    @classmethod
    def of(cls, similarity_NN: FloatArray, subjects: Sequence[str]) -> Spread:
        """The numbers of a matrix.

        Raises:
            ValueError: not square, fewer than two segments, or not one subject for each.
        """
        n = len(similarity_NN)
        if similarity_NN.shape != (n, n) or n < 2 or len(subjects) != n:
            raise ValueError(
                f"need (N, N) similarities with N >= 2 and N subjects, got "
                f"{similarity_NN.shape} and {len(subjects)}"
            )
        matrix_NN = np.asarray(similarity_NN, np.float64)
        is_pair_NN = np.eye(n, dtype=bool)
        who_N = np.asarray(subjects)
        same_NN = (who_N[:, None] == who_N[None, :]) & ~is_pair_NN
        return cls(
            low=float(matrix_NN.min()),
            high=float(matrix_NN.max()),
            mean=float(matrix_NN.mean()),
            pairs=float(matrix_NN[is_pair_NN].mean()),
            others=float(matrix_NN[~is_pair_NN].mean()),
            same_person=float(matrix_NN[same_NN].mean()) if same_NN.any() else None,
        )


@dataclass(frozen=True, eq=False)
class Beside:
    """Two streams of some segments beside each other, and one of them in the plane.

    Raises:
        ValueError: the parts are not of one length, or something is not finite.
    """

    similarity_NN: FloatArray
    """`cosines`; rows are the stream that is drawn to the other, in the order of `subjects`."""
    points_N2: FloatArray
    """The same rows laid out by `tsne_map`; without unit."""
    label_N: IntArray
    """Class of each."""
    subjects: tuple[str, ...]
    """Whose each segment is; segments of one person stand together."""

    def __post_init__(self) -> None:
        n = len(self.subjects)
        found = (self.similarity_NN.shape, self.points_N2.shape, self.label_N.shape)
        if found != ((n, n), (n, 2), (n,)):
            raise ValueError(f"need (N, N), (N, 2), (N,) for N = {n} subjects, got {found}")
        if not (np.isfinite(self.similarity_NN).all() and np.isfinite(self.points_N2).all()):
            raise ValueError("need finite similarities and points, got others")

    @property
    def spread(self) -> Spread:
        """The matrix in numbers."""
        return Spread.of(self.similarity_NN, self.subjects)

    def save(self, storage: Storage, file: str) -> None:
        """Write it as .npz; it appears complete or not at all.

        Raises:
            OSError: the folder cannot be written; the message says which.
        """
        write_arrays(
            storage,
            file,
            similarity=self.similarity_NN,
            points=self.points_N2,
            label=self.label_N,
            subjects=np.asarray(self.subjects, dtype=np.str_),
        )

    @classmethod
    def load(cls, storage: Storage, file: str) -> Beside:
        """Read what `save` wrote.

        Raises:
            DataError: there is no such file, or it holds something else.
        """

        def made(similarity: Any, points: Any, label: Any, subjects: Any) -> Beside:
            return cls(similarity, points, label, tuple(map(str, subjects)))

        return read_arrays(storage, file, made, "matrix of similarities")
