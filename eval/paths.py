"""A cascade's curve: what it served and paid on every query at each of its operating points, replayed once and measured many times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from routewright.core.contracts import Cascade
from routewright.core.types import Bools, Curve, Floats, InputError, Ints, Outcomes
from routewright.eval.replay import bought, realised

MOST_MODELS = 63  # calls are kept as bits of one integer


@dataclass(frozen=True, eq=False)
class Path:
    """k operating points on n rows: served (k, n) model columns, called (k, n) bits (1 << column), quality and cost in USD (k, n).

    knob (k, n): the point each row was served at; the rows of one fold share theirs, other folds may have chosen others. m models, of which
    `strong` is the column whose calls `points` counts.
    """

    knob: Floats
    served: Ints
    called: Ints
    quality: Floats
    cost: Floats
    m: int
    strong: int

    @classmethod
    def of(cls, cascade: Cascade, outcomes: Outcomes, *, strong: int) -> Path:
        """Replays every knob of a fitted cascade on these outcomes."""
        m = len(outcomes.pool)
        if m > MOST_MODELS:
            raise InputError(
                "too many models for a cascade", expected=f"at most {MOST_MODELS}", found=str(m), mend="Choose data.models=[...]."
            )
        knobs, bits = cascade.knobs(), 1 << np.arange(m, dtype=np.int64)
        served, called = (np.empty((len(knobs), len(outcomes)), dtype=np.int64) for _ in range(2))
        quality, cost = (np.empty((len(knobs), len(outcomes))) for _ in range(2))
        for k, knob in enumerate(knobs):
            decisions, looked = bought(cascade, outcomes, knob=float(knob))
            served[k], called[k] = decisions.served, decisions.called @ bits
            quality[k], cost[k] = realised(decisions, outcomes, looked)
        return cls(np.repeat(knobs[:, None], len(outcomes), axis=1), served, called, quality, cost, m, strong)

    @classmethod
    def pooled(cls, paths: Sequence[Path], order: Ints) -> Path:
        """Several folds as one: point k is each fold's own point k, chosen without its test rows. order: rows of the concatenation."""

        def joined(name: str) -> np.ndarray:
            parts: list[np.ndarray] = [getattr(path, name) for path in paths]
            return np.concatenate(parts, axis=1)[:, order]

        every = {name: joined(name) for name in ("knob", "served", "called", "quality", "cost")}
        return cls(**every, m=paths[0].m, strong=paths[0].strong)

    def arrays(self) -> dict[str, np.ndarray]:
        """What cannot be looked up in the outcomes again, by name, (k, n) each."""
        return {"knob": self.knob, "served": self.served, "called": self.called, "cost": self.cost}

    @classmethod
    def restored(cls, arrays: Mapping[str, np.ndarray], outcomes: Outcomes, *, strong: int) -> Path:
        """The inverse of arrays(), given the outcomes of the same rows."""
        rows = np.arange(len(outcomes))
        quality = outcomes.quality.astype(np.float64)[rows, arrays["served"]]
        return cls(**arrays, quality=quality, m=len(outcomes.pool), strong=strong)

    def take(self, rows: Ints | Bools) -> Path:
        """The same points on some of the rows."""
        cut = {name: getattr(self, name)[:, rows] for name in ("knob", "served", "called", "quality", "cost")}
        return Path(**cut, m=self.m, strong=self.strong)

    def points(self, weight: Floats | None = None) -> tuple[Floats, Floats, Floats]:
        """Mean cost, quality and strong share at every point, (k,) each; (B, k) for weight[B,n]."""
        if weight is None:
            cost, quality, share = self.points(np.ones((1, self.quality.shape[1])))
            return cost[0], quality[0], share[0]
        total = weight.sum(axis=1, keepdims=True)
        strong = ((self.called >> self.strong) % 2).astype(np.float64)
        return weight @ self.cost.T / total, weight @ self.quality.T / total, weight @ strong.T / total

    def knobs(self) -> Floats:
        """(k,) the knobs; of several folds the middle one."""
        return np.asarray(np.median(self.knob, axis=1))

    def at_zero(self) -> int:
        """The dearest point: what the cascade does where money is no object."""
        return len(self.quality) - 1

    def calls(self, point: int) -> Bools:
        """called[n,m] at one point."""
        return self.called_at(np.full(self.called.shape[1], point))

    def called_at(self, points: Ints) -> Bools:
        """called[n,m] of each row at its own point, points[n]."""
        bits = self.called[points, np.arange(self.called.shape[1])]
        return np.asarray((bits[:, None] >> np.arange(self.m)) % 2 == 1)

    def curve(self) -> Curve:
        """Every point with the share of queries on which each model is called: more than one in all where a query asks several."""
        cost, quality, _ = self.points()
        share = np.array([self.calls(k).mean(axis=0) for k in range(len(cost))])
        return Curve(self.knobs(), cost, quality, share)
