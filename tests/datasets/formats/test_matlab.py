"""Whole variables, and one cell out of a large structure, from MATLAB files."""

import contextlib
import struct
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from emoray.datasets.formats import matlab
from emoray.vocabulary.schema import DataError
from tests.datasets.limits import run_limited


def nested(n_cells: int, n_rows: int) -> dict[str, object]:
    rng = np.random.default_rng(0)
    cells = np.empty((1, n_cells), dtype=object)
    for i in range(n_cells):
        inner = np.empty((3, 1), dtype=object)
        for j in range(3):
            inner[j, 0] = rng.normal(size=(n_rows + j, 4))
        cells[0, i] = {"Age": f"{20 + i}", "Signals": {"parts": inner}, "Score": np.eye(2) * i}
    names = np.array([["AF3", "F7"]], dtype=object)
    return {"before": np.arange(5.0), "D": {"Data": cells, "Rate": 128, "Names": names}}


@pytest.fixture(params=[True, False], ids=["compressed", "plain"])
def mat(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "nested.mat"
    scipy.io.savemat(path, nested(4, 50), do_compression=request.param)
    return path


def test_parts_equal_what_scipy_reads_from_the_whole(mat: Path) -> None:
    whole = scipy.io.loadmat(mat)["D"][0, 0]
    cell, rate, names, score = matlab.load_parts(
        mat, [("D", "Data", 2), ("D", "Rate"), ("D", "Names"), ("D", "Data", 3, "Score")]
    )
    np.testing.assert_array_equal(rate, whole["Rate"])
    np.testing.assert_array_equal(score, whole["Data"][0, 3]["Score"][0, 0])
    assert [str(n[0]) for n in names.ravel()] == ["AF3", "F7"]
    assert cell.dtype.names == whole["Data"][0, 2].dtype.names
    for j in range(3):
        np.testing.assert_array_equal(
            cell["Signals"][0, 0]["parts"][0, 0][j, 0],
            whole["Data"][0, 2]["Signals"][0, 0]["parts"][0, 0][j, 0],
        )


def test_parts_are_found_in_any_order(mat: Path) -> None:
    ways: list[matlab.Part] = [("D", "Rate"), ("D", "Data", 0, "Score"), ("before",)]
    rate, score, before = matlab.load_parts(mat, ways)
    assert rate == 128
    np.testing.assert_array_equal(score, np.zeros((2, 2)))
    np.testing.assert_array_equal(before, np.arange(5.0)[None])


def test_shape_of_a_cell_array_is_read_from_its_head(mat: Path) -> None:
    assert matlab.shape(mat, ("D", "Data")) == (1, 4)


def test_reading_one_cell_takes_the_memory_of_one_cell(tmp_path: Path) -> None:
    path = tmp_path / "large.mat"
    scipy.io.savemat(path, nested(24, 8_000), do_compression=True)  # 24 x 0.77 MB
    one = 3 * 8_000 * 4 * 8
    assert path.stat().st_size > 20 * one
    tracemalloc.start()
    (cell,) = matlab.load_parts(path, [("D", "Data", 20)])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert cell["Signals"][0, 0]["parts"][0, 0][0, 0].shape == (8_000, 4)
    # Blocks of the inflater and scipy's copies, not the cells before it.
    assert peak < 10 * one < path.stat().st_size / 2


Tree = Any  # a number, an array, a list (a cell array) or a dictionary (a structure)

trees = st.recursive(
    st.one_of(
        st.floats(-1e6, 1e6),
        st.integers(-9, 9).map(lambda n: np.full((abs(n) % 4, 3), n, dtype=np.int16)),
        st.text("abc", min_size=1, max_size=9),
    ),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=4),
        st.dictionaries(st.text("xyz", min_size=1, max_size=12), inner, min_size=1, max_size=4),
    ),
    max_leaves=12,
)


def to_matlab(tree: Tree) -> Tree:
    if isinstance(tree, dict):
        return {name: to_matlab(value) for name, value in tree.items()}
    if isinstance(tree, list):
        cells = np.empty((1, len(tree)), dtype=object)
        for i, value in enumerate(tree):
            cells[0, i] = to_matlab(value)
        return cells
    return tree


