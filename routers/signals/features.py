"""The cheap learned scorer: what the text of an answer tells, by boosted trees and a logistic regression. No model is asked.

On GSM8K what such features tell of Mixtral's answers is far more than the question or an embedding does (AUROC .82 against .54 and .60).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Self

import numpy as np

from routewright.core.answer_features import NAMES, Asked, asked, features
from routewright.core.contracts import Encoder, Scorer, State
from routewright.core.types import Bools, Floats, InputError, Ints, Outcomes
from routewright.routers.signals import _pooled, _trees
from routewright.routers.signals.base import Learned, names_as_bytes, paid, recorded

PRICED = dict.fromkeys(("agreement", "majority", "meaning", "meaning_entropy"), "usd_samples") | {"self_reported": "usd_self_reported"}


class Features(Learned):
    """Log odds that an answer is right: the mean of boosted trees over all models (routers/signals/_trees.py) and of a logistic regression
    for each model that leans on a shared one (_pooled.py). NaN where there is no answer.

    Reads core/answer_features.py of every (query, answer), the model, and of `signals` those that were recorded, NaN for the models
    without them; those of PRICED may be named too, and then the score costs what they cost. query: components of
    the query's embedding, by their variance, where the queries are encoded (0: none); answer: those of the answers, by `encoder`, an
    Encoder (None: none).
    trees, learning_rate, leaves, min_leaf, l2, share (of the features, drawn for each node): of the trees; C: of the logistic regression.
    """

    learned = ("models_", "signals_", "rank_", "query_", "answer_")  # and the two learners' own, under trees. and pooled.
    signals_: np.ndarray[Any, Any]  # names of the recorded signals it reads, as bytes
    rank_: Ints  # (m,) models from the one with the lowest mean grade on
    query_: Floats  # (d, query) what the query's embedding is projected on
    answer_: Floats  # (d, answer)
    trees_: _trees.Trees
    pooled_: _pooled.Pooled

    def __init__(
        self,
        signals: Sequence[str] = ("logprob_mean", "logprob_min", "logprob_span", "verifier"),
        query: int = 16,
        answer: int = 16,
        encoder: Encoder | None = None,
        trees: int = 150,
        learning_rate: float = 0.05,
        leaves: int = 8,
        min_leaf: int = 20,
        l2: float = 5.0,
        share: float = 0.3,
        C: float = 0.03,  # noqa: N803 (scikit-learn's name)
    ) -> None:
        self.signals, self.query, self.answer, self.encoder = signals, query, answer, encoder
        self.trees, self.learning_rate, self.leaves, self.min_leaf, self.l2, self.share = trees, learning_rate, leaves, min_leaf, l2, share
        self.C = C

    def cost(self, outcomes: Outcomes) -> Floats | None:
        """[n,m] USD of the priced signals it reads, each only once; None where it reads none."""
        self._require_fitted()
        bought = {PRICED[name]: name for name in self._signals() if name in PRICED}
        if not bought:
            return None
        who = type(self).__name__
        return np.sum([paid(outcomes, usd, recorded(outcomes, name, who), who) for usd, name in bought.items()], axis=0)

    def scorer(self) -> Scorer:
        """The features of core/answer_features.py and the graph behind them. Raises InputError where answers are encoded too."""
        self._require_fitted()
        if self.answer_.size:
            what = "a scorer that encodes answers cannot be exported: no gateway runs a second encoder on every answer"
            raise InputError(what, expected="signal.encoder=null", found="an encoder", mend="Train without +encoder@signal.encoder.")
        from routewright.core.scorer_graph import features_graph

        names = self._signals()
        reader = {"kind": "features", "names": list(NAMES), "recorded": names, "embedding": bool(self.query_.size)}
        made = features_graph(
            self.trees_, self.pooled_, self.rank_, _pooled.FAR, features=len(NAMES), recorded=len(names), query=self.query_
        )
        return Scorer(reader, made)

    def _learn(self, train: Outcomes, rng: np.random.Generator) -> None:
        if not (self.C > 0 and self.trees >= 1 and self.query >= 0 and self.answer >= 0):
            found = f"C={self.C}, trees={self.trees}, query={self.query}, answer={self.answer}"
            raise InputError("impossible settings of the scorer", expected="C > 0, trees >= 1, components >= 0", found=found)
        self.signals_ = names_as_bytes([name for name in self.signals if name in train.signals])
        vectors = train.queries.embedding if self.query else None
        self.query_ = np.empty((0, 0), dtype=np.float32) if vectors is None else _components(vectors, self.query)
        told = self._told(train)
        self.answer_ = _components(self._encoded(train, told), self.answer) if self.encoder else np.empty((0, 0), dtype=np.float32)
        graded = told & ~np.isnan(train.quality)
        grade, (_, model) = train.quality[graded].astype(np.float64), np.nonzero(graded)
        mean = np.bincount(model, grade, len(train.pool)) / np.bincount(model, minlength=len(train.pool))
        self.rank_ = np.argsort(np.argsort(mean, kind="stable"), kind="stable")
        x = self._table(train, graded)
        recipe = {"max_iter": self.trees, "learning_rate": self.learning_rate, "max_leaf_nodes": self.leaves, "max_features": self.share}
        recipe |= {"min_samples_leaf": self.min_leaf, "l2_regularization": self.l2}
        self.trees_ = _trees.grow(self._with_model(x, model), grade, int(rng.integers(2**31)), **recipe)
        self.pooled_ = _pooled.fit(x, grade, model, len(train.pool), self.C)

    def _score(self, outcomes: Outcomes) -> Floats:
        made = np.full(outcomes.quality.shape, np.nan)
        told = self._told(outcomes)
        x, (_, model) = self._table(outcomes, told), np.nonzero(told)
        made[told] = 0.5 * (_trees.log_odds(self.trees_, self._with_model(x, model)) + _pooled.log_odds(self.pooled_, x, model))
        return made

    def _with_model(self, x: Floats, model: Ints) -> Floats:
        return np.column_stack([x, self.rank_[model]])

    def _signals(self) -> list[str]:
        return self.signals_.tobytes().decode().split("\n") if len(self.signals_) else []

    def _table(self, outcomes: Outcomes, cells: Bools) -> Floats:
        """(cells, k) float64: what is known of every chosen cell, from its own query and answer alone."""
        row, column = np.nonzero(cells)
        said, text = self._answers(outcomes), outcomes.queries.text
        read = [np.frombuffer(_read(text[i], said[i, j]), dtype=np.float32) for i, j in zip(row, column, strict=True)]
        parts = [np.stack(read) if read else np.empty((0, len(NAMES)))]
        for name in self._signals():
            parts.append(recorded(outcomes, name, type(self).__name__)[cells][:, None])
        if self.query_.size:
            parts.append(_projected(outcomes.queries.vectors(), self.query_)[row])
        if self.answer_.size:
            parts.append(_projected(self._encoded(outcomes, cells), self.answer_))
        return np.concatenate(parts, axis=1).astype(np.float64)

    def _encoded(self, outcomes: Outcomes, cells: Bools) -> Floats:
        """(cells, d) embeddings of the answers."""
        if self.encoder is None:
            mend = "Name the one it was fitted with: +encoder@signal.encoder=..."
            raise InputError(f"{type(self).__name__} was fitted with an encoder of answers", expected="an encoder", found="none", mend=mend)
        return self.encoder.encode([str(text) for text in self._answers(outcomes)[cells]])

    def state(self) -> State:
        """Everything learned, as named arrays."""
        whole = super().state()
        whole |= {f"trees.{name}_": value for name, value in self.trees_.items()}
        return whole | {f"pooled.{name}_": value for name, value in self.pooled_.items()}

    def load(self, state: Mapping[str, np.ndarray[Any, Any]]) -> Self:
        """The inverse of state(). Raises InputError where the names are not this signal's."""
        inner = {name: value for name, value in state.items() if "." in name}
        parts = {"trees": (*_trees.FIELDS, "root", "base", "depth"), "pooled": ("fill", "center", "scale", "weights")}
        expected = {f"{part}.{name}_" for part, names in parts.items() for name in names}
        # what strays among the inner names is told with the others
        super().load({name: value for name, value in state.items() if name not in inner or name not in expected})
        if set(inner) != expected:
            raise InputError(f"this state is not one of {type(self).__name__}", expected=", ".join(sorted(expected)))
        self.trees_ = {name: inner[f"trees.{name}_"] for name in parts["trees"]}
        self.pooled_ = {name: inner[f"pooled.{name}_"] for name in parts["pooled"]}
        return self


# a training reads the same answers once for every inner fold; a gateway never comes here
@lru_cache(maxsize=200_000)
def _read(query: str, answer: str) -> bytes:
    return features(_asked(query), answer).tobytes()


@lru_cache(maxsize=50_000)
def _asked(query: str) -> Asked:
    return asked(query)


def _projected(vectors: Floats, onto: Floats) -> Floats:
    """In float64: rounding that depends on the batch must not carry a value over a tree's threshold."""
    return np.asarray(vectors.astype(np.float64) @ onto)


def _components(vectors: Floats, count: int) -> Floats:
    """(d, count) the directions along which rows of vectors (n, d) vary most, signs fixed by their largest entry."""
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    _, found = np.linalg.eigh(centred.T @ centred)
    made = found[:, ::-1][:, :count]
    sign = np.sign(made[np.abs(made).argmax(axis=0), np.arange(made.shape[1])])
    return np.ascontiguousarray(made * sign, dtype=np.float32)
