"""Collects from a misbehaving server, as a library and as a program that can be killed: python -m tests.faults.driver '{"url": ...}'"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai  # noqa: F401 - a process that is forked from one with this module need not import it again

from routewright.core.prices import PriceBook
from routewright.data.backends.openai import OpenAIBackend
from routewright.data.calls import Ask, Request
from routewright.data.engine import Engine, Limits, Tally
from routewright.data.store import Store

PRICES = PriceBook(
    date="2025-01-01",
    source="test",
    models={name: {"input": 1.0, "cached_input": 0.1, "output": 4.0, "reasoning": 8.0, "call": 0.001} for name in ("m", "n")},
)
QUICK: dict[str, Any] = {"backoff_s": 0.02, "backoff_max_s": 0.1, "breaker_pause_s": 0.1, "timeout_s": 30.0}


def asks(url: str, n: int, *, model: str = "m", logprobs: bool = False) -> Iterator[Ask]:
    """n different ones."""
    for i in range(n):
        messages = (("system", "Be brief."), ("user", f"Question {i}?"))
        yield Ask(Request(url, model, messages, logprobs=logprobs), (f"q{i}",))


def count(text: str) -> int:
    """Tokens, as the misbehaving server counts them at most."""
    return len(text)


def usd(entry: dict[str, Any]) -> float:
    """What an entry of the server's books costs at PRICES."""
    from tests.faults.server import usage

    used = usage(entry["prompt"])
    reasoning, cached = used["completion_tokens_details"]["reasoning_tokens"], used["prompt_tokens_details"]["cached_tokens"]
    fresh, output = used["prompt_tokens"] - cached, used["completion_tokens"] - reasoning
    return (fresh * 1.0 + cached * 0.1 + output * 4.0 + reasoning * 8.0) * 1e-6 + 0.001


def collect(
    url: str,
    path: Path,
    wanted: Iterable[Ask],
    *,
    watch: Callable[[Tally], None] | None = None,
    stream: bool = False,
    prices: PriceBook | None = PRICES,
    headers_env: dict[str, str] | None = None,
    **limits: Any,
) -> Tally:
    """One run."""

    async def run() -> Tally:
        backend = OpenAIBackend(base_url=url, stream=stream, api_key_env="ROUTEWRIGHT_TEST_KEY", headers_env=headers_env or {})
        try:
            with Store(path) as store:
                engine = Engine(
                    backend,
                    store,
                    prices,
                    Limits(**(QUICK | limits)),
                    watch=watch,
                    count_tokens=count,
                    rng=np.random.default_rng(0),
                )
                return await engine.run(wanted)
        finally:
            await backend.close()

    return asyncio.run(run())


def main(job: dict[str, Any]) -> None:
    tally = collect(job["url"], Path(job["store"]), list(asks(job["url"], job["n"])), **job["limits"])
    sys.stdout.write(json.dumps(tally.plain()) + "\n")


def forked(job: dict[str, Any]) -> None:
    """The same in a forked process; everything it says goes to a file."""
    os.environ["ROUTEWRIGHT_TEST_KEY"] = job["key"]
    said = os.open(job["said"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(said, stream)
    main(job)
    sys.stdout.flush()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