def parts_of(tree: Tree, part: matlab.Part) -> Iterator[matlab.Part]:
    yield part
    labels = tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else []
    for label in labels:
        yield from parts_of(tree[label], (*part, label))


def follow(whole: Any, part: matlab.Part) -> Any:
    for step in part:
        whole = whole[0, 0][step] if isinstance(step, str) else whole[0, step]
    return whole


@settings(max_examples=40, deadline=None)
@given(tree=trees, compress=st.booleans(), data=st.data())
def test_any_part_of_any_tree_equals_scipys(
    tmp_path_factory: pytest.TempPathFactory, tree: Tree, compress: bool, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("tree") / "tree.mat"
    scipy.io.savemat(path, {"a": 1.0, "D": to_matlab(tree), "z": 2.0}, do_compression=compress)
    every = list(parts_of(tree, ("D",)))
    leaves = [p for p in every if not any(q[: len(p)] == p and q != p for q in every)]
    chosen = data.draw(st.lists(st.sampled_from(leaves), min_size=1, unique=True))
    whole = scipy.io.loadmat(path)["D"]
    values = matlab.load_parts(path, [*chosen, ("z",)])
    assert values.pop() == 2.0
    for part, value in zip(chosen, values, strict=True):
        np.testing.assert_array_equal(value, follow(whole, part[1:]))


def test_arrays_of_structures_and_every_number_equal_scipys(tmp_path: Path) -> None:
    records = np.empty((2, 2), dtype=[("x", object), ("name", object)])
    for i, record in enumerate(records.ravel()):
        record["x"], record["name"] = np.arange(i), f"no {i}"
    kinds = ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]
    numbers = {f"n_{kind}": np.arange(24).reshape(2, 3, 4).astype(kind) for kind in kinds}
    path = tmp_path / "x.mat"
    scipy.io.savemat(path, {"records": records, "words": np.array(["ab", "cde"])} | numbers)
    whole = scipy.io.loadmat(path)
    names = ["records", "words", *numbers]
    for name, value in matlab.load(path, names).items():
        if name != "records":
            np.testing.assert_array_equal(value, whole[name])
            assert value.dtype == whole[name].dtype
    found = matlab.load(path, ["records"])["records"]
    assert found.shape == (2, 2)
    for place in np.ndindex(2, 2):
        np.testing.assert_array_equal(found[place]["x"], whole["records"][place]["x"])
        assert found[place]["name"] == whole["records"][place]["name"]
    # Which structure of the array would be meant?
    with pytest.raises(DataError, match=r"need records\.x; found no such"):
        matlab.load_parts(path, [("records", "x")])


def test_what_is_no_array_is_named_and_does_not_hide_its_neighbours(tmp_path: Path) -> None:
    path = tmp_path / "x.mat"
    scipy.io.savemat(path, {"s": scipy.sparse.eye(3), "c": np.ones((2, 2)) * 1j, "y": 3.0})
    assert matlab.load(path, ["y"])["y"] == 3.0
    for name in ("s", "c"):
        with pytest.raises(DataError, match="complex or no array"):
            matlab.load(path, [name])


def test_objects_of_matlabs_own_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "x.mat"
    scipy.io.savemat(path, {"y": 3.0})
    raw = path.read_bytes()
    # A variable of class 17 as MATLAB writes a table: flags, name, "MCOS", class.
    flags = struct.pack("<IIBxxxxxxx", 6, 8, 17)
    texts = b"".join(struct.pack("<HH4s", 1, 4, text) for text in (b"tabl", b"MCOS", b"tabl"))
    table = struct.pack("<II", 14, len(flags + texts)) + flags + texts
    path.write_bytes(raw[:128] + table + raw[128:])
    assert list(matlab.variables(path)) == ["tabl", "y"]
    assert matlab.load(path, ["y"])["y"] == 3.0
    with pytest.raises(DataError, match="class 17"):
        matlab.load(path, ["tabl"])


