"""Cascade routing: at every step the set of models, called ones included, that is worth most; its cheapest one is called next.

Dekoninck et al. 2024 (arXiv 2410.10347), section 4 and algorithm 1. Worth is E[best score of the set] - lambda * cost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from routewright.core import policy
from routewright.core.contracts import PRIOR, SCORE, USD_PRIOR, USD_SCORE
from routewright.core.posterior import Posterior
from routewright.core.rules_sets import Planner, Sets, seen
from routewright.core.types import Floats, InputError, Ints, Outcomes
from routewright.routers.cascades import _posterior
from routewright.routers.cascades._spend import spend
from routewright.routers.cascades.base import Base


class CascadeRouting(Base):
    """Chooses among all sets of at most `depth` models; serves the called answer with the best score.

    shallower: fewer may be asked, depth_, if the train table's grades say so. E[max] trusts every score; where scores are poor, the best of
    many is an answer that only looks good, and each further call makes it worse.

    models_[k] are the models it chooses among, by rising mean cost, and every other learned array follows their order. lambdas_ holds,
    for each of knobs_, the quality points a query gives up for a dollar: replayed on the train table it costs as much as the budget allows.
    look_[k] is the mean USD of looking at a score.
    """

    needs: Sequence[str] = (PRIOR, USD_PRIOR, SCORE)
    learned = ("models_", "depth_", "lambdas_", "look_", "intercept_", "slope_", "covariance_", "draws_")
    chain = False
    models_: Ints
    depth_: Ints  # (1,)
    lambdas_: Floats
    look_: Floats
    intercept_: Floats
    slope_: Floats
    covariance_: Floats
    draws_: Floats
    _kept: Planner | None = None

    def __init__(
        self,
        depth: int | None = 4,
        shallower: bool = True,
        draws: int = 64,
        space: str = "logit",
        deviation: Any = None,
        pool: int = 12,
        shares: Sequence[float] | None = None,
    ) -> None:
        self.depth, self.shallower, self.draws, self.space, self.deviation = depth, shallower, draws, space, deviation
        self.pool, self.shares = pool, shares

    def _shares(self) -> Floats:
        return super()._shares() if self.shares is None else np.asarray(self.shares, dtype=np.float64)

    def _learn(self, train: Outcomes, rng: np.random.Generator) -> None:
        if (self.depth is not None and self.depth < 1) or not 1 <= self.pool <= 40:
            raise InputError("impossible size", expected="depth >= 1, pool 1 .. 40", found=f"depth={self.depth}, pool={self.pool}")
        self._kept = None
        self.models_ = self._models(train)
        prior, _ = seen(train.signals, self.models_, self.cost_)
        score = train.signals[SCORE][:, self.models_].astype(np.float64) if SCORE in self.needs else prior
        price = train.signals.get(USD_SCORE)
        looked = np.zeros_like(prior) if price is None else np.nan_to_num(price[:, self.models_].astype(np.float64))
        self.look_ = looked.mean(axis=0)
        known = self._posterior(prior, score, rng)
        self.intercept_, self.slope_, self.covariance_, self.draws_ = known.intercept, known.slope, known.covariance, known.draws
        deepest = len(self.models_) if self.depth is None else min(self.depth, len(self.models_))
        quality, cost = train.quality[:, self.models_].astype(np.float64), train.cost[:, self.models_]
        depths = range(1 if self.shallower else deepest, deepest + 1)
        tried = [self._chosen(train.signals, depth, score, cost + looked * (depth > 1), quality) for depth in depths]
        best = int(np.argmax([right for _, right in tried]))
        self.lambdas_, self.depth_ = tried[best][0], np.array([depths[best]])
        self._kept = None

    def _chosen(self, signals: Mapping[str, Floats], depth: int, score: Floats, paid: Floats, quality: Floats) -> tuple[Floats, float]:
        """(lambda for every knob, mean quality over the knobs) with at most `depth` models asked."""
        self.depth_, self._kept = np.array([depth]), None
        curve = spend(self._planner().states(signals), score, paid, quality)
        lambdas, at = curve.choose(self.budgets())
        at = np.where(self.knobs_ > 0, at, -1)
        return np.where(at < 0, np.inf, lambdas), float(np.where(at < 0, quality[:, 0].mean(), curve.quality[at]).mean())

    def _models(self, train: Outcomes) -> Ints:
        """By rising mean cost: all, or the `pool` that a router would send most queries to over all lambdas, and the cheapest."""
        if len(self.order_) <= self.pool:
            return self.order_
        usd = np.where(np.isfinite(train.signals[USD_PRIOR]), train.signals[USD_PRIOR], self.cost_)
        front = policy.frontier(train.signals[PRIOR], usd, lowest=0.0)
        sent = np.bincount(np.concatenate([front.start, front.after]), minlength=len(self.order_))
        sent[self.order_[0]] = len(train) * len(self.order_) + 1
        kept = np.argsort(-sent, kind="stable")[: self.pool]
        return self.order_[np.isin(self.order_, kept)]

    def _posterior(self, prior: Floats, score: Floats, rng: np.random.Generator) -> Posterior:
        return _posterior.fit(prior, score, space=self.space, deviation=self.deviation, draws=self.draws, rng=rng)

    def _planner(self) -> Planner:
        """What holds at every knob; all rules share it, and with it the plans of the queries asked for last."""
        if self._kept is None:
            known = Posterior(self.space, self.intercept_, self.slope_, self.covariance_, self.draws_)
            self._kept = Planner(self.models_, int(self.depth_[0]), self.chain, self.look_, self.cost_, known)
        return self._kept

    def rule(self, knob: float) -> Sets:
        """The choice at the lambda of the dearest prepared knob that this one can pay for."""
        return Sets(self._planner(), self._lambda(knob))

    def _lambda(self, knob: float) -> float:
        """Of the dearest prepared knob that this one can pay for."""
        at = self.place(knob)
        return float(self.lambdas_[at]) if at >= 0 else np.inf

    def load(self, state: Mapping[str, np.ndarray[Any, Any]]) -> Self:
        self._kept = None
        return super().load(state)
