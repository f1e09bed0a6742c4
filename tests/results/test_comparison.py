from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emoray.evaluation.metrics import METRICS
from emoray.results.comparison import Block, Cell, Comparison
from emoray.results.store import ResultRow
from tests.rows import made_row


def run(seed: int, fold: str, percent: int, **changes: object) -> ResultRow:
    """A run of two equal classes whose three scores follow from `percent` right of each 100."""
    wrong = 100 - percent
    confusion = ((percent, wrong), (wrong, percent))
    return made_row(confusion, seed=seed, fold=fold, **changes)


def cell(row: str, scores: Mapping[tuple[int, str], int], n_folds: int, **changes: object) -> Cell:
    """Runs by (seed, fold) with their percentages."""
    results = tuple(run(seed, fold, percent, **changes) for (seed, fold), percent in scores.items())
    return Cell(row, results=results, folds_per_seed=n_folds)


def two_folds(*pairs: tuple[int, int]) -> dict[tuple[int, str], int]:
    """Percentages of folds `a` and `b`, seed by seed from 0."""
    return {(seed, "ab"[i]): pair[i] for seed, pair in enumerate(pairs) for i in (0, 1)}


# One value for each seed --------------------------------------------------------------------------


def test_a_seed_counts_once_with_the_mean_of_its_folds() -> None:
    found = cell("x", two_folds((60, 70), (80, 50), (90, 92)), 2)
    assert found.per_seed("bacc") == pytest.approx({0: 65.0, 1: 65.0, 2: 91.0})
    # Of two equal classes kappa is 2 bacc - 1, fold by fold and so in the mean.
    assert found.per_seed("kappa") == pytest.approx({0: 30.0, 1: 30.0, 2: 82.0})
    assert found.per_seed("wf1") == pytest.approx({0: 65.0, 1: 65.0, 2: 91.0})


def test_mean_sd_and_interval_are_those_of_the_seeds() -> None:
    """Of 61, 63, 64, 66, 71: worked out by hand, t of 4 degrees at 95 % is 2.776445."""
    scores = {(seed, "a"): percent for seed, percent in enumerate((61, 63, 64, 66, 71))}
    found = cell("x", scores, 1).summary("bacc")
    assert found is not None
    assert found.n == 5
    assert found.mean == pytest.approx(65.0)
    assert found.sd == pytest.approx(math.sqrt((16 + 4 + 1 + 1 + 36) / 4))  # 3.807887
    assert found.interval is not None
    reach = 2.7764451 * 3.8078866 / math.sqrt(5)
    assert (found.interval.low, found.interval.high) == pytest.approx(
        (65 - reach, 65 + reach), abs=1e-5
    )


def test_incomplete_seeds_are_left_out_and_counted() -> None:
    scores = two_folds((60, 70), (80, 50), (90, 92))
    del scores[1, "b"]
    found = cell("x", scores, 2)
    assert found.per_seed("bacc") == pytest.approx({0: 65.0, 2: 91.0})
    assert found.n_incomplete == 1
    summary = found.summary("bacc")
    assert summary is not None
    assert (summary.n, summary.mean) == (2, pytest.approx(78.0))


def test_one_seed_has_a_mean_and_no_spread() -> None:
    summary = cell("x", two_folds((60, 70)), 2).summary("wf1")
    assert summary is not None
    assert (summary.n, summary.sd, summary.interval) == (1, None, None)
    assert summary.mean == pytest.approx(65.0)


def test_where_nothing_ran_everything_is_blank() -> None:
    blank = Cell("x", {"bacc": (62.87, 0.76)}, n_wanted=5, errors=("out of memory",))
    assert [blank.summary(metric) for metric in METRICS] == [None] * len(METRICS)
    assert blank.per_seed("bacc") == {}
    assert (blank.verdict, blank.n_parameters, blank.n_head_parameters, blank.seconds) == (
        None,
        None,
        None,
        None,
    )
    assert (blank.start, blank.n_incomplete) == ("", 0)
    full = cell("y", two_folds((60, 70)), 2)
    assert blank.against(full, "bacc") is None
    assert full.against(blank, "bacc") is None