@settings(max_examples=200, deadline=None, derandomize=True)
@given(compress=st.booleans(), data=st.data())
def test_an_altered_file_does_no_worse_than_an_error(
    tmp_path_factory: pytest.TempPathFactory, compress: bool, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "altered.mat"
    scipy.io.savemat(path, nested(2, 2), do_compression=compress)
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw)
    for read in (
        lambda: matlab.load_parts(path, [("D", "Data", 1)]),
        lambda: matlab.load(path, ["D"]),
        lambda: matlab.variables(path),
    ):
        with contextlib.suppress(DataError):
            read()


@pytest.mark.parametrize(
    "part", [("D", "Data", 9), ("D", "Datum"), ("E",), ("D", "Rate", 0), ("D", "Data", 0, "X")]
)
def test_a_part_that_is_not_there_is_named(mat: Path, part: matlab.Part) -> None:
    with pytest.raises(DataError, match=r"nested\.mat: need [DE].*found no such"):
        matlab.load_parts(mat, [part])


@pytest.mark.parametrize("keep", [0, 60, 130, 0.5, 0.97])
def test_a_truncated_file_is_named(mat: Path, keep: float) -> None:
    raw = mat.read_bytes()
    mat.write_bytes(raw[: int(keep if keep > 1 else keep * len(raw))])
    for read in (
        lambda: matlab.load_parts(mat, [("D", "Names")]),
        lambda: matlab.load(mat, ["D"]),
    ):
        with pytest.raises(DataError, match=r"nested\.mat: need"):
            read()


@pytest.mark.parametrize("change", ["inserted", "lost", "appended"])
@pytest.mark.parametrize("at", [300, 4000, 9000, 15_000])
@pytest.mark.parametrize("names", [["a"], ["b"], ["a", "b"]])
def test_a_byte_that_shifts_plain_numbers_is_refused_as_by_scipy(
    tmp_path: Path, change: str, at: int, names: list[str]
) -> None:
    path = tmp_path / "x.mat"
    rng = np.random.default_rng(0)
    scipy.io.savemat(path, {name: rng.normal(size=(10, 100)) for name in "ab"})
    raw = path.read_bytes()
    assert len(raw) == 128 + 2 * (8 + 40 + 8 + 8000)  # header; tag, head, tag and numbers
    path.write_bytes(
        {
            "inserted": raw[:at] + b"\x5a" + raw[at:],
            "lost": raw[:at] + raw[at + 1 :],
            "appended": raw + b"\0",
        }[change]
    )
    with pytest.raises((TypeError, OSError, ValueError)):
        scipy.io.loadmat(path)
    with pytest.raises(DataError, match=r"x\.mat"):
        matlab.load(path, names)
    with pytest.raises(DataError, match=r"x\.mat"):
        matlab.load_parts(path, [(name,) for name in names])


def test_a_flipped_byte_in_a_compressed_variable_is_named(tmp_path: Path) -> None:
    path = tmp_path / "flipped.mat"
    scipy.io.savemat(path, nested(4, 50), do_compression=True)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"flipped\.mat: need"):
        matlab.load_parts(path, [("D", "Names")])


def test_a_missing_variable_is_an_error_that_lists_those_there(mat: Path) -> None:
    with pytest.raises(DataError, match=r"need variable absent; found before, D"):
        matlab.load(mat, ["before", "absent"])


def test_variables_lists_shapes(mat: Path) -> None:
    assert matlab.variables(mat) == {"before": (1, 5), "D": (1, 1)}


def v73(path: Path) -> None:
    header = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM"
    with h5py.File(path, "w", userblock_size=512) as file:
        item = file.create_dataset("eeg", data=np.arange(6.0).reshape(2, 3).T)
        item.attrs["MATLAB_class"] = np.bytes_("double")
    with path.open("r+b") as raw:
        raw.write(header)


