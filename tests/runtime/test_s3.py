"""A store that speaks S3's protocol (moto's server) in the place of a folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
import torch

from emoray.corpus.read import open_corpus
from emoray.methods.emod.method import Config, Pretraining
from emoray.methods.emod.model import EncoderConfig
from emoray.results.store import ResultStore
from emoray.runtime import cluster
from emoray.runtime.config import to_dict
from emoray.runtime.storage import Storage, join, last_part
from emoray.training import checkpoint
from emoray.vocabulary.schema import DataError
from tests.corpora import write_corpus
from tests.rows import made_row

REPO = Path(__file__).parents[2]
TINY = Config(encoder=EncoderConfig(d_model=8, n_heads=2, n_layers=1, d_feedforward=16))


def test_the_verbs_work_and_a_place_opens_again(s3: str) -> None:
    folder = Storage.at(s3)
    assert not folder.exists()
    folder.sub("x").write_bytes("a", b"abc")
    assert folder.folders() == ["x"]
    assert folder.sub("x").files() == {"a": 3}
    assert folder.sub("x").read("b") is None
    assert not folder.sub("x").create("a", b"other")
    place = folder.sub("x").place("a")
    assert place.startswith("s3://bucket/")
    assert place.partition("?")[2] == s3.partition("?")[2]
    assert Storage.at(join(s3, "x")).read(last_part(place)) == b"abc"


def test_aws_endpoint_url_stands_for_the_query(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, _, query = s3.partition("?")
    (address,) = parse_qs(query)["endpoint_override"]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{address}")
    Storage.at(plain).write_bytes("a", b"abc")
    assert Storage.at(s3).read("a") == b"abc"
    assert Storage.at(plain).place("a") == f"{plain}/a"


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_storage_with_a_query_is_probed_and_left_empty(s3: str, slash: str) -> None:
    assert cluster.storage_root(s3.replace("?", f"{slash}?")) == s3
    assert Storage.at(s3).files() == {}


def test_a_storage_that_is_not_there_is_refused_by_its_uri(s3: str) -> None:
    absent = s3.replace("s3://bucket/", "s3://no-such-bucket/")
    with pytest.raises(ValueError, match="need storage that can be written, got s3://no-such-b"):
        cluster.storage_root(absent)


def test_a_corpus_is_read_as_from_a_folder(s3: str, tmp_path: Path) -> None:
    here = open_corpus(write_corpus(tmp_path / "corpus"))
    write_corpus(s3)  # type: ignore[arg-type]
    there = open_corpus(s3, cache_dir=tmp_path / "cache")
    assert there.names == here.names
    rows_N = np.arange(20)
    for name in here.names:
        assert np.array_equal(there[name].gather(rows_N), here[name].gather(rows_N))


def test_a_shard_that_is_gone_is_named_by_its_uri(s3: str, tmp_path: Path) -> None:
    write_corpus(s3)  # type: ignore[arg-type]
    corpus = Storage.at(s3)
    shards = corpus.sub(corpus.folders()[0]).sub("shards")
    shards.remove(name := min(shards.files()))
    with pytest.raises(DataError, match=re.escape(shards.place(name))):
        open_corpus(s3, cache_dir=tmp_path / "cache")


def test_result_rows_are_kept_and_a_damaged_one_is_named_by_its_uri(s3: str) -> None:
    store, row = ResultStore(join(s3, "results")), made_row()
    assert store.add(row)
    assert not store.add(row)
    again = ResultStore(join(s3, "results"))
    assert again.get(row.key) == row
    folder = Storage.at(join(s3, "results", "rows"))
    folder.write_bytes(f"{row.key}.json", b"{")
    with pytest.raises(DataError, match=re.escape(folder.place(f"{row.key}.json"))):
        ResultStore(join(s3, "results")).rows()


def test_a_checkpoint_is_kept_and_used_by_the_place_that_is_printed(s3: str) -> None:
    module = Pretraining(TINY).build()
    optimizer = torch.optim.AdamW(module.parameters())
    history = {name: [0.5] for name in checkpoint.HISTORY}
    facts = {"method": "emod", "stage": "pretrain", "config": to_dict(TINY)}
    run = Storage.at(s3).sub("runs").sub("one")
    kept = checkpoint.FolderCheckpoints(run, facts, like=("config",))
    state = checkpoint.State(1, module.state_dict(), optimizer.state_dict(), history)
    kept.save(state)
    found = kept.latest()
    assert found is not None
    assert found.step == 1
    place = run.place(checkpoint.latest_whole(run) or "")
    loaded = checkpoint.load_trained(place)
    for name, weights in module.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weights)
    with pytest.raises(checkpoint.CheckpointError, match=re.escape(run.place("step-00000009"))):
        checkpoint.load_trained(run.place("step-00000009"))


@pytest.mark.ray
@pytest.mark.slow
def test_a_pretraining_leaves_everything_there_and_prints_where(s3: str, tmp_path: Path) -> None:
    corpus = join(s3, "corpus")
    write_corpus(corpus)  # type: ignore[arg-type]
    small = "--encoder.d-model 8 --encoder.n-heads 2 --encoder.n-layers 1".split()
    words = f"--corpus {corpus} --datasets made_a made_b --name one --held-out 0".split()
    words += "--epochs 1 --rounds-per-step 5".split()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_ADDRESS", "EMORAY_"))}
    done = subprocess.run(
        [sys.executable, REPO / "jobs" / "pretrain_emod.py", "--storage", s3, *words, *small],
        capture_output=True,
        text=True,
        check=False,
        env={**kept, "PYTHONPATH": str(REPO), "HOME": str(tmp_path), "COLUMNS": "300"},
        timeout=500,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    printed = set(re.findall(r"s3://\S+", done.stdout))
    run = Storage.at(s3).sub("runs").sub("one")
    places = {run.place(name) for name in ("summary.json", "loss.png", "history.csv")}
    trained = run.place("step-00000002")
    assert {*places, trained} <= printed
    assert {urlsplit(place).query for place in printed} == {s3.partition("?")[2]}
    assert set(run.files()) > {"summary.json", "loss.png", "history.csv", "request.json"}
    assert checkpoint.load_trained(trained) is not None
    assert not (tmp_path / "emoray").exists()
