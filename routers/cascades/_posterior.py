"""How the scores of answers not yet bought will fall, given the priors and the scores bought so far.

A Gaussian in one of two spaces. "logit": logit(score_j) = intercept_j + slope_j logit(prior_j) + r_j, with residuals r that are correlated
over models, so that an answer seen tells about the others. "identity": score_j = prior_j + r_j, as the paper has it. Expectations are means
over draws that all queries and all sets of models share (common random numbers), so that differences between sets have little noise.
Shapes: n queries, m models, s draws, u models not called, c models called.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from routewright.core.types import Floats, InputError, Ints

SPACES = ("logit", "identity")
EDGE = 5.0  # logits beyond it (.0067, .9933) are cut: a calibrated score is not surer, and one such row must not bend a regression


def logit(chance: Floats) -> Floats:
    """log(p / (1 - p)), cut to [-EDGE, EDGE]."""
    inside = np.clip(chance.astype(np.float64), 1e-9, 1 - 1e-9)
    return np.clip(np.log(inside / (1 - inside)), -EDGE, EDGE)


def sigmoid(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-x)))


def normals(count: int, m: int, seed: int) -> Floats:
    """(count, m) standard normals: a scrambled Sobol sequence and its mirror image, so that every column's mean is exactly 0.

    count is rounded up to a power of two. Each column is scaled to variance 1.
    """
    from scipy.stats import norm, qmc

    half = max(1, (max(2, count) - 1).bit_length() - 1)
    some = norm.ppf(np.clip(qmc.Sobol(m, seed=seed).random_base2(half), 1e-6, 1 - 1e-6))
    both = np.concatenate([some, -some])
    return np.asarray(both / both.std(axis=0))


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


def fit(prior: Floats, score: Floats, *, space: str, deviation: Any, draws: int, rng: np.random.Generator) -> Posterior:
    """Learns how score[n,m] follows prior[n,m].

    deviation (space "identity" alone): the residuals' standard deviation, one number or one a model; None: learned. There residuals are
    taken as independent, as in the paper. In "logit" their correlations are learned and shrunk (Ledoit and Wolf 2004).
    """
    n, m = prior.shape
    if space not in SPACES:
        raise InputError("unknown space of scores", expected="one of " + ", ".join(SPACES), found=repr(space))
    if space == "logit" and deviation is not None:
        raise InputError("deviation is learned in this space", where="space=logit", mend="Leave it null, or use space=identity.")
    noise = normals(draws, m, int(rng.integers(2**31)))
    if space == "identity":
        spread = np.std(score - prior, axis=0) if deviation is None else np.asarray(deviation, dtype=np.float64)
        return Posterior(space, np.zeros(m), np.ones(m), np.diag(np.broadcast_to(spread, (m,)).astype(np.float64) ** 2), noise)
    x, y = logit(prior), logit(score)
    centred = x - x.mean(axis=0)
    # a ridge of one observation at the spread of 1 logit: a prior without spread gets slope 0
    slope = (centred * (y - y.mean(axis=0))).sum(axis=0) / ((centred**2).sum(axis=0) + 1.0)
    intercept = y.mean(axis=0) - slope * x.mean(axis=0)
    residual = y - intercept - slope * x
    spread = residual.std(axis=0)
    covariance = np.outer(spread, spread) * _correlation(residual / np.maximum(spread, 1e-9)) if n > 1 else np.zeros((m, m))
    made = Posterior(space, intercept, slope, covariance, noise)
    return Posterior(space, intercept + _shift(made, x, score), slope, covariance, noise)


def _correlation(residual: Floats) -> Floats:
    """(m, m) shrunken correlations of standardised residuals, with ones on the diagonal."""
    from sklearn.covariance import LedoitWolf

    shrunk = LedoitWolf(assume_centered=True).fit(residual).covariance_
    scale = np.sqrt(np.maximum(np.diag(shrunk), 1e-12))
    return np.asarray(shrunk / np.outer(scale, scale))


def _shift(made: Posterior, x: Floats, score: Floats) -> Floats:
    """(m,) to add to the intercepts, so that the mean score promised on these rows is the mean score there (Newton's method).

    Without it the mean over draws of a sigmoid is off wherever residuals are not Gaussian, and by different amounts for different models.
    """
    noise, goal = made.condition(())[1][:64], score.mean(axis=0, dtype=np.float64)
    some = x[:: max(1, len(x) // 512)]
    shift = np.zeros(x.shape[1])
    for _ in range(12):
        chance = sigmoid((made.intercept + shift + made.slope * some)[:, None, :] + noise)
        steep = np.maximum((chance * (1 - chance)).mean(axis=(0, 1)), 1e-3)
        shift = np.clip(shift + (goal - chance.mean(axis=(0, 1))) / steep, -2 * EDGE, 2 * EDGE)
    return shift


def best_known(score: Floats, prior: Floats, called: Ints) -> Floats:
    """(r,): the best score among called[r,c] models; an answer not looked at counts as its prior says."""
    seen = np.take_along_axis(score, called, axis=1).astype(np.float64)
    return np.asarray(np.where(np.isnan(seen), np.take_along_axis(prior, called, axis=1), seen).max(axis=1))