def test_only_incomplete_seeds_are_as_good_as_none() -> None:
    found = cell("x", {(0, "a"): 60, (1, "b"): 70}, 2)
    assert found.summary("bacc") is None
    assert found.n_incomplete == 2
    assert found.seconds == 12.5


# Against another row ------------------------------------------------------------------------------


def test_a_row_is_compared_seed_by_seed() -> None:
    """Differences 2, 4, 3, 5, 1: mean 3, sd sqrt(2.5), t = 4.242641, p = 0.013236 (scipy)."""
    before = (61, 60, 66, 64, 70)
    after = (63, 64, 69, 69, 71)
    ours = cell("soft", {(s, "a"): p for s, p in enumerate(after)}, 1)
    theirs = cell("scratch", {(s, "a"): p for s, p in enumerate(before)}, 1)
    found = ours.against(theirs, "bacc")
    assert found is not None
    assert (found.n, found.mean) == (5, pytest.approx(3.0))
    assert found.p == pytest.approx(0.013236, abs=5e-7)
    assert found.interval is not None
    reach = 2.7764451 * math.sqrt(2.5 / 5)
    assert (found.interval.low, found.interval.high) == pytest.approx((3 - reach, 3 + reach))
    assert found.interval.excludes_zero
    turned = theirs.against(ours, "bacc")
    assert turned is not None
    assert turned.mean == pytest.approx(-3.0)


def test_only_seeds_that_are_complete_in_both_are_compared() -> None:
    ours = cell("a", two_folds((60, 70), (80, 90), (50, 52)), 2)
    scores = two_folds((58, 68), (99, 99), (40, 50))
    del scores[1, "a"]
    theirs = cell("b", {**scores, (7, "a"): 10, (7, "b"): 10}, 2)
    found = ours.against(theirs, "bacc")
    assert found is not None
    assert (found.n, found.mean) == (2, pytest.approx((2 + 6) / 2))


def test_a_single_pair_has_neither_interval_nor_p() -> None:
    ours, theirs = (cell(name, {(3, "a"): p}, 1) for name, p in (("a", 70), ("b", 60)))
    found = ours.against(theirs, "bacc")
    assert found is not None
    assert (found.n, found.interval, found.p) == (1, None, None)
    assert found.mean == pytest.approx(10.0)


def test_differences_that_are_all_alike_have_no_p() -> None:
    ours, theirs = (
        cell(name, {(s, "a"): p + s for s in range(4)}, 1) for name, p in (("a", 70), ("b", 60))
    )
    found = ours.against(theirs, "bacc")
    assert found is not None
    assert (found.n, found.p) == (4, None)


def test_a_row_is_not_compared_with_itself() -> None:
    ours = cell("a", two_folds((60, 70), (80, 90)), 2)
    assert ours.against(ours, "bacc") is None


@pytest.mark.parametrize(
    "changes",
    [
        {"builds": {"faced-eeg-0d9cf00c654e": "other"}},
        {"protocol": "stimuli_apart_same_subjects"},
        {"target": {"kind": "cut", "rating": "valence", "above": 5.0}},
    ],
)
def test_rows_on_other_data_are_not_compared(changes: Mapping[str, object]) -> None:
    ours, theirs = cell("a", {(0, "a"): 60}, 1), cell("b", {(0, "a"): 60}, 1, **changes)
    with pytest.raises(ValueError, match="target, protocol and folds, got others in seed 0"):
        ours.against(theirs, "bacc")


def test_rows_on_other_folds_are_not_compared() -> None:
    ours, theirs = cell("a", {(0, "a"): 60}, 1), cell("b", {(0, "b"): 60}, 1)
    with pytest.raises(ValueError, match="same corpus, target, protocol and folds"):
        ours.against(theirs, "bacc")


runs = st.dictionaries(
    st.tuples(st.integers(0, 4), st.sampled_from("abc")), st.integers(0, 100), max_size=15
)


