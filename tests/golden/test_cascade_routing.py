"""Cascade routing, the optimal cascade and routing on tables small enough to do by hand, and the paper's measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from routewright.core.contracts import PRIOR, SCORE, USD_PRIOR, USD_SCORE, Cascade, State
from routewright.core.posterior import sigmoid
from routewright.core.types import InputError, Outcomes, Pool, Queries
from routewright.eval import paper_cascade as paper
from routewright.eval.replay import bought, realised, replay
from routewright.routers.cascades import _posterior
from routewright.routers.cascades.cascade_routing import CascadeRouting
from routewright.routers.cascades.optimal import OptimalCascade
from routewright.routers.cascades.routing import Routing

Numbers = Sequence[Sequence[float]]


def table(prior: Numbers, score: Numbers, cost: Sequence[float], quality: Numbers | None = None) -> Outcomes:
    """Models a, b, ... whose calls cost the same for every query."""
    seen = np.array(prior, dtype=float)
    names = [f"q{i}" for i in range(len(seen))]
    usd = np.tile(np.array(cost, dtype=float), (len(seen), 1))
    signals = {PRIOR: seen, SCORE: np.array(score, dtype=float), USD_PRIOR: usd}
    right = np.zeros(seen.shape) if quality is None else np.array(quality, dtype=float)
    return Outcomes(Queries(names, names, names), Pool(tuple("abcdefgh"[: seen.shape[1]])), right, usd, signals=signals)


def two_models(lam: float, depth: int = 2) -> State:
    """A cascade of a (1 USD) and b (10 USD) whose scores fall .2 above or below the prior, all four ways equally likely."""
    return {
        "models_": np.array([0, 1]),
        "depth_": np.array([depth]),
        "knobs_": np.array([0.0, 1.0]),
        "lambdas_": np.array([np.inf, lam]),
        "look_": np.zeros(2),
        "intercept_": np.zeros(2),
        "slope_": np.ones(2),
        "covariance_": np.eye(2) * 0.2**2,
        "draws_": np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]),
        "cost_": np.array([1.0, 10.0]),
        "order_": np.array([0, 1]),
        "low_": np.array([1.0]),
        "high_": np.array([10.0]),
    }


# lambda .02. q0 and q1 at the root: {a} .5 - .02 = .48; {b} .6 - .2 = .4; {a, b} (.8 + .7 + .8 + .4) / 4 - .22 = .455: a is called.
# q0: a scores .9, b can reach .8: stop. q1: a scores .2: {a, b} is worth (.8 + .4) / 2 - .2 = .4 > .2: b is called, scores .1, a serves.
# q2 at the root: .28, .7, (1.1 + .7 + 1.1 + .7) / 4 - .22 = .68: b is called; it scores .5, a can reach .5: stop.
BY_HAND = table([[0.5, 0.6], [0.5, 0.6], [0.3, 0.9]], [[0.9, 0.0], [0.2, 0.1], [0.0, 0.5]], [1, 10])


def test_three_queries_by_hand() -> None:
    cascade = CascadeRouting(space="identity").load(two_models(0.02))
    decisions = replay(cascade, BY_HAND, knob=1.0)
    assert decisions.called.tolist() == [[True, False], [True, True], [False, True]]
    assert decisions.served.tolist() == [0, 0, 1]
    assert replay(cascade, BY_HAND, knob=0.0).called.tolist() == [[True, False]] * 3


def test_an_optimal_cascade_cannot_skip() -> None:
    """q2: {a} .3 - .02, {a, b} .9 - .22: a first, as the order says; it scores 0, so {a, b} is worth .9 - .2 > 0."""
    decisions = replay(OptimalCascade(space="identity").load(two_models(0.02)), BY_HAND, knob=1.0)
    assert decisions.called.tolist() == [[True, False], [True, True], [True, True]]
    assert decisions.served.tolist() == [0, 0, 1]


def test_a_dearer_lambda_stops_earlier() -> None:
    """At .05 b's 10 USD cost .5: q1 stops with .2, as .6 - .5 is less; q2 takes a, .3 - .05 against .9 - .5."""
    decisions = replay(CascadeRouting(space="identity").load(two_models(0.05)), BY_HAND, knob=1.0)
    assert decisions.called.tolist() == [[True, False], [True, False], [False, True]]


def test_depth_one_asks_one_model() -> None:
    decisions = replay(CascadeRouting(space="identity").load(two_models(0.02, depth=1)), BY_HAND, knob=1.0)
    assert decisions.called.tolist() == [[True, False], [True, False], [False, True]]


def test_lambdas_of_a_router_by_hand() -> None:
    """Gains of b over a: .6, .3, -.1 for 2 USD more. Below .3, .15 and never: mean costs 1, 1 2/3, 2 1/3; budgets are 1 + 2 * share."""
    train = table([[0.2, 0.8], [0.4, 0.7], [0.5, 0.4]], [[0, 0]] * 3, [1, 3], [[0, 1], [0, 1], [0, 0]])
    router = Routing(shares=[0.0, 0.3, 0.34, 0.7, 1.0]).fit(train, rng=np.random.default_rng(0))
    assert router.lambdas_ == pytest.approx([np.inf, 1.6, 0.225, 0.075, 0.075])
    spent = [realised(replay(router, train, knob=knob), train)[1].mean() for knob in router.knobs()]
    assert spent == pytest.approx([1, 1, 5 / 3, 7 / 3, 7 / 3])


