"""Without a signal the mean APGR over many made-up tables is .5, also with groups left out: pooling folds adds no bias."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from routewright.data.split import folds
from routewright.eval import metrics
from routewright.eval.controls import GroupMean
from routewright.eval.crossfit import crossfit
from routewright.eval.curves import Sweep
from routewright.routers.constant import Constant
from routewright.routers.knn import KNN
from routewright.routers.ridge import Ridge
from tests.conftest import make_outcomes

MAKERS = {"constant": Constant, "group": GroupMean, "knn": lambda: KNN(k=30), "ridge": lambda: Ridge(kernel="linear")}


def apgr_of_noise(seed: int, name: str, kind: str) -> float:
    """Grades that hang on the group alone; embeddings know nothing of it."""
    rng = np.random.default_rng(seed)
    table = make_outcomes(rng, n=240, d=6, groups=12)
    code = np.array([int(group.removeprefix("group")) for group in table.queries.group])
    strong = rng.random(12)[code]
    quality = (rng.random((240, 2)) < np.stack([np.full(240, 0.4), 0.4 + 0.5 * strong], axis=1)).astype(float)
    table = replace(table, quality=quality)
    cuts = folds(table.queries, kind=kind, test=0.3, calibration=0.0, cv=4, rng=rng)
    fitted = crossfit(MAKERS[name], table, cuts, rng)
    sweep = Sweep(fitted.predictions, table.take(fitted.rows), policy="threshold", weak=0, strong=1)
    _, height, share = sweep.points()
    return float(metrics.apgr(share, height, quality[:, 0].mean(), quality[:, 1].mean())[0])


@pytest.mark.parametrize("name", MAKERS)
def test_with_groups_left_out(name: str) -> None:
    found = [apgr_of_noise(seed, name, "grouped") for seed in range(40)]
    assert np.mean(found) == pytest.approx(0.5, abs=max(4 * np.std(found) / np.sqrt(40), 1e-6))


@pytest.mark.parametrize("name", ["constant", "knn", "ridge"])
def test_with_random_folds(name: str) -> None:
    found = [apgr_of_noise(seed, name, "random") for seed in range(40)]
    assert np.mean(found) == pytest.approx(0.5, abs=max(4 * np.std(found) / np.sqrt(40), 1e-6))
