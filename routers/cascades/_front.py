"""The best cascade for every budget at once: which models to ask in which order, and at which score to stop. Pure functions on arrays.

A cascade of L models stops at the first stage i whose score is at least tau_i; the last stage always serves; every call made is paid.
Chen et al. 2023, FrugalGPT, arXiv 2305.05176, section 3, poses the problem for one budget. Shapes: n queries, m models, k cascades.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from math import perm

import numpy as np

from routewright.core.types import Floats, InputError, Ints
from routewright.routers.cascades._front_along import Along
from routewright.routers.cascades._front_search import Front, Search

__all__ = ["Front", "along", "front", "spent", "stages"]

LISTS = 2000  # more lists of one length than this are not all tried: only those that grow from the front of shorter ones


def front(
    score: Floats,
    quality: Floats,
    cost: Floats,
    *,
    look: Floats | None = None,
    max_length: int = 3,
    cells: int = 4096,
    width: float = 2.0,
    tolerance: float = 5e-4,
    effort: int = 1 << 28,
    beam: int = 128,
) -> Front:
    """The best list and thresholds for every budget, over all lists of at most max_length distinct models and all observed thresholds.

    score[n,m]: higher is surer; quality[n,m] and cost[n,m] in USD a call; look[n,m] in USD, paid for every answer that is not the last
    stage's. One and two stages: exact. Three: every list (beyond LISTS: every list that grows from the front of pairs) on a lattice of
    `cells` points, then closer wherever a random walk of `width` standard deviations could still gain more than `tolerance`. Four and more:
    from the front of shorter lists, one model more at every place, then lattices as before but narrower, then coordinate ascent. effort
    bounds the points of the closer looks, beam the cascades that are grown. Raises InputError for tables of different shapes or not finite.
    """
    _check(score, quality, cost, look, max_length)
    m = score.shape[1]
    longest = min(max_length, m)
    search = _search(score, quality, cost, look, longest, cells=cells, tolerance=tolerance, effort=effort, beam=beam)
    for model in range(m):
        search.single(model)
    for length in range(2, longest + 1):
        if length > 3:
            search.grow(length)
        lists = permutations(range(m), length) if length == 2 or perm(m, length) <= LISTS else search.children(length)
        search.sweep(lists, width if length <= 3 else width / 4)
        if length > 3:
            search.polish(length)
    return search.named(search.front())


def along(score: Floats, quality: Floats, cost: Floats, order: Sequence[int], *, look: Floats | None = None, steps: int = 48) -> Front:
    """The thresholds for every budget of cascades that ask the models in this order, each up to some stage; no model is left out.

    Coordinate ascent on quality - lambda * cost for `steps` lambdas, down and up again, and from `steps` thresholds that all stages share;
    not exact beyond two models. A threshold of infinity keeps no answer of its stage. Arrays as in front. Raises InputError as front does,
    and for an order that names a model twice or none.
    """
    _check(score, quality, cost, look, len(order))
    if len(set(order)) != len(order) or not set(order) <= set(range(score.shape[1])):
        raise InputError("this is no order of models", expected=f"distinct columns, 0 .. {score.shape[1] - 1}", found=str(list(order)))
    search = _search(score, quality, cost, look, len(order), cells=1, tolerance=0.0, effort=0, beam=1)
    search.single(order[0])
    if len(order) > 1:
        walk = Along(search, order)
        walk.path(steps)
        for tau in np.quantile(np.asarray(score)[:, list(order)], np.linspace(0, 1, steps)):
            walk.ascend(walk.common(tau), 0.0, rounds=1)
    return search.named(search.front())


def stages(score: Floats, models: Ints, thresholds: Floats) -> Ints:
    """stage[n] at which one cascade stops on every row of score[n,m]; models[L] padded with -1, thresholds[L-1] padded with NaN."""
    listed = models[models >= 0]
    kept = score[:, listed[:-1]] >= thresholds[: len(listed) - 1]
    return np.concatenate([kept, np.ones((len(score), 1), dtype=bool)], axis=1).argmax(axis=1)  # the last stage always serves


def spent(stage: Ints, models: Ints, quality: Floats, cost: Floats, look: Floats | None = None) -> tuple[Floats, Floats]:
    """quality[n] served and cost[n] paid, in USD, by a cascade that stopped at stage[n]; look as in front."""
    listed, rows = models[models >= 0], np.arange(len(stage))
    pay = np.asarray(cost, dtype=np.float64)[:, listed]
    if look is not None:
        pay[:, :-1] += look[:, listed[:-1]]
    return np.asarray(quality, dtype=np.float64)[rows, listed[stage]], np.cumsum(pay, axis=1)[rows, stage]


def _search(score: Floats, quality: Floats, cost: Floats, look: Floats | None, longest: int, **options: float) -> Search:
    pay = cost if look is None else np.asarray(cost, dtype=np.float64) + look
    return Search(score, quality, cost, pay, longest=longest, **options)  # type: ignore[arg-type]


def _check(score: Floats, quality: Floats, cost: Floats, look: Floats | None, length: int) -> None:
    tables = {"score": score, "quality": quality, "cost": cost} | ({} if look is None else {"look": look})
    shape = np.shape(quality)
    for name, table in tables.items():
        if np.ndim(table) != 2 or np.shape(table) != shape or not np.size(table):
            raise InputError(f"the table of {name} has the wrong shape", expected=f"{shape}, not empty", found=str(np.shape(table)))
        if not np.isfinite(table).all() or (name in ("cost", "look") and np.min(table) < 0):
            raise InputError(f"the table of {name} has impossible values", expected="finite numbers, costs not below 0")
    if length < 1:
        raise InputError("a cascade needs a model", expected="a length of at least 1", found=str(length))
