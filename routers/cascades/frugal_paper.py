"""FrugalGPT as its paper describes it: lists whose answers hardly disagree are left out, the objective is interpolated from few samples.

Chen et al. 2023, arXiv 2305.05176, section 3. Its code does neither: see frugal_code.
"""

from __future__ import annotations

from itertools import permutations

import numpy as np

from routewright.core.types import Floats, Ints
from routewright.routers.cascades._front import Front, spent, stages
from routewright.routers.cascades._front_cascade import Listed, Tables, require
from routewright.routers.cascades._front_search import Models, Search, pareto
from routewright.routers.cascades.base import ROUNDING


class FrugalPaper(Listed):
    """For each budget the list of up to max_length models, and its thresholds, with the best interpolated quality on the training rows.

    The paper leaves open what a small disagreement is, which samples and what interpolation. Here: a list is left out where MPI(B, A), the
    share of queries that B answers right and A wrong, is below min_mpi for any model B and any model A before it; quality and cost are
    worked out at `samples` thresholds a stage, evenly spread over the queries, and interpolated linearly to `grid` thresholds a stage. The
    paper does not check what it interpolated; here a cascade whose true mean cost exceeds the budget gives way to the next cheaper one.
    """

    def __init__(self, max_length: int = 3, min_mpi: float = 0.02, samples: int = 8, grid: int = 40) -> None:
        self.max_length, self.min_mpi, self.samples, self.grid = max_length, min_mpi, samples, grid

    def _chosen(self, tables: Tables, budgets: Floats, rng: np.random.Generator) -> Front:
        require(self.max_length >= 1, "impossible lists", expected="max_length >= 1", found=f"max_length={self.max_length}")
        require(0 <= self.min_mpi <= 1, "impossible share", expected="min_mpi in [0, 1]", found=f"min_mpi={self.min_mpi:g}")
        found = f"samples={self.samples}, grid={self.grid}"
        require(2 <= self.samples <= self.grid, "impossible grid", expected="2 <= samples <= grid", found=found)
        pay = tables.cost if tables.look is None else tables.cost + tables.look
        longest = min(self.max_length, tables.cost.shape[1])
        search = Search(tables.score, tables.quality, tables.cost, pay, longest=longest, cells=1, tolerance=0.0, effort=0, beam=1)
        gain = mpi(tables.quality)
        for length in range(1, longest + 1):
            for models in permutations(range(search.m), length):
                if all(gain[b, a] >= self.min_mpi for place, b in enumerate(models) for a in models[:place]):
                    self._interpolated(search, models)
        points = search.front()
        likely = search.named(points)
        paid = np.array([_paid(tables, models, cut) for models, cut in zip(likely.models, likely.thresholds, strict=True)])
        rows = [_affordable(points.cost, paid, budget) for budget in budgets]
        return likely.take(np.array(rows))

    def _interpolated(self, search: Search, models: Models) -> None:
        """Offers the cascades of this list that its interpolated objective likes."""
        if len(models) == 1:
            search.single(models[0])
            return
        few, many = ([search.edges(model, most) for model in models[:-1]] for most in (self.samples, self.grid))
        if any(not len(edge) for edge in few):
            return
        _, cost, quality = next(search.lattices(models[:-1], few, models[-1:]))
        for axis, (model, coarse, fine) in enumerate(zip(models, few, many, strict=False)):
            weights = _weights(np.cumsum(np.bincount(search.rank[model])), coarse, fine)
            cost, quality = (np.moveaxis(np.tensordot(weights, part, axes=(1, axis)), 0, axis) for part in (cost, quality))
        kept = pareto(cost.ravel(), quality.ravel())
        place = np.stack(np.unravel_index(kept, cost.shape), axis=1)
        search.offer(models, many, place, cost.ravel()[kept], quality.ravel()[kept])


def mpi(quality: Floats) -> Floats:
    """[m,m] of quality[n,m]: by how much model a is better than model b where it is better, on average; for grades 0 and 1 the share of
    queries that a answers right and b wrong (the paper's maximum performance improvement)."""
    return np.maximum(quality[:, :, None] - quality[:, None, :], 0.0).mean(axis=0)


def _weights(below: Ints, coarse: Ints, fine: Ints) -> Floats:
    """[fine, coarse]: linear interpolation over the share of answers below each rank; below[r]: answers with at most rank r."""
    return np.stack([np.interp(below[fine - 1], below[coarse - 1], unit) for unit in np.eye(len(coarse))], axis=1)


def _paid(tables: Tables, models: Ints, thresholds: Floats) -> float:
    stage = stages(tables.score, models, thresholds)
    return float(spent(stage, models, tables.quality, tables.cost, tables.look)[1].mean())


def _affordable(likely: Floats, paid: Floats, budget: float) -> int:
    """The dearest row, by its likely cost, whose likely and true costs both fit; the cheapest model alone is always one."""
    fits = np.flatnonzero((likely <= budget * ROUNDING) & (paid <= budget * ROUNDING))
    return int(fits[-1])
