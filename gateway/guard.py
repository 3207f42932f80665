"""A deadline and a circuit breaker around decisions, so that a router that is slow, broken or stuck never holds a request up."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Generic, NamedTuple, TypeVar

from routewright.core.types import InputError

T = TypeVar("T")

# how a guarded call ended
DONE, LATE, RAISED, REFUSED, FULL, OPEN = "done", "late", "raised", "refused", "full", "open"


class Result(NamedTuple, Generic[T]):
    """value: what the call returned, None unless `why` is DONE. error: what it raised, for RAISED and REFUSED."""

    why: str
    value: T | None = None
    error: Exception | None = None


class Breaker:
    """Opens after `failures` in a row, and lets nothing through for `open_s` seconds; then one call at a time is a trial.

    A trial that passes closes it, one that fails opens it anew. Thread-safe. `opened` counts how often it opened. clock: seconds.
    """

    def __init__(self, *, failures: int = 50, open_s: float = 2.0, clock: Callable[[], float] = time.monotonic) -> None:
        if not (failures >= 1 and open_s > 0):
            found = f"failures={failures}, open_s={open_s:g}"
            raise InputError("impossible breaker", expected="failures >= 1 and open_s > 0", found=found)
        self.failures, self.open_s, self._clock = failures, open_s, clock
        self.opened = 0
        self._row = 0  # failures in a row
        self._until: float | None = None  # None while closed
        self._trial = False
        self._era = 0  # of the last opening or closing: what was let through before tells nothing about now
        self._lock = threading.Lock()

    @property
    def state(self) -> str:
        """closed, open or half-open."""
        with self._lock:
            if self._until is None:
                return "closed"
            return "open" if self._clock() < self._until else "half-open"

    def enter(self) -> int | None:
        """A ticket for one call, to be handed to exactly one of `passed`, `failed` and `left`; None: no call now."""
        with self._lock:
            if self._until is None:
                return self._era
            if self._trial or self._clock() < self._until:
                return None
            self._trial = True
            return self._era

    def passed(self, ticket: int) -> None:
        """The call was answered in time."""
        with self._lock:
            if ticket != self._era:
                return
            self._row = 0
            if self._until is not None:
                self._until, self._trial = None, False
                self._era += 1

    def failed(self, ticket: int) -> bool:
        """The call raised or was late. True where that opens the breaker."""
        with self._lock:
            if ticket != self._era:
                return False
            self._row += 1
            if self._until is None and self._row < self.failures:
                return False
            self._until, self._trial = self._clock() + self.open_s, False
            self._era += 1
            self.opened += 1
            return True

    def left(self, ticket: int) -> None:
        """The call told nothing: it never ran, or its caller went away. Another one may be the trial."""
        with self._lock:
            if ticket == self._era:
                self._trial = False


class Guard:
    """Runs short calls in a few threads, each for at most `deadline_s` seconds from when it was handed in, waiting included.

    A call that is late is given up: taken off the queue where it has not begun, left to end unheard where it has. At most `queue` calls
    are on their way at once. `mendable`: exceptions that are the input's fault; they end a call as REFUSED and say nothing against the
    router. told: called with "open" or "closed" whenever the breaker changes its mind. `counts` of every ending, by name.
    """

    def __init__(
        self,
        breaker: Breaker,
        *,
        deadline_s: float = 0.005,
        threads: int = 2,
        queue: int = 64,
        mendable: tuple[type[Exception], ...] = (InputError,),
        told: Callable[[str], None] | None = None,
    ) -> None:
        if not (deadline_s > 0 and threads >= 1 and queue >= 1):
            found = f"deadline_s={deadline_s:g}, threads={threads}, queue={queue}"
            raise InputError("impossible guard", expected="deadline_s > 0, threads >= 1, queue >= 1", found=found)
        self.breaker, self.deadline_s, self.queue, self.mendable = breaker, deadline_s, queue, mendable
        self.counts: Counter[str] = Counter()
        self._told = told
        self._under_way = 0
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="routewright")

    async def call(self, work: Callable[[], T]) -> Result[T]:
        """work() in another thread; never raises what it raises, and never blocks the event loop."""
        begun = self._begun(work)
        if isinstance(begun, Result):
            return begun
        ticket, future = begun
        heard = asyncio.wrap_future(future)
        heard.add_done_callback(_hear)
        try:
            await asyncio.wait({heard}, timeout=self.deadline_s)
        except asyncio.CancelledError:  # the request's own client has gone
            future.cancel()
            self.breaker.left(ticket)
            raise
        return self._ended(ticket, future)

    def call_now(self, work: Callable[[], T]) -> Result[T]:
        """As `call`, for callers without an event loop: blocks for at most the deadline."""
        begun = self._begun(work)
        if isinstance(begun, Result):
            return begun
        ticket, future = begun
        wait({future}, timeout=self.deadline_s)
        return self._ended(ticket, future)

    def close(self) -> None:
        """Drops what waits, and ends the threads after what they are at."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _begun(self, work: Callable[[], T]) -> Result[T] | tuple[int, Future[T]]:
        ticket = self.breaker.enter()
        if ticket is None:
            return self._counted(Result(OPEN))
        with self._lock:
            full = self._under_way >= self.queue
            self._under_way += not full
        if full:
            self.breaker.left(ticket)
            return self._counted(Result(FULL))
        future = self._pool.submit(work)
        future.add_done_callback(self._over)  # called for what is cancelled in the queue, too
        return ticket, future

    def _over(self, _: Future[T]) -> None:
        with self._lock:
            self._under_way -= 1

    def _ended(self, ticket: int, future: Future[T]) -> Result[T]:
        """The future is asked, not the clock: an event loop that comes late itself finds a decision that was made in time."""
        if not future.done():
            future.cancel()
            return self._failed(ticket, Result(LATE))
        error = future.exception()
        if error is None:
            self._passed(ticket)
            return self._counted(Result(DONE, future.result()))
        if isinstance(error, self.mendable):
            self._passed(ticket)
            return self._counted(Result(REFUSED, error=error))
        if isinstance(error, Exception):
            return self._failed(ticket, Result(RAISED, error=error))
        self.breaker.left(ticket)
        raise error  # the interpreter is being ended

    def _passed(self, ticket: int) -> None:
        before = self.breaker.state
        self.breaker.passed(ticket)
        if before != "closed" and self.breaker.state == "closed" and self._told is not None:
            self._told("closed")

    def _failed(self, ticket: int, result: Result[T]) -> Result[T]:
        if self.breaker.failed(ticket) and self._told is not None:
            self._told("open")
        return self._counted(result)

    def _counted(self, result: Result[T]) -> Result[T]:
        with self._lock:
            self.counts[result.why] += 1
        return result


def _hear(future: asyncio.Future[T]) -> None:
    """Takes what a late call raises, which asyncio would else report as never retrieved."""
    if not future.cancelled():
        future.exception()
