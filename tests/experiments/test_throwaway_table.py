"""A method and a dataset that are nothing but their own files, from files to tables.

The method (`tests/throwaway`) trains its three stages on EEG and ECG of DREAMER's example, two
workers a run, is killed twice and ends as if nobody had killed it. The dataset has ECG alone.
"""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from emoray.training.checkpoint import PREFIX
from tests import ecg_only
from tests.processes import ancestors, below_us
from tests.throwaway_checkout import NAME, Checkout, end_session, make

pytestmark = [pytest.mark.ray, pytest.mark.slow]

N_SUBJECTS = 3
"""Of DREAMER: as many folds."""
SEGMENT_S, DURATION_S = 2.0, 5.0
"""Two segments a presentation, and a second to spare."""
N_SEGMENTS = {
    ("dreamer", "eeg"): N_SUBJECTS * 18 * 2,
    ("dreamer", "ecg"): N_SUBJECTS * 18 * 2,
    (ecg_only.NAME, "ecg"): ecg_only.N_SUBJECTS * ecg_only.N_CLIPS * 2,
}
ROWS = ("From scratch", "Throw-away")
EPOCHS = {"first": 16, "second": 16, "third": 8}
WORKER = "ray::RayTrainWorker"
TIMES = ("seconds", "segments_per_s", "waiting", "finished")
"""Of a row: what depends on the machine's mood."""

WRITE = f"""
import sys
from pathlib import Path
from emoray.rehearsal.release import write_release
for name, n in (("dreamer", {N_SUBJECTS}), ({ecg_only.NAME!r}, {ecg_only.N_SUBJECTS})):
    write_release(
        Path(sys.argv[1]), datasets=[name], n_subjects=n, seed=0, duration_s={DURATION_S}
    )
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return make(tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="module")
def data(checkout: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both releases, as their publishers ship them."""
    root = tmp_path_factory.mktemp("data")
    checkout.said("-c", WRITE, root)
    return root


@pytest.fixture(scope="module")
def corpus(checkout: Checkout, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both streams of all that there is, in segments of the same seconds."""
    out = tmp_path_factory.mktemp("corpus")
    said = checkout.said(
        *("jobs/build_corpus.py", data, "--out", out, "--streams", "eeg", "ecg"),
        *("--ica", "none", "--segment-s", SEGMENT_S, "--ecg.segment-s", SEGMENT_S),
        *("--address", "local"),
    )
    assert f"{sum(N_SEGMENTS.values())} segments in {out}" in said
    return out


def table(number: int, corpus: Path, storage: Path, *more: object) -> list[object]:
    """The words behind `reproduce`: two workers for whatever trains, one core each.

    `first` is of all subjects, those of the test segments among them: the table has to say so.
    """
    return [
        *(NAME, f"table{number}", "--corpus", corpus, "--storage", storage, "--seeds", 0),
        *("--workers", 2, "--workers-per-run", 2, "--cpus-per-worker", 1, "--cpus-per-run", 1),
        *("--allow-contaminated", "--address", "local", *more),
    ]


def reproduced(checkout: Checkout, words: Sequence[object], log: Path) -> str:
    """What the job says that nobody kills."""
    with log.open("w") as said, checkout.job("reproduce", *words, log=said) as process:
        assert process.wait(timeout=500) == 0, log.read_text()
    return log.read_text()


def rows(storage: Path) -> dict[str, dict[str, Any]]:
    """Rows by key, as their files have them, without times."""
    found = {}
    for path in (storage / "results" / "rows").glob("*.json"):
        row = json.loads(path.read_text())["row"]
        found[path.stem] = {name: value for name, value in row.items() if name not in TIMES}
    return found


def lines(storage: Path, name: str) -> list[dict[str, str]]:
    """Of the table's file."""
    (path,) = (storage / "reports").glob(f"{name}-*/{name}.csv")
    with path.open(newline="") as text:
        return list(csv.DictReader(text))


# Three stages on two workers, killed twice --------------------------------------------------------


def settings() -> list[object]:
    return ["--set", *(f"{stage}.epochs={n}" for stage, n in EPOCHS.items())]


def one_fold(corpus: Path, storage: Path) -> list[object]:
    """Table 1 on its first fold: four runs."""
    return table(1, corpus, storage, "--folds", "rotate", *settings())


def with_checkpoints(storage: Path) -> set[Path]:
    """Folders in which runs have something to go on from."""
    walked = os.walk(storage)  # which passes over what goes away meanwhile
    return {Path(at) for at, names, _ in walked if any(name.startswith(PREFIX) for name in names)}


def kill_worker(process: subprocess.Popen[str]) -> bool:
    """SIGKILL for the youngest worker of a job; whether there was one."""
    workers = [pid for pid in below_us(WORKER) if process.pid in ancestors(pid)]
    for pid in workers[-1:]:
        os.kill(pid, signal.SIGKILL)
    return bool(workers)


def wait_for(happened: Callable[[], bool], process: subprocess.Popen[str], log: Path) -> None:
    deadline = time.monotonic() + 240
    while not happened():
        assert process.poll() is None, f"ended too early: {log.read_text()}"
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)


