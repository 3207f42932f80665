"""Drives LiteLLM's real proxy with a bundle while its folder is swapped and broken, and prints what became of every request as JSON.

    python examples/litellm/drill.py bundle=outputs/.../bundle requests=2000 at_once=32 deadline_ms=5 texts=questions.txt

First without faults, beside the same proxy without the hook (block by block in turn, so that both see the same machine), one request at a
time and `at_once` at a time; then `requests` while the bundle is swapped, half written, cut short, removed and put back. texts: a question
a line, the golden texts of the bundle by default. Needs litellm[proxy] and routewright, no network: upstream.py answers for the models.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
KEY = "sk-drill-only"
SEAL = re.compile(rb'("bundle\.json": ")[0-9a-f]{64}"')
LOGGER = '''"""Writes what a log would keep of each request."""
import json
from litellm.integrations.custom_logger import CustomLogger
class Writer(CustomLogger):
    async def async_log_success_event(self, kwargs, response_obj, start_time, end_time):
        told = kwargs["standard_logging_object"]
        seen = ((kwargs.get("litellm_params") or {}).get("metadata") or {}).get("routewright")
        kept = {"group": told["model_group"], "spend": (told["metadata"].get("spend_logs_metadata") or {}).get("routewright"), "seen": seen}
        with open(__file__ + ".jsonl", "a") as out:
            out.write(json.dumps(kept) + "\\n")
writer = Writer()
'''


def free_ports(count: int) -> list[int]:
    """Ports in a row that nobody listens on, below those that the kernel gives out: a poll of such a one may connect to itself."""
    for first in range(20000 + os.getpid() % 10000, 32000, 97):
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for port in range(first, first + count):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return list(range(first, first + count))
    raise SystemExit("no free ports")


def version(bundle: Path, number: int) -> dict[str, bytes]:
    """The files of a bundle that decides alike and has another hash: white space in bundle.json, sealed again."""
    files = {path.name: path.read_bytes() for path in bundle.iterdir()}
    blank = SEAL.sub(rb'\1"', files["bundle.json"] + b" " * number)
    files["bundle.json"] = SEAL.sub(rb"\g<1>" + sha256(blank).hexdigest().encode() + b'"', files["bundle.json"] + b" " * number)
    return files


def write(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)


async def faults(folder: Path, bundle: Path, going: Callable[[], bool], pause: float) -> Counter[str]:
    """Swaps and breaks the folder for as long as requests go out; ends with a good bundle in it."""
    done: Counter[str] = Counter()
    number = 0
    while going():
        number += 1
        new = await asyncio.to_thread(version, bundle, number)
        for name, step in (
            ("swapped file by file", lambda files=new: write(folder, files)),
            ("router.onnx cut short", lambda files=new: (folder / "router.onnx").write_bytes(files["router.onnx"][:1000])),
            ("bundle.json changed", lambda files=new: write(folder, {"bundle.json": files["bundle.json"] + b"{"})),
            ("removed", lambda: shutil.rmtree(folder)),
            ("put back", lambda files=new: write(folder, files)),
        ):
            await asyncio.to_thread(step)
            done[name] += 1
            await asyncio.sleep(pause)
    await asyncio.to_thread(write, folder, version(bundle, number + 1))
    return done


@contextlib.contextmanager
def process(command: list[str], log: Path, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out, env=os.environ | environ) as child:
        try:
            yield child
        finally:
            child.terminate()


def config(work: Path, name: str, models: list[str], ports: list[int], *, hook: bool, log: bool) -> Path:
    """A proxy's config.yaml (JSON is YAML)."""
    served = [
        {"model_name": model, "litellm_params": {"model": f"openai/{model}", "api_base": f"http://127.0.0.1:{port}/v1", "api_key": "none"}}
        for model, port in zip(models, ports, strict=True)
    ]
    callbacks = ["routewright.gateway.litellm.handler"] * hook + ["drill_log.writer"] * log
    settings = {"telemetry": False} | ({"callbacks": callbacks} if callbacks else {})
    (work / "drill_log.py").write_text(LOGGER)
    path = work / f"{name}.yaml"
    path.write_text(json.dumps({"model_list": served, "litellm_settings": settings}))
    return path


