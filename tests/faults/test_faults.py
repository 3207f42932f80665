"""Collects from a server that misbehaves in every way at once: right answers, a right ledger, nothing paid twice, no key anywhere."""

from __future__ import annotations

import logging
import math
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from routewright.core.types import InputError
from routewright.data.engine import Tally
from routewright.data.store import Store
from tests.faults.driver import PRICES, asks, collect, usd
from tests.faults.server import ANSWERS, BIG, KEY, TRANSIENT, Server, answer, usage

GATEWAY_KEY = "gateway-hush-4711"
QUICK_ONES = [fault for fault in TRANSIENT if fault not in ("slow", "limit_seconds", "limit_date")]
LOST = ("cut_before", "cut_inside", "malformed", "slow")  # may have been billed, for all the client can tell


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("ROUTEWRIGHT_TEST_KEY", KEY)
    monkeypatch.setenv("ROUTEWRIGHT_TEST_GATEWAY", GATEWAY_KEY)
    caplog.set_level(logging.INFO, "routewright")


def collected(server: Server, path: Path, n: int, **changes: Any) -> Tally:
    changes = {"concurrency": 16, "headers_env": {"x-gateway": "ROUTEWRIGHT_TEST_GATEWAY"}} | changes
    return collect(server.url, path, list(asks(server.url, n)), **changes)


def no_key_in(path: Path, log: str) -> None:
    """Neither the log nor the store's bytes, packed texts unpacked, hold a key."""
    with Store(path) as store:
        texts = [repr(call) for call in store.calls()]
        rows = [value for row in store._db.execute("SELECT * FROM call").fetchall() for value in row]
    packed = b"".join(zlib.decompress(value) for value in rows if isinstance(value, bytes))
    for secret in (KEY, GATEWAY_KEY):
        assert secret not in log
        assert not any(secret in text for text in texts)
        assert secret.encode() not in packed
        for file in path.parent.glob(path.name + "*"):
            assert secret.encode() not in file.read_bytes()


def right(server: Server, path: Path, tally: Tally, n: int) -> None:
    """Every answer is the server's, the ledger is its books, and no key was billed twice."""
    books = server.books()["billed"]
    billed = Counter(entry["key"] for entry in books)
    assert max(billed.values()) == 1
    kinds = {entry["key"]: entry["kind"] for entry in books}
    known = [entry for entry in books if entry["kind"] not in ("no_usage", "zero_usage")]
    assert tally.usd == pytest.approx(math.fsum(usd(entry) for entry in known), abs=1e-12)
    assert tally.usd_unknown_calls == len(books) - len(known)
    assert tally.tokens["input"] == sum(usage(entry["prompt"])["prompt_tokens"] for entry in known)
    assert tally.asked == n == tally.ok + tally.empty + tally.failed
    with Store(path) as store:
        for i, ask in enumerate(asks(server.url, n)):
            call = store.get(ask.request.key())
            assert call is not None
            assert call.queries == (f"q{i}",)
            kind = kinds[call.key]
            text = {"big": "x" * BIG, "no_choices": "", "null_content": ""}.get(kind, answer(f"Be brief.\nQuestion {i}?"))
            assert call.reply.text == text
            assert call.status == ("ok" if text else "empty")
        totals = store.totals()
        assert totals.usd == pytest.approx(tally.usd, abs=1e-12)
        assert totals.lost == tally.lost
        assert totals.lost_usd == pytest.approx(tally.lost_bound, abs=1e-12)
        assert store.interrupted() == ()


@pytest.mark.parametrize("fault", [fault for fault in TRANSIENT if fault != "slow"])
def test_each_fault_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture, fault: str) -> None:
    """Every call meets it once."""
    path = tmp_path / "calls.sqlite"
    with Server(plan=[fault]) as server:
        tally = collected(server, path, 12, breaker_failures=1000)
        right(server, path, tally, 12)
        assert server.books()["faults"] == {fault: 12}
    assert (tally.ok, tally.attempts, tally.retries) == (12, 24, 12)
    assert tally.lost == (12 if fault in LOST else 0)
    no_key_in(path, caplog.text)


def test_an_answer_that_drips(tmp_path: Path) -> None:
    """Byte by byte there is always something coming: the time for the whole is what counts."""
    path = tmp_path / "calls.sqlite"
    with Server(plan=["slow"]) as server:
        tally = collected(server, path, 6, timeout_s=1.0, breaker_failures=1000)
        right(server, path, tally, 6)
    assert (tally.ok, tally.lost, tally.errors["timeout"]) == (6, 6, 6)


