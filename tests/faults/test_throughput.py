"""How fast it asks and how much memory that takes, against a server in a process of its own."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest

from routewright.data.engine import Tally
from tests.faults.driver import asks, collect
from tests.faults.server import KEY, Process

LATENCY, CONCURRENCY = 0.05, 16


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUTEWRIGHT_TEST_KEY", KEY)


def timed(path: Path, n: int) -> tuple[float, dict[int, float]]:
    """Seconds for n answers, in units of what no client could beat; resident MB by thousands of answers."""
    memory: dict[int, float] = {}

    def watch(tally: Tally) -> None:
        memory.setdefault(tally.ok // 1000 * 1000, psutil.Process().memory_info().rss / 1e6)

    with Process(latency=LATENCY) as server:
        wanted = list(asks(server.url, n + CONCURRENCY))
        collect(server.url, path, wanted[:CONCURRENCY], concurrency=CONCURRENCY)  # imports are not what is timed
        begun = time.perf_counter()
        tally = collect(server.url, path, wanted, concurrency=CONCURRENCY, watch=watch)
        taken = time.perf_counter() - begun
        assert (tally.ok, tally.recorded, tally.attempts) == (n, CONCURRENCY, n)
        assert server.books()["most_flying"] == CONCURRENCY
    return taken / (n * LATENCY / CONCURRENCY), memory


def test_a_thousand_answers(tmp_path: Path) -> None:
    ratio, _ = timed(tmp_path / "calls.sqlite", 1000)
    assert 1.0 <= ratio < 3.0


@pytest.mark.slow
def test_ten_thousand_answers(tmp_path: Path) -> None:
    ratio, memory = timed(tmp_path / "calls.sqlite", 10_000)
    assert 1.0 <= ratio < 1.3
    assert max(value for done, value in memory.items() if done >= 2000) - memory[2000] < 30.0


def test_a_thousand_at_once(tmp_path: Path) -> None:
    with Process(latency=2.0) as server:
        tally = collect(server.url, tmp_path / "calls.sqlite", list(asks(server.url, 2000)), concurrency=1000)
        assert (tally.ok, tally.failed) == (2000, 0)
        assert server.books()["most_flying"] >= 950
