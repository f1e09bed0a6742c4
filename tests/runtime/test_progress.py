"""How far something is: on a terminal one bar that goes, in a log a line now and then."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from emoray.runtime import progress
from emoray.runtime.progress import PLAIN_EVERY_S, Progress


class Clock:
    """A stand-in for `time` that a test moves on."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


class Shown(Progress):
    """Progress, and what it has printed."""

    def __init__(self, n_all: int | None = None, *, terminal: bool = False, width: int = 100):
        self._file = io.StringIO()
        console = Console(file=self._file, width=width, force_terminal=terminal, color_system=None)
        super().__init__(console, "waiting", n_all=n_all)

    @property
    def text(self) -> str:
        return self._file.getvalue()


def test_a_log_has_the_first_line_one_now_and_then_and_the_last(clock: Clock) -> None:
    with Shown(100) as shown:
        for n_done in range(1, 101):
            clock.now_s += PLAIN_EVERY_S / 40
            shown.show(n_done, f"{n_done} done")
    assert shown.text.splitlines() == ["  1 done", "  42 done", "  83 done", "  100 done"]


def test_a_line_is_not_said_twice(clock: Clock) -> None:
    with Shown(2) as shown:
        for _ in range(3):
            clock.now_s += 2 * PLAIN_EVERY_S
            shown.show(2, "all done")
    assert shown.text == "  all done\n"


def test_a_last_line_comes_as_soon_as_the_number_is_known(clock: Clock) -> None:
    with Shown() as shown:
        shown.show(1, "one")
        shown.show(2, "two")
        shown.show(3, "three", n_all=3)
        shown.show(4, "four")
    assert shown.text.splitlines() == ["  one", "  three"]


def test_what_a_bar_shows_by_itself_stands_in_lines_only(clock: Clock) -> None:
    shown = {terminal: Shown(9, terminal=terminal) for terminal in (True, False)}
    for one in shown.values():
        with one:
            one.show(1, "1 done", more=", 5 s to go")
    assert shown[False].text == "  1 done, 5 s to go\n"
    assert "1 done" in shown[True].text
    assert "5 s to go" not in shown[True].text


@pytest.mark.parametrize("terminal", [True, False])
def test_texts_are_shown_letter_for_letter_and_unbroken(terminal: bool) -> None:
    words = "run [bold]1[/bold] :smile: " + 10 * "long "
    with Shown(terminal=terminal, width=40 if not terminal else 200) as shown:
        shown.describe(words)
        shown.say(f"said {words}")
    assert words.strip() in shown.text
    assert f"  said {words}\n" in shown.text


def test_a_terminals_bar_goes_and_what_was_said_stays() -> None:
    with Shown(4, terminal=True) as shown:
        shown.say("a line")
        shown.log("a line of a log")
        shown.count(2)
        shown.show(3, "three done")
    assert "a line of a log" not in shown.text
    *_, last = re.split(r"three done", shown.text)
    assert "\x1b[2K" in last  # the bar's line is wiped


def test_a_quiet_console_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(Console(quiet=True), "waiting", n_all=1) as shown:
        shown.show(1, "one")
        shown.say("a line")
    assert capsys.readouterr() == ("", "")
