"""Times a bundle beside a gateway: text to decision, what of it is our own code, the cold start, memory."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bench_routers import machine

from routewright.core.files import write_json
from routewright.core.types import InputError

LENGTHS = (8, 64, 256)  # tokens
WORDS = ["what", "is", "the", "square", "of", "seventeen", "plus", "the", "number", "of", "days", "in", "a", "year", "and", "how", "many"]
COLD = "from routewright.gateway.bundle import quiet; from pathlib import Path; b = quiet(Path({folder!r})); b.decide('hello there')"
RESIDENT = """
for _ in range(200): b.decide('How many days has a leap year? ' * 8)
lines = open('/proc/self/status').read().splitlines()
print(*(line.split()[1] for name in ('VmRSS', 'VmHWM') for line in lines if line.startswith(name)))
"""


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bundle", action="append", required=True, metavar="NAME=FOLDER", help="an exported bundle; several may be given")
    parser.add_argument("--runs", type=int, default=5, help="cold starts of which the median is told (5)")
    parser.add_argument("--calls", type=int, default=400, help="decisions timed at each length (400)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")


def main(given: argparse.Namespace) -> None:
    """Prints one table. Raises InputError for a bundle that is none."""
    rows, load = [], os.getloadavg()[0]
    core = _pin()
    for text in given.bundle:
        name, _, folder = text.partition("=")
        if not (Path(folder) / "bundle.json").is_file():
            raise InputError("no bundle there", where="--bundle", expected="NAME=FOLDER that export.py wrote", found=text)
        rows.append({"bundle": name, **_measured(Path(folder), given)})
        print(json.dumps(rows[-1]), file=sys.stderr)
    about = {**machine(), "pinned_to": core, "load": [round(load, 2), round(os.getloadavg()[0], 2)], "calls": given.calls}
    print(_table(rows))
    print(f"\n{about['processor']}, load {about['load'][0]} to {about['load'][1]}; CPU time of one thread, {given.calls} calls a length.")
    if given.json:
        write_json(given.json, {"about": about, "rows": rows})


def _pin() -> int | None:
    """Stays on one core where the system can: a decision must not pay for moving. None where it cannot.

    onnxruntime is loaded before: where it sees one core alone it leaves AMX out, and int8 products take twice their time.
    """
    import onnxruntime  # noqa: F401

    if not hasattr(os, "sched_setaffinity"):
        return None
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    return core


def _measured(folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    from routewright.gateway.bundle import quiet

    bundle = quiet(folder)
    made: dict[str, Any] = {"megabytes": round(sum(path.stat().st_size for path in folder.iterdir()) / 1e6, 1)}
    for length in LENGTHS:
        text = _text_of(bundle, length)
        whole, bare = _paired(lambda text=text: bundle.decide(text), _encoder_alone(folder, bundle, text), given.calls)  # type: ignore[misc]
        made[f"decide_{length}_ms"] = _told(whole)
        made[f"encoder_{length}_ms"] = _told(bare)
        made[f"ratio_{length}"] = round(float(np.median(np.array(whole) / np.array(bare))), 3)
    made["own_code_64_ms"] = _told(_own_code(bundle, _text_of(bundle, 64), given.calls))
    made |= _cold(folder, given.runs)
    return made


def _text_of(bundle: Any, length: int) -> str:
    """English words that come to so many tokens, special ones included."""
    text = ""
    for word in itertools.cycle(WORDS):
        longer = f"{text} {word}".strip()
        if (count := bundle.tokens(longer)) >= length:
            return longer if count == length else text
        text = longer
    raise AssertionError("words never end")


def _encoder_alone(folder: Path, bundle: Any, text: str) -> Callable[[], Any]:
    """The graph up to the embedding, on the same tokens: what the bare ONNX encoder takes. The whole graph where there is no embedding."""
    import onnx
    from onnx.utils import Extractor

    from routewright.core.onnx_session import session

    model = onnx.load(folder / "router.onnx")
    if "embedding" in {name for node in model.graph.node for name in node.output}:
        names = [value.name for value in model.graph.input]
        extracted = Extractor(onnx.shape_inference.infer_shapes(model)).extract_model(names, ["embedding"])
        opened, output = session(extracted.SerializeToString()), ["embedding"]
    else:
        opened, output = session(folder / "router.onnx"), ["quality"]
    ids, mask, _ = bundle._reader([text])
    feed = {"input_ids": ids, "attention_mask": mask}
    return lambda: opened.run(output, feed)


def _own_code(bundle: Any, text: str, calls: int) -> list[float]:
    """CPU of a decision whose graph answers at once: tokenising, checks, policy, the decision's making."""

    class Answered:
        def __init__(self, value: Any) -> None:
            self.value = value

        def run(self, *_: Any) -> Any:
            return self.value

    ids, mask, _ = bundle._reader([text])
    own = bundle._session
    bundle._session = Answered(own.run(bundle._outputs, {"input_ids": ids, "attention_mask": mask}))
    try:
        return _times(lambda: bundle.decide(text), max(calls, 1000))
    finally:
        bundle._session = own


def _times(work: Callable[[], Any], calls: int) -> list[float]:
    """CPU milliseconds of each call, after some that warm up."""
    for _ in range(max(10, calls // 20)):
        work()
    found = []
    for _ in range(calls):
        begin = time.process_time_ns()
        work()
        found.append((time.process_time_ns() - begin) / 1e6)
    return found


def _paired(first: Callable[[], Any], second: Callable[[], Any], calls: int) -> tuple[list[float], list[float]]:
    """Both in turn, call by call, so that what else the machine does meets both alike."""
    for _ in range(max(10, calls // 20)):
        first(), second()
    found: tuple[list[float], list[float]] = ([], [])
    for _ in range(calls):
        for kept, work in zip(found, (first, second), strict=True):
            begin = time.process_time_ns()
            work()
            kept.append((time.process_time_ns() - begin) / 1e6)
    return found


def _told(times: Sequence[float]) -> dict[str, float]:
    return {"median": round(float(np.median(times)), 4), "p99": round(float(np.quantile(times, 0.99)), 4)}


def _cold(folder: Path, runs: int) -> dict[str, Any]:
    """CPU seconds from an interpreter's start to the first decision, and MiB resident: at rest, and at most."""
    spent = []
    for _ in range(runs):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", COLD.format(folder=str(folder))], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    code = COLD.format(folder=str(folder)) + RESIDENT
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    resident, most = (round(int(part) / 1024, 1) for part in told)
    return {"cold_s": round(float(np.median(spent)), 3), "resident_mib": resident, "most_mib": most}


def _table(rows: Sequence[dict[str, Any]]) -> str:
    lengths = " | ".join(f"{length} tokens: ms (p99), of the encoder" for length in LENGTHS)
    last = "own code at 64: ms (p99) | cold start, CPU s | memory, MiB (peak)"
    lines = [f"| bundle | MB | {lengths} | {last} |"]
    lines.append("|---" * (len(LENGTHS) + 5) + "|")
    for row in rows:
        cells = [row["bundle"], f"{row['megabytes']}"]
        for length in LENGTHS:
            decide = row[f"decide_{length}_ms"]
            cells.append(f"{decide['median']:.3f} ({decide['p99']:.3f}), {row[f'ratio_{length}']:.2f}x")
        own = row["own_code_64_ms"]
        cells += [f"{own['median']:.3f} ({own['p99']:.3f})", f"{row['cold_s']:.2f}", f"{row['resident_mib']} ({row['most_mib']})"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
