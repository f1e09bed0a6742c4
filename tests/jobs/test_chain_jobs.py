"""Both ECG jobs from end to end on rehearsal data: killed midway, they end as if nobody had.

SSL-ECG goes on two workers, the alignment on one. Neither has a line of its own for going on.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from emoray.corpus.read import open_corpus
from emoray.runtime.storage import Storage
from emoray.training.checkpoint import PREFIX, latest_whole
from emoray.training.classifier import load_classifier
from tests.experiments.test_throwaway_table import rows, wait_for, with_checkpoints
from tests.throwaway_checkout import Checkout, end_session

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1800)]
REPO = Path(__file__).parents[2]
CHECKOUT = Checkout(REPO)


@dataclass(frozen=True)
class Asked:
    """One job, as it is typed, and what it goes through."""

    job: str
    n_workers: int
    stages: tuple[str, ...]
    settings: tuple[str, ...]
    """Few epochs, but of the last stage so many that it does not end before it is killed."""
    streams: tuple[str, ...]
    n_rows: int
    """Stages that tell classes, each of which leaves a row."""

    def words(self, storage: Path) -> list[object]:
        return [
            *("--storage", storage, "--target", "arousal", "--address", "local"),
            *("--workers-per-run", self.n_workers, "--set", *self.settings),
        ]


ASKED = (
    Asked(
        "ssl_ecg",
        2,
        ("pretext", "emotion"),
        ("pretext.epochs=2", "emotion.epochs=30"),
        ("ecg",),
        1,
    ),
    Asked(
        "align_ecg",
        1,
        ("reconstruct", "teach", "align", "classify"),
        ("reconstruct.epochs=2", "teach.epochs=2", "align.epochs=2", "classify.epochs=30"),
        ("ecg",),
        2,
    ),
)


@pytest.fixture(scope="module", params=ASKED, ids=lambda asked: asked.job)
def asked(request: pytest.FixtureRequest) -> Asked:
    found: Asked = request.param
    return found


@pytest.fixture(scope="module")
def warm(asked: Asked, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage with rehearsal data and nothing else."""
    storage = tmp_path_factory.mktemp("warm") / "storage"
    said = CHECKOUT.said(f"jobs/{asked.job}.py", *asked.words(storage), "--dry-run")
    assert "What is missing" in said
    assert not with_checkpoints(storage)
    return storage


def ended(asked: Asked, storage: Path) -> str:
    """What the job says that nobody kills."""
    log = storage.parent / "log"
    with log.open("w") as said, CHECKOUT.job(asked.job, *asked.words(storage), log=said) as job:
        assert job.wait(timeout=500) == 0, log.read_text()
    return log.read_text()


