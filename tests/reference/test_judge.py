"""A judge's position bias has scipy's exact binomial interval where every pair is asked once, and covers a coin's where both orders are."""

from __future__ import annotations

import numpy as np
import pytest

from routewright.data.judge import PairJudge, report


@pytest.mark.parametrize(("first", "second", "ties"), [(1, 0, 0), (0, 4, 1), (7, 3, 0), (50, 50, 20), (200, 150, 3)])
def test_one_order_is_a_binomial_test(first: int, second: int, ties: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    pairs = [("first", None)] * first + [("second", None)] * second + [("tie", None)] * ties
    found = report(PairJudge(model="j", orders="first"), pairs)["position_bias"]
    exact = stats.binomtest(first, first + second).proportion_ci(0.95, "exact")
    assert found["bias"] == first / (first + second) - 0.5
    assert (found["low"], found["high"]) == pytest.approx((exact.low - 0.5, exact.high - 0.5))


def test_the_interval_covers_a_judge_that_tosses_one_coin_a_pair(rng: np.random.Generator) -> None:
    """The worst case: both orders of a pair always name the same position. By trials of 2 p it would cover far less than 95 %."""
    covered = 0
    for _ in range(200):
        positions = rng.choice(["first", "second"], 40).tolist()
        found = report(PairJudge(model="j"), [(position, position) for position in positions])["position_bias"]
        covered += found["low"] <= 0 <= found["high"]
    assert covered >= 182, "below 91 % of 200: five standard errors of 0.95 would be 88 %"
