from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from emoray.corpus.build.build import BuildReport
from emoray.experiments.options import Build
from emoray.jobs import build_corpus

JOB = Path(__file__).parents[2] / "jobs" / "build_corpus.py"


def _run(*arguments: object, storage: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(JOB), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(JOB.parents[1]), "COLUMNS": "100"}
    if storage is not None:
        environment["EMORAY_STORAGE"] = str(storage)
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, timeout=300
    )


def test_help_explains_every_option() -> None:
    text = re.sub(r"[│\s]+", " ", _run("--help").stdout)
    for option in (
        *("--out", "--datasets", "--streams", "--on-error", "--check", "--quick", "--band-low-hz"),
        *("--segment-s", "--ecg.segment-s", "--ecg.highpass-hz"),
    ):
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


@pytest.mark.ray
def test_without_out_the_corpus_lies_in_the_storage_root(
    tiny_release: Path, tiny_corpus_path: Path, tmp_path: Path
) -> None:
    (tmp_path / "corpus").symlink_to(tiny_corpus_path)
    recipe = ("--ica", "none", "--segment-s", "2.0")
    # Nothing is to be done, so nobody asks whether a cluster answers at the address.
    done = _run(tiny_release, *recipe, "--address", "127.0.0.1:1", storage=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"segments in {tmp_path}/corpus; nothing was to be done" in done.stdout


@pytest.mark.parametrize("mode", ["--check", "--out"])
def test_a_cluster_that_does_not_answer_ends_with_one_line(
    tiny_release: Path, tmp_path: Path, mode: str
) -> None:
    out = (mode, tmp_path) if mode == "--out" else (mode,)
    done = _run(tiny_release, *out, "--address", "127.0.0.1:1")
    assert done.returncode == 1
    need = "nothing answers at 127.0.0.1:1 (address): is the cluster running?"
    assert done.stderr == f"error: {need}\n"


@pytest.mark.parametrize("shared", [False, True])
def test_folders_that_other_nodes_do_not_see_keep_the_build_on_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    seen: dict[str, Any] = {}

    def build(root: Path, out: str, **options: Any) -> BuildReport:
        seen.update(options)
        options["connect"]()
        return BuildReport(out, (), 0.0, 0.0, 0)

    def storage_root(out: str, *, shared: bool) -> None:
        seen["storage"] = (out, shared)

    monkeypatch.setattr(build_corpus, "build", build)
    monkeypatch.setattr(
        "emoray.runtime.cluster.connect", lambda address: seen.update(address=address)
    )
    monkeypatch.setattr("emoray.runtime.cluster.storage_root", storage_root)
    asked = Build(tmp_path, out="c", shared_storage=shared, address="10.0.0.1:6379")
    assert build_corpus.run(asked) == 0
    assert seen["here"] is not shared
    assert (seen["address"], seen["storage"]) == ("10.0.0.1:6379", ("c", shared))


def test_a_wrong_folder_ends_with_one_line(tmp_path: Path) -> None:
    done = _run(tmp_path / "none", "--out", tmp_path / "out")
    assert done.returncode == 1
    assert (
        done.stderr == f"error: need a folder of datasets at {tmp_path}/none, got no such folder\n"
    )


def test_a_recipe_comes_from_a_file_or_from_options(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text('[exceptions.faced]\nica = "none"\n')
    file = ("--recipe-file", tmp_path / "recipe.toml", "--out", tmp_path / "out")
    assert "need a folder of datasets" in _run(tmp_path / "none", *file).stderr
    both = _run(tmp_path / "none", *file, "--ica", "none")
    assert both.stderr == "error: need either --recipe-file or recipe options, got both\n"
    (tmp_path / "recipe.toml").write_text("band_lov_hz = 1.0\n")
    assert "band_lov_hz" in _run(tmp_path / "none", *file).stderr
