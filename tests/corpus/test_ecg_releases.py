"""WESAD and SWELL-KW on their way into a corpus: classes, answers, and what takes no part."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from emoray.corpus.build.build import BuildReport, build
from emoray.corpus.build.check import Check, check
from emoray.corpus.build.tables import check_tables
from emoray.corpus.read import CorpusDataset, open_corpus
from emoray.rehearsal.release import write_release
from emoray.runtime.console import open_console
from emoray.vocabulary.targets import Classes, Levels
from tests.corpus.in_process import in_process

NAMES = ("swell_kw", "wesad")


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("raw")
    write_release(root, datasets=NAMES, n_subjects=2, seed=0, duration_s=21.0)
    return root


@pytest.fixture(scope="module")
def built(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[BuildReport, Path]:
    out = tmp_path_factory.mktemp("corpus")
    with in_process():
        return build(raw, out, progress=False), out


def opened(built: tuple[BuildReport, Path], name: str) -> CorpusDataset:
    return open_corpus(built[1], stream="ecg")[name]


def test_both_are_built_of_their_ecg(built: tuple[BuildReport, Path]) -> None:
    rows = {row.name: (row.stream, row.n_recordings, row.n_segments) for row in built[0].datasets}
    # Of WESAD two subjects, five conditions of two segments; of SWELL-KW two subjects, three
    # blocks, a minute of relaxation and one of work.
    assert rows == {"wesad": ("ecg", 2, 20), "swell_kw": ("ecg", 6, 72)}


def test_what_the_readers_left_out_is_in_the_table_of_the_build(
    built: tuple[BuildReport, Path],
) -> None:
    dropped = {row.name: row.dropped for row in built[0].datasets}
    assert dropped["swell_kw"] == {
        ("minute", "flat ECG"): 6,
        ("minute", "minute outside of the recording"): 6,
    }
    assert dropped["wesad"]["second", "between conditions (label 0)"] == 20


def test_wesad_has_four_classes_and_ratings(built: tuple[BuildReport, Path]) -> None:
    wesad = opened(built, "wesad")
    label_S = Classes().labels(wesad.index)
    assert sorted(Counter(label_S.tolist()).items()) == [(0, 4), (1, 4), (2, 4), (3, 8)]
    for axis, name in enumerate(("valence", "arousal")):
        np.testing.assert_allclose(wesad.column(f"rating_{name}"), wesad.va_S2[:, axis] + 5)


def test_swell_has_conditions_by_default_and_blocks_by_a_rating(
    built: tuple[BuildReport, Path],
) -> None:
    swell = opened(built, "swell_kw")
    label_S = Classes().labels(swell.index)
    block_S = Levels("block", (1.0, 2.0)).labels(swell.index)
    assert sorted(Counter(label_S.tolist()).items()) == [(-1, 36), (0, 12), (1, 12), (2, 12)]
    assert sorted(Counter(block_S.tolist()).items()) == [(0, 24), (1, 24), (2, 24)]
    pairs = {(int(label), int(block)) for label, block in zip(label_S, block_S, strict=True)}
    assert pairs >= {(0, 0), (1, 1), (1, 2), (2, 1), (2, 2)}
    np.testing.assert_array_equal(np.isnan(swell.va_S2[:, 0]), label_S == -1)
    assert np.isfinite(swell.gather(np.arange(72).tolist())).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_check_counts_against_the_cards(raw: Path, name: str) -> None:
    with in_process():
        (row,) = check(raw, datasets=[name], progress=False).found
    assert (row.n_subjects, row.errors, row.unexpected) == (2, [], ())
    assert row.n_presentations == row.n_recordings * row.card.n_presentations
    assert row.n_segments == {"wesad": 20, "swell_kw": 72}[name]
    what, reason, n = {
        "wesad": ("second", "between conditions (label 0)", 20),
        "swell_kw": ("minute", "flat ECG", 6),
    }[name]
    assert row.dropped[what, reason] == n
    said = io.StringIO()
    open_console(file=said).print(check_tables(Check(raw, (row,), ()), ()))
    assert f"{name}: the reader leaves out {n} {what}s: {reason}" in said.getvalue()