def test_v73_reads_in_matlabs_orientation(tmp_path: Path) -> None:
    v73(tmp_path / "new.mat")
    assert matlab.variables(tmp_path / "new.mat") == {"eeg": (2, 3)}
    eeg = matlab.load(tmp_path / "new.mat", ["eeg"])["eeg"]
    np.testing.assert_array_equal(eeg, np.arange(6.0).reshape(2, 3))


def test_truncated_v73_is_named(tmp_path: Path) -> None:
    path = tmp_path / "new.mat"
    v73(path)
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(DataError, match=r"new\.mat: need a whole MATLAB file"):
        matlab.load(path, ["eeg"])


# The other byte order, bombs, and what is no MATLAB file ------------------------------------------


def big_endian(kind: int, content: bytes) -> bytes:
    """An element as a machine writes it that puts the highest byte first."""
    return struct.pack(">II", kind, len(content)) + content + bytes(-len(content) % 8)


def big_endian_matrix(name: str, matrix: np.ndarray, code: int, kind: int) -> bytes:
    """Flags, dimensions, name and numbers, by the format's table of types and classes."""
    return big_endian(
        14,
        big_endian(6, struct.pack(">II", code, 0))
        + big_endian(5, struct.pack(">2i", *matrix.shape))
        + struct.pack(">HH4s", len(name), 1, name.encode())  # so small that it fits into the tag
        + big_endian(kind, matrix.astype(matrix.dtype.newbyteorder(">")).tobytes(order="F")),
    )


def big_endian_file(path: Path, *, compress: bool) -> dict[str, np.ndarray]:
    """`eeg` of doubles, `lab` of 16-bit numbers, `txt`, as an old Sun or PowerPC wrote them."""
    eeg, lab = np.random.default_rng(0).normal(size=(62, 401)), np.array([[1, 0, -1]], "i2")
    text = np.frombuffer("AF3".encode("utf-16-le"), "u2")[None]
    elements = [
        big_endian_matrix("eeg", eeg, 6, 9),
        big_endian_matrix("lab", lab, 10, 3),
        big_endian_matrix("txt", text, 4, 4),
    ]
    if compress:
        packed = [zlib.compress(element) for element in elements]
        elements = [struct.pack(">II", 15, len(raw)) + raw for raw in packed]
    path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + b"\x01\x00MI" + b"".join(elements))
    return {"eeg": eeg, "lab": lab}


@pytest.mark.parametrize("compress", [False, True])
def test_a_file_of_the_other_byte_order_is_read(tmp_path: Path, compress: bool) -> None:
    path = tmp_path / "sun.mat"
    written = big_endian_file(path, compress=compress)
    theirs = scipy.io.loadmat(path)
    found = matlab.load(path, ["eeg", "lab", "txt"])
    assert found["txt"].tolist() == ["AF3"] == theirs["txt"].tolist()
    for name, array in written.items():
        np.testing.assert_array_equal(found[name], array)
        np.testing.assert_array_equal(theirs[name], array)
        assert found[name].dtype.isnative
    assert matlab.variables(path) == {"eeg": (62, 401), "lab": (1, 3), "txt": (1, 3)}
    assert matlab.shape(path, ("eeg",)) == (62, 401)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<!DOCTYPE html><html>Please log in</html>".ljust(400), "<!DOCTYPE html>"),
        (struct.pack("<5i", 0, 62, 401, 0, 4) + b"eeg\0" + bytes(400), "another kind"),  # version 4
        (b"\x80\x02}q\x00." + bytes(300), "another kind"),
    ],
    ids=["web page", "version 4", "pickle"],
)
def test_another_kind_of_file_is_not_called_damaged(
    tmp_path: Path, content: bytes, said: str
) -> None:
    (tmp_path / "1.mat").write_bytes(content)
    with pytest.raises(
        DataError, match=r"1\.mat: need a MATLAB file of version 5 or 7\.3"
    ) as error:
        matlab.load(tmp_path / "1.mat", ["eeg"])
    assert said in str(error.value)
    assert "damaged" not in str(error.value)


def little_endian(kind: int, content: bytes) -> bytes:
    return struct.pack("<II", kind, len(content)) + content


