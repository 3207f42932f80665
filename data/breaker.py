"""A circuit breaker for one model: when a server fails again and again its calls pause, one tries, and in the end the model is given up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field


class NotAsked(Exception):  # noqa: N818 - nothing went wrong with the call: it was not made
    """A call was not made: its model is given up, or the money is spent."""


@dataclass(eq=False)
class Breaker:
    """Lets attempts through (`admit`) while the server behaves.

    failures: as many in a row open it. pause_s: seconds until one attempt probes. trips: openings without a success in between after which
    it is `exhausted`. given_up: why the model was given up; "" while it is not. clock: seconds that never go back.
    """

    failures: int
    pause_s: float
    trips: int
    clock: Callable[[], float] = time.monotonic
    given_up: str = field(default="", init=False)
    row_: int = field(default=0, init=False)  # failures in a row
    tripped_: int = field(default=0, init=False)  # openings since the last success
    until_: float = field(default=0.0, init=False)  # nothing is sent before
    open_: bool = field(default=False, init=False)
    probing_: bool = field(default=False, init=False)
    _changed: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    @property
    def ready(self) -> bool:
        """Anybody may send now."""
        return not self.open_ and not self.given_up and self.until_ <= self.clock()

    @property
    def exhausted(self) -> bool:
        """It has opened as often as it may without a success in between."""
        return self.tripped_ >= self.trips

    async def admit(self) -> bool:
        """Returns when an attempt may be sent: True where it is the probe. Raises NotAsked once the model is given up."""
        while not self.given_up:
            if self.ready:
                return False
            wait = self.until_ - self.clock()
            if wait <= 0 and not self.probing_:
                self.probing_ = True
                return True
            await self._change(wait if wait > 0 else None)
        raise NotAsked(self.given_up)

    async def sleep(self, seconds: float) -> None:
        """Waits so long, or until the model is given up."""
        end = self.clock() + seconds
        while not self.given_up and (left := end - self.clock()) > 0:
            await self._change(left)

    def hold(self, seconds: float) -> None:
        """Nothing is sent for so long: the server asked for it."""
        self.until_ = max(self.until_, self.clock() + seconds)

    def alive(self) -> None:
        """The server answered."""
        self.row_ = self.tripped_ = 0
        if self.open_:
            self.open_, self.probing_, self.until_ = False, False, 0.0
            self._tell()

    def failed(self, *, probe: bool = False, counts: bool = True) -> bool:
        """An attempt failed in a way that may pass. counts: False for a first rate limit. Returns whether this opened the breaker."""
        if self.open_ and not (probe and counts):
            if probe:  # the server is there and asks for time: somebody else probes
                self.probing_ = False
                self._tell()
            return False
        self.row_ += counts
        if not probe and self.row_ < self.failures:
            return False
        self.open_, self.probing_, self.row_ = True, False, 0
        self.tripped_ += 1
        self.hold(self.pause_s)
        self._tell()
        return True

    def give_up(self, why: str) -> None:
        """From now on every attempt is refused; those that wait are told."""
        self.given_up = self.given_up or why
        self._tell()

    async def _change(self, seconds: float | None) -> None:
        """Waits for a change, so many seconds at most."""
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return

    def _tell(self) -> None:
        """Wakes everybody who waits; they look again."""
        self._changed.set()
        self._changed = asyncio.Event()
