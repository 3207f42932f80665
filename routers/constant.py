"""The mean quality of each model, whatever the query: what knowing the models but not the queries is worth."""

from __future__ import annotations

import numpy as np

from routewright.core.arrays import column_means
from routewright.core.types import Outcomes
from routewright.routers.base import Linear


class Constant(Linear):
    """Predicts each model's mean over the rows it was observed on. With policy=threshold all queries tie, as in a coin's routing."""

    def _learn(self, train: Outcomes, rng: np.random.Generator) -> None:
        self.coef_ = np.zeros((train.queries.vectors().shape[1], len(train.pool)), dtype=np.float32)
        self.bias_ = column_means(train.quality).astype(np.float32)
