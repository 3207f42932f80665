"""The replay loop: what is bought is seen and paid, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from routewright.core.contracts import STOP, Cascade, Rule
from routewright.core.types import Bools, Floats, InputError, Ints, Outcomes, Queries
from routewright.eval.replay import Routed, realised, replay


class UntilSure:
    """Asks the models in order until the signal reaches the knob; serves the last one asked."""

    needs = ("confidence",)

    def fit(self, train: Outcomes, valid: Outcomes | None = None, *, rng: np.random.Generator) -> UntilSure:
        return self

    def state(self) -> dict[str, np.ndarray]:
        return {}

    def load(self, state: Mapping[str, np.ndarray]) -> UntilSure:
        return self

    def knobs(self) -> Floats:
        return np.array([0.5])

    def looks(self, called: Bools, last: Ints, *, knob: float) -> Bools:
        return np.ones(len(called), dtype=bool)

    def step(self, queries: Queries, called: Bools, signals: Mapping[str, Floats], *, knob: float) -> Ints:
        sure = signals["confidence"]
        assert np.isnan(sure[~called]).all(), "a signal was visible before it was bought"
        depth = called.sum(axis=1)
        done = (depth == called.shape[1]) | (np.nanmax(np.where(called, sure, -1.0), axis=1) >= knob)
        return np.where(done, STOP, depth)

    def select(self, queries: Queries, called: Bools, signals: Mapping[str, Floats], *, knob: float) -> Ints:
        return called.sum(axis=1) - 1

    def rule(self, knob: float) -> Rule:
        raise InputError("it is no rule")


def with_signal(outcomes: Outcomes) -> Outcomes:
    return replace(outcomes, signals={"confidence": outcomes.quality})


def test_a_cascade_pays_for_every_call(outcomes: Outcomes) -> None:
    table = with_signal(outcomes)
    decisions = replay(UntilSure(), table, knob=0.5)
    quality, cost = realised(decisions, table)
    weak_right = table.quality[:, 0] == 1
    assert (decisions.served == np.where(weak_right, 0, 1)).all()
    assert cost == pytest.approx(np.where(weak_right, table.cost[:, 0], table.cost.sum(axis=1)))
    assert quality.mean() == pytest.approx(table.quality.max(axis=1).mean())


def test_contract_is_met(outcomes: Outcomes) -> None:
    assert isinstance(UntilSure(), Cascade)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (lambda called: np.zeros(len(called), dtype=int), "called a model twice"),
        (lambda called: np.full(len(called), STOP), "stopped before its first call"),
        (lambda called: np.full(len(called), 7), "model that is not there"),
    ],
)
def test_a_cheating_cascade_is_refused(outcomes: Outcomes, step, message: str) -> None:
    cheat = UntilSure()
    cheat.step = lambda queries, called, signals, *, knob: step(called)  # type: ignore[method-assign]
    with pytest.raises(InputError, match=message):
        replay(cheat, with_signal(outcomes), knob=0.5)


def test_serving_an_answer_not_bought_is_refused(outcomes: Outcomes) -> None:
    cheat = UntilSure()
    cheat.select = lambda queries, called, signals, *, knob: np.full(len(called), 1)  # type: ignore[method-assign]
    with pytest.raises(InputError, match="never called"):
        replay(cheat, with_signal(outcomes), knob=0.5)


def test_a_router_is_a_cascade_of_depth_one(outcomes: Outcomes) -> None:
    from routewright.core.types import Predictions

    decisions = replay(Routed(Predictions(outcomes.quality, outcomes.cost), policy="threshold"), outcomes, knob=0.5)
    assert (decisions.called.sum(axis=1) == 1).all()
    assert decisions.served.tolist() == ((outcomes.quality[:, 1] - outcomes.quality[:, 0]) > 0.5).astype(int).tolist()