@contextlib.contextmanager
def proxy(work: Path, path: Path, port: int, **environ: str) -> Iterator[int]:
    """A running proxy's process id."""
    quiet = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MASTER_KEY": KEY, "PYTHONDONTWRITEBYTECODE": "1"}
    code = "from litellm.proxy.proxy_cli import run_server; run_server()"
    command = [sys.executable, "-c", code, "--config", str(path), "--host", "127.0.0.1", "--port", str(port), "--telemetry", "False"]
    log = path.with_suffix(".log")
    with process(command, log, **quiet, **environ) as child:
        give_up = time.monotonic() + 300
        while True:
            if child.poll() is not None or time.monotonic() > give_up:
                raise SystemExit(f"the proxy does not start:\n{log.read_text()[-3000:]}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.2)
        yield child.pid


def cpu_s(pid: int) -> float:
    """User and system time of a process so far."""
    part = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(part[11]) + int(part[12])) / os.sysconf("SC_CLK_TCK")


class Client:
    """Sends chat completions to a proxy and keeps what came back."""

    def __init__(self, session: Any, port: int, texts: list[str]) -> None:
        self._session, self._url, self._texts = session, f"http://127.0.0.1:{port}/v1/chat/completions", texts
        self.counts: dict[str, Counter[str]] = {"answered by": Counter(), "reason": Counter(), "bundle": Counter(), "failed": Counter()}
        self.seconds: list[float] = []

    async def ask(self, number: int, model: str, *, stream: bool = False, session: str = "") -> None:
        body = {"model": model, "messages": [{"role": "user", "content": self._texts[number % len(self._texts)]}], "stream": stream}
        headers = {"authorization": f"Bearer {KEY}"} | ({"x-litellm-session-id": session} if session else {})
        began = time.perf_counter()
        try:
            async with self._session.post(self._url, json=body, headers=headers) as answer:
                text, told = await answer.text(), answer.headers
                found = re.search(r'"content": ?"([^"]*) at ([^"]*)"', text)
                if answer.status != 200 or found is None or found[1] != found[2]:
                    self.counts["failed"][f"{answer.status}: {text[:200]}"] += 1
                    return
        except Exception as error:  # a request that is lost is what is looked for
            self.counts["failed"][type(error).__name__] += 1
            return
        self.seconds.append(time.perf_counter() - began)
        self.counts["answered by"][found[1]] += 1
        self.counts["reason"][told.get("x-routewright-reason", "not routed")] += 1
        self.counts["bundle"][told.get("x-routewright-bundle", "none")[:12]] += 1
        if "x-routewright-called" in told and told["x-routewright-called"] != found[1]:
            self.counts["failed"]["answered by another model than was chosen"] += 1

    def told(self) -> dict[str, Any]:
        seconds = sorted(self.seconds) or [float("nan")]
        at = {f"p{share}_ms": round(1e3 * seconds[min(len(seconds) - 1, len(seconds) * share // 100)], 2) for share in (50, 99)}
        return {name: dict(count) for name, count in self.counts.items() if name != "bundle"} | {"bundles": len(self.counts["bundle"])} | at


async def drive(ask: Callable[[int], Any], numbers: range, at_once: int) -> None:
    """A closed loop: always `at_once` under way."""
    left = iter(numbers)

    async def one() -> None:
        for number in left:
            await ask(number)

    await asyncio.gather(*(one() for _ in range(at_once)))


async def beside(plain: Client, hooked: Client, pids: tuple[int, int], model: str, requests: int, at_once: int) -> dict[str, Any]:
    """The proxy with the hook and the one without, block after block in turn."""
    spent = [0.0, 0.0]
    block = max(at_once * 4, 20)
    for begin in range(0, requests, block):
        numbers = range(begin, min(begin + block, requests))
        for i, (client, name) in enumerate(((plain, model), (hooked, "routewright"))):
            before = cpu_s(pids[i])
            await drive(lambda n, client=client, name=name: client.ask(n, name), numbers, at_once)  # type: ignore[misc]
            spent[i] += cpu_s(pids[i]) - before
    each = [round(1e3 * seconds / requests, 3) for seconds in spent]
    return {"without": plain.told() | {"cpu_ms": each[0]}, "with": hooked.told() | {"cpu_ms": each[1]}}


def kept(work: Path) -> dict[str, Any]:
    """What the log has: how many lines, of which kinds, and whether a key or prompt stands where the hook wrote."""
    path = work / "drill_log.py.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    facts = [line["spend"] for line in lines if line["spend"]]
    fields = {"model", "called", "point", "reason", "propensity", "bundle"}
    wrong = sum(line["seen"] != line["spend"] for line in lines) + sum(
        one["called"] != line["group"] for line in lines if (one := line["spend"])
    )
    return {
        "lines": len(lines),
        "with a decision": len(facts),
        "wrong": wrong + sum(not fields <= one.keys() for one in facts),
        "keys seen": sum(KEY in json.dumps(one) for one in facts),
        "propensity": dict(Counter(str(one["propensity"]) for one in facts)),
    }


async def drill(
    bundle: Path, work: Path, texts: list[str], *, requests: int, at_once: int, deadline_ms: float, compare: int, pause: float
) -> dict[str, Any]:
    import aiohttp

    described = json.loads((bundle / "bundle.json").read_text())
    models = [model["name"] for model in described["models"]]
    golden = [item["text"] for item in described["golden"] if isinstance(item["text"], str) and item["text"].strip()]
    texts = texts or golden
    *ports, plain_port, hook_port, fault_port = free_ports(len(models) + 3)
    folder = work / "bundle"
    write(folder, version(bundle, 0))
    hook = {"ROUTEWRIGHT_HOOK_BUNDLE": str(folder), "ROUTEWRIGHT_HOOK_DEADLINE_MS": str(deadline_ms), "ROUTEWRIGHT_HOOK_RELOAD_S": "0.2"}
    found: dict[str, Any] = {"models": models, "deadline_ms": deadline_ms}
    pool = aiohttp.TCPConnector(limit=0, keepalive_timeout=2)  # the proxy hangs up after 5 s: a request sent just then is lost
    with contextlib.ExitStack() as stack:
        session = await contextlib.AsyncExitStack().enter_async_context(aiohttp.ClientSession(connector=pool))
        stack.enter_context(process([sys.executable, str(HERE / "upstream.py"), str(ports[0]), *models], work / "upstream.log"))
        if compare:
            with contextlib.ExitStack() as pair:
                plain = pair.enter_context(proxy(work, config(work, "plain", models, ports, hook=False, log=False), plain_port))
                hooked = pair.enter_context(proxy(work, config(work, "hook", models, ports, hook=True, log=False), hook_port, **hook))
                for name, many in (("warm up", at_once), ("one at a time", 1), (f"{at_once} at once", at_once)):
                    clients = Client(session, plain_port, texts), Client(session, hook_port, texts)
                    count = 50 if name == "warm up" else compare
                    found[name] = await beside(*clients, (plain, hooked), described["fallback"], count, many)
        with proxy(work, config(work, "faults", models, ports, hook=True, log=True), fault_port, **hook):
            client, left = Client(session, fault_port, texts), requests

            async def ask(number: int) -> None:
                nonlocal left
                name = ("routewright", "routewright", "routewright/balanced", models[number // 4 % len(models)])[number % 4]
                await client.ask(number, name, stream=number % 8 == 0, session=f"s{number % 50}" if number % 5 == 0 else "")
                left -= 1

            breaking = asyncio.create_task(faults(folder, bundle, lambda: left > at_once, pause))
            began = time.perf_counter()
            await drive(ask, range(requests), at_once)
            found["faults"] = client.told() | {"requests": requests, "seconds": round(time.perf_counter() - began, 1)}
            found["faults"]["done to the bundle"] = dict(await breaking)
            await asyncio.sleep(2)  # the last log lines
        await session.close()
    found["log"] = kept(work)
    lines = (work / "faults.log").read_text().splitlines()
    found["proxy said"] = dict(Counter(re.split(r"[,;:]", line)[0] for line in lines if line.startswith(("bundle ", "breaker "))))
    return found


def main(arguments: list[str]) -> None:
    told = dict(argument.split("=", 1) for argument in arguments)
    bundle = Path(told.pop("bundle")).resolve()
    texts = Path(told.pop("texts")).read_text().splitlines() if "texts" in told else []
    numbers = {name: float(told.pop(name, default)) for name, default in (("deadline_ms", "5"), ("pause", "0.7"))}
    counts = {name: int(told.pop(name, default)) for name, default in (("requests", "2000"), ("at_once", "32"), ("compare", "500"))}
    if told:
        raise SystemExit(f"no such setting: {', '.join(told)}")
    with tempfile.TemporaryDirectory() as work:
        found = asyncio.run(drill(bundle, Path(work), texts, **numbers, **counts))  # type: ignore[arg-type]
    sys.stdout.write(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
