"""Cascade routing's table beside ours: routing, cascades and both at once, with estimates of a known noise (arXiv 2410.10347, table 1).

The authors' protocol (code eth-sri/cascade-routing): 5 % of the queries choose hyper-parameters, the others judge. What is known of a query
is its true quality and cost plus Gaussian noise, more before a call than after, drawn towards the mean by a linear regression for each
model. AUC is the area under quality over cost from the cheapest to the dearest model, divided by that range.
Shapes: n queries, m models, k budgets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from routewright.core.arrays import column_means
from routewright.core.contracts import PRIOR, SCORE, USD_PRIOR, Cascade
from routewright.core.types import Decisions, Floats, Ints, Outcomes
from routewright.eval.curves import hull
from routewright.eval.replay import realised, replay

LINEAR, ROUTING, THRESHOLD, OPTIMAL, CASCADE_ROUTING = "linear interpolation", "routing", "threshold cascade", "optimal", "cascade_routing"
LEVELS = ("low", "medium", "high")
PUBLISHED: Mapping[str, tuple[float, ...]] = {  # AUC in %, RouterBench 0-shot, 11 models
    LINEAR: (70.51, 70.51, 70.51),
    ROUTING: (83.25, 74.63, 72.67),
    THRESHOLD: (84.48, 73.64, 69.79),
    OPTIMAL: (84.47, 75.10, 70.26),
    CASCADE_ROUTING: (87.24, 77.57, 74.40),
}
TRAIN = 0.05
STEPS = 10  # budgets between two neighbours of the hull of single models
TRIES = 400  # thresholds tried for every budget beside the best constant one


class Noise(NamedTuple):
    """Standard deviations: of quality before and after a call, of cost in USD before it (after it, cost is sunk)."""

    before: float
    after: float
    usd: float


NOISE: Mapping[str, Noise] = {"low": Noise(0.6, 0.3, 2e-4), "medium": Noise(1.6, 0.8, 4e-4), "high": Noise(2.4, 1.2, 100.0)}

RECIPES: Mapping[str, Mapping[str, Any]] = {  # the authors' settings
    ROUTING: {},
    OPTIMAL: {"front": False, "depth": None, "shallower": False, "draws": 128, "space": "identity"},
    CASCADE_ROUTING: {"depth": 5, "shallower": False, "draws": 128, "space": "identity"},
}
Make = Callable[[str, Mapping[str, Any]], Cascade]  # (a file of configs/cascade, settings) -> a cascade that is not fitted


@dataclass(frozen=True)
class Cell:
    """One strategy at one level: AUC in % and the curve behind it, mean cost[k] USD and quality[k] of the judged queries."""

    strategy: str
    level: str
    auc: float
    cost: Floats
    quality: Floats

    @property
    def published(self) -> float:
        return PUBLISHED[self.strategy][LEVELS.index(self.level)]


def reproduce(
    outcomes: Outcomes,
    make: Make,
    *,
    rng: Callable[[str], np.random.Generator],
    rows: int = 0,
    true_deviation: bool = False,
    say: Callable[[str], object] = str,
) -> list[Cell]:
    """All cells of the table. rng: a stream for each purpose; rows: judge at most so many queries, drawn at random; 0: all.

    The authors' code takes the variance of the score around the prior where the deviation belongs (`independent=True` in their
    compute_expected_max), and so does this, unless true_deviation.
    """
    order = rng("split").permutation(len(outcomes))
    train, test = np.split(order, [round(TRAIN * len(order))])
    test = test[:rows] if rows else test
    cells = []
    for level in LEVELS:
        seen, deviation = estimates(outcomes, NOISE[level], rng(f"noise {level}"))
        learn, judge = seen.take(train), seen.take(test)
        budgets = budget_grid(judge)
        x, y = hull(column_means(judge.cost), column_means(judge.quality))
        found = {LINEAR: (x, y), THRESHOLD: _curve(judge, thresholded(learn, judge, budgets, rng(f"thresholds {level}")))}
        low, high = _spent(learn)
        shares = np.unique(np.maximum((budgets - low) / (high - low), 0.0)).tolist()
        around = {"deviation": (deviation if true_deviation else deviation**2).tolist()}
        for name, recipe in RECIPES.items():
            settings = {**recipe, "shares": shares, **(around if "space" in recipe else {})}
            cascade = make(name, settings).fit(learn, rng=rng(f"{name} {level}"))
            found[name] = _curve(judge, [replay(cascade, judge, knob=float(knob)) for knob in cascade.knobs()])
        for name in PUBLISHED:
            cells.append(Cell(name, level, 100 * area(*found[name], judge), *found[name]))
            say(f"{level} noise, {name}: {cells[-1].auc:.2f} (published {cells[-1].published:.2f})")
    return cells


def ordered(cells: Sequence[Cell]) -> bool:
    """Whether cascade routing is ahead of every other strategy at every level, as published."""
    best = {cell.level: cell.auc for cell in cells if cell.strategy == CASCADE_ROUTING}
    return all(cell.auc < best[cell.level] for cell in cells if cell.strategy != CASCADE_ROUTING)


def estimates(outcomes: Outcomes, noise: Noise, rng: np.random.Generator) -> tuple[Outcomes, Floats]:
    """The table with prior, score and usd_prior, and deviation[m], that of the score around the prior.

    As in the authors' code the regressions see all queries, the judged ones too: noise is what is controlled, not how it is learned.
    """
    quality, cost = outcomes.quality.astype(np.float64), outcomes.cost
    before = _drawn(quality, noise.before, rng)
    after = _drawn(quality, noise.after, rng)
    signals = {PRIOR: before, SCORE: after, USD_PRIOR: _drawn(cost, noise.usd, rng)}
    return replace(outcomes, signals=signals), (after - before).std(axis=0)


def _drawn(truth: Floats, deviation: float, rng: np.random.Generator) -> Floats:
    """(n, m): truth with noise, put through the best line back to the truth, a line for each model."""
    seen = truth + deviation * rng.standard_normal(truth.shape)
    gap = seen - seen.mean(axis=0)
    slope = (gap * (truth - truth.mean(axis=0))).mean(axis=0) / (gap**2).mean(axis=0)
    return np.asarray(truth.mean(axis=0) + slope * gap)


def budget_grid(judge: Outcomes) -> Floats:
    """[k] USD a query: STEPS between every two neighbours on the hull of the single models' means."""
    x, _ = hull(column_means(judge.cost), column_means(judge.quality))
    return np.unique(np.concatenate([np.linspace(a, b, STEPS) for a, b in pairwise(x)]))


