"""The plain threshold cascade: models in one order, one threshold a stage, both held for all queries; thresholds found for every budget."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from routewright.core.types import Floats, InputError, Ints, Outcomes
from routewright.routers.cascades._front import Front, along
from routewright.routers.cascades._front_cascade import Listed, Tables, require


class Threshold(Listed):
    """Asks the models of one order in turn and leaves none out; a query stops at the first whose score reaches its stage's threshold.

    models: names in the order asked, the cheapest first; null: from the cheapest to the best, by mean cost. smooth: as in frugal.
    """

    def __init__(self, models: Sequence[str] | None = None, smooth: float = 0.75) -> None:
        self.models, self.smooth = models, smooth

    def _learn(self, train: Outcomes, rng: np.random.Generator) -> None:
        require(0 <= self.smooth <= 1, "impossible smoothing", expected="smooth in [0, 1]", found=f"smooth={self.smooth:g}")
        self._order = self._asked(train)
        super()._learn(train, rng)

    def _asked(self, train: Outcomes) -> Ints:
        """Columns in the order asked."""
        if self.models is None:
            best = int(train.quality.astype(np.float64).mean(axis=0).argmax())
            return self.order_[: int(np.flatnonzero(self.order_ == best)[0]) + 1]
        named = [train.pool.index(name) for name in self.models]
        if not named or named[0] != self.order_[0] or len(set(named)) < len(named):
            raise InputError(
                "impossible order of models",
                where="models",
                expected=f"different names, {train.pool.name[self.order_[0]]!r}, the cheapest on the training rows, first",
                found=", ".join(self.models) or "none",
                mend="Leave cheaper models out of the pool with data.models=[...].",
            )
        return np.array(named)

    def _chosen(self, tables: Tables, budgets: Floats, rng: np.random.Generator) -> Front:
        quality = (1 - self.smooth) * tables.quality + self.smooth * tables.score
        found = along(tables.score, quality, tables.cost, self._order.tolist(), look=tables.look)
        return found.take(found.at(budgets))
