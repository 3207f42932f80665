"""A scripted backend for tests of the engine: it does as it is told, notes what it was asked, and there is no network."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from routewright.core.prices import PriceBook
from routewright.data.calls import Ask, Reply, Request
from routewright.data.engine import Engine, Limits, Tally
from routewright.data.store import Store

BOOK = PriceBook(
    date="2025-11-01",
    source="test",
    models={
        "a": {"input": 1.0, "output": 10.0},
        "b": {"input": 1.0, "output": 10.0, "cached_input": 0.5},
        "thinker": {"input": 1, "output": 4, "reasoning": 8, "call": 0.01},
    },
)
TOKENS = {"input": 100, "cached_input": 0, "output": 10, "reasoning": 0}
USD = (100 * 1 + 10 * 10) * 1e-6
Behaviour = Callable[[Request, int], Any]  # (request, how often it was asked before) -> Reply, seconds to wait before a Reply


class Scripted:
    """A backend that does as `behave` says and notes what it was asked."""

    def __init__(self, behave: Behaviour = lambda request, count: Reply("yes", TOKENS)) -> None:
        self.behave = behave
        self.asked: Counter[str] = Counter()
        self.models: list[str] = []
        self.times: list[float] = []
        self.flying = self.most = 0

    remote, concurrency = True, 16

    def identity(self, model: str) -> str:
        return "here"

    async def ask(self, request: Request) -> Reply:
        count = self.asked[request.key()]
        self.asked[request.key()] += 1
        self.models.append(request.model)
        self.times.append(time.monotonic())
        self.flying += 1
        self.most = max(self.most, self.flying)
        try:
            await asyncio.sleep(0)
            said = self.behave(request, count)
            if isinstance(said, float):
                await asyncio.sleep(said)
                said = Reply("late", TOKENS)
        finally:
            self.flying -= 1
        if isinstance(said, BaseException):
            raise said
        return said

    async def close(self) -> None: ...


def ask(i: int = 0, model: str = "a", max_tokens: int = 50) -> Ask:
    return Ask(Request("here", model, (("user", f"question {i}"),), max_tokens=max_tokens), (f"q{i}",))


def limits(**changes: Any) -> Limits:
    return Limits(**({"backoff_s": 0.001, "backoff_max_s": 0.002, "breaker_pause_s": 0.01, "timeout_s": 20.0} | changes))


def engine(store: Store, backend: Scripted, prices: PriceBook | None = BOOK, **changes: Any) -> Engine:
    watch = changes.pop("watch", None)
    return Engine(backend, store, prices, limits(**changes), watch=watch, count_tokens=len, rng=np.random.default_rng(0))


def run(path: Path, backend: Scripted, wanted: Iterable[Ask], prices: PriceBook | None = BOOK, **changes: Any) -> Tally:
    with Store(path) as store:
        return asyncio.run(engine(store, backend, prices, **changes).run(wanted))


def settled(tally: Tally) -> None:
    assert tally.asked == tally.recorded + tally.ok + tally.empty + tally.failed + tally.not_asked
    assert tally.attempts - tally.retries <= tally.made + tally.not_asked


def high(i: int) -> float:
    """The most that ask(i) may cost: its prompt and four tokens more, and 50 tokens of output."""
    return (len(f"question {i}") + 4 + 50 * 10) * 1e-6
