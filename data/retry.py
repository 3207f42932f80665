"""When a call to a server is made again, and after how long a wait: one rule for answers and for embeddings."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt

from routewright.data.calls import CallError
from routewright.data.limits import Limits


def retrying(limits: Limits, rng: np.random.Generator, sleep: Callable[[float], Awaitable[None]]) -> Callable[..., Awaitable[Any]]:
    """Calls again what raised a CallError that may pass: after a jittered, doubling wait, and never before the server's Retry-After."""

    def wait(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        jitter = float(rng.uniform(0.0, min(limits.backoff_max_s, limits.backoff_s * 2.0 ** (state.attempt_number - 1))))
        return max(jitter, getattr(error, "after", None) or 0.0)

    return AsyncRetrying(
        stop=stop_after_attempt(limits.attempts),
        wait=wait,
        retry=retry_if_exception(lambda error: isinstance(error, CallError) and error.retry),
        sleep=sleep,
        reraise=True,
    )
