"""The loss curve: a picture, honest about what it shows, at any length of a run."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from emoray.reports import figures
from emoray.reports.figures import curves

PNG = b"\x89PNG\r\n\x1a\n"
CHANCE = math.log(287)


def curve(loss: list[float], *, rehearsal: bool = False, steps_per_epoch: int = 5) -> bytes:
    return figures.loss_curve(
        loss, steps_per_epoch=steps_per_epoch, chance=CHANCE, title="emod", rehearsal=rehearsal
    )


def falling(n_steps: int) -> list[float]:
    return [CHANCE - 0.01 * step for step in range(n_steps)]


@dataclass
class Drawn:
    """The figure that was about to be written."""

    figures: list[Figure] = field(default_factory=list)

    @property
    def texts(self) -> list[str]:
        return [text.get_text() for text in self.figures[-1].texts]

    def line(self, label: str) -> tuple[np.ndarray, np.ndarray] | None:
        """Abscissae and ordinates of the line of that name; None where there is none."""
        (axes,) = self.figures[-1].axes
        found: dict[str, Any] = {str(line.get_label()): line for line in axes.lines}
        if label not in found:
            return None
        return np.asarray(found[label].get_xdata()), np.asarray(found[label].get_ydata())


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    drawn = Drawn()

    def keep(figure: Figure) -> bytes:
        drawn.figures.append(figure)
        return b""

    monkeypatch.setattr(curves, "png", keep)
    return drawn


@pytest.mark.parametrize("n_steps", [1, 2, 12, 500])
def test_a_run_of_any_length_has_a_picture(n_steps: int) -> None:
    assert curve(falling(n_steps)).startswith(PNG)


def test_a_picture_of_rehearsal_data_differs_and_says_so(drawn: Drawn) -> None:
    curve(falling(20), rehearsal=True)
    assert "rehearsal data" in drawn.texts
    curve(falling(20))
    assert drawn.texts == []


def test_the_mark_of_rehearsal_data_reaches_the_file() -> None:
    assert curve(falling(20), rehearsal=True) != curve(falling(20))


def test_the_same_run_has_the_same_picture() -> None:
    assert curve(falling(20)) == curve(falling(20))


def test_every_step_is_drawn_at_its_share_of_an_epoch(drawn: Drawn) -> None:
    curve(falling(7))
    line = drawn.line("each step")
    assert line is not None
    np.testing.assert_allclose(line[0], np.arange(1, 8) / 5)
    np.testing.assert_allclose(line[1], falling(7))


@pytest.mark.parametrize("n_steps", [1, 100])
def test_the_loss_of_an_encoder_that_tells_nothing_apart_is_drawn(
    drawn: Drawn, n_steps: int
) -> None:
    curve(falling(n_steps))
    line = drawn.line("chance")
    assert line is not None
    assert set(line[1]) == {CHANCE}


def test_the_smooth_line_is_the_mean_of_the_steps_that_it_follows(drawn: Drawn) -> None:
    loss = np.random.default_rng(0).uniform(4, 6, 100).tolist()
    curve(loss)
    line = drawn.line("mean of 5 steps")
    assert line is not None
    assert len(line[0]) == 96
    assert line[0][0] == 1.0  # the first whole epoch
    assert line[1][0] == pytest.approx(np.mean(loss[:5]))
    assert line[1][-1] == pytest.approx(np.mean(loss[-5:]))


def test_a_short_run_has_no_smooth_line(drawn: Drawn) -> None:
    curve(falling(19))
    (axes,) = drawn.figures[-1].axes
    assert [line.get_label() for line in axes.lines] == ["each step", "chance"]


def test_the_picture_says_what_it_measures(drawn: Drawn) -> None:
    curve(falling(20))
    (axes,) = drawn.figures[-1].axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "loss (nats)")
    assert axes.get_title() == "emod"
