"""The signals a cascade decides by, for rows that their scorers have not seen: fitted over inner folds, calibrated on what was held out.

Thresholds chosen on scores of the scorer's own training rows are chosen on scores that are too good. So each training row is scored by a
scorer fitted on the others, those scores are turned into chances on these rows, and the scorer of all training rows goes through the same
calibration (scikit-learn's CalibratedClassifierCV with ensemble=False does likewise). No row is lost to a split of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from routewright.core.contracts import PRIOR, SAID, SCORE, USD_PRIOR, USD_SCORE, Router, Signal, Student
from routewright.core.probability import Probability
from routewright.core.text import normalise, numbered
from routewright.core.types import Floats, InputError, Ints, Outcomes, Predictions
from routewright.eval.crossfit import Learn, fit_one, own

HELD_OUT = 0.3  # of the training texts, where one split stands for the inner folds


@dataclass(frozen=True, eq=False)
class Makers:
    """What a cascade's signals are made by; each call makes a fresh one.

    router: whose predictions are `prior`. signal: whose scores are `score`. said: the part of an answer that counts, None for none.
    student: one more model of the pool, which learns from another one's answers (eval/students.py).
    folds: inner folds; 1: the scorer learns from 70 % of the training texts and the cascade from the rest, for scorers that train for long.
    method: of the score's calibration, as core/probability.py has it.
    """

    router: Callable[[], Router]
    signal: Callable[[], Signal | None]
    said: Callable[[str], str | None]
    folds: int = 5
    method: str = "auto"
    learn: Learn = own
    student: Callable[[], Student] | None = None

    def __post_init__(self) -> None:
        if self.folds < 1:
            raise InputError("impossible number of inner folds", expected="folds >= 1", found=str(self.folds))


@dataclass(frozen=True, eq=False)
class Scorers:
    """The fitted router and signal with what turns their scores into chances; neither where the cascade reads nothing of it."""

    needs: Sequence[str]
    said: Callable[[str], str | None]
    router: Router | None
    prior: Probability | None
    signal: Signal | None
    score: Probability | None

    def state(self) -> dict[str, np.ndarray[Any, Any]]:
        """Every array of the four, by name."""
        parts: Mapping[str, Any] = {"router": self.router, "prior": self.prior, "signal": self.signal, "score": self.score}
        return {f"{name}.{key}": value for name, part in parts.items() if part is not None for key, value in part.state().items()}

    def __call__(self, outcomes: Outcomes) -> Outcomes:
        """The same outcomes with the cascade's signals, as for queries that nothing was learned from."""
        predictions = None if self.router is None else self.router.predict(outcomes.queries)
        return self.beside(outcomes, predictions, None if self.signal is None else self.signal.score(outcomes))

    def beside(self, outcomes: Outcomes, predictions: Predictions | None, score: Floats | None) -> Outcomes:
        """The outcomes with their signals, made of the router's predictions and the signal's raw scores for these rows."""
        signals: dict[str, Floats] = {}
        if self.prior is not None and predictions is not None:
            signals |= {PRIOR: self.prior(predictions.quality), USD_PRIOR: predictions.cost}
        if self.signal is not None and self.score is not None and score is not None:
            usd = self.signal.cost(outcomes)
            signals |= {SCORE: self.score(score)} | ({} if usd is None else {USD_SCORE: usd})
        if SAID in self.needs:
            signals[SAID] = spoken(outcomes, self.said)
        return replace(outcomes, signals={**outcomes.signals, **signals})


def reads(needs: Sequence[str]) -> tuple[bool, bool]:
    """Whether a router is needed, and whether a signal is. Without a score the router's guess is what estimates an answer's quality."""
    return PRIOR in needs or SCORE not in needs, SCORE in needs


