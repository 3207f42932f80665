"""Exact cost-quality curves: every operating point of a set of predictions by one sort, and the geometry on them.

Ties are broken by expectation: queries that share a knob value cannot be parted by a threshold, so the curve runs straight from the point
before the tie to the point after it, which is the mean over every order of the tied queries. All functions are pure; nothing is drawn here.
"""

from __future__ import annotations

import numpy as np

from routewright.core import policy as policies
from routewright.core.types import Curve, Floats, Outcomes, Predictions


class Sweep:
    """One router's whole curve on one recorded table: predictions (n, m) against outcomes (n, m), under one policy.

    weak and strong are model columns; `share` is the share of calls to `strong`. `lowest` as in core.policy.frontier: by default a pair
    is followed until the strong model answers everything (RouteLLM's axis), a larger pool until the best predicted quality (knob 0).
    """

    def __init__(
        self, predictions: Predictions, outcomes: Outcomes, *, policy: str, weak: int, strong: int, lowest: float | None = None
    ) -> None:
        n, m = predictions.quality.shape
        counted = policies.weights(predictions, policy, weak=weak, strong=strong)
        floor = lowest if lowest is not None else (-np.inf if m == 2 else 0.0)
        front = policies.frontier(predictions.quality, counted, lowest=floor)
        self.front, self.n, self.m, self.floor = front, n, m, floor
        self.ends = front.groups()
        self._pool = outcomes.pool
        rows = np.arange(n)
        table = np.stack([outcomes.cost, outcomes.quality.astype(np.float64), np.broadcast_to(np.arange(m) == strong, (n, m))])
        self._start = table[:, rows, front.start]  # (3, n)
        self._delta = table[:, front.query, front.after] - table[:, front.query, front.before]  # (3, e)

    def points(self, weight: Floats | None = None) -> tuple[Floats, Floats, Floats]:
        """Mean cost, quality and strong share at every group boundary, from the cheapest on: each (g+1,), or (B, g+1) for weight[B,n]."""
        if weight is None:
            cost, quality, share = self._weighted(np.ones((1, self.n)))
            return cost[0], quality[0], share[0]
        return self._weighted(weight)

    def _weighted(self, weight: Floats) -> tuple[Floats, Floats, Floats]:
        total = weight.sum(axis=1, keepdims=True)
        moved = weight[:, self.front.query]  # (B, e)
        at = self.ends[1:] - 1
        out = []
        for start, delta in zip(self._start, self._delta, strict=True):
            walk = np.cumsum(moved * delta, axis=1)[:, at] if len(at) else np.zeros((len(weight), 0))
            base = (weight @ start)[:, None]
            out.append(np.concatenate([base, base + walk], axis=1) / total)
        return out[0], out[1], out[2]

    def knobs(self) -> Floats:
        """(g+1,) a knob inside each operating point: strictly between the events around it, and not below the floor."""
        knobs = np.array([policies.between(self.front.knob, int(end)) for end in self.ends])
        if np.isfinite(self.floor) and len(self.front.knob):
            knobs[-1] = (self.front.knob[-1] + self.floor) / 2
        return knobs

    def at_zero(self) -> int:
        """The operating point at knob 0, where every query takes the model with the best predicted quality whatever it costs."""
        return int((self.front.knob[self.ends[:-1]] > 0).sum())

    def curve(self) -> Curve:
        """Every operating point with its share of calls to each model: one row a boundary."""
        cost, quality, _ = self.points()
        counts = np.bincount(self.front.start, minlength=self.m).astype(np.float64)
        moves = np.zeros((len(self.front.query), self.m))
        moves[np.arange(len(moves)), self.front.after] += 1
        moves[np.arange(len(moves)), self.front.before] -= 1
        walk = np.cumsum(moves, axis=0)[self.ends[1:] - 1] if len(moves) else np.zeros((0, self.m))
        share = np.concatenate([counts[None], counts + walk]) / self.n
        return Curve(self.knobs(), cost, quality, share)


