"""How likely the model itself held its answer: the recorded log-probability or entropy of the tokens. Free, where a backend gives it."""

from __future__ import annotations

import numpy as np

from routewright.core.contracts import Scorer
from routewright.core.types import Floats, InputError, Outcomes
from routewright.routers.signals.base import Base, as_recorded, recorded, require_some

KINDS = ("mean", "min", "span", "entropy")


class Logprob(Base):
    """Natural logarithms as collect.py records them. NaN for models whose backend gives none.

    kind: mean over the answer's tokens, min: the least likely token, span: mean over the tokens of what the grader extracted (NaN where
    the extract is in the grader's own words; fallback=true: then the mean), entropy: minus the mean entropy of the distributions that the
    tokens were taken from; a server's is a lower bound by its top alternatives, to be compared between answers with as many of them.
    """

    def __init__(self, kind: str = "mean", fallback: bool = True) -> None:
        self.kind, self.fallback = kind, fallback

    def _check(self, train: Outcomes) -> None:
        require_some(self._score(train), f"logprob_{self.kind}", type(self).__name__)

    def scorer(self) -> Scorer:
        """The recorded number as it is; of a span the mean where it is not known; of an entropy its negative."""
        self._known()
        if self.kind == "entropy":
            return as_recorded("logprob_entropy", negated=True)
        return as_recorded(f"logprob_{self.kind}", *(["logprob_mean"] if self.kind == "span" and self.fallback else []))

    def _known(self) -> None:
        if self.kind not in KINDS:
            raise InputError("unknown kind of log-probability", expected="one of " + ", ".join(KINDS), found=repr(self.kind))

    def _score(self, outcomes: Outcomes) -> Floats:
        self._known()
        value = recorded(outcomes, f"logprob_{self.kind}", type(self).__name__)
        if self.kind == "entropy":
            return -value
        if self.kind == "span" and self.fallback and "logprob_mean" in outcomes.signals:
            return np.where(np.isnan(value), outcomes.signals["logprob_mean"], value)
        return value
