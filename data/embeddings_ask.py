"""Asks an OpenAI-compatible server for embeddings: requests, retries, a budget, and what may come back."""

from __future__ import annotations

import asyncio
import base64
import binascii
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from routewright.core.prices import PER_MILLION
from routewright.core.types import Floats, InputError
from routewright.data.backends._completion import carried_error, malformed, parse
from routewright.data.backends.openai import OpenAIBackend
from routewright.data.breaker import Breaker, NotAsked
from routewright.data.calls import CallError, Reply, Request
from routewright.data.lane import AGAIN, WAIT_MOST_S
from routewright.data.limits import Limits
from routewright.data.redact import redact
from routewright.data.retry import retrying
from routewright.data.spending import Spending
from routewright.data.tokens import count_tokens
from routewright.data.vectors import Keep

if TYPE_CHECKING:
    import httpx


class Endpoint(OpenAIBackend):
    """The chat backend's addresses, keys and errors, for embeddings: the reply's text is the body as it came."""

    path = "/embeddings"
    group = "encoder"

    def parameters(self, request: Request) -> dict[str, Any]:
        return {"model": request.model, **request.extra}

    async def _body(self, response: httpx.Response, begun: float) -> Reply:
        body = b"".join([part async for part in self._counted(response)])
        return Reply(body.decode("utf-8", "replace"), total_s=time.perf_counter() - begun)


class TextRefusedError(Exception):
    """The server takes this text in no request, not even alone."""

    def __init__(self, text: str, why: str) -> None:
        super().__init__(why)
        self.text, self.why = text, why


# ---- what is sent


def batches(texts: Sequence[str], most: int, most_bytes: int) -> Iterator[list[str]]:
    """The texts in order, in lists of at most `most` of them and of at most most_bytes in UTF-8; a longer text stands alone."""
    batch: list[str] = []
    size = 0
    for text in texts:
        length = len(text.encode())
        if batch and (len(batch) == most or size + length > most_bytes):
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += length
    if batch:
        yield batch


# ---- what comes back


def read_tokens(answer: Mapping[str, Any]) -> int | None:
    """usage.total_tokens; None where it is missing or no count."""
    usage = answer.get("usage")
    total = usage.get("total_tokens") if isinstance(usage, dict) else None
    return total if isinstance(total, int) and not isinstance(total, bool) and total > 0 else None


def read_vectors(answer: Mapping[str, Any], n: int, width: int | None) -> Floats:
    """[n,d] float32 unit rows in the order of the request, whatever the order of the answer.

    width: the d that it must be, None for any. Raises CallError for anything else; what the same request would meet again is not retried,
    since it was paid for.
    """
    data = answer.get("data")
    if not isinstance(data, list) or not all(isinstance(item, dict) for item in data):
        raise _wrong("no list of embeddings")
    places = [item.get("index") for item in data]
    if sorted(place for place in places if isinstance(place, int)) != list(range(n)) or len(places) != n:
        raise _wrong(f"{len(data)} embeddings with the indices {str(places[:8])[:80]} for {n} texts")
    rows = [_vector(item.get("embedding")) for item in sorted(data, key=lambda item: item["index"])]
    widths = {len(row) for row in rows}
    wanted = widths if width is None else {width}
    if len(widths) != 1 or widths != wanted:
        found = " and ".join(str(size) for size in sorted(widths))
        raise _wrong(f"vectors of {found} numbers" + (f" where {width} were expected" if width else ""))
    return _units(np.stack(rows))


def _vector(found: Any) -> Floats:
    """float32[d] from base64 of little-endian floats or from a list of numbers."""
    try:
        if isinstance(found, str):
            return np.frombuffer(base64.b64decode(found, validate=True), "<f4")
        if isinstance(found, list) and all(isinstance(value, int | float) for value in found):
            return np.array(found, np.float32)
    except (binascii.Error, ValueError, OverflowError) as error:
        raise _wrong(f"an embedding that cannot be read: {error}") from None
    raise _wrong(f"an embedding is base64 or a list of numbers, not {str(found)[:40]}")


def _units(rows: Floats) -> Floats:
    wide = rows.astype(np.float64)
    lengths = np.sqrt(np.einsum("nd,nd->n", wide, wide))
    if not np.isfinite(lengths).all():  # an overloaded server's: the next answer may be whole
        raise malformed("a vector with numbers that are not finite")
    if not rows.shape[1] or not lengths.all():
        raise _wrong("a vector of zeros")
    units: Floats = (wide / lengths[:, None]).astype(np.float32)
    return units


def _wrong(text: str) -> CallError:
    return CallError("malformed", text, retry=False, billed="yes")


# ---- asking


@dataclass
class Spent:
    """What was asked and what it took. price: USD per million tokens, None: not known.

    tokens: as the server counted; estimated: of answers without usage; lost: requests that brought nothing and may have been billed.
    """

    price: float | None
    texts: int = 0
    requests: int = 0
    tokens: int = 0
    estimated: int = 0
    lost: int = 0

    def usd_of(self, tokens: int) -> float:
        """NaN without a price."""
        return math.nan if self.price is None else tokens * self.price * PER_MILLION

    def add(self, tokens: int | None, batch: Sequence[str]) -> float:
        """Counts one answer; its USD. tokens: None where the server did not say: estimated."""
        if tokens is None:
            tokens = sum(count_tokens(batch))
            self.estimated += tokens
        else:
            self.tokens += tokens
        return self.usd_of(tokens)

    def line(self) -> str:
        """In one line."""
        parts = [f"{self.texts} texts asked in {self.requests} requests", f"{self.tokens} tokens counted by the server"]
        if self.estimated:
            parts.append(f"{self.estimated} tokens estimated (answers without usage)")
        parts.append("USD not known (no price)" if self.price is None else f"USD {self.usd_of(self.tokens + self.estimated):.6g}")
        if self.lost:
            parts.append(f"{self.lost} requests brought nothing and may have been billed")
        return ", ".join(parts)


