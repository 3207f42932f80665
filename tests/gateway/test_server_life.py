"""The decision endpoint's life as a real process: reloads under load, signals, sockets, overload, and the command line."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from routewright.core.types import InputError
from routewright.gateway.__main__ import main
from routewright.gateway.bundle import Bundle
from routewright.gateway.reload import Reloading
from routewright.gateway.server import Endpoint, Settings
from tests.gateway.served import JSON, Server, serving, until
from tests.gateway_bundles import put

# ---- its life


def test_reloads_while_requests_run_lose_none(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    """Six swaps and a corrupt bundle between them under eight clients: every request is answered, wholly by one bundle or the other."""
    folder = shutil.copytree(bundles[0], tmp_path / "bundle")
    two = [Bundle.load(path) for path in bundles]
    expected = {bundle.hash: json.loads(json.dumps(bundle.decide("abc").described())) for bundle in two}
    with serving(folder) as server:
        ended, answers = threading.Event(), list[Any]()

        def run() -> None:
            client = server.client()
            while not ended.is_set():
                client.request("POST", "/v1/route", b'{"text": "abc"}', JSON)
                reply = client.getresponse()
                answers.append((reply.status, json.loads(reply.read())))

        clients = [threading.Thread(target=run) for _ in range(8)]
        for client in clients:
            client.start()
        for turn in range(1, 7):
            (folder / "router.onnx").write_bytes(b"half a graph")
            assert until(lambda: server.ask("GET", "/healthz").json["refused"] is not None)
            put(bundles[turn % 2], folder)
            wanted = two[turn % 2].hash
            assert until(lambda wanted=wanted: server.ask("GET", "/healthz").json["bundle"] == wanted)  # type: ignore[misc]
        ended.set()
        for client in clients:
            client.join()
        assert len(answers) > 100
        assert {status for status, _ in answers} == {200}
        assert all(told == expected[told["bundle"]] for _, told in answers)
        assert {told["bundle"] for _, told in answers} == set(expected)
        assert server.counted("reloads_total", result="ok") == 6
        assert server.counted("reloads_total", result="refused") >= 6
        assert server.counted("requests_total", route="/v1/route", status="200") == len(answers)


def test_a_corrupt_swap_is_told_and_the_old_bundle_serves(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(bundles[0], tmp_path / "bundle")
    with serving(folder, "--reload-s", "3600") as server:
        before = server.ask("GET", "/healthz").json
        (folder / "tokenizer.json").write_text("{}")
        time.sleep(0.2)
        assert server.ask("GET", "/healthz").json == before, "nobody looks for an hour"
        server.process.send_signal(signal.SIGHUP)
        assert until(lambda: server.ask("GET", "/healthz").json["failures"] == 1)
        told = server.ask("GET", "/healthz").json
        assert (told["bundle"], told["since"]) == (before["bundle"], before["since"])
        assert "tokenizer.json was changed" in told["refused"]["what"]
        assert server.counted("bundle_refused") == 1
        assert server.route(text="abc").json["bundle"] == before["bundle"]
        assert "tokenizer.json was changed" in server.log.read_text()
        put(bundles[0], folder)
        server.process.send_signal(signal.SIGHUP)
        assert until(lambda: server.ask("GET", "/healthz").json["refused"] is None)


def test_waiting_for_a_bundle_is_503_until_it_comes(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    with serving(folder, "--wait") as server:
        for reply in (server.ask("GET", "/healthz"), server.route(text="abc"), server.ask("POST", "/classify", '{"text": "a"}', JSON)):
            assert (reply.status, reply.headers["retry-after"]) == (503, "1")
            assert reply.json["error"]["what"] == "bundle.json cannot be read"
        assert server.ask("GET", "/openapi.json").status == server.ask("GET", "/metrics").status == 200
        shutil.copytree(bundles[0], folder)
        assert until(lambda: server.ask("GET", "/healthz").status == 200)
        assert server.route(text="abc").status == 200


def test_sigterm_at_once_ends_it_too(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    """Between the first line and the first request, when the server's own handling is not in place yet."""
    with serving(shutil.copytree(bundles[0], tmp_path / "bundle")) as server:
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0


