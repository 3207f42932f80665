"""Pinned downloads against a loopback server that fails in the ways networks do."""

from __future__ import annotations

import hashlib
import http.server
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from routewright.core.types import InputError
from routewright.data import fetch as module
from routewright.data.fetch import RemoteFile, fetch

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONTENT = b"id,text\n" + b"1,caf\xc3\xa9\n" * 5000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
FILE = RemoteFile("someone", "things", COMMIT, "folder/a table.csv", DIGEST)


class Server(http.server.ThreadingHTTPServer):
    """Answers with `replies` one after the other, then with the last one again: ok, truncated, wrong, or a status."""

    replies: list[str]
    asked: list[str]


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        reply = self.server.replies.pop(0) if len(self.server.replies) > 1 else self.server.replies[0]
        if reply.isdigit():
            self.send_error(int(reply))
            return
        body = b"something else" if reply == "wrong" else CONTENT
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if reply == "truncated" else body)

    def log_message(self, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server, an empty cache, no mirror, and the network as the server."""
    made = Server(("127.0.0.1", 0), Handler)
    made.replies, made.asked = ["ok"], []
    thread = threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    monkeypatch.setattr(module, "BASE_URL", f"http://127.0.0.1:{made.server_address[1]}")
    monkeypatch.setattr(module, "RETRIES", 0)
    monkeypatch.setenv("ROUTEWRIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("ROUTEWRIGHT_MIRROR", "ROUTEWRIGHT_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


@pytest.fixture
def mirrored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server) -> Path:
    path = tmp_path / "mirror" / FILE.inside
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    monkeypatch.setenv("ROUTEWRIGHT_MIRROR", str(tmp_path / "mirror"))
    return path


def cached(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "downloads" / FILE.inside


def leftovers(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_a_good_download_is_cached_and_asked_for_once(server: Server, tmp_path: Path) -> None:
    assert fetch([FILE]) == [cached(tmp_path)]
    assert cached(tmp_path).read_bytes() == CONTENT
    assert fetch([FILE, FILE]) == [cached(tmp_path)] * 2
    assert server.asked == [f"/someone/things/{COMMIT}/folder/a%20table.csv"]
    assert leftovers(tmp_path) == [cached(tmp_path)]


@pytest.mark.parametrize(("reply", "told"), [("truncated", "Incomplete"), ("404", "404"), ("500", "500")])
def test_a_download_that_fails_leaves_nothing_and_says_how_to_mend_it(server: Server, tmp_path: Path, reply: str, told: str) -> None:
    server.replies = [reply]
    with pytest.raises(InputError, match=told) as caught:
        fetch([FILE])
    message = str(caught.value)
    assert "folder/a table.csv" in message
    assert "ROUTEWRIGHT_MIRROR" in message
    assert "connect once" in message
    assert "\n" not in message
    assert leftovers(tmp_path) == []


def test_a_wrong_file_is_refused_with_both_hashes(server: Server, tmp_path: Path) -> None:
    server.replies = ["wrong"]
    with pytest.raises(InputError, match=r"wrong sha256 of folder/a table\.csv") as caught:
        fetch([FILE])
    assert DIGEST in str(caught.value)
    assert hashlib.sha256(b"something else").hexdigest() in str(caught.value)
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("first", ["500", "truncated", "wrong"])
def test_a_passing_fault_is_tried_again(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str) -> None:
    monkeypatch.setattr(module, "RETRIES", 1)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    server.replies = [first, "ok"]
    assert fetch([FILE])[0].read_bytes() == CONTENT
    assert len(server.asked) == 2


def test_nobody_listens(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BASE_URL", "http://127.0.0.1:1")
    with pytest.raises(InputError, match="ConnectionError"):
        fetch([FILE])
    assert leftovers(tmp_path) == []


def test_a_corrupt_cached_file_is_replaced_and_reported(server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fetch([FILE])
    cached(tmp_path).write_bytes(CONTENT[:-1])
    with caplog.at_level(logging.WARNING, logger=module.log.name):
        assert fetch([FILE])[0].read_bytes() == CONTENT
    assert "corrupt cached file" in caplog.text
    assert len(server.asked) == 2


def test_the_mirror_is_read_in_place(mirrored: Path, server: Server, tmp_path: Path) -> None:
    assert fetch([FILE]) == [mirrored]
    assert server.asked == []
    assert leftovers(tmp_path) == []


def test_the_mirror_mends_a_corrupt_cache(mirrored: Path, server: Server, tmp_path: Path) -> None:
    cached(tmp_path).parent.mkdir(parents=True)
    cached(tmp_path).write_bytes(b"")
    assert fetch([FILE])[0].read_bytes() == CONTENT
    assert cached(tmp_path).read_bytes() == CONTENT
    assert server.asked == []


def test_one_changed_byte_in_the_mirror_is_refused(mirrored: Path, server: Server) -> None:
    mirrored.write_bytes(b"x" + CONTENT[1:])
    with pytest.raises(InputError, match="wrong sha256"):
        fetch([FILE])
    assert server.asked == []


def test_a_file_the_mirror_lacks_comes_from_the_network_unless_offline(
    mirrored: Path, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirrored.unlink()
    monkeypatch.setenv("ROUTEWRIGHT_OFFLINE", "1")
    with pytest.raises(InputError, match="ROUTEWRIGHT_OFFLINE is set and the mirror") as caught:
        fetch([FILE])
    assert FILE.inside in str(caught.value)
    assert server.asked == []
    monkeypatch.setenv("ROUTEWRIGHT_OFFLINE", "0")
    assert fetch([FILE]) == [cached(tmp_path)]


def test_two_processes_fetch_at_once(server: Server, tmp_path: Path) -> None:
    code = (
        "import sys; from routewright.data import fetch as m; m.BASE_URL = sys.argv[1]; m.RETRIES = 0\n"
        "print(m.fetch([m.RemoteFile(*sys.argv[2:])])[0])"
    )
    command = [sys.executable, "-c", code, module.BASE_URL, FILE.owner, FILE.repo, FILE.commit, FILE.path, FILE.sha256]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) for _ in range(2)]
    assert [process.communicate(timeout=60)[0].strip() for process in running] == [str(cached(tmp_path))] * 2
    assert [process.returncode for process in running] == [0, 0]
    assert cached(tmp_path).read_bytes() == CONTENT
    assert leftovers(tmp_path) == [cached(tmp_path)]


@pytest.mark.parametrize(
    "changed",
    [{"path": "../x"}, {"path": "/etc/x"}, {"path": ""}, {"owner": ".."}, {"repo": "a/b"}, {"commit": "main"}, {"sha256": "f" * 63}],
)
def test_only_pinned_files_inside_their_repository(changed: dict[str, str]) -> None:
    good = {"owner": "o", "repo": "r", "commit": COMMIT, "path": "p.csv", "sha256": DIGEST}
    assert RemoteFile(**good).inside == f"o/r/{COMMIT}/p.csv"
    with pytest.raises(InputError):
        RemoteFile(**{**good, **changed})


def test_importing_is_light() -> None:
    code = "import sys, routewright.data.fetch; print([m for m in ('pooch', 'requests', 'pandas', 'torch') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
