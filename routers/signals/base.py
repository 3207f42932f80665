"""What signals share: the checks of their input, saving and loading by name, what a recorded signal is and costs. None need inherit it.

A new signal sets `learned` and writes `_score` and `scorer`, and `_learn` where it learns. Shapes: n queries, m models.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from routewright.core.contracts import Scorer
from routewright.core.types import Bools, Floats, InputError, Outcomes, Strings
from routewright.routers._stored import Stored
from routewright.routers.base import require_seen

# how collect.py comes to record a signal
HOW = {
    "logprob": "Collect with logprobs=true from a backend that gives them.",
    "logprob_entropy": "Collect with logprobs=true from local models, or from a server that gives alternatives: backend.top_logprobs=5.",
    "agreement": "Collect with samples=5.",
    "majority": "Collect with samples=5.",
    "meaning": "Collect with samples=5 encoder@meaning.encoder=minilm; recorded samples are compared without asking again.",
    "meaning_entropy": "Collect with samples=5 encoder@meaning.encoder=minilm; recorded samples are compared without asking again.",
    "self_reported": "Collect with self_report=scale or percent.",
    "verifier": "Collect with grader@verifier=..., or hand one in: +grader@signal.grader=...",
}


class Base(Stored):
    """fit, score, cost, state and load of a signal."""

    KIND = "signal"

    def fit(self, train: Outcomes, *, rng: np.random.Generator) -> Self:
        """Learns from graded answers, or checks that what it needs was recorded. Raises InputError where it was not, and without rows."""
        given: Any = train
        if not isinstance(given, Outcomes):
            mend = "Signals need graded answers, not comparisons."
            raise InputError(f"{type(self).__name__} cannot learn from this", expected="Outcomes", found=type(given).__name__, mend=mend)
        if not len(train):
            raise InputError("a signal cannot learn from nothing", expected="at least one row of Outcomes", found="0 rows")
        self._check(train)
        self._learn(train, rng)
        return self

    def score(self, outcomes: Outcomes) -> Floats:
        """[n,m] float64, higher means more likely right, NaN where it cannot tell. Raises InputError before fit."""
        self._require_fitted()
        return np.asarray(self._score(outcomes), dtype=np.float64)

    def cost(self, outcomes: Outcomes) -> Floats | None:
        """None: the score costs nothing beyond the answer."""
        return None

    def scorer(self) -> Scorer:
        raise NotImplementedError(f"{type(self).__name__} must write scorer")

    def _check(self, train: Outcomes) -> None:
        """Raises InputError where train lacks what the signal needs."""

    def _learn(self, train: Outcomes, rng: np.random.Generator) -> None:
        """Sets every array named in `learned`."""

    def _score(self, outcomes: Outcomes) -> Floats:
        raise NotImplementedError(f"{type(self).__name__} must write _score")


class Bought(Base):
    """A recorded signal that costs further calls. A subclass stores `each`, sets `usd` and writes _name."""

    usd = ""  # the recorded signal that holds what it cost
    each: float | None

    def _name(self) -> str:
        """The recorded signal's name."""
        raise NotImplementedError(f"{type(self).__name__} must write _name")

    def _check(self, train: Outcomes) -> None:
        require_some(self._recorded(train), self._name(), type(self).__name__)

    def _recorded(self, outcomes: Outcomes) -> Floats:
        return recorded(outcomes, self._name(), type(self).__name__)

    def _score(self, outcomes: Outcomes) -> Floats:
        return self._recorded(outcomes)

    def scorer(self) -> Scorer:
        """The recorded number as it is."""
        return as_recorded(self._name())

    def cost(self, outcomes: Outcomes) -> Floats | None:
        """[n,m] USD; 0 where nothing was bought. Raises InputError where a model's is not known."""
        return paid(outcomes, self.usd, self._recorded(outcomes), type(self).__name__, self.each)


