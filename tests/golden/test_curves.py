"""Curves and metrics by hand on tables small enough to do with a pencil."""

from __future__ import annotations

import numpy as np
import pytest

from routewright.core import policy
from routewright.core.types import InputError, Outcomes, Pool, Predictions, Queries
from routewright.eval import curves, metrics, stats, verdict
from routewright.eval.ruler import Ruler


def table(quality: list[list[float]], cost: list[list[float]]) -> Outcomes:
    n, m = len(quality), len(quality[0])
    names = np.array([f"q{i}" for i in range(n)], dtype=object)
    return Outcomes(Queries(names, names, names), Pool(tuple(f"m{j}" for j in range(m))), quality, cost, usage="nominal")


# weak is right on 1 and 4, strong on 1, 2, 3; strong costs 10, weak 1
FOUR = table([[1, 1], [0, 1], [0, 1], [1, 0]], [[1, 10]] * 4)


def sweep(gain: list[float], outcomes: Outcomes = FOUR) -> curves.Sweep:
    predictions = Predictions(np.stack([np.zeros(len(gain)), gain], axis=1), outcomes.cost)
    return curves.Sweep(predictions, outcomes, policy="threshold", weak=0, strong=1)


def test_every_threshold_by_hand() -> None:
    cost, quality, share = sweep([0.1, 0.9, 0.5, -0.2]).points()
    assert share.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert quality.tolist() == [0.5, 0.75, 1.0, 1.0, 0.75]
    assert cost.tolist() == [1, 3.25, 5.5, 7.75, 10]


def test_a_tie_is_one_straight_step() -> None:
    _, quality, share = sweep([0.5, 0.5, 0.5, -0.2]).points()
    assert share.tolist() == [0, 0.75, 1]
    assert quality.tolist() == [0.5, 1.0, 0.75]
    # APGR by hand: trapezoids .75 * .75 + .25 * .875 = .78125; (.78125 - .5) / .25
    assert metrics.apgr(share, quality, 0.5, 0.75)[0] == pytest.approx(1.125)


def test_cpt_and_dollars_by_hand() -> None:
    cost, quality, share = sweep([0.1, 0.9, 0.5, -0.2]).points()
    assert metrics.cpt(50, share, quality, 0.5, 0.75)[0] == pytest.approx(12.5)  # quality .625, half of the first step
    assert metrics.cpt(80, share, quality, 0.5, 0.75)[0] == pytest.approx(20.0)
    assert np.isnan(metrics.cpt(250, share, quality, 0.5, 0.75)[0])  # quality 1.125 is out of reach
    reached = metrics.cost_at(1.0, cost, quality, 0.75)[0]
    assert reached == pytest.approx(3.25)
    assert metrics.saved(reached, 10.0) == pytest.approx(0.675)


def test_hull_and_aiq_by_hand() -> None:
    x, y = curves.hull(np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.2, 0.2, 0.8, 0.6]))
    assert x.tolist() == [1, 3]
    assert y.tolist() == pytest.approx([0.2, 0.8])
    # from 1 to 3 a mean of .5 over a width of 2, then level at .8 up to 4: (1.0 + .8) / 3
    assert metrics.aiq(np.array([1.0, 3.0]), np.array([0.2, 0.8]), 1.0, 4.0) == pytest.approx(0.6)
    # the published code divides by the highest cost instead
    assert metrics.aiq(np.array([1.0, 3.0]), np.array([0.2, 0.8]), 1.0, 4.0, variant="code") == pytest.approx(1.8 / 4)


def test_three_models_follow_the_upper_hull() -> None:
    front = policy.frontier(np.array([[0.2, 0.5, 0.6], [0.9, 0.1, 0.95]]), np.array([[1.0, 2.0, 4.0]] * 2), lowest=0.0)
    # query 0: slope .3 to model 1, then .05 to model 2; query 1: straight to model 2 at .05 / 3
    assert front.start.tolist() == [0, 0]
    assert front.query.tolist() == [0, 0, 1]
    assert front.before.tolist() == [0, 1, 0]
    assert front.after.tolist() == [1, 2, 2]
    assert front.knob.tolist() == pytest.approx([0.3, 0.05, 0.05 / 3])


def test_calibration_measures_by_hand() -> None:
    predicted, quality = np.array([[0.9, 0.1]] * 4), np.array([[1, 0], [1, 0], [1, 0], [0, 1.0]])
    assert metrics.brier(predicted, quality) == pytest.approx((6 * 0.01 + 2 * 0.81) / 8)
    assert metrics.ece(predicted, quality) == pytest.approx(0.15)
    assert [row["n"] for row in metrics.reliability(predicted, quality)] == [4, 4]


