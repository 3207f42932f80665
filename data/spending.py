"""Money while calls are made: what a call may cost before it is sent, and a budget that no dispatch may pass."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, field

from routewright.core.prices import PER_MILLION, PriceBook
from routewright.core.types import InputError
from routewright.data.calls import UNKNOWN, Request

MESSAGE_TOKENS = 4  # what chat templates wrap around one message
MEAN_FROM = 5  # calls of known cost from which their mean forecasts the next one


@dataclass(eq=False)
class Rates:
    """What calls of one model may cost, USD; NaN throughout where it has no price."""

    input: float = UNKNOWN
    output: float = UNKNOWN  # the dearer of output and reasoning
    call: float = UNKNOWN
    known: int = 0  # calls of known cost so far
    spent: float = 0.0  # USD of them

    @classmethod
    def of(cls, prices: PriceBook | None, model: str, *, needed: bool) -> Rates:
        """The book's. needed: raises InputError where the model has none; so do impossible prices, always."""
        if prices is None:
            if needed:
                mend = "Name a price book (prices=...), or run without a budget."
                raise InputError("a budget cannot be kept without prices", expected="a price of " + repr(model), found="none", mend=mend)
            return cls()
        if model not in prices.models and not needed:
            return cls()
        found = prices.prices(model)
        dearer = max(found["output"], found.get("reasoning", 0.0))
        return cls(found["input"] * PER_MILLION, dearer * PER_MILLION, found["call"])

    @property
    def priced(self) -> bool:
        return not math.isnan(self.input)

    def low(self, prompt: int) -> float:
        """The prompt alone."""
        return prompt * self.input + self.call

    def high(self, prompt: int, request: Request) -> float:
        """An answer of max_tokens."""
        return self.low(prompt) + request.max_tokens * self.output

    def learn(self, usd: float) -> None:
        """A call did cost this; NaN teaches nothing."""
        if not math.isnan(usd):
            self.known += 1
            self.spent += usd

    def forecast(self, high: float) -> float:
        """Of the next call: the mean so far, and `high` until there is one."""
        return self.spent / self.known if self.known >= MEAN_FROM else high


def prompt_tokens(request: Request, count: Callable[[str], int]) -> int:
    """An estimate: the texts as `count` has them, and a few for each message."""
    return sum(count(content) + MESSAGE_TOKENS for _, content in request.messages)


@dataclass(eq=False)
class Spending:
    """Lets a request go only where spent + reserved for those in flight + its own forecast stays within the budget (USD; None: no limit).

    spent counts known costs, and the most that calls of unknown cost may have been.
    """

    budget: float | None = None
    spent: float = 0.0
    reserved: float = 0.0
    flying: int = 0
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)
    _freed: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    def fits(self, usd: float) -> bool:
        return self.budget is None or self.spent + self.reserved + usd <= self.budget

    async def reserve(self, usd: float) -> bool:
        """Sets `usd` aside for a request in flight, waiting for others to come back cheaper than forecast; False: the budget is spent."""
        if self.budget is not None:
            async with self._turn:  # one waits for room, the others behind it
                while not self.fits(usd):
                    if not self.flying:
                        return False
                    self._freed.clear()
                    await self._freed.wait()
                self._take(usd)
            return True
        self._take(usd)
        return True

    def _take(self, usd: float) -> None:
        self.reserved += usd
        self.flying += 1

    def settle(self, reserved: float, spent: float = 0.0) -> None:
        """The request came back: what was set aside is free, what it cost (or may have cost) is spent."""
        self.flying -= 1
        self.reserved = self.reserved - reserved if self.flying else 0.0  # no rounding error outlives the last one
        self.spent += spent
        self._freed.set()
