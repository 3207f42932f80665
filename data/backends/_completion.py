"""Reads what chat-completions servers send: answers, usage, log-probabilities, errors; whole or as a stream of events."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from routewright.data.calls import CallError, Reply
from routewright.data.evidence import entropy

TEXT_MOST = 500  # characters of a server's message that an error repeats
UNSURE = (408, 502, 504, 524)  # somebody between us and the model waited in vain: the model may have answered, and billed


def malformed(text: str) -> CallError:
    """The server answered 200 and not what it should: it may have billed."""
    return CallError("malformed", text, retry=True, billed="unknown")


def parse(body: bytes | str) -> Any:
    """JSON, or CallError."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        start = body[:80] if isinstance(body, str) else body[:80].decode("utf-8", "replace")
        raise malformed(f"no JSON: {type(error).__name__} in {start!r}") from None


def read_completion(data: Any, *, first_s: float, total_s: float) -> Reply:
    """The Reply in a chat completion. Raises CallError: malformed, empty (with its cost), or the error inside a body of status 200."""
    if not isinstance(data, dict):
        raise malformed(f"a chat completion is an object, not {type(data).__name__}")
    choices = data.get("choices")
    if not choices and data.get("error"):
        raise carried_error(data["error"])
    if not isinstance(choices, list):
        raise malformed("no choices")
    choice = choices[0] if choices else {}
    message = choice.get("message") if isinstance(choice, dict) else None
    if choices and not isinstance(message, dict):
        raise malformed("a choice without a message")
    text = _text(message or {})
    finish = str(choice.get("finish_reason") or "")
    if not text.strip():
        paid = Reply(text, read_usage(data.get("usage"), answered=False), finish=finish, first_s=first_s, total_s=total_s)
        why = f"an answer without text (finish reason {finish or 'none'})" if choices else "no choices"
        raise CallError("empty", why, retry=False, billed="yes", reply=paid)
    logprobs, pieces = read_logprobs(choice.get("logprobs"))
    spread = None if logprobs is None else read_entropy(choice["logprobs"]["content"])
    return Reply(text, read_usage(data.get("usage"), answered=True), logprobs, pieces, finish, first_s, total_s, spread)


def _text(message: Mapping[str, Any]) -> str:
    """content, or the refusal that some servers put in its place; content in parts is joined."""
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    if content is not None and not isinstance(content, str):
        raise malformed(f"content is {type(content).__name__}, not text")
    refusal = message.get("refusal")
    return content or (refusal if isinstance(refusal, str) else "")


def read_usage(usage: Any, *, answered: bool) -> dict[str, int] | None:
    """Tokens by kind (core.types.TOKEN_KINDS). None where usage is missing, contradicts itself, or has no tokens for an answer."""
    if not isinstance(usage, dict):
        return None
    prompt, completion = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
    cached = _count(_inner(usage, "prompt_tokens_details", "cached_tokens"), 0)
    reasoning = _count(_inner(usage, "completion_tokens_details", "reasoning_tokens"), 0)
    if prompt is None or completion is None or cached is None or reasoning is None or cached > prompt:
        return None
    # most servers count reasoning among the completion; some beside it, and then their total says so
    beside = reasoning > 0 and _count(usage.get("total_tokens")) == prompt + completion + reasoning
    output = completion if beside else completion - reasoning
    if output < 0 or (answered and output + reasoning == 0) or prompt + completion + reasoning == 0:
        return None
    return {"input": prompt, "cached_input": cached, "output": output, "reasoning": reasoning}


def _inner(usage: Mapping[str, Any], part: str, name: str) -> Any:
    details = usage.get(part)
    return details.get(name) if isinstance(details, dict) else None


def _count(value: Any, missing: int | None = None) -> int | None:
    """A count of 0 or more; `missing` where there is none; None for what is no count."""
    if value is None:
        return missing
    whole = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0 and value == int(value)
    return int(value) if whole else None


def read_logprobs(found: Any) -> tuple[tuple[float, ...] | None, tuple[str, ...] | None]:
    """Log-probability and text of each token; None twice where the server left them out or sent something else."""
    content = found.get("content") if isinstance(found, dict) else None
    if not isinstance(content, list) or not content or not all(isinstance(token, dict) for token in content):
        return None, None
    values, pieces = [token.get("logprob") for token in content], [token.get("token") for token in content]
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) and value <= 0 for value in values)
    if not numbers or not all(isinstance(piece, str) for piece in pieces):
        return None, None
    return tuple(float(value) for value in values), tuple(pieces)


