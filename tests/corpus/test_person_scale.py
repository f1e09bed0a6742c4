"""One scale for all recordings of a person, whatever order and place they were prepared in."""

from __future__ import annotations

import os
import pickle
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from emoray.corpus.build.build import BuildReport, build
from emoray.corpus.manifest import MANIFEST, PARTS, SHARDS
from emoray.corpus.read import CorpusDataset, open_corpus
from emoray.rehearsal.release import write_release
from tests.conftest import QUICK_RECIPE
from tests.corpus.in_process import in_process

PERSON = replace(QUICK_RECIPE, amplitude="z", scale_scope="person")
PLAIN = replace(QUICK_RECIPE, amplitude="none")


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SEED's files of two people in three sessions each, 2.5 s a presentation."""
    root = tmp_path_factory.mktemp("release")
    write_release(root, datasets=["seed"], n_subjects=2, seed=0, duration_s=2.5)
    return root


@pytest.fixture(scope="module")
def whole(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built on a person's scale, and as it is; not to be written to."""
    out = tmp_path_factory.mktemp("whole")
    for recipe in (PERSON, PLAIN):
        _build(release, out, recipe)
    return out


@pytest.fixture(autouse=True, scope="module")
def _in_process() -> Iterator[None]:
    """Tasks run here, one after the other: no Ray."""
    with in_process():
        yield


def _build(root: Path, out: Path, recipe: object = PERSON, **options: object) -> BuildReport:
    return build(root, out, recipe=recipe, progress=False, **options)  # type: ignore[arg-type]


def _seed(out: Path, recipe: object = PERSON) -> CorpusDataset:
    return open_corpus(out, recipe=recipe, cache_dir=out.parent / "cache")["seed"]  # type: ignore[arg-type]


def _all(dataset: CorpusDataset) -> np.ndarray:
    return dataset.gather(np.arange(len(dataset)))


def test_a_person_s_samples_have_mean_zero_and_deviation_one_by_channel(whole: Path) -> None:
    scaled, plain = _seed(whole), _seed(whole, PLAIN)
    subjects = plain.column("subject")
    assert scaled.column("subject").tolist() == subjects.tolist()
    assert len(set(plain.column("session"))) == 3
    z_SCT, x_SCT = _all(scaled), _all(plain).astype(np.float64)
    for subject in set(subjects):
        own_SCT = x_SCT[subjects == subject]
        mean_C1 = own_SCT.mean(axis=(0, 2))[:, None]
        expected = (own_SCT - mean_C1) / own_SCT.std(axis=(0, 2))[:, None]
        np.testing.assert_allclose(z_SCT[subjects == subject], expected, atol=2e-5)


def test_a_recording_s_own_scale_is_another(whole: Path, release: Path, tmp_path: Path) -> None:
    recording = replace(PERSON, scale_scope="recording")
    _build(release, tmp_path / "out", recording)
    own = _seed(tmp_path / "out", recording)
    assert np.abs(_all(own) - _all(_seed(whole))).max() > 0.01
    assert own.manifest.affine == {}
    assert '"affine"' not in next((tmp_path / "out").rglob(MANIFEST)).read_text()


def test_segments_are_gathered_alike_into_any_array_and_process(whole: Path) -> None:
    dataset = _seed(whole)
    rows = [40, 0, 71, 0]
    expected = _all(dataset)[rows]
    out = np.empty(expected.shape, np.float64)
    dataset.gather(rows, out=out)
    np.testing.assert_array_equal(out, expected)
    elsewhere: CorpusDataset = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(elsewhere.gather(rows), expected)
    half = dataset.gather(rows, dtype=np.float16)
    np.testing.assert_array_equal(half, expected.astype(np.float16))


def test_half_precision_costs_a_thousandth_whatever_the_unit(release: Path, tmp_path: Path) -> None:
    half = replace(PERSON, dtype="float16")
    for recipe in (PERSON, half):
        _build(release, tmp_path / "out", recipe)
    exact = _all(_seed(tmp_path / "out"))
    off = np.abs(_all(_seed(tmp_path / "out", half)).astype(np.float64) - exact)
    assert (off <= 2e-3 * (1 + np.abs(exact))).all()


def _contents(out: Path) -> dict[str, bytes]:
    """All but parts and the version of the code."""
    paths = [path for path in sorted(out.rglob("*")) if path.is_file() and PARTS not in path.parts]
    return {
        path.relative_to(out).as_posix(): re.sub(rb' "code": .*', b"", path.read_bytes())
        for path in paths
    }


def test_one_more_recording_moves_the_scale_and_no_other_shard(
    release: Path, whole: Path, tmp_path: Path
) -> None:
    root, out = Path(shutil.copytree(release, tmp_path / "data")), tmp_path / "out"
    bad = sorted((root / "seed").rglob("*_*.mat"))[1]
    content, times = bad.read_bytes(), bad.stat()
    bad.write_bytes(content[: len(content) // 2])
    _build(root, out, on_error="skip")
    before = {path.name: path.read_bytes() for path in out.rglob(f"{SHARDS}/*")}
    two = _seed(out)
    assert len(before) == 5
    person = two.column("subject") == "01"
    deviation = _all(two)[person].std(axis=(0, 2), dtype=np.float64)
    np.testing.assert_allclose(deviation, 1, atol=1e-5)  # of the two that there are

    bad.write_bytes(content)
    os.utime(bad, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert _build(root, out).n_built == 1
    after = {path.name: path.read_bytes() for path in out.rglob(f"{SHARDS}/*")}
    assert {name: after[name] for name in before} == before
    assert len(after) == 6
    finished = {f"{out.name}/{name}": data for name, data in _contents(out).items()}
    folder = _seed(out).manifest.folder
    expected = {
        f"{out.name}/{name}": data
        for name, data in _contents(whole).items()
        if name.startswith(folder)
    }
    assert finished == expected
