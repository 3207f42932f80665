"""Learns the Gaussian of core.posterior from priors and scores: regression, correlation of residuals, draws. Shapes as there."""

from __future__ import annotations

from typing import Any

import numpy as np

from routewright.core.posterior import EDGE, SPACES, Posterior, logit, sigmoid
from routewright.core.types import Floats, InputError


def normals(count: int, m: int, seed: int) -> Floats:
    """(count, m) standard normals: a scrambled Sobol sequence and its mirror image, so that every column's mean is exactly 0.

    count is rounded up to a power of two. Each column is scaled to variance 1.
    """
    from scipy.stats import norm, qmc

    half = max(1, (max(2, count) - 1).bit_length() - 1)
    some = norm.ppf(np.clip(qmc.Sobol(m, seed=seed).random_base2(half), 1e-6, 1 - 1e-6))
    both = np.concatenate([some, -some])
    return np.asarray(both / both.std(axis=0))


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
