"""A chat-completions server that misbehaves by a script and keeps its own books; loopback only.

In a thread: `with Server(...) as server`. In a process of its own: `with Process(...) as server`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import random
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Any, Self

from aiohttp import web

KEY = "sk-secret0123456789abcdef"
BIG = 10_000_000  # characters of a big answer
SLOW_S = 30.0  # the longest a slow answer dribbles on
TRANSIENT = ("limit_seconds", "limit_date", "limit_ms", "limit", "server", "slow", "cut_before", "cut_inside", "malformed", "carried")
ANSWERS = ("no_usage", "zero_usage", "no_choices", "null_content", "big", "no_logprobs")


@dataclass
class Script:
    """latency: seconds of every answer. plan: faults of the first requests of every key, in order. fail_all: a fault for everything.

    transient: fault -> chance, for the first `most` requests of a key; answers: kind of answer -> chance, the same for a key however often
    it asks. key: the API key that is asked for, and echoed in every error; None: any.
    """

    latency: float = 0.0
    plan: Sequence[str] = ()
    transient: Mapping[str, float] = field(default_factory=dict)
    answers: Mapping[str, float] = field(default_factory=dict)
    most: int = 2
    seed: int = 0
    fail_all: str = ""
    key: str | None = KEY


def answer(prompt: str) -> str:
    """What the server answers to this."""
    number = int(hashlib.sha256(prompt.encode("utf-8", "replace")).hexdigest(), 16)
    return f"The answer to that is {number % 1000} " + "and so on " * (number % 7) + "."


def usage(prompt: str) -> dict[str, Any]:
    """What it charges for."""
    words, number = len(answer(prompt).split()), len(prompt)
    return {
        "prompt_tokens": number + 9,
        "completion_tokens": words + number % 3,
        "total_tokens": number + 9 + words + number % 3,
        "prompt_tokens_details": {"cached_tokens": number % 5},
        "completion_tokens_details": {"reasoning_tokens": number % 3},
    }


def completion(prompt: str, kind: str, logprobs: bool) -> dict[str, Any]:
    """A whole answer of this kind."""
    text, used = answer(prompt), usage(prompt)
    if kind == "big":
        text = "x" * BIG
    message: dict[str, Any] = {"role": "assistant", "content": text}
    choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": "stop"}
    if logprobs and kind != "no_logprobs":
        pieces = [word + " " for word in text.split()]
        choice["logprobs"] = {"content": [{"token": piece, "logprob": -0.125 * i, "top_logprobs": []} for i, piece in enumerate(pieces)]}
    made: dict[str, Any] = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": used}
    if kind == "no_usage":
        del made["usage"]
    elif kind == "zero_usage":
        made["usage"] = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    elif kind == "no_choices":
        made["choices"] = []
    elif kind == "null_content":
        message["content"] = None
    return made


class Misbehaving:
    """The application and its books. billed: one entry for every whole answer that was sent."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.billed: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.flying = self.most_flying = 0
        self.app = web.Application(client_max_size=1 << 26)
        self.app.router.add_post("/v1/chat/completions", self.chat)
        self.app.router.add_get("/books", self.show)

    async def show(self, _: web.Request) -> web.Response:
        return web.json_response(self.books())

    def books(self) -> dict[str, Any]:
        return {
            "billed": self.billed,
            "requests": dict(self.requests),
            "faults": dict(self.faults),
            "times": self.times,
            "most_flying": self.most_flying,
        }

    def kinds(self, key: str) -> tuple[str, str]:
        """The transient fault ("" for none) of this request of a key, and the kind of its answer ("" for a plain one)."""
        script, count = self.script, self.requests[key]
        self.requests[key] += 1
        transient = script.plan[count] if count < len(script.plan) else ""
        if not transient and not script.plan and count < script.most:
            transient = _drawn(f"{script.seed} {key} {count}", script.transient)
        return script.fail_all or transient, _drawn(f"{script.seed} {key}", script.answers)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        self.flying += 1
        self.most_flying = max(self.most_flying, self.flying)
        self.times.append(time.monotonic())
        try:
            return await self._chat(request)
        finally:
            self.flying -= 1

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        key = request.headers.get("Idempotency-Key", "")
        if self.script.key is not None and request.headers.get("Authorization") != f"Bearer {self.script.key}":
            return self._error(401, request, "wrong key")
        fault, kind = self.kinds(key)
        if fault:
            self.faults[fault] += 1
        if self.script.latency:
            await asyncio.sleep(self.script.latency)
        refused = self._refusal(fault, request)
        if refused is not None:
            return refused
        prompt = "\n".join(message["content"] for message in body["messages"])
        made = completion(prompt, kind, bool(body.get("logprobs")))
        data = _events(made) if body.get("stream") else json.dumps(made).encode()
        if fault == "malformed":
            return web.Response(body=data[: len(data) // 2], content_type="application/json")
        return await self._send(request, data, fault, {"key": key, "prompt": prompt, "kind": kind})

    def _refusal(self, fault: str, request: web.Request) -> web.Response | None:
        limits = {
            "limit_seconds": {"Retry-After": "1"},
            "limit_date": {"Retry-After": formatdate(time.time() + 1.5, usegmt=True)},
            "limit_ms": {"retry-after-ms": "20"},
            "limit_forever": {"Retry-After": "86400"},
            "limit": {},
        }
        if fault in limits:
            return self._error(429, request, "too many requests", limits[fault])
        statuses = {"server": 500, "unauthorized": 403, "not_found": 404, "refused": 400, "quota": 402}
        if fault in statuses:
            return self._error(statuses[fault], request, "no good")
        if fault == "carried":
            return web.json_response({"error": {"code": 503, "message": "the model behind is down"}})
        if fault == "cut_before":
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        return None

    def _error(self, status: int, request: web.Request, text: str, headers: Mapping[str, str] | None = None) -> web.Response:
        """An error that repeats the key, as some servers do."""
        said = f"{text}: {request.headers.get('Authorization')} x-gateway={request.headers.get('x-gateway')}"
        return web.json_response({"error": {"message": said, "code": status}}, status=status, headers=headers)

    async def _send(self, request: web.Request, data: bytes, fault: str, entry: dict[str, Any]) -> web.StreamResponse:
        kind = "text/event-stream" if data.startswith(b"data:") else "application/json"
        response = web.StreamResponse(headers={"Content-Type": kind, "Content-Length": str(len(data))})
        await response.prepare(request)
        if fault == "slow":
            end = time.monotonic() + SLOW_S
            for i in range(len(data)):
                if time.monotonic() > end:
                    break
                await response.write(data[i : i + 1])
                await asyncio.sleep(0.05)
            return response
        if fault == "cut_inside":
            await response.write(data[: len(data) // 2])
            await asyncio.sleep(0.02)
            assert request.transport is not None
            request.transport.abort()
            return response
        await response.write(data)
        await response.write_eof()
        self.billed.append(entry)
        return response


def _drawn(seed: str, chances: Mapping[str, float]) -> str:
    left = random.Random(seed).random()
    for name, chance in chances.items():
        left -= chance
        if left < 0:
            return name
    return ""


def _events(made: Mapping[str, Any]) -> bytes:
    """The completion as a stream of events, a word a chunk."""
    choice = made["choices"][0] if made["choices"] else {"message": {"content": None}, "finish_reason": "stop"}
    words = [word + " " for word in (choice["message"]["content"] or "").split()]
    logprobs = (choice.get("logprobs") or {}).get("content") or [None] * len(words)
    chunks: list[dict[str, Any]] = [
        {"choices": [{"delta": {"content": word}, "logprobs": {"content": [token]} if token else None, "finish_reason": None}]}
        for word, token in zip(words, logprobs, strict=True)
    ]
    chunks.append({"choices": [{"delta": {}, "finish_reason": choice["finish_reason"]}]})
    if "usage" in made:
        chunks.append({"choices": [], "usage": made["usage"]})
    return ("".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n").encode()


async def _serve(misbehaving: Misbehaving, stop: asyncio.Event, ready: Any) -> None:
    runner = web.AppRunner(misbehaving.app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=4096)
    await site.start()
    ready(runner.addresses[0][1])
    await stop.wait()
    await runner.cleanup()


class Server:
    """The server in a thread. url: what a backend's base_url is."""

    def __init__(self, **script: Any) -> None:
        self.misbehaving = Misbehaving(Script(**script))
        self.url = ""

    def __enter__(self) -> Self:
        ready = threading.Event()
        self._loop, self._stop = asyncio.new_event_loop(), asyncio.Event()

        def started(port: int) -> None:
            self.url = f"http://127.0.0.1:{port}/v1"
            ready.set()

        self._thread = threading.Thread(
            target=self._loop.run_until_complete, args=(_serve(self.misbehaving, self._stop, started),), daemon=True
        )
        self._thread.start()
        assert ready.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)
        self._loop.close()

    def books(self) -> dict[str, Any]:
        return json.loads(json.dumps(self.misbehaving.books()))


class Process:
    """The server in a process of its own."""

    def __init__(self, **script: Any) -> None:
        self.script = asdict(Script(**script))
        self.url = ""

    def __enter__(self) -> Self:
        command = [sys.executable, str(Path(__file__).resolve()), json.dumps(self.script)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}/v1"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(20)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def books(self) -> dict[str, Any]:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(self.url.removesuffix("/v1") + "/books", timeout=30) as response:
            return json.load(response)


def _say(port: int) -> None:
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()


async def _main(script: Mapping[str, Any]) -> None:
    logging.getLogger("aiohttp").setLevel(logging.CRITICAL)
    with contextlib.suppress(asyncio.CancelledError):
        await _serve(Misbehaving(Script(**script)), asyncio.Event(), _say)


if __name__ == "__main__":
    asyncio.run(_main(json.loads(sys.argv[1])))
