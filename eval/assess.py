"""Judges one set of predictions: curve, metrics, controls, operating points and verdict, as metrics.json holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from routewright.core import policy as policies
from routewright.core.types import Bools, Curve, Floats, InputError, Outcomes, Predictions
from routewright.eval import controls, curves, metrics, points, promises, protocol, stats, verdict
from routewright.eval.cascade_points import HeldOut, cascade_points
from routewright.eval.crossfit import Fitted
from routewright.eval.paths import Path
from routewright.eval.ruler import BUDGETS, FEWEST_GROUPS, FRACTIONS, Pair, Points, Ruler, choose_mix, choose_pair

PROTOCOLS = ("exact", "routellm")
SCHEMA = 1
CASCADE = "cascade"  # the policy of what looks at answers; its controls decide as routers of the same pool do
ENOUGH = 30  # rows away from the judged ones; with fewer, the best mix is chosen on the judged rows themselves


@dataclass(frozen=True)
class Judging:
    """How to judge. policy: threshold, cost_aware or auto (threshold for a pair). clustered: resample groups, not queries.

    asked: operating points to choose and to hold to their promise, beside those that every run has.
    """

    policy: str = "auto"
    protocol: str = "exact"
    replicates: int = 1000
    clustered: bool = False
    asked: promises.Asked = promises.NOTHING

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise InputError("unknown protocol", expected="one of " + ", ".join(PROTOCOLS), found=repr(self.protocol))
        if self.policy not in ("auto", *policies.POLICIES):
            raise InputError("unknown policy", expected="auto or one of " + ", ".join(policies.POLICIES), found=repr(self.policy))
        if self.replicates < 100:
            raise InputError("too few bootstrap replicates", expected="at least 100", found=str(self.replicates))


@dataclass(frozen=True, eq=False)
class Replayed:
    """A cascade replayed on the judged rows: its path; the same with every query's signals handed to another query; for each fold, what its
    operating points are chosen on; and the path of a cascade that was trained on shuffled labels, where there is one."""

    path: Path
    shuffled: Path
    held_out: tuple[HeldOut, ...]
    relabelled: Path | None = None

    def paths(self) -> dict[str, Path]:
        """Those on the judged rows, by the prefix that a run keeps them under."""
        return {"": self.path, "shuffled:": self.shuffled} | ({} if self.relabelled is None else {"relabelled:": self.relabelled})


@dataclass(frozen=True)
class Assessment:
    """metrics: what metrics.json holds. curves: by name, `router` first. replicates (B,): bootstrap values of the verdict's difference.

    Two assessments of the same rows from equal generators share their resamples, so their replicates may be subtracted pair by pair.
    """

    metrics: dict[str, Any]
    curves: dict[str, Curve]
    replicates: Floats


def assess(
    name: str,
    fitted: Fitted,
    outcomes: Outcomes,
    judging: Judging,
    rng: np.random.Generator,
    rivals: Mapping[str, Predictions],
    *,
    promise: points.Promise | None = None,
    replayed: Replayed | None = None,
) -> Assessment:
    """Judges `fitted` on its test rows of `outcomes`. rivals: the fitted controls' predictions for the same rows. promise: operating points
    that were chosen earlier; by default they are chosen on the fit's held-out rows. replayed: of a cascade, whose predictions are then the
    scores of all answers, bought or not.

    Test queries without a grade or, where costs are known at all, without a cost for some model are left out and counted (`n_unobserved`,
    `n_uncosted`). Raises InputError where none is left, or where the policy does not fit the pool.
    """
    judgeable, counts = usable(outcomes)
    seen = judgeable[fitted.rows]
    table, predictions = outcomes.take(fitted.rows[seen]), fitted.predictions.take(seen)
    if not len(table):
        raise _nothing_to_judge(outcomes.pool.name, {key: int(flags[fitted.rows].sum()) for key, flags in counts.items()})
    policy = _policy(judging, promise, table)
    elsewhere = np.setdiff1d(np.flatnonzero(judgeable), fitted.rows)
    away = outcomes.take(elsewhere)
    mix = choose_mix(away) if len(away) >= ENOUGH and np.isfinite(away.cost).all() else None
    pair = choose_pair(outcomes) if promise is None else _promised_pair(promise, outcomes)
    many, clustered = judging.replicates, judging.clustered
    ruler = Ruler(table, policy=policy, rng=rng, pair=pair, mix=mix, replicates=many, clustered=clustered, spend=replayed is not None)
    withheld: dict[str, str] = {}
    reason = verdict.gap_reason(*_pair(ruler), ruler.units)
    out = _described(ruler, policy, judging) | {key: int(flags[fitted.rows].sum()) for key, flags in counts.items()}
    if replayed is not None:
        out["policy"] = CASCADE
    sweep, nulls = _curves(ruler, predictions, replayed, seen, rng)
    point, spread = ruler.measure(sweep)
    out |= _headline(point, spread, withheld, reason, ruler)
    out |= _quality_estimates(predictions, table, withheld)
    out |= _singles(ruler)
    out |= _ceiling(ruler, sweep, withheld)
    shown, out["controls"], beaten = _controls(ruler, {k: v.take(seen) for k, v in rivals.items()}, nulls, sweep, reason)
    out["verdict"] = verdict.judge(name, point["difference"], spread["difference"], beaten, clustered=judging.clustered, n=len(table))
    if not ruler.resampled:
        withheld["verdict.ci"] = f"fewer than {FEWEST_GROUPS} groups to resample: an interval over them would be far too narrow"
    if replayed is None:
        out["operating_points"] = points.operating_points(fitted, seen, outcomes, judgeable, ruler, withheld, promise, judging.asked)
    else:
        path, fold = replayed.path.take(seen), fitted.fold[seen]
        out["operating_points"] = cascade_points(
            path, replayed.held_out, fold, outcomes, judgeable, ruler, withheld, judging.asked, promise
        )
    if ruler.by_share:
        out |= _published(predictions, ruler, out | {"withheld": withheld}, judging, reason)
    elif judging.protocol == "routellm":
        raise InputError(
            "protocol 'routellm' is for two models", expected="2 models", found=str(len(table.pool)), mend="Use protocol=exact."
        )
    out["withheld"] = withheld
    assert "router" not in shown, "a control of that name would be drawn in place of what is judged"
    return Assessment(out, {"router": sweep.curve()} | shown, spread["difference"])


def _curves(
    ruler: Ruler, predictions: Predictions, replayed: Replayed | None, seen: Bools, rng: np.random.Generator
) -> tuple[Points, dict[str, Points]]:
    """The curve under judgement, and its own nulls by control: its scores in the hands of the wrong queries; a cascade's retraining."""
    if replayed is None:
        return ruler.sweep(predictions), {"shuffled_decisions": ruler.sweep(controls.shuffled_decisions(predictions, rng))}
    nulls: dict[str, Points] = {"shuffled_decisions": replayed.shuffled.take(seen)}
    if replayed.relabelled is not None:
        nulls["shuffled_labels"] = replayed.relabelled.take(seen)
    return replayed.path.take(seen), nulls


