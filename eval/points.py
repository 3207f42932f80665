"""Named operating points: knobs chosen where the router was not trained, then held to what they promised.

A promise is a ratio of sums over queries: calls of the strong model to queries, USD spent above the cheapest model to those that the best
one would cost, quality to the best model's. So one rule reads it off any queries, resamples it, and gives its standard error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from routewright.core import policy as policies
from routewright.core.text import normalise
from routewright.core.types import Bools, Decisions, Floats, InputError, Ints, Outcomes, Predictions
from routewright.eval import stats
from routewright.eval.crossfit import Fitted
from routewright.eval.curves import Sweep
from routewright.eval.promises import Ask, Asked, Traffic
from routewright.eval.replay import realised
from routewright.eval.ruler import Pair, Points, Ruler, in_calls, units

NEVER = 1e12  # a knob above every gain: only the cheapest model is called
ALWAYS = ("cheapest", "balanced", "quality-95")  # points that every run has
REMEMBERED = ("asked", "chosen_on", "reachable", "reachable_error", "note")  # of the choice, for whoever judges the point again
WIDE = 1.959964  # standard errors on either side of a 95 % interval


@dataclass(frozen=True)
class Promise:
    """What an earlier judgement fixed, for a later one to hold it to: knobs by name, their policy, the pair's names, and of each point how
    it was chosen (REMEMBERED)."""

    knobs: Mapping[str, float]
    policy: str
    weak: str
    strong: str
    chosen: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, metrics: Mapping[str, Any]) -> Promise:
        """From a run's metrics.json."""
        points = metrics["operating_points"]
        chosen = {name: {key: point[key] for key in REMEMBERED if key in point} for name, point in points.items()}
        return cls({name: point["knob"] for name, point in points.items()}, metrics["policy"], metrics["weak"], metrics["strong"], chosen)


def cheapest(sweep: Points, held_out: Outcomes) -> float:
    """Always the cheapest model."""
    return NEVER


def balanced(sweep: Points, held_out: Outcomes) -> float:
    """Half of the way, in cost, from the first operating point to the last useful one (its best quality)."""
    cost, quality, _ = sweep.points()
    last = int(quality.argmax())
    middle = (cost[0] + cost[last]) / 2
    return float(sweep.knobs()[int(np.abs(cost[: last + 1] - middle).argmin())])


def reaching(fraction: float, sweep: Points, held_out: Outcomes) -> float:
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


def sharing(ask: Ask, sweep: Points, held_out: Outcomes, pair: Pair) -> float:
    """The knob whose share of strong calls, or of the spend, is nearest to the one asked for; of two equally near the cheaper.

    Nearest among those that a threshold reaches: queries with tied scores go together, so heavy ties leave few shares to choose from.
    A spend that falls again on the way (a dear model may be cheap on some query) is taken as not fallen, so that asking for more never
    gives less.
    """
    cost, _, share = sweep.points()
    if ask.kind == "spend":
        low, high = (held_out.cost[:, model].mean() for model in (pair.weak, pair.strong))
        share = (cost - low) / (high - low)
    distance = np.abs(np.maximum.accumulate(share) - ask.value)
    return float(sweep.knobs()[int(np.round(distance, 12).argmin())])


def choose(name: str, sweep: Points, held_out: Outcomes, pair: Pair) -> float:
    """The named point's knob, chosen on held-out queries."""
    ask = Ask.parse(name)
    if ask is None:
        return {"cheapest": cheapest, "balanced": balanced}[name](sweep, held_out)
    return reaching(ask.value, sweep, held_out) if ask.kind == "quality" else sharing(ask, sweep, held_out, pair)


class Served(NamedTuple):
    """What some decisions came to: quality[n] of the answers served, cost[n] in USD, called[n,m]."""

    quality: Floats
    cost: Floats
    called: Bools

    @classmethod
    def of(cls, decisions: Decisions, table: Outcomes) -> Served:
        return cls(*realised(decisions, table), decisions.called)


