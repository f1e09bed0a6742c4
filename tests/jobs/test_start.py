"""A job answers `--help`, or a wrong option, before it loads what takes seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
JOBS = sorted((REPO / "jobs").glob("*.py"))
HEAVY = ("torch", "ray", "scipy", "sklearn", "mne", "matplotlib", "pandas", "pyarrow")
"""What working takes; to read options takes none of it."""
WRONG = {"build_corpus": ("data", "--nonsense"), "reproduce": ("emod", "table3", "--nonsense")}
TIMES_TYRO = 6.0
"""Most CPU seconds of an answer, in those of importing the parser alone; 3 to 4 on two machines, 15
to 40 when jobs loaded all they need first. A ratio, because machines differ."""

LOADED = """
import json, runpy, sys
job, *words = sys.argv[1:]
sys.argv = [job, *words]
try:
    runpy.run_path(job, run_name="__main__")
except SystemExit as ended:
    print("\\n" + json.dumps([ended.code, sorted({name.split(".")[0] for name in sys.modules})]))
"""


def answer(job: Path, *words: str) -> tuple[object, set[str]]:
    """How a job ends, and the libraries that it has loaded by then."""
    done = python("-c", LOADED, str(job), *words)
    code, loaded = json.loads(done.stdout.splitlines()[-1])
    return code, set(loaded)


def python(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    return subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, check=False, env=environment
    )


def test_there_are_jobs() -> None:
    assert {"pretrain_emod", "build_corpus"} <= {job.stem for job in JOBS}


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.stem)
def test_help_loads_nothing_heavy(job: Path) -> None:
    code, loaded = answer(job, "--help")
    assert code == 0
    assert not loaded & set(HEAVY)


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.stem)
def test_a_wrong_option_is_refused_before_anything_heavy_is_loaded(job: Path) -> None:
    code, loaded = answer(job, *WRONG.get(job.stem, ("--nonsense",)))
    assert code == 2
    assert not loaded & set(HEAVY)


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.stem)
def test_help_takes_hardly_longer_than_to_load_its_parser(job: Path) -> None:
    bare = min(cpu_seconds("-c", "import tyro") for _ in range(3))
    took = min(cpu_seconds(str(job), "--help") for _ in range(3))
    assert took < TIMES_TYRO * bare


@pytest.mark.parametrize(
    ("module", "unused"),
    [
        ("emoray.training.progress", {"torch", "tensorboard"}),
        ("emoray.training.driver", {"sklearn", "matplotlib", "tensorboard", "mne", "scipy"}),
        ("emoray.jobs.early", {"torch", "sklearn", "pandas", "mne", "scipy"}),
        ("emoray.corpus.build", {"ray", "torch", "sklearn", "matplotlib"}),
    ],
)
def test_a_process_loads_only_what_it_uses(module: str, unused: set[str]) -> None:
    """The board that carries rows, a worker's training, a job's start, a build that is finished."""
    program = f"import sys, {module}; print(*{{name.split('.')[0] for name in sys.modules}})"
    assert not unused & set(python("-c", program).stdout.split())


def cpu_seconds(*words: str) -> float:
    """Of a Python process: unlike seconds, hardly more where others use the machine too."""
    before = os.times()
    assert python(*words).returncode == 0
    after = os.times()
    return sum(after[2:4]) - sum(before[2:4])
