"""Portkey's own gateway sends a query where the bundle decided; the config and the headers that make it so."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from routewright.core.types import InputError
from routewright.gateway import portkey
from routewright.gateway.bundle import Bundle
from routewright.gateway.decisions import ROUTED, Decision, Ranked
from tests.gateway_bundles import tiny_bundle
from tests.npm import npm

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "portkey"
PACKAGE = "@portkey-ai/gateway@1.15.2"
ODD = ("meta/llama-3.1", 'he said "no"', "модель", "a.b:c d")  # names as pools have them


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.load(tiny_bundle(tmp_path_factory.mktemp("bundle")))


def decided(model: str) -> Decision:
    return Decision(model, (Ranked(model, 0.5, None, 0.5),), "balanced", 0.5, ROUTED, False, None, 1.0, 3, "f" * 64)


def test_every_model_has_a_condition_and_its_target(bundle: Bundle) -> None:
    made = portkey.config(bundle, {"large": {"provider": "openai", "override_params": {"model": "gpt"}}, "small": {"provider": "groq"}})
    assert made["strategy"]["mode"] == "conditional"
    assert made["strategy"]["default"] == bundle.fallback == "large"
    asked = [(row["query"], row["then"]) for row in made["strategy"]["conditions"]]
    assert asked == [({"metadata.routewright_model": {"$eq": name}}, name) for name in ("small", "large")]
    small, large = made["targets"]
    assert large == {"name": "large", "provider": "openai", "override_params": {"model": "gpt"}}
    assert small["strategy"]["mode"] == "fallback"
    assert small["targets"] == [
        {"provider": "groq", "override_params": {"model": "small"}},
        {k: v for k, v in large.items() if k != "name"},
    ]
    plain = portkey.config(bundle, {"large": {"provider": "openai"}, "small": {"provider": "groq"}}, spare=False)
    assert plain["targets"][0] == {"name": "small", "provider": "groq", "override_params": {"model": "small"}}


@pytest.mark.parametrize(
    ("targets", "told"),
    [
        ({"small": {}}, "no target for large"),
        ({"small": {}, "large": {}, "huge": {}}, "no model huge"),
        ({"small": {"name": "s"}, "large": {}}, "sets 'name' itself in small"),
        ({"small": {}, "large": {"targets": []}}, "sets 'targets' itself in large"),
    ],
)
def test_targets_that_do_not_fit_are_refused_by_name(bundle: Bundle, targets: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        portkey.config(bundle, targets)


def test_headers_are_ascii_and_short_and_read_back(bundle: Bundle) -> None:
    made = portkey.headers(bundle.decide("ab"), {"targets": ["модель"]})
    assert all(value.isascii() and "\n" not in value for value in made.values())
    said = json.loads(made["x-portkey-metadata"])
    assert said["routewright_model"] == bundle.decide("ab").model
    assert said["routewright_bundle"] == bundle.hash
    assert all(isinstance(value, str) and len(value) <= 128 for value in said.values())
    assert json.loads(made["x-portkey-config"]) == {"targets": ["модель"]}
    assert list(portkey.headers(decided("a"))) == ["x-portkey-metadata"]


class Upstream:
    """A provider on loopback: answers as the chat completions API does, remembers what it was asked, and breaks when told."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []  # (model, authorization)
        self.status = 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.asked.append((body["model"], self.headers.get("Authorization", "")))
                data = json.dumps(outer.answer(body["model"])).encode()
                self.send_response(outer.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: Any) -> None:
                """Says nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, model: str) -> dict[str, Any]:
        if self.status != 200:
            return {"error": {"message": "broken on purpose", "type": "server_error", "param": None, "code": None}}
        choice = {"index": 0, "message": {"role": "assistant", "content": "twelve"}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        return {"id": "x", "object": "chat.completion", "created": 0, "model": model, "choices": [choice], "usage": usage}

    def target(self) -> dict[str, Any]:
        return {"provider": "openai", "api_key": "key", "custom_host": f"http://127.0.0.1:{self.server.server_port}/v1"}


@pytest.fixture
def upstreams() -> Iterator[dict[str, Upstream]]:
    made = {"small": Upstream(), "large": Upstream()}
    yield made
    for upstream in made.values():
        upstream.server.shutdown()
        upstream.server.server_close()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of Portkey's gateway, kept on loopback by the example's preload."""
    folder = npm(tmp_path_factory.mktemp("portkey"), "install", PACKAGE)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    server = folder / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    command = ["node", "--import", str(EXAMPLES / "loopback.mjs"), str(server), f"--port={port}", "--headless"]
    with (folder / "log").open("w") as log:
        running = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert running.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.2)
        yield port
    finally:
        running.terminate()
        running.wait(timeout=20)


