"""The best list of models and thresholds for every budget, found for all budgets at once, with two guards against luck.

The problem is FrugalGPT's (Chen et al. 2023, arXiv 2305.05176, section 3); how it is solved is in _front.py.
"""

from __future__ import annotations

import numpy as np

from routewright.core.types import Floats, Ints
from routewright.routers.cascades._front import Front, front, spent, stages
from routewright.routers.cascades._front_cascade import Listed, Tables, require


class Frugal(Listed):
    """Lists of up to max_length models, in any order; a query stops at the first answer whose score reaches its stage's threshold.

    Of many thousand cascades the best on a table of grades owes much to luck. smooth: what counts as an answer's quality on the training
    rows is (1 - smooth) * grade + smooth * score, for a grade is a coin that fell and the score its chance; 0 trusts the grades alone, 1
    the scores, which must then be calibrated. folds: how long lists may be, from 2 on, is chosen by cross-validation over so many; below
    2 they may have max_length models whatever the table says. cells and width: how closely thresholds of three and more stages are
    searched, as in front. Each model more in a list takes several times as long.
    """

    def __init__(self, max_length: int = 3, smooth: float = 0.75, folds: int = 3, cells: int = 4096, width: float = 2.0) -> None:
        self.max_length, self.smooth, self.folds, self.cells, self.width = max_length, smooth, folds, cells, width

    def _chosen(self, tables: Tables, budgets: Floats, rng: np.random.Generator) -> Front:
        require(self.max_length >= 1, "impossible lists", expected="max_length >= 1", found=f"max_length={self.max_length}")
        require(0 <= self.smooth <= 1, "impossible smoothing", expected="smooth in [0, 1]", found=f"smooth={self.smooth:g}")
        found = f"cells={self.cells}, width={self.width:g}"
        require(self.cells >= 64 and self.width >= 0, "impossible search", expected="cells >= 64, width >= 0", found=found)
        best = self._front(tables, self._length(tables, budgets, rng))
        return best.take(best.at(budgets))

    def _front(self, tables: Tables, length: int) -> Front:
        quality = (1 - self.smooth) * tables.quality + self.smooth * tables.score
        return front(tables.score, quality, tables.cost, look=tables.look, max_length=length, cells=self.cells, width=self.width)

    def _length(self, tables: Tables, budgets: Floats, rng: np.random.Generator) -> int:
        """How long lists may be: the length whose front has the best mean grade on rows that it was not made from, at equal cost."""
        n, m = tables.cost.shape
        longest = min(self.max_length, m)
        if longest <= 2 or not 2 <= self.folds <= n:
            return longest
        fold = rng.permutation(n) % self.folds
        gained = np.zeros(longest - 1)
        for k in range(self.folds):
            seen, held = (tables.take(np.flatnonzero(part)) for part in (fold != k, fold == k))
            for length in range(2, longest + 1):
                gained[length - 2] += _held_out(self._front(seen, length), held, budgets)
        return int(gained.argmax()) + 2  # of equals the shortest


def _held_out(found: Front, held: Tables, budgets: Floats) -> float:
    """Mean over the budgets of the grade on these rows, interpolated over what each cascade of the front really cost there."""
    rows: Ints = np.unique(found.at(np.maximum(budgets, found.cost[0])))
    means = []
    for row in rows:
        stage = stages(held.score, found.models[row], found.thresholds[row])
        served, paid = spent(stage, found.models[row], held.quality, held.cost, held.look)
        means.append((paid.mean(), served.mean()))
    paid, served = np.array(sorted(means)).T
    return float(np.interp(budgets, paid, served).mean())