def usable(outcomes: Outcomes) -> tuple[Bools, dict[str, Bools]]:
    """Rows that can be judged, and which ones lack a grade or a cost. Where some model's cost is nowhere known, costs do not count."""
    graded = outcomes.observed()
    known = np.isfinite(outcomes.cost)
    costed = known.all(axis=1) if known.any(axis=0).all() else np.ones(len(outcomes), dtype=bool)
    return graded & costed, {"n_unobserved": ~graded, "n_uncosted": graded & ~costed}


def _nothing_to_judge(models: Sequence[str], left_out: Mapping[str, int]) -> InputError:
    """Battles are sparse: a query is mostly fought by two of many models."""
    found = f"{left_out['n_unobserved']} that lack some model's grade, {left_out['n_uncosted']} that lack some model's cost"
    mend = "Give a cost for every call, or for none."
    if left_out["n_unobserved"]:
        mend = "Judge on other data and learn from these: data=OTHER +data@extra.NAME=SOURCE (docs/BATTLES.md)"
        mend += "; or keep two models that were compared with each other: data.models=[a,b]." if len(models) > 2 else "."
    return InputError("no test query was observed on every model", expected=f"some with all {len(models)}", found=found, mend=mend)


def _policy(judging: Judging, promise: points.Promise | None, table: Outcomes) -> str:
    """The policy asked for; auto is the run's own, or threshold for a pair and cost_aware for a larger pool."""
    if judging.policy == "cost_aware" and not np.isfinite(table.cost).all():
        raise InputError(
            "policy 'cost_aware' needs a cost for every model",
            expected="a cost column or prices",
            found="no cost for some model",
            mend="Use policy=threshold with two models.",
        )
    if judging.policy != "auto":
        return judging.policy
    if promise is not None and promise.policy != CASCADE:
        return promise.policy
    return "threshold" if len(table.pool) == 2 else "cost_aware"


