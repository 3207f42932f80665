"""Serves the decision endpoint until it is told to stop: the socket, the watched bundle, the signals. Needs the extra [serve]."""

from __future__ import annotations

import importlib.util
import ipaddress
import logging
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from routewright.core.types import InputError
from routewright.gateway.bundle import Bundle
from routewright.gateway.cascade import CascadeBundle, either
from routewright.gateway.decisions import at
from routewright.gateway.reload import Reloading
from routewright.gateway.server import Endpoint, Settings, application

log = logging.getLogger("routewright")

NEEDED = ("starlette", "uvicorn", "prometheus_client")
BACKLOG = 2048
SHARED = 0o660  # who may connect to a Unix socket: its owner and group


@dataclass(frozen=True)
class Listening:
    """Where and how a server listens. port 0: a free one. uds: a Unix socket's path in place of host and port.

    reload_s: between looks at the bundle. wait: begin without a bundle, answering 503, in place of ending with the reason. grace_s: for
    requests in flight at SIGTERM.
    """

    host: str = "127.0.0.1"
    port: int = 8123
    uds: Path | None = None
    reload_s: float = 1.0
    threads: int = 1
    wait: bool = False
    grace_s: int = 10


def serve(path: Path, listening: Listening, settings: Settings) -> None:
    """Serves the bundle at `path` until SIGTERM or Ctrl-C, then answers what is in flight. SIGHUP: open the bundle's folder now.

    One line on stdout says when and where it listens, all else is logged to stderr. Raises InputError where a package is missing, the
    address cannot be had, or the bundle does not load (unless `wait`).
    """
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        mend = "pip install 'routewright[serve]'"
        raise InputError("the endpoint needs more packages", expected=", ".join(NEEDED), found="no " + ", no ".join(missing), mend=mend)
    import uvicorn

    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")

    def load(folder: Path, *, threads: int) -> Bundle | CascadeBundle:
        bundle = either(folder, threads=threads)
        at(bundle.points, settings.point)  # a bundle without the server's point would answer nobody who names none
        return bundle

    reloading = Reloading(path, load, threads=listening.threads, every_s=listening.reload_s)
    if not listening.wait:
        say(reloading.bundle.verdict, reloading.bundle.described["verdict"]["sentence"])
    held = _socket(listening)
    if held.family != socket.AF_UNIX and not ipaddress.ip_address(held.getsockname()[0]).is_loopback:
        log.warning("whoever reaches %s may ask: the endpoint has no authentication", _address(held))
    app = application(Endpoint(reloading, settings))
    config = uvicorn.Config(
        app,
        access_log=False,
        log_config=None,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=listening.grace_s,
    )
    reloading.start()
    # uvicorn takes the signal while it runs, and raises it once more when it has answered what was in flight
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, lambda *_: reloading.wake())
    try:
        sys.stdout.write(f"listening on {_address(held)}\n")
        sys.stdout.flush()
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[held])
    finally:
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        reloading.stop()
        held.close()
        if listening.uds is not None:
            listening.uds.unlink(missing_ok=True)


def say(verdict: str, sentence: str) -> None:
    """Logs how the bundle was judged, louder where no help was found."""
    level = logging.INFO if verdict == "helps" else logging.WARNING
    log.log(level, "%s", sentence)


def _socket(listening: Listening) -> socket.socket:
    """Bound, so that the port is known before the first request. Raises InputError where the address cannot be had."""
    where = str(listening.uds) if listening.uds else f"{listening.host}:{listening.port}"
    try:
        if listening.uds:
            return _unix_socket(listening.uds)
        return _tcp_socket(listening.host, listening.port)
    except (OSError, OverflowError) as error:
        mend = "Choose another --port, or end what listens there."
        raise InputError("cannot listen", where=where, found=str(error), mend=mend) from None


def _tcp_socket(host: str, port: int) -> socket.socket:
    # with the protocol by name: asyncio sends without delay on such sockets only, else an answer waits 40 ms for the client's next word
    held = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((host, port))
        held.listen(BACKLOG)
    except (OSError, OverflowError):
        held.close()
        raise
    return held


def _unix_socket(path: Path) -> socket.socket:
    """A socket file that a server left behind is replaced, one on which a server answers is not."""
    if path.is_socket():
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(path)) == 0:
                raise OSError("another server answers there")
        path.unlink()
    held = socket.socket(socket.AF_UNIX)
    try:
        held.bind(str(path))
    except OSError:
        held.close()
        raise
    path.chmod(SHARED)
    held.listen(BACKLOG)
    return held


def _address(held: socket.socket) -> str:
    name = held.getsockname()
    if held.family == socket.AF_UNIX:
        return f"unix:{name}"
    return f"http://[{name[0]}]:{name[1]}" if held.family == socket.AF_INET6 else f"http://{name[0]}:{name[1]}"
