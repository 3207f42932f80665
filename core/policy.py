"""From predictions to decisions: pure functions on arrays, numpy alone. The same code decides in the evaluation and beside the gateway.

One rule serves every policy: a query is worth `quality - knob * cost`, and the best worth wins. With `threshold` the cost of a call is
counted in calls (weak 0, strong 1), so the knob is RouteLLM's threshold on the gain; with `cost_aware` it is predicted USD, so the knob
is lambda, quality points a query gives up for a dollar. Falling knob = rising spend. At a tie the cheaper model wins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from routewright.core.types import Decisions, Floats, InputError, Ints, Predictions

TIED = 1e-9  # knobs nearer than this, relative above 1, differ by rounding only: they are one tie
POLICIES = ("threshold", "cost_aware")


@dataclass(frozen=True, eq=False)
class Frontier:
    """Every decision of one set of predictions, for all knobs at once.

    start[n]: the model served at knob = +inf, the cheapest. Then e events in order of falling knob: at knob[e] query[e] moves from
    model before[e] to model after[e]. Events with equal knobs (up to TIED) are one tie: a threshold cannot part them.
    """

    start: Ints
    query: Ints
    before: Ints
    after: Ints
    knob: Floats

    def groups(self) -> Ints:
        """Positions in the event list where a new knob value begins, and the end: [g+1]."""
        if not len(self.knob):
            return np.zeros(1, dtype=np.int64)
        falls = -np.diff(self.knob) > TIED * np.maximum(1.0, np.abs(self.knob[1:]))
        return np.concatenate([[0], np.flatnonzero(falls) + 1, [len(self.knob)]])


def weights(predictions: Predictions, policy: str, *, weak: int = 0, strong: int = 1) -> Floats:
    """cost[n,m] as the policy counts it: calls of the strong model (threshold, two models) or predicted USD (cost_aware).

    Raises InputError where the policy does not fit the pool, or where a cost is not known.
    """
    n, m = predictions.quality.shape
    if policy == "threshold":
        if m != 2:
            raise InputError(
                "policy 'threshold' is for two models",
                expected="2 models",
                found=f"{m}",
                mend="Use policy=cost_aware, or choose a pair with data.models=[weak,strong].",
            )
        counted = np.zeros((n, 2))
        counted[:, strong] = 1.0
        return counted
    if policy == "cost_aware":
        if not np.isfinite(predictions.cost).all():
            raise InputError(
                "policy 'cost_aware' needs a cost for every model",
                expected="finite USD",
                found="models without a cost",
                mend="Give the data a cost column or choose prices=..., or use policy=threshold with two models.",
            )
        return predictions.cost
    raise InputError("unknown policy", expected="one of " + ", ".join(POLICIES), found=repr(policy))


def frontier(quality: Floats, cost: Floats, *, lowest: float = -np.inf) -> Frontier:
    """The upper concave hull of every query's models in the plane of cost and quality, as events in order of falling knob.

    quality[n,m] predicted, cost[n,m] as the policy counts it. lowest: the smallest knob followed (0: stop at the best quality;
    -inf: go on until the most expensive model takes everything, as RouteLLM's curves do). O(n m^2 + e log e).
    """
    n, m = quality.shape
    rows = np.arange(n)
    start = np.lexsort((-quality, cost), axis=1)[:, 0] if n else np.zeros(0, dtype=np.int64)
    current, parts = start.copy(), []
    alive = rows
    for _ in range(m - 1):
        if not len(alive):
            break
        here = current[alive]
        step = cost[alive] - cost[alive, here][:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = np.where(step > 0, (quality[alive] - quality[alive, here][:, None]) / step, -np.inf)
        best = slope.max(axis=1)
        # among equal slopes the farthest model, so that a straight edge is one event
        target = np.where(slope == best[:, None], step, -1.0).argmax(axis=1)
        moves = (best > -np.inf) & (best > lowest)
        alive, here, target, best = alive[moves], here[moves], target[moves], best[moves]
        parts.append((alive, here, target, best))
        current[alive] = target
    query, before, after, knob = (np.concatenate([part[i] for part in parts]) if parts else np.zeros(0, dtype=np.int64) for i in range(4))
    order = np.lexsort((query, -knob))
    return Frontier(start, query[order], before[order], after[order], knob[order].astype(np.float64))


def decide(quality: Floats, cost: Floats, knob: float | Floats) -> Decisions:
    """The model with the best worth for every query; at a tie the cheaper one. quality[n,m] and cost[n,m] as the policy counts them.

    knob: one finite number for all queries, or knob[n].
    """
    worth = quality - np.reshape(knob, (-1, 1)) * cost
    best = worth >= worth.max(axis=1, keepdims=True)
    return Decisions.routing(np.where(best, cost, np.inf).argmin(axis=1), quality.shape[1])


def ranking(quality: Floats, cost: Floats, knob: float) -> Ints:
    """[m] columns of one query's models, quality[m] and cost[m] as the policy counts it, by falling worth; the first is decide's choice."""
    return np.lexsort((cost, -(quality - knob * cost)))


def between(knobs: Floats, position: int) -> float:
    """A knob that lies strictly between event `position - 1` and event `position` of a falling list, so that rounding cannot move a query.

    position 0 is above every event, len(knobs) below every event.
    """
    if not len(knobs):
        return 0.0
    if position <= 0:
        return float(knobs[0]) + max(1.0, abs(float(knobs[0])))
    if position >= len(knobs):
        return float(knobs[-1]) - max(1.0, abs(float(knobs[-1])))
    return float((knobs[position - 1] + knobs[position]) / 2)
