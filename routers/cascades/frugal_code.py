"""FrugalGPT as its authors' code does it: every permutation of models, a grid of 40 shares a stage, then a simplex polish.

Chen et al. 2023, arXiv 2305.05176; code stanford-futuredata/FrugalGPT at 2b23e6a, src/FrugalGPT/optimizer.py and llmchain.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from typing import NamedTuple

import numpy as np

from routewright.core.types import Floats, Ints
from routewright.routers.cascades._front import Front, spent, stages
from routewright.routers.cascades._front_cascade import Listed, Tables, require
from routewright.routers.cascades.base import NOBODY, ROUNDING

ENDS = (1e-5, 1 - 1e-5)  # of the grid of shares


class Tried(NamedTuple):
    """A list with the shares of queries that each stage passes on, of those that reach it, and its mean quality."""

    quality: float
    models: tuple[int, ...]
    shares: Floats


class FrugalCode(Listed):
    """For each budget the list, of `length` models in any order, with the most right answers on the training rows.

    A stage passes on a share of the queries that reach it, those with the lowest scores; a later stage passes on no smaller a share than an
    earlier one. grid: shares tried a stage. polish: how many lists, the best on the grid, the simplex then improves for each budget.

    As in the code: lists of exactly `length` models (shares near 0 and 1 stand for shorter ones), shares over the rows that reach a stage,
    no falling shares, the simplex started from the best grid point. Not as in the code: the grid is worked out once for all budgets, the
    simplex does not polish every list (polish: null does), the last stage serves whatever its score is (the code's search counts a score of
    0 as an unserved query that costs nothing), and where no list fits a budget the cheapest model answers alone.
    """

    def __init__(self, length: int = 3, grid: int = 40, polish: int | None = 3) -> None:
        self.length, self.grid, self.polish = length, grid, polish

    def _chosen(self, tables: Tables, budgets: Floats, rng: np.random.Generator) -> Front:
        require(self.length >= 1, "impossible lists", expected="length >= 1", found=f"length={self.length}")
        require(self.grid >= 2, "impossible grid", expected="grid >= 2", found=f"grid={self.grid}")
        require(self.polish is None or self.polish >= 0, "impossible polish", expected="null or >= 0", found=f"polish={self.polish}")
        length = min(self.length, tables.cost.shape[1])
        best = self._search(tables, budgets, length)
        models, thresholds = np.full((len(budgets), length), NOBODY), np.full((len(budgets), length - 1), np.nan)
        cost, quality = np.zeros(len(budgets)), np.zeros(len(budgets))
        for row, (budget, tried) in enumerate(zip(budgets, best, strict=True)):
            polished = [self._polished(tables, one, budget) for one in tried]
            models[row, 0] = tables.cost.mean(axis=0).argmin()
            if polished:
                found = max(polished, key=lambda one: one.quality)  # the first of equals, as in the code
                models[row], thresholds[row] = found.models, cuts(tables.score, found.models, found.shares)
            stage = stages(tables.score, models[row], thresholds[row])
            served, paid = spent(stage, models[row], tables.quality, tables.cost, tables.look)
            cost[row], quality[row] = paid.mean(), served.mean()
        return Front(models, thresholds, cost, quality)

    def _search(self, tables: Tables, budgets: Floats, length: int) -> list[list[Tried]]:
        """For each budget the lists that are the best on the grid, the best first; of equals the first permutation."""
        found: list[list[Tried]] = [[] for _ in budgets]
        m = tables.cost.shape[1]
        shares = np.linspace(*ENDS, num=self.grid)
        for before in permutations(range(m), length - 1):
            passed, quality, cost = _grid(tables, before, np.arange(len(tables.cost)), shares)
            for last in range(m):
                if last in before:
                    continue
                order = np.lexsort((-quality[:, last], cost[:, last]))
                top = np.maximum.accumulate(quality[order, last])
                fits = np.searchsorted(cost[order, last], budgets * len(tables.cost) * ROUNDING, side="right") - 1
                for row in np.flatnonzero(fits >= 0):
                    place = order[np.searchsorted(top, top[fits[row]])]
                    found[row].append(Tried(float(top[fits[row]]) / len(tables.cost), (*before, last), passed[place]))
            if self.polish is not None:
                found = [sorted(tried, key=lambda one: -one.quality)[: max(self.polish, 1)] for tried in found]
        return found

    def _polished(self, tables: Tables, tried: Tried, budget: float) -> Tried:
        """The same list after Nelder and Mead's simplex on its shares."""
        if self.polish == 0 or not len(tried.shares):
            return tried
        from scipy.optimize import fmin

        models = np.array(tried.models)

        def loss(shares: Floats) -> float:
            if (np.diff(shares) < 0).any():
                return np.inf
            stage = stages(tables.score, models, cuts(tables.score, tried.models, shares))
            served, paid = spent(stage, models, tables.quality, tables.cost, tables.look)
            return np.inf if paid.mean() > budget * ROUNDING else -float(served.mean())

        with np.errstate(invalid="ignore"):  # the simplex subtracts one impossible corner from another
            shares, value, *_ = fmin(loss, tried.shares, disp=False, full_output=True)
        improved = -float(value)
        return Tried(improved, tried.models, shares) if improved > tried.quality else tried


