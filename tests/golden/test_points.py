"""Named operating points by hand, and that a knob chosen on held-out queries does there exactly what it promised."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routewright.core import policy
from routewright.core.types import Outcomes, Pool, Predictions, Queries
from routewright.eval import points
from routewright.eval.curves import Sweep
from routewright.eval.replay import realised
from tests.conftest import make_outcomes


def table(quality: list[list[float]], cost: list[float]) -> Outcomes:
    names = np.array([f"q{i}" for i in range(len(quality))], dtype=object)
    return Outcomes(Queries(names, names, names), Pool(tuple(f"m{j}" for j in range(len(cost)))), quality, [cost] * len(quality))


# the gains .9, .5, .1, -.2 give, from the cheapest on, cost 1, 3.25, 5.5, 7.75, 10 and quality .5, .75, 1, 1, .75
FOUR = table([[0, 1], [0, 1], [1, 1], [1, 0]], [1, 10])
GAINS = np.array([[0, 0.9], [0, 0.5], [0, 0.1], [0, -0.2]])


def sweep(outcomes: Outcomes = FOUR, quality: np.ndarray = GAINS) -> Sweep:
    m = len(outcomes.pool)
    return Sweep(Predictions(quality, outcomes.cost), outcomes, policy="threshold" if m == 2 else "cost_aware", weak=0, strong=m - 1)


def test_cheapest_is_above_every_gain() -> None:
    assert points.cheapest(sweep(), FOUR) == points.NEVER
    decisions = policy.decide(1e6 * GAINS, np.tile([0.0, 1.0], (4, 1)), points.NEVER)
    assert decisions.served.tolist() == [0] * 4


def test_balanced_spends_half_of_the_way_to_the_peak() -> None:
    """The peak is first reached at cost 5.5; half of the way from 1 is 3.25, the point after the first event: a knob between .9 and .5."""
    assert points.balanced(sweep(), FOUR) == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("fraction", "knob"),
    [
        (0.5, 1.9),  # .375 is met by the cheapest model alone: one above the largest gain
        (0.95, 0.7),  # .7125 needs the first call of the strong model
        (1.0, 0.7),  # exactly .75
        (1.2, 0.3),  # .9 needs the second one too
        (2.0, 0.3),  # 1.5 is out of reach: the best there is
    ],
)
def test_reaching_by_hand(fraction: float, knob: float) -> None:
    assert points.reaching(fraction, sweep(), FOUR) == pytest.approx(knob)


def test_a_lucky_crossing_is_not_taken() -> None:
    """The curve goes .425, .625, .475, .7, .7: the goal of .595 is met once, lost and met for good after the third call."""
    dented = table([[0.2, 1], [0.9, 0.3], [0.1, 1], [0.5, 0.5]], [1, 10])
    assert points.goal(0.85, dented) == pytest.approx(0.595)
    assert points.reaching(0.85, sweep(dented), dented) == pytest.approx(-0.05)


def test_tied_gains_have_one_knob_for_all() -> None:
    tied = sweep(quality=np.array([[0, 0.5], [0, 0.5], [0, 0.5], [0, -0.2]]))
    assert points.reaching(0.95, tied, FOUR) == pytest.approx(0.15)
    assert points.balanced(tied, FOUR) == pytest.approx(0.5 + 1.0), "of cost 1 and 7.75 both are as far from the middle: the cheaper"


def test_of_three_models_the_knob_is_a_price() -> None:
    """Worth of a dollar: .3 points to move to m1 for one more, .1 to move on to m2 for two more."""
    three = table([[0.2, 0.5, 0.7]], [1, 2, 4])
    path = sweep(three, np.array([[0.2, 0.5, 0.7]]))
    assert points.reaching(1.0, path, three) == pytest.approx(0.05), "between the last event and 0"
    assert points.reaching(0.7, path, three) == pytest.approx(0.2), "between the two events"
    assert points.balanced(path, three) == pytest.approx(0.2), "cost 2 of 1, 2 and 4 is nearest to 2.5"


def test_every_point_is_chosen_by_name() -> None:
    assert points.choose(sweep(), FOUR) == {"cheapest": 1e12, "balanced": pytest.approx(0.7), "quality-95": pytest.approx(0.7)}


def test_a_router_that_never_moves_still_has_points() -> None:
    one = table([[1.0, 1.0]] * 3, [1, 10])
    flat = Sweep(Predictions(np.ones((3, 2)), one.cost), one, policy="cost_aware", weak=0, strong=1, lowest=0.0)
    assert set(points.choose(flat, one)) == {"cheapest", "balanced", "quality-95"}
    assert all(np.isfinite(knob) for knob in points.choose(flat, one).values())


@given(st.integers(0, 10_000), st.sampled_from([2, 3, 4]), st.floats(0.5, 1.2))
def test_a_knob_gives_exactly_its_share_where_it_was_chosen(seed: int, m: int, fraction: float) -> None:
    """With many ties: deciding at the knob gives the calls, quality and cost of one point, the cheapest that stays good enough."""
    rng = np.random.default_rng(seed)
    outcomes = make_outcomes(rng, n=40, m=m, d=4)
    scores = Predictions(rng.integers(5, size=(40, m)) / 5, np.tile(10.0 ** np.arange(m), (40, 1)))
    name = "threshold" if m == 2 else "cost_aware"
    path = Sweep(scores, outcomes, policy=name, weak=0, strong=m - 1)
    curve, counted = path.curve(), policy.weights(scores, name)
    goal = fraction * outcomes.quality.astype(np.float64).mean(axis=0).max()
    for knob in (points.reaching(fraction, path, outcomes), points.balanced(path, outcomes)):
        decisions = policy.decide(scores.quality, counted, knob)
        at = int(np.flatnonzero(curve.knob == knob)[0])
        assert decisions.called.mean(axis=0) == pytest.approx(curve.share[at], abs=1e-12)
        quality, cost = realised(decisions, outcomes)
        assert quality.mean() == pytest.approx(curve.quality[at])
        assert cost.mean() == pytest.approx(curve.cost[at])
    peak = int(curve.quality.argmax())
    reached = int(np.flatnonzero(curve.knob == points.reaching(fraction, path, outcomes))[0])
    if curve.quality[peak] >= goal - 1e-12:
        assert (curve.quality[reached : peak + 1] >= goal - 1e-12).all(), "from here on every dearer point reaches the goal"
        assert reached == 0 or curve.quality[reached - 1] < goal - 1e-12, "and the one before does not"
    else:
        assert reached == peak
