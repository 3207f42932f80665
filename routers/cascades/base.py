"""What cascades share: checks of their input, the scale of the budget, saving and loading by name. A cascade need not inherit it.

A new cascade sets `needs` and `learned`, and writes `_learn` and `rule`: step, looks and select are that rule's. One that core.rules has no
kind for writes the three itself and leaves `rule` as it is. Shapes: n queries, m models, k knobs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np

from routewright.core.arrays import column_means
from routewright.core.contracts import PRIOR, SAID, SCORE, USD_PRIOR, Rule
from routewright.core.types import Bools, Floats, InputError, Ints, Outcomes, Queries
from routewright.routers._stored import Stored

# shares of the way from the cheapest to the best model's cost: close together where little is spent, since a model that is nearly as good
# as the best often costs a thirtieth of it; beyond 1 several models may be asked the same query
KNOBS = np.concatenate([[0.0], np.geomspace(0.001, 0.1, 21), np.linspace(0.125, 1.0, 36), np.linspace(1.05, 1.5, 10)])


NOBODY = -1  # pads a list of models that is shorter than the longest
ROUNDING = 1 + 1e-12  # sums of the same costs in another order may differ by this


class Base(Stored):
    """fit, state, load and knobs of a cascade.

    A knob is a share of spend: of the way from low_, the cheapest model's mean cost in USD a query, to high_, the best model's. cost_[m]
    are the mean costs, order_[m] the models from the cheapest on, knobs_[k] the shares that it was prepared for.
    """

    needs: Sequence[str] = (SCORE,)
    KIND = "cascade"
    ALSO = ("cost_", "order_", "low_", "high_", "knobs_")
    cost_: Floats  # (m,)
    order_: Ints  # (m,)
    low_: Floats  # (1,)
    high_: Floats  # (1,)
    knobs_: Floats  # (k,)

    def fit(self, train: Outcomes, valid: Outcomes | None = None, *, rng: np.random.Generator) -> Self:
        """Learns from the rows that were observed on every model. valid is not needed.

        Raises InputError for fewer than two models, a missing or impossible signal, unknown costs, or no row to learn from.
        """
        table = self._checked(train)
        self.cost_ = column_means(table.cost)
        self.order_ = np.argsort(self.cost_, kind="stable").astype(np.int64)
        best = int(column_means(table.quality).argmax())
        self.low_, self.high_ = np.array([self.cost_.min()]), np.array([self.cost_[best]])
        if self.high_[0] <= self.low_[0]:  # the best model is the cheapest: what there is to spend goes up to the dearest
            self.high_ = np.array([self.cost_.max()])
        self.knobs_ = self._shares()
        self._learn(table, rng)
        return self

    def _learn(self, train: Outcomes, rng: np.random.Generator) -> None:
        """Sets every array named in `learned`."""
        raise NotImplementedError(f"{type(self).__name__} must write _learn")

    def _shares(self) -> Floats:
        """[k] rising shares of spend to prepare."""
        return KNOBS

    def knobs(self) -> Floats:
        """[k] rising shares of spend. Raises InputError before fit."""
        self._require_fitted()
        return self.knobs_

    def budgets(self) -> Floats:
        """[k] mean USD a query that each of knobs_ allows."""
        return np.array([self.budget(knob) for knob in self.knobs_])

    def place(self, knob: float) -> int:
        """The dearest of knobs_ that this knob can pay for, -1 where none is. Raises InputError below the cheapest model."""
        self.budget(knob)
        return int(np.searchsorted(self.knobs_, knob + 1e-12, side="right")) - 1

    def budget(self, knob: float) -> float:
        """Mean USD a query that this knob allows. Raises InputError below the cheapest model."""
        if not (np.isfinite(knob) and knob >= 0):
            raise InputError(
                "the budget is below the cheapest model",
                where=type(self).__name__,
                expected=f"knob >= 0, at least USD {self.low_[0]:.3g} a query",
                found=f"knob {knob:g}",
            )
        return float(self.low_[0] + knob * (self.high_[0] - self.low_[0]))

    def rule(self, knob: float) -> Rule:
        """What it does at this share of spend, as plain data. Raises InputError below the cheapest model."""
        raise InputError(
            f"{type(self).__name__} cannot be written down as a rule",
            expected="a cascade that gives rule(knob)",
            mend="Choose another cascade, or give it a rule of core.rules.",
        )

    def step(self, queries: Queries, called: Bools, signals: Mapping[str, Floats], *, knob: float) -> Ints:
        """next[n], as the rule says."""
        return self.rule(knob).step(called, signals)

    def looks(self, called: Bools, last: Ints, *, knob: float) -> Bools:
        """[n], as the rule says."""
        return self.rule(knob).looks(called, last)

    def select(self, queries: Queries, called: Bools, signals: Mapping[str, Floats], *, knob: float) -> Ints:
        """served[n], as the rule says."""
        return self.rule(knob).select(called, signals)

    def _checked(self, train: Outcomes) -> Outcomes:
        """The rows observed on every model, once all that is needed is there."""
        name = type(self).__name__
        if not isinstance(train, Outcomes):
            raise InputError(f"{name} cannot learn from this", expected="Outcomes", found=type(train).__name__)
        if len(train.pool) < 2:
            raise InputError("a cascade needs two models", where=name, expected="at least 2 models", found=str(len(train.pool)))
        for need in self.needs:
            if need not in train.signals:
                mend = "Choose what grades answers with signal=...; " if need == SCORE else ""
                raise InputError(
                    f"{name} needs the signal {need!r}", found=", ".join(train.signals) or "no signals", mend=mend.rstrip("; ")
                )
        seen = train.observed()
        if not seen.any():
            raise InputError(f"{name} has nothing to learn from", expected="queries observed on every model", found="none")
        table = train.take(seen)
        if not np.isfinite(table.cost).all():
            column = int(np.flatnonzero(~np.isfinite(table.cost).all(axis=0))[0])
            mend = "Give the data a cost column or prices=..., or leave the model out with data.models=[...]."
            raise InputError(f"{name} needs the cost of every call", where=table.pool.name[column], expected="finite USD", mend=mend)
        for need in self.needs:
            value = table.signals[need]
            if need in (PRIOR, USD_PRIOR, SCORE) and not np.isfinite(value).all():
                column = int(np.flatnonzero(~np.isfinite(value).all(axis=0))[0])
                raise InputError(f"the signal {need!r} is not finite", where=table.pool.name[column], expected="a number for every answer")
            if need == SAID and np.isnan(value).all():
                raise InputError("no answer could be read", where=name, expected="answers that the grader can read", found="none")
        return table


def best_within(cost: Floats, quality: Floats, budgets: Floats) -> Ints:
    """[b] the row of cost[r] and quality[r] that is best among those that each budget pays for, of equals the cheapest.

    Every budget must pay for some row.
    """
    order = np.lexsort((-quality, cost))
    best = np.maximum.accumulate(quality[order])
    first = np.concatenate([[True], best[1:] > best[:-1]])
    leader = np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))
    within = np.searchsorted(cost[order], budgets * ROUNDING, side="right") - 1
    return np.asarray(order[leader[within]])


def unpadded(models: Ints) -> Ints:
    """[L] the models of one row of `padded`."""
    return models[models != NOBODY]


def padded(lists: Sequence[Sequence[int]]) -> Ints:
    """[k, longest] lists of model columns, padded with NOBODY."""
    made = np.full((len(lists), max(map(len, lists))), NOBODY, dtype=np.int64)
    for row, models in zip(made, lists, strict=True):
        row[: len(models)] = models
    return made