def ask(port: int, headers: dict[str, str]) -> tuple[int, dict[str, Any], str | None]:
    """(status, answer, which target served) of one chat completion."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    body = json.dumps({"model": "whatever", "messages": [{"role": "user", "content": "?"}]})
    connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json", **headers})
    answer = connection.getresponse()
    found = answer.status, json.loads(answer.read()), answer.getheader("x-portkey-last-used-option-index")
    connection.close()
    return found


@pytest.mark.slow
def test_portkey_sends_each_query_where_the_bundle_decided(gateway: int, bundle: Bundle, upstreams: dict[str, Upstream]) -> None:
    settings = portkey.config(bundle, {name: upstream.target() for name, upstream in upstreams.items()})
    served = set()
    for text in ("a", "b", "c", "abc", "ccc"):
        for point in bundle.points:
            decision = bundle.decide(text, point=point)
            status, answer, _ = ask(gateway, portkey.headers(decision, settings))
            assert status == 200
            assert answer["model"] == decision.model
            assert upstreams[decision.model].asked.pop() == (decision.model, "Bearer key")
            assert not any(upstream.asked for upstream in upstreams.values()), "another model was called too"
            served.add(decision.model)
    assert served == {"small", "large"}


@pytest.mark.slow
def test_without_a_decision_the_fallback_serves(gateway: int, bundle: Bundle, upstreams: dict[str, Upstream]) -> None:
    settings = portkey.config(bundle, {name: upstream.target() for name, upstream in upstreams.items()})
    only = {"x-portkey-config": json.dumps(settings)}
    assert ask(gateway, only)[1]["model"] == "large"
    assert ask(gateway, only | {"x-portkey-metadata": "no JSON"})[1]["model"] == "large"
    assert ask(gateway, portkey.headers(decided("retired"), settings))[1]["model"] == "large"


@pytest.mark.slow
def test_a_broken_target_hands_over_and_a_wrong_request_does_not(gateway: int, bundle: Bundle, upstreams: dict[str, Upstream]) -> None:
    targets = {name: upstream.target() for name, upstream in upstreams.items()}
    sent = portkey.headers(decided("small"), portkey.config(bundle, targets))
    upstreams["small"].status = 503
    status, answer, _ = ask(gateway, sent)
    assert (status, answer["model"]) == (200, "large")
    assert ask(gateway, portkey.headers(decided("small"), portkey.config(bundle, targets, spare=False)))[0] == 503
    upstreams["small"].status = 400
    upstreams["large"].asked.clear()
    assert ask(gateway, sent)[0] == 400
    assert not upstreams["large"].asked
    with socket.socket() as closed:  # bound and not listening: a connection is refused
        closed.bind(("127.0.0.1", 0))
        gone = targets | {"small": targets["small"] | {"custom_host": f"http://127.0.0.1:{closed.getsockname()[1]}/v1"}}
        assert ask(gateway, portkey.headers(decided("small"), portkey.config(bundle, gone)))[1]["model"] == "large"


@pytest.mark.slow
def test_names_as_pools_have_them(gateway: int, upstreams: dict[str, Upstream]) -> None:
    pool: Any = SimpleNamespace(models=ODD, fallback=ODD[0])
    settings = portkey.config(pool, {name: upstreams["small"].target() for name in ODD}, spare=False)
    for place, name in enumerate(ODD):
        status, answer, index = ask(gateway, portkey.headers(decided(name), settings))
        assert (status, answer["model"]) == (200, name)
        assert index == f"config.targets[{place}]"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads Linux's table of sockets")
def test_the_gateway_listens_on_loopback_alone(gateway: int) -> None:
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    listening = {row[1] for row in rows if row[3] == "0A" and row[1].endswith(f":{gateway:04X}")}
    assert listening == {f"0100007F:{gateway:04X}"}


@pytest.mark.slow
def test_the_example_asks_through_the_gateway(gateway: int, bundle: Bundle, upstreams: dict[str, Upstream], tmp_path: Path) -> None:
    folder = tiny_bundle(tmp_path / "bundle")
    rows = {name: upstream.target() | {"api_key": "$PROVIDER_KEY"} for name, upstream in upstreams.items()}
    (tmp_path / "targets.json").write_text(json.dumps(rows))
    command = [sys.executable, str(EXAMPLES / "ask.py"), str(folder), str(tmp_path / "targets.json"), "abc", "--gateway"]
    place, environment = f"http://127.0.0.1:{gateway}", {**os.environ, "PROVIDER_KEY": "secret"}
    done = subprocess.run([*command, place], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    decision = bundle.decide("abc")
    assert json.loads(done.stdout) == {"decided": decision.model, "served": decision.model, "answer": "twelve"}
    assert upstreams[decision.model].asked == [(decision.model, "Bearer secret")]
    failed = subprocess.run([*command, place], capture_output=True, text=True, check=False)
    assert (failed.returncode, "PROVIDER_KEY is not set" in failed.stderr) == (1, True)
