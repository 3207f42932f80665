"""What cascade routing does in every state (a query, the models called, their scores), kept while the same queries are asked again.

A state's plan holds for every lambda, and so for every knob of a replay. Models are counted in order of rising mean cost; a set of called
models is the sum of 2^model. Shapes: n queries, m models, r states, u models not called, c models called.
"""

from __future__ import annotations

import hashlib
from threading import Lock

import numpy as np

from routewright.core.posterior import Posterior, best_known
from routewright.core.supersets import DIGITS, STAY, Plans, expected_max, membership, plans, supersets
from routewright.core.types import Floats, Ints

BLOCK = 512  # states worked on at once: their draws fit the processor's cache
LIMIT = 3_000_000  # states kept; beyond it all are forgotten


class States:
    """Plans for n queries with prior[n,m] and usd[n,m], USD that a call is expected to cost. chain: models are called in order alone."""

    def __init__(self, posterior: Posterior, prior: Floats, usd: Floats, *, depth: int, chain: bool) -> None:
        self.posterior, self.prior, self.usd, self.depth, self.chain = posterior, prior, usd, depth, chain
        self._centre = posterior.centre(prior)
        self._lock = Lock()  # threads of a gateway may ask for the same query at once
        self.forget()

    def forget(self) -> None:
        self.plans = Plans(np.zeros(1, dtype=np.int64), np.zeros(0), np.zeros(0, dtype=np.int8))
        self._known = np.zeros((0, self.prior.shape[1]), dtype=np.float32)  # the scores that each plan was made for, NaN: not called
        self._slot: dict[int, Ints] = {}  # for each set of called models, where each query's plan is, or -1

    def slots(self, rows: Ints, called: Ints, score: Floats) -> Ints:
        """Where in `plans` the states (rows[r], called[r] as a set) are, made where they are new. score[n,m] as seen."""
        members = bits(called, self.prior.shape[1])
        known = np.where(members, score[rows].astype(np.float32), np.float32(np.nan))
        found = self._find(rows, called)
        old = found >= 0
        if not np.array_equal(self._known[found[old]], known[old], equal_nan=True) or len(self._known) > LIMIT:
            self.forget()  # the same queries with other answers
            found = self._find(rows, called)
        new = np.flatnonzero(found < 0)
        if len(new):
            size = members[new].sum(axis=1)
            new = new[np.lexsort((called[new], size))]
            size = np.sort(size)
            for count in np.unique(size):
                some = new[size == count]
                for begin in range(0, len(some), BLOCK):
                    part = some[begin : begin + BLOCK]
                    self._keep(rows[part], called[part], known[part], self._plan(rows[part], called[part], members[part], score))
            found = self._find(rows, called)
        return found

    def plans_of(self, rows: Ints, called: Ints, score: Floats, lam: float) -> Ints:
        """(r,): what these states do at this lambda, a model or STAY."""
        if not len(rows):
            return np.zeros(0, dtype=np.int64)
        with self._lock:
            slots = self.slots(rows, called, score)
            return self.plans.at(slots, lam).astype(np.int64)

    def _find(self, rows: Ints, called: Ints) -> Ints:
        found = np.full(len(rows), -1, dtype=np.int64)
        for key, part in _grouped(called):
            if key in self._slot:
                found[part] = self._slot[key][rows[part]]
        return found

    def _keep(self, rows: Ints, called: Ints, known: Floats, made: Plans) -> None:
        at = len(self._known) + np.arange(len(rows))
        for key, part in _grouped(called):
            self._slot.setdefault(key, np.full(len(self.prior), -1, dtype=np.int32))[rows[part]] = at[part]
        self._known = np.concatenate([self._known, known])
        self.plans = self.plans.joined(made)

    def _plan(self, rows: Ints, called: Ints, members: np.ndarray, score: Floats) -> Plans:
        """The plans of states that have called equally many models, less than depth."""
        c = int(members[0].sum())
        u = members.shape[1] - c
        known = np.nonzero(members)[1].reshape(len(rows), c)
        rest = np.nonzero(~members)[1].reshape(len(rows), u)
        sets = supersets(u, self.depth - c, self.chain)
        samples, floor = self._samples(rows, called, known, rest, score), np.full(len(rows), -np.inf)
        if c:
            floor = best_known(score[rows], self.prior[rows], known)
        value = expected_max(samples, floor, sets)
        cost = np.take_along_axis(self.usd[rows], rest, axis=1) @ membership(u, self.depth - c, self.chain)
        head = np.array([models[0] for models in sets], dtype=np.int64)
        if c:  # to stay is a choice as well, and the cheapest; a gain in the last digit is rounding, and no reason to call
            value = np.where(value < floor[:, None] + 1.5 * 10.0**-DIGITS, floor[:, None], value)
            value, cost = np.column_stack([floor, value]), np.column_stack([np.zeros(len(rows)), cost])
            head = np.concatenate([[STAY], head])
        made = plans(value, cost, head)
        owner = np.repeat(np.arange(len(rows)), np.diff(made.first))
        action = np.where(made.action == STAY, STAY, rest[owner, made.action])
        return Plans(made.first, made.knob, action.astype(np.int8))

    def _samples(self, rows: Ints, called: Ints, known: Ints, rest: Ints, score: Floats) -> Floats:
        """(r, u, s) draws of the scores of the models not called."""
        centre = self._centre[rows]
        mean = np.take_along_axis(centre, rest, axis=1)
        seen = np.take_along_axis(score[rows], known, axis=1)
        gap = self.posterior.into(seen) - np.take_along_axis(centre, known, axis=1)
        gap = np.where(np.isnan(gap), 0.0, gap)  # an answer that was not looked at tells nothing
        exact = len(self.posterior.draws) == 1
        samples = np.empty((*rest.shape, len(self.posterior.draws)), dtype=np.float64 if exact else np.float32)
        for _, part in _grouped(called):
            weight, noise = self.posterior.condition(known[part[0]].tolist())
            samples[part] = (mean[part] + gap[part] @ weight.T)[:, :, None] + noise.T
        return self.posterior.out(samples)


def bits(called: Ints, m: int) -> np.ndarray:
    """(r, m) bool: who is in each set."""
    return np.asarray((called[:, None] >> np.arange(m)) & 1, dtype=bool)


def fingerprint(*arrays: np.ndarray) -> bytes:
    """Of the contents: changes whenever they do."""
    seen = hashlib.blake2b(digest_size=16)
    for array in arrays:
        seen.update(repr((array.shape, array.dtype.str)).encode() + np.ascontiguousarray(array).tobytes())
    return seen.digest()


def _grouped(called: Ints) -> list[tuple[int, Ints]]:
    """Each distinct set and the positions that have it."""
    if not len(called):
        return []
    order = np.argsort(called, kind="stable")
    begin = np.flatnonzero(np.append(True, np.diff(called[order]) != 0))
    return [(int(called[part[0]]), part) for part in np.split(order, begin[1:])]
