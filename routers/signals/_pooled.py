"""A logistic regression for each of several models, drawn towards one that they share: a model with few or one-sided grades leans on it.

Weights of model j are shared + own[j], both with an L2 penalty (Daumé 2007, "Frustratingly Easy Domain Adaptation", arXiv 0907.1815).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from routewright.core.types import Floats, Ints

FAR = 5.0  # standard deviations: a feature beyond counts as that far
OWN = 0.5  # how far a model's own weights may go, against the shared ones
STEPS = 500  # of L-BFGS, which needs about a hundred

Pooled = dict[str, np.ndarray[Any, Any]]


def fit(x: Floats, grade: Floats, model: Ints, m: int, C: float) -> Pooled:  # noqa: N803 (scikit-learn's name)
    """From x (n, k) with NaN for unknown, grade (n,) in [0, 1] and model (n,) in 0 .. m - 1: fill, center, scale and weights (m, 2k + 1).

    Minimises the cross-entropy on the grades plus (|shared|^2 + sum |own|^2 / OWN^2) / 2C. x is standardised, an unknown value is the
    median, and whether it was unknown is a feature of its own.
    """
    from scipy.optimize import minimize

    k = x.shape[1]
    known = ~np.isnan(x)
    fill = np.array([np.median(x[known[:, i], i]) if known[:, i].any() else 0.0 for i in range(k)])
    whole = np.where(known, x, fill)
    center, scale = whole.mean(axis=0), whole.std(axis=0)
    made = {"fill": fill, "center": center, "scale": np.where(scale > 1e-9, scale, np.inf)}
    design = _design(made, x)
    rows = [np.flatnonzero(model == j) for j in range(m)]
    width = design.shape[1]
    parts = [(design[found], grade[found]) for found in rows]
    # the intercept, last, is shared without a penalty
    penalty = np.ones((m + 1, width)) / C
    penalty[1:] /= OWN**2
    penalty[0, -1] = 1e-6

    def loss(flat: Floats) -> tuple[float, Floats]:
        weights = flat.reshape(m + 1, width)
        total, gradient = 0.5 * float((penalty * weights**2).sum()), penalty * weights
        for j, (part, wanted) in enumerate(parts):
            logit = part @ (weights[0] + weights[j + 1])
            total += float((np.logaddexp(0, logit) - wanted * logit).sum())
            slope = part.T @ (np.exp(-np.logaddexp(0, -logit)) - wanted)
            gradient[0] += slope
            gradient[j + 1] += slope
        return total, gradient.ravel()

    found = minimize(loss, np.zeros((m + 1) * width), jac=True, method="L-BFGS-B", options={"maxiter": STEPS})
    weights = found.x.reshape(m + 1, width)
    return made | {"weights": weights[0] + weights[1:]}


def log_odds(made: Pooled, x: Floats, model: Ints) -> Floats:
    """(n,) of x (n, k) and model (n,)."""
    return np.asarray((_design(made, x) * made["weights"][model]).sum(axis=1), dtype=np.float64)


def _design(made: Pooled, x: Floats) -> Floats:
    unknown = np.isnan(x)
    z = np.clip((np.where(unknown, made["fill"], x) - made["center"]) / made["scale"], -FAR, FAR)
    return np.concatenate([z, unknown, np.ones((len(x), 1))], axis=1)
