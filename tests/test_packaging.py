"""What travels and what is installed: the job's folder stays small, the pins are the whole set."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from ray._private.ray_constants import get_runtime_env_default_excludes
from ray._private.runtime_env.packaging import create_package

REPO = Path(__file__).parents[1]
PACKAGE = REPO / "emoray"
MB = 1_000_000
HEAVY = (".venv/lib/torch.so", "runs/r1/checkpoint.pt", "corpus_cache/deap/x.arrow", "data/s01.dat")
"""Files that lie in a working copy after some use, none of which a job needs."""
LEFT_OUT = (".venv", ".git", "runs", "data", "corpus_cache", ".*_cache", ".hypothesis")
"""Not copied for the test, because they may be large; `HEAVY` stands for them."""
NEEDED = (
    *(
        "emoray/runtime/cluster.py",
        "emoray/vocabulary/affect.py",
        "emoray/datasets/__init__.py",
        "pyproject.toml",
    ),
    *("constraints.txt", "jobs/pretrain_emod.py"),
)


@pytest.fixture(scope="module")
def packaged(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """What `ray job submit --working-dir .` uploads from a copy of this folder after some use."""
    folder = tmp_path_factory.mktemp("working") / "emoray"
    shutil.copytree(REPO, folder, ignore=shutil.ignore_patterns(*LEFT_OUT))
    for name in HEAVY:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with (folder / name).open("wb") as file:
            file.truncate(50 * MB)
    (folder / ".git").mkdir()
    (folder / ".git" / "packed").write_bytes(bytes(MB))
    target = folder.parent / "package.zip"
    create_package(
        str(folder),
        target,
        include_gitignore=True,
        excludes=get_runtime_env_default_excludes(),
    )
    return zipfile.ZipFile(target)


def test_a_jobs_folder_is_uploaded_in_less_than_five_megabytes(packaged: zipfile.ZipFile) -> None:
    assert sum(file.file_size for file in packaged.infolist()) < 5 * MB


def test_no_run_no_data_no_history_travels(packaged: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in packaged.namelist()}
    assert not tops & {".git", ".venv", "runs", "data", "corpus_cache"}
    assert not [name for name in packaged.namelist() if "__pycache__" in name]


@pytest.mark.parametrize("name", NEEDED)
def test_what_a_job_needs_travels(packaged: zipfile.ZipFile, name: str) -> None:
    assert name in packaged.namelist()


def test_every_file_of_the_package_travels(packaged: zipfile.ZipFile) -> None:
    """An entry of .gitignore must not hit a room (`data/`, `build/`)."""
    sources = {
        str(p.relative_to(REPO))
        for p in (REPO / "emoray").rglob("*")
        if p.is_file() and "__pycache__" not in p.parts
    }
    assert sources <= set(packaged.namelist())


# Pins and package data ----------------------------------------------------------------------------


def test_every_requirement_is_pinned_to_a_version_it_allows() -> None:
    pinned = pins()
    assert not {str(r) for r in direct() if pinned.get(folded(r.name)) not in r.specifier}


def test_what_they_require_is_pinned_as_well() -> None:
    brought_by_the_environment = {"setuptools"}
    assert not closure(direct()) - pins().keys() - brought_by_the_environment


def pins() -> dict[str, str]:
    lines = (REPO / "constraints.txt").read_text().splitlines()
    found = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    return {folded(name): version for name, version in found.items()}


def folded(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def direct() -> list[Requirement]:
    """Requirements of the project with the extra `test`, which names further ones of its own."""
    table = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    found = [Requirement(r) for r in table["dependencies"]]
    extras = ["test"]
    for extra in extras:
        for requirement in map(Requirement, table["optional-dependencies"][extra]):
            if requirement.name == table["name"]:
                extras += sorted(requirement.extras - set(extras))
            else:
                found.append(requirement)
    return found


def test_the_baselines_are_tested_too() -> None:
    assert "braindecode" in {requirement.name for requirement in direct()}


def closure(requirements: list[Requirement]) -> set[str]:
    """Names of all packages that these lead to, as the installed ones declare it."""
    seen: set[tuple[str, str]] = set()
    queue = [(r.name, extra) for r in requirements for extra in ("", *r.extras)]
    while queue:
        name, extra = queue.pop()
        if (folded(name), extra) in seen:
            continue
        seen.add((folded(name), extra))
        found = [Requirement(text) for text in metadata.requires(name) or ()]
        needed = [r for r in found if r.marker is None or r.marker.evaluate({"extra": extra})]
        queue += [(r.name, further) for r in needed for further in ("", *r.extras)]
    return {name for name, _ in seen}


def test_files_beside_the_code_are_installed_with_it() -> None:
    setuptools = tomllib.loads((REPO / "pyproject.toml").read_text())["tool"]["setuptools"]
    declared = {p for glob in setuptools["package-data"]["emoray"] for p in PACKAGE.glob(glob)}
    beside = {p for p in PACKAGE.rglob("*") if p.is_file() and p.suffix not in {".py", ".pyc"}}
    assert not beside - declared


# The two commands ---------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder in which everything is installed, as far as make can tell."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(REPO / name, tmp_path)
        os.utime(tmp_path / name, (time.time() - 60,) * 2)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    for seconds, name in enumerate(("bin/python", ".installed", ".installed-test")):
        (tmp_path / ".venv" / name).touch()
        os.utime(tmp_path / ".venv" / name, (time.time() - 10 + seconds,) * 2)
    return tmp_path


def make(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["make", "-C", str(folder), *arguments], capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


def test_a_second_call_does_not_install_again(checkout: Path) -> None:
    assert "pip install" not in make(checkout, "-n", "demo")
    assert "pip install" not in make(checkout, "-n", "test")


@pytest.mark.parametrize("changed", ["pyproject.toml", "constraints.txt"])
def test_changed_requirements_are_installed_again(checkout: Path, changed: str) -> None:
    os.utime(checkout / changed)
    assert "-c constraints.txt -e ." in make(checkout, "-n", "demo")
    assert "-c constraints.txt -e '.[test]'" in make(checkout, "-n", "test")


def test_the_demo_runs_the_main_job_without_arguments(checkout: Path) -> None:
    assert make(checkout, "-n", "-s", "demo").strip() == ".venv/bin/python jobs/pretrain_emod.py"


def test_everything_is_checked_and_the_cheapest_first(checkout: Path) -> None:
    said = make(checkout, "-n", "-s", "test")
    steps = ("ruff check", "ruff format --check", "mypy", "not slow and not ray", "slow or ray")
    places = [said.index(step) for step in steps]
    assert places == sorted(places)


def test_a_python_that_is_too_old_is_refused_in_words(checkout: Path) -> None:
    shutil.rmtree(checkout / ".venv")
    old = checkout / "python3.8"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.8.1\nexit 1\n')
    old.chmod(0o755)
    said = make(checkout, f"PYTHON={old}", "install")
    assert f"need Python 3.11 or newer, got: {old} Python 3.8.1" in said
