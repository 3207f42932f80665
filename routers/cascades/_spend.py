"""What cascade routing spends and gains on recorded answers as functions of lambda, exactly, and the lambda for every budget.

Shapes: n queries, m models, k pieces between two knobs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from routewright.core import policy
from routewright.core.states import States, bits
from routewright.core.supersets import STAY
from routewright.core.types import Floats, Ints


class Spend(NamedTuple):
    """Mean USD and quality a query as functions of lambda: usd[i] between knob[i + 1] and knob[i], which fall from infinity to 0."""

    knob: Floats  # (k + 1,)
    usd: Floats  # (k,)
    quality: Floats  # (k,)

    def choose(self, budgets: Floats) -> tuple[Floats, Ints]:
        """For each budget in USD the lambda whose mean cost is the largest within it, where no larger lambda costs more; inf where none is.

        Each lies half way between two knobs, so that rounding cannot move a query. Also where on the curve each lies; -1 for inf.
        """
        wide = np.flatnonzero(np.append(self.knob[:-2] - self.knob[1:-1] > policy.TIED * np.maximum(1.0, self.knob[1:-1]), True))
        highest = np.maximum.accumulate(self.usd)
        records = wide[self.usd[wide] >= highest[wide]]
        chosen, where = np.full(len(budgets), np.inf), np.full(len(budgets), -1)
        for i, budget in enumerate(budgets):
            within = records[highest[records] <= budget * (1 + 1e-9)]
            if len(within):
                at = where[i] = int(within[-1])
                chosen[i] = 2 * self.knob[1] + 1 if at == 0 else (self.knob[at] + self.knob[at + 1]) / 2
        return chosen, where


def spend(states: States, score: Floats, paid: Floats, quality: Floats) -> Spend:
    """Follows every query through all lambdas at once. score[n,m], paid[n,m] USD of every call and look, quality[n,m], as recorded.

    A piece is a query, what it has called, and the lambdas low .. high for which it has come to that.
    """
    n, m = score.shape
    row, called, low, high = np.arange(n), np.zeros(n, dtype=np.int64), np.zeros(n), np.full(n, np.inf)
    ended: list[tuple[Floats, Floats, Floats, Floats]] = []
    for size in range(states.depth + 1):
        if size == min(states.depth, m):
            stays = np.ones(len(row), dtype=bool)
        else:
            slot = states.slots(row, called, score)
            first, end = states.plans.first[slot], states.plans.first[slot + 1]
            count = end - first
            piece = np.repeat(np.arange(len(row)), count)
            event = np.arange(len(piece)) - np.repeat(np.cumsum(count) - count, count) + first[piece]
            last = event + 1 == end[piece]
            below = np.where(last, 0.0, states.plans.knob[np.minimum(event + 1, len(states.plans.knob) - 1)])
            low, high = np.maximum(low[piece], below), np.minimum(high[piece], states.plans.knob[event])
            some = low < high
            row, called, action = row[piece][some], called[piece][some], states.plans.action[event][some].astype(np.int64)
            low, high, stays = low[some], high[some], action == STAY
        members, rows = bits(called[stays], m), row[stays]
        served = np.where(members, score[rows], -np.inf).argmax(axis=1)
        ended.append((low[stays], high[stays], (paid[rows] * members).sum(axis=1), quality[rows, served]))
        row, low, high = row[~stays], low[~stays], high[~stays]
        if not len(row):
            break
        called = called[~stays] | (1 << action[~stays])
    low, high, cost, right = (np.concatenate([part[i] for part in ended]) for i in range(4))
    knob = np.concatenate([high, low])
    falling = np.argsort(-knob, kind="stable")
    knob = knob[falling]
    ends = np.flatnonzero(np.append(knob[1:] != knob[:-1], True))
    usd, mean = (np.cumsum(np.concatenate([part, -part])[falling])[ends][:-1] / max(n, 1) for part in (cost, right))
    return Spend(knob[ends], usd, mean)
