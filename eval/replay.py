"""The one loop that reveals recorded answers: every call made is paid, nothing is seen before it is bought.

A router is a cascade of depth one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from routewright.core import policy as policies
from routewright.core.contracts import PRIOR, SCORE, STOP, USD_PRIOR, USD_SCORE, Cascade, Rule, State
from routewright.core.types import Bools, Decisions, Floats, InputError, Ints, Outcomes, Predictions, Queries

FREE = frozenset({PRIOR, USD_PRIOR})  # known from the query alone


class Bought(NamedTuple):
    """What a replay paid for: the calls and whose answer was served, and looked[n,m], the scores that were bought."""

    decisions: Decisions
    looked: Bools


def replay(cascade: Cascade, outcomes: Outcomes, *, knob: float) -> Decisions:
    """Runs a cascade over recorded outcomes and returns what it called and served.

    A signal not yet bought is NaN. Calling a model twice, stopping before the first call, or serving an answer not bought is refused.
    """
    return bought(cascade, outcomes, knob=knob).decisions


def bought(cascade: Cascade, outcomes: Outcomes, *, knob: float) -> Bought:
    """As replay, with the scores that were looked at; where scores are free that is every answer's."""
    n, m = outcomes.quality.shape
    called = np.zeros((n, m), dtype=bool)
    looked = called if USD_SCORE not in outcomes.signals else np.zeros((n, m), dtype=bool)
    seen = _Seen(outcomes, cascade.needs)
    running = np.ones(n, dtype=bool)
    for depth in range(m + 1):
        chosen = np.where(running, cascade.step(outcomes.queries, called, seen.signals, knob=knob), STOP)
        if depth == 0 and np.any(chosen == STOP):
            raise InputError("a cascade stopped before its first call", where=f"row {int(np.flatnonzero(chosen == STOP)[0])}")
        running = chosen != STOP
        rows = np.flatnonzero(running)
        if not len(rows):
            break
        models = chosen[rows]
        if models.min() < 0 or models.max() >= m:
            raise InputError("a cascade called a model that is not there", expected=f"0 .. {m - 1} or STOP", found=str(models.max()))
        if called[rows, models].any():
            raise InputError("a cascade called a model twice", where=f"row {int(rows[called[rows, models]][0])}")
        called[rows, models] = True
        if looked is not called:
            looks = cascade.looks(called, chosen, knob=knob)[rows]
            looked[rows[looks], models[looks]] = True
        seen.reveal(rows, models, looked)
    return Bought(Decisions(called, cascade.select(outcomes.queries, called, seen.signals, knob=knob), np.ones(n)), looked)


class _Seen:
    """The signals as a cascade sees them: what is not free is NaN until it is bought."""

    def __init__(self, outcomes: Outcomes, needs: object) -> None:
        self._true = {name: value for name, value in outcomes.signals.items() if name in needs}  # type: ignore[operator]
        self.signals = {name: value if name in FREE else np.full_like(value, np.nan) for name, value in self._true.items()}

    def reveal(self, rows: Ints, models: Ints, looked: Bools) -> None:
        """What these calls bring; their scores where they were looked at."""
        for name, value in self._true.items():
            if name in FREE:
                continue
            kept = looked[rows, models] if name == SCORE else slice(None)
            self.signals[name][rows[kept], models[kept]] = value[rows[kept], models[kept]]


def realised(decisions: Decisions, outcomes: Outcomes, looked: Bools | None = None) -> tuple[Floats, Floats]:
    """quality[n] of the answers served and cost[n] USD of every call made, and of every score bought where looked[n,m] says so."""
    rows = np.arange(len(outcomes))
    cost = np.where(decisions.called, outcomes.cost, 0.0).sum(axis=1)
    if looked is not None and USD_SCORE in outcomes.signals:
        cost = cost + np.where(looked, outcomes.signals[USD_SCORE].astype(np.float64), 0.0).sum(axis=1)
    return outcomes.quality[rows, decisions.served].astype(np.float64), cost


class Routed:
    """A router's predictions as a cascade of depth one: calls the model that the policy picks, then stops."""

    needs = ()

    def __init__(self, predictions: Predictions, *, policy: str, weak: int = 0, strong: int = 1) -> None:
        self.predictions, self.counted = predictions, policies.weights(predictions, policy, weak=weak, strong=strong)

    def fit(self, train: Outcomes, valid: Outcomes | None = None, *, rng: np.random.Generator) -> Routed:
        return self  # the router behind the predictions was fitted already

    def state(self) -> State:
        return {}

    def load(self, state: State) -> Routed:
        return self

    def knobs(self) -> Floats:
        """From the cheapest on: a router's knobs fall."""
        front = policies.frontier(self.predictions.quality, self.counted)
        return np.array([policies.between(front.knob, int(end)) for end in front.groups()])

    def step(self, queries: Queries, called: Bools, signals: Mapping[str, Floats], *, knob: float) -> Ints:
        served = policies.decide(self.predictions.quality, self.counted, knob).served
        return np.where(called.any(axis=1), STOP, served)

    def looks(self, called: Bools, last: Ints, *, knob: float) -> Bools:
        return np.zeros(len(called), dtype=bool)

    def select(self, queries: Queries, called: Bools, signals: Mapping[str, Floats], *, knob: float) -> Ints:
        return called.argmax(axis=1)

    def rule(self, knob: float) -> Rule:
        raise InputError("a router's recorded predictions are no rule", expected="a cascade", mend="Export the router itself.")
