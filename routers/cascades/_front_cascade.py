"""What cascades with a list and thresholds for every budget share: the tables they learn from, the budgets, and their rule.

Shapes: n queries, m models, k knobs, L the longest list.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from routewright.core import rules
from routewright.core.contracts import SCORE, USD_SCORE
from routewright.core.types import Floats, InputError, Ints, Outcomes
from routewright.routers.cascades._front import Front, spent, stages
from routewright.routers.cascades.base import ROUNDING, Base, unpadded


class Tables(NamedTuple):
    """score[n,m], quality[n,m], cost[n,m] in USD a call and look[n,m] in USD a score, or None where scores are free; all float64."""

    score: Floats
    quality: Floats
    cost: Floats
    look: Floats | None

    def take(self, rows: Ints) -> Tables:
        return Tables(self.score[rows], self.quality[rows], self.cost[rows], None if self.look is None else self.look[rows])


class Listed(Base):
    """Follows one list for each budget: stops at the first model whose score is at least its threshold, and serves the last one asked.

    A new one writes `_chosen`. A budget between two that it was prepared for gets the cascade of the lower one.
    """

    needs = (SCORE,)
    learned = ("lists_", "thresholds_")
    lists_: Ints  # (k, L) model columns in the order asked, padded with NOBODY
    thresholds_: Floats  # (k, L - 1) padded with NaN

    def _chosen(self, tables: Tables, budgets: Floats, rng: np.random.Generator) -> Front:
        """[k] the cascade for each budget, in USD a query."""
        raise NotImplementedError(f"{type(self).__name__} must write _chosen")

    def _learn(self, train: Outcomes, rng: np.random.Generator) -> None:
        tables = Tables(
            train.signals[SCORE].astype(np.float64),
            train.quality.astype(np.float64),
            train.cost,
            train.signals[USD_SCORE].astype(np.float64) if USD_SCORE in train.signals else None,
        )
        budgets = self.budgets()
        chosen = self._chosen(tables, budgets, rng)
        self.lists_, self.thresholds_ = chosen.models, chosen.thresholds
        for models, thresholds, budget in zip(self.lists_, self.thresholds_, budgets, strict=True):
            paid = spent(stages(tables.score, models, thresholds), models, tables.quality, tables.cost, tables.look)[1].mean()
            assert paid <= budget * ROUNDING, f"{type(self).__name__} overspends: {paid} of {budget}"

    def rule(self, knob: float) -> rules.Listed:
        """The list of the dearest prepared budget that this one can pay for, and its thresholds."""
        row = self.place(knob)
        models = unpadded(self.lists_[row])
        return rules.Listed(models, self.thresholds_[row, : len(models) - 1], self.cost_)


def require(valid: bool, what: str, *, expected: str, found: str) -> None:
    """Raises InputError for a setting that is impossible."""
    if not valid:
        raise InputError(what, expected=expected, found=found)
