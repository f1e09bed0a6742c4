from __future__ import annotations

import errno
import os
import pickle
import resource
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from pyarrow import fs

from emoray.corpus.manifest import INDEX, MANIFEST, SHARDS
from emoray.corpus.read import Corpus, CorpusDataset, open_corpus
from emoray.runtime.storage import Storage
from emoray.signals import EcgRecipe, EegRecipe
from emoray.vocabulary.schema import DataError
from tests.corpus.made import N_CHANS, N_ECG, N_TIMES, ecg_of, eeg_of, make_dataset


@pytest.fixture
def made(tmp_path: Path) -> CorpusDataset:
    make_dataset(tmp_path / "corpus")
    return _open(tmp_path / "corpus")["dreamer"]


def _open(location: Path | Storage, **options: object) -> Corpus:
    root = location if isinstance(location, Path) else Path("/nowhere")
    return open_corpus(location, **{"cache_dir": root.parent / "cache", **options})


def _remote(folder: Path) -> Storage:
    return Storage(fs.SubTreeFileSystem(str(folder), fs.LocalFileSystem()), "corpus")


# --- what is in it ------------------------------------------------------------------------------


def test_the_index_is_in_canonical_order(made: CorpusDataset) -> None:
    keys = list(
        zip(*(made.column(c).tolist() for c in ("subject", "presentation", "segment")), strict=True)
    )
    assert keys == sorted(keys)
    assert len(made) == 15


