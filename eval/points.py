"""Named operating points: knobs chosen where the router was not trained, then held to what they promised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from routewright.core import policy as policies
from routewright.core.types import Bools, Floats, InputError, Ints, Outcomes, Predictions
from routewright.eval import stats
from routewright.eval.crossfit import Fitted
from routewright.eval.curves import Sweep
from routewright.eval.ruler import Ruler, in_calls

NEVER = 1e12  # a knob above every gain: only the cheapest model is called
GOALS = {"quality-95": 0.95}  # points that promise a share of the best single model's quality


@dataclass(frozen=True)
class Promise:
    """What an earlier judgement fixed, for a later one to hold it to: knobs by name, their policy, and the pair's names."""

    knobs: Mapping[str, float]
    policy: str
    weak: str
    strong: str


def cheapest(sweep: Sweep, held_out: Outcomes) -> float:
    """Always the cheapest model."""
    return NEVER


def balanced(sweep: Sweep, held_out: Outcomes) -> float:
    """Half of the way, in cost, from the first operating point to the last useful one (its best quality)."""
    cost, quality, _ = sweep.points()
    last = int(quality.argmax())
    middle = (cost[0] + cost[last]) / 2
    return float(sweep.knobs()[int(np.abs(cost[: last + 1] - middle).argmin())])


def reaching(fraction: float, sweep: Sweep, held_out: Outcomes) -> float:
    """The knob after which the curve no longer falls below this fraction of the best single model's quality, up to its peak.

    The first crossing of a noisy curve is a lucky one; from here on every dearer point reaches the goal too. Where none does: the peak.
    """
    _, quality, _ = sweep.points()
    peak = int(quality.argmax())
    below = np.flatnonzero(quality[: peak + 1] < goal(fraction, held_out) - 1e-12)
    return float(sweep.knobs()[min(int(below[-1]) + 1, peak) if len(below) else 0])


def goal(fraction: float, outcomes: Outcomes) -> float:
    """This fraction of the best single model's mean quality."""
    return fraction * float(outcomes.quality.astype(np.float64).mean(axis=0).max())


def choose(sweep: Sweep, held_out: Outcomes) -> dict[str, float]:
    """Every named point's knob, chosen on held-out queries."""
    return {
        "cheapest": cheapest(sweep, held_out),
        "balanced": balanced(sweep, held_out),
        **{name: reaching(fraction, sweep, held_out) for name, fraction in GOALS.items()},
    }


def operating_points(
    fitted: Fitted,
    seen: Bools,
    outcomes: Outcomes,
    usable: Bools,
    ruler: Ruler,
    withheld: dict[str, str],
    promise: Promise | None,
) -> dict[str, Any]:
    """Knobs chosen on held-out rows, judged on the test rows of the same fold; the exported knob is the median over folds."""
    policy = ruler.policy if ruler.dollars else "threshold"
    if promise is not None:
        if promise.policy != policy:
            withheld["operating_points"] = f"they were chosen for policy {promise.policy}, not {policy}"
            return {}
        chosen = [dict(promise.knobs)]
    elif not fitted.held_out:
        withheld["operating_points"] = "there is no calibration split to choose them on: set split.calibration above 0"
        return {}
    else:
        chosen = [_choose(ruler, outcomes, rows, usable, scores) for rows, scores in fitted.held_out]
    fold = fitted.fold[seen] if promise is None else np.zeros_like(fitted.fold[seen])
    predictions = fitted.predictions.take(seen)
    counted = policies.weights(predictions, policy, weak=ruler.pair.weak, strong=ruler.pair.strong)
    return {
        name: _judged_point(name, np.array([choice[name] for choice in chosen]), fold, predictions, counted, ruler) for name in chosen[0]
    }


def _judged_point(name: str, knob: Floats, fold: Ints, predictions: Predictions, counted: Floats, ruler: Ruler) -> dict[str, Any]:
    """One point on the judged rows; `goal` and `kept` say whether a promised quality was reached there."""
    decisions = policies.decide(predictions.quality, counted, knob[fold])
    point, spread = ruler.measure_decisions(decisions)
    share = decisions.called.mean(axis=0)
    promised = goal(GOALS[name], ruler.outcomes) if name in GOALS else None
    return {
        "knob": float(np.median(knob)),
        "quality": point["quality"],
        "quality_ci": stats.interval(spread["quality"]),
        "goal": promised,
        "kept": None if promised is None else bool(point["quality"] >= promised - 1e-12),
        "cost": point["cost"] if ruler.dollars else None,
        "difference": point["difference"],
        "ci": stats.interval(spread["difference"]),
        "share": {model: float(share[j]) for j, model in enumerate(ruler.outcomes.pool.name)},
    }


def _choose(ruler: Ruler, outcomes: Outcomes, rows: Ints, usable: Bools, scores: Predictions) -> dict[str, float]:
    kept = usable[rows]
    if not kept.any():
        raise InputError(
            "no calibration query was observed on every model", expected="quality for all models on some of them", found="none"
        )
    table = outcomes.take(rows[kept])
    if not ruler.dollars:
        table = in_calls(table, ruler.pair.strong)
    policy = ruler.policy if ruler.dollars else "threshold"
    sweep = Sweep(scores.take(kept), table, policy=policy, weak=ruler.pair.weak, strong=ruler.pair.strong)
    return choose(sweep, table)
