"""The decision endpoint: HTTP beside a gateway, which asks it for every query which model to call. Needs the extra [serve].

python -m routewright.gateway serve bundle/     # docs/GATEWAY.md tells what it answers
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from routewright.core.types import InputError
from routewright.gateway.bundle import Bundle
from routewright.gateway.cascade import CascadeBundle
from routewright.gateway.reload import Reloading
from routewright.gateway.serve_cascade import step
from routewright.gateway.serve_metrics import Metrics
from routewright.gateway.serve_requests import UNFIT, RefusedError, Requests, deep, told
from routewright.gateway.sessions import Pinning, Sessions

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

log = logging.getLogger("routewright")

JSON = "application/json"
BUSY = HTTPStatus.SERVICE_UNAVAILABLE
OTHER = "other"  # the route label of requests for no route
# the kinds of bundles, how they are called, and where they are asked
KINDS: dict[type, tuple[str, str]] = {Bundle: ("a router", "/v1/route"), CascadeBundle: ("a cascade", "/v1/cascade")}
B = TypeVar("B", Bundle, CascadeBundle)


@dataclass(frozen=True)
class Settings:
    """Of the endpoint.

    point: the operating point of requests that name none. limit: bytes of a body. workers: threads that decide. waiting: requests that may
    wait for one of them before more are turned away with 503.
    """

    point: str = "balanced"
    limit: int = 256 * 1024
    workers: int = 2
    waiting: int = 256
    pinning: Pinning = field(default_factory=Pinning)

    def __post_init__(self) -> None:
        if not (self.limit >= 1 and self.workers >= 1 and self.waiting >= 1):
            raise InputError("impossible settings of the endpoint", expected="limit, workers and waiting >= 1", found=str(self))


class Answer(NamedTuple):
    """What goes over the wire."""

    status: int
    body: bytes
    media: str = JSON
    headers: Mapping[str, str] | None = None

    @classmethod
    def json(cls, status: int, value: Any, headers: Mapping[str, str] | None = None) -> Answer:
        return cls(status, json.dumps(value, allow_nan=False, separators=(",", ":")).encode(), headers=headers)

    @classmethod
    def refusal(cls, error: RefusedError, headers: Mapping[str, str] | None = None) -> Answer:
        return cls.json(error.status, {"error": told(error)}, headers)


class Endpoint:
    """What the endpoint answers, apart from HTTP: bytes in, an Answer out. Thread-safe; never raises for what a sender can send.

    Of queries and answers nothing is kept or logged; of a session its id, model, turn and time.
    """

    def __init__(self, reloading: Reloading[Any], settings: Settings | None = None, rng: np.random.Generator | None = None) -> None:
        self.settings, self._reloading = settings or Settings(), reloading
        self._rng = rng or np.random.default_rng()
        self._requests = Requests()
        self._sessions: Sessions | None = None
        self._lock = threading.Lock()
        self.metrics = Metrics(reloading, lambda: len(self._sessions or ()))

    def route(self, body: bytes) -> Answer:
        """POST /v1/route."""
        return self._guarded(self._route, body, Bundle)

    def classify(self, body: bytes) -> Answer:
        """POST /classify."""
        return self._guarded(self._classify, body, Bundle)

    def cascade(self, body: bytes) -> Answer:
        """POST /v1/cascade."""
        return self._guarded(self._cascade, body, CascadeBundle)

    def health(self) -> Answer:
        """GET /healthz."""
        served = self._reloading.current
        if served is None:
            return unavailable(self._reloading)
        bundle, refused = served.bundle, self._reloading.refused
        found = {
            "bundle": bundle.hash,
            "kind": bundle.described["kind"],
            "name": bundle.described["name"],
            "verdict": bundle.verdict,
            "sentence": bundle.described["verdict"]["sentence"],
            "since": datetime.fromtimestamp(served.since, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "models": bundle.models,
            "points": tuple(bundle.points),
            "reloads": self._reloading.reloads,
            "failures": self._reloading.failures,
            "refused": None if refused is None else told(refused),
        }
        return Answer.json(HTTPStatus.OK, found)

    def measured(self) -> Answer:
        """GET /metrics."""
        return Answer(HTTPStatus.OK, *self.metrics.text())

    def document(self) -> Answer:
        """GET /openapi.json."""
        served = self._reloading.current
        return Answer.json(HTTPStatus.OK, self._requests.document(served and served.bundle, self.settings.point))

    def _guarded(self, decide: Callable[[bytes, B], dict[str, Any]], body: bytes, kind: type[B]) -> Answer:
        served = self._reloading.current
        if served is None:
            return unavailable(self._reloading)
        try:
            return Answer.json(HTTPStatus.OK, decide(body, required(served.bundle, kind)))
        except RefusedError as error:
            return Answer.refusal(error)
        except InputError as error:
            return Answer.json(UNFIT, {"error": told(error)})
        except RecursionError:
            return Answer.refusal(deep())
        except Exception as error:  # ours, not the sender's: counted, logged without the query, answered
            self.metrics.failed()
            # where it was raised, not its message, which may repeat the query
            where = "".join(traceback.format_tb(error.__traceback__))
            log.error("internal error, %s\n%s", type(error).__name__, where)
            return Answer.refusal(RefusedError(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error", found=type(error).__name__))

    def _route(self, body: bytes, bundle: Bundle) -> dict[str, Any]:
        asked = self._requests.route(body)
        query = asked["text"] if "text" in asked else asked["messages"]
        options: dict[str, Any] = {"point": asked.get("point", self.settings.point), "candidates": asked.get("candidates")}
        if explore := asked.get("explore"):
            options |= {"explore": float(explore), "rng": self._rng}
        if "session" not in asked:
            decision = bundle.decide(query, **options)
            self.metrics.decided(decision)
            return decision.described()
        turn = self._sessions_now().decide(asked["session"], query, prompt_tokens=asked.get("prompt_tokens"), **options)
        self.metrics.decided(turn.decision)
        return turn.decision.described() | {"session": turn.session, "turn": turn.turn, "cache_lost_usd": turn.cache_lost_usd}

    def _classify(self, body: bytes, bundle: Bundle) -> dict[str, Any]:
        decision = bundle.decide(self._requests.classify(body)["text"], point=self.settings.point)
        self.metrics.decided(decision)
        quality = {row.model: row.quality for row in decision.ranked}
        labels = {model: quality[model] for model in bundle.models}
        return {"labels": labels, "label": decision.model, "score": quality[decision.model]}

    def _cascade(self, body: bytes, bundle: CascadeBundle) -> dict[str, Any]:
        found = step(bundle, self._requests.cascade(body), self.settings.point)
        self.metrics.stepped(found)
        return found

    def _sessions_now(self) -> Sessions:
        """Those of the bundle in service now; after a reload the conversations whose model it has too go on with it."""
        with self._lock:
            bundle = required(self._reloading.bundle, Bundle)
            if self._sessions is None:
                self._sessions = Sessions(bundle, self.settings.pinning)
            elif self._sessions.bundle is not bundle:
                self._sessions = self._sessions.moved(bundle)
            return self._sessions


def required(bundle: Any, kind: type[B]) -> B:
    """The bundle in service, where it is of this kind. Raises RefusedError (409) that says where the other kind is asked."""
    if not isinstance(bundle, kind):
        (expected, _), (found, path) = KINDS[kind], KINDS[type(bundle)]
        what, mend = "the bundle in service is of the other kind", f"Ask POST {path}."
        raise RefusedError(HTTPStatus.CONFLICT, what, expected=expected, found=found, mend=mend)
    return bundle


def unavailable(reloading: Reloading[Any]) -> Answer:
    """503 while no bundle is in service, with the reason for which the last one was refused."""
    reason = reloading.refused
    found = told(reason) if reason is not None else told(InputError("no bundle is in service"))
    return Answer.json(BUSY, {"error": found}, {"Retry-After": "1"})


def application(endpoint: Endpoint) -> Starlette:
    """The endpoint as an ASGI application. Requests wait for `workers` threads; all else is answered at once by the event loop."""
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.responses import Response
    from starlette.routing import Route

    pool = ThreadPoolExecutor(endpoint.settings.workers, "decide")
    most = endpoint.settings.workers + endpoint.settings.waiting
    busy = 0

    async def decided(request: Request, work: Callable[[bytes], Answer]) -> Answer:
        nonlocal busy
        try:
            body = await read(request, endpoint.settings.limit)
        except RefusedError as error:
            return Answer.refusal(error, {"Connection": "close"})  # what is left of the body is not read
        if busy >= most:
            endpoint.metrics.overloaded()
            expected, found = f"at most {most}", f"{busy} requests"
            return Answer.refusal(RefusedError(BUSY, "too many requests wait", expected=expected, found=found), {"Retry-After": "1"})
        busy += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, work, body)
        finally:
            busy -= 1

    def sent(route: str, begun: float, answer: Answer) -> Response:
        endpoint.metrics.answered(route, answer.status, time.perf_counter() - begun)
        return Response(answer.body, answer.status, answer.headers, answer.media)

    def post(path: str, work: Callable[[bytes], Answer]) -> Route:
        async def answer(request: Request) -> Response:
            begun = time.perf_counter()
            return sent(path, begun, await decided(request, work))

        return Route(path, answer, methods=["POST"])

    def get(path: str, work: Callable[[], Answer]) -> Route:
        async def answer(request: Request) -> Response:
            return sent(path, time.perf_counter(), work())

        return Route(path, answer, methods=["GET"])

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        status = HTTPStatus(error.status_code)
        allowed = (error.headers or {}).get("Allow", "")
        expected = allowed or ", ".join(route.path for route in routes)
        problem = RefusedError(status, status.phrase.lower(), expected=expected, found=f"{request.method} {request.url.path}"[:200])
        return sent(OTHER, time.perf_counter(), Answer.refusal(problem, error.headers))

    routes = [
        post("/v1/route", endpoint.route),
        post("/classify", endpoint.classify),
        post("/v1/cascade", endpoint.cascade),
        get("/healthz", endpoint.health),
        get("/metrics", endpoint.measured),
        get("/openapi.json", endpoint.document),
    ]
    made = Starlette(routes=routes, exception_handlers={HTTPException: refused})
    made.router.redirect_slashes = False
    return made


async def read(request: Request, limit: int) -> bytes:
    """A request's body. Raises RefusedError: 415 for what is not plain JSON, 413 above `limit` bytes, 400 where the sender left."""
    from starlette.requests import ClientDisconnect

    kind, _, parameters = request.headers.get("content-type", "").partition(";")
    charset = parameters.strip().lower().replace('"', "") or "charset=utf-8"
    coding = request.headers.get("content-encoding", "identity")
    if kind.strip().lower() != JSON or charset not in ("charset=utf-8", "charset=utf8") or coding.lower() != "identity":
        found = f"{kind[:100]!a}, {charset[:100]!a}, {coding[:100]!a}"
        raise RefusedError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the body is not plain JSON", expected="Content-Type: application/json", found=found
        )
    stated = request.headers.get("content-length", "0")
    size = int(stated) if stated.isdecimal() and len(stated) < 19 else limit + 1
    body = bytearray()
    try:
        if size <= limit:  # what says that it is larger need not be read
            async for part in request.stream():
                body += part
                if (size := len(body)) > limit:
                    break
    except ClientDisconnect:
        raise RefusedError(HTTPStatus.BAD_REQUEST, "the sender left") from None
    if size > limit:
        expected, mend = f"at most {limit} bytes", "Send less, or serve with a larger --limit."
        raise RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the body is too large", expected=expected, found="more", mend=mend)
    return bytes(body)
