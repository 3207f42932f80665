"""What must hold of cascade routing, the optimal cascade and routing on any table."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routewright.core import policy
from routewright.core.contracts import PRIOR, SCORE, USD_PRIOR
from routewright.core.types import Outcomes
from routewright.eval.replay import realised, replay
from routewright.routers.cascades._spend import spend
from routewright.routers.cascades.cascade_routing import CascadeRouting
from routewright.routers.cascades.optimal import OptimalCascade
from routewright.routers.cascades.routing import Routing
from tests.conftest import make_outcomes

SHARES = [0.0, 0.1, 0.4, 0.8, 1.3]


def table(seed: int, *, n: int = 40, m: int = 4) -> Outcomes:
    rng = np.random.default_rng(seed)
    outcomes = make_outcomes(rng, n=n, m=m)
    noise = rng.normal(size=(2, n, m))
    prior, score = (1 / (1 + np.exp(-(2 * outcomes.quality - 1) * size - draw)) for size, draw in zip((0.5, 1.5), noise, strict=True))
    return replace(outcomes, signals={PRIOR: prior, SCORE: score, USD_PRIOR: outcomes.cost * np.exp(0.2 * rng.normal(size=(n, m)))})


def some(kind: int) -> CascadeRouting:
    return (
        CascadeRouting(depth=3, draws=8, shares=SHARES),
        CascadeRouting(depth=2, shallower=False, draws=8, space="identity", shares=SHARES),
        OptimalCascade(draws=8, shares=SHARES),
        Routing(shares=SHARES),
    )[kind]


kinds, seeds = st.integers(0, 3), st.integers(0, 10_000)


@given(kinds, seeds)
def test_spends_within_the_budget_it_learned_and_more_with_more(kind: int, seed: int) -> None:
    train = table(seed)
    cascade = some(kind).fit(train, rng=np.random.default_rng(seed))
    assert (np.diff(cascade.lambdas_[1:]) <= 0).all()
    decisions = [replay(cascade, train, knob=knob) for knob in SHARES]
    cost = np.array([realised(one, train)[1].mean() for one in decisions])
    budgets = np.array([cascade.budget(knob) for knob in SHARES])
    finite = np.isfinite(cascade.lambdas_)
    assert (cost[finite] <= budgets[finite] * (1 + 1e-9)).all()
    assert (np.diff(cost[finite]) >= -1e-12).all()
    cheapest = decisions[0].called.sum(axis=0)
    assert cheapest[cascade.order_[0]] == len(train)
    assert cheapest.sum() == len(train)


@given(kinds, seeds)
def test_what_fit_foresees_is_what_replay_finds(kind: int, seed: int) -> None:
    """Mean cost and quality at any lambda, read off the exact curve, against the loop that reveals answers."""
    train = table(seed)
    cascade = some(kind).fit(train, rng=np.random.default_rng(seed))
    score = train.signals[SCORE if SCORE in cascade.needs else PRIOR][:, cascade.models_].astype(float)
    quality = train.quality[:, cascade.models_].astype(float)
    curve = spend(cascade._planner().states(train.signals), score, train.cost[:, cascade.models_], quality)
    assert (np.diff(curve.knob) < 0).all()
    middle = (curve.knob[1:-1] + curve.knob[2:]) / 2
    for i in np.unique(np.linspace(0, len(middle) - 1, 4).astype(int)):
        cascade.lambdas_ = np.array([np.inf, *[middle[i]] * 4])
        right, usd = realised(replay(cascade, train, knob=1.0), train)
        assert usd.mean() == pytest.approx(curve.usd[i + 1], rel=1e-9)
        assert right.mean() == pytest.approx(curve.quality[i + 1], rel=1e-9)


@given(seeds, st.floats(0.01, 1000))
def test_routing_decides_as_the_policy_does(seed: int, lam: float) -> None:
    train = table(seed)
    router = Routing(shares=[0.0, 1.0]).fit(train, rng=np.random.default_rng(seed))
    router.lambdas_ = np.array([np.inf, lam])
    quality, usd = (train.signals[name].astype(float) for name in (PRIOR, USD_PRIOR))
    assert (replay(router, train, knob=1.0).served == policy.decide(quality, usd, lam).served).all()


@settings(max_examples=15)
@given(st.integers(0, 2), seeds)
def test_plans_that_were_kept_are_not_stale(kind: int, seed: int) -> None:
    """The same queries with other scores, and other queries of the same shape, between two replays."""
    train, judge, third = table(seed), table(seed + 1), table(seed + 2)
    other = replace(judge, signals={**judge.signals, SCORE: third.signals[SCORE]})
    cascade = some(kind).fit(train, rng=np.random.default_rng(seed))
    for outcomes in (judge, other, third, judge):
        fresh = some(kind).load(cascade.state())
        for knob in SHARES[1:]:
            mine, new = replay(cascade, outcomes, knob=knob), replay(fresh, outcomes, knob=knob)
            assert (mine.called == new.called).all()
            assert (mine.served == new.served).all()


@settings(max_examples=20)
@given(st.integers(0, 1), seeds)
def test_nothing_follows_a_sure_answer(kind: int, seed: int) -> None:
    """Scores that tell the truth: one right answer ends it, so all that was called before was wrong; and any right answer serves."""
    rough = table(seed)
    truth = replace(rough, signals={**rough.signals, SCORE: rough.quality})
    cascade = (CascadeRouting(depth=4, draws=8, shares=SHARES), OptimalCascade(draws=8, front=False, shares=SHARES))[kind]
    cascade.fit(truth, rng=np.random.default_rng(seed))
    for knob in SHARES:
        decisions = replay(cascade, truth, knob=knob)
        right = (truth.quality == 1) & decisions.called
        assert (right.sum(axis=1) <= 1).all()
        assert (realised(decisions, truth)[0] == right.any(axis=1)).all()


@settings(max_examples=20)
@given(seeds)
def test_a_free_model_is_asked_wherever_it_can_help(seed: int) -> None:
    rough = table(seed)
    usd = rough.signals[USD_PRIOR].copy()
    usd[:, 0] = 0.0
    cost = rough.cost.copy()
    cost[:, 0] = 0.0
    free = replace(rough, cost=cost, signals={**rough.signals, USD_PRIOR: usd})
    cascade = CascadeRouting(depth=4, shallower=False, draws=64, shares=SHARES).fit(free, rng=np.random.default_rng(seed))
    for knob in SHARES:
        assert replay(cascade, free, knob=knob).called[:, 0].mean() > 0.95


@given(kinds, seeds)
def test_the_same_seed_gives_the_same_bytes(kind: int, seed: int) -> None:
    first, second = (some(kind).fit(table(seed), rng=np.random.default_rng(seed)).state() for _ in range(2))
    assert set(first) == set(second)
    assert all(first[name].tobytes() == second[name].tobytes() for name in first)


@settings(max_examples=15)
@given(kinds, seeds)
def test_prices_in_another_currency_change_nothing(kind: int, seed: int) -> None:
    train = table(seed)
    dear = replace(train, cost=train.cost * 1024, signals={**train.signals, USD_PRIOR: train.signals[USD_PRIOR] * 1024})
    for knob in SHARES:
        mine, theirs = (replay(some(kind).fit(one, rng=np.random.default_rng(0)), one, knob=knob) for one in (train, dear))
        assert (mine.called == theirs.called).all()
