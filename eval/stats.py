"""Bootstrap weights and intervals: paired by query, or by group where whole groups were left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from routewright.core.types import Floats

CHUNK = 64  # replicates held at once: bounds memory at CHUNK x events


def resamples(n: int, replicates: int, rng: np.random.Generator, groups: Sequence[str] | None = None) -> Iterator[Floats]:
    """Chunks of weight[b,n]: how often every query stands in each resample of the n queries, or of the groups (clusters) they come from.

    Clustered resampling answers "another set of subjects", which is the uncertainty that matters when subjects were left out.
    """
    codes = None if groups is None else np.unique(np.asarray(groups, dtype=str), return_inverse=True)[1]
    units = n if codes is None else int(codes.max()) + 1
    for begin in range(0, replicates, CHUNK):
        size = min(CHUNK, replicates - begin)
        counts = rng.multinomial(units, np.full(units, 1 / units), size=size).astype(np.float64)
        yield counts if codes is None else counts[:, codes]


def interval(values: Floats, level: float = 0.95) -> list[float] | None:
    """Percentile interval [low, high] of bootstrap values; None if more than a twentieth of them is undefined."""
    finite = np.isfinite(values)
    if not len(values) or finite.mean() < 0.95:
        return None
    tail = (1 - level) / 2
    low, high = np.quantile(values[finite], [tail, 1 - tail])
    return [float(low), float(high)]


def standard_error(difference: Floats, groups: Sequence[str] | None = None) -> float:
    """Standard error of the mean of difference[n], by query or clustered by group (sum of residuals within each group)."""
    residual = difference - difference.mean()
    if groups is not None:
        codes = np.unique(np.asarray(groups, dtype=str), return_inverse=True)[1]
        residual = np.bincount(codes, weights=residual)
    return float(np.sqrt((residual**2).sum()) / len(difference))
