"""The search for the best cascades, on a table small enough to do by hand, and the cascades that follow what it finds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from routewright.core.contracts import SCORE, STOP, USD_SCORE
from routewright.core.types import InputError, Outcomes, Pool, Queries
from routewright.eval.replay import bought, realised, replay
from routewright.routers.cascades._front import Front, along, front, spent, stages
from routewright.routers.cascades._front_cascade import Listed
from routewright.routers.cascades.frugal import Frugal
from routewright.routers.cascades.frugal_code import FrugalCode, cuts
from routewright.routers.cascades.frugal_paper import FrugalPaper, mpi
from routewright.routers.cascades.threshold import Threshold

NAN = float("nan")
# four queries; models a, b and c cost 1, 4 and 10
RIGHT = np.array([[1, 1, 1], [0, 1, 1], [0, 0, 1], [1, 1, 1]], dtype=float)
SURE = np.array([[0.9, 0.9, 0.9], [0.2, 0.8, 0.9], [0.4, 0.3, 0.9], [0.8, 0.7, 0.9]])
COST = np.tile([1.0, 4.0, 10.0], (4, 1))


def outcomes(look: float | None = None) -> Outcomes:
    name = np.array([f"q{row}" for row in range(4)], dtype=object)
    signals = {SCORE: SURE} | ({} if look is None else {USD_SCORE: np.full((4, 3), look)})
    return Outcomes(Queries(name, name, name), Pool(("a", "b", "c")), RIGHT, COST, usage="measured", signals=signals)


# By hand. a alone: 1, two of four right. a, then b where a's score is below .4 (one row): 1 + 4/4 = 2, three right. a, then b below .8 (two
# rows), then c where b's is below .7 (one row): 1 + 8/4 + 10/4 = 5.5, all right. c alone costs 10, a then c 6, b then c 6.5 for as much.
BEST = ([[0, -1, -1], [0, 1, -1], [0, 1, 2]], [1.0, 2.0, 5.5], [0.5, 0.75, 1.0])


def test_the_front_by_hand() -> None:
    found = front(SURE, RIGHT, COST)
    assert found.models.tolist() == BEST[0]
    assert found.cost == pytest.approx(BEST[1])
    assert found.quality == pytest.approx(BEST[2])
    # half way between the scores to either side
    assert found.thresholds[1].tolist() == pytest.approx([0.3, NAN], nan_ok=True)
    assert found.thresholds[2, 0] == pytest.approx(0.6)
    assert 0.3 < found.thresholds[2, 1] < 0.8  # b's scores on the two rows that it sees


def test_shorter_lists_only() -> None:
    assert front(SURE, RIGHT, COST, max_length=1).cost.tolist() == [1.0, 4.0, 10.0]
    pairs = front(SURE, RIGHT, COST, max_length=2)
    assert pairs.models.tolist() == [[0, -1], [0, 1], [0, 2]]
    assert pairs.cost == pytest.approx([1, 2, 6])


def test_a_look_is_paid_for_every_answer_but_the_last_stages() -> None:
    # .5 for a's four answers a query each; of the three stages also .5 for two of b's
    found = front(SURE, RIGHT, COST, look=np.full((4, 3), 0.5))
    assert found.models.tolist() == BEST[0]
    assert found.cost == pytest.approx([1.0, 2.5, 6.25])


def test_a_budget_buys_the_best_that_fits() -> None:
    found = front(SURE, RIGHT, COST)
    assert found.at(np.array([1.0, 1.99, 2.0, 5.4, 100.0])).tolist() == [0, 0, 1, 1, 2]
    with pytest.raises(InputError, match="at least USD 1 "):
        found.at(np.array([2.0, 0.99]))
    with pytest.raises(InputError, match="no cascade is that cheap"):
        found.at(np.array([NAN]))


def test_where_a_cascade_stops_and_what_it_pays() -> None:
    models, thresholds = np.array([0, 1, 2]), np.array([0.8, 0.7])
    stage = stages(SURE, models, thresholds)
    assert stage.tolist() == [0, 1, 2, 0]
    served, paid = spent(stage, models, RIGHT, COST, np.full((4, 3), 0.5))
    assert served.tolist() == [1, 1, 1, 1]
    assert paid.tolist() == [1.5, 6.0, 16.0, 1.5]  # c's answer is not looked at
    assert stages(SURE, np.array([1, -1, -1]), np.array([NAN, NAN])).tolist() == [0, 0, 0, 0]


def test_a_fixed_order_by_hand() -> None:
    found = along(SURE, RIGHT, COST, [0, 1, 2])
    assert found.cost == pytest.approx(BEST[1])
    assert found.quality == pytest.approx(BEST[2])
    # b sure of a wrong answer: on the way to c it is worth nothing, so none of its answers is kept
    useless = np.array([[1, 0, 1], [0, 0, 1]], dtype=float)
    sure = np.array([[0.9, 0.5, 0.5], [0.1, 0.5, 0.5]])
    found = along(sure, useless, COST[:2], [0, 1, 2])
    assert found.cost == pytest.approx([1.0, 8.0])
    assert found.thresholds[1].tolist() == [0.5, np.inf]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"score": SURE[:3]}, "score has the wrong shape"),
        ({"quality": np.where(RIGHT == 0, NAN, RIGHT)}, "quality has impossible values"),
        ({"cost": -COST}, "cost has impossible values"),
        ({"look": -COST}, "look has impossible values"),
        ({"max_length": 0}, "needs a model"),
    ],
)
def test_what_cannot_be_searched_is_refused(change: dict[str, object], match: str) -> None:
    with pytest.raises(InputError, match=match):
        front(**({"score": SURE, "quality": RIGHT, "cost": COST} | change))  # type: ignore[arg-type]


@pytest.mark.parametrize("order", [[0, 0], [0, 3], []])
def test_an_impossible_order_is_refused(order: list[int]) -> None:
    with pytest.raises(InputError, match=r"order of models|needs a model"):
        along(SURE, RIGHT, COST, order)


# ---- the cascades


@pytest.mark.parametrize("cascade", [Frugal(smooth=0.0, folds=0), Threshold(smooth=0.0), Threshold(["a", "b", "c"], smooth=0.0)])
def test_a_share_of_spend_buys_what_the_front_says(cascade: Listed) -> None:
    cascade.fit(outcomes(), rng=np.random.default_rng(0))
    # from 1 (a) to 10 (c, the best): half of the way is 5.5
    decisions = replay(cascade, outcomes(), knob=0.5)
    assert decisions.called.tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1], [1, 0, 0]]
    assert decisions.served.tolist() == [0, 1, 2, 0]
    assert realised(replay(cascade, outcomes(), knob=0.49), outcomes())[1].mean() == 2.0
    assert realised(replay(cascade, outcomes(), knob=0.0), outcomes())[1].tolist() == [1, 1, 1, 1]


def test_looks_are_bought_only_where_a_score_decides() -> None:
    priced = outcomes(0.5)
    cascade = Frugal(smooth=0.0, folds=0).fit(priced, rng=np.random.default_rng(0))
    decisions, looked = bought(cascade, priced, knob=0.6)
    assert decisions.called[2].tolist() == [True, True, True]
    assert looked.tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 0], [1, 0, 0]]
    assert realised(decisions, priced, looked)[1].mean() == 6.25


def test_a_score_that_is_not_known_keeps_nothing() -> None:
    cascade = Frugal(smooth=0.0, folds=0).fit(outcomes(), rng=np.random.default_rng(0))
    called = np.array([[True, False, False]] * 4)
    unknown = {SCORE: np.full((4, 3), NAN)}
    assert cascade.step(outcomes().queries, called, unknown, knob=0.5).tolist() == [1, 1, 1, 1]
    assert cascade.step(outcomes().queries, called, {SCORE: SURE}, knob=0.5).tolist() == [STOP, 1, 1, STOP]
    others = np.array([[False, True, True]] + [[False, False, True]] * 3)
    assert cascade.select(outcomes().queries, others, unknown, knob=0.0).tolist() == [2, 2, 2, 2]


def test_smoothing_counts_scores_for_grades() -> None:
    # by the grades b is the best of the pair, by the scores a is: one answer that was right by luck
    right = np.array([[0.0, 1.0], [1.0, 1.0]])
    sure = np.array([[0.9, 0.1], [0.8, 0.9]])
    cost = np.tile([1.0, 2.0], (2, 1))
    table = replace(outcomes().models(["a", "b"]).take(np.arange(2)), quality=right, cost=cost, signals={SCORE: sure})
    lists = [Frugal(2, smooth, 0).fit(table, rng=np.random.default_rng(0)).lists_[-1].tolist() for smooth in (0.0, 1.0)]
    assert lists[0][0] == 1 or lists[0] == [0, 1]
    assert realised(replay(Frugal(1, 0.0, 0).fit(table, rng=np.random.default_rng(0)), table, knob=1.0), table)[0].mean() == 1.0
    assert realised(replay(Frugal(1, 1.0, 0).fit(table, rng=np.random.default_rng(0)), table, knob=1.0), table)[0].mean() == 0.5


def test_folds_shorten_lists_where_scores_say_nothing() -> None:
    rng = np.random.default_rng(0)
    n = 120
    name = np.array([f"q{row}" for row in range(n)], dtype=object)
    right, cost = (rng.random((n, 3)) < [0.5, 0.55, 0.6]).astype(float), np.tile([1.0, 2.0, 3.0], (n, 1))
    table = Outcomes(Queries(name, name, name), Pool(("a", "b", "c")), right, cost, usage="measured", signals={SCORE: rng.random((n, 3))})
    free, checked = (Frugal(3, 0.0, folds).fit(table, rng=np.random.default_rng(0)) for folds in (0, 3))
    assert (free.lists_ >= 0).sum(axis=1).max() == 3, "luck finds three stages worth their price"
    assert (checked.lists_ >= 0).sum(axis=1).max() < 3


# ---- what FrugalGPT did


def test_cuts_of_the_published_code() -> None:
    # the middle of 1 - score is .5: scores .6 and .9 are kept, and of the rest the half with the lower second score goes on
    score = np.array([[0.1, 0.3], [0.4, 0.7], [0.6, 0.9], [0.9, 0.2]])
    assert cuts(score, (0, 1), np.array([0.5])).tolist() == [0.6]
    assert cuts(score, (0, 1, 1), np.array([0.5, 0.5])).tolist() == [0.6, 0.7]
    assert cuts(score, (0, 1), np.array([1.0])).tolist() == [np.inf]  # all go on


def test_the_published_code_falls_back_on_the_cheapest_model() -> None:
    cascade = FrugalCode().fit(outcomes(), rng=np.random.default_rng(0))
    assert cascade.lists_[0].tolist() == [0, -1, -1]
    assert realised(replay(cascade, outcomes(), knob=0.5), outcomes())[0].mean() == 1.0


def test_mpi_is_what_a_has_right_and_b_wrong() -> None:
    assert mpi(RIGHT).tolist() == [[0, 0, 0], [0.25, 0, 0], [0.5, 0.25, 0]]
    assert mpi(np.array([[1.0, 0.25]])).tolist() == [[0, 0.75], [0, 0]]


def test_the_paper_leaves_out_lists_that_hardly_disagree() -> None:
    lists = FrugalPaper(min_mpi=0.3, samples=2, grid=3).fit(outcomes(), rng=np.random.default_rng(0)).lists_
    pairs = {tuple(row[row >= 0].tolist()) for row in lists}
    assert pairs <= {(0,), (1,), (2,), (0, 2)}, "only c is right often enough where another is wrong, and that other is a"
    assert (0, 2) in pairs


@pytest.mark.parametrize(
    ("cascade", "match"),
    [
        (Frugal(smooth=1.5), "smooth"),
        (Frugal(max_length=0), "max_length"),
        (Frugal(cells=0), "cells"),
        (Frugal(width=-1), "width"),
        (Threshold(smooth=-0.1), "smooth"),
        (Threshold(["b", "c"]), "the cheapest on the training rows"),
        (Threshold(["a", "b", "a"]), "impossible order"),
        (Threshold([]), "impossible order"),
        (Threshold(["nobody"]), "'nobody' is not in the pool"),
        (FrugalCode(length=0), "length"),
        (FrugalCode(grid=1), "grid"),
        (FrugalCode(polish=-1), "polish"),
        (FrugalPaper(max_length=0), "max_length"),
        (FrugalPaper(min_mpi=2), "min_mpi"),
        (FrugalPaper(samples=50), "samples"),
    ],
)
def test_impossible_settings_are_refused(cascade: Listed, match: str) -> None:
    with pytest.raises(InputError, match=match):
        cascade.fit(outcomes(), rng=np.random.default_rng(0))


def test_a_front_can_be_cut() -> None:
    found: Front = front(SURE, RIGHT, COST).take(np.array([0, 2]))
    assert found.cost == pytest.approx([1.0, 5.5])
