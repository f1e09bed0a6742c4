"""Runs on Ray: killed workers, killed drivers, other numbers of workers, and what runs leave."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from emoray.batches.plans import Plan
from emoray.corpus.read import open_corpus
from emoray.experiments import pretraining
from emoray.methods.emod.config import Config, EncoderConfig
from emoray.runtime.config import to_dict
from emoray.runtime.storage import Storage
from emoray.training import checkpoint, driver
from emoray.training.data import open_data
from emoray.training.execute import check_code, code_of
from emoray.training.run import Execution, Run, Submission
from tests.corpora import write_corpus
from tests.disks import full_disk
from tests.processes import below_us, left_after

REPO = Path(__file__).parents[2]
TINY = Config(
    encoder=EncoderConfig(d_model=8, n_heads=2, n_layers=1, d_feedforward=16),
    epochs=10,
    rounds_per_step=2,
)
EVERY = 7
"""Steps between checkpoints: no divisor of an epoch's five, so that kills fall in mid-epoch."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


def submitted(corpus: Path, storage: Path, name: str, **execution: Any) -> Submission:
    opened = open_corpus(corpus)
    run = Run(
        method="emod",
        stage="pretrain",
        config=to_dict(TINY),
        corpus=str(corpus),
        builds={f: d for dataset in opened.datasets for f, d in dataset.builds.items()},
        held_out=pretraining.held_out_of(opened, fraction=0.0, seed=0),
        code=code_of("emod", opened.names, "corpus"),
        name=name,
    )
    usual = {"n_workers": 2, "cpus_per_worker": 1.0, "checkpoint_every": EVERY}
    return Submission(run, str(storage), Execution(**{**usual, **execution}))


def moved(submission: Submission, storage: Path, name: str = "", **execution: Any) -> Submission:
    """The same run in another place, under another name, on other means."""
    run = replace(submission.run, name=name or submission.run.name)
    how = replace(submission.execution, **execution)
    return Submission(run, str(storage), how)


def with_run(submission: Submission, **changes: Any) -> Submission:
    """Another run."""
    return replace(submission, run=replace(submission.run, **changes))


def longer(submission: Submission) -> Submission:
    """The same for some ten seconds, where a node's loss must first be arranged."""
    return with_run(submission, config=to_dict(replace(TINY, epochs=6 * TINY.epochs)))


def plan_of(submission: Submission) -> Plan:
    found = open_data(submission.run)
    return found.plan(found.stage())


def run(submission: Submission) -> str:
    """Run to the end; returns what the console said."""
    said = io.StringIO()
    driver.check(submission, plan_of(submission))
    driver.start(submission, plan_of(submission))
    console = Console(file=said, width=100)
    driver.fit(submission, open_data(submission.run), console=console)
    return said.getvalue()


def last_state(folder: Storage) -> checkpoint.State:
    return checkpoint.load(Path(driver.last_checkpoint(folder)))


def assert_same_end(first: checkpoint.State, second: checkpoint.State) -> None:
    assert first.step == second.step
    assert first.history["loss"] == second.history["loss"]
    for name, weights in first.model.items():
        assert torch.equal(weights, second.model[name]), name


@pytest.fixture(scope="module")
def unbroken(
    ray_cluster: None, corpus: Path, tmp_path_factory: pytest.TempPathFactory
) -> Submission:
    """Two workers, nobody killed."""
    request = submitted(corpus, tmp_path_factory.mktemp("runs"), "unbroken")
    run(request)
    return request


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize(
    ("title", "told"),
    [
        ("ray::RayTrainWorker", "a worker was lost"),
        ("ray::TrainController", "Ray Train's controller was lost"),
        ("ray::Board", ""),
    ],
)
def test_a_process_killed_in_mid_epoch_changes_nothing(
    unbroken: Submission, tmp_path: Path, title: str, told: str
) -> None:
    request = moved(unbroken, tmp_path, "killed")
    killer = threading.Thread(
        target=kill_when, args=(lambda: reached(request, 2 * EVERY), partial(below_us, title))
    )
    killer.start()
    said = run(request)
    killer.join()
    assert told in said
    assert ("; next try in 1 s" in said) is bool(told)
    assert ("the run goes on from step" in said) is bool(told)
    assert_same_end(last_state(unbroken.folder), last_state(request.folder))