@settings(deadline=None)
@given(runs, runs, st.randoms(use_true_random=False))
def test_pairing_is_that_of_plain_loops_in_whatever_order_runs_came(
    ours: dict[tuple[int, str], int], theirs: dict[tuple[int, str], int], random: random.Random
) -> None:
    def mean(scores: Mapping[tuple[int, str], int], seed: int) -> float | None:
        of_seed = [scores[seed, fold] for fold in "abc" if (seed, fold) in scores]
        return sum(of_seed) / 3 if len(of_seed) == 3 else None

    differences = []
    for seed in range(5):
        a, b = mean(ours, seed), mean(theirs, seed)
        if a is not None and b is not None:
            differences.append(a - b)

    shuffled = list(ours.items())
    random.shuffle(shuffled)
    mine, other = cell("a", dict(shuffled), 3), cell("b", theirs, 3)
    found, turned = mine.against(other, "bacc"), other.against(mine, "bacc")
    assert len(mine.per_seed("bacc")) + mine.n_incomplete == len({seed for seed, _ in ours})
    assert (found is None) == (turned is None) == (not differences)
    if found is not None and turned is not None:
        assert found.n == turned.n == len(differences)
        assert found.mean == pytest.approx(sum(differences) / len(differences), abs=1e-9)
        assert found.mean == pytest.approx(-turned.mean, abs=1e-9)
        assert found.p == (None if turned.p is None else pytest.approx(turned.p))


@settings(deadline=None)
@given(runs, st.integers(0, 4), st.integers(0, 100))
def test_a_run_more_changes_no_other_seed(
    scores: dict[tuple[int, str], int], seed: int, percent: int
) -> None:
    before = cell("a", scores, 3).per_seed("kappa")
    after = cell("a", {(seed, "a"): percent, **scores}, 3).per_seed("kappa")
    assert {s: v for s, v in after.items() if s != seed} == {
        s: v for s, v in before.items() if s != seed
    }


# What else a cell says ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verdicts", "said"),
    [
        (["clean", "clean"], "clean"),
        (["clean", "same stimuli"], "same stimuli"),
        (["same stimuli", "clean", "same stimuli"], "same stimuli"),
        (
            ["same stimuli", "CONTAMINATED: pretraining saw test subjects; same stimuli", "clean"],
            "CONTAMINATED: pretraining saw test subjects; same stimuli",
        ),
        (
            ["clean", "same stimuli; people not known to be apart (SEED family)"],
            "people not known to be apart (SEED family); same stimuli",
        ),
        (
            ["CONTAMINATED: x; same stimuli", "LEAK: same subjects"],
            "LEAK: same subjects; CONTAMINATED: x; same stimuli",
        ),
    ],
)
def test_a_verdict_is_as_bad_as_the_worst_and_hides_none(
    verdicts: Sequence[str], said: str
) -> None:
    results = tuple(run(i, "a", 60, audit={"verdict": v}) for i, v in enumerate(verdicts))
    assert Cell("x", results=results).verdict == said


def test_costs_and_starts_are_those_of_the_runs() -> None:
    own = {"encoder": {"run": "ab", "step": 8}}
    authors = {"published": {"digest": "cd", "words": "weights of the authors"}}
    starts = ({}, own, authors, {**own, **authors}, {})
    results = tuple(
        run(i, "a", 60, starts=start, seconds=float(i)) for i, start in enumerate(starts)
    )
    found = Cell("x", results=results)
    assert found.start == (
        "from scratch / pretrained / weights of the authors / pretrained and weights of the authors"
    )
    assert (found.seconds, found.n_parameters, found.n_head_parameters) == (2.0, 850_000, 4_616)