class Learned(Base):
    """A signal that learns from graded answers: every model must have one, and the models scored later are those it learned from."""

    models_: np.ndarray[Any, Any]  # the models' names as bytes, one a line: a column means the same model ever after

    def _check(self, train: Outcomes) -> None:
        said = answers(train, type(self).__name__)
        told = ~np.isnan(train.quality) & (said != None)  # noqa: E711 - elementwise
        require_seen(told.sum(axis=0), train.pool.name)
        self.models_ = names_as_bytes(train.pool.name)

    def _answers(self, outcomes: Outcomes) -> Strings:
        """answer[n,m] of the models it was fitted on. Raises InputError for others."""
        if not np.array_equal(names_as_bytes(outcomes.pool.name), self.models_):
            raise InputError(
                f"{type(self).__name__} was fitted on other models",
                expected=self.models_.tobytes().decode().replace("\n", ", "),
                found=", ".join(outcomes.pool.name),
                mend="Fit it again, or give it those models in that order.",
            )
        return answers(outcomes, type(self).__name__)

    def _told(self, outcomes: Outcomes) -> Bools:
        """[n,m] where there is an answer."""
        return np.asarray(self._answers(outcomes) != None)  # noqa: E711 - elementwise


def names_as_bytes(names: Sequence[str]) -> np.ndarray[Any, Any]:
    """Names without line breaks as one array that safetensors keep."""
    return np.frombuffer("\n".join(names).encode(), dtype=np.uint8).copy()


def answers(outcomes: Outcomes, who: str) -> Strings:
    """answer[n,m], None where there is none. Raises InputError where no answers were recorded."""
    if outcomes.answer is None:
        mend = "Take data with the models' answers, name their column (data.answer=...), or collect them with collect.py."
        raise InputError(f"{who} reads answers, and there are none", expected="the text of every answer", found="grades alone", mend=mend)
    return outcomes.answer


def recorded(outcomes: Outcomes, name: str, who: str) -> Floats:
    """A recorded signal [n,m], NaN where one cell has none. Raises InputError where it was not recorded at all."""
    if name not in outcomes.signals:
        raise InputError(
            f"{who} needs the recorded signal {name!r}",
            expected=name,
            found=", ".join(outcomes.signals) or "no signals",
            mend=_how(name),
        )
    return outcomes.signals[name]


def as_recorded(*names: str, negated: bool = False) -> Scorer:
    """The scorer of a signal that is the first of these recorded numbers which is there, or its negative."""
    from routewright.core.scorer_graph import given

    return Scorer({"kind": "recorded", "recorded": list(names)}, given(negated=negated))


def require_some(value: Floats, name: str, who: str) -> None:
    """Raises InputError where a recorded signal is NaN everywhere; where only some models have it, theirs is used."""
    if np.isnan(value).all():
        raise InputError(
            f"{who} finds no value of the signal {name!r}", expected="a number for some answer", found="NaN alone", mend=_how(name)
        )


def _how(name: str) -> str:
    return HOW[name if name in HOW else "logprob"]


def paid(outcomes: Outcomes, name: str, score: Floats, who: str, each: float | None = None) -> Floats:
    """[n,m] USD of a bought signal: as recorded under `name`, where a cell's is not known the model's mean; 0 where nothing was bought.

    each: what one costs in answers of that model, where nothing was recorded. Raises InputError where there is neither.
    """
    usd = outcomes.signals[name].astype(np.float64) if name in outcomes.signals else np.full(score.shape, np.nan)
    if each is not None:
        usd = np.where(np.isnan(usd), each * outcomes.cost, usd)
    bought = ~np.isnan(score)
    known = bought & ~np.isnan(usd)
    mean = np.where(known, usd, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    unknown = np.flatnonzero(bought.any(axis=0) & ~known.any(axis=0))
    if len(unknown):
        raise InputError(
            f"what {who} costs is not known",
            where=outcomes.pool.name[unknown[0]],
            expected=f"the recorded signal {name!r}, in USD",
            found="nothing",
            mend="Collect with prices=..., or say what it costs in answers: signal.each=...",
        )
    return np.where(bought, np.where(np.isnan(usd), mean, usd), 0.0)
