"""The plan of rounds: pure, balanced, and each dataset by itself."""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emoray.batches.occupancy import REGION_NAMES
from emoray.batches.plans import Pool, RoundPlan, SegmentPlan, share
from emoray.batches.sampling import EmptyPolicy, worker_counts
from emoray.vocabulary import affect
from emoray.vocabulary.schema import IntArray

SEED_IV = ("neutral", "sadness", "fear", "joy")
SEED_VII = ("joy", "neutral", "disgust", "sadness", "anger", "fear", "surprise")
MPED = ("neutral", "joy", "amusement", "anger", "fear", "disgust", "sadness")

FILLED = {
    "seed_iv": {"rescaled": [3, 4, 5], "emod_code": [4, 7, 8]},
    "seed_vii": {"rescaled": [3, 4, 5], "emod_code": [3, 4, 7, 8]},
    "mped": {"rescaled": [3, 4, 5], "emod_code": [3, 4, 5, 7, 8]},
}

GOLDEN_STEP = [
    [
        [0, 20, 22, 24, 26, 10, 12, 14, 16],
        [18, 2, 4, 6, 8, 28, 30, 32, 34],
    ],
    [
        [100, 110, 104, 106, 102, 104, 100, 108, 104],
        [106, 110, 104, 106, 108, 104, 100, 102, 104],
    ],
]

GOLDEN_EPOCHS = [
    [[106, 114, 110], [118, 116, 120, 112], [100, 108, 102, 104]],
    [[104, 110, 114], [108, 112, 102, 120], [106, 116, 100, 118]],
]


