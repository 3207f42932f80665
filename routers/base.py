"""What routers share: the checks of their input, the predicted cost, saving and loading by name, the graph. A router need not inherit it.

A new router sets `learned` and `GRAPH`, and writes `_learn` and `_scores`. Shapes: n queries, m models, d dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from routewright.core.arrays import column_means
from routewright.core.graph import Array, head
from routewright.core.types import Battles, Bools, Floats, InputError, Ints, Outcomes, Predictions, Queries
from routewright.routers._stored import Stored

if TYPE_CHECKING:
    import onnx


BLOCK = 16_000_000  # numbers that a table of queries by training rows may hold at once: 64 MB


class Base(Stored):
    """fit, predict, state, load and onnx for a router whose scores are a function of the embedding.

    Every router predicts the mean cost that each model had in training: cost_[m] in USD, NaN where no cost was observed.
    """

    supervision = "outcomes"
    reads = "embedding"  # or "text": then queries need no embedding and the graph starts at tokens
    GRAPH = ""  # nodes from `embedding` to `quality` in ONNX's textual syntax; learned arrays go by their names
    cost_: Floats
    width_: Ints  # (1,) d, the dimensions it was fitted on

    def fit(self, train: Any, valid: Any = None, *, rng: np.random.Generator) -> Self:
        """Learns from encoded Outcomes; a router of battles takes Battles, or Outcomes: then it compares the pairs and keeps the costs.

        valid is not needed. Raises InputError for fewer than two models, no rows, no embedding, or a model that was never observed.
        """
        table = train
        if self.supervision == "battles" and isinstance(train, Outcomes):
            table = train.battles()
        self._check(table)
        self._learn(table, rng)
        if self.reads == "embedding":
            self.width_ = np.array([table.queries.vectors().shape[1]], dtype=np.int64)
        self.cost_ = mean_cost(train)
        return self

    def _check(self, table: Any) -> None:
        expected = Battles if self.supervision == "battles" else Outcomes
        if not isinstance(table, expected):
            raise InputError(
                f"{type(self).__name__} cannot learn from this",
                expected=expected.__name__,
                found=type(table).__name__,
                mend="Routers of outcomes need graded answers, not comparisons.",
            )
        if len(table.pool) < 2:
            raise InputError("a router needs two models to choose from", expected="at least 2 models", found=f"{len(table.pool)}")
        if not len(table):
            raise InputError("a router cannot learn from nothing", expected=f"at least one row of {expected.__name__}", found="0 rows")
        if self.reads == "embedding":
            vectors = table.queries.vectors()
            if not np.isfinite(vectors).all():
                row = int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])
                raise InputError("an embedding is not finite", where=f"row {row}", expected="finite numbers", found=str(vectors[row]))
        if isinstance(table, Outcomes):
            seen = (~np.isnan(table.quality)).sum(axis=0)
        else:
            seen = np.bincount(np.concatenate([table.a, table.b]), minlength=len(table.pool))
        require_seen(seen, table.pool.name)

    def _learn(self, train: Any, rng: np.random.Generator) -> None:
        """Sets every array named in `learned`."""
        raise NotImplementedError(f"{type(self).__name__} must write _learn")

    def _scores(self, embedding: Floats) -> Floats:
        """quality[n,m] of embedding[n,d]."""
        raise NotImplementedError(f"{type(self).__name__} must write _scores")

    def _tables(self) -> Mapping[str, Array]:
        """The arrays that GRAPH names."""
        return self.state()

    def _graph(self) -> str:
        return self.GRAPH

    def predict(self, queries: Queries) -> Predictions:
        """quality[n,m] and cost[n,m]. Raises InputError before fit, for queries without an embedding and for another encoder's width."""
        self._require_fitted()
        embedding = queries.vectors()
        if embedding.shape[1] != self.width_[0]:
            raise InputError(
                "these embeddings are not the ones this router was fitted on",
                expected=f"{self.width_[0]} dimensions",
                found=f"{embedding.shape[1]}",
                mend="Use the encoder that the run's manifest names.",
            )
        quality = self._scores(embedding)
        return Predictions(quality, np.tile(self.cost_, (len(quality), 1)))

    def onnx(self) -> onnx.ModelProto:
        """A graph from `embedding` float[batch,d] to `quality` float[batch,m]."""
        self._require_fitted()
        return head(self._graph(), {**self._tables(), "width_": self.width_})

    def _names(self) -> tuple[str, ...]:
        return (*self.learned, "cost_", *(("width_",) if self.reads == "embedding" else ()))


class Linear(Base):
    """A router whose scores are linear in the embedding: coef_[d,m] and bias_[m]."""

    learned = ("coef_", "bias_")
    GRAPH = """
        product = MatMul(embedding, coef_)
        quality = Add(product, bias_)
    """
    coef_: Floats
    bias_: Floats

    def _scores(self, embedding: Floats) -> Floats:
        return embedding.astype(np.float64) @ self.coef_ + self.bias_


def mean_cost(train: Outcomes | Battles) -> Floats:
    """[m]: mean observed cost of each model in USD, NaN where none was observed or battles carry none."""
    if train.cost is None:
        return np.full(len(train.pool), np.nan)
    return column_means(train.cost)


def require_seen(seen: Ints, names: tuple[str, ...], mend: str = "Give it graded rows, or leave it out with data.models=[...].") -> None:
    """Raises InputError that names every model with seen[m] = 0."""
    unseen = [name for name, count in zip(names, seen, strict=True) if not count]
    if unseen:
        raise InputError(
            "nothing is known about a model", where=", ".join(unseen), expected="at least one observation", found="0", mend=mend
        )


def patterns(quality: Floats) -> tuple[Bools, Ints]:
    """Which rows each model was observed on: distinct[p,n], and of_model[m], each model's pattern. One pattern where all is observed."""
    distinct, of_model = np.unique(~np.isnan(quality).T, axis=0, return_inverse=True)
    return distinct, of_model.reshape(-1)


def blocks(n: int, width: int) -> Iterator[slice]:
    """Slices of n rows such that rows times width stays within BLOCK; one empty slice where n is 0."""
    step = max(1, BLOCK // max(width, 1))
    for begin in range(0, max(n, 1), step):
        yield slice(begin, begin + step)
