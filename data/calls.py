"""What is asked of a model and what comes back: requests, replies, the errors between them, and the record that is kept of each call."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from routewright.core.files import sha256

UNKNOWN = math.nan  # seconds or USD that nobody measured; never zero


@dataclass(frozen=True)
class Request:
    """One call, complete: the same request has the same key, and a different one never does.

    endpoint: who answers, as Backend.identity says it (a base URL, a weights' hash), so that two servers or two versions of one name are
    two requests. messages: (role, content) pairs. sample: which of several draws of one prompt; 0 is the answer. logprobs: asked for.
    extra: further parameters of the call (top_p, reasoning_effort...), JSON values by name.
    """

    endpoint: str
    model: str
    messages: tuple[tuple[str, str], ...]
    temperature: float = 0.0
    max_tokens: int = 256
    sample: int = 0
    logprobs: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)

    def key(self) -> str:
        """sha256 of everything above, as canonical JSON."""
        return sha256(json.dumps(self.plain(), sort_keys=True, ensure_ascii=True, separators=(",", ":")).encode())

    def plain(self) -> dict[str, Any]:
        """JSON values, as the store keeps them."""
        return {
            "endpoint": self.endpoint,
            "model": self.model,
            "messages": [list(message) for message in self.messages],
            "temperature": float(self.temperature),
            "max_tokens": int(self.max_tokens),
            "sample": int(self.sample),
            "logprobs": bool(self.logprobs),
            "extra": dict(self.extra),
        }


@dataclass(frozen=True)
class Reply:
    """What a model answered.

    tokens: counts by kind (core.types.TOKEN_KINDS; input counts cached ones too; output and reasoning are apart), or None where the backend
    gave no usage. logprobs: natural logarithm of each output token's probability, pieces: its text; both or neither. finish: stop, length,
    content_filter... first_s and total_s: seconds to the first token and to the last, NaN where not measured. entropy: of the distribution
    that each output token was taken from, in nats; None where the backend told no alternatives.
    """

    text: str
    tokens: Mapping[str, int] | None = None
    logprobs: tuple[float, ...] | None = None
    pieces: tuple[str, ...] | None = None
    finish: str = ""
    first_s: float = UNKNOWN
    total_s: float = UNKNOWN
    entropy: tuple[float, ...] | None = None


class CallError(Exception):
    """A call that brought no usable answer.

    kind: rate_limit, server, timeout, connection, malformed, empty, refused... retry: whether asking again may help. after: seconds the
    server asked to wait. billed: "no", "yes" or "unknown"; unknown is told to the user and counted in the budget as if it had been.
    reply: what did arrive, where something did: an empty answer with its usage is paid for. Its text never holds a key.
    """

    def __init__(
        self, kind: str, text: str, *, retry: bool, after: float | None = None, billed: str = "no", reply: Reply | None = None
    ) -> None:
        super().__init__(f"{kind}: {text}" if text else kind)
        self.kind, self.retry, self.after, self.billed, self.reply = kind, retry, after, billed, reply


@dataclass(frozen=True)
class Ask:
    """A request and the ids of the queries it is made for: several where one call carries several, or where two queries are one text."""

    request: Request
    queries: tuple[str, ...]


@dataclass(frozen=True)
class Call:
    """The record of one finished call.

    status: ok, empty (paid, nothing in it) or error (given up). usd: NaN where there was no usage. attempts: requests sent for it in all;
    lost: those of them that may have been billed and brought nothing. error: the last one's text, "" without.
    """

    key: str
    time: str
    queries: tuple[str, ...]
    request: Request
    status: str
    reply: Reply
    usd: float = UNKNOWN
    attempts: int = 1
    lost: int = 0
    error: str = ""
