"""The engine by hand: what is asked, how often, when it stops, and what it says it cost. The backend is scripted; there is no network."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routewright.core.types import InputError
from routewright.data import engine as engine_module
from routewright.data.breaker import Breaker, NotAsked
from routewright.data.calls import Ask, CallError, Reply, Request
from routewright.data.engine import Limits, Tally
from routewright.data.redact import redact
from routewright.data.store import Store
from tests.scripted import TOKENS, USD, Scripted, ask, engine, high, run, settled


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "calls.sqlite"


def test_every_ask_once_and_never_again(path: Path) -> None:
    backend = Scripted()
    wanted = [ask(i) for i in range(40)]
    tally = run(path, backend, [*wanted, wanted[3], wanted[3]], concurrency=7)
    settled(tally)
    assert (tally.asked, tally.ok, tally.recorded, tally.attempts) == (42, 40, 2, 40)
    assert set(backend.asked.values()) == {1}
    assert backend.most == 7
    assert tally.usd == pytest.approx(40 * USD, rel=1e-12)
    assert tally.tokens == {"input": 4000, "output": 400, "cached_input": 0, "reasoning": 0}
    again = run(path, backend, wanted)
    assert (again.recorded, again.attempts, again.usd) == (40, 0, 0.0)
    assert again.usd_recorded == pytest.approx(40 * USD, rel=1e-12)
    with Store(path) as store:
        call = store.get(wanted[3].request.key())
        assert call is not None
        assert (call.queries, call.status, call.attempts, call.lost, call.usd) == (("q3",), "ok", 1, 0, pytest.approx(USD))
        assert store.totals().usd == pytest.approx(40 * USD, rel=1e-12)
        assert store.interrupted() == ()


def test_nothing_to_ask(path: Path) -> None:
    assert run(path, Scripted(), []).asked == 0


def test_a_forecast_by_hand(path: Path) -> None:
    run(path, Scripted(), [ask(0)])
    with Store(path) as store:
        ahead = engine(store, Scripted()).forecast([ask(0), ask(1), ask(1), ask(2, "thinker")])
        prompt = len("question 1") + 4
        assert (ahead.calls, ahead.recorded) == (2, 1)
        low = prompt * 1e-6 + (prompt * 1e-6 + 0.01)
        assert ahead.usd_low == pytest.approx(low, rel=1e-12)
        assert ahead.usd_high == pytest.approx(low + 50 * 10e-6 + 50 * 8e-6, rel=1e-12)
        unknown = engine(store, Scripted(), None).forecast([ask(1)])
        assert unknown.calls == 1
        assert math.isnan(unknown.usd_low)
        assert math.isnan(unknown.usd_high)


def test_an_iterator_is_read_a_little_ahead(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "AHEAD", 10)
    read, ahead = 0, []

    def endless() -> Iterator[Ask]:
        nonlocal read
        for read in range(1, 301):
            yield ask(read)

    backend = Scripted(lambda request, count: ahead.append(read - len(backend.times)) or Reply("yes", TOKENS))
    tally = run(path, backend, endless(), concurrency=3)
    settled(tally)
    assert (tally.asked, tally.ok) == (300, 300)
    assert max(ahead) <= 10 + 3 + 1


def test_a_slow_model_does_not_starve_another(path: Path) -> None:
    backend = Scripted(lambda request, count: 0.15 if request.model == "a" else Reply("yes", TOKENS))
    wanted = [item for i in range(30) for item in (ask(i, "a"), ask(i, "b"))]
    run(path, backend, wanted, concurrency=10)
    last_b = max(i for i, model in enumerate(backend.models) if model == "b")
    assert backend.models[:last_b].count("a") <= 20  # b was through before a's second or third ten


# --- retries


def test_only_what_may_pass_is_tried_again(path: Path) -> None:
    def behave(request: Request, count: int) -> Any:
        kind = int(request.messages[0][1].split()[1])
        errors = {
            0: CallError("server", "down", retry=True),
            1: CallError("refused", "bad", retry=False),
            2: CallError("timeout", "slow", retry=True, billed="unknown"),
            3: CallError("empty", "", retry=False, billed="yes", reply=Reply("", TOKENS, finish="length")),
        }
        return errors[kind] if kind in errors and (count < 2 or kind == 1) else Reply("yes", TOKENS)

    backend = Scripted(behave)
    tally = run(path, backend, [ask(i) for i in range(5)], concurrency=1)
    settled(tally)
    assert (tally.ok, tally.empty, tally.failed, tally.attempts, tally.retries, tally.lost) == (3, 1, 1, 9, 4, 2)
    assert tally.errors == {"server": 2, "timeout": 2, "refused": 1, "empty": 1}
    assert tally.usd == pytest.approx(4 * USD, rel=1e-12)  # the empty one was paid for
    assert tally.lost_bound == pytest.approx(2 * high(2), rel=1e-12)
    with Store(path) as store:
        calls = {call.queries[0]: call for call in store.calls()}
        assert [calls[f"q{i}"].status for i in range(5)] == ["ok", "error", "ok", "empty", "ok"]
        assert (calls["q2"].attempts, calls["q2"].lost) == (3, 2)
        assert calls["q1"].error == "refused: bad"
        assert store.totals().lost == 2
        assert store.totals().lost_usd == pytest.approx(2 * high(2), rel=1e-12)
        assert store.interrupted() == ()
    assert run(path, backend, [ask(1), ask(3)]).recorded == 1  # a failed one is asked again, an empty one is not


def test_a_call_is_given_up_after_its_attempts(path: Path) -> None:
    backend = Scripted(lambda request, count: CallError("server", f"down {count}", retry=True))
    tally = run(path, backend, [ask()], attempts=4, breaker_failures=100)
    assert (tally.failed, tally.attempts, tally.retries) == (1, 4, 3)
    with Store(path) as store:
        (call,) = store.calls()
        assert (call.status, call.attempts, call.error) == ("error", 4, "server: down 3")
        assert math.isnan(call.usd)


def test_the_server_s_wait_is_the_least(path: Path) -> None:
    backend = Scripted(lambda request, count: Reply("yes", TOKENS) if count else CallError("rate_limit", "", retry=True, after=0.3))
    assert run(path, backend, [ask()]).ok == 1
    assert backend.times[1] - backend.times[0] >= 0.3


def test_what_one_call_is_told_to_wait_all_calls_of_the_model_wait(path: Path) -> None:
    def behave(request: Request, count: int) -> Any:
        return CallError("rate_limit", "", retry=True, after=0.4) if len(backend.times) == 1 else Reply("yes", TOKENS)

    backend = Scripted(behave)
    assert run(path, backend, [ask(i) for i in range(5)], concurrency=1, attempts=1).ok == 4
    assert backend.times[1] - backend.times[0] >= 0.4


def test_waits_grow_with_full_jitter(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def sleep(self: Breaker, seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(Breaker, "sleep", sleep)
    backend = Scripted(lambda request, count: CallError("server", "", retry=True))
    run(path, backend, [ask()], attempts=7, backoff_s=1.0, backoff_max_s=8.0, breaker_failures=100)
    drawn = np.random.default_rng(0)
    assert waits == [drawn.uniform(0, most) for most in (1, 2, 4, 8, 8, 8)]
    waits.clear()
    backend.behave = lambda request, count: CallError("server", "", retry=True, after=0.001 * count)
    run(path, backend, [ask()], attempts=3, backoff_s=0.0)
    assert waits == [0.007, 0.008]  # asked seven times before


def test_a_server_that_asks_for_a_day_is_not_waited_for(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    backend = Scripted(lambda request, count: CallError("rate_limit", "come back", retry=True, after=86400.0))
    begun = time.monotonic()
    tally = run(path, backend, [ask(i) for i in range(20)], concurrency=2)
    assert time.monotonic() - begun < 20
    settled(tally)
    assert tally.not_asked == 20
    assert "asks to wait 86400 s" in tally.stop
    assert tally.attempts <= 2
    assert "the same command makes the remaining calls" in caplog.text


def test_time_is_limited_in_all(path: Path) -> None:
    backend = Scripted(lambda request, count: 30.0 if count == 0 else Reply("yes", TOKENS))
    tally = run(path, backend, [ask()], timeout_s=0.1)
    assert (tally.ok, tally.lost, tally.errors) == (1, 1, {"timeout": 1})


def test_an_answer_may_be_too_long(path: Path) -> None:
    backend = Scripted(lambda request, count: Reply("\N{SNOWMAN}" * 400, TOKENS))
    tally = run(path, backend, [ask()], answer_bytes=1000)
    assert (tally.failed, tally.attempts, tally.usd) == (1, 1, pytest.approx(USD))
    with Store(path) as store:
        (call,) = store.calls()
        assert (call.status, call.reply.text, call.usd) == ("error", "", pytest.approx(USD))
        assert "1200 bytes" in call.error


# --- the breaker


def test_a_failing_model_pauses_and_is_given_up_while_another_goes_on(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def behave(request: Request, count: int) -> Any:
        return CallError("server", "HTTP 500", retry=True) if request.model == "a" else Reply("yes", TOKENS)

    backend = Scripted(behave)
    wanted = [item for i in range(50) for item in (ask(i, "a"), ask(i, "b"))]
    tally = run(path, backend, wanted, concurrency=2, attempts=1000, breaker_failures=3, breaker_trips=3)
    settled(tally)
    assert (tally.ok, tally.not_asked) == (50, 50)
    # three in a row, one more may have been in flight, then one probe at a time
    assert 5 <= backend.models.count("a") <= 6
    assert tally.by_model["a"].not_asked == 50
    assert tally.by_model["b"].ok == 50
    assert tally.stop.startswith("a is given up")
    assert [record.message for record in caplog.records if record.levelno == logging.ERROR and "server: HTTP 500" in record.message]
    assert len([record for record in caplog.records if "further ones are counted" in record.message]) == 1


def test_a_server_that_comes_back_is_asked_on(path: Path) -> None:
    tries = 0

    def behave(request: Request, count: int) -> Any:
        nonlocal tries
        tries += 1
        return CallError("server", "", retry=True) if tries <= 9 else Reply("yes", TOKENS)

    tally = run(path, Scripted(behave), [ask(i) for i in range(30)], attempts=20, concurrency=4, breaker_failures=6, breaker_trips=9)
    settled(tally)
    assert (tally.ok, tally.stop) == (30, "")


def test_first_rate_limits_do_not_open_the_breaker(path: Path) -> None:
    backend = Scripted(lambda request, count: Reply("yes", TOKENS) if count else CallError("rate_limit", "", retry=True, after=0.01))
    tally = run(path, backend, [ask(i) for i in range(30)], concurrency=30, breaker_failures=2, breaker_trips=1)
    assert (tally.ok, tally.stop) == (30, "")
    stubborn = Scripted(lambda request, count: CallError("rate_limit", "slow down", retry=True))
    tally = run(path, stubborn, [ask(i) for i in range(30, 60)], concurrency=30, attempts=50, breaker_failures=8, breaker_trips=2)
    assert "rate_limit: slow down" in tally.stop


@pytest.mark.parametrize("kind", ["unauthorized", "not_found", "quota"])
def test_no_use_in_going_on(path: Path, caplog: pytest.LogCaptureFixture, kind: str) -> None:
    backend = Scripted(lambda request, count: CallError(kind, "wrong key: set $THE_KEY", retry=False))
    tally = run(path, backend, [ask(i) for i in range(30)], concurrency=5)
    settled(tally)
    assert (tally.failed, tally.not_asked, tally.attempts) == (5, 25, 5)
    assert tally.stop.count("$THE_KEY") == 1
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 1


def test_the_breaker_by_hand() -> None:
    async def story() -> None:
        clock = [0.0]
        breaker = Breaker(2, 10.0, 2, clock=lambda: clock[0])
        assert await breaker.admit() is False
        assert not breaker.failed()
        breaker.alive()
        assert not breaker.failed()
        assert breaker.failed()  # two in a row
        assert not breaker.ready
        assert not breaker.failed()  # was in flight when it opened
        clock[0] = 11.0
        assert await breaker.admit() is True
        waiting = asyncio.ensure_future(breaker.admit())
        await asyncio.sleep(0)
        assert not waiting.done()  # one probe at a time
        breaker.alive()
        assert await waiting is False
        assert not breaker.failed()
        assert breaker.failed()
        assert not breaker.exhausted  # the success between began the count anew
        clock[0] = 30.0
        assert await breaker.admit() is True
        assert not breaker.failed(probe=True, counts=False)  # alive, but asking for time
        assert await breaker.admit() is True
        assert breaker.failed(probe=True)
        assert breaker.exhausted
        waiting = asyncio.ensure_future(breaker.admit())
        await asyncio.sleep(0)
        breaker.give_up("enough")
        with pytest.raises(NotAsked, match="enough"):
            await waiting

    asyncio.run(asyncio.wait_for(story(), 20))


# --- money


def test_what_has_come_back_is_kept_when_it_is_cancelled(path: Path) -> None:
    backend = Scripted(lambda request, count: Reply("yes", TOKENS) if request.messages[0][1] < "question 5" else 60.0)

    async def cancelled() -> None:
        with Store(path) as store:
            task = asyncio.ensure_future(engine(store, backend, concurrency=3).run([ask(i) for i in range(9)]))
            while backend.asked.total() < 8:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert backend.flying == 0

    asyncio.run(asyncio.wait_for(cancelled(), 20))
    with Store(path) as store:
        assert {call.queries[0] for call in store.calls()} == {f"q{i}" for i in range(5)}
        assert set(store.interrupted()[-1].keys) == {ask(i).request.key() for i in (5, 6, 7)}


def test_requests_in_flight_when_a_run_ended_are_told(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Store(path) as store:
        store.begin(ask().request.key(), 0.25)
    run(path, Scripted(), [ask()])
    assert "1 requests were in flight" in caplog.text
    assert "at most USD 0.25" in caplog.text
    caplog.clear()
    run(path, Scripted(), [ask()])
    assert "in flight" not in caplog.text
    with Store(path) as store:
        store.begin(ask(1).request.key(), 0.25)
    here = Scripted()
    here.remote = False
    run(path, here, [ask()])
    assert "in flight" not in caplog.text, "nobody bills what is computed here"


def test_a_full_disk_stops_everything_at_once(path: Path) -> None:
    backend = Scripted(lambda request, count: Reply("x" * 50 + str(np.random.default_rng(len(backend.times)).bytes(3000).hex()), TOKENS))
    with Store(path) as store:
        store._db.execute("PRAGMA max_page_count = 60")
        with pytest.raises(InputError, match="full") as error:
            asyncio.run(engine(store, backend, concurrency=4).run([ask(i) for i in range(2000)]))
        assert "same command" in str(error.value)
        sent = backend.asked.total()
        kept = len(list(store.calls()))
    assert kept > 5
    assert sent - kept <= 4


def test_a_bug_in_a_backend_is_not_hidden(path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        run(path, Scripted(lambda request, count: ZeroDivisionError("bug")), [ask(i) for i in range(10)])


def test_a_backend_that_cannot_send_leaves_nothing_in_flight(path: Path) -> None:
    with pytest.raises(InputError, match="no key"):
        run(path, Scripted(lambda request, count: InputError("no key")), [ask(i) for i in range(10)], concurrency=1)
    with Store(path) as store:
        assert store.interrupted() == ()


# --- telling


def test_progress_is_told_now_and_then(path: Path) -> None:
    seen: list[Tally] = []
    begun = time.monotonic()
    tally = run(path, Scripted(lambda request, count: 0.06), [ask(i) for i in range(60)], concurrency=4, watch=seen.append)
    assert len(seen) <= (time.monotonic() - begun) / engine_module.WATCH_EVERY_S + 2
    assert seen[-1] == tally
    assert all(one.asked == 60 for one in seen)
    assert any(one.eta is not None and 0 < one.eta < 60 for one in seen[:-1])
    assert tally.tokens_per_s == pytest.approx(600 / tally.elapsed)
    plain = json.loads(json.dumps(tally.plain()))
    assert plain["by_model"]["a"]["ok"] == plain["ok"] == 60
    assert plain["by_model"]["a"]["tokens"] == plain["tokens"] == {"input": 6000, "output": 600, "cached_input": 0, "reasoning": 0}


def test_each_kind_of_error_is_logged_once_and_never_a_key(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    backend = Scripted(lambda request, count: CallError("refused", "Authorization: Bearer sk-abcdef123456 is bad", retry=False))
    run(path, backend, [ask(i) for i in range(20)])
    assert len([record for record in caplog.records if "refused" in record.message and record.levelno == logging.WARNING]) == 1
    assert "abcdef123456" not in caplog.text
    with Store(path) as store:
        assert all("abcdef123456" not in call.error and "[redacted]" in call.error for call in store.calls())


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("Incorrect API key provided: sk-proj-abc_DEF-123.", "Incorrect API key provided: [redacted]."),
        ("Authorization: Bearer abc.def.ghi", "Authorization: [redacted]"),
        ("authorization: bearer eyJhbGciOi=", "authorization: [redacted]"),
        ("at https://me:secret@host/v1", "at https://[redacted]@host/v1"),
        ("x-gateway=hush hush", "x-gateway=[redacted] [redacted]"),
        ("a bearer of news; ask-me; task-force-one", "a bearer of news; ask-me; task-force-one"),
    ],
)
def test_keys_are_taken_out(text: str, clean: str) -> None:
    assert redact(text, ["hush", ""]) == clean


@pytest.mark.parametrize(
    "wrong",
    [
        {"concurrency": 0},
        {"concurrency": 2.5},
        {"attempts": 0},
        {"backoff_s": -1.0},
        {"timeout_s": 0},
        {"breaker_failures": True},
        {"breaker_trips": 0},
        {"breaker_pause_s": math.nan},
        {"budget_usd": -1.0},
        {"budget_usd": math.inf},
        {"answer_bytes": 0},
    ],
)
def test_limits_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        Limits(**wrong)
