"""Self-consistency: the share of the model's further samples that give the same answer (Wang et al. 2022, arXiv 2203.11171)."""

from __future__ import annotations

from routewright.core.types import InputError
from routewright.routers.signals.base import Bought

KINDS = {"same": "agreement", "most": "majority"}


class Agreement(Bought):
    """In [0, 1], as collect.py records it: what the grader extracts from each sample is compared, whatever its wording.

    kind: same, the share of samples that say what the answer says; most, the share of the commonest thing said, which is high too where
    the answer is not it. Costs the samples: as recorded in usd_samples, or `each` answers of the model for every answer (say 5 for
    samples=5) where nothing was recorded. NaN for models that were not sampled.
    """

    usd = "usd_samples"

    def __init__(self, kind: str = "same", each: float | None = None) -> None:
        self.kind, self.each = kind, each

    def _name(self) -> str:
        if self.kind not in KINDS:
            raise InputError("unknown kind of agreement", expected="one of " + ", ".join(KINDS), found=repr(self.kind))
        return KINDS[self.kind]
