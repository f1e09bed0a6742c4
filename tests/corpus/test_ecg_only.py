"""A dataset of ECG alone, in one file that nothing else knows of, on its way into a corpus."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from emoray import datasets
from emoray.corpus.build.build import BuildReport, build
from emoray.corpus.manifest import INDEX, MANIFEST, PARTS
from emoray.corpus.read import CorpusDataset, open_corpus
from emoray.rehearsal.world import World
from emoray.runtime.storage import Storage
from emoray.signals import EcgRecipe
from emoray.vocabulary.schema import DataError
from tests.corpus.in_process import in_process
from tests.ecg_only import LEADS, N_CLIPS, N_SUBJECTS, NAME, SEGMENT_S, SFREQ, known, write_example

JOB = Path(__file__).parents[2] / "jobs" / "build_corpus.py"
N_SEGMENTS = N_SUBJECTS * N_CLIPS * 2


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of datasets with this one in it."""
    root = tmp_path_factory.mktemp("data")
    with known(tmp_path_factory.mktemp("own")):
        write_example(root)
        yield root


@pytest.fixture(scope="module")
def corpus(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`root` built in this process; not to be written to."""
    out = tmp_path_factory.mktemp("corpus")
    with in_process():
        report = _build(root, out)
    assert [(row.name, row.stream, row.n_segments) for row in report.datasets] == [
        (NAME, "ecg", N_SEGMENTS)
    ]
    return out


@pytest.fixture
def opened(corpus: Path, tmp_path: Path) -> CorpusDataset:
    return open_corpus(corpus, stream="ecg", cache_dir=tmp_path / "cache")[NAME]


def _build(root: Path, out: Path | Storage, ecg: EcgRecipe | None = None) -> BuildReport:
    return build(root, out, ecg=ecg, progress=False)


def test_its_segments_are_what_its_files_hold(root: Path, opened: CorpusDataset) -> None:
    assert (opened.channels, opened.sfreq) == (LEADS, SFREQ)
    ecg_NLT = opened.gather([0, N_SEGMENTS - 1])
    assert ecg_NLT.shape == (2, len(LEADS), round(SFREQ * SEGMENT_S))
    assert np.isfinite(ecg_NLT).all()
    # But for the wander that is gone and the scale, a segment is the file's.
    read = datasets.get(NAME).read(root / NAME, datasets.get(NAME).find(root / NAME).recordings[0])
    raw_LT = read.stretches[0].ecg_LT
    assert raw_LT is not None
    steps = (np.diff(x_T) for x_T in (ecg_NLT[0, 0], raw_LT[0, : ecg_NLT.shape[2]]))
    assert np.corrcoef(*steps)[0, 1] > 0.99


def test_its_ratings_place_it_and_stand_in_the_index(opened: CorpusDataset) -> None:
    planted = World(0).rating(NAME, 1, "01")
    np.testing.assert_allclose(opened.va_S2[0], planted, atol=0.5 + 1e-6)  # ratings are whole
    for axis, name in enumerate(("valence", "arousal")):
        np.testing.assert_allclose(opened.column(f"rating_{name}"), opened.va_S2[:, axis] + 5)
    assert "rating_dominance" in opened.index.column_names


def test_a_build_says_which_code_made_it(opened: CorpusDataset) -> None:
    assert opened.manifest.code.startswith("0.1.0+")
    assert opened.manifest.stream == "ecg"


def test_building_it_again_does_nothing_and_another_recipe_lies_beside(
    root: Path, corpus: Path, tmp_path: Path
) -> None:
    assert _build(root, corpus).n_built == 0
    other = EcgRecipe(segment_s=5.0)
    with in_process():
        for recipe in (None, other):
            assert _build(root, tmp_path, recipe).n_built == N_SUBJECTS
    with pytest.raises(DataError, match="need one build of chest"):
        open_corpus(tmp_path, stream="ecg")
    lengths = [
        open_corpus(tmp_path, stream="ecg", recipe=recipe)[NAME].n_times
        for recipe in (EcgRecipe(), other)
    ]
    assert lengths == [round(SFREQ * 10), round(SFREQ * 5)]


def test_it_has_no_eeg_to_build_or_open(root: Path, corpus: Path, tmp_path: Path) -> None:
    for names in (None, [NAME]):
        with pytest.raises(ValueError, match="need datasets with eeg, got chest"):
            build(root, tmp_path, streams=["eeg"], datasets=names, progress=False)
    with pytest.raises(DataError, match=r"need folders such as deap-eeg-.* got chest-ecg-"):
        open_corpus(corpus)


def test_beats_and_quality_of_each_lead_stand_in_the_index(root: Path, tmp_path: Path) -> None:
    recipe = EcgRecipe(sfreq=256.0, r_peaks="sleepecg")
    with in_process():
        _build(root, tmp_path, recipe)
    found = open_corpus(tmp_path, stream="ecg", recipe=recipe)[NAME]
    assert found.sfreq == 256.0
    for peaks in found.column("r_peaks"):
        assert 5 <= len(peaks) <= 25  # in 10 s
        assert (np.diff(peaks) > 0).all()
        assert 0 <= peaks[0] <= peaks[-1] < 2560
    for lead in LEADS:
        quality = found.column(f"quality_{lead}")
        assert quality.min() >= 0
        assert 0.8 < np.median(quality) <= 1


def test_no_index_has_them_unless_they_were_sought(opened: CorpusDataset) -> None:
    names = opened.index.column_names
    assert not [n for n in names if n == "r_peaks" or n.startswith("quality_")]


def test_a_build_goes_on_from_parts_that_know_nothing_of_beats(root: Path, tmp_path: Path) -> None:
    with in_process():
        _build(root, tmp_path)
    (folder,) = tmp_path.glob(f"{NAME}-ecg-*")
    before = [(folder / name).read_bytes() for name in (INDEX, MANIFEST)]
    for path in (folder / PARTS).iterdir():
        part = json.loads(path.read_text())
        assert part.pop("moments") is None
        for row in part["rows"]:
            assert (row.pop("r_peaks"), row.pop("quality")) == (None, {})
        path.write_text(json.dumps(part))
    for name in (INDEX, MANIFEST):
        (folder / name).unlink()
    assert _build(root, tmp_path).n_built == 0
    assert [(folder / name).read_bytes() for name in (INDEX, MANIFEST)] == before


@pytest.mark.ray
@pytest.mark.slow
def test_the_job_checks_and_builds_it_in_processes_of_its_own(
    root: Path, corpus: Path, tmp_path: Path
) -> None:
    def job(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(JOB), *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "COLUMNS": "100"},
            timeout=300,
        )

    checked = job(root, "--check", "--datasets", NAME)
    assert checked.returncode == 0, checked.stderr
    assert f"{N_SUBJECTS * N_CLIPS}/{N_SUBJECTS * N_CLIPS}" in checked.stdout
    built = job(root, "--out", tmp_path, "--ecg.highpass-hz", "0.5")
    assert built.returncode == 0, built.stderr
    assert f"{N_SEGMENTS} segments in {tmp_path}" in built.stdout
    own, there = (open_corpus(place, stream="ecg")[NAME] for place in (tmp_path, corpus))
    assert own.manifest.shards == there.manifest.shards