def test_auroc_leaves_out_a_model_that_is_always_right() -> None:
    score, correct = np.array([[0.1, 0.3], [0.4, 0.1], [0.35, 0.2], [0.8, 0.9]]), np.array([[0, 1], [0, 1], [1, 1], [1, 1.0]])
    assert metrics.auroc(score, correct) == pytest.approx(0.75)
    assert np.isnan(metrics.auroc(score, np.ones((4, 2))))


def test_gap_recovered() -> None:
    assert metrics.gap_recovered(0.85, 0.8, 0.9) == pytest.approx(0.5)
    assert np.isnan(metrics.gap_recovered(0.85, 0.8, 0.8))


def test_a_useful_router_has_a_positive_difference() -> None:
    ruler = Ruler(FOUR, policy="threshold", rng=np.random.default_rng(0), replicates=200)
    point, _ = ruler.measure(sweep([0.1, 0.9, 0.5, -0.2]))
    # between costs 1 and 10: the curve's mean is (.5+.75)/8 + (.75+1)/8 + 2/8 + 1.75/8 = .84375; the mix's is .625
    assert point["difference"] == pytest.approx(0.84375 - 0.625)


def test_verdict_words() -> None:
    assert verdict.word([0.01, 0.02]) == "helps"
    assert verdict.word([-0.01, 0.02]) == "no evidence that it helps"
    assert verdict.word([-0.02, -0.01]) == "hurts"
    assert verdict.word(None) == "no evidence that it helps"
    zero = verdict.judge("r", 0.0, np.full(100, 1e-16), {}, clustered=False, n=5)
    assert zero["word"] == "no evidence that it helps"


def test_a_rival_that_is_not_beaten_is_named() -> None:
    noise = np.random.default_rng(0).normal(size=500) * 0.001
    spread = 0.02 + noise
    found = verdict.judge("r", 0.02, spread, {"group": (0.021, spread + 0.001), "length": (0.0, noise)}, clustered=False, n=500)
    assert found["word"] == "helps"
    assert found["unbeaten"] == ["group"]
    assert "group (+2.10)" in found["sentence"]
    assert "length" not in found["sentence"]


def test_gap_too_small_or_reversed_has_a_reason() -> None:
    weak, strong = np.array([0, 1, 0, 1.0] * 10), np.array([1, 0, 0, 1.0] * 10)
    assert "no gap to recover" in str(verdict.gap_reason(weak, strong, np.arange(40)))
    nearly = strong.copy()
    nearly[:1] = 1
    nearly[1] = 1
    assert "too small to divide by" in str(verdict.gap_reason(weak, nearly, np.arange(40)))
    assert verdict.gap_reason(np.zeros(40), np.ones(40), np.arange(40)) is None


def test_standard_error_of_clusters() -> None:
    difference = np.array([1.0, 1.0, 0.0, 0.0])
    assert stats.standard_error(difference, np.arange(4)) == pytest.approx(0.25)
    assert stats.standard_error(difference, np.array([0, 0, 1, 1])) == pytest.approx(np.sqrt(2) / 4)


def test_policies_refuse_what_does_not_fit() -> None:
    three = Predictions(np.zeros((2, 3)), np.ones((2, 3)))
    with pytest.raises(InputError, match="for two models"):
        policy.weights(three, "threshold")
    with pytest.raises(InputError, match="needs a cost"):
        policy.weights(Predictions(np.zeros((2, 2)), np.full((2, 2), np.nan)), "cost_aware")
    with pytest.raises(InputError, match="unknown policy"):
        policy.weights(three, "best")


def test_height_where_so_much_is_spent() -> None:
    """Straight between points; level before the first and after the last; spending that falls back is not taken back."""
    x, y = np.array([1.0, 3.0, 2.0, 5.0]), np.array([0.2, 0.6, 0.5, 0.9])
    assert curves.height_at(x, y, 0.5)[0] == pytest.approx(0.2)
    assert curves.height_at(x, y, 2.0)[0] == pytest.approx(0.4)  # half of the way from 1 to 3
    assert curves.height_at(x, y, 4.0)[0] == pytest.approx(0.7)  # from (3, .5), where it stood last, half of the way to 5
    assert curves.height_at(x, y, 9.0)[0] == pytest.approx(0.9)
    rng = np.random.default_rng(0)
    xs, ys = np.sort(rng.random((5, 20)), axis=1), rng.random((5, 20))
    at = rng.random(5)
    assert curves.height_at(xs, ys, at) == pytest.approx([np.interp(a, p, q) for a, p, q in zip(at, xs, ys, strict=True)])
