"""Self-consistency: the share of the model's further samples that give the same answer (Wang et al. 2022, arXiv 2203.11171), by what the
grader reads in them or by their meaning (Kuhn et al. 2023, arXiv 2302.09664)."""

from __future__ import annotations

from routewright.core.contracts import Scorer
from routewright.core.types import Floats, InputError, Outcomes
from routewright.routers.signals.base import Bought, as_recorded

KINDS = {"same": "agreement", "most": "majority", "meaning": "meaning", "spread": "meaning_entropy"}


class Agreement(Bought):
    """As collect.py records it, in [0, 1], of spread <= 0. The first two compare what the grader extracts from each sample, the others the
    whole texts by an encoder: for free text, in which hardly two extracts are the same.

    kind: same, the share of samples that say what the answer says; most, the share of the commonest thing said, which is high too where
    the answer is not it; meaning, the share of samples that mean what the answer means; spread, minus the entropy of the meanings of the
    answer and its samples. Costs the samples: as recorded in usd_samples, or `each` answers of the model for every answer (say 5 for
    samples=5) where nothing was recorded. NaN for models that were not sampled.
    """

    usd = "usd_samples"

    def __init__(self, kind: str = "same", each: float | None = None) -> None:
        self.kind, self.each = kind, each

    def _name(self) -> str:
        if self.kind not in KINDS:
            raise InputError("unknown kind of agreement", expected="one of " + ", ".join(KINDS), found=repr(self.kind))
        return KINDS[self.kind]

    def scorer(self) -> Scorer:
        """The recorded number as it is; of the spread its negative."""
        return as_recorded(self._name(), negated=self.kind == "spread")

    def _score(self, outcomes: Outcomes) -> Floats:
        value = self._recorded(outcomes)
        return -value if self.kind == "spread" else value