def parts(kind: str, served: Served, table: Outcomes, pair: Pair) -> tuple[Floats, Floats]:
    """numerator[n] and denominator[n] of a promise of this kind: what it promises is the ratio of their sums."""
    if kind == "strong_share":
        return served.called[:, pair.strong].astype(np.float64), np.ones(len(table))
    if kind == "spend":
        return served.cost - table.cost[:, pair.weak], table.cost[:, pair.strong] - table.cost[:, pair.weak]
    graded = table.quality.astype(np.float64)
    return served.quality, graded[:, int(graded.mean(axis=0).argmax())]


def ratio(above: Floats, below: Floats, weight: Floats) -> Floats:
    """(B,) the promised figure under weight[B,n]; NaN where there is nothing to divide by."""
    top, bottom = weight @ above, weight @ below
    return np.divide(top, bottom, out=np.full(len(weight), np.nan), where=bottom > 0)


class Sample:
    """Queries to choose on: scores (n, m) and outcomes (n, m), of which a share needs no grade.

    units: what is resampled together, the same text, or the same group if `clustered`.
    """

    def __init__(self, scores: Predictions, outcomes: Outcomes, ruler: Ruler, *, clustered: bool) -> None:
        policy = ruler.policy if ruler.dollars else "threshold"
        self.scores, self.pair = scores, ruler.pair
        self.table = outcomes if ruler.dollars else in_calls(outcomes, ruler.pair.strong)
        self.sweep = Sweep(scores, self.table, policy=policy, weak=ruler.pair.weak, strong=ruler.pair.strong)
        self.counted = policies.weights(scores, policy, weak=ruler.pair.weak, strong=ruler.pair.strong)
        self.units = units(outcomes.queries, clustered=clustered)

    def __len__(self) -> int:
        return len(self.table)

    def spends(self) -> bool:
        """Whether the best model costs more here than the cheapest."""
        return bool(self.table.cost[:, self.pair.strong].mean() > self.table.cost[:, self.pair.weak].mean())

    def reached(self, kind: str, knob: float) -> tuple[float, float]:
        """What the knob gives here of what it promises, and the standard error of that (delta method, clustered by unit)."""
        decisions = policies.decide(self.scores.quality, self.counted, knob)
        above, below = parts(kind, Served.of(decisions, self.table), self.table, self.pair)
        value = float(ratio(above, below, np.ones((1, len(self))))[0])
        return value, stats.standard_error((above - value * below) / below.mean(), self.units) if np.isfinite(value) else np.nan


@dataclass(frozen=True)
class Chosen:
    """A point as chosen: knob[k] for each fold, and what is REMEMBERED of the choice."""

    knob: Floats
    facts: Mapping[str, Any]


def operating_points(
    fitted: Fitted,
    seen: Bools,
    outcomes: Outcomes,
    usable: Bools,
    ruler: Ruler,
    withheld: dict[str, str],
    promise: Promise | None,
    asked: Asked,
) -> dict[str, Any]:
    """Knobs chosen on held-out rows, judged on the test rows of the same fold; the exported knob is the median over folds.

    Shares are chosen on `asked.traffic` where there is any, as the exported router scores it. Raises InputError where what is asked cannot
    be, and for anything asked of an earlier judgement's promise.
    """
    policy = ruler.policy if ruler.dollars else "threshold"
    folds = int(fitted.fold.max()) + 1
    if promise is not None:
        if asked.points:
            raise InputError(
                "a finished run keeps the operating points that it has",
                expected="no policy.strong_share, policy.spend or policy.quality",
                found=", ".join(ask.name for ask in asked.points),
                mend="Ask train.py for them.",
            )
        if promise.policy != policy:
            withheld["operating_points"] = f"they were chosen for policy {promise.policy}, not {policy}"
            return {}
        chosen = {name: Chosen(np.full(folds, knob), promise.chosen.get(name, {})) for name, knob in promise.knobs.items()}
    else:
        asked.check(outcomes, held_out=bool(fitted.held_out))
        chosen = _chosen(fitted, outcomes, usable, ruler, withheld, asked, folds)
    fold, predictions = fitted.fold[seen], fitted.predictions.take(seen)
    counted = policies.weights(predictions, policy, weak=ruler.pair.weak, strong=ruler.pair.strong)
    decided = {name: policies.decide(predictions.quality, counted, point.knob[fold]) for name, point in chosen.items()}
    return {name: judged_point(name, point, Served.of(decided[name], ruler.outcomes), ruler) for name, point in chosen.items()}


