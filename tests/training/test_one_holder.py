"""Of two jobs that want the same run one trains it; the other says for whom it waits."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from emoray.corpus.read import open_corpus
from emoray.experiments import schedule
from emoray.methods.emod.config import rehearsal_config
from emoray.results.store import KEY_PARTS, ResultStore
from emoray.runtime.config import to_dict
from emoray.runtime.locks import hold
from emoray.runtime.storage import Storage
from emoray.training import driver
from emoray.training.execute import code_of
from emoray.training.run import Run, Submission
from tests.corpora import write_corpus
from tests.rows import made_row


class Relay:
    """In the place of the actor that carries lines."""

    def __init__(self, heard: threading.Event) -> None:
        self.said: list[str] = []
        self._heard = heard
        self.tell = self

    def remote(self, text: str) -> None:
        self.said.append(text)
        self._heard.set()


def held_until(runs: Path, name: str, heard: threading.Event) -> threading.Thread:
    """Another trainer of a run, who leaves once somebody waits."""
    holds = threading.Event()

    def train() -> None:
        with hold(Storage.at(runs), name, tell=print):
            holds.set()
            heard.wait(60)

    other = threading.Thread(target=train)
    other.start()
    assert holds.wait(60)
    return other


def test_a_pretraining_that_another_job_trains_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = open_corpus(write_corpus(tmp_path / "corpus"))
    run = Run(
        method="emod",
        stage="pretrain",
        config=to_dict(rehearsal_config()),
        corpus=str(tmp_path / "corpus"),
        builds={f: d for dataset in corpus.datasets for f, d in dataset.builds.items()},
        code=code_of("emod", corpus.names, "corpus"),
        name="one",
    )
    folders = schedule.Folders(str(tmp_path / "results"), str(tmp_path / "runs"))
    heard = threading.Event()
    other = held_until(tmp_path / "runs", "one", heard)
    # The other job has ended it by then; without the lock this one would have begun.
    monkeypatch.setattr(driver, "has_ended", lambda folder, run: heard.is_set())
    relay = Relay(heard)
    schedule._fit(Submission(run, folders.runs), folders, False, True, relay)
    other.join()
    (said,) = relay.said
    assert said.startswith(f"one is held by process {os.getpid()} on ")
    assert said.endswith(": waiting until it is free")


def test_a_run_whose_row_another_job_makes_is_not_done_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = made_row(config={"epochs": 3, "seed": 0})
    folders = schedule.Folders(str(tmp_path / "results"), str(tmp_path / "runs"))
    heard = threading.Event()
    other = held_until(tmp_path / "runs", row.key, heard)

    run = Run(**{name: getattr(row, name) for name in KEY_PARTS if name != "seed"}, corpus="c")
    assert run.key == row.key

    def finish(text: str) -> None:
        ResultStore(folders.store).add(row)
        heard.set()

    monkeypatch.setattr("builtins.print", finish)
    found = schedule._run(run, folders, schedule.Resources(), False, False)
    other.join()
    assert found == row