@pytest.fixture(scope="module")
def broken(unbroken: Submission, tmp_path_factory: pytest.TempPathFactory) -> Submission:
    """Given up in mid-epoch, after the loss of a worker."""
    request = moved(unbroken, tmp_path_factory.mktemp("broken"), "broken", max_failures=0)
    victims = partial(below_us, "ray::RayTrainWorker")
    killer = threading.Thread(target=kill_when, args=(lambda: reached(request, 3 * EVERY), victims))
    killer.start()
    with pytest.raises(driver.RunError, match=r"a worker was lost.*; that was fault 1 in a row"):
        run(request)
    killer.join()
    return moved(request, Path(request.storage), max_failures=7)


@pytest.mark.ray
@pytest.mark.slow
def test_a_run_goes_on_from_its_last_whole_checkpoint(
    unbroken: Submission, broken: Submission, tmp_path: Path
) -> None:
    request = moved(broken, tmp_path / "runs")
    shutil.copytree(broken.folder.root, request.folder.root)
    went_on_from = last_state(request.folder).step
    cut_off = Path(request.folder.path("step-00000048"))
    shutil.copytree(driver.last_checkpoint(request.folder), cut_off)
    (cut_off / checkpoint.STATE_FILE).write_bytes(b"PK")
    said = run(request)
    assert f"the run goes on from step {went_on_from}" in said
    assert_same_end(last_state(unbroken.folder), last_state(request.folder))
    names = [name for name in request.folder.folders() if name.startswith("step-")]
    assert names == ["step-00000049", "step-00000050"]


@pytest.mark.ray
@pytest.mark.slow
def test_a_full_disk_ends_the_run_by_the_path_that_did_not_fit(
    ray_cluster: None, corpus: Path, tmp_path: Path
) -> None:
    with full_disk(tmp_path / "disk", free_bytes=60_000) as disk:
        request = submitted(corpus, disk / "runs", "full")
        with pytest.raises(driver.RunError) as raised:
            run(request)
    said = str(raised.value)
    assert "\n" not in said
    place = re.escape(request.folder.path("step-00000007/state.pt"))
    assert re.search(rf"cannot write {place}, which needs [\d,]+ bytes: .*; [\d,]+ are free", said)


@pytest.mark.ray
@pytest.mark.slow
def test_a_killed_driver_is_resumed_to_the_same_end_on_any_number_of_workers(
    unbroken: Submission, tmp_path: Path
) -> None:
    request = moved(unbroken, tmp_path / "runs", "killed")
    with job(request, "--name", request.run.name) as process:
        wait_for(lambda: reached(request, 2 * EVERY))
        os.kill(process.pid, signal.SIGKILL)
        process.wait(timeout=30)
    broken_at = last_state(request.folder).step
    assert 0 < broken_at < len(last_state(unbroken.folder).history["loss"])
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-a", tmp_path / "runs", copy], check=True)
    with job(request, "--resume", request.run.name) as process:
        assert process.wait(timeout=240) == 0, output_of(process)
    assert_same_end(last_state(unbroken.folder), last_state(request.folder))
    # The copy goes on with one worker: same batches, same losses to rounding.
    alone = moved(request, copy, n_workers=1)
    run(alone)
    one, two = last_state(alone.folder), last_state(unbroken.folder)
    assert one.history["loss"] == pytest.approx(two.history["loss"], rel=1e-4)
    assert one.history["loss"][:broken_at] == two.history["loss"][:broken_at]