def cuts(score: Floats, models: tuple[int, ...], shares: Floats) -> Floats:
    """thresholds[L-1]: the lowest score[n,m] that each stage keeps when it passes on its share of the rows that reach it; infinity: none.

    As in the code an answer is kept where 1 - score is below the quantile 1 - share of what reaches the stage.
    """
    rows, found = np.arange(len(score)), np.full(len(shares), np.inf)
    for stage, (model, share) in enumerate(zip(models, shares, strict=False)):
        distance = 1 - score[:, model]
        cut = np.quantile(distance[rows], 1 - min(max(share, 0.0), 1.0))
        kept = distance < cut
        if kept.any():
            found[stage] = score[kept, model].min()
        rows = rows[~kept[rows]]
    return found


def _grid(tables: Tables, before: tuple[int, ...], rows: Ints, shares: Floats) -> tuple[Floats, Floats, Floats]:
    """(shares[p, stages], quality[p,m], cost[p,m]): sums over these rows for every combination of rising shares and every last model."""
    if not before:
        return np.zeros((1, 0)), tables.quality[rows].sum(axis=0)[None], tables.cost[rows].sum(axis=0)[None]
    model = before[0]
    pay = tables.cost[rows, model].sum() + (0.0 if tables.look is None else tables.look[rows, model].sum())
    distance = 1 - tables.score[rows, model]
    order = np.argsort(distance, kind="stable")
    bounds = np.quantile(distance, 1 - shares)
    begins = np.searchsorted(distance[order], bounds, side="left")  # what is passed on begins here
    kept = np.append(0.0, np.cumsum(tables.quality[rows[order], model]))[begins]
    found = list(_passed(tables, before, rows[order], begins, shares))
    return (
        np.concatenate([np.column_stack([np.full(len(later), share), later]) for share, (later, _, _) in zip(shares, found, strict=True)]),
        np.concatenate([part + here for here, (_, part, _) in zip(kept, found, strict=True)]),
        np.concatenate([part + pay for _, _, part in found]),
    )


def _passed(tables: Tables, before: tuple[int, ...], rows: Ints, begins: Ints, shares: Floats) -> Iterator[tuple[Floats, Floats, Floats]]:
    """What the later stages make of the rows from each place on."""
    if len(before) > 1:
        for place, begin in enumerate(begins):
            yield _grid(tables, before[1:], rows[begin:], shares[place:])
        return
    none = np.zeros((1, 0))
    sums = [np.cumsum(part[rows[::-1]], axis=0)[::-1] for part in (tables.quality, tables.cost)]
    for begin in begins:  # at least the row with the lowest score is passed on
        yield none, sums[0][begin][None], sums[1][begin][None]
