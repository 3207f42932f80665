"""A router that was trained on more models than are judged: the same router, seen through the judged models' columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from routewright.core.contracts import Router, State
from routewright.core.types import Floats, Predictions, Queries

if TYPE_CHECKING:
    import onnx

OWN = ("columns_", "columns_cost_")


class Columns:
    """`router` with the columns columns_[m] of its pool. Its costs are the judged data's, columns_cost_[m] USD, not its training's."""

    def __init__(self, router: Router, columns: Sequence[int] = (), cost: Floats | None = None) -> None:
        self.router = router
        self.columns_ = np.array(columns, dtype=np.int64)
        self.columns_cost_: Floats = np.full(len(self.columns_), np.nan) if cost is None else cost
        self.supervision, self.reads = router.supervision, router.reads

    def fit(self, train: Any, valid: Any = None, *, rng: np.random.Generator) -> Self:
        """Fits the router inside."""
        self.router.fit(train, valid, rng=rng)
        return self

    def predict(self, queries: Queries) -> Predictions:
        """quality[n,m] of the judged models, and their cost[n,m]."""
        quality = self.router.predict(queries).quality[:, self.columns_]
        return Predictions(quality, np.tile(self.columns_cost_, (len(quality), 1)))

    def state(self) -> State:
        """The router's own arrays, with columns_ and columns_cost_."""
        return {**self.router.state(), "columns_": self.columns_, "columns_cost_": self.columns_cost_}

    def load(self, state: Mapping[str, np.ndarray[Any, Any]]) -> Self:
        """The inverse of state()."""
        self.columns_, self.columns_cost_ = state["columns_"], state["columns_cost_"]
        self.router.load({name: value for name, value in state.items() if name not in OWN})
        return self

    def onnx(self) -> onnx.ModelProto:
        """The router's graph with its other columns left out."""
        from routewright.core.graph import columns

        return columns(self.router.onnx(), self.columns_)

    def tokenizer(self) -> str:
        """The tokenizer of a router that reads text."""
        inner: Any = self.router
        return str(inner.tokenizer())


def restored(router: Router, state: Mapping[str, np.ndarray[Any, Any]]) -> Router:
    """The fitted router of this state, seen through its columns where it was saved so."""
    return Columns(router).load(state) if OWN[0] in state else router.load(state)
