"""The decision endpoint as a process on loopback, and how a test asks it."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

JSON = {"Content-Type": "application/json"}
LIMIT = 128 * 1024
SECRET = "tiramisu with a pinch of saffron"


class Reply(NamedTuple):
    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Server(NamedTuple):
    """A process that serves, and what it is asked."""

    process: subprocess.Popen[str]
    port: int
    log: Path

    def client(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def ask(self, method: str, path: str, body: bytes | str | None = None, headers: dict[str, str] | None = None) -> Reply:
        client = self.client()
        client.request(method, path, body.encode() if isinstance(body, str) else body, headers or {})
        answer = client.getresponse()
        reply = Reply(answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()})
        client.close()
        return reply

    def route(self, **request: Any) -> Reply:
        return self.ask("POST", "/v1/route", json.dumps(request), JSON)

    def metrics(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        """(name, labels) -> value, read by Prometheus' own parser."""
        from prometheus_client.parser import text_string_to_metric_families

        text = self.ask("GET", "/metrics").body.decode()
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for sample in samples}

    def counted(self, name: str, **labels: str) -> float:
        return self.metrics().get((f"routewright_{name}", tuple(sorted(labels.items()))), 0.0)


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[Server]:
    log = folder.with_name(folder.name + ".log")
    command = [sys.executable, "-m", "routewright.gateway", "serve", str(folder), "--port", "0", "--reload-s", "0.05", *options]
    with log.open("w") as stderr, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            assert line.startswith("listening on "), log.read_text()
            port = line.strip().rpartition(":")[2]
            yield Server(process, int(port) if port.isdecimal() else 0, log)
        finally:
            process.kill()


def until(found: Callable[[], bool], seconds: float = 30.0) -> bool:
    end = time.monotonic() + seconds
    while not found() and time.monotonic() < end:
        time.sleep(0.02)
    return found()


def fuzzed(server: Server) -> None:
    """Made-up requests from the served document, right and wrong: no 5xx, no answer that the document does not promise."""
    pytest.importorskip("schemathesis", reason="schemathesis is not installed (extra dev)")
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    checks += ",negative_data_rejection,unsupported_method"
    url = f"http://127.0.0.1:{server.port}/openapi.json"
    command = [sys.executable, "-m", "schemathesis.cli", "run", url, "--checks", checks, "--phases", "examples,coverage,fuzzing"]
    ended = subprocess.run([*command, "--max-examples", "20", "--seed", "1", "--no-color"], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout[-6000:] + ended.stderr[-2000:]