def area(x: Floats, y: Floats, low: Floats | float, high: Floats | float) -> Floats:
    """Signed area under straight segments through (x, y) between low and high, along the path, so that noise in x is not rewarded.

    x, y (B, k) or (k,); low, high (B,) or scalars. A path that ends before `high` goes on level: nobody has to spend more.
    """
    x, y = np.atleast_2d(x), np.atleast_2d(y)
    low_, high_ = np.reshape(low, (-1, 1)), np.reshape(high, (-1, 1))
    dx = np.diff(x, axis=1)
    slope = np.divide(np.diff(y, axis=1), dx, out=np.zeros_like(dx), where=dx != 0)
    left, right = np.clip(x[:, :-1], low_, high_), np.clip(x[:, 1:], low_, high_)
    # a segment that crosses the whole range or stops inside it: its heights at the clipped ends
    middle = y[:, :-1] + ((left + right) / 2 - x[:, :-1]) * slope
    inside = ((right - left) * middle).sum(axis=1)
    tail = np.clip(high_ - np.clip(x[:, -1:], low_, high_), 0, None)[:, 0] * y[:, -1]
    return inside + tail


def mean_height(x: Floats, y: Floats, low: Floats | float, high: Floats | float) -> Floats:
    """area / (high - low); NaN where the range is empty."""
    total = area(x, y, low, high)
    width = np.broadcast_to(np.asarray(high, dtype=np.float64) - low, total.shape)
    return np.divide(total, width, out=np.full(total.shape, np.nan), where=width > 0)


def height_at(x: Floats, y: Floats, at: Floats | float) -> Floats:
    """(B,) the height of each path where its spending first reaches at[B], straight between points; its last height where it never does.

    x, y (B, k): a path that starts above `at` has its first height there. What a path saves again on the way is not spent twice: x is
    taken as not falling.
    """
    x, y = np.maximum.accumulate(np.atleast_2d(x), axis=1), np.atleast_2d(y)
    goal = np.broadcast_to(np.reshape(at, (-1, 1)), (len(x), 1))
    reached, rows = x >= goal, np.arange(len(x))
    index = np.where(reached.any(axis=1), reached.argmax(axis=1), x.shape[1] - 1)
    before = np.maximum(index - 1, 0)
    step = x[rows, index] - x[rows, before]
    part = np.divide(goal[:, 0] - x[rows, before], step, out=np.ones(len(x)), where=step > 0)
    return np.asarray(y[rows, before] + np.clip(part, 0, 1) * (y[rows, index] - y[rows, before]))


def first_reach(x: Floats, y: Floats, target: Floats) -> Floats:
    """The x at which the path first reaches y >= target, straight between points; NaN where it never does. x, y (B, k), target (B,).

    This is the crossing of the monotone envelope, which rises exactly where a new maximum is reached.
    """
    x, y = np.atleast_2d(x), np.atleast_2d(y)
    goal = np.reshape(target, (-1, 1))
    reached = y >= goal - 1e-12
    index = reached.argmax(axis=1)
    rows = np.arange(len(y))
    before = np.maximum(index - 1, 0)
    rise = y[rows, index] - y[rows, before]
    part = np.divide(goal[:, 0] - y[rows, before], rise, out=np.ones(len(y)), where=rise > 0)
    at = x[rows, before] + np.clip(part, 0, 1) * (x[rows, index] - x[rows, before])
    return np.where(reached.any(axis=1), np.where(index == 0, x[rows, 0], at), np.nan)


def hull(cost: Floats, quality: Floats) -> tuple[Floats, Floats]:
    """Non-decreasing upper convex hull of points (cost, quality), from the cheapest: RouterBench's zero router (arXiv 2403.12031).

    Mixing two operating points by a coin reaches every point on the straight line between them, so the hull is what fixed mixes reach.
    """
    order = np.lexsort((-quality, cost))
    kept: list[tuple[float, float]] = []
    for x, y in zip(cost[order].tolist(), quality[order].tolist(), strict=True):
        if kept and y <= kept[-1][1]:
            continue
        while len(kept) >= 2 and (kept[-1][1] - kept[-2][1]) * (x - kept[-2][0]) <= (y - kept[-2][1]) * (kept[-1][0] - kept[-2][0]):
            kept.pop()
        kept.append((x, y))
    xs, ys = zip(*kept, strict=True)
    return np.array(xs), np.array(ys)


def fixed_mix(cost: Floats, quality: Floats) -> tuple[Floats, Floats]:
    """The hull of single models: mean cost[m] and quality[m] in, the vertices of the best fixed mixes out."""
    return hull(cost, quality)


def thin(curve: Curve, limit: int = 400) -> Curve:
    """At most about `limit` points of a curve, the ends and the peak among them, for drawing and for files."""
    if len(curve.knob) <= limit:
        return curve
    keep = np.unique(np.r_[np.linspace(0, len(curve.knob) - 1, limit).round().astype(int), int(curve.quality.argmax())])
    return Curve(curve.knob[keep], curve.cost[keep], curve.quality[keep], curve.share[keep])
