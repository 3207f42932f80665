"""One query on its way through a cascade: whom to ask next, what was learned of the answers, who is served. Numpy alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from routewright.core.contracts import PRIOR, SAID, SCORE, STOP, USD_PRIOR, Rule
from routewright.core.feeds import Query, Recorded, Scoring
from routewright.core.types import Bools, Floats, InputError

Said = Callable[[str], str | None]


class Served(NamedTuple):
    """Whose answer is used. score: the chance that it is right, None where no score was looked at."""

    model: str
    answer: str | None
    score: float | None


@dataclass(frozen=True, eq=False)
class Point:
    """A named operating point: the rule, and what it takes to follow it. usd[m]: expected USD of a call, NaN where not known.

    usd_score[m]: of a score, None where scores are free; usd_prior[m]: the predicted USD that the rule reads; said: the part of an answer
    that counts, needed where the rule reads it.
    """

    name: str
    rule: Rule
    models: tuple[str, ...]
    usd: Floats
    scoring: Scoring | None = None
    usd_score: Floats | None = None
    usd_prior: Floats | None = None
    said: Said | None = None

    def start(self, query: Query) -> Asking:
        """Nobody asked yet. Raises InputError where the rule stops before its first call."""
        m = len(self.models)
        unknown = np.full(m, np.nan, dtype=np.float32)
        return _placed(Asking(self, query, np.zeros(m, dtype=bool), unknown, unknown))


@dataclass(frozen=True, eq=False)
class Asking:
    """A state, never changed: `answered` gives the next one, so that a state may be kept, retried from and shared by threads.

    called[m], score[m] and said[m] are float32 as a replay has them; answers and order are of the models asked, parts the distinct things
    said so far, in which said[m] counts. upcoming: the column to call, or STOP.
    """

    point: Point
    query: Query
    flags: Bools
    score: Floats
    codes: Floats
    order: tuple[int, ...] = ()
    answers: tuple[str | None, ...] = ()
    parts: tuple[str, ...] = ()
    looked: tuple[bool, ...] = ()
    upcoming: int = field(default=STOP)

    @property
    def next(self) -> str | None:
        """The model to call now; None once an answer is served."""
        return None if self.upcoming == STOP else self.point.models[self.upcoming]

    @property
    def called(self) -> tuple[str, ...]:
        """The models asked so far, in order."""
        return tuple(self.point.models[j] for j in self.order)

    @property
    def scores(self) -> dict[str, float]:
        """The chance that an answer is right, by model, of those that were looked at."""
        return {self.point.models[j]: float(self.score[j]) for j, seen in zip(self.order, self.looked, strict=True) if seen}

    @property
    def looks(self) -> bool:
        """Whether the score of the answer to come is looked at; the further calls that it costs (samples, say) are to be made only then."""
        if self.upcoming == STOP or SCORE not in self.point.rule.needs:
            return False
        after = self.flags.copy()
        after[self.upcoming] = True
        return self.point.usd_score is None or bool(self.point.rule.looks(after[None, :], np.array([self.upcoming]))[0])

    @property
    def expected_usd(self) -> float | None:
        """What the calls and scores so far are expected to cost, by the bundle's means; None where a model's cost is not known."""
        usd = sum(float(self.point.usd[j]) for j in self.order)
        if self.point.usd_score is not None:
            usd += sum(float(self.point.usd_score[j]) for j, seen in zip(self.order, self.looked, strict=True) if seen)
        return usd if np.isfinite(usd) else None

    @property
    def served(self) -> Served:
        """Whose answer is used. Raises InputError while a model is still to be called."""
        if self.upcoming != STOP:
            mend = "Call it, and hand its answer to answered(...)."
            raise InputError("no answer is served yet", expected="all answers", found=f"{self.next!r} still to be called", mend=mend)
        model = int(self.point.rule.select(self.flags[None, :], self._signals())[0])
        score = float(self.score[model])
        return Served(self.point.models[model], self.answers[self.order.index(model)], None if np.isnan(score) else score)

    @property
    def reason(self) -> str:
        """In a line: who is asked next and after how many, or who is served, out of how many, and how sure that is."""
        asked = f"after {len(self.order)} of {len(self.point.models)} models"
        if self.upcoming != STOP:
            return f"{self.point.name}: asks {self.next}" + (f" {asked}" if self.order else " first")
        served = self.served
        sure = "" if served.score is None else f", right with a chance of {served.score:.2f} by its own score"
        return f"{self.point.name}: serves {served.model} {asked}{sure}"

    def answered(self, answer: str | None, recorded: Recorded | None = None) -> Asking:
        """The state after `next` has answered; None: it gave no answer. recorded: log-probabilities and the like of that answer, by name.

        Raises InputError where nobody is to be called, and where a number that the score rests on was not handed in.
        """
        said = self.point.said
        part = None if answer is None or said is None or SAID not in self.point.rule.needs else said(answer)
        return self.answered_as(answer, part, recorded)

    def answered_as(self, answer: str | None, part: str | None, recorded: Recorded | None = None) -> Asking:
        """As `answered`, with the part of the answer that counts given."""
        model = self.upcoming
        if model == STOP:
            raise InputError("nobody is to be called any more", expected="an answer of `next`", found="next is None")
        flags, score, codes = self.flags.copy(), self.score.copy(), self.codes.copy()
        flags[model], looks, parts = True, self.looks, self.parts
        if looks:
            assert self.point.scoring is not None
            score[model] = self.point.scoring(self.query, model, answer, recorded or {})
        if part is not None:
            parts = parts if part in parts else (*parts, part)
            codes[model] = parts.index(part)
        after = replace(self, flags=flags, score=score, codes=codes, parts=parts)
        return _placed(
            replace(after, order=(*self.order, model), answers=(*self.answers, answer), looked=(*self.looked, looks)),
        )

    def _signals(self) -> dict[str, Floats]:
        """(1, m) float32 of every signal that the rule reads."""
        point = self.point
        every = {PRIOR: self.query.prior, USD_PRIOR: point.usd_prior, SCORE: self.score, SAID: self.codes}
        return {name: np.asarray(every[name], dtype=np.float32).reshape(1, -1) for name in point.rule.needs}


def _placed(asking: Asking) -> Asking:
    """With whom to call next."""
    upcoming = int(asking.point.rule.step(asking.flags[None, :], asking._signals())[0])
    if upcoming == STOP and not asking.order:
        raise InputError("a cascade stopped before its first call", where=asking.point.name, expected="a model to call", found="none")
    if upcoming != STOP and asking.flags[upcoming]:
        raise InputError(
            "a cascade called a model twice", where=asking.point.name, expected="another model", found=asking.point.models[upcoming]
        )
    return replace(asking, upcoming=upcoming)


def played(asking: Asking, answers: Sequence[str | None], parts: Sequence[str | None], recorded: Sequence[Recorded]) -> Asking:
    """The end of it, where answers[m], the parts that count and what is recorded of every model's are known beforehand."""
    while asking.next is not None:
        model = asking.upcoming
        asking = asking.answered_as(answers[model], parts[model], recorded[model])
    return asking


def told(asking: Asking) -> dict[str, Any]:
    """What a golden vector holds of a finished one."""
    return {"calls": list(asking.called), "served": asking.served.model}


class Scene(NamedTuple):
    """A golden vector's answers of m models, what counts of each, and what is recorded with each."""

    answers: list[str]
    parts: list[str | None]
    recorded: list[Recorded]


def scene(item: Mapping[str, Any], texts: Sequence[str]) -> Scene:
    """The scene of one entry of bundle.json's `golden`; texts: of all entries."""
    answers = [texts[place] for place in item["answers"]]
    recorded: list[Recorded] = [{name: row[j] for name, row in item["recorded"].items()} for j in range(len(answers))]
    return Scene(answers, list(item["said"]), recorded)
