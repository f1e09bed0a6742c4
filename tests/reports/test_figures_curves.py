"""Training curves: every run, their mean, the epoch that was tested."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes

from emoray.reports.figures import curves, training_curves
from emoray.results.comparison import Cell
from tests.reports.pictures import block, is_whole, lines, overlapping, small_print
from tests.rows import CONFUSION, made_row

LOSS = ([1.1, 0.9, 0.8, 0.7], [1.2, 0.7, 0.6, 0.5])
KAPPA = ([0.1, 0.5, 0.4, 0.3], [0.2, 0.3, 0.6, 0.7])


def run(seed: int, loss: list[float], kappa: list[float], **fields: Any) -> Any:
    best = int(np.argmax(kappa))
    return made_row(
        CONFUSION,
        seed=seed,
        dataset="seed",
        protocol="paper_same_subjects_same_stimuli",
        n_epochs=len(loss),
        best_epoch=best,
        val_score=kappa[best],
        **{"curves": {"train_loss": loss, "val_kappa": kappa}, **fields},
    )


def cell(row: str, *runs: Any) -> Cell:
    return Cell(row, results=runs, n_wanted=len(runs))


def two_runs(row: str = "EMOD", **fields: Any) -> Cell:
    pairs = zip(LOSS, KAPPA, strict=True)
    return cell(row, *(run(i, loss, kappa, **fields) for i, (loss, kappa) in enumerate(pairs)))


def panels(*cells: Cell) -> list[Axes]:
    """Loss and kappa of each row, in turn."""
    return list(curves._training_figure(block(*cells)).axes)


def best(axes: Axes) -> list[tuple[float, float]]:
    (dots,) = [c for c in axes.collections if c.get_label() == "best epoch"]
    return [(x, y) for x, y in np.asarray(dots.get_offsets())]


def test_every_run_is_a_line_over_epochs_from_one() -> None:
    loss, kappa = panels(two_runs())
    for axes, given in ((loss, LOSS), (kappa, KAPPA)):
        found = lines(axes, "run")
        assert len(found) == 2
        for line, values in zip(found, given, strict=True):
            np.testing.assert_allclose(line, [[1, 2, 3, 4], values])


def test_the_thick_line_is_the_mean_of_the_runs() -> None:
    loss, kappa = panels(two_runs())
    for axes, given in ((loss, LOSS), (kappa, KAPPA)):
        (mean,) = lines(axes, "mean")
        np.testing.assert_allclose(mean, [[1, 2, 3, 4], np.mean(given, axis=0)])


def test_the_mean_covers_the_epochs_that_every_run_has() -> None:
    short = run(1, LOSS[1][:2], KAPPA[1][:2])
    (mean,) = lines(panels(cell("EMOD", run(0, LOSS[0], KAPPA[0]), short))[0], "mean")
    np.testing.assert_allclose(mean, [[1, 2], [1.15, 0.8]])


def test_a_single_run_has_no_mean() -> None:
    loss, kappa = panels(cell("EMOD", run(0, LOSS[0], KAPPA[0])))
    assert lines(loss, "mean") == lines(kappa, "mean") == []
    assert len(lines(loss, "run")) == 1
    assert loss.get_title("left") == "EMOD (1 run)"


def test_the_best_epoch_of_every_run_is_marked_on_its_kappa() -> None:
    _, kappa = panels(two_runs())
    assert best(kappa) == [pytest.approx((2, 0.5)), pytest.approx((4, 0.7))]


def test_chance_is_drawn() -> None:
    loss, kappa = panels(two_runs())
    (of_loss,), (of_kappa,) = lines(loss, "chance"), lines(kappa, "chance")
    assert list(of_loss[1]) == pytest.approx([np.log(3)] * 2)
    assert list(of_kappa[1]) == [0, 0]


def test_a_single_epoch_is_seen() -> None:
    loss, _ = panels(cell("EMOD", run(0, [1.0], [0.2])))
    (line,) = [line for line in loss.lines if line.get_label() == "run"]
    assert line.get_marker() == "."


def test_rows_share_their_scales() -> None:
    first, _, second, _ = panels(two_runs(), cell("BIOT", run(0, [3.0, 2.0], [0.0, 0.1])))
    assert first.get_ylim() == second.get_ylim()
    assert first.get_xlim() == second.get_xlim()


def test_rows_without_curves_are_named() -> None:
    bare = cell("BIOT", run(0, LOSS[0], KAPPA[0], curves={"val_kappa": KAPPA[0]}))
    figure = curves._training_figure(block(two_runs(), bare, Cell("EEGNet", n_wanted=5)))
    assert len(figure.axes) == 2
    assert "No curves: BIOT, EEGNet." in small_print(figure)


def test_a_block_without_curves_says_so() -> None:
    figure = curves._training_figure(block(Cell("EMOD", n_wanted=5)))
    assert figure.axes == []
    assert "no run has left curves" in small_print(figure)


def test_axes_are_named_with_units() -> None:
    loss, kappa = panels(two_runs())
    assert loss.get_ylabel() == "train loss (nats)"
    assert kappa.get_ylabel() == "validation kappa"
    assert {loss.get_xlabel(), kappa.get_xlabel()} == {"epoch"}


def test_rehearsal_data_are_marked() -> None:
    marked = curves._training_figure(block(two_runs(rehearsal=True)))
    assert small_print(marked).endswith("rehearsal data")
    assert "rehearsal" not in small_print(curves._training_figure(block(two_runs())))


@pytest.mark.parametrize("n_rows", [1, 11])
def test_nothing_is_cut_and_nothing_covered(n_rows: int) -> None:
    cells = [two_runs(f"ICaps-ResLSTM {i}", rehearsal=True) for i in range(n_rows)]
    found = block(*cells, title="SEED-VII")
    assert is_whole(training_curves(found))
    figure = curves._training_figure(found)
    assert overlapping(figure, figure.axes) == []
