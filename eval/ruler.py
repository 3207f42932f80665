"""Measures one curve after another against the same recorded outcomes and the same resamples, so that differences are paired."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from routewright.core.arrays import column_means
from routewright.core.text import normalise, numbered
from routewright.core.types import Curve, Decisions, Floats, InputError, Ints, Outcomes, Predictions, Queries
from routewright.eval import curves, metrics, stats
from routewright.eval.replay import realised

FRACTIONS = (0.95, 0.98, 1.0)  # of the best model's quality, at which dollars saved are quoted
BUDGETS = (25, 50, 75)  # % of the best model's cost, at which quality is quoted
FEWEST_GROUPS = 8  # with fewer, resampling groups gives intervals far too narrow


class Points(Protocol):
    """A curve that can be resampled: a router's exact sweep, or a cascade's replayed points."""

    def points(self, weight: Floats | None = None) -> tuple[Floats, Floats, Floats]: ...
    def at_zero(self) -> int: ...
    def knobs(self) -> Floats: ...
    def curve(self) -> Curve: ...


@dataclass(frozen=True)
class Pair:
    """Columns that the axes hang on: weak is the cheapest model, strong the best (of two: the other one), best the best mean quality."""

    weak: int
    strong: int
    best: int


def choose_pair(outcomes: Outcomes) -> Pair:
    """From all the data, so that no split changes it. weak: the lowest mean cost; where no cost is known, the lowest mean quality."""
    quality, cost = column_means(outcomes.quality), column_means(outcomes.cost)
    best = int(np.nanargmax(quality))
    weak = int(cost.argmin()) if np.isfinite(cost).all() else int(np.nanargmin(quality))
    if len(outcomes.pool) == 2:
        # equal grades and no cost: the first is taken for the weak one
        return Pair(weak, 1 - weak, best)
    return Pair(weak, best, best)


def choose_mix(outcomes: Outcomes) -> tuple[int, ...]:
    """Columns of the models that the best fixed mixes are made of: the hull's vertices on these outcomes, from the cheapest."""
    cost, quality = column_means(outcomes.cost), column_means(outcomes.quality)
    x, y = curves.fixed_mix(cost, quality)
    return tuple(int(np.flatnonzero((cost == a) & (quality == b))[0]) for a, b in zip(x, y, strict=True))


def in_calls(outcomes: Outcomes, strong: int) -> Outcomes:
    """The same outcomes with a call of the strong model as the unit of cost: for a pair whose dollars are not known."""
    calls = np.broadcast_to(np.arange(len(outcomes.pool)) == strong, outcomes.quality.shape).astype(np.float64)
    return replace(outcomes, cost=calls)


def units(queries: Queries, *, clustered: bool) -> Ints:
    """[n] a number for what is resampled together: equal texts, or whole groups if `clustered` (a query of no group is alone)."""
    names = [group or f"{row} alone" for row, group in enumerate(queries.group)] if clustered else map(normalise, queries.text)
    return np.array(numbered(names), dtype=np.int64)


