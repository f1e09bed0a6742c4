"""What is printed of a run: rehearsal data are marked everywhere, and what is unknown is blank."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from rich.console import Console, RenderableType

from emoray.batches.occupancy import REGION_NAMES, Occupancy
from emoray.evaluation.readout import AxesScores, AxisScores, ReadOut
from emoray.evaluation.statistics import Interval
from emoray.evaluation.within import WithinPeople
from emoray.reports import summary

MARK = "[rehearsal data]"
EIGHT = ("amigos", "deap", "dreamer", "faced", "mahnob_hci", "mdme", "mped", "seed_vii")
LONG = "s3://" + "/".join(["a-bucket-of-ours"] * 9)
"""A place that no line of 100 columns holds."""


def rendered(what: RenderableType) -> str:
    said = io.StringIO()
    Console(file=said, width=100).print(what)
    return said.getvalue()


def occupancy_of(names: tuple[str, ...]) -> Occupancy:
    available_D9 = np.full((len(names), 9), 12_345)
    available_D9[:, 0] = 0
    drawn_D9 = np.full((len(names), 9), 27_800)
    return Occupancy(names, 111_200, available_D9, drawn_D9)


def arm(valence: float | None, arousal: float | None) -> dict[str, Any]:
    """A read-out of two datasets as the driver stores it."""
    scores = AxesScores(axis(valence), axis(arousal))
    return asdict(ReadOut(scores, {"deap": scores, "mahnob_hci": scores}, {}, 160))


def axis(r: float | None) -> AxisScores:
    """Of two people who count and one who does not."""
    if r is None:
        return AxisScores(40, WithinPeople(left_out={"deap-02": "nothing could be read"}))
    interval = Interval(r, r - 0.25, r + 0.25, 2)
    left_out = {"deap-02": "7 segments, of 8 needed"}
    return AxisScores(40, WithinPeople(r, 2, interval, left_out), r + 0.125, r + 0.375)


SCORES = {"pretrained": arm(0.5, 0.25), "untrained": arm(0.125, -0.0625)}
NOBODY: dict[str, Any] = {"pretrained": None, "untrained": None}

PRINTED: dict[str, Callable[[bool], RenderableType]] = {
    "occupancy": lambda r: summary.occupancy(occupancy_of(EIGHT), rehearsal=r),
    "read_out": lambda r: summary.read_out(SCORES, rehearsal=r),
    "read_out of nobody": lambda r: summary.read_out(NOBODY, rehearsal=r),
    "end": lambda r: summary.end({"checkpoint": LONG}, 754.2, rehearsal=r),
    "run": lambda r: summary.run({"corpus": f"{LONG}: 1,234 segments"}, rehearsal=r),
}


@pytest.mark.parametrize("what", PRINTED)
def test_rehearsal_data_are_marked_and_nothing_else_is(what: str) -> None:
    assert rendered(PRINTED[what](True)).count(MARK) == 1
    assert MARK not in rendered(PRINTED[what](False))


@pytest.mark.parametrize("what", PRINTED)
def test_nothing_is_wider_than_a_hundred_columns(what: str) -> None:
    assert max(map(len, rendered(PRINTED[what](True)).splitlines())) <= 100


@pytest.mark.parametrize("what", ["end", "run"])
def test_a_long_place_is_folded_and_stays_whole(what: str) -> None:
    assert LONG in re.sub(r"\s", "", rendered(PRINTED[what](False)))


def test_every_region_of_every_dataset_is_shown_with_its_draws() -> None:
    said = rendered(PRINTED["occupancy"](False))
    head, *lines = said.split("amigos")
    for word in " ".join(REGION_NAMES).split():
        assert word in head
    for name in EIGHT[1:]:
        assert name in said
    assert said.count("12,345") == said.count("27,800") == 8 * 8
    assert said.count(f"{8 * 12_345:,}") == 8
    assert "draws in 111,200 rounds" in lines[-1]


def test_an_empty_region_is_a_dash() -> None:
    said = rendered(summary.occupancy(occupancy_of(("deap",)), rehearsal=False))
    (line,) = [line for line in said.splitlines() if line.startswith("deap")]
    assert line.split()[:3] == ["deap", "98,760", "-"]


def rows_of(scores: dict[str, Any]) -> dict[str, list[str]]:
    """Cells of the read-out by the row's name."""
    lines = rendered(summary.read_out(scores, rehearsal=False)).splitlines()
    split = [line.split() for line in lines if line.strip()]
    return {words[0]: words[1:] for words in split if words[0] in ("deap", "mahnob_hci", "all")}


