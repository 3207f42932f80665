"""A bundle on the command line: serve decisions over HTTP, look at one decision, or check the bundle on this machine.

python -m routewright.gateway serve bundle/                     # the decision endpoint, on http://127.0.0.1:8123
python -m routewright.gateway decide bundle/ "What is 2 + 2?"   # one decision, as JSON
python -m routewright.gateway check bundle/                     # sha256 of every file, golden vectors
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from routewright.core.types import InputError
from routewright.gateway.bundle import TOLERANCE, Bundle
from routewright.gateway.cascade import either, state


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        "python -m routewright.gateway", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = made.add_subparsers(dest="part", required=True)
    for name, does in (("serve", _serve), ("decide", _decide), ("check", _check)):
        part = parts.add_parser(name, help=does.__doc__)
        part.set_defaults(does=does)
        part.add_argument("bundle", type=Path, help="a folder that export wrote")
        if name != "check":
            part.add_argument("--point", default="balanced", help="operating point (default: balanced)")
        if name == "decide":
            part.add_argument("text", help="the query, - for stdin")
        if name == "serve":
            _options(part)
    return made


def _options(part: argparse.ArgumentParser) -> None:
    part.add_argument("--host", default="127.0.0.1", help="address (default: loopback only; the endpoint has no authentication)")
    part.add_argument("--port", type=int, default=8123, help="port, 0 for a free one (default: 8123)")
    part.add_argument("--uds", type=Path, help="listen on this Unix socket instead")
    part.add_argument("--reload-s", type=float, default=1.0, help="seconds between looks at the bundle's folder (default: 1)")
    part.add_argument("--wait", action="store_true", help="start without a bundle and answer 503 until one is there")
    part.add_argument("--limit", type=int, default=256 * 1024, help="bytes of a request's body (default: 262144)")
    part.add_argument("--workers", type=int, default=2, help="threads that decide (default: 2)")
    part.add_argument("--waiting", type=int, default=256, help="requests that may wait for one before 503 (default: 256)")
    part.add_argument("--threads", type=int, default=1, help="onnxruntime threads of one decision (default: 1)")


def _serve(given: argparse.Namespace) -> None:
    """serve decisions over HTTP"""
    from routewright.gateway.serve_listen import Listening, serve
    from routewright.gateway.server import Settings

    where = Listening(given.host, given.port, given.uds, given.reload_s, given.threads, given.wait)
    serve(given.bundle, where, Settings(given.point, given.limit, given.workers, given.waiting))


def _decide(given: argparse.Namespace) -> None:
    """decide for one text; of a cascade the first call"""
    text = sys.stdin.read() if given.text == "-" else given.text
    bundle = either(given.bundle)
    if isinstance(bundle, Bundle):
        told = bundle.decide(text, point=given.point).described()
    else:
        told = state(bundle.start(text, given.point), bundle)
    _print(json.dumps(told, indent=2))


def _check(given: argparse.Namespace) -> None:
    """verify the files and the golden vectors on this machine"""
    bundle = either(given.bundle)
    worst, count = bundle.check_golden(), len(bundle.described["golden"])
    _print(f"{bundle.described['name']} {bundle.hash}")
    _print(f"files: {len(bundle.described['sha256'])} as they were exported")
    _print(f"golden vectors: {count} within {worst:.2g} (limit {TOLERANCE:g})")
    _print(f"verdict: {bundle.described['verdict']['sentence']}")


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """What the user can mend ends as one line on stderr and exit code 1."""
    given = parser().parse_args(arguments)
    try:
        given.does(given)
    except InputError as error:
        sys.exit(f"routewright.gateway: {error}")


if __name__ == "__main__":
    main()
