"""Models of similar rating as one: the dynamic programme that cuts a ranking into tiers (RouteLLM, arXiv 2406.18665, section 4.2)."""

from __future__ import annotations

import numpy as np

from routewright.core.types import Floats, Ints


def tiers(rating: Floats, count: int) -> Ints:
    """[m]: the tier of each rating[m], 0 the best, at most `count` of them, each contiguous in rating.

    They have the smallest sum of the variances (np.var) within tiers. Among equals, the highest tiers are the smallest. Time O(count m^2).
    """
    order = np.argsort(-rating, kind="stable")
    m = len(order)
    size = np.ones(m, dtype=np.int64) if m <= count else _sizes(_variances(rating[order]), count)
    tier = np.repeat(np.arange(len(size)), size)
    found = np.empty(m, dtype=np.int64)
    found[order] = np.unique(tier, return_inverse=True)[1]  # a tier that stayed empty gets no number
    return found


def _sizes(variance: Floats, count: int) -> Ints:
    """[count]: how many each tier takes of the sorted ratings, for variance[i, j] of the ratings i..j."""
    m = len(variance)
    cost, cuts = variance[0], []  # cost[j]: of the first j + 1 ratings, in as many tiers as were cut so far
    for _ in range(count - 1):
        whole = np.full((m, m), np.inf)  # [l, j]: the last tier is l + 1 .. j
        whole[:-1] = np.where(np.triu(np.ones((m - 1, m), dtype=bool), 1), cost[:-1, None] + variance[1:], np.inf)
        whole[0, 0] = 0.0  # a single rating, and tiers left empty
        cut = whole.argmin(axis=0)
        cost = whole[cut, np.arange(m)]
        cuts.append(cut)
    ends = [m - 1]
    for cut in reversed(cuts):
        ends.append(int(cut[ends[-1]]))
    return np.diff(np.array(ends[::-1]), prepend=-1)


def _variances(rating: Floats) -> Floats:
    """[i, j]: np.var of the ratings i..j; 0 below the diagonal. Taken from the i-th rating, so that equal ratings give exactly 0."""
    m = len(rating)
    gap = np.triu(rating[None, :] - rating[:, None])
    size = np.maximum(np.arange(m)[None, :] - np.arange(m)[:, None] + 1, 1)
    mean = gap.cumsum(axis=1) / size
    return np.triu(np.maximum((gap**2).cumsum(axis=1) / size - mean**2, 0.0))