def _chosen(
    fitted: Fitted, outcomes: Outcomes, usable: Bools, ruler: Ruler, withheld: dict[str, str], asked: Asked, folds: int
) -> dict[str, Chosen]:
    """Every point that all runs have, where there are held-out rows, and every point asked for."""
    held = [_held_out(ruler, outcomes, rows, usable, scores) for rows, scores in fitted.held_out]
    where: dict[str, Any] = {"what": "calibration split" if folds == 1 else "other folds"}
    if held:
        where["n"] = round(sum(map(len, held)) / len(held))
    else:
        others = " the others" if asked.points else " them"
        withheld["operating_points"] = f"there is no calibration split to choose{others} on: set split.calibration above 0"
    wanted = [ask.name for ask in asked.points]
    own = [_traffic(fitted, ruler, asked.traffic)] if asked.traffic is not None else []
    own_where = {} if asked.traffic is None else _described(asked.traffic, ruler, outcomes)
    chosen = {}
    for name in dict.fromkeys([*(ALWAYS if held else ()), *wanted]):
        ask = Ask.parse(name)
        graded = ask is None or ask.kind == "quality" or not own
        samples, on = (held, where) if graded else (own, own_where)
        if ask is not None and ask.kind == "spend" and not all(sample.spends() for sample in samples):
            withheld[f"operating_points.{name}"] = "where it would be chosen the best model costs no more than the cheapest"
            continue
        chosen[name] = _choose(name, samples, on, name in wanted, folds)
    return chosen


def _choose(name: str, samples: Sequence[Sample], on: Mapping[str, Any], asked: bool, folds: int) -> Chosen:
    """One point on one sample for each fold, or on one for all of them; what it reached there is the mean over the samples."""
    knob = np.array([choose(name, sample.sweep, sample.table, sample.pair) for sample in samples])
    facts: dict[str, Any] = {"asked": asked, "chosen_on": on, "reachable": None, "reachable_error": None, "note": None}
    ask = Ask.parse(name)
    if ask is not None:
        value, error = np.mean([sample.reached(ask.kind, at) for sample, at in zip(samples, knob, strict=True)], axis=0)
        facts |= {"reachable": float(value), "reachable_error": float(WIDE * error)}
        notes = [_short(ask, float(value), samples[0]), _learned(on)]
        facts["note"] = "; ".join(filter(None, notes)) or None
    return Chosen(np.broadcast_to(knob, folds), facts)


def _short(ask: Ask, reached: float, sample: Sample) -> str:
    """Why a promise could not even be met where it was chosen; nothing where it was."""
    if ask.kind == "quality":
        return f"{100 * reached:.1f} % is the most that was reached where it was chosen" if reached < ask.value - 1e-9 else ""
    if abs(reached - ask.value) <= max(0.5 / len(sample), 0.005) + 1e-9:
        return ""
    stops = ask.kind == "spend" and len(sample.table.pool) > 2
    more = ", and nothing is spent beyond the best predicted quality" if stops else ""
    return f"{100 * reached:.1f} % is the nearest that was reached where it was chosen: equal scores cannot be parted{more}"


