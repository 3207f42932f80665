"""Cross-fitting seen by a spy: nobody is judged by a router that has met them, and nothing of a test row reaches its own prediction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Self

import numpy as np
import pytest

from routewright.core.calibrate import Affine
from routewright.core.types import Battles, Outcomes, Predictions, Queries
from routewright.data.split import Fold, folds
from routewright.eval.crossfit import Fitted, crossfit, fit_one
from tests.conftest import make_outcomes


class Spy:
    """Scores by the first coordinate of the embedding, and remembers whom it was fitted on, whom it has scored and its draw."""

    reads = "embedding"

    def __init__(self, supervision: str = "outcomes", lean: float = 0.0) -> None:
        self.supervision, self.lean = supervision, lean

    def fit(self, train: Any, valid: Any = None, *, rng: np.random.Generator) -> Self:
        self.train_, self.draw_ = train, float(rng.random())
        self.seen_ = set(train.queries.id)
        self.scored_: list[str] = []
        self.level_ = self.lean * len(train.queries)
        return self

    def predict(self, queries: Queries) -> Predictions:
        self.scored_ += list(queries.id)
        score = np.outer(queries.vectors()[:, 0], np.arange(1, len(self.train_.pool) + 1)) + self.level_
        return Predictions(score, np.ones(score.shape))

    def state(self) -> dict[str, np.ndarray]:
        return {}

    def load(self, state: Mapping[str, np.ndarray]) -> Self:
        return self

    def onnx(self) -> Any:
        raise AssertionError("nobody exports a spy")


class Makers:
    """Builds spies and keeps them, in the order they were asked for."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.made: list[Spy] = []

    def __call__(self) -> Spy:
        self.made.append(Spy(**self.options))
        return self.made[-1]


def cut(outcomes: Outcomes, *, cv: int | None = None, calibration: float = 0.2) -> list[Fold]:
    return folds(outcomes.queries, kind="random", test=0.3, calibration=calibration, cv=cv, rng=np.random.default_rng(1))


def run(outcomes: Outcomes, cuts: list[Fold], make: Makers | None = None) -> Fitted:
    return crossfit(make or Makers(), outcomes, cuts, np.random.default_rng(2))


def ids(outcomes: Outcomes, rows: np.ndarray) -> set[str]:
    return set(outcomes.queries.id[rows])


def test_no_test_row_was_in_its_own_folds_training(outcomes: Outcomes) -> None:
    make, cuts = Makers(), cut(outcomes, cv=4)
    fitted = run(outcomes, cuts, make)
    assert len(make.made) == 5
    for k, spy in enumerate(make.made[:4]):
        judged = ids(outcomes, fitted.rows[fitted.fold == k])
        assert spy.seen_ == ids(outcomes, cuts[k].train)
        assert judged
        assert not judged & spy.seen_
        assert judged <= set(spy.scored_)
    assert make.made[4].seen_ == set(outcomes.queries.id), "the exported router learns from everything"
    assert fitted.router is make.made[4]


def test_pooled_rows_are_every_row_once_in_order(outcomes: Outcomes) -> None:
    cuts = cut(outcomes, cv=5)
    fitted = run(outcomes, cuts)
    assert fitted.rows.tolist() == list(range(len(outcomes)))
    assert len(fitted.predictions) == len(outcomes)
    for k, fold in enumerate(cuts):
        assert fitted.fold[fold.test].tolist() == [k] * len(fold.test)
    assert not fitted.exact


def test_pooled_scores_stand_beside_their_own_queries(outcomes: Outcomes) -> None:
    """The spy's score is 1 and 2 times a coordinate; levelled by fold and calibrated, the gain is still a line in it."""
    cuts = cut(outcomes, cv=3)
    fitted = run(outcomes, cuts)
    gain = fitted.predictions.quality[:, 1] - fitted.predictions.quality[:, 0]
    for fold in cuts:
        x = outcomes.queries.vectors()[fold.test, 0].astype(np.float64)
        slope, start = np.polyfit(x, gain[fold.test], 1)
        assert slope == pytest.approx(fitted.calibration.scale, rel=1e-5)
        assert gain[fold.test] == pytest.approx(slope * x + start, abs=1e-6)


def test_the_level_of_a_fold_plays_no_part(rng: np.random.Generator) -> None:
    """Routers that add a constant of their own to every score give what routers without it give."""
    outcomes = make_outcomes(rng, n=97)
    cuts = cut(outcomes, cv=4)
    assert len({len(fold.train) for fold in cuts}) > 1, "the constants must differ between folds"
    plain, leaning = run(outcomes, cuts), run(outcomes, cuts, Makers(lean=0.5))
    assert leaning.predictions.quality == pytest.approx(plain.predictions.quality, abs=1e-6)
    exported = [made.calibration(made.router.predict(outcomes.queries)).quality for made in (plain, leaning)]
    assert exported[0] == pytest.approx(exported[1], abs=1e-6)


def test_the_exported_router_promises_the_mean(outcomes: Outcomes) -> None:
    fitted = run(outcomes, cut(outcomes, cv=4), Makers(lean=0.1))
    promised = fitted.calibration(fitted.router.predict(outcomes.queries)).quality.mean(axis=0)
    assert promised == pytest.approx(outcomes.quality.mean(axis=0), abs=1e-6)
    assert fitted.predictions.quality.mean(axis=0) == pytest.approx(outcomes.quality.mean(axis=0), abs=1e-6)


