"""Position bias by hand on tables whose fit has a closed form, on simulated judges with a known bias, and on judges that say nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from routewright.core.types import Battles, InputError, Pool, Queries
from routewright.data.bias import PositionBias, corrected, position_bias

LOG2 = float(np.log(2))


def table(rows: list[tuple[int, int, float, int]], m: int = 2, queries: int | None = None) -> Battles:
    """Battles from (first, second, outcome, how many), each on a query of its own, or on `queries` of them in turn."""
    a, b, outcome, times = (np.array(column) for column in zip(*rows, strict=True))
    size = int(times.sum())
    n = size if queries is None else queries
    names = np.array([f"q{i}" for i in range(n)], dtype=object)
    return Battles(
        Queries(names, names, names),
        Pool(tuple("abcdefgh"[:m])),
        np.arange(size) % n,
        np.repeat(a, times),
        np.repeat(b, times),
        np.repeat(outcome, times).astype(float),
    )


def simulated(
    rng: np.random.Generator, *, n: int, h: float, t: float = 0.4, spread: float = 0.0, one_order: bool = False
) -> tuple[Battles, Battles]:
    """Verdicts of a judge with advantage h on four models, and those a neutral judge gives on the same answers. spread: of each answer."""
    strength = np.array([-0.8, 0.0, 0.3, 0.9]) + spread * rng.normal(size=(n, 4))
    q, a, b = (grid.ravel() for grid in np.meshgrid(np.arange(n), np.arange(4), np.arange(4), indexing="ij"))
    shown = a < b if one_order else a != b
    q, a, b = q[shown], a[shown], b[shown]
    z = strength[q, a] - strength[q, b] + rng.logistic(size=len(q))
    names = np.array([f"q{i}" for i in range(n)], dtype=object)

    def judged(z: Any) -> Battles:
        return Battles(Queries(names, names, names), Pool(tuple("abcd")), q, a, b, np.where(z > t, 1.0, np.where(z < -t, 0.0, 0.5)))

    return judged(z + h), judged(z)


def rates(battles: Battles) -> np.ndarray[Any, Any]:
    """What the lower model won against the higher one, for every pair, whichever stood first."""
    found = []
    assert battles.weight is not None
    for i in range(4):
        for j in range(i + 1, 4):
            up, down = ((battles.a == x) & (battles.b == y) for x, y in ((i, j), (j, i)))
            won = (battles.weight * np.where(up, battles.outcome, 1 - battles.outcome))[up | down].sum()
            found.append(won / battles.weight[up | down].sum())
    return np.array(found)


# ---- by hand


def test_two_models_without_ties() -> None:
    """a first: 30 to 10; b first: 20 to 20. logit(3/4) = d + h and logit(1/2) = -d + h, so that h = d = log(3) / 2.

    Its variance is a quarter of 1/(40 x 3/4 x 1/4) + 1/(40 x 1/2 x 1/2).
    """
    found = position_bias(table([(0, 1, 1, 30), (0, 1, 0, 10), (1, 0, 1, 20), (1, 0, 0, 20)]))
    assert found.advantage == pytest.approx(np.log(3) / 2, abs=1e-3)
    assert found.strength == pytest.approx([np.log(3) / 4, -np.log(3) / 4], abs=1e-3)
    assert found.threshold == 0
    assert found.error == pytest.approx(np.sqrt((1 / 7.5 + 1 / 10) / 4), rel=0.02)
    assert found.share is None, "no query was judged in both orders"


SAME = table([(0, 1, 1, 50), (0, 1, 0.5, 30), (0, 1, 0, 20), (1, 0, 1, 50), (1, 0, 0.5, 30), (1, 0, 0, 20)], queries=100)


def test_equal_models_with_ties() -> None:
    """s(h - t) = 1/2 and s(-h - t) = 1/5 in either order: h = t = log 2. First minus second is .3 on 100 pairs in both orders."""
    found = position_bias(SAME)
    assert [found.advantage, found.threshold] == pytest.approx([LOG2, LOG2], abs=1e-5)
    assert found.strength == pytest.approx([0, 0], abs=1e-5)
    assert found.share == pytest.approx(0.3)
    assert found.pairs == 100
    # each query has the same verdict twice: 50 gain 2, 30 gain 0, 20 lose 2; residuals 1.4, -.6, -2.6 of 2 verdicts
    assert found.share_error == pytest.approx(np.sqrt(100 / 99 * (50 * 1.4**2 + 30 * 0.6**2 + 20 * 2.6**2)) / 200)


def test_what_a_neutral_judge_would_say() -> None:
    """With h = t = log 2 and equal models a neutral judge gives thirds. The judge's "first" is z > 0: of its 1/2, 1/3 lies above log 2 and
    1/6 is a tie. Its tie is -log 4 < z < 0: of its 3/10, 1/6 is a tie and 2/15 lies below -log 2. Its "second" stays."""
    bias = PositionBias(LOG2, 0.1, LOG2, ("a", "b"), np.zeros(2), None, None, 0)
    posterior = bias.neutral(np.array([0]), np.array([1]))[0]
    np.testing.assert_allclose(posterior, [[2 / 3, 1 / 3, 0], [0, 5 / 9, 4 / 9], [0, 0, 1]], atol=1e-12)
    np.testing.assert_allclose(np.array([0.5, 0.3, 0.2]) @ posterior, [1 / 3] * 3)
    opposite = replace(bias, advantage=-LOG2).neutral(np.array([0]), np.array([1]))[0]
    np.testing.assert_allclose(opposite, posterior[::-1, ::-1])
    np.testing.assert_allclose(replace(bias, advantage=0.0).neutral(np.array([0]), np.array([1]))[0], np.eye(3))
    # a judge without ties, h = log 2: of its "first", z > -log 2 or 2/3, 1/2 lies above 0; a tie, which it never says, stays
    plain = replace(bias, threshold=0.0).neutral(np.array([0]), np.array([1]))[0]
    np.testing.assert_allclose(plain, [[3 / 4, 0, 1 / 4], [0, 1, 0], [0, 0, 1]], atol=1e-12)
    far = replace(bias, strength=np.array([30.0, -30.0])).neutral(np.array([0, 1]), np.array([1, 0]))
    np.testing.assert_allclose(far.sum(axis=2), 1)


def test_a_verdict_becomes_weighted_battles() -> None:
    one = Battles(SAME.queries, SAME.pool, [4, 5, 6], [0, 1, 1], [1, 0, 0], [1, 0.5, 0], [2, 9, 1], cost=np.ones((100, 2)))
    bias = PositionBias(LOG2, 0.1, LOG2, ("a", "b"), np.zeros(2), None, None, 0)
    made = corrected(one, bias)
    assert made.query.tolist() == [4, 4, 5, 5, 6]
    assert made.a.tolist() == [0, 0, 1, 1, 1]
    assert made.outcome.tolist() == [1, 0.5, 0.5, 0, 0]
    assert made.weight is not None
    np.testing.assert_allclose(made.weight, [4 / 3, 2 / 3, 5, 4, 1], rtol=1e-6)
    np.testing.assert_array_equal(made.cost, one.cost)
    assert made.queries is one.queries


# ---- judges with a known bias


@pytest.mark.parametrize("h", [-0.7, 0.0, 0.5, 1.5])
def test_a_known_bias_is_recovered_within_its_error(h: float, rng: np.random.Generator) -> None:
    """Of 40 judges the errors, in standard errors, have mean 0 and spread 1, within chance; both figures have the sign of h."""
    found = [position_bias(simulated(rng, n=80, h=h)[0]) for _ in range(40)]
    off = np.array([(each.advantage - h) / each.error for each in found])
    assert abs(off.mean()) < 3 / np.sqrt(40)
    assert 0.6 < off.std() < 1.3
    assert np.mean([each.threshold for each in found]) == pytest.approx(0.4, abs=0.02)
    share = np.mean([each.share for each in found if each.share is not None])
    assert abs(share) < 0.02 if h == 0 else np.sign(share) == np.sign(h)


def test_verdicts_on_one_query_are_not_independent(rng: np.random.Generator) -> None:
    """Every verdict five times over is the same knowledge: the error stays, and so does every estimate under other weights."""
    once, _ = simulated(rng, n=60, h=0.5)
    again = np.tile(np.arange(len(once)), 5)
    five = replace(once, query=once.query[again], a=once.a[again], b=once.b[again], outcome=once.outcome[again], weight=None)
    half = replace(once, weight=np.full(len(once), 0.5))
    first, second, third = map(position_bias, (once, five, half))
    assert second.advantage == pytest.approx(first.advantage, abs=0.005)
    assert second.error > 0.7 * first.error
    assert (third.advantage, third.error) == pytest.approx((first.advantage, first.error))
    assert (third.share, third.share_error) == pytest.approx((first.share, first.share_error))


@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_correction_brings_win_shares_to_the_truth_where_one_order_was_judged(spread: float, rng: np.random.Generator) -> None:
    """The bias comes from other verdicts in both orders, the battles from one order. spread: answers differ more than the model knows."""
    bias = position_bias(simulated(rng, n=1000, h=0.8, spread=spread)[0])
    judged, neutral = simulated(rng, n=1000, h=0.8, spread=spread, one_order=True)
    truth, raw, mended = rates(neutral), rates(judged), rates(corrected(judged, bias))
    assert np.abs(raw - truth).min() > 0.05
    assert np.abs(mended - truth).max() < 0.025
    assert (np.abs(mended - truth) < np.abs(raw - truth) / 3).all()


def test_of_both_orders_correction_keeps_the_shares_and_mends_the_ties(rng: np.random.Generator) -> None:
    judged, neutral = simulated(rng, n=1500, h=1.5)
    made = corrected(judged)
    assert np.abs(rates(made) - rates(neutral)).max() < 0.02
    assert made.weight is not None
    assert made.weight.sum(dtype=float) == pytest.approx(len(judged), rel=1e-5)

    def tied(battles: Battles) -> float:
        assert battles.weight is not None
        return float(battles.weight[battles.outcome == 0.5].sum() / battles.weight.sum())

    assert tied(neutral) - tied(judged) > 0.03, "a strong bias hides ties"
    assert abs(tied(made) - tied(neutral)) < 0.015


def test_a_model_that_never_lost_is_no_obstacle(rng: np.random.Generator) -> None:
    judged, _ = simulated(rng, n=200, h=0.5)
    won = np.where(judged.a == 3, 1.0, np.where(judged.b == 3, 0.0, judged.outcome))
    found = position_bias(replace(judged, outcome=won))
    assert np.isfinite(found.strength).all()
    assert found.strength.argmax() == 3
    assert abs(found.advantage - 0.5) < 3 * found.error


def test_one_query_and_an_unanimous_pair_have_a_wide_error_not_none() -> None:
    """Every order agrees that a is better: the advantage is 0, and hardly anything is known of it."""
    found = position_bias(table([(0, 1, 1, 5), (1, 0, 0, 5)], queries=1))
    assert found.advantage == pytest.approx(0, abs=1e-6)
    assert found.error > 2
    assert (found.share, found.share_error, found.pairs) == (0, None, 1)
    assert found.told()["first_minus_second_interval"] is None


def test_it_is_told_in_plain_values() -> None:
    told = position_bias(SAME).told()
    assert json.loads(json.dumps(told)) == told
    low, high = told["advantage_interval"]
    assert low < told["advantage_log_odds"] < high
    low, high = told["first_minus_second_interval"]
    assert low < 0.3 < high


# ---- judges that say nothing


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([(0, 1, 1, 9), (1, 0, 1, 9)], "winners all stand in one position.*found 18 first, 0 second, 0 ties"),
        ([(0, 1, 1, 9), (1, 0, 0.5, 9)], "winners all stand in one position.*found 9 first, 0 second, 9 ties"),
        ([(0, 1, 0, 9), (1, 0, 0, 9)], "winners all stand in one position.*found 0 first, 18 second, 0 ties"),
        ([(0, 1, 0.5, 9), (1, 0, 0.5, 9)], "names no winner.*found 0 first, 0 second, 18 ties"),
        ([(0, 1, 1, 9), (0, 1, 0, 3)], "cannot be told from the strength.*1 ordered pairs, each in one order"),
    ],
)
def test_a_judge_without_information_is_refused(rows: list[tuple[int, int, float, int]], told: str) -> None:
    for each in (position_bias, corrected):
        with pytest.raises(InputError, match=told):
            each(table(rows))


def test_battles_that_do_not_fit_are_refused() -> None:
    empty = replace(SAME, query=[], a=[], b=[], outcome=[], weight=None)
    with pytest.raises(InputError, match="names no winner"):
        position_bias(empty)
    with pytest.raises(InputError, match="no battle to correct"):
        corrected(empty, position_bias(SAME))
    with pytest.raises(InputError, match="fitted to other models: expected a, b, found x, y"):
        corrected(replace(SAME, pool=Pool(("x", "y"))), position_bias(SAME))
