"""Embeddings in the plane, coloured by what was felt: Figure 4 of EMOD.

Shapes: N segments, 2 = the plane, or (valence, arousal).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure

from emoray.reports.figures.sheet import GREY, SMALL, TEXT, WIDTH_IN, png, sheet
from emoray.vocabulary.schema import FloatArray

AXES = ("valence", "arousal")
ARMS = ("untrained", "pretrained")
LIMIT = 4
"""Valence and arousal lie in [-4, 4]."""

RATINGS = LinearSegmentedColormap.from_list(
    "ratings", ["#0a1a5c", "#465a9a", "#8c8c8c", "#d39c40", "#ffc72e"]
)
"""Blue over grey to yellow: diverges in hue, which eyes without red or green also tell apart, and
grows steadily lighter, so that a grayscale print keeps low apart from high."""

LAYOUT = (
    "t-SNE keeps neighbours together; its directions, distances between groups and sizes mean "
    "nothing."
)
"""What must stand below every map."""

SEEN = (
    "The encoder was pretrained on these people's ratings: the right side, and its r, say what it "
    "holds of them, not of others."
)
"""What must stand beside a map, and a read-out, of whom the pretraining saw."""

_DISC_PT = 13.5
_PAD_PT = 1.0
_PUSHES = 400


class Layout(Protocol):
    """What a map of embeddings offers (`emoray.evaluation.maps.Map`)."""

    @property
    def points_N2(self) -> FloatArray:
        """In the plane; without unit."""

    @property
    def va_N2(self) -> FloatArray:
        """Valence and arousal in [-4, 4]; NaN where there is none."""

    @property
    def subjects(self) -> Sequence[str]:
        """Whose each segment is."""


def embedding_map(
    untrained: Layout,
    pretrained: Layout,
    *,
    title: str,
    rehearsal: bool,
    read_out: Mapping[str, Sequence[float | None]] | None = None,
    seen: bool = False,
) -> bytes:
    """Untrained beside pretrained, valence above arousal, as PNG.

    Points are segments, coloured by the rating. A numbered disc is the centroid, in the plane, of
    the segments whose rating rounds to that number; a disc that would hide another stands aside,
    on a thin line from its place. Segments without a rating are left out of that panel.

    Args:
        untrained: of the encoder before training.
        pretrained: the same segments after it.
        title: above the panels.
        rehearsal: whether to say in the picture that it shows rehearsal data.
        read_out: by arm (`untrained`, `pretrained`), how well valence and arousal are read from
            the embeddings of a subject by a straight line fitted on all others (Pearson r). This,
            unlike the picture, does not depend on the layout. Left blank where None.
        seen: whether the pretraining had these subjects' ratings; `SEEN` then stands below.

    Raises:
        ValueError: the two are not of the same segments.
    """
    return png(_figure(untrained, pretrained, title, rehearsal, read_out or {}, seen=seen))


def centroids(points_N2: FloatArray, values_N: FloatArray) -> dict[int, FloatArray]:
    """Mean point of each rounded value that occurs, lowest first; halves round to even."""
    known_N = np.isfinite(values_N)
    scores_N = np.rint(values_N[known_N]).astype(int)
    points_N2 = points_N2[known_N]
    return {int(s): points_N2[scores_N == s].mean(axis=0) for s in np.unique(scores_N)}


def _figure(
    untrained: Layout,
    pretrained: Layout,
    title: str,
    rehearsal: bool,
    read_out: Mapping[str, Sequence[float | None]],
    *,
    seen: bool = False,
) -> Figure:
    same_values = np.array_equal(untrained.va_N2, pretrained.va_N2, equal_nan=True)
    if not same_values or tuple(untrained.subjects) != tuple(pretrained.subjects):
        raise ValueError("need maps of the same segments, untrained and pretrained, got others")
    notes = _notes(read_out) + ([SEEN] if seen else [])
    figure = sheet(WIDTH_IN + 0.7, title=title, rehearsal=rehearsal, notes=notes)
    grid = figure.subplots(2, 2)
    for row, axis in enumerate(AXES):
        for column, (arm, layout) in enumerate(zip(ARMS, (untrained, pretrained), strict=True)):
            r = read_out.get(arm, (None, None))[row]
            _panel(grid[row, column], layout, row, r)
        grid[row, 0].set_ylabel(axis, fontsize=TEXT)
    for axes, arm in zip(grid[0], ARMS, strict=True):
        axes.set_title(arm, fontsize=TEXT)
    bar = figure.colorbar(
        ScalarMappable(Normalize(-LIMIT, LIMIT), RATINGS),
        ax=list(grid.ravel()),
        location="bottom",
        ticks=range(-LIMIT, LIMIT + 1),
        shrink=0.7,
        aspect=35,
        pad=0.02,
    )
    bar.set_label("rating (\u22124 low, 4 high)", fontsize=SMALL)
    bar.ax.tick_params(labelsize=SMALL)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # discs keep apart on paper: sizes stay as they are now
    for row, line in enumerate(grid):
        for axes, layout in zip(line, (untrained, pretrained), strict=True):
            _number(axes, centroids(layout.points_N2, layout.va_N2[:, row]))
    return figure


def _notes(read_out: Mapping[str, Sequence[float | None]]) -> list[str]:
    notes = [f"{LAYOUT} Discs: centroids of the rounded ratings, in this plane."]
    if read_out:
        notes.append(
            "r: ratings read from the embeddings themselves by a straight line, fitted without the "
            "subject that it is scored on (Pearson)."
        )
    return notes


def _panel(axes: Axes, layout: Layout, axis: int, r: float | None) -> None:
    values_N = layout.va_N2[:, axis]
    known_N = np.flatnonzero(np.isfinite(values_N))
    # Shuffled, always alike: otherwise the last subject would cover the others.
    order_N = np.random.default_rng(0).permutation(known_N)
    axes.scatter(
        layout.points_N2[order_N, 0],
        layout.points_N2[order_N, 1],
        c=values_N[order_N],
        cmap=RATINGS,
        vmin=-LIMIT,
        vmax=LIMIT,
        s=float(np.clip(6000 / max(len(order_N), 1), 1.5, 14)),
        linewidth=0,
    )
    axes.set_aspect("equal", adjustable="datalim")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_color(GREY)
    n_subjects = len(set(np.asarray(layout.subjects)[known_N]))
    said = f"{len(known_N):,} segments, {n_subjects} subjects"
    if r is not None:
        said += "\nread-out r = " + f"{r:+.2f}".replace("-", "\u2212")
    axes.set_xlabel(said, fontsize=SMALL, color=GREY)


def _number(axes: Axes, found: Mapping[int, FloatArray]) -> None:
    """Numbered discs at the centroids, or beside them where they would overlap."""
    if not found:
        return
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())  # discs move nothing
    to_points = 72 / axes.figure.dpi
    centres_K2 = np.stack(list(found.values()))
    places_K2 = axes.transData.transform(centres_K2) * to_points
    box = axes.get_window_extent()
    low_2, high_2 = np.array([box.p0, box.p1]) * to_points
    discs_K2 = apart(places_K2, low_2, high_2)
    shown_K2 = axes.transData.inverted().transform(discs_K2 / to_points)
    for centre_2, disc_2 in zip(centres_K2, shown_K2, strict=True):
        axes.plot(*np.stack([centre_2, disc_2]).T, color="black", linewidth=0.9, zorder=3)
        axes.plot(*centre_2, "o", color="black", markersize=2.2, zorder=3)
    for score, (x, y) in zip(found, shown_K2, strict=True):
        disc = axes.plot(x, y, "o", markersize=_DISC_PT, markerfacecolor="white", zorder=4)[0]
        disc.set(color="black", markeredgewidth=1.1, gid=f"disc {score}")
        said = axes.text(x, y, str(score).replace("-", "\u2212"), ha="center", zorder=5)
        said.set(va="center_baseline", fontsize=_DISC_PT * 0.62, weight="bold")


def apart(places_K2: FloatArray, low_2: FloatArray, high_2: FloatArray) -> FloatArray:
    """Centres of discs near their places, pushed apart until none covers another.

    Args:
        places_K2: in points (1/72 inch), as is all.
        low_2: lower left corner of the box to stay in.
        high_2: its upper right corner.
    """
    margin = _DISC_PT / 2 + _PAD_PT
    turns_K2 = 1e-6 * _round_the_circle(len(places_K2))  # discs that coincide part as well
    discs_K2 = np.clip(places_K2 + _out_of_crowds(places_K2), low_2 + margin, high_2 - margin)
    for _ in range(_PUSHES):
        nudged_K2 = discs_K2 + turns_K2
        between_KK2 = nudged_K2[:, None] - nudged_K2[None]
        far_KK = np.linalg.norm(between_KK2, axis=-1)
        np.fill_diagonal(far_KK, np.inf)
        lacks_KK = np.maximum(_DISC_PT + _PAD_PT - far_KK, 0)
        if not lacks_KK.any():
            break
        push_KK2 = between_KK2 / far_KK[..., None] * lacks_KK[..., None]
        discs_K2 = np.clip(discs_K2 + 0.4 * push_KK2.sum(axis=1), low_2 + margin, high_2 - margin)
    return discs_K2


def _out_of_crowds(places_K2: FloatArray) -> FloatArray:
    """For places too close for their discs, a step outwards, so that lines to them fan out."""
    far_KK = np.linalg.norm(places_K2[:, None] - places_K2[None], axis=-1)
    steps_K2 = np.zeros_like(places_K2, dtype=np.float64)
    for k, near_K in enumerate(far_KK < _DISC_PT / 2):
        n = int(near_K.sum())
        if n == 1:
            continue
        out_2 = places_K2[k] - places_K2[near_K].mean(axis=0)
        out_2 = out_2 + 1e-3 * _round_the_circle(n)[int(near_K[:k].sum())]
        ring = (_DISC_PT + _PAD_PT) / (2 * np.sin(np.pi / n))
        steps_K2[k] = ring * out_2 / max(float(np.linalg.norm(out_2)), 1e-9)
    return steps_K2


def _round_the_circle(n: int) -> FloatArray:
    """So many directions, evenly spread, (n, 2)."""
    turns_N = 2 * np.pi * np.arange(n) / n
    return np.stack([np.cos(turns_N), np.sin(turns_N)], axis=1)