def test_a_knob_between_two_takes_the_lower() -> None:
    cascade = CascadeRouting(space="identity").load(two_models(0.02))
    assert cascade._lambda(0.99) == np.inf
    assert cascade._lambda(1.0) == cascade._lambda(7.0) == 0.02
    with pytest.raises(InputError, match="below the cheapest model"):
        cascade.step(BY_HAND.queries, np.zeros((3, 2), dtype=bool), BY_HAND.signals, knob=-0.1)


def test_rules_share_the_plans_of_a_replay_until_another_state_is_loaded() -> None:
    cascade = CascadeRouting(space="identity").load(two_models(0.02))
    shared = cascade.rule(1.0).planner
    assert cascade.rule(0.0).planner is shared
    assert shared.states(BY_HAND.signals) is shared.states(BY_HAND.signals)
    assert cascade.load(two_models(0.05, depth=1)).rule(1.0).planner.depth == 1


def many(seed: int = 0, n: int = 120, m: int = 3) -> Outcomes:
    rng = np.random.default_rng(seed)
    right = (rng.random((n, m)) < np.linspace(0.4, 0.8, m)).astype(float)
    prior, score = (1 / (1 + np.exp(-(size * (2 * right - 1) + rng.normal(size=(n, m))))) for size in (0.3, 1.5))
    made = table(prior, score, np.geomspace(1, 10, m), right)
    return made


def test_a_look_that_costs_is_paid_within_the_budget() -> None:
    free = many()
    paid = replace(free, signals={**free.signals, USD_SCORE: np.full(free.quality.shape, 0.5)})
    cascade = CascadeRouting(depth=3, shallower=False).fit(paid, rng=np.random.default_rng(0))
    assert cascade.look_ == pytest.approx([0.5, 0.5, 0.5])
    spent = []
    for knob in cascade.knobs():
        one = bought(cascade, paid, knob=knob)
        assert (one.looked == (one.decisions.called if np.isfinite(cascade._lambda(knob)) else False)).all()
        spent.append(realised(one.decisions, paid, one.looked)[1].mean())
    budgets = [cascade.budget(knob) for knob in cascade.knobs()]
    assert (np.array(spent) <= np.array(budgets) + 1e-9).all()
    assert spent[-1] > spent[0] + 1
    # the cheapest model with a look costs 1.5: what cannot pay for that asks it alone
    assert (np.array(spent)[np.array(budgets) < 1.5] == 1).all()


def test_routing_never_looks() -> None:
    router = Routing().fit(many(), rng=np.random.default_rng(0))
    assert not router.looks(np.ones((2, 3), dtype=bool), np.zeros(2, dtype=int), knob=1.0).any()
    assert SCORE not in router.needs


def test_the_front_leaves_out_what_is_dearer_and_worse() -> None:
    train = many(m=4)
    worse = replace(train, quality=train.quality * np.array([1, 0.1, 1, 1], dtype=np.float32))
    assert OptimalCascade(front=True).fit(worse, rng=np.random.default_rng(0)).models_.tolist() == [0, 2, 3]
    assert OptimalCascade(front=False).fit(worse, rng=np.random.default_rng(0)).models_.tolist() == [0, 1, 2, 3]


def test_a_pool_keeps_the_cheapest_and_what_a_router_uses() -> None:
    """c is best for no query at any lambda, d for all at lambda 0; a is the cheapest and always kept."""
    train = table([[0.1, 0.5, 0.2, 0.9]] * 4, [[0.1, 0.5, 0.2, 0.9]] * 4, [1, 2, 3, 4], [[0, 1, 0, 1]] * 4)
    assert Routing(pool=3).fit(train, rng=np.random.default_rng(0)).models_.tolist() == [0, 1, 3]


def test_regression_and_correlation_are_learned() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 2))
    residual = rng.normal(size=(4000, 2)) @ np.linalg.cholesky(np.array([[0.25, 0.3], [0.3, 1.0]])).T
    y = np.array([0.3, -0.2]) + x * np.array([0.5, 1.0]) + residual
    known = _posterior.fit(sigmoid(x), sigmoid(y), space="logit", deviation=None, draws=64, rng=rng)
    assert known.slope == pytest.approx([0.5, 1.0], abs=0.05)
    assert known.intercept == pytest.approx([0.3, -0.2], abs=0.05)
    assert known.covariance == pytest.approx(np.array([[0.25, 0.3], [0.3, 1.0]]), abs=0.05)
    weight, noise = known.condition([0])
    assert weight[0, 0] == pytest.approx(1.2, abs=0.1)  # .3 / .25
    assert noise.std() == pytest.approx(np.sqrt(1 - 0.36), abs=0.05)  # 1 - .3^2 / .25


