"""What many tests share: one Ray cluster, one small corpus of rehearsal data."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from emoray.corpus.read import Corpus, open_corpus
from emoray.rehearsal.release import write_release
from emoray.signals import EegRecipe

QUICK_RECIPE = EegRecipe(ica="none", segment_s=2.0)
"""Everything but ICA, on short segments: a recording takes a tenth of a second."""

TINY_DATASETS = ("dreamer", "seed")
"""Ratings with ECG in one file for all subjects; emotion names in a file per visit."""


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Torch on one thread: small tensors on all cores of a shared machine wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """One local cluster for the whole test session; four logical CPUs however few there are."""
    import ray

    os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # else Ray writes a token into the home
    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        object_store_memory=300 * 1024**2,
        logging_level=logging.ERROR,
        log_to_driver=False,
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Address of a server that speaks S3's protocol, with an empty bucket named `bucket`."""
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # else a line for each request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    address = ":".join(map(str, server.get_host_and_port()))
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
    client = boto3.client("s3", endpoint_url=f"http://{address}", region_name="us-east-1", **keys)
    client.create_bucket(Bucket="bucket")
    yield address
    server.stop()


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder of its own for each test on that server, as a person types it."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    return f"s3://bucket/{uuid.uuid4().hex}?endpoint_override={s3_server}&scheme=http"


@pytest.fixture(scope="session")
def tiny_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two datasets of two subjects as their publishers ship them, 4.5 s a presentation."""
    root = tmp_path_factory.mktemp("release")
    write_release(root, datasets=TINY_DATASETS, n_subjects=2, seed=0, duration_s=4.5)
    return root


@pytest.fixture(scope="session")
def tiny_corpus_path(
    ray_cluster: None, tiny_release: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A corpus of `tiny_release` built by `QUICK_RECIPE`; not to be written to."""
    from emoray.corpus.build.build import build

    out = tmp_path_factory.mktemp("corpus")
    build(tiny_release, out, recipe=QUICK_RECIPE, progress=False)
    return out


@pytest.fixture
def tiny_corpus(tiny_corpus_path: Path, tmp_path: Path) -> Corpus:
    """`tiny_corpus_path`, open."""
    return open_corpus(tiny_corpus_path, cache_dir=tmp_path / "cache")
