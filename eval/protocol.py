"""RouteLLM's published evaluation (arXiv 2406.18665; lm-sys/RouteLLM evals at 0b64fda): ten quantile bins of the score.

The differences from our exact curve: eleven thresholds instead of all, the last one strict, CPT by interpolating the share on accuracy as
if accuracy always rose, and a random router averaged over ten runs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from routewright.core.types import Floats, InputError

BINS = 10
RANDOM_RUNS = 10


class Published(NamedTuple):
    """apgr; cpt[x] in percent of strong calls for x in 20, 50, 80; the eleven (share, quality) points behind them."""

    apgr: float
    cpt: dict[int, float]
    share: Floats
    quality: Floats


def routellm(score: Floats, weak: Floats, strong: Floats, bins: int = BINS) -> Published:
    """score[n]: the strong model's win rate; weak[n], strong[n]: the quality of each model's answer.

    Equal bin edges (heavily tied scores, where pandas.qcut gives up) count once. Scores that are all equal are the random router's.
    """
    if not len(score) == len(weak) == len(strong) or not len(score):
        raise InputError("protocol 'routellm' needs one score and two qualities a query", found=f"{len(score)}, {len(weak)}, {len(strong)}")
    edges = np.unique(np.quantile(score, np.linspace(0, 1, bins + 1)))
    if len(edges) == 1:
        return random(weak, strong, np.random.default_rng(0), bins)
    return _summary(*_points(score, edges, weak, strong), weak, strong)


def random(weak: Floats, strong: Floats, rng: np.random.Generator, bins: int = BINS, runs: int = RANDOM_RUNS) -> Published:
    """The random router: `runs` uniform scorings, averaged at equal shares."""
    share, quality = [], []
    for _ in range(runs):
        score = rng.random(len(weak))
        points = _points(score, np.quantile(score, np.linspace(0, 1, bins + 1)), weak, strong)
        share.append(points[0])
        quality.append(points[1])
    distinct, inverse = np.unique(np.concatenate(share), return_inverse=True)
    mean = np.bincount(inverse, weights=np.concatenate(quality)) / np.bincount(inverse)
    return _summary(distinct, mean, weak, strong)


def _points(score: Floats, edges: Floats, weak: Floats, strong: Floats) -> tuple[Floats, Floats]:
    """Share and quality at every edge, by rising share; the highest edge is strict, so that the weak model alone is a point."""
    chosen = np.array([score >= edge for edge in edges[:-1]] + [score > edges[-1]])  # (k, n)
    return chosen.mean(axis=1)[::-1], np.where(chosen, strong, weak).mean(axis=1)[::-1]


def _summary(share: Floats, quality: Floats, weak: Floats, strong: Floats) -> Published:
    low, high = float(weak.mean()), float(strong.mean())
    width = float(share[-1] - share[0])
    apgr = (float(np.trapezoid(quality, share)) - low * width) / ((high - low) * width) if high != low and width > 0 else float("nan")
    cpt = {x: float(np.interp(x / 100 * (high - low) + low, quality, share)) * 100 for x in (20, 50, 80)}
    return Published(apgr, cpt, share, quality)


def optimal(weak: Floats, strong: Floats) -> Published:
    """The best any router could do with at most this share of strong calls: the repository's `get_optimal_accuracy`, at every share.

    The strong model is called where it gains most, and never where it does not gain, so the curve is level from there on.
    """
    gain = np.sort(np.clip(strong - weak, 0, None))[::-1]
    share = np.arange(len(gain) + 1) / len(gain)
    quality = weak.mean() + np.concatenate([[0.0], np.cumsum(gain)]) / len(gain)
    return _summary(share, quality, weak, strong)
