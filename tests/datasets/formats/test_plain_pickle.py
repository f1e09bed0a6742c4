"""The restricted unpickler: arrays of Python 2 and 3, and nothing that runs."""

import contextlib
import os
import pickle
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emoray.datasets.formats import plain_pickle
from emoray.vocabulary.schema import DataError
from tests.datasets.limits import run_limited


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_arrays_of_every_protocol_come_back(tmp_path: Path, protocol: int) -> None:
    rng = np.random.default_rng(0)
    content = {
        "data": rng.normal(size=(2, 3)),
        "label": np.arange(4, dtype=np.int64),
        "empty": np.zeros((0, 3)),
        "nested": {"number": np.float64(1.5), "words": ["a", "b"], "raw": b"\xff\x00"},
    }
    (tmp_path / "x.dat").write_bytes(pickle.dumps(content, protocol=protocol))
    found = plain_pickle.load_arrays(tmp_path / "x.dat")
    np.testing.assert_array_equal(found["data"], content["data"])
    np.testing.assert_array_equal(found["label"], content["label"])
    assert found["empty"].shape == (0, 3)
    assert found["nested"] == content["nested"]


def test_python_2_pickle_comes_back(tmp_path: Path) -> None:
    data = np.random.default_rng(1).normal(size=(2, 3, 4))
    path = tmp_path / "old.dat"
    plain_pickle.dump_python2(path, {"data": data, "labels": data[:, 0].T})
    found = plain_pickle.load_arrays(path)
    np.testing.assert_array_equal(found["data"], data)
    np.testing.assert_array_equal(found["labels"], data[:, 0].T)
    # Plain bytes: what the arrays hold plus some hundred of opcodes.
    assert path.stat().st_size < data.nbytes + data[:, 0].nbytes + 700


def test_python_2_pickle_is_one_that_pickle_itself_reads(tmp_path: Path) -> None:
    path = tmp_path / "old.dat"
    plain_pickle.dump_python2(path, {"data": np.arange(6.0).reshape(2, 3)})
    with path.open("rb") as file:
        found = pickle.load(file, encoding="latin1")
    np.testing.assert_array_equal(found["data"], np.arange(6.0).reshape(2, 3))


class Attack:
    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    ("function", "named"), [(os.system, "system"), (eval, "eval"), (np.load, "load")]
)
def test_a_pickle_that_would_run_code_is_refused_by_name(
    tmp_path: Path, function: Callable[..., object], named: str, protocol: int
) -> None:
    path = tmp_path / "s01.dat"
    witness = tmp_path / "ran"
    payload = {"data": np.zeros(2), "x": Attack(function, f"touch {witness}")}
    path.write_bytes(pickle.dumps(payload, protocol=protocol))
    with pytest.raises(DataError, match=rf"s01\.dat: .*asks for \S+\.{named}; refused"):
        plain_pickle.load_arrays(path)
    assert not witness.exists()


def test_a_refused_name_inside_an_object_array_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.dat"
    array = np.array([Attack(os.system, "true")], dtype=object)
    path.write_bytes(pickle.dumps(array, protocol=2))
    with pytest.raises(DataError, match="refused"):
        plain_pickle.load_arrays(path)


@pytest.mark.parametrize("keep", [0, 1, 40, 0.5, 0.99])
def test_a_truncated_pickle_is_named(tmp_path: Path, keep: float) -> None:
    path = tmp_path / "s01.dat"
    plain_pickle.dump_python2(path, {"data": np.zeros((20, 30))})
    raw = path.read_bytes()
    path.write_bytes(raw[: int(keep if keep >= 1 else keep * len(raw))])
    with pytest.raises(DataError, match=r"s01\.dat: need a whole pickle.*truncated"):
        plain_pickle.load_arrays(path)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(protocol=st.sampled_from([None, 2, 4, 5]), data=st.data())
def test_an_altered_pickle_does_no_worse_than_an_error(
    tmp_path_factory: pytest.TempPathFactory, protocol: int | None, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "altered.dat"
    content = {"data": np.arange(6.0).reshape(2, 3), "labels": np.float64(2.0)}
    if protocol is None:
        plain_pickle.dump_python2(path, {"data": content["data"]})
    else:
        path.write_bytes(pickle.dumps(content, protocol=protocol))
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw)
    with contextlib.suppress(DataError):
        plain_pickle.load_arrays(path)


@pytest.mark.parametrize("array", [np.array([{}], dtype=object), np.zeros(1, dtype="M8[s]")])
def test_arrays_of_anything_but_numbers_and_text_are_refused(
    tmp_path: Path, array: np.ndarray
) -> None:
    path = tmp_path / "x.dat"
    path.write_bytes(pickle.dumps(array, protocol=2))
    with pytest.raises(DataError, match="an array of type"):
        plain_pickle.load_arrays(path)


