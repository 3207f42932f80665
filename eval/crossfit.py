"""Fits a router on every fold and scores the queries it has not seen; calibrates where it was not trained. A split is one fold.

Nothing here knows a router's class: `make` builds a fresh one, and Hydra hands it in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from routewright.core.arrays import column_means
from routewright.core.calibrate import Affine
from routewright.core.columns import Columns
from routewright.core.contracts import Router
from routewright.core.run import evenly
from routewright.core.types import Battles, Floats, Ints, Outcomes, Predictions, Queries

LEVELLED = 4000  # training queries; the mean of so many scores is known to .003 where they spread by .2


class Cut(Protocol):
    """Row numbers of one fold: what to learn from, what to calibrate on, what to judge on."""

    @property
    def train(self) -> Ints: ...
    @property
    def calibration(self) -> Ints: ...
    @property
    def test(self) -> Ints: ...


@dataclass(frozen=True, eq=False)
class Fitted:
    """rows[t]: the judged queries. predictions (t, m), calibrated. held_out: (rows, predictions) to choose operating points on, per fold.

    fold[t]: the fold that judged each row. router and calibration: what is exported. exact: whether that is the very router judged.
    """

    rows: Ints
    fold: Ints
    predictions: Predictions
    calibration: Affine
    router: Router
    held_out: tuple[tuple[Ints, Predictions], ...]
    exact: bool


# what a router of this supervision ("outcomes" or "battles") learns from, given the training part; its pool begins with the judged models
Learn = Callable[[Outcomes, str], Outcomes | Battles]


def own(train: Outcomes, supervision: str) -> Outcomes | Battles:
    """The training part alone: its outcomes, or their battles with ties kept."""
    return train.battles() if supervision == "battles" else train


def fit_one(make: Callable[[], Router], train: Outcomes, rng: np.random.Generator, learn: Learn = own) -> Router:
    """A fresh router fitted on what `learn` makes of these outcomes; where that holds further models, seen through the judged ones."""
    router = make()
    return through(router.fit(table := learn(train, router.supervision), rng=rng), table, train)


def through(router: Router, table: Outcomes | Battles, train: Outcomes) -> Router:
    """The router as it is where it learned from the training part alone, else through the judged models' columns and with their costs."""
    if table.queries is train.queries:
        return router
    return Columns(router, [table.pool.index(name) for name in train.pool.name], column_means(train.cost))


def crossfit(
    make: Callable[[], Router],
    outcomes: Outcomes,
    cuts: Sequence[Cut],
    rng: np.random.Generator,
    learn: Learn = own,
    refit: bool = True,
    ready: Sequence[Router] = (),
) -> Fitted:
    """One fold: fit, calibrate on its calibration rows, score its test rows. Several: pooled out-of-fold scores, levelled, and one more
    router fitted on everything for export.

    learn: what to learn from beside, or in place of, the training part. refit=False: with several folds the one of the first stands for
    the exported router: for what is judged and never exported. ready: the folds' routers, where they are fitted on these parts already.

    A pair is calibrated on all pooled scores at once, which cannot reorder it. Of more models the shifts would choose the winner on the
    judged rows, so each fold is calibrated on the others.
    """
    streams = rng.spawn(len(cuts) + 1)
    routers = ready or [fit_one(make, outcomes.take(cut.train), stream, learn) for cut, stream in zip(cuts, streams, strict=False)]
    if len(cuts) == 1:
        return _single(routers[0], outcomes, cuts[0])
    rows = np.concatenate([cut.test for cut in cuts])
    fold = np.concatenate([np.full(len(cut.test), k) for k, cut in enumerate(cuts)])
    order = np.argsort(rows, kind="stable")
    pooled = _levelled(routers, outcomes, cuts).take(order)
    rows, fold = rows[order], fold[order]
    affine = Affine.fit(pooled, outcomes.take(rows))
    calibrated = affine(pooled) if len(outcomes.pool) == 2 else _by_fold(pooled, outcomes.take(rows), fold)
    final = fit_one(make, outcomes, streams[-1], learn) if refit else routers[0]
    # the exported router's own level takes the place of the folds', so that its mean promise is the pooled one
    level = pooled.quality.mean(axis=0) - _level(final, outcomes.queries)
    exported = Affine(affine.scale, affine.shift + affine.scale * level)
    held_out = tuple((rows[fold != k], calibrated.take(fold != k)) for k in range(len(cuts)))
    return Fitted(rows, fold, calibrated, exported, final, held_out, exact=False)


def _levelled(routers: Sequence[Router], outcomes: Outcomes, cuts: Sequence[Cut]) -> Predictions:
    """Every fold's test scores, in the order of the folds, each less the mean score that its router gives its own training rows.

    A training mean runs against the mean of what was left out: pooled as they are, even constant predictions rank the folds, and wrongly
    (APGR .48 on five random folds of MMLU, .39 with subjects left out). Without its own level a constant is a tie, as it should be. Only
    training queries enter, so no outcome of a test row does.
    """
    parts = []
    for router, cut in zip(routers, cuts, strict=True):
        level = _level(router, outcomes.queries.take(cut.train))
        test = router.predict(outcomes.queries.take(cut.test))
        parts.append(Predictions(test.quality - level, test.cost))
    return Predictions(np.concatenate([part.quality for part in parts]), np.concatenate([part.cost for part in parts]))


def _level(router: Router, train: Queries) -> Floats:
    """(m,) the mean score it gives its training queries; of a router that reads text, on LEVELLED of them, since each is a forward pass."""
    if router.reads == "text":
        train = train.take(evenly(len(train), LEVELLED))
    return np.asarray(router.predict(train).quality.mean(axis=0))


def _single(router: Router, outcomes: Outcomes, cut: Cut) -> Fitted:
    test = router.predict(outcomes.queries.take(cut.test))
    fold = np.zeros(len(cut.test), dtype=np.int64)
    if not len(cut.calibration):
        return Fitted(cut.test, fold, test, Affine.identity(len(outcomes.pool)), router, (), exact=True)
    scores = router.predict(outcomes.queries.take(cut.calibration))
    affine = Affine.fit(scores, outcomes.take(cut.calibration))
    return Fitted(cut.test, fold, affine(test), affine, router, ((cut.calibration, affine(scores)),), exact=True)


def _by_fold(pooled: Predictions, table: Outcomes, fold: Ints) -> Predictions:
    quality = np.empty_like(pooled.quality)
    for k in np.unique(fold):
        quality[fold == k] = Affine.fit(pooled.take(fold != k), table.take(fold != k))(pooled.take(fold == k)).quality
    return Predictions(quality, pooled.cost)