@pytest.mark.parametrize(
    "changes",
    [
        {"dataset": "seed"},
        {"builds": {"faced-eeg-0d9cf00c654e": "other"}},
        {"protocol": "stimuli_apart_same_subjects"},
        {"method": "baselines"},
        {"stage": "train"},
        {"n_parameters": 1_000_000},
        {"n_head_parameters": 5},
        {"rehearsal": True},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_runs_of_two_models_or_corpora_are_no_cell(changes: dict[str, object]) -> None:
    (name,) = changes
    with pytest.raises(ValueError, match=f"x: need runs of one {name}, got "):
        Cell("x", results=(run(0, "a", 60), run(1, "a", 60, **changes)))


def test_a_run_is_in_a_cell_once() -> None:
    again = run(0, "a", 61, config={"epochs": 4})
    with pytest.raises(ValueError, match=r"each seed and fold once, got \[\(0, 'a'\)\] again"):
        Cell("x", results=(run(0, "a", 60), again), folds_per_seed=2)
    with pytest.raises(ValueError, match="need 1 folds of seed 0, got 2"):
        Cell("x", results=(run(0, "a", 60), run(0, "b", 60)))


@pytest.mark.parametrize(
    "change",
    [{"target": {"kind": "levels", "rating": "arousal", "edges": [3]}}, {"chosen_by": "auc"}],
)
def test_runs_of_a_cell_have_one_target_and_one_rule_of_choice(change: Mapping[str, Any]) -> None:
    (name,) = change
    runs = (run(0, "a", 60), run(1, "a", 60, curves={}, **change))
    with pytest.raises(ValueError, match=f"x: need runs of one {name}, got"):
        Cell("x", results=runs)


def test_a_seed_in_which_a_metric_is_not_defined_is_in_no_number_of_it() -> None:
    def with_area(seed: int, fold: str, area: float | None) -> ResultRow:
        plain = run(seed, fold, 60)
        found = dict(plain.scores) if area is None else {**plain.scores, "auc": area}
        return run(seed, fold, 60, scores=found)

    areas = {(0, "a"): 0.7, (0, "b"): 0.9, (1, "a"): 0.8, (1, "b"): None}
    rows = tuple(with_area(seed, fold, area) for (seed, fold), area in areas.items())
    found = Cell("x", results=rows, folds_per_seed=2)
    assert found.per_seed("auc") == pytest.approx({0: 80.0})
    assert (found.n_complete, list(found.per_seed("bacc"))) == (2, [0, 1])


# Blocks and comparisons ---------------------------------------------------------------------------


def block(*cells: Cell, protocol: str = "paper_same_stimuli", is_paper: bool = True) -> Block:
    metrics = ("bacc", "kappa", "wf1")
    return Block("faced", "faced", "FACED", protocol, is_paper, "as the paper", metrics, cells)


def comparison(*blocks: Block, rehearsal: bool = False) -> Comparison:
    return Comparison("table3", "Table 3", "Pretraining", "EMOD-Scratch", {}, blocks, rehearsal)


def test_a_cell_is_found_by_its_row() -> None:
    first, second = Cell("a"), Cell("b")
    assert block(first, second).cell("b") is second
    assert block(first).cell("b") is None


def test_a_block_holds_one_dataset_and_protocol_and_each_row_once() -> None:
    with pytest.raises(ValueError, match="faced, paper_same_stimuli: need each once, got a again"):
        block(Cell("a"), Cell("a"))
    other = Cell("a", results=(run(0, "a", 60),))
    with pytest.raises(ValueError, match="faced, other: got a run on faced, paper_same_stimuli"):
        block(other, protocol="other")
    assert block(other).cells == (other,)


def test_published_numbers_stand_under_the_papers_protocol_only() -> None:
    published = Cell("a", {"bacc": (58.99, 0.94)})
    assert block(published).cell("a") is published
    with pytest.raises(ValueError, match="other: need no published numbers for a"):
        block(published, protocol="other", is_paper=False)


def test_rehearsal_runs_are_never_taken_for_others() -> None:
    rehearsed = block(Cell("a", results=(run(0, "a", 60, rehearsal=True),)))
    assert comparison(rehearsed, rehearsal=True).blocks == (rehearsed,)
    with pytest.raises(ValueError, match="table3: need rehearsal=True"):
        comparison(rehearsed)


def test_a_block_is_in_a_comparison_once() -> None:
    with pytest.raises(ValueError, match="table3: need each once, got faced, paper_same_stimuli"):
        comparison(block(), block())
