"""Which supersets of the models already called are worth their cost: E[max quality] of every one, and the best for every lambda at once.

Dekoninck et al. 2024 (arXiv 2410.10347), section 4. E[max] is submodular on shared draws, so a superset that a model with negative marginal
gain has entered is never best (their lemma 1): the hull below leaves all of them out, and no other pruning is needed.
Shapes: r rows (queries in some state), u models not called, s draws, k supersets.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from routewright.core import policy
from routewright.core.types import Floats, Ints

STAY = -1  # the action of a state that is as good as it gets: call nothing more
DIGITS = 6  # to which E[max] is rounded: differences below are the noise of summation


@lru_cache(maxsize=256)
def supersets(u: int, more: int, chain: bool) -> tuple[tuple[int, ...], ...]:
    """All sets of 1 .. more of u models, each in rising order and after its own prefix (depth first); chain: 0..i alone."""
    if chain:
        return tuple(tuple(range(i + 1)) for i in range(min(u, more)))
    found: list[tuple[int, ...]] = []

    def grow(base: tuple[int, ...]) -> None:
        for model in range(base[-1] + 1 if base else 0, u):
            found.append((*base, model))
            if len(base) + 1 < more:
                grow(found[-1])

    if more > 0:
        grow(())
    return tuple(found)


@lru_cache(maxsize=256)
def membership(u: int, more: int, chain: bool) -> Floats:
    """(u, k): 1 where a superset holds a model."""
    sets = supersets(u, more, chain)
    table = np.zeros((u, len(sets)))
    for column, models in enumerate(sets):
        table[list(models), column] = 1
    return table


def expected_max(samples: Floats, floor: Floats, sets: tuple[tuple[int, ...], ...]) -> Floats:
    """(r, k): the mean over draws of the best of floor[r], the best score at hand, and samples[r,u,s] of every set's models.

    floor is -inf where nothing was called. Sets come as `supersets` lists them.
    """
    r, _, s = samples.shape
    depth = max((len(models) for models in sets), default=0)
    best = np.empty((depth + 1, r, s), dtype=samples.dtype)
    best[0] = floor[:, None]
    mean = np.full(s, 1 / s, dtype=samples.dtype)
    value = np.empty((r, len(sets)))
    for column, models in enumerate(sets):
        top = np.maximum(best[len(models) - 1], samples[:, models[-1]], out=best[len(models)])
        value[:, column] = top @ mean if s > 1 else top[:, 0]
    return value if s == 1 else value.round(DIGITS)


@dataclass(frozen=True)
class Plans:
    """What r states do at every lambda, quality points a query gives up for a dollar.

    Events of state i are first[i] .. first[i+1], with falling knob: below knob[e] and down to the next one the model at position
    action[e] is called, or STAY. A state's first event is at infinity.
    """

    first: Ints  # (r + 1,)
    knob: Floats  # (e,)
    action: Ints  # (e,)

    def at(self, rows: Ints, lam: float) -> Ints:
        """(len(rows),): the action of these states at this lambda."""
        event, end = self.first[rows].copy(), self.first[rows + 1]
        while True:
            following = np.minimum(event + 1, len(self.knob) - 1)
            later = (event + 1 < end) & (self.knob[following] > lam)
            if not later.any():
                return self.action[event]
            event[later] += 1

    def joined(self, other: Plans) -> Plans:
        """These states, then the others."""
        first = np.concatenate([self.first, other.first[1:] + len(self.knob)])
        return Plans(first, np.concatenate([self.knob, other.knob]), np.concatenate([self.action, other.action]))


def plans(value: Floats, cost: Floats, head: Ints) -> Plans:
    """The upper hull of every state's sets: value[r,k] is E[max], cost[r,k] USD still to be paid, head[k] the action that begins each."""
    front = policy.frontier(value, cost, lowest=0.0)
    rows = np.arange(len(value))
    query = np.concatenate([rows, front.query])
    knob = np.concatenate([np.full(len(value), np.inf), front.knob])
    action = head[np.concatenate([front.start, front.after])]
    order = np.lexsort((-knob, query))
    query, knob, action = query[order], knob[order], action[order]
    # the frontier walks a row's hull in order, so an event that calls the same model as the one before changes nothing
    new = np.concatenate([[True], (query[1:] != query[:-1]) | (action[1:] != action[:-1])]) if len(query) else np.zeros(0, dtype=bool)
    first = np.concatenate([[0], np.cumsum(np.bincount(query[new], minlength=len(value)))])
    return Plans(first, knob[new], action[new])
