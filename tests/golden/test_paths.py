"""A cascade's curve and its named points, by hand on four queries."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from routewright.core.contracts import SCORE, STOP, USD_SCORE
from routewright.core.types import InputError, Outcomes, Pool, Queries
from routewright.eval.cascade_points import HeldOut, cascade_points
from routewright.eval.paths import Path
from routewright.eval.promises import NOTHING, Ask, Asked
from routewright.eval.ruler import Ruler
from tests.golden.test_replay import UntilSure


class Stepped(UntilSure):
    """The first model alone; up to a score of .5; both of them."""

    needs = (SCORE,)

    def knobs(self) -> np.ndarray:
        return np.array([0.0, 0.5, 2.0])

    def step(self, queries, called, signals, *, knob):  # type: ignore[no-untyped-def]
        depth = called.sum(axis=1)
        return np.where((depth == 2) | ((depth == 1) & ~(signals[SCORE][:, 0] < knob)), STOP, depth)

    def looks(self, called, last, *, knob):  # type: ignore[no-untyped-def]
        return (last == 0) & (knob > 0)


@pytest.fixture
def table() -> Outcomes:
    text = np.array(["a", "b", "c", "d"], dtype=object)
    quality, score = np.array([[1, 1], [0, 1], [1, 0], [0, 1]]), np.array([[0.9, 0.9], [0.2, 0.8], [0.4, 0.1], [0.7, 0.6]])
    cost = np.tile([1.0, 10.0], (4, 1))
    return Outcomes(Queries(text, text, np.full(4, "", dtype=object)), Pool(("weak", "strong")), quality, cost, signals={SCORE: score})


def test_the_curve_by_hand(table: Outcomes) -> None:
    path = Path.of(Stepped(), table, strong=1)
    cost, quality, share = path.points()
    assert cost.tolist() == [1.0, 6.0, 11.0]  # at .5 the second and the third query go on
    assert quality.tolist() == [0.5, 0.5, 0.75]  # b gains what c loses
    assert share.tolist() == [0.0, 0.5, 1.0]
    curve = path.curve()
    assert curve.knob.tolist() == [0.0, 0.5, 2.0]
    assert curve.share.tolist() == [[1.0, 0.0], [1.0, 0.5], [1.0, 1.0]]
    assert path.at_zero() == 2
    assert path.calls(1).tolist() == [[True, False], [True, True], [True, True], [True, False]]
    twice = path.points(np.array([[1.0, 3.0, 0.0, 0.0]]))
    assert twice[0].tolist() == [[1.0, 8.5, 11.0]]
    assert twice[1].tolist() == [[0.25, 1.0, 1.0]]


def test_scores_that_are_looked_at_are_paid(table: Outcomes) -> None:
    priced = replace(table, signals={**table.signals, USD_SCORE: np.full((4, 2), 0.5)})
    assert Path.of(Stepped(), priced, strong=1).points()[0].tolist() == [1.0, 6.5, 11.5]


def test_folds_are_pooled_in_the_order_of_the_rows_and_come_back_from_their_arrays(table: Outcomes) -> None:
    whole = Path.of(Stepped(), table, strong=1)
    first, second = (Path.of(Stepped(), table.take(np.array(rows)), strong=1) for rows in ([1, 3], [0, 2]))
    pooled = Path.pooled([first, second], np.argsort([1, 3, 0, 2]))
    restored = Path.restored(pooled.arrays(), table, strong=1)
    for name in ("knob", "served", "called", "quality", "cost"):
        assert np.array_equal(getattr(pooled, name), getattr(whole, name))
        assert np.array_equal(getattr(restored, name), getattr(whole, name))
    assert np.array_equal(whole.take(np.array([2])).cost, whole.cost[:, 2:3])


def test_too_many_models(table: Outcomes) -> None:
    wide = Outcomes(table.queries, Pool(tuple(f"m{j}" for j in range(64))), np.ones((4, 64)), np.ones((4, 64)))
    with pytest.raises(InputError, match="too many models"):
        Path.of(Stepped(), wide, strong=1)


def test_points_are_chosen_on_held_out_rows_and_judged_on_the_others(table: Outcomes) -> None:
    """On the held-out rows only both models reach 95 % of the strong one's quality; half of the way in cost is the middle point."""
    parts = {name: np.tile(getattr(table, name), (10, 1)) for name in ("quality", "cost")}
    text = np.array([f"{letter}{i}" for i in range(10) for letter in "abcd"], dtype=object)
    signals = {SCORE: np.tile(table.signals[SCORE], (10, 1))}
    judged = Outcomes(Queries(text, text, np.full(40, "", dtype=object)), table.pool, **parts, signals=signals)
    ruler = Ruler(judged, policy="threshold", rng=np.random.default_rng(0), replicates=100, spend=True)
    path, fold = Path.of(Stepped(), judged, strong=1), np.zeros(40, dtype=np.int64)
    held = HeldOut(np.arange(4), Path.of(Stepped(), table, strong=1))
    asked = Asked((Ask("spend", 0.5),))
    found = cascade_points(path, [held], fold, table, np.ones(4, dtype=bool), ruler, {}, asked)
    assert {name: point["knob"] for name, point in found.items()} == {"cheapest": 0.0, "balanced": 0.5, "quality-95": 2.0, "spend-50": 0.5}
    assert found["quality-95"]["quality"] == 0.75
    assert found["quality-95"]["cost"] == 11.0
    assert found["quality-95"]["realised"] == pytest.approx(1.0)
    assert found["spend-50"]["realised"] == pytest.approx(5 / 9)  # USD 6, of 1 to 10
    assert found["cheapest"]["share"] == {"weak": 1.0, "strong": 0.0}
    withheld: dict[str, str] = {}
    assert cascade_points(path, [], fold, table, np.ones(4, dtype=bool), ruler, withheld, NOTHING) == {}
    assert "calibration split" in withheld["operating_points"]
