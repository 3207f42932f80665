"""Measures time and memory of two programs in turn: this process and a worker with an interpreter of its own. Imports the standard library.

The worker loads this very file by its path, so that both sides hold the same clock.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

CLEAR_PEAK = "5"  # what /proc/self/clear_refs takes to begin a new high-water mark
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Spent:
    """Seconds of work: cpu over all threads of the process, and wall."""

    cpu: float
    wall: float

    def per(self, count: int) -> Spent:
        return Spent(self.cpu / count, self.wall / count)


def timed(work: Callable[[], object]) -> Spent:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Spent(time.process_time() - cpu, time.perf_counter() - wall)


def median(spent: Sequence[Spent]) -> Spent:
    """Median of each clock."""
    return Spent(statistics.median(one.cpu for one in spent), statistics.median(one.wall for one in spent))


def peak_growth(work: Callable[[], object]) -> float | None:
    """MiB by which the largest resident memory while `work` ran is above what was resident before; None where the system does not tell.

    What was freed before is first given back, for it would be taken again unseen.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    try:
        Path("/proc/self/clear_refs").write_text(CLEAR_PEAK)
        before = _resident("VmRSS")
    except OSError:
        work()
        return None
    work()
    return max(0.0, _resident("VmHWM") - before)


def _resident(name: str) -> float:
    """A line of /proc/self/status in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024


def settle_torch() -> None:
    """One thread, and one step of Adam on one number: its first step loads half of torch, which is no part of any training."""
    import torch

    torch.set_num_threads(1)
    number = torch.ones(1, requires_grad=True)
    number.grad = torch.ones(1)
    torch.optim.Adam([number]).step()


# ---- two programs in turn


@dataclass(frozen=True)
class Compared:
    """Medians over runs, and ratio: the median over runs of their CPU time by ours of the same run. None where ours ran alone."""

    ours: Spent
    theirs: Spent | None = None
    ratio: float | None = None


def alternate(ours: Callable[[], Spent], theirs: Callable[[], Spent] | None, runs: int) -> Compared:
    """Runs both in turn, the other one first every second time: what else the machine does meets both alike."""
    if theirs is None:
        return Compared(median([ours() for _ in range(runs)]))
    pairs = []
    for run in range(runs):
        if run % 2:
            last = theirs()
            pairs.append((ours(), last))
        else:
            pairs.append((ours(), theirs()))
    ratio = statistics.median(b.cpu / a.cpu for a, b in pairs)
    return Compared(median([a for a, _ in pairs]), median([b for _, b in pairs]), ratio)


class Worker:
    """A program that is asked in lines of JSON and answers each with one: {"error": ...} for what it could not do.

    script: what the interpreter runs, with this file's path as its argument. A context manager: it ends with the block.
    """

    def __init__(self, python: Path, script: Path, environment: Mapping[str, str]) -> None:
        self.name, self.said = script.stem, tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the worker
        self.process = subprocess.Popen(
            [str(python), str(script), str(Path(__file__).resolve())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.said,
            env={**os.environ, **dict.fromkeys(THREADS, "1"), **environment},
            text=True,
        )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *raised: object) -> None:
        self._pipe("stdin").close()
        self.process.wait()
        self._pipe("stdout").close()
        self.said.close()

    def ask(self, **request: Any) -> dict[str, Any]:
        """Its answer. Raises InputError where it says that it cannot, and where it ended."""
        from routewright.core.types import InputError

        try:
            self._pipe("stdin").write(json.dumps(request) + "\n")
            self._pipe("stdin").flush()
            line = self._pipe("stdout").readline()
        except BrokenPipeError:
            line = ""
        if not line:
            code = self.process.wait()
            self.said.seek(0)
            words = self.said.read().decode(errors="replace").strip().rpartition("\n")[2]
            raise InputError(f"{self.name} ended", expected="an answer", found=f"exit code {code}, {words!r}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise InputError(f"{self.name} cannot do this", where=str(request.get("do")), found=str(answer["error"]))
        return answer

    def _pipe(self, name: str) -> IO[str]:
        pipe: IO[str] = getattr(self.process, name)
        return pipe


def spent(answer: Mapping[str, Any]) -> Spent:
    """What a worker's answer says of its time."""
    return Spent(float(answer["cpu"]), float(answer["wall"]))


# ---- the table

NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Row:
    """One line: what was measured of which router, in seconds a `unit`; published is a reason where there is no figure."""

    router: str
    what: str
    unit: str
    compared: Compared | None
    published: str = NOT_MEASURED
    note: str = ""


def duration(seconds: float) -> str:
    """Three digits in a unit that suits: 82.1 ms."""
    for least, size, unit in ((7200.0, 3600.0, "h"), (600.0, 60.0, "min"), (1.0, 1.0, "s"), (1e-3, 1e-3, "ms"), (1e-6, 1e-6, "µs")):
        if seconds >= least:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def shown(spent: Spent) -> str:
    """cpu and wall."""
    return f"{duration(spent.cpu)} ({duration(spent.wall)})"


def table(rows: Sequence[Row]) -> str:
    """Markdown: CPU time with wall time in brackets, and published CPU time by ours."""
    lines = ["| router | what | ours: CPU (wall) | published: CPU (wall) | ratio | note |", "|---|---|---|---|---|---|"]
    for row in rows:
        found = row.compared
        ours = "-" if found is None else f"{shown(found.ours)} a {row.unit}"
        theirs = row.published if found is None or found.theirs is None else f"{shown(found.theirs)} a {row.unit}"
        ratio = "-" if found is None or found.ratio is None else f"{found.ratio:.1f}x"
        lines.append(f"| {row.router} | {row.what} | {ours} | {theirs} | {ratio} | {row.note} |")
    return "\n".join(lines)
