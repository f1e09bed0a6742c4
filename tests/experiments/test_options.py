"""What jobs may be asked is known before anything heavy is loaded."""

from __future__ import annotations

import pytest

from emoray.experiments.options import Reproduce, papers
from emoray.results import published


def test_every_table_and_figure_of_every_paper_can_be_asked_for() -> None:
    assert list(papers()) == list(published.names())
    for name, tables in papers().items():
        paper = published.load(name)
        for table in tables:
            assert paper.figure(table) or paper.table(table)
        assert len(tables) == len(paper.tables) + len(paper.figures)


@pytest.mark.parametrize(
    ("paper", "table", "need"),
    [
        ("emo", "table3", "need a paper among emod, ssl_ecg; got 'emo'"),
        ("emod", "table9", "need a table of emod among table2, .*, figure4; got 'table9'"),
    ],
)
def test_what_no_paper_has_is_refused(paper: str, table: str, need: str) -> None:
    with pytest.raises(ValueError, match=need):
        Reproduce(paper=paper, table=table)
