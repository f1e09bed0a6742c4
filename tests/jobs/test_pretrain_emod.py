"""The main job's command line: what it explains, and that it refuses in one line what cannot run.

Whole runs are in tests/training/test_driver.py (interrupted ones) and tests/test_job_submit.py.
"""

from __future__ import annotations

import os
import runpy
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from emoray.corpus.read import open_corpus
from emoray.jobs.pretrain_options import PAPER
from emoray.methods.emod.config import rehearsal_config
from emoray.runtime import cluster
from emoray.runtime.config import dotted_values, to_dict
from emoray.runtime.locks import LOCKS, hold
from emoray.runtime.storage import Storage
from emoray.training import driver
from emoray.training.data import open_data
from emoray.training.execute import code_of
from emoray.training.run import Execution, Run, Submission
from tests.corpora import write_corpus

REPO = Path(__file__).parents[2]
JOB = REPO / "jobs" / "pretrain_emod.py"
DEFAULTS = {
    name.removeprefix("emod."): value
    for name, value in dotted_values(PAPER).items()
    if name != "emod"
}
"""Every option by dotted name."""


def option(name: str) -> str:
    """`loss.d_max` as it is written; what is on by default is switched off by `no-`."""
    head, dot, last = name.rpartition(".")
    off = "no-" if DEFAULTS[name] is True else ""
    return f"--{head}{dot}{off}{last}".replace("_", "-")


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A person's who has set nothing, at a window of a hundred columns."""
    for name in [name for name in os.environ if name.startswith(("RAY_", "EMORAY_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is refused now is refused before anything starts."""

    def refuse(**asked: object) -> None:
        raise AssertionError("a cluster was asked for")

    monkeypatch.setattr(cluster, "connect", refuse)


def end_of_job(monkeypatch: pytest.MonkeyPatch, *words: object) -> int | str | None:
    """The job in this process: what it hands to `sys.exit`."""
    monkeypatch.setattr(sys, "argv", ["jobs/pretrain_emod.py", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(JOB), run_name="__main__")
    return ended.value.code


@pytest.fixture
def help_text(
    environment: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    assert end_of_job(monkeypatch, "--help") == 0
    return capsys.readouterr().out


def test_help_names_every_option(help_text: str) -> None:
    words = set(help_text.replace(",", " ").split())
    absent = [option(name) for name in DEFAULTS if option(name) not in words]
    assert absent == []
    assert {"--corpus", "--loss.d-max", "--encoder.no-relative-time"} <= words


def test_help_fits_a_hundred_columns(help_text: str) -> None:
    # A paragraph is one line, which the window wraps; boxes are drawn and must fit.
    drawn = [line for line in help_text.splitlines() if not line[:1].isalpha()]
    assert len(drawn) > 2 * len(DEFAULTS)
    assert max(map(len, drawn)) <= 100


def test_help_explains_every_option(help_text: str) -> None:
    text = " ".join(help_text.partition("-h, --help")[2].split())
    starts = sorted(text.index(f"{option(name)} ") for name in DEFAULTS)
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        explained, _, default = text[start:end].partition("(default: ")
        assert len(explained.split()) > 3, explained
        assert default, explained


def test_help_shows_the_papers_settings_and_says_what_a_rehearsal_changes(help_text: str) -> None:
    text = " ".join(help_text.split())
    assert "(default: 0.07)" in text
    small, paper = dotted_values(rehearsal_config()), dotted_values(PAPER.emod)
    changed = {name: value for name, value in small.items() if value != paper[name]}
    assert "encoder.d_model" in changed
    for name, value in changed.items():
        assert f"{option(name)} {value}" in text


@pytest.mark.parametrize(
    ("words", "needed"),
    [
        (("--loss.d-max", "0"), "need loss.d_max > 0, got 0"),
        (("--epochs", "many"), "--epochs"),
        (("--losss.d-max", "1"), "--losss.d-max"),
    ],
)
def test_an_option_that_cannot_be_is_refused_by_its_name(
    environment: None,
    no_cluster: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    needed: str,
) -> None:
    assert end_of_job(monkeypatch, *words) == 2
    said = capsys.readouterr()
    assert needed in said.out + said.err
    assert "Traceback" not in said.out + said.err


def test_workers_that_do_not_divide_the_rounds_are_refused_before_anything_starts(
    environment: None, no_cluster: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words = ("--storage", tmp_path / "here", "--workers", 3)
    said = end_of_job(monkeypatch, *words, "--rounds-per-step", 2)
    assert said == (
        "error: need a number of workers that divides the 2 rounds of a step (1, 2), got 3"
    )
    said = end_of_job(monkeypatch, *words, "--corpus", "x")
    assert "divides the 4 rounds of a step (1, 2, 4), got 3" in str(said)  # the paper's four


@pytest.mark.parametrize("words", [("--workers", 3), ("--workers=3",)])
def test_a_rehearsal_has_a_round_for_each_worker(
    environment: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: tuple[object, ...]
) -> None:
    def asked(**given: object) -> None:
        raise ValueError(f"asked for {given['workers']}")

    monkeypatch.setattr(cluster, "connect", asked)
    said = end_of_job(monkeypatch, "--storage", tmp_path / "here", *words)
    assert said == "error: asked for 3 workers of 0 CPU"


def test_a_resumed_run_keeps_what_it_was_started_with(
    environment: None, no_cluster: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words = ("--storage", tmp_path, "--resume", "one", "--held-out", "0.5", "--workers", "2")
    said = end_of_job(monkeypatch, *words)
    assert said == (
        "error: need --resume without options that the run was started with, got --held-out"
    )


def store_run(storage: Path, **had: Any) -> None:
    """A run that has been written down, and no step of it done."""
    corpus = open_corpus(write_corpus(storage / "corpus"))
    run = Run(
        method="emod",
        stage="pretrain",
        config=to_dict(rehearsal_config(n_workers=2)),
        corpus=str(storage / "corpus"),
        builds={f: d for dataset in corpus.datasets for f, d in dataset.builds.items()},
        code=code_of("emod", corpus.names, "corpus"),
        name="one",
    )
    found = open_data(run)
    submission = Submission(run, str(storage / "runs"), Execution(**had))
    driver.start(submission, found.plan(found.stage()))


def test_a_resumed_runs_own_rounds_decide_how_many_workers_fit(
    environment: None, no_cluster: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store_run(tmp_path)
    said = end_of_job(monkeypatch, "--storage", tmp_path, "--resume", "one", "--workers", 4)
    assert "divides the 2 rounds of a step (1, 2), got 4" in str(said)


# One name, one run -------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--name", "--resume"])
def test_a_run_that_somebody_trains_is_refused_before_anything_starts(
    environment: None,
    no_cluster: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    option: str,
) -> None:
    store_run(tmp_path)
    with hold(Storage.at(tmp_path / "runs"), "one", tell=print):
        words = ("--storage", tmp_path, option, "one")
        said = str(end_of_job(monkeypatch, *words, *["--corpus", "x"][: 2 * (option == "--name")]))
    here = f"process {os.getpid()} on {socket.gethostname()} since 20"
    assert said.startswith(f"error: {tmp_path}/runs/one is held by {here}")
    assert "\n" not in said


@pytest.mark.parametrize("option", ["--name", "--resume"])
@pytest.mark.parametrize("name", ["../../x", "a/b", "..", ".locks", "/tmp/x"])
def test_a_name_stays_among_the_runs(
    environment: None,
    no_cluster: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    option: str,
    name: str,
) -> None:
    said = str(end_of_job(monkeypatch, "--storage", tmp_path / "deep" / "here", option, name))
    assert said.startswith("error: need a run's name of 1 to 100 letters")
    assert said.endswith(f"got {name!r}")
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]
    assert list((tmp_path / "deep" / "here").iterdir()) == []


def test_a_folder_under_another_name_is_not_resumed_elsewhere(
    environment: None, no_cluster: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store_run(tmp_path)
    (tmp_path / "runs" / "one").rename(tmp_path / "runs" / "two")
    said = end_of_job(monkeypatch, "--storage", tmp_path, "--resume", "two")
    assert said == f"error: {tmp_path}/runs/two: need the folder of its own run, got that of 'one'"


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        ((), "1 worker of 3 CPU"),
        (("--cpus-per-worker", "2"), "1 worker of 2 CPU"),
        (("--workers", "2"), "2 workers of 0 CPU"),  # other sums: a fair share
        (("--gpus-per-worker", "1"), "1 worker of 0 CPU and 1 GPU"),
    ],
)
def test_a_resumed_run_keeps_its_threads_unless_others_are_asked_for(
    environment: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    words: tuple[str, ...],
    asked: str,
) -> None:
    def connect(**given: object) -> None:
        raise ValueError(f"asked for {given['workers']}")

    monkeypatch.setattr(cluster, "connect", connect)
    store_run(tmp_path, cpus_per_worker=3.0)
    said = end_of_job(monkeypatch, "--storage", tmp_path, "--resume", "one", *words)
    assert said == f"error: asked for {asked}"


def job(home: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """The job in a process of its own, of a person who has set nothing."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "EMORAY_"))}
    return subprocess.run(
        [sys.executable, str(JOB), *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        env={**kept, "PYTHONPATH": str(REPO), "HOME": str(home), "COLUMNS": "100"},
        cwd=home,
        timeout=120,
    )


def test_an_unknown_run_to_resume_ends_with_one_line(tmp_path: Path) -> None:
    done = job(tmp_path, "--resume", "one")
    assert done.returncode == 1
    assert done.stdout == "Starting Ray and loading torch takes some seconds.\n"
    folder = tmp_path / "emoray" / "runs" / "one"
    assert done.stderr == f"error: {folder}: need a run to resume, got no request.json there\n"


@pytest.mark.ray
def test_a_wrong_corpus_ends_with_one_line(
    environment: None, ray_cluster: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    none, storage = tmp_path / "none", tmp_path / "here"
    said = end_of_job(monkeypatch, "--corpus", none, "--storage", storage, "--cpus-per-worker", 1)
    assert said == f"error: need a corpus at {none}, got no such folder"
    assert Storage.at(storage / "runs").folders() == [LOCKS]  # nothing of a run
