"""A check that needs no right answer: tests that the question brings, a form, a range of numbers. Runs here, for nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from routewright.core.contracts import Grader, Scorer
from routewright.core.types import Floats, InputError, Outcomes
from routewright.routers.signals.base import Base, answers, as_recorded, recorded, require_some


class Verifier(Base):
    """The grade in [0, 1] that a grader gives without a gold answer; NaN where there is no answer.

    grader: one with needs_gold=false. None: what collect.py recorded with grader@verifier=..., NaN where it recorded none. threads: at
    once, for graders that wait for a process.
    """

    def __init__(self, grader: Grader | None = None, threads: int = 4) -> None:
        self.grader, self.threads = grader, threads

    def _check(self, train: Outcomes) -> None:
        who = type(self).__name__
        if self.grader is None:
            require_some(recorded(train, "verifier", who), "verifier", who)
            return
        if self.grader.needs_gold:
            mend = "Say signal.grader.needs_gold=false, or choose a grader that can do without."
            raise InputError("a verifier has no right answer to compare with", expected="a grader that needs no gold", mend=mend)
        answers(train, who)

    def scorer(self) -> Scorer:
        """The recorded grade as it is. Raises InputError for a grader that runs here: its code cannot be a graph."""
        if self.grader is not None:
            mend = "Record its grades with collect.py grader@verifier=..., train with signal=verifier alone, and grade in the gateway."
            what = f"a verifier by {type(self.grader).__name__} cannot be exported: a grader is code, not a graph"
            raise InputError(what, expected="recorded grades", found="a grader", mend=mend)
        return as_recorded("verifier")

    def _score(self, outcomes: Outcomes) -> Floats:
        if self.grader is None:
            return recorded(outcomes, "verifier", type(self).__name__)
        grader, text = self.grader, outcomes.queries.text
        said = answers(outcomes, type(self).__name__)
        made = np.full(said.shape, np.nan)
        row, column = np.nonzero(said != None)  # noqa: E711 - elementwise

        def grade(i: int, j: int) -> float:
            return grader.grade(said[i, j], "", question=text[i])

        with ThreadPoolExecutor(self.threads) as pool:
            made[row, column] = list(pool.map(grade, row, column))
        return made
