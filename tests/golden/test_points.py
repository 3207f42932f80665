"""Named operating points by hand, and that a knob chosen on held-out queries does there exactly what it promised."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routewright.core import policy
from routewright.core.calibrate import Affine
from routewright.core.types import InputError, Outcomes, Pool, Predictions, Queries
from routewright.data.traffic import Traffic
from routewright.eval import points
from routewright.eval.assess import Judging, assess
from routewright.eval.curves import Sweep
from routewright.eval.promises import Ask, Asked
from routewright.eval.replay import realised
from routewright.eval.ruler import Pair
from routewright.routers.logistic import Logistic
from tests.conftest import make_outcomes
from tests.golden.test_assess import HELD, fitted, judged, truth


def table(quality: list[list[float]], cost: list[float]) -> Outcomes:
    names = np.array([f"q{i}" for i in range(len(quality))], dtype=object)
    return Outcomes(Queries(names, names, names), Pool(tuple(f"m{j}" for j in range(len(cost)))), quality, [cost] * len(quality))


# the gains .9, .5, .1, -.2 give, from the cheapest on, cost 1, 3.25, 5.5, 7.75, 10 and quality .5, .75, 1, 1, .75
FOUR = table([[0, 1], [0, 1], [1, 1], [1, 0]], [1, 10])
GAINS = np.array([[0, 0.9], [0, 0.5], [0, 0.1], [0, -0.2]])


PAIR = Pair(0, 1, 1)


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
    wanted = {"cheapest": 1e12, "balanced": 0.7, "quality-95": 0.7, "quality-50": 1.9, "strong-50": 0.3, "spend-50": 0.3}
    assert {name: points.choose(name, sweep(), FOUR, PAIR) for name in wanted} == pytest.approx(wanted)


def test_a_router_that_never_moves_still_has_points() -> None:
    one = table([[1.0, 1.0]] * 3, [1, 10])
    flat = Sweep(Predictions(np.ones((3, 2)), one.cost), one, policy="cost_aware", weak=0, strong=1, lowest=0.0)
    assert all(np.isfinite(points.choose(name, flat, one, PAIR)) for name in (*points.ALWAYS, "strong-50", "spend-50"))


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


EIGHT = table([[0, 1]] * 8, [1, 5])
FALLING = np.column_stack([np.zeros(8), np.arange(8, 0, -1) / 10])  # gains .8, .7, ... .1


@pytest.mark.parametrize(
    ("asked", "knob", "share"),
    [
        (0.5, 0.45, 0.5),  # between the fourth and the fifth gain
        (0.25, 0.65, 0.25),
        (0.2, 0.65, 0.25),  # .25 is .05 away, .125 is .075
        (0.1875, 0.75, 0.125),  # in the middle of two: the cheaper
        (0.0, 1.8, 0.0),  # one above the largest gain
        (1.0, -0.9, 1.0),  # one below the smallest
    ],
)
def test_a_share_of_eight_queries_by_hand(asked: float, knob: float, share: float) -> None:
    for kind in ("strong_share", "spend"):  # equal costs: the same
        assert points.sharing(Ask(kind, asked), sweep(EIGHT, FALLING), EIGHT, PAIR) == pytest.approx(knob)
    assert (FALLING[:, 1] > knob).mean() == share


def test_tied_scores_go_together() -> None:
    """Gains .5 five times and .1 three times: shares 0, .625 and 1 can be had, and nothing else."""
    tied = sweep(EIGHT, np.column_stack([np.zeros(8), [0.5] * 5 + [0.1] * 3]))
    knobs = {asked: points.sharing(Ask("strong_share", asked), tied, EIGHT, PAIR) for asked in (0.3, 0.32, 0.8, 0.82)}
    assert knobs == pytest.approx({0.3: 1.5, 0.32: 0.3, 0.8: 0.3, 0.82: -0.9})


def test_spend_is_dollars_not_calls() -> None:
    """The first call costs 7 USD more, the others 1 each: half of the 10 is nearest to the 7 of one call alone."""
    cost = np.array([[1, 8], [1, 2], [1, 2], [1, 2]], dtype=float)
    outcomes = Outcomes(FOUR.queries, FOUR.pool, FOUR.quality, cost)
    path = Sweep(Predictions(GAINS, cost), outcomes, policy="threshold", weak=0, strong=1)
    assert points.sharing(Ask("spend", 0.5), path, outcomes, PAIR) == pytest.approx(0.7)
    assert points.sharing(Ask("spend", 0.76), path, outcomes, PAIR) == pytest.approx(0.3), "7 + 1 of 10"


def test_names_print_as_typed_and_parse_back() -> None:
    for kind, value, name in [
        ("strong_share", 0.5, "strong-50"), ("quality", 0.975, "quality-97.5"), ("spend", 0.07, "spend-7"), ("spend", 1.0, "spend-100"),
        ("strong_share", 0.001, "strong-0.1"), ("quality", 0.95, "quality-95"), ("strong_share", 0.0, "strong-0"),
    ]:  # fmt: skip
        assert Ask(kind, value).name == name
        assert Ask.parse(name) == Ask(kind, value)
    assert [Ask.parse(name) for name in ("balanced", "mine", "strong", "strong-", "quality-best")] == [None] * 5


def scored(rng: np.random.Generator, outcomes: Outcomes) -> np.ndarray:
    return truth(outcomes) + rng.normal(size=outcomes.quality.shape)


def test_a_promise_is_told_beside_what_became_of_it(rng: np.random.Generator) -> None:
    outcomes = make_outcomes(rng, n=300)
    scores = scored(rng, outcomes)
    asked = Asked((Ask("strong_share", 0.3), Ask("quality", 0.9)))
    found = judged(outcomes, scores, asked=asked).metrics["operating_points"]
    assert list(found) == ["cheapest", "balanced", "quality-95", "strong-30", "quality-90"]
    assert [found[name]["asked"] for name in found] == [False, False, False, True, True]
    gain = scores[:, 1] - scores[:, 0]
    point = found["strong-30"]
    assert point["chosen_on"] == {"what": "calibration split", "n": HELD}
    assert (point["promise"], point["promised"], point["note"]) == ("strong_share", 0.3, None)
    assert point["reachable"] == pytest.approx(0.3)
    assert point["reachable_error"] == pytest.approx(1.96 * np.sqrt(0.3 * 0.7 / HELD), rel=1e-3), "a proportion's"
    assert point["realised"] == pytest.approx((gain[HELD:] > point["knob"]).mean())
    low, high = point["realised_ci"]
    assert (high - low) / 2 == pytest.approx(1.96 * np.sqrt(0.3 * 0.7 / 200), rel=0.3)
    assert point["kept"] == (abs(point["realised"] - 0.3) <= np.hypot(point["reachable_error"], (high - low) / 2))
    quality, best = found["quality-90"], truth(outcomes)[HELD:].mean(axis=0).max()
    assert quality["realised"] == pytest.approx(quality["quality"] / best)
    assert quality["kept"] == (quality["quality"] >= 0.9 * best)
    assert [found["balanced"][key] for key in ("promise", "promised", "realised", "kept")] == [None] * 4


def test_the_error_where_it_was_chosen_is_the_bootstraps(rng: np.random.Generator) -> None:
    """The delta method against resampling, for all three kinds of promise."""
    outcomes = make_outcomes(rng, n=300)
    scores = scored(rng, outcomes)
    asked = tuple(Ask(kind, 0.6) for kind in ("strong_share", "spend", "quality"))
    found = judged(outcomes, scores, asked=Asked(asked)).metrics["operating_points"]
    weight = rng.multinomial(HELD, np.full(HELD, 1 / HELD), size=4000).astype(float)
    quality, cost = weight @ truth(outcomes)[:HELD], weight @ outcomes.cost[:HELD]
    for ask in asked:
        strong = scores[:HELD, 1] - scores[:HELD, 0] > found[ask.name]["knob"]
        bought = weight @ np.where(strong, outcomes.cost[:HELD, 1], outcomes.cost[:HELD, 0])
        spread = {
            "strong_share": weight @ strong / HELD,
            "spend": (bought - cost[:, 0]) / (cost[:, 1] - cost[:, 0]),
            "quality": weight @ np.where(strong, truth(outcomes)[:HELD, 1], truth(outcomes)[:HELD, 0]) / quality[:, 1],
        }[ask.kind]
        assert found[ask.name]["reachable"] == pytest.approx(spread.mean(), abs=0.01)
        assert found[ask.name]["reachable_error"] == pytest.approx(1.96 * spread.std(), rel=0.1), ask.kind


def test_a_router_whose_scores_are_all_equal_says_what_it_can_reach(rng: np.random.Generator) -> None:
    outcomes = make_outcomes(rng, n=300)
    asked = Asked((Ask("strong_share", 0.5), Ask("strong_share", 0.6)))
    found = judged(outcomes, np.tile([0.4, 0.6], (300, 1)), asked=asked).metrics["operating_points"]
    for name, reached in (("strong-50", 0.0), ("strong-60", 1.0)):
        assert (found[name]["reachable"], found[name]["realised"], found[name]["kept"]) == (reached, reached, False)
        assert found[name]["note"].startswith(f"{100 * reached:.1f} % is the nearest that was reached")


def test_a_quality_out_of_reach_is_noted(rng: np.random.Generator) -> None:
    """A router that always calls the cheapest of four models."""
    outcomes = make_outcomes(rng, n=300, m=4)
    cheap = np.tile([1.0, 0.9, 0.8, 0.7], (300, 1))
    found = judged(outcomes, cheap, asked=Asked((Ask("quality", 1.0), Ask("quality", 0.01)))).metrics["operating_points"]
    mean = truth(outcomes)[:HELD].mean(axis=0)
    assert found["quality-100"]["reachable"] == pytest.approx(mean[0] / mean.max())
    assert found["quality-100"]["note"] == f"{100 * mean[0] / mean.max():.1f} % is the most that was reached where it was chosen"
    assert (found["quality-100"]["kept"], found["quality-1"]["note"], found["quality-1"]["kept"]) == (False, None, True)


def test_shares_are_kept_as_often_as_two_samples_allow() -> None:
    """Thirty tables without drift: about one share in twenty may be missed. With a drift of the scores none is kept."""
    kept, drifted = [], []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        outcomes = make_outcomes(rng, n=300)
        scores = rng.normal(size=(300, 2))
        moved = np.where(np.arange(300)[:, None] < HELD, scores, scores + np.array([0.0, 1.5]))
        for values, into in ((scores, kept), (moved, drifted)):
            asked = Asked((Ask("strong_share", 0.5),))
            into.append(judged(outcomes, values, asked=asked).metrics["operating_points"]["strong-50"]["kept"])
    assert sum(kept) >= 26
    assert sum(drifted) <= 1


def test_spend_among_many_models(rng: np.random.Generator) -> None:
    outcomes = make_outcomes(rng, n=300, m=4)
    scores = scored(rng, outcomes)
    found = judged(outcomes, scores, asked=Asked((Ask("spend", 0.2), Ask("spend", 1.0)))).metrics["operating_points"]
    point = found["spend-20"]
    assert point["reachable"] == pytest.approx(0.2, abs=0.05)
    low, high = outcomes.cost[HELD:].mean(axis=0)[[0, outcomes.pool.index("model3")]]
    assert point["realised"] == pytest.approx((point["cost"] - low) / (high - low))
    assert found["spend-100"]["reachable"] < 0.995
    assert "beyond the best predicted quality" in found["spend-100"]["note"]


def test_what_cannot_be_spent_is_withheld(rng: np.random.Generator) -> None:
    outcomes = make_outcomes(rng, n=300)
    even = Outcomes(outcomes.queries, outcomes.pool, outcomes.quality, np.ones((300, 2)))
    found = judged(even, scored(rng, outcomes), asked=Asked((Ask("spend", 0.5),))).metrics
    assert "spend-50" not in found["operating_points"]
    assert "costs no more" in found["withheld"]["operating_points.spend-50"]


def traffic(outcomes: Outcomes, rows: np.ndarray) -> Traffic:
    """Some of these queries as a log: new ids, repetitions kept."""
    queries = outcomes.queries
    ids = np.array([f"row {i}" for i in range(len(rows))], dtype=object)
    return Traffic(Queries(ids, queries.text[rows], queries.group[rows], queries.vectors()[rows]), "log.csv", "0" * 64)


def test_shares_are_chosen_on_the_users_own_queries(rng: np.random.Generator) -> None:
    """Scored by the exported router with its calibration, repetitions counted; a quality still needs the calibration split."""
    outcomes = make_outcomes(rng, n=300)
    router = Logistic().fit(outcomes.take(np.arange(HELD)), rng=rng)
    calibration = Affine(0.5, np.array([0.1, -0.2]))
    made = replace(fitted(outcomes, calibration(router.predict(outcomes.queries)).quality), router=router, calibration=calibration)
    rows = np.r_[np.arange(50, 250), np.full(40, 7)]  # 50 held out and 150 judged ones, and one held out forty times
    own = traffic(outcomes, rows)
    asked = Asked((Ask("strong_share", 0.4), Ask("quality", 0.9)), own)
    found = assess("r", made, outcomes, Judging(replicates=100, asked=asked), rng, {}).metrics["operating_points"]
    scores = calibration(router.predict(own.queries)).quality
    share = (scores[:, 1] - scores[:, 0] > found["strong-40"]["knob"]).mean()
    assert found["strong-40"]["reachable"] == pytest.approx(share)
    assert found["strong-40"]["chosen_on"] == {
        "what": "ungraded queries", "file": "log.csv", "sha256": "0" * 64, "n": 240, "in_test": 150, "in_data": 240,
    }  # fmt: skip
    assert found["strong-40"]["note"].endswith("90 of the 240 queries stand in the data outside the test set: of those it may have learned")
    assert found["quality-90"]["chosen_on"]["what"] == "calibration split"
    alone = replace(made, held_out=())
    shares = Judging(replicates=100, asked=Asked((Ask("strong_share", 0.4),), own))
    assert list(assess("r", alone, outcomes, shares, rng, {}).metrics["operating_points"]) == ["strong-40"]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"strong_share": 1.5}, r"policy.strong_share is no fraction: expected a number from 0 to 1.*found 1.5"),
        ({"quality": 95}, r"For 95 % say policy.quality=0.95"),
        ({"quality": 0}, "above 0 and up to 1"),
        ({"quality": [0.9, "high"]}, "found 'high'"),
        ({"spend": True}, "policy.spend is no fraction"),
        ({"spend": float("nan")}, "policy.spend is no fraction"),
        ({"strong_share": -0.1}, "policy.strong_share is no fraction"),
        ({"quality": 0.9, "queries": "log.csv"}, "nothing to choose"),
        ({"queries": "log.csv"}, "found neither"),
        ({"strong_share": 0.5, "queries": 3}, "policy.queries has the wrong type"),
    ],
)
def test_what_is_no_promise_is_refused(settings: dict[str, object], told: str) -> None:
    with pytest.raises(InputError, match=told):
        Asked.of(settings)


def test_what_is_asked_twice_is_one_point() -> None:
    assert Asked.of({"strong_share": [0.5, 0.5], "quality": 1}).points == (Ask("strong_share", 0.5), Ask("quality", 1.0))
    assert Asked.of({"strong_share": None, "name": "auto"}) == Asked()


def test_what_does_not_fit_the_data_is_refused(rng: np.random.Generator) -> None:
    pair, four = make_outcomes(rng, n=20), make_outcomes(rng, n=20, m=4)
    unknown = Outcomes(pair.queries, pair.pool, pair.quality, np.full((20, 2), np.nan))
    share, spend, quality = (Asked((Ask(kind, 0.5),)) for kind in ("strong_share", "spend", "quality"))
    share.check(unknown, held_out=True)
    with pytest.raises(InputError, match=r"for two models.*found 4.*policy.spend"):
        share.check(four, held_out=True)
    with pytest.raises(InputError, match="needs a cost for every model"):
        spend.check(unknown, held_out=True)
    with pytest.raises(InputError, match=r"strong-50 on.*split.calibration=0.1, or name ungraded queries"):
        share.check(pair, held_out=False)
    with pytest.raises(InputError, match=r"quality-50 on.*split.calibration=0.1\."):
        quality.check(pair, held_out=False)
    Asked(share.points, traffic(pair, np.arange(5))).check(pair, held_out=False)


def test_nothing_is_asked_of_a_finished_run(rng: np.random.Generator) -> None:
    outcomes = make_outcomes(rng, n=300)
    with pytest.raises(InputError, match=r"keeps the operating points that it has.*strong-50"):
        judged(
            outcomes,
            truth(outcomes),
            promise=points.Promise({}, "threshold", "model0", "model1"),
            asked=Asked((Ask("strong_share", 0.5),)),
        )


def test_a_run_judged_again_remembers_how_it_was_chosen(rng: np.random.Generator) -> None:
    outcomes = make_outcomes(rng, n=300)
    scores = scored(rng, outcomes)
    first = judged(outcomes, scores, asked=Asked((Ask("strong_share", 0.5), Ask("spend", 0.25)))).metrics
    again = judged(outcomes, scores, promise=points.Promise.of(first)).metrics
    assert again["operating_points"] == first["operating_points"]
