"""One model's side of a collection: what its calls cost, what their failures say about its server, how they end up in the store."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field

from routewright.core.prices import PriceBook
from routewright.core.types import InputError
from routewright.data.breaker import Breaker
from routewright.data.calls import UNKNOWN, Ask, Call, CallError, Reply
from routewright.data.limits import Limits
from routewright.data.redact import redact
from routewright.data.spending import Rates, Spending
from routewright.data.store import Store, now
from routewright.data.tally import Counts

WAIT_MOST_S = 600.0  # a server that asks for a longer pause is told of, not waited for
GIVE_UP = ("unauthorized", "not_found", "quota")  # kinds that every further call of the model would meet
AGAIN = "What was answered is kept; the same command makes the remaining calls."

log = logging.getLogger("routewright")


@dataclass(slots=True)
class Job:
    """A call that is being made. bound: the most one request of it may cost, USD; usd: what it did cost."""

    key: str
    ask: Ask
    bound: float
    attempts: int = 0
    lost: int = 0
    limited: bool = False  # a rate limit met it before
    usd: float = UNKNOWN


@dataclass(eq=False)
class Lane:
    """Everything about one model. halt: stops all lanes; reason: why this one was given up; fault: the error that stopped the run."""

    model: str
    store: Store
    prices: PriceBook | None
    limits: Limits
    spending: Spending
    halt: Callable[[str], None]
    rates: Rates = field(init=False)
    breaker: Breaker = field(init=False)
    counts: Counts = field(default_factory=Counts, init=False)
    queue: asyncio.Queue[tuple[str, Ask] | None] = field(default_factory=asyncio.Queue, init=False)
    workers: list[asyncio.Task[None]] = field(default_factory=list, init=False)
    told: set[str] = field(default_factory=set, init=False)  # kinds of error that were logged
    reason: str = field(default="", init=False)
    fault: InputError | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        limits = self.limits
        self.rates = Rates.of(self.prices, self.model, needed=limits.budget_usd is not None)
        self.breaker = Breaker(limits.breaker_failures, limits.breaker_pause_s, limits.breaker_trips)
        if self.prices is not None and not self.rates.priced:
            log.warning("%s has no price in the price book of %s: its calls have no cost", self.model, self.prices.date)

    def came(self, job: Job, reply: Reply, forecast: float) -> None:
        """An answer: it is kept before anything else happens."""
        self.breaker.alive()
        job.usd = self.usd(reply)
        self.spending.settle(forecast, job.bound if math.isnan(job.usd) else job.usd)
        self.keep(job, reply, "ok", "")

    def charge(self, job: Job, error: CallError, number: int, forecast: float) -> None:
        """What the request of this number has cost, or may have cost, without bringing an answer."""
        billed, reply = error.billed, error.reply
        if billed == "yes" and error.kind != "empty" and (reply is None or reply.tokens is None):
            billed = "unknown"
        if billed == "yes":
            job.usd = self.usd(reply or Reply(""))
            self.spending.settle(forecast, job.bound if math.isnan(job.usd) else job.usd)
            return
        self.store.failed(number, error.kind, billed)
        if billed == "unknown":
            job.lost += 1
            self.counts.lost += 1
            self.counts.lost_bound += job.bound
        self.spending.settle(forecast, job.bound if billed == "unknown" else 0.0)

    def judge(self, job: Job, error: CallError, *, probe: bool) -> None:
        """What a failure says about the server: nothing, that it needs time, or that there is no use in going on."""
        text = redact(str(error))
        self.counts.errors[error.kind] += 1
        if error.kind not in self.told:
            self.told.add(error.kind)
            log.warning("%s: %s (further ones are counted)", self.model, text)
        if error.kind in GIVE_UP:
            self.give_up(text)
        elif not error.retry:
            self.breaker.alive()
        elif error.after is not None and error.after > WAIT_MOST_S:
            self.give_up(f"{text}; the server asks to wait {error.after:.0f} s, and {WAIT_MOST_S:.0f} s are waited at most")
        else:
            self._wait(job, error, text, probe=probe)

    def _wait(self, job: Job, error: CallError, text: str, *, probe: bool) -> None:
        breaker = self.breaker
        if error.after is not None:
            breaker.hold(error.after)
        limited = error.kind == "rate_limit"
        opened = breaker.failed(probe=probe, counts=not limited or job.limited)
        job.limited |= limited
        if opened and breaker.exhausted:
            self.give_up(f"{breaker.trips} times it failed {breaker.failures} times in a row or on being tried again; the last: {text}")
        elif opened:
            log.warning("%s keeps failing: its calls wait %g s", self.model, breaker.pause_s)

    def give_up(self, why: str) -> None:
        """Its remaining calls are not made."""
        if not self.breaker.given_up:
            self.reason = f"{self.model} is given up: {why}"
            log.error("%s. %s", self.reason.rstrip("."), AGAIN)
            self.breaker.give_up(self.reason)

    def usd(self, reply: Reply) -> float:
        """NaN where it is not known. Usage that the book has no price for stops the run, after what is in flight has been kept."""
        if self.prices is None or not self.rates.priced:
            return UNKNOWN
        try:
            usd = self.prices.usd(self.model, reply.tokens)
        except InputError as error:
            self.fault = self.fault or error
            self.halt("stopped")
            return UNKNOWN
        self.rates.learn(usd)
        return usd

    def keep(self, job: Job, reply: Reply, status: str, text: str) -> None:
        """Writes the call down, then counts it."""
        counts, ask = self.counts, job.ask
        self.store.put(Call(job.key, now(), ask.queries, ask.request, status, reply, job.usd, job.attempts, job.lost, text))
        counts.ok += status == "ok"
        counts.empty += status == "empty"
        counts.failed += status == "error"
        counts.tokens.update(reply.tokens or {})
        if not math.isnan(job.usd):
            counts.usd += job.usd
        elif status != "error":
            counts.usd_unknown_calls += 1
            counts.usd_unknown_bound += job.bound
