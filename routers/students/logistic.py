"""A student that generalises: a multinomial regression of the teacher's most frequent answers on the query's embedding."""

from __future__ import annotations

import numpy as np

from routewright.core.types import Floats, InputError, Ints
from routewright.routers.students.base import Base


class Logistic(Base):
    """softmax(embedding . coef_ + bias_) over the `answers` most frequent answers and, where there are rarer ones, over "a rarer one".

    Gives the likeliest of the frequent answers with its probability: what falls to the rarer ones is doubt. scikit-learn, L2 penalty 1/C,
    lbfgs. A teacher that always said one thing is repeated with confidence (N + 1/2) / (N + 1).
    """

    learned = ("coef_", "bias_", "kept_")
    coef_: Floats  # (d, kept or kept + 1): a column an answer, the rarer ones last
    bias_: Floats
    kept_: Ints  # (1,) the frequent answers

    def __init__(
        self,
        answers: int = 50,
        C: float = 10.0,  # noqa: N803 (scikit-learn's name)
        max_iter: int = 300,
        usd_call: float = 1e-6,
        teacher: str | None = None,
    ) -> None:
        self.answers, self.C, self.max_iter = answers, C, max_iter
        self.usd_call, self.teacher = usd_call, teacher

    def _learn(self, vectors: Floats, label: Ints, rng: np.random.Generator) -> None:
        if self.answers < 1 or not self.C > 0 or self.max_iter < 1:
            found = f"answers={self.answers}, C={self.C}, max_iter={self.max_iter}"
            raise InputError("impossible settings of a student", expected="answers >= 1, C > 0 and max_iter >= 1", found=found)
        kept = min(self.answers, len(self.ends_))
        self.kept_ = np.array([kept], dtype=np.int64)
        shown = np.minimum(label, kept)
        if shown.max() == 0:
            self.coef_ = np.zeros((vectors.shape[1], 2), dtype=np.float32)
            self.bias_ = np.log(np.array([len(label) + 0.5, 0.5], dtype=np.float32))
            return
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression(C=self.C, max_iter=self.max_iter).fit(vectors.astype(np.float64), shown)
        coef, bias = model.coef_, model.intercept_
        if len(coef) == 1:  # of two answers one column is given, the second one's log odds
            coef, bias = np.concatenate([0 * coef, coef]), np.concatenate([0 * bias, bias])
        self.coef_, self.bias_ = np.ascontiguousarray(coef.T, dtype=np.float32), bias.astype(np.float32)

    def _vote(self, vectors: Floats) -> tuple[Ints, Floats]:
        logit = vectors.astype(np.float64) @ self.coef_ + self.bias_
        chance = np.exp(logit - logit.max(axis=1, keepdims=True))
        chance /= chance.sum(axis=1, keepdims=True)
        frequent = chance[:, : self.kept_[0]]
        given = frequent.argmax(axis=1)
        return given, frequent[np.arange(len(given)), given]