def centre(region: int) -> tuple[float, float]:
    return 3.0 * (region % 3 - 1), 3.0 * (region // 3 - 1)


def pool(name: str, sizes: dict[int, int], *, digest: str = "d", first: int = 0) -> Pool:
    """A pool with so many segments in each region, one region after the other in turn."""
    turns = [(turn, region) for region, n in sizes.items() for turn in range(n)]
    regions = [region for _, region in sorted(turns)]
    va_S2 = np.array([centre(region) for region in regions])
    return Pool(name, digest, first + 2 * np.arange(len(regions)), va_S2)


def named_pool(name: str, emotions: tuple[str, ...], table: affect.EmotionTable) -> Pool:
    va_S2 = np.array([affect.place_emotion(e, table=table) for e in emotions * 11])
    return Pool(name, "d", np.arange(len(va_S2)), va_S2)


def rated_pool(name: str = "dreamer") -> Pool:
    levels = (-4.0, -2.0, 0.0, 2.0, 4.0)
    va_S2 = np.array([(v, a) for v in levels for a in levels] * 3)
    return Pool(name, "d", np.arange(len(va_S2)), va_S2)


def real_pools(table: affect.EmotionTable) -> list[Pool]:
    return [
        rated_pool(),
        named_pool("mped", MPED, table),
        named_pool("seed_iv", SEED_IV, table),
        named_pool("seed_vii", SEED_VII, table),
    ]


def regions_of(p: Pool, rows: IntArray) -> IntArray:
    return p.region_S[np.searchsorted(p.rows_S, rows)]


def reference_rows(p: Pool, seed: int, n_rounds: int, empty: EmptyPolicy) -> IntArray:
    """The plan's definition in plain loops, one draw after the other."""
    filled = sorted(set(p.region_S.tolist()))
    vacant = [region for region in range(9) if region not in filled]
    drawn: Counter[int] = Counter()
    extra = 0
    out = np.empty((n_rounds, 9), dtype=np.int64)
    for r in range(n_rounds):
        for slot in filled + vacant:
            region = slot
            if slot in vacant and empty == "spread":
                region = filled[extra % len(filled)]
                extra += 1
            elif slot in vacant:
                region = min(
                    filled, key=lambda f: (np.hypot(f % 3 - slot % 3, f // 3 - slot // 3), f)
                )
            out[r, slot] = reference_draw(p, seed, region, drawn[region])
            drawn[region] += 1
    return out


def reference_draw(p: Pool, seed: int, region: int, number: int) -> int:
    members = p.rows_S[p.region_S == region]
    key = json.dumps(["emoray plan 1", seed, p.name, p.digest, region]).encode()
    philox = np.random.Philox(key=int.from_bytes(hashlib.sha256(key).digest()[:16], "little"))
    n_pass, place = divmod(number, len(members))
    words = philox.random_raw((n_pass + 1) * len(members))[n_pass * len(members) :].tolist()
    order = sorted(range(len(members)), key=lambda i: (words[i], i))
    return int(members[order[place]])


sizes_by_region = st.dictionaries(st.integers(0, 8), st.integers(1, 7), min_size=1)
policies = st.sampled_from(["spread", "nearest"])


# The same everywhere and for ever ---------------------------------------------------------------


def test_a_tiny_plan_never_changes() -> None:
    full = pool("deap", dict.fromkeys(range(9), 2))
    partial = pool("seed_iv", {3: 2, 4: 3, 5: 1}, digest="e", first=100)
    plan = RoundPlan([full, partial], seed=7, rounds_per_step=2, n_steps=3)
    assert plan.step(1, 2).tolist() == GOLDEN_STEP
    assert plan.digest == "4e526d0de92a"


def test_another_process_makes_the_same_plan() -> None:
    here = Path(__file__).parent
    program = (
        f"import sys; sys.path.insert(0, {str(here)!r}); from test_plans import *;"
        "plan = RoundPlan(real_pools('emod_code'), seed=3, rounds_per_step=4);"
        "print(plan.digest, hashlib.sha256(plan.epoch(5).tobytes()).hexdigest())"
    )
    plan = RoundPlan(real_pools("emod_code"), seed=3, rounds_per_step=4)
    expected = [plan.digest, hashlib.sha256(plan.epoch(5).tobytes()).hexdigest()]
    for hash_seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=environment,
            cwd=here.parent,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split() == expected


@given(sizes=sizes_by_region, seed=st.integers(0, 2**40), empty=policies)
@settings(max_examples=25, deadline=None)
def test_a_plan_follows_its_definition_in_plain_loops(
    sizes: dict[int, int], seed: int, empty: EmptyPolicy
) -> None:
    p = pool("amigos", sizes)
    plan = RoundPlan([p], seed=seed, rounds_per_step=2, n_steps=3, empty=empty)
    rows_R9 = np.concatenate([plan.epoch(0), plan.epoch(1)]).reshape(12, 9)
    np.testing.assert_array_equal(rows_R9, reference_rows(p, seed, 12, empty))


@given(
    sizes=sizes_by_region,
    empty=policies,
    m=st.integers(1, 5),
    n_steps=st.integers(1, 6),
    epoch=st.integers(0, 1000),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_a_step_alone_is_the_step_of_its_epoch(
    sizes: dict[int, int], empty: EmptyPolicy, m: int, n_steps: int, epoch: int, data: st.DataObject
) -> None:
    step = data.draw(st.integers(0, n_steps - 1))

    def plan() -> RoundPlan:
        pools = [pool("deap", sizes), rated_pool()]
        return RoundPlan(pools, seed=1, rounds_per_step=m, n_steps=n_steps, empty=empty)

    whole, used = plan().epoch(epoch), plan()
    used.step(0, 0)  # fills the cache with other decks
    assert whole.shape == (n_steps, 2, m, 9)
    np.testing.assert_array_equal(plan().step(epoch, step), whole[step])
    np.testing.assert_array_equal(used.step(epoch, step), whole[step])


def test_rounds_are_numbered_through_the_run_whatever_an_epoch_is() -> None:
    short = RoundPlan([rated_pool()], seed=0, rounds_per_step=2, n_steps=3)
    long = RoundPlan([rated_pool()], seed=0, rounds_per_step=3, n_steps=4)
    rows = [short.epoch(e).reshape(6, 9) for e in (0, 1)]
    np.testing.assert_array_equal(np.concatenate(rows), long.epoch(0).reshape(12, 9))


def test_another_seed_name_or_content_is_another_plan() -> None:
    sizes = dict.fromkeys(range(9), 20)
    plans = [
        RoundPlan([pool("deap", sizes)], seed=0, rounds_per_step=4),
        RoundPlan([pool("deap", sizes)], seed=1, rounds_per_step=4),
        RoundPlan([pool("mdme", sizes)], seed=0, rounds_per_step=4),
        RoundPlan([pool("deap", sizes, digest="e")], seed=0, rounds_per_step=4),
    ]
    assert len({plan.epoch(0).tobytes() for plan in plans}) == 4
    assert len({plan.digest for plan in plans}) == 4


def test_the_digest_names_everything_that_changes_a_step() -> None:
    p = rated_pool()
    fewer = Pool(p.name, p.digest, p.rows_S[:-1], p.va_S2[:-1])
    plans = [
        RoundPlan([p], seed=0, rounds_per_step=4, n_steps=5),
        RoundPlan([p], seed=0, rounds_per_step=2, n_steps=5),
        RoundPlan([p], seed=0, rounds_per_step=4, n_steps=6),
        RoundPlan([p], seed=0, rounds_per_step=4, n_steps=5, empty="nearest"),
        RoundPlan([fewer], seed=0, rounds_per_step=4, n_steps=5),
    ]
    assert len({plan.digest for plan in plans}) == len(plans)


# Balance ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", ["rescaled", "emod_code"])
def test_every_filled_region_is_drawn_equally_over_a_thousand_rounds(
    table: affect.EmotionTable,
) -> None:
    pools = real_pools(table)
    plan = RoundPlan(pools, seed=0, rounds_per_step=4, n_steps=250)
    rows_NDM9 = plan.epoch(0)
    for d, p in enumerate(pools):
        filled = np.unique(p.region_S)
        if p.name in FILLED:
            assert filled.tolist() == FILLED[p.name][table]
        drawn = np.bincount(regions_of(p, rows_NDM9[:, d].ravel()), minlength=9)
        expected = 9000 / len(filled)
        assert np.all(np.abs(drawn[filled] - expected) <= 0.01 * expected)
        assert np.ptp(drawn[filled]) <= 1


@given(sizes=sizes_by_region, empty=policies)
@settings(max_examples=40, deadline=None)
def test_occupancy_is_what_the_plan_draws(sizes: dict[int, int], empty: EmptyPolicy) -> None:
    p = pool("deap", sizes)
    plan = RoundPlan([p], seed=0, rounds_per_step=1, n_steps=37, empty=empty)
    table = plan.occupancy(37)
    drawn = np.bincount(regions_of(p, plan.epoch(0).ravel()), minlength=9)
    assert table.available_D9[0].tolist() == [sizes.get(region, 0) for region in range(9)]
    assert table.drawn_D9[0].tolist() == drawn.tolist()
    assert table.drawn_D9.sum() == 9 * 37


@given(sizes=sizes_by_region, empty=policies)
@settings(max_examples=40, deadline=None)
def test_segments_of_a_region_are_drawn_equally_often_give_or_take_one(
    sizes: dict[int, int], empty: EmptyPolicy
) -> None:
    p = pool("deap", sizes)
    rows = RoundPlan([p], seed=0, rounds_per_step=3, n_steps=5, empty=empty).epoch(0)
    times = np.array([np.sum(rows == row) for row in p.rows_S])
    for region in sizes:
        assert np.ptp(times[p.region_S == region]) <= 1


def test_every_slot_of_a_filled_region_draws_that_region() -> None:
    p = pool("mped", {3: 5, 4: 9, 8: 2})
    rows_R9 = RoundPlan([p], seed=0, rounds_per_step=50, n_steps=1).epoch(0)[0, 0]
    for region in (3, 4, 8):
        assert set(regions_of(p, rows_R9[:, region])) == {region}


def test_a_deck_is_shuffled_anew_each_time() -> None:
    p = pool("deap", {0: 30})
    rows = RoundPlan([p], seed=0, rounds_per_step=10, n_steps=30).epoch(0).ravel()
    decks = rows[: 30 * 90].reshape(90, 30)
    assert all(sorted(deck) == p.rows_S.tolist() for deck in decks)
    assert len({deck.tobytes() for deck in decks}) == 90
    # Each segment leads a deck about three times in 90; a shuffle that kept its head would show.
    assert np.bincount(np.searchsorted(p.rows_S, decks[:, 0]), minlength=30).max() < 12


def test_nearest_gives_an_empty_slot_to_the_closest_region_and_ties_to_the_lowest_number() -> None:
    p = pool("seed_iv", {4: 3, 7: 3, 8: 3})
    rows_R9 = RoundPlan([p], seed=0, rounds_per_step=6, n_steps=1, empty="nearest").epoch(0)[0, 0]
    per_slot = [set(regions_of(p, rows_R9[:, slot]).tolist()) for slot in range(9)]
    # Slot 5 lies beside 4 and 8 (tie), slot 6 beside 7, slots 0 to 3 closest to 4.
    assert per_slot == [{4}, {4}, {4}, {4}, {4}, {4}, {7}, {7}, {8}]


# Datasets do not touch each other ---------------------------------------------------------------


@given(sizes=sizes_by_region, others=st.lists(sizes_by_region, max_size=3), empty=policies)
@settings(max_examples=40, deadline=None)
def test_no_dataset_changes_the_draws_of_another(
    sizes: dict[int, int], others: list[dict[int, int]], empty: EmptyPolicy
) -> None:
    p = pool("deap", sizes)
    alone = RoundPlan([p], seed=5, rounds_per_step=2, n_steps=4, empty=empty).epoch(2)
    company = [pool(f"other{i}", s) for i, s in enumerate(others)]
    together = RoundPlan([*company, p], seed=5, rounds_per_step=2, n_steps=4, empty=empty).epoch(2)
    np.testing.assert_array_equal(together[:, -1], alone[:, 0])


def test_emptying_a_region_of_one_dataset_changes_no_other() -> None:
    sizes = dict.fromkeys(range(9), 4)
    kept, other = pool("deap", sizes), pool("mdme", sizes)
    emptied = pool("mdme", {r: n for r, n in sizes.items() if r != 6})
    before = RoundPlan([other, kept], seed=0, rounds_per_step=4, n_steps=30).epoch(1)
    after = RoundPlan([emptied, kept], seed=0, rounds_per_step=4, n_steps=30).epoch(1)
    np.testing.assert_array_equal(before[:, 1], after[:, 1])
    assert not np.array_equal(before[:, 0], after[:, 0])


@given(order=st.permutations(range(4)))
@settings(max_examples=24, deadline=None)
def test_reordering_the_datasets_only_reorders_the_plan(order: list[int]) -> None:
    pools = real_pools("rescaled")
    plan = RoundPlan(pools, seed=0, rounds_per_step=2, n_steps=3)
    other = RoundPlan([pools[i] for i in order], seed=0, rounds_per_step=2, n_steps=3)
    np.testing.assert_array_equal(other.step(4, 2), plan.step(4, 2)[order])


def test_rows_that_are_held_out_are_never_drawn() -> None:
    p = rated_pool()
    kept = p.rows_S % 3 != 0
    eligible = Pool(p.name, p.digest, p.rows_S[kept], p.va_S2[kept])
    rows = RoundPlan([eligible], seed=0, rounds_per_step=4, n_steps=100).epoch(0)
    assert set(rows.ravel().tolist()) == set(p.rows_S[kept].tolist())


# Shares -----------------------------------------------------------------------------------------


@given(m=st.integers(1, 24), data=st.data())
def test_the_shares_put_together_are_the_step(m: int, data: st.DataObject) -> None:
    step = RoundPlan([rated_pool(), pool("deap", {4: 3})], seed=0, rounds_per_step=m).step(0, 0)
    world_size = data.draw(st.sampled_from(worker_counts(m)))
    shares = [share(step, rank, world_size) for rank in range(world_size)]
    assert {s.shape for s in shares} == {(2, m // world_size, 9)}
    np.testing.assert_array_equal(np.concatenate(shares, axis=1), step)


def test_a_share_of_an_epoch_is_the_shares_of_its_steps() -> None:
    plan = RoundPlan([rated_pool()], seed=0, rounds_per_step=4, n_steps=3)
    mine = share(plan.epoch(2), 1, 2)
    np.testing.assert_array_equal(mine, [share(plan.step(2, s), 1, 2) for s in range(3)])


def test_workers_that_do_not_divide_the_rounds_are_told_which_do() -> None:
    step = RoundPlan([rated_pool()], seed=0, rounds_per_step=4).step(0, 0)
    with pytest.raises(ValueError, match=r"divides the 4 rounds of a step \(1, 2, 4\), got 3"):
        share(step, 0, 3)
    with pytest.raises(ValueError, match=r"need a rank in \[0, 1\], got 2"):
        share(step, 2, 2)


# Every segment once an epoch ---------------------------------------------------------------------


def segment_plan(
    n: int = 100, *, name: str = "seed", digest: str = "d", seed: int = 0, batch_size: int = 16
) -> SegmentPlan:
    return SegmentPlan([Pool(name, digest, 3 * np.arange(n))], seed=seed, batch_size=batch_size)


def epoch_of(plan: SegmentPlan, epoch: int) -> list[list[int]]:
    """Rows of a plan of one dataset."""
    first = epoch * plan.n_steps
    draws = [plan.draws(first + step) for step in range(plan.n_steps)]
    return [draw.rows_B.tolist() for (draw,) in draws]


def order_of(plan: SegmentPlan, epoch: int) -> list[int]:
    return [row for step in epoch_of(plan, epoch) for row in step]


def rows_of(plan: SegmentPlan) -> list[int]:
    (pool,) = plan.pools
    return pool.rows_S.tolist()


numbers_of_segments = st.integers(1, 60)
batch_sizes = st.integers(1, 25)
seeds = st.integers(0, 2**40)


def test_a_tiny_plan_of_segments_never_changes() -> None:
    pool = Pool("seed", "d", np.arange(100, 122, 2))
    plan = SegmentPlan([pool], seed=7, batch_size=4)
    assert [epoch_of(plan, epoch) for epoch in (0, 1)] == GOLDEN_EPOCHS


def test_another_process_makes_the_same_plan_of_segments() -> None:
    here = Path(__file__).parent
    program = (
        f"import sys; sys.path.insert(0, {str(here)!r}); from test_plans import *;"
        "print(epoch_of(segment_plan(seed=3), 5))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONHASHSEED": "1"},
        cwd=here.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == epoch_of(segment_plan(seed=3), 5)


@given(n=numbers_of_segments, batch_size=batch_sizes, seed=seeds, epoch=st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_an_epoch_has_every_segment_once_in_steps_of_one_size_but_for_one_segment(
    n: int, batch_size: int, seed: int, epoch: int
) -> None:
    plan = segment_plan(n, seed=seed, batch_size=batch_size)
    steps = epoch_of(plan, epoch)
    sizes = [len(step) for step in steps]
    assert sorted(row for step in steps for row in step) == rows_of(plan)
    assert plan.n_steps == len(steps) == math.ceil(n / batch_size)
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1


@given(n=numbers_of_segments, batch_size=batch_sizes, seed=seeds)
@settings(max_examples=25, deadline=None)
def test_a_plan_of_segments_follows_its_definition_in_plain_loops(
    n: int, batch_size: int, seed: int
) -> None:
    plan = segment_plan(n, seed=seed, batch_size=batch_size)
    key = json.dumps(["emoray plan 1", seed, "seed", "d", -1]).encode()
    philox = np.random.Philox(key=int.from_bytes(hashlib.sha256(key).digest()[:16], "little"))
    for epoch in range(3):
        words = philox.random_raw(n).tolist()
        rows = rows_of(plan)
        assert order_of(plan, epoch) == [rows[i] for i in sorted(range(n), key=words.__getitem__)]


@given(n=numbers_of_segments, batch_size=batch_sizes, epoch=st.integers(0, 3000), data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_step_of_segments_does_not_depend_on_those_asked_for_before(
    n: int, batch_size: int, epoch: int, data: st.DataObject
) -> None:
    used, fresh = (segment_plan(n, batch_size=batch_size) for _ in range(2))
    for before in data.draw(st.lists(st.integers(0, 3000), max_size=3)):
        used.step(before, 0)
    step = data.draw(st.integers(0, used.n_steps - 1))
    np.testing.assert_array_equal(used.step(epoch, step), fresh.step(epoch, step))


def test_each_epoch_has_another_order() -> None:
    plan = segment_plan()
    orders = {tuple(order_of(plan, epoch)) for epoch in range(60)}  # through several blocks
    assert len(orders) == 60


def test_segments_meet_others_in_another_epoch() -> None:
    plan = segment_plan(batch_size=10)
    met = [{frozenset(step) for step in epoch_of(plan, epoch)} for epoch in (0, 1)]
    assert not met[0] & met[1]


def test_another_batch_size_cuts_the_same_order() -> None:
    orders = [order_of(segment_plan(batch_size=size), 4) for size in (1, 7, 100, 1000)]
    assert all(order == orders[0] for order in orders)


def test_another_seed_name_or_content_is_another_order_of_segments() -> None:
    plans = [
        segment_plan(),
        segment_plan(seed=1),
        segment_plan(name="faced"),
        segment_plan(digest="e"),
    ]
    assert len({tuple(order_of(plan, 0)) for plan in plans}) == 4


@pytest.mark.parametrize("place", [(-1, 0), (0, -1), (0, 7)])
def test_a_step_that_an_epoch_does_not_have_is_refused(place: tuple[int, int]) -> None:
    plan = segment_plan()
    assert plan.n_steps == 7
    with pytest.raises(ValueError, match=r"epoch of at least 0 and a step in \[0, 6\], got"):
        plan.step(*place)


def test_no_segments_or_empty_batches_are_refused() -> None:
    with pytest.raises(ValueError, match="seed: need at least one segment to draw from, got none"):
        segment_plan(0)
    with pytest.raises(ValueError, match="need batch_size of at least 1, got 0"):
        segment_plan(batch_size=0)


# What is printed --------------------------------------------------------------------------------


def test_the_papers_corpus_makes_278_steps_of_288() -> None:
    table_1 = (3840, 14655, 27340, 4389, 12190, 8372, 3955, 5329)
    pools = [Pool(str(i), "d", np.arange(n), np.zeros((n, 2))) for i, n in enumerate(table_1)]
    plan = RoundPlan(pools, seed=0, rounds_per_step=4)
    assert sum(table_1) == 80_070
    assert (plan.n_segments_per_step, plan.n_steps) == (288, 278)


def test_an_epoch_over_eighty_thousand_segments_is_planned_in_a_tenth_of_a_second() -> None:
    pools = [pool(f"dataset{i}", dict.fromkeys(range(i, 9), 2000)) for i in range(7)]
    plan = RoundPlan(pools, seed=0, rounds_per_step=4)
    seconds = []
    for epoch in range(5):
        start = time.perf_counter()
        plan.epoch(epoch)
        seconds.append(time.perf_counter() - start)
    assert sum(len(p.rows_S) for p in pools) == 84_000
    assert min(seconds) < 0.1  # about 0.01 on one core; the least, as the machine is shared


def test_a_corpus_smaller_than_a_step_still_has_one() -> None:
    assert RoundPlan([pool("deap", {0: 1})], seed=0, rounds_per_step=4).n_steps == 1


def test_the_occupancy_table_has_one_line_for_each_dataset() -> None:
    table = RoundPlan(real_pools("emod_code"), seed=0, rounds_per_step=4).occupancy()
    lines = {row[0]: row for row in table.rows()}
    assert list(lines) == ["dreamer", "mped", "seed_iv", "seed_vii"]
    assert {len(row) for row in lines.values()} == {len(table.header())}
    assert table.header()[2:] == REGION_NAMES
    # 4 regions share 9000 draws; region 3 holds disgust alone, 11 segments.
    assert lines["seed_vii"][2:] == (
        "-",
        "-",
        "-",
        "11 > 2,250",
        "22 > 2,250",
        "-",
        "-",
        "33 > 2,250",
        "11 > 2,250",
    )
    assert json.loads(json.dumps(table.to_dict()))["datasets"]["seed_iv"]["drawn"][4] == 3000


def test_regions_are_named_as_affect_numbers_them() -> None:
    numbered = affect.regions(np.array([centre(region) for region in range(9)]))
    assert numbered.tolist() == list(range(9))
    assert [REGION_NAMES[i] for i in (0, 2, 4, 8)] == ["V- A-", "V+ A-", "V0 A0", "V+ A+"]


# What is refused --------------------------------------------------------------------------------


def test_a_pool_without_segments_is_refused() -> None:
    with pytest.raises(ValueError, match="deap: need at least one segment"):
        Pool("deap", "d", np.empty(0, dtype=np.int64), np.empty((0, 2)))


@pytest.mark.parametrize("value", [np.nan, np.inf, 4.5])
def test_segments_without_a_place_in_the_square_are_counted_and_the_first_is_named(
    value: float,
) -> None:
    va_S2 = np.zeros((5, 2))
    va_S2[2, 1] = va_S2[4, 0] = value
    with pytest.raises(ValueError, match=r"mdme: .* 2 of 5 lack it, first index row 30: "):
        Pool("mdme", "d", np.arange(10, 60, 10), va_S2)


def test_unequal_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"deap: need valence-arousal .*, S = 3; got \(2, 2\)"):
        Pool("deap", "d", np.arange(3), np.zeros((2, 2)))


@pytest.mark.parametrize("rows", [[1, 1, 2], [2, 1, 3]])
def test_rows_twice_or_out_of_order_are_refused(rows: list[int]) -> None:
    with pytest.raises(ValueError, match="deap: need ascending index rows, each once; got"):
        Pool("deap", "d", np.array(rows), np.zeros((3, 2)))


def test_regions_without_segments_are_named_where_the_policy_is_error() -> None:
    p = pool("seed_iv", {r: 1 for r in range(9) if r not in (0, 6)})
    with pytest.raises(ValueError, match=r"seed_iv: need segments .* none in 0 \(V- A-\), 6 "):
        RoundPlan([rated_pool(), p], seed=0, rounds_per_step=4, empty="error")
    full = RoundPlan([rated_pool()], seed=0, rounds_per_step=4, empty="error")
    assert full.occupancy().drawn_D9.tolist() == [[1000] * 9]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rounds_per_step": 0}, "need rounds_per_step of at least 1, got 0"),
        ({"n_steps": 0}, "need n_steps of at least 1, got 0"),
        ({"empty": "skip"}, "need empty among spread, nearest, error; got 'skip'"),
    ],
)
def test_options_that_make_no_plan_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RoundPlan([rated_pool()], **({"seed": 0, "rounds_per_step": 4} | options))


def test_no_dataset_or_a_dataset_twice_is_refused() -> None:
    for pools in ([], [rated_pool(), rated_pool()]):
        with pytest.raises(ValueError, match="need one pool for each of one or more datasets"):
            RoundPlan(pools, seed=0, rounds_per_step=4)


def test_steps_that_do_not_exist_are_refused() -> None:
    plan = RoundPlan([rated_pool()], seed=0, rounds_per_step=4, n_steps=2)
    with pytest.raises(ValueError, match=r"need a step in \[0, 1\], got 2"):
        plan.step(0, 2)
    with pytest.raises(ValueError, match="need an epoch of at least 0, got -1"):
        plan.epoch(-1)


def test_passes_follow_each_other_in_one_stream() -> None:
    """Decks made one at a time and many at a time are the same decks."""
    p = pool("deap", {0: 7})
    plan = RoundPlan([p], seed=0, rounds_per_step=1, n_steps=50)
    singly = [RoundPlan([p], seed=0, rounds_per_step=1, n_steps=50).step(0, s) for s in range(50)]
    np.testing.assert_array_equal(plan.epoch(0), singly)
    assert all(not np.array_equal(a, b) for a, b in pairwise(singly))