def _learned(on: Mapping[str, Any]) -> str:
    """That a router may be surer of queries that it has learned from than of new ones."""
    known = on.get("in_data", 0) - on.get("in_test", 0)
    return f"{known} of the {on['n']} queries stand in the data outside the test set: of those it may have learned" if known else ""


def judged_point(name: str, chosen: Chosen, served: Served, ruler: Ruler) -> dict[str, Any]:
    """One point on the judged rows, the promise and what became of it there among its figures (docs/METRICS.md)."""
    point, spread = ruler.measure_served(served.quality, served.cost)
    share = served.called.mean(axis=0)
    out: dict[str, Any] = {
        "knob": float(np.median(chosen.knob)),
        "quality": point["quality"],
        "quality_ci": stats.interval(spread["quality"]),
        "goal": None,
        "kept": None,
        "cost": point["cost"] if ruler.dollars else None,
        "difference": point["difference"],
        "ci": stats.interval(spread["difference"]),
        "share": {model: float(share[j]) for j, model in enumerate(ruler.outcomes.pool.name)},
        "promise": None,
        "promised": None,
        "realised": None,
        "realised_ci": None,
        **chosen.facts,
    }
    ask = Ask.parse(name)
    return out if ask is None else out | _held_to(ask, out, served, ruler)


def _held_to(ask: Ask, point: Mapping[str, Any], served: Served, ruler: Ruler) -> dict[str, Any]:
    """What was promised, what the judged rows give of it, and whether it was kept: a quality where the goal is reached, a share where it
    differs by no more than the two samples, the one it was chosen on and the judged one, leave open (None: no interval)."""
    above, below = parts(ask.kind, served, ruler.outcomes, ruler.pair)
    value = float(ratio(above, below, np.ones((1, len(above))))[0])
    ci = stats.interval(ruler.spread([{"value": ratio(above, below, weight)} for weight in ruler.weights()])["value"])
    out: dict[str, Any] = {"promise": ask.kind, "promised": ask.value, "realised": value, "realised_ci": ci}
    if ask.kind == "quality":
        wanted = goal(ask.value, ruler.outcomes)
        return out | {"goal": wanted, "kept": bool(point["quality"] >= wanted - 1e-12)}
    if ci is None:
        return out
    choosing = point.get("reachable_error") or 0.0
    lowest, highest = value - np.hypot(value - ci[0], choosing), value + np.hypot(ci[1] - value, choosing)
    return out | {"kept": bool(lowest - 1e-12 <= ask.value <= highest + 1e-12)}


def _held_out(ruler: Ruler, outcomes: Outcomes, rows: Ints, usable: Bools, scores: Predictions) -> Sample:
    kept = usable[rows]
    if not kept.any():
        raise InputError(
            "no calibration query was observed on every model", expected="quality for all models on some of them", found="none"
        )
    return Sample(scores.take(kept), outcomes.take(rows[kept]), ruler, clustered=ruler.clustered)


def _traffic(fitted: Fitted, ruler: Ruler, traffic: Traffic) -> Sample:
    """Ungraded queries as the exported router scores them; a model's cost is what it is expected to be."""
    scores = fitted.calibration(fitted.router.predict(traffic.queries))
    ungraded = Outcomes(traffic.queries, ruler.outcomes.pool, np.zeros(scores.quality.shape), scores.cost)
    return Sample(scores, ungraded, ruler, clustered=False)


def _described(traffic: Traffic, ruler: Ruler, outcomes: Outcomes) -> dict[str, Any]:
    """The file, and how many of its queries stand in the test set and in the whole table: the router may have learned from those."""
    texts = [normalise(text) for text in traffic.queries.text]
    among = {name: {normalise(text) for text in table.queries.text} for name, table in (("test", ruler.outcomes), ("data", outcomes))}
    counts = {f"in_{name}": sum(text in known for text in texts) for name, known in among.items()}
    return {"what": "ungraded queries", "file": traffic.name, "sha256": traffic.sha256, "n": len(texts), **counts}