def read_entropy(content: Sequence[Mapping[str, Any]]) -> tuple[float, ...] | None:
    """Entropy (nats) of the distribution behind each token, a lower bound by its top_logprobs; None where those of a token cannot be read.

    content: the tokens of read_logprobs. The token itself counts as an outcome beside the alternatives where neither its text nor its
    log-probability is among them: a drawn token may lie beyond the top.
    """
    found = tuple(_spread(token) for token in content)
    return None if any(math.isnan(value) for value in found) else found


def _spread(token: Mapping[str, Any]) -> float:
    listed = token.get("top_logprobs")
    if not isinstance(listed, list) or not listed or not all(isinstance(other, dict) for other in listed):
        return math.nan
    values = [other.get("logprob") for other in listed]
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return math.nan
    own = token["logprob"]
    beyond = own not in values and token["token"] not in [other.get("token") for other in listed]
    return entropy([*values, own] if beyond else values)


class Events:
    """Puts the chunks of a streamed completion together into the object that an unstreamed one would have been."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.logprobs: list[Any] = []
        self.finish: str | None = None
        self.usage: Any = None
        self.error: Any = None
        self.ended = False

    def add(self, line: str) -> bool:
        """One line of the stream; whether it carried text."""
        name, _, value = line.partition(":")
        value = value.strip()
        if name != "data" or not value:
            return False
        if value == "[DONE]":
            self.ended = True
            return False
        chunk = parse(value)
        if not isinstance(chunk, dict):
            raise malformed("a chunk of a stream is an object")
        self.usage = chunk.get("usage") or self.usage
        self.error = chunk.get("error") or self.error
        choices = chunk.get("choices")
        first = choices[0] if isinstance(choices, list) and choices else {}
        if not isinstance(first, dict):
            raise malformed("a choice of a chunk is an object")
        return self._choice(first)

    def _choice(self, choice: Mapping[str, Any]) -> bool:
        self.finish = choice.get("finish_reason") or self.finish
        logprobs, delta = choice.get("logprobs"), choice.get("delta")
        if isinstance(logprobs, dict) and isinstance(logprobs.get("content"), list):
            self.logprobs += logprobs["content"]
        text = _text(delta) if isinstance(delta, dict) else ""
        self.text.append(text)
        return bool(text)

    def whole(self) -> dict[str, Any]:
        """The completion. Raises CallError where the stream was cut, or ended in an error."""
        if self.error:
            raise carried_error(self.error)
        if not self.ended and not self.finish:
            raise malformed("the stream was cut")
        message = {"content": "".join(self.text)}
        choice = {"message": message, "finish_reason": self.finish, "logprobs": {"content": self.logprobs}}
        return {"choices": [choice], "usage": self.usage}


def carried_error(error: Any) -> CallError:
    """The error inside a body of status 200, as gateways send it when the model behind them fails."""
    found = error if isinstance(error, dict) else {"message": error}
    code, text = found.get("code"), str(found.get("message") or "no message")[:TEXT_MOST]
    if isinstance(code, int) and 400 <= code < 600:
        return status_error(code, text, found, {})
    return CallError("server", f"an error in a body of status 200: {text}", retry=True, billed="unknown")


def status_error(status: int, text: str, error: Mapping[str, Any], headers: Mapping[str, str]) -> CallError:
    """The CallError of an HTTP status. error: the body's error object, if it has one."""
    said = f"HTTP {status}: {text}"
    after = retry_after(headers)
    if status in (401, 403):
        return CallError("unauthorized", said, retry=False)
    if status == 404:
        return CallError("not_found", said, retry=False)
    if status == 402 or (status == 429 and "insufficient_quota" in (error.get("code"), error.get("type"))):
        return CallError("quota", said, retry=False)
    if status == 429:
        return CallError("rate_limit", said, retry=True, after=after)
    billed = "unknown" if status in UNSURE else "no"
    if status in (408, 504, 524):
        return CallError("timeout", said, retry=True, after=after, billed=billed)
    if status >= 500 or status == 409:
        return CallError("server", said, retry=True, after=after, billed=billed)
    return CallError("refused", said, retry=False)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds the server asks to wait: retry-after-ms, or Retry-After in seconds or as a date (against its own Date); None without."""
    for name, scale in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "nan")) * scale
        except ValueError:
            continue
        if math.isfinite(seconds):
            return max(0.0, seconds)
    until, here = _date(headers.get("retry-after")), _date(headers.get("date")) or datetime.now(UTC)
    return None if until is None else max(0.0, (until - here).total_seconds())


def _date(value: str | None) -> datetime | None:
    try:
        found = parsedate_to_datetime(value or "")
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