def test_draws_have_mean_zero_and_variance_one() -> None:
    draws = _posterior.normals(64, 5, 3)
    assert draws.shape == (64, 5)
    assert np.abs(draws.mean(axis=0)).max() < 1e-12
    assert draws.std(axis=0) == pytest.approx(np.ones(5))
    assert np.abs(np.corrcoef(draws.T) - np.eye(5)).max() < 0.3


def test_poor_scores_make_it_shallower() -> None:
    """Scores that say the opposite of the truth: every second answer can only do harm, and the train table's grades say so."""
    train = many(n=200)
    upside_down = replace(train, signals={**train.signals, SCORE: 1 - train.signals[SCORE]})
    trusting = CascadeRouting(depth=3, shallower=False).fit(upside_down, rng=np.random.default_rng(0))
    careful = CascadeRouting(depth=3).fit(upside_down, rng=np.random.default_rng(0))
    assert (trusting.depth_[0], careful.depth_[0]) == (3, 1)
    served = [realised(replay(one, upside_down, knob=1.0), upside_down)[0].mean() for one in (trusting, careful)]
    assert served[1] > served[0] + 0.05
    paid = replace(upside_down, signals={**upside_down.signals, USD_SCORE: np.full(train.quality.shape, 0.5)})
    blind = CascadeRouting(depth=3).fit(paid, rng=np.random.default_rng(0))
    assert not bought(blind, paid, knob=1.0).looked.any()
    assert (blind.lambdas_ == careful.lambdas_).all()  # what is not bought does not shrink the budget


@pytest.mark.parametrize(
    ("cascade", "what"),
    [
        (CascadeRouting(depth=0), "impossible size"),
        (CascadeRouting(space="probit"), "unknown space"),
        (CascadeRouting(deviation=0.1), "deviation is learned in this space"),
    ],
)
def test_settings_that_cannot_be(cascade: CascadeRouting, what: str) -> None:
    with pytest.raises(InputError, match=what):
        cascade.fit(many(), rng=np.random.default_rng(0))


def test_a_missing_prior_is_named() -> None:
    train = many()
    bare = replace(train, signals={SCORE: train.signals[SCORE]})
    with pytest.raises(InputError, match="CascadeRouting needs the signal 'prior'"):
        CascadeRouting().fit(bare, rng=np.random.default_rng(0))


def test_they_are_cascades() -> None:
    assert all(isinstance(one, Cascade) for one in (CascadeRouting(), OptimalCascade(), Routing()))


# ---- the paper's measures


def test_area_by_hand() -> None:
    """Single models (1, .4) and (3, .8). Points (1.5, .6), (2.5, .8): .5 * .5 + 1 * .7 + .5 * .8 = 1.35 over a range of 2."""
    judge = table([[0, 0]] * 5, [[0, 0]] * 5, [1, 3], [[1, 1], [1, 1], [0, 1], [0, 1], [0, 0]])
    assert paper.area(np.array([2.5, 1.5]), np.array([0.8, 0.6]), judge) == pytest.approx(0.675)
    # points beyond the range are cut at it: from (0, .4) to (4, .8) the line is .5 at 1 and .7 at 3
    assert paper.area(np.array([0.0, 4.0]), np.array([0.4, 0.8]), judge) == pytest.approx(0.6)


def test_threshold_cascade_by_hand() -> None:
    """On while the score is below the threshold; the last one asked serves, even where an earlier one scored better."""
    judge = table([[0, 0, 0]] * 3, [[0.9, 0, 0], [0.4, 0.8, 0], [0.6, 0.2, 0.1]], [1, 2, 4])
    decisions = paper._asked(judge, np.array([0, 1, 2]), np.array([0.7, 0.5]))
    assert decisions.called.sum(axis=1).tolist() == [1, 2, 3]
    assert decisions.served.tolist() == [0, 1, 2]


def test_estimates_are_calibrated_and_as_noisy_as_asked() -> None:
    """Truth of variance v seen through noise s is drawn to its mean by v / (v + s^2), and what is left has that correlation."""
    rng = np.random.default_rng(0)
    truth = (rng.random((20000, 2)) < 0.5).astype(float)
    names = [f"q{i}" for i in range(len(truth))]
    outcomes = Outcomes(Queries(names, names, names), Pool(("a", "b")), truth, np.full(truth.shape, 1.0))
    seen, deviation = paper.estimates(outcomes, paper.Noise(0.5, 0.25, 1.0), rng)
    for name, noise in ((PRIOR, 0.5), (SCORE, 0.25)):
        share = 0.25 / (0.25 + noise**2)
        assert seen.signals[name].std(axis=0) == pytest.approx(0.5 * np.sqrt(share), rel=0.02)
        assert np.corrcoef(seen.signals[name][:, 0], truth[:, 0])[0, 1] == pytest.approx(np.sqrt(share), rel=0.02)
    assert deviation == pytest.approx(np.sqrt(0.25 * (0.5 + 0.8 - 2 * 0.5 * 0.8)), rel=0.03)
