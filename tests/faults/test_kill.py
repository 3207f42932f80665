"""Kills a collection again and again and lets it go on: the end is that of an undisturbed run, and what was paid twice is known."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from routewright.data.store import Store
from tests.faults import driver
from tests.faults.driver import asks, collect
from tests.faults.server import KEY, Process

ROOT = Path(__file__).parents[2]
N, CONCURRENCY, KILLS = 150, 4, 20
LIMITS = {"concurrency": CONCURRENCY, "breaker_failures": 1000}
SCRIPT: dict[str, Any] = {
    "latency": 0.005,
    "transient": {"server": 0.05, "cut_before": 0.03, "limit_ms": 0.05, "malformed": 0.03},
    "answers": {"no_usage": 0.05, "null_content": 0.05},
}


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUTEWRIGHT_TEST_KEY", KEY)


def start(url: str, path: Path, n: int = N, **limits: Any) -> subprocess.Popen[str]:
    job = {"url": url, "store": str(path), "n": n, "limits": LIMITS | limits}
    command = [sys.executable, "-m", "tests.faults.driver", json.dumps(job)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))


def fork(url: str, path: Path, said: Path) -> BaseProcess:
    """The same without importing everything anew: a fork of a process that did it once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.driver"])
    job = {"url": url, "store": str(path), "n": N, "limits": LIMITS, "key": KEY, "said": str(said)}
    process = context.Process(target=driver.forked, args=(job,))
    process.start()
    return process


def requests(server: Process) -> int:
    return sum(server.books()["requests"].values())


def wait_for(server: Process, alive: Callable[[], bool], more: int, begun: int = 0) -> None:
    """Until the server was asked so many times more, or the process is done."""
    end = time.monotonic() + 60
    while requests(server) < begun + more and alive():
        assert time.monotonic() < end
        time.sleep(0.002)


def final(path: Path, url: str) -> set[tuple[Any, ...]]:
    """(query, status, text, tokens, usd) of every ask; NaN as None."""
    found = set()
    with Store(path) as store:
        for ask in asks(url, N):
            call = store.get(ask.request.key())
            assert call is not None
            usd = None if call.usd != call.usd else call.usd
            found.add((call.queries, call.status, call.reply.text, str(call.reply.tokens), usd))
    return found


def test_killed_twenty_times(tmp_path: Path) -> None:
    path, said, rng = tmp_path / "calls.sqlite", tmp_path / "said", random.Random(0)
    kills = 0
    with Process(**SCRIPT) as server:
        for _ in range(KILLS):
            begun = requests(server)
            process = fork(server.url, path, said)
            wait_for(server, process.is_alive, rng.randint(1, 7), begun)
            time.sleep(rng.random() * 0.008)
            process.kill()
            process.join()
            kills += process.exitcode == -signal.SIGKILL
        process = fork(server.url, path, said)
        process.join()
        assert process.exitcode == 0, said.read_text()
        assert "Traceback" not in said.read_text()
        tally = json.loads(said.read_text().splitlines()[-1])
        books = server.books()["billed"]
        assert tally["ok"] + tally["empty"] + tally["recorded"] == N
        disturbed = final(path, server.url)
        assert kills >= KILLS // 2

        twice = {name: count for name, count in Counter(entry["key"] for entry in books).items() if count > 1}
        with Store(path) as store:
            cut = Counter(name for run in store.interrupted() for name in run.keys)
            assert all(len(run.keys) <= CONCURRENCY for run in store.interrupted())
            assert all(run.usd == run.usd for run in store.interrupted())
            kept = Counter(call.key for call in store.calls())
        assert max(kept.values()) == 1
        assert all(cut[name] >= count - 1 for name, count in twice.items()), "paid twice, and nobody was told"
        assert sum(count - 1 for count in twice.values()) <= CONCURRENCY * kills
        assert len({entry["key"] for entry in books}) == N

        collect(server.url, tmp_path / "quiet.sqlite", list(asks(server.url, N)), **LIMITS)
        assert final(tmp_path / "quiet.sqlite", server.url) == disturbed
    with Store(tmp_path / "quiet.sqlite") as store:
        assert store.interrupted() == ()


def test_the_next_run_tells_what_was_in_flight(tmp_path: Path) -> None:
    path = tmp_path / "calls.sqlite"
    with Process(latency=30.0) as server:
        process = start(server.url, path, concurrency=3)
        wait_for(server, lambda: process.poll() is None, 3)
        process.kill()
        process.communicate()
    with Process() as server:  # elsewhere: other requests, the same store
        process = start(server.url, path, n=5)
        _, err = process.communicate()
    assert re.search(r"3 requests were in flight when the run of .* ended: they may have been billed \(at most USD 0\.0", err)


@pytest.mark.usefixtures("ctrl_c")
def test_interrupted_by_hand(tmp_path: Path) -> None:
    """Ctrl-C: it ends at once, keeps what came back, and the same command goes on."""
    path = tmp_path / "calls.sqlite"
    with Process(latency=0.02) as server:
        process = start(server.url, path, concurrency=8)
        wait_for(server, lambda: process.poll() is None, 40)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert process.returncode != 0
        assert "KeyboardInterrupt" in err
        with Store(path) as store:
            kept = len(list(store.calls()))
            cut = [name for run in store.interrupted() for name in run.keys]
        assert 20 <= kept < N
        assert 1 <= len(cut) <= 8
        tally = collect(server.url, path, list(asks(server.url, N)), **LIMITS)
        assert (tally.recorded, tally.ok) == (kept, N - kept)
        books = Counter(entry["key"] for entry in server.books()["billed"])
        assert {name for name, count in books.items() if count > 1} <= set(cut)


FULL = """
import resource, signal, sys
from pathlib import Path
from tests.faults.driver import asks, collect
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
collect(sys.argv[1], Path(sys.argv[2]), list(asks(sys.argv[1], 2000)), concurrency=4)
"""


def test_a_full_disk(tmp_path: Path) -> None:
    """One clear error, nothing further sent, nothing lost, and with room again it goes on."""
    path = tmp_path / "calls.sqlite"
    with Process() as server:
        command = [sys.executable, "-c", FULL, server.url, str(path)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode != 0
        assert "InputError: the call store cannot be used in" in done.stderr
        billed = len(server.books()["billed"])
        with Store(path) as store:
            kept = len(list(store.calls()))
        assert kept > 20
        assert billed - kept <= 4
        assert requests(server) - kept <= 4
        tally = collect(server.url, path, list(asks(server.url, 300)), **LIMITS)
        assert tally.ok + tally.recorded == 300