@pytest.fixture(scope="module")
def unbroken(asked: Asked, warm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    storage = tmp_path_factory.mktemp("unbroken") / "storage"
    shutil.copytree(warm, storage)
    ended(asked, storage)
    return storage


@dataclass(frozen=True)
class Resumed:
    """A job that was killed in its last stage, and the same command again."""

    storage: Path
    n_rows_when_killed: int
    said: str
    """The second time."""


@pytest.fixture(scope="module")
def resumed(asked: Asked, warm: Path, tmp_path_factory: pytest.TempPathFactory) -> Resumed:
    storage = tmp_path_factory.mktemp("killed") / "storage"
    shutil.copytree(warm, storage)
    log = storage.parent / "log"
    words = asked.words(storage)
    with log.open("w") as said, CHECKOUT.job(asked.job, *words, log=said) as process:
        for n_begun in range(1, len(asked.stages) + 1):
            wait_for(lambda n=n_begun: len(runs_begun(storage)) >= n, process, log)
        end_session(process)
    n_rows = len(rows(storage))
    return Resumed(storage, n_rows, ended(asked, storage))


def runs_begun(storage: Path) -> set[str]:
    """Runs that have a whole checkpoint, finished or not: one is written beside them first."""
    runs = storage / "runs"
    return {
        folder.relative_to(runs).parts[0]
        for folder in with_checkpoints(storage)
        if latest_whole(Storage.at(folder)) is not None
    }


def weights(storage: Path) -> dict[str, Mapping[str, torch.Tensor]]:
    """Of every checkpoint that is left, by run and step."""
    found = {}
    for path in (storage / "runs").glob(f"*/{PREFIX}*/state.pt"):
        state = torch.load(path, weights_only=True)
        found["/".join(path.parts[-3:-1])] = state["model"]
    return found


def last_row(asked: Asked, storage: Path) -> tuple[str, Mapping[str, Any]]:
    """Of the last stage, with its key."""
    ((key, row),) = [
        (key, row) for key, row in rows(storage).items() if row["stage"] == asked.stages[-1]
    ]
    return key, row


def classifier_of(storage: Path) -> Path:
    (folder,) = (storage / "classifiers").iterdir()
    return folder


def test_a_killed_job_ends_with_the_rows_and_weights_of_one_that_was_not(
    asked: Asked, unbroken: Path, resumed: Resumed
) -> None:
    assert resumed.n_rows_when_killed == asked.n_rows - 1
    assert f"({', '.join(asked.stages[:-1])} ended earlier)" in resumed.said
    assert "goes on from step" in resumed.said
    assert rows(resumed.storage) == rows(unbroken)
    assert len(rows(unbroken)) == asked.n_rows
    broken, whole = weights(resumed.storage), weights(unbroken)
    assert set(broken) == set(whole)
    assert len(whole) == len(asked.stages)
    for place, model in whole.items():
        assert all(torch.equal(broken[place][name], value) for name, value in model.items()), place


def test_every_stage_leaves_a_checkpoint_its_curves_and_events(
    asked: Asked, unbroken: Path
) -> None:
    summary = json.loads((classifier_of(unbroken) / "summary.json").read_text())
    assert [stage["name"] for stage in summary["stages"]] == list(asked.stages)
    for stage in asked.stages:
        assert (Path(summary["places"][f"{stage}, checkpoint"]) / "state.pt").is_file()
        events = Path(summary["places"][f"{stage}, TensorBoard"])
        assert any(path.stat().st_size > 200 for path in events.glob("events.out.tfevents.*"))
        for name in ("history.csv", "loss.png"):
            assert (events.parent / name).stat().st_size > 0


def test_the_summary_says_what_the_row_says(asked: Asked, unbroken: Path) -> None:
    summary = json.loads((classifier_of(unbroken) / "summary.json").read_text())
    key, row = last_row(asked, unbroken)
    assert summary["places"]["result row"].endswith(f"{key}.json")
    assert summary["scores"] == row["scores"]
    assert summary["rehearsal"]
    sides = {"train": "n_train", "validation": "n_val", "test": "n_test"}
    for side, field in sides.items():
        assert sum(summary["n_segments"][side]) == row[field]
    assert summary["n_segments"]["test"] == [sum(counts) for counts in row["confusion"]]
    assert row["protocol"] == "subjects_apart_same_stimuli"


def test_the_same_command_again_trains_nothing(asked: Asked, unbroken: Path) -> None:
    before = rows(unbroken), weights(unbroken).keys()
    said = ended(asked, unbroken)
    assert "begins" not in said
    assert (rows(unbroken), weights(unbroken).keys()) == before


def test_a_user_loads_the_classifier_and_it_tells_the_tests_segments_as_the_row_has_them(
    asked: Asked, unbroken: Path
) -> None:
    loaded = load_classifier(classifier_of(unbroken))
    assert tuple(loaded.streams) == asked.streams
    _, row = last_row(asked, unbroken)
    confusion_KK, dataset = np.array(row["confusion"]), opened(unbroken, asked)
    test_N = rows_of_test(dataset, row)
    told = loaded.predict(dataset.gather(test_N), sfreq=256.0)
    assert np.bincount(told.class_S, minlength=len(confusion_KK)).tolist() == (
        confusion_KK.sum(axis=0).tolist()
    )


def opened(storage: Path, asked: Asked) -> Any:
    (corpus,) = (storage / "rehearsal").glob("*/corpus")
    return open_corpus(corpus, stream="ecg")["dreamer"]


def rows_of_test(dataset: Any, row: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    from emoray.evaluation.folds import folds
    from emoray.vocabulary.targets import from_plain

    made = folds(row["protocol"], "dreamer", dataset.index, from_plain(row["target"]))
    (fold,) = [fold for fold in made if fold.name == row["fold"]]
    return fold.test_N
