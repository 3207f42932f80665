"""Scorers never score rows they learned from; a cascade on trial beats what it should and gains nothing from noise."""

from __future__ import annotations

from dataclasses import replace
from typing import Self

import numpy as np
import pytest

from routewright.core.contracts import PRIOR, SAID, SCORE, USD_PRIOR, USD_SCORE
from routewright.core.text import normalise
from routewright.core.types import Floats, InputError, Outcomes
from routewright.data.split import folds
from routewright.eval.assess import Judging
from routewright.eval.cascading import CascadeTrial, Kept, try_cascade
from routewright.eval.paths import Path
from routewright.eval.scored import Makers, fit_scorers, spoken
from routewright.routers.cascades.agreement import Agreement
from routewright.routers.cascades.automix import AutoMix
from routewright.routers.cascades.cascade_routing import CascadeRouting
from routewright.routers.logistic import Logistic
from tests.conftest import make_outcomes

QUICK = Judging(replicates=200)


class Recorded:
    """Reads outcomes.signals["told"]; remembers what it was fitted on, and refuses to score a row of it."""

    def __init__(self, usd: float | None = None) -> None:
        self.usd = usd

    def fit(self, train: Outcomes, *, rng: np.random.Generator) -> Self:
        self.known_ = set(train.queries.text)
        return self

    def score(self, outcomes: Outcomes) -> Floats:
        assert not self.known_ & set(outcomes.queries.text), "a scorer met a row that it had learned from"
        return outcomes.signals["told"]

    def cost(self, outcomes: Outcomes) -> Floats | None:
        return None if self.usd is None else np.full(outcomes.quality.shape, self.usd)

    def state(self) -> dict[str, np.ndarray]:
        return {}

    def load(self, state: object) -> Self:
        return self


def told(seed: int, *, n: int = 400, m: int = 3, noise: float = 0.6) -> Outcomes:
    """Outcomes with answers and a signal that tells right ones with some noise; with infinite noise it tells nothing, as the queries do."""
    rng = np.random.default_rng(seed)
    table = make_outcomes(rng, n=n, m=m, groups=20)
    table = table.encoded(rng.permutation(table.queries.vectors()))
    truth = table.quality if np.isfinite(noise) else rng.random(table.quality.shape)
    score = truth + (noise if np.isfinite(noise) else 1.0) * rng.normal(size=truth.shape)
    wrong = rng.integers(1, 5, size=truth.shape)
    answer = np.where(table.quality == 1, "Right", np.char.add("wrong ", wrong.astype(str))).astype(object)
    return replace(table, signals={"told": score}, answer=answer)


def makers(**settings: object) -> Makers:
    return Makers(Logistic, Recorded, lambda answer: normalise(answer) or None, **settings)  # type: ignore[arg-type]


def tried(table: Outcomes, *, cv: int | None = None, made: Makers | None = None, cascade: type = AutoMix) -> CascadeTrial:
    cuts = folds(table.queries, kind="random", test=0.3, calibration=0.1, cv=cv, rng=np.random.default_rng(1))
    streams = {"fit": np.random.default_rng(2), "judge": np.random.default_rng(3)}
    return try_cascade("it", cascade, made or makers(), table, cuts, QUICK, **streams, without=("shuffled_labels",))


@pytest.mark.parametrize("inner", [1, 2, 5])
def test_every_row_is_scored_by_a_scorer_that_has_not_seen_it(inner: int) -> None:
    table = told(0, n=120)
    needs = (PRIOR, USD_PRIOR, SCORE, SAID)
    scorers, seen = fit_scorers(makers(folds=inner), table, needs, np.random.default_rng(0), clustered=False)
    assert set(seen.signals) >= {PRIOR, USD_PRIOR, SCORE, SAID}
    assert len(seen) == (120 if inner > 1 else 36)
    assert set(seen.queries.id) <= set(table.queries.id)
    for name in (PRIOR, SCORE):
        assert ((seen.signals[name] >= 0) & (seen.signals[name] <= 1)).all()
    # each row kept its own signal: chances rise with the raw scores of the same rows, model by model
    for j in range(3):
        order = np.argsort(seen.signals["told"][:, j], kind="stable")
        assert (np.diff(seen.signals[SCORE][order, j]) >= -1e-6).all()
    fresh = told(9, n=30)
    fresh = replace(fresh, queries=replace(fresh.queries, text=np.array([f"new {i}" for i in range(30)], dtype=object)))
    assert scorers(fresh).signals[SCORE].shape == (30, 3)


def test_equal_texts_and_whole_groups_stay_on_one_side() -> None:
    table = told(0, n=120)
    doubled = replace(table, queries=replace(table.queries, text=np.array([f"t{i // 2}" for i in range(120)], dtype=object)))
    fit_scorers(makers(), doubled, (SCORE,), np.random.default_rng(0), clustered=False)  # Recorded asserts it

    class ByGroup(Recorded):
        def fit(self, train: Outcomes, *, rng: np.random.Generator) -> Self:
            self.groups_ = set(train.queries.group)
            return super().fit(train, rng=rng)

        def score(self, outcomes: Outcomes) -> Floats:
            assert not self.groups_ & set(outcomes.queries.group)
            return super().score(outcomes)

    made = Makers(Logistic, ByGroup, normalise, folds=4)
    fit_scorers(made, table, (SCORE,), np.random.default_rng(0), clustered=True)


def test_what_answers_say() -> None:
    table = told(0, n=3)
    table = replace(table, answer=np.array([["A ", "a", "b"], [None, "", "x"], ["x", "y", "x"]], dtype=object))
    codes = spoken(table, lambda answer: normalise(answer) or None)
    assert codes[0].tolist() == [0, 0, 1]
    assert np.isnan(codes[1, :2]).all()
    assert codes[2].tolist() == [0, 1, 0]
    with pytest.raises(InputError, match="no answers"):
        spoken(replace(table, answer=None), normalise)


