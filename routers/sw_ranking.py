"""RouteLLM's similarity-weighted ranking: a Bradley-Terry fit for every query, on battles weighted by likeness (arXiv 2406.18665, 4.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from routewright.core.graph import Array
from routewright.core.types import Battles, Floats, InputError, Ints, Queries
from routewright.routers import _bradley_terry
from routewright.routers._tiers import tiers
from routewright.routers.base import Base, blocks

if TYPE_CHECKING:
    from scipy.sparse import csr_array

# The published S divides by the largest cosine, which turns the order of the battles round where that is negative. Below this it is
# divided by this instead: the same formula above, no jump at it, and the nearest battle always weighs most.
LEAST_COSINE = 0.01


class SWRanking(Base):
    """For every query a battle weighs base ** S, S its query's cosine over the largest; who wins is fitted on tiers of models.

    base: how much more the nearest battle counts than one at cosine 0; 10 is the published one.
    tiers: at most so many groups of models alike in rating, with one strength each; as many models or fewer stand for themselves.
    within: what a battle between two models of one tier says: "drop" nothing; "published" what the authors' code makes of it, a battle
    of b's tier against a player of strength 0, who has a's part.
    A tie is half a win each way; a battle's own weight counts as so many battles. predict gives the strength of a model's tier in log
    odds, with mean 0 over the models: P(a beats b) = sigmoid(quality_a - quality_b). Strengths are finite whatever was fought: see
    _bradley_terry.PRIOR. Queries with the same embedding share a row of memory; lengths of embeddings do not matter.
    """

    supervision = "battles"
    learned = ("memory_", "row_", "begin_", "wins_", "tier_", "strength_")
    GRAPH = """
        similarity = MatMul(embedding, memory)
        closest = ReduceMax <axes: ints = [-1]> (similarity)
        behind = Sub(similarity, closest)
        scale = Max(closest, least_cosine)
        relative = Div(behind, scale)
        exponent = Mul(relative, sharpness)
        weight = Exp(exponent)
        wins = MatMul(weight, fought)
        {fit}
        wide = Cast <to = 11> (centred)
        scores = MatMul(strength, wide)
        narrow = Cast <to = 1> (scores)
        quality = Reshape(narrow, by_model)
    """
    memory_: Floats  # (u, d) the distinct queries of the battles, unit rows
    begin_: Ints  # (p * p + 1,) where the wins of each (winner, loser) begin in the two below
    row_: Ints  # (k,) of memory_
    wins_: Floats  # (k,) how much was won there, the heaviest battle being 1
    tier_: Ints  # (m,) 0 the best
    strength_: Floats  # (p,) without similarity; p is the number of tiers, and one more where within="published" needs it

    def __init__(self, base: float = 1e3, tiers: int = 10, within: str = "drop") -> None:
        self.base, self.tiers, self.within = base, tiers, within

    def win_rate(self, queries: Queries, a: int, b: int) -> Floats:
        """[n]: P(model a beats model b) on each query."""
        return _bradley_terry.win_rate(self.predict(queries).quality, a, b)

    def _learn(self, train: Battles, rng: np.random.Generator) -> None:
        self._require_possible()
        assert train.weight is not None
        weight = train.weight.astype(np.float64) / train.weight.max()
        rating = _bradley_terry.strengths(_table(train.a, train.b, train.outcome, weight, len(train.pool))[None])[0]
        self.tier_ = tiers(rating, self.tiers)
        used, of_battle = np.unique(train.query, return_inverse=True)
        self.memory_, of_query = _distinct(train.queries.vectors()[used])
        a, b, p = self._players(train)
        self.strength_ = _bradley_terry.strengths(_table(a, b, train.outcome, weight, p)[None])[0]
        u, won = len(self.memory_), train.outcome.astype(np.float64)
        place = np.concatenate([a * p + b, b * p + a]) * u + np.tile(of_query[of_battle], 2)  # (winner, loser), then row
        amount = np.concatenate([won, 1 - won]) * np.tile(weight, 2)
        kept, of_place = np.unique(place[amount > 0], return_inverse=True)
        self.wins_ = np.bincount(of_place, amount[amount > 0]).astype(np.float64)
        self.row_ = (kept % u).astype(np.int64)
        self.begin_ = np.searchsorted(kept, np.arange(p * p + 1) * u).astype(np.int64)

    def _require_possible(self) -> None:
        if self.within not in ("drop", "published"):
            raise InputError("unknown treatment of battles within a tier", expected="drop or published", found=repr(self.within))
        if not (1 <= self.base < np.inf and self.tiers >= 2):
            found = f"base={self.base}, tiers={self.tiers}"
            raise InputError("impossible ranking", expected="a finite base of at least 1, and at least 2 tiers", found=found)

    def _players(self, train: Battles) -> tuple[Ints, Ints, int]:
        """Who stands for a[b] and for b[b], and how many there are."""
        a, b, p = self.tier_[train.a], self.tier_[train.b], int(self.tier_.max()) + 1
        inside = a == b
        if self.within == "drop" or not inside.any():
            return a, b, p  # a tier against itself stands on the diagonal, where it says nothing
        return np.where(inside, p, a), b, p + 1

    def _centred(self) -> Floats:
        """(p, m): strengths of players to those of models with mean 0."""
        own = (np.arange(len(self.strength_))[:, None] == self.tier_).astype(np.float64)
        return own - own.mean(axis=1, keepdims=True)

    def _fought(self) -> csr_array:
        """(p * p, u): wins_ by (winner, loser) and row of memory."""
        from scipy.sparse import csr_array

        return csr_array((self.wins_, self.row_, self.begin_), shape=(len(self.begin_) - 1, len(self.memory_)))

    def _scores(self, embedding: Floats) -> Floats:
        fought, centred, p = self._fought(), self._centred(), len(self.strength_)
        scores = np.empty((len(embedding), len(self.tier_)))
        for block in blocks(len(embedding), 3 * len(self.memory_)):  # once in float32, once in float64
            wins = (fought @ self._weight(embedding[block]).astype(np.float64)).T.reshape(-1, p, p)
            scores[block] = _bradley_terry.strengths(wins, self.strength_) @ centred
        return scores

    def _weight(self, embedding: Floats) -> Floats:
        """(u, n) float32: base ** (S - 1), which differs from the published 10 * base ** S by a factor that changes nothing."""
        table = self.memory_ @ embedding.T
        closest = table.max(axis=0)
        table -= closest
        table *= np.float32(np.log(self.base)) / np.maximum(closest, np.float32(LEAST_COSINE))
        weight: Floats = np.exp(table, out=table)
        return weight

    def _graph(self) -> str:
        return self.GRAPH.format(fit=_bradley_terry.graph(len(self.strength_)))

    def _tables(self) -> Mapping[str, Array]:
        return {
            "memory": self.memory_.T,
            "fought": self._fought().toarray().T,
            "start": (self.strength_ - self.strength_[-1])[None],
            "centred": self._centred(),
            "by_model": np.array([-1, len(self.tier_)]),  # what comes out of a loop has no shape of its own
            "least_cosine": np.array(LEAST_COSINE),
            "sharpness": np.array(np.log(self.base)),
        }


def _table(a: Ints, b: Ints, outcome: Floats, weight: Floats, p: int) -> Floats:
    """wins[p,p] of all battles."""
    won = np.bincount(a * p + b, outcome * weight, p * p) + np.bincount(b * p + a, (1 - outcome) * weight, p * p)
    return won.astype(np.float64).reshape(p, p)


def _distinct(vectors: Floats) -> tuple[Floats, Ints]:
    """The distinct directions as unit rows, and which of them each vector has. A vector of zeros stays one."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = np.ascontiguousarray(vectors / np.where(length > 0, length, 1) + np.float32(0))  # -0 and 0 are one number
    rows = unit.view(np.dtype((np.void, unit.itemsize * unit.shape[1])))[:, 0]
    _, first, of_vector = np.unique(rows, return_index=True, return_inverse=True)
    return unit[first], of_vector