def test_rows_come_in_the_order_asked_for(made: CorpusDataset) -> None:
    rows = [14, 0, 7, 7, 3]
    expected = np.stack([eeg_of(row // 5, 5)[row % 5] for row in rows])
    np.testing.assert_array_equal(made.gather(rows), expected)


def test_gather_writes_into_what_it_is_given(made: CorpusDataset) -> None:
    out = np.full((3, N_CHANS, N_TIMES), np.nan, np.float64)
    assert made.gather([1, 2, 3], out=out) is out
    np.testing.assert_array_equal(out, made.gather([1, 2, 3]))
    with pytest.raises(ValueError, match=r"need out of shape \(2, 14, 40\), got \(3, 14, 40\)"):
        made.gather([1, 2], out=out)


def test_no_rows_give_no_segments(made: CorpusDataset) -> None:
    assert made.gather([]).shape == (0, N_CHANS, N_TIMES)


@pytest.mark.parametrize("rows", [[-1], [15], [0, 99]])
def test_rows_outside_the_index_are_refused(made: CorpusDataset, rows: list[int]) -> None:
    with pytest.raises(IndexError, match=r"need rows of dreamer in \[0, 15\)"):
        made.gather(rows)


def test_half_precision_is_kept_or_widened_as_asked(tmp_path: Path) -> None:
    make_dataset(tmp_path / "corpus", dtype="float16")
    half = _open(tmp_path / "corpus")["dreamer"]
    assert half.gather([0]).dtype == np.float16
    assert half.gather([0], dtype=np.float32).dtype == np.float32
    np.testing.assert_array_equal(half.gather([6]), half.gather([6], dtype="f4").astype("f2"))


def test_ecg_is_a_build_of_its_own_with_its_own_shape(tmp_path: Path) -> None:
    make_dataset(tmp_path / "corpus")
    make_dataset(tmp_path / "corpus", recipe=EcgRecipe())
    ecg = _open(tmp_path / "corpus", stream="ecg")["dreamer"]
    assert (ecg.channels, ecg.sfreq, ecg.n_times) == (("ecg1", "ecg2"), 256.0, N_ECG)
    expected = np.concatenate([ecg_of(2, [2]), ecg_of(0, [0])])
    np.testing.assert_array_equal(ecg.gather([12, 0]), expected)
    assert _open(tmp_path / "corpus")["dreamer"].gather([0]).shape == (1, N_CHANS, N_TIMES)
    assert ecg.stream("ecg") is ecg
    with pytest.raises(ValueError, match=r"need eeg of dreamer, got dreamer-ecg-\w+"):
        ecg.stream("eeg")


def test_a_dataset_without_the_stream_says_what_there_is(tmp_path: Path) -> None:
    folder = make_dataset(tmp_path / "corpus").folder
    said = f"need folders such as deap-ecg-0123456789ab with a .*, got {folder};"
    with pytest.raises(DataError, match=said):
        _open(tmp_path / "corpus", stream="ecg")
    make_dataset(tmp_path / "corpus", name="amigos", recipe=EcgRecipe())
    with pytest.raises(DataError, match="need the datasets dreamer, got amigos"):
        _open(tmp_path / "corpus", stream="ecg", datasets=["dreamer"])
    with pytest.raises(ValueError, match="need a recipe of ecg, got EegRecipe"):
        _open(tmp_path / "corpus", stream="ecg", recipe=EegRecipe())


def test_ratings_are_columns_as_the_publisher_has_them(made: CorpusDataset) -> None:
    np.testing.assert_array_equal(made.column("rating_valence"), np.repeat([1.0, 2.0, 3.0], 5))
    np.testing.assert_array_equal(np.isnan(made.column("rating_liking")), [True, *[False] * 4] * 3)
    assert made.column("rating_liking").dtype == np.float64


def test_valence_and_arousal_are_columns_of_one_array(made: CorpusDataset) -> None:
    assert made.va_S2.shape == (15, 2)
    np.testing.assert_array_equal(made.va_S2[:, 0], np.repeat([-2.0, -1.0, 0.0], 5))
    assert np.isnan(made.va_S2[0, 1])


def test_seen_names_subjects_and_their_stimuli(made: CorpusDataset) -> None:
    assert made.seen(np.array([5, 0, 2, 1])) == {"00": ["00", "01"], "01": ["00"]}


def test_an_unknown_column_is_refused(made: CorpusDataset) -> None:
    with pytest.raises(ValueError, match=r"need a column among dataset, .*; got 'trial'"):
        made.column("trial")


def test_digests_do_not_know_where_the_corpus_lies(tmp_path: Path) -> None:
    make_dataset(tmp_path / "a" / "corpus")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    make_dataset(tmp_path / "c" / "corpus", n_segments=4)
    here, there, other = (_open(tmp_path / name / "corpus") for name in "abc")
    assert here.digest == there.digest != other.digest
    assert here["dreamer"].digest == there["dreamer"].digest != other["dreamer"].digest


# --- threads, processes, nodes ------------------------------------------------------------------


def test_threads_may_gather_at_once(made: CorpusDataset) -> None:
    rows = np.random.default_rng(0).integers(0, 15, (40, 6))
    expected = [np.stack([eeg_of(r // 5, 5)[r % 5] for r in row]) for row in rows.tolist()]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(made.gather, rows))
    np.testing.assert_array_equal(found, expected)


def test_pickling_sends_the_place_and_no_signals(made: CorpusDataset) -> None:
    made.prepare()
    data = pickle.dumps(made)
    assert len(data) < 2000
    np.testing.assert_array_equal(pickle.loads(data).gather([3]), made.gather([3]))


def test_a_whole_corpus_pickles(tmp_path: Path) -> None:
    make_dataset(tmp_path / "corpus")
    corpus = _open(tmp_path / "corpus")
    assert pickle.loads(pickle.dumps(corpus)).digest == corpus.digest


def test_more_shards_than_open_files_allowed(tmp_path: Path) -> None:
    make_dataset(tmp_path / "corpus", n_recordings=100, n_segments=1)
    dataset = _open(tmp_path / "corpus")["dreamer"]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    n_open = len(list(Path("/proc/self/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (n_open + 20, hard))
    try:
        values = dataset.gather(np.arange(100))[:, 0, 0]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    np.testing.assert_array_equal(values, np.arange(100) * 100.0)


def test_remote_shards_are_copied_on_first_use_only(tmp_path: Path) -> None:
    manifest = make_dataset(tmp_path / "corpus")
    corpus = _open(_remote(tmp_path), cache_dir=tmp_path / "cache")
    assert not corpus.is_local
    dataset = corpus["dreamer"]
    assert not (tmp_path / "cache").exists()
    np.testing.assert_array_equal(dataset.gather([6])[0], eeg_of(1, 5)[1])
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [
        f"{manifest.shards[1].sha256}.arrow"
    ]
    shutil.rmtree(tmp_path / "corpus" / manifest.folder / SHARDS)
    np.testing.assert_array_equal(dataset.gather([5])[0], eeg_of(1, 5)[0])
    with pytest.raises(DataError, match=r"need the file .*dreamer-s00-v1\.arrow, got none"):
        dataset.gather([0])


def test_a_copy_in_the_cache_that_was_cut_off_is_fetched_again(tmp_path: Path) -> None:
    manifest = make_dataset(tmp_path / "corpus")
    cached = tmp_path / "cache" / f"{manifest.shards[0].sha256}.arrow"
    cached.parent.mkdir()
    cached.write_bytes(b"cut off")
    dataset = _open(_remote(tmp_path), cache_dir=tmp_path / "cache")["dreamer"]
    np.testing.assert_array_equal(dataset.gather([0])[0], eeg_of(0, 5)[0])


def test_a_remote_corpus_fits_where_the_disk_has_room_for_its_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_dataset(tmp_path / "corpus")
    cache = tmp_path / "cache"
    remote = _open(_remote(tmp_path), cache_dir=cache)
    assert remote.fits_here
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    assert not remote.fits_here
    assert _open(tmp_path / "corpus", cache_dir=cache).fits_here
    remote.prepare()
    assert remote.fits_here  # the copies are there already


def test_a_remote_shard_with_a_flipped_byte_is_refused_and_not_kept(tmp_path: Path) -> None:
    manifest = make_dataset(tmp_path / "corpus")
    _flip(tmp_path / "corpus" / manifest.folder / SHARDS / manifest.shards[0].file)
    dataset = _open(_remote(tmp_path), cache_dir=tmp_path / "cache")["dreamer"]
    with pytest.raises(DataError, match=r"s00-v1\.arrow: need SHA-256 .*: the file is damaged"):
        dataset.gather([0])
    assert list((tmp_path / "cache").iterdir()) == []


FETCH = """
import sys
import time
from pathlib import Path
import numpy as np
from pyarrow import fs
from emoray.corpus.read import open_corpus
from emoray.runtime.storage import Storage

folder, reader, n_readers = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
fetch = Storage.fetch

def slowly(self, name, *args, **options):
    Path(folder, "fetched", f"{reader}-{name.replace('/', '-')}").touch()
    time.sleep(0.2)
    fetch(self, name, *args, **options)

Storage.fetch = slowly
storage = Storage(fs.SubTreeFileSystem(str(folder), fs.LocalFileSystem()), "corpus")
dataset = open_corpus(storage, cache_dir=folder / "cache")["dreamer"]
Path(folder, "ready", reader).touch()
while len(list(Path(folder, "ready").iterdir())) < n_readers:
    time.sleep(0.01)
dataset.prepare()
print(dataset.gather(np.arange(len(dataset))).sum())
"""


def _fetch(folder: Path, n_readers: int) -> list[subprocess.Popen[bytes]]:
    """Processes that read a whole remote corpus, beginning together."""
    for name in ("ready", "fetched"):
        (folder / name).mkdir(exist_ok=True)
    commands = [
        [sys.executable, "-c", FETCH, str(folder), str(reader), str(n_readers)]
        for reader in range(n_readers)
    ]
    return [subprocess.Popen(command, stdout=subprocess.PIPE) for command in commands]


def test_processes_of_a_node_fetch_each_shard_once_between_them(tmp_path: Path) -> None:
    make_dataset(tmp_path / "corpus", n_recordings=6)
    readers = _fetch(tmp_path, 2)
    sums = {reader.communicate(timeout=60)[0] for reader in readers}
    assert [reader.returncode for reader in readers] == [0, 0]
    assert len(sums) == 1
    assert len(list((tmp_path / "fetched").iterdir())) == 6
    names = [path.name for path in (tmp_path / "cache").iterdir()]
    assert len(names) == 6
    assert all(len(name) == 64 + len(".arrow") for name in names)


def test_a_process_killed_while_it_fetches_holds_up_nobody(tmp_path: Path) -> None:
    manifest = make_dataset(tmp_path / "corpus", n_recordings=1)
    (reader,) = _fetch(tmp_path, 1)
    while not list((tmp_path / "fetched").iterdir()):
        assert reader.poll() is None
        time.sleep(0.005)
    reader.kill()
    reader.communicate()
    lock = f"{manifest.shards[0].sha256}.arrow.lock"
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [lock]
    dataset = _open(_remote(tmp_path), cache_dir=tmp_path / "cache")["dreamer"]
    np.testing.assert_array_equal(dataset.gather([0])[0], eeg_of(0, 5)[0])
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [lock.removesuffix(".lock")]


def test_a_file_system_without_locks_is_done_without_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(file: object, how: int) -> None:
        raise OSError(errno.ENOLCK, "no locks here")

    make_dataset(tmp_path / "corpus")
    monkeypatch.setattr("fcntl.flock", no_locks)
    dataset = _open(_remote(tmp_path), cache_dir=tmp_path / "cache")["dreamer"]
    np.testing.assert_array_equal(dataset.gather([0])[0], eeg_of(0, 5)[0])


def test_a_uri_of_a_local_folder_is_read_in_place(tmp_path: Path) -> None:
    make_dataset(tmp_path / "corpus")
    corpus = open_corpus((tmp_path / "corpus").as_uri(), cache_dir=tmp_path / "cache")
    assert corpus.is_local
    assert len(corpus) == 15


# --- what is refused ----------------------------------------------------------------------------


def _flip(path: Path) -> None:
    """One bit of the last signal byte; size and time stay, as on a failing disk."""
    stat, data = path.stat(), bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_a_flipped_byte_is_found_before_the_shard_is_used(tmp_path: Path) -> None:
    manifest = make_dataset(tmp_path / "corpus")
    _flip(tmp_path / "corpus" / manifest.folder / SHARDS / manifest.shards[1].file)
    dataset = _open(tmp_path / "corpus")["dreamer"]
    dataset.gather([0])
    with pytest.raises(DataError, match=r"s01-v1\.arrow: need SHA-256 .*: the file is damaged"):
        dataset.gather([5])
    with pytest.raises(DataError, match=r"s01-v1\.arrow: need SHA-256"):
        dataset.prepare()


def test_a_shard_is_hashed_once_per_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_dataset(tmp_path / "corpus")
    _open(tmp_path / "corpus").prepare()

    def again(path: Path) -> str:
        raise AssertionError(path)

    monkeypatch.setattr("emoray.corpus.node_cache.sha256_of", again)
    _open(tmp_path / "corpus").prepare()
    with pytest.raises(AssertionError):
        _open(tmp_path / "corpus", cache_dir=tmp_path / "another").prepare()


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    make_dataset(tmp_path / "corpus")
    (tmp_path / "file").write_text("")
    dataset = _open(tmp_path / "corpus", cache_dir=tmp_path / "file" / "cache")["dreamer"]
    assert dataset.gather([0]).shape == (1, N_CHANS, N_TIMES)


def test_no_corpus_and_an_empty_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"need a corpus at .*/none, got no such folder"):
        _open(tmp_path / "none")
    with pytest.raises(DataError, match=r"need folders such as deap-eeg-0123456789ab"):
        _open(tmp_path)


def test_a_dataset_that_is_not_there_is_named_beside_those_that_are(tmp_path: Path) -> None:
    make_dataset(tmp_path / "corpus")
    with pytest.raises(DataError, match="need the datasets deap, got dreamer"):
        _open(tmp_path / "corpus", datasets=["dreamer", "deap"])
    assert _open(tmp_path / "corpus", datasets=["dreamer"]).names == ("dreamer",)


def test_a_corpus_of_another_recipe_says_what_differs(tmp_path: Path) -> None:
    make_dataset(tmp_path / "corpus", recipe=EegRecipe(band_low_hz=0.5))
    assert len(_open(tmp_path / "corpus", recipe=EegRecipe(band_low_hz=0.5))) == 15
    with pytest.raises(DataError, match=r"another recipe: .* has band_low_hz=0\.5 instead of 0\.3"):
        _open(tmp_path / "corpus", recipe=EegRecipe())


def test_exceptions_for_other_datasets_do_not_matter(tmp_path: Path) -> None:
    make_dataset(tmp_path / "corpus")
    assert len(_open(tmp_path / "corpus", recipe=EegRecipe(exceptions={"faced": {"ica": "none"}})))


@pytest.mark.parametrize("asked", [None, ["dreamer"]])
def test_two_builds_of_a_dataset_are_listed_under_the_names_to_ask_for(
    tmp_path: Path, asked: list[str] | None
) -> None:
    first = make_dataset(tmp_path / "corpus")
    second = make_dataset(tmp_path / "corpus", recipe=EegRecipe(ica="none"))
    folders = ", ".join(sorted([first.folder, second.folder]))
    message = f"need one build of dreamer, got {folders}; each can be asked for by that name, or"
    with pytest.raises(DataError, match=message):
        _open(tmp_path / "corpus", datasets=asked)
    chosen = _open(tmp_path / "corpus", datasets=asked, recipe=EegRecipe(ica="none"))["dreamer"]
    assert chosen.manifest.folder == second.folder


def test_one_of_two_builds_is_asked_for_by_its_folder(tmp_path: Path) -> None:
    builds = [
        make_dataset(tmp_path / "corpus", recipe=EegRecipe(ica=i)) for i in ("fastica", "none")
    ]
    make_dataset(tmp_path / "corpus", name="amigos")
    for build in builds:
        corpus = _open(tmp_path / "corpus", datasets=["amigos", build.folder])
        assert corpus.names == ("amigos", "dreamer")
        assert corpus["dreamer"].manifest.folder == build.folder


def test_the_folder_and_the_name_of_an_only_build_are_the_same(tmp_path: Path) -> None:
    folder = make_dataset(tmp_path / "corpus").folder
    for asked in (["dreamer", folder], [folder, folder], [folder]):
        assert _open(tmp_path / "corpus", datasets=asked).names == ("dreamer",)


def test_builds_of_one_dataset_are_not_opened_together(tmp_path: Path) -> None:
    one = make_dataset(tmp_path / "corpus").folder
    other = make_dataset(tmp_path / "corpus", recipe=EegRecipe(ica="none")).folder
    for asked in ([one, other], ["dreamer", one]):
        with pytest.raises(DataError, match=f"one build of dreamer, asked for {', '.join(asked)}"):
            _open(tmp_path / "corpus", datasets=asked)


def test_a_folder_asked_for_must_be_there_and_of_the_recipe_asked_for(tmp_path: Path) -> None:
    folder = make_dataset(tmp_path / "corpus").folder
    with pytest.raises(DataError, match="need the datasets dreamer-eeg-0123456789ab, got dreamer"):
        _open(tmp_path / "corpus", datasets=["dreamer-eeg-0123456789ab"])
    assert len(_open(tmp_path / "corpus", datasets=[folder], recipe=EegRecipe())) == 15
    with pytest.raises(DataError, match=r"another recipe: .* has ica='fastica' instead of 'none'"):
        _open(tmp_path / "corpus", datasets=[folder], recipe=EegRecipe(ica="none"))


def test_rehearsal_data_and_real_data_of_one_dataset_are_not_mixed(tmp_path: Path) -> None:
    make_dataset(tmp_path / "corpus", rehearsal=True)
    make_dataset(tmp_path / "corpus", rehearsal=False)
    with pytest.raises(DataError, match="need one build of dreamer"):
        _open(tmp_path / "corpus", recipe=EegRecipe())


def test_another_format_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "corpus" / make_dataset(tmp_path / "corpus").folder / MANIFEST
    path.write_text(path.read_text().replace('"format_version": 2', '"format_version": 0'))
    with pytest.raises(DataError, match=r"manifest\.json: need corpus format 2, got 0"):
        _open(tmp_path / "corpus")


def test_a_missing_shard_and_one_cut_off_are_named(tmp_path: Path) -> None:
    manifest = make_dataset(tmp_path / "corpus")
    path = tmp_path / "corpus" / manifest.folder / SHARDS / manifest.shards[2].file
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(DataError, match=r"s02-v1\.arrow: need [\d,]+ bytes, got [\d,]+"):
        _open(tmp_path / "corpus")
    path.unlink()
    with pytest.raises(DataError, match=r"need the shard .*s02-v1\.arrow, got no file"):
        _open(tmp_path / "corpus")


def test_a_damaged_index_is_refused(tmp_path: Path) -> None:
    manifest = make_dataset(tmp_path / "corpus")
    other = make_dataset(tmp_path / "other", n_segments=4)
    index = tmp_path / "corpus" / manifest.folder / INDEX
    shutil.copy(tmp_path / "other" / other.folder / INDEX, index)
    with pytest.raises(DataError, match=r"index\.parquet: need the index of digest"):
        _open(tmp_path / "corpus")
    index.write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"index\.parquet: need a Parquet file"):
        _open(tmp_path / "corpus")
    index.unlink()
    with pytest.raises(DataError, match=r"need .*index\.parquet, got no such file"):
        _open(tmp_path / "corpus")


def test_a_build_that_has_not_ended_is_not_opened(tmp_path: Path) -> None:
    manifest = make_dataset(tmp_path / "corpus")
    (tmp_path / "corpus" / manifest.folder / MANIFEST).unlink()
    with pytest.raises(DataError, match="a build that has not ended shows none either"):
        _open(tmp_path / "corpus")