def area(cost: Floats, quality: Floats, judge: Outcomes) -> float:
    """Area under quality over cost between the cheapest and the dearest model's mean cost, divided by that range.

    Right of the last point quality stays; left of the first one the curve comes from the worst single model at the cheapest one's cost.
    """
    single = column_means(judge.cost)
    low, high = float(single.min()), float(single.max())
    points = np.unique(np.column_stack([cost, quality]), axis=0)
    x, y = points[:, 0], points[:, 1]
    if x[0] > low:
        x, y = np.r_[low, x], np.r_[column_means(judge.quality).min(), y]
    if x[-1] < high:
        x, y = np.r_[x, high], np.r_[y, y[-1]]
    inside = (x > low) & (x < high)
    x, y = np.r_[low, x[inside], high], np.r_[np.interp(low, x, y), y[inside], np.interp(high, x, y)]
    return float(np.trapezoid(y, x) / (high - low))


def thresholded(learn: Outcomes, judge: Outcomes, budgets: Floats, rng: np.random.Generator) -> list[Decisions]:
    """The threshold cascade at every budget: all models by mean cost, on while the score is below that model's threshold; the last serves.

    Thresholds are those of best quality within the budget on the queries to learn from: the best constant one, then TRIES more, half of
    them anywhere in [0, 1] and half around the best so far. (The authors draw as many with a tree of Parzen estimators.)
    """
    order = np.argsort(column_means(learn.cost), kind="stable")
    stages = len(order) - 1
    # a threshold's place among the recorded scores is all that matters; the ends are never and always
    constant = np.r_[-np.inf, np.quantile(learn.signals[SCORE], np.linspace(0, 1, 200)), np.inf]
    shared = [np.full(stages, value) for value in constant] + list(rng.random((TRIES // 2, stages)))
    tried = [_tried(learn, order, tau) for tau in shared]
    found = []
    for budget in budgets:
        best = max((one for one in tried if one[1] <= budget), key=lambda one: one[0], default=min(tried, key=lambda one: one[1]))
        for _ in range(TRIES // 2):
            tau = np.nan_to_num(best[2], posinf=1.5, neginf=-0.5) + rng.normal(size=stages) * 0.1 * (rng.random(stages) < 0.3)
            one = _tried(learn, order, tau)
            best = one if one[1] <= budget and one[0] > best[0] else best
        found.append(_asked(judge, order, best[2]))
    return found


def _tried(learn: Outcomes, order: Ints, tau: Floats) -> tuple[float, float, Floats]:
    quality, cost = realised(_asked(learn, order, tau), learn)
    return float(quality.mean()), float(cost.mean()), tau


def _asked(table: Outcomes, order: Ints, tau: Floats) -> Decisions:
    """Who is called and served when every model in this order but the last has its threshold."""
    enough = np.column_stack([table.signals[SCORE][:, order[:-1]] >= tau, np.ones(len(table), dtype=bool)])
    last = enough.argmax(axis=1)
    called = np.zeros(table.quality.shape, dtype=bool)
    called[:, order] = np.arange(len(order)) <= last[:, None]
    return Decisions(called, order[last], np.ones(len(table)))


def _curve(judge: Outcomes, decisions: Sequence[Decisions]) -> tuple[Floats, Floats]:
    """Mean cost[k] and quality[k]."""
    points = [realised(one, judge) for one in decisions]
    return np.array([cost.mean() for _, cost in points]), np.array([quality.mean() for quality, _ in points])


def _spent(learn: Outcomes) -> tuple[float, float]:
    """USD a query at shares 0 and 1: of the cheapest model, and of the best one."""
    cost = column_means(learn.cost)
    return float(cost.min()), float(cost[column_means(learn.quality).argmax()])


def as_table(cells: Sequence[Cell]) -> str:
    """Published and ours side by side."""
    lines = [f"{'AUC %':22}" + "".join(f"{level + ' noise':>22}" for level in LEVELS), f"{'':22}" + f"{'published':>13}{'ours':>9}" * 3]
    for name in PUBLISHED:
        mine = {cell.level: cell for cell in cells if cell.strategy == name}
        if mine:
            lines.append(f"{name:22}" + "".join(f"{mine[level].published:13.2f}{mine[level].auc:9.2f}" for level in LEVELS))
    return "\n".join(lines)


def as_json(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    return [
        {
            "strategy": cell.strategy,
            "level": cell.level,
            "published": cell.published,
            "auc": round(cell.auc, 4),
            "cost": cell.cost.tolist(),
            "quality": cell.quality.tolist(),
        }
        for cell in cells
    ]