def fit_scorers(
    makers: Makers, outcomes: Outcomes, needs: Sequence[str], rng: np.random.Generator, *, clustered: bool
) -> tuple[Scorers, Outcomes]:
    """(the scorers, the rows the cascade may learn from with their out-of-sample signals).

    outcomes: the training part, encoded. clustered: inner folds leave whole groups out. Router and signal are fitted where `reads` says
    so. Raises InputError where router or signal does.
    """
    inner, last = rng.spawn(2)
    rows, (guessed, scored) = np.arange(len(outcomes)), reads(needs)
    if scored and makers.signal() is None:
        raise InputError(
            "this cascade looks at answers by a signal", expected="one of configs/signal", found="none", mend="Say signal=features."
        )

    def fitted(train: Outcomes, stream: np.random.Generator) -> tuple[Router | None, Signal | None]:
        router = fit_one(makers.router, train, stream, makers.learn) if guessed else None
        signal = makers.signal() if scored else None
        return router, None if signal is None else signal.fit(train, rng=stream)

    parts: list[tuple[Ints, Predictions | None, Floats | None]] = []
    for held, stream in splits(outcomes, makers.folds, inner, clustered=clustered):
        router, signal = fitted(outcomes.take(np.setdiff1d(rows, held)), stream)
        test = outcomes.take(held)
        guess = None if router is None else router.predict(test.queries)
        parts.append((held, guess, None if signal is None else signal.score(test)))
    seen = np.concatenate([held for held, _, _ in parts])
    order = np.argsort(seen, kind="stable")
    table = outcomes.take(seen[order])
    if makers.folds > 1:
        router, signal = fitted(outcomes, last)
    guesses, scores = ([part for part in column if part is not None] for column in list(zip(*parts, strict=True))[1:])
    predictions = (
        Predictions(*(np.concatenate([getattr(part, name) for part in guesses])[order] for name in ("quality", "cost")))
        if guessed
        else None
    )
    score = np.concatenate(scores)[order] if scored else None
    # of the prior one slope and a shift for each model: so weak a signal leaves an isotonic curve few steps
    prior = None if predictions is None else Probability.fit(predictions.quality, table.quality, "temperature")
    chance = None if score is None else Probability.fit(score, table.quality, makers.method)
    scorers = Scorers(needs, makers.said, router, prior, signal, chance)
    return scorers, scorers.beside(table, predictions, score)


def splits(outcomes: Outcomes, folds: int, rng: np.random.Generator, *, clustered: bool) -> Iterator[tuple[Ints, np.random.Generator]]:
    """(held-out rows, a generator) for each inner fold; equal texts, or whole groups, stay together."""
    names = outcomes.queries.group if clustered and len(set(outcomes.queries.group)) >= max(folds, 2) else outcomes.queries.text
    units = np.array(numbered(map(normalise, names)))
    count = int(units.max()) + 1 if len(units) else 0
    if count < 2 * max(folds, 2):
        mend = "Give the cascade more training queries, or fewer inner folds."
        raise InputError("too few training queries to hold any out", expected=f"at least {2 * max(folds, 2)}", found=str(count), mend=mend)
    place = rng.permutation(count)[units]
    if folds == 1:
        yield np.flatnonzero(place < HELD_OUT * count), rng
        return
    for fold, stream in enumerate(rng.spawn(folds)):
        yield np.flatnonzero(place % folds == fold), stream


def spoken(outcomes: Outcomes, said: Callable[[str], str | None]) -> Floats:
    """[n,m] a number for what each answer says: equal numbers in a row are equal answers, NaN is none. InputError without answers."""
    if outcomes.answer is None:
        raise InputError(
            "these data hold no answers", expected="the text of every answer", found="none", mend="Collect them with collect.py."
        )
    codes = np.full(outcomes.answer.shape, np.nan, dtype=np.float32)
    for row, answers in enumerate(outcomes.answer):
        known: dict[str, int] = {}
        for column, answer in enumerate(answers):
            part = None if answer is None else said(answer)
            if part is not None:
                codes[row, column] = known.setdefault(part, len(known))
    return codes
