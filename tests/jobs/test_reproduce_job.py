"""A table from a corpus to five formats; killed half-way and started again, it ends the same.

What a plan holds is in tests/test_experiment.py and tests/test_reproduce.py.
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import tyro

from emoray.experiments.options import Reproduce, Where
from emoray.jobs import reproduce
from emoray.results.store import ResultRow, ResultStore
from emoray.runtime import cluster
from emoray.runtime.storage import Storage
from emoray.training import checkpoint, driver
from emoray.training.run import Submission
from tests.small_experiments import SETTINGS, write_both

REPO = Path(__file__).parents[2]
JOB = REPO / "jobs" / "reproduce.py"
ARMS = ("EMOD-Scratch", "EMOD-Augment", "EMOD-HardVA", "EMOD-SoftVA")
PROTOCOLS = ("paper_same_stimuli", "subjects_and_stimuli_apart")
N_RUNS = len(ARMS) * len(PROTOCOLS) * 2
"""Of Table 3 on FACED with two seeds that take a fold each."""
WIDTH = 100
MARK = "[rehearsal data]"


def words(corpus: Path, storage: Path, *more: str) -> list[str]:
    """The command line of Table 3, as small as it can be."""
    return [
        *("emod", "table3", "--corpus", str(corpus), "--storage", str(storage)),
        *("--datasets", "faced", "--protocols", *PROTOCOLS, "--seeds", "0", "1"),
        *("--folds", "rotate", "--cpus-per-worker", "1"),
        *("--set", *(f"{name}={value}" for name, value in SETTINGS.items())),
        *more,
    ]


@contextlib.contextmanager
def job(corpus: Path, storage: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The job in a process group of its own, with a cluster of its own."""
    storage.mkdir(parents=True, exist_ok=True)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "EMORAY_"))}
    with log.open("w") as said:
        process = subprocess.Popen(
            [sys.executable, str(JOB), *words(corpus, storage, "--address", "local")],
            stdout=said,
            stderr=subprocess.STDOUT,
            env={**kept, "PYTHONPATH": str(REPO), "COLUMNS": str(WIDTH)},
            start_new_session=True,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(timeout=30)


def here(*arguments: str) -> str:
    """The job in this process; returns what it said."""
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said):
        patch.setenv("COLUMNS", str(WIDTH))
        reproduce.run(parsed(*arguments))
    return said.getvalue()


def parsed(*arguments: str) -> Reproduce:
    return tyro.cli(Reproduce, args=arguments, config=(tyro.conf.FlagCreatePairsOff,))


def here_without_cluster(*arguments: str) -> str:
    def refuse(**asked: object) -> None:
        raise AssertionError("a cluster was asked for")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "connect", refuse)
        return here(*arguments)


def row_files(storage: Path) -> dict[str, tuple[int, bytes]]:
    """Changed time and content of every row, by file name."""
    files = (storage / "results" / "rows").glob("*.json")
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def rows(storage: Path) -> dict[str, ResultRow]:
    return {row.key: row for row in ResultStore(storage / "results").rows()}


def pretrainings(storage: Path) -> list[Submission]:
    """Those that have begun."""
    folders = sorted((storage / "runs").glob("emod-pretrain-*"))
    begun = (driver.begun(Storage.at(folder)) for folder in folders)
    return [submission for submission in begun if submission is not None]


