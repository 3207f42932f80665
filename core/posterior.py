"""How the scores of answers not yet bought will fall, given the priors and the scores bought so far.

A Gaussian in one of two spaces. "logit": logit(score_j) = intercept_j + slope_j logit(prior_j) + r_j, with residuals r that are correlated
over models, so that an answer seen tells about the others. "identity": score_j = prior_j + r_j, as the paper has it. Expectations are means
over draws that all queries and all sets of models share (common random numbers), so that differences between sets have little noise.
Shapes: n queries, m models, s draws, u models not called, c models called.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from routewright.core.types import Floats, Ints

SPACES = ("logit", "identity")
EDGE = 5.0  # logits beyond it (.0067, .9933) are cut: a calibrated score is not surer, and one such row must not bend a regression


def logit(chance: Floats) -> Floats:
    """log(p / (1 - p)), cut to [-EDGE, EDGE]."""
    inside = np.clip(chance.astype(np.float64), 1e-9, 1 - 1e-9)
    return np.clip(np.log(inside / (1 - inside)), -EDGE, EDGE)


def sigmoid(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-x)))


@dataclass(frozen=True)
class Posterior:
    """intercept[m], slope[m] and the residuals' covariance[m,m] in `space`, with draws[s,m] of standard normals."""

    space: str
    intercept: Floats
    slope: Floats
    covariance: Floats
    draws: Floats
    _conditioned: dict[tuple[int, ...], tuple[Floats, Floats]] = field(default_factory=dict, repr=False, compare=False)

    def centre(self, prior: Floats) -> Floats:
        """(n, m): what is expected of every score from its own prior alone, in this space."""
        return self.intercept + self.slope * self.into(prior)

    def into(self, value: Floats) -> Floats:
        return logit(value) if self.space == "logit" else value.astype(np.float64)

    def out(self, value: Floats) -> Floats:
        return sigmoid(value) if self.space == "logit" else value

    def condition(self, called: Sequence[int]) -> tuple[Floats, Floats]:
        """(u, c) weights of the called models' residuals and (s, u) noise left, for the models not called, in rising order.

        Conditioning of a Gaussian: mean S_uc S_cc^-1 r_c, covariance S_uu - S_uc S_cc^-1 S_cu.
        """
        key = tuple(called)
        if key not in self._conditioned:
            given = np.array(key, dtype=np.int64)
            rest = np.setdiff1d(np.arange(len(self.intercept)), given)
            cross, known = self.covariance[np.ix_(rest, given)], self.covariance[np.ix_(given, given)]
            small = 1e-9 * max(float(np.trace(self.covariance)) / len(self.intercept), 1e-9)
            weight = np.linalg.solve(known + small * np.eye(len(key)), cross.T).T if len(key) else np.zeros((len(rest), 0))
            left = self.covariance[np.ix_(rest, rest)] - weight @ cross.T
            root = np.linalg.cholesky(left + small * np.eye(len(rest)))
            noise = self.draws[:, rest] @ root.T if self.covariance.any() else np.zeros((len(self.draws), len(rest)))
            self._conditioned[key] = (weight, noise)
        return self._conditioned[key]


def best_known(score: Floats, prior: Floats, called: Ints) -> Floats:
    """(r,): the best score among called[r,c] models; an answer not looked at counts as its prior says."""
    seen = np.take_along_axis(score, called, axis=1).astype(np.float64)
    return np.asarray(np.where(np.isnan(seen), np.take_along_axis(prior, called, axis=1), seen).max(axis=1))
