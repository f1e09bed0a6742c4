"""What a person sees while many runs are under way."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from emoray.experiments.runs_display import RunsDisplay, clock
from emoray.results import published
from emoray.results.store import ResultRow
from emoray.runtime.config import to_dict
from emoray.runtime.progress import PLAIN_EVERY_S
from emoray.training.run import Run
from tests.evaluations import BY_NAME
from tests.small_experiments import TINY, row_of

WIDTH = 100
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Shown:
    """A display, what it says, and a clock that tests turn."""

    def __init__(self, names: dict[str, str], n_runs: int, *, terminal: bool) -> None:
        self.now = 1000.0
        self._file = io.StringIO()
        console = Console(file=self._file, width=WIDTH, force_terminal=terminal)
        self.display = RunsDisplay(n_runs, names, console)

    @property
    def lines(self) -> list[str]:
        """Lines printed so far, without colours."""
        text = ESCAPE.sub("", self._file.getvalue())
        return [line for line in re.split(r"[\r\n]+", text) if line.strip()]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Shown]:
    """Displays of a test; their clock is that of the last one."""
    made: list[Shown] = []
    monkeypatch.setattr("time.monotonic", lambda: made[-1].now if made else 1000.0)
    return made


def run_of(seed: int = 0, **changes: object) -> Run:
    config = to_dict(replace(TINY, seed=seed))
    run = Run(
        method="emod",
        stage="finetune",
        config=config,
        corpus="/c",
        builds={"faced-eeg-0123456789ab": "0123"},
        protocol="p",
        fold="1_of_3",
        target={"kind": "classes"},
        chosen_by="kappa",
        code="c",
    )
    return replace(run, **changes)  # type: ignore[arg-type]


BASE = Run(
    method="emod",
    stage="pretrain",
    config={"seed": 0},
    corpus="/c",
    builds={"deap-eeg-0123456789ab": "0123"},
    name="emod-pretrain-0123",
)
"""A pretraining."""


def row_for(run: Run, **changes: object) -> ResultRow:
    return row_of(run, seconds=14.2, **changes)


def start(shown: list[Shown], runs: list[Run], *, terminal: bool = False) -> Shown:
    shown.append(Shown({run.key: "EMOD" for run in runs}, len(runs), terminal=terminal))
    return shown[-1]


def test_the_clock_has_hours_minutes_and_seconds() -> None:
    assert [clock(s) for s in (0.2, 14, 61, 3599.6, 360_000)] == [
        *("0:00:00", "0:00:14", "0:01:01", "1:00:00", "100:00:00")
    ]


def test_every_row_on_every_dataset_fits_a_line(shown: list[Shown]) -> None:
    rows = [row.name for table in published.load("emod").tables.values() for row in table.rows]
    for name in rows:
        for dataset in BY_NAME:
            run = run_of(1234, builds={f"{dataset}-eeg-0123456789ab": "0123"}, fold="5_of_5")
            one = Shown({run.key: name}, 9999, terminal=False)
            shown.append(one)
            one.now += 3600 * 10
            row = row_for(run, confusion=((0, 5), (5, 0)))  # kappa -100.0 %
            line = one.display.line(run, replace(row, seconds=36_000.0))
            assert name in line
            assert f"{dataset} 5_of_5 seed 1234" in line
            one.display.finished(run, row)
            assert max(map(len, one.lines)) <= WIDTH


@pytest.mark.parametrize("terminal", [False, True])
def test_a_line_says_what_ended_how_well_and_what_is_left(
    shown: list[Shown], terminal: bool
) -> None:
    runs = [run_of(seed) for seed in range(4)]
    one = start(shown, runs, terminal=terminal)
    with one.display:
        one.now += 10
        one.display.finished(runs[0], row_for(runs[0]))
    (line,) = {line.strip() for line in one.lines if "1/4" in line}
    kappa = 100 * row_for(runs[0]).scores["kappa"]
    said = f"1/4  EMOD  faced 1_of_3 seed 0  kappa {kappa:.1f} %  0:00:14, 0:00:30 to go"
    assert said in line  # beside it a terminal has a bar


def test_the_time_of_a_pretraining_is_not_laid_on_the_runs(shown: list[Shown]) -> None:
    runs = [run_of(seed) for seed in range(4)]
    one = start(shown, runs)
    with one.display:
        one.display.group(BASE, None)
        one.now += 1000
        one.display.group(BASE, 1000.0)
        one.now += 10
        one.display.finished(runs[0], row_for(runs[0]))
    assert "0:00:30 to go" in one.lines[-1]


def test_a_log_has_a_line_now_and_then_and_the_last(shown: list[Shown]) -> None:
    runs = [run_of(seed) for seed in range(50)]
    one = start(shown, runs)
    with one.display:
        for run in runs:
            one.now += PLAIN_EVERY_S / 10
            one.display.finished(run, row_for(run))
    assert 5 <= len(one.lines) <= 7
    assert one.lines[0].strip().startswith("1/50  ")
    assert one.lines[-1].strip().startswith("50/50  ")
    assert len(set(one.lines)) == len(one.lines)


@pytest.mark.parametrize("terminal", [False, True])
def test_every_failure_has_a_line_of_its_own_once(shown: list[Shown], terminal: bool) -> None:
    runs = [run_of(seed) for seed in range(9)]
    one = start(shown, runs, terminal=terminal)
    with one.display:
        for i, run in enumerate(runs[:6]):
            one.now += 0.1
            one.display.failed(f"faced p 1_of_3 seed {i}", [run], f"ValueError: reason [{i}]")
        one.display.failed("pretraining emod-pretrain-0123", runs[6:], "RunError: [bold]lost")
    text = "\n".join(one.lines)
    for i in range(6):
        said = f"failed: EMOD, faced p 1_of_3 seed {i}: ValueError: reason [{i}]"
        assert text.count(said) == 1
    assert text.count("RunError: [bold]lost") == 1  # brackets are no markup
    assert text.count("(3 runs wait for it in vain)") == 1


def test_failures_count_as_ended(shown: list[Shown]) -> None:
    runs = [run_of(seed) for seed in range(3)]
    one = start(shown, runs)
    one.display.failed("a run", [runs[0]], "it broke")
    one.display.finished(runs[1], row_for(runs[1]))
    assert one.lines[-1].strip().startswith("2/3  ")


def test_a_terminals_bar_counts_failures_too(shown: list[Shown]) -> None:
    runs = [run_of(seed) for seed in range(3)]
    one = start(shown, runs, terminal=True)
    with one.display:
        one.display.failed("pretraining", runs[:2], "it broke")
        (task,) = one.display._progress._bar.tasks
        assert task.completed == 2


@pytest.mark.parametrize("seconds", [0.0, 12.4])
def test_a_pretraining_begins_once_and_ends_once(shown: list[Shown], seconds: float) -> None:
    one = start(shown, [run_of()])
    one.display.group(BASE, None)
    one.display.group(BASE, seconds)
    assert [line.strip() for line in one.lines] == [
        "pretraining emod-pretrain-0123 begins",
        f"pretraining emod-pretrain-0123 took {clock(seconds)}",
    ]


@pytest.mark.parametrize("terminal", [False, True])
def test_a_pretraining_says_how_far_it_is(shown: list[Shown], terminal: bool) -> None:
    line = "epoch 1/100  step 278/27800  loss 5.1234  140 segments/s  data wait 2 %  15:30:00 to go"
    one = start(shown, [run_of()], terminal=terminal)
    with one.display:
        one.display.said(f"  {line}")
    assert any(line in text for text in one.lines)
    assert all(len(text) <= WIDTH for text in one.lines)
    if not terminal:  # there it goes when the bar goes
        assert len(one.lines) == 1


def test_a_terminal_shows_the_whole_line_and_leaves_only_what_failed(shown: list[Shown]) -> None:
    runs = [run_of(seed, builds={"seed_v-eeg-0123456789ab": "0123"}) for seed in range(3)]
    shown.append(Shown({run.key: "w/o FreqDomain." for run in runs}, 1234, terminal=True))
    one = shown[-1]
    with one.display:
        one.now += 3600
        one.display.finished(runs[0], row_for(runs[0]))
        one.display._progress._bar.refresh()
        one.display.failed("seed_v p 1_of_3 seed 1", [runs[1]], "it broke")
    assert any(re.search(r"1/1234  w/o FreqDomain\..* to go", line) for line in one.lines)
    assert all(len(line) <= WIDTH for line in one.lines)


def test_what_no_row_asked_for_is_told_of_and_not_counted(shown: list[Shown]) -> None:
    """An encoder of the fold, whether it is scored by the way or not."""
    runs = [run_of(seed) for seed in range(2)]
    one = start(shown, runs)
    with one.display:
        one.display.finished(run_of(7, stage="student", chosen_by=""), None)
        teacher = run_of(8, stage="teacher")
        one.display.finished(teacher, row_for(teacher))
        one.now += 2 * PLAIN_EVERY_S
        one.display.finished(runs[0], row_for(runs[0]))
    assert one.lines[-1].strip().startswith("1/2  ")
    assert [line for line in one.lines if "/2  " in line] == one.lines[-1:]
    assert "student 1_of_3 is trained" in one.lines[0]


def test_a_start_of_a_fold_that_failed_is_named_once_with_the_runs_that_it_fails(
    shown: list[Shown],
) -> None:
    runs = [run_of(seed) for seed in range(3)]
    one = start(shown, runs)
    with one.display:
        student = run_of(7, stage="student", chosen_by="")
        one.display.failed("student on faced p 1_of_3 seed 7", [student, *runs[:2]], "it broke")
        one.display.finished(runs[2], row_for(runs[2]))
    (failed,) = [line for line in one.lines if "failed" in line]
    assert "failed: EMOD, student on faced p 1_of_3 seed 7 (2 runs wait for it in vain)" in failed
    assert one.lines[-1].strip().startswith("3/3  ")


@pytest.mark.parametrize("seconds", [None, 61.0])
def test_a_run_of_a_fold_on_several_workers_is_named_by_its_row(
    shown: list[Shown], seconds: float | None
) -> None:
    run = run_of()
    one = start(shown, [run])
    one.display.group(run, seconds)
    one.display.group(run_of(7, stage="student", chosen_by=""), seconds)
    ends = "begins" if seconds is None else "took 0:01:01"
    assert [line.strip() for line in one.lines] == [
        f"EMOD 1_of_3 {ends}",
        f"student 1_of_3 {ends}",
    ]