def _promised_pair(promise: points.Promise, outcomes: Outcomes) -> Pair:
    best = choose_pair(outcomes).best
    return Pair(outcomes.pool.index(promise.weak), outcomes.pool.index(promise.strong), best)


def _pair(ruler: Ruler) -> tuple[Floats, Floats]:
    quality = ruler.outcomes.quality.astype(np.float64)
    return quality[:, ruler.pair.weak], quality[:, ruler.pair.strong]


def _described(ruler: Ruler, policy: str, judging: Judging) -> dict[str, Any]:
    names = ruler.outcomes.pool.name
    return {
        "schema": SCHEMA,
        "policy": policy if ruler.dollars else "threshold",
        "protocol": judging.protocol,
        "usage": ruler.outcomes.usage,
        "pool": list(names),
        "axis": "share of strong calls" if ruler.by_share else "spend",
        "weak": names[ruler.pair.weak],
        "strong": names[ruler.pair.strong],
        "n_test": len(ruler.outcomes),
        "n_groups": len(set(ruler.outcomes.queries.group)),
    }


def _headline(
    point: Mapping[str, float], spread: Mapping[str, Floats], withheld: dict[str, str], reason: str | None, ruler: Ruler
) -> dict[str, Any]:
    """APGR, CPT and dollars with intervals; what may not be quoted is null, with its reason in `withheld`."""
    out: dict[str, Any] = {}
    for key in ("apgr", "cpt50", "cpt80"):
        out[key] = None if reason else point[key]
        out[f"{key}_ci"] = None if reason else stats.interval(spread[key])
        if reason:
            withheld[key] = reason
        elif not np.isfinite(point[key]):
            withheld[key] = "the curve never recovers that much of the gap"
    for fraction in FRACTIONS:
        key = f"cost_saved_at_{round(100 * fraction)}"
        for name in (key, f"usd_{key}"):
            out[name] = point[name] if ruler.dollars else None
            out[f"{name}_ci"] = stats.interval(spread[name]) if ruler.dollars else None
        if not ruler.dollars:
            withheld[key] = "no cost is known for these outcomes: give a cost column or prices"
        elif not np.isfinite(point[key]):
            withheld[key] = "the best model costs nothing: there is nothing to save"
    for percent in BUDGETS:
        for key in (f"quality_at_cost_{percent}", f"gain_at_cost_{percent}"):
            out[key] = point[key] if ruler.dollars else None
            out[f"{key}_ci"] = stats.interval(spread[key]) if ruler.dollars else None
        if not ruler.dollars:
            withheld[f"quality_at_cost_{percent}"] = "no cost is known for these outcomes: give a cost column or prices"
        elif not np.isfinite(point[f"quality_at_cost_{percent}"]):
            withheld[f"quality_at_cost_{percent}"] = "the cheapest model costs more than that"
    out["peak_quality"] = point["peak_quality"]
    return out


def _quality_estimates(predictions: Predictions, table: Outcomes, withheld: dict[str, str]) -> dict[str, Any]:
    quality = table.quality.astype(np.float64)
    out: dict[str, Any] = {
        "brier": metrics.brier(predictions.quality, quality),
        "ece": metrics.ece(predictions.quality, quality),
        "reliability": metrics.reliability(predictions.quality, quality),
    }
    binary = bool(np.isin(quality, (0, 1)).all())
    out["auroc"] = metrics.auroc(predictions.quality, quality) if binary else None
    if not binary:
        withheld["auroc"] = "quality is not right or wrong here"
    elif not np.isfinite(out["auroc"]):
        withheld["auroc"] = "every model is always right or always wrong"
    return out


