"""Routing as a cascade of one call: the model with the best prior - lambda * predicted cost, lambda chosen for every budget.

Dekoninck et al. 2024 (arXiv 2410.10347), section 2, without their mixing at ties: equal worth goes to the cheaper model.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from routewright.core.contracts import PRIOR, USD_PRIOR
from routewright.core.posterior import Posterior
from routewright.core.types import Floats
from routewright.routers.cascades.cascade_routing import CascadeRouting


class Routing(CascadeRouting):
    """Cascade routing of depth 1, which needs no score: what is served is what was predicted to be best."""

    needs: Sequence[str] = (PRIOR, USD_PRIOR)

    def __init__(self, pool: int = 40, shares: Sequence[float] | None = None) -> None:
        super().__init__(depth=1, shallower=False, draws=1, space="identity", pool=pool, shares=shares)

    def _posterior(self, prior: Floats, score: Floats, rng: np.random.Generator) -> Posterior:
        m = prior.shape[1]
        return Posterior("identity", np.zeros(m), np.ones(m), np.zeros((m, m)), np.zeros((1, m)))
