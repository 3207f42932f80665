"""How sure the model says it is, asked in a second prompt. Weak: AUROC .55 to .63 (Xiong et al. 2023, arXiv 2306.13063)."""

from __future__ import annotations

from routewright.routers.signals.base import Bought


class SelfReported(Bought):
    """In [0, 1], as collect.py reads it out of the reply; NaN where it held no confidence, and for models that were not asked.

    Costs the second prompt: as recorded in usd_self_reported, or `each` answers of the model where nothing was recorded.
    """

    usd = "usd_self_reported"

    def __init__(self, each: float | None = None) -> None:
        self.each = each

    def _name(self) -> str:
        return "self_reported"