@pytest.mark.parametrize("cv", [None, 3])
def test_a_telling_score_helps_and_every_row_is_judged_once(cv: int | None) -> None:
    table = told(1)
    found = tried(table, cv=cv)
    metrics = found.assessment.metrics
    assert metrics["verdict"]["word"] == "helps", metrics["verdict"]["sentence"]
    assert metrics["policy"] == "cascade"
    assert metrics["axis"] == "spend"
    oracle, alone = (metrics["controls"][name]["difference"] for name in ("oracle", "router_alone"))
    assert oracle > metrics["verdict"]["difference"] > alone
    assert metrics["auroc"] > 0.8
    drawn, (cost, quality, _) = found.assessment.curves["router"], found.replayed.path.points()
    assert np.array_equal(drawn.cost, cost)
    assert np.array_equal(drawn.quality, quality)
    assert len(found.fitted.rows) == (len(table) if cv else 120)
    assert (np.diff(found.fitted.rows) > 0).all()
    assert set(metrics["operating_points"]) == {"cheapest", "balanced", "quality-95"}
    assert metrics["operating_points"]["cheapest"]["share"] == {"model0": 1.0, "model1": 0.0, "model2": 0.0}


def test_what_is_kept_decides_as_what_was_judged() -> None:
    """Saved as bytes and restored into fresh parts it asks, serves and pays the same on every test row at every knob."""
    from safetensors.numpy import load, save

    table = told(6)
    for cascade, made in ((CascadeRouting, makers()), (AutoMix, makers()), (Agreement, makers())):
        found = tried(table, made=made, cascade=cascade)
        state = load(save({name: np.ascontiguousarray(value) for name, value in found.kept.state().items()}))
        again = Kept.restored(cascade, made, {**state})
        if again.scorers.signal is not None:
            again.scorers.signal.known_ = set()  # of Recorded alone: it remembers what it was fitted on
        path = Path.of(again.cascade, again.scorers(table.take(found.fitted.rows)), strong=found.replayed.path.strong)
        for name, value in found.replayed.path.arrays().items():
            assert np.array_equal(getattr(path, name), value), (cascade, name)


def test_shuffled_labels_leave_nothing_but_the_mix() -> None:
    """The whole cascade is retrained on them: a telling score tells it nothing, though the router alone would still be one."""
    table = told(1)
    cuts = folds(table.queries, kind="random", test=0.3, calibration=0.1, cv=None, rng=np.random.default_rng(1))
    streams = {"fit": np.random.default_rng(2), "judge": np.random.default_rng(3)}
    found = try_cascade("it", AutoMix, makers(), table, cuts, QUICK, **streams)
    null = found.assessment.metrics["controls"]["shuffled_labels"]
    assert null["difference"] < found.assessment.metrics["verdict"]["difference"] / 3
    assert "controls.shuffled_labels" not in found.assessment.metrics["withheld"]
    assert "shuffled_labels" in found.assessment.curves
    without = tried(table)
    assert without.assessment.metrics["verdict"] == found.assessment.metrics["verdict"], "a control changed what it controls"
    assert "asks for that" in without.assessment.metrics["withheld"]["controls.shuffled_labels"]


def test_a_router_is_fitted_only_for_who_reads_it() -> None:
    fitted = []

    class Counted(Logistic):
        def fit(self, train, valid=None, *, rng):  # type: ignore[no-untyped-def]
            fitted.append(len(train))
            return super().fit(train, valid, rng=rng)

    table = told(7)
    tried(table, made=Makers(Counted, Recorded, normalise))
    assert len(fitted) == 1  # AutoMix reads no prior: the router alone is fitted, to be judged beside it
    fitted.clear()
    tried(table, made=Makers(Counted, Recorded, normalise), cascade=CascadeRouting)
    assert len(fitted) == 6  # five inner folds and all of the training part, which is judged alone too


def test_noise_does_not_help() -> None:
    """Twenty tables whose score tells nothing: no more verdicts of help than the bootstrap promises."""
    words = [tried(told(seed, n=160, noise=np.inf)).assessment.metrics["verdict"]["word"] for seed in range(20)]
    beaten = [word == "helps" for word in words]
    assert sum(beaten) <= 3, words


def test_a_pair_is_measured_over_dollars() -> None:
    found = tried(told(2, m=2))
    assert found.assessment.metrics["axis"] == "spend"
    assert "routellm" not in found.assessment.metrics


def test_agreement_needs_no_signal() -> None:
    made = Makers(Logistic, lambda: None, lambda answer: normalise(answer) or None)
    found = tried(told(3, m=4), made=made, cascade=Agreement)
    assert found.kept.scorers.signal is None
    with pytest.raises(InputError, match="looks at answers by a signal"):
        tried(told(3), made=made)


def test_a_signal_that_costs_is_paid() -> None:
    table = told(4)
    free, dear = (tried(table, made=Makers(Logistic, lambda usd=usd: Recorded(usd), normalise)) for usd in (None, 5e-4))
    assert free.assessment.metrics["verdict"]["difference"] > dear.assessment.metrics["verdict"]["difference"]
    assert USD_SCORE not in table.signals


def test_what_cannot_be_judged_is_refused() -> None:
    table = told(5)
    with pytest.raises(InputError, match="what its calls cost"):
        tried(replace(table, cost=np.where(np.arange(3) == 0, np.nan, table.cost)))
    with pytest.raises(InputError, match="too few training queries"):
        fit_scorers(makers(), table.take(np.arange(8)), (SCORE,), np.random.default_rng(0), clustered=False)
    with pytest.raises(InputError, match="inner folds"):
        makers(folds=0)