def matrix_head(name: bytes, code: int, dims: tuple[int, ...]) -> bytes:
    shape = little_endian(5, struct.pack(f"<{len(dims)}i", *dims))
    return (
        little_endian(6, struct.pack("<II", code, 0))
        + shape + bytes(-len(shape) % 8)
        + struct.pack("<HH4s", 1, len(name), name)
    )  # fmt: skip


def packed(head: bytes, n_zeros: int, *, announced: int | None = None) -> bytes:
    """A compressed variable: its head, then zeros that cost nothing."""
    n = len(head) + n_zeros if announced is None else announced
    deflate = zlib.compressobj(1)
    raw = deflate.compress(struct.pack("<II", 14, n) + head)
    block = bytes(1 << 20)
    raw += b"".join(deflate.compress(block) for _ in range(n_zeros >> 20)) + deflate.flush()
    return b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + little_endian(15, raw)


def nested_cells(depth: int) -> bytes:
    raw = matrix_head(b"", 6, (0, 0)) + little_endian(9, b"")
    for k in range(depth):
        head = matrix_head(b"x" if k == depth - 1 else b"", 1, (1, 1))
        raw = head + little_endian(14, raw)
    return b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + little_endian(14, raw)


def fieldless(dims: tuple[int, int]) -> bytes:
    names = struct.pack("<HHi", 5, 4, 32) + little_endian(1, b"")
    body = matrix_head(b"x", 2, dims) + names
    return b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + little_endian(14, body)


def bombs() -> dict[str, bytes]:
    big, some = 700 << 20, 40 << 20
    doubles = struct.pack("<II", 9, big)
    text = struct.pack("<II", 16, some)
    no_flags = little_endian(6, struct.pack("<II", 6, 0))
    return {
        "zeros": packed(matrix_head(b"x", 6, (62, big // 8 // 62)) + doubles, big),
        "announced": packed(matrix_head(b"x", 6, (1, 1)) + doubles, 0, announced=4_000_000_000),
        "text": packed(matrix_head(b"x", 4, (1, some)) + text, some),
        "cells": packed(matrix_head(b"x", 1, (1 << 15, 1 << 15)), 1 << 20, announced=4_000_000_000),
        "axes": packed(no_flags + struct.pack("<II", 5, some), some),
        "nested": nested_cells(20_000),
        "fieldless": fieldless((2**31 - 1, 2**31 - 1)),
    }


def test_bombs_end_soon_and_in_little_memory(tmp_path: Path) -> None:
    paths = []
    for name, raw in bombs().items():
        paths.append(tmp_path / f"{name}.mat")
        paths[-1].write_bytes(raw)
    said = run_limited('matlab.load(Path(name), ["x"])', paths, allowed=300 << 20)
    assert len(said) == len(paths)
    assert all("the file is truncated or damaged" in line for line in said)


def test_a_v73_file_of_few_bytes_that_says_many_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "new.mat"
    v73(path)
    with h5py.File(path, "r+") as file:  # nothing of it is stored
        file.create_dataset("big", shape=(62, 40_000_000), dtype="f8", chunks=(62, 1000))
        file.create_group("group")
        file["reference"] = np.array([file["eeg"].ref], dtype=h5py.ref_dtype)
    with pytest.raises(DataError, match=r"new\.mat: need at most .*found 19,840,000,000"):
        matlab.load(path, ["big"])
    for name in ("group", "reference"):
        with pytest.raises(DataError, match=rf"new\.mat: need numbers in variable {name}"):
            matlab.load(path, [name])
    assert matlab.load(path, ["eeg"])["eeg"].shape == (2, 3)


def test_zeros_as_recordings_have_them_are_no_bomb(tmp_path: Path) -> None:
    # The longest clip of SEED, no electrode attached: 26 MB in 26 kB.
    scipy.io.savemat(tmp_path / "x.mat", {"x": np.zeros((62, 53001))}, do_compression=True)
    assert matlab.load(tmp_path / "x.mat", ["x"])["x"].shape == (62, 53001)
