"""A bundle chooses the model group inside litellm.Router, without a proxy; the Router's own strategy chooses the deployment.

    python examples/litellm/in_process.py outputs/.../bundle "What is 3 plus 4?"

The models are answered for by upstream.py: it runs offline. Prints who answered, asked in four ways, and the logged decision.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import upstream
from litellm import Router  # type: ignore[import-not-found]

from routewright.gateway.hook import Hook, Settings
from routewright.gateway.litellm import strategy


def model_list(names: list[str], first: int) -> list[dict[str, Any]]:
    """Every model twice, as behind a load balancer."""
    return [
        {"model_name": name, "litellm_params": {"model": f"openai/{name}", "api_base": f"http://127.0.0.1:{port}/v1", "api_key": "none"}}
        for port, name in enumerate(names, first)
        for _ in range(2)
    ]


async def main(bundle: str, text: str) -> None:
    names = [model["name"] for model in json.loads((Path(bundle) / "bundle.json").read_text())["models"]]
    servers = [await upstream.serve(0, name) for name in names]
    ports = [server.sockets[0].getsockname()[1] for server in servers]
    served = [entry for port, name in zip(ports, names, strict=True) for entry in model_list([name], port)]
    router = Router(model_list=served)
    hook = Hook(Settings(bundle, deadline_ms=1000.0))
    router.set_custom_routing_strategy(strategy(router, hook))
    messages, metadata = [{"role": "user", "content": text}], {"session_id": "s1"}
    asked = {
        "routewright": await router.acompletion("routewright", messages, metadata=metadata),
        "routewright/cheapest": await router.acompletion("routewright/cheapest", messages),
        "sync": await asyncio.to_thread(router.completion, "routewright", messages),
        names[0]: await router.acompletion(names[0], messages),
    }
    told = {name: answer.choices[0].message.content for name, answer in asked.items()}
    sys.stdout.write(json.dumps({"answers": told, "decision": metadata.get("routewright"), "counts": hook.counts}) + "\n")
    hook.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
