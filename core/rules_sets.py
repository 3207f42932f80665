"""The rule of cascade routing, the optimal cascade and routing: of all sets of models the one worth most, its cheapest is called next.

Dekoninck et al. 2024 (arXiv 2410.10347), algorithm 1. Shapes: n queries, m models of the pool, k models chosen among, s draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from routewright.core.contracts import PRIOR, SCORE, STOP, USD_PRIOR
from routewright.core.fields import Fields, plain
from routewright.core.posterior import SPACES, Posterior
from routewright.core.rules_parts import broken, columns, dearest, prices, put, table
from routewright.core.states import States, fingerprint
from routewright.core.supersets import STAY
from routewright.core.types import Bools, Floats, Ints

KIND = "sets"
WIDEST = 62  # models: a set is the sum of 2^model


def seen(signals: Mapping[str, Floats], models: Ints, cost: Floats) -> tuple[Floats, Floats]:
    """prior and predicted USD of a call, [n,k] each; the mean cost[m] where no prediction is there."""
    usd = signals[USD_PRIOR][:, models].astype(np.float64)
    usd = np.where(np.isfinite(usd), np.maximum(usd, 0.0), cost[models])
    return signals[PRIOR][:, models].astype(np.float64), usd


@dataclass(frozen=True, eq=False)
class Planner:
    """What holds at every lambda. models[k] by rising mean cost, look[k] mean USD of a score, cost[m] mean USD of every model of the pool.

    depth: of the sets; chain: models are called in their order alone. The plans of the queries asked for last are kept, as every rule of a
    replay asks for the same ones. Raises InputError for data that cannot be.
    """

    models: Ints
    depth: int
    chain: bool
    look: Floats
    cost: Floats
    posterior: Posterior
    _last: dict[str, tuple[bytes, States]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        cost = prices(KIND, self.cost)
        models = columns(KIND, "models", self.models, len(cost))
        put(self, cost=cost, models=models, look=table(KIND, "look", self.look, len(models)))
        if self.depth < 1 or len(models) > WIDEST:
            found = f"depth {self.depth}, {len(models)} models"
            raise broken(KIND, "impossible size", expected=f"depth >= 1, at most {WIDEST} models", found=found)
        self._check(self.posterior, len(models))

    def _check(self, known: Posterior, k: int) -> None:
        if known.space not in SPACES:
            raise broken(KIND, "unknown space of scores", expected="one of " + ", ".join(SPACES), found=repr(known.space))
        for name, shape in {"intercept": (k,), "slope": (k,), "covariance": (k, k), "draws": (None, k)}.items():
            table(KIND, name, getattr(known, name), *shape)
        if not len(known.draws):
            raise broken(KIND, "there are no draws", expected="at least one", found="none")
        try:
            known.condition(())
        except np.linalg.LinAlgError:
            raise broken(KIND, "covariance is none", expected="a positive semidefinite matrix", found="another") from None

    @property
    def scored(self) -> bool:
        """Whether scores are read: not where one model is called and served whatever it says."""
        return self.depth > 1

    def states(self, signals: Mapping[str, Floats]) -> States:
        """The plans for these queries."""
        key = fingerprint(signals[PRIOR], signals[USD_PRIOR])
        last = self._last.get(KIND)
        if last is None or last[0] != key:
            prior, usd = seen(signals, self.models, self.cost)
            last = (key, States(self.posterior, prior, usd + self.look * self.scored, depth=self.depth, chain=self.chain))
            self._last[KIND] = last
        return last[1]


@dataclass(frozen=True, eq=False)
class Sets:
    """The planner's choice at one lambda, quality points given up for a dollar; infinite: the cheapest model answers.

    Raises InputError for a lambda below 0.
    """

    planner: Planner
    lam: float
    KIND: ClassVar[str] = KIND

    def __post_init__(self) -> None:
        if not self.lam >= 0:
            raise broken(KIND, "impossible lambda", expected="a number from 0 on", found=f"{self.lam:g}")

    @property
    def needs(self) -> Sequence[str]:
        if np.isinf(self.lam):
            return ()
        return (PRIOR, USD_PRIOR, SCORE) if self.planner.scored else (PRIOR, USD_PRIOR)

    def step(self, called: Bools, signals: Mapping[str, Floats]) -> Ints:
        """The cheapest model still to be called of the best superset, or STOP where the best superset is what was called."""
        models = self.planner.models
        if np.isinf(self.lam):
            return np.where(called.any(axis=1), STOP, models[0])
        states, mine = self.planner.states(signals), called[:, models]
        rows = np.flatnonzero(mine.sum(axis=1) < min(self.planner.depth, len(models)))
        chosen = np.full(len(called), STOP, dtype=np.int64)
        score = signals[SCORE][:, models] if self.planner.scored else states.prior
        action = states.plans_of(rows, mine[rows] @ (1 << np.arange(len(models))), score, self.lam)
        chosen[rows] = np.where(action == STAY, STOP, models[action])
        return chosen

    def looks(self, called: Bools, last: Ints) -> Bools:
        """Every answer's score, save where no second answer can follow."""
        return np.full(len(called), SCORE in self.needs)

    def select(self, called: Bools, signals: Mapping[str, Floats]) -> Ints:
        """The answer with the best score among those called; where none was looked at, the dearest one called."""
        served = dearest(called, self.planner.cost)
        if SCORE not in self.needs:
            return served
        known = np.where(called, np.nan_to_num(signals[SCORE], nan=-np.inf), -np.inf)
        return np.where(np.isfinite(known).any(axis=1), known.argmax(axis=1), served)

    def described(self) -> dict[str, Any]:
        planner, known = self.planner, self.planner.posterior
        return {
            "kind": KIND,
            "lambda": None if np.isinf(self.lam) else float(self.lam),
            "models": plain(planner.models),
            "depth": int(planner.depth),
            "chain": bool(planner.chain),
            "look": plain(planner.look),
            "cost": plain(planner.cost),
            "space": known.space,
            "intercept": plain(known.intercept),
            "slope": plain(known.slope),
            "covariance": plain(known.covariance),
            "draws": plain(known.draws),
        }

    @classmethod
    def read(cls, fields: Fields) -> Sets:
        """From the fields of `described`."""
        intercept, slope = fields.numbers("intercept"), fields.numbers("slope")
        covariance, draws = fields.numbers("covariance", 2), fields.numbers("draws", 2)
        known = Posterior(fields.word("space", SPACES), intercept, slope, covariance, draws)
        models, depth, chain = fields.counts("models"), fields.count("depth"), fields.flag("chain")
        planner = Planner(models, depth, chain, fields.numbers("look"), fields.numbers("cost"), known)
        return cls(planner, fields.number("lambda", endless=True))