@dataclass(frozen=True)
class Killed:
    """A job of which a worker was killed, and later everything."""

    storage: Path
    said: str
    folders: set[Path]
    """Of runs that it left with a checkpoint."""
    rows: Mapping[str, Mapping[str, Any]]
    """That it left."""


@pytest.fixture(scope="module")
def killed(checkout: Checkout, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Killed:
    folder = tmp_path_factory.mktemp("killed")
    storage, log = folder / "storage", folder / "log"
    words = one_fold(corpus, storage)
    with log.open("w") as said, checkout.job("reproduce", *words, log=said) as process:
        wait_for(lambda: bool(with_checkpoints(storage)) and kill_worker(process), process, log)
        first = with_checkpoints(storage)
        wait_for(lambda: bool(with_checkpoints(storage) - first), process, log)
        end_session(process)
    return Killed(storage, log.read_text(), with_checkpoints(storage), rows(storage))


@pytest.fixture(scope="module")
def resumed(
    checkout: Checkout, corpus: Path, killed: Killed, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """What the same words say the second time."""
    log = tmp_path_factory.mktemp("resumed") / "log"
    return reproduced(checkout, one_fold(corpus, killed.storage), log)


@pytest.fixture(scope="module")
def unbroken(checkout: Checkout, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The storage of a job that nobody killed."""
    folder = tmp_path_factory.mktemp("unbroken")
    reproduced(checkout, one_fold(corpus, folder / "storage"), folder / "log")
    return folder / "storage"


@pytest.fixture(scope="module")
def all_folds(
    checkout: Checkout, corpus: Path, unbroken: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The same with the other folds, of which one worker each is enough."""
    folder = tmp_path_factory.mktemp("all_folds")
    shutil.copytree(unbroken, folder / "storage")
    words = [*one_fold(corpus, folder / "storage"), "--folds", "all", "--workers-per-run", 1]
    reproduced(checkout, words, folder / "log")
    return folder / "storage"


def of_row(found: Mapping[str, Mapping[str, Any]], name: str) -> list[Mapping[str, Any]]:
    """Rows of one row of the table, by fold."""
    started = name == "Throw-away"
    return sorted(
        (row for row in found.values() if bool(row["starts"]) is started),
        key=lambda row: str(row["fold"]),
    )


def test_it_was_killed_in_mid_training(killed: Killed) -> None:
    assert "a worker was lost" in killed.said
    assert "goes on from step" in killed.said
    assert killed.folders
    assert len(killed.rows) < len(ROWS)
    assert not (killed.storage / "reports").exists()


def test_a_killed_job_ends_with_the_rows_of_one_that_was_not(
    killed: Killed, resumed: str, unbroken: Path
) -> None:
    assert "goes on from step" in resumed
    broken, whole = rows(killed.storage), rows(unbroken)
    assert len(whole) == len(ROWS)
    assert broken == whole
    for row in whole.values():
        assert {"acc", "auc"} <= set(row["scores"])
        assert all(math.isfinite(score) for score in row["scores"].values())
        assert row["chosen_by"] == "auc"
        assert row["n_classes"] == 2
        assert (row["method"], row["stage"]) == (NAME, "third")


def test_every_row_says_what_it_started_from(unbroken: Path) -> None:
    (scratch,), (row,) = (of_row(rows(unbroken), name) for name in ROWS)
    assert not scratch["starts"]
    assert set(row["starts"]) == {"teacher", "student"}
    teacher, student = row["starts"]["teacher"], row["starts"]["student"]
    assert (teacher["method"], teacher["stage"]) == (NAME, "first")
    assert (student["method"], student["stage"]) == (NAME, "second")
    assert student["starts"] == {"teacher": teacher}
    assert not teacher["starts"]
    for start, stage in ((teacher, "first"), (student, "second"), (row, "third")):
        assert start["config"]["epochs"] == EPOCHS[stage]
        assert start["config"]["seed"] == 0
    assert student["config"]["temperature"] == 0.2  # as paper.toml has it
    assert student["config"]["level_weight"] == 2.0


def test_the_audit_knows_whom_its_teacher_saw(unbroken: Path) -> None:
    scratch, started = (
        row["audit"]["verdict"] for name in ROWS for row in of_row(rows(unbroken), name)
    )
    assert "CONTAMINATED" in started
    assert "CONTAMINATED" not in scratch


def test_folds_share_the_teacher_of_everybody_and_have_a_student_each(
    unbroken: Path, all_folds: Path
) -> None:
    before, found = rows(unbroken), rows(all_folds)
    assert {key: found[key] for key in before} == before
    for name in ROWS:
        assert len({row["fold"] for row in of_row(found, name)}) == N_SUBJECTS
    for role, n in (("teacher", 1), ("student", N_SUBJECTS)):
        starts = [row["starts"][role] for row in of_row(found, "Throw-away")]
        assert len({json.dumps(start, sort_keys=True) for start in starts}) == n, role


def test_the_table_has_both_rows_and_the_area_under_the_curve(killed: Killed, resumed: str) -> None:
    said = resumed.splitlines()
    assert any("AUC" in line for line in said)
    for name in ROWS:
        assert any(name in line for line in said)
    assert "65.5" in resumed  # as published
    assert "[rehearsal data]" in resumed
    found = [line for line in lines(killed.storage, "table1") if line["metric"] == "auc"]
    assert {line["method"] for line in found} == set(ROWS)
    by_row = {name: of_row(rows(killed.storage), name) for name in ROWS}
    for line in found:
        (row,) = by_row[line["method"]]
        assert float(line["mean"]) == pytest.approx(100 * row["scores"]["auc"])
        assert line["n"] == line["n_wanted"] == "1"
        assert line["n_failed"] == ""


# ECG alone ----------------------------------------------------------------------------------------


def test_the_check_finds_the_dataset_whole(checkout: Checkout, data: Path) -> None:
    words = ("jobs/build_corpus.py", data, "--check", "--datasets", ecg_only.NAME)
    n = ecg_only.N_SUBJECTS * ecg_only.N_CLIPS
    assert f"{n}/{n}" in checkout.said(*words, "--address", "local")


def test_a_dataset_of_ecg_alone_is_trained_on_and_scored(
    checkout: Checkout, corpus: Path, tmp_path: Path
) -> None:
    storage = tmp_path / "storage"
    words = table(2, corpus, storage, "--folds", "rotate", "--set", "ecg_only.epochs=4")
    said = reproduced(checkout, words, tmp_path / "log")
    assert "ECG alone" in said
    (row,) = rows(storage).values()
    assert (row["dataset"], row["stage"]) == (ecg_only.NAME, "ecg_only")
    assert not row["starts"]
    n_test = N_SEGMENTS[ecg_only.NAME, "ecg"] // ecg_only.N_SUBJECTS
    assert sum(map(sum, row["confusion"])) == n_test
    (line,) = [line for line in lines(storage, "table2") if line["metric"] == "auc"]
    assert float(line["mean"]) == pytest.approx(100 * row["scores"]["auc"])
