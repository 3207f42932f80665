"""k nearest neighbours: the mean quality each model had on the most similar training queries."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from routewright.core.graph import Array
from routewright.core.types import Floats, InputError, Outcomes
from routewright.routers.base import Base, blocks, patterns

UNSEEN = -4.0  # added to the similarity of a row that a model was not observed on: below every cosine


class KNN(Base):
    """Cosine neighbours among unit rows; large k serves routing better than small (RouterBench, arXiv 2403.12031, and our own figures).

    k: neighbours, among the rows each model was observed on; all of them where there are fewer.
    weights: "uniform", or "distance" for a softmax of similarity / temperature over the neighbours.
    edge: in cosine; a row's weight falls from 1 at the k-th similarity to 0 this far below it, so neither the order of the training rows
    nor a rounding decides. With a sharp edge the last bit of an embedding swaps a neighbour, and the exported graph scores otherwise.
    One training row, or equal grades, give that grade for every query.
    """

    learned = ("memory_", "quality_")
    GRAPH = """
        similarity = MatMul(embedding, memory)
        layered = Unsqueeze(similarity, first)
        seen = Add(layered, hidden)
        nearest, rows = TopK(seen, k)
        best = ReduceMax <axes: ints = [-1]> (nearest)
        kth = ReduceMin <axes: ints = [-1]> (nearest)
        beyond = Sub(seen, kth)
        slope = Div(beyond, edge)
        height = Add(slope, one)
        counted = Clip(height, zero, one)
        gap = Sub(seen, best)
        scaled = Mul(gap, sharpness)
        kernel = Exp(scaled)
        weight = Mul(counted, kernel)
        part = MatMul(weight, grades)
        parts = MatMul(weight, observed)
        total = ReduceSum <keepdims: int = 0> (part, first)
        norm = ReduceSum <keepdims: int = 0> (parts, first)
        quality = Div(total, norm)
    """
    memory_: Floats  # (N, d) training embeddings
    quality_: Floats  # (N, m) their grades, NaN where not observed

    def __init__(self, k: int = 100, weights: str = "uniform", temperature: float = 0.1, edge: float = 2e-3) -> None:
        self.k, self.weights, self.temperature, self.edge = k, weights, temperature, edge

    def _learn(self, train: Outcomes, rng: np.random.Generator) -> None:
        if self.weights not in ("uniform", "distance"):
            raise InputError("unknown weights of neighbours", expected="uniform or distance", found=repr(self.weights))
        if self.k < 1 or not self.temperature > 0 or not self.edge > 0:
            found = f"k={self.k}, temperature={self.temperature}, edge={self.edge}"
            raise InputError("impossible neighbours", expected="k >= 1, temperature > 0 and edge > 0", found=found)
        rows = ~np.isnan(train.quality).all(axis=1)
        self.memory_ = train.queries.vectors()[rows].copy()
        self.quality_ = train.quality[rows].copy()

    def _tables(self) -> Mapping[str, Array]:
        distinct, of_model = patterns(self.quality_)  # (p, N), (m,)
        # (p, N, m): each model stands in the layer of its own pattern and is zero in the others, so that a sum over layers picks it
        observed = (distinct[:, :, None] & (of_model == np.arange(len(distinct))[:, None])[:, None, :]).astype(np.float32)
        return {
            "memory": self.memory_.T,
            "hidden": np.where(distinct, 0.0, UNSEEN).astype(np.float32)[:, None, :],  # (p, 1, N)
            "observed": observed,
            "grades": observed * np.nan_to_num(self.quality_),
            "k": np.array([min(self.k, len(self.memory_))]),
            "sharpness": np.array([self._sharpness()]),
            "edge": np.array([self.edge]),
            "zero": np.array(0.0),
            "one": np.array(1.0),
            "first": np.array([0]),
        }

    def _sharpness(self) -> float:
        return 0.0 if self.weights == "uniform" else 1.0 / self.temperature

    def _scores(self, embedding: Floats) -> Floats:
        tables = self._tables()
        k = int(tables["k"][0])
        scores = np.empty((len(embedding), self.quality_.shape[1]))
        for block in blocks(len(embedding), len(self.memory_)):
            similarity = embedding[block] @ tables["memory"]  # (block, N)
            total = norm = np.zeros(())
            for hidden, grades, observed in zip(tables["hidden"], tables["grades"], tables["observed"], strict=True):
                weight = self._weight(similarity + hidden, k)
                total, norm = total + weight @ grades, norm + weight @ observed
            scores[block] = total / norm
        return scores

    def _weight(self, seen: Floats, k: int) -> Floats:
        """Weight of every training row for every query of a block: 0 outside the neighbourhood. (block, N)"""
        kth = np.partition(seen, -k, axis=1)[:, -k, None]
        inside = np.clip((seen - kth) / np.float32(self.edge) + 1, 0, 1)
        gap = seen - seen.max(axis=1, keepdims=True)
        return inside * np.exp(np.float32(self._sharpness()) * gap)
