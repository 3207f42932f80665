"""Bootstrap weights and intervals: paired by query, or by group where whole groups were left out."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from routewright.core.types import Floats, Ints

CHUNK = 64  # replicates held at once: bounds memory at CHUNK x events


def resamples(units: Ints, replicates: int, rng: np.random.Generator) -> Iterator[Floats]:
    """Chunks of weight[b,n]: how often every query stands in each resample of the units (numbered from 0) that they belong to.

    A unit is a distinct text: rows that ask the same thing are one piece of evidence. Or a group (a cluster): that answers "another set of
    subjects", the uncertainty that matters when subjects were left out.
    """
    count = int(units.max()) + 1
    for begin in range(0, replicates, CHUNK):
        size = min(CHUNK, replicates - begin)
        yield rng.multinomial(count, np.full(count, 1 / count), size=size).astype(np.float64)[:, units]


def interval(values: Floats, level: float = 0.95) -> list[float] | None:
    """Percentile interval [low, high] of bootstrap values; None if more than a twentieth of them is undefined."""
    finite = np.isfinite(values)
    if not len(values) or finite.mean() < 0.95:
        return None
    tail = (1 - level) / 2
    low, high = np.quantile(values[finite], [tail, 1 - tail])
    return [float(low), float(high)]


def standard_error(difference: Floats, units: Ints) -> float:
    """Standard error of the mean of difference[n], clustered by unit (sum of the residuals within each)."""
    residual = np.bincount(units, weights=difference - difference.mean())
    return float(np.sqrt((residual**2).sum()) / len(difference))
