"""A job in which runs failed writes its report all the same, and then ends as failed."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import pytest

from emoray.experiments import session
from emoray.experiments.experiment import CellRuns, runs_of
from tests.jobs.test_finetune import run_job
from tests.small_experiments import write_both


@pytest.mark.parametrize(
    ("job", "words", "n_failed"),
    [("finetune", ("emod",), 2), ("reproduce", ("emod", "table3"), 4 * 2)],
)
def test_failed_runs_are_counted_in_the_report_and_in_how_the_job_ends(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    job: str,
    words: Sequence[str],
    n_failed: int,
) -> None:
    def fail(place: session.Place, plan: Sequence[CellRuns]) -> dict[str, str]:
        return dict.fromkeys(runs_of(plan), "out of memory")

    monkeypatch.setattr(session, "run_missing", fail)
    corpus = write_both(tmp_path / "corpus")
    asked = ("--datasets", "seed", "--protocols", "subjects_and_stimuli_apart", "--seeds", 0, 1)
    places = ("--corpus", corpus, "--storage", tmp_path, "--folds", "rotate")
    with pytest.raises(SystemExit, match=f"^error: {n_failed} runs failed"):
        run_job(monkeypatch, job, *words, *asked, *places)
    (table,) = (tmp_path / "reports").glob("*/*.csv")
    with table.open() as lines:
        rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    counts = [int(row["n_failed"] or 0) for row in rows if row["metric"] == "bacc"]
    assert sum(counts) == n_failed