def test_pretrained_stands_beside_untrained_for_each_dataset_and_all() -> None:
    cells = ["40", "2", "+0.50", "+0.12", "+0.25", "-0.06"]
    assert rows_of(SCORES) == {"deap": cells, "mahnob_hci": cells, "all": cells}
    assert "(mean of Pearson r within people)" in rendered(PRINTED["read_out"](False))


def test_the_interval_and_the_pooled_r_stand_below_by_their_names() -> None:
    lines = rendered(summary.read_out(SCORES, rehearsal=False)).splitlines()
    below = lines[[line.split()[:1] for line in lines].index(["all"]) + 1 :]
    assert [line.split() for line in below[:3]] == [
        "95 % interval +0.25 +0.75 -0.12 +0.38 +0.00 +0.50 -0.31 +0.19".split(),
        ["r", "in", "datasets", "+0.62", "+0.25", "+0.38", "+0.06"],
        ["pooled", "r", "+0.88", "+0.50", "+0.62", "+0.31"],
    ]


def test_who_does_not_count_is_said_once_and_where() -> None:
    said = rendered(summary.read_out(SCORES, rehearsal=False))
    assert said.count("not counted: deap-02, 7 segments, of 8 needed") == 1
    scores = {"pretrained": arm(0.5, 0.25), "untrained": arm(None, None)}
    said = " ".join(rendered(summary.read_out(scores, rehearsal=False)).split())
    assert "deap-02, nothing could be read (valence untrained, arousal untrained)" in said


def test_a_correlation_that_cannot_be_computed_is_blank() -> None:
    scores = {"pretrained": arm(None, None), "untrained": arm(None, None)}
    assert rows_of(scores) == {name: ["40", "0"] for name in ("deap", "mahnob_hci", "all")}
    assert not re.search(
        r"\bnan\b|none|\s[+-]\d", rendered(summary.read_out(scores, rehearsal=False)).lower()
    )


def test_a_blank_keeps_its_place_among_numbers() -> None:
    scores = {"pretrained": arm(0.5, 0.25), "untrained": arm(0.125, -0.0625)}
    for name, axis_name in (("pretrained", "valence"), ("untrained", "arousal")):
        of_deap = scores[name]["by_dataset"]["deap"] = deepcopy(scores[name]["scores"])
        of_deap[axis_name]["people"]["r"] = None
    line, full = (
        next(
            line
            for line in rendered(summary.read_out(s, rehearsal=False)).splitlines()
            if line.startswith("deap")
        )
        for s in (scores, SCORES)
    )
    assert line.split() == ["deap", "40", "2", "+0.12", "+0.25"]
    assert line.index("+0.12") == full.index("+0.12")
    assert line.index("+0.25") == full.index("+0.25")


def test_a_run_without_held_out_subjects_says_so_instead_of_numbers() -> None:
    said = rendered(PRINTED["read_out of nobody"](False))
    assert "nobody was held out" in said
    assert not re.search(r"\d", said)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "Done in 0 s"), (59.6, "Done in 1 min 0 s"), (754.2, "Done in 12 min 34 s")],
)
def test_the_time_taken_is_told_in_minutes_and_seconds(seconds: float, words: str) -> None:
    assert rendered(summary.end({}, seconds, rehearsal=False)).splitlines()[0] == words


def test_files_are_one_a_line_by_what_they_are() -> None:
    said = rendered(summary.files({"checkpoint": "/runs/a/step-1", "loss curve": "/runs/a/l.png"}))
    assert [line.split() for line in said.splitlines()] == [
        ["checkpoint", "/runs/a/step-1"],
        ["loss", "curve", "/runs/a/l.png"],
    ]


@pytest.mark.parametrize("place", ["/data/[old]/runs", "/data/[/b]/runs", "/data/[bold]x/runs"])
def test_a_place_with_brackets_is_shown_as_it_is(place: str) -> None:
    assert place in rendered(summary.files({"corpus": place}))


def test_doubts_of_a_read_out_stand_below_it_in_full() -> None:
    line = "seed_iv: people not known to be apart (SEED family); seed_vii trained"
    assert rendered(summary.doubts([line])) == f"{line}\n"
    assert rendered(summary.doubts([])).strip() == ""