class Ruler:
    """A judged table: outcomes (n, m) fully observed, one policy, one pair, one set of bootstrap weights.

    mix: the models that fixed mixes are made of, chosen away from the judged rows and held fixed over resamples: chosen on them, again in
    every resample, the best mix would enjoy a winner's curse that no router can have. Where no cost is known a pair is measured in calls
    of the strong model and dollars are withheld; a larger pool raises InputError. The bootstrap resamples texts, or groups if `clustered`.
    spend: a pair is measured over dollars too, as a larger pool is: a cascade pays for the weak model's call beside the strong one's.
    """

    def __init__(
        self,
        outcomes: Outcomes,
        *,
        policy: str,
        rng: np.random.Generator,
        pair: Pair | None = None,
        mix: Sequence[int] | None = None,
        replicates: int = 1000,
        clustered: bool = False,
        spend: bool = False,
    ) -> None:
        self.dollars = bool(np.isfinite(outcomes.cost).all())
        self.pair = pair or choose_pair(outcomes)
        if not self.dollars:
            if len(outcomes.pool) != 2:
                raise InputError(
                    "more than two models cannot be judged without a cost",
                    expected="a cost for every model and query",
                    found="missing costs",
                    mend="Give the data a cost column or prices=..., or choose a pair with data.models=[weak,strong].",
                )
            outcomes = in_calls(outcomes, self.pair.strong)
        self.outcomes, self.policy, self.clustered, self.replicates = outcomes, policy, clustered, replicates
        chosen = mix if mix is not None and self.dollars else choose_mix(outcomes)
        self.mix = tuple(sorted({*chosen, self.pair.weak}))  # every mix may fall back on the cheapest, as every router may
        self._seed = rng.integers(2**63)
        self.by_share = len(outcomes.pool) == 2 and not spend
        self.units = units(outcomes.queries, clustered=clustered)
        self.resampled = not clustered or len(set(self.units)) >= FEWEST_GROUPS

    def weights(self) -> Iterator[Floats]:
        """The same resamples every time it is called: that is what pairs the comparisons."""
        return stats.resamples(self.units, self.replicates, np.random.default_rng(self._seed))

    def spread(self, chunks: list[dict[str, Floats]]) -> dict[str, Floats]:
        """Bootstrap values (B,) by name; NaN, so that no interval is made of them, where there are too few groups to resample."""
        names = chunks[0] if chunks else {}
        return {name: np.concatenate([chunk[name] for chunk in chunks]) * (1.0 if self.resampled else np.nan) for name in names}

    def sweep(self, predictions: Predictions, *, lowest: float | None = None) -> curves.Sweep:
        """The exact curve. Without dollars the policy must be `threshold`: there is no cost to be aware of."""
        policy = self.policy if self.dollars else "threshold"
        return curves.Sweep(predictions, self.outcomes, policy=policy, weak=self.pair.weak, strong=self.pair.strong, lowest=lowest)

    def measure(self, sweep: Points) -> tuple[dict[str, float], dict[str, Floats]]:
        """Every curve metric: its value, and its bootstrap values (B,)."""
        point = {name: float(value[0]) for name, value in self._metrics(sweep, np.ones((1, len(self.outcomes)))).items()}
        return point, self.spread([self._metrics(sweep, weight) for weight in self.weights()])

    def means(self, weight: Floats) -> tuple[Floats, Floats]:
        """Mean cost and quality of every single model, (B, m) each."""
        total = weight.sum(axis=1, keepdims=True)
        return weight @ self.outcomes.cost / total, weight @ self.outcomes.quality.astype(np.float64) / total

    def _metrics(self, sweep: Points, weight: Floats) -> dict[str, Floats]:
        cost, quality, share = sweep.points(weight)
        model_cost, model_quality = self.means(weight)
        weak, strong, best = self.pair.weak, self.pair.strong, self.pair.best
        low, high = model_cost[:, weak], model_cost[:, strong]
        # any router includes the policy "always the cheapest", so its curve starts there
        path_cost = np.concatenate([low[:, None], cost], axis=1)
        path_quality = np.concatenate([model_quality[:, weak, None], quality], axis=1)
        if self.by_share:
            axis, height = share, quality
        else:
            width = np.where(high > low, high - low, np.nan)[:, None]
            axis, height = (path_cost - low[:, None]) / width, path_quality
        q_weak, q_strong = model_quality[:, weak], model_quality[:, strong]
        out = {
            "apgr": metrics.apgr(axis, height, q_weak, q_strong),
            "cpt50": metrics.cpt(50, axis, height, q_weak, q_strong),
            "cpt80": metrics.cpt(80, axis, height, q_weak, q_strong),
            "difference": self._difference(path_cost, path_quality, sweep, weight),
            "peak_quality": quality.max(axis=1),
        }
        for fraction in FRACTIONS:
            reach = metrics.cost_at(fraction, path_cost, path_quality, model_quality[:, best])
            name = f"cost_saved_at_{round(100 * fraction)}"
            # where the router never gets there the best model itself does, and saves nothing
            reach = np.where(np.isnan(reach), model_cost[:, best], np.minimum(reach, model_cost[:, best]))
            out[name] = metrics.saved(reach, model_cost[:, best])
            out[f"usd_{name}"] = (model_cost[:, best] - reach) * 1000
        mixes = self.mixes(model_cost, model_quality)
        for percent in BUDGETS:
            spend = percent / 100 * model_cost[:, best]
            height = curves.height_at(path_cost, path_quality, spend)
            out[f"quality_at_cost_{percent}"] = np.where(spend >= low, height, np.nan)  # less than the cheapest model buys nothing
            out[f"gain_at_cost_{percent}"] = out[f"quality_at_cost_{percent}"] - curves.height_at(*mixes, spend)
        return out

    def _difference(self, cost: Floats, quality: Floats, sweep: Points, weight: Floats) -> Floats:
        """(B,) mean height of the curve above the best fixed mix between the cheapest and the best model's cost, in quality.

        Where the best model is the cheapest there is nothing to trade: the router's choice at knob 0 against that model.
        """
        model_cost, model_quality = self.means(weight)
        low, high = model_cost[:, self.pair.weak], model_cost[:, self.pair.best]
        mix_cost, mix_quality = self.mixes(model_cost, model_quality)
        traded = curves.mean_height(cost, quality, low, high) - curves.mean_height(mix_cost, mix_quality, low, high)
        untraded = quality[:, sweep.at_zero() + 1] - model_quality[:, self.pair.best]
        return np.where(high > low, traded, untraded)

    def mixes(self, cost: Floats, quality: Floats) -> tuple[Floats, Floats]:
        """The path of the best fixed mixes for model means (B, m): (B, v) cost and quality of the chosen models, in order of cost."""
        columns = list(self.mix)
        x, y = cost[:, columns], quality[:, columns]
        order = np.argsort(x, axis=1, kind="stable")
        return np.take_along_axis(x, order, axis=1), np.take_along_axis(y, order, axis=1)

    def measure_decisions(self, decisions: Decisions) -> tuple[dict[str, float], dict[str, Floats]]:
        """quality, cost and difference (quality above the best fixed mix at the same cost) of some decisions, with bootstrap values."""
        return self.measure_served(*realised(decisions, self.outcomes))

    def measure_served(self, quality: Floats, cost: Floats) -> tuple[dict[str, float], dict[str, Floats]]:
        """The same for quality[n] that was served and cost[n] in USD that was paid."""

        def values(weight: Floats) -> dict[str, Floats]:
            total = weight.sum(axis=1)
            q, c = weight @ quality / total, weight @ cost / total
            mix = np.array([np.interp(at, x, y) for at, x, y in zip(c, *self.mixes(*self.means(weight)), strict=True)])
            return {"quality": q, "cost": c, "difference": q - mix}

        point = {name: float(value[0]) for name, value in values(np.ones((1, len(quality)))).items()}
        return point, self.spread([values(weight) for weight in self.weights()])

    def random_curve(self, curve: Curve) -> Curve:
        """The exact expectation of a coin with the router's own call rates at every knob; curve.share[k,m] adds up to 1."""
        cost, quality = self.outcomes.cost.mean(axis=0), self.outcomes.quality.astype(np.float64).mean(axis=0)
        return replace(curve, cost=curve.share @ cost, quality=curve.share @ quality)

    def mix_curve(self) -> Curve:
        """The best fixed mixes of single models, as a curve through the chosen models."""
        cost, quality = self.outcomes.cost.mean(axis=0), self.outcomes.quality.astype(np.float64).mean(axis=0)
        columns = sorted(self.mix, key=lambda column: float(cost[column]))
        return Curve(np.zeros(len(columns)), cost[columns], quality[columns], np.eye(len(cost))[columns])
