"""Controls that stand beside every result: what a router must beat before anybody should believe it.

Those that must be fitted are routers of a few lines, so that they go through the same folds and calibration as the router they control.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Self

import numpy as np

from routewright.core.arrays import column_means
from routewright.core.contracts import Router, State
from routewright.core.types import Battles, Floats, Outcomes, Predictions, Queries
from routewright.eval.crossfit import Learn, own, through


class _Control:
    """A router that needs no embedding and no export: the evaluation alone uses it."""

    supervision = "outcomes"
    reads = "embedding"

    def _learn_cost(self, train: Outcomes) -> None:
        self.cost_ = column_means(train.cost)

    def _predictions(self, quality: Floats) -> Predictions:
        return Predictions(quality, np.broadcast_to(self.cost_, quality.shape))

    def state(self) -> State:
        raise TypeError(f"{type(self).__name__} is a control: it is judged, never kept")

    def load(self, state: Any) -> Self:
        raise TypeError(f"{type(self).__name__} is a control: it is judged, never kept")

    def onnx(self) -> Any:
        raise TypeError(f"{type(self).__name__} is a control: it is judged, never exported")


def _mean_quality(quality: Floats, fallback: Floats | float = 0.5) -> Floats:
    """Mean over the observed rows, (m,); the fallback for a model never observed."""
    mean = column_means(quality)
    return np.where(np.isnan(mean), fallback, mean)


class GroupMean(_Control):
    """Knows the group label (subject, task, tenant) and nothing of the text: mean training quality by group, overall for a new one.

    shrink: how many average queries each group's mean is pulled by, so that a group of three does not look certain.
    """

    def __init__(self, shrink: float = 10.0) -> None:
        self.shrink = shrink

    def fit(self, train: Outcomes, valid: Outcomes | None = None, *, rng: np.random.Generator) -> Self:
        self._learn_cost(train)
        self.overall_ = _mean_quality(train.quality)
        self.table_: dict[str, Floats] = {}
        for group in sorted(set(train.queries.group)):
            rows = train.quality[train.queries.group == group]
            count = (~np.isnan(rows)).sum(axis=0)
            self.table_[group] = (_mean_quality(rows, self.overall_) * count + self.shrink * self.overall_) / (count + self.shrink)
        # a new group gets the mean of what is predicted here: knowing nothing of it, it must be level with the training rows
        self.overall_ = np.mean([self.table_[group] for group in train.queries.group], axis=0)
        return self

    def predict(self, queries: Queries) -> Predictions:
        rows = [self.table_.get(group, self.overall_) for group in queries.group]
        return self._predictions(np.array(rows).reshape(len(queries), len(self.overall_)))


class Length(_Control):
    """Knows how long the query is and nothing else: quality of each model as a line in the logarithm of the number of characters."""

    def fit(self, train: Outcomes, valid: Outcomes | None = None, *, rng: np.random.Generator) -> Self:
        self._learn_cost(train)
        x = self._feature(train.queries)[:, None]
        seen = ~np.isnan(train.quality)
        self.mean_ = _mean_quality(train.quality)
        self.centre_ = _mean_quality(np.where(seen, x, np.nan), x.mean())  # (m,): each model's line goes through its own rows' mean
        away = np.where(seen, x - self.centre_, 0.0)
        spread = (away**2).sum(axis=0)
        moment = (away * np.where(seen, train.quality - self.mean_, 0.0)).sum(axis=0)
        self.slope_ = np.divide(moment, spread, out=np.zeros_like(spread), where=spread > 0)
        return self

    def predict(self, queries: Queries) -> Predictions:
        return self._predictions(self.mean_ + (self._feature(queries)[:, None] - self.centre_) * self.slope_)

    @staticmethod
    def _feature(queries: Queries) -> Floats:
        return np.log1p(np.array([len(text) for text in queries.text], dtype=np.float64))


class ShortFirst(_Control):
    """Knows that short queries cost less and nothing of quality: dearer models get the shortest queries first.

    At equal dollars that alone buys more calls of the better model; a router must do more than save on length.
    """

    STEP = 0.01  # quality points a standard deviation of length is worth: enough to rank queries, too little to reorder models

    def fit(self, train: Outcomes, valid: Outcomes | None = None, *, rng: np.random.Generator) -> Self:
        self._learn_cost(train)
        self.mean_ = _mean_quality(train.quality)
        length = Length._feature(train.queries)
        self.centre_, self.width_ = length.mean(), length.std() or 1.0
        price = np.nan_to_num(self.cost_ / np.nanmax(self.cost_)) if np.isfinite(self.cost_).any() else np.zeros(len(self.mean_))
        self.dearness_ = price if price.any() else self.mean_  # without costs the better model is taken for the dearer one
        return self

    def predict(self, queries: Queries) -> Predictions:
        length = (Length._feature(queries) - self.centre_) / self.width_
        return self._predictions(self.mean_ - self.STEP * np.outer(length, self.dearness_))


def shortest_first(queries: Queries, cost: Floats, strong: int) -> Predictions:
    """ShortFirst of a pair where there is nothing to train on: the strong model for the shortest queries first. cost (n, 2) as predicted.

    At knob 0 it calls the weak model, for it knows nothing of quality.
    """
    quality = np.zeros((len(queries), 2))
    quality[:, strong] = -Length._feature(queries)
    return Predictions(quality, cost)


class ShuffledLabels(_Control):
    """The router under test, retrained with every training query wearing another one's outcomes: what is left is leak or luck."""

    def __init__(self, make: Callable[[], Router], learn: Learn = own) -> None:
        self.make, self.learn = make, learn

    def fit(self, train: Outcomes, valid: Outcomes | None = None, *, rng: np.random.Generator) -> Self:
        router = self.make()
        table = self.learn(train, router.supervision)
        order = rng.permutation(len(table.queries))
        if isinstance(table, Outcomes):
            shuffled: Outcomes | Battles = replace(table, quality=table.quality[order], cost=table.cost[order])
        else:  # the texts change places under the labels, which comes to the same
            back, queries = np.argsort(order), table.queries
            embedding = None if queries.embedding is None else queries.embedding[back]
            shuffled = replace(table, queries=Queries(queries.id, queries.text[back], queries.group[back], embedding))
        self.router_ = through(router.fit(shuffled, rng=rng), table, train)
        return self

    def predict(self, queries: Queries) -> Predictions:
        return self.router_.predict(queries)


def fitted(make: Callable[[], Router], learn: Learn = own) -> dict[str, Callable[[], Router]]:
    """Controls that learn from the training part, by name: each goes through the same folds as the router that `make` builds."""
    return {"group": GroupMean, "length": Length, "short_first": ShortFirst, "shuffled_labels": lambda: ShuffledLabels(make, learn)}


def shuffled_decisions(predictions: Predictions, rng: np.random.Generator) -> Predictions:
    """The router's own scores, handed to the wrong queries: the same call rates at every knob, no knowledge."""
    return predictions.take(rng.permutation(len(predictions)))


def oracle(outcomes: Outcomes) -> Predictions:
    """Knows every outcome: the ceiling of any router on these models."""
    return Predictions(outcomes.quality, outcomes.cost)
