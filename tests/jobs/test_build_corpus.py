from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

JOB = Path(__file__).parents[2] / "jobs" / "build_corpus.py"


def _run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(JOB), *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=_environment(), timeout=300
    )


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(JOB.parents[1]), "COLUMNS": "100"}


def test_help_explains_every_option() -> None:
    text = re.sub(r"[│\s]+", " ", _run("--help").stdout)
    for option in ("--out", "--datasets", "--on-error", "--check", "--quick", "--band-low-hz"):
        assert option in text
    assert "Upper edge of the band-pass, Hz. Paper: 49. (default: 49.0)" in text


def test_a_check_by_names_prints_the_table_and_tells_what_is_missing(tiny_release: Path) -> None:
    done = _run("--check", tiny_release, "--quick", "--datasets", "seed")
    assert done.returncode == 1  # two of fifteen subjects
    assert "seed*" in done.stdout
    assert "2/15" in done.stdout
    assert "missing subject 03" in done.stdout


@pytest.mark.ray
def test_a_finished_build_says_where_it_lies_and_that_nothing_was_to_be_done(
    tiny_release: Path, tiny_corpus_path: Path
) -> None:
    recipe = ("--ica", "none", "--segment-s", "2.0")
    done = _run(tiny_release, "--out", tiny_corpus_path, *recipe)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"segments in {tiny_corpus_path}; nothing was to be done" in done.stdout
    assert "seed (rehearsal data)" in done.stdout


def test_a_wrong_folder_ends_with_one_line(tmp_path: Path) -> None:
    done = _run(tmp_path / "none", "--out", tmp_path / "out")
    assert done.returncode == 1
    assert (
        done.stderr == f"error: need a folder of datasets at {tmp_path}/none, got no such folder\n"
    )


def test_a_recipe_comes_from_a_file_or_from_options(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text('[exceptions.faced]\nica = "none"\n')
    file = ("--recipe-file", tmp_path / "recipe.toml")
    assert "need a folder of datasets" in _run(tmp_path / "none", *file).stderr
    both = _run(tmp_path / "none", *file, "--ica", "none")
    assert both.stderr == "error: need either --recipe-file or recipe options, got both\n"
    (tmp_path / "recipe.toml").write_text("band_lov_hz = 1.0\n")
    assert "band_lov_hz" in _run(tmp_path / "none", *file).stderr
