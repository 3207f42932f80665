"""The policy for every table: the frontier is brute force at all knobs, a dominated model is never taken, a dearer knob never spends more.

Grades are multiples of 1/8 and costs and knobs powers and halves of small numbers, so that every worth is exact and a tie is a tie.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routewright.core import policy
from routewright.core.types import InputError, Predictions

SEEDS = st.integers(0, 100_000)
MODELS = st.integers(2, 5)
KNOBS = np.arange(-64, 65) / 16  # exact, and dense: the slopes below are no larger than 1


def table(seed: int, m: int, *, n: int = 25, levels: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """quality and cost (n, m) with many equal values in both."""
    rng = np.random.default_rng(seed)
    return rng.integers(levels, size=(n, m)) / 8, rng.integers(1, 6, size=(n, m)).astype(float)


def brute(quality: np.ndarray, cost: np.ndarray, knob: float) -> np.ndarray:
    """The best worth for each query, the cheaper model at a tie, the first of equals: one query and one model at a time."""
    served = []
    for grades, prices in zip(quality.tolist(), cost.tolist(), strict=True):
        options = sorted((-(grade - knob * price), price, j) for j, (grade, price) in enumerate(zip(grades, prices, strict=True)))
        served.append(options[0][2])
    return np.array(served)


def followed(front: policy.Frontier, knob: float) -> np.ndarray:
    """The model of every query once all events above this knob have happened."""
    served = front.start.copy()
    for query, before, after, at in zip(front.query, front.before, front.after, front.knob, strict=True):
        if at > knob:
            assert served[query] == before
            served[query] = after
    return served


@given(SEEDS, MODELS)
def test_the_frontier_is_brute_force_at_every_knob(seed: int, m: int) -> None:
    quality, cost = table(seed, m)
    front = policy.frontier(quality, cost)
    knobs = np.concatenate([KNOBS, front.knob, [-1000.0, 1000.0]])
    for knob in knobs[np.abs(knobs[:, None] - KNOBS).min(axis=1) == 0]:  # an exact tie among them, where the cheaper must stay
        np.testing.assert_array_equal(followed(front, knob), brute(quality, cost, knob))
    between = np.array([policy.between(front.knob, int(end)) for end in front.groups()])
    for knob in between:
        np.testing.assert_array_equal(followed(front, knob), brute(quality, cost, knob))


@given(SEEDS, MODELS)
def test_deciding_is_brute_force(seed: int, m: int) -> None:
    quality, cost = table(seed, m)
    for knob in KNOBS[::7]:
        decisions = policy.decide(quality, cost, float(knob))
        np.testing.assert_array_equal(decisions.served, brute(quality, cost, float(knob)))
        assert (decisions.called.sum(axis=1) == 1).all()


@given(SEEDS, MODELS, st.sampled_from([0.0, 0.25]))
def test_the_frontier_stops_at_its_floor(seed: int, m: int, lowest: float) -> None:
    quality, cost = table(seed, m)
    whole, cut = policy.frontier(quality, cost), policy.frontier(quality, cost, lowest=lowest)
    kept = whole.knob > lowest
    for name in ("query", "before", "after", "knob"):
        np.testing.assert_array_equal(getattr(cut, name), getattr(whole, name)[kept])
    np.testing.assert_array_equal(followed(cut, lowest), brute(quality, cost, lowest))


@given(SEEDS, MODELS)
def test_a_frontier_walks_down_in_knobs_and_up_in_cost(seed: int, m: int) -> None:
    quality, cost = table(seed, m)
    front = policy.frontier(quality, cost)
    assert np.all(np.diff(front.knob) <= 0)
    assert np.all(cost[front.query, front.after] > cost[front.query, front.before])
    pairs = list(zip(front.query.tolist(), front.after.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs), "no model is taken twice"
    for query in range(len(quality)):
        assert np.all(np.diff(front.knob[front.query == query]) < 0), "a query moves at most once at a knob"


@given(SEEDS, MODELS)
def test_groups_part_the_events_where_the_knob_falls(seed: int, m: int) -> None:
    front = policy.frontier(*table(seed, m))
    ends = front.groups()
    assert (ends[0], ends[-1]) == (0, len(front.knob))
    for begin, end in pairwise(ends.tolist()):
        assert np.ptp(front.knob[begin:end]) <= policy.TIED * max(1.0, abs(front.knob[begin])) * (end - begin)
    assert len(ends) - 1 == len(np.unique(front.knob.round(9)))


@given(SEEDS, MODELS, st.sampled_from([1 / 1024, 0.125, 0.5, 2.0, 64.0]))
def test_a_dominated_model_is_never_taken(seed: int, m: int, knob: float) -> None:
    """At a knob above 0: no other model is at least as good and as cheap as the one served, and better in one."""
    quality, cost = table(seed, m)
    served = policy.decide(quality, cost, knob).served
    rows = np.arange(len(quality))
    grade, price = quality[rows, served][:, None], cost[rows, served][:, None]
    dominates = (quality >= grade) & (cost <= price) & ((quality > grade) | (cost < price))
    assert not dominates.any()


@given(SEEDS, MODELS)
def test_at_knob_zero_the_best_grade_is_served_at_its_lowest_price(seed: int, m: int) -> None:
    quality, cost = table(seed, m)
    served = policy.decide(quality, cost, 0.0).served
    best = quality.max(axis=1)
    np.testing.assert_array_equal(quality[np.arange(len(quality)), served], best)
    lowest = np.where(quality == best[:, None], cost, np.inf).min(axis=1)
    np.testing.assert_array_equal(cost[np.arange(len(quality)), served], lowest)


@given(SEEDS, MODELS, st.lists(st.integers(-256, 256), min_size=2, max_size=6))
def test_raising_the_knob_never_raises_the_cost_of_a_query(seed: int, m: int, knobs: list[int]) -> None:
    quality, cost = table(seed, m)
    rows = np.arange(len(quality))
    spent = [cost[rows, policy.decide(quality, cost, knob / 64).served] for knob in sorted(knobs)]
    for dear, cheap in pairwise(spent):
        assert np.all(cheap <= dear)


@given(SEEDS, MODELS)
def test_a_knob_for_each_query_is_that_querys_own(seed: int, m: int) -> None:
    quality, cost = table(seed, m)
    knob = np.random.default_rng(seed).choice(KNOBS, size=len(quality))
    together = policy.decide(quality, cost, knob).served
    alone = [policy.decide(quality[i : i + 1], cost[i : i + 1], float(knob[i])).served[0] for i in range(len(quality))]
    assert together.tolist() == alone


@given(SEEDS, MODELS, st.integers(0, 4))
def test_the_order_of_models_does_not_matter(seed: int, m: int, turn: int) -> None:
    """Rotated columns: the same grade and price are bought, whichever of two equal models gives them."""
    quality, cost = table(seed, m)
    order = np.roll(np.arange(m), turn)
    rows = np.arange(len(quality))
    for knob in (-1.0, 0.0, 0.25, 1.0):
        here, there = (policy.decide(q, c, knob).served for q, c in ((quality, cost), (quality[:, order], cost[:, order])))
        np.testing.assert_array_equal(cost[rows, here], cost[rows, order[there]])
        np.testing.assert_array_equal(quality[rows, here], quality[rows, order[there]])


@given(st.lists(st.integers(-40, 40), min_size=1, max_size=12, unique=True))
def test_a_knob_between_events_lies_between_them(values: list[int]) -> None:
    knobs = np.sort(np.array(values, dtype=float) / 8)[::-1]
    bounds = [np.inf, *knobs, -np.inf]
    for position in range(len(knobs) + 1):
        knob = policy.between(knobs, position)
        assert bounds[position + 1] < knob < bounds[position]
    assert policy.between(np.zeros(0), 0) == 0.0


@given(SEEDS)
def test_threshold_is_the_gain_against_the_knob(seed: int) -> None:
    """RouteLLM's rule, whichever column is the strong model: it is called where its gain is above the threshold."""
    quality, cost = table(seed, 2)
    for weak, strong in ((0, 1), (1, 0)):
        counted = policy.weights(Predictions(quality, cost), "threshold", weak=weak, strong=strong)
        for knob in (-0.25, 0.0, 0.125):
            calls = policy.decide(quality, counted, knob).served == strong
            np.testing.assert_array_equal(calls, quality[:, strong] - quality[:, weak] > knob)


def test_no_query_is_no_event() -> None:
    front = policy.frontier(np.zeros((0, 3)), np.zeros((0, 3)))
    assert (len(front.knob), front.groups().tolist(), len(front.start)) == (0, [0], 0)


def test_an_unknown_policy_lists_the_policies() -> None:
    with pytest.raises(InputError, match="threshold, cost_aware"):
        policy.weights(Predictions(np.ones((1, 2)), np.ones((1, 2))), "cheapest")
