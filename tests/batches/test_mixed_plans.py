"""Plans that know no rounds, over several datasets: each segment has its turn, or each class."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emoray.batches.plans import (
    ClassPlan,
    Plan,
    Pool,
    RoundPlan,
    SegmentPlan,
    make_plan,
    with_few_labels,
)
from emoray.batches.sampling import BalancedClasses, RegionRounds, ShuffledSegments

Kind = type[SegmentPlan] | type[ClassPlan]
Segment = tuple[str, int]
"""A dataset and a row of its index."""
KINDS: tuple[Kind, ...] = (SegmentPlan, ClassPlan)

GOLDEN_CLASSES = [
    [("b", 10), ("b", 11)],
    [("a", 4), ("a", 0)],
    [("b", 12), ("a", 6), ("b", 10)],
]


@st.composite
def drawn_pools(draw: st.DrawFn) -> list[Pool]:
    """One to three datasets of up to twelve segments, with gaps between the rows."""
    pools = []
    for name in draw(st.sampled_from([("a",), ("a", "b"), ("c", "a", "b")])):
        labels = draw(st.lists(st.integers(0, 3), min_size=1, max_size=12))
        rows_S = 5 + 3 * np.arange(len(labels))
        pools.append(Pool(name, f"content of {name}", rows_S, label_S=np.array(labels)))
    return pools


batch_sizes = st.integers(1, 15)
seeds = st.integers(0, 2**40)
kinds = st.sampled_from(KINDS)


def segments_of(
    pools: Sequence[Pool], plan: Plan, step: int, rank: int = 0, world_size: int = 1
) -> dict[int, Segment]:
    """A worker's share of a step: segments by their places in it."""
    draws = plan.draws(step, rank, world_size)
    assert len(draws) == len(pools)
    found = [
        (place, (pool.name, row))
        for pool, draw in zip(pools, draws, strict=True)
        for place, row in zip(draw.positions_B.tolist(), draw.rows_B.tolist(), strict=True)
    ]
    assert len(dict(found)) == len(found)  # no place twice
    return dict(found)


def in_order(pools: Sequence[Pool], plan: Plan, step: int) -> list[Segment]:
    """A step's segments by place; the places are 0, 1, 2 ..."""
    found = segments_of(pools, plan, step)
    assert sorted(found) == list(range(len(found)))
    return [found[place] for place in range(len(found))]


def class_of(pools: Sequence[Pool]) -> dict[Segment, int]:
    return {
        (pool.name, row): label
        for pool in pools
        if pool.label_S is not None
        for row, label in zip(pool.rows_S.tolist(), pool.label_S.tolist(), strict=True)
    }


def spread(counts: Sequence[int]) -> int:
    return max(counts) - min(counts)


# What is drawn ------------------------------------------------------------------------------------


@given(pools=drawn_pools(), batch_size=batch_sizes, seed=seeds, epoch=st.integers(0, 500))
@settings(max_examples=60, deadline=None)
def test_an_epoch_has_every_segment_of_every_dataset_once(
    pools: list[Pool], batch_size: int, seed: int, epoch: int
) -> None:
    plan = SegmentPlan(pools, seed=seed, batch_size=batch_size)
    first = epoch * plan.n_steps
    steps = [in_order(pools, plan, first + step) for step in range(plan.n_steps)]
    assert sorted(segment for step in steps for segment in step) == sorted(class_of(pools))


@given(pools=drawn_pools(), batch_size=batch_sizes, seed=seeds, kind=kinds)
@settings(max_examples=60, deadline=None)
def test_steps_have_one_size_but_for_one_segment_and_draw_as_many_as_there_are(
    pools: list[Pool], batch_size: int, seed: int, kind: Kind
) -> None:
    plan = kind(pools, seed=seed, batch_size=batch_size)
    n = len(class_of(pools))
    sizes = [len(in_order(pools, plan, step)) for step in range(plan.n_steps)]
    assert plan.n_steps == math.ceil(n / batch_size)
    assert sum(sizes) == n
    assert max(sizes) == plan.n_segments_per_step <= batch_size
    assert spread(sizes) <= 1


