"""What a run says of itself where the output is a file, and what TensorBoard reads."""

from __future__ import annotations

import io
import math
import time
from pathlib import Path

import pytest
import ray
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from emoray.runtime.progress import PLAIN_EVERY_S
from emoray.training import progress
from emoray.training.checkpoint import HISTORY
from emoray.training.progress import Board, Counting, Display
from emoray.training.rows import NO_FAULT, Fault, Rows
from emoray.training.scalars import write_scalars
from tests.disks import full_disk


class Clock:
    """A stand-in for `time` that a test moves on."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("emoray.runtime.progress.time", clock)
    return clock


def display(said: io.StringIO, *, n_steps: int = 20, tensorboard: Path | None = None) -> Display:
    return Display(
        n_steps=n_steps,
        steps_per_epoch=5,
        segments_per_step=288,
        tensorboard=tensorboard,
        console=Console(file=said, width=100),
    )


def steps(first: int, last: int, *, step_s: float = 2.0, wait_s: float = 0.5) -> Rows:
    """Steps `first` to `last - 1`; the loss of a step is a hundredth of its number."""
    n = last - first
    loss = [i / 100 for i in range(first, last)]
    constants = {"gradient_norm": 1.0, "learning_rate": 5e-4, "step_s": step_s, "wait_s": wait_s}
    return Rows(first, {"loss": loss, **{name: [value] * n for name, value in constants.items()}})


def begins_at(step: int) -> Rows:
    return Rows(step, {name: [] for name in HISTORY})


def said_of(*rows: Rows) -> str:
    said = io.StringIO()
    with display(said) as shown:
        for some in rows:
            shown.show(some)
    return said.getvalue()


def test_a_line_tells_epoch_step_loss_rate_waiting_and_remaining_time() -> None:
    assert said_of(steps(4, 8)) == (
        "  epoch 2/4  step 8/20  loss 0.0700  144 segments/s  data wait 25 %  0:00:24 to go\n"
    )


@pytest.mark.parametrize(
    ("done", "n_steps", "epoch"),
    [(1, 20, "1/4"), (5, 20, "1/4"), (6, 20, "2/4"), (20, 20, "4/4"), (21, 21, "5/5")],
)
def test_a_step_belongs_to_the_epoch_that_it_ends(done: int, n_steps: int, epoch: str) -> None:
    shown = display(io.StringIO(), n_steps=n_steps)
    assert shown.line(steps(done - 1, done)).startswith(f"epoch {epoch}  step {done}/{n_steps} ")


def test_remaining_time_counts_hours() -> None:
    said = io.StringIO()
    with display(said, n_steps=27_800) as shown:
        shown.show(steps(0, 1, step_s=2.59))
    assert said.getvalue().endswith("  19:59:59 to go\n")


def test_steps_that_took_no_time_are_shown_all_the_same() -> None:
    assert "data wait 0 %" in said_of(steps(0, 1, step_s=0.0, wait_s=0.0))


def test_a_fresh_run_begins_in_silence() -> None:
    assert said_of(begins_at(0)) == ""


def test_a_resumed_run_says_where_it_goes_on() -> None:
    assert said_of(begins_at(7)) == "  the run goes on from step 7\n"


@pytest.mark.parametrize("first", [0, 7])
def test_a_second_beginning_is_told_wherever_it_is(first: int) -> None:
    last = said_of(begins_at(first), steps(first, 12), begins_at(10)).splitlines()[-1]
    assert last == "  the run goes on from step 10"
    assert "goes on from step 0" in said_of(begins_at(0), begins_at(0))


def test_how_far_a_run_came_does_not_shrink_when_steps_are_repeated() -> None:
    with display(io.StringIO()) as shown:
        for rows in (steps(0, 12), begins_at(10), steps(10, 11)):
            shown.show(rows)
        assert shown.furthest == 12


def test_plain_lines_keep_their_distance_but_the_last_always_comes(clock: Clock) -> None:
    said = io.StringIO()
    with display(said) as shown:
        for done, after_s in ((1, 0.0), (2, 1.0), (3, PLAIN_EVERY_S), (19, 1.0), (20, 0.0)):
            clock.now_s += after_s
            shown.show(steps(done - 1, done))
    shown_steps = [line.split("step ")[1].split("/")[0] for line in said.getvalue().splitlines()]
    assert shown_steps == ["1", "3", "20"]


def test_a_terminal_shows_a_bar_instead_of_lines() -> None:
    said = io.StringIO()
    console = Console(file=said, width=100, force_terminal=True, color_system=None)
    with Display(
        n_steps=20, steps_per_epoch=5, segments_per_step=288, tensorboard=None, console=console
    ) as shown:
        shown.show(begins_at(0))
        shown.show(steps(0, 20))
    assert "loss 0.1900" in said.getvalue()
    assert "to go" not in said.getvalue()


def test_a_line_of_a_log_is_not_broken_where_the_window_is_narrow() -> None:
    said = io.StringIO()
    with Display(
        n_steps=20,
        steps_per_epoch=5,
        segments_per_step=72,
        tensorboard=None,
        console=Console(file=said, width=40),
    ) as shown:
        shown.show(steps(0, 20))
    (line,) = said.getvalue().splitlines()
    assert line.endswith("to go")


@pytest.mark.parametrize(("n_steps", "loss", "step_s"), [(20, 5.0, 1.0), (27_800, 5.6559, 2.59)])
def test_output_fits_a_hundred_columns(n_steps: int, loss: float, step_s: float) -> None:
    said = io.StringIO()
    with display(said, n_steps=n_steps) as shown:
        shown.show(begins_at(n_steps - 1))
        shown.show(begins_at(n_steps - 1))
        rows = steps(0, 1, step_s=step_s)
        shown.show(Rows(0, {**rows.columns, "loss": [loss]}))
        shown.show(steps(n_steps - 1, n_steps, step_s=step_s, wait_s=step_s))
    assert max(map(len, said.getvalue().splitlines())) <= 100


def test_a_line_of_the_papers_run_is_one_line() -> None:
    said = io.StringIO()
    with Display(
        n_steps=27_800,
        steps_per_epoch=278,
        segments_per_step=288,
        tensorboard=None,
        console=Console(file=said, width=100),
    ) as shown:
        rows = steps(2_798, 2_799, step_s=2.59, wait_s=0.1)
        shown.show(Rows(2_798, {**rows.columns, "loss": [5.6312]}))
    assert len(said.getvalue().splitlines()) == 1


def test_tensorboard_reads_every_column_at_its_step(tmp_path: Path) -> None:
    with display(io.StringIO(), tensorboard=tmp_path) as shown:
        shown.show(begins_at(3))
        shown.show(steps(3, 5))
        shown.show(steps(5, 8))
    events = EventAccumulator(str(tmp_path)).Reload()
    assert set(events.Tags()["scalars"]) == {f"train/{name}" for name in HISTORY}
    for name in HISTORY:
        assert [event.step for event in events.Scalars(f"train/{name}")] == [3, 4, 5, 6, 7]
    for event in events.Scalars("train/loss"):
        assert math.isclose(event.value, event.step / 100, rel_tol=1e-6)


def test_tensorboard_can_be_read_while_the_run_goes_on(tmp_path: Path) -> None:
    with display(io.StringIO(), tensorboard=tmp_path) as shown:
        shown.show(steps(0, 2))
        events = EventAccumulator(str(tmp_path)).Reload()
        assert [event.step for event in events.Scalars("train/loss")] == [0, 1]


def test_the_scalars_of_a_whole_run_can_be_written_at_its_end(tmp_path: Path) -> None:
    write_scalars(tmp_path, steps(0, 4).columns)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert set(events.Tags()["scalars"]) == {f"train/{name}" for name in HISTORY}
    assert [event.step for event in events.Scalars("train/loss")] == [0, 1, 2, 3]


class Answers:
    """Stands for the board: what each call of `take` hands over."""

    def __init__(self, *answers: list[Rows]) -> None:
        self._answers = list(answers)
        self.take = self

    def remote(self) -> list[Rows]:
        return self._answers.pop(0) if self._answers else []


def test_what_came_after_the_last_look_is_shown_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "get", lambda answer, timeout: answer)
    said = io.StringIO()
    with progress.watching(Answers([steps(0, 19), steps(19, 20)]), display(said)):
        pass
    assert "step 20/20" in said.getvalue()


def test_an_error_of_the_run_passes_and_what_was_done_is_still_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ray, "get", lambda answer, timeout: answer)
    said = io.StringIO()
    with (
        pytest.raises(FloatingPointError, match="step 3"),
        progress.watching(Answers([steps(0, 3)]), display(said)),
    ):
        raise FloatingPointError("loss is inf at step 3")
    assert "step 3/20" in said.getvalue()


@pytest.mark.ray
def test_the_board_hands_over_rows_and_the_cause_of_a_fault_once(ray_cluster: None) -> None:
    board = Board.remote()
    assert progress.last_fault(board) == NO_FAULT
    for rows in (steps(0, 2), steps(2, 3)):
        board.tell.remote(rows)
    assert progress.taken(board) == [steps(0, 2), steps(2, 3)]
    assert progress.taken(board) == []
    lost = Fault("worker 0: lost its peer", can_pass=True)
    cause = Fault("worker 1: loss is inf at step 3", can_pass=False)
    for told in (lost, cause, Fault("worker 2: damaged shard", can_pass=False)):
        progress.tell_fault(board, told)
    assert progress.last_fault(board) == cause
    assert progress.last_fault(board) == NO_FAULT


@pytest.mark.ray
def test_a_board_that_is_gone_hands_over_nothing_and_holds_nobody_up(ray_cluster: None) -> None:
    board = Board.remote()
    progress.taken(board)
    ray.kill(board)
    began = time.monotonic()
    progress.tell_fault(board, Fault("worker 0: ValueError: x", can_pass=False))
    assert progress.last_fault(board) == NO_FAULT
    assert progress.taken(board) == []
    assert time.monotonic() - began < progress.ANSWER_S


def test_scalars_that_cannot_be_written_are_told_once_and_end_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    said = io.StringIO()
    with (
        full_disk(tmp_path / "disk", free_bytes=0) as disk,
        display(said, tensorboard=disk / "tensorboard") as shown,
    ):
        shown.show(steps(0, 2))
        shown.show(steps(2, 20))
    assert said.getvalue().count("No space left on device") == 1
    assert f"no more scalars for {disk}/tensorboard" in said.getvalue()
    assert "step 20/20" in said.getvalue()
    assert capfd.readouterr().err == ""


def test_what_is_counted_starts_at_once_and_is_told_every_few_seconds(clock: Clock) -> None:
    said = io.StringIO()
    with Counting("read-out", "segments", console=Console(file=said, width=100)) as counting:
        assert said.getvalue() == "  read-out starts\n"
        for n_done in range(0, 1001, 100):
            clock.now_s += 4
            counting.show(n_done, 1000)
        counting.show(1000, 1000)
    assert [line.strip() for line in said.getvalue().splitlines()] == [
        "read-out starts",
        "read-out  200/1000 segments",
        "read-out  500/1000 segments",
        "read-out  800/1000 segments",
        "read-out  1000/1000 segments",
    ]