@pytest.mark.ray
@pytest.mark.slow
def test_a_stopped_job_says_the_command_that_goes_on_to_the_same_end(
    unbroken: Submission, tmp_path: Path
) -> None:
    """As SLURM stops one: the signal goes to all of its processes."""
    request = moved(unbroken, tmp_path / "runs", "stopped")
    with job(request, "--name", request.run.name) as process:
        wait_for(lambda: reached(request, 2 * EVERY))
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(timeout=30) == 143, output_of(process)
        assert left_after(process.pid, 1.0) == {}
    (*before, last) = output_of(process).splitlines()
    assert not [line for line in before if "SIGTERM" in line or "(raylet)" in line]
    command = shlex.split(last.removeprefix("stopped; go on with: python"))
    assert command[1:3] == ["--resume", "stopped"]
    again = subprocess.run(
        [sys.executable, *command],
        env={k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        | {"PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert again.returncode == 0, again.stderr
    assert_same_end(last_state(unbroken.folder), last_state(request.folder))


@pytest.mark.ray
def test_a_run_says_what_it_was_and_saw(unbroken: Submission) -> None:
    folder = Path(driver.last_checkpoint(unbroken.folder))
    facts = checkpoint.describe(folder)
    assert facts["rehearsal"] is True
    assert facts["config"] == to_dict(TINY)
    assert set(facts["seen"]) == {"made_a", "made_b"}
    assert set(facts["seen"]["made_a"]) == {"01", "02", "03"}
    assert len(facts["seen"]["made_a"]["01"]) == 30
    occupancy = json.loads(unbroken.folder.read(driver.OCCUPANCY_FILE) or b"")
    assert occupancy["datasets"]["made_b"]["drawn"] == [0, 0, 0, 3000, 3000, 3000, 0, 0, 0]


@pytest.mark.ray
def test_read_out_and_summary_say_that_they_are_of_rehearsal_data(
    unbroken: Submission, tmp_path: Path
) -> None:
    request = with_run(
        moved(unbroken, tmp_path, "short", n_workers=1),
        config=to_dict(replace(TINY, epochs=2)),
        held_out={"made_a": ("01",), "made_b": ("02",)},
    )
    run(request)
    found = open_data(request.run)
    said = io.StringIO()
    scores = pretraining.compare_on_held_out(request, console=Console(file=said, width=100))
    assert scores["pretrained"]["scores"]["valence"]["n"] == 48  # two people of 30 segments
    assert scores["pretrained"]["scores"]["valence"]["people"]["n_people"] == 2
    assert "read-out  288/288 segments" in said.getvalue()  # two arms of six people
    places = pretraining.finish(
        request, found, plan_of(request), scores, loss_png=lambda *a, **k: b"", seconds=1
    )
    summary = json.loads(Path(places["summary"]).read_text())
    assert summary["rehearsal"] is True
    assert summary["held_out_doubts"] == []
    n_steps = 2 * plan_of(request).n_steps
    assert len(Path(places["every step"]).read_text().splitlines()) == n_steps + 1


def test_another_run_of_the_same_name_is_refused(corpus: Path, tmp_path: Path) -> None:
    request = submitted(corpus, tmp_path, "taken")
    plan = plan_of(request)
    driver.start(request, plan)
    other = with_run(request, config=to_dict(replace(TINY, epochs=2)))
    with pytest.raises(ValueError, match=r"another run of the name 'taken'.*--resume"):
        driver.check(other, plan)
    driver.check(moved(request, tmp_path, n_workers=1), plan)


def test_a_run_that_other_code_began_is_not_gone_on_with(corpus: Path, tmp_path: Path) -> None:
    """Its losses would be of two versions; a name for it is not offered as one to resume."""
    request = submitted(corpus, tmp_path, "older")
    older = with_run(request, code="0.1.0+000000000000")
    driver.start(older, plan_of(request))
    with pytest.raises(ValueError, match=r"begun by other code \(0\.1\.0\+0+\).* choose another"):
        driver.check(request, plan_of(request))
    with pytest.raises(ValueError, match=r"need the code .* did an earlier one begin it\?"):
        check_code(older.run)


def test_what_another_version_wrote_down_is_refused_in_words(corpus: Path, tmp_path: Path) -> None:
    request = submitted(corpus, tmp_path, "older")
    request.folder.write_bytes(driver.SUBMISSION_FILE, b'{"name": "older", "config": {}}')
    with pytest.raises(ValueError, match="got another version's: choose another name"):
        driver.check(request, plan_of(request))


def test_workers_that_do_not_divide_the_rounds_are_refused_before_anything_starts(
    corpus: Path, tmp_path: Path
) -> None:
    request = submitted(corpus, tmp_path, "three", n_workers=3)
    with pytest.raises(ValueError, match=r"divides the 2 rounds of a step \(1, 2\), got 3"):
        driver.check(request, plan_of(request))
    assert not request.folder.exists()


def test_a_run_does_not_go_on_with_another_corpus(corpus: Path, tmp_path: Path) -> None:
    request = submitted(corpus, tmp_path / "runs", "moved")
    other = write_corpus(tmp_path / "corpus", seed=1)
    with pytest.raises(ValueError, match=r"need the segments that run 'moved' was started on"):
        open_data(replace(request.run, corpus=str(other)))


@pytest.mark.ray
def test_a_damaged_shard_ends_the_run_at_once_and_by_its_name(
    ray_cluster: None, tmp_path: Path
) -> None:
    request = submitted(write_corpus(tmp_path / "corpus"), tmp_path / "runs", "damaged")
    shard = next((tmp_path / "corpus").glob("made_b-*/shards/made_b-s02-v1.arrow"))
    damaged = bytearray(shard.read_bytes())
    damaged[-2000] ^= 1
    shard.write_bytes(damaged)
    began = time.monotonic()
    with pytest.raises(driver.RunError, match=r"made_b-s02-v1\.arrow: need SHA-256"):
        run(request)
    assert time.monotonic() - began < 60
    assert checkpoint.latest_whole(request.folder) is None


@pytest.mark.ray
def test_the_readmes_lines_use_the_encoder(unbroken: Submission) -> None:
    readme = (REPO / "README.md").read_text()
    (block,) = [part.split("```")[0] for part in readme.split("```python\n")[1:]]
    places = {
        "~/emoray/runs/NAME/step-00027800": driver.last_checkpoint(unbroken.folder),
        "~/emoray/corpus": unbroken.run.corpus,
        "deap": "made_a",
    }
    for written, here in places.items():
        assert written in block
        block = block.replace(written, here)
    found: dict[str, object] = {}
    exec(compile(block, "README.md", "exec"), found)
    assert found["embeddings_NZ"].shape == (90, 8)  # type: ignore[attr-defined]


def test_a_run_that_is_not_there_cannot_be_resumed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere: need a run to resume"):
        driver.stored_submission(Storage.at(tmp_path / "nowhere"))


def test_a_submission_survives_json(corpus: Path, tmp_path: Path) -> None:
    request = submitted(corpus, tmp_path, "one", gather="cluster")
    request = with_run(request, held_out={"made_a": ("01",), "made_b": ()})
    assert Submission.from_json(json.loads(json.dumps(request.to_json()))) == request


# --- killing ------------------------------------------------------------------------------------


def reached(request: Submission, step: int) -> bool:
    """Whether the run has registered a checkpoint of this step or a later one."""
    names = [name for name in request.folder.folders() if name.startswith("step-")]
    return any(int(name.removeprefix("step-")) >= step for name in names)


def wait_for(happened: Callable[[], bool], *, timeout_s: float = 120) -> None:
    deadline = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def kill_when(happened: Callable[[], bool], victims: Callable[[], list[int]]) -> None:
    wait_for(happened)
    os.kill(victims()[-1], signal.SIGKILL)


class job:
    """The main job in a process of its own, with a cluster of its own."""

    def __init__(self, request: Submission, *words: str) -> None:
        storage = str(Path(request.storage).parent)
        options = ["--storage", storage, "--address", "local", "--cpus-per-worker", "1"]
        if "--resume" not in words:
            options += [
                *("--corpus", request.run.corpus, "--held-out", "0", "--workers", "2"),
                *("--datasets", *request.run.builds),
                *("--checkpoint-every", str(EVERY), "--epochs", str(TINY.epochs)),
                *("--rounds-per-step", "2", "--encoder.d-model", "8", "--encoder.n-heads", "2"),
                *("--encoder.n-layers", "1", "--encoder.d-feedforward", "16"),
            ]
        log = Path(storage, f"{words[0].strip('-')}.log")
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = log.open("w")
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        self._process = subprocess.Popen(
            [sys.executable, str(REPO / "jobs/pretrain_emod.py"), *options, *words],
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={**environment, "PYTHONPATH": str(REPO)},
            start_new_session=True,
        )
        self._process.log = log  # type: ignore[attr-defined]

    def __enter__(self) -> subprocess.Popen[bytes]:
        return self._process

    def __exit__(self, *error: object) -> None:
        self._log.close()
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)


def output_of(process: subprocess.Popen[bytes]) -> str:
    return str(process.log.read_text())  # type: ignore[attr-defined]
