"""Metrics as pure functions on arrays: PGR, APGR, CPT, AIQ, dollars saved, gap recovered, AUROC, Brier, ECE. Quality is in [0, 1]."""

from __future__ import annotations

from typing import Any

import numpy as np

from routewright.core.types import Floats
from routewright.eval import curves


def apgr(share: Floats, quality: Floats, weak: Floats | float, strong: Floats | float) -> Floats:
    """Average performance gap recovered, (B,): mean PGR = (q - weak) / (strong - weak) over the share of strong calls (RouteLLM, sec. 3).

    share, quality (B, k) or (k,): the exact curve from share 0 to 1. NaN where the models' gap is zero.
    """
    gap = np.asarray(np.subtract(strong, weak), dtype=np.float64)
    height = curves.mean_height(share, quality, 0.0, 1.0)
    return np.divide(height - weak, gap, out=np.full(height.shape, np.nan), where=gap != 0)


def cpt(x: float, share: Floats, quality: Floats, weak: Floats | float, strong: Floats | float) -> Floats:
    """CPT(x), (B,): the smallest percentage of strong calls whose PGR reaches x percent; NaN where none does."""
    target = np.asarray(weak + x / 100 * np.subtract(strong, weak), dtype=np.float64)
    return 100 * curves.first_reach(share, quality, target)


def aiq(cost: Floats, quality: Floats, low: float, high: float, *, variant: str = "paper") -> float:
    """Average improvement in quality (RouterBench, arXiv 2403.12031): area under the curve's non-decreasing convex hull, per USD of range.

    variant "paper": over [low, high], the cost range that all routers share. "code": the published code's, from the router's own lowest
    cost, divided by the highest cost. NaN where the range is empty or a cost is not known.
    """
    if not (np.isfinite(cost).all() and np.isfinite(low) and high > low):
        return float("nan")
    x, y = curves.hull(cost, quality)
    if variant == "code":
        return float(curves.area(x, y, float(x[0]), high)[0] / high)
    x, y = np.r_[low, x] if x[0] > low else x, np.r_[y[0], y] if x[0] > low else y
    return float(curves.mean_height(x, y, low, high)[0])


def cost_at(fraction: float, cost: Floats, quality: Floats, best: Floats | float) -> Floats:
    """The lowest mean cost, (B,), at which the curve reaches `fraction` of the best model's quality; NaN where it never does."""
    return curves.first_reach(cost, quality, np.asarray(fraction * np.asarray(best), dtype=np.float64))


def saved(cost: Floats | float, best_cost: Floats | float) -> Floats:
    """Share of the best model's dollars that is not spent."""
    best = np.asarray(best_cost, dtype=np.float64)
    return 1 - np.divide(cost, best, out=np.full(np.broadcast(cost, best).shape, np.nan), where=best > 0)


def gap_recovered(quality: float, best_single: float, oracle: float) -> float:
    """Share of the way from the best single model to the per-query oracle; NaN where the oracle is no better."""
    return (quality - best_single) / (oracle - best_single) if oracle > best_single else float("nan")


def auroc(score: Floats, correct: Floats) -> float:
    """Area under the ROC curve of predicted quality[n,m] for correct[n,m] in {0, 1}: mean over models not always right or wrong."""
    from sklearn.metrics import roc_auc_score

    columns = [j for j in range(score.shape[1]) if 0 < correct[:, j].mean() < 1]
    if not columns:
        return float("nan")
    return float(np.mean([roc_auc_score(correct[:, j] > 0.5, score[:, j]) for j in columns]))


def brier(predicted: Floats, quality: Floats) -> float:
    """Mean squared error of predicted quality, clipped to [0, 1], over all queries and models (Brier's score where quality is 0 or 1)."""
    return float(((np.clip(predicted, 0, 1) - quality) ** 2).mean())


def reliability(predicted: Floats, quality: Floats, bins: int = 10) -> list[dict[str, Any]]:
    """Predicted and observed quality in equal-width bins of the prediction, all models pooled; empty bins are left out."""
    p, q = np.clip(predicted, 0, 1).ravel(), quality.ravel()
    code = np.minimum((p * bins).astype(int), bins - 1)
    rows = [(p[code == b], q[code == b]) for b in range(bins)]
    return [{"predicted": float(a.mean()), "observed": float(b.mean()), "n": len(a)} for a, b in rows if len(a)]


def ece(predicted: Floats, quality: Floats, bins: int = 10) -> float:
    """Expected calibration error: mean |predicted - observed| over equal-width bins, weighted by their counts (Guo et al. 2017, eq. 5)."""
    table = reliability(predicted, quality, bins)
    return sum(row["n"] * abs(row["predicted"] - row["observed"]) for row in table) / predicted.size