def _singles(ruler: Ruler) -> dict[str, Any]:
    """models.<name>: mean quality with its interval and mean cost in USD a query."""
    cost, quality = (values[0] for values in ruler.means(np.ones((1, len(ruler.outcomes)))))
    spread = np.concatenate([ruler.means(weight)[1] for weight in ruler.weights()])
    return {
        "models": {
            name: {
                "quality": float(quality[j]),
                "quality_ci": stats.interval(spread[:, j]),
                "cost": float(cost[j]) if ruler.dollars else None,
            }
            for j, name in enumerate(ruler.outcomes.pool.name)
        }
    }


def _ceiling(ruler: Ruler, sweep: Points, withheld: dict[str, str]) -> dict[str, Any]:
    """AIQ beside the fixed mix's, and how much of the way from the best single model to the oracle the router goes at knob 0."""
    quality = ruler.outcomes.quality.astype(np.float64)
    singles, oracle = quality.mean(axis=0), float(quality.max(axis=1).mean())
    at_zero = float(sweep.points()[1][sweep.at_zero()])
    out: dict[str, Any] = {"quality_at_best": at_zero, "oracle_quality": oracle}
    out["gap_recovered"] = metrics.gap_recovered(at_zero, float(singles.max()), oracle)
    if not np.isfinite(out["gap_recovered"]):
        withheld["gap_recovered"] = "no router can beat the best single model here: the oracle is no better"
    cost, height, _ = sweep.points()
    out["aiq"], out["aiq_code"] = _aiq(ruler, cost, height), _aiq(ruler, cost, height, variant="code")
    mix = ruler.mix_curve()
    out["aiq_fixed_mix"] = _aiq(ruler, mix.cost, mix.quality)
    if not ruler.dollars:
        withheld["aiq"] = "no cost is known for these outcomes"
    elif not np.isfinite(out["aiq"]):
        withheld["aiq"] = "all models cost the same: there is no range to average over"
    return out


def _aiq(ruler: Ruler, cost: Floats, quality: Floats, variant: str = "paper") -> float:
    """AIQ over the shared range of single models' costs; any curve may fall back on the cheapest model."""
    if not ruler.dollars:
        return float("nan")
    model_cost, model_quality = (values[0] for values in ruler.means(np.ones((1, len(ruler.outcomes)))))
    weak = ruler.pair.weak
    low, high = float(model_cost.min()), float(model_cost.max())
    if variant == "paper":
        cost, quality = np.r_[model_cost[weak], cost], np.r_[model_quality[weak], quality]
    return metrics.aiq(cost, quality, low, high, variant=variant)


def _controls(
    ruler: Ruler,
    rivals: Mapping[str, Predictions],
    nulls: Mapping[str, Points],
    sweep: Points,
    reason: str | None,
) -> tuple[dict[str, Curve], dict[str, Any], dict[str, tuple[float, Floats]]]:
    """Every control's curve; its APGR, AIQ and difference against the best fixed mix; and that difference with its replicates."""
    shown: dict[str, Curve] = {"fixed_mix": ruler.mix_curve()}
    if isinstance(sweep, curves.Sweep):  # a cascade's calls at random are its shuffled decisions: a coin asks once
        shown["random"] = ruler.random_curve(sweep.curve())
    table: dict[str, Any] = {name: _drawn(ruler, curve, reason) for name, curve in shown.items()}
    swept: dict[str, Points] = {**nulls, **{name: ruler.sweep(trial) for name, trial in rivals.items()}}
    # the oracle never calls a dearer model that gains nothing
    swept["oracle"] = ruler.sweep(controls.oracle(ruler.outcomes), lowest=0.0)
    spreads: dict[str, tuple[float, Floats]] = {}
    for name, path in swept.items():
        shown[name] = path.curve()
        table[name], replicates = _control(ruler, path, shown[name], reason)
        if name in rivals and name != "shuffled_labels":  # one draw of noise is no rival
            spreads[name] = (table[name]["difference"], replicates)
    cost, quality = (values[0] for values in ruler.means(np.ones((1, len(ruler.outcomes)))))
    for j, model in enumerate(ruler.outcomes.pool.name):
        table[f"model:{model}"] = {"apgr": None, "quality": float(quality[j]), "cost": float(cost[j]) if ruler.dollars else None}
    return shown, table, spreads