@given(pools=drawn_pools(), batch_size=batch_sizes, seed=seeds, step=st.integers(0, 5000))
@settings(max_examples=80, deadline=None)
def test_every_step_has_as_many_segments_of_each_class_or_one_more(
    pools: list[Pool], batch_size: int, seed: int, step: int
) -> None:
    plan, labels = ClassPlan(pools, seed=seed, batch_size=batch_size), class_of(pools)
    counts = Counter(dict.fromkeys(labels.values(), 0))
    counts.update(labels[segment] for segment in in_order(pools, plan, step))
    assert spread([*counts.values()]) <= 1


@given(pools=drawn_pools(), batch_size=batch_sizes, seed=seeds)
@settings(max_examples=40, deadline=None)
def test_no_segment_of_a_class_comes_again_before_all_of_it_have_come(
    pools: list[Pool], batch_size: int, seed: int
) -> None:
    plan, labels = ClassPlan(pools, seed=seed, batch_size=batch_size), class_of(pools)
    times = dict.fromkeys(labels, 0)
    for step in range(3 * plan.n_steps):
        for segment in in_order(pools, plan, step):
            of_its_class = [times[s] for s in labels if labels[s] == labels[segment]]
            assert times[segment] == min(of_its_class)
            times[segment] += 1


# Where few labels are given -----------------------------------------------------------------------


@given(pools=drawn_pools(), share=st.floats(0.01, 1), seed=seeds)
@settings(max_examples=80, deadline=None)
def test_of_each_class_the_share_is_given_and_at_least_one(
    pools: list[Pool], share: float, seed: int
) -> None:
    for pool in pools:
        before, given_ = class_of([pool]), class_of([with_few_labels(pool, share, seed=seed)])
        assert given_.items() <= before.items()
        counts, wanted = Counter(given_.values()), Counter(before.values())
        assert counts == {k: max(1, round(share * n)) for k, n in wanted.items()}


@given(pools=drawn_pools(), shares=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)), seed=seeds)
@settings(max_examples=40, deadline=None)
def test_a_larger_share_adds_to_a_smaller_one(
    pools: list[Pool], shares: tuple[float, float], seed: int
) -> None:
    for pool in pools:
        few, more = (class_of([with_few_labels(pool, s, seed=seed)]) for s in sorted(shares))
        assert few.keys() <= more.keys()


def test_another_seed_gives_other_labels_and_the_same_seed_the_same() -> None:
    whole = Pool("a", "content", np.arange(60), label_S=np.repeat([0, 1, 2], 20))
    first, again, other = (with_few_labels(whole, 0.2, seed=s).rows_S.tolist() for s in (0, 0, 1))
    assert first == again != other
    assert len(first) == len(other) == 12


def test_with_all_labels_a_pool_is_what_it_was() -> None:
    (pool,) = [Pool("a", "content", np.arange(6), label_S=np.array([0, 1, 0, 1, 0, 0]))]
    assert with_few_labels(pool, 1.0, seed=5) is pool


# The same everywhere and for ever -----------------------------------------------------------------


@given(
    pools=drawn_pools(),
    batch_size=batch_sizes,
    kind=kinds,
    step=st.integers(0, 3000),
    before=st.lists(st.integers(0, 3000), max_size=3),
)
@settings(max_examples=60, deadline=None)
def test_a_step_depends_on_its_number_alone(
    pools: list[Pool], batch_size: int, kind: Kind, step: int, before: list[int]
) -> None:
    used, fresh = (kind(pools, seed=4, batch_size=batch_size) for _ in range(2))
    for other in before:
        used.draws(other)
    assert in_order(pools, used, step) == in_order(pools, fresh, step)


