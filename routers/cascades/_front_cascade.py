"""What cascades with a list and thresholds for every budget share: the tables they learn from, the budgets, and following a list.

Shapes: n queries, m models, k knobs, L the longest list.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from routewright.core.contracts import SCORE, STOP, USD_SCORE
from routewright.core.types import Bools, Floats, InputError, Ints, Outcomes, Queries
from routewright.routers.cascades._front import Front, spent, stages
from routewright.routers.cascades.base import NOBODY, ROUNDING, Base


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

    def step(self, queries: Queries, called: Bools, signals: Mapping[str, Floats], *, knob: float) -> Ints:
        """The next model of the list, until a score reaches its threshold or the list ends. A score that is not known reaches none."""
        models, thresholds = self._at(knob)
        asked = called[:, models]  # (n, L)
        # a list is asked in its order, so what is not asked begins where it went on to
        depth = asked.sum(axis=1)
        kept = (signals[SCORE][:, models[:-1]] >= thresholds) & asked[:, :-1]
        going = (depth < len(models)) & ~kept.any(axis=1)
        return np.where(going, models[np.minimum(depth, len(models) - 1)], STOP)

    def looks(self, called: Bools, last: Ints, *, knob: float) -> Bools:
        """Every score but that of the list's last model, who serves whatever it is."""
        return np.asarray(last != self._at(knob)[0][-1])

    def select(self, queries: Queries, called: Bools, signals: Mapping[str, Floats], *, knob: float) -> Ints:
        """The last model asked; where none of the list was, the dearest one called."""
        models = self._at(knob)[0]
        depth = called[:, models].sum(axis=1)
        dearest = np.where(called, self.cost_, -np.inf).argmax(axis=1)
        return np.where(depth > 0, models[np.maximum(depth, 1) - 1], dearest)

    def _at(self, knob: float) -> tuple[Ints, Floats]:
        """(models, thresholds) for a share of spend."""
        row = self.place(knob)
        models = self.lists_[row]
        models = models[models != NOBODY]
        return models, self.thresholds_[row, : len(models) - 1]


def require(valid: bool, what: str, *, expected: str, found: str) -> None:
    """Raises InputError for a setting that is impossible."""
    if not valid:
        raise InputError(what, expected=expected, found=found)
