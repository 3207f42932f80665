"""Asks any server that speaks OpenAI's chat completions: OpenAI itself, LiteLLM, vLLM, OpenRouter, a local one."""

from __future__ import annotations

import json
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

from routewright.core.files import sha256
from routewright.core.types import InputError
from routewright.data.backends._completion import TEXT_MOST, Events, parse, read_completion, status_error
from routewright.data.calls import UNKNOWN, CallError, Reply, Request
from routewright.data.redact import hide, redact

if TYPE_CHECKING:
    import httpx
    import openai

PUBLIC_URL = "https://api.openai.com/v1"
KEEP_ALIVE_S = 4.0  # below the 5 s after which common servers close an idle connection, perhaps just as we send
DUMMY_KEY = "none"  # what a local server without a key is sent
OPEN_FILES = 8192
MOST_TOP = 20  # alternatives to a token: what the API allows
SECRET_FROM = 8  # characters
PORTS = {"http": 80, "https": 443}


@dataclass(kw_only=True, eq=False)
class OpenAIBackend:
    """Chat completions behind core.contracts.Backend.

    base_url: None for $OPENAI_BASE_URL, else OpenAI's own. api_key_env: the environment variable with the key, None for no key; a loopback
    server needs none. headers_env: header -> environment variable, for gateways with keys of their own. extra_body: parameters sent with
    every call, part of `identity`; a request's own extra goes before them. tokens_parameter: max_tokens, or max_completion_tokens for
    reasoning models. send_temperature: off for models that refuse one. send_seed: a seed made from the request's key. top_logprobs: how
    many alternatives to each token are asked for where log-probabilities are, for the entropy; 0 for servers that refuse them; it changes
    no answer, so it is no part of `identity`. stream: measures the time to the first token. connections: most at once, None for as many as
    are asked for. connect_s: seconds to connect; timeout_s: seconds without a byte (the engine limits the whole). answer_bytes: a longer
    body is cut off while it is read, and the call is refused.
    """

    path: ClassVar[str] = "/chat/completions"
    group: ClassVar[str] = "backend"  # where errors say that a setting stands

    base_url: str | None = None
    api_key_env: str | None = "OPENAI_API_KEY"
    headers_env: Mapping[str, str] | None = None
    extra_body: Mapping[str, Any] | None = None
    tokens_parameter: str = "max_tokens"
    send_temperature: bool = True
    send_seed: bool = False
    top_logprobs: int = 5
    stream: bool = False
    connections: int | None = None
    connect_s: float = 10.0
    timeout_s: float = 600.0
    answer_bytes: int = 50_000_000

    @property
    def remote(self) -> bool:
        return True

    @property
    def concurrency(self) -> int:
        return 16

    def __post_init__(self) -> None:
        if self.tokens_parameter not in ("max_tokens", "max_completion_tokens"):
            expected = "max_tokens or max_completion_tokens"
            raise InputError("unknown backend.tokens_parameter", expected=expected, found=repr(self.tokens_parameter))
        if not 0 <= self.top_logprobs <= MOST_TOP:
            found = str(self.top_logprobs)
            raise InputError("backend.top_logprobs cannot be asked for", expected=f"0 to {MOST_TOP}", found=found)

    @cached_property
    def url(self) -> str:
        """The base URL in one spelling. Raises InputError for what is none, and for one with a password in it."""
        given = self.base_url or os.environ.get("OPENAI_BASE_URL") or PUBLIC_URL
        parts = urlsplit(given)
        if parts.scheme not in PORTS or not parts.hostname:
            raise InputError(f"{self.group}.base_url is no URL", expected="http(s)://host[:port]/path", found=redact(given))
        if parts.username or parts.password or parts.query:
            mend = "Name the variable that holds a key in api_key_env or headers_env."
            raise InputError(f"{self.group}.base_url holds more than an address", found=redact(given.partition("?")[0]), mend=mend)
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        port = f":{parts.port}" if parts.port and parts.port != PORTS[parts.scheme] else ""
        return f"{parts.scheme}://{host}{port}{parts.path.rstrip('/')}"

    @property
    def loopback(self) -> bool:
        host = urlsplit(self.url).hostname or ""
        return host in ("localhost", "::1") or host.startswith("127.")

    def identity(self, model: str) -> str:
        """The base URL; with parameters that change every answer, 16 hex digits of their sha256 as well."""
        changes = dict(self.extra_body or {}) | ({} if self.send_temperature else {"temperature": None})
        return self.url + ("#" + sha256(json.dumps(changes, sort_keys=True).encode())[:16] if changes else "")

    async def ask(self, request: Request) -> Reply:
        """One request, sent once. Raises CallError; InputError where the key's environment variable is missing."""
        begun = time.perf_counter()
        try:
            async with self._sent(request) as response:
                # some servers answer a request for a stream with a whole body, an error at least
                streamed = self.stream and "json" not in response.headers.get("content-type", "")
                reply = await (self._events(response, begun) if streamed else self._body(response, begun))
        except CallError as error:
            error.args = (redact(str(error), self.secrets), *error.args[1:])
            raise
        return reply

    async def close(self) -> None:
        """Closes the connections; the next call opens new ones."""
        client = self.__dict__.pop("client", None)
        if client is not None:
            await client.close()

    @cached_property
    def key(self) -> str | None:
        """The API key, None where none is sent. Raises InputError that names the environment variable for a missing one."""
        if self.api_key_env is None or (self.loopback and self.api_key_env not in os.environ):
            return None
        return _variable(self.api_key_env, self.url)

    @cached_property
    def headers(self) -> dict[str, str]:
        """headers_env with the variables' values. Raises InputError as `key` does."""
        return {header: _variable(name, f"the header {header}") for header, name in (self.headers_env or {}).items()}

    @cached_property
    def secrets(self) -> tuple[str, ...]:
        """Everything that no error, log or answer may repeat. A key like EMPTY, as local servers want one, is a word and no secret."""
        return tuple(value for value in (self.key or "", *self.headers.values()) if len(value) >= SECRET_FROM)

    @cached_property
    def client(self) -> openai.AsyncOpenAI:
        import httpx
        import openai

        key, headers = self.key or DUMMY_KEY, self.headers
        _allow_connections()
        timeout = httpx.Timeout(self.timeout_s, connect=self.connect_s, pool=None)
        # 0 connections: no limit, for aiohttp; a redirect would carry the headers, keys among them, elsewhere
        limits = httpx.Limits(max_connections=self.connections or 0, max_keepalive_connections=None, keepalive_expiry=KEEP_ALIVE_S)
        http = openai.DefaultAioHttpClient(limits=limits, timeout=timeout, follow_redirects=False, trust_env=not self.loopback)
        return openai.AsyncOpenAI(api_key=key, base_url=self.url, max_retries=0, timeout=timeout, default_headers=headers, http_client=http)

    def parameters(self, request: Request) -> dict[str, Any]:
        """The body of this request."""
        body: dict[str, Any] = {
            "model": request.model,
            "messages": [{"role": role, "content": content} for role, content in request.messages],
            self.tokens_parameter: request.max_tokens,
        }
        if self.send_temperature:
            body["temperature"] = request.temperature
        if request.logprobs:
            body |= {"logprobs": True} | ({"top_logprobs": self.top_logprobs} if self.top_logprobs else {})
        if self.send_seed:
            body["seed"] = int(request.key()[:8], 16) >> 1  # servers read a signed 32-bit number
        if self.stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return body | dict(self.extra_body or {}) | dict(request.extra)

    @asynccontextmanager
    async def _sent(self, request: Request) -> AsyncIterator[httpx.Response]:
        """The response, its body not read yet; every failure on the way, and while the body is read, as a CallError."""
        import aiohttp
        import httpx
        import openai

        headers, response = {"Idempotency-Key": request.key()}, None
        client, unread = self.client, True  # the body is left to us: it is counted while it comes
        try:
            # the plain post: `create` would walk the parameters' types and the answer's for longer than all the rest takes
            response = await client.post(
                self.path,
                cast_to=httpx.Response,
                body=self.parameters(request),
                options={"headers": headers},
                stream=unread,
            )
            assert isinstance(response, httpx.Response)
            yield response
        except openai.APIStatusError as error:
            raise self._refused(error) from None
        except openai.APIConnectionError as error:
            raise _unreached(error) from None
        except (httpx.HTTPError, aiohttp.ClientError, OSError) as error:
            text = f"the connection was cut inside the answer: {error or type(error).__name__}"
            raise CallError("connection", text, retry=True, billed="unknown") from None
        finally:
            if response is not None:
                await response.aclose()

    async def _body(self, response: httpx.Response, begun: float) -> Reply:
        parts = [part async for part in self._counted(response)]
        body = b"".join(parts)
        if any(secret.encode() in body for secret in self.secrets):
            body = hide(body.decode("utf-8", "replace"), self.secrets).encode()
        return read_completion(parse(body), first_s=UNKNOWN, total_s=time.perf_counter() - begun)

    async def _events(self, response: httpx.Response, begun: float) -> Reply:
        events, first, rest = Events(), UNKNOWN, b""
        async for part in self._counted(response):
            *lines, rest = (rest + part).split(b"\n")
            for line in lines:
                if events.add(hide(line.decode("utf-8", "replace"), self.secrets)) and first is UNKNOWN:
                    first = time.perf_counter() - begun
        if rest:
            events.add(hide(rest.decode("utf-8", "replace"), self.secrets))
        return read_completion(events.whole(), first_s=first, total_s=time.perf_counter() - begun)

    async def _counted(self, response: httpx.Response) -> AsyncIterator[bytes]:
        """The body's bytes, unpacked; CallError as soon as there are too many."""
        size = 0
        async for part in response.aiter_bytes():
            size += len(part)
            if size > self.answer_bytes:
                text = f"the body is longer than {self.group}.answer_bytes={self.answer_bytes}"
                raise CallError("oversize", text, retry=False, billed="unknown")
            yield part

    def _refused(self, error: openai.APIStatusError) -> CallError:
        status, body = error.status_code, error.body if isinstance(error.body, dict) else {}
        text = str(body.get("message") or error.response.text or error.response.reason_phrase)[:TEXT_MOST]
        if status in (401, 403):
            text += f" (is the key in ${self.api_key_env} the one for {self.url}?)"
        elif 300 <= status < 400:
            text += f" (redirects are not followed: name the new address of {self.url} in {self.group}.base_url)"
        elif status == 404:
            text += f" (asked at {self.url}{self.path}: are {self.group}.base_url and the model's name right?)"
        return status_error(status, text, body, error.response.headers)


def _variable(name: str, purpose: str) -> str:
    value = os.environ.get(name, "")
    if not value.strip():
        raise InputError(f"no key for {purpose}", expected=f"the environment variable {name}", found="none", mend=f"export {name}=...")
    return value.strip()


def _allow_connections() -> None:
    """Sockets are files, and a thousand calls in flight pass the usual soft limit of 1024: lifts this process's towards the hard one."""
    if os.name == "posix":
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _unreached(error: BaseException) -> CallError:
    """Whether the request left: only where there never was a connection it surely did not."""
    import aiohttp
    import httpx

    causes, cause = [], error.__cause__
    while cause is not None:
        causes.append(cause)
        cause = cause.__cause__
    text = next((str(cause) for cause in reversed(causes) if str(cause)), type(causes[-1]).__name__ if causes else str(error))
    if any(isinstance(cause, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError | httpx.ConnectError) for cause in causes):
        return CallError("connection", f"no connection: {text}", retry=True, billed="no")
    if any(isinstance(cause, aiohttp.ServerTimeoutError) for cause in causes):
        return CallError("timeout", f"no answer: {text}", retry=True, billed="unknown")
    return CallError("connection", f"the connection was cut: {text}", retry=True, billed="unknown")
