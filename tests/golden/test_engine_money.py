"""The engine and money, by hand: what calls cost, what is set aside for them, and a budget that is never passed."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from routewright.core.types import InputError
from routewright.data.calls import CallError, Reply, Request
from routewright.data.engine import Engine, Tally
from routewright.data.store import Store
from tests.scripted import BOOK, TOKENS, USD, Scripted, ask, engine, high, run, settled


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "calls.sqlite"


# --- prices of one call


def test_usd_of_one_call_by_hand() -> None:
    assert BOOK.usd("a", TOKENS) == pytest.approx(USD, rel=1e-12)
    assert BOOK.usd("b", TOKENS | {"cached_input": 40}) == pytest.approx((60 + 40 * 0.5 + 100) * 1e-6, rel=1e-12)
    assert BOOK.usd("thinker", {"input": 10, "output": 2, "reasoning": 3}) == pytest.approx((10 + 8 + 24) * 1e-6 + 0.01, rel=1e-12)
    assert math.isnan(BOOK.usd("a", None))
    assert math.isnan(BOOK.usd("a", {"input": 5}))
    assert math.isnan(BOOK.usd("a", {"output": 5}))
    with pytest.raises(InputError, match="cached input tokens but no price"):
        BOOK.usd("a", TOKENS | {"cached_input": 1})
    with pytest.raises(InputError, match="has no price"):
        BOOK.usd("other", TOKENS)
    with pytest.raises(InputError, match="no count"):
        BOOK.usd("a", {"input": -1, "output": 0})


# --- what is asked


def test_a_budget_needs_prices_before_the_first_call(path: Path) -> None:
    backend = Scripted()
    with pytest.raises(InputError, match="without prices"):
        run(path, backend, [ask()], None, budget_usd=1.0)
    with pytest.raises(InputError, match="'other' has no price"):
        run(path, backend, [ask(i) for i in range(100)] + [ask(0, "other")], budget_usd=1.0)
    assert not backend.asked
    with pytest.raises(InputError, match="'other' has no price"):
        run(path, backend, iter([ask(0), ask(0, "other")]), budget_usd=1.0)
    with Store(path) as store, pytest.raises(InputError, match="without prices"):
        engine(store, backend, None, budget_usd=1.0).forecast([ask()])


def test_a_model_without_a_price_has_no_cost(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tally = run(path, Scripted(), [ask(0, "other"), ask(1, "other")])
    assert (tally.ok, tally.usd, tally.usd_unknown_calls) == (2, 0.0, 2)
    assert math.isnan(tally.usd_unknown_bound)
    assert "other has no price" in caplog.text


def test_the_budget_stops_before_it_is_passed(path: Path) -> None:
    backend = Scripted()
    budget = 10 * high(10)
    tally = run(path, backend, [ask(i) for i in range(10, 60)], concurrency=1, budget_usd=budget)
    settled(tally)
    # from the sixth on a call is forecast at the mean of those before it: one whole call fits less than the budget holds at most
    assert tally.stop == "budget"
    assert tally.ok == math.floor(budget / USD)
    more = run(path, backend, [ask(i) for i in range(10, 60)], concurrency=1, budget_usd=1.5 * high(10))
    assert more.recorded == tally.ok  # what an earlier run paid is told, and is not in this run's budget
    assert more.usd_recorded == pytest.approx(tally.usd)
    # too few to know a mean: every call is forecast at its most
    assert more.ok == 1 + math.floor(0.5 * high(10) / USD)


def test_a_forecast_that_is_exact_is_never_passed(path: Path) -> None:
    """However many are in flight: what is under way is set aside."""

    def behave(request: Request, count: int) -> Any:
        return Reply("yes", {"input": len(request.messages[0][1]) + 4, "output": 50})

    for concurrency in (1, 3, 20):
        tally = run(
            path,
            Scripted(behave),
            [ask(i) for i in range(1000 * concurrency, 1000 * concurrency + 60)],
            concurrency=concurrency,
            budget_usd=10.5 * high(1000),
        )
        assert 9 <= tally.ok <= 10
        assert tally.usd <= 10.5 * high(1000)


def test_requests_that_may_have_been_billed_count_at_their_most(path: Path) -> None:
    backend = Scripted(lambda request, count: CallError("timeout", "", retry=True, billed="unknown"))
    tally = run(path, backend, [ask(i) for i in range(10, 20)], concurrency=1, budget_usd=3.5 * high(10), breaker_failures=100)
    settled(tally)
    assert (tally.attempts, tally.lost, tally.stop) == (3, 3, "budget")
    assert tally.lost_bound == pytest.approx(3 * high(10), rel=1e-12)


def test_who_waited_for_money_looks_at_the_server_again(path: Path) -> None:
    """There is money for one request at a time; when the first fails the model pauses, and the second must not go at once."""
    backend = Scripted(lambda request, count: Reply("yes", TOKENS) if len(backend.times) > 1 else CallError("server", "", retry=True))
    wanted, pause = [ask(10), ask(11)], 0.3
    tally = run(path, backend, wanted, concurrency=2, budget_usd=1.5 * high(10), breaker_failures=1, breaker_pause_s=pause)
    assert tally.ok == 2
    assert backend.times[1] - backend.times[0] >= pause


def test_calls_wait_for_money_that_comes_free(path: Path) -> None:
    backend = Scripted(lambda request, count: 0.01)
    tally = run(path, backend, [ask(i) for i in range(10, 20)], concurrency=10, budget_usd=2.1 * high(10) + 8 * USD)
    assert tally.ok == 10
    assert backend.asked.total() == 10


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    budget=st.floats(0.0, 60 * USD),
    concurrency=st.integers(1, 20),
    spread=st.integers(0, 200),
    fates=st.lists(st.sampled_from(["ok", "ok", "none", "lost", "server"]), min_size=5, max_size=5),
)
def test_spending_passes_the_budget_by_no_more_than_what_was_in_flight(
    tmp_path_factory: pytest.TempPathFactory, budget: float, concurrency: int, spread: int, fates: list[str]
) -> None:
    dearest = (100 + 10 * (10 + spread)) * 1e-6

    def behave(request: Request, count: int) -> Any:
        i = int(request.messages[0][1].split()[1])
        fate = fates[i % 5] if count == 0 else "ok"
        if fate == "lost":
            return CallError("timeout", "", retry=True, billed="unknown")
        if fate == "server":
            return CallError("server", "", retry=True)
        return Reply("yes", None if fate == "none" else TOKENS | {"output": 10 + i * 37 % (spread + 1)})

    path = tmp_path_factory.mktemp("budget") / "calls.sqlite"
    tally = run(path, Scripted(behave), [ask(i, max_tokens=10 + spread) for i in range(60)], concurrency=concurrency, budget_usd=budget)
    settled(tally)
    worst = tally.usd + tally.usd_unknown_bound + tally.lost_bound
    assert worst <= budget + concurrency * dearest + 1e-12
    if tally.not_asked:
        assert tally.stop == "budget"


def test_calls_without_usage_count_at_their_most(path: Path) -> None:
    backend = Scripted(lambda request, count: Reply("yes"))
    tally = run(path, backend, [ask(i) for i in range(10, 40)], concurrency=1, budget_usd=high(10) * 3.5)
    settled(tally)
    assert (tally.ok, tally.usd, tally.usd_unknown_calls, tally.stop) == (3, 0.0, 3, "budget")
    assert tally.usd_unknown_bound == pytest.approx(3 * high(10), rel=1e-12)
    with Store(path) as store:
        assert all(math.isnan(call.usd) and call.status == "ok" for call in store.calls())


def test_usage_that_has_no_price_stops_the_run_after_what_is_in_flight(path: Path) -> None:
    def behave(request: Request, count: int) -> Any:
        return Reply("yes", TOKENS | {"cached_input": 5}) if request.messages[0][1] == "question 0" else 0.1

    backend = Scripted(behave)
    with pytest.raises(InputError, match="cached input tokens but no price"):
        run(path, backend, [ask(i) for i in range(50)], concurrency=5)
    with Store(path) as store:
        calls = list(store.calls())
        assert len(calls) == backend.asked.total() == 5  # nothing that was paid for is lost
        assert sum(math.isnan(call.usd) for call in calls) == 1


def test_two_runs_of_one_engine_share_budget_and_tally(path: Path) -> None:
    async def twice(one: Engine) -> Tally:
        assert (await one.run([ask(i) for i in range(10, 20)])).ok == 10
        return await one.run([ask(i) for i in range(20, 60)])

    with Store(path) as store:
        tally = asyncio.run(twice(engine(store, Scripted(), concurrency=1, budget_usd=high(10) + 15 * USD)))
    settled(tally)
    assert tally.asked == 50
    assert tally.usd <= high(10) + 15 * USD
    assert tally.stop == "budget"


# --- stops