def test_sessions_go_on_after_a_reload(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(bundles[0], tmp_path / "bundle")
    reloading = Reloading(folder, Bundle.load)
    endpoint = Endpoint(reloading)

    def turn() -> Any:
        return json.loads(endpoint.route(b'{"text": "abcabcabc", "session": "s"}').body)

    assert [turn()["turn"], turn()["turn"]] == [1, 2]
    put(bundles[1], folder)
    assert reloading.check()
    told = turn()
    assert (told["turn"], told["bundle"]) == (3, reloading.bundle.hash), "both bundles have the session's model"


def test_sigterm_answers_what_is_in_flight(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    with serving(shutil.copytree(bundles[0], tmp_path / "bundle")) as server:
        body, client = b'{"text": "abc"}', server.client()
        client.putrequest("POST", "/v1/route")
        client.putheader("Content-Type", "application/json")
        client.putheader("Content-Length", str(len(body)))
        client.endheaders(body[:5])
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        client.send(body[5:])
        assert client.getresponse().status == 200
        assert server.process.wait(30) == 0
        with pytest.raises(ConnectionRefusedError):
            server.route(text="abc")


def test_a_unix_socket(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    path = Path("/tmp") / f"routewright-{os.getpid()}-{random.randrange(10**6)}.sock"  # a socket's path has 108 bytes at most
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))  # as a killed server leaves it
    with serving(shutil.copytree(bundles[0], tmp_path / "bundle"), "--uds", str(path)) as server:
        with socket.socket(socket.AF_UNIX) as wire:
            wire.connect(str(path))
            wire.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert wire.recv(4096).startswith(b"HTTP/1.1 200")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0
    assert not path.exists()


def test_more_than_may_wait_are_turned_away(bundles: tuple[Path, Path]) -> None:
    """With one slow thread and one place to wait: the third request is told at once, and health does not wait at all."""
    from starlette.testclient import TestClient

    from routewright.gateway.server import Answer, application

    endpoint = Endpoint(Reloading(bundles[0], Bundle.load), Settings(workers=1, waiting=1))
    free = threading.Event()

    def slow(body: bytes) -> Answer:
        free.wait(30)
        return Answer.json(200, {})

    endpoint.route = slow  # type: ignore[method-assign]
    with TestClient(application(endpoint)) as client:
        found: list[int] = []
        threads = [threading.Thread(target=lambda: found.append(client.post("/v1/route", json={}).status_code)) for _ in range(3)]
        for thread in threads:
            thread.start()
        assert until(lambda: found == [503])
        assert client.get("/healthz").status_code == 200
        free.set()
        for thread in threads:
            thread.join()
    assert found == [503, 200, 200]
    assert b"routewright_overloaded_total 1.0" in endpoint.measured().body


# ---- the command line


def failed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line with which a command ends that cannot be done."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert capsys.readouterr().out == ""
    return str(ended.value)


def test_decide_and_check(bundles: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["decide", str(bundles[0]), "abc", "--point", "quality-95"])
    expected = Bundle.load(bundles[0]).decide("abc", point="quality-95").described()
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(expected))
    main(["check", str(bundles[0])])
    assert "golden vectors: 64 within" in capsys.readouterr().out
    broken = shutil.copytree(bundles[0], tmp_path / "broken")
    (broken / "router.onnx").write_bytes(b"")
    assert failed(capsys, "check", str(broken)).startswith("routewright.gateway: router.onnx was changed after export")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--point", "best"], "operating point 'best' is not in the bundle"),
        (["--port", "99999"], "cannot listen"),
        (["--host", "203.0.113.1"], "cannot listen"),
        (["--limit", "0"], "impossible settings"),
        (["--reload-s", "0"], "impossible reloading"),
    ],
)
def test_serve_does_not_start_on_what_cannot_be(
    bundles: tuple[Path, Path], capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    assert said in failed(capsys, "serve", str(bundles[0]), *options)


def test_an_address_in_use_is_told(server: Server, bundles: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert "cannot listen" in failed(capsys, "serve", str(bundles[0]), "--port", str(server.port))


def test_answers_are_sent_without_delay(server: Server) -> None:
    """Without the protocol's name on the socket, asyncio leaves Nagle's algorithm on: 44 ms for every request of a kept connection."""
    client, took = server.client(), []
    for _ in range(20):
        begun = time.perf_counter()
        client.request("POST", "/v1/route", b'{"text": "abc"}', JSON)
        client.getresponse().read()
        took.append(time.perf_counter() - begun)
    assert sorted(took)[10] < 0.035


def test_impossible_settings() -> None:
    with pytest.raises(InputError, match="impossible settings"):
        Settings(workers=0)
