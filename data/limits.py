"""How hard a collection asks, and where it stops: concurrency, retries, pauses, money."""

from __future__ import annotations

import math
from dataclasses import dataclass

from routewright.core.types import InputError


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How hard the engine asks. Raises InputError for values out of range.

    concurrency: calls in flight for each model. attempts: requests for one call. backoff_s: a wait is drawn between 0 and this, doubled
    each time up to backoff_max_s. timeout_s: of one request, to its last byte; None for none. breaker_failures in a row make all calls to a
    model wait breaker_pause_s until one is tried; when that has happened breaker_trips times without a success in between it is given up.
    budget_usd: a hard stop, None for none. answer_bytes: a longer answer is paid for and not kept.
    """

    concurrency: int = 16
    attempts: int = 5
    backoff_s: float = 1.0
    backoff_max_s: float = 60.0
    timeout_s: float | None = 120.0
    breaker_failures: int = 8
    breaker_pause_s: float = 30.0
    breaker_trips: int = 3
    budget_usd: float | None = None
    answer_bytes: int = 50_000_000

    def __post_init__(self) -> None:
        for name in ("concurrency", "attempts", "breaker_failures", "breaker_trips", "answer_bytes"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"limits.{name} is out of range", expected="a whole number of 1 or more", found=repr(value))
        for name in ("backoff_s", "backoff_max_s", "timeout_s", "breaker_pause_s", "budget_usd"):
            value, least = getattr(self, name), "above 0" if name == "timeout_s" else "of 0 or more"
            if name in ("budget_usd", "timeout_s") and value is None:
                continue
            number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            if not number or value < 0 or (name == "timeout_s" and value == 0):
                raise InputError(f"limits.{name} is out of range", expected=f"a number {least}", found=repr(value))