@pytest.mark.parametrize("kind", ANSWERS)
def test_each_odd_answer_alone(tmp_path: Path, kind: str) -> None:
    path, n = tmp_path / "calls.sqlite", 2 if kind == "big" else 12
    with Server(answers={kind: 1.0}) as server:
        tally = collected(server, path, n)
        right(server, path, tally, n)
        assert collected(server, path, n).recorded == n
        assert len(server.books()["billed"]) == n
    assert (tally.ok, tally.empty) == ((0, n) if kind in ("no_choices", "null_content") else (n, 0))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_everything_at_once(tmp_path: Path, caplog: pytest.LogCaptureFixture, seed: int, stream: bool) -> None:
    path, n = tmp_path / "calls.sqlite", 300
    transient = dict.fromkeys(QUICK_ONES, 0.06)
    odd = dict.fromkeys((kind for kind in ANSWERS if kind != "big"), 0.05) if not stream else {"no_usage": 0.1, "null_content": 0.1}
    with Server(transient=transient, answers=odd, seed=seed) as server:
        tally = collected(server, path, n, stream=stream, breaker_failures=50)
        if not stream:
            right(server, path, tally, n)
        books = server.books()
        again = collected(server, path, n)
    assert again.recorded == n
    assert again.attempts == 0
    assert Counter(entry["key"] for entry in books["billed"]).most_common(1)[0][1] == 1
    assert tally.attempts == sum(books["requests"].values())
    assert tally.lost == sum(books["faults"].get(fault, 0) for fault in LOST)
    assert len([key for key in QUICK_ONES if books["faults"].get(key)]) == len(QUICK_ONES)
    no_key_in(path, caplog.text)


@pytest.mark.parametrize("fault", ["server", "cut_before", "malformed", "limit"])
def test_a_server_that_only_fails_is_given_up(tmp_path: Path, caplog: pytest.LogCaptureFixture, fault: str) -> None:
    path = tmp_path / "calls.sqlite"
    with Server(fail_all=fault) as server:
        tally = collected(server, path, 200, concurrency=4, attempts=100, breaker_failures=4, breaker_trips=3, breaker_pause_s=0.05)
        assert sum(server.books()["requests"].values()) <= 4 + 3 + 4 + 2 + 4  # first failures, those in flight, probes
    assert tally.not_asked == 200
    assert "is given up" in tally.stop
    no_key_in(path, caplog.text)
    with Server() as server:  # it is back, at another address: the same questions are other requests
        assert collected(server, path, 200).ok == 200


def test_a_wrong_key_is_found_out_at_once(tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUTEWRIGHT_TEST_KEY", "sk-wrong-0123456789")
    with Server() as server:
        tally = collected(server, tmp_path / "calls.sqlite", 100, concurrency=4)
        assert not server.books()["billed"]
    assert tally.attempts <= 4
    assert tally.failed + tally.not_asked == 100
    assert "$ROUTEWRIGHT_TEST_KEY" in tally.stop
    assert "sk-wrong" not in caplog.text + tally.stop


@pytest.mark.parametrize("concurrency", [1, 4, 32])
@pytest.mark.parametrize("calls", [0, 3, 40])
def test_the_budget_is_not_passed_by_more_than_what_was_in_flight(tmp_path: Path, concurrency: int, calls: int) -> None:
    """By the server's own books, failures among them."""
    path, n = tmp_path / "calls.sqlite", 150
    with Server(transient={"server": 0.1, "cut_inside": 0.05, "limit_ms": 0.1}, latency=0.002) as server:
        budget = calls * 0.0011
        tally = collected(server, path, n, concurrency=concurrency, budget_usd=budget, breaker_failures=1000)
        each = [usd(entry) for entry in server.books()["billed"]]
    assert math.fsum(each) == pytest.approx(tally.usd, abs=1e-12)
    assert math.fsum(each) + tally.lost_bound <= budget + concurrency * max([*each, 0.0025])
    assert tally.stop == "budget"
    assert tally.ok + tally.not_asked + tally.failed == n
    if calls == 40:
        assert len(each) > 10  # it is spent, too


def test_a_ledger_without_prices_has_no_dollars(tmp_path: Path) -> None:
    with Server() as server:
        tally = collected(server, tmp_path / "calls.sqlite", 10, prices=None)
        assert (tally.ok, tally.usd, tally.usd_unknown_calls) == (10, 0.0, 10)
        with pytest.raises(InputError, match="without prices"):
            collected(server, tmp_path / "calls.sqlite", 10, prices=None, budget_usd=1.0)


def test_two_models_share_a_run_and_not_their_troubles(tmp_path: Path) -> None:
    path = tmp_path / "calls.sqlite"
    with Server(transient={"server": 0.2}) as server:
        wanted = [ask for pair in zip(asks(server.url, 60, model="m"), asks(server.url, 60, model="n"), strict=True) for ask in pair]
        tally = collect(server.url, path, wanted, concurrency=8, breaker_failures=1000)
        assert tally.ok == 120
        assert tally.by_model["m"].ok == tally.by_model["n"].ok == 60
        with Store(path) as store:
            by_model = store.totals().usd_by_model
        assert set(by_model) == set(PRICES.models)
        assert sum(by_model.values()) == pytest.approx(tally.usd, abs=1e-12)
