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
        ("emo", "table3", "need a paper among alignment, emod, pipeline, ssl_ecg; got 'emo'"),
        ("emod", "table9", "need a table of emod among table2, .*, figure4; got 'table9'"),
    ],
)
def test_what_no_paper_has_is_refused(paper: str, table: str, need: str) -> None:
    with pytest.raises(ValueError, match=need):
        Reproduce(paper=paper, table=table)


@pytest.mark.parametrize(
    ("paper", "table"),
    [
        ("emod", "table3"),
        ("emod", "table_3"),
        ("ssl_ecg", "table_wesad"),
        ("ssl_ecg", "tablewesad"),
    ],
)
def test_a_table_may_be_asked_for_as_its_file_has_it(paper: str, table: str) -> None:
    assert Reproduce(paper=paper, table=table).table == table
    assert published.load(paper).table(table).name in ("table_3", "table_wesad")
    assert papers()["ssl_ecg"] == ("table_amigos", "table_dreamer", "table_wesad", "table_swell")
    assert "table3" in papers()["emod"]
