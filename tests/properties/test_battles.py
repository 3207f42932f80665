"""Battles: the file gives back what was written, byte for byte the same twice; shares of battles won are shares."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from routewright.core.judged import win_shares
from routewright.core.types import Battles, Outcomes, Pool, Queries
from routewright.data.battles import battles, read_battles, read_battles_metadata, write_battles

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
USD = st.one_of(st.just(float("nan")), st.floats(0, 1e3))


def column(values: list[Any]) -> Any:
    return np.array([*values, None], dtype=object)[:-1]


@st.composite
def fights(draw: st.DrawFn) -> Battles:
    n, m, b = draw(st.integers(1, 5)), draw(st.integers(2, 4)), draw(st.integers(0, 9))

    def several(values: Any, count: int) -> list[Any]:
        return draw(st.lists(values, min_size=count, max_size=count))

    ids = draw(st.lists(TEXT, min_size=n, max_size=n, unique=True))
    queries = Queries(column(ids), column(several(TEXT, n)), column(several(TEXT, n)))
    prices = [np.array(several(USD, m)) for _ in range(4)]
    names = draw(st.lists(TEXT.filter(bool), min_size=m, max_size=m, unique=True))
    pool = Pool(tuple(names), *prices, variant=tuple(several(TEXT, m)))
    a = np.array(several(st.integers(0, m - 1), b), dtype=np.int64)
    step = np.array(several(st.integers(1, m - 1), b), dtype=np.int64)
    weight = np.array(several(st.floats(2**-10, 1e3, width=32), b), dtype=np.float32)
    outcome = np.array(several(st.sampled_from([0, 0.5, 1]), b), dtype=np.float32)
    return Battles(queries, pool, np.array(several(st.integers(0, n - 1), b), dtype=np.int64), a, (a + step) % m, outcome, weight)


@given(fights())
def test_round_trip_is_exact(fought: Battles) -> None:
    with TemporaryDirectory() as folder:
        path = write_battles(Path(folder) / "b.parquet", fought, {"note": "é"})
        again = read_battles(path)
        assert read_battles_metadata(path) == {"note": "é"}
        assert list(Path(folder).iterdir()) == [path]
        first = path.read_bytes()
        assert write_battles(path, again, {"note": "é"}).read_bytes() == first
    for name in ("query", "a", "b", "outcome", "weight"):
        np.testing.assert_array_equal(getattr(again, name), getattr(fought, name))
        assert getattr(again, name).dtype == getattr(fought, name).dtype
    for name in ("id", "text", "group"):
        assert getattr(again.queries, name).tolist() == getattr(fought.queries, name).tolist()
    assert (again.pool.name, again.pool.variant) == (fought.pool.name, fought.pool.variant)
    for name in ("usd_input", "usd_cached_input", "usd_output", "usd_call"):
        np.testing.assert_array_equal(getattr(again.pool, name), getattr(fought.pool, name))


@given(fights())
def test_shares_are_shares(fought: Battles) -> None:
    quality = win_shares(fought)
    Outcomes(fought.queries, fought.pool, quality, np.full(quality.shape, np.nan))
    there = {(int(q), int(j)) for q, a, b in zip(fought.query, fought.a, fought.b, strict=True) for j in (a, b)}
    assert {(int(i), int(j)) for i, j in np.argwhere(~np.isnan(quality))} == there
    swapped = Battles(fought.queries, fought.pool, fought.query, fought.b, fought.a, 1 - fought.outcome, fought.weight)
    np.testing.assert_allclose(win_shares(swapped), quality, rtol=1e-9, atol=1e-9)


@settings(max_examples=20)
@given(st.integers(2, 4), st.integers(1, 5), st.integers(0, 99))
def test_a_judge_who_sees_the_truth_keeps_its_order(m: int, n: int, seed: int) -> None:
    """All pairs by true quality: the share won orders the models as the truth does, and has mean one half."""
    truth = np.random.default_rng(seed).integers(0, 3, (n, m)) / 2
    queries = Queries(column([f"q{i}" for i in range(n)]), column(["x"] * n), column([""] * n))
    pool = Pool(tuple(f"m{j}" for j in range(m)))
    verdict = {1.0: "first", 0.0: "tie", -1.0: "second"}
    pairs = [(i, a, b) for i in range(n) for a in range(m) for b in range(a + 1, m)]
    quality = win_shares(
        battles(queries, pool, {pair: verdict[np.sign(truth[pair[0], pair[1]] - truth[pair[0], pair[2]])] for pair in pairs})
    )
    np.testing.assert_allclose(quality.mean(axis=1), 0.5)
    np.testing.assert_array_equal(np.sign(quality[:, :, None] - quality[:, None]), np.sign(truth[:, :, None] - truth[:, None]))
    made = Outcomes(queries, pool, truth, np.full(truth.shape, np.nan)).battles()
    np.testing.assert_allclose(win_shares(made), quality)
