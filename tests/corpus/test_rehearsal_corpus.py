"""The rehearsal corpus is made once, by the readers and the recipe of real data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from emoray.corpus.build.rehearsal import rehearsal_corpus
from emoray.corpus.read import open_corpus
from emoray.rehearsal.release import is_rehearsal
from tests.conftest import QUICK_RECIPE


@pytest.mark.ray
def test_a_rehearsal_corpus_is_made_once_and_replaced_by_another_recipe(
    ray_cluster: None, tmp_path: Path
) -> None:
    raw, out = tmp_path / "raw", str(tmp_path / "corpus")

    def make(**changes: object) -> int:
        report = rehearsal_corpus(
            raw,
            out,
            datasets=("dreamer",),
            n_subjects=2,
            duration_s=4.5,
            recipe=replace(QUICK_RECIPE, **changes),  # type: ignore[arg-type]
            progress=False,
        )
        return report.n_built

    assert make() == 2
    assert is_rehearsal(raw / "dreamer")
    first = open_corpus(out)
    assert first.rehearsal
    assert make() == 0
    assert make(dtype="float16") == 2
    (second,) = open_corpus(out).datasets  # two builds of one dataset would be an error
    assert second.digest == first["dreamer"].digest
    assert second.dtype == "float16"
