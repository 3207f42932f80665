"""Tokens to dollars: published figures, hand-made tables, and properties of the bill."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hydra.utils import instantiate
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from routewright.core.prices import PriceBook, ledger
from routewright.core.types import InputError, Outcomes, Pool, Queries

ROOT = Path(__file__).parents[2]
BOOK = PriceBook(
    date="2025-11-01",
    source="test",
    models={
        "claude": {"input": 3, "output": 15, "cached_input": 0.30},
        "thinker": {"input": 1, "output": 4, "reasoning": 2, "call": 0.01},
        "plain": {"input": 2, "output": 8},
    },
)


def counts(**kinds: float) -> Mapping[str, np.ndarray]:
    return {kind: np.array([[value]], dtype=float) for kind, value in kinds.items()}


def one(model: str, usage: str = "nominal", book: PriceBook = BOOK, **kinds: float) -> float:
    return float(book.cost(book.pool([model]), counts(**kinds), usage)[0, 0])


def test_the_example_workload_of_the_chapter() -> None:
    plain, cached = one("claude", input=4000, output=500), one("claude", input=4000, cached_input=3000, output=500)
    assert plain == pytest.approx(0.0195)
    assert cached == pytest.approx(0.0114)
    assert (plain * 10_000 * 30, cached * 10_000 * 30) == pytest.approx((5850, 3420))


def test_the_pair_of_routellm_costs_what_the_paper_says() -> None:
    book = instantiate(OmegaConf.load(ROOT / "configs/prices/routellm_2024.yaml"))
    per_million = {name: one(name, book=book, input=95, output=264) / (95 + 264) * 1e6 for name in book.models}
    assert per_million == pytest.approx(
        {"gpt-4-1106-preview": 24.7, "mistralai/Mixtral-8x7B-Instruct-v0.1": 0.24, "mixtral-8x7b-instruct-v0.1": 0.24}, rel=1e-3
    )


def test_reasoning_and_calls_have_prices_of_their_own() -> None:
    assert one("thinker", input=1e6, output=1e6, reasoning=1e6) == pytest.approx(1 + 4 + 2 + 0.01)
    assert one("plain", input=0, output=1e6, reasoning=1e6) == pytest.approx(16)


def test_the_pool_has_prices_a_token_in_the_order_asked_for() -> None:
    pool = BOOK.pool(["plain", "claude"])
    assert pool.name == ("plain", "claude")
    np.testing.assert_allclose(pool.usd_input, [2e-6, 3e-6])
    np.testing.assert_allclose(pool.usd_cached_input, [np.nan, 3e-7])
    np.testing.assert_allclose(pool.usd_output, [8e-6, 15e-6])
    np.testing.assert_array_equal(pool.usd_call, [0, 0])


def test_an_unknown_count_is_an_unknown_cost() -> None:
    tokens = {"input": np.array([[10.0], [np.nan], [10.0]]), "output": np.array([[1.0], [1.0], [np.nan]])}
    np.testing.assert_array_equal(np.isnan(BOOK.cost(BOOK.pool(["claude"]), tokens, "estimated"))[:, 0], [False, True, True])
    assert np.isnan(one("plain", input=5, output=5, cached_input=np.nan))


@pytest.mark.parametrize(
    ("book", "model", "told"),
    [
        (BOOK, "gpt-9", "claude, plain, thinker"),
        (PriceBook(date="d", source="s", models={"a": {"input": 1}}), "a", "no output"),
        (PriceBook(date="d", source="s", models={"a": {"input": 1, "output": -1}}), "a", "output=-1"),
        (PriceBook(date="d", source="s", models={"a": {"input": 1, "output": float("nan")}}), "a", "output=nan"),
        (PriceBook(date="d", source="s", models={"a": {"input": 1, "output": 1, "ouput": 1}}), "a", "unknown ouput"),
        (PriceBook(date="d", source="s", models={"a": {"input": 1, "output": 1}}, currency="EUR"), "a", "EUR"),
    ],
)
def test_bad_prices_are_refused(book: PriceBook, model: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        book.pool([model])


@pytest.mark.parametrize(
    ("kinds", "told"),
    [
        ({"input": 5}, "lacks token counts"),
        ({"input": 5, "output": 5, "thinking": 5}, "unknown kind"),
        ({"input": -5, "output": 5}, "no count"),
        ({"input": 5, "output": np.inf}, "no count"),
        ({"input": 5, "output": 5, "cached_input": 6}, "more cached"),
        ({"input": 5, "output": 5, "cached_input": 1}, "no price for them"),
    ],
)
def test_bad_counts_are_refused(kinds: dict[str, float], told: str) -> None:
    with pytest.raises(InputError, match=told):
        one("plain", **kinds)


def test_counts_of_another_shape_and_usage_without_counts_are_refused() -> None:
    with pytest.raises(InputError, match="wrong shape"):
        BOOK.cost(BOOK.pool(["plain", "claude"]), counts(input=1, output=1), "nominal")
    with pytest.raises(InputError, match="measured, estimated or nominal"):
        one("plain", usage="none", input=1, output=1)


def measured(output: np.ndarray, prompt: np.ndarray | None = None) -> np.ndarray:
    tokens = {"input": np.arange(1.0, len(output) + 1)[:, None] if prompt is None else prompt[:, None], "output": output[:, None]}
    return BOOK.cost(BOOK.pool(["plain"]), tokens, "measured")


def test_measured_usage_must_look_measured() -> None:
    with pytest.raises(InputError, match="20 equal output counts of 256"):
        measured(np.full(20, 256.0))
    with pytest.raises(InputError, match="only zeros for output"):
        measured(np.zeros(3))
    with pytest.raises(InputError, match="only zeros for input"):
        measured(np.arange(3.0), np.zeros(3))
    with pytest.raises(InputError, match="no counts at all"):
        measured(np.full(3, np.nan))


def test_what_varies_is_few_or_is_estimated_is_let_through() -> None:
    assert measured(np.full(19, 256.0)).shape == (19, 1)
    assert np.isfinite(measured(np.append(np.full(19, 256.0), 255.0))).all()
    tokens = {"input": np.full((30, 1), 7.0), "output": np.ones((30, 1))}
    np.testing.assert_allclose(BOOK.cost(BOOK.pool(["plain"]), tokens, "estimated"), 7 * 2e-6 + 8e-6)


amount = st.integers(0, 10**6)


@given(amount, amount, amount, amount, st.integers(1, 9))
def test_the_bill_is_linear_in_tokens(fresh: int, cached: int, output: int, reasoning: int, times: int) -> None:
    kinds = {"input": fresh + cached, "cached_input": cached, "output": output, "reasoning": reasoning}
    assert one("claude", **{kind: times * value for kind, value in kinds.items()}) == pytest.approx(times * one("claude", **kinds))


@given(amount, amount, amount)
def test_a_cheaper_cache_never_costs_more(fresh: int, cached: int, output: int) -> None:
    with_cache = one("claude", input=fresh + cached, cached_input=cached, output=output)
    assert with_cache <= one("claude", input=fresh + cached, output=output) * (1 + 1e-12)


def test_the_ledger_counts_what_is_known_and_what_is_not() -> None:
    column = np.array(["a", "b"], dtype=object)
    table = Outcomes(
        Queries(column, column, column),
        Pool(("weak", "strong")),
        np.ones((2, 2)),
        np.array([[0.5, np.nan], [0.25, 2.0]]),
        tokens={"input": np.array([[1, np.nan], [2, 3]]), "output": np.ones((2, 2))},
        usage="measured",
    )
    assert ledger(table) == {
        "usd": 2.75,
        "usd_by_model": {"weak": 0.75, "strong": 2.0},
        "tokens": {"input": 6.0, "output": 4.0},
        "rows": 2,
        "rows_without_cost": {"weak": 0, "strong": 1},
        "usage": "measured",
    }