@dataclass(eq=False)
class Asker:
    """Asks for batches of texts, several at once, and keeps each answer as it comes.

    extra: parameters of every request. width: the dimensions that vectors must have, None for what the first answer has. keep: gets texts
    and their rows. limits.budget_usd: no request is sent that may pass it, by an estimate of its tokens. told: called with the number of
    texts that are done.
    """

    endpoint: Endpoint
    model: str
    extra: Mapping[str, Any]
    width: int | None
    limits: Limits
    spent: Spent
    keep: Keep
    told: Callable[[int], object]
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    failure: Exception | None = field(default=None, init=False)
    _loop: asyncio.AbstractEventLoop | None = field(default=None, init=False)

    def run(self, wanted: Sequence[list[str]]) -> None:
        """Returns when every batch was kept. Raises InputError, TextRefusedError or OSError, after what was in flight has been kept.

        The loop has a thread of its own: a notebook's thread has one already, and an interrupt of this thread lets what is paid for arrive.
        """
        self._queue = deque(wanted)
        self._breaker = Breaker(self.limits.breaker_failures, self.limits.breaker_pause_s, self.limits.breaker_trips)
        self._spending = Spending(self.limits.budget_usd)
        self._retrying = retrying(self.limits, self.rng, self._breaker.sleep)
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(asyncio.run, self._all())
            try:
                done.result()
            except BaseException:
                self._queue.clear()
                if self._loop is not None and not self._loop.is_closed():
                    self._loop.call_soon_threadsafe(self._breaker.give_up, "interrupted")
                raise
        if self.failure is not None:
            raise self.failure

    async def _all(self) -> None:
        self._loop = asyncio.get_running_loop()
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self.limits.concurrency, len(self._queue))):
                    group.create_task(self._work())
        finally:
            await self.endpoint.close()

    async def _work(self) -> None:
        """Asks for one batch after another, until something fails for good."""
        while self._queue and not self._breaker.given_up:
            try:
                await self._one(self._queue.popleft())
            except NotAsked:
                return
            except (InputError, TextRefusedError, OSError) as error:
                self.failure = self.failure or error
                self._breaker.give_up(str(error))

    async def _one(self, batch: list[str]) -> None:
        """A batch to its end. A server's no to several texts may mean one of them, or their number: they are asked for in halves."""
        try:
            rows = await self._retrying(self._attempt, batch)
        except CallError as error:
            said, half = redact(str(error), self.endpoint.secrets), len(batch) // 2
            said += f" (it asks to wait {error.after:.0f} s)" if error.after is not None else ""
            if error.kind != "refused":
                mend = f"{AGAIN} A longer wait: encoder.attempts, encoder.timeout_s."
                raise InputError("no embeddings came", where=self.endpoint.url, expected="an answer", found=said, mend=mend) from None
            if not half:
                raise TextRefusedError(batch[0], said) from None
            self._queue.extendleft((batch[half:], batch[:half]))
            return
        self.width = rows.shape[1]
        self.keep(batch, rows)
        self.spent.texts += len(batch)
        self.told(len(batch))

    async def _attempt(self, batch: list[str]) -> Floats:
        """One request: [n,d]. Raises CallError, NotAsked, and InputError where the budget has no room for it."""
        await self._breaker.admit()
        forecast = 0.0 if self.limits.budget_usd is None else self.spent.usd_of(sum(count_tokens(batch)))
        if not await self._spending.reserve(forecast):
            mend = f"Raise it: encoder.max_usd=... {AGAIN}"
            expected = f"at most USD {self.limits.budget_usd:g}"
            found = f"USD {self._spending.spent:.6g} spent and USD {forecast:.6g} for the next request"
            raise InputError("the budget has no room for another request", expected=expected, found=found, mend=mend)
        self.spent.requests += 1
        try:
            answer = await self._answer(batch)
        except CallError as error:
            self.spent.lost += error.billed != "no"
            self._spending.settle(forecast, 0.0 if error.billed == "no" else forecast)
            if error.after is not None:
                self._breaker.hold(min(error.after, WAIT_MOST_S))
                error.retry = error.retry and error.after <= WAIT_MOST_S
            raise
        except BaseException:
            self._spending.settle(forecast)
            raise
        self._spending.settle(forecast, self.spent.add(read_tokens(answer), batch))
        return read_vectors(answer, len(batch), self.width)

    async def _answer(self, batch: list[str]) -> dict[str, Any]:
        """The JSON object that answers this. Raises CallError."""
        request = Request(self.endpoint.url, self.model, (), extra={"input": batch, **self.extra})
        try:
            async with asyncio.timeout(self.limits.timeout_s):
                reply = await self.endpoint.ask(request)
        except TimeoutError:
            raise CallError("timeout", f"no whole answer within {self.limits.timeout_s} s", retry=True, billed="unknown") from None
        answer = parse(reply.text)
        if not isinstance(answer, dict):
            raise malformed(f"embeddings come in an object, not in a {type(answer).__name__}")
        if not answer.get("data") and answer.get("error"):
            raise carried_error(answer["error"])
        return answer
