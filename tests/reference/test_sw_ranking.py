"""Similarity-weighted ranking against a restatement of the published computation, its fits against choix, its tiers against plain loops."""

from __future__ import annotations

import choix
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from routewright.core.types import Battles, Pool, Queries
from routewright.routers._bradley_terry import strengths
from routewright.routers._tiers import tiers
from routewright.routers.sw_ranking import SWRanking

DIM = 12


def arena(models: int, size: int, seed: int = 0, queries: int = 150) -> Battles:
    """Battles with ties between models of different skill; several of them on each query, and queries that resemble each other."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(queries, DIM)) + 1.0
    names = np.array([f"q{i}" for i in range(queries)], dtype=object)
    a = rng.integers(0, models, size)
    b = (a + rng.integers(1, models, size)) % models
    row = rng.integers(0, queries, size)
    skill, taste = np.linspace(1, -1, models), rng.normal(size=(models, DIM)) / 4
    gap = skill[a] - skill[b] + ((taste[a] - taste[b]) * vectors[row]).sum(axis=1)
    won = rng.random(size) < 1 / (1 + np.exp(-gap))
    outcome = np.where(rng.random(size) < 0.3, 0.5, won)
    return Battles(
        Queries(names, names, names, vectors.astype(np.float32)), Pool(tuple(f"m{i:02}" for i in range(models))), row, a, b, outcome
    )


def elo(first: np.ndarray, second: np.ndarray, outcome: np.ndarray, players: int, weight: np.ndarray) -> np.ndarray:
    """Ratings in Elo points: every battle stands twice, and a tie is won once and lost once.

    Where a player meets itself, the second entry of the row replaces the first, as in the published code.
    """
    design = np.zeros((len(first), players))
    design[np.arange(len(first)), first] = np.log(10)
    design[np.arange(len(first)), second] = -np.log(10)
    label = np.concatenate([outcome >= 0.5, outcome == 1])
    model = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10, max_iter=5000)
    model.fit(np.concatenate([design, design]), label, sample_weight=np.tile(weight, 2))
    return 1000 + 400 * model.coef_[0]


def plain_tiers(rating: np.ndarray, count: int) -> np.ndarray:
    """The published recurrence for the models in falling order, written with plain loops and remembered splits."""
    order = np.argsort(-rating)
    x = rating[order]
    best = {(0, j): (np.var(x[: j + 1]), -1) for j in range(len(x))}
    for tier in range(1, count):
        best[tier, 0] = (0.0, 0)
        for j in range(1, len(x)):
            best[tier, j] = min((best[tier - 1, cut][0] + np.var(x[cut + 1 : j + 1]), cut) for cut in range(j))
    label, end = np.empty(len(x), dtype=int), len(x) - 1
    for tier in range(count - 1, -1, -1):
        cut = best[tier, end][1] if tier else -1
        label[order[cut + 1 : end + 1]] = tier
        end = cut
    return label


def published_win_rates(battles: Battles, base: float, count: int, within: str, queries: Queries, a: int, b: int) -> np.ndarray:
    m = len(battles.pool)
    rating = elo(battles.a, battles.b, battles.outcome, m, np.ones(len(battles)))
    tier = np.arange(m) if m <= count else plain_tiers(rating, count)
    memory = battles.queries.vectors()[battles.query].astype(np.float64)
    kept = np.ones(len(battles), dtype=bool) if within == "published" else tier[battles.a] != tier[battles.b]
    rates = []
    for vector in queries.vectors().astype(np.float64):
        similarity = memory @ vector / (np.linalg.norm(memory, axis=1) * np.linalg.norm(vector))
        weight = 10 * base ** (similarity / similarity.max())
        rows = (tier[battles.a][kept], tier[battles.b][kept], battles.outcome[kept])
        rating = elo(*rows, tier.max() + 1, weight[kept] / weight.mean())
        rates.append(1 / (1 + 10 ** ((rating[tier[b]] - rating[tier[a]]) / 400)))
    return np.array(rates)


@pytest.mark.parametrize("within", ["drop", "published"])
@pytest.mark.parametrize("base", [10.0, 1e4])
@pytest.mark.parametrize(("models", "size"), [(2, 300), (7, 900), (24, 3000)])
def test_win_rates_are_the_published_ones(models: int, size: int, base: float, within: str) -> None:
    battles = arena(models, size)
    queries = arena(2, 1, seed=9, queries=6).queries
    router = SWRanking(base=base, tiers=10, within=within).fit(battles, rng=np.random.default_rng(0))
    expected = published_win_rates(battles, base, 10, within, queries, 0, models - 1)
    assert np.ptp(expected) > 0.005, "the comparison would say nothing of constants"
    assert np.abs(router.win_rate(queries, 0, models - 1) - expected).max() < 1e-5


def test_the_two_treatments_of_a_tier_differ() -> None:
    battles = arena(24, 3000)
    rate = [SWRanking(within=w).fit(battles, rng=np.random.default_rng(0)).win_rate(battles.queries, 0, 23) for w in ("drop", "published")]
    assert np.abs(rate[0] - rate[1]).max() > 0.01


def test_two_models_are_a_weighted_mean() -> None:
    battles = arena(2, 400)
    queries = arena(2, 1, seed=3, queries=50).queries
    unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (q.vectors().astype(float) for q in (queries, battles.queries))]
    similarity = (unit[0] @ unit[1].T)[:, battles.query]
    weight = 10.0 ** (similarity / similarity.max(axis=1, keepdims=True))
    result = np.where(battles.a == 0, battles.outcome, 1 - battles.outcome)
    expected = weight @ result / weight.sum(axis=1)
    router = SWRanking(base=10).fit(battles, rng=np.random.default_rng(0))
    assert np.ptp(expected) > 0.01
    assert np.abs(router.win_rate(queries, 0, 1) - expected).max() < 1e-6


@pytest.mark.parametrize("players", [2, 3, 10, 40])
def test_fits_are_those_of_choix(players: int) -> None:
    """A win of weight 3 is given to choix as three wins."""
    rng = np.random.default_rng(players)
    wins = rng.integers(0, 4, (players, players)) * (1 - np.eye(players, dtype=int))
    wins += np.diag(np.ones(players - 1, int), 1) + np.diag(np.ones(players - 1, int), -1)
    pairs = [(i, j) for i, j in np.ndindex(players, players) for _ in range(wins[i, j])]
    expected = choix.ilsr_pairwise(players, pairs, alpha=0, tol=1e-12)
    found = strengths(wins[None])[0]
    assert np.abs((found - found.mean()) - (expected - expected.mean())).max() < 1e-6


@pytest.mark.parametrize(("models", "count"), [(5, 2), (12, 4), (30, 10), (64, 10)])
def test_tiers_are_those_of_plain_loops(models: int, count: int) -> None:
    for seed in range(5 if models < 64 else 1):
        rating = np.random.default_rng(seed).normal(1000, 150, models)
        assert tiers(rating, count).tolist() == plain_tiers(rating, count).tolist()
