"""From what a source gives to the table that is judged: outcomes as they are, battles by the share of them that each model won."""

from __future__ import annotations

import numpy as np

from routewright.core.types import Battles, Floats, Outcomes


def judged(table: Outcomes | Battles) -> Outcomes:
    """Outcomes as they are; of battles a table whose quality is win_shares. Its costs are the battles' own, or not known."""
    if isinstance(table, Outcomes):
        return table
    quality = win_shares(table)
    cost = np.full(quality.shape, np.nan) if table.cost is None else table.cost
    return Outcomes(table.queries, table.pool, quality, cost, usage="none" if table.cost is None else "estimated")


def win_shares(battles: Battles) -> Floats:
    """quality[n,m]: the weighted mean of a model's results (1, .5, 0) over its battles on a query; NaN where it fought none."""
    assert battles.weight is not None
    n, m = len(battles.queries), len(battles.pool)
    cell = np.concatenate([battles.query * m + battles.a, battles.query * m + battles.b])
    result = np.concatenate([battles.outcome, 1 - battles.outcome]).astype(np.float64)
    weight = np.tile(battles.weight, 2).astype(np.float64)
    won, fought = np.bincount(cell, weight * result, n * m), np.bincount(cell, weight, n * m)
    share: Floats = np.divide(won, fought, out=np.full(n * m, np.nan), where=fought > 0).reshape(n, m)
    return share
