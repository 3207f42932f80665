"""Measures one curve after another against the same recorded outcomes and the same resamples, so that differences are paired."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from routewright.core.types import Curve, Decisions, Floats, InputError, Outcomes, Predictions
from routewright.eval import curves, metrics, stats
from routewright.eval.replay import realised

FRACTIONS = (0.95, 0.98, 1.0)  # of the best model's quality, at which dollars saved are quoted


@dataclass(frozen=True)
class Pair:
    """Columns of the two models that the axes hang on: weak is the cheapest, strong the best (of two: the dearer)."""

    weak: int
    strong: int
    best: int


def choose_pair(outcomes: Outcomes) -> Pair:
    """weak: the lowest mean cost (where no cost is known: the first). strong: of two the other one, of more the best mean quality."""
    quality = outcomes.quality.mean(axis=0)
    cost = outcomes.cost.mean(axis=0)
    weak = int(cost.argmin()) if np.isfinite(cost).all() else 0
    best = int(quality.argmax())
    return Pair(weak, 1 - weak if len(outcomes.pool) == 2 else best, best)


class Ruler:
    """A judged table: outcomes (n, m) fully observed, one policy, one pair, one set of bootstrap weights.

    Where a cost is missing a pair is measured in calls of the strong model and dollars are withheld; a larger pool raises InputError.
    """

    def __init__(
        self, outcomes: Outcomes, *, policy: str, rng: np.random.Generator, replicates: int = 1000, clustered: bool = False
    ) -> None:
        self.dollars = bool(np.isfinite(outcomes.cost).all())
        self.pair = choose_pair(outcomes)
        n, m = outcomes.quality.shape
        if not self.dollars:
            if m != 2:
                raise InputError(
                    "more than two models cannot be judged without a cost",
                    expected="a cost for every model and query",
                    found="missing costs",
                    mend="Give the data a cost column or prices=..., or choose a pair with data.models=[weak,strong].",
                )
            calls = np.broadcast_to(np.arange(2) == self.pair.strong, (n, 2)).astype(np.float64)
            outcomes = replace(outcomes, cost=calls)
        self.outcomes, self.policy, self.clustered = outcomes, policy, clustered
        self.replicates = replicates
        self._seed = rng.integers(2**63)
        self.by_share = m == 2

    @property
    def groups(self) -> list[str] | None:
        return list(self.outcomes.queries.group) if self.clustered else None

    def weights(self) -> Iterator[Floats]:
        """The same resamples every time it is called: that is what pairs the comparisons."""
        return stats.resamples(len(self.outcomes), self.replicates, np.random.default_rng(self._seed), self.groups)

    def sweep(self, predictions: Predictions, *, lowest: float | None = None) -> curves.Sweep:
        """The exact curve. Without dollars the policy must be `threshold`: there is no cost to be aware of."""
        policy = self.policy if self.dollars else "threshold"
        return curves.Sweep(predictions, self.outcomes, policy=policy, weak=self.pair.weak, strong=self.pair.strong, lowest=lowest)

    def measure(self, sweep: curves.Sweep) -> tuple[dict[str, float], dict[str, Floats]]:
        """Every curve metric: its value, and its bootstrap values (B,)."""
        point = {name: float(value[0]) for name, value in self._metrics(sweep, np.ones((1, len(self.outcomes)))).items()}
        chunks = [self._metrics(sweep, weight) for weight in self.weights()]
        return point, {name: np.concatenate([chunk[name] for chunk in chunks]) for name in (chunks[0] if chunks else {})}

    def means(self, weight: Floats) -> tuple[Floats, Floats]:
        """Mean cost and quality of every single model, (B, m) each."""
        total = weight.sum(axis=1, keepdims=True)
        return weight @ self.outcomes.cost / total, weight @ self.outcomes.quality.astype(np.float64) / total

    def _metrics(self, sweep: curves.Sweep, weight: Floats) -> dict[str, Floats]:
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
        return out

    def _difference(self, cost: Floats, quality: Floats, sweep: curves.Sweep, weight: Floats) -> Floats:
        """(B,) mean height of the curve above the best fixed mix between the cheapest and the best model's cost, in quality.

        Where the best model is the cheapest there is nothing to trade: the router's choice at knob 0 against that model.
        """
        model_cost, model_quality = self.means(weight)
        low, high = model_cost[:, self.pair.weak], model_cost[:, self.pair.best]
        mix = np.array([self._mix_height(c, q, a, b) for c, q, a, b in zip(model_cost, model_quality, low, high, strict=True)])
        traded = curves.mean_height(cost, quality, low, high) - mix
        untraded = quality[:, sweep.at_zero() + 1] - model_quality[:, self.pair.best]
        return np.where(high > low, traded, untraded)

    @staticmethod
    def _mix_height(cost: Floats, quality: Floats, low: float, high: float) -> float:
        if high <= low:
            return float("nan")
        x, y = curves.fixed_mix(cost, quality)
        return float(curves.mean_height(x, y, low, high)[0])

    def measure_decisions(self, decisions: Decisions) -> tuple[dict[str, float], dict[str, Floats]]:
        """quality, cost and difference (quality above the best fixed mix at the same cost) of some decisions, with bootstrap values."""
        quality, cost = realised(decisions, self.outcomes)

        def values(weight: Floats) -> dict[str, Floats]:
            total = weight.sum(axis=1)
            q, c = weight @ quality / total, weight @ cost / total
            hulls = [curves.fixed_mix(*row) for row in zip(*self.means(weight), strict=True)]
            mix = np.array([np.interp(x, *vertices) for x, vertices in zip(c, hulls, strict=True)])
            return {"quality": q, "cost": c, "difference": q - mix}

        point = {name: float(value[0]) for name, value in values(np.ones((1, len(quality)))).items()}
        chunks = [values(weight) for weight in self.weights()]
        return point, {name: np.concatenate([chunk[name] for chunk in chunks]) for name in (chunks[0] if chunks else {})}

    def random_curve(self, curve: Curve) -> Curve:
        """The exact expectation of a coin with the router's own call rates at every knob."""
        cost, quality = self.outcomes.cost.mean(axis=0), self.outcomes.quality.astype(np.float64).mean(axis=0)
        return replace(curve, cost=curve.share @ cost, quality=curve.share @ quality)

    def mix_curve(self) -> Curve:
        """The best fixed mixes of single models, as a curve through the hull's vertices."""
        cost, quality = self.outcomes.cost.mean(axis=0), self.outcomes.quality.astype(np.float64).mean(axis=0)
        x, y = curves.fixed_mix(cost, quality)
        column = [int(np.flatnonzero((cost == a) & (quality == b))[0]) for a, b in zip(x, y, strict=True)]
        return Curve(np.zeros(len(x)), x, y, np.eye(len(cost))[column])
