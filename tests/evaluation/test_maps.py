"""Maps: neighbours stay neighbours, the same twice, and refused where they would be nonsense."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from emoray.evaluation.maps import FEWEST, Map, perplexity_for, tsne_map
from emoray.runtime.storage import Storage
from emoray.vocabulary.schema import DataError

THREE_GROUPS = """
import numpy as np
rng = np.random.default_rng(0)
centres_3D = 20 * rng.standard_normal((3, 16))
z_ND = np.repeat(centres_3D, 40, axis=0) + rng.standard_normal((120, 16))
"""


def three_groups() -> np.ndarray:
    names: dict[str, np.ndarray] = {}
    exec(THREE_GROUPS, names)
    return names["z_ND"]


def nearest_is_of_own_group(points_N2: np.ndarray) -> float:
    groups_N = np.repeat(np.arange(3), 40)
    far_NN = np.linalg.norm(points_N2[:, None] - points_N2[None], axis=-1)
    np.fill_diagonal(far_NN, np.inf)
    return float((groups_N[far_NN.argmin(axis=1)] == groups_N).mean())


# Layout -------------------------------------------------------------------------------------------


def test_segments_that_lie_together_are_laid_out_together() -> None:
    points_N2 = tsne_map(three_groups(), seed=0)
    assert points_N2.shape == (120, 2)
    assert points_N2.dtype == np.float32
    assert nearest_is_of_own_group(points_N2) == 1.0
    mixed_ND = np.random.default_rng(1).standard_normal((120, 16))  # a test that could fail
    assert nearest_is_of_own_group(tsne_map(mixed_ND, seed=0)) < 0.6


def test_same_embeddings_and_seed_same_map() -> None:
    np.testing.assert_array_equal(
        tsne_map(three_groups(), seed=3), tsne_map(three_groups(), seed=3)
    )


@pytest.mark.slow
def test_the_number_of_threads_changes_nothing() -> None:
    program = THREE_GROUPS + (
        "from emoray.evaluation.maps import tsne_map; import sys;"
        "sys.stdout.buffer.write(tsne_map(z_ND, seed=3).tobytes())"
    )
    maps = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "OMP_NUM_THREADS": n, "OPENBLAS_NUM_THREADS": n},
            capture_output=True,
            check=True,
        ).stdout
        for n in ("1", "2")
    ]
    assert len(maps[0]) == 120 * 2 * 4
    assert maps[0] == maps[1]


def test_a_shift_far_from_the_origin_leaves_neighbours_alone() -> None:
    assert nearest_is_of_own_group(tsne_map(three_groups() + 1e6, seed=0)) == 1.0


def test_embeddings_are_left_as_they_are() -> None:
    z_ND = three_groups()
    before_ND = z_ND.copy()
    tsne_map(z_ND, seed=0)
    np.testing.assert_array_equal(z_ND, before_ND)


@pytest.mark.parametrize("value", [0.0, -7.3])
def test_embeddings_that_are_all_equal_lie_at_the_origin(value: float) -> None:
    same_ND = np.full((50, 8), value, dtype=np.float32)
    np.testing.assert_array_equal(tsne_map(same_ND, seed=0), np.zeros((50, 2)))


def test_embeddings_on_a_line_have_a_map() -> None:
    line_ND = np.outer(np.arange(40.0), np.ones(5))
    assert np.all(np.isfinite(tsne_map(line_ND, seed=0)))


@pytest.mark.parametrize("n", [FEWEST, 5, 12])
def test_few_segments_have_a_map(n: int) -> None:
    points_N2 = tsne_map(three_groups()[:n], seed=0)
    assert points_N2.shape == (n, 2)
    assert np.all(np.isfinite(points_N2))


# What it refuses ----------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_embeddings_that_are_not_finite_are_refused_by_row(bad: float) -> None:
    z_ND = three_groups()
    z_ND[17, 3] = bad
    with pytest.raises(ValueError, match="row 17"):
        tsne_map(z_ND, seed=0)


@pytest.mark.parametrize("shape", [(3, 8), (0, 8)])
def test_too_few_segments_are_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="need 4 segments or more"):
        tsne_map(np.zeros(shape), seed=0)


@pytest.mark.parametrize("shape", [(30,), (30, 1), (30, 2, 2)])
def test_what_has_no_plane_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(N, D\)"):
        tsne_map(np.zeros(shape), seed=0)


@pytest.mark.parametrize(("n", "allowed"), [(1000, 30), (91, 30), (31, 10), (4, 1)])
def test_perplexity_is_a_third_of_the_others_at_most(n: int, allowed: float) -> None:
    assert perplexity_for(n) == pytest.approx(allowed)
    assert perplexity_for(n, 5.0) == pytest.approx(min(5.0, allowed))


@pytest.mark.parametrize("perplexity", [0.5, -1.0, np.nan, np.inf])
def test_a_perplexity_that_is_no_count_of_neighbours_is_refused(perplexity: float) -> None:
    with pytest.raises(ValueError, match="perplexity"):
        perplexity_for(100, perplexity)


# The file -----------------------------------------------------------------------------------------


def a_map(n: int = 6) -> Map:
    rng = np.random.default_rng(0)
    va_N2 = rng.uniform(-4, 4, (n, 2))
    va_N2[0, 1] = np.nan
    points_N2 = rng.standard_normal((n, 2)).astype(np.float32)
    return Map(points_N2, va_N2, tuple(f"Jürgen {i}" for i in range(n)), "deap, pretrained")


@pytest.mark.parametrize("saved", [a_map(), Map(np.zeros((0, 2)), np.zeros((0, 2)), (), "nobody")])
def test_a_map_comes_back_as_it_was_saved(tmp_path: Path, saved: Map) -> None:
    storage = Storage.at(tmp_path / "figures")
    saved.save(storage, "map.npz")
    found = Map.load(storage, "map.npz")
    np.testing.assert_array_equal(found.points_N2, saved.points_N2)
    np.testing.assert_array_equal(found.va_N2, saved.va_N2)
    assert found.points_N2.dtype == saved.points_N2.dtype
    assert (found.subjects, found.name) == (saved.subjects, saved.name)
    assert list(storage.files()) == ["map.npz"]


def test_the_same_map_is_the_same_file(tmp_path: Path) -> None:
    storage = Storage.at(tmp_path)
    for name in ("a.npz", "b.npz"):
        a_map().save(storage, name)
    assert storage.read("a.npz") == storage.read("b.npz")


def test_a_map_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"need the map gone\.npz"):
        Map.load(Storage.at(tmp_path), "gone.npz")


def foreign(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "map.npz"
    if kind == "text":
        path.write_text("no map")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "an array":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    elif kind == "other parts":
        np.savez(path, points=np.zeros((3, 2)))
    elif kind == "other lengths":
        np.savez(path, points=np.zeros((3, 2)), va=np.zeros((2, 2)), subjects=["a"], name="x")
    elif kind == "objects":
        parts = dict.fromkeys(("points", "va", "subjects", "name"), np.array([{}], dtype=object))
        np.savez(path, **parts)
    else:
        a_map().save(Storage.at(tmp_path), "map.npz")
        whole = path.read_bytes()
        kept = whole[: len(whole) // 2] if kind == "half" else whole[:100] + bytes(8) + whole[108:]
        path.write_bytes(kept)


@pytest.mark.parametrize(
    "kind",
    ["text", "empty", "an array", "other parts", "other lengths", "objects", "half", "flips"],
)
def test_a_file_that_is_no_map_is_named(tmp_path: Path, kind: str) -> None:
    foreign(tmp_path, kind)
    with pytest.raises(DataError, match=r"map\.npz: need a map"):
        Map.load(Storage.at(tmp_path), "map.npz")


@pytest.mark.parametrize(
    ("points_N2", "va_N2", "subjects", "message"),
    [
        (np.zeros((3, 2)), np.zeros((2, 2)), ("a",) * 3, "N subjects"),
        (np.zeros((3, 2)), np.zeros((3, 2)), ("a",) * 2, "N subjects"),
        (np.zeros((3, 3)), np.zeros((3, 2)), ("a",) * 3, "N subjects"),
        (np.full((3, 2), np.nan), np.zeros((3, 2)), ("a",) * 3, "finite points"),
        (np.zeros((3, 2)), np.full((3, 2), 4.5), ("a",) * 3, r"\[-4, 4\]"),
    ],
)
def test_a_map_of_parts_that_do_not_fit_is_refused(
    points_N2: np.ndarray, va_N2: np.ndarray, subjects: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Map(points_N2, va_N2, subjects, "deap")
