"""Small array helpers that several packages need."""

from __future__ import annotations

import numpy as np

from routewright.core.types import Floats


def column_means(table: Floats) -> Floats:
    """[m] float64: the mean of what each column of table[n,m] observed; NaN where it observed nothing."""
    count = (~np.isnan(table)).sum(axis=0)
    total = np.nansum(table, axis=0, dtype=np.float64)
    return np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)
