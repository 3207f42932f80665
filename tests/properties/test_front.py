"""Properties of the search for the best cascades that hold on every table."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from routewright.core.types import Floats
from routewright.routers.cascades._front import along, front, spent, stages


class Table(NamedTuple):
    score: Floats
    quality: Floats
    cost: Floats
    look: Floats | None
    rng: np.random.Generator


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """Any grades, tied or distinct scores that know something of them or nothing, costs in any order, looks free or not."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, m = draw(st.integers(1, 30)), draw(st.integers(1, 4))
    quality = rng.random((n, m))
    if draw(st.booleans()):
        quality = np.round(quality)
    score = np.clip(draw(st.sampled_from([0.0, 0.5])) * quality + 0.5 * rng.random((n, m)), 0, 1)
    score = np.round(score, draw(st.sampled_from([0, 1, 6])))
    cost = rng.random((n, m)) * 10.0 ** rng.integers(-3, 1, size=m)
    look = 0.1 * rng.random((n, m)) if draw(st.booleans()) else None
    return Table(score, quality, cost, look, rng)


@given(tables())
def test_the_front_rises_and_is_what_its_cascades_do(table: Table) -> None:
    score, quality, cost, look, _ = table
    found = front(score, quality, cost, look=look, cells=16, tolerance=0.0)
    assert (np.diff(found.cost) >= 0).all()
    assert (np.diff(found.quality) > 0).all()
    for models, thresholds, usd, worth in zip(*found, strict=True):
        served, paid = spent(stages(score, models, thresholds), models, quality, cost, look)
        assert np.isclose(paid.mean(), usd, rtol=1e-9)
        assert np.isclose(served.mean(), worth, rtol=1e-9)
        listed = models[models >= 0]
        assert len(set(listed.tolist())) == len(listed)


@given(tables())
def test_no_cascade_beats_the_front_at_its_own_cost(table: Table) -> None:
    score, quality, cost, look, rng = table
    m = score.shape[1]
    found = front(score, quality, cost, look=look, cells=16, tolerance=0.0)
    for _ in range(40):
        models = rng.permutation(m)[: rng.integers(1, min(3, m) + 1)]
        thresholds = np.array([rng.choice(np.append(score[:, model], [0.5, np.inf])) for model in models[:-1]])
        served, paid = spent(stages(score, models, thresholds), models, quality, cost, look)
        assert paid.mean() >= found.cost[0] * (1 - 1e-9)
        assert found.quality[found.at(np.array([paid.mean()]))][0] >= served.mean() - 1e-9


@given(tables(), st.lists(st.floats(0, 3), min_size=1, max_size=5))
def test_budgets_are_kept_and_more_money_is_never_worse(table: Table, shares: list[float]) -> None:
    score, quality, cost, look, _ = table
    found = front(score, quality, cost, look=look)
    budgets = np.sort(found.cost[0] + np.array(shares) * (found.cost[-1] - found.cost[0]))
    rows = found.at(budgets)
    assert (found.cost[rows] <= budgets * (1 + 1e-9)).all()
    assert (np.diff(found.quality[rows]) >= 0).all()


@given(tables())
def test_the_order_of_rows_does_not_matter(table: Table) -> None:
    score, quality, cost, look, rng = table
    order = rng.permutation(len(score))
    first = front(score, quality, cost, look=look)
    second = front(score[order], quality[order], cost[order], look=None if look is None else look[order])
    # sums in another order differ in the last digits, so cascades of equal quality may change places
    for one, other in ((first, second), (second, first)):
        assert (other.quality[other.at(one.cost * (1 + 1e-9))] >= one.quality - 1e-9).all()


@given(tables())
def test_more_stages_are_never_worse(table: Table) -> None:
    score, quality, cost, look, _ = table
    shorter = front(score, quality, cost, look=look, max_length=1)
    for length in (2, 3, 4):
        longer = front(score, quality, cost, look=look, max_length=length)
        assert (longer.quality[longer.at(shorter.cost)] >= shorter.quality - 1e-9).all()
        shorter = longer


@given(tables())
def test_a_fixed_order_does_what_it_says_and_a_free_one_is_no_worse(table: Table) -> None:
    score, quality, cost, look, rng = table
    order = rng.permutation(score.shape[1])[:3].tolist()
    found = along(score, quality, cost, order, look=look, steps=8)
    best = front(score, quality, cost, look=look, tolerance=0.0)
    assert (np.diff(found.quality) > 0).all()
    for models, thresholds, usd, worth in zip(*found, strict=True):
        assert models[models >= 0].tolist() == order[: (models >= 0).sum()]
        served, paid = spent(stages(score, models, thresholds), models, quality, cost, look)
        assert np.isclose(paid.mean(), usd, rtol=1e-9)
        assert np.isclose(served.mean(), worth, rtol=1e-9)
    assert (best.quality[best.at(found.cost)] >= found.quality - 1e-9).all()