def test_held_out_rows_of_a_fold_are_the_other_folds(outcomes: Outcomes) -> None:
    fitted = run(outcomes, cut(outcomes, cv=4))
    assert len(fitted.held_out) == 4
    for k, (rows, scores) in enumerate(fitted.held_out):
        assert rows.tolist() == fitted.rows[fitted.fold != k].tolist()
        np.testing.assert_array_equal(scores.quality, fitted.predictions.quality[fitted.fold != k])


def test_battles_supervision_gets_battles(outcomes: Outcomes) -> None:
    for supervision, kind in (("battles", Battles), ("outcomes", Outcomes)):
        make = Makers(supervision=supervision)
        run(outcomes, cut(outcomes, cv=2), make)
        assert [type(spy.train_) for spy in make.made] == [kind] * 3
    spy = fit_one(Makers(supervision="battles"), outcomes, np.random.default_rng(0))
    assert len(spy.train_) == len(outcomes)  # type: ignore[attr-defined]


def test_one_split_by_its_own_sides(outcomes: Outcomes) -> None:
    make, (fold,) = Makers(), cut(outcomes)
    fitted = run(outcomes, [fold], make)
    assert fitted.exact
    assert fitted.router is make.made[0]
    assert len(make.made) == 1
    assert make.made[0].seen_ == ids(outcomes, fold.train)
    assert fitted.rows.tolist() == fold.test.tolist()
    assert set(fitted.fold) == {0}
    ((rows, scores),) = fitted.held_out
    assert rows.tolist() == fold.calibration.tolist()
    expected = Affine.fit(fitted.router.predict(outcomes.queries.take(rows)), outcomes.take(rows))
    assert (fitted.calibration.scale, fitted.calibration.shift.tolist()) == (expected.scale, expected.shift.tolist())
    np.testing.assert_array_equal(scores.quality, expected(fitted.router.predict(outcomes.queries.take(rows))).quality)
    np.testing.assert_array_equal(fitted.predictions.quality, expected(fitted.router.predict(outcomes.queries.take(fold.test))).quality)


def turned(outcomes: Outcomes, rows: np.ndarray) -> Outcomes:
    """The same table with the grades of some rows turned around."""
    quality = outcomes.quality.copy()
    quality[rows] = 1 - quality[rows]
    return replace(outcomes, quality=quality)


def test_the_outcomes_of_a_split_reach_what_they_may(outcomes: Outcomes) -> None:
    """Other grades on test change nothing that is learned; other grades on calibration change the calibration alone."""
    (fold,) = cut(outcomes)
    before = run(outcomes, [fold])
    same, other = run(turned(outcomes, fold.test), [fold]), run(turned(outcomes, fold.calibration), [fold])
    np.testing.assert_array_equal(same.predictions.quality, before.predictions.quality)
    np.testing.assert_array_equal(same.held_out[0][1].quality, before.held_out[0][1].quality)
    assert same.calibration.scale == before.calibration.scale
    assert other.calibration.shift.tolist() != before.calibration.shift.tolist()
    assert not np.allclose(other.predictions.quality, before.predictions.quality)


def test_the_outcomes_of_a_fold_never_change_its_own_ranking(outcomes: Outcomes) -> None:
    """A pair's one calibration is fitted on all out-of-fold scores: it may change what is promised, never the order of gains."""
    cuts = cut(outcomes, cv=4)
    before = run(outcomes, cuts).predictions.quality
    for fold in cuts:
        after = run(turned(outcomes, fold.test), cuts).predictions.quality
        assert not np.allclose(after, before)
        orders = [np.argsort(q[:, 1] - q[:, 0], kind="stable").tolist() for q in (before, after)]
        assert orders[0] == orders[1]


def test_of_more_models_the_outcomes_of_a_fold_never_change_its_own_promise(rng: np.random.Generator) -> None:
    """There a shift can choose the winner, so every fold is calibrated on the others."""
    outcomes = make_outcomes(rng, n=120, m=3)
    cuts = cut(outcomes, cv=4)
    before = run(outcomes, cuts).predictions.quality
    for fold in cuts:
        after = run(turned(outcomes, fold.test), cuts).predictions.quality
        np.testing.assert_array_equal(after[fold.test], before[fold.test])
        others = np.setdiff1d(np.arange(120), fold.test)
        assert not np.allclose(after[others], before[others]), "the others learn from it"


def test_without_calibration_scores_stay_as_they_are(outcomes: Outcomes) -> None:
    (fold,) = cut(outcomes, calibration=0.0)
    fitted = run(outcomes, [fold])
    assert fitted.held_out == ()
    assert fitted.exact
    assert (fitted.calibration.scale, fitted.calibration.shift.tolist()) == (1.0, [0.0, 0.0])
    np.testing.assert_array_equal(fitted.predictions.quality, fitted.router.predict(outcomes.queries.take(fold.test)).quality)


def test_folds_need_no_calibration_rows_of_their_own(outcomes: Outcomes) -> None:
    fitted = run(outcomes, cut(outcomes, cv=3, calibration=0.0))
    assert len(fitted.held_out) == 3
    assert fitted.predictions.quality.mean(axis=0) == pytest.approx(outcomes.quality.mean(axis=0), abs=1e-6)


def test_every_router_has_a_stream_of_its_own_and_it_is_the_seeds(outcomes: Outcomes) -> None:
    draws = []
    for _ in range(2):
        make = Makers()
        run(outcomes, cut(outcomes, cv=3), make)
        draws.append([spy.draw_ for spy in make.made])
    assert len(set(draws[0])) == 4
    assert draws[0] == draws[1]
