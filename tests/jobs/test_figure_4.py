"""Figure 4 says of whom its numbers speak, whatever encoder laid its points out."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from emoray.evaluation.maps import Map
from emoray.experiments import session
from emoray.experiments.options import Where
from emoray.jobs import reproduce
from emoray.reports import figures
from emoray.reports.page import Figure
from tests.small_experiments import reproduction, write_both


@pytest.mark.parametrize("seen", [True, False])
def test_the_page_says_whether_the_pretraining_saw_these_people(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen: bool
) -> None:
    corpus = write_both(tmp_path / "corpus")
    asked = reproduction(corpus, tmp_path)
    va_N2 = np.random.default_rng(0).uniform(-4, 4, (40, 2))
    dots = Map(va_N2, va_N2, ("deap-1",) * 40, "deap")
    shown: list[Figure] = []

    def report(place: session.Place, comparison: Any, found: list[Figure], **_: Any) -> None:
        shown.extend(found)

    monkeypatch.setattr(
        session,
        "lay_out",
        lambda *_: ({"untrained": dots, "pretrained": dots}, {"pretrained": (0.5, 0.4)}),
    )
    monkeypatch.setattr(session, "report", report)
    if not seen:
        others = replace(asked.full_pretraining(), builds={"dreamer-eeg-0": "0"})
        monkeypatch.setattr(type(asked), "full_pretraining", lambda _: others)
    place = session.Place(
        Where(corpus=str(corpus)), Console(file=io.StringIO()), str(tmp_path), str(corpus)
    )
    reproduce._projection(asked, asked.paper.figures["figure_4"], place, 0.0)
    (figure,) = shown
    assert (figures.SEEN in figure.caption) is seen
