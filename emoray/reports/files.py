"""A comparison in every format that it is written in, by file name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from emoray.reports import page, tables
from emoray.reports.page import Figure
from emoray.results.comparison import Comparison


def contents(
    comparison: Comparison, figures: Sequence[Figure], facts: Mapping[str, str]
) -> dict[str, bytes]:
    """File name -> content: the page, the tables in three formats, each figure by itself.

    Without a block there is no table to write.
    """
    name = comparison.name
    texts = {f"{name}.html": page.render(comparison, figures, facts)}
    if comparison.blocks:
        texts |= {
            f"{name}.csv": tables.csv(comparison),
            f"{name}.md": tables.markdown(comparison),
            f"{name}.tex": tables.latex(comparison),
        }
    pictures = {f"{figure.name}.png": figure.png for figure in figures}
    return {**{file: text.encode() for file, text in texts.items()}, **pictures}