@pytest.mark.parametrize("protocol", [2, 5])
@pytest.mark.parametrize("kind", ["<f4", ">f8", "i2", "?", "<U3", "S2", "c16"])
def test_every_kind_of_number_and_text_comes_back(tmp_path: Path, kind: str, protocol: int) -> None:
    array = np.asfortranarray(np.arange(6).reshape(2, 3).astype(kind))
    (tmp_path / "x.dat").write_bytes(pickle.dumps(array, protocol=protocol))
    found = plain_pickle.load_arrays(tmp_path / "x.dat")
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype


# Programs that ask for more than their bytes are worth --------------------------------------------


def doubled(step: bytes, n: int) -> bytes:
    """A container that holds the last one twice, n times over."""
    raw = b"\x80\x02" + step + b"q\x00"
    for k in range(n):
        raw += b"](h" + bytes([k]) + b"h" + bytes([k]) + b"eq" + bytes([k + 1])
    return raw + b"."


def tuples_as_a_key(n: int) -> bytes:
    """Each tuple holds the last one twice; a dictionary then asks for its hash."""
    raw = b"\x80\x02K\x01K\x01\x86q\x00"
    for k in range(n):
        raw += b"h" + bytes([k]) + b"h" + bytes([k]) + b"\x86q" + bytes([k + 1])
    return b"\x80\x02}" + raw[2:] + b"K\x01s."


def encoded_again(n: int) -> bytes:
    """One long text, made bytes by n calls."""
    raw = b"\x80\x02](X" + struct.pack("<I", 1 << 20) + b"x" * (1 << 20) + b"q\x00"
    raw += (b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R") * n
    return raw + b"e."


def colliding_keys(n: int) -> bytes:
    """Numbers that all have the same hash."""
    keys = ((k * (2**61 - 1)).to_bytes(12, "little") for k in range(1, n))
    return b"\x80\x02}(" + b"".join(b"\x8a\x0c" + key + b"K\x01" for key in keys) + b"u."


CRAFTED = {
    "](h0h0e": b"]" + b"".join(b"(h" + bytes([k]) + b"h" + bytes([k]) + b"e" for k in range(40)),
    "list in itself": b"](q\x00" + b"h\x00h\x00e" * 40 + b".",
    "doubled lists": doubled(b"]", 40),
    "tuples as a key": tuples_as_a_key(60),
    "far memo": b"\x80\x02}r\xff\xff\xff\x07.",
    "far memo in digits": b"}p134217727\n.",
    "far memo of protocol 4": b"\x80\x04}r\xff\xff\xff\x7f.",
    "text longer than the file": b"\x80\x02X\xff\xff\xff\x7fabc.",
    "bytes longer than the file": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"abc.",
    "frame longer than the file": b"\x80\x04\x95" + struct.pack("<Q", 1 << 40) + b"}.",
    "lists in lists": b"]" * 1_000_000 + b"a" * 999_999 + b".",
    "tuples in tuples": b")" + b"\x85" * 200_000 + b"K\x01s.",
    "many lists": b"(" + b"]" * 30_000_000 + b"l.",
    "one text many times": encoded_again(3000),
    "keys of one hash": colliding_keys(60_000),
    "a list behind a state": b"\x80\x02]Nbq\x00" + b"h\x00" * 100 + b"t.",
    "reduce of a set": b"\x80\x04\x8f.",
    "half a length": b"\x80\x02X\x01",
    "web page": b"<!DOCTYPE html>",
    "nothing": b"",
}


def test_crafted_pickles_end_soon_and_in_little_memory(tmp_path: Path) -> None:
    paths = []
    for name, raw in CRAFTED.items():
        paths.append(tmp_path / f"{name}.pkl".replace(" ", "_"))
        paths[-1].write_bytes(raw)
    said = run_limited("plain_pickle.load_arrays(Path(name))", paths, allowed=300 << 20)
    assert len(said) == len(CRAFTED)
    assert any("start with b'<!DOCTYPE html>'" in line for line in said)
    assert all("refused: " in line and "the file is truncated or damaged" in line for line in said)


def test_the_largest_pickle_of_a_publisher_is_read_in_three_times_its_size(tmp_path: Path) -> None:
    # What is refused above must not be refused here: 40 x 40 x 8064 doubles, 103 MB.
    path = tmp_path / "s01.dat"
    plain_pickle.dump_python2(path, {"data": np.zeros((40, 40, 8064)), "labels": np.zeros((40, 4))})
    tracemalloc.start()
    try:
        found = plain_pickle.load_arrays(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found["data"].shape == (40, 40, 8064)
    assert peak < 3.1 * path.stat().st_size


def test_names_types_and_short_texts_may_come_up_again(tmp_path: Path) -> None:
    content = {"a": np.arange(3.0), "b": np.arange(4.0), "c": ["word", "word"], "d": b""}
    for protocol in range(6):
        (tmp_path / "x.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
        found = plain_pickle.load_arrays(tmp_path / "x.pkl")
        assert found["c"] == ["word", "word"]
        np.testing.assert_array_equal(found["b"], content["b"])
