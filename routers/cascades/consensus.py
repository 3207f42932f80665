"""Asks the next model until the answers bought so far, weighed by their scores, make one answer sure enough; that answer is served.

Agreement cascades count votes and FrugalGPT trusts one score; here every answer votes with the odds that it is right. If model j is right
with chance p_j, its score, and else says one of K wrong answers, the chance that answer c is the right one is proportional to the product
of p_j over the models that say c and of (1 - p_j) / K over those that do not (Dawid and Skene 1979 with one K; that all are wrong stands
against them). With one answer that is its score.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from routewright.core.contracts import SAID, SCORE, STOP, USD_SCORE
from routewright.core.rules import Beliefs
from routewright.core.types import Bools, Floats, InputError, Ints, Outcomes, Queries
from routewright.core.votes import beliefs
from routewright.routers.cascades._front_search import Search
from routewright.routers.cascades.base import Base, best_within, padded, unpadded

CELLS = 4096  # combinations of thresholds tried for a list
ALIKE = 50.0  # pairs of wrong answers, one of them alike, that the estimate of K begins with


class _Tried(NamedTuple):
    """A list with its thresholds, and its mean cost in USD and expected quality on the training rows."""

    cost: float
    quality: float
    models: tuple[int, ...]
    thresholds: tuple[float, ...]


class Consensus(Base):
    """A list of models, from the cheapest on, with a threshold on the belief after each, for every budget.

    max_length: of a list. doubt: the number of training queries on which grades and beliefs weigh the same in the expected quality that
    lists and thresholds are chosen by; 0: the grades alone. On few queries the best of so many lists by the grades owes much to luck, on
    many the beliefs owe more to models that err together.
    """

    needs = (SCORE, SAID)
    learned = ("lists_", "thresholds_", "wrong_")
    lists_: Ints  # (k, longest) model columns, padded with NOBODY
    thresholds_: Floats  # (k, longest - 1) padded with NaN
    wrong_: Floats  # (1,) K, the wrong answers that a model that errs chooses among

    def __init__(self, max_length: int = 4, doubt: float = 800.0) -> None:
        self.max_length, self.doubt = max_length, doubt

    def _learn(self, train: Outcomes, rng: np.random.Generator) -> None:
        if self.max_length < 1 or not self.doubt >= 0:
            found = f"max_length={self.max_length}, doubt={self.doubt:g}"
            raise InputError("impossible lists", expected="max_length >= 1, doubt >= 0", found=found)
        self.wrong_ = np.array([_wrong_answers(train.signals[SAID], train.quality)])
        tried = list(self._tried(train))
        best = best_within(np.array([row.cost for row in tried]), np.array([row.quality for row in tried]), self.budgets())
        self.lists_ = padded([tried[row].models for row in best])
        self.thresholds_ = np.full((len(best), max(self.lists_.shape[1] - 1, 1)), np.nan)
        for point, row in enumerate(best):
            self.thresholds_[point, : len(tried[row].thresholds)] = tried[row].thresholds

    def _tried(self, train: Outcomes) -> Iterator[_Tried]:
        """The best thresholds of every list, for every budget."""
        quality, rows = train.quality.astype(np.float64), np.arange(len(train))
        known: dict[tuple[int, ...], tuple[Floats, Floats]] = {}  # lists begin alike
        for length in range(1, min(self.max_length, len(self.cost_)) + 1):
            for models in combinations(self.order_.tolist(), length):
                belief, worth = np.empty((len(rows), length)), np.empty((len(rows), length))
                for depth in range(length):
                    if models[: depth + 1] not in known:
                        known[models[: depth + 1]] = self._served(train.signals, quality, models[: depth + 1])
                    belief[:, depth], worth[:, depth] = known[models[: depth + 1]]
                paid = train.cost if length == 1 or USD_SCORE not in train.signals else train.cost + train.signals[USD_SCORE]
                yield from _thresholds(models, belief, worth, paid[:, models])

    def _served(self, signals: Mapping[str, Floats], quality: Floats, models: tuple[int, ...]) -> tuple[Floats, Floats]:
        """belief[n] in the answer that would be served after these models, and what it is expected to be worth."""
        believed = self._beliefs(signals, models)
        place, rows = believed.argmax(axis=1), np.arange(len(quality))
        belief, graded = believed[rows, place], quality[rows, np.array(models)[place]]
        trust = self.doubt / (self.doubt + len(quality))
        return belief, (1 - trust) * graded + trust * belief

    def _beliefs(self, signals: Mapping[str, Floats], models: Sequence[int]) -> Floats:
        """[n,L] the chance that each answer of these models is right, given all of them."""
        return beliefs(signals[SCORE][:, list(models)], signals[SAID][:, list(models)], float(self.wrong_[0]))

    def step(self, queries: Queries, called: Bools, signals: Mapping[str, Floats], *, knob: float) -> Ints:
        """As the rule says. A replay asks all who still run equally often: who was asked less often has stopped, and needs no beliefs."""
        depth, rule = called.sum(axis=1), self.rule(knob)
        running = depth == depth.max(initial=0)
        if running.all():
            return rule.step(called, signals)
        chosen = np.full(len(called), STOP, dtype=np.int64)
        chosen[running] = rule.step(called[running], {name: signals[name][running] for name in rule.needs})
        return chosen

    def rule(self, knob: float) -> Beliefs:
        """The list of the dearest prepared budget that this one can pay for, and its thresholds."""
        row = self.place(knob)
        models = unpadded(self.lists_[row])
        return Beliefs(models, self.thresholds_[row, : len(models) - 1], float(self.wrong_[0]), self.cost_)


def _thresholds(models: tuple[int, ...], belief: Floats, worth: Floats, cost: Floats) -> Iterator[_Tried]:
    """The best thresholds on a lattice of about CELLS, for every budget: belief, worth and cost of what each stage would serve, [n,L]."""
    length = len(models)
    search = Search(belief, worth, cost, cost, longest=length, cells=CELLS, tolerance=0.0, effort=0, beam=0)
    if length == 1:
        search.single(0)
    else:
        most = max(2, int(CELLS ** (1 / (length - 1)) + 1e-9))
        search.look(tuple(range(length - 1)), [search.edges(stage, most) for stage in range(length - 1)], (length - 1,))
    found = search.front() if search.kept else None
    for cost_, gain, rank in zip(found.cost, found.quality, found.rank, strict=True) if found else ():
        taus = tuple(float(search.values[stage][rank[stage]]) for stage in range(length - 1))
        yield _Tried(float(cost_), float(gain), models, taus)


def _wrong_answers(said: Floats, quality: Floats) -> float:
    """K: one over the share of pairs of wrong answers to the same query that are alike; ALIKE pairs with one alike are added."""
    wrong = (quality < 0.5) & ~np.isnan(said)
    pairs, alike = ALIKE, 1.0
    for a, b in combinations(range(said.shape[1]), 2):
        both = wrong[:, a] & wrong[:, b]
        pairs, alike = pairs + float(both.sum()), alike + float((said[both, a] == said[both, b]).sum())
    return max(pairs / alike, 1.0)
