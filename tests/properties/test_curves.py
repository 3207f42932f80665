"""What must hold for every table: order, ties and scale do not matter, curves agree with decisions, controls are what they say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routewright.core import policy
from routewright.core.calibrate import Affine
from routewright.core.types import Outcomes, Predictions
from routewright.eval import curves, metrics
from routewright.eval.replay import Routed, realised, replay
from routewright.eval.ruler import Ruler
from tests.conftest import make_outcomes

SEEDS = st.integers(0, 10_000)


def tied(seed: int, *, m: int = 2, n: int = 60, levels: int = 4) -> tuple[Outcomes, Predictions]:
    """Outcomes, and predictions with many equal values."""
    rng = np.random.default_rng(seed)
    outcomes = make_outcomes(rng, n=n, m=m, d=4)
    cost = np.broadcast_to(10.0 ** np.arange(m), (n, m))
    return outcomes, Predictions(rng.integers(levels, size=(n, m)) / levels, cost)


def swept(outcomes: Outcomes, predictions: Predictions, name: str = "threshold", **options: float) -> curves.Sweep:
    return curves.Sweep(predictions, outcomes, policy=name, weak=0, strong=len(outcomes.pool) - 1, **options)


@given(SEEDS)
def test_apgr_does_not_depend_on_the_order_of_rows(seed: int) -> None:
    outcomes, predictions = tied(seed)
    order = np.random.default_rng(seed + 1).permutation(len(outcomes))
    values = []
    for table, scores in ((outcomes, predictions), (outcomes.take(order), predictions.take(order))):
        _, quality, share = swept(table, scores).points()
        values.append(metrics.apgr(share, quality, 0.0, 1.0)[0])
    assert values[0] == pytest.approx(values[1], abs=1e-12)


@settings(max_examples=8)
@given(SEEDS)
def test_tie_rule_is_the_mean_over_orders(seed: int) -> None:
    """Breaking the ties at random many times averages to the exact curve."""
    outcomes, predictions = tied(seed, n=24, levels=2)
    rng = np.random.default_rng(seed)
    _, quality, share = swept(outcomes, predictions).points()
    exact = metrics.apgr(share, quality, 0.0, 1.0)[0]
    drawn = []
    for _ in range(400):
        noise = np.zeros(predictions.quality.shape)
        noise[:, 1] = 1e-6 * rng.random(len(outcomes))
        _, q, s = swept(outcomes, Predictions(predictions.quality + noise, predictions.cost)).points()
        drawn.append(metrics.apgr(s, q, 0.0, 1.0)[0])
    assert exact == pytest.approx(np.mean(drawn), abs=5 * np.std(drawn) / 20 + 1e-9)


@given(SEEDS, st.sampled_from([2, 3, 5]))
def test_every_point_of_the_curve_is_what_deciding_at_its_knob_gives(seed: int, m: int) -> None:
    outcomes, predictions = tied(seed, m=m, n=30)
    name = "threshold" if m == 2 else "cost_aware"
    sweep = swept(outcomes, predictions, name)
    curve = sweep.curve()
    for k in range(len(curve.knob)):
        decisions = replay(Routed(predictions, policy=name, strong=m - 1), outcomes, knob=float(curve.knob[k]))
        quality, cost = realised(decisions, outcomes)
        assert quality.mean() == pytest.approx(curve.quality[k], abs=1e-9)
        assert cost.mean() == pytest.approx(curve.cost[k], rel=1e-9)
        assert decisions.called.mean(axis=0) == pytest.approx(curve.share[k], abs=1e-9)


@given(SEEDS, st.floats(0.1, 5), st.floats(-1, 1))
def test_calibration_keeps_the_curve_of_a_pair(seed: int, scale: float, shift: float) -> None:
    outcomes, predictions = tied(seed)
    moved = Affine(scale, np.array([shift, -shift]))(predictions)
    before, after = swept(outcomes, predictions).points(), swept(outcomes, moved).points()
    for a, b in zip(before, after, strict=True):
        assert a == pytest.approx(b, abs=1e-9)


@given(SEEDS)
def test_calibration_makes_the_mean_true(seed: int) -> None:
    outcomes, predictions = tied(seed)
    quality = Affine.fit(predictions, outcomes)(predictions).quality
    assert quality.mean(axis=0) == pytest.approx(outcomes.quality.mean(axis=0), abs=1e-6)


@settings(max_examples=20)
@given(SEEDS, st.sampled_from([2, 4]))
def test_no_router_beats_the_oracle_and_fixed_mixes_gain_nothing(seed: int, m: int) -> None:
    outcomes, predictions = tied(seed, m=m, n=50)
    name = "threshold" if m == 2 else "cost_aware"
    ruler = Ruler(outcomes, policy=name, rng=np.random.default_rng(0), replicates=100)
    oracle, _ = ruler.measure(ruler.sweep(Predictions(outcomes.quality, outcomes.cost), lowest=0.0))
    routed, _ = ruler.measure(ruler.sweep(predictions))
    assert routed["difference"] <= oracle["difference"] + 0.05 + 1e-9 or name == "threshold"
    assert routed["peak_quality"] <= outcomes.quality.max(axis=1).mean() + 1e-9
    constant = np.tile(outcomes.quality.mean(axis=0), (len(outcomes), 1))
    flat, _ = ruler.measure(ruler.sweep(Predictions(constant, np.tile(outcomes.cost.mean(axis=0), (len(outcomes), 1)))))
    assert flat["difference"] == pytest.approx(0, abs=1e-9)


@given(SEEDS)
def test_bootstrap_with_unit_weights_is_the_point(seed: int) -> None:
    outcomes, predictions = tied(seed, m=3, n=40)
    sweep = swept(outcomes, predictions, "cost_aware")
    for alone, stacked in zip(sweep.points(), sweep.points(np.ones((3, 40))), strict=True):
        assert stacked == pytest.approx(np.tile(alone, (3, 1)), abs=1e-12)


@given(SEEDS)
def test_bootstrap_by_weights_is_the_bootstrap_by_rows(seed: int) -> None:
    """Weighting row i by its count gives the curve of a table in which row i really stands that often."""
    outcomes, predictions = tied(seed, n=30)
    rng = np.random.default_rng(seed)
    rows = rng.integers(30, size=30)
    weight = np.bincount(rows, minlength=30).astype(float)[None]
    _, quality, share = swept(outcomes, predictions).points(weight)
    sample = outcomes.take(np.arange(30))
    repeated = Predictions(predictions.quality[rows], predictions.cost[rows])
    table = Outcomes(
        make_outcomes(rng, n=30).queries, sample.pool, outcomes.quality[rows], outcomes.cost[rows], usage="nominal"
    )  # fresh ids: a resample repeats queries
    _, q, s = swept(table, repeated).points()
    assert metrics.apgr(share, quality, 0.0, 1.0)[0] == pytest.approx(metrics.apgr(s, q, 0.0, 1.0)[0], abs=1e-12)


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 1)), min_size=1, max_size=12))
def test_hull_is_concave_rising_and_above_every_point(points: list[tuple[float, float]]) -> None:
    cost, quality = (np.array(column) for column in zip(*points, strict=True))
    x, y = curves.hull(cost, quality)
    assert np.all(np.diff(x) > 0)
    assert np.all(np.diff(y) > 0)
    slopes = np.diff(y) / np.diff(x)
    assert np.all(np.diff(slopes) <= 1e-9 * np.maximum(1, np.abs(slopes[:-1])))
    assert np.all(np.interp(cost, x, y) >= quality - 1e-9)


@given(SEEDS, st.sampled_from([2, 3, 6]))
def test_frontier_ends_at_the_cheapest_and_the_best(seed: int, m: int) -> None:
    _, predictions = tied(seed, m=m, n=20, levels=7)
    front = policy.frontier(predictions.quality, predictions.cost, lowest=0.0)
    assert np.all(front.start == 0)
    assert np.all(np.diff(front.knob) <= 0)
    last = front.start.copy()
    for query, before, after in zip(front.query, front.before, front.after, strict=True):
        assert last[query] == before
        last[query] = after
    rows = np.arange(len(last))
    assert predictions.quality[rows, last] == pytest.approx(predictions.quality.max(axis=1))
