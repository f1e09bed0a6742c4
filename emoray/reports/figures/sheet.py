"""The paper that figures are drawn on: sizes, colours, small print, PNG.

A figure is 5.4 inches wide, so that a point is a pixel on a phone of 390 pixels. No colour says
anything alone: what differs in colour also differs in lightness, form or words.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import matplotlib as mpl

mpl.use("Agg")  # no screen on a cluster

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.textpath import text_to_path

from emoray.reports.summary import REHEARSAL_MARK
from emoray.results.comparison import Block

mpl.rcParams["text.parse_math"] = False  # a dollar in a name is a dollar

WIDTH_IN = 5.4
DPI = 200
TEXT, SMALL = 9.5, 8.5
"""Points."""

INK, FAINT, PALE = "#1b4965", "#9db4c0", "#e3eaee"
"""Lines and words; bars and single runs; bands."""
ALARM = "#a3242f"
"""What nobody may overlook."""
GREY = "#5c5c5c"

_FLAWS = ("LEAK", "CONTAMINATED", "not known to be apart")
"""Words of an audit that no protocol's name admits."""
_LINE_IN, _GAP_IN, _EDGE_IN = 0.155, 0.1, 0.08
_POINTS_PER_IN = 72


def sheet(
    height_in: float, *, title: str = "", rehearsal: bool, notes: Sequence[str] = ()
) -> Figure:
    """An empty figure with a title above and small print below.

    Args:
        height_in: of what is drawn; title and small print come on top of it.
        title: broken into lines where it is long.
        rehearsal: whether the figure says that it shows rehearsal data.
        notes: paragraphs of small print.
    """
    lines = [line for note in notes for line in wrapped(note)]
    n_lines = len(lines) + (1 if rehearsal else 0)
    above = wrapped(title, size=TEXT, weight="bold") if title else []
    strip_in = _LINE_IN * n_lines + (_GAP_IN if n_lines else 0.0)
    height_in += strip_in + 0.2 * len(above)
    share = strip_in / height_in
    pad_in = 0.06
    layout = ConstrainedLayoutEngine(rect=(0, share, 1, 1 - share), w_pad=pad_in, h_pad=pad_in)
    figure = Figure(figsize=(WIDTH_IN, height_in), dpi=DPI, layout=layout)
    if above:
        figure.suptitle("\n".join(above), fontsize=TEXT, weight="bold")
    for i, line in enumerate(reversed(lines), start=1 if rehearsal else 0):
        y = _LINE_IN * (i + 0.5) / height_in
        figure.text(_EDGE_IN / WIDTH_IN, y, line, va="center", color=GREY, fontsize=SMALL)
    if rehearsal:
        x, y = 1 - _EDGE_IN / WIDTH_IN, _LINE_IN * 0.5 / height_in
        mark = figure.text(x, y, REHEARSAL_MARK, ha="right", va="center", color=ALARM)
        mark.set(fontsize=TEXT, weight="bold")
    return figure


def wrapped(text: str, *, size: float = SMALL, weight: str = "normal") -> list[str]:
    """Lines that fit the width of the figure; broken at spaces, long names also after `_`."""
    font = FontProperties(size=size, weight=weight)
    # Fitted to pixels, letters come out up to a twentieth wider than drawn.
    widest = 0.95 * (WIDTH_IN - 2 * _EDGE_IN) * _POINTS_PER_IN
    lines = [""]
    for piece in text.replace("_", "_\0").replace(" ", " \0").split("\0"):
        longer = lines[-1] + piece
        if lines[-1] and _width(longer.rstrip(), font) > widest:
            lines.append(piece)
        else:
            lines[-1] = longer
    return [line.rstrip() for line in lines]


def _width(text: str, font: FontProperties) -> float:
    """In points."""
    return float(text_to_path.get_text_width_height_descent(text, font, ismath=False)[0])


def warnings(block: Block) -> list[str]:
    """Small print for every row whose weights had seen what it was tested on, or may have seen it,
    one line each.
    """
    said = [(cell.row, cell.verdict or "") for cell in block.cells]
    return [f"{row}: {verdict}." for row, verdict in said if any(w in verdict for w in _FLAWS)]


def nothing(title: str, sentence: str, *, rehearsal: bool) -> Figure:
    """A figure for which there is nothing to draw says so."""
    figure = sheet(0.6, title=title, rehearsal=rehearsal)
    figure.text(0.5, 0.5, sentence, ha="center", va="center", color=GREY, fontsize=TEXT)
    return figure


def plain(axes: Axes) -> None:
    """Axes without a frame on top and right, with small numbers."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=SMALL)


def png(figure: Figure) -> bytes:
    """The figure as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
