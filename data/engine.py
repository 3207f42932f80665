"""Asks: takes what is not in the store yet, keeps so many calls in flight for each model, retries, pauses, stops at the budget."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from routewright.core.contracts import Backend
from routewright.core.prices import PriceBook
from routewright.core.types import InputError
from routewright.data.breaker import NotAsked
from routewright.data.calls import UNKNOWN, Ask, CallError, Reply
from routewright.data.lane import AGAIN, Job, Lane
from routewright.data.limits import Limits
from routewright.data.redact import redact
from routewright.data.retry import retrying
from routewright.data.spending import Rates, Spending, prompt_tokens
from routewright.data.store import Store
from routewright.data.tally import Tally

__all__ = ["Engine", "Forecast", "Limits", "Tally"]

AHEAD = 4096  # asks read ahead of an iterator; a list is read at once, since it is in memory already
WATCH_EVERY_S = 0.25

log = logging.getLogger("routewright")


@dataclass(frozen=True)
class Forecast:
    """What is still to be asked: calls to make, calls recorded, USD with prompts alone and with answers of max_tokens (NaN: no prices)."""

    calls: int
    recorded: int
    usd_low: float
    usd_high: float


class Engine:
    """Asks a backend and keeps every answer in a store.

    watch: called a few times a second with what has been done. count_tokens: an estimate for forecasts. rng: draws the jitter of retries.
    The budget and the tally are the engine's: several runs share them.
    """

    def __init__(
        self,
        backend: Backend,
        store: Store,
        prices: PriceBook | None,
        limits: Limits,
        *,
        watch: Callable[[Tally], None] | None = None,
        count_tokens: Callable[[str], int],
        rng: np.random.Generator | None = None,
    ) -> None:
        self.backend, self.store, self.prices, self.limits = backend, store, prices, limits
        self.watch, self.count_tokens = watch, count_tokens
        self._rng = np.random.default_rng(0) if rng is None else rng
        self._spending = Spending(limits.budget_usd)
        self._lanes: dict[str, Lane] = {}
        self._busy: dict[str, int] = {}  # keys queued or in flight -> further asks of the same key
        self._failed: set[str] = set()
        self._asked, self._whole, self._halted = 0, True, ""
        self._elapsed, self._since, self._made_before = 0.0, 0.0, 0
        self._fault: InputError | None = None
        self._told_interrupted = False

    def forecast(self, asks: Iterable[Ask]) -> Forecast:
        """What these asks would take. Raises InputError for a budget without prices."""
        seen: set[str] = set()
        recorded, low, high = 0, 0.0, 0.0
        for ask in asks:
            key = ask.request.key()
            if key in seen:
                continue
            seen.add(key)
            if self.store.has(key):
                recorded += 1
                continue
            rates = self._lane(ask.request.model).rates
            prompt = self._prompt(rates, ask)
            low, high = low + rates.low(prompt), high + rates.high(prompt, ask.request)
        known = self.prices is not None
        return Forecast(len(seen) - recorded, recorded, low if known else UNKNOWN, high if known else UNKNOWN)

    async def run(self, asks: Iterable[Ask]) -> Tally:
        """Makes the calls that are not recorded. Afterwards each is in the store, or counted as failed or not asked.

        asks may be an iterator of any length: it is read AHEAD asks ahead, and should then mix its models. Raises InputError for a full
        disk (nothing more is sent), for a model without a price where there is a budget, and for usage that the price book has no price
        for (what is in flight is kept first). A cancellation goes on to the caller; what has come back is kept.
        """
        self._begin(asks)
        try:
            async with asyncio.TaskGroup() as group:
                ticker = group.create_task(self._tick())
                await self._feed(asks, group)
                workers = [worker for lane in self._lanes.values() for worker in lane.workers]
                if workers:
                    await asyncio.wait(workers)
                ticker.cancel()
        except BaseExceptionGroup as several:
            first = several.exceptions[0]
            raise first from first.__cause__
        finally:
            self._elapsed, self._since = self._clock(), 0.0
            for lane in self._lanes.values():
                lane.workers, lane.queue = [], asyncio.Queue()
            self._busy.clear()
        faults = [fault for fault in (self._fault, *(lane.fault for lane in self._lanes.values())) if fault is not None]
        if faults:
            raise faults[0]
        return self._end()

    def _begin(self, asks: Iterable[Ask]) -> None:
        self._since, self._whole = time.monotonic(), isinstance(asks, Sequence)
        self._failed.clear()
        self._made_before = sum(lane.counts.made for lane in self._lanes.values())
        if isinstance(asks, Sequence):
            self._asked += len(asks)
            for model in dict.fromkeys(ask.request.model for ask in asks):
                self._lane(model)  # a missing price is told before the first call
        if not self._told_interrupted and self.backend.remote:  # nobody bills what is computed in this process
            self._told_interrupted = True
            cut = self.store.interrupted()
            if cut and cut[-1].run == self.store.last_run():
                log.warning("%s", cut[-1])

    def _end(self) -> Tally:
        for lane in self._lanes.values():
            if lane.counts.errors:
                log.info("%s: %s", lane.model, ", ".join(f"{count} x {kind}" for kind, count in lane.counts.errors.most_common()))
        tally = self._tally()
        if self.watch is not None:
            self.watch(tally)
        return tally

    async def _tick(self) -> None:
        while self.watch is not None:
            await asyncio.sleep(WATCH_EVERY_S)
            self.watch(self._tally())

    def _clock(self) -> float:
        """Seconds of running, over all runs."""
        return self._elapsed + (time.monotonic() - self._since if self._since else 0.0)

    def _tally(self) -> Tally:
        tally = Tally.of(
            {lane.model: lane.counts for lane in self._lanes.values()}, asked=self._asked, elapsed=self._clock(), stop=self._why()
        )
        made = tally.made - self._made_before
        if self._whole and made and self._since:
            tally.eta = (tally.asked - tally.done) * (time.monotonic() - self._since) / made
        return tally

    def _lane(self, model: str) -> Lane:
        """What is known of this model. Raises InputError where the budget needs a price and there is none."""
        lane = self._lanes.get(model)
        if lane is None:
            lane = self._lanes[model] = Lane(model, self.store, self.prices, self.limits, self._spending, self._halt)
            if self._halted:
                lane.breaker.give_up(self._halted)
        return lane

    def _prompt(self, rates: Rates, ask: Ask) -> int:
        return 0 if not rates.priced else prompt_tokens(ask.request, self.count_tokens)

    async def _feed(self, asks: Iterable[Ask], group: asyncio.TaskGroup) -> None:
        """Hands out what is not recorded, then tells the workers that nothing more comes."""
        whole, room = self._whole, asyncio.Semaphore(AHEAD)
        for number, ask in enumerate(asks):
            if number % 64 == 63:
                await asyncio.sleep(0)
            try:
                lane = self._lane(ask.request.model)
            except InputError as error:  # no price for a model that an iterator brought late
                self._fault = error
                self._halt("stopped")
                break
            key = ask.request.key()
            self._asked += not whole
            if key in self._busy:
                self._busy[key] += 1
            elif key in self._failed:
                lane.counts.failed += 1
            elif (usd := self.store.paid_before(key)) is not None:
                lane.counts.recorded += 1
                lane.counts.usd_recorded += 0.0 if math.isnan(usd) else usd
            else:
                if not whole:
                    await room.acquire()
                self._busy[key] = 0
                lane.queue.put_nowait((key, ask))
                if len(lane.workers) < self.limits.concurrency:
                    lane.workers.append(group.create_task(self._work(lane, room)))
        self._whole = True
        for lane in self._lanes.values():
            for _ in lane.workers:
                lane.queue.put_nowait(None)

    async def _work(self, lane: Lane, room: asyncio.Semaphore) -> None:
        """Makes one call of this model after another."""
        call = retrying(self.limits, self._rng, lane.breaker.sleep)
        try:
            while (item := await lane.queue.get()) is not None:
                room.release()
                await self._one(lane, call, *item)
        except BaseException:
            self._halt("stopped")  # at once: others may be ready to send
            raise

    async def _one(self, lane: Lane, call: Callable[..., Awaitable[None]], key: str, ask: Ask) -> None:
        """One call to its end: kept in the store, or counted as not asked."""
        counts = lane.counts
        job = Job(key, ask, lane.rates.high(self._prompt(lane.rates, ask), ask.request))
        try:
            await call(self._attempt, lane, job)
            counts.recorded += self._busy[key]
        except NotAsked:
            counts.not_asked += 1 + self._busy[key]
        except CallError as error:
            lane.keep(job, error.reply or Reply(""), "empty" if error.kind == "empty" else "error", redact(str(error)))
            if error.kind == "empty":
                counts.recorded += self._busy[key]
            else:
                counts.failed += self._busy[key]
                self._failed.add(key)
        del self._busy[key]

    async def _attempt(self, lane: Lane, job: Job) -> None:
        """One request. Raises CallError where it brings no answer and NotAsked where it may not be sent."""
        probe, forecast = await self._leave(lane, job)
        number = self.store.begin(job.key, job.bound)
        job.attempts += 1
        lane.counts.attempts += 1
        lane.counts.retries += job.attempts > 1
        try:
            reply = await self._ask(job.ask)
        except CallError as error:
            lane.charge(job, error, number, forecast)
            lane.judge(job, error, probe=probe)
            raise
        except InputError:  # the backend could not even send it
            self.store.failed(number, "input", "no")
            raise
        lane.came(job, reply, forecast)

    async def _leave(self, lane: Lane, job: Job) -> tuple[bool, float]:
        """Waits until the request may go: the breaker lets it and there is money. Whether it is a probe, and what was set aside for it."""
        while True:
            probe = await lane.breaker.admit()
            forecast = lane.rates.forecast(job.bound)
            if not await self._spending.reserve(forecast):
                self._halt("budget")
                raise NotAsked("budget")
            if probe or lane.breaker.ready:
                return probe, forecast
            self._spending.settle(forecast)  # while it waited for money the server failed

    async def _ask(self, ask: Ask) -> Reply:
        limits = self.limits
        try:
            async with asyncio.timeout(limits.timeout_s):
                reply: Reply = await self.backend.ask(ask.request)
        except TimeoutError:
            raise CallError("timeout", f"no whole answer within {limits.timeout_s} s", retry=True, billed="unknown") from None
        if len(reply.text) * 4 > limits.answer_bytes and (size := len(reply.text.encode("utf-8", "replace"))) > limits.answer_bytes:
            text = f"the answer has {size} bytes, more than limits.answer_bytes={limits.answer_bytes}"
            raise CallError("oversize", text, retry=False, billed="yes", reply=replace(reply, text="", logprobs=None, pieces=None))
        return reply

    def _halt(self, why: str) -> None:
        """No model is asked anything more."""
        if why == "budget" and not self._halted:
            log.warning("the budget of USD %g is spent. %s", self.limits.budget_usd, AGAIN)
        self._halted = self._halted or why
        for lane in self._lanes.values():
            lane.breaker.give_up(why)

    def _why(self) -> str:
        """Why calls were not made."""
        return "; ".join([*(lane.reason for lane in self._lanes.values() if lane.reason), *([self._halted] if self._halted else [])])
