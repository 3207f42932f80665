"""Gradient-boosted trees as plain arrays: grown by scikit-learn, kept without pickle, walked with numpy."""

from __future__ import annotations

from typing import Any

import numpy as np

from routewright.core.types import Floats, Ints

BLOCK = 2048  # rows that walk all trees at once

Trees = dict[str, np.ndarray[Any, Any]]
FIELDS = ("feature", "threshold", "missing_left", "left", "right", "value")


def grow(x: Floats, grade: Floats, seed: int, **recipe: Any) -> Trees:
    """Trees whose sum is the log odds of `grade` (n,) in [0, 1] given x (n, k), NaN for unknown.

    A grade between 0 and 1 counts as that share of a right answer and the rest of a wrong one. Every node of every tree stands in one
    list: feature (-1: a leaf), threshold, missing_left, left, right, value; root[t] is where tree t begins and base the log odds that all
    rows share. Grades that are all 0 or all 1 give no tree, and a base of (right + 1/2) / (n + 1) as odds.
    """
    right, n = float(grade.sum(dtype=np.float64)), len(grade)
    known = _telling(x)
    if right in (0.0, float(n)) or not len(known):
        chance = (right + 0.5) / (n + 1)
        return _listed([], np.log(chance / (1 - chance)), known)
    from sklearn.ensemble import HistGradientBoostingClassifier

    some, less = np.flatnonzero(grade > 0), np.flatnonzero(grade < 1)
    rows, label = np.concatenate([some, less]), np.repeat([1, 0], [len(some), len(less)])
    weight = np.concatenate([grade[some], 1 - grade[less]])
    model = HistGradientBoostingClassifier(early_stopping=False, random_state=seed, **recipe)
    model.fit(x[np.ix_(rows, known)], label, sample_weight=weight)
    return _listed([found.nodes for (found,) in model._predictors], float(np.ravel(model._baseline_prediction)[0]), known)


def _telling(x: Floats) -> Ints:
    """The columns that take at least two values: the binning cannot take a column of NaN alone."""
    if not len(x):
        return np.empty(0, dtype=np.int64)
    filled = np.where(np.isnan(x), np.inf, x).min(axis=0)
    return np.flatnonzero(np.where(np.isnan(x), -np.inf, x).max(axis=0) > filled)


def _listed(grown: list[Any], base: float, columns: Ints) -> Trees:
    sizes = [len(nodes) for nodes in grown]
    root = np.cumsum([0, *sizes[:-1]], dtype=np.int64) if sizes else np.empty(0, dtype=np.int64)
    made: dict[str, list[Any]] = {name: [] for name in FIELDS}
    for begin, nodes in zip(root, grown, strict=True):
        leaf = nodes["is_leaf"].astype(bool)
        made["feature"].append(np.where(leaf, -1, columns[np.where(leaf, 0, nodes["feature_idx"])]).astype(np.int32))
        made["threshold"].append(np.where(leaf, 0.0, nodes["num_threshold"]))
        made["missing_left"].append(nodes["missing_go_to_left"].astype(np.uint8))
        # a leaf leads to itself, so that every row may walk as many steps as the deepest tree has
        here = begin + np.arange(len(nodes))
        made["left"].append(np.where(leaf, here, begin + nodes["left"].astype(np.int64)).astype(np.int32))
        made["right"].append(np.where(leaf, here, begin + nodes["right"].astype(np.int64)).astype(np.int32))
        made["value"].append(nodes["value"])
    joined = {name: np.concatenate(parts) if parts else np.empty(0) for name, parts in made.items()}
    deepest = max((int(nodes["depth"].max()) for nodes in grown), default=0)
    return joined | {"root": root.astype(np.int32), "base": np.array([base]), "depth": np.array([deepest])}


def log_odds(trees: Trees, x: Floats) -> Floats:
    """(n,) the sum of all trees for x (n, k)."""
    made = np.full(len(x), float(trees["base"][0]))
    if not len(trees["root"]):
        return made
    for begin in range(0, len(x), BLOCK):
        part = x[begin : begin + BLOCK]
        node = np.tile(trees["root"], (len(part), 1)).astype(np.int64)
        row = np.arange(len(part))[:, None]
        for _ in range(int(trees["depth"][0])):
            seen = part[row, np.maximum(trees["feature"][node], 0)]
            left = np.where(np.isnan(seen), trees["missing_left"][node] > 0, seen <= trees["threshold"][node])
            node = np.where(left, trees["left"][node], trees["right"][node])
        made[begin : begin + BLOCK] += trees["value"][node].sum(axis=1)
    return made