def reference_decks(pools: Sequence[Pool], seed: int, stream: int, members: list[Segment], n: int):
    """The first `n` segments of a stream, in plain loops: shuffled anew after each pass."""
    names = ["+".join(pool.name for pool in pools), "+".join(pool.digest for pool in pools)]
    key = json.dumps(["emoray plan 1", seed, *names, stream]).encode()
    philox = np.random.Philox(key=int.from_bytes(hashlib.sha256(key).digest()[:16], "little"))
    found: list[Segment] = []
    while len(found) < n:
        words = philox.random_raw(len(members)).tolist()
        found += [members[i] for i in sorted(range(len(members)), key=words.__getitem__)]
    return found[:n]


@given(pools=drawn_pools(), batch_size=batch_sizes, seed=seeds)
@settings(max_examples=40, deadline=None)
def test_both_plans_follow_their_definition_in_plain_loops(
    pools: list[Pool], batch_size: int, seed: int
) -> None:
    labels = class_of(pools)
    n = 3 * len(labels)
    shuffled = reference_decks(pools, seed, -1, list(labels), n)
    present = sorted(set(labels.values()))
    decks = [
        reference_decks(pools, seed, -2 - k, [s for s in labels if labels[s] == k], n)
        for k in present
    ]
    balanced = [decks[i % len(present)][i // len(present)] for i in range(n)]
    for kind, expected in ((SegmentPlan, shuffled), (ClassPlan, balanced)):
        plan = kind(pools, seed=seed, batch_size=batch_size)
        steps = [in_order(pools, plan, step) for step in range(3 * plan.n_steps)]
        assert [segment for step in steps for segment in step] == expected


def tiny() -> list[Pool]:
    return [
        Pool("a", "d", np.arange(0, 8, 2), label_S=np.array([0, 2, 2, 2])),
        Pool("b", "e", np.arange(10, 13), label_S=np.array([0, 1, 1])),
    ]


def test_a_tiny_plan_of_classes_never_changes() -> None:
    plan = ClassPlan(tiny(), seed=7, batch_size=3)
    assert [in_order(tiny(), plan, step) for step in range(3)] == GOLDEN_CLASSES


@pytest.mark.parametrize("kind", KINDS)
def test_the_digest_names_everything_that_changes_a_step_of_classes_or_segments(
    kind: Kind,
) -> None:
    a, b = tiny()
    assert b.label_S is not None
    plans = [
        kind([a, b], seed=0, batch_size=3),
        kind([a, b], seed=1, batch_size=3),
        kind([a, b], seed=0, batch_size=4),
        kind([b, a], seed=0, batch_size=3),
        kind([a], seed=0, batch_size=3),
        kind([a, replace(b, digest="f")], seed=0, batch_size=3),
        kind([a, Pool("b", "e", b.rows_S[:-1], label_S=b.label_S[:-1])], seed=0, batch_size=3),
    ]
    assert len({plan.digest for plan in plans}) == len(plans)
    assert plans[0].digest == kind(tiny(), seed=0, batch_size=3).digest
    assert ClassPlan(tiny(), seed=0, batch_size=3).digest != (
        SegmentPlan(tiny(), seed=0, batch_size=3).digest
    )


def test_other_labels_are_another_plan_of_classes_and_the_same_of_segments() -> None:
    """Ratings cut at another threshold: the index and the rows stay."""
    a, b = tiny()
    cut = [a, replace(b, label_S=np.array([1, 0, 1]))]
    by_class, shuffled = (
        [kind(pools, seed=0, batch_size=3) for pools in ([a, b], cut)]
        for kind in (ClassPlan, SegmentPlan)
    )
    assert by_class[0].digest != by_class[1].digest
    assert shuffled[0].digest == shuffled[1].digest
    steps = [[in_order(tiny(), plan, step) for step in range(3)] for plan in shuffled]
    assert steps[0] == steps[1]


# Shares -------------------------------------------------------------------------------------------


@given(
    pools=drawn_pools(),
    batch_size=batch_sizes,
    kind=kinds,
    step=st.integers(0, 200),
    data=st.data(),
)
@settings(max_examples=80, deadline=None)
def test_the_shares_of_all_workers_put_together_are_the_step(
    pools: list[Pool], batch_size: int, kind: Kind, step: int, data: st.DataObject
) -> None:
    plan = kind(pools, seed=2, batch_size=batch_size)
    world_size = data.draw(st.integers(1, len(class_of(pools)) // plan.n_steps))
    shares = [segments_of(pools, plan, step, rank, world_size) for rank in range(world_size)]
    together = {place: segment for share in shares for place, segment in share.items()}
    assert together == dict(enumerate(in_order(pools, plan, step)))
    sizes = [len(share) for share in shares]
    assert sum(sizes) == len(together)
    assert min(sizes) >= 1
    assert spread(sizes) <= 1


@given(pools=drawn_pools(), step=st.integers(0, 200), data=st.data())
@settings(max_examples=40, deadline=None)
def test_a_workers_share_of_classes_is_balanced_by_itself(
    pools: list[Pool], step: int, data: st.DataObject
) -> None:
    plan, labels = ClassPlan(pools, seed=2, batch_size=12), class_of(pools)
    world_size = data.draw(st.integers(1, len(labels) // plan.n_steps))
    for rank in range(world_size):
        counts = Counter(dict.fromkeys(labels.values(), 0))
        share = segments_of(pools, plan, step, rank, world_size)
        counts.update(labels[segment] for segment in share.values())
        assert spread([*counts.values()]) <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_more_workers_than_the_smallest_step_has_segments_are_refused(kind: Kind) -> None:
    plan = kind(tiny(), seed=0, batch_size=3)  # steps of 2, 2 and 3
    plan.check_workers(2)
    for n_workers in (0, 3):
        said = f"need 1 to 2 workers for steps of 2, got {n_workers}"
        with pytest.raises(ValueError, match=said):
            plan.check_workers(n_workers)
        with pytest.raises(ValueError, match=said):
            plan.draws(0, 0, n_workers)
    with pytest.raises(ValueError, match=r"need a rank in \[0, 1\], got 2"):
        plan.draws(0, 2, 2)


# What a stage asks for ----------------------------------------------------------------------------


def test_a_stage_gets_the_plan_of_its_sampling() -> None:
    pools = [replace(pool, va_S2=np.zeros((len(pool.rows_S), 2))) for pool in tiny()]
    rounds = make_plan(RegionRounds(2, "nearest"), pools, seed=3)
    assert isinstance(rounds, RoundPlan)
    assert rounds.digest == RoundPlan(pools, seed=3, rounds_per_step=2, empty="nearest").digest
    segments = make_plan(ShuffledSegments(3), pools, seed=3)
    assert segments.digest == SegmentPlan(pools, seed=3, batch_size=3).digest
    classes = make_plan(BalancedClasses(3), pools, seed=3)
    assert classes.digest == ClassPlan(pools, seed=3, batch_size=3).digest


def test_what_a_plan_needs_of_its_pools_is_said() -> None:
    bare = Pool("a", "d", np.arange(3))
    with pytest.raises(ValueError, match=r"a\+b: need labels to balance classes, got none"):
        ClassPlan([bare, tiny()[1]], seed=0, batch_size=2)
    with pytest.raises(ValueError, match="a: need valence and arousal to balance regions"):
        RoundPlan([bare], seed=0, rounds_per_step=1)
    with pytest.raises(ValueError, match=r"a: need labels of shape \(S,\), S = 3; got \(2,\)"):
        Pool("a", "d", np.arange(3), label_S=np.zeros(2, np.int64))


@pytest.mark.parametrize("kind", KINDS)
def test_no_dataset_a_dataset_twice_or_empty_batches_make_no_plan(kind: Kind) -> None:
    for pools in ([], [*tiny(), tiny()[0]]):
        with pytest.raises(ValueError, match="need one pool for each of one or more datasets"):
            kind(pools, seed=0, batch_size=2)
    with pytest.raises(ValueError, match="need batch_size of at least 1, got 0"):
        kind(tiny(), seed=0, batch_size=0)
