"""Times the decision endpoint: CPU that a request costs beyond its decision, and latency with several clients at once.

python scripts/bench_gateway_server.py                        # a tiny bundle: what the endpoint itself costs
python scripts/bench_gateway_server.py --bundle out/bundle    # a bundle of one's own
"""

from __future__ import annotations

import argparse
import http.client
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from routewright.core.bench import Compared, Row, Spent, duration, median, table, timed
from routewright.core.types import InputError

ROOT = Path(__file__).resolve().parents[1]
TEXT = "A train leaves at nine and travels at 80 km/h; a second one follows at ten at 120 km/h. When does it overtake the first?"
HEADERS = {"Content-Type": "application/json"}


@contextmanager
def served(bundle: Path, *options: str, python: str = sys.executable) -> Iterator[tuple[str, int]]:
    """(host, port) of a server process on a free port of loopback; ended by SIGTERM. Raises InputError where it does not start."""
    command = [python, "-m", "routewright.gateway", "serve", str(bundle), "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            mend = "Run the command by hand to see why."
            raise InputError("the endpoint did not start", where=" ".join(command), expected="listening on ...", found="nothing", mend=mend)
        host, _, port = line.rpartition("//")[2].strip().rpartition(":")
        try:
            yield host, int(port)
        finally:
            process.terminate()


def cpu_seconds(host: str, port: int) -> float:
    """CPU time of the server so far, as /metrics tells it (to 10 ms)."""
    client = http.client.HTTPConnection(host, port)
    client.request("GET", "/metrics")
    lines = client.getresponse().read().decode().splitlines()
    client.close()
    return next(float(line.split()[1]) for line in lines if line.startswith("process_cpu_seconds_total "))


def ask(host: str, port: int, text: str, count: int) -> list[float]:
    """Seconds that each of `count` requests took, one after another over one connection."""
    body, client, took = json.dumps({"text": text}).encode(), http.client.HTTPConnection(host, port), []
    for _ in range(count):
        begun = time.perf_counter()
        client.request("POST", "/v1/route", body, HEADERS)
        answer = client.getresponse()
        answer.read()
        took.append(time.perf_counter() - begun)
        if answer.status != 200:
            raise InputError("a request failed", where="/v1/route", expected="200", found=str(answer.status))
    client.close()
    return took


def overhead(bundle: Path, *, count: int = 2000, runs: int = 3, options: Sequence[str] = (), python: str = sys.executable) -> Iterator[Row]:
    """CPU (wall) a request costs the server beyond Bundle.decide of the same text, for one client that keeps its connection.

    Both are measured in turn, `runs` times `count` requests each; the median of the differences is told.
    """
    from routewright.gateway.bundle import quiet

    own = quiet(bundle)
    differences, whole = [], []
    with served(bundle, *options, python=python) as (host, port):
        ask(host, port, TEXT, 50)
        for _ in range(runs):
            alone = timed(lambda: [own.decide(TEXT) for _ in range(count)]).per(count)
            before = cpu_seconds(host, port)
            took = sum(ask(host, port, TEXT, count))
            there = Spent(cpu_seconds(host, port) - before, took).per(count)
            whole.append(there)
            differences.append(Spent(there.cpu - alone.cpu, there.wall - alone.wall))
    total = median(whole)
    note = f"{count} requests a run, {own.described['name']}; a request with its decision: {duration(total.cpu)} ({duration(total.wall)})"
    yield Row("endpoint", "overhead, one client", "request", Compared(median(differences)), note=note)


def together(
    bundle: Path, *, clients: int = 16, count: int = 200, options: Sequence[str] = (), python: str = sys.executable
) -> Iterator[Row]:
    """CPU (mean latency) of a request while `clients` ask at once; the note has percentiles, and those of /healthz meanwhile."""
    with served(bundle, *options, python=python) as (host, port):
        ask(host, port, TEXT, 50)
        took: list[float] = []
        health: list[float] = []
        workers = [threading.Thread(target=lambda: took.extend(ask(host, port, TEXT, count))) for _ in range(clients)]
        before = cpu_seconds(host, port)
        for worker in workers:
            worker.start()
        while any(worker.is_alive() for worker in workers):
            health.append(timed(lambda: look(host, port)).wall)
            time.sleep(0.02)
        spent = cpu_seconds(host, port) - before
    n = clients * count
    p50, p99 = (duration(float(value)) for value in np.percentile(took, (50, 99)))
    healthy = duration(float(np.percentile(health, 99)))
    note = f"latency p50 {p50}, p99 {p99}; /healthz meanwhile p99 {healthy}; clients and server share the cores"
    yield Row("endpoint", f"{clients} clients at once", "request", Compared(Spent(spent / n, float(np.mean(took)))), note=note)


def look(host: str, port: int) -> None:
    """One look at /healthz."""
    client = http.client.HTTPConnection(host, port)
    client.request("GET", "/healthz")
    client.getresponse().read()
    client.close()


def tiny(folder: Path) -> Path:
    """The tests' tiny bundle, whose decision costs next to nothing."""
    spec = importlib.util.spec_from_file_location("gateway_bundles", ROOT / "tests" / "gateway_bundles.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made: Path = module.tiny_bundle(folder)
    return made


def measure(bundle: Path | None, *, quick: bool = False, options: Sequence[str] = (), python: str = sys.executable) -> Iterator[Row]:
    """Every row. bundle: None for the tiny one."""
    with tempfile.TemporaryDirectory() as folder:
        used = bundle or tiny(Path(folder))
        yield from overhead(used, count=200 if quick else 2000, runs=1 if quick else 3, options=options, python=python)
        yield from together(used, count=20 if quick else 200, options=options, python=python)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bundle", type=Path, help="measure this bundle in place of a tiny one")
    parser.add_argument("--quick", action="store_true", help="few requests: to see it work, not to quote")
    parser.add_argument("--serve", default="", metavar="OPTIONS", help="further options of serve, as one word")


def main(given: argparse.Namespace) -> None:
    """Prints the table. Raises InputError where the server does not start or a request fails."""
    begun = os.getloadavg()[0]
    rows = list(measure(given.bundle, quick=given.quick, options=given.serve.split()))
    print(f"{os.cpu_count()} cores, load {begun:.1f} to {os.getloadavg()[0]:.1f}", table(rows), sep="\n\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options(parser)
    main(parser.parse_args())
