"""The optimal cascade: models in one order, from the cheapest on; after every answer the best number of further ones decides.

Dekoninck et al. 2024 (arXiv 2410.10347), section 3: cascade routing among the sets {M_1}, {M_1, M_2}, ... alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from routewright.core.arrays import column_means
from routewright.core.types import Ints, Outcomes
from routewright.routers.cascades.cascade_routing import CascadeRouting


class OptimalCascade(CascadeRouting):
    """As cascade routing, in a fixed order. front: leave out models that a cheaper one beats in mean quality; the paper keeps them."""

    chain = True

    def __init__(
        self,
        front: bool = True,
        depth: int | None = 6,
        shallower: bool = True,
        draws: int = 64,
        space: str = "logit",
        deviation: Any = None,
        pool: int = 40,
        shares: Any = None,
    ) -> None:
        super().__init__(depth, shallower, draws, space, deviation, pool, shares)
        self.front = front

    def _models(self, train: Outcomes) -> Ints:
        models = super()._models(train)
        if not self.front:
            return models
        quality = column_means(train.quality)[models]
        return models[np.concatenate([[True], quality[1:] > np.maximum.accumulate(quality)[:-1]])]
