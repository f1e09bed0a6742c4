from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs
from threadpoolctl import threadpool_limits

from emoray import datasets
from emoray.corpus.build import build as building
from emoray.corpus.build.build import BuildReport, build
from emoray.corpus.build.tasks import _check_cpus, over_recordings
from emoray.corpus.manifest import MANIFEST, PARTS, SHARDS
from emoray.corpus.paired import pair
from emoray.corpus.read import open_corpus
from emoray.rehearsal.release import MARKER, write_release
from emoray.runtime.storage import Storage, sha256_of
from emoray.signals import EcgRecipe
from emoray.vocabulary.schema import DataError, Listing, Recording, RecordingRef
from tests.conftest import QUICK_RECIPE
from tests.corpus.in_process import in_process

Files = dict[str, bytes]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SEED's files of two subjects, 2.5 s a presentation: six recordings in a file each."""
    root = tmp_path_factory.mktemp("release")
    write_release(root, datasets=["seed"], n_subjects=2, seed=0, duration_s=2.5)
    return root


@pytest.fixture
def root(release: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(release, tmp_path / "data"))


@pytest.fixture(name="in_process")
def _in_process() -> Iterator[None]:
    """Tasks run here, one after the other: no Ray."""
    with in_process():
        yield


@pytest.fixture(scope="module")
def whole(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`release` built in one go; not to be written to."""
    out = tmp_path_factory.mktemp("whole")
    with in_process():
        _build(release, out)
    return out


@pytest.fixture
def built(whole: Path, tmp_path: Path) -> Path:
    """A copy of `whole` that a test may spoil or go on with."""
    return Path(shutil.copytree(whole, tmp_path / "out"))


def _build(root: Path, out: Path | Storage, **options: Any) -> BuildReport:
    return build(root, out, **{"recipe": QUICK_RECIPE, "progress": False, **options})


def _contents(out: Path) -> Files:
    """Shards, indexes and manifests; the manifests without the version of the code."""
    paths = [path for path in sorted(out.rglob("*")) if path.is_file() and PARTS not in path.parts]
    return {
        path.relative_to(out).as_posix(): re.sub(rb' "code": .*', b"", path.read_bytes())
        for path in paths
    }


def _times(out: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in out.rglob("*")}


def _some_file(root: Path) -> Path:
    return sorted((root / "seed").rglob("*_*.mat"))[2]


def _cut_off(path: Path) -> bytes:
    """Half of the file goes; what was there comes back."""
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return whole


# --- what is built ------------------------------------------------------------------------------


@pytest.mark.usefixtures("in_process")
def test_the_manifest_says_what_it_was_made_from(root: Path, built: Path) -> None:
    report = _build(root, built)
    dataset = open_corpus(built, recipe=QUICK_RECIPE)["seed"]
    manifest = dataset.manifest
    assert len(manifest.shards) == 6
    assert report.n_segments == len(dataset) == sum(manifest.counts.values())
    for sources in manifest.sources.values():
        for source in sources:
            path = root / "seed" / source.file
            assert (source.size, source.sha256) == (path.stat().st_size, sha256_of(path))
    assert manifest.rehearsal
    assert manifest.missing == report.datasets[0].missing
    assert "subject 03" in manifest.missing
    assert manifest.recipe["band_low_hz"] == 0.3
    assert manifest.code.startswith("0.1.0+")


@pytest.mark.usefixtures("in_process")
def test_what_is_left_out_is_counted_and_kept(root: Path, tmp_path: Path) -> None:
    report = _build(root, tmp_path / "out", recipe=replace(QUICK_RECIPE, segment_s=2.4))
    assert not report.datasets[0].dropped
    with pytest.raises(DataError, match="need segments of seed, got none in 6 files"):
        _build(root, tmp_path / "out", recipe=replace(QUICK_RECIPE, segment_s=2.6))
    parts = sorted((tmp_path / "out").glob(f"*/{PARTS}/*.json"))
    assert "shorter than a segment" in "".join(path.read_text() for path in parts)


@pytest.mark.usefixtures("in_process")
def test_real_and_rehearsal_data_lie_apart(root: Path, built: Path) -> None:
    for marker in root.rglob(MARKER):
        marker.unlink()
    report = _build(root, built)
    assert not report.datasets[0].rehearsal
    assert len(list(built.iterdir())) == 2


@pytest.mark.usefixtures("in_process")
def test_another_recipe_gets_another_folder(root: Path, built: Path) -> None:
    report = _build(root, built, recipe=replace(QUICK_RECIPE, band_low_hz=1.0))
    assert report.n_built == 6
    assert len(list(built.iterdir())) == 2


@pytest.mark.usefixtures("in_process")
def test_a_corpus_is_built_on_a_remote_file_system(root: Path, whole: Path, tmp_path: Path) -> None:
    remote = Storage(fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem()), "bucket/corpus")
    assert _build(root, remote).n_built == 6
    assert _build(root, remote).n_built == 0
    assert _contents(tmp_path / "bucket" / "corpus") == _contents(whole)


@pytest.mark.usefixtures("in_process")
def test_streams_of_a_dataset_are_built_from_one_reading_and_apart(
    tiny_release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dreamer, reads = datasets.get("dreamer"), list[str]()

    def read(root: Path, ref: RecordingRef) -> Recording:
        reads.append(ref.key)
        return whole_read(root, ref)

    whole_read = dreamer.read
    monkeypatch.setattr(dreamer, "read", read)
    ecg = EcgRecipe(segment_s=2.0)
    report = _build(tiny_release, tmp_path / "out", ecg=ecg, streams=["ecg", "eeg"])
    made = [(row.name, row.stream, row.n_built) for row in report.datasets]
    assert made == [("dreamer", "eeg", 2), ("dreamer", "ecg", 2), ("seed", "eeg", 6)]
    assert reads == ["dreamer-s01-v1", "dreamer-s02-v1"]
    both = pair(
        open_corpus(tmp_path / "out")["dreamer"],
        open_corpus(tmp_path / "out", stream="ecg", recipe=ecg)["dreamer"],
    )
    assert len(both) == len(open_corpus(tmp_path / "out")["dreamer"])
    one = _build(tiny_release, tmp_path / "out", ecg=EcgRecipe(segment_s=1.0), streams=["ecg"])
    assert [(row.name, row.stream, row.n_built) for row in one.datasets] == [("dreamer", "ecg", 2)]
    with pytest.raises(ValueError, match="need datasets with ecg, got seed"):
        _build(tiny_release, tmp_path / "out", streams=["ecg"], datasets=["seed"])


@pytest.mark.usefixtures("in_process")
def test_a_recording_that_one_stream_refuses_is_built_for_the_other(
    tiny_release: Path, tmp_path: Path
) -> None:
    asked = {"streams": ["eeg", "ecg"], "datasets": ["dreamer"], "on_error": "skip"}
    options = {**asked, "ecg": EcgRecipe(segment_s=2.0)}
    recipe = replace(QUICK_RECIPE, band_high_hz=80.0)  # above half of DREAMER's rate
    with pytest.raises(DataError, match="need segments of dreamer, got none"):
        _build(tiny_release, tmp_path / "out", recipe=recipe, **options)
    assert len(list((tmp_path / "out").glob(f"dreamer-ecg-*/{SHARDS}/*"))) == 2


@pytest.mark.usefixtures("in_process")
def test_a_default_that_changed_under_an_address_is_noticed(root: Path, built: Path) -> None:
    path = next(built.glob(f"*/{MANIFEST}"))
    path.write_text(path.read_text().replace('"max_clipped": 0.02', '"max_clipped": 0.05'))
    said = r"max_clipped=0\.05 instead of 0\.02"
    with pytest.raises(DataError, match=rf"{said}: a default has changed, and EegRecipe\.version"):
        _build(root, built)
    with pytest.raises(
        DataError, match=f"need seed built by another recipe: seed-eeg-.* has {said}"
    ):
        open_corpus(built, recipe=QUICK_RECIPE)
    assert len(open_corpus(built))


# --- building again -----------------------------------------------------------------------------


@pytest.mark.usefixtures("in_process")
def test_a_finished_build_does_nothing(
    root: Path, built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _times(built)

    def never(*arguments: object) -> None:
        raise AssertionError("Ray, a source file or a part was touched")

    for name in ("join_ray", "read_part"):
        monkeypatch.setattr(building, name, never)
    monkeypatch.setattr("emoray.corpus.build.recording.sha256_of", never)
    report = _build(root, built)
    assert _times(built) == before
    assert report.n_built == 0
    assert report.seconds < 1
    assert report.n_segments == len(open_corpus(built))


@pytest.mark.usefixtures("in_process")
def test_a_new_recording_is_the_only_one_made(root: Path, whole: Path, tmp_path: Path) -> None:
    late = _some_file(root)
    late.rename(tmp_path / "held back")
    assert _build(root, tmp_path / "out").n_built == 5
    (tmp_path / "held back").rename(late)
    assert _build(root, tmp_path / "out").n_built == 1
    assert _contents(tmp_path / "out") == _contents(whole)


@pytest.mark.usefixtures("in_process")
def test_a_new_dataset_is_the_only_one_made(root: Path, tiny_release: Path, built: Path) -> None:
    before = _times(built)
    shutil.copytree(tiny_release / "dreamer", root / "DREAMER")
    report = _build(root, built)
    assert [(row.name, row.n_built) for row in report.datasets] == [("dreamer", 2), ("seed", 0)]
    after = _times(built)
    assert {path: after[path] for path in before} == before


@pytest.mark.usefixtures("in_process")
def test_a_touched_file_is_hashed_and_not_read_again(
    root: Path, built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = _times(next(built.glob(f"*/{SHARDS}")))
    os.utime(_some_file(root), ns=(1, 1))
    monkeypatch.setattr(datasets.get("seed"), "read", None)
    assert _build(root, built).n_built == 1
    assert _times(next(built.glob(f"*/{SHARDS}"))) == shards
    assert _build(root, built).n_built == 0


@pytest.mark.usefixtures("in_process")
def test_a_changed_file_is_read_again(root: Path, built: Path) -> None:
    before = _contents(built)
    files = sorted((root / "seed").rglob("*_*.mat"))
    shutil.copy(files[0], files[1])
    assert _build(root, built).n_built == 1
    after = _contents(built)
    changed = {Path(name).name for name in before if before[name] != after[name]}
    assert {name for name in changed if name.endswith(".arrow")} == {"seed-s01-v2.arrow"}


@pytest.mark.usefixtures("in_process")
def test_a_lost_shard_is_made_again(root: Path, built: Path) -> None:
    before = _contents(built)
    next(built.glob(f"*/{SHARDS}/*")).unlink()
    assert _build(root, built).n_built == 1
    assert _contents(built) == before


@pytest.mark.usefixtures("in_process")
def test_two_builds_at_once_end_like_one(root: Path, whole: Path, tmp_path: Path) -> None:
    # BLAS threads are limited for a whole process: the task that ends first must not lift the limit
    # of the one still running, which in the program is a process of its own.
    with threadpool_limits(1), ThreadPoolExecutor(2) as pool:
        both = [pool.submit(_build, root, tmp_path / "out") for _ in range(2)]
        assert all(done.result().n_segments for done in both)
    assert _contents(tmp_path / "out") == _contents(whole)


# --- bad files, bad places ----------------------------------------------------------------------


@pytest.mark.usefixtures("in_process")
def test_a_bad_file_ends_the_build_and_is_named(root: Path, whole: Path, tmp_path: Path) -> None:
    bad = _some_file(root)
    times = bad.stat()
    content = _cut_off(bad)
    with pytest.raises(DataError, match=bad.name):
        _build(root, tmp_path / "out")
    assert not list((tmp_path / "out").rglob(MANIFEST))
    assert not list((tmp_path / "out").rglob("*.tmp-*"))
    bad.write_bytes(content)
    os.utime(bad, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert _build(root, tmp_path / "out").n_built < 6  # those before the bad one were kept
    assert _contents(tmp_path / "out") == _contents(whole)


@pytest.mark.usefixtures("in_process")
def test_a_bad_file_is_quarantined_on_request(root: Path, tmp_path: Path) -> None:
    bad = _some_file(root)
    content = _cut_off(bad)
    report = _build(root, tmp_path / "out", on_error="skip")
    (key, error), *others = report.datasets[0].quarantined.items()
    assert not others
    assert bad.name in error
    manifest = open_corpus(tmp_path / "out")["seed"].manifest
    assert manifest.quarantined == {key: error}
    assert len(manifest.shards) == report.datasets[0].n_recordings == 5

    before = _times(tmp_path / "out")
    assert _build(root, tmp_path / "out", on_error="skip").n_built == 0
    assert _times(tmp_path / "out") == before
    with pytest.raises(DataError, match=bad.name):
        _build(root, tmp_path / "out")  # in quarantine is not good enough for `fail`
    bad.write_bytes(content)
    assert _build(root, tmp_path / "out").n_built == 1
    assert not open_corpus(tmp_path / "out")["seed"].manifest.quarantined


@pytest.mark.usefixtures("in_process")
def test_a_dataset_of_bad_files_only_is_no_dataset(root: Path, tmp_path: Path) -> None:
    for path in (root / "seed").rglob("*_*.mat"):
        _cut_off(path)
    with pytest.raises(DataError, match="need segments of seed, got none in 6 files; the first"):
        _build(root, tmp_path / "out", on_error="skip")
    assert not list((tmp_path / "out").rglob(MANIFEST))


@pytest.mark.usefixtures("in_process")
def test_a_recording_listed_twice_is_refused(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = datasets.get("seed")
    found = module.find(root / "seed")
    twice = Listing((*found.recordings, found.recordings[0]))
    monkeypatch.setattr(module, "find", lambda folder: twice)
    with pytest.raises(DataError, match=r"need each recording once, got seed-s01-v1 twice"):
        _build(root, tmp_path / "out")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data" / "seed").mkdir(parents=True)
    with pytest.raises(DataError, match=r"data/seed: need SEED files"):
        _build(tmp_path / "data", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_place_that_cannot_be_written_is_refused_before_any_work(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(building, "join_ray", None)
    with pytest.raises(OSError, match=r"cannot write .*file/corpus/seed-"):
        _build(root, tmp_path / "file" / "corpus")


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("on_error", ["fail", "skip"])
def test_a_full_disk_ends_the_build_and_leaves_nothing_half_written(
    root: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_error: str
) -> None:
    sync, n_left = os.fsync, [9]

    def fills_up(descriptor: int) -> None:
        n_left[0] -= 1
        if n_left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fills_up)
        message = r"cannot write .*out/seed-.*, which needs [\d,]+ bytes: .*No space.* are free"
        with pytest.raises(OSError, match=message):
            _build(root, tmp_path / "out", on_error=on_error)
    assert not list((tmp_path / "out").rglob("*.tmp-*"))
    assert 0 < _build(root, tmp_path / "out").n_built < 6
    assert _contents(tmp_path / "out") == _contents(whole)


@pytest.mark.usefixtures("in_process")
def test_a_log_gets_lines_with_rate_and_remaining_time(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _build(root, tmp_path / "out", progress=True)
    assert "recordings 6/6" in capsys.readouterr().err


# --- on Ray -------------------------------------------------------------------------------------


@pytest.mark.ray
@pytest.mark.usefixtures("in_process")
def test_a_cluster_builds_the_same_bytes(
    tiny_release: Path, tiny_corpus_path: Path, tmp_path: Path
) -> None:
    _build(tiny_release, tmp_path / "out")
    assert _contents(tmp_path / "out") == _contents(tiny_corpus_path)


@pytest.mark.ray
def test_a_bad_file_in_a_task_is_named_without_a_traceback(
    ray_cluster: None, root: Path, tmp_path: Path
) -> None:
    bad = _some_file(root)
    _cut_off(bad)
    with pytest.raises(DataError, match=bad.name) as caught:
        _build(root, tmp_path / "out")
    assert "Traceback" not in str(caught.value)


def _stumbles(ref: RecordingRef) -> dict[str, Any]:
    raise RuntimeError("nobody foresaw this")


@pytest.mark.ray
def test_an_unforeseen_error_in_a_task_names_its_recording(ray_cluster: None, root: Path) -> None:
    from ray.exceptions import RayError

    refs = datasets.get("seed").find(root / "seed").recordings[:1]
    with pytest.raises(RayError, match=r"This was seed-s01-v1, read from .*mat"):
        list(over_recordings(_stumbles, refs))


def test_a_node_without_cpus_is_refused_instead_of_waited_for() -> None:
    _check_cpus({"CPU": 1.0})
    with pytest.raises(ValueError, match="need a CPU of this node for Ray, got 0: only this node"):
        _check_cpus({"memory": 1e9})


BUILD = """
import sys, ray
from pathlib import Path
from emoray.corpus.build.build import build
from tests.conftest import QUICK_RECIPE
def connect():
    ray.init(address=sys.argv[3], logging_level="error", log_to_driver=False)
build(Path(sys.argv[1]), Path(sys.argv[2]), recipe=QUICK_RECIPE, progress=False, connect=connect)
"""


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("n_parts", [0, 3])
def test_a_driver_killed_at_any_moment_costs_nothing_but_what_was_in_flight(
    ray_cluster: None, tiny_release: Path, tiny_corpus_path: Path, tmp_path: Path, n_parts: int
) -> None:
    import ray

    out = tmp_path / "out"
    address = ray.get_runtime_context().gcs_address
    command = [sys.executable, "-c", BUILD, str(tiny_release), str(out), address]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(Path.cwd())}) as driver:
        # Killed while a shard is being written (0), or after that many recordings.
        waits_for = f"*/{PARTS}/*.json" if n_parts else f"*/{SHARDS}/*"
        while len(list(out.glob(waits_for))) < max(n_parts, 1):
            assert driver.poll() is None
            time.sleep(0.001)
        driver.send_signal(signal.SIGKILL)
    done = {path.stem for path in out.glob(f"*/{PARTS}/*.json")}
    for path in out.glob(f"*/{PARTS}/*.json"):
        assert (path.parent.parent / SHARDS / f"{path.stem}.arrow").exists()
    report = _build(tiny_release, out)
    assert report.n_built <= 8 - min(len(done), n_parts)
    assert _contents(out) == _contents(tiny_corpus_path)