def wait_for(happened: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 400
    while not happened():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


def parents() -> dict[int, int]:
    """Parent of every process that has not ended, by process id."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                found[int(folder.name)] = int(parent)
    return found


def descendants(pid: int) -> list[int]:
    """Process ids of all that a process has started, directly or not."""
    found = [pid]
    for one in found:
        found += [child for child, parent in parents().items() if parent == one]
    return found[1:]


@dataclass(frozen=True)
class Killed:
    """A job that was killed when some rows were there and a pretraining was under way."""

    corpus: Path
    storage: Path
    rows: dict[str, tuple[int, bytes]]
    broken: list[Submission]
    """Pretrainings that had begun and not ended."""
    listed: str
    """What `--dry-run` said then."""
    after_list: Sequence[str]
    """Files of the storage that it left."""


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_both(tmp_path_factory.mktemp("corpus"), evaluated=("faced",))


@pytest.fixture(scope="module")
def killed(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Killed:
    folder = tmp_path_factory.mktemp("killed")
    storage, log = folder / "storage", folder / "log"
    with job(corpus, storage, log) as process:
        # Some rows are there and most are not; where there is room beside it, one pretrains.
        wait_for(
            lambda: len(row_files(storage)) >= 6 and len(pretrainings(storage)) >= 2, process, log
        )
        family = descendants(process.pid)
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait(timeout=30) == -signal.SIGKILL
    # A run that is under way may still write its row before the cluster has gone.
    deadline = time.monotonic() + 60
    while alive := set(family) & set(parents()):
        assert time.monotonic() < deadline, f"outlived the job: {alive}"
        time.sleep(0.05)
    left = row_files(storage)
    broken = [one for one in pretrainings(storage) if not driver.has_ended(one.folder, one.run)]
    before = files(storage)
    listed = here_without_cluster(*words(corpus, storage, "--dry-run"))
    new = [file for file in files(storage) if file not in before]
    return Killed(corpus, storage, left, broken, listed, new)


@pytest.fixture(scope="module")
def resumed(killed: Killed, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the job said when it was started again."""
    log = tmp_path_factory.mktemp("resumed") / "log"
    with job(killed.corpus, killed.storage, log) as process:
        assert process.wait(timeout=500) == 0, log.read_text()
    return log.read_text()


@pytest.fixture(scope="module")
def unbroken(
    ray_cluster: None, killed: Killed, resumed: str, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The storage of a job that nobody killed.

    Pretrainings that were not interrupted are taken over; test_driver.py looks at those.
    """
    storage = tmp_path_factory.mktemp("unbroken")
    broken = {submission.run.name for submission in killed.broken}
    for submission in pretrainings(killed.storage):
        if submission.run.name not in broken:
            shutil.copytree(submission.folder.root, storage / "runs" / submission.run.name)
    here(*words(killed.corpus, storage))
    return storage


def report(storage: Path, ending: str) -> Path:
    (folder,) = (storage / "reports").iterdir()
    assert folder.name.startswith("table3-rehearsal-")
    return folder / f"table3.{ending}"


def table(storage: Path) -> list[dict[str, str]]:
    with report(storage, "csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


# Killed and started again -------------------------------------------------------------------------


@pytest.mark.ray
@pytest.mark.slow
def test_rows_outlive_a_kill(killed: Killed) -> None:
    assert 6 <= len(killed.rows) < N_RUNS
    assert len(rows(killed.storage)) >= len(killed.rows)  # each of them is whole
    assert not (killed.storage / "reports").exists()


@pytest.mark.ray
@pytest.mark.slow
def test_a_dry_run_lists_what_is_missing_with_a_time_and_starts_nothing(killed: Killed) -> None:
    n_missing = N_RUNS - len(killed.rows)
    lines = killed.listed.splitlines()
    (total,) = [line for line in lines if "all, one after the other" in line]
    n_pretrainings = sum("pretraining emod-pretrain-" in line for line in lines)
    assert total.split()[5] == str(n_missing + n_pretrainings)
    assert len(killed.broken) <= n_pretrainings <= 2
    hours, minutes, seconds = map(int, total.split()[6].split(":"))
    assert 3600 * hours + 60 * minutes + seconds > 0
    # EMOD from scratch and pretrained are one model: rows tell how long it takes.
    (soft,) = [line for line in lines if line.startswith("EMOD-SoftVA on")]
    assert soft.split()[:3] == ["EMOD-SoftVA", "on", "faced"]
    assert soft.endswith("earlier runs")
    assert MARK in killed.listed
    assert max(map(len, lines)) <= WIDTH
    assert killed.after_list == []


@pytest.mark.ray
@pytest.mark.slow
def test_no_run_is_done_twice(killed: Killed, resumed: str) -> None:
    found = row_files(killed.storage)
    assert {name: found[name] for name in killed.rows} == killed.rows
    assert len(found) == N_RUNS
    there = f"{len(killed.rows)} of {N_RUNS} runs are there already"
    assert there in resumed
    assert f"{N_RUNS - len(killed.rows)} are missing" in resumed


@pytest.mark.ray
@pytest.mark.slow
def test_a_killed_job_ends_with_the_table_of_one_that_was_not(
    killed: Killed, resumed: str, unbroken: Path
) -> None:
    broken, whole = table(killed.storage), table(unbroken)
    assert len(whole) == len(ARMS) * len(PROTOCOLS) * 3
    for line in (*broken, *whole):
        assert float(line.pop("seconds_a_run")) > 0
        assert line["n"] == line["n_wanted"] == "2"
        assert line["n_failed"] == ""
    assert broken == whole
    # Not only the summary: every run, epoch by epoch.
    assert timeless(killed.storage) == timeless(unbroken)


def timeless(storage: Path) -> dict[str, ResultRow]:
    """Rows by key without what depends on the machine's mood."""
    at = "2026-01-02T03:04:05+00:00"
    return {
        key: replace(row, seconds=0.0, segments_per_s=0.0, waiting=0.0, finished=at)
        for key, row in rows(storage).items()
    }


@pytest.mark.ray
@pytest.mark.slow
def test_a_table_that_is_complete_is_shown_again_and_nothing_is_started(
    killed: Killed, resumed: str
) -> None:
    before = row_files(killed.storage)
    said = here_without_cluster(*words(killed.corpus, killed.storage))
    assert f"{N_RUNS} of {N_RUNS} runs are there already, 0 are missing." in said
    assert row_files(killed.storage) == before
    listed = here_without_cluster(*words(killed.corpus, killed.storage, "--dry-run"))
    (total,) = [line for line in listed.splitlines() if "all, one after the other" in line]
    assert total.split()[5:7] == ["0", "0:00:00"]


# What it shows ------------------------------------------------------------------------------------


@pytest.mark.ray
@pytest.mark.slow
def test_what_is_said_fits_and_says_that_nobody_was_recorded(killed: Killed, resumed: str) -> None:
    lines = resumed.splitlines()
    assert [line for line in lines if len(line) > WIDTH] == []
    assert MARK in resumed
    for arm in ARMS:
        assert arm in resumed
    for protocol in PROTOCOLS:
        assert protocol in resumed
    assert "62.87" in resumed  # EMOD on FACED, as published
    assert "Traceback" not in resumed


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("ending", ["html", "csv", "md", "tex"])
def test_every_format_holds_every_row_and_says_rehearsal(
    killed: Killed, resumed: str, ending: str
) -> None:
    text = report(killed.storage, ending).read_text()
    for arm in ARMS:
        assert arm in text
    assert "rehearsal data" in text
    assert len(text) > 2000
    if ending == "html":
        assert text.count("data:image/png;base64,") == len(pictures(killed.storage))


def pictures(storage: Path) -> list[Path]:
    return sorted(report(storage, "html").parent.glob("*.png"))


@pytest.mark.ray
@pytest.mark.slow
def test_pictures_show_something(killed: Killed, resumed: str) -> None:
    found = pictures(killed.storage)
    assert found
    for path in found:
        pixels = matplotlib.image.imread(path)
        assert min(pixels.shape[:2]) > 200, path
        colours = np.round(255 * pixels[::4, ::4, :3]).astype(int) @ (1 << 16, 1 << 8, 1)
        assert len(np.unique(colours)) > 20, path


@pytest.mark.ray
@pytest.mark.slow
def test_pretrained_arms_say_so_and_every_audit_is_what_its_protocol_admits(
    killed: Killed, resumed: str
) -> None:
    for line in table(killed.storage):
        scratch = line["method"] == "EMOD-Scratch"
        assert line["weights"] == ("from scratch" if scratch else "pretrained")
        clean = line["protocol"] == "subjects_and_stimuli_apart"
        assert line["audit"] == ("clean" if clean else "same stimuli")
        assert line["reference"] == ("" if scratch else "EMOD-Scratch")
    assert all(checkpoint.latest_whole(one.folder) for one in pretrainings(killed.storage))


# What cannot be -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "needed"),
    [
        (("--set", "pretrain.epohcs=3"), "need a field of Config, got 'epohcs'"),
        (("--set", "finetune"), "need name=value, got 'finetune'"),
        (("--datasets", "deap"), "need datasets among faced, seed_v, seed; got deap"),
        (("--protocols", "random"), "need protocols among"),
        (("--seeds", "1", "1"), "need one or more different seeds, got [1, 1]"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(
    corpus: Path, tmp_path: Path, more: tuple[str, ...], needed: str
) -> None:
    base = ("emod", "table3", "--corpus", str(corpus), "--storage", str(tmp_path))
    with pytest.raises(ValueError, match="^" + re.escape(needed)):
        here_without_cluster(*base, *more)
    assert files(tmp_path) == []


def test_what_has_no_ecg_is_refused_before_rehearsal_data_are_made(tmp_path: Path) -> None:
    asked = ("ssl_ecg", "table_dreamer", "--storage", str(tmp_path), "--datasets", "deap")
    with pytest.raises(ValueError, match="got deap, which has no ECG"):
        here_without_cluster(*asked)
    assert files(tmp_path) == []


def test_a_wrong_corpus_ends_with_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(JOB), *words(tmp_path / "none", tmp_path / "storage", "--dry-run")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(REPO), "COLUMNS": str(WIDTH)},
        timeout=120,
    )
    assert done.returncode == 1
    assert done.stdout == "Loading torch and Ray takes some seconds.\n"
    assert done.stderr == f"error: need a corpus at {tmp_path}/none, got no such folder\n"


def test_help_names_every_option_and_fits() -> None:
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said):
        patch.setenv("COLUMNS", str(WIDTH))
        with pytest.raises(SystemExit):
            parsed("--help")
    found = set(said.getvalue().replace(",", " ").split())
    named = [*fields(Reproduce), *fields(Where)]
    names = {field.name for field in named} - {"paper", "table", "where"}
    assert {f"--{name.replace('_', '-')}" for name in names} <= found
    # A paragraph is one line, which the window wraps; boxes are drawn and must fit.
    drawn = [line for line in said.getvalue().splitlines() if not line[:1].isalpha()]
    assert len(drawn) > len(names)
    assert max(map(len, drawn)) <= WIDTH
