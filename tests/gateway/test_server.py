"""The decision endpoint as a real process on loopback: what it answers, what it refuses, what it counts, and its published schema."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routewright.core.text import unfolded
from routewright.gateway.bundle import Bundle
from routewright.gateway.decisions import EXPLORED
from routewright.gateway.reload import Reloading
from routewright.gateway.serve_requests import RefusedError, Requests, parsed
from routewright.gateway.server import Endpoint
from tests.gateway.served import JSON, LIMIT, SECRET, Server, fuzzed

# ---- what it answers


@pytest.mark.parametrize("point", ["balanced", "cheapest", "quality-95"])
def test_decisions_are_those_of_the_bundle(server: Server, bundles: tuple[Path, Path], point: str) -> None:
    """Every golden text: the same JSON, and scores to 1e-6."""
    bundle, client = Bundle.load(bundles[0]), server.client()
    for item in bundle.described["golden"]:
        text = unfolded(item["text"])
        client.request("POST", "/v1/route", json.dumps({"text": text, "point": point}).encode(), JSON)
        told = json.loads(client.getresponse().read())
        expected = json.loads(json.dumps(bundle.decide(text, point=point).described()))
        quality = {row["model"]: row["quality"] for row in told["ranked"]}
        assert [quality[model] for model in bundle.models] == pytest.approx(bundle.score([text])[0], abs=1e-6)
        assert told == expected


def test_messages_candidates_and_classify(server: Server, bundles: tuple[Path, Path]) -> None:
    bundle = Bundle.load(bundles[0])
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": [{"type": "text", "text": "abc"}]}]
    told = server.route(messages=messages, candidates=["small"]).json
    assert told == json.loads(json.dumps(bundle.decide("abc", candidates=["small"]).described()))
    classified = server.ask("POST", "/classify", '{"text": "abc"}', JSON).json
    assert list(classified["labels"]) == list(bundle.models)
    assert list(classified["labels"].values()) == pytest.approx(bundle.score(["abc"])[0], abs=1e-6)
    assert classified["label"] == bundle.decide("abc").model
    assert classified["score"] == classified["labels"][classified["label"]]


def test_a_session_keeps_its_model(server: Server) -> None:
    first = server.route(text="a", session="s1", point="cheapest").json
    second = server.route(text="abcabcabcabc", session="s1", point="cheapest", prompt_tokens=1000).json
    assert (first["session"], first["turn"], first["cache_lost_usd"]) == ("s1", 1, 0.0)
    assert (second["turn"], second["model"]) == (2, first["model"])
    assert server.counted("sessions") >= 1
    assert "turn" not in server.route(text="a").json


def test_exploration_tells_how_likely_its_choice_was(server: Server) -> None:
    told = [server.route(text="abc", explore=1).json for _ in range(40)]
    assert {row["propensity"] for row in told} == {0.5}
    assert {row["model"] for row in told} == {"small", "large"}
    assert any(row["reason"] == EXPLORED for row in told)


def test_health_tells_the_bundle(server: Server, bundles: tuple[Path, Path]) -> None:
    told = server.ask("GET", "/healthz").json
    bundle = Bundle.load(bundles[0])
    assert (told["bundle"], told["verdict"], told["sentence"]) == (bundle.hash, "helps", "It helps.")
    assert (told["models"], told["points"]) == (["small", "large"], list(bundle.points))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", told["since"])
    assert told["refused"] is None


def test_metrics_count_requests_decisions_and_time(server: Server) -> None:
    def counts() -> list[float]:
        return [
            server.counted("requests_total", route="/v1/route", status="200"),
            server.counted("requests_total", route="/v1/route", status="422"),
            server.counted("requests_total", route="other", status="404"),
            server.counted("decisions_total", model="large", reason="routed", point="quality-95"),
            server.counted("request_seconds_count", route="/v1/route"),
        ]

    before = counts()
    assert server.route(text="abc", point="quality-95").json["model"] == "large"
    assert server.route(text=1).status == 422
    assert server.ask("GET", "/" + "x" * 50).status == 404
    assert np.subtract(counts(), before).tolist() == [1, 1, 1, 1, 2]
    assert "process_cpu_seconds_total" in {name for name, _ in server.metrics()}


# ---- what it refuses

REFUSED: list[tuple[str, bytes | str, int, str]] = [
    ("no JSON", "{", 400, "not JSON"),
    ("nothing", "", 400, "not JSON"),
    ("no UTF-8", b'{"text": "\xff"}', 400, "not UTF-8"),
    ("UTF-16", '{"text": "a"}'.encode("utf-16"), 400, "not UTF-8"),
    ("a byte order mark", b'\xef\xbb\xbf{"text": "a"}', 400, "not JSON"),
    ("a lone surrogate", '{"text": "\\ud800"}', 400, "not Unicode"),
    ("a lone surrogate in a key", '{"\\udfff": 1}', 400, "not Unicode"),
    ("NaN", '{"text": "a", "explore": NaN}', 400, "not JSON"),
    ("-Infinity", '{"text": "a", "explore": -Infinity}', 400, "not JSON"),
    ("a key twice", '{"text": "a", "text": "b"}', 400, "twice"),
    ("a key twice inside", '{"messages": [{"role": "user", "role": "system"}]}', 400, "twice"),
    ("deep arrays", "[" * 30_000, 400, "too deeply"),
    ("deep objects", '{"a":' * 10_000 + "1" + "}" * 10_000, 400, "too deeply"),
    ("a number of 5,000 digits", '{"text": "a", "prompt_tokens": ' + "9" * 5000 + "}", 400, "not JSON"),
    ("a number beyond floats", '{"text": "a", "explore": 1e999}', 422, "out of range"),
    ("an array", "[]", 422, "wrong type"),
    ("null", "null", 422, "wrong type"),
    ("no query", "{}", 422, "either field"),
    ("two queries", '{"text": "a", "messages": [{"role": "user", "content": "a"}]}', 422, "either field"),
    ("an unknown field", '{"text": "a", "model": "large"}', 422, "unknown field"),
    ("text of another type", '{"text": 1}', 422, "wrong type"),
    ("null for text", '{"text": null}', 422, "wrong type"),
    ("an unknown point", '{"text": "a", "point": "best"}', 422, "not in the bundle"),
    ("an unknown model", '{"text": "a", "candidates": ["gpt"]}', 422, "not in the bundle"),
    ("no candidates", '{"text": "a", "candidates": []}', 422, "too few"),
    ("candidates of another type", '{"text": "a", "candidates": [1]}', 422, "wrong type"),
    ("explore as a flag", '{"text": "a", "explore": true}', 422, "wrong type"),
    ("explore above 1", '{"text": "a", "explore": 1.5}', 422, "out of range"),
    ("an empty session", '{"text": "a", "session": ""}', 422, "wrong length"),
    ("a long session", json.dumps({"text": "a", "session": "s" * 257}), 422, "wrong length"),
    ("prompt_tokens alone", '{"text": "a", "prompt_tokens": 5}', 422, "missing"),
    ("half a token", '{"text": "a", "session": "s", "prompt_tokens": 0.5}', 422, "wrong type"),
    ("too many tokens", '{"text": "a", "session": "s", "prompt_tokens": 1e18}', 422, "out of range"),
    ("no messages", '{"messages": []}', 422, "too few"),
    ("a message without a role", '{"messages": [{"content": "a"}]}', 422, "missing"),
    ("no user", '{"messages": [{"role": "system", "content": "a"}]}', 422, "no user turn"),
    ("a user without words", '{"messages": [{"role": "user", "content": null}]}', 422, "no text"),
    ("content of another type", '{"messages": [{"role": "user", "content": {"a": 1}}]}', 422, "wrong type"),
    ("a part without text", '{"messages": [{"role": "user", "content": [{"type": "text"}]}]}', 422, "no text"),
    ("too much", json.dumps({"text": "a" * LIMIT}), 413, "too large"),
]


@pytest.mark.parametrize(("body", "status", "what"), [pytest.param(*row[1:], id=row[0]) for row in REFUSED])
def test_refused_bodies(server: Server, body: bytes | str, status: int, what: str) -> None:
    reply = server.ask("POST", "/v1/route", body, JSON)
    assert (reply.status, reply.headers["content-type"]) == (status, "application/json")
    assert list(reply.json) == ["error"]
    assert set(reply.json["error"]) == {"what", "where", "expected", "found", "mend"}
    assert what in reply.json["error"]["what"]
    assert server.ask("POST", "/classify", body, JSON).status in (400, 413, 422)


@pytest.mark.parametrize(
    ("method", "path", "status", "headers"),
    [
        ("GET", "/", 404, {}),
        ("POST", "/v1/route/", 404, JSON),
        ("GET", "/v1/route", 405, {}),
        ("PUT", "/v1/route", 405, JSON),
        ("DELETE", "/classify", 405, {}),
        ("POST", "/healthz", 405, JSON),
        ("TRACE", "/metrics", 405, {}),
        ("POST", "/v1/route", 415, {}),
        ("POST", "/v1/route", 415, {"Content-Type": "text/plain"}),
        ("POST", "/v1/route", 415, {"Content-Type": "application/json; charset=latin-1"}),
        ("POST", "/v1/route", 415, JSON | {"Content-Encoding": "gzip"}),
        ("POST", "/v1/route", 200, {"Content-Type": 'Application/JSON; charset="UTF-8"'}),
    ],
)
def test_methods_paths_and_types(server: Server, method: str, path: str, status: int, headers: dict[str, str]) -> None:
    reply = server.ask(method, path, b'{"text": "a"}', headers)
    assert reply.status == status
    assert ("allow" in reply.headers) == (status == 405)
    assert status == 200 or set(reply.json["error"]) == {"what", "where", "expected", "found", "mend"}


def test_a_body_without_a_length_is_cut_at_the_limit(server: Server) -> None:
    """Sent in chunks, more than the limit and without end: answered before it ends."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as wire:
        head = "POST /v1/route HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        wire.sendall(head.encode() + 3 * (f"{LIMIT // 2:x}\r\n".encode() + b"x" * (LIMIT // 2) + b"\r\n"))
        assert wire.recv(4096).startswith(b"HTTP/1.1 413")
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as wire:  # it says so, and sends nothing
        wire.sendall(head.replace("Transfer-Encoding: chunked", "Content-Length: 999999999999").encode())
        assert wire.recv(4096).startswith(b"HTTP/1.1 413")


def test_senders_that_leave_or_speak_no_http_do_no_harm(server: Server) -> None:
    head = "POST /v1/route HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
    for sent in (head.encode() + b'{"text"', b"\x00\xff" * 50, b"GET\r\n\r\n", head.encode()[:40]):
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as wire:
            wire.sendall(sent)
    assert server.route(text="abc").status == 200
    assert "Traceback" not in server.log.read_text()


def test_a_query_is_never_logged(server: Server) -> None:
    """Nor a session; the fixture looks through the log when the server has ended."""
    assert server.route(text=SECRET, session=SECRET, point=SECRET).status == 422
    assert server.route(text=SECRET, session=SECRET).status == 200
    assert SECRET not in server.ask("GET", "/metrics").body.decode()


def test_an_error_of_the_server_s_own_tells_neither_log_nor_sender(
    bundles: tuple[Path, Path], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(bundle: Bundle, query: str, **options: Any) -> None:
        raise KeyError(query)

    endpoint = Endpoint(Reloading(bundles[0], Bundle.load))
    monkeypatch.setattr(Bundle, "decide", broken)
    answer = endpoint.route(json.dumps({"text": SECRET}).encode())
    assert answer.status == 500
    assert SECRET not in answer.body.decode() + caplog.text
    assert "KeyError" in caplog.text
    assert b"routewright_internal_errors_total 1.0" in endpoint.measured().body


# ---- the schema


def test_the_document_is_true_to_the_bundle(server: Server) -> None:
    told = server.ask("GET", "/openapi.json").json
    fields = told["components"]["schemas"]["RouteRequest"]["properties"]
    assert fields["point"]["enum"] == ["balanced", "cheapest", "quality-95"]
    assert fields["point"]["default"] == "balanced"
    assert fields["candidates"]["items"]["enum"] == ["small", "large"]
    assert set(told["paths"]) == {"/v1/route", "/classify", "/v1/cascade", "/healthz", "/metrics", "/openapi.json"}


def test_answers_fit_the_published_schemas(server: Server) -> None:
    import jsonschema

    document = server.ask("GET", "/openapi.json").json
    for schema, reply in (
        ("Decision", server.route(text="abc")),
        ("Decision", server.route(text="abc", session="s2")),
        ("Classified", server.ask("POST", "/classify", '{"text": "abc"}', JSON)),
        ("Health", server.ask("GET", "/healthz")),
        ("Error", server.route(text=1)),
    ):
        jsonschema.validate(reply.json, {"$ref": f"#/components/schemas/{schema}", "components": document["components"]})


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-5, 2)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "a", "b" * 300])
)
PARTS = st.dictionaries(st.sampled_from(["type", "text", "other"]), SCALARS, max_size=2)
MESSAGES = st.dictionaries(st.sampled_from(["role", "content", "name"]), SCALARS | st.lists(PARTS, max_size=2), max_size=3)
CALLS = st.fixed_dictionaries(
    {"model": st.just("small") | SCALARS, "answer": SCALARS},
    optional={"said": SCALARS, "recorded": st.dictionaries(st.sampled_from(["a", "b"]), SCALARS, max_size=2) | SCALARS, "other": SCALARS},
)
FIELDS = {
    "text": st.just("a") | SCALARS,
    "messages": st.just([{"role": "user", "content": "a"}]) | st.lists(MESSAGES | SCALARS, max_size=2) | SCALARS,
    "point": st.just("balanced") | SCALARS,
    "candidates": st.lists(st.just("small") | SCALARS, max_size=2) | SCALARS,
    "session": st.just("s") | SCALARS,
    "prompt_tokens": st.sampled_from([0, 10, 5.0, 10**9, 10**9 + 1, 0.5]) | SCALARS,
    "explore": st.sampled_from([0, 0.5, 1, 1.0001]) | SCALARS,
    "calls": st.lists(CALLS, max_size=2) | SCALARS,
    "unknown": SCALARS,
}


@given(
    st.fixed_dictionaries({}, optional=FIELDS) | st.lists(SCALARS, max_size=2) | SCALARS, st.sampled_from(["route", "classify", "cascade"])
)
def test_the_checks_agree_with_a_validator_on_the_same_schema(value: Any, kind: str) -> None:
    import jsonschema

    requests = Requests()
    document = requests.document(None, "balanced")
    schema = {"$ref": f"#/components/schemas/{kind.capitalize()}Request", "components": document["components"]}
    try:
        getattr(requests, kind)(json.dumps(value).encode())
        status = 200
    except RefusedError as error:
        status = error.status
    assert status == (200 if jsonschema.Draft202012Validator(schema).is_valid(value) else 422)


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: json.dumps({"text": text}).encode()))
def test_any_bytes_are_json_or_refused(body: bytes) -> None:
    try:
        found = parsed(body)
    except RefusedError as error:
        assert error.status == 400  # noqa: PT017 - most bytes are refused, some are not
    else:
        assert found == json.loads(body.decode())


def test_schemathesis_finds_no_way_through(server: Server) -> None:
    fuzzed(server)
    assert server.counted("internal_errors_total") == 0