def _control(ruler: Ruler, path: Points, curve: Curve, reason: str | None) -> tuple[dict[str, Any], Floats]:
    point, spread = ruler.measure(path)
    row = {
        "apgr": None if reason else point["apgr"],
        "apgr_ci": None if reason else stats.interval(spread["apgr"]),
        "cpt50": None if reason else point["cpt50"],
        "cpt80": None if reason else point["cpt80"],
        "aiq": _aiq(ruler, curve.cost, curve.quality),
        "difference": point["difference"],
        "ci": stats.interval(spread["difference"]),
        "cost_saved_at_95": point["cost_saved_at_95"] if ruler.dollars else None,
    }
    for key in (f"quality_at_cost_{percent}" for percent in BUDGETS):
        row |= {key: point[key] if ruler.dollars else None, f"{key}_ci": stats.interval(spread[key]) if ruler.dollars else None}
    return row, spread["difference"]


def _drawn(ruler: Ruler, curve: Curve, reason: str | None) -> dict[str, Any]:
    """The same figures for a curve that is an exact expectation, so that it needs no interval."""
    cost, quality = (values[0] for values in ruler.means(np.ones((1, len(ruler.outcomes)))))
    weak, strong, best = ruler.pair.weak, ruler.pair.strong, ruler.pair.best
    x, y = np.r_[cost[weak], curve.cost], np.r_[quality[weak], curve.quality]
    width = float(cost[strong] - cost[weak])
    axis, height = (curve.share[:, strong], curve.quality) if ruler.by_share else ((x - cost[weak]) / (width or np.nan), y)
    reach = metrics.cost_at(0.95, x, y, quality[best])[0]
    reach = cost[best] if np.isnan(reach) else min(reach, cost[best])
    mix_x, mix_y = (values[0] for values in ruler.mixes(cost[None], quality[None]))
    low, high = float(cost[weak]), float(cost[best])
    above = curves.mean_height(x, y, low, high)[0] - curves.mean_height(mix_x, mix_y, low, high)[0]
    return {
        "apgr": None if reason else float(metrics.apgr(axis, height, quality[weak], quality[strong])[0]),
        "aiq": _aiq(ruler, curve.cost, curve.quality),
        "difference": float(above),
        "cost_saved_at_95": float(metrics.saved(reach, cost[best])) if ruler.dollars else None,
        **({f"quality_at_cost_{percent}": _spending(ruler, x, y, percent) for percent in BUDGETS} if ruler.dollars else {}),
    }


def _spending(ruler: Ruler, x: Floats, y: Floats, percent: int) -> float:
    """The height of an exact curve at this share of the best model's cost; NaN below the cheapest model's."""
    cost = ruler.outcomes.cost.mean(axis=0)
    spend = percent / 100 * cost[ruler.pair.best]
    return float(curves.height_at(x, y, spend)[0]) if spend >= cost[ruler.pair.weak] else float("nan")


def _published(predictions: Predictions, ruler: Ruler, exact: Mapping[str, Any], judging: Judging, reason: str | None) -> dict[str, Any]:
    """The same router by the paper's protocol; with protocol=routellm that is the headline and the exact figures stand under `exact`."""
    weak, strong = _pair(ruler)
    j, k = ruler.pair.weak, ruler.pair.strong
    paper = protocol.routellm(predictions.quality[:, k] - predictions.quality[:, j], weak, strong)
    found = {"apgr": paper.apgr, "cpt50": paper.cpt[50], "cpt80": paper.cpt[80]}
    out: dict[str, Any] = {"routellm": None if reason else found}
    if judging.protocol == "routellm" and not reason:
        out["exact"] = {key: exact[key] for key in ("apgr", "apgr_ci", "cpt50", "cpt50_ci", "cpt80", "cpt80_ci")}
        out |= found | {f"{key}_ci": None for key in found}
        exact["withheld"]["apgr_ci"] = "the paper's protocol has no interval; the exact figures under `exact` have one"
        best, coin = protocol.optimal(weak, strong), protocol.random(weak, strong, np.random.default_rng(0))
        for name, result in (("oracle", best), ("random", coin)):
            exact["controls"][name] |= {"apgr": result.apgr, "cpt50": result.cpt[50], "cpt80": result.cpt[80]}
    return out
