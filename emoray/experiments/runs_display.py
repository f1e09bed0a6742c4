"""What a person sees while many runs are under way."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from rich.console import Console

from emoray.evaluation import metrics
from emoray.experiments.schedule import words_of
from emoray.results.store import ResultRow
from emoray.runtime.progress import Progress
from emoray.training.run import Run


class RunsDisplay:
    """Progress over the scored runs of an experiment; failures always get a line.

    Args:
        n_runs: that are missing.
        names: of the runs, by key: a table's row.
        console: where to print.
    """

    def __init__(self, n_runs: int, names: Mapping[str, str], console: Console) -> None:
        self._n_runs = n_runs
        self._names = names
        self._began = time.monotonic()
        self._n_done = 0
        self._n_failed = 0
        # Without the bar's own estimate: it would count the time of pretrainings among the runs'.
        self._progress = Progress(
            console, "waiting for a first run", n_all=n_runs, has_remaining=False
        )

    def __enter__(self) -> RunsDisplay:
        self._progress.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.__exit__(*error)

    def group(self, run: Run, seconds: float | None) -> None:
        """A run on a group of workers begins (None) or has ended."""
        what = (
            words_of(run) if not run.fold else f"{self._names.get(run.key, run.stage)} {run.fold}"
        )
        self._progress.say(f"{what} " + ("begins" if seconds is None else f"took {clock(seconds)}"))
        # Few runs fit beside one: its time tells nothing of the runs that are still to come.
        self._began += seconds or 0.0

    def said(self, line: str) -> None:
        """A line of the run on a group of workers: where it is, how fast, how long it will take."""
        self._progress.describe(line.strip())

    def finished(self, run: Run, row: ResultRow | None) -> None:
        """A run has ended; one that no row of the table asked for only makes what others start
        from."""
        if row is None or run.key not in self._names:
            n_ended = self._n_done + self._n_failed
            self._progress.show(n_ended, f"{run.stage} {run.fold} is trained")
            return
        self._n_done += 1
        self._progress.show(self._n_done + self._n_failed, self.line(run, row))

    def failed(self, what: str, runs: Sequence[Run], error: str) -> None:
        """Runs that will have no row this time."""
        n_scored = sum(run.key in self._names for run in runs)
        self._n_failed += n_scored
        self._progress.count(self._n_done + self._n_failed)
        lost = "" if len(runs) < 2 else f" ({n_scored} runs wait for it in vain)"
        self._progress.say(f"failed: {self._name(what, runs)}{lost}: {error}", style="red")

    def line(self, run: Run, row: ResultRow) -> str:
        """`12/160 EMOD-SoftVA seed_v 1_of_5 seed 3 kappa 45.2 % 14 s, 0:12:10 to go`."""
        ended = self._n_done + self._n_failed
        left_s = (time.monotonic() - self._began) / max(ended, 1) * (self._n_runs - ended)
        return (
            f"{ended}/{self._n_runs}  {self._names.get(run.key, run.method)}  {row.dataset} "
            f"{run.fold} seed {run.seed}  {_score(row)}  {clock(row.seconds)}, "
            f"{clock(left_s)} to go"
        )

    def _name(self, what: str, runs: Sequence[Run]) -> str:
        named = [self._names[run.key] for run in runs if run.key in self._names]
        return ", ".join([*dict.fromkeys(named), what])


def _score(row: ResultRow) -> str:
    """`kappa 45.2 %`: by the metric that chose the epoch; blank where the test has none."""
    score = row.metric(row.chosen_by)
    return "" if score is None else f"{metrics.get(row.chosen_by).title} {100 * score:.1f} %"


def clock(seconds: float) -> str:
    """`0:12:10`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
