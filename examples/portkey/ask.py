"""Asks a question through Portkey's gateway: routewright decides in this process, Portkey sends it to the model's target.

node --import ./loopback.mjs node_modules/@portkey-ai/gateway/build/start-server.js --port=8787 --headless
python examples/portkey/ask.py outputs/.../bundle examples/portkey/targets.json "How many legs have three dogs?"
"""

from __future__ import annotations

import argparse
import json
import os
import string
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from routewright.core.types import InputError
from routewright.gateway import portkey
from routewright.gateway.bundle import Bundle


def targets(path: Path) -> dict[str, Any]:
    """{model: Portkey target} from a JSON file; $NAME stands for an environment variable, so that no key lies in a file."""
    try:
        found: dict[str, Any] = json.loads(string.Template(path.read_text()).substitute(os.environ))
    except KeyError as error:
        raise InputError(f"{error.args[0]} is not set", where=str(path), expected="an environment variable") from None
    return found


def ask(gateway: str, headers: dict[str, str], messages: Sequence[dict[str, str]], model: str) -> dict[str, Any]:
    """The answer of /v1/chat/completions. The model's name in the body is what a target without override_params would be sent."""
    body = json.dumps({"model": model, "messages": messages}).encode()
    place, told = f"{gateway}/v1/chat/completions", {"Content-Type": "application/json", **headers}
    request = urllib.request.Request(place, data=body, headers=told)  # noqa: S310 - the caller's own gateway
    with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310
        found: dict[str, Any] = json.loads(answer.read())
    return found


def main() -> None:
    words = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    words.add_argument("bundle", type=Path)
    words.add_argument("targets", type=Path, help="JSON: {model: Portkey target}")
    words.add_argument("query")
    words.add_argument("--point", default="balanced")
    words.add_argument("--gateway", default="http://127.0.0.1:8787")
    asked = words.parse_args()
    messages = [{"role": "user", "content": asked.query}]
    try:
        bundle = Bundle.load(asked.bundle)
        settings = portkey.config(bundle, targets(asked.targets))
        decision = bundle.decide(messages, point=asked.point)
        answer = ask(asked.gateway, portkey.headers(decision, settings), messages, decision.model)
    except (InputError, OSError) as error:
        told = error.read().decode() if isinstance(error, urllib.error.HTTPError) else ""
        sys.exit(f"ask: {error} {told}".rstrip())
    said = {"decided": decision.model, "served": answer.get("model"), "answer": answer["choices"][0]["message"]["content"]}
    sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    main()
