"""A decision in the words of Portkey's gateway: the config that sends each model's queries to its target, and the headers that say which.

    settings = config(bundle, {"small": {"provider": "openai", "api_key": "..."}, "large": {...}})
    headers(bundle.decide(messages), settings)      # of POST /v1/chat/completions, beside Content-Type

Held to @portkey-ai/gateway 1.15.2. Needs the standard library alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from routewright.core.types import InputError

if TYPE_CHECKING:
    from routewright.gateway.bundle import Bundle
    from routewright.gateway.decisions import Decision

MODEL = "routewright_model"  # the metadata that the config's conditions read
RETRIED = (408, 429, 500, 502, 503, 504)  # another target may answer where this one is busy or broken; a request that is wrong stays wrong
SET_HERE = ("name", "strategy", "targets")  # a target's fields that `config` writes


def config(bundle: Bundle, targets: Mapping[str, Mapping[str, Any]], *, spare: bool = True) -> dict[str, Any]:
    """A config of Portkey's conditional strategy: one condition a model, on the metadata that `headers` sets; the fallback by default.

    targets: for every model of the bundle its target as Portkey writes it (provider, api_key, custom_host, ...); the model's name goes
    upstream unless the target's own override_params say another. spare: a target that is busy or broken (RETRIED) hands its query to the
    fallback model's. Raises InputError where a model has no target, or a target no model or a field that is set here.
    """
    unknown, missing = [name for name in targets if name not in bundle.models], [name for name in bundle.models if name not in targets]
    if unknown or missing:
        found = "; ".join(f"{what} {', '.join(names)}" for what, names in (("no target for", missing), ("no model", unknown)) if names)
        raise InputError("targets are not those of the bundle", expected="one for each of " + ", ".join(bundle.models), found=found)
    for name, target in targets.items():
        if clash := [field for field in SET_HERE if field in target]:
            raise InputError(f"the target sets {clash[0]!r} itself", where=name, expected="provider, api_key, custom_host, ...")
    plain = {name: {"override_params": {"model": name}, **targets[name]} for name in bundle.models}
    last, strategy = plain[bundle.fallback], {"mode": "fallback", "on_status_codes": list(RETRIED)}
    rows = [
        {"name": name, **(row if not spare or name == bundle.fallback else {"strategy": strategy, "targets": [row, last]})}
        for name, row in plain.items()
    ]
    conditions = [{"query": {f"metadata.{MODEL}": {"$eq": name}}, "then": name} for name in bundle.models]
    return {"strategy": {"mode": "conditional", "conditions": conditions, "default": bundle.fallback}, "targets": rows}


def headers(decision: Decision, config: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Headers of one request: the decision as metadata, which Portkey logs too, and the config; None where Portkey keeps the config.

    Metadata are strings of at most 128 characters, as Portkey asks; with the propensity the log can be evaluated later.
    """
    said = {
        MODEL: decision.model,
        "routewright_point": decision.point,
        "routewright_reason": decision.reason,
        "routewright_propensity": f"{decision.propensity:.6g}",
        "routewright_bundle": decision.bundle,
    }
    made = {"x-portkey-metadata": json.dumps(said)}  # ASCII, as a header must be
    return made if config is None else made | {"x-portkey-config": json.dumps(config, separators=(",", ":"))}
