"""A student that remembers: the nearest training queries vote with what the teacher said to them."""

from __future__ import annotations

import numpy as np

from routewright.core.types import Floats, InputError, Ints
from routewright.routers.base import blocks
from routewright.routers.students.base import Base

VOTES = ("near", "count")


class KNN(Base):
    """The answer with most weight among the k nearest training queries by cosine; all that are as near as the k-th vote too.

    vote: near, a weight of exp((cosine - highest cosine) / temperature), or count, one each. Of two answers with equal weight the one
    commoner in training is given. confidence = w p / (w + doubt): p is the winner's share of the vote, w = exp((highest cosine - 1) /
    temperature) says how near the nearest is, so that one far neighbour alone is no certainty.
    """

    learned = ("memory_", "label_")
    memory_: Floats  # (N, d)
    label_: Ints  # (N,)

    def __init__(
        self,
        k: int = 10,
        vote: str = "near",
        temperature: float = 0.1,
        doubt: float = 0.1,
        usd_call: float = 1e-6,
        teacher: str | None = None,
    ) -> None:
        self.k, self.vote, self.temperature, self.doubt = k, vote, temperature, doubt
        self.usd_call, self.teacher = usd_call, teacher

    def _learn(self, vectors: Floats, label: Ints, rng: np.random.Generator) -> None:
        if self.vote not in VOTES:
            raise InputError("unknown vote of neighbours", where="student.vote", expected=" or ".join(VOTES), found=repr(self.vote))
        if self.k < 1 or not self.temperature > 0 or not self.doubt > 0:
            found = f"k={self.k}, temperature={self.temperature}, doubt={self.doubt}"
            raise InputError("impossible neighbours", expected="k >= 1, temperature > 0 and doubt > 0", found=found)
        self.memory_, self.label_ = vectors.copy(), label

    def _vote(self, vectors: Floats) -> tuple[Ints, Floats]:
        given, sure = np.empty(len(vectors), dtype=np.int64), np.empty(len(vectors))
        k, c = min(self.k, len(self.memory_)), len(self.ends_)
        for block in blocks(len(vectors), len(self.memory_)):
            cosine = (vectors[block] @ self.memory_.T).astype(np.float64)  # (block, N)
            highest = cosine.max(axis=1, initial=-1.0)
            row, column = np.nonzero(cosine >= np.partition(cosine, -k, axis=1)[:, -k, None])
            weight = np.ones(len(row))
            if self.vote == "near":
                weight = np.exp((cosine[row, column] - highest[row]) / self.temperature)
            # (row, answer) pairs that got any weight, the winner of each row last
            pair, inverse = np.unique(row * c + self.label_[column], return_inverse=True)
            votes = np.bincount(inverse, weight, len(pair))
            order = np.lexsort((-(pair % c), votes, pair // c))
            last = np.ones(len(order), dtype=bool)
            last[:-1] = np.diff(pair[order] // c) > 0
            best = order[last]
            near = np.exp((np.minimum(highest, 1.0) - 1) / self.temperature)
            given[block] = pair[best] % c
            sure[block] = votes[best] / np.bincount(row, weight, len(cosine)) * near / (near + self.doubt)
        return given, sure
