"""Asks models, the cheapest first, until enough of them say the same; where none do, the dearest one asked decides.

It needs no score: two models that give the same answer are seldom wrong in the same way (Yue et al. 2023, arXiv 2310.03094, ask one model
several times; Kolawole et al. 2024, arXiv 2407.02348, ask several).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple

import numpy as np

from routewright.core.contracts import SAID
from routewright.core.rules import Votes
from routewright.core.types import Floats, InputError, Ints, Outcomes
from routewright.core.votes import most, supporters
from routewright.routers.cascades.base import Base, best_within, padded, unpadded


class _Tried(NamedTuple):
    """A list with its votes, and its mean cost in USD and mean quality on the training rows."""

    cost: float
    quality: float
    models: tuple[int, ...]
    votes: int


class Agreement(Base):
    """A list of models, from the cheapest on, and a number of votes for every budget: stop once that many answers say the same.

    max_length: of a list; two models can only agree or not, so that nothing is spared below three. All lists are tried, so a pool of more
    than about fifteen models takes long.
    """

    needs = (SAID,)
    learned = ("lists_", "votes_")
    lists_: Ints  # (k, longest) model columns, padded with NOBODY
    votes_: Ints  # (k,) equal answers that end the asking

    def __init__(self, max_length: int = 4) -> None:
        self.max_length = max_length

    def _learn(self, train: Outcomes, rng: np.random.Generator) -> None:
        if self.max_length < 1:
            raise InputError("impossible lists", expected="max_length >= 1", found=f"max_length={self.max_length}")
        tried = list(self._tried(train))
        found = best_within(np.array([row.cost for row in tried]), np.array([row.quality for row in tried]), self.budgets())
        self.lists_ = padded([tried[row].models for row in found])
        self.votes_ = np.array([tried[row].votes for row in found])

    def _tried(self, train: Outcomes) -> Iterator[_Tried]:
        """Every single model and every list that can spare a call, with what it comes to on the training rows."""
        said, quality, cost = train.signals[SAID], train.quality.astype(np.float64), train.cost
        for j in self.order_.tolist():
            yield _Tried(float(cost[:, j].mean()), float(quality[:, j].mean()), (j,), 1)
        for length in range(3, min(self.max_length, len(self.cost_)) + 1):
            for models in combinations(self.order_.tolist(), length):
                for votes in range(2, length):
                    yield _Tried(*_played(said[:, models], quality[:, models], cost[:, models], votes), models, votes)

    def rule(self, knob: float) -> Votes:
        """The list and the votes of the dearest prepared budget that this one can pay for."""
        row = self.place(knob)
        return Votes(unpadded(self.lists_[row]), int(self.votes_[row]), self.cost_)


def _played(said: Floats, quality: Floats, cost: Floats, votes: int) -> tuple[float, float]:
    """Mean cost and quality of one list on all rows: columns in the order asked."""
    n, length = said.shape
    running, paid, last = np.ones(n, dtype=bool), np.zeros(n), np.zeros(n, dtype=np.int64)
    for depth in range(length):
        paid[running] += cost[running, depth]
        last[running] = depth
        running &= most(said[:, : depth + 1]) < votes
    asked = np.arange(length) <= last[:, None]
    count = supporters(np.where(asked, said, np.nan))
    dearest = np.where(asked, cost.mean(axis=0), -np.inf).argmax(axis=1)
    voted = np.where(asked & (count == count.max(axis=1, keepdims=True)), -cost.mean(axis=0), -np.inf).argmax(axis=1)
    served = np.where(count.max(axis=1) <= 1, dearest, voted)
    return float(paid.mean()), float(quality[np.arange(n), served].mean())
