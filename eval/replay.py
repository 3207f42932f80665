"""The one loop that reveals recorded answers: every call made is paid, nothing is seen before it is bought.

A router is a cascade of depth one.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from routewright.core import policy as policies
from routewright.core.contracts import STOP, Cascade, State
from routewright.core.types import Bools, Decisions, Floats, InputError, Ints, Outcomes, Predictions, Queries


def replay(cascade: Cascade, outcomes: Outcomes, *, knob: float) -> Decisions:
    """Runs a cascade over recorded outcomes and returns what it called and served.

    A signal not yet bought is NaN. Calling a model twice, stopping before the first call, or serving an answer not bought is refused.
    """
    n, m = outcomes.quality.shape
    called = np.zeros((n, m), dtype=bool)
    running = np.ones(n, dtype=bool)
    for depth in range(m + 1):
        chosen = np.where(running, cascade.step(outcomes.queries, called, _visible(outcomes, called), knob=knob), STOP)
        if depth == 0 and np.any(chosen == STOP):
            raise InputError("a cascade stopped before its first call", where=f"row {int(np.flatnonzero(chosen == STOP)[0])}")
        running = chosen != STOP
        rows = np.flatnonzero(running)
        if not len(rows):
            break
        if np.any((chosen[rows] < 0) | (chosen[rows] >= m)):
            raise InputError("a cascade called a model that is not there", expected=f"0 .. {m - 1} or STOP", found=str(chosen[rows].max()))
        if called[rows, chosen[rows]].any():
            raise InputError("a cascade called a model twice", where=f"row {int(rows[called[rows, chosen[rows]]][0])}")
        called[rows, chosen[rows]] = True
    return Decisions(called, cascade.select(outcomes.queries, called, _visible(outcomes, called)), np.ones(n))


def _visible(outcomes: Outcomes, called: Bools) -> dict[str, Floats]:
    return {name: np.where(called, value, np.nan) for name, value in outcomes.signals.items()}


def realised(decisions: Decisions, outcomes: Outcomes) -> tuple[Floats, Floats]:
    """quality[n] of the answers served and cost[n] USD of every call made."""
    rows = np.arange(len(outcomes))
    return outcomes.quality[rows, decisions.served].astype(np.float64), np.where(decisions.called, outcomes.cost, 0.0).sum(axis=1)


class Routed:
    """A router's predictions as a cascade of depth one: calls the model that the policy picks, then stops."""

    def __init__(self, predictions: Predictions, *, policy: str, weak: int = 0, strong: int = 1) -> None:
        self.predictions, self.counted = predictions, policies.weights(predictions, policy, weak=weak, strong=strong)

    def fit(self, train: Outcomes, valid: Outcomes | None = None, *, rng: np.random.Generator) -> Routed:
        return self  # the router behind the predictions was fitted already

    def state(self) -> State:
        return {}

    def load(self, state: State) -> Routed:
        return self

    def step(self, queries: Queries, called: Bools, signals: Mapping[str, Floats], *, knob: float) -> Ints:
        served = policies.decide(self.predictions.quality, self.counted, knob).served
        return np.where(called.any(axis=1), STOP, served)

    def select(self, queries: Queries, called: Bools, signals: Mapping[str, Floats]) -> Ints:
        return called.argmax(axis=1)
