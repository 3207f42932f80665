"""Bradley-Terry fits, tiers and the ranking on them: what may not matter does not, more wins never hurt, nothing is infinite."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from routewright.core.types import Battles, Pool, Queries
from routewright.routers._bradley_terry import PRIOR, strengths, win_rate
from routewright.routers._tiers import tiers
from routewright.routers.sw_ranking import SWRanking

ANY = st.one_of(st.just(0.0), st.floats(1e-3, 1e3), st.floats(1e-30, 1e30))
ORDINARY = st.floats(0.05, 20)
GRID = st.integers(-4, 4).map(float)


@st.composite
def tables(draw: st.DrawFn, value: st.SearchStrategy[float] = ANY) -> np.ndarray:
    p = draw(st.integers(2, 7))
    return draw(arrays(np.float64, (draw(st.integers(1, 3)), p, p), elements=value))


@st.composite
def battles(draw: st.DrawFn, *, least: int = 2, most: int = 6) -> Battles:
    """Every model has fought; embeddings are on a grid, so that some repeat, oppose each other or are zero."""
    m = draw(st.integers(least, most))
    b = draw(st.integers(m, 14))
    queries = draw(st.integers(1, b))
    a = np.concatenate([np.arange(m), np.array(draw(st.lists(st.integers(0, m - 1), min_size=b - m, max_size=b - m)), dtype=np.int64)])
    step = np.array(draw(st.lists(st.integers(1, m - 1), min_size=b, max_size=b)))
    row = np.array(draw(st.lists(st.integers(0, queries - 1), min_size=b, max_size=b)))
    outcome = np.array(draw(st.lists(st.sampled_from([0, 0.5, 1]), min_size=b, max_size=b)))
    weight = np.array(draw(st.lists(st.floats(0.125, 8, width=32), min_size=b, max_size=b)))
    names = np.array([f"q{i}" for i in range(queries)], dtype=object)
    vectors = draw(arrays(np.float32, (queries, 3), elements=GRID))
    return Battles(Queries(names, names, names, vectors), Pool(tuple(f"m{i}" for i in range(m))), row, a, (a + step) % m, outcome, weight)


def centred(wins: np.ndarray) -> np.ndarray:
    found = strengths(wins)
    return found - found.mean(axis=1, keepdims=True)


def scores(table: Battles, queries: Queries | None = None, **options: object) -> np.ndarray:
    router = SWRanking(**options).fit(table, rng=np.random.default_rng(0))  # type: ignore[arg-type]
    return router.predict(table.queries if queries is None else queries).quality


@given(tables())
def test_strengths_are_finite_and_bounded(wins: np.ndarray) -> None:
    found = strengths(wins)
    assert np.isfinite(found).all()
    assert np.ptp(found, axis=1).max() <= (wins.shape[1] - 1) * np.log(2 / PRIOR) + 1e-6


@given(tables(), st.floats(1e-6, 1e6))
def test_the_unit_of_weights_does_not_matter(wins: np.ndarray, factor: float) -> None:
    wins = np.where(wins < 1e-20, 0, wins)  # a table of nothing but specks is ties
    assert np.allclose(centred(wins * factor), centred(wins), atol=1e-5)


@given(tables(), st.randoms(use_true_random=False))
def test_the_order_of_players_does_not_matter(wins: np.ndarray, shuffler: object) -> None:
    order = np.random.default_rng(shuffler.getrandbits(32)).permutation(wins.shape[1])  # type: ignore[attr-defined]
    assert np.allclose(centred(wins[:, order][:, :, order]), centred(wins)[:, order], atol=1e-5)


@given(tables())
def test_wins_for_losses_turn_the_order_round(wins: np.ndarray) -> None:
    assert np.allclose(centred(wins.transpose(0, 2, 1)), -centred(wins), atol=1e-5)


@given(tables(), st.integers(0, 6))
def test_the_start_does_not_matter(wins: np.ndarray, player: int) -> None:
    start = np.zeros(wins.shape[1])
    start[player % len(start)] = 30.0
    again = strengths(wins, start)
    assert np.allclose(again - again.mean(axis=1, keepdims=True), centred(wins), atol=1e-5)


@given(tables(ORDINARY))
def test_expected_wins_are_those_that_were_won(wins: np.ndarray) -> None:
    """The condition an unpenalised maximum has: every player wins as often as its strength says."""
    off = wins * (1 - np.eye(wins.shape[1]))
    found = strengths(wins)
    chance = 1 / (1 + np.exp(found[:, None, :] - found[:, :, None]))
    expected = ((off + off.transpose(0, 2, 1)) * chance).sum(axis=2)
    assert np.allclose(expected, off.sum(axis=2), atol=1e-5)


@given(tables(ORDINARY), st.floats(0.01, 50))
def test_one_more_win_raises_the_winner_over_the_loser(wins: np.ndarray, more: float) -> None:
    before = win_rate(strengths(wins), 0, 1)
    wins[:, 0, 1] += more
    assert np.all(win_rate(strengths(wins), 0, 1) > before)


# ---- tiers

RATINGS = st.lists(st.integers(-30, 30), min_size=1, max_size=8).map(lambda values: np.array(values, dtype=float))


@given(RATINGS, st.integers(2, 5))
def test_tiers_are_few_contiguous_and_the_best_there_are(rating: np.ndarray, count: int) -> None:
    found = tiers(rating, count)
    assert sorted(set(found)) == list(range(found.max() + 1))
    assert found.max() < count
    ordered = np.argsort(-rating, kind="stable")
    assert np.all(np.diff(found[ordered]) >= 0)
    falling = rating[ordered]
    cuts = (cut for k in range(min(count, len(rating))) for cut in combinations(range(1, len(rating)), k))
    best = min(sum(np.var(part) for part in np.split(falling, cut)) for cut in cuts)
    assert sum(np.var(rating[found == tier]) for tier in set(found)) == pytest.approx(best, abs=1e-9)


# ---- the ranking


@settings(max_examples=100)
@given(battles(), st.sampled_from([1, 10, 1e4, 1e8]), st.integers(2, 6), st.sampled_from(["drop", "published"]))
def test_scores_are_finite_for_any_battles(table: Battles, base: float, count: int, within: str) -> None:
    quality = scores(table, base=base, tiers=count, within=within)
    assert np.isfinite(quality).all()
    assert np.abs(quality.sum(axis=1)).max() < 1e-6


@given(battles(), st.sampled_from([0.25, 2, 1024]), st.sampled_from(["drop", "published"]))
def test_the_unit_of_battle_weights_does_not_matter(table: Battles, factor: float, within: str) -> None:
    scaled = Battles(table.queries, table.pool, table.query, table.a, table.b, table.outcome, table.weight * factor)  # type: ignore[operator]
    assert np.allclose(scores(scaled, tiers=3, within=within), scores(table, tiers=3, within=within), atol=1e-9)


@given(battles(), st.lists(st.booleans(), min_size=14, max_size=14))
def test_who_is_called_a_does_not_matter(table: Battles, turned: list[bool]) -> None:
    turn = np.array(turned[: len(table)])
    a, b = np.where(turn, table.b, table.a), np.where(turn, table.a, table.b)
    outcome = np.where(turn, 1 - table.outcome, table.outcome)
    other = Battles(table.queries, table.pool, table.query, a, b, outcome, table.weight)
    assert np.allclose(scores(other), scores(table), atol=1e-5)


@given(battles(), st.randoms(use_true_random=False))
def test_names_of_models_do_not_matter(table: Battles, shuffler: object) -> None:
    place = np.random.default_rng(shuffler.getrandbits(32)).permutation(len(table.pool))  # type: ignore[attr-defined]
    other = Battles(table.queries, table.pool, table.query, place[table.a], place[table.b], table.outcome, table.weight)
    assert np.allclose(scores(other)[:, place], scores(table), atol=1e-5)


@given(battles(), st.integers(0, 13), st.floats(1, 20))
def test_a_heavier_win_never_lowers_the_winner_against_the_loser(table: Battles, at: int, factor: float) -> None:
    at %= len(table)
    outcome, weight = table.outcome.copy(), np.array(table.weight)
    outcome[at] = 1
    light = Battles(table.queries, table.pool, table.query, table.a, table.b, outcome, weight)
    weight[at] *= factor
    heavy = Battles(table.queries, table.pool, table.query, table.a, table.b, outcome, weight)
    gain = [scores(one)[:, table.a[at]] - scores(one)[:, table.b[at]] for one in (light, heavy)]
    assert np.all(gain[1] >= gain[0] - 1e-4)
